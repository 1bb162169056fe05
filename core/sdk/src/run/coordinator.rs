//! The coordinator: enumerators and committers of one run, on threads of their own so that slow storage delays nothing else.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use weir_dataflow::failure::{self, FailureKind, TaskFailure};
use weir_dataflow::plan::DriverSide;
use weir_dataflow::sink::{Committable, Committer, CommitterContext, SinkError};
use weir_dataflow::source::{EnumeratorContext, ErasedEnumerator, SplitAnswer};
use weir_model::{JobGraph, TaskId};

use super::backend::Backend;
use super::driver::DriverEvent;
use super::terminal;
use crate::error::Result;

/// The enumerators of a run, by vertex.
pub(super) type Enumerators = BTreeMap<u32, Box<dyn ErasedEnumerator>>;

/// Looks at every input. An input that is not there fails the job before anything starts.
pub(super) fn open_enumerators(side: &DriverSide, graph: &JobGraph) -> Result<Enumerators> {
    let mut enumerators = Enumerators::new();
    for (&vertex, source) in &side.sources {
        let parallelism = graph.vertices[vertex as usize].parallelism;
        enumerators.insert(vertex, source.create_enumerator(&EnumeratorContext { parallelism, restored: None })?);
    }
    Ok(enumerators)
}

/// Answers split requests until the sender of `requests` is gone.
pub(super) fn serve_splits(
    mut enumerators: Enumerators,
    requests: Receiver<TaskId>,
    backend: Weak<dyn Backend>,
) -> std::io::Result<()> {
    thread::Builder::new().name("weir-enumerator".into()).spawn(move || {
        for task in requests {
            let answer = match enumerators.get_mut(&task.vertex) {
                None => SplitAnswer::Failed(format!("vertex {} asked for a split but has no source", task.vertex)),
                Some(enumerator) => failure::catch(|| Ok(enumerator.next_split(task.subtask)), |_| String::new())
                    .unwrap_or_else(|error| SplitAnswer::Failed(format!("the source's enumerator {error}"))),
            };
            let Some(backend) = backend.upgrade() else { return };
            backend.answer_split(task, answer);
        }
    })?;
    Ok(())
}

/// The committers of a run and what waits to be committed. Shared with the signal thread, which may have to discard it.
#[derive(Clone, Default)]
pub(super) struct Commits(Arc<Mutex<Pending>>);

#[derive(Default)]
struct Pending {
    committers: BTreeMap<u32, Box<dyn Committer>>,
    committables: BTreeMap<u32, Vec<Vec<u8>>>,
    committed: Vec<u32>,
}

impl Commits {
    /// Opens every sink's committer. An output that cannot be written fails the job before anything starts.
    pub(super) fn open(&self, side: &DriverSide, run_id: &str) -> Result<()> {
        let mut pending = self.lock();
        let context = CommitterContext { run_id: run_id.to_owned() };
        for (&node, sink) in &side.sinks {
            match sink.create_committer(&context) {
                Ok(Some(committer)) => drop(pending.committers.insert(node, committer)),
                Ok(None) => {}
                Err(error) => {
                    pending.discard();
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Keeps what a task's sinks prepared.
    pub(super) fn add(&self, committables: Vec<Committable>) {
        let mut pending = self.lock();
        for Committable { node, payload } in committables {
            pending.committables.entry(node).or_default().push(payload);
        }
    }

    /// Makes everything visible on a thread of its own and reports [`DriverEvent::CommitDone`].
    pub(super) fn commit(&self, events: Sender<DriverEvent>) {
        let this = self.clone();
        let run = move || {
            let result = failure::catch(|| Ok(this.lock().commit()), |_| String::new())
                .unwrap_or_else(|error| Err(SinkError::new(format!("the sink's committer {error}"))));
            let result = result.map_err(|error| TaskFailure::new(FailureKind::Sink, error));
            let _ = events.send(DriverEvent::CommitDone(result));
        };
        if let Err(error) = thread::Builder::new().name("weir-committer".into()).spawn(run.clone()) {
            terminal::err(format!("warning: no thread could be started for the commit ({error}); committing here"));
            run();
        }
    }

    /// Removes what was written aside and is not committed.
    pub(super) fn discard(&self) {
        self.lock().discard();
    }

    /// As [`discard`](Self::discard), but gives up after `patience` when a commit or a slow storage is in the way: what
    /// stays is hidden and removed by the next run.
    pub(super) fn discard_within(&self, patience: Duration) {
        let started = Instant::now();
        loop {
            match self.0.try_lock() {
                Ok(mut pending) => return pending.discard(),
                Err(TryLockError::Poisoned(pending)) => return pending.into_inner().discard(),
                Err(TryLockError::WouldBlock) if started.elapsed() >= patience => return,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn commit(&mut self) -> Result<(), SinkError> {
        for (node, committer) in &mut self.committers {
            committer.commit(self.committables.remove(node).unwrap_or_default())?;
            self.committed.push(*node);
        }
        // Dropping a committer lets go of what it holds, such as the lock of its output.
        self.committers.clear();
        Ok(())
    }

    fn discard(&mut self) {
        for (node, committer) in &mut self.committers {
            if !self.committed.contains(node) {
                committer.abort();
            }
        }
        self.committers.clear();
    }
}
