//! The connections of registered TaskManagers, for whoever has something to send to one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use weir_metrics::Values;
use weir_model::{LeaderEpoch, TaskManagerId};
use weir_proto::control::{ForTaskManager, Timing, ToTaskManager};
use weir_resourcemanager::Event;

use crate::resource_manager::{ResourceManagerMessage, ResourceManagerSender};

/// The connection of a TaskManager.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its name.
    pub(crate) id: TaskManagerId,
    /// Its process.
    pub(crate) incarnation: u64,
    /// Unique in this process: a TaskManager may connect again.
    number: u64,
    epoch: LeaderEpoch,
    outgoing: UnboundedSender<ToTaskManager>,
    /// Cancelled when the connection is to be cut.
    pub(crate) cut: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_heartbeat: u64,
    metrics: Values,
}

impl Connection {
    pub(crate) fn new(
        id: TaskManagerId,
        incarnation: u64,
        epoch: LeaderEpoch,
        outgoing: UnboundedSender<ToTaskManager>,
        now: u64,
        cut: CancellationToken,
    ) -> Connection {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let state = Mutex::new(State { last_heartbeat: now, metrics: Values::new() });
        Connection { id, incarnation, number, epoch, outgoing, cut, state }
    }

    /// Sends a message. If the connection is gone, nothing happens: whoever reads from it tells of that.
    pub(crate) fn send(&self, message: ForTaskManager) {
        let _ = self.outgoing.send(message.into_message(self.epoch));
    }

    /// Takes note of a heartbeat.
    pub(crate) fn alive(&self, now: u64, metrics: Values) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { last_heartbeat: now, metrics };
    }

    /// When the last heartbeat came, and what it said.
    pub(crate) fn last_heartbeat(&self) -> (u64, Values) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.last_heartbeat, state.metrics.clone())
    }
}

/// All registered TaskManagers' connections. The ResourceManager is told of what comes and goes while the list is locked, so it learns of
/// it in the order in which it happened here.
#[derive(Debug)]
pub(crate) struct TaskManagers {
    connections: Mutex<BTreeMap<TaskManagerId, Arc<Connection>>>,
    resource_manager: ResourceManagerSender,
}

impl TaskManagers {
    pub(crate) fn new(resource_manager: ResourceManagerSender) -> TaskManagers {
        TaskManagers { connections: Mutex::default(), resource_manager }
    }

    /// Takes a TaskManager in, and tells it so before anybody else knows of the connection. An older connection of the same process is cut.
    ///
    /// # Errors
    /// Another process of the same name is there: one that has given a sign of life within `timing.heartbeat_timeout`. Were the newer one
    /// taken in, two processes that were given the same name would evict each other for ever. One that was started anew after its
    /// machine was cut off comes in as soon as its predecessor, which is silent, counts as lost.
    pub(crate) fn register(
        &self,
        connection: Arc<Connection>,
        info: weir_model::TaskManagerInfo,
        timing: Timing,
        now: u64,
    ) -> Result<(), String> {
        let mut connections = self.lock();
        if let Some(older) = connections.get(&connection.id) {
            let silent = Duration::from_millis(now.saturating_sub(older.last_heartbeat().0));
            let other = older.incarnation != connection.incarnation && !older.cut.is_cancelled();
            if other && silent < timing.heartbeat_timeout {
                return Err(format!(
                    "another TaskManager of the name {:?} is registered, and gave a sign of life {silent:?} ago: give each a \
                     `taskmanager.resource-id` of its own; if it is a predecessor of this one, it is taken for lost after {:?} of silence \
                     (`heartbeat.timeout`)",
                    connection.id.as_str(),
                    timing.heartbeat_timeout
                ));
            }
            tracing::info!(taskmanager_id = %older.id, "a TaskManager has connected again; its older connection is cut");
            older.cut.cancel();
        }
        connection.send(ForTaskManager::Registered(timing));
        connections.insert(connection.id.clone(), connection);
        let _ = self.resource_manager.send(ResourceManagerMessage::Event(Event::TaskManagerRegistered(info)));
        Ok(())
    }

    /// A connection has ended. The ResourceManager is told unless it knows, because there is a newer one or it wanted this.
    pub(crate) fn lost(&self, connection: &Connection, reason: &str) {
        let mut connections = self.lock();
        if connections.get(&connection.id).is_none_or(|current| current.number != connection.number) {
            return;
        }
        connections.remove(&connection.id);
        let (id, incarnation) = (connection.id.clone(), connection.incarnation);
        tracing::warn!(taskmanager_id = %id, reason, "lost a TaskManager");
        let event = Event::TaskManagerLost { id, incarnation, reason: reason.to_owned() };
        let _ = self.resource_manager.send(ResourceManagerMessage::Event(event));
    }

    /// Takes a connection out without telling anybody, because the ResourceManager wants it.
    pub(crate) fn remove(&self, id: &TaskManagerId, incarnation: u64) -> Option<Arc<Connection>> {
        let mut connections = self.lock();
        let is_it = connections.get(id).is_some_and(|connection| connection.incarnation == incarnation);
        if is_it { connections.remove(id) } else { None }
    }

    /// Whether this is the connection of its TaskManager, and not an older one.
    pub(crate) fn is_current(&self, connection: &Connection) -> bool {
        self.lock().get(&connection.id).is_some_and(|current| current.number == connection.number)
    }

    pub(crate) fn get(&self, id: &TaskManagerId) -> Option<Arc<Connection>> {
        self.lock().get(id).cloned()
    }

    /// Sends a message, unless the TaskManager is gone: the ResourceManager tells of that.
    pub(crate) fn send(&self, id: &TaskManagerId, message: ForTaskManager) {
        if let Some(connection) = self.get(id) {
            connection.send(message);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskManagerId, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
