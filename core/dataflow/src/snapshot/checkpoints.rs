//! The checkpoints of one task, as the loop at the head of its chain sees them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_model::{CheckpointDecline, CheckpointKind, CheckpointTrigger, DeclineCause, FailureKind, SnapshotMetrics};

use super::builder::SnapshotBuilder;
use super::writer::WriterSetup;
use crate::element::{Barrier, Control, EventTime};
use crate::failure::TaskError;
use crate::operator::{Flush, Stage};
use crate::plan::TaskContext;
use crate::source::{NextSplit, SplitAnswer};
use crate::task::{Mail, TaskShared, Waiting};
use crate::worker::{WorkerEvent, WorkerRuntime};

/// What follows for a task from the letters it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It goes on.
    Continue,
    /// It must process nothing until it hears what became of the savepoint that stops the job.
    Hold,
    /// The savepoint that stops the job is complete: the task finishes, without an end of its input.
    Stop,
}

/// The checkpoints of a task.
pub(crate) struct TaskCheckpoints {
    pub(super) task: Arc<TaskShared>,
    pub(super) runtime: Arc<WorkerRuntime>,
    setup: Arc<WriterSetup>,
    /// The snapshot whose rows are being handed over, or whose data in flight is being recorded.
    pub(super) current: Option<SnapshotBuilder>,
    /// Whether all rows of it are handed over.
    rows_done: bool,
    /// The last barrier that passed.
    pub(super) last: u64,
    /// Checkpoints that were given up, until the gates have been told.
    pub(super) given_up: Vec<u64>,
    /// The savepoint behind whose barrier the task waits.
    stopping: Option<Barrier>,
    /// To be begun by this task; with the number of answers to split requests that came before.
    triggered: VecDeque<(Arc<CheckpointTrigger>, usize)>,
    splits: VecDeque<SplitAnswer>,
    processing_time: EventTime,
    next_timer: EventTime,
}

/// How long the writer is given to catch up while there is nothing else to do.
const WRITER_PAUSE: Duration = Duration::from_millis(1);
/// A timer that is due later is looked at again after so long, because the clock may be set meanwhile.
const CLOCK_SET: Duration = Duration::from_secs(1);
/// How long rows are handed over at a stretch.
const SLICE: Duration = Duration::from_micros(500);

impl TaskCheckpoints {
    pub(crate) fn new(context: &TaskContext) -> TaskCheckpoints {
        let (task, runtime) = (context.shared().clone(), context.runtime().clone());
        let setup = WriterSetup::new(task.clone(), runtime.clone());
        TaskCheckpoints {
            task,
            runtime,
            setup,
            current: None,
            rows_done: false,
            last: 0,
            given_up: Vec::new(),
            stopping: None,
            triggered: VecDeque::new(),
            splits: VecDeque::new(),
            processing_time: EventTime::MIN,
            next_timer: EventTime::MAX,
        }
    }

    /// Reads the task's letters; what concerns the chain is done.
    pub(crate) fn read_mail<T>(&mut self, stage: &mut impl Stage<T>) -> Result<Progress, TaskError> {
        while let Some(mail) = self.task.take_mail() {
            match mail {
                Mail::Split(answer) => self.splits.push_back(answer),
                Mail::TriggerCheckpoint(trigger) => self.triggered.push_back((trigger, self.splits.len())),
                Mail::CheckpointEnded { checkpoint, completed } => {
                    if !completed {
                        self.given_up.push(checkpoint);
                    }
                    if self.current.as_ref().is_some_and(|current| current.barrier().checkpoint == checkpoint)
                        && let Some(current) = self.current.take()
                    {
                        stage.checkpoint_ended(checkpoint, completed);
                        current.abandon("the checkpoint was given up");
                    } else {
                        stage.checkpoint_ended(checkpoint, completed);
                    }
                    if let Some(stopping) = self.stopping.filter(|stopping| stopping.checkpoint == checkpoint) {
                        if completed {
                            return Ok(Progress::Stop);
                        }
                        self.stopping = None;
                        if stopping.kind == CheckpointKind::Drain {
                            let message = "the savepoint that was to stop the job failed after the job's input was ended for it; the job \
                                           goes on from its last checkpoint";
                            return Err(TaskError::failed(FailureKind::Job, message));
                        }
                    }
                }
            }
        }
        Ok(if self.stopping.is_some() { Progress::Hold } else { Progress::Continue })
    }

    /// The answer to a request for a split, if it has come.
    pub(crate) fn take_split(&mut self) -> Option<SplitAnswer> {
        let answer = self.splits.pop_front()?;
        self.triggered.iter_mut().for_each(|(_, before)| *before = before.saturating_sub(1));
        Some(answer)
    }

    /// The split at the head of the answers, if a trigger came after it: it is the reader's by the time of the barrier.
    pub(crate) fn take_split_before_trigger(&mut self) -> Option<Vec<u8>> {
        let (_, before) = self.triggered.front_mut()?;
        if *before == 0 || !matches!(self.splits.front(), Some(SplitAnswer::Next(NextSplit::Split(_)))) {
            return None;
        }
        match self.take_split() {
            Some(SplitAnswer::Next(NextSplit::Split(bytes))) => Some(bytes),
            Some(_) | None => None,
        }
    }

    /// The barrier that this task has been told to begin, if it has not passed yet.
    pub(crate) fn take_trigger(&mut self) -> Option<Barrier> {
        while let Some((trigger, _)) = self.triggered.pop_front() {
            if trigger.checkpoint > self.last {
                let overtaking = self.runtime.triggers().overtaking(self.last);
                let aligned = overtaking.is_none_or(|overtaking| overtaking.checkpoint != trigger.checkpoint);
                let (checkpoint, timestamp) = (trigger.checkpoint, trigger.timestamp);
                return Some(Barrier { checkpoint, timestamp, aligned, kind: trigger.kind });
            }
        }
        None
    }

    /// Takes a snapshot of the chain and passes the barrier on. `alignment`: how long it took from the first barrier to this one.
    pub(crate) fn barrier<T>(&mut self, barrier: Barrier, alignment: Duration, stage: &mut impl Stage<T>) {
        self.aligned(barrier, alignment, 0, stage);
    }

    /// As [`barrier`](Self::barrier); `processed`: bytes that were processed during the alignment.
    pub(crate) fn aligned<T>(
        &mut self,
        barrier: Barrier,
        alignment: Duration,
        processed: u64,
        stage: &mut impl Stage<T>,
    ) {
        let metrics = SnapshotMetrics { alignment, processed, ..SnapshotMetrics::default() };
        self.begin(barrier, metrics, None, stage);
    }

    /// Takes a snapshot of the chain and passes the barrier on. `overtaking`: since when its barriers have been coming, and on how many
    /// inputs data in flight is recorded.
    pub(super) fn begin<T>(
        &mut self,
        barrier: Barrier,
        mut metrics: SnapshotMetrics,
        overtaking: Option<(Instant, u32)>,
        stage: &mut impl Stage<T>,
    ) {
        if barrier.checkpoint <= self.last {
            return;
        }
        self.last = barrier.checkpoint;
        self.complete_rows(stage);
        let began = Instant::now();
        let delay = millis_now().saturating_sub(barrier.timestamp).max(0) as u64;
        metrics.start_delay = Duration::from_millis(delay).saturating_sub(metrics.alignment);
        let mut snapshot = SnapshotBuilder::new(barrier, self.setup.clone(), metrics);
        if let Some((since, inputs)) = overtaking {
            snapshot.overtakes(inputs, since);
        }
        self.task.set_overtaking(barrier.overtakes());
        stage.barrier(barrier, &mut snapshot);
        self.task.set_overtaking(false);
        self.calm_down();
        snapshot.set_committables(self.task.take_committables());
        snapshot.handed_over(began.elapsed());
        self.current = Some(snapshot);
        self.rows_done = false;
        if barrier.kind.stops() {
            self.stopping = Some(barrier);
        }
        self.step(stage, Some(SLICE));
    }

    /// Brings the snapshot under way to its end, because there will be another one or no more input; without recorded data that is
    /// still missing there is nothing to be made of it. The task waits while storage is behind: only what is given up is not limited by
    /// it, and is dropped.
    fn complete_rows<T>(&mut self, stage: &mut impl Stage<T>) {
        while let Some(current) = self.current.as_mut().filter(|_| !self.rows_done) {
            if self.task.is_canceled() || self.runtime.triggers().is_over(current.barrier().checkpoint) {
                current.give_up("the checkpoint was given up");
                self.step(stage, None);
                continue;
            }
            if current.is_behind() {
                self.task.park(Waiting::Backpressure, Some(WRITER_PAUSE));
            }
            self.step(stage, Some(SLICE));
        }
        if let Some(current) = self.current.take() {
            current.abandon("a newer checkpoint began before all barriers of this one had come");
        }
    }

    /// Hands over some rows of the snapshot under way. Whether there are more.
    pub(crate) fn work<T>(&mut self, stage: &mut impl Stage<T>) -> bool {
        if self.current.is_none() {
            return false;
        }
        self.step(stage, Some(SLICE));
        self.current.is_some() && !self.rows_done
    }

    /// Hands over rows for about so long, or all of them.
    fn step<T>(&mut self, stage: &mut impl Stage<T>, limit: Option<Duration>) {
        let Some(snapshot) = self.current.as_mut().filter(|_| !self.rows_done) else { return };
        let began = Instant::now();
        loop {
            if limit.is_some() && snapshot.is_behind() {
                return;
            }
            if !stage.snapshot_step(snapshot) {
                break;
            }
            if limit.is_some_and(|limit| began.elapsed() >= limit) {
                return;
            }
        }
        self.rows_done = true;
        self.finish_if_complete();
    }

    /// Acknowledges the snapshot if everything is handed over and recorded.
    pub(super) fn finish_if_complete(&mut self) {
        let complete = |current: &mut SnapshotBuilder| !current.is_recording();
        if self.rows_done
            && let Some(snapshot) = self.current.take_if(complete)
        {
            snapshot.finish();
        }
    }

    /// Fires timers of processing time that are due, if the clock has moved on or there are more. Returns when to look again.
    pub(crate) fn timers<T>(&mut self, stage: &mut impl Stage<T>) -> Option<Duration> {
        // What fires behind the barrier of a savepoint that stops the job would fire again when it goes on.
        if self.stopping.is_some() {
            return None;
        }
        let now = millis_now();
        if now != self.processing_time || self.next_timer <= now {
            self.processing_time = now;
            self.next_timer = stage.processing_time(now);
        }
        let wait = || Duration::from_millis(self.next_timer.saturating_sub(now).max(0) as u64);
        (self.next_timer != EventTime::MAX).then(|| wait().min(CLOCK_SET))
    }

    /// There is nothing to read: hands rows over, fires timers, or waits until something happens, at most `timeout`.
    pub(crate) fn idle<T>(&mut self, timeout: Option<Duration>, stage: &mut impl Stage<T>) -> Result<(), TaskError> {
        self.task.check_canceled()?;
        // Records since have set timers that the clock alone does not tell of.
        self.processing_time = EventTime::MIN;
        let timer = self.timers(stage);
        let behind = match self.work(stage) {
            false => None,
            true if self.current.as_ref().is_some_and(SnapshotBuilder::is_behind) => Some(WRITER_PAUSE),
            true => return Ok(()),
        };
        let timeout = timeout.into_iter().chain(timer).chain(behind).min();
        self.task.park(Waiting::Idle, timeout);
        Ok(())
    }

    /// The task's input has ended: barriers that it should still begin go first, everything is handed over, and what is under way in the
    /// chain comes to its end. Whether the input has an end; otherwise the job was stopped with a savepoint, and the task finishes as it
    /// stands.
    pub(crate) fn finish<T>(&mut self, stage: &mut impl Stage<T>) -> Result<bool, TaskError> {
        loop {
            let progress = self.read_mail(stage)?;
            while let Some(barrier) = self.take_trigger() {
                end_of_time(barrier, stage);
                self.barrier(barrier, Duration::ZERO, stage);
            }
            self.complete_rows(stage);
            if progress == Progress::Stop {
                self.setup.wait();
                return Ok(false);
            }
            if self.stopping.is_some() {
                self.task.check_canceled()?;
                self.task.park(Waiting::Idle, None);
                continue;
            }
            if !stage.is_settled() {
                stage.flush(Flush::Idle);
            }
            if stage.is_settled() {
                self.setup.wait();
                return Ok(true);
            }
            self.idle(None, stage)?;
        }
    }

    /// Whether the task waits for the savepoint that stops the job.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Everything that was handed over is acknowledged, in order, before the task reports its end.
    pub(crate) fn wait_for_writers(&mut self) {
        self.setup.wait();
    }
}

impl Drop for TaskCheckpoints {
    fn drop(&mut self) {
        // The task ended on whatever way: nobody waits for a part of it any more.
        self.task.set_over();
        for (trigger, _) in self.triggered.drain(..) {
            let decline = CheckpointDecline {
                checkpoint: trigger.checkpoint,
                task: self.task.id(),
                cause: DeclineCause::NotReady,
                reason: "the task is coming to its end".to_owned(),
                committables: Vec::new(),
            };
            self.runtime.report(WorkerEvent::CheckpointDeclined(Box::new(decline)));
        }
    }
}

/// Sends the maximal watermark for a savepoint that ends the input.
pub(crate) fn end_of_time<T>(barrier: Barrier, stage: &mut impl Stage<T>) {
    if barrier.kind == CheckpointKind::Drain {
        stage.control(Control::Watermark(EventTime::MAX));
    }
}

/// Milliseconds since the epoch.
pub(crate) fn millis_now() -> EventTime {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as EventTime)
}
