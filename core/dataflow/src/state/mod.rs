//! Keyed state: in memory, or in files with the rows in use in memory (`stored`).
//!
//! The keys of a subtask lie in a table per key group, the unit in which state is written and given to other subtasks. A record's key is
//! hashed and looked up once and becomes a slot of its group's table; every state of the operator is a column indexed by slot. An
//! operator with five states per key thus pays for one lookup per record, not five. A slot is freed when its last state is cleared.
//!
//! Large state is a question of memory, not of instructions, so two things keep the misses of caches few and concurrent:
//!
//! - A table is an index (`index`: hash and slot in 8 bytes, one cache line a lookup) and rows (`rows`: the key and the cells of all columns
//!   beside each other, in blocks that never move, cut from huge pages by `memory`).
//! - The head of a chain shows each few dozen records to its operator before it processes them (`Operator::prepare`). The operator has
//!   the lines of the index asked for that all their keys need, then the rows that those name, and only then enters one key after the other.
//!
//! From a key to a cell: `KeyedStates::enter` finds the table by the upper half of the key hash and the slot by the lower one, or takes a
//! new slot (`GroupTable::occupy`); handles read with `cell` and change with `cell_mut`, which is also where a row under snapshot is written
//! before its first change; `leave` frees a row whose cells are all empty (`GroupTable::remove`). What is done with cells whose type is not
//! known (encode, restore, expire, measure) goes through `cells`.
//!
//! A snapshot is taken while processing goes on. At the barrier it only begins; rows are encoded in slices between batches, in the order in
//! which they lie in memory, and a row that is about to change before its turn is encoded first, as it was at the barrier. Groups are written
//! to buffers that the writer has done with, because memory that is new to the process costs more than encoding what goes there.

mod broadcast;
mod cells;
mod content;
mod declare;
mod handles;
mod index;
mod keyed;
mod listed;
mod memory;
mod operator_lists;
mod restore;
mod rows;
mod snapshot;
mod stored;
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
pub use operator_lists::{OperatorListState, OperatorStateAccess, OperatorStateDeclarer, OperatorStates};
pub(crate) use timers::TimerQueues;
pub use timers::{TimeDomain, Timer};
pub use ttl::{StateTtl, TtlUpdate, TtlVisibility};
