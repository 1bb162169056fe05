//! The JobManager process: runs Dispatcher, ResourceManager and JobMasters, each in an event loop of its own, and connects them with
//! TaskManagers, provider plugins and REST.
//!
//! Owns everything that the state machines must not have: clock, sockets, processes, files. Decides nothing that they decide.
//! User code never runs in this process: a job's builder, enumerators and committers run in its coordinator, a child process.

mod builders;
mod checkpoint_storage;
mod clock;
mod coordinator;
mod dispatcher;
mod error;
mod executables;
mod gateway;
mod job_manager;
mod job_master;
mod jobs;
mod launch;
mod options;
mod private_folder;
mod providers;
mod records;
mod requests;
mod resource_manager;
mod rpc;
mod shared;
mod task_managers;
mod timers;
mod working_dir;

pub use error::JobManagerError;
pub use job_manager::JobManager;
pub use options::{JobManagerOptions, cluster_dir, make_cluster_dir};
