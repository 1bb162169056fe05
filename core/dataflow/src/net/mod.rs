//! The data plane between the worker processes of one job.
//!
//! All channels between two workers share one TCP connection; each channel has its own credit, so a consumer that stops
//! stops nobody but its own producer. Records arrive here encoded: this module moves bytes and never looks into them.

mod connection;
mod frame;
mod handshake;
mod incoming;
mod options;
mod outbox;
mod peers;
mod sender;
mod socket;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use options::{JobToken, NetworkError, NetworkOptions};
pub use sender::RemoteChannel;

use crate::channel::{CreditReturn, RemoteInbox};
use connection::lock;
use incoming::Returner;
use peers::Peers;

/// Names a channel within a job: which edge, from which producer subtask to which consumer subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    /// Position of the edge in the JobGraph's list of edges.
    pub edge: u32,
    /// Producer subtask.
    pub producer: u32,
    /// Consumer subtask.
    pub consumer: u32,
}

/// A worker process's end of the data plane. Clones are handles to the same one; when the last is dropped all
/// connections are cut.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    address: SocketAddr,
    peers: Arc<Peers>,
    /// Gone after the shutdown.
    runtime: Mutex<Option<Runtime>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network at {}", self.inner.address)
    }
}

impl Network {
    /// Binds a port and starts the network threads.
    pub fn start(options: NetworkOptions) -> Result<Network, NetworkError> {
        let threads = |source| NetworkError::Threads { source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("weir-net")
            .enable_io()
            .enable_time()
            .build()
            .map_err(threads)?;
        let host = options.host;
        let bind = |source| NetworkError::Bind { host, source };
        let listener = std::net::TcpListener::bind((host, 0)).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let peers = Peers::new(options);
        let inside = runtime.enter();
        let listener = TcpListener::from_std(listener).map_err(bind)?;
        drop(inside);
        runtime.spawn(peers.clone().accept(listener));
        Ok(Network { inner: Arc::new(Inner { address, peers, runtime: Mutex::new(Some(runtime)) }) })
    }

    /// Where peers reach this worker.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Connects to all peers, given by worker index with the own one included, and returns once every pair is connected.
    /// Every worker calls this once, at about the same time, with the same list. A [`shutdown`](Self::shutdown) meanwhile ends it
    /// with [`NetworkError::ShutDown`].
    pub fn connect(&self, own_index: u32, peers: &[SocketAddr]) -> Result<(), NetworkError> {
        self.connect_with(own_index, peers, &(0..peers.len() as u32).collect())
    }

    /// As [`connect`](Self::connect), but only with the workers `wanted`; each of them must want this one too.
    pub fn connect_with(
        &self,
        own_index: u32,
        peers: &[SocketAddr],
        wanted: &BTreeSet<u32>,
    ) -> Result<(), NetworkError> {
        let dialed = self.inner.peers.begin(own_index, peers, wanted)?;
        for index in dialed {
            let dial = self.inner.peers.clone().dial(own_index, index);
            match &*lock(&self.inner.runtime) {
                Some(runtime) => drop(runtime.spawn(dial)),
                None => return Err(NetworkError::ShutDown),
            }
        }
        self.inner.peers.wait(own_index, wanted)
    }

    /// The producer's end of channel `id` to a consumer in worker `peer`, after [`connect`](Self::connect). It may be
    /// asked for before or after the consumer's worker opened its end.
    pub fn sender(&self, id: ChannelId, peer: u32) -> RemoteChannel {
        match self.inner.peers.get(peer) {
            Ok(connection) => RemoteChannel::new(id, connection),
            Err(reason) => RemoteChannel::nowhere(id, reason),
        }
    }

    /// Opens the consumer's end of channel `id`, whose producer lives in worker `peer`: from now on up to `credits` batches
    /// arrive in channel `inbox_channel` of `inbox`. Hand the returned [`CreditReturn`] to the inbox before its consumer
    /// starts to read; what is consumed earlier is never given back.
    ///
    /// If there is no connection, the inbox hears of a lost producer.
    pub fn receiver(
        &self,
        id: ChannelId,
        peer: u32,
        inbox: Arc<dyn RemoteInbox>,
        inbox_channel: u32,
        credits: u32,
    ) -> Arc<dyn CreditReturn> {
        let opened = self.inner.peers.get(peer).and_then(|connection| {
            let incoming = connection.open_incoming(id, inbox.clone(), inbox_channel, credits)?;
            Ok(Arc::new(Returner { connection, incoming }))
        });
        match opened {
            Ok(returner) => returner,
            Err(reason) => {
                inbox.producer_lost(inbox_channel, reason);
                Arc::new(NoReturn)
            }
        }
    }

    /// Writes everything queued, `End` included, and closes all connections; gives up what is left after `grace`.
    ///
    /// Channels that are still open break. Returns when the peers have closed their sides too, which they do as soon as
    /// they have read everything.
    pub fn shutdown(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let connections = self.inner.peers.close();
        connections.iter().for_each(|connection| connection.finish_sending(deadline));
        connections.iter().for_each(|connection| connection.finish_reading(deadline));
        self.inner.cut();
    }
}

impl Inner {
    /// Ends all connections now.
    fn cut(&self) {
        for connection in self.peers.close() {
            connection.close("the network of this worker was shut down".to_owned());
        }
        if let Some(runtime) = lock(&self.runtime).take() {
            // Waiting for the threads here would not end if this is one of them.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Stands in for the credits of a channel that never opened.
struct NoReturn;

impl CreditReturn for NoReturn {
    fn return_credit(&self, _n: u32) {}
}
