//! Options of jobs that adapt to the slots there are.

use std::time::Duration;

use crate::{ConfigOption, SchedulerType};

/// `jobmanager.scheduler`: whether jobs adapt to the slots there are.
pub static SCHEDULER: ConfigOption<SchedulerType> = ConfigOption::new(
    "jobmanager.scheduler",
    "default",
    "`default`: a job runs when it has the slots it needs, with the parallelism it was built with. `adaptive`: it runs with the slots there \
     are, and is rescaled when there are more or fewer, or when somebody asks for it. See rescaling.md.",
)
.cluster();

/// `jobmanager.adaptive-scheduler.submission.resource-wait-timeout`: the longest wait for slots.
pub static ADAPTIVE_WAIT: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.submission.resource-wait-timeout",
    "5 min",
    "How long an adaptive job that does not run waits for the slots it cannot do without; then it fails. For slots it could use \
     beyond those it waits no longer than this either.",
)
.with_fallback_keys(&["jobmanager.adaptive-scheduler.resource-wait-timeout"])
.cluster();

/// `jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout`: the wait for more slots before a job begins.
pub static ADAPTIVE_STABILIZATION: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout",
    "10 s",
    "How long an adaptive job that could run, with fewer slots than it could use, waits for more before it begins.",
)
.with_fallback_keys(&["jobmanager.adaptive-scheduler.resource-stabilization-timeout"])
.cluster();

/// `jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling`: the least time between two rescalings.
pub static ADAPTIVE_COOLDOWN: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling",
    "30 s",
    "How long an adaptive job that has begun to run is left alone before it is rescaled because there are more slots. What somebody asks for \
     does not wait.",
)
.with_fallback_keys(&["jobmanager.adaptive-scheduler.scaling-interval.min"])
.cluster();

/// `jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout`: the wait for more slots before a job is rescaled.
pub static ADAPTIVE_RUNNING_STABILIZATION: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout",
    "1 min",
    "How long a running adaptive job that has got some of the slots it could use waits for the others before it is rescaled. With all of them \
     it does not wait.",
)
.cluster();

/// `jobmanager.adaptive-scheduler.min-parallelism-increase`: the least growth.
pub static ADAPTIVE_MIN_INCREASE: ConfigOption<u32> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.min-parallelism-increase",
    "1",
    "By how many subtasks, those of all its vertices together, a running adaptive job must be able to grow before it is rescaled, unless \
     it can then have all it could use.",
)
.cluster();

/// `jobmanager.adaptive-scheduler.rescale-trigger.max-checkpoint-failures`: when a job is rescaled without a new checkpoint.
pub static ADAPTIVE_CHECKPOINT_FAILURES: ConfigOption<u32> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.rescale-trigger.max-checkpoint-failures",
    "2",
    "A checkpoint is taken before an adaptive job is rescaled. After so many that failed it is rescaled from an earlier one, and processes \
     again what came after that.",
)
.cluster();

/// `jobmanager.adaptive-scheduler.rescale-trigger.max-delay`: when a job is rescaled without a new checkpoint.
pub static ADAPTIVE_MAX_DELAY: ConfigOption<Option<Duration>> = ConfigOption::optional(
    "jobmanager.adaptive-scheduler.rescale-trigger.max-delay",
    "How long the checkpoint before a rescaling may take; then the job is rescaled from an earlier one. When it is not set, as long as \
     checkpoints may take.",
)
.cluster();
