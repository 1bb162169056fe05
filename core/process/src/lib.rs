//! Child processes that run user code, as JobManager and TaskManager start them.
//!
//! Owns how such a process begins and ends: in a session of its own, dead as soon as its parent is, its output in log files of bounded
//! size with the last lines at hand, its end told in words, and all that it has started ended with it. Knows nothing of jobs: what
//! is started, and what is said to it, is its users' business.

mod folder;
mod kernel;
mod lineage;
mod output;
mod process;
mod spawner;
mod status;

pub use folder::private_folder;
pub use kernel::{children, is_stopped, memory, resident_bytes, resident_bytes_of_tree, state_of};
pub use process::{Command, Ended, Killer, Process, SpawnError, variables_beginning_with};
pub use status::describe_status;
