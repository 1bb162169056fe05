//! The standalone provider: starts TaskManagers as processes of this machine.
//!
//! Owns the processes it has started: their records on disk, by which they are found again when the JobManager has been restarted, and
//! their ends. Each has a session and a process group of its own and does not end with the JobManager. It decides nothing: how
//! many there are to be is the ResourceManager's business. [`Standalone`] is what the plugin exports.

mod files;
mod keeper;
mod options;
mod process;
mod provider;
mod records;
mod spawn;

pub use options::{MAX_WORKERS, MIN_WORKERS, StandaloneOptions};
pub use provider::Standalone;
