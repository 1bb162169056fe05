//! Values by key, one behind the other, and what a snapshot under way has of them.

use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::{Entry, HashTable};

use super::handover::{Budget, Handover};
use crate::element::EventTime;
use crate::record::Record;

/// What windows keep of a key.
pub(super) trait Held<K> {
    /// What else its rows say.
    type Of: Copy;

    /// Adds its rows to a snapshot, those that begin at `from` or later, as long as `more` says so. From where there are others.
    fn rows(
        &self,
        key: &K,
        of: Self::Of,
        from: EventTime,
        snapshot: &mut Handover<K>,
        more: impl FnMut(&Handover<K>) -> bool,
    ) -> Option<EventTime>;

    /// About how many bytes of memory it takes beside its own size.
    fn outside(&self) -> usize;
}

/// About how many bytes of memory a value takes beside its own size: what its encoding has, if it owns any.
pub(super) fn outside<A: Record>(value: &A) -> usize {
    if std::mem::needs_drop::<A>() { value.encoded_len() } else { 0 }
}

/// Entries that are looked at to estimate how much memory the others take.
const SAMPLES: usize = 32;

/// Where a key is. Keys of one hash are compared, others need not be looked at.
#[derive(Debug)]
struct Place {
    hash: u32,
    slot: u32,
}

/// Positions are taken from the lower bits of a hash, tags from the upper ones.
#[inline(always)]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[inline(always)]
fn hash_of<K: Hash>(hasher: &impl BuildHasher, key: &K) -> u32 {
    (hasher.hash_one(key) >> 32) as u32
}

/// What a snapshot has of the slots there were when it began.
#[derive(Debug)]
struct Written {
    /// A bit for each: it is written.
    done: Vec<u64>,
    slots: usize,
    /// Those before are written.
    next: usize,
    /// Of this one, the rows that begin before are written.
    from: EventTime,
}

impl Written {
    fn is_marked(&self, slot: usize) -> bool {
        self.done[slot / 64] & 1 << (slot % 64) != 0
    }

    /// Marks a slot. Whether it was to be written until now.
    fn mark(&mut self, slot: usize) -> bool {
        if slot >= self.slots {
            return false;
        }
        let (word, bit) = (&mut self.done[slot / 64], 1 << (slot % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// Values by key. The hasher is the owner's, so that many tables can share it. Slots are without gaps: where one is removed, the last
/// one takes its place.
///
/// Whoever changes a value says so before ([`preserve`](Self::preserve)), so that a snapshot under way has it as it was.
#[derive(Debug)]
pub(super) struct Slots<K, V> {
    index: HashTable<Place>,
    entries: Vec<(K, V)>,
    /// The last snapshot that has begun here, or that began before there was anything here.
    snapshot: u64,
    written: Option<Box<Written>>,
}

impl<K: Record + Eq + Hash, V: Held<K>> Slots<K, V> {
    pub(super) fn new(snapshot: &Handover<K>) -> Self {
        Slots { index: HashTable::new(), entries: Vec::new(), snapshot: snapshot.number(), written: None }
    }

    /// Is used again, empty as it is.
    pub(super) fn begin_anew(&mut self, snapshot: &Handover<K>) {
        self.snapshot = snapshot.number();
        self.written = None;
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        // A byte per place of the index is its tag.
        let inside = self.index.capacity() * (size_of::<Place>() + 1) + self.entries.capacity() * size_of::<(K, V)>();
        // From all over, because neighbours are often alike.
        let step = (self.entries.len() / SAMPLES).max(1);
        let sample = self.entries.iter().step_by(step);
        let (count, beside) =
            sample.fold((0, 0), |(count, bytes), (key, value)| (count + 1, bytes + outside(key) + value.outside()));
        inside + beside * self.entries.len() / count.max(1)
    }

    pub(super) fn get(&self, slot: usize) -> &(K, V) {
        &self.entries[slot]
    }

    /// For changes of what is in no snapshot, or after [`preserve`](Self::preserve).
    pub(super) fn get_mut(&mut self, slot: usize) -> (&K, &mut V) {
        let (key, value) = &mut self.entries[slot];
        (key, value)
    }

    pub(super) fn find(&self, hasher: &impl BuildHasher, key: &K) -> Option<usize> {
        let hash = hash_of(hasher, key);
        let same = |place: &Place| place.hash == hash && self.entries[place.slot as usize].0 == *key;
        self.index.find(spread(hash), same).map(|place| place.slot as usize)
    }

    /// The slot of a key; the value of a new one is made by `first`.
    #[inline(always)]
    pub(super) fn enter(
        &mut self,
        hasher: &impl BuildHasher,
        key: K,
        snapshot: &Handover<K>,
        first: impl FnOnce(&K) -> V,
    ) -> usize {
        if snapshot.is_under_way() {
            self.join(snapshot);
        }
        let hash = hash_of(hasher, &key);
        let Slots { index, entries, .. } = self;
        let same = |place: &Place| place.hash == hash && entries[place.slot as usize].0 == key;
        match index.entry(spread(hash), same, |place| spread(place.hash)) {
            Entry::Occupied(entry) => entry.get().slot as usize,
            Entry::Vacant(entry) => {
                let slot = entries.len();
                let number = u32::try_from(slot).expect("a table of windows has fewer than 2^32 keys");
                entry.insert(Place { hash, slot: number });
                let mut key = key;
                // The key stays; the input buffer it was cut from should not.
                key.detach();
                let value = first(&key);
                entries.push((key, value));
                slot
            }
        }
    }

    /// Before the value of a slot changes: a snapshot under way gets it as it is.
    #[inline(always)]
    pub(super) fn preserve(&mut self, slot: usize, of: V::Of, snapshot: &mut Handover<K>) {
        if snapshot.is_under_way() {
            self.write(slot, of, snapshot);
        }
    }

    #[cold]
    #[inline(never)]
    fn write(&mut self, slot: usize, of: V::Of, snapshot: &mut Handover<K>) {
        self.join(snapshot);
        if let Some(written) = &mut self.written
            && written.mark(slot)
        {
            let from = if slot == written.next { written.from } else { EventTime::MIN };
            let (key, value) = &self.entries[slot];
            value.rows(key, of, from, snapshot, |_| true);
        }
    }

    /// Begins with what a snapshot is to have of this, if it has not begun.
    fn join(&mut self, snapshot: &Handover<K>) {
        if self.snapshot == snapshot.number() {
            return;
        }
        self.snapshot = snapshot.number();
        let slots = self.entries.len();
        self.written = (slots > 0)
            .then(|| Box::new(Written { done: vec![0; slots.div_ceil(64)], slots, next: 0, from: EventTime::MIN }));
    }

    /// Writes some more slots to the snapshot under way, until all are written or the budget is used up. Whether all are.
    pub(super) fn step(&mut self, of: V::Of, snapshot: &mut Handover<K>, budget: &mut Budget) -> bool {
        self.join(snapshot);
        let Some(written) = &mut self.written else { return true };
        while written.next < written.slots.min(self.entries.len()) {
            let slot = written.next;
            if !written.is_marked(slot) {
                if !budget.lasts(snapshot) {
                    return false;
                }
                let (key, value) = &self.entries[slot];
                if let Some(rest) = value.rows(key, of, written.from, snapshot, |snapshot| budget.lasts(snapshot)) {
                    written.from = rest;
                    return false;
                }
                written.mark(slot);
            }
            written.next += 1;
            written.from = EventTime::MIN;
        }
        self.written = None;
        true
    }

    /// Exchanges two slots.
    pub(super) fn swap(
        &mut self,
        a: usize,
        b: usize,
        hasher: &impl BuildHasher,
        of: V::Of,
        snapshot: &mut Handover<K>,
    ) {
        if a == b {
            return;
        }
        self.preserve(a, of, snapshot);
        self.preserve(b, of, snapshot);
        let (first, second) = (hash_of(hasher, &self.entries[a].0), hash_of(hasher, &self.entries[b].0));
        // Both are found before either is changed, or the second one would find the first.
        let at = |slots: &HashTable<Place>, hash, slot: usize| {
            slots.find_bucket_index(spread(hash), |place| place.slot as usize == slot)
        };
        let (first, second) = (at(&self.index, first, a), at(&self.index, second, b));
        for (bucket, slot) in [(first, b), (second, a)] {
            let place = bucket.and_then(|bucket| self.index.get_bucket_mut(bucket));
            place.expect("every slot is in the index").slot = slot as u32;
        }
        self.entries.swap(a, b);
    }

    /// Removes a slot; the last one takes its place.
    pub(super) fn remove(&mut self, slot: usize, hasher: &impl BuildHasher, of: V::Of, snapshot: &mut Handover<K>) {
        let last = self.entries.len() - 1;
        self.swap(slot, last, hasher, of, snapshot);
        self.preserve(last, of, snapshot);
        if let Some((key, _)) = self.entries.pop()
            && let Ok(entry) = self.index.find_entry(spread(hash_of(hasher, &key)), |place| place.slot as usize == last)
        {
            entry.remove();
        }
    }

    /// Visits all slots to change them, and removes those of which `keep` says no.
    pub(super) fn retain(
        &mut self,
        hasher: &impl BuildHasher,
        of: V::Of,
        snapshot: &mut Handover<K>,
        mut keep: impl FnMut(&K, &mut V) -> bool,
    ) {
        let mut slot = 0;
        while slot < self.entries.len() {
            self.preserve(slot, of, snapshot);
            let (key, value) = &mut self.entries[slot];
            if keep(key, value) {
                slot += 1;
            } else {
                self.remove(slot, hasher, of, snapshot);
            }
        }
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self, of: V::Of, snapshot: &mut Handover<K>) -> impl Iterator<Item = (K, V)> {
        if snapshot.is_under_way() {
            (0..self.entries.len()).for_each(|slot| self.write(slot, of, snapshot));
        }
        self.index.clear();
        self.written = None;
        self.snapshot = snapshot.number();
        self.entries.drain(..)
    }
}
