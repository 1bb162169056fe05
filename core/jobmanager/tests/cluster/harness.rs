//! A JobManager in a folder of its own, and TaskManagers that are none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use weir_config::Configuration;
use weir_jobmanager::{JobManager, JobManagerOptions};
use weir_model::{
    DeploymentId, ExecutionState, FromTaskManager, JobId, JobStatus, JobView, LeaderEpoch, Placement, TaskChange,
    TaskId, TaskManagerId, TaskManagerInfo,
};
use weir_proto::control::job_manager_client::JobManagerClient;
use weir_proto::control::{self, ForJobManager, ForTaskManager, PROTOCOL_VERSION, Registration};
use weir_rest::{ClusterGateway, GatewayError, RunRequest, StoredArtifact};

/// How long anything may take on a machine that does other things as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) job_manager: JobManager,
    pub(crate) gateway: Arc<dyn ClusterGateway>,
    pub(crate) folder: Arc<tempfile::TempDir>,
}

/// Options of a JobManager on free ports, with everything it writes in `folder`.
pub(crate) fn options(folder: &Path, settings: &[&str]) -> JobManagerOptions {
    let mut configuration = Configuration::new();
    let work = format!("process.working-dir={}", folder.join("work").display());
    for setting in ["rest.port=0", "jobmanager.rpc.port=0", &work].iter().chain(settings) {
        configuration.set_argument(setting).unwrap();
    }
    JobManagerOptions::from_configuration(&configuration).unwrap()
}

impl Cluster {
    pub(crate) async fn start(settings: &[&str]) -> Cluster {
        Cluster::start_in(Arc::new(tempfile::tempdir().unwrap()), settings).await
    }

    pub(crate) async fn start_in(folder: Arc<tempfile::TempDir>, settings: &[&str]) -> Cluster {
        Cluster::start_with(folder.clone(), options(folder.path(), settings)).await
    }

    pub(crate) async fn start_with(folder: Arc<tempfile::TempDir>, options: JobManagerOptions) -> Cluster {
        let job_manager = JobManager::start(options).await.unwrap();
        let gateway = job_manager.gateway();
        Cluster { job_manager, gateway, folder }
    }

    /// The leader's.
    pub(crate) async fn epoch(&self) -> u64 {
        let text = tokio::fs::read_to_string(self.path("work/default/jobmanager/epoch")).await.unwrap();
        text.trim().parse().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn upload_bytes(&self, name: &str, content: &[u8]) -> Result<StoredArtifact, GatewayError> {
        let mut upload = self.gateway.upload(name.to_owned()).await?;
        for part in content.chunks(1 << 20) {
            upload.write(Bytes::copy_from_slice(part)).await?;
        }
        upload.finish().await
    }

    pub(crate) async fn upload(&self) -> StoredArtifact {
        self.upload_bytes("jobs", &std::fs::read(executable()).unwrap()).await.unwrap()
    }

    /// Runs a job of the test's executable.
    pub(crate) async fn run(&self, key: &str, job: &str, arguments: &[&str]) -> Result<JobId, GatewayError> {
        self.gateway.run(request(key, job, arguments)).await
    }

    /// Waits until what is shown of a job is so.
    pub(crate) async fn job_until(&self, id: JobId, what: &str, holds: impl Fn(&JobView) -> bool) -> Arc<JobView> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.gateway.job(id).await.unwrap();
            if holds(&view) {
                return view;
            }
            assert!(Instant::now() < deadline, "the job never {what}: {view:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn ended(&self, id: JobId) -> Arc<JobView> {
        self.job_until(id, "ended", |view| view.summary.status.is_terminal()).await
    }

    pub(crate) async fn running(&self, id: JobId) -> Arc<JobView> {
        let all_run = |view: &JobView| {
            view.summary.status == JobStatus::Running
                && view.vertices.iter().flatten().all(|subtask| subtask.state == ExecutionState::Running)
        };
        self.job_until(id, "ran", all_run).await
    }

    pub(crate) async fn until_task_managers(&self, count: u32) {
        let gateway = &self.gateway;
        until("there are so many TaskManagers", || async { gateway.resources().await.unwrap().task_managers == count })
            .await;
    }

    pub(crate) async fn client(&self) -> JobManagerClient<Channel> {
        client_of(self.job_manager.rpc_address()).await
    }
}

async fn client_of(address: SocketAddr) -> JobManagerClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    JobManagerClient::new(endpoint.connect().await.unwrap())
}

pub(crate) fn request(key: &str, job: &str, arguments: &[&str]) -> RunRequest {
    RunRequest {
        artifact: key.to_owned(),
        job: Some(job.to_owned()),
        arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
        ..RunRequest::default()
    }
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The executable with the jobs of `fixtures/jobs.rs`: cargo builds examples beside the tests.
pub(crate) fn executable() -> PathBuf {
    example("jobmanager-jobs")
}

pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: cargo test builds it", path.display());
    path
}

/// The processes that run an executable whose path begins with `folder`.
pub(crate) fn processes_from(folder: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_from = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(folder));
    pids.filter(is_from).collect()
}

/// Those of them that play a role of a job, without the guardians beside them.
pub(crate) fn roles_from(folder: &Path) -> Vec<u32> {
    let is_guardian = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "weir-guardian")
    };
    processes_from(folder).into_iter().filter(|pid| !is_guardian(pid)).collect()
}

/// Speaks to a JobManager as a TaskManager does, and does what the test says.
pub(crate) struct FakeTaskManager {
    pub(crate) outgoing: mpsc::UnboundedSender<control::FromTaskManager>,
    incoming: Streaming<control::ToTaskManager>,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) client: JobManagerClient<Channel>,
}

pub(crate) fn registration(id: &str, slots: u32) -> Registration {
    Registration {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: String::new(),
        info: TaskManagerInfo {
            id: TaskManagerId::new(id),
            incarnation: 1,
            slots,
            host: "127.0.0.1".to_owned(),
            metrics_port: 0,
            pid: 1,
            memory: 1 << 30,
            cpu_cores: 1,
            physical_memory: 1 << 30,
            version: "test".to_owned(),
        },
    }
}

impl FakeTaskManager {
    /// Connects and says `registration`; what the JobManager answers is still to be received.
    pub(crate) async fn introduce(cluster: &Cluster, registration: Registration) -> FakeTaskManager {
        FakeTaskManager::introduce_to(cluster.job_manager.rpc_address(), registration).await
    }

    pub(crate) async fn introduce_to(address: SocketAddr, registration: Registration) -> FakeTaskManager {
        let mut client = client_of(address).await;
        let (outgoing, messages) = mpsc::unbounded_channel();
        let register = ForJobManager::Register(Box::new(registration));
        outgoing.send(register.into_message(LeaderEpoch(0))).unwrap();
        let incoming = client.connect(UnboundedReceiverStream::new(messages)).await.unwrap().into_inner();
        FakeTaskManager { outgoing, incoming, epoch: LeaderEpoch(0), client }
    }

    /// Connects and is taken in.
    pub(crate) async fn register(cluster: &Cluster, id: &str, slots: u32) -> FakeTaskManager {
        let mut fake = FakeTaskManager::introduce(cluster, registration(id, slots)).await;
        let answer = fake.receive().await;
        assert!(matches!(answer, Some(ForTaskManager::Registered(_))), "{answer:?}");
        fake
    }

    /// The next message; `None` when the JobManager has closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<ForTaskManager> {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message()).await.expect("no message");
        let (epoch, message) = ForTaskManager::from_message(message.ok()??).unwrap().unwrap();
        self.epoch = epoch;
        Some(message)
    }

    pub(crate) fn send(&self, message: ForJobManager) {
        let _ = self.outgoing.send(message.into_message(self.epoch));
    }

    pub(crate) fn report(&self, message: FromTaskManager) {
        self.send(ForJobManager::Worker(message));
    }

    pub(crate) fn task_is(&self, deployment: DeploymentId, task: TaskId, state: ExecutionState) {
        let change = TaskChange { task, state, failure: None, committables: Vec::new() };
        self.report(FromTaskManager::TasksChanged { deployment, changes: vec![change] });
    }

    /// Starts the worker it is told to start, deploys, and lets all tasks run.
    pub(crate) async fn run_worker(&mut self) -> (DeploymentId, Vec<TaskId>) {
        let Some(ForTaskManager::StartWorker(start)) = self.receive().await else { panic!("no worker to be started") };
        let deployment = start.deployment;
        let data_address = "127.0.0.1:1".parse().unwrap();
        self.report(FromTaskManager::WorkerReady { deployment, data_address, pid: 1 });
        let Some(ForTaskManager::Deploy { worker, plan, .. }) = self.receive().await else { panic!("no deployment") };
        let tasks = tasks_of(&plan, worker);
        for task in &tasks {
            self.task_is(deployment, *task, ExecutionState::Initializing);
            self.task_is(deployment, *task, ExecutionState::Running);
        }
        (deployment, tasks)
    }
}

/// The tasks of a worker in an encoded plan.
pub(crate) fn tasks_of(plan: &Bytes, worker: u32) -> Vec<TaskId> {
    let plan: weir_proto::worker::Deploy = prost::Message::decode(plan.as_ref()).unwrap();
    let mut by_vertex: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for placement in plan.placements {
        let runs = placement.run_lengths.iter().zip(&placement.run_workers);
        let workers = runs.flat_map(|(length, worker)| std::iter::repeat_n(*worker, *length as usize));
        by_vertex.insert(placement.vertex, workers.collect());
    }
    let placement = Placement::new(plan.peers.len() as u32, by_vertex.into_values().collect());
    placement.tasks_of(worker).collect()
}
