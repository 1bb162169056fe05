//! The connection to the JobManager: dialing, registering, heartbeats, fencing.

use std::time::Duration;

use weir_model::LeaderEpoch;
use weir_proto::control::{ForJobManager, ForTaskManager, Timing};

use super::{ConnectionKey, Effect, Ending, TaskManagerState, WorkerMessage};

/// How far the connection is.
#[derive(Debug)]
pub(super) enum Connection {
    /// There is none, and none is wanted: before the start, and after the end.
    None,
    /// The last attempt failed; the next comes at this time.
    Waiting { until: Duration },
    /// A call is under way.
    Dialing { key: ConnectionKey, deadline: Duration },
    /// The registration was sent.
    Registering { key: ConnectionKey, deadline: Duration },
    /// The JobManager accepted.
    Registered(Registered),
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) key: ConnectionKey,
    pub(super) epoch: LeaderEpoch,
    pub(super) timing: Timing,
    /// When the JobManager last gave a sign of life.
    pub(super) heard: Duration,
    pub(super) next_heartbeat: Duration,
    pub(super) next_metrics: Duration,
}

impl Connection {
    pub(super) fn key(&self) -> Option<ConnectionKey> {
        match self {
            Connection::Dialing { key, .. } | Connection::Registering { key, .. } => Some(*key),
            Connection::Registered(registered) => Some(registered.key),
            Connection::None | Connection::Waiting { .. } => None,
        }
    }

    /// When time will have something to do. `metrics`: whether there are some to report.
    pub(super) fn deadline(&self, metrics: bool) -> Option<Duration> {
        match self {
            Connection::None => None,
            Connection::Waiting { until } => Some(*until),
            Connection::Dialing { deadline, .. } | Connection::Registering { deadline, .. } => Some(*deadline),
            Connection::Registered(r) => {
                let silent = r.heard + r.timing.heartbeat_timeout;
                let next = r.next_heartbeat.min(silent);
                Some(if metrics { next.min(r.next_metrics) } else { next })
            }
        }
    }
}

/// How long a call, or the answer to a registration, may take at least: a loaded machine must not look like a dead one.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

impl TaskManagerState {
    pub(super) fn on_started(&mut self, now: Duration) {
        self.last_registered = now;
        self.dial(now);
    }

    fn dial(&mut self, now: Duration) {
        self.connections += 1;
        let key = ConnectionKey(self.connections);
        self.connection = Connection::Dialing { key, deadline: now + self.patience() };
        self.effects.push(Effect::Dial(key));
    }

    fn patience(&self) -> Duration {
        self.options.registration_max_timeout.max(LEAST_PATIENCE)
    }

    /// The wait before the next attempt. Spread a little by the incarnation, so that a thousand TaskManagers that lost the same
    /// JobManager do not call at once for ever.
    fn backoff(&self) -> Duration {
        let first = self.options.registration_initial_timeout / 10;
        let doubled =
            first.saturating_mul(1 << self.failed_attempts.min(20)).min(self.options.registration_max_timeout);
        let spread = 768 + (self.options.info.incarnation % 256) as u32;
        doubled.saturating_mul(spread) / 1024
    }

    pub(super) fn on_connected(&mut self, connection: ConnectionKey, now: Duration) {
        match &self.connection {
            Connection::Dialing { key, .. } if *key == connection => {
                self.connection = Connection::Registering { key: connection, deadline: now + self.patience() };
                let message = self.registration();
                self.effects.push(Effect::Send { epoch: LeaderEpoch(0), message });
            }
            // Too late: it was given up.
            Connection::None
            | Connection::Waiting { .. }
            | Connection::Dialing { .. }
            | Connection::Registering { .. }
            | Connection::Registered(_) => self.effects.push(Effect::HangUp(connection)),
        }
    }

    pub(super) fn on_connection_lost(&mut self, connection: ConnectionKey, reason: String, now: Duration) {
        if self.connection.key() == Some(connection) {
            self.lose(reason, now);
        }
    }

    /// Gives the connection up and arranges for another attempt. Whatever ran for this JobManager is its loss already.
    fn lose(&mut self, reason: String, now: Duration) {
        self.effects.extend(self.connection.key().map(Effect::HangUp));
        if let Connection::Registered(registered) = &self.connection {
            tracing::warn!(epoch = %registered.epoch, reason, workers = self.workers.len(), "the JobManager is lost");
            self.last_registered = now;
            self.failed_attempts = 0;
        }
        self.kill_all_silently();
        self.last_problem = reason;
        self.connection = Connection::Waiting { until: now + self.backoff() };
        self.failed_attempts += 1;
        self.check_patience(now);
    }

    fn check_patience(&mut self, now: Duration) {
        let Some(timeout) = self.options.registration_timeout else { return };
        let without = now.saturating_sub(self.last_registered);
        if without >= timeout {
            let problem = &self.last_problem;
            self.end(Ending::Failed(format!(
                "no JobManager accepted this TaskManager within {timeout:?} (taskmanager.registration.timeout); the last attempt: {problem}"
            )));
        }
    }

    pub(super) fn on_connection_time(&mut self, now: Duration) {
        match &mut self.connection {
            Connection::None => {}
            Connection::Waiting { until } => {
                if now >= *until {
                    self.dial(now);
                }
            }
            Connection::Dialing { deadline, .. } => {
                if now >= *deadline {
                    self.lose("the JobManager did not take the call in time".to_owned(), now);
                }
            }
            Connection::Registering { deadline, .. } => {
                if now >= *deadline {
                    self.lose("the JobManager did not answer the registration in time".to_owned(), now);
                }
            }
            Connection::Registered(registered) => {
                let timeout = registered.timing.heartbeat_timeout;
                if now >= registered.heard + timeout {
                    return self.lose(format!("the JobManager gave no sign of life for {timeout:?}"), now);
                }
                if now >= registered.next_heartbeat {
                    registered.next_heartbeat = now + registered.timing.heartbeat_interval;
                    let epoch = registered.epoch;
                    self.effects.push(Effect::SendHeartbeat { epoch });
                }
                self.report_metrics_if_due(now);
            }
        }
    }

    pub(super) fn on_received(
        &mut self,
        connection: ConnectionKey,
        epoch: LeaderEpoch,
        message: ForTaskManager,
        now: Duration,
    ) {
        if self.connection.key() != Some(connection) {
            // Of a connection that was given up; its workers are killed already.
            return;
        }
        if epoch < self.highest {
            let current = self.highest;
            tracing::warn!(%epoch, %current, "a message of a former leader is refused");
            self.effects.push(Effect::Send { epoch, message: ForJobManager::Fenced { current } });
            if matches!(self.connection, Connection::Registering { .. }) {
                self.lose(format!("the JobManager has epoch {epoch}, but {current} was seen: it leads no more"), now);
            }
            return;
        }
        self.highest = epoch;
        match &mut self.connection {
            Connection::Registered(registered) if epoch > registered.epoch => {
                let former = registered.epoch;
                self.lose(format!("epoch {epoch} began, this TaskManager was registered with {former}"), now);
            }
            Connection::Registered(registered) => {
                registered.heard = now;
                self.on_message(epoch, message, now);
            }
            Connection::Registering { .. } => self.on_registration_answer(connection, epoch, message, now),
            // No key, or nothing can be received before the call is taken.
            Connection::None | Connection::Waiting { .. } | Connection::Dialing { .. } => {}
        }
    }

    fn on_registration_answer(
        &mut self,
        key: ConnectionKey,
        epoch: LeaderEpoch,
        message: ForTaskManager,
        now: Duration,
    ) {
        match message {
            ForTaskManager::Registered(timing) => {
                tracing::info!(%epoch, taskmanager_id = %self.options.info.id, "registered");
                self.failed_attempts = 0;
                self.last_registered = now;
                self.connection = Connection::Registered(super::connection::Registered {
                    key,
                    epoch,
                    timing,
                    heard: now,
                    // The first one at once: the JobManager has metrics to show from the beginning.
                    next_heartbeat: now + timing.heartbeat_interval,
                    next_metrics: now,
                });
                self.effects.push(Effect::SendHeartbeat { epoch });
            }
            ForTaskManager::Refused { reason, retry: true } => {
                self.lose(format!("the JobManager refused: {reason}"), now);
            }
            ForTaskManager::Refused { reason, retry: false } => {
                self.end(Ending::Failed(format!("the JobManager refused this TaskManager: {reason}")));
            }
            ForTaskManager::Fenced { current } => self.on_fenced(current, now),
            ForTaskManager::Shutdown { reason } => self.end(Ending::Asked(reason)),
            other => self.lose(format!("the JobManager answered the registration with {other:?}"), now),
        }
    }

    fn on_message(&mut self, epoch: LeaderEpoch, message: ForTaskManager, now: Duration) {
        match message {
            // `heard` is all it is for.
            ForTaskManager::HeartbeatAnswer => {}
            ForTaskManager::Registered(timing) => {
                if let Connection::Registered(registered) = &mut self.connection {
                    registered.timing = timing;
                }
            }
            ForTaskManager::Refused { reason, retry } => {
                if retry {
                    self.lose(format!("the JobManager gave this TaskManager up: {reason}"), now);
                } else {
                    self.end(Ending::Failed(format!("the JobManager refused this TaskManager: {reason}")));
                }
            }
            ForTaskManager::StartWorker(start) => self.on_start_worker(start, now),
            ForTaskManager::Deploy { deployment, worker: _, plan, restore } => {
                self.on_deploy(deployment, plan, restore)
            }
            ForTaskManager::TriggerCheckpoint { deployment, trigger, tasks } => {
                self.pass_on(deployment, WorkerMessage::TriggerCheckpoint(trigger, tasks))
            }
            ForTaskManager::CheckpointCompleted { deployment, checkpoint } => {
                self.pass_on(deployment, WorkerMessage::CheckpointCompleted(checkpoint))
            }
            ForTaskManager::CheckpointAborted { deployment, checkpoint } => {
                self.pass_on(deployment, WorkerMessage::CheckpointAborted(checkpoint))
            }
            ForTaskManager::SplitAnswer { deployment, task: _, answer } => {
                self.pass_on(deployment, WorkerMessage::SplitAnswer(answer))
            }
            ForTaskManager::CancelTasks { deployment, tasks } => self.pass_on(deployment, WorkerMessage::Cancel(tasks)),
            ForTaskManager::ReleaseWorker { deployment } => self.on_release(deployment, now),
            ForTaskManager::KillWorker { deployment, reason } => self.on_kill(deployment, reason),
            ForTaskManager::FileRequest(request) => self.effects.push(Effect::AnswerFile { epoch, request }),
            ForTaskManager::StacksRequest { request } => self.effects.push(Effect::AnswerStacks { epoch, request }),
            ForTaskManager::Shutdown { reason } => self.end(Ending::Asked(reason)),
            ForTaskManager::Fenced { current } => self.on_fenced(current, now),
        }
    }

    fn on_fenced(&mut self, current: LeaderEpoch, now: Duration) {
        self.highest = self.highest.max(current);
        self.lose(format!("the JobManager knows of epoch {current}"), now);
    }
}
