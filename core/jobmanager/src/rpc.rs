//! The gRPC server for TaskManagers.

mod access;
mod connection;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};
use weir_model::ArtifactId;
use weir_proto::MAX_FRAME_BYTES;
use weir_proto::control::job_manager_server::{JobManager, JobManagerServer};
use weir_proto::control::{AnswerChunk, Answered, Chunk, FetchArtifactRequest, FromTaskManager, ToTaskManager};
use weir_storage::{ArtifactStream, StorageError};

use crate::shared::Shared;
use crate::{JobManagerError, JobManagerOptions};

use access::Access;

/// Bytes of a stream that may be under way; the protocol's default of 64 KiB would slow large deployments and artifacts down.
const WINDOW: u32 = 1 << 20;
/// For a peer that vanished while nothing was said; heartbeats notice one that is only frozen.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long connections may take to close, so that what was said last arrives.
const FAREWELL: Duration = Duration::from_secs(1);

/// A port on which TaskManagers can connect, but are not answered yet.
#[derive(Debug)]
pub(crate) struct RpcListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl RpcListener {
    /// # Errors
    /// Also if other machines could reach it and nobody would be asked for a token, unless that is wanted.
    pub(crate) async fn bind(options: &JobManagerOptions) -> Result<RpcListener, JobManagerError> {
        let (host, port) = (options.bind_host.as_str(), options.rpc_port);
        let failed = |error| JobManagerError::Rpc { host: host.to_owned(), port, error };
        let mut addresses: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(failed)?.collect();
        // IPv4 first, because that is what `localhost` means to most.
        addresses.sort_by_key(|address| !address.is_ipv4());
        let address = *addresses.first().ok_or_else(|| failed(io::Error::other("the name has no address")))?;
        if !address.ip().is_loopback() && options.internal_token.is_none() && !options.allow_unauthenticated {
            return Err(JobManagerError::Option(format!(
                "`jobmanager.bind-host` is {host}, which other machines can reach, and whoever reaches it could register as a TaskManager and be \
                 given artifacts and secrets of jobs: set `security.internal.token` for JobManager and TaskManagers, or \
                 `security.internal.allow-unauthenticated` to true in a network in which everybody is trusted"
            )));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => JobManagerError::RpcInUse { address },
            _ => failed(error),
        })?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(RpcListener { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers TaskManagers until the JobManager ends; then all connections are closed.
    pub(crate) async fn serve(self, shared: Arc<Shared>) {
        let stop = shared.stop.clone();
        let access = Access::new(shared.options.internal_token.clone());
        let service = JobManagerServer::new(Service { shared })
            .max_decoding_message_size(MAX_FRAME_BYTES)
            .max_encoding_message_size(MAX_FRAME_BYTES);
        let service = InterceptedService::new(service, access);
        let incoming = TcpListenerStream::new(self.listener).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        });
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.cancelled());
        let in_time = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            served = serving => {
                if let Err(error) = served {
                    tracing::error!(%error, "TaskManagers cannot be answered any more");
                }
            }
            () = in_time => {}
        }
    }
}

struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Refuses what is meant for another leader.
    fn fence(&self, epoch: u64, what: &str) -> Result<(), Status> {
        if epoch == self.shared.epoch.0 {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "the {what} is for the leader of epoch {epoch}, this one has {}",
            self.shared.epoch
        )))
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl JobManager for Service {
    type ConnectStream = Outgoing<ToTaskManager>;
    type FetchArtifactStream = Outgoing<Chunk>;

    async fn connect(
        &self,
        request: Request<Streaming<FromTaskManager>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = request.remote_addr();
        let (outgoing, messages) = unbounded_channel();
        let cut = CancellationToken::new();
        tokio::spawn(connection::serve(self.shared.clone(), request.into_inner(), outgoing, cut.clone(), peer));
        let messages = UnboundedReceiverStream::new(messages).map(Ok).take_until(cut.cancelled_owned());
        Ok(Response::new(Box::pin(messages)))
    }

    async fn fetch_artifact(
        &self,
        request: Request<FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        let request = request.into_inner();
        self.fence(request.epoch, "request")?;
        let id: [u8; 32] = request.id.as_slice().try_into().map_err(|_| {
            Status::invalid_argument(format!("the id of an artifact has 32 bytes, not {}", request.id.len()))
        })?;
        let id = ArtifactId::from_bytes(id);
        let content = self.shared.store.open_content(id, request.offset).await;
        let content = content.map_err(|error| status_of(&error))?;
        Ok(Response::new(Box::pin(stream::unfold(Some(content), next_chunk))))
    }

    async fn answer(&self, request: Request<Streaming<AnswerChunk>>) -> Result<Response<Answered>, Status> {
        let mut chunks = request.into_inner();
        let Some(first) = chunks.message().await? else { return Ok(Response::new(Answered {})) };
        self.fence(first.epoch, "answer")?;
        let Some(receiver) = self.shared.requests.take(first.request) else {
            return Err(Status::cancelled("nobody waits for this answer any more"));
        };
        let mut next = Some(first);
        while let Some(chunk) = next {
            if let Some(content) = chunk.content
                && receiver.send(content).await.is_err()
            {
                return Err(Status::cancelled("nobody waits for this answer any more"));
            }
            next = chunks.message().await?;
        }
        Ok(Response::new(Answered {}))
    }
}

/// The next part of an artifact. An error is the last.
async fn next_chunk(content: Option<ArtifactStream>) -> Option<(Result<Chunk, Status>, Option<ArtifactStream>)> {
    let mut content = content?;
    match content.next().await {
        Ok(Some(data)) => Some((Ok(Chunk { data }), Some(content))),
        Ok(None) => None,
        Err(error) => Some((Err(status_of(&error)), None)),
    }
}

fn status_of(error: &StorageError) -> Status {
    match error {
        error if error.is_not_found() => Status::not_found(error.to_string()),
        StorageError::Corrupted { .. } => {
            tracing::error!(%error, "an artifact is not handed out");
            Status::data_loss(error.to_string())
        }
        error => {
            tracing::warn!(%error, "an artifact cannot be read");
            Status::internal(error.to_string())
        }
    }
}
