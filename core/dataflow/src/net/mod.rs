//! The data plane between the worker processes of one job.
//!
//! All channels between two workers share one TCP connection; each channel has its own credit, so a consumer that stops
//! stops nobody but its own producer. Records arrive here encoded: this module moves bytes and never looks into them.

mod options;
mod sender;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use options::{JobToken, NetworkError, NetworkOptions};
pub use sender::RemoteChannel;

use crate::channel::{CreditReturn, RemoteInbox};

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

/// A worker process's end of the data plane. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Network {
    address: SocketAddr,
}

impl Network {
    /// Binds a port and starts the network threads.
    pub fn start(options: NetworkOptions) -> Result<Network, NetworkError> {
        Ok(Network { address: SocketAddr::new(options.host, 0) })
    }

    /// Where peers reach this worker.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects to all peers, given by worker index with the own one included, and returns once every pair is connected.
    pub fn connect(&self, _own_index: u32, _peers: &[SocketAddr]) -> Result<(), NetworkError> {
        Ok(())
    }

    /// The producer's end of channel `id` to a consumer in worker `peer`.
    pub fn sender(&self, _id: ChannelId, _peer: u32) -> RemoteChannel {
        RemoteChannel {}
    }

    /// Opens the consumer's end of channel `id`, whose producer lives in worker `peer`: from now on batches arrive in
    /// `inbox`. Hand the returned [`CreditReturn`] to the inbox before its consumer starts to read.
    pub fn receiver(
        &self,
        _id: ChannelId,
        _peer: u32,
        _inbox: Arc<dyn RemoteInbox>,
        _inbox_channel: u32,
        _credits: u32,
    ) -> Arc<dyn CreditReturn> {
        struct Nothing;
        impl CreditReturn for Nothing {
            fn return_credit(&self, _n: u32) {}
        }
        Arc::new(Nothing)
    }

    /// Writes everything queued, `End` included, and closes all connections; gives up what is left after `grace`.
    pub fn shutdown(&self, _grace: Duration) {}
}
