//! A log-structured merge store for the keyed state of one task: sorted bytes, larger than memory, with snapshots that cost
//! no copy.
//!
//! Owns one folder of immutable sorted files, a write buffer and a block cache. Never decides when a snapshot is taken, where it
//! goes or how long it is kept: whoever owns the task's state does.
//!
//! A [`Store`] belongs to one thread, so neither a read nor a write takes a lock. One background thread per store writes full write
//! buffers to files and merges files; it never delays a read, and delays a write only when it cannot keep up.
//!
//! **There is no write-ahead log.** After a crash a task goes back to the last completed checkpoint and its sources read again from
//! there; newer local writes would be of no use, and worse, wrong. So what is durable is exactly what a [`Snapshot`]'s files carry
//! once they have been uploaded, nothing is synced to the local disk, and a store's own files go away with it.
//!
//! **Snapshots are incremental** because files never change and their names never come back: what an earlier snapshot had
//! uploaded need not be uploaded again.
//!
//! **Keys begin with their key group**, two bytes, big-endian. All of a group is therefore one contiguous range, and a restore at
//! another parallelism takes whole old files and looks only at the groups that are its own ([`Store::restore`]).

mod block;
mod cache;
mod compaction;
mod encoding;
mod error;
mod filter;
mod key_groups;
mod levels;
mod memtable;
mod merge;
mod options;
mod restore;
mod run;
mod scan;
mod snapshot;
mod store;
mod table;
mod ticket;
mod value;
mod worker;

pub use error::LsmError;
pub use key_groups::KeyGroups;
pub use options::Options;
pub use restore::RestoreFile;
pub use scan::{Scan, ScannedEntry};
pub use snapshot::{PendingSnapshot, Snapshot, SnapshotFile};
pub use store::{Stats, Store};
pub use value::Value;
