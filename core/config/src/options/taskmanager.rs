//! Options of TaskManagers.

use std::time::Duration;

use super::within;
use crate::{ByteSize, ConfigOption, LoadBalanceMode};

/// `taskmanager.numberOfTaskSlots`.
pub static TASK_SLOTS: ConfigOption<u32> = ConfigOption::new(
    "taskmanager.numberOfTaskSlots",
    "1",
    "How many slots a TaskManager offers. A slot runs one subtask of each vertex of a job, so a job needs as many as its parallelism.",
)
.cluster()
.in_range(|value| within(Some(*value), 1, 10_000));

/// `taskmanager.resource-id`.
pub static RESOURCE_ID: ConfigOption<Option<String>> = ConfigOption::optional(
    "taskmanager.resource-id",
    "The TaskManager's name in the cluster. Providers set it; when it is not set, host, process id and a random part.",
)
.cluster()
.in_range(|id| match id {
    Some(id)
        if id.is_empty()
            || id.len() > 200
            || id.chars().any(|char| char.is_whitespace() || char.is_control() || char == '/') =>
    {
        Err("it is empty, longer than 200 bytes, or has spaces, control characters or '/' in it".to_owned())
    }
    Some(_) | None => Ok(()),
});

/// `taskmanager.host`.
pub static TASK_MANAGER_HOST: ConfigOption<String> = ConfigOption::new(
    "taskmanager.host",
    "localhost",
    "Host by which other machines reach the TaskManager and the data ports of its workers.",
)
.cluster();

/// `taskmanager.bind-host`.
pub static TASK_MANAGER_BIND_HOST: ConfigOption<String> = ConfigOption::new(
    "taskmanager.bind-host",
    "localhost",
    "Address on which the TaskManager and its workers listen; `0.0.0.0` for all.",
)
.cluster();

/// `taskmanager.registration.timeout`.
pub static TASK_MANAGER_REGISTRATION_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "taskmanager.registration.timeout",
    "5 min",
    "How long a TaskManager looks for a JobManager that takes it before it gives up and ends.",
)
.cluster();

/// `cluster.registration.initial-timeout`.
pub static REGISTRATION_INITIAL: ConfigOption<Duration> = ConfigOption::new(
    "cluster.registration.initial-timeout",
    "100 ms",
    "The first pause of a TaskManager that could not register; it doubles with each attempt.",
)
.cluster();

/// `cluster.registration.max-timeout`.
pub static REGISTRATION_MAX: ConfigOption<Duration> = ConfigOption::new(
    "cluster.registration.max-timeout",
    "5 s",
    "The longest pause of a TaskManager between two attempts to register.",
)
.cluster();

/// `taskmanager.load-balance.mode`.
pub static LOAD_BALANCE: ConfigOption<LoadBalanceMode> = ConfigOption::new(
    "taskmanager.load-balance.mode",
    "slots",
    "`slots`: a job's slots are spread over as many TaskManagers as there are. `none`: TaskManagers are filled one after the other.",
)
.cluster();

/// `weir.artifacts.cache-size`.
pub static ARTIFACT_CACHE: ConfigOption<ByteSize> = ConfigOption::new(
    "weir.artifacts.cache-size",
    "2gb",
    "How much disk a TaskManager uses for artifacts of jobs it does not run at the moment.",
)
.cluster();

/// `metrics.reporter.prom.port`.
pub static METRICS_PORT: ConfigOption<u32> = ConfigOption::new(
    "metrics.reporter.prom.port",
    "0",
    "Port of a TaskManager's `/metrics`. 0 takes any free one; the JobManager's `/prometheus/targets` lists them for Prometheus.",
)
.cluster()
.in_range(|value| within(Some(*value), 0, 65535));

/// `provider.standalone.min-workers`.
pub static STANDALONE_MIN: ConfigOption<u32> = ConfigOption::new(
    "provider.standalone.min-workers",
    "0",
    "How many TaskManagers the standalone provider keeps running even if nobody needs them.",
)
.cluster();

/// `provider.standalone.max-workers`.
pub static STANDALONE_MAX: ConfigOption<Option<u32>> = ConfigOption::optional(
    "provider.standalone.max-workers",
    "The most TaskManagers the standalone provider runs at a time on this machine. When it is not set, as many as there are cores.",
)
.cluster()
.in_range(|value| within(*value, 1, 100_000));
