//! The JobMaster as a state machine: takes one job from its graph to its end.
//!
//! Owns the order of things around [`weir_scheduler::JobScheduler`]: opening the coordinator, getting slots, starting worker
//! processes, deploying, resetting what is started again, committing; around [`weir_checkpoint::CheckpointCoordinator`], whom it tells
//! what happens to the tasks; and what is shown of the job. Pure: never does I/O, never
//! reads a clock, everything to be done comes back as a [`JobMasterEffect`]. The JobManager's shell and the simulation talk to it.

mod event;
mod job_master;
mod report;
mod spec;
#[cfg(test)]
mod testing;

pub use event::{FromCoordinator, JobMasterEffect, JobMasterEvent, Restored, ToCoordinator};
pub use job_master::JobMaster;
pub use report::JobReport;
pub use spec::{AdaptiveOptions, JobMasterError, JobMasterOptions, JobSpec, RescaleError, RestoreFrom};
pub use weir_scheduler::{FailoverStrategy, RestartStrategy};
