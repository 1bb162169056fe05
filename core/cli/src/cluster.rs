//! The processes of a cluster, and a whole cluster inside this process.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use serde_json::json;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use weir_config::{AnyOption, ConfigValue, Configuration, Origin, options};
use weir_jobmanager::{JobManager, JobManagerOptions, cluster_dir, make_cluster_dir};
use weir_logging::{LogFilter, LogOptions, Stderr};
use weir_taskmanager::{TaskManager, TaskManagerOptions, Token, random_id};

use crate::arguments::{LocalArgs, OutputFormat, ProcessArgs};
use crate::client::Client;
use crate::failure::{self, usage};
use crate::text;

/// `weir jobmanager`.
pub(crate) async fn job_manager(arguments: &ProcessArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let options = JobManagerOptions::from_configuration(configuration)?;
    log(configuration, options.log_dir.clone(), "jobmanager", &std::process::id().to_string(), Stderr::Warnings)?;
    let mut signals = Signals::new()?;
    let job_manager = JobManager::start(with_commit(options)).await?;
    let cluster = configuration.get(&options::CLUSTER_ID);
    let (rest, rpc) = (job_manager.rest_address(), job_manager.rpc_address());
    text::print(&match arguments.output {
        OutputFormat::Json => {
            format!("{}\n", json!({ "cluster": cluster, "rest": format!("http://{rest}"), "rpc": rpc.to_string() }))
        }
        OutputFormat::Text => format!(
            "JobManager of cluster {cluster}: HTTP API and dashboard at http://{rest}, TaskManagers connect to {rpc}\n"
        ),
    })?;
    let ended = tokio::select! {
        ended = job_manager.wait() => ended,
        name = signals.next() => {
            tracing::info!(signal = name, "asked to end");
            job_manager.shut_down().await
        }
    };
    ended.map(|()| failure::OK).map_err(|failure| anyhow!("the JobManager failed: {failure}"))
}

/// Says from which commit this program was built.
fn with_commit(mut options: JobManagerOptions) -> JobManagerOptions {
    options.rest.commit = env!("WEIR_BUILD_COMMIT").to_owned();
    options.rest.commit_date = env!("WEIR_BUILD_COMMIT_DATE").to_owned();
    options
}

/// `weir taskmanager`.
pub(crate) async fn task_manager(arguments: &ProcessArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let mut options = task_manager_options(configuration)?;
    options.owns_process = true;
    let id = options.id.clone().unwrap_or_default();
    log(configuration, options.log_dir.clone(), "taskmanager", &id, Stderr::Warnings)?;
    if let Some(others) = options.log_dir.parent() {
        weir_logging::remove_ended_folders(others, kept_logs(configuration));
    }
    let mut signals = Signals::new()?;
    let task_manager = TaskManager::start(options)?;
    text::print(&match arguments.output {
        OutputFormat::Json => format!("{}\n", json!({ "id": task_manager.id().as_str() })),
        OutputFormat::Text => format!("TaskManager {} looks for the JobManager\n", task_manager.id()),
    })?;
    let asked = async move { format!("it got {}", signals.next().await) };
    task_manager.run_until(asked).await?;
    Ok(failure::OK)
}

/// `weir local`.
pub(crate) async fn local(arguments: &LocalArgs, mut configuration: Configuration) -> anyhow::Result<u8> {
    let slots = options::TASK_SLOTS.key();
    if let Some(number) = &arguments.slots {
        configuration.set_argument(&format!("{slots}={number}")).map_err(|error| usage(format!("--slots: {error}")))?;
    } else if configuration.origin(&options::TASK_SLOTS) == Origin::Default {
        configuration.set_argument(&format!("{slots}={}", cores()))?;
    }
    let mut signals = Signals::new()?;
    let mut cluster = Embedded::that_stays(&configuration).await?;
    let slots = configuration.get(&options::TASK_SLOTS);
    cluster.start_task_managers(arguments.taskmanagers, slots)?;
    let (id, base, count) = (configuration.get(&options::CLUSTER_ID), cluster.base(), arguments.taskmanagers);
    text::print(&match arguments.output {
        OutputFormat::Json => {
            format!("{}\n", json!({ "cluster": id, "rest": base, "taskmanagers": count, "slots": slots }))
        }
        OutputFormat::Text => format!(
            "cluster {id}: HTTP API and dashboard at {base}, {count} TaskManager{} of {slots} slots; Ctrl-C ends it\n",
            if count == 1 { "" } else { "s" },
        ),
    })?;
    tokio::select! {
        () = cluster.ended() => {}
        name = signals.next() => tracing::info!(signal = name, "asked to end"),
    }
    cluster.shut_down().await;
    Ok(failure::OK)
}

/// Number of cores of this machine, or of what of it this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A JobManager and TaskManagers in this process. Dropping it ends them, and the processes of their jobs.
pub(crate) struct Embedded {
    configuration: Configuration,
    job_manager: JobManager,
    task_managers: Vec<TaskManager>,
    /// What nobody needs later; last, so that it goes when nothing uses it any more.
    folder: Option<TempDir>,
}

impl Embedded {
    /// A cluster for one job, which leaves nothing behind. If somebody has the usual port, it takes another one.
    pub(crate) async fn for_one_job(configuration: &Configuration) -> anyhow::Result<Embedded> {
        let folder =
            TempDir::with_prefix("weir-run-").context("no folder for temporary files; TMPDIR names another place")?;
        let mut own = Configuration::new();
        // What the configuration says about the cluster is meant for another one: this one is only this job's.
        for (key, value) in configuration.of_jobs() {
            own.set(key, value, Origin::CommandLine)?;
        }
        for option in [
            &options::REST_PORT as &dyn AnyOption,
            &options::PROCESS_MEMORY,
            &options::LOG_LEVEL,
            &options::FAILOVER_STRATEGY,
        ] {
            if let Some((_, value, _)) = configuration.iter().find(|(key, ..)| *key == option.key()) {
                own.set(option.key(), value, Origin::CommandLine)?;
            }
        }
        own.set(options::WORKING_DIR.key(), &folder.path().display().to_string(), Origin::CommandLine)?;
        own.set(options::JOBMANAGER_PORT.key(), "0", Origin::CommandLine)?;
        let mut options = JobManagerOptions::from_configuration(&own)?;
        if own.origin(&options::REST_PORT) == Origin::Default {
            options.rest.ports.push(0);
        }
        log(&own, options.log_dir.clone(), "local", &std::process::id().to_string(), Stderr::Nothing)?;
        Embedded::start(own, options, Some(folder)).await
    }

    /// A cluster that goes on until it is ended. It keeps its folder.
    async fn that_stays(configuration: &Configuration) -> anyhow::Result<Embedded> {
        let options = JobManagerOptions::from_configuration(configuration)?;
        log(configuration, options.log_dir.clone(), "local", &std::process::id().to_string(), Stderr::Warnings)?;
        Embedded::start(configuration.clone(), options, None).await
    }

    async fn start(
        configuration: Configuration,
        options: JobManagerOptions,
        folder: Option<TempDir>,
    ) -> anyhow::Result<Embedded> {
        let job_manager = JobManager::start(with_commit(options)).await?;
        Ok(Embedded { configuration, job_manager, task_managers: Vec::new(), folder })
    }

    /// Starts TaskManagers with this many slots each.
    pub(crate) fn start_task_managers(&mut self, count: u32, slots: u32) -> anyhow::Result<()> {
        for number in 1..=count {
            let mut options = task_manager_options(&self.configuration)?;
            options.job_manager = self.job_manager.rpc_address().to_string();
            options.slots = slots;
            options.id = Some(match count {
                1 => format!("local-{}", std::process::id()),
                _ => format!("local-{}-{number}", std::process::id()),
            });
            let log_dir = JobManagerOptions::from_configuration(&self.configuration)?.log_dir;
            options.log_dir = match (count, &options.id) {
                // The only one shows the process's own log and those of the jobs in one place.
                (1, _) | (_, None) => log_dir,
                (_, Some(id)) => log_dir.join(log_folder(id)),
            };
            options.echo_output = self.folder.is_some();
            self.task_managers.push(TaskManager::start(options)?);
        }
        Ok(())
    }

    /// `http://host:port` of the HTTP API.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.job_manager.rest_address())
    }

    /// A client of the HTTP API.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::new(Some(&self.base()), &self.configuration)
    }

    /// Resolves when somebody has ended it over the HTTP API.
    async fn ended(&self) {
        // How it ended is said by its log; here it only matters that it did.
        let _ = self.job_manager.wait().await;
    }

    /// Ends it: jobs, TaskManagers, JobManager.
    pub(crate) async fn shut_down(self) {
        let Embedded { job_manager, task_managers, folder, .. } = self;
        if let Err(failure) = job_manager.shut_down().await {
            tracing::error!(failure, "the JobManager failed");
        }
        // Dropping one waits until it has ended.
        let ended = tokio::task::spawn_blocking(move || {
            task_managers.iter().for_each(|task_manager| task_manager.stop("the cluster ends"));
            drop(task_managers);
            drop(folder);
        });
        let _ = ended.await;
    }
}

/// What the configuration says about a TaskManager.
fn task_manager_options(configuration: &Configuration) -> anyhow::Result<TaskManagerOptions> {
    let get = configuration;
    let host = get.get(&options::JOBMANAGER_ADDRESS);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let job_manager = format!("{host}:{}", get.get(&options::JOBMANAGER_PORT));
    let folder = cluster_dir(configuration).join("taskmanager");
    let host = get.get(&options::TASK_MANAGER_HOST);
    let id = match get.get(&options::RESOURCE_ID) {
        Some(id) => id,
        None => random_id(&host).context("there is no randomness for the name of the TaskManager")?,
    };
    let log_dir = get.get(&options::LOG_DIR).map_or_else(|| folder.join("log"), PathBuf::from).join(log_folder(&id));
    let log_size = get.get(&options::LOG_SIZE).0;
    Ok(TaskManagerOptions {
        internal_token: get.get(&options::INTERNAL_TOKEN).map(|token| Token::new(token.reveal())),
        rest_token: get.get(&options::REST_TOKEN).map(|token| Token::new(token.reveal())),
        tmp_dir: get.get(&options::TMP_DIR).map(PathBuf::from),
        id: Some(id),
        cluster_id: get.get(&options::CLUSTER_ID),
        slots: get.get(&options::TASK_SLOTS),
        host: Some(host),
        bind_host: Some(bind_host(&get.get(&options::TASK_MANAGER_BIND_HOST))?),
        memory: get.get(&options::PROCESS_MEMORY).map(|size| size.0),
        artifact_cache_size: get.get(&options::ARTIFACT_CACHE).0,
        worker_log_size: log_size / 10,
        worker_log_backups: get.get(&options::LOG_FILES).min(1),
        metrics_port: u16::try_from(get.get(&options::METRICS_PORT)).ok(),
        local_state_dirs: get
            .get(&options::LOCAL_STATE_DIRS)
            .into_iter()
            .flat_map(|dirs| dirs.0)
            .map(PathBuf::from)
            .collect(),
        registration_initial_timeout: get.get(&options::REGISTRATION_INITIAL),
        registration_max_timeout: get.get(&options::REGISTRATION_MAX),
        registration_timeout: Some(get.get(&options::TASK_MANAGER_REGISTRATION_TIMEOUT)),
        ..TaskManagerOptions::new(job_manager, folder, log_dir)
    })
}

/// The folder in which a TaskManager logs. Each has one, because TaskManagers of a host may be configured alike, and the files of a
/// TaskManager are what others are shown of it.
fn log_folder(id: &str) -> String {
    match id {
        "." | ".." => format!("_{id}"),
        _ => id.replace('/', "_"),
    }
}

/// How many processes of a role have log files, those that have ended included: as many as a log file has older parts.
fn kept_logs(configuration: &Configuration) -> usize {
    configuration.get(&options::LOG_FILES).max(1) as usize
}

fn bind_host(text: &str) -> anyhow::Result<IpAddr> {
    match text {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        _ => text.parse().map_err(|_| {
            usage(format!(
                "{} is {text:?}: expected an IP address of this machine, 0.0.0.0 for all, or localhost",
                options::TASK_MANAGER_BIND_HOST.key()
            ))
        }),
    }
}

/// Begins to log, for the whole process.
fn log(configuration: &Configuration, dir: PathBuf, role: &str, id: &str, stderr: Stderr) -> anyhow::Result<()> {
    // Before the first file in it.
    make_cluster_dir(configuration)?;
    let level = configuration.get(&options::LOG_LEVEL).render();
    let mut log = LogOptions::new(dir, role, id);
    log.max_size = configuration.get(&options::LOG_SIZE).0;
    log.max_old_files = configuration.get(&options::LOG_FILES);
    log.filter = LogFilter::from_env_or(&level).map_err(|error| usage(error.to_string()))?;
    log.stderr = stderr;
    let folder = log.dir.clone();
    weir_logging::init(log).map_err(|error| anyhow!("{error}"))?;
    // Behind the start of this process's own, which is among them.
    weir_logging::remove_ended(&folder, role, kept_logs(configuration));
    Ok(())
}

/// Ctrl-C and its like.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on, these signals do not end the process by themselves.
    pub(crate) fn new() -> anyhow::Result<Signals> {
        let watch = |kind| signal(kind).context("signals cannot be watched");
        Ok(Signals { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
