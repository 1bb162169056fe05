//! Timers: what wakes a key up at a time.
//!
//! A key's timers are a state of it like others, so that they are written and restored with it and can be told apart per key for free.
//! Beside that, each domain of time has a queue over all keys. What is in a queue but not in its key's state has been deleted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::hash::Hash;

use weir_checkpoint::StateKind;

use super::content::Content;
use super::declare::Declared;
use super::keyed::{KeyedStates, RowId};
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::record::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};

/// Which clock a timer goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeDomain {
    /// Watermarks.
    Event,
    /// The machine's clock.
    Processing,
}

/// A timer of the current key that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// When it was to fire, in milliseconds since the epoch.
    pub time: EventTime,
    /// Which clock it goes by.
    pub domain: TimeDomain,
}

/// The timers of one key.
pub(crate) enum KeyTimers {
    /// In order; the usual case is one or two.
    Few(Vec<Timer>),
    Many(BTreeSet<Timer>),
}

/// More are kept in a tree.
const FEW: usize = 32;

impl KeyTimers {
    /// Whether it is new.
    fn insert(&mut self, timer: Timer) -> bool {
        match self {
            KeyTimers::Few(few) => match few.binary_search(&timer) {
                Ok(_) => false,
                Err(at) if few.len() < FEW => {
                    if few.is_empty() {
                        few.reserve_exact(1);
                    }
                    few.insert(at, timer);
                    true
                }
                Err(_) => {
                    *self = KeyTimers::Many(few.drain(..).chain([timer]).collect());
                    true
                }
            },
            KeyTimers::Many(many) => many.insert(timer),
        }
    }

    /// Whether it was there.
    fn remove(&mut self, timer: &Timer) -> bool {
        match self {
            KeyTimers::Few(few) => few.binary_search(timer).map(|at| few.remove(at)).is_ok(),
            KeyTimers::Many(many) => many.remove(timer),
        }
    }

    fn contains(&self, timer: &Timer) -> bool {
        match self {
            KeyTimers::Few(few) => few.binary_search(timer).is_ok(),
            KeyTimers::Many(many) => many.contains(timer),
        }
    }

    fn len(&self) -> usize {
        match self {
            KeyTimers::Few(few) => few.len(),
            KeyTimers::Many(many) => many.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Timer> {
        let (few, many) = match self {
            KeyTimers::Few(few) => (Some(few), None),
            KeyTimers::Many(many) => (None, Some(many)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).copied()
    }
}

impl Content for KeyTimers {
    fn values_schema(_builder: &mut SchemaBuilder) -> Schema {
        Schema::List(Box::new(Schema::Tuple(vec![Schema::Signed(64), Schema::Bool])))
    }
    fn write(&self, _deadline: EventTime, out: &mut Vec<u8>) {
        layout::put_len(self.len(), out);
        for Timer { time, domain } in self.iter() {
            (time, domain == TimeDomain::Processing).encode(out);
        }
    }
    fn read(values: &[u8], _times: Option<&[u8]>, _now: EventTime) -> Result<Self, DecodeError> {
        let timers: Vec<(EventTime, bool)> = Record::decode(&mut Decoder::new(values))?;
        let domain = |processing| if processing { TimeDomain::Processing } else { TimeDomain::Event };
        let timers = timers.into_iter().map(|(time, processing)| Timer { time, domain: domain(processing) });
        let mut own = KeyTimers::Few(Vec::new());
        for timer in timers {
            own.insert(timer);
        }
        Ok(own)
    }
    fn heap_bytes(&self) -> usize {
        self.len() * size_of::<Timer>()
    }
}

type Queue = BinaryHeap<Reverse<(EventTime, RowId)>>;

/// The timers of all keys of an operator, in the order in which they are due.
#[derive(Debug, Default)]
pub(crate) struct TimerQueues {
    /// The state that they are kept in.
    column: u32,
    pub(super) event: Queue,
    pub(super) processing: Queue,
    /// Timers that there are; queues may have more.
    live: [usize; 2],
}

/// The name of the state.
const NAME: &str = "weir.timers";
/// Entries of a queue that are not worth clearing up.
const SLACK: usize = 1024;

impl TimerQueues {
    /// The state that timers are kept in, if an operator has timers.
    pub(super) fn column_of(declared: &Declared) -> Option<u32> {
        declared.columns.iter().position(|column| column.name == NAME).map(|at| at as u32)
    }

    /// Declares the state that timers are kept in.
    pub(crate) fn declare(declared: &mut Declared) -> TimerQueues {
        TimerQueues { column: declared.add::<KeyTimers>(NAME, StateKind::Internal, None), ..TimerQueues::default() }
    }

    /// Finds the timers of states that were restored.
    pub(crate) fn restore<K: Record + Eq + Hash>(&mut self, states: &mut KeyedStates<K>) -> Result<(), TaskError> {
        let rows = states.rows_with(self.column)?;
        let cells = rows.iter().filter_map(|&row| Some((row, states.cell_at::<KeyTimers>(self.column, row)?)));
        let (mut event, mut processing) = (Vec::new(), Vec::new());
        for (row, timers) in cells {
            for Timer { time, domain } in timers.iter() {
                let queue = if domain == TimeDomain::Event { &mut event } else { &mut processing };
                queue.push(Reverse((time, row)));
            }
        }
        self.live = [event.len(), processing.len()];
        (self.event, self.processing) = (event.into(), processing.into());
        Ok(())
    }

    fn queue(&mut self, domain: TimeDomain) -> &mut Queue {
        match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        }
    }

    /// Adds a timer of the current key, if it has not one like it.
    pub(crate) fn register<K: Record>(&mut self, states: &mut KeyedStates<K>, timer: Timer) {
        let row = states.current();
        let timers = states.cell_mut::<KeyTimers>(self.column).get_or_insert_with(|| KeyTimers::Few(Vec::new()));
        if !timers.insert(timer) {
            return;
        }
        self.live[timer.domain as usize] += 1;
        let most = 2 * self.live[timer.domain as usize] + SLACK;
        let queue = self.queue(timer.domain);
        queue.push(Reverse((timer.time, row)));
        if queue.len() > most {
            self.clear_up(states, timer.domain);
        }
    }

    /// Takes out of a queue what was deleted.
    #[cold]
    fn clear_up<K: Record>(&mut self, states: &KeyedStates<K>, domain: TimeDomain) {
        let column = self.column;
        let queue = self.queue(domain);
        let mut entries = std::mem::take(queue).into_vec();
        entries.sort_unstable();
        entries.dedup();
        entries.retain(|&Reverse((time, row))| {
            states.cell_at::<KeyTimers>(column, row).is_some_and(|timers| timers.contains(&Timer { time, domain }))
        });
        *queue = entries.into();
    }

    /// Removes a timer of the current key, if it has it.
    pub(crate) fn delete<K: Record>(&mut self, states: &mut KeyedStates<K>, timer: Timer) {
        let row = states.current();
        if self.remove(states, row, timer) {
            states.check_empty.set(true);
        }
    }

    fn remove<K: Record>(&mut self, states: &mut KeyedStates<K>, row: RowId, timer: Timer) -> bool {
        // Looked at first: a change has its price while a snapshot is under way.
        if states.cell_at::<KeyTimers>(self.column, row).is_none_or(|timers| !timers.contains(&timer)) {
            return false;
        }
        let cell = states.cell_mut_at::<KeyTimers>(self.column, row);
        let removed = cell.as_mut().is_some_and(|timers| timers.remove(&timer));
        cell.take_if(|timers| timers.len() == 0);
        self.live[timer.domain as usize] -= usize::from(removed);
        removed
    }

    /// Makes the key of the next timer due at `now` the current one and takes its timer.
    pub(crate) fn next_due<K: Record + Eq + Hash>(
        &mut self,
        states: &mut KeyedStates<K>,
        domain: TimeDomain,
        now: EventTime,
    ) -> Option<Timer> {
        loop {
            let &Reverse((time, row)) = self.queue(domain).peek().filter(|Reverse((time, _))| *time <= now)?;
            self.queue(domain).pop();
            let timer = Timer { time, domain };
            if self.remove(states, row, timer) {
                states.enter_row(row);
                states.check_empty.set(true);
                return Some(timer);
            }
        }
    }

    /// When the next timer of processing time is due; it may have been deleted.
    pub(crate) fn next_processing_time(&self) -> EventTime {
        self.processing.peek().map_or(EventTime::MAX, |&Reverse((time, _))| time)
    }
}
