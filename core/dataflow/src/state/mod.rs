//! Keyed state in memory.
//!
//! The keys of a subtask lie in a table per key group, the unit in which state is written and given to other subtasks. A record's key is
//! hashed and looked up once and becomes a slot of its group's table; every state of the operator is a column indexed by slot. An
//! operator with five states per key thus pays for one lookup per record, not five. A slot is freed when its last state is cleared.
//!
//! A snapshot is taken while processing goes on. At the barrier it only begins; rows are encoded in slices between batches, and a row
//! that is about to change before its turn is encoded first, as it was at the barrier.

mod broadcast;
mod cells;
mod content;
mod declare;
mod handles;
mod index;
mod keyed;
mod memory;
mod restore;
mod rows;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod ttl;

pub use broadcast::{BroadcastDeclarer, BroadcastState, BroadcastStates};
pub(crate) use declare::Declared;
pub use declare::StateDeclarer;
pub use handles::{AggregatingState, ListState, MapState, ReducingState, StateAccess, ValueState};
pub use keyed::KeyedStates;
pub(crate) use timers::TimerQueues;
pub use timers::{TimeDomain, Timer};
pub use ttl::{StateTtl, TtlUpdate, TtlVisibility};
