//! Decisions about one job: what its tasks are, where they run, and what follows from each event of its life.
//!
//! Owns the step from JobGraph to [`ExecutionGraph`], slot sharing, placement, pipelined regions, restart strategies, and the job's
//! state machine ([`JobScheduler`]). Never does I/O, never reads a clock: time is an argument, everything to be done comes back as an [`Effect`].
//! The embedded driver and the JobMaster talk to it.

mod event;
mod execution_graph;
pub mod explain;
mod failover;
mod fitting;
mod job_scheduler;
mod placement;
mod region;
mod report;
mod restart;
mod slot_sharing;
#[cfg(test)]
mod testing;

pub use event::{Blame, Effect, Event, WorkerTasks};
pub use execution_graph::{ExecutionEdge, ExecutionGraph, ExecutionJobVertex};
pub use failover::FailoverStrategy;
pub use fitting::{fitting_parallelism, slots_desired, slots_required};
pub use job_scheduler::{Execution, JobScheduler, SchedulerOptions};
pub use placement::place;
pub use region::Regions;
pub use report::{FailureRecord, JobReport};
pub use restart::{RestartBackoff, RestartDecision, RestartStrategy};
pub use slot_sharing::{SlotSharing, SlotSharingGroup};
