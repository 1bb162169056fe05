//! The running JobMasters by job, for whoever has something to say to one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use weir_checkpoint::{CheckpointMetadata, CheckpointsView, RequestOutcome, StopMode};
use weir_jobmaster::{JobMasterEvent, RescaleError};
use weir_model::{JobId, JobSummary, JobView, ParallelismBounds, VertexId};

/// What a JobMaster's loop is told.
#[derive(Debug)]
pub(crate) enum JobMessage {
    /// Something happened.
    Event(JobMasterEvent),
    /// Somebody wants the line of the job in lists.
    Summary(oneshot::Sender<JobSummary>),
    /// Somebody wants to see all of it.
    View(oneshot::Sender<Arc<JobView>>),
    /// Somebody wants to see its checkpoints.
    Checkpoints(oneshot::Sender<CheckpointsView>),
    /// Somebody wants to compare its state with that of another version of it.
    DeclaredState(oneshot::Sender<CheckpointMetadata>),
    /// Somebody wants a checkpoint now.
    TriggerCheckpoint {
        /// Whether it must not share files with earlier ones.
        full: bool,
        /// Told when it is complete, or why there is none.
        answer: RequestAnswer,
    },
    /// Somebody wants a savepoint.
    TriggerSavepoint {
        /// Folder to make its folder in, as a path or URI; `None`: that of the options.
        directory: Option<String>,
        /// Whether and how the job stops with it.
        stop: Option<StopMode>,
        /// Told when it is complete and the job, if it is to stop, has ended; or why not.
        answer: RequestAnswer,
    },
    /// Somebody wants it to run with other numbers of subtasks.
    SetRequirements {
        /// Between which numbers, of every vertex.
        bounds: BTreeMap<VertexId, ParallelismBounds>,
        /// Told whether that is possible; what follows from it takes its time.
        answer: oneshot::Sender<Result<(), RescaleError>>,
    },
    /// Fails as a bug would.
    #[cfg(test)]
    Panic,
}

/// Told what came of a request for a checkpoint or savepoint. Dropped if the job ends without saying so.
pub(crate) type RequestAnswer = oneshot::Sender<Result<RequestOutcome, String>>;

/// A JobMaster's loop, from outside.
pub(crate) type JobSender = UnboundedSender<JobMessage>;

/// All running JobMasters. Messages go straight to them: nobody in the middle waits for anybody else.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    running: RwLock<BTreeMap<JobId, JobSender>>,
    /// The checkpoints of those that ended last.
    ended: Mutex<VecDeque<(JobId, Arc<CheckpointsView>)>>,
}

/// Of how many jobs that have ended it is remembered how their checkpoints went.
const ENDED: usize = 100;

impl Jobs {
    pub(crate) fn insert(&self, id: JobId, sender: JobSender) {
        self.running.write().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
    }

    pub(crate) fn remove(&self, id: JobId) {
        self.running.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Remembers the checkpoints of a job that ends.
    pub(crate) fn keep_checkpoints(&self, id: JobId, view: CheckpointsView) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back((id, Arc::new(view)));
        if ended.len() > ENDED {
            ended.pop_front();
        }
    }

    /// The checkpoints of a job that has ended, if they are still remembered.
    pub(crate) fn last_checkpoints(&self, id: JobId) -> Option<Arc<CheckpointsView>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().rev().find(|(of, _)| *of == id).map(|(_, view)| view.clone())
    }

    pub(crate) fn get(&self, id: JobId) -> Option<JobSender> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<JobSender> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn ids(&self) -> Vec<JobId> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Tells a JobMaster. False if there is none: the job has ended, or is of an earlier JobManager.
    pub(crate) fn tell(&self, id: JobId, event: JobMasterEvent) -> bool {
        let jobs = self.running.read().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&id).is_some_and(|sender| sender.send(JobMessage::Event(event)).is_ok())
    }
}
