//! A JobManager that does what the test says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use weir_model::{ArtifactId, DeploymentId, FromTaskManager, LeaderEpoch};
use weir_proto::control::job_manager_server::{JobManager as Service, JobManagerServer};
use weir_proto::control::{
    self as proto, AnswerChunk, Answered, Chunk, FetchArtifactRequest, ForJobManager, ForTaskManager, Registration,
    Timing,
};
use weir_taskmanager::{TaskManager, TaskManagerOptions};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn timing() -> Timing {
    Timing {
        heartbeat_interval: Duration::from_millis(200),
        heartbeat_timeout: Duration::from_secs(20),
        metrics_interval: Duration::from_millis(50),
    }
}

type Outgoing = mpsc::UnboundedSender<Result<proto::ToTaskManager, Status>>;

#[derive(Default)]
pub struct Store {
    pub artifacts: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How many of the next fetches break after half of what they should give.
    pub breaks: usize,
    pub offsets: Vec<u64>,
}

struct Server {
    connections: mpsc::UnboundedSender<Connection>,
    store: Arc<Mutex<Store>>,
    answers: mpsc::UnboundedSender<Vec<AnswerChunk>>,
}

#[tonic::async_trait]
impl Service for Server {
    type ConnectStream = UnboundedReceiverStream<Result<proto::ToTaskManager, Status>>;
    type FetchArtifactStream = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::FromTaskManager>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                let (_, message) = ForJobManager::from_message(message).unwrap().unwrap();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (outgoing, stream) = mpsc::unbounded_channel();
        let connection = Connection { messages, outgoing, epoch: LeaderEpoch(1), answer_heartbeats: true };
        self.connections.send(connection).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }

    async fn fetch_artifact(
        &self,
        request: Request<FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        let FetchArtifactRequest { id, offset, epoch } = request.into_inner();
        assert_eq!(epoch, 1, "the epoch that the TaskManager is registered with");
        let mut store = self.store.lock().unwrap();
        store.offsets.push(offset);
        let content = store.artifacts.get(&id).ok_or_else(|| Status::not_found("no such artifact"))?;
        let mut rest = content[offset as usize..].to_vec();
        let mut end = Vec::new();
        if store.breaks > 0 {
            store.breaks -= 1;
            rest.truncate(rest.len() / 2);
            end.push(Err(Status::unavailable("broken by the test")));
        }
        let chunks: Vec<_> = rest.chunks(100_000).map(|chunk| Ok(Chunk { data: chunk.to_vec().into() })).collect();
        Ok(Response::new(futures_util::stream::iter(chunks.into_iter().chain(end)).boxed()))
    }

    async fn answer(&self, request: Request<Streaming<AnswerChunk>>) -> Result<Response<Answered>, Status> {
        let mut chunks = request.into_inner();
        let mut all = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            all.push(chunk);
        }
        let _ = self.answers.send(all);
        Ok(Response::new(Answered {}))
    }
}

/// The JobManager, and the TaskManager that was told to look for it.
pub struct Cluster {
    pub address: SocketAddr,
    pub store: Arc<Mutex<Store>>,
    pub folder: tempfile::TempDir,
    connections: mpsc::UnboundedReceiver<Connection>,
    answers: mpsc::UnboundedReceiver<Vec<AnswerChunk>>,
    server: tokio::task::JoinHandle<()>,
}

/// A TaskManager's control stream, seen from the JobManager.
pub struct Connection {
    messages: mpsc::UnboundedReceiver<ForJobManager>,
    outgoing: Outgoing,
    pub epoch: LeaderEpoch,
    pub answer_heartbeats: bool,
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

impl Cluster {
    pub async fn start() -> Cluster {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections_in, connections) = mpsc::unbounded_channel();
        let (answers_in, answers) = mpsc::unbounded_channel();
        let store = Arc::<Mutex<Store>>::default();
        let service = Server { connections: connections_in, store: store.clone(), answers: answers_in };
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder().add_service(JobManagerServer::new(service));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        Cluster { address, store, folder, connections, answers, server }
    }

    pub fn options(&self) -> TaskManagerOptions {
        let folder = self.folder.path();
        TaskManagerOptions {
            slots: 4,
            memory: Some(4 << 30),
            ..TaskManagerOptions::new(self.address.to_string(), folder.join("work"), folder.join("log"))
        }
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join("log").join(name)
    }

    /// The next connection, before anything was answered.
    pub async fn accept(&mut self) -> (Connection, Registration) {
        let mut connection = within("a TaskManager connects", self.connections.recv()).await.unwrap();
        let ForJobManager::Register(registration) = connection.next().await else { panic!("no registration") };
        (connection, *registration)
    }

    /// The next connection, registered with an epoch.
    pub async fn register(&mut self, epoch: u64) -> Connection {
        let (mut connection, _) = self.accept().await;
        connection.epoch = LeaderEpoch(epoch);
        connection.send(ForTaskManager::Registered(timing()));
        connection
    }

    /// A TaskManager with these options, registered.
    pub async fn with(&mut self, options: TaskManagerOptions) -> (TaskManager, Connection) {
        let task_manager = TaskManager::start(options).unwrap();
        (task_manager, self.register(1).await)
    }

    pub async fn answer(&mut self) -> Vec<AnswerChunk> {
        within("an answer arrives", self.answers.recv()).await.unwrap()
    }

    pub fn store(&self, content: &[u8]) -> weir_model::Artifact {
        use sha2::Digest;
        let id = ArtifactId::from_bytes(sha2::Sha256::digest(content).into());
        self.store.lock().unwrap().artifacts.insert(id.as_bytes().to_vec(), content.to_vec());
        weir_model::Artifact { id, size: content.len() as u64, name: "job".to_owned() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Connection {
    pub fn send(&self, message: ForTaskManager) {
        self.send_as(self.epoch, message);
    }

    pub fn send_as(&self, epoch: LeaderEpoch, message: ForTaskManager) {
        let _ = self.outgoing.send(Ok(message.into_message(epoch)));
    }

    /// What the TaskManager says next, heartbeats included.
    pub async fn next(&mut self) -> ForJobManager {
        within("the TaskManager says something", self.messages.recv()).await.expect("the connection is open")
    }

    /// What it says next that is no heartbeat.
    pub async fn next_message(&mut self) -> ForJobManager {
        loop {
            match self.next().await {
                ForJobManager::Heartbeat { .. } if self.answer_heartbeats => {
                    self.send(ForTaskManager::HeartbeatAnswer);
                }
                ForJobManager::Heartbeat { .. } => {}
                other => return other,
            }
        }
    }

    /// What it says next about a worker.
    pub async fn next_of_worker(&mut self) -> FromTaskManager {
        match self.next_message().await {
            ForJobManager::Worker(message) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a worker to be ready; its process id.
    pub async fn ready(&mut self) -> u32 {
        match self.next_of_worker().await {
            FromTaskManager::WorkerReady { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the end of a worker, whatever else is said; the reason.
    pub async fn ended(&mut self, deployment: DeploymentId) -> String {
        loop {
            match self.next_of_worker().await {
                FromTaskManager::WorkerEnded { deployment: its, reason } if its == deployment => return reason,
                _ => {}
            }
        }
    }

    /// Waits for the connection's end.
    pub async fn closed(&mut self) {
        within("the connection ends", async { while self.messages.recv().await.is_some() {} }).await;
    }
}
