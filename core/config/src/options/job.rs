//! Options a job has, wherever it runs.

use std::time::Duration;

use weir_model::MAX_KEY_GROUPS;

use super::within;
use crate::{BufferTimeout, ByteSize, ConfigOption, RestartStrategyType, RuntimeMode};

/// `parallelism.default`: subtasks of an operator that sets none.
pub static PARALLELISM_DEFAULT: ConfigOption<Option<u32>> = ConfigOption::optional(
    "parallelism.default",
    "Number of subtasks of every operator whose author set none. When it is not set, an embedded run uses all cores of the machine, \
     a cluster 1. `--parallelism` is short for it.",
)
.in_range(|value| within(*value, 1, MAX_KEY_GROUPS));

/// `pipeline.max-parallelism`: key groups of an operator that sets none.
pub static MAX_PARALLELISM: ConfigOption<Option<u32>> = ConfigOption::optional(
    "pipeline.max-parallelism",
    "Number of key groups, and with it the highest parallelism the job can ever be rescaled to, at most 32768. It is part of the state's \
     format and stays the same while the state is kept. When it is not set, it is one and a half times the parallelism, \
     rounded up to a power of two, at least 128.",
)
.in_range(|value| within(*value, 1, MAX_KEY_GROUPS));

/// `pipeline.name`: the job's name.
pub static PIPELINE_NAME: ConfigOption<Option<String>> = ConfigOption::optional(
    "pipeline.name",
    "The job's name, as shown to people. When it is not set, the name its author gave.",
);

/// `execution.runtime-mode`: every update, or final results only.
pub static RUNTIME_MODE: ConfigOption<RuntimeMode> = ConfigOption::new(
    "execution.runtime-mode",
    "automatic",
    "`streaming`: `reduce` and `aggregate` emit every update as it happens. `batch`: they emit final results only, at the end of \
     input; all sources must be bounded. `automatic`: a job whose sources are all bounded emits final results only, an unbounded one \
     emits updates.",
);

/// `execution.buffer-timeout`: how long a record may wait for its batch to fill.
pub static BUFFER_TIMEOUT: ConfigOption<BufferTimeout> = ConfigOption::new(
    "execution.buffer-timeout",
    "100 ms",
    "How long a record may wait for the batch it leaves in to fill, while the task is busy: the upper bound of the latency an \
     exchange adds. A batch also leaves when it is full, and when the task has nothing more to read. `0 ms`: batches leave whenever a \
     batch of input has been processed. `disabled` (or `-1`): only when full or idle.",
)
.with_fallback_keys(&["execution.buffer-timeout.interval"]);

/// `task.cancellation.timeout`: patience with tasks that do not stop.
pub static CANCELLATION_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "task.cancellation.timeout",
    "3 min",
    "How long tasks may take to stop when a job is canceled or fails. Those that have not by then (user code that blocks or \
     loops) are reported by name, and their process is ended. `0 ms` waits for ever. An embedded run waits 10 s unless this is set.",
);

/// `taskmanager.memory.process.size`: memory a worker may take.
pub static PROCESS_MEMORY: ConfigOption<Option<ByteSize>> = ConfigOption::optional(
    "taskmanager.memory.process.size",
    "How much memory the process that runs the tasks may take. A job that takes more fails with a report instead of taking the machine \
     down. When it is not set, the limit is nine tenths of the machine's or the control group's memory.",
)
.in_range(|value| match value {
    // A bare process with its threads takes some of these already; less is a slip in the unit.
    Some(size) if size.0 < 16 << 20 => Err("it is below 16mb, which no job can run in".to_owned()),
    Some(_) | None => Ok(()),
});

/// `taskmanager.memory.segment-size`: size of a network buffer.
pub static SEGMENT_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "taskmanager.memory.segment-size",
    "32kb",
    "Size of a network buffer: records for another process leave in buffers of about this size. A record larger than that still \
     works, in a buffer of its own.",
)
.in_range(|size| match size.0 {
    0..1024 => Err("it is below 1kb".to_owned()),
    1024..=0x0400_0000 => Ok(()),
    _ => Err("it is above 64mb".to_owned()),
});

/// `taskmanager.network.memory.buffers-per-channel`: batches in flight on a channel.
pub static BUFFERS_PER_CHANNEL: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.network.memory.buffers-per-channel",
    "4",
    "How many buffers or batches a producer may have sent to one consumer before the consumer has taken them: the credit of a \
     channel. Between processes, whose pauses cost more, eight times as many. More hides longer pauses of a consumer, fewer bound memory and the time a record waits under back-pressure.",
)
.in_range(|value| within(Some(*value), 1, 1024));

/// `weir.embedded.workers`: processes of an embedded run.
pub static EMBEDDED_WORKERS: ConfigOption<u32> = ConfigOption::new(
    "weir.embedded.workers",
    "1",
    "Number of processes an embedded run uses. With 1 the tasks run in the process that was started, with more in that many child \
     processes, which exchange data over loopback TCP. `--workers` is short for it.",
)
.in_range(|value| within(Some(*value), 1, 1024));

/// `weir.worker.start-timeout`: patience with a worker that does not report.
pub static WORKER_START_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "weir.worker.start-timeout",
    "30 s",
    "How long a worker process may take from its start until it has built the job's graph and reported. After that the job fails.",
);

/// `weir.progress.interval`: time between two progress lines.
pub static PROGRESS_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "weir.progress.interval",
    "1 s",
    "Time between two updates of an embedded run's progress, and between two reports of a worker's metrics. Where the output is not \
     a terminal, lines appear ten times less often.",
)
.in_range(|value| if value.as_millis() >= 10 { Ok(()) } else { Err("it is below 10 ms".to_owned()) });

/// `restart-strategy.type`: what happens after a failure.
pub static RESTART_STRATEGY: ConfigOption<RestartStrategyType> = ConfigOption::new(
    "restart-strategy.type",
    "none",
    "Whether and when the tasks that a failure has stopped are started again. `none` (also `off`, `disable`): the job fails. `fixed-delay`: so many \
     times, with the same pause before each. `failure-rate`: unless there are more failures in an interval than allowed. \
     `exponential-delay`: with a pause that grows with each failure and shrinks again after a long quiet time. \
     The loss of a TaskManager (machine, process or connection) counts as a failure, but unless the last restart was less than the pause \
     ago, the tasks start again at once: there is nothing to wait for. When it is not set and there are checkpoints (`execution.checkpointing.interval`), it is `exponential-delay` in clusters. Of embedded runs only those in one process start tasks again, and only when it is set.",
)
.with_fallback_keys(&["restart-strategy"]);

/// `restart-strategy.fixed-delay.attempts`.
pub static FIXED_DELAY_ATTEMPTS: ConfigOption<u32> = ConfigOption::new(
    "restart-strategy.fixed-delay.attempts",
    "1",
    "How often `fixed-delay` starts tasks again before the job fails.",
)
.in_range(|value| within(Some(*value), 1, u32::MAX));

/// `restart-strategy.fixed-delay.delay`.
pub static FIXED_DELAY_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.fixed-delay.delay",
    "1 s",
    "The pause of `fixed-delay` between a failure and the start.",
);

/// `restart-strategy.failure-rate.max-failures-per-interval`.
pub static FAILURE_RATE_MAX: ConfigOption<u32> = ConfigOption::new(
    "restart-strategy.failure-rate.max-failures-per-interval",
    "1",
    "How many failures `failure-rate` allows in an interval; one more and the job fails.",
)
.in_range(|value| within(Some(*value), 1, 1_000_000));

/// `restart-strategy.failure-rate.failure-rate-interval`.
pub static FAILURE_RATE_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.failure-rate.failure-rate-interval",
    "1 min",
    "The interval in which `failure-rate` counts failures.",
);

/// `restart-strategy.failure-rate.delay`.
pub static FAILURE_RATE_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.failure-rate.delay",
    "1 s",
    "The pause of `failure-rate` between a failure and the start.",
);

/// `restart-strategy.exponential-delay.initial-backoff`.
pub static EXPONENTIAL_INITIAL: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.exponential-delay.initial-backoff",
    "1 s",
    "The first pause of `exponential-delay`, and the one it returns to after a quiet time.",
);

/// `restart-strategy.exponential-delay.max-backoff`.
pub static EXPONENTIAL_MAX: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.exponential-delay.max-backoff",
    "1 min",
    "The longest pause of `exponential-delay`.",
);

/// `restart-strategy.exponential-delay.backoff-multiplier`.
pub static EXPONENTIAL_MULTIPLIER: ConfigOption<f64> = ConfigOption::new(
    "restart-strategy.exponential-delay.backoff-multiplier",
    "1.5",
    "By how much each pause of `exponential-delay` is longer than the one before.",
)
.in_range(|value| if *value >= 1.0 { Ok(()) } else { Err("it is below 1".to_owned()) });

/// `restart-strategy.exponential-delay.jitter-factor`.
pub static EXPONENTIAL_JITTER: ConfigOption<f64> = ConfigOption::new(
    "restart-strategy.exponential-delay.jitter-factor",
    "0.1",
    "By how much of itself a pause of `exponential-delay` is made longer or shorter at random, so that jobs do not all start at once.",
)
.in_range(|value| if (0.0..=1.0).contains(value) { Ok(()) } else { Err("it is not between 0 and 1".to_owned()) });

/// `restart-strategy.exponential-delay.reset-backoff-threshold`.
pub static EXPONENTIAL_RESET: ConfigOption<Duration> = ConfigOption::new(
    "restart-strategy.exponential-delay.reset-backoff-threshold",
    "1 h",
    "How long a job must run without a failure before `exponential-delay` begins with its first pause again.",
);

/// `restart-strategy.exponential-delay.attempts-before-reset-backoff`.
pub static EXPONENTIAL_ATTEMPTS: ConfigOption<Option<u32>> = ConfigOption::optional(
    "restart-strategy.exponential-delay.attempts-before-reset-backoff",
    "How often `exponential-delay` starts tasks again, without a quiet time between, before the job fails. When it is not set, for ever.",
)
.in_range(|value| within(*value, 1, u32::MAX));
