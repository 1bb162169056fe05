//! The JobManager as a whole: its parts started in order, and ended in order.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_config::options;
use weir_dispatcher::{Dispatcher, Event as DispatcherEvent};
use weir_jobmaster::JobMasterEvent;
use weir_provider_api::FinalStatus;
use weir_resourcemanager::{Event as ResourceEvent, ResourceManager, ResourceManagerOptions};
use weir_rest::{ClusterGateway, RestServer};
use weir_storage::{ArtifactStore, file_system};

use crate::builders::Builders;
use crate::clock::Clock;
use crate::coordinator::{CoordinatorFolders, CoordinatorLimits, CoordinatorWatch};
use crate::dispatcher::{DispatcherLoop, DispatcherMessage};
use crate::executables::Executables;
use crate::gateway::Gateway;
use crate::jobs::Jobs;
use crate::providers::{self, LoadedProvider};
use crate::records::Records;
use crate::requests::Requests;
use crate::resource_manager::{ResourceManagerLoop, ResourceManagerMessage};
use crate::rpc::RpcListener;
use crate::shared::Shared;
use crate::task_managers::TaskManagers;
use crate::working_dir::WorkingDir;
use crate::{JobManagerError, JobManagerOptions};

/// How long canceled jobs may take to end when the cluster is shut down, unless they are making their output visible.
const JOBS_END: Duration = Duration::from_secs(5);
/// How long providers may take to stop their TaskManagers.
const PROVIDERS_CLOSE: Duration = Duration::from_secs(10);
/// How long coordinators may take to leave.
const LAST_WORK: Duration = Duration::from_secs(11);

/// A running JobManager: Dispatcher, ResourceManager and JobMasters, reached by TaskManagers over gRPC and by people over HTTP.
///
/// It runs on the runtime it was started on, which should have at least two worker threads, so that a heartbeat is answered while a large
/// job is being decided about. Dropping the handle does not end it; ending the runtime does, as a crash would: TaskManagers and their
/// providers' records are left for the next JobManager.
#[derive(Debug)]
pub struct JobManager {
    rest_address: SocketAddr,
    rpc_address: SocketAddr,
    gateway: Gateway,
    shut_down: CancellationToken,
    ended: watch::Receiver<Option<Result<(), String>>>,
}

impl JobManager {
    /// Starts a JobManager. When it returns, TaskManagers and clients are answered.
    ///
    /// # Errors
    /// Each names the option to change. Nothing is left running.
    pub async fn start(options: JobManagerOptions) -> Result<JobManager, JobManagerError> {
        let rest = RestServer::bind(options.rest.clone()).await?;
        let rpc = RpcListener::bind(&options).await?;
        let prepared = Prepared::new(options, rpc.address()).await?;
        let (rest_address, rpc_address) = (rest.address(), rpc.address());
        let shut_down = CancellationToken::new();
        let (shared, loops) = prepared.start();
        let gateway = Gateway::new(shared.clone(), shut_down.clone());
        let leader: Arc<dyn ClusterGateway> = Arc::new(gateway.clone());
        let (leadership, leader) = watch::channel(Some(leader));
        let servers = Servers {
            rest: tokio::spawn(rest.serve(leader, shared.stop.clone())),
            rpc: tokio::spawn(rpc.serve(shared.clone())),
            leadership,
        };
        tracing::info!(
            epoch = %shared.epoch, cluster = shared.options.cluster_id, rest = %rest_address, rpc = %rpc_address,
            "the JobManager is up"
        );
        let (tell, ended) = watch::channel(None);
        let stopping = shut_down.clone();
        tokio::spawn(async move {
            let result = supervise(shared, loops, servers, stopping).await;
            tell.send_replace(Some(result));
        });
        Ok(JobManager { rest_address, rpc_address, gateway, shut_down, ended })
    }

    /// Where the HTTP API is; the port is the real one.
    pub fn rest_address(&self) -> SocketAddr {
        self.rest_address
    }

    /// Where TaskManagers connect; the port is the real one.
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// The cluster as the HTTP API sees it, for whoever is in the same process.
    pub fn gateway(&self) -> Arc<dyn ClusterGateway> {
        Arc::new(self.gateway.clone())
    }

    /// Waits until it has ended, because somebody asked for it over HTTP or with [`shut_down`](Self::shut_down).
    ///
    /// # Errors
    /// A sentence, if it ended by a failure of its own.
    pub async fn wait(&self) -> Result<(), String> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ok(())),
            Err(_) => Err("the JobManager's runtime is gone".to_owned()),
        }
    }

    /// Ends it: jobs are canceled, TaskManagers that providers started are stopped. Returns when all of it is done.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub async fn shut_down(&self) -> Result<(), String> {
        self.shut_down.cancel();
        self.wait().await
    }
}

/// All that can fail at the start, done.
pub(crate) struct Prepared {
    options: JobManagerOptions,
    rpc_address: SocketAddr,
    working_dir: WorkingDir,
    clock: Clock,
    epoch: weir_model::LeaderEpoch,
    store: ArtifactStore,
    executables: Executables,
    records: Records,
    providers: Vec<(LoadedProvider, PathBuf)>,
}

/// The loops without which nothing works.
pub(crate) struct Loops {
    dispatcher: JoinHandle<()>,
    resource_manager: JoinHandle<()>,
}

#[cfg(test)]
impl Loops {
    pub(crate) fn are_finished(&self) -> bool {
        self.dispatcher.is_finished() || self.resource_manager.is_finished()
    }
}

struct Servers {
    rest: JoinHandle<()>,
    rpc: JoinHandle<()>,
    leadership: watch::Sender<Option<Arc<dyn ClusterGateway>>>,
}

impl Prepared {
    pub(crate) async fn new(options: JobManagerOptions, rpc_address: SocketAddr) -> Result<Prepared, JobManagerError> {
        let clock = Clock::new();
        let working_dir = WorkingDir::open(&options.working_dir, &options.cluster_id)?;
        let epoch = working_dir.next_epoch(clock.millis())?;
        make_folder(&options.log_dir)?;
        let artifacts = match &options.artifacts {
            Some(place) => place.clone(),
            None => working_dir.folder("artifacts")?.display().to_string(),
        };
        let (files, root) = file_system(&artifacts)?;
        let store = ArtifactStore::open(files, root).await?;
        let executables = Executables::new(working_dir.folder("executables")?, options.tmp_dir.clone(), store.clone());
        let records = Records::new(working_dir.folder("jobs")?);
        let mut with_folders = Vec::new();
        for provider in providers::load(&options).await? {
            let folder = working_dir.folder(&format!("providers/{}", provider.name()))?;
            with_folders.push((provider, folder));
        }
        let providers = with_folders;
        Ok(Prepared { options, rpc_address, working_dir, clock, epoch, store, executables, records, providers })
    }

    /// Starts the loops, tells them what was left by an earlier JobManager, and opens the providers.
    pub(crate) fn start(self) -> (Arc<Shared>, Loops) {
        let (dispatcher, dispatcher_messages) = unbounded_channel();
        let (resource_manager, resource_messages) = unbounded_channel();
        let options = &self.options;
        let coordinator_folders = CoordinatorFolders {
            log_dir: options.log_dir.clone(),
            tmp_dir: options.tmp_dir.clone(),
            max_log_size: options.max_output_size,
            max_old_logs: options.max_old_outputs,
            watch: CoordinatorWatch::new(CoordinatorLimits {
                memory: options.coordinator_memory,
                stopped: options.heartbeat_timeout,
            }),
        };
        let mut resources = ResourceManagerOptions { epoch: self.epoch.0, ..options.resources.clone() };
        resources.template.command = providers::task_manager_command(options, self.rpc_address.port());
        resources.template.environment = providers::task_manager_environment(&options.configuration);
        resources.template.resources = options.task_manager_resources.clone();
        let dispatcher_machine = Dispatcher::new(options.dispatcher.clone());
        let requests = self.providers.into_iter().map(|(provider, folder)| {
            let request = providers::open_request(options, folder);
            (provider, request)
        });
        let requests: Vec<_> = requests.collect();
        let shared = Arc::new(Shared {
            clock: self.clock,
            epoch: self.epoch,
            jobs: Jobs::default(),
            task_managers: TaskManagers::new(resource_manager.clone()),
            requests: Requests::default(),
            dispatcher: dispatcher.clone(),
            resource_manager: resource_manager.clone(),
            store: self.store,
            executables: self.executables,
            builders: Builders::new(),
            records: self.records,
            coordinator_folders: Arc::new(coordinator_folders),
            stop: CancellationToken::new(),
            last_work: TaskTracker::new(),
            _working_dir: self.working_dir,
            options: self.options,
        });
        tokio::spawn(shared.coordinator_folders.watch.clone().run(shared.stop.clone()));
        let lost = shared.records.load();
        if !lost.is_empty() {
            tracing::warn!(jobs = lost.len(), "jobs of an earlier JobManager were lost");
            let _ = dispatcher.send(DispatcherMessage::Event(DispatcherEvent::Recovered(lost)));
        }
        let dispatcher = DispatcherLoop::new(shared.clone(), dispatcher_machine, dispatcher_messages);
        let machine = ResourceManager::new(resources);
        let resource_loop = ResourceManagerLoop::new(shared.clone(), machine, resource_messages);
        let loops =
            Loops { dispatcher: tokio::spawn(dispatcher.run()), resource_manager: tokio::spawn(resource_loop.run()) };
        for (provider, request) in requests {
            tokio::spawn(providers::open(provider, request, resource_manager.clone()));
        }
        (shared, loops)
    }
}

fn make_folder(path: &std::path::Path) -> Result<(), JobManagerError> {
    // One that is there is as open as its owner wants it.
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        JobManagerError::Option(format!(
            "the log folder {} cannot be made ({error}); set `env.log.dir` to a folder that can be written",
            path.display()
        ))
    })
}

/// Waits for the wish to end, or for the failure of a part without which nothing works.
async fn supervise(
    shared: Arc<Shared>,
    mut loops: Loops,
    servers: Servers,
    shut_down: CancellationToken,
) -> Result<(), String> {
    let failed = tokio::select! {
        () = shut_down.cancelled() => None,
        result = &mut loops.dispatcher => Some(("Dispatcher", result)),
        result = &mut loops.resource_manager => Some(("ResourceManager", result)),
    };
    let result = match failed {
        None => {
            end_work(&shared).await;
            Ok(())
        }
        Some((part, result)) => {
            let problem = result.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
            tracing::error!(
                part,
                problem,
                "a part of the JobManager failed, which is a bug in Weir; the JobManager ends"
            );
            Err(format!("the JobManager's {part} failed, which is a bug in Weir ({problem}); its log says where"))
        }
    };
    servers.leadership.send_replace(None);
    shared.stop.cancel();
    // Each ends in bounded time.
    let _ = servers.rest.await;
    let _ = servers.rpc.await;
    shared.last_work.close();
    if tokio::time::timeout(LAST_WORK, shared.last_work.wait()).await.is_err() {
        tracing::warn!(tasks = shared.last_work.len(), "some work was not done in time before the end");
    }
    loops.dispatcher.abort();
    loops.resource_manager.abort();
    tracing::info!("the JobManager has ended");
    result
}

/// Waits until all jobs have ended; false if some take too long. Whoever makes output visible gets as long as tasks get to stop: an end in
/// the middle would leave a part of it.
async fn jobs_end(shared: &Shared) -> bool {
    let began = Instant::now();
    let longest = shared.options.configuration.get(&options::CANCELLATION_TIMEOUT).max(JOBS_END);
    while !shared.jobs.ids().is_empty() {
        let waited = began.elapsed();
        if waited >= longest || (waited >= JOBS_END && !shared.coordinator_folders.watch.some_commit()) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// Cancels jobs and lets go of TaskManagers.
async fn end_work(shared: &Shared) {
    let jobs = shared.jobs.ids();
    if !jobs.is_empty() {
        tracing::info!(jobs = jobs.len(), "canceling jobs before the end");
    }
    for job in jobs {
        shared.jobs.tell(job, JobMasterEvent::CancelRequested);
    }
    if !jobs_end(shared).await {
        tracing::warn!(jobs = ?shared.jobs.ids(), "jobs did not end in time; they will be reported as lost");
    }
    let shut_down = ResourceEvent::ShutDown {
        stop_workers: true,
        status: FinalStatus::Succeeded,
        message: "the cluster was shut down".to_owned(),
    };
    let _ = shared.resource_manager.send(ResourceManagerMessage::Event(shut_down));
    let (closed, wait) = oneshot::channel();
    let _ = shared.resource_manager.send(ResourceManagerMessage::WhenClosed(closed));
    if tokio::time::timeout(PROVIDERS_CLOSE, wait).await.is_err() {
        tracing::warn!("providers did not stop their TaskManagers in time");
    }
}
