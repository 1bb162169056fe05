//! Checkpoints and savepoints that somebody asked for.

use weir_model::CheckpointKind;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{CheckpointCoordinator, Effects};
use crate::uri::join;
use crate::{CheckpointEffect, CompletedCheckpoint, RequestOutcome, StopMode};

/// A checkpoint that waits until another one ends.
#[derive(Debug)]
pub(super) struct Queued {
    pub request: u64,
    pub full: bool,
    pub aligned: bool,
}

/// The savepoint with which the job stops.
#[derive(Debug)]
pub(super) struct Stopping {
    request: u64,
    /// Where it is, when it is complete.
    completed: Option<RequestOutcome>,
}

impl CheckpointCoordinator {
    pub(super) fn on_checkpoint_requested(&mut self, queued: Queued, out: &mut Effects) {
        match self.why_not() {
            Some(reason) => out.push(refuse(queued.request, format!("no checkpoint can be taken: {reason}"))),
            // Begun at the end of this event unless there are too many.
            None => self.queued.push_back(queued),
        }
    }

    pub(super) fn on_savepoint_requested(
        &mut self,
        request: u64,
        directory: Option<String>,
        stop: Option<StopMode>,
        out: &mut Effects,
    ) {
        if let Some(reason) = self.why_not() {
            return out.push(refuse(request, format!("no savepoint can be taken: {reason}")));
        }
        let Some(directory) = directory.or_else(|| self.options.savepoint_directory.clone()) else {
            let message = "no savepoint can be taken: there is no folder for it; set `execution.checkpointing.savepoint-dir` \
                           or name one (`target-directory`)";
            return out.push(refuse(request, message.to_owned()));
        };
        let directory = join(&directory, &self.savepoint_name());
        let kind = match stop {
            None => CheckpointKind::Savepoint,
            Some(StopMode::Suspend) => CheckpointKind::Suspend,
            Some(StopMode::Drain) => CheckpointKind::Drain,
        };
        let alignment = self.alignment(kind);
        self.begin((kind, alignment), Some(request), true, Some(directory), out);
        if kind.stops() {
            self.stopping = Some(Stopping { request, completed: None });
            self.refuse_queued("the job is being stopped with a savepoint", out);
        }
    }

    /// Unique, so that one savepoint never comes into the folder of another.
    fn savepoint_name(&self) -> String {
        let mut seed = self.job.id.as_bytes().to_vec();
        seed.extend_from_slice(&(self.last_id + 1).to_le_bytes());
        seed.extend_from_slice(&self.now.as_nanos().to_le_bytes());
        let random = xxh3_64_with_seed(&seed, self.options.seed) & 0xffff_ffff_ffff;
        format!("savepoint-{}-{random:012x}", &self.job.id.to_string()[..6])
    }

    pub(super) fn refuse_queued(&mut self, reason: &str, out: &mut Effects) {
        for Queued { request, .. } in std::mem::take(&mut self.queued) {
            out.push(refuse(request, format!("the checkpoint was not taken: {reason}")));
        }
    }

    /// Tells who asked for a checkpoint that it is complete.
    pub(super) fn answer_completed(
        &mut self,
        completed: &CompletedCheckpoint,
        kind: CheckpointKind,
        request: Option<u64>,
        out: &mut Effects,
    ) {
        let checkpoint = completed.metadata.checkpoint;
        let outcome = RequestOutcome { checkpoint, path: completed.directory.clone() };
        match &mut self.stopping {
            // Answered when the job has stopped.
            Some(stopping) if kind.stops() => {
                out.push(CheckpointEffect::Stopped { checkpoint, path: outcome.path.clone().unwrap_or_default() });
                stopping.completed = Some(outcome);
            }
            _ => out.extend(request.map(|request| CheckpointEffect::RequestDone { request, result: Ok(outcome) })),
        }
    }

    /// Tells who wanted the job to stop with a savepoint that is complete what came of it.
    pub(super) fn answer_stop(&mut self, stopped: Result<(), &str>, out: &mut Effects) {
        let Some(Stopping { request, completed: Some(outcome) }) =
            self.stopping.take_if(|stopping| stopping.completed.is_some())
        else {
            return;
        };
        let result = stopped.map_err(|reason| {
            format!(
                "the savepoint {} is complete, but the job did not stop: {reason}; it goes on from this savepoint if it is \
                 started again",
                outcome.path.as_deref().unwrap_or_default()
            )
        });
        out.push(CheckpointEffect::RequestDone { request, result: result.map(|()| outcome) });
    }
}

fn refuse(request: u64, reason: String) -> CheckpointEffect {
    CheckpointEffect::RequestDone { request, result: Err(reason) }
}
