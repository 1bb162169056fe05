//! One TaskManager's connection, from its registration to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use weir_jobmaster::JobMasterEvent;
use weir_model::LeaderEpoch;
use weir_proto::control::{
    ForJobManager, ForTaskManager, FromTaskManager, PROTOCOL_VERSION, Registration, Timing, ToTaskManager,
};

use crate::shared::Shared;
use crate::task_managers::Connection;

/// How long a TaskManager that has connected may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    mut messages: Streaming<FromTaskManager>,
    outgoing: UnboundedSender<ToTaskManager>,
    cut: CancellationToken,
    peer: Option<SocketAddr>,
) {
    let Some(registration) = introduction(&shared, &mut messages, &outgoing, peer).await else { return };
    let info = registration.info;
    let (id, incarnation) = (info.id.clone(), info.incarnation);
    let connection = Connection::new(id.clone(), incarnation, shared.epoch, outgoing, shared.clock.millis(), cut);
    let connection = Arc::new(connection);
    let timing = Timing {
        heartbeat_interval: shared.options.heartbeat_interval,
        heartbeat_timeout: shared.options.heartbeat_timeout,
        metrics_interval: shared.options.metrics_interval,
    };
    let (host, slots, pid) = (info.host.clone(), info.slots, info.pid);
    if let Err(reason) = shared.task_managers.register(connection.clone(), info, timing, shared.clock.millis()) {
        tracing::warn!(taskmanager_id = %id, host, pid, reason, "a TaskManager was refused");
        return connection.send(ForTaskManager::Refused { reason, retry: true });
    }
    tracing::info!(taskmanager_id = %id, host, slots, pid, "a TaskManager has registered");
    let reason = listen(&shared, &connection, &mut messages).await;
    // With the last handle of the connection its stream ends, behind what was sent.
    if shared.stop.is_cancelled() {
        // Nobody is left to be told, and nothing was lost that mattered.
        shared.task_managers.remove(&connection.id, connection.incarnation);
    } else {
        shared.task_managers.lost(&connection, &reason);
    }
}

/// Waits for the registration and judges it.
async fn introduction(
    shared: &Shared,
    messages: &mut Streaming<FromTaskManager>,
    outgoing: &UnboundedSender<ToTaskManager>,
    peer: Option<SocketAddr>,
) -> Option<Registration> {
    let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
    let first = tokio::select! {
        first = tokio::time::timeout(INTRODUCTION, messages.message()) => first,
        () = shared.stop.cancelled() => return None,
    };
    let first = match first {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None) | Err(_)) | Err(_) => {
            tracing::warn!(peer, "somebody connected as a TaskManager and did not say who it is");
            return None;
        }
    };
    let refuse = |message: ForTaskManager| {
        let _ = outgoing.send(message.into_message(shared.epoch));
    };
    let registration = match ForJobManager::from_message(first) {
        Ok(Some((_, ForJobManager::Register(registration)))) => registration,
        Ok(_) => {
            let reason = "the first message of a TaskManager must be its registration".to_owned();
            refuse(ForTaskManager::Refused { reason, retry: false });
            return None;
        }
        Err(error) => {
            refuse(ForTaskManager::Refused { reason: error.to_string(), retry: false });
            return None;
        }
    };
    match judge(shared, &registration) {
        Ok(()) => Some(*registration),
        Err(reason) => {
            tracing::warn!(taskmanager_id = %registration.info.id, peer, reason, "a TaskManager was refused");
            refuse(ForTaskManager::Refused { reason, retry: false });
            None
        }
    }
}

fn judge(shared: &Shared, registration: &Registration) -> Result<(), String> {
    let Registration { protocol_version, cluster_id, info } = registration;
    if *protocol_version != PROTOCOL_VERSION {
        return Err(format!(
            "the TaskManager (Weir {}) speaks version {protocol_version} of the control protocol, the JobManager (Weir {}) version {PROTOCOL_VERSION}: \
             use the same version of Weir for both",
            info.version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let own = &shared.options.cluster_id;
    if !cluster_id.is_empty() && cluster_id != own {
        return Err(format!(
            "the TaskManager belongs to the cluster {cluster_id:?}, this JobManager to {own:?}: check `cluster.id` and \
             `jobmanager.rpc.address` of the TaskManager"
        ));
    }
    let id = info.id.as_str();
    if id.is_empty()
        || id.len() > 256
        || id.chars().any(|char| char.is_whitespace() || char.is_control() || char == '/')
    {
        return Err(format!("{id:?} cannot be the name of a TaskManager: see `taskmanager.resource-id`"));
    }
    if info.slots == 0 {
        return Err("the TaskManager offers no slots: see `taskmanager.numberOfTaskSlots`".to_owned());
    }
    Ok(())
}

/// Passes on what the TaskManager says until the connection ends; says why it did.
async fn listen(shared: &Shared, connection: &Connection, messages: &mut Streaming<FromTaskManager>) -> String {
    let timeout = shared.options.heartbeat_timeout;
    loop {
        let message = tokio::select! {
            biased;
            () = connection.cut.cancelled() => return "the JobManager has cut the connection".to_owned(),
            () = shared.stop.cancelled() => return "the JobManager ends".to_owned(),
            message = tokio::time::timeout(timeout, messages.message()) => message,
        };
        let message = match message {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return "it closed the connection".to_owned(),
            Ok(Err(status)) => return format!("its connection broke ({})", cause(&status)),
            Err(_) => {
                connection.cut.cancel();
                return format!(
                    "it gave no sign of life for {timeout:?} (`heartbeat.timeout`): the process or its machine is frozen, or the network is"
                );
            }
        };
        match ForJobManager::from_message(message) {
            Ok(Some((epoch, message))) => {
                if let Err(reason) = on_message(shared, connection, epoch, message) {
                    return reason;
                }
            }
            // Of a newer TaskManager, which can do without.
            Ok(None) => {}
            Err(error) => return format!("it sent a message that is not valid: {error}"),
        }
    }
}

/// An error ends the connection.
fn on_message(
    shared: &Shared,
    connection: &Connection,
    epoch: LeaderEpoch,
    message: ForJobManager,
) -> Result<(), String> {
    if let ForJobManager::Fenced { current } = message {
        tracing::error!(%current, epoch = %shared.epoch, "a TaskManager knows a later leader than this one");
        return Err(format!(
            "it is registered with the leader of epoch {current}, this one has epoch {}",
            shared.epoch
        ));
    }
    if epoch != shared.epoch {
        connection.send(ForTaskManager::Fenced { current: shared.epoch });
        return Err(format!("it sent a message for the leader of epoch {epoch}, this one has epoch {}", shared.epoch));
    }
    match message {
        ForJobManager::Heartbeat { metrics } => {
            connection.alive(shared.clock.millis(), metrics);
            connection.send(ForTaskManager::HeartbeatAnswer);
        }
        ForJobManager::Worker(message) => on_worker(shared, connection, message),
        ForJobManager::Leaving { reason } => return Err(format!("it has left: {reason}")),
        ForJobManager::Register(_) => return Err("it registered twice on one connection".to_owned()),
        ForJobManager::Fenced { .. } => {}
    }
    Ok(())
}

fn on_worker(shared: &Shared, connection: &Connection, message: weir_model::FromTaskManager) {
    // Behind a newer connection of the same TaskManager nothing is to be believed any more.
    if !shared.task_managers.is_current(connection) {
        return;
    }
    let deployment = message.deployment();
    let event = JobMasterEvent::TaskManager { id: connection.id.clone(), message };
    if !shared.jobs.tell(deployment.job, event) {
        // Normal at the end of a job; otherwise the worker is nobody's.
        tracing::debug!(taskmanager_id = %connection.id, %deployment, "a worker reports for a job that does not run");
    }
}

fn cause(status: &Status) -> String {
    let mut innermost: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(source) = innermost.and_then(|error| error.source()) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| status.message().to_owned(), |error| error.to_string())
}
