//! Plain data of Weir: ids, the JobGraph, job and task states, key groups.
//!
//! Owns the vocabulary every other crate speaks. Never does I/O, never reads a clock, never starts a thread.
//! Everybody depends on it; it depends on nothing of ours.

mod ids;
mod job_graph;
mod key_group;
mod placement;
mod states;
mod task;

pub use ids::{JobId, OperatorId, ParseIdError, VertexId};
pub use job_graph::{
    DistributionPattern, InvalidJobGraph, JobEdge, JobGraph, JobVertex, OperatorInfo, OperatorKind, Partitioner,
};
pub use key_group::{KeyGroup, KeyGroups, MAX_KEY_GROUPS, default_max_parallelism};
pub use placement::Placement;
pub use states::{ExecutionState, JobStatus};
pub use task::{FailureKind, TaskFailure, TaskId};
