//! Options of the JobManager and of the cluster as a whole.

use std::time::Duration;

use super::{check_token, within};
use crate::{ByteSize, ConfigOption, FailoverStrategy, List, LogLevel, Secret};

/// `cluster.id`: which cluster a process belongs to.
pub static CLUSTER_ID: ConfigOption<String> = ConfigOption::new(
    "cluster.id",
    "default",
    "Names the cluster. TaskManagers that belong to another cluster are refused, and a provider finds only this cluster's workers again. Two \
     clusters of one user on one machine need different ids.",
)
.cluster()
.in_range(|id| match id.chars().find(|char| !(char.is_ascii_alphanumeric() || "-_.".contains(*char))) {
    None if (1..=64).contains(&id.len()) && !id.starts_with('.') => Ok(()),
    None => Err("it is not 1 to 64 characters long, or begins with a dot".to_owned()),
    Some(char) => Err(format!("it has a {char:?} in it; letters, digits, '-', '_' and '.' are allowed")),
});

/// `jobmanager.rpc.address`: where TaskManagers find the JobManager.
pub static JOBMANAGER_ADDRESS: ConfigOption<String> =
    ConfigOption::new("jobmanager.rpc.address", "localhost", "Host by which TaskManagers reach the JobManager.")
        .cluster();

/// `jobmanager.rpc.port`.
pub static JOBMANAGER_PORT: ConfigOption<u32> = ConfigOption::new(
    "jobmanager.rpc.port",
    "6123",
    "Port on which TaskManagers reach the JobManager. 0 takes any free one.",
)
.cluster()
.in_range(|value| within(Some(*value), 0, 65535));

/// `jobmanager.bind-host`.
pub static JOBMANAGER_BIND_HOST: ConfigOption<String> = ConfigOption::new(
    "jobmanager.bind-host",
    "localhost",
    "Address on which the JobManager listens for TaskManagers; `0.0.0.0` for all. Whoever registers as a TaskManager is given artifacts, arguments \
     and secrets of jobs: an address that other machines reach needs `security.internal.token`, or `security.internal.allow-unauthenticated`. \
     Nothing is encrypted: open it to trusted networks only.",
)
.cluster();

/// `security.internal.token`.
pub static INTERNAL_TOKEN: ConfigOption<Option<Secret>> = ConfigOption::optional(
    "security.internal.token",
    "The secret by which JobManager and TaskManagers of a cluster know each other: the same for all of them, in their `config.yaml` or as \
     `WEIR_CONF_SECURITY_INTERNAL_TOKEN`. TaskManagers that providers start get it by themselves. When it is not set, nobody is asked.",
)
.cluster()
.in_range(check_token);

/// `security.internal.allow-unauthenticated`.
pub static INTERNAL_ALLOW_UNAUTHENTICATED: ConfigOption<bool> = ConfigOption::new(
    "security.internal.allow-unauthenticated",
    "false",
    "Whether TaskManagers of other machines may register without a token.",
)
.cluster();

/// `jobmanager.memory.coordinators.size`.
pub static COORDINATORS_MEMORY: ConfigOption<Option<ByteSize>> = ConfigOption::optional(
    "jobmanager.memory.coordinators.size",
    "How much memory the coordinators of all jobs may take together: the processes beside the JobManager that build jobs and list their inputs. When \
     they take more, the largest is ended with a report. When it is not set, the limit is nine tenths of the machine's or the control group's \
     memory.",
)
.cluster()
.in_range(|value| match value {
    Some(size) if size.0 < 16 << 20 => Err("it is below 16mb, which no job can be built in".to_owned()),
    Some(_) | None => Ok(()),
});

/// `jobmanager.execution.failover-strategy`.
pub static FAILOVER_STRATEGY: ConfigOption<FailoverStrategy> = ConfigOption::new(
    "jobmanager.execution.failover-strategy",
    "region",
    "`region`: a failure stops and restarts the tasks that are connected with the failed one. `full`: all tasks of the job.",
)
.cluster();

/// `jobmanager.execution.attempts-history-size`.
pub static FAILURE_HISTORY: ConfigOption<u32> = ConfigOption::new(
    "jobmanager.execution.attempts-history-size",
    "16",
    "How many failures of a job are kept to be shown.",
)
.cluster()
.in_range(|value| within(Some(*value), 1, 10_000));

/// `heartbeat.interval`.
pub static HEARTBEAT_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "heartbeat.interval",
    "10 s",
    "Time between two signs of life between TaskManager and JobManager.",
)
.cluster()
.in_range(|value| if value.as_millis() >= 10 { Ok(()) } else { Err("it is below 10 ms".to_owned()) });

/// `heartbeat.timeout`.
pub static HEARTBEAT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "heartbeat.timeout",
    "50 s",
    "Without a sign of life for this long, the other side counts as lost. A connection that breaks is noticed at once; this is for processes and \
     machines that freeze.",
)
.cluster()
.in_range(|value| if value.as_millis() >= 50 { Ok(()) } else { Err("it is below 50 ms".to_owned()) });

/// `slot.request.timeout`.
pub static SLOT_REQUEST_TIMEOUT: ConfigOption<Duration> =
    ConfigOption::new("slot.request.timeout", "5 min", "How long a job waits for its slots before it fails.").cluster();

/// `slotmanager.number-of-slots.max`.
pub static MAX_SLOTS: ConfigOption<Option<u32>> = ConfigOption::optional(
    "slotmanager.number-of-slots.max",
    "The most slots the cluster may have: beyond it, no TaskManager is asked for. When it is not set, there is no limit.",
)
.cluster();

/// `slotmanager.redundant-taskmanager-num`.
pub static REDUNDANT_TASK_MANAGERS: ConfigOption<u32> = ConfigOption::new(
    "slotmanager.redundant-taskmanager-num",
    "0",
    "How many TaskManagers more than needed are kept ready, so that a failure does not have to wait for one to start.",
)
.cluster();

/// `resourcemanager.taskmanager-timeout`.
pub static TASK_MANAGER_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.taskmanager-timeout",
    "30 s",
    "After this long without work, a TaskManager that a provider started is given back.",
)
.cluster()
.with_fallback_keys(&["slotmanager.taskmanager-timeout"]);

/// `resourcemanager.taskmanager-registration.timeout`.
pub static REGISTRATION_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.taskmanager-registration.timeout",
    "5 min",
    "How long a TaskManager that a provider started may take to register; after that it is given back and another one asked for.",
)
.cluster();

/// `resourcemanager.start-worker.max-failure-rate`.
pub static START_FAILURE_RATE: ConfigOption<f64> = ConfigOption::new(
    "resourcemanager.start-worker.max-failure-rate",
    "10",
    "How many TaskManagers may fail to start within a minute before asking for more waits for `resourcemanager.start-worker.retry-interval`. A \
     whole number.",
)
.cluster()
.in_range(|value| match value {
    value if !(1.0..=1_000_000.0).contains(value) => Err("it is not between 1 and 1000000".to_owned()),
    value if value.fract() != 0.0 => Err("it is not a whole number".to_owned()),
    _ => Ok(()),
});

/// `resourcemanager.start-worker.retry-interval`.
pub static START_RETRY_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.start-worker.retry-interval",
    "3 s",
    "How long no TaskManager is asked for after too many have failed to start.",
)
.cluster();

/// `resourcemanager.providers`.
pub static PROVIDERS: ConfigOption<List> = ConfigOption::new(
    "resourcemanager.providers",
    "",
    "The resource providers that start TaskManagers, by name, separated by commas or semicolons; an earlier one is filled first. Each is a plugin \
     `libweir_provider_<name>.so` in `plugins.dir`. Without one, TaskManagers are started by hand or by `scripts/start-cluster`.",
)
.cluster();

/// `plugins.dir`.
pub static PLUGINS_DIR: ConfigOption<Option<String>> = ConfigOption::optional(
    "plugins.dir",
    "Folder of the plugins. When it is not set: `plugins` beside the folder of the program `weir` if there is one, otherwise the folder of the program itself.",
)
.cluster();

/// `process.working-dir`.
pub static WORKING_DIR: ConfigOption<Option<String>> = ConfigOption::optional(
    "process.working-dir",
    "Where processes keep what must outlive them: uploaded artifacts, caches, records of jobs and of started TaskManagers. When it is not set, \
     `weir-<user>` in `io.tmp.dirs`; clusters have folders of their own in it, named by `cluster.id`.",
)
.cluster();

/// `io.tmp.dirs`.
pub static TMP_DIR: ConfigOption<Option<String>> = ConfigOption::optional(
    "io.tmp.dirs",
    "Where temporary files go. When it is not set, the system's folder for them (`TMPDIR`, or `/tmp`).",
)
.cluster();

/// `env.log.dir`.
pub static LOG_DIR: ConfigOption<Option<String>> = ConfigOption::optional(
    "env.log.dir",
    "Folder of the log files. When it is not set, `log` in the working folder of the process. TaskManagers have folders of their own in it, named \
     by `taskmanager.resource-id`.",
)
.cluster();

/// `env.log.max`.
pub static LOG_FILES: ConfigOption<u32> =
    ConfigOption::new("env.log.max", "10", "How many older parts of each log file are kept, but at most one of what jobs print; and the log files of how many processes of a kind, \
     those that have ended included.")
        .cluster()
        .in_range(|value| within(Some(*value), 0, 1000));

/// `env.log.max-size`.
pub static LOG_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "env.log.max-size",
    "100mb",
    "The size at which a log file is put aside and a new one begun. What jobs print is kept in files of at most a tenth of it.",
)
.cluster()
.in_range(|size| if size.0 >= 4096 { Ok(()) } else { Err("it is below 4kb".to_owned()) });

/// `env.log.level`.
pub static LOG_LEVEL: ConfigOption<LogLevel> =
    ConfigOption::new("env.log.level", "info", "The least important messages that are logged.").cluster();

/// `weir.artifacts.dir`.
pub static ARTIFACTS_DIR: ConfigOption<Option<String>> = ConfigOption::optional(
    "weir.artifacts.dir",
    "Where uploaded artifacts are stored: a folder, or a URI such as `file:///var/lib/weir/artifacts`. When it is not set, `artifacts` in the JobManager's working folder.",
)
.cluster()
.with_fallback_keys(&["web.upload.dir", "blob.storage.directory"]);

/// `weir.artifacts.max-total-size`.
pub static ARTIFACTS_MAX_TOTAL: ConfigOption<ByteSize> = ConfigOption::new(
    "weir.artifacts.max-total-size",
    "20gb",
    "How many bytes of artifacts are stored. An upload that needs more makes room: the oldest artifacts that no running job needs are removed. When \
     running jobs need all there is, the upload is refused.",
)
.cluster();

/// `jobstore.expiration-time`.
pub static JOB_STORE_EXPIRATION: ConfigOption<Duration> =
    ConfigOption::new("jobstore.expiration-time", "1 h", "How long ended jobs are shown.")
        .cluster()
        .with_fallback_keys(&["completed-application-store.expiration-time"]);

/// `jobstore.max-capacity`.
pub static JOB_STORE_CAPACITY: ConfigOption<u32> = ConfigOption::new(
    "jobstore.max-capacity",
    "1000",
    "How many ended jobs are shown at most; the oldest are forgotten first. Jobs with very many tasks count for more: at most 500000 tasks of ended \
     jobs are shown, and always the job that ended last.",
)
.cluster()
.with_fallback_keys(&["completed-application-store.max-capacity"]);

/// `metrics.fetcher.update-interval`.
pub static METRICS_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "metrics.fetcher.update-interval",
    "2 s",
    "How often TaskManagers report the metrics of tasks to the JobManager.",
)
.cluster()
.in_range(|value| if value.as_millis() >= 10 { Ok(()) } else { Err("it is below 10 ms".to_owned()) });
