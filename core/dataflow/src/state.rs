//! Keyed state in memory.
//!
//! A record's key is looked up once and becomes a slot; every state of the operator is a column indexed by slot. An operator
//! with five states per key thus pays for one hash lookup per record, not five. A slot is freed when its last state is cleared.

use std::any::TypeId;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use hashbrown::hash_table::{Entry, HashTable};

use crate::record::Record;

type Slot = u32;
const NO_SLOT: Slot = Slot::MAX;

/// One state of an operator: a value per slot.
struct Column {
    name: String,
    value_type: TypeId,
    cells: Box<dyn Cells>,
}

trait Cells: Send {
    fn grow(&mut self, slots: usize);
    fn is_empty(&self, slot: usize) -> bool;
}

struct TypedCells<V>(Vec<Option<V>>);

impl<V: Send + 'static> Cells for TypedCells<V> {
    fn grow(&mut self, slots: usize) {
        self.0.resize_with(slots, || None);
    }
    fn is_empty(&self, slot: usize) -> bool {
        self.0[slot].is_none()
    }
}

/// The states of all keys of one operator in one subtask.
pub struct KeyedStates<K> {
    index: HashTable<Slot>,
    hasher: hashbrown::DefaultHashBuilder,
    keys: Vec<Option<K>>,
    free: Vec<Slot>,
    columns: Vec<Column>,
    current: Slot,
    /// Whether the current key may have no state left when its record is done.
    check_empty: bool,
}

impl<K> fmt::Debug for KeyedStates<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.columns.iter().map(|c| &c.name).collect();
        write!(f, "KeyedStates {{ keys: {}, states: {names:?} }}", self.index.len())
    }
}

impl<K> Default for KeyedStates<K> {
    fn default() -> Self {
        KeyedStates {
            index: HashTable::new(),
            hasher: hashbrown::DefaultHashBuilder::default(),
            keys: Vec::new(),
            free: Vec::new(),
            columns: Vec::new(),
            current: NO_SLOT,
            check_empty: false,
        }
    }
}

impl<K> KeyedStates<K> {
    /// Number of keys that have state.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no key has state.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(crate) fn current_key(&self) -> &K {
        self.key_at(self.current).expect("there is a current key only while a record or the end of a key is processed")
    }

    fn key_at(&self, slot: Slot) -> Option<&K> {
        self.keys.get(slot as usize).and_then(Option::as_ref)
    }

    fn column<V: 'static>(&self, id: u32) -> &Vec<Option<V>> {
        let column = self.columns.get(id as usize).filter(|c| c.value_type == TypeId::of::<V>());
        let column = column.unwrap_or_else(|| undeclared());
        // SAFETY: `value_type` is set where the cells are made, to the type they are made with.
        &unsafe { &*(column.cells.as_ref() as *const dyn Cells).cast::<TypedCells<V>>() }.0
    }

    fn column_mut<V: 'static>(&mut self, id: u32) -> &mut Vec<Option<V>> {
        let column = self.columns.get_mut(id as usize).filter(|c| c.value_type == TypeId::of::<V>());
        let column = column.unwrap_or_else(|| undeclared());
        // SAFETY: as in `column`; the borrow of `self` is exclusive.
        &mut unsafe { &mut *(column.cells.as_mut() as *mut dyn Cells).cast::<TypedCells<V>>() }.0
    }

    fn cell<V: 'static>(&self, id: u32) -> Option<&V> {
        self.column::<V>(id).get(self.slot())?.as_ref()
    }

    fn cell_mut<V: 'static>(&mut self, id: u32) -> &mut Option<V> {
        let slot = self.slot();
        &mut self.column_mut::<V>(id)[slot]
    }

    #[inline]
    fn slot(&self) -> usize {
        assert!(self.current != NO_SLOT, "state was used where there is no current key (in `open` or `end`)");
        self.current as usize
    }

    fn declare<V: Send + 'static>(&mut self, name: &str) -> u32 {
        assert!(
            self.columns.iter().all(|c| c.name != name),
            "state `{name}` is declared twice; give each state of an operator its own name"
        );
        let mut cells = TypedCells::<V>(Vec::new());
        cells.grow(self.keys.len());
        self.columns.push(Column { name: name.to_owned(), value_type: TypeId::of::<V>(), cells: Box::new(cells) });
        (self.columns.len() - 1) as u32
    }

    /// Declares a state of one value per key.
    pub fn value<V: Record>(&mut self, name: &str) -> ValueState<V> {
        ValueState { column: self.declare::<V>(name), value: PhantomData }
    }

    /// Declares a state of a list per key.
    pub fn list<V: Record>(&mut self, name: &str) -> ListState<V> {
        ListState { column: self.declare::<Vec<V>>(name), value: PhantomData }
    }

    /// Declares a state of a map per key.
    pub fn map<K2: Record + Eq + Hash, V: Record>(&mut self, name: &str) -> MapState<K2, V> {
        MapState { column: self.declare::<StateMap<K2, V>>(name), entry: PhantomData }
    }

    fn forget_if_empty(&mut self, slot: Slot)
    where
        K: Hash + Eq,
    {
        if !self.columns.iter().all(|c| c.cells.is_empty(slot as usize)) {
            return;
        }
        if let Some(key) = self.keys[slot as usize].take() {
            let hash = self.hasher.hash_one(&key);
            if let Ok(entry) = self.index.find_entry(hash, |&s| s == slot) {
                entry.remove();
            }
            self.free.push(slot);
        }
    }
}

#[cold]
fn undeclared() -> ! {
    panic!(
        "a state handle was used that this operator did not declare; declare states in `open` through `context.states_mut()`"
    )
}

impl<K: Record + Eq + Hash> KeyedStates<K> {
    /// Makes `key` the current key.
    #[inline]
    pub(crate) fn enter(&mut self, key: K) {
        let hash = self.hasher.hash_one(&key);
        let KeyedStates { index, keys, hasher, .. } = self;
        let same = |&slot: &Slot| keys[slot as usize].as_ref() == Some(&key);
        let rehash = |&slot: &Slot| keys[slot as usize].as_ref().map_or(0, |k| hasher.hash_one(k));
        match index.entry(hash, same, rehash) {
            Entry::Occupied(entry) => self.current = *entry.get(),
            Entry::Vacant(entry) => {
                let slot = self.free.last().copied().unwrap_or(keys.len() as Slot);
                entry.insert(slot);
                self.occupy(slot, key);
            }
        }
    }

    #[cold]
    fn occupy(&mut self, slot: Slot, mut key: K) {
        // The key stays; the input buffer it was cut from should not.
        key.detach();
        if self.free.pop().is_none() {
            assert!(slot < NO_SLOT, "a subtask holds 2^32 - 1 keys at most; raise the parallelism");
            self.keys.push(None);
            let slots = self.keys.len();
            self.columns.iter_mut().for_each(|c| c.cells.grow(slots));
        }
        self.keys[slot as usize] = Some(key);
        self.current = slot;
        self.check_empty = true;
    }

    pub(crate) fn enter_slot(&mut self, slot: Slot) {
        self.current = slot;
    }

    /// The current record is done.
    #[inline]
    pub(crate) fn leave(&mut self) {
        let slot = std::mem::replace(&mut self.current, NO_SLOT);
        if std::mem::take(&mut self.check_empty) {
            self.forget_if_empty(slot);
        }
    }

    pub(crate) fn live_slots(&self) -> Vec<Slot> {
        (0..self.keys.len() as Slot).filter(|&s| self.keys[s as usize].is_some()).collect()
    }
}

/// Gives state handles their operator's states; implemented by contexts.
pub trait StateAccess {
    /// The key type.
    type Key;
    /// The states.
    fn keyed(&self) -> &KeyedStates<Self::Key>;
    /// The states, to change.
    fn keyed_mut(&mut self) -> &mut KeyedStates<Self::Key>;
}

impl<K> StateAccess for KeyedStates<K> {
    type Key = K;
    fn keyed(&self) -> &KeyedStates<K> {
        self
    }
    fn keyed_mut(&mut self) -> &mut KeyedStates<K> {
        self
    }
}

impl<K: Clone + Eq + Hash, Out> StateAccess for crate::process::KeyedContext<K, Out> {
    type Key = K;
    fn keyed(&self) -> &KeyedStates<K> {
        self.states()
    }
    fn keyed_mut(&mut self) -> &mut KeyedStates<K> {
        self.states_mut()
    }
}

fn detached<V: Record>(mut value: V) -> V {
    value.detach();
    value
}

type StateMap<K, V> = hashbrown::HashMap<K, V>;

/// A handle that no operator has declared yet.
const UNDECLARED: u32 = u32::MAX;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($p:ident),+>, $field:ident: $phantom:ty) => {
        $(#[$doc])*
        pub struct $name<$($p),+> {
            column: u32,
            $field: PhantomData<fn() -> $phantom>,
        }
        impl<$($p),+> Clone for $name<$($p),+> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($p),+> Copy for $name<$($p),+> {}
        /// A handle to be replaced in `open`; using it before is an error that says so.
        impl<$($p),+> Default for $name<$($p),+> {
            fn default() -> Self {
                $name { column: UNDECLARED, $field: PhantomData }
            }
        }
        impl<$($p),+> fmt::Debug for $name<$($p),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.column)
            }
        }
    };
}

handle!(
    /// One value per key.
    ValueState<V>, value: V
);
handle!(
    /// A list per key.
    ListState<V>, value: V
);
handle!(
    /// A map per key.
    MapState<K2, V>, entry: (K2, V)
);

impl<V: Record> ValueState<V> {
    /// The current key's value.
    pub fn get<'s, S: StateAccess>(&self, states: &'s S) -> Option<&'s V>
    where
        S::Key: 's,
    {
        states.keyed().cell(self.column)
    }

    /// Sets the current key's value.
    pub fn set(&self, states: &mut impl StateAccess, mut value: V) {
        value.detach();
        *states.keyed_mut().cell_mut(self.column) = Some(value);
    }

    /// The current key's value to change in place; `default` makes it if there is none.
    pub fn get_or_insert_with<'s, S: StateAccess>(&self, states: &'s mut S, default: impl FnOnce() -> V) -> &'s mut V
    where
        S::Key: 's,
    {
        states.keyed_mut().cell_mut(self.column).get_or_insert_with(|| detached(default()))
    }

    /// Removes the current key's value and returns it.
    pub fn take(&self, states: &mut impl StateAccess) -> Option<V> {
        let states = states.keyed_mut();
        states.check_empty = true;
        states.cell_mut(self.column).take()
    }
}

impl<V: Record> ListState<V> {
    /// The current key's list, oldest first.
    pub fn get<'s, S: StateAccess>(&self, states: &'s S) -> &'s [V]
    where
        S::Key: 's,
    {
        states.keyed().cell::<Vec<V>>(self.column).map_or(&[], Vec::as_slice)
    }

    /// Appends to the current key's list.
    pub fn push(&self, states: &mut impl StateAccess, mut value: V) {
        value.detach();
        states.keyed_mut().cell_mut::<Vec<V>>(self.column).get_or_insert_default().push(value);
    }

    /// Replaces the current key's list.
    pub fn set(&self, states: &mut impl StateAccess, mut values: Vec<V>) {
        values.iter_mut().for_each(V::detach);
        let states = states.keyed_mut();
        states.check_empty = true;
        *states.cell_mut(self.column) = Some(values).filter(|v| !v.is_empty());
    }

    /// Removes the current key's list and returns it.
    pub fn take(&self, states: &mut impl StateAccess) -> Vec<V> {
        let states = states.keyed_mut();
        states.check_empty = true;
        states.cell_mut::<Vec<V>>(self.column).take().unwrap_or_default()
    }
}

impl<K2: Record + Eq + Hash, V: Record> MapState<K2, V> {
    /// The value of `key` in the current key's map.
    pub fn get<'s, S: StateAccess>(&self, states: &'s S, key: &K2) -> Option<&'s V>
    where
        S::Key: 's,
    {
        states.keyed().cell::<StateMap<K2, V>>(self.column)?.get(key)
    }

    /// The value of `key` in the current key's map to change in place; `default` makes it if there is none.
    pub fn get_or_insert_with<'s, S: StateAccess>(
        &self,
        states: &'s mut S,
        mut key: K2,
        default: impl FnOnce() -> V,
    ) -> &'s mut V
    where
        S::Key: 's,
    {
        key.detach();
        states
            .keyed_mut()
            .cell_mut::<StateMap<K2, V>>(self.column)
            .get_or_insert_default()
            .entry(key)
            .or_insert_with(|| detached(default()))
    }

    /// Sets the value of `key` in the current key's map and returns the one before.
    pub fn insert(&self, states: &mut impl StateAccess, mut key: K2, mut value: V) -> Option<V> {
        key.detach();
        value.detach();
        states.keyed_mut().cell_mut::<StateMap<K2, V>>(self.column).get_or_insert_default().insert(key, value)
    }

    /// Removes `key` from the current key's map.
    pub fn remove(&self, states: &mut impl StateAccess, key: &K2) -> Option<V> {
        let states = states.keyed_mut();
        let cell = states.cell_mut::<StateMap<K2, V>>(self.column);
        let removed = cell.as_mut()?.remove(key);
        if cell.as_ref().is_some_and(StateMap::is_empty) {
            *cell = None;
            states.check_empty = true;
        }
        removed
    }

    /// The entries of the current key's map, in no particular order.
    pub fn entries<'s, S: StateAccess>(&self, states: &'s S) -> impl Iterator<Item = (&'s K2, &'s V)>
    where
        S::Key: 's,
    {
        states.keyed().cell::<StateMap<K2, V>>(self.column).into_iter().flatten()
    }

    /// Number of entries of the current key's map.
    pub fn len(&self, states: &impl StateAccess) -> usize {
        states.keyed().cell::<StateMap<K2, V>>(self.column).map_or(0, StateMap::len)
    }

    /// Whether the current key's map has no entry.
    pub fn is_empty(&self, states: &impl StateAccess) -> bool {
        self.len(states) == 0
    }

    /// Removes the current key's map.
    pub fn clear(&self, states: &mut impl StateAccess) {
        let states = states.keyed_mut();
        states.check_empty = true;
        *states.cell_mut::<StateMap<K2, V>>(self.column) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_belong_to_their_key() {
        let mut states = KeyedStates::<u64>::default();
        let (count, list, map) =
            (states.value::<u64>("count"), states.list::<u64>("list"), states.map::<u64, u64>("map"));
        for key in [1, 2, 1, 3, 1] {
            states.enter(key);
            *count.get_or_insert_with(&mut states, || 0) += 1;
            list.push(&mut states, key * 10);
            map.insert(&mut states, key, key * 100);
            states.leave();
        }
        states.enter(1);
        assert_eq!((count.get(&states), list.get(&states)), (Some(&3), [10, 10, 10].as_slice()));
        assert_eq!(map.entries(&states).collect::<Vec<_>>(), [(&1, &100)]);
        states.leave();
        assert_eq!(states.len(), 3);
    }

    #[test]
    fn a_key_without_state_is_forgotten_and_its_slot_used_again() {
        let mut states = KeyedStates::<u64>::default();
        let count = states.value::<u64>("count");
        states.enter(7);
        states.leave();
        assert!(states.is_empty(), "reading a key must not keep it");
        for key in 0..1000 {
            states.enter(key);
            count.set(&mut states, key);
            states.leave();
            states.enter(key);
            assert_eq!(count.take(&mut states), Some(key));
            states.leave();
        }
        assert_eq!((states.len(), states.keys.len()), (0, 1));
    }

    #[test]
    fn a_kept_key_does_not_keep_its_input_buffer() {
        use crate::record::{SharedBuf, Text};
        let line = "a key that is too long to be kept inline".repeat(10);
        let buffer = SharedBuf::from(line.clone().into_bytes());
        let mut states = KeyedStates::<Text>::default();
        let last = states.value::<Text>("last");
        states.enter(Text::from_utf8_shared(&buffer, 0..40).unwrap());
        last.set(&mut states, Text::from_utf8_shared(&buffer, 40..80).unwrap());
        states.leave();
        assert_eq!(buffer.try_into_vec().map_err(drop), Ok(line.into_bytes()), "something still holds the buffer");
    }

    #[test]
    #[should_panic(expected = "did not declare")]
    fn an_undeclared_handle_is_refused() {
        let mut states = KeyedStates::<u64>::default();
        states.enter(1);
        ValueState::<u64>::default().get(&states);
    }
}
