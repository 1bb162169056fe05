//! The gRPC connection to the JobManager.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use weir_model::{Artifact, LeaderEpoch};
use weir_proto::MAX_FRAME_BYTES;
use weir_proto::control::job_manager_client::JobManagerClient;
use weir_proto::control::{FetchArtifactRequest, ForTaskManager, FromTaskManager};

use crate::artifacts::{ArtifactSource, FetchError};
use crate::event_loop::{Input, Inputs};
use crate::options::Token;
use crate::state::{ConnectionKey, Event};

/// A client of the JobManager over one connection.
pub(crate) type Client = JobManagerClient<InterceptedService<Channel, ShowToken>>;

/// Adds the token to each call, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct ShowToken(Option<Token>);

impl Interceptor for ShowToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let mut value: AsciiMetadataValue = token.bearer().parse().map_err(|_| {
                Status::unauthenticated("`security.internal.token` has characters that a header cannot carry")
            })?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Heartbeats notice a JobManager that is frozen; this only ends what they do not use.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a connection that was given up may take to send what is under way.
const FAREWELL: Duration = Duration::from_secs(1);

/// An open connection.
pub(crate) struct Line {
    pub(crate) key: ConnectionKey,
    pub(crate) client: Client,
    outgoing: mpsc::UnboundedSender<FromTaskManager>,
    listener: tokio::task::JoinHandle<()>,
}

/// Opens a connection; [`Input::Dialed`] or [`Event::ConnectionLost`] follows.
pub(crate) fn dial(key: ConnectionKey, address: &str, token: Option<Token>, inputs: Inputs) {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let address = address.to_owned();
    tokio::spawn(async move {
        let opened = match endpoint {
            Ok(endpoint) => open(endpoint, token).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(client) => inputs.send(Input::Dialed(key, client)),
            Err(error) => {
                let reason = format!("no JobManager at {address}: {}", innermost(&error));
                inputs.event(Event::ConnectionLost { connection: key, reason });
            }
        }
    });
}

async fn open(endpoint: Endpoint, token: Option<Token>) -> Result<Client, tonic::transport::Error> {
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEP_ALIVE))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await?;
    Ok(JobManagerClient::with_interceptor(channel, ShowToken(token))
        .max_decoding_message_size(MAX_FRAME_BYTES)
        .max_encoding_message_size(MAX_FRAME_BYTES))
}

/// The cause that says something: transport errors wrap each other.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl Line {
    /// Opens the control stream. What arrives becomes events.
    pub(crate) fn open(key: ConnectionKey, client: Client, inputs: Inputs) -> Line {
        let (outgoing, messages) = mpsc::unbounded_channel();
        let mut caller = client.clone();
        let listener = tokio::spawn(async move {
            let reason = listen(key, &mut caller, messages, &inputs).await;
            inputs.event(Event::ConnectionLost { connection: key, reason });
        });
        Line { key, client, outgoing, listener }
    }

    /// Sends a message. Lost if the connection is, which shows otherwise.
    pub(crate) fn send(&self, message: FromTaskManager) {
        let _ = self.outgoing.send(message);
    }

    /// Closes the connection behind what was sent. Resolves when that has arrived, or a moment later.
    pub(crate) fn close(self) -> impl Future<Output = ()> + Send + 'static {
        let Line { outgoing, mut listener, client, .. } = self;
        drop((outgoing, client));
        async move {
            if tokio::time::timeout(FAREWELL, &mut listener).await.is_err() {
                listener.abort();
            }
        }
    }
}

/// Reads the control stream to its end; says why it ended.
async fn listen(
    key: ConnectionKey,
    client: &mut Client,
    messages: mpsc::UnboundedReceiver<FromTaskManager>,
    inputs: &Inputs,
) -> String {
    let mut incoming = match client.connect(UnboundedReceiverStream::new(messages)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return describe(&status),
    };
    loop {
        match incoming.message().await {
            Ok(Some(message)) => match ForTaskManager::from_message(message) {
                Ok(Some((epoch, message))) => inputs.event(Event::Received { connection: key, epoch, message }),
                // Of a newer JobManager, which can do without.
                Ok(None) => {}
                Err(error) => return format!("the JobManager sent a message that is not valid: {error}"),
            },
            Ok(None) => return "the JobManager closed the connection".to_owned(),
            Err(status) => return describe(&status),
        }
    }
}

fn describe(status: &tonic::Status) -> String {
    if status.code() == Code::Unauthenticated {
        return format!("the JobManager refused: {}", status.message());
    }
    let cause = std::error::Error::source(status).map(innermost);
    format!("the connection to the JobManager broke ({})", cause.unwrap_or_else(|| status.message().to_owned()))
}

/// Artifacts over the connection.
#[derive(Clone)]
pub(crate) struct FromJobManager {
    pub(crate) client: Client,
    /// Of the leader that named the artifact.
    pub(crate) epoch: LeaderEpoch,
}

impl ArtifactSource for FromJobManager {
    async fn fetch(
        &self,
        artifact: &Artifact,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError> {
        let request = FetchArtifactRequest { id: artifact.id.as_bytes().to_vec(), offset, epoch: self.epoch.0 };
        let artifact = artifact.clone();
        let response =
            self.client.clone().fetch_artifact(request).await.map_err(|status| fetch_error(&artifact, &status))?;
        let chunks = response.into_inner();
        Ok(chunks
            .map(move |chunk| chunk.map(|chunk| chunk.data).map_err(|status| fetch_error(&artifact, &status)))
            .boxed())
    }
}

fn fetch_error(artifact: &Artifact, status: &tonic::Status) -> FetchError {
    let name = artifact.name.clone();
    match status.code() {
        Code::NotFound => FetchError::Gone { name, id: artifact.id },
        Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Aborted | Code::Unavailable => {
            FetchError::Connection(describe(status))
        }
        _ => FetchError::Refused { name, problem: status.message().to_owned() },
    }
}
