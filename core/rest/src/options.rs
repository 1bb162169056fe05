//! What the server is told, and why it may not start.

use std::net::SocketAddr;
use std::time::Duration;

/// How the HTTP API is served.
#[derive(Clone)]
pub struct RestOptions {
    /// Host name or IP address to listen on (`rest.bind-address`).
    pub bind_address: String,
    /// Ports to try, in this order (`rest.port`); 0 takes any free one.
    pub ports: Vec<u16>,
    /// Host by which others reach the server (`rest.address`), for the addresses it tells; the address it listens on if absent.
    pub advertised_host: Option<String>,
    /// Whoever shows one of these may do everything (`security.rest.token`). Empty: nobody is asked.
    pub tokens: Vec<String>,
    /// Whether an address that other machines reach may be served without a token (`security.rest.allow-unauthenticated`).
    pub allow_unauthenticated: bool,
    /// Whether artifacts can be uploaded and run (`web.submit.enable`).
    pub submit_enabled: bool,
    /// Whether jobs can be canceled (`web.cancel.enable`).
    pub cancel_enabled: bool,
    /// Whether the parallelism of running jobs can be changed (`jobmanager.scheduler`).
    pub rescale_enabled: bool,
    /// How often the dashboard refreshes itself (`web.refresh-interval`).
    pub refresh_interval: Duration,
    /// Value of the header `Access-Control-Allow-Origin` (`web.access-control-allow-origin`).
    pub allow_origin: String,
    /// The largest body of a request in bytes, but for uploads of artifacts (`rest.server.max-content-length`).
    pub max_content_length: u64,
    /// The largest artifact in bytes (`weir.artifacts.max-size`).
    pub max_artifact_size: u64,
    /// How long the head of a request may take, and how long an idle connection is kept.
    pub header_timeout: Duration,
    /// How long a client may neither send nor take anything in the middle of a body. A body must also arrive at no less than
    /// 1 KiB a second, counted from this long after its head.
    pub body_timeout: Duration,
    /// How long the cluster may take for an answer (`web.timeout`).
    pub answer_timeout: Duration,
    /// How long answers under way may take when the server stops.
    pub shutdown_timeout: Duration,
    /// The most connections at a time; more are answered 503 and closed.
    pub max_connections: usize,
    /// Version of Weir.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// When that commit was made, for people.
    pub commit_date: String,
}

impl Default for RestOptions {
    /// Loopback, port 8081, no token.
    fn default() -> Self {
        Self {
            bind_address: "localhost".to_owned(),
            ports: vec![8081],
            advertised_host: None,
            tokens: Vec::new(),
            allow_unauthenticated: false,
            submit_enabled: true,
            cancel_enabled: true,
            rescale_enabled: false,
            refresh_interval: Duration::from_secs(3),
            allow_origin: "*".to_owned(),
            max_content_length: 100 << 20,
            max_artifact_size: 2 << 30,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(600),
            shutdown_timeout: Duration::from_secs(3),
            max_connections: 1024,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: "unknown".to_owned(),
            commit_date: "unknown".to_owned(),
        }
    }
}

impl std::fmt::Debug for RestOptions {
    /// Without the tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RestOptions({}, ports {:?}, {} tokens)", self.bind_address, self.ports, self.tokens.len())
    }
}

/// Why the HTTP API is not served.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The host to listen on is not known or is none of this machine's.
    #[error("cannot listen on {address}: {error}; set `rest.bind-address` to a name or address of this machine")]
    Address {
        /// As configured.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}:{}: in use by another process; set `rest.port` to a free port, or to 0 for any",
        ports_in_words(.ports)
    )]
    InUse {
        /// As configured.
        address: String,
        /// All that were tried.
        ports: Vec<u16>,
    },
    /// The system does not allow to listen there, for another reason.
    #[error("cannot listen on {address}: {error}; see `rest.bind-address` and `rest.port`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Other machines could reach the server, and it would ask nobody who they are.
    #[error(
        "refusing to listen on {address} without authentication, because whoever reaches it could run programs here: \
         set `security.rest.token` to a secret, or `rest.bind-address` to localhost, or, in a network you trust, \
         `security.rest.allow-unauthenticated` to true"
    )]
    Unauthenticated {
        /// Where.
        address: SocketAddr,
    },
    /// An option has a value that cannot be.
    #[error("{0}")]
    Option(String),
}

fn ports_in_words(ports: &[u16]) -> String {
    match ports {
        [port] => port.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => "(no port)".to_owned(),
    }
}
