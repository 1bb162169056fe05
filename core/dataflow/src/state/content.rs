//! What a cell of a state's column holds.

use std::cell::Cell;
use std::hash::Hash;

use crate::element::EventTime;
use crate::record::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};

/// The content of a cell. Entries that were last used at or before a deadline have expired; without expiry there are none, and deadlines
/// mean nothing.
pub(crate) trait Content: Sized + Send + 'static {
    /// The layout of the values.
    fn values_schema(builder: &mut SchemaBuilder) -> Schema;

    /// The layout of the times of use, for contents that expire.
    fn times_schema() -> Option<Schema> {
        None
    }

    /// Appends the values that have not expired.
    fn write(&self, deadline: EventTime, out: &mut Vec<u8>);

    /// Appends the times of use that belong to them.
    fn write_times(&self, deadline: EventTime, out: &mut Vec<u8>) {
        let _ = (deadline, out);
    }

    /// Reads both; without times everything was used `now`.
    fn read(values: &[u8], times: Option<&[u8]>, now: EventTime) -> Result<Self, DecodeError>;

    /// Whether something has expired.
    fn has_expired(&self, deadline: EventTime) -> bool {
        let _ = deadline;
        false
    }

    /// Whether there is something left that has not.
    fn is_live(&self, deadline: EventTime) -> bool {
        let _ = deadline;
        true
    }

    /// Drops what has expired. Whether something is left.
    fn expire(&mut self, deadline: EventTime) -> bool {
        let _ = deadline;
        true
    }

    /// About how many bytes it has outside of the cell.
    fn heap_bytes(&self) -> usize;
}

impl<V: Record> Content for V {
    fn values_schema(builder: &mut SchemaBuilder) -> Schema {
        V::schema(builder)
    }
    fn write(&self, _deadline: EventTime, out: &mut Vec<u8>) {
        // A batch of one: what has a fixed length is written with one look at whether there is room.
        V::encode_batch(std::slice::from_ref(self), out);
    }
    fn read(values: &[u8], _times: Option<&[u8]>, _now: EventTime) -> Result<Self, DecodeError> {
        let mut value = V::decode(&mut Decoder::new(values))?;
        value.detach();
        Ok(value)
    }
    fn heap_bytes(&self) -> usize {
        if std::mem::needs_drop::<V>() { self.encoded_len() } else { 0 }
    }
}

/// A value and when it was last used. A shared reference is enough to use it.
pub(crate) struct Timed<V> {
    pub(super) value: V,
    pub(super) used: Cell<EventTime>,
}

impl<V> Timed<V> {
    pub(super) fn new(value: V, now: EventTime) -> Self {
        Timed { value, used: Cell::new(now) }
    }
}

fn time_schema() -> Schema {
    Schema::Signed(64)
}

fn times_list() -> Schema {
    Schema::List(Box::new(time_schema()))
}

impl<V: Record> Content for Timed<V> {
    fn values_schema(builder: &mut SchemaBuilder) -> Schema {
        V::schema(builder)
    }
    fn times_schema() -> Option<Schema> {
        Some(time_schema())
    }
    fn write(&self, _deadline: EventTime, out: &mut Vec<u8>) {
        self.value.encode(out);
    }
    fn write_times(&self, _deadline: EventTime, out: &mut Vec<u8>) {
        self.used.get().encode(out);
    }
    fn read(values: &[u8], times: Option<&[u8]>, now: EventTime) -> Result<Self, DecodeError> {
        let value = Content::read(values, None, now)?;
        let used = times.map_or(Ok(now), |times| Record::decode(&mut Decoder::new(times)))?;
        Ok(Timed::new(value, used))
    }
    fn has_expired(&self, deadline: EventTime) -> bool {
        self.used.get() <= deadline
    }
    fn is_live(&self, deadline: EventTime) -> bool {
        self.used.get() > deadline
    }
    fn expire(&mut self, deadline: EventTime) -> bool {
        self.is_live(deadline)
    }
    fn heap_bytes(&self) -> usize {
        self.value.heap_bytes()
    }
}

/// A list whose items expire. Times of use never go down from one item to the next, so that what has expired is at the front.
pub(crate) struct TimedList<V> {
    items: Vec<V>,
    used: Vec<Cell<EventTime>>,
}

impl<V> Default for TimedList<V> {
    fn default() -> Self {
        TimedList { items: Vec::new(), used: Vec::new() }
    }
}

impl<V> TimedList<V> {
    fn first_live(&self, deadline: EventTime) -> usize {
        self.used.partition_point(|used| used.get() <= deadline)
    }
    pub(super) fn live(&self, deadline: EventTime) -> &[V] {
        &self.items[self.first_live(deadline)..]
    }
    /// Says that the items which have not expired are used.
    pub(super) fn touch(&self, deadline: EventTime, now: EventTime) {
        let now = self.used.last().map_or(now, |last| last.get().max(now));
        self.used[self.first_live(deadline)..].iter().for_each(|used| used.set(now));
    }
    pub(super) fn push(&mut self, item: V, now: EventTime) {
        let now = self.used.last().map_or(now, |last| last.get().max(now));
        self.items.push(item);
        self.used.push(Cell::new(now));
    }
    pub(super) fn into_items(self) -> Vec<V> {
        self.items
    }
    pub(super) fn drop_expired(&mut self, deadline: EventTime) {
        let first = self.first_live(deadline);
        self.items.drain(..first);
        self.used.drain(..first);
    }
}

fn decode_times(times: Option<&[u8]>) -> Result<Vec<EventTime>, DecodeError> {
    times.map_or(Ok(Vec::new()), |times| Record::decode(&mut Decoder::new(times)))
}

impl<V: Record> Content for TimedList<V> {
    fn values_schema(builder: &mut SchemaBuilder) -> Schema {
        Vec::<V>::schema(builder)
    }
    fn times_schema() -> Option<Schema> {
        Some(times_list())
    }
    fn write(&self, deadline: EventTime, out: &mut Vec<u8>) {
        let live = self.live(deadline);
        layout::put_len(live.len(), out);
        V::encode_batch(live, out);
    }
    fn write_times(&self, deadline: EventTime, out: &mut Vec<u8>) {
        let live = &self.used[self.first_live(deadline)..];
        layout::put_len(live.len(), out);
        live.iter().for_each(|used| used.get().encode(out));
    }
    fn read(values: &[u8], times: Option<&[u8]>, now: EventTime) -> Result<Self, DecodeError> {
        let items: Vec<V> = Content::read(values, None, now)?;
        let mut used = decode_times(times)?;
        let last = used.last().copied().unwrap_or(now);
        used.resize(items.len(), last);
        Ok(TimedList { items, used: used.into_iter().map(Cell::new).collect() })
    }
    fn has_expired(&self, deadline: EventTime) -> bool {
        self.used.first().is_some_and(|used| used.get() <= deadline)
    }
    fn is_live(&self, deadline: EventTime) -> bool {
        self.used.last().is_some_and(|used| used.get() > deadline)
    }
    fn expire(&mut self, deadline: EventTime) -> bool {
        self.drop_expired(deadline);
        !self.items.is_empty()
    }
    fn heap_bytes(&self) -> usize {
        self.items.encoded_len() + self.used.len() * size_of::<EventTime>()
    }
}

/// The maps of map states.
pub(crate) type StateMap<K, V> = hashbrown::HashMap<K, V>;

/// A map whose entries expire.
pub(crate) struct TimedMap<K, V>(pub(super) StateMap<K, Timed<V>>);

impl<K, V> Default for TimedMap<K, V> {
    fn default() -> Self {
        TimedMap(StateMap::default())
    }
}

impl<K, V> TimedMap<K, V> {
    pub(super) fn live(&self, deadline: EventTime) -> impl Iterator<Item = (&K, &Timed<V>)> {
        self.0.iter().filter(move |(_, value)| value.used.get() > deadline)
    }
}

impl<K: Record + Eq + Hash, V: Record> Content for TimedMap<K, V> {
    fn values_schema(builder: &mut SchemaBuilder) -> Schema {
        StateMap::<K, V>::schema(builder)
    }
    fn times_schema() -> Option<Schema> {
        Some(times_list())
    }
    fn write(&self, deadline: EventTime, out: &mut Vec<u8>) {
        layout::put_len(self.live(deadline).count(), out);
        for (key, value) in self.live(deadline) {
            key.encode(out);
            value.value.encode(out);
        }
    }
    fn write_times(&self, deadline: EventTime, out: &mut Vec<u8>) {
        layout::put_len(self.live(deadline).count(), out);
        self.live(deadline).for_each(|(_, value)| value.used.get().encode(out));
    }
    fn read(values: &[u8], times: Option<&[u8]>, now: EventTime) -> Result<Self, DecodeError> {
        // As a list of pairs: times come in the order of the entries.
        let entries: Vec<(K, V)> = Content::read(values, None, now)?;
        let times = decode_times(times)?.into_iter().chain(std::iter::repeat(now));
        Ok(TimedMap(
            entries.into_iter().zip(times).map(|((key, value), used)| (key, Timed::new(value, used))).collect(),
        ))
    }
    fn has_expired(&self, deadline: EventTime) -> bool {
        self.0.values().any(|value| value.used.get() <= deadline)
    }
    fn is_live(&self, deadline: EventTime) -> bool {
        self.live(deadline).next().is_some()
    }
    fn expire(&mut self, deadline: EventTime) -> bool {
        self.0.retain(|_, value| value.used.get() > deadline);
        !self.0.is_empty()
    }
    fn heap_bytes(&self) -> usize {
        let entries: usize = self.0.iter().map(|(key, value)| key.encoded_len() + value.value.encoded_len()).sum();
        entries + self.0.len() * size_of::<EventTime>()
    }
}
