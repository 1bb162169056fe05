//! What a worker's network is told, and how it refuses to start.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The secret shared by the workers of one job; who does not know it is not let in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JobToken([u8; JobToken::LEN]);

impl JobToken {
    /// Length of a token in bytes.
    pub const LEN: usize = 32;

    /// The token made of these bytes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> JobToken {
        JobToken(bytes)
    }

    /// A new token from the system's random source.
    pub fn random() -> io::Result<JobToken> {
        let mut bytes = [0; Self::LEN];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(JobToken(bytes))
    }

    /// The token's bytes, to hand it to a worker of the job.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Whether two tokens are equal, in a time that does not tell where they differ.
    pub(crate) fn matches(&self, other: &[u8; Self::LEN]) -> bool {
        self.0.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for JobToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobToken(masked)")
    }
}

/// How a worker takes part in the data plane.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// The interface to listen on. Default: loopback, which only workers on the same machine can reach.
    pub host: IpAddr,
    /// The job's secret.
    pub token: JobToken,
    /// How long [`Network::connect`](super::Network::connect) waits for all peers. Default: 30 s.
    pub connect_timeout: Duration,
    /// How long somebody who dials in may take to introduce itself. Default: 5 s.
    pub handshake_timeout: Duration,
    /// Network threads. Default: one, and one more for every 8 cores, at most 4.
    pub threads: usize,
}

impl NetworkOptions {
    /// The defaults, with this token.
    pub fn new(token: JobToken) -> NetworkOptions {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        NetworkOptions {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            token,
            connect_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(5),
            threads: (1 + cores / 8).min(4),
        }
    }
}

/// Why the data plane could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The listening socket could not be opened (external; check the address).
    #[error(
        "cannot listen on {host} for data from other workers: {source}; check that the address belongs to this machine"
    )]
    Bind {
        /// The address asked for.
        host: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The network threads could not be started (external; restart).
    #[error("cannot start the network threads: {source}")]
    Threads {
        /// What the system said.
        source: io::Error,
    },
    /// A peer could not be reached or refused (external; restart the job).
    #[error("cannot connect to worker {index} at {address}: {reason}")]
    Peer {
        /// The peer's worker index.
        index: u32,
        /// The peer's data address.
        address: SocketAddr,
        /// What went wrong and what to look at.
        reason: String,
    },
    /// The network was shut down while it was connecting (nobody's fault).
    #[error("the network of this worker was shut down")]
    ShutDown,
    /// `connect` was called with arguments that cannot be (internal).
    #[error("{0}")]
    Misuse(String),
}
