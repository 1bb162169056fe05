//! Connections between TaskManagers and JobManagers: what is sent over one arrives in order and late, or not at all.

use std::time::Duration;

use weir_model::{LeaderEpoch, TaskManagerId};
use weir_proto::control::{ForJobManager, ForTaskManager};
use weir_taskmanager::state::ConnectionKey;

use super::former_leader::FORMER;
use super::{ForJm, ForTm, Happening, World};

/// A connection, from the moment the JobManager took the call.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The TaskManager process: its position, and which of its lives.
    pub(crate) task_manager: (usize, u32),
    /// What the TaskManager calls it.
    key: ConnectionKey,
    /// Which JobManager.
    pub(crate) job_manager: u32,
    /// When the last message arrives, in each direction.
    last: [Duration; 2],
    /// Nothing passes any more, and what was on its way is lost.
    cut: bool,
    /// Whether each side still has it open.
    pub(crate) open: [bool; 2],
    /// Who registered over it, as the JobManager knows.
    pub(crate) registered: Option<(TaskManagerId, u64)>,
    /// When the JobManager last heard of the TaskManager.
    pub(crate) heard: Duration,
}

/// A side of a connection, and the direction towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    JobManager = 0,
    TaskManager = 1,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::JobManager => Side::TaskManager,
            Side::TaskManager => Side::JobManager,
        }
    }
}

impl World {
    /// A TaskManager calls the JobManager.
    pub(crate) fn dial(&mut self, task_manager: usize, key: ConnectionKey) {
        let life = self.task_managers[task_manager].life;
        let delay = self.random.millis(1, 20);
        // Some still find the former leader where it was.
        let former = self.former_leader.is_some() && self.random.chance(500);
        if !self.job_manager.up && !former {
            let what = ForTm::ConnectionLost { key, reason: "connection refused".to_owned() };
            self.after(delay, Happening::TaskManager { index: task_manager, life, what });
            return;
        }
        let id = self.connections.len();
        self.connections.push(Connection {
            task_manager: (task_manager, life),
            key,
            job_manager: if former { FORMER } else { self.job_manager.life },
            last: [self.now; 2],
            cut: false,
            open: [true; 2],
            registered: None,
            heard: self.now,
        });
        self.task_managers[task_manager].connections.insert(key, id);
        self.arrive(id, Side::TaskManager, ForTm::Connected(key), delay);
    }

    /// When the next message towards a side arrives: after those before it.
    fn arrival(&mut self, id: usize, side: Side, delay: Duration) -> Duration {
        let connection = &mut self.connections[id];
        let at = (self.now + delay).max(connection.last[side as usize] + Duration::from_nanos(1));
        connection.last[side as usize] = at;
        at
    }

    fn arrive(&mut self, id: usize, side: Side, what: ForTm, delay: Duration) {
        let at = self.arrival(id, side, delay);
        let (index, life) = self.connections[id].task_manager;
        self.at(at, Happening::TaskManager { index, life, what });
    }

    /// Mostly fast, sometimes not; what comes after a late message is late as well.
    fn network_delay(&mut self) -> Duration {
        match self.random.below(1000) {
            0..3 => self.random.millis(3_000, 30_000),
            3..20 => self.random.millis(50, 3_000),
            _ => self.random.millis(0, 5),
        }
    }

    pub(crate) fn send_to_job_manager(&mut self, id: usize, epoch: LeaderEpoch, message: ForJobManager) {
        if !self.connections[id].open[Side::TaskManager as usize] || self.connections[id].cut {
            return;
        }
        let wire = message.clone().into_message(epoch);
        self.check(ForJobManager::from_message(wire) == Ok(Some((epoch, message.clone()))), || {
            format!("{message:?} is another message on the other side of the wire")
        });
        let delay = self.network_delay();
        let at = self.arrival(id, Side::JobManager, delay);
        let what = match self.connections[id].job_manager {
            FORMER => Happening::FormerLeader { connection: id, message },
            life => Happening::JobManager { life, what: ForJm::Message { connection: id, epoch, message } },
        };
        self.at(at, what);
    }

    pub(crate) fn send_to_task_manager(&mut self, id: usize, epoch: LeaderEpoch, message: ForTaskManager) {
        if !self.connections[id].open[Side::JobManager as usize] || self.connections[id].cut {
            return;
        }
        let delay = self.network_delay();
        self.arrive(id, Side::TaskManager, ForTm::Message { connection: id, epoch, message }, delay);
    }

    /// Whether a message that arrives now is received by `side`.
    pub(crate) fn is_received(&self, id: usize, side: Side) -> bool {
        let connection = &self.connections[id];
        !connection.cut && connection.open[side as usize]
    }

    /// One side closes: what it sent before arrives, then the other side learns it.
    pub(crate) fn hang_up(&mut self, id: usize, side: Side, reason: &str) {
        if !std::mem::replace(&mut self.connections[id].open[side as usize], false) {
            return;
        }
        if !self.connections[id].cut {
            let delay = self.network_delay();
            self.tell_broken(id, side.other(), reason, delay);
        }
    }

    /// Nothing passes any more. Each side learns it at a time of its own, or only from silence.
    pub(crate) fn cut(&mut self, id: usize) {
        if std::mem::replace(&mut self.connections[id].cut, true) {
            return;
        }
        self.log(|_| format!("connection {id} is cut"));
        for side in [Side::JobManager, Side::TaskManager] {
            if !self.random.chance(150) {
                let delay = self.random.millis(0, 2000);
                self.tell_broken(id, side, "connection reset", delay);
            }
        }
    }

    fn tell_broken(&mut self, id: usize, side: Side, reason: &str, delay: Duration) {
        let at = self.arrival(id, side, delay);
        let reason = reason.to_owned();
        let connection = &self.connections[id];
        match side {
            Side::JobManager => {
                let life = connection.job_manager;
                self.at(at, Happening::JobManager { life, what: ForJm::Broken { connection: id, reason } });
            }
            Side::TaskManager => {
                let ((index, life), key) = (connection.task_manager, connection.key);
                self.at(at, Happening::TaskManager { index, life, what: ForTm::ConnectionLost { key, reason } });
            }
        }
    }
}
