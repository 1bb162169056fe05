//! Snapshots of tasks: what operators hand over, and how it becomes durable.
//!
//! At a barrier each operator of a chain hands over its small state at once and begins its tables; their rows follow in slices between
//! batches, so that processing goes on meanwhile. What is handed over stays in memory while it is little, and goes to a
//! file beside the task when it is more. Once everything is durable the task's part in the checkpoint is acknowledged.

mod builder;
mod checkpoints;
mod restore;
mod sorted;
mod triggers;
mod unaligned;
mod writer;

pub use builder::{OperatorSnapshotter, SnapshotBuilder, TableId, schema_of};
pub(crate) use checkpoints::{Progress, TaskCheckpoints, end_of_time, millis_now};
pub use restore::RestoredRows;
pub(crate) use restore::{Conversion, RestoredTask, in_flight_list, unreadable};
pub(crate) use sorted::{GROUP_BYTES, StoreFolder, StoreSnapshot, Uploads, put_store_key, store_failed, unique};
pub(crate) use triggers::Triggers;
pub(crate) use unaligned::Released;
