//! Why a JobManager does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use weir_rest::RestError;
use weir_storage::StorageError;

/// Why a JobManager does not start. Each says which option to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobManagerError {
    /// The HTTP API cannot be served.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// Somebody else listens where TaskManagers are to connect.
    #[error(
        "cannot listen for TaskManagers on {address}: in use by another process; set `jobmanager.rpc.port` to a free port, or to 0 for any"
    )]
    RpcInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The address for TaskManagers cannot be listened on.
    #[error(
        "cannot listen for TaskManagers on {host}:{port}: {error}; see `jobmanager.bind-host` and `jobmanager.rpc.port`"
    )]
    Rpc {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// What the system said.
        error: io::Error,
    },
    /// The working folder cannot be used.
    #[error("the working folder {} cannot be used: {error}; set `process.working-dir` to a folder that can be written", path.display())]
    WorkingDir {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another JobManager uses the working folder.
    #[error(
        "the cluster {cluster_id:?} has a JobManager on this machine already, which uses {}: stop it, or give this one another `cluster.id` or \
         `process.working-dir`",
        path.display()
    )]
    AlreadyRuns {
        /// The cluster.
        cluster_id: String,
        /// The folder.
        path: PathBuf,
    },
    /// The store of artifacts cannot be opened.
    #[error("artifacts cannot be stored: {0}; see `weir.artifacts.dir`")]
    Artifacts(#[from] StorageError),
    /// A provider's plugin cannot be loaded.
    #[error("the provider {name:?} of `resourcemanager.providers` cannot be loaded: {problem}")]
    Provider {
        /// Its name.
        name: String,
        /// What is wrong, and what to do about it.
        problem: String,
    },
    /// An option has a value that cannot be.
    #[error("{0}")]
    Option(String),
    /// The system has no thread or no randomness left.
    #[error("the system refuses: {0}")]
    System(io::Error),
}
