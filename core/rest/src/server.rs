//! The listening socket and the connections it brings.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::connection::{self, Handler};
use crate::{ClusterGateway, RestError, RestOptions};

/// Who leads the cluster now, as far as this process can speak to them. `None`: nobody, or not yet known; requests are answered 503.
pub type Leader = watch::Receiver<Option<Arc<dyn ClusterGateway>>>;

/// The HTTP server of a JobManager: listens from [`bind`](Self::bind) on, answers while [`serve`](Self::serve) runs.
#[derive(Debug)]
pub struct RestServer {
    listener: TcpListener,
    address: SocketAddr,
    options: RestOptions,
}

impl RestServer {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`RestError`] names the option to change.
    pub async fn bind(options: RestOptions) -> Result<Self, RestError> {
        check(&options)?;
        let host = resolve(&options.bind_address).await?;
        let mut in_use = false;
        for &port in &options.ports {
            let address = SocketAddr::new(host.ip(), port);
            if !address.ip().is_loopback() && options.tokens.is_empty() && !options.allow_unauthenticated {
                return Err(RestError::Unauthenticated { address });
            }
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    let address = listener.local_addr().map_err(|error| RestError::Listen { address, error })?;
                    return Ok(Self { listener, address, options });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => in_use = true,
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    return Err(RestError::Address { address: options.bind_address, error });
                }
                Err(error) => return Err(RestError::Listen { address, error }),
            }
        }
        debug_assert!(in_use);
        Err(RestError::InUse { address: options.bind_address, ports: options.ports })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` is cancelled, then lets answers under way end and returns.
    pub async fn serve(self, leader: Leader, shutdown: CancellationToken) {
        let timeout = self.options.shutdown_timeout;
        let slots = Arc::new(Semaphore::new(self.options.max_connections));
        let handler = Arc::new(Handler::new(Api::new(self.options, self.address, leader)));
        let connections = TaskTracker::new();
        tracing::info!(address = %self.address, "serving the HTTP API");
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => accept(stream, &slots, &handler, &shutdown, &connections),
                Err(error) => pause_after(&error).await,
            }
        }
        // Whoever connects now is refused at once instead of waiting for an answer.
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(timeout, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections were cut because the server stops");
            handler.cut.cancel();
            connections.wait().await;
        }
    }
}

fn accept(
    stream: TcpStream,
    slots: &Arc<Semaphore>,
    handler: &Arc<Handler>,
    shutdown: &CancellationToken,
    connections: &TaskTracker,
) {
    let Ok(slot) = slots.clone().try_acquire_owned() else {
        connection::turn_away(&stream);
        return;
    };
    let (handler, shutdown) = (handler.clone(), shutdown.clone());
    connections.spawn(async move {
        let cut = handler.cut.clone();
        cut.run_until_cancelled(connection::run(stream, handler, shutdown)).await;
        drop(slot);
    });
}

/// Running out of file descriptors must not become a busy loop.
async fn pause_after(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn check(options: &RestOptions) -> Result<(), RestError> {
    if options.ports.is_empty() {
        return Err(RestError::Option("`rest.port` names no port".to_owned()));
    }
    if options.tokens.iter().any(|token| token.is_empty()) {
        return Err(RestError::Option(
            "`security.rest.token` is empty: set it to a secret, or leave it out".to_owned(),
        ));
    }
    if axum::http::HeaderValue::from_str(&options.allow_origin).is_err() {
        let found = &options.allow_origin;
        return Err(RestError::Option(format!(
            "`web.access-control-allow-origin` is {found:?}, which a header cannot carry: expected `*` or an origin such as https://example.org"
        )));
    }
    Ok(())
}

/// IPv4 first, because that is what `localhost` means to most clients.
async fn resolve(host: &str) -> Result<SocketAddr, RestError> {
    let failed = |error| RestError::Address { address: host.to_owned(), error };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = lookup_host((bare, 0)).await.map_err(failed)?.collect::<Vec<_>>();
    addresses.sort_by_key(|address| !address.is_ipv4());
    addresses.into_iter().next().ok_or_else(|| failed(io::Error::other("the name has no address")))
}
