//! The coordinator of a run: its enumerators and committers, on threads of their own so that slow storage delays nothing else.
//!
//! An embedded run has it in the driver's process, a cluster in a process of its own; both use what is here.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use weir_dataflow::failure::{self, FailureKind, TaskFailure};
use weir_dataflow::sink::{Committable, Committer, CommitterContext, ErasedSink, SinkError};
use weir_dataflow::source::{EnumeratorContext, ErasedEnumerator, ErasedSource, NextSplit, SplitAnswer};
use weir_model::{JobGraph, TaskId};

use super::terminal;
use crate::error::Result;

/// The sources of a job, by vertex. Shared, so that whoever ends its process may keep them from being dropped.
pub(super) type Sources = Arc<Mutex<BTreeMap<u32, Box<dyn ErasedSource>>>>;

/// The sinks of a job, by node.
pub(super) type Sinks = BTreeMap<u32, Box<dyn ErasedSink>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The enumerators of a run.
pub(super) struct Enumerators {
    sources: Sources,
    /// Of the vertices that have a source.
    parallelism: BTreeMap<u32, u32>,
    by_vertex: BTreeMap<u32, Enumeration>,
}

/// One enumerator and what came of it.
struct Enumeration {
    enumerator: Box<dyn ErasedEnumerator>,
    /// What each subtask was given to read, in case it has to start again.
    given: BTreeMap<u32, Vec<Vec<u8>>>,
}

impl Enumerators {
    /// Looks at every input. An input that is not there fails the job before anything starts.
    pub(super) fn open(sources: Sources, graph: &JobGraph) -> Result<Enumerators> {
        let vertices = lock(&sources).keys().map(|&v| (v, graph.vertices[v as usize].parallelism)).collect();
        let mut enumerators = Enumerators { sources, parallelism: vertices, by_vertex: BTreeMap::new() };
        enumerators.make()?;
        Ok(enumerators)
    }

    fn make(&mut self) -> Result<()> {
        for (&vertex, source) in lock(&self.sources).iter() {
            let context = EnumeratorContext { parallelism: self.parallelism[&vertex], restored: None };
            let enumerator = source.create_enumerator(&context)?;
            self.by_vertex.insert(vertex, Enumeration { enumerator, given: BTreeMap::new() });
        }
        Ok(())
    }

    fn next_split(&mut self, task: TaskId) -> SplitAnswer {
        let Some(enumeration) = self.by_vertex.get_mut(&task.vertex) else {
            return SplitAnswer::Failed(format!("vertex {} asked for a split but has no source", task.vertex));
        };
        let answer = failure::catch(|| Ok(enumeration.enumerator.next_split(task.subtask)), |_| String::new())
            .unwrap_or_else(|error| SplitAnswer::Failed(format!("the source's enumerator {error}")));
        if let SplitAnswer::Next(NextSplit::Split(bytes)) = &answer {
            enumeration.given.entry(task.subtask).or_default().push(bytes.clone());
        }
        answer
    }

    /// Gives back what these tasks were given. Without any, begins all over.
    fn reset(&mut self, tasks: &[TaskId]) -> Result<(), String> {
        let reset = || {
            if tasks.is_empty() {
                self.by_vertex.clear();
                return Ok(self.make().map_err(|error| error.to_string()));
            }
            Ok(tasks.iter().try_for_each(|task| self.add_back(*task)))
        };
        failure::catch(reset, |_| String::new()).unwrap_or_else(|error| Err(format!("the source's enumerator {error}")))
    }

    fn add_back(&mut self, task: TaskId) -> Result<(), String> {
        // Most tasks read from others, not from a source.
        let Some(enumeration) = self.by_vertex.get_mut(&task.vertex) else { return Ok(()) };
        let splits = enumeration.given.remove(&task.subtask).unwrap_or_default();
        if splits.is_empty() {
            return Ok(());
        }
        enumeration.enumerator.add_back(&splits).map_err(|error| error.to_string())
    }
}

/// What is asked of the enumerators; done in order.
pub(super) enum SplitOrder {
    /// A source task wants a split.
    Next(TaskId),
    /// These tasks, or all if none are named, begin again.
    Reset {
        /// By vertex and subtask.
        tasks: Vec<TaskId>,
        /// Hears how it went, or why it cannot be.
        done: Box<dyn FnOnce(Result<(), String>) + Send>,
    },
}

/// Does what is ordered until the sender of `orders` is gone, or nobody wants the answers any more, which `answer` tells.
pub(super) fn serve_splits(
    mut enumerators: Enumerators,
    orders: Receiver<SplitOrder>,
    answer: impl Fn(TaskId, SplitAnswer) -> bool + Send + 'static,
) -> std::io::Result<()> {
    thread::Builder::new().name("weir-enumerator".into()).spawn(move || {
        for order in orders {
            match order {
                SplitOrder::Next(task) => {
                    if !answer(task, enumerators.next_split(task)) {
                        return;
                    }
                }
                SplitOrder::Reset { tasks, done } => done(enumerators.reset(&tasks)),
            }
        }
    })?;
    Ok(())
}

/// The committers of a run and what waits to be committed. Shared with the signal thread, which may have to discard it.
#[derive(Clone, Default)]
pub(super) struct Commits(Arc<CommitState>);

#[derive(Default)]
struct CommitState {
    committers: Mutex<Committers>,
    /// Behind a lock of its own: a commit takes its time, and whoever adds must not wait for it.
    waiting: Mutex<BTreeMap<TaskId, Vec<Committable>>>,
}

#[derive(Default)]
struct Committers {
    by_node: BTreeMap<u32, Box<dyn Committer>>,
    committed: Vec<u32>,
}

impl Commits {
    /// Opens every sink's committer. An output that cannot be written fails the job before anything starts.
    pub(super) fn open(&self, sinks: &Sinks, run_id: &str) -> Result<()> {
        let mut committers = lock(&self.0.committers);
        let context = CommitterContext { run_id: run_id.to_owned() };
        for (&node, sink) in sinks {
            match sink.create_committer(&context) {
                Ok(Some(committer)) => drop(committers.by_node.insert(node, committer)),
                Ok(None) => {}
                Err(error) => {
                    committers.discard();
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Keeps what a task's sinks prepared.
    pub(super) fn add(&self, task: TaskId, committables: Vec<Committable>) {
        if !committables.is_empty() {
            lock(&self.0.waiting).entry(task).or_default().extend(committables);
        }
    }

    /// Forgets what these tasks' sinks prepared, or all if none are named.
    pub(super) fn forget(&self, tasks: &[TaskId]) {
        let mut waiting = lock(&self.0.waiting);
        if tasks.is_empty() {
            waiting.clear();
        }
        tasks.iter().for_each(|task| drop(waiting.remove(task)));
    }

    /// Makes everything visible. After a failure it may be tried again.
    pub(super) fn commit(&self) -> Result<(), TaskFailure> {
        let mut payloads: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for Committable { node, payload } in lock(&self.0.waiting).values().flatten() {
            payloads.entry(*node).or_default().push(payload.clone());
        }
        failure::catch(|| Ok(lock(&self.0.committers).commit(payloads)), |_| String::new())
            .unwrap_or_else(|error| Err(SinkError::new(format!("the sink's committer {error}"))))
            .map_err(|error| TaskFailure::new(FailureKind::Sink, error))
    }

    /// As [`commit`](Self::commit), on a thread of its own.
    pub(super) fn commit_aside(&self, done: impl Fn(Result<(), TaskFailure>) + Clone + Send + 'static) {
        let this = self.clone();
        let run = move || done(this.commit());
        if let Err(error) = thread::Builder::new().name("weir-committer".into()).spawn(run.clone()) {
            terminal::err(format!("warning: no thread could be started for the commit ({error}); committing here"));
            run();
        }
    }

    /// Removes what was written aside and is not committed.
    pub(super) fn discard(&self) {
        lock(&self.0.committers).discard();
    }

    /// As [`discard`](Self::discard), but gives up after `patience` when a commit or a slow storage is in the way: what
    /// stays is hidden and removed by the next run.
    pub(super) fn discard_within(&self, patience: Duration) {
        let started = Instant::now();
        loop {
            match self.0.committers.try_lock() {
                Ok(mut committers) => return committers.discard(),
                Err(TryLockError::Poisoned(committers)) => return committers.into_inner().discard(),
                Err(TryLockError::WouldBlock) if started.elapsed() >= patience => return,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// Removes what a run of the job wrote aside whose coordinator was killed before it could. Nothing of it was committed.
pub(super) fn discard_lost(sinks: &Sinks, run_id: &str) {
    let context = CommitterContext { run_id: run_id.to_owned() };
    for sink in sinks.values() {
        let discard = || {
            match sink.create_committer(&context) {
                Ok(committer) => committer.into_iter().for_each(|mut committer| committer.abort()),
                // Opening the output for the new run says more, if it concerns that one too.
                Err(error) => terminal::err(format!("what run {run_id} left cannot be removed: {error}")),
            }
            Ok(())
        };
        if let Err(error) = failure::catch(discard, |_| String::new()) {
            terminal::err(format!("cleaning up after run {run_id} failed: the sink's committer {error}"));
        }
    }
}

impl Committers {
    fn commit(&mut self, mut payloads: BTreeMap<u32, Vec<Vec<u8>>>) -> Result<(), SinkError> {
        for (node, committer) in &mut self.by_node {
            if !self.committed.contains(node) {
                committer.commit(payloads.remove(node).unwrap_or_default())?;
                self.committed.push(*node);
            }
        }
        // Dropping a committer lets go of what it holds, such as the lock of its output.
        self.by_node.clear();
        Ok(())
    }

    fn discard(&mut self) {
        for (node, committer) in &mut self.by_node {
            if self.committed.contains(node) {
                continue;
            }
            let abort = || {
                committer.abort();
                Ok(())
            };
            // One that panics must not keep the others from cleaning up.
            if let Err(error) = failure::catch(abort, |_| String::new()) {
                terminal::err(format!("cleaning up after the job failed: the sink's committer {error}"));
            }
        }
        self.by_node.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Arc<Mutex<Vec<String>>>;

    /// A sink whose committers say what they are told.
    struct Recording(Log);

    struct RecordingCommitter {
        run_id: String,
        log: Log,
    }

    impl ErasedSink for Recording {
        fn create_committer(&self, context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError> {
            if context.run_id == "unknown" {
                return Err(SinkError::new("no such run"));
            }
            Ok(Some(Box::new(RecordingCommitter { run_id: context.run_id.clone(), log: self.0.clone() })))
        }
    }

    impl Committer for RecordingCommitter {
        fn commit(&mut self, committables: Vec<Vec<u8>>) -> Result<(), SinkError> {
            lock(&self.log).push(format!("{} commits {}", self.run_id, committables.len()));
            Ok(())
        }

        fn abort(&mut self) {
            lock(&self.log).push(format!("{} aborts", self.run_id));
            assert!(self.run_id != "cursed", "no way back");
        }
    }

    #[test]
    fn what_lost_runs_wrote_aside_is_discarded_whatever_becomes_of_the_others() {
        let log = Log::default();
        let sinks: Sinks = [(3, Box::new(Recording(log.clone())) as Box<dyn ErasedSink>)].into();
        for run_id in ["unknown", "cursed", "first"] {
            discard_lost(&sinks, run_id);
        }
        assert_eq!(*lock(&log), ["cursed aborts", "first aborts"]);
        let commits = Commits::default();
        commits.open(&sinks, "second").unwrap();
        commits.commit().unwrap();
        commits.discard();
        assert_eq!(lock(&log).last().unwrap(), "second commits 0");
    }
}
