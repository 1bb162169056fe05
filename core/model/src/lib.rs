//! Plain data of Weir: ids, the JobGraph, job and task states, key groups.
//!
//! Owns the vocabulary every other crate speaks. Never does I/O, never reads a clock, never starts a thread.
//! Everybody depends on it; it depends on nothing of ours.

mod bounds;
mod checkpoint;
mod control;
mod ids;
mod job_graph;
mod key_group;
mod placement;
mod requirements;
mod states;
mod task;
mod view;

pub use bounds::{InvalidRequirements, ParallelismBounds, ResourceRequirements};
pub use checkpoint::{
    Alignment, CheckpointAcknowledgement, CheckpointDecline, CheckpointKind, CheckpointTrigger, DeclineCause,
    SnapshotMetrics,
};
pub use control::{
    Artifact, DeploymentId, DeploymentPlan, FromTaskManager, Launch, LeaderEpoch, SlotId, StartWorker, TaskChange,
    TaskManagerInfo, ToTaskManager,
};
pub use ids::{ArtifactId, JobId, OperatorId, ParseArtifactIdError, ParseIdError, TaskManagerId, VertexId};
pub use job_graph::{
    DistributionPattern, InvalidJobGraph, JobEdge, JobGraph, JobVertex, OperatorInfo, OperatorKind, Partitioner,
    VertexLabel,
};
pub use key_group::{KeyGroup, KeyGroups, MAX_KEY_GROUPS, default_max_parallelism};
pub use placement::Placement;
pub use requirements::{FromResourceManager, SlotGrant, SlotWait, ToResourceManager};
pub use states::{ExecutionState, JobStatus};
pub use task::{Committable, FailureKind, MetricGroup, MetricsSnapshot, OperatorMetric, TaskFailure, TaskId};
pub use view::{
    FailureView, JobSummary, JobView, ProviderView, ResourcesView, ScalingView, SubtaskView, TaskManagerView, TaskRates,
};
