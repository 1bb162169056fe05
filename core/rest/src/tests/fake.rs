//! A cluster with fixed views, and a way to ask the API about it without sockets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use weir_model::{
    Artifact, ArtifactId, ExecutionState, FailureKind, FailureView, JobEdge, JobGraph, JobId, JobStatus, JobSummary,
    JobVertex, JobView, MetricsSnapshot, OperatorId, OperatorInfo, OperatorKind, ParallelismBounds, Partitioner,
    ProviderView, ResourcesView, SlotWait, SubtaskView, TaskFailure, TaskId, TaskManagerId, TaskManagerInfo,
    TaskManagerView, TaskRates, VertexId,
};

use crate::api::{Api, Dispatch};
use crate::{
    Answer, ArtifactUpload, CarriedState, ClusterGateway, FileBody, FileInfo, GatewayError, JobCheckpoints, PlannedJob,
    ProcessRef, RestOptions, RunRequest, SavepointRequest, Stack, StoredArtifact,
};

/// The moment at which the tests take place.
pub(super) const NOW: u64 = 1_700_000_100_000;
/// When the running job was accepted.
const START: u64 = 1_700_000_000_000;

pub(super) fn job_id(byte: u8) -> JobId {
    JobId::from_bytes([byte; 16])
}

/// Running, with three vertices.
pub(super) fn running() -> JobId {
    job_id(0x0a)
}

/// Failed.
pub(super) fn failed() -> JobId {
    job_id(0x0f)
}

/// Waiting for slots.
pub(super) fn waiting() -> JobId {
    job_id(0x0c)
}

pub(super) fn vertex_id(name: &str) -> VertexId {
    VertexId::from_seed(name.as_bytes())
}

fn operator(name: &str, kind: OperatorKind) -> OperatorInfo {
    OperatorInfo { id: OperatorId::from_seed(name.as_bytes()), name: name.to_owned(), uid: None, kind }
}

fn vertex(seed: &str, operators: Vec<OperatorInfo>, parallelism: u32) -> JobVertex {
    let names = operators.iter().map(|operator| operator.name.as_str()).collect::<Vec<_>>();
    JobVertex {
        id: vertex_id(seed),
        name: names.join(" -> "),
        operators,
        parallelism,
        max_parallelism: 128,
        slot_sharing_group: "default".to_owned(),
    }
}

pub(super) fn graph() -> JobGraph {
    let edge = |source, target, partitioner| JobEdge {
        source,
        source_port: 0,
        target,
        target_input: 0,
        partitioner,
        record_type: "(Text, u64)".to_owned(),
    };
    let source = OperatorKind::Source { bounded: false };
    JobGraph {
        name: "Word Count".to_owned(),
        vertices: vec![
            vertex(
                "lines",
                vec![operator("Source: lines", source), operator("Split <words>", OperatorKind::Transform)],
                2,
            ),
            vertex("count", vec![operator("Count", OperatorKind::Transform)], 2),
            vertex("print", vec![operator("Sink: print", OperatorKind::Sink)], 1),
        ],
        edges: vec![edge(0, 1, Partitioner::Hash), edge(1, 2, Partitioner::Rebalance)],
        config: BTreeMap::new(),
    }
}

fn task(state: ExecutionState, entered: &[(ExecutionState, u64)], place: Option<&str>) -> SubtaskView {
    let mut timestamps = [None; ExecutionState::ALL.len()];
    entered.iter().for_each(|&(state, after)| timestamps[state as usize] = Some(START + after));
    SubtaskView {
        state,
        attempt: 1,
        task_manager: place.map(TaskManagerId::new),
        host: place.map_or(String::new(), |place| format!("host-{place}")),
        timestamps,
        metrics: MetricsSnapshot::default(),
        rates: TaskRates::default(),
    }
}

fn running_task(place: &str, scale: u64) -> SubtaskView {
    use ExecutionState::*;
    let entered = [(Created, 10), (Scheduled, 20), (Deploying, 120), (Initializing, 150), (Running, 200)];
    let mut task = task(Running, &entered, Some(place));
    task.metrics = MetricsSnapshot {
        records_in: 1000 * scale,
        records_out: 5000 * scale,
        bytes_in: 0,
        bytes_out: 123_456 * scale,
        busy_nanos: 60_000_000_000,
        idle_nanos: 30_000_000_000 * scale,
        backpressured_nanos: 9_500_000_000,
        input_watermark: (scale == 1).then_some(1_700_000_000_999),
        output_watermark: None,
        state_bytes: 4096 * scale,
        state_keys: 10 * scale,
        operators: Vec::new(),
    };
    task.rates = TaskRates {
        records_in: 10.5 * scale as f64,
        records_out: 52.5,
        bytes_in: 0.0,
        bytes_out: 1234.0,
        busy: 0.25,
        idle: 0.5,
        backpressured: 0.25 * scale as f64,
    };
    task
}

fn failure(kind: FailureKind, message: &str, at: u64, place: Option<(u32, &str)>) -> FailureView {
    FailureView {
        failure: TaskFailure { location: Some("src/main.rs:7:9".to_owned()), ..TaskFailure::new(kind, message) },
        task: place.map(|(vertex, _)| TaskId { vertex, subtask: 1 }),
        task_name: place.map(|_| "Count (2/2)".to_owned()),
        task_manager: place.map(|(_, id)| TaskManagerId::new(id)),
        host: place.map(|(_, id)| format!("host-{id}")),
        timestamp: START + at,
        concurrent: Vec::new(),
    }
}

fn job(id: JobId, status: JobStatus, entered: &[(JobStatus, u64)], vertices: Vec<Vec<SubtaskView>>) -> JobView {
    let mut timestamps = [None; JobStatus::ALL.len()];
    entered.iter().for_each(|&(status, after)| timestamps[status as usize] = Some(START + after));
    let mut tasks = [0; ExecutionState::ALL.len()];
    vertices.iter().flatten().for_each(|task| tasks[task.state as usize] += 1);
    let end = status.is_globally_terminal().then_some(START + 60_000);
    JobView {
        summary: JobSummary {
            id,
            name: "Word Count".to_owned(),
            status,
            start: START,
            end,
            last_modification: START + 50_000,
            tasks,
            bounded: false,
            adaptive: false,
        },
        graph: Arc::new(graph()),
        artifact: None,
        timestamps,
        configuration: BTreeMap::from([
            ("parallelism.default".to_owned(), "2".to_owned()),
            ("s3.secret-key".to_owned(), "hush".to_owned()),
        ]),
        restart_strategy: "fixed delay (1 s, 3 attempts)".to_owned(),
        restarts: 1,
        time_in_status: [0; JobStatus::ALL.len()],
        vertices,
        failures: Vec::new(),
        failures_truncated: false,
        waiting: None,
        scaling: None,
    }
}

fn running_job() -> JobView {
    use ExecutionState::*;
    let finished = [(Created, 10), (Scheduled, 20), (Deploying, 120), (Initializing, 150), (Finished, 900)];
    let vertices = vec![
        vec![running_task("tm-1", 1), running_task("tm-2", 3)],
        vec![
            running_task("tm-1", 1),
            task(Initializing, &[(Created, 10), (Deploying, 120), (Initializing, 150)], Some("tm-2")),
        ],
        vec![task(Finished, &finished, Some("tm-1"))],
    ];
    let mut job = job(
        running(),
        JobStatus::Running,
        &[(JobStatus::Initializing, 0), (JobStatus::Created, 5), (JobStatus::Running, 10)],
        vertices,
    );
    let mut newest = failure(FailureKind::Panic, "index out of bounds", 2000, Some((1, "tm-2")));
    newest.concurrent = vec![failure(FailureKind::Network, "connection reset", 2001, Some((0, "tm-1")))];
    job.failures = vec![newest, failure(FailureKind::Job, "the coordinator ended: signal 9", 1000, None)];
    job
}

fn failed_job() -> JobView {
    use ExecutionState::*;
    let canceled = || task(Canceled, &[(Created, 10), (Canceled, 50_000)], None);
    let failed_task = task(Failed, &[(Created, 10), (Deploying, 100), (Failed, 50_000)], Some("tm-2"));
    let vertices = vec![vec![canceled(), canceled()], vec![canceled(), failed_task], vec![canceled()]];
    let entered =
        [(JobStatus::Created, 5), (JobStatus::Running, 10), (JobStatus::Failing, 50_000), (JobStatus::Failed, 60_000)];
    let mut job = job(failed(), JobStatus::Failed, &entered, vertices);
    job.failures = vec![failure(FailureKind::Worker, "the worker was ended by signal 11", 50_000, Some((1, "tm-2")))];
    job
}

fn waiting_job() -> JobView {
    use ExecutionState::*;
    let scheduled = || task(Scheduled, &[(Created, 10), (Scheduled, 20)], None);
    let vertices = vec![vec![scheduled(), scheduled()], vec![scheduled(), scheduled()], vec![scheduled()]];
    let mut job = job(waiting(), JobStatus::Running, &[(JobStatus::Created, 5), (JobStatus::Running, 10)], vertices);
    job.waiting = Some(SlotWait {
        needed: 2,
        granted: 0,
        available: 0,
        pending: 1,
        reasons: vec!["standalone: at most 2 TaskManagers (`standalone.max-workers`)".to_owned()],
        never: None,
    });
    job
}

fn task_manager(id: &str, provider: Option<&str>) -> TaskManagerView {
    TaskManagerView {
        info: TaskManagerInfo {
            id: TaskManagerId::new(id),
            incarnation: 7,
            slots: 4,
            host: format!("host-{id}"),
            metrics_port: if id == "tm-1" { 9249 } else { 0 },
            pid: 1234,
            memory: 4 << 30,
            cpu_cores: 8,
            physical_memory: 16 << 30,
            version: "0.1.0".to_owned(),
        },
        last_heartbeat: NOW - 1500,
        free_slots: 2,
        allocated: vec![(running(), 2)],
        provider: provider.map(str::to_owned),
        metrics: BTreeMap::from([
            ("Status.JVM.CPU.Load".to_owned(), 0.125),
            ("Status.JVM.Memory.Heap.Used".to_owned(), if id == "tm-1" { 1e8 } else { 3e8 }),
            ("Status.JVM.Memory.Heap.Max".to_owned(), 4e9),
        ]),
    }
}

/// The made-up cluster, and what was asked of it.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) log: Mutex<Vec<String>>,
    /// Whether an upload was dropped before it was finished.
    pub(super) dropped: Arc<AtomicBool>,
    pub(super) requests: Mutex<Vec<RunRequest>>,
    /// Let operations go on that wait for it.
    pub(super) proceed: Notify,
}

impl Fake {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    pub(super) fn noted(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(async move { Ok(value) })
}

fn fail<'a, T: Send + 'a>(error: GatewayError) -> Answer<'a, T> {
    Box::pin(async move { Err(error) })
}

pub(super) fn stored(key: &str) -> StoredArtifact {
    let artifact = Artifact { id: ArtifactId::from_bytes([7; 32]), size: 11, name: "word-count".to_owned() };
    StoredArtifact { key: key.to_owned(), artifact, uploaded: START, jobs: vec!["main".to_owned(), "other".to_owned()] }
}

impl ClusterGateway for Fake {
    fn jobs(&self) -> Answer<'_, Vec<JobSummary>> {
        ready([running_job(), waiting_job(), failed_job()].map(|job| job.summary).to_vec())
    }

    fn job(&self, id: JobId) -> Answer<'_, Arc<JobView>> {
        if id == job_id(0xee) {
            panic!("a fault for the test");
        }
        let jobs = [running_job(), waiting_job(), failed_job()];
        match jobs.into_iter().find(|job| job.summary.id == id) {
            Some(job) => ready(Arc::new(job)),
            None => fail(GatewayError::NotFound(format!("no job {id}"))),
        }
    }

    fn cancel(&self, id: JobId) -> Answer<'_, ()> {
        self.note(format!("cancel {id}"));
        match id {
            id if id == failed() => fail(GatewayError::Conflict(format!("Job {id} has FAILED already"))),
            id if id == running() => ready(()),
            id => fail(GatewayError::NotFound(format!("no job {id}"))),
        }
    }

    fn rescale(&self, id: JobId, bounds: BTreeMap<VertexId, ParallelismBounds>) -> Answer<'_, ()> {
        let bounds: Vec<String> =
            bounds.iter().map(|(id, bounds)| format!("{id} {}..{}", bounds.lower, bounds.upper)).collect();
        self.note(format!("rescale {id} {}", bounds.join(" ")));
        match id {
            id if id == running() => ready(()),
            id if id == waiting() => fail(GatewayError::BadRequest("nothing is said about another vertex".to_owned())),
            id if id == failed() => fail(GatewayError::Conflict("the job is FAILED".to_owned())),
            id => fail(GatewayError::NotFound(format!("no job {id}"))),
        }
    }

    fn checkpoints(&self, id: JobId) -> Answer<'_, Option<Arc<JobCheckpoints>>> {
        match id {
            id if id == running() => ready(Some(Arc::new(super::checkpoints::views()))),
            id if id == waiting() || id == failed() => ready(None),
            id => fail(GatewayError::NotFound(format!("no job {id}"))),
        }
    }

    fn take_checkpoint(&self, id: JobId, full: bool) -> Answer<'_, u64> {
        self.note(format!("checkpoint {id} full={full}"));
        Box::pin(async move {
            self.proceed.notified().await;
            if full { Err(GatewayError::Conflict("tasks are not running".to_owned())) } else { Ok(9) }
        })
    }

    fn take_savepoint(&self, id: JobId, request: SavepointRequest) -> Answer<'_, String> {
        self.note(format!("savepoint {id} {:?} {:?}", request.directory, request.then));
        Box::pin(async move {
            self.proceed.notified().await;
            match request.directory.as_deref() {
                Some("/full") => Err(GatewayError::NoSpace("the disk is full".to_owned())),
                directory => Ok(format!("file://{}/savepoint-0a0a0a-1", directory.unwrap_or("/savepoints"))),
            }
        })
    }

    fn dispose_savepoint(&self, path: String) -> Answer<'_, ()> {
        self.note(format!("dispose {path}"));
        match path.as_str() {
            "/none" => fail(GatewayError::BadRequest("there is no _metadata in /none".to_owned())),
            _ => ready(()),
        }
    }

    fn resources(&self) -> Answer<'_, ResourcesView> {
        let provider = ProviderView {
            name: "standalone".to_owned(),
            pending: 1,
            running: 1,
            max_workers: Some(2),
            last_failure: Some("cannot start weir: no such file".to_owned()),
        };
        ready(ResourcesView {
            task_managers: 2,
            pending_task_managers: 1,
            slots_total: 8,
            slots_available: 4,
            providers: vec![provider],
        })
    }

    fn task_managers(&self) -> Answer<'_, Vec<TaskManagerView>> {
        ready(vec![task_manager("tm-1", Some("standalone")), task_manager("tm-2", None)])
    }

    fn task_manager(&self, id: TaskManagerId) -> Answer<'_, TaskManagerView> {
        match id.as_str() {
            "tm-1" => ready(task_manager("tm-1", Some("standalone"))),
            _ => fail(GatewayError::NotFound("none".to_owned())),
        }
    }

    fn artifacts(&self) -> Answer<'_, Vec<StoredArtifact>> {
        ready(vec![stored("1234_word-count")])
    }

    fn upload(&self, name: String) -> Answer<'_, Box<dyn ArtifactUpload>> {
        self.note(format!("upload {name}"));
        if name == "full" {
            return fail(GatewayError::NoSpace("the disk is full".to_owned()));
        }
        ready(Box::new(FakeUpload { bytes: Vec::new(), dropped: Some(self.dropped.clone()) }))
    }

    fn delete_artifact(&self, key: String) -> Answer<'_, ()> {
        self.note(format!("delete {key}"));
        if key == "1234_word-count" { ready(()) } else { fail(GatewayError::NotFound("none".to_owned())) }
    }

    fn plan(&self, request: RunRequest) -> Answer<'_, PlannedJob> {
        let from_state = request.replaces.is_some();
        self.requests.lock().unwrap().push(request);
        let state = from_state
            .then(|| CarriedState { restored: vec!["operator `Count`".to_owned()], ..CarriedState::default() });
        ready(PlannedJob { id: job_id(1), graph: Arc::new(graph()), state })
    }

    fn run(&self, request: RunRequest) -> Answer<'_, JobId> {
        let id = request.job_id.unwrap_or(job_id(1));
        let known = request.artifact == "1234_word-count";
        let job = request.job.clone();
        self.requests.lock().unwrap().push(request);
        match job.as_deref() {
            Some("broken") => fail(GatewayError::BadRequest("The job panicked while it was built: oh".to_owned())),
            _ if known => ready(id),
            _ => fail(GatewayError::NotFound("none".to_owned())),
        }
    }

    fn files(&self, of: ProcessRef) -> Answer<'_, Vec<FileInfo>> {
        let role = match of {
            ProcessRef::JobManager => "jobmanager",
            ProcessRef::TaskManager(id) if id.as_str() == "tm-1" => "taskmanager",
            ProcessRef::TaskManager(id) => return fail(GatewayError::NotFound(id.to_string())),
        };
        let file = |name: String, size| FileInfo { name, size, modified: NOW - 10 };
        ready(vec![file(format!("{role}.log"), 12), file("worker-0a.out".to_owned(), 3)])
    }

    fn file(&self, of: ProcessRef, name: String) -> Answer<'_, FileBody> {
        self.note(format!("file {of:?} {name}"));
        let content = stream::iter([Ok(Bytes::from_static(b"first\n")), Ok(Bytes::from_static(b"second\n"))]);
        ready(FileBody { size: Some(12), content: content.boxed() })
    }

    fn stacks(&self, _: ProcessRef) -> Answer<'_, Vec<Stack>> {
        ready(vec![Stack { name: "Count (1/2)".to_owned(), text: "RUNNING, waits for input".to_owned() }])
    }

    fn job_manager_metrics(&self) -> Answer<'_, BTreeMap<String, f64>> {
        ready(BTreeMap::from([("taskSlotsTotal".to_owned(), 8.0), ("Status.JVM.CPU.Load".to_owned(), 0.5)]))
    }

    fn prometheus(&self) -> Answer<'_, String> {
        ready("# TYPE flink_jobmanager_taskSlotsTotal gauge\nflink_jobmanager_taskSlotsTotal 8\n".to_owned())
    }

    fn configuration(&self) -> BTreeMap<String, String> {
        let pairs = [("rest.port", "8081"), ("security.rest.token", "0123456789abcdef")];
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    fn shut_down(&self) -> Answer<'_, ()> {
        self.note("shut down");
        ready(())
    }
}

struct FakeUpload {
    bytes: Vec<u8>,
    dropped: Option<Arc<AtomicBool>>,
}

impl ArtifactUpload for FakeUpload {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        self.bytes.extend_from_slice(&bytes);
        ready(())
    }

    fn finish(mut self: Box<Self>) -> Answer<'static, StoredArtifact> {
        self.dropped = None;
        match self.bytes.as_slice() {
            b"not a job" => fail(GatewayError::BadRequest("this is no job of Weir".to_owned())),
            bytes => {
                let mut artifact = stored("5678_word-count");
                artifact.artifact.size = bytes.len() as u64;
                ready(artifact)
            }
        }
    }
}

impl Drop for FakeUpload {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.store(true, Ordering::SeqCst);
        }
    }
}

pub(super) fn options() -> RestOptions {
    RestOptions { commit: "abcdef0".to_owned(), commit_date: "2026-11-23".to_owned(), ..RestOptions::default() }
}

/// The API in front of the made-up cluster.
pub(super) struct Server {
    pub(super) fake: Arc<Fake>,
    pub(super) dispatch: Dispatch,
    leader: watch::Sender<Option<Arc<dyn ClusterGateway>>>,
}

impl Server {
    pub(super) fn new(options: RestOptions) -> Self {
        let fake = Arc::new(Fake::default());
        let (leader, receiver) = watch::channel(Some(fake.clone() as Arc<dyn ClusterGateway>));
        let address = ([127, 0, 0, 1], 8081).into();
        let dispatch = Dispatch::new(Api::with_clock(options, address, receiver, || NOW));
        Self { fake, dispatch, leader }
    }

    pub(super) fn lose_leadership(&self) {
        self.leader.send_replace(None);
    }

    pub(super) async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let response = self.dispatch.answer(request).await;
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    /// The answer to a request as JSON.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:8081");
        let (status, headers, bytes) = self.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap());
        assert_eq!(kind, Some("application/json; charset=UTF-8"), "{method} {path}");
        assert_eq!(headers["access-control-allow-origin"], "*", "{method} {path}");
        (status.as_u16(), serde_json::from_slice(&bytes).unwrap())
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "").await
    }

    /// The only message of an error, after its status was checked.
    pub(super) async fn error(&self, method: &str, path: &str, body: &str, status: u16) -> String {
        let (found, json) = self.ask(method, path, body).await;
        assert_eq!(found, status, "{method} {path}: {json}");
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["errors"][0].as_str().unwrap().to_owned()
    }
}
