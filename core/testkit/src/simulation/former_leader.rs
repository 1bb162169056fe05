//! A JobManager that was replaced and does not know it: it still takes calls, and gives orders to whoever calls.
//!
//! A TaskManager that has heard of its successor must not obey.

use std::sync::Arc;
use std::time::Duration;

use weir_model::{Artifact, ArtifactId, DeploymentId, JobId, Launch, LeaderEpoch, StartWorker};
use weir_proto::control::{ForJobManager, ForTaskManager};

use super::job_manager::TIMING;
use super::network::Side;
use super::{Happening, World};

/// Stands for it among the JobManagers, which are counted from 1.
pub(crate) const FORMER: u32 = 0;

impl World {
    /// The JobManager that was just replaced lives on for a while.
    pub(crate) fn keep_former_leader(&mut self, epoch: LeaderEpoch) {
        let time = self.random.millis(5_000, 60_000);
        self.log(|_| format!("the JobManager of epoch {epoch} is replaced, but lives on for {time:?}"));
        self.former_leader = Some(epoch);
        self.after(time, Happening::FormerLeaderEnds);
    }

    pub(crate) fn end_former_leader(&mut self) {
        self.former_leader = None;
        for id in 0..self.connections.len() {
            if self.connections[id].job_manager == FORMER {
                self.hang_up(id, Side::JobManager, "connection closed by the former leader");
            }
        }
    }

    pub(crate) fn happen_to_former_leader(&mut self, connection: usize, message: &ForJobManager) {
        let Some(epoch) = self.former_leader else { return };
        if !self.is_received(connection, Side::JobManager) {
            return;
        }
        match message {
            ForJobManager::Register(registration) => {
                self.log(|_| format!("{} registers with the former leader", registration.info.id));
                self.send_to_task_manager(connection, epoch, ForTaskManager::Registered(TIMING));
                self.send_to_task_manager(connection, epoch, ForTaskManager::StartWorker(self.its_order()));
            }
            ForJobManager::Heartbeat { .. } => {
                self.send_to_task_manager(connection, epoch, ForTaskManager::HeartbeatAnswer);
            }
            ForJobManager::Fenced { current } => {
                self.log(|_| format!("the former leader is told of epoch {current}"));
                self.hang_up(connection, Side::JobManager, "fenced");
            }
            ForJobManager::Worker(_) | ForJobManager::Leaving { .. } => {}
        }
    }

    fn its_order(&self) -> StartWorker {
        let launch = Launch {
            artifact: Artifact { id: ArtifactId::from_bytes([1; 32]), size: 1, name: "job".to_owned() },
            job_name: "of the former leader".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            token: [7; 32],
        };
        StartWorker {
            deployment: DeploymentId { job: JobId::from_bytes([0xff; 16]), number: 0 },
            worker: 0,
            launch: Arc::new(launch),
            slots: vec![0],
            job_graph_hash: 7,
            start_timeout_millis: Duration::from_secs(60).as_millis() as u64,
        }
    }
}
