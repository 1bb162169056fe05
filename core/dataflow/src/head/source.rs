//! The head of a chain that starts with a source.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::{Duration, Instant};

use weir_checkpoint::Redistribution;

use crate::declaration::{ChainState, OperatorState};
use crate::element::{Barrier, Control, EventTime};
use crate::failure::{FailureKind, OperatorGuard, TaskError};
use crate::operator::{Chain, Collector, Flush, OperatorContext, Pulse, Stage};
use crate::plan::TaskContext;
use crate::snapshot::{Progress, SnapshotBuilder, TaskCheckpoints, end_of_time};
use crate::source::{
    NextSplit, ReaderContext, ReaderStatus, ReaderWaker, Source, SourceReader, SplitAnswer, decode_split,
};
use crate::task::Waiting;

/// A chain that starts with a source.
#[derive(Debug, Clone)]
pub struct SourceHead<S> {
    /// The source.
    pub source: S,
    /// Its node in the StreamGraph.
    pub node: u32,
}

/// Counts what a source emits on its way into the chain, and looks after the task: a reader may emit a lot in one poll.
struct Counted<'a, D> {
    down: &'a mut D,
    pulse: &'a mut Pulse,
}

impl<T, D: Stage<T>> Collector<T> for Counted<'_, D> {
    #[inline(always)]
    fn push(&mut self, record: T) {
        self.down.push(record);
        self.pulse.on_record(|why| self.down.flush(why));
    }

    #[inline(always)]
    fn push_numbered(&mut self, numbers: Range<u64>, mut make: impl FnMut(u64) -> T) {
        let mut from = numbers.start;
        while from < numbers.end {
            let to = numbers.end.min(from.saturating_add(self.pulse.until_look()));
            for number in from..to {
                self.down.push(make(number));
            }
            self.pulse.on_records(to - from, |why| self.down.flush(why));
            from = to;
        }
    }
}

/// The list a source's unread splits are kept in.
const SPLITS: &str = "splits";

impl<S: Source> Chain for SourceHead<S> {
    type Out = S::Item;

    fn run<D: Stage<S::Item>>(self, mut down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        if task.had_finished() {
            return down.close(task);
        }
        task.check_in_flight(0)?;
        down.open(task)?;
        let shared = task.shared().clone();
        let reader = self.guarded(|source| {
            source.create_reader(&ReaderContext {
                subtask: task.subtask(),
                parallelism: task.parallelism(),
                waker: ReaderWaker::new(shared.clone()),
                metrics: OperatorContext { task, node: self.node }.metrics(),
            })
        })?;
        let restored = OperatorContext { task, node: self.node }.restored_list::<S::Split>(SPLITS)?;
        let mut stage =
            SourceStage { reader, waiting: VecDeque::new(), node: self.node, down, item: PhantomData::<fn(S::Item)> };
        // All at once: a split that had to wait until another one ends would stand still, maybe for ever, while event time goes on.
        self.guarded(|_| restored.into_iter().try_for_each(|split| stage.reader.add_split(split)))?;
        task.report_running();
        let mut run = SourceRun::new(task);
        loop {
            shared.check_canceled()?;
            if !run.take_letters(&mut stage)? {
                return Ok(());
            }
            let before = run.pulse.seen();
            let status =
                self.guarded(|_| stage.reader.poll(&mut Counted { down: &mut stage.down, pulse: &mut run.pulse }))?;
            shared.metrics().add_records_in(run.pulse.seen() - before);
            stage.send_time();
            match status {
                ReaderStatus::More => run.pulse.on_batch(|why| stage.down.flush(why)),
                ReaderStatus::Wait(timeout) => run.wait(timeout, &mut stage)?,
                ReaderStatus::NeedSplit => match stage.waiting.pop_front() {
                    Some(split) => self.guarded(|_| stage.reader.add_split(split))?,
                    None => match run.next_split(&mut stage)? {
                        Next::Split(bytes) => stage.waiting.push_back(decode_split(&bytes)?),
                        Next::Waiting => {}
                        Next::None => break,
                        Next::Stop => return Ok(()),
                    },
                },
            }
        }
        if run.finish(&mut stage)? {
            stage.control(Control::End);
        }
        Ok(())
    }

    fn declare(&mut self, state: &mut ChainState) {
        let mut own = OperatorState::default();
        own.list::<S::Split>(SPLITS, Redistribution::Split);
        state.push((self.node, own));
    }
}

impl<S: Source> SourceHead<S> {
    fn guarded<R>(&self, f: impl FnOnce(&S) -> R) -> R {
        let guard = OperatorGuard(self.node);
        let result = f(&self.source);
        std::mem::forget(guard);
        result
    }
}

/// A source with everything behind it; what its reader has not read is its state.
struct SourceStage<R: SourceReader, T, D> {
    reader: R,
    /// Splits to be read that came before a barrier.
    waiting: VecDeque<R::Split>,
    node: u32,
    down: D,
    item: PhantomData<fn(T)>,
}

impl<R: SourceReader, T: 'static, D: Stage<T>> SourceStage<R, T, D> {
    /// Sends the watermarks and changes of idleness that the reader makes.
    #[inline]
    fn send_time(&mut self) {
        while let Some(control) = self.reader.time() {
            self.down.control(control);
        }
    }
}

/// Nothing is pushed into a source.
impl<R: SourceReader, T: 'static, D: Stage<T>> Collector<T> for SourceStage<R, T, D> {
    fn push(&mut self, record: T) {
        self.down.push(record);
    }
}

impl<R: SourceReader, T: 'static, D: Stage<T>> Stage<T> for SourceStage<R, T, D> {
    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        self.down.open(task)
    }
    fn control(&mut self, control: Control) {
        self.down.control(control);
    }
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder) {
        let guard = OperatorGuard(self.node);
        let reading = self.reader.snapshot();
        std::mem::forget(guard);
        let splits = reading.iter().chain(&self.waiting);
        snapshot.operator(self.node).list(SPLITS, Redistribution::Split, splits);
        self.down.barrier(barrier, snapshot);
    }
    fn snapshot_step(&mut self, snapshot: &mut SnapshotBuilder) -> bool {
        self.down.snapshot_step(snapshot)
    }
    fn checkpoint_ended(&mut self, checkpoint: u64, completed: bool) {
        if completed {
            self.reader.checkpoint_completed(checkpoint);
        }
        self.down.checkpoint_ended(checkpoint, completed);
    }
    fn processing_time(&mut self, now: EventTime) -> EventTime {
        self.down.processing_time(now)
    }
    fn is_settled(&self) -> bool {
        self.down.is_settled()
    }
    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        self.down.close(task)
    }
    fn flush(&mut self, why: Flush) {
        self.down.flush(why);
    }
}

/// What a source task gets to read next.
enum Next {
    Split(Vec<u8>),
    /// It came before a barrier and has been taken in.
    Waiting,
    /// There will be nothing more.
    None,
    /// The job was stopped with a savepoint.
    Stop,
}

/// The loop of a source task beside its reader.
struct SourceRun<'t> {
    task: &'t TaskContext,
    checkpoints: TaskCheckpoints,
    pulse: Pulse,
}

impl<'t> SourceRun<'t> {
    fn new(task: &'t TaskContext) -> Self {
        SourceRun { task, checkpoints: TaskCheckpoints::new(task), pulse: Pulse::new(task) }
    }

    /// Reads letters, begins barriers, hands rows over, fires timers. False when the task is to finish at once.
    fn take_letters<R, T, D>(&mut self, stage: &mut SourceStage<R, T, D>) -> Result<bool, TaskError>
    where
        R: SourceReader,
        T: 'static,
        D: Stage<T>,
    {
        loop {
            let progress = self.checkpoints.read_mail(stage)?;
            loop {
                while let Some(split) = self.checkpoints.take_split_before_trigger() {
                    stage.waiting.push_back(decode_split(&split)?);
                }
                let Some(barrier) = self.checkpoints.take_trigger() else { break };
                end_of_time(barrier, stage);
                self.checkpoints.barrier(barrier, Duration::ZERO, stage);
            }
            self.checkpoints.work(stage);
            match progress {
                // A barrier that was begun just now may have made it hold.
                Progress::Continue if !self.checkpoints.is_stopping() => {
                    self.checkpoints.timers(stage);
                    return Ok(true);
                }
                Progress::Continue | Progress::Hold => self.checkpoints.idle(None, stage)?,
                Progress::Stop => {
                    self.checkpoints.wait_for_writers();
                    return Ok(false);
                }
            }
        }
    }

    /// Nothing to read now.
    fn wait<T>(&mut self, timeout: Option<Duration>, stage: &mut impl Stage<T>) -> Result<(), TaskError> {
        self.pulse.on_idle(|why| stage.flush(why));
        self.checkpoints.idle(timeout, stage)
    }

    /// Asks the enumerator until it has a split or says that there will be none.
    fn next_split<R, T, D>(&mut self, stage: &mut SourceStage<R, T, D>) -> Result<Next, TaskError>
    where
        R: SourceReader,
        T: 'static,
        D: Stage<T>,
    {
        loop {
            self.task.request_split();
            // The answer is usually there within microseconds; only a real wait is worth a flush.
            let soon = Instant::now() + Duration::from_millis(1);
            let answer = loop {
                self.task.shared().check_canceled()?;
                if !self.take_letters(stage)? {
                    return Ok(Next::Stop);
                }
                if !stage.waiting.is_empty() {
                    return Ok(Next::Waiting);
                }
                if let Some(answer) = self.checkpoints.take_split() {
                    break answer;
                }
                let patience = soon.saturating_duration_since(Instant::now());
                if patience.is_zero() {
                    self.wait(None, stage)?;
                } else {
                    self.task.shared().park(Waiting::Idle, Some(patience));
                }
            };
            match answer {
                SplitAnswer::Next(NextSplit::Split(bytes)) => return Ok(Next::Split(bytes)),
                SplitAnswer::Next(NextSplit::Finished) => return Ok(Next::None),
                SplitAnswer::Next(NextSplit::NotYet(wait)) => {
                    let asked = Instant::now();
                    while asked.elapsed() < wait {
                        self.wait(Some(wait.saturating_sub(asked.elapsed())), stage)?;
                        stage.send_time();
                        if !self.take_letters(stage)? {
                            return Ok(Next::Stop);
                        }
                    }
                }
                SplitAnswer::Failed(message) => return Err(TaskError::failed(FailureKind::Source, message)),
            }
        }
    }

    /// Everything is read. Whether the input has an end; otherwise the job was stopped with a savepoint.
    fn finish<R, T, D>(&mut self, stage: &mut SourceStage<R, T, D>) -> Result<bool, TaskError>
    where
        R: SourceReader,
        T: 'static,
        D: Stage<T>,
    {
        if !self.take_letters(stage)? {
            return Ok(false);
        }
        self.checkpoints.finish(stage)
    }
}
