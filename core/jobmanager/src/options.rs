//! What a JobManager is told when it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_config::{Configuration, LoadBalanceMode, SchedulerType, options};
use weir_dispatcher::DispatcherOptions;
use weir_provider_api::{ProviderFactory, ResourceProfile};
use weir_resourcemanager::{ProviderChoice, ResourceManagerOptions, StartFailureRate, WorkerTemplate};
use weir_rest::RestOptions;

use crate::JobManagerError;

/// How a JobManager runs.
#[derive(Clone)]
pub struct JobManagerOptions {
    /// Names the cluster.
    pub cluster_id: String,
    /// Host or address on which it listens for TaskManagers.
    pub bind_host: String,
    /// Port on which it listens for TaskManagers; 0 takes any free one.
    pub rpc_port: u16,
    /// Host by which TaskManagers that providers start reach it.
    pub rpc_host: String,
    /// What TaskManagers have to show; `None`: nothing.
    pub internal_token: Option<String>,
    /// Whether it listens where other machines reach it without a token.
    pub allow_unauthenticated: bool,
    /// How the HTTP API is served.
    pub rest: RestOptions,
    /// Between heartbeats of a TaskManager.
    pub heartbeat_interval: Duration,
    /// Without a sign of life for this long, a TaskManager counts as lost.
    pub heartbeat_timeout: Duration,
    /// Between reports of tasks' metrics.
    pub metrics_interval: Duration,
    /// Where it keeps what outlives it.
    pub working_dir: PathBuf,
    /// Where log files are, and those of coordinators go.
    pub log_dir: PathBuf,
    /// Bytes after which a file of a coordinator's output is put aside.
    pub max_output_size: u64,
    /// How many such files are kept.
    pub max_old_outputs: u32,
    /// For temporary files, such as sockets.
    pub tmp_dir: PathBuf,
    /// Where artifacts are stored: a folder or a URI; `None` is a folder in `working_dir`.
    pub artifacts: Option<String>,
    /// How many bytes of artifacts are stored; the oldest that no job needs go when more are uploaded.
    pub max_artifacts_size: u64,
    /// Bytes of memory of all coordinators together; `None`: nine tenths of the machine's or the control group's memory.
    pub coordinator_memory: Option<u64>,
    /// How long a job's process may take to build its job.
    pub worker_start_timeout: Duration,
    /// How ended jobs are remembered.
    pub dispatcher: DispatcherOptions,
    /// How TaskManagers are had. Template and epoch are filled in when the JobManager starts.
    pub resources: ResourceManagerOptions,
    /// What one TaskManager that a provider starts gets of its machine.
    pub task_manager_resources: ResourceProfile,
    /// Program and first arguments of a TaskManager that a provider starts; its options are added.
    pub task_manager_command: Vec<String>,
    /// Where plugins are.
    pub plugins_dir: PathBuf,
    /// Providers that are not loaded from there, by name.
    pub built_in_providers: BTreeMap<String, Arc<dyn ProviderFactory>>,
    /// All options of the cluster: defaults of jobs, options of TaskManagers, and what is shown.
    pub configuration: Configuration,
}

impl fmt::Debug for JobManagerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobManagerOptions({}, {}:{}, {:?})", self.cluster_id, self.bind_host, self.rpc_port, self.rest)
    }
}

/// The folder of a cluster's processes, by its configuration.
pub fn cluster_dir(configuration: &Configuration) -> PathBuf {
    let tmp_dir = configuration.get(&options::TMP_DIR).map_or_else(std::env::temp_dir, PathBuf::from);
    let base = configuration.get(&options::WORKING_DIR).map_or_else(|| tmp_dir.join(default_folder()), PathBuf::from);
    base.join(configuration.get(&options::CLUSTER_ID))
}

/// Makes the folder of a cluster's processes, for this user only; to be called before anything is written into it.
///
/// # Errors
/// It cannot be made, or it or the default folder around it is a symbolic link or somebody else's.
pub fn make_cluster_dir(configuration: &Configuration) -> Result<PathBuf, JobManagerError> {
    let path = absolute(cluster_dir(configuration))?;
    // Its name can be guessed, and everybody can make something of that name in `/tmp`.
    let around = path.parent().filter(|_| configuration.get(&options::WORKING_DIR).is_none());
    for folder in around.into_iter().chain([path.as_path()]) {
        let wrong = |error| JobManagerError::WorkingDir { path: folder.to_owned(), error };
        weir_process::private_folder(folder).map_err(wrong)?;
    }
    Ok(path)
}

impl JobManagerOptions {
    /// What the configuration says.
    pub fn from_configuration(configuration: &Configuration) -> Result<JobManagerOptions, JobManagerError> {
        let get = configuration;
        check_heartbeats(get)?;
        let tmp_dir = get.get(&options::TMP_DIR).map_or_else(std::env::temp_dir, PathBuf::from);
        let cluster_id = get.get(&options::CLUSTER_ID);
        let working_dir = absolute(cluster_dir(configuration).join("jobmanager"))?;
        let log_dir = get.get(&options::LOG_DIR).map_or_else(|| working_dir.join("log"), PathBuf::from);
        Ok(JobManagerOptions {
            bind_host: get.get(&options::JOBMANAGER_BIND_HOST),
            rpc_port: port(get.get(&options::JOBMANAGER_PORT)),
            rpc_host: get.get(&options::JOBMANAGER_ADDRESS),
            internal_token: get.get(&options::INTERNAL_TOKEN).map(|token| token.reveal().to_owned()),
            allow_unauthenticated: get.get(&options::INTERNAL_ALLOW_UNAUTHENTICATED),
            rest: rest_options(get),
            heartbeat_interval: get.get(&options::HEARTBEAT_INTERVAL),
            heartbeat_timeout: get.get(&options::HEARTBEAT_TIMEOUT),
            metrics_interval: get.get(&options::METRICS_INTERVAL),
            log_dir: absolute(log_dir)?,
            // What jobs print is kept in smaller files than what the cluster logs.
            max_output_size: get.get(&options::LOG_SIZE).0 / 10,
            max_old_outputs: get.get(&options::LOG_FILES).min(1),
            tmp_dir: absolute(tmp_dir)?,
            artifacts: get.get(&options::ARTIFACTS_DIR),
            max_artifacts_size: get.get(&options::ARTIFACTS_MAX_TOTAL).0,
            coordinator_memory: get.get(&options::COORDINATORS_MEMORY).map(|size| size.0),
            worker_start_timeout: get.get(&options::WORKER_START_TIMEOUT),
            dispatcher: DispatcherOptions {
                expiration: get.get(&options::JOB_STORE_EXPIRATION),
                max_archived: Some(get.get(&options::JOB_STORE_CAPACITY) as usize),
                ..DispatcherOptions::default()
            },
            resources: resource_options(get),
            task_manager_resources: ResourceProfile {
                memory_bytes: get.get(&options::PROCESS_MEMORY).map_or(0, |size| size.0),
                ..ResourceProfile::default()
            },
            task_manager_command: own_command("taskmanager")?,
            plugins_dir: get
                .get(&options::PLUGINS_DIR)
                .map_or_else(default_plugins_dir, |dir| Ok(PathBuf::from(dir)))?,
            built_in_providers: BTreeMap::new(),
            configuration: configuration.clone(),
            cluster_id,
            working_dir,
        })
    }
}

/// Whoever is silent between two heartbeats must not be taken for lost.
fn check_heartbeats(get: &Configuration) -> Result<(), JobManagerError> {
    let (interval, timeout) = (get.get(&options::HEARTBEAT_INTERVAL), get.get(&options::HEARTBEAT_TIMEOUT));
    if timeout > interval {
        return Ok(());
    }
    Err(JobManagerError::Option(format!(
        "`heartbeat.timeout` is {timeout:?} and `heartbeat.interval` {interval:?}: every TaskManager would be lost between two heartbeats; \
         make the timeout several times as long as the interval"
    )))
}

fn port(value: u32) -> u16 {
    u16::try_from(value).expect("the option's range is that of ports")
}

fn absolute(path: PathBuf) -> Result<PathBuf, JobManagerError> {
    std::path::absolute(&path).map_err(|error| JobManagerError::WorkingDir { path, error })
}

/// `weir-<user>`, so that users of one machine do not meet.
fn default_folder() -> String {
    // SAFETY: the call has no preconditions.
    let uid = unsafe { libc::getuid() };
    let name = std::env::var("USER").ok().filter(|name| !name.is_empty() && !name.contains('/'));
    format!("weir-{}", name.unwrap_or_else(|| uid.to_string()))
}

fn own_command(role: &str) -> Result<Vec<String>, JobManagerError> {
    let program = std::env::current_exe().map_err(JobManagerError::System)?;
    Ok(vec![program.display().to_string(), role.to_owned()])
}

fn default_plugins_dir() -> Result<PathBuf, JobManagerError> {
    let program = std::env::current_exe().map_err(JobManagerError::System)?;
    let folder = program.parent().map(PathBuf::from).unwrap_or_default();
    let beside = folder.parent().map(|parent| parent.join("plugins")).filter(|plugins| plugins.is_dir());
    Ok(beside.unwrap_or(folder))
}

fn rest_options(get: &Configuration) -> RestOptions {
    RestOptions {
        bind_address: get.get(&options::REST_BIND_ADDRESS),
        ports: vec![port(get.get(&options::REST_PORT))],
        advertised_host: Some(get.get(&options::REST_ADDRESS)),
        tokens: get.get(&options::REST_TOKEN).iter().map(|token| token.reveal().to_owned()).collect(),
        allow_unauthenticated: get.get(&options::ALLOW_UNAUTHENTICATED),
        submit_enabled: get.get(&options::WEB_SUBMIT),
        cancel_enabled: get.get(&options::WEB_CANCEL),
        rescale_enabled: get.get(&options::SCHEDULER) == SchedulerType::Adaptive,
        refresh_interval: get.get(&options::WEB_REFRESH),
        allow_origin: get.get(&options::WEB_ALLOW_ORIGIN),
        answer_timeout: get.get(&options::WEB_TIMEOUT),
        max_content_length: get.get(&options::REST_MAX_CONTENT).0,
        max_artifact_size: get.get(&options::ARTIFACT_MAX_SIZE).0,
        ..RestOptions::default()
    }
}

fn resource_options(get: &Configuration) -> ResourceManagerOptions {
    let providers = get.get(&options::PROVIDERS).0.into_iter();
    let providers = providers.map(|name| ProviderChoice {
        min_workers: if name == "standalone" { get.get(&options::STANDALONE_MIN) } else { 0 },
        name,
    });
    ResourceManagerOptions {
        template: WorkerTemplate { slots: get.get(&options::TASK_SLOTS), ..WorkerTemplate::default() },
        providers: providers.collect(),
        max_slots: get.get(&options::MAX_SLOTS),
        redundant: get.get(&options::REDUNDANT_TASK_MANAGERS),
        idle_timeout: get.get(&options::TASK_MANAGER_TIMEOUT),
        registration_timeout: get.get(&options::REGISTRATION_TIMEOUT),
        start_failure_rate: StartFailureRate {
            failures: get.get(&options::START_FAILURE_RATE) as u32,
            interval: Duration::from_secs(60),
        },
        start_retry_interval: get.get(&options::START_RETRY_INTERVAL),
        spread: get.get(&options::LOAD_BALANCE) == LoadBalanceMode::Slots,
        ..ResourceManagerOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_that_no_heartbeat_can_meet_is_refused() {
        let check = |interval: &str, timeout: &str| {
            let mut configuration = Configuration::new();
            configuration.set_argument(&format!("heartbeat.interval={interval}")).unwrap();
            configuration.set_argument(&format!("heartbeat.timeout={timeout}")).unwrap();
            JobManagerOptions::from_configuration(&configuration).map(|_| ()).map_err(|error| error.to_string())
        };
        check("1 s", "3 s").unwrap();
        for timeout in ["1 s", "500 ms"] {
            let error = check("1 s", timeout).unwrap_err();
            assert!(error.contains("`heartbeat.timeout`") && error.contains("`heartbeat.interval`"), "{error}");
        }
    }

    #[test]
    fn the_default_folder_is_not_taken_from_somebody_who_was_there_first() {
        let tmp = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::new();
        configuration.set_argument(&format!("io.tmp.dirs={}", tmp.path().display())).unwrap();
        let made = make_cluster_dir(&configuration).unwrap();
        assert!(made.starts_with(tmp.path()) && made.ends_with("default") && made.is_dir());
        let around = made.parent().unwrap();
        std::fs::rename(around, tmp.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(tmp.path().join("elsewhere"), around).unwrap();
        let error = make_cluster_dir(&configuration).unwrap_err().to_string();
        assert!(error.contains("symbolic link") && error.contains("process.working-dir"), "{error}");
    }

    #[test]
    fn options_come_from_the_configuration() {
        let mut configuration = Configuration::new();
        for setting in [
            "cluster.id=blue",
            "process.working-dir=/var/lib/weir",
            "rest.port=0",
            "jobmanager.rpc.port=7",
            "resourcemanager.providers=standalone",
            "provider.standalone.min-workers=2",
            "taskmanager.numberOfTaskSlots=3",
            "env.log.max-size=10mb",
            "web.timeout=7 s",
            "weir.artifacts.max-total-size=1mb",
        ] {
            configuration.set_argument(setting).unwrap();
        }
        let options = JobManagerOptions::from_configuration(&configuration).unwrap();
        assert_eq!(options.working_dir, PathBuf::from("/var/lib/weir/blue/jobmanager"));
        assert_eq!(options.log_dir, PathBuf::from("/var/lib/weir/blue/jobmanager/log"));
        assert_eq!((options.rpc_port, options.rest.ports.as_slice()), (7, [0].as_slice()));
        assert_eq!(options.resources.template.slots, 3);
        assert_eq!(options.resources.providers[0], ProviderChoice { name: "standalone".to_owned(), min_workers: 2 });
        assert_eq!(options.max_output_size, 1 << 20);
        assert_eq!((options.rest.answer_timeout, options.max_artifacts_size), (Duration::from_secs(7), 1 << 20));
        assert_eq!(options.task_manager_command[1], "taskmanager");
    }
}
