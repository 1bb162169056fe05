//! The committers of a run, and what they still have to do.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use std::{io, thread};

use weir_dataflow::failure::{self, FailureKind, TaskFailure};
use weir_dataflow::sink::{Committable, Committer, CommitterContext, SinkError};

use super::coordinator::{Restored, Sinks};
use super::terminal;
use crate::error::Result;

/// Committables by the node of their sink.
type Payloads = BTreeMap<u32, Vec<Vec<u8>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn by_node(committables: &[Committable]) -> Payloads {
    let mut payloads = Payloads::new();
    for Committable { node, payload } in committables {
        payloads.entry(*node).or_default().push(payload.clone());
    }
    payloads
}

/// The committers of a run. Shared with the signal thread, which may have to discard what is not committed.
#[derive(Clone, Default)]
pub(super) struct Commits(Arc<CommitState>);

#[derive(Default)]
struct CommitState {
    committers: Mutex<Committers>,
    /// Output of complete checkpoints that is not visible yet. Behind a lock of its own: a commit takes its time, and whoever adds
    /// must not wait for it.
    owed: Mutex<BTreeMap<u64, Vec<Committable>>>,
    /// See [`Commits::keep`].
    kept: AtomicBool,
}

#[derive(Default)]
struct Committers {
    by_node: BTreeMap<u32, Box<dyn Committer>>,
    /// Those whose last commit has succeeded.
    done: Vec<u32>,
}

impl Commits {
    /// Opens every sink's committer; an output that cannot be written fails the job before anything starts. What a checkpoint has
    /// left to commit is committed, then what lost runs of the job wrote aside is discarded.
    pub(super) fn open(
        &self,
        sinks: &Sinks,
        run_id: &str,
        lost_run_ids: &[String],
        restored: Option<&Restored>,
    ) -> Result<()> {
        if let Some(restored) = restored {
            self.keep();
            self.owe(restored.checkpoint, &restored.committables);
        }
        let payloads = restored.map(|restored| by_node(&restored.committables));
        for lost in lost_run_ids {
            clean_up_after(sinks, lost, payloads.as_ref())?;
        }
        let mut committers = lock(&self.0.committers);
        let context = CommitterContext { run_id: run_id.to_owned(), restored: restored.is_some() };
        for (&node, sink) in sinks {
            match sink.create_committer(&context) {
                Ok(Some(committer)) => drop(committers.by_node.insert(node, committer)),
                Ok(None) => {}
                Err(error) => {
                    committers.discard_all();
                    return Err(error.into());
                }
            }
        }
        // Every committer, as a first commit is what those of a restored job wait for.
        if let Some(payloads) = payloads {
            if let Err(error) = committers.commit_all(&payloads) {
                // What is still to be committed was written aside by others.
                committers.discard_all();
                return Err(error.into());
            }
            lock(&self.0.owed).clear();
        }
        Ok(())
    }

    /// From now on there may be complete checkpoints whose output is not known here: whatever ends this process early leaves what was
    /// written aside to whoever goes on from them.
    pub(super) fn keep(&self) {
        self.0.kept.store(true, Ordering::Release);
    }

    fn owe(&self, checkpoint: u64, committables: &[Committable]) {
        lock(&self.0.owed).insert(checkpoint, committables.to_vec());
    }

    /// Makes the output of a checkpoint visible. After a failure it may be tried again.
    fn commit(&self, checkpoint: u64, committables: &[Committable]) -> Result<(), TaskFailure> {
        caught(|| lock(&self.0.committers).commit(&by_node(committables)))?;
        lock(&self.0.owed).remove(&checkpoint);
        Ok(())
    }

    /// Makes the rest visible, after which nothing follows. After a failure it may be tried again.
    fn commit_last(&self, committables: &[Committable]) -> Result<(), TaskFailure> {
        caught(|| lock(&self.0.committers).commit_last(by_node(committables)))?;
        lock(&self.0.owed).clear();
        Ok(())
    }

    /// Commits and discards, in order and on a thread of its own, until the sender is gone.
    pub(super) fn serve(&self) -> io::Result<CommitOrders> {
        let (sender, orders) = channel();
        let this = self.clone();
        thread::Builder::new().name("weir-committer".into()).spawn(move || this.follow(orders))?;
        Ok(CommitOrders { commits: self.clone(), sender })
    }

    fn follow(&self, orders: Receiver<CommitOrder>) {
        for order in orders {
            match order {
                CommitOrder::Commit { checkpoint: Some(checkpoint), committables, done } => {
                    done(self.commit(checkpoint, &committables));
                }
                CommitOrder::Commit { checkpoint: None, committables, done } => done(self.commit_last(&committables)),
                CommitOrder::Discard { done } => {
                    self.discard();
                    done();
                }
            }
        }
    }

    /// Removes what was written aside and is not committed. The output of complete checkpoints is committed before that.
    pub(super) fn discard(&self) {
        self.discard_with(&mut lock(&self.0.committers));
    }

    fn discard_with(&self, committers: &mut Committers) {
        let owed = std::mem::take(&mut *lock(&self.0.owed));
        for (checkpoint, committables) in owed {
            if let Err(error) = caught(|| committers.commit(&by_node(&committables))) {
                terminal::err(format!(
                    "the output of checkpoint {checkpoint} cannot be made visible: {error}; it is kept for a job that is restored from it"
                ));
                committers.leave(committables.iter().map(|committable| committable.node));
            }
        }
        committers.discard_all();
    }

    /// For a process that ends early: as [`discard`](Self::discard), unless there may be checkpoints to go on from. Gives up after
    /// `patience` when a commit or a slow storage is in the way: what stays is hidden and removed by the next run.
    pub(super) fn discard_unless_kept(&self, patience: Duration) {
        if self.0.kept.load(Ordering::Acquire) {
            // Dropping a committer would remove what it has written aside.
            std::mem::forget(self.clone());
            return;
        }
        self.discard_within(patience);
    }

    /// As [`discard`](Self::discard), but gives up after `patience`.
    pub(super) fn discard_within(&self, patience: Duration) {
        let started = Instant::now();
        loop {
            match self.0.committers.try_lock() {
                Ok(mut committers) => return self.discard_with(&mut committers),
                Err(TryLockError::Poisoned(committers)) => return self.discard_with(&mut committers.into_inner()),
                Err(TryLockError::WouldBlock) if started.elapsed() >= patience => return,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// What the committers are asked for; done in order.
enum CommitOrder {
    Commit {
        /// Complete; none: the job has finished.
        checkpoint: Option<u64>,
        committables: Vec<Committable>,
        done: Box<dyn FnOnce(Result<(), TaskFailure>) + Send>,
    },
    Discard {
        done: Box<dyn FnOnce() + Send>,
    },
}

/// Where commits are ordered.
#[derive(Clone)]
pub(super) struct CommitOrders {
    commits: Commits,
    sender: Sender<CommitOrder>,
}

impl CommitOrders {
    /// Has output made visible: that of a checkpoint, or all that is left of a job that has finished.
    pub(super) fn commit(
        &self,
        checkpoint: Option<u64>,
        committables: Vec<Committable>,
        done: impl FnOnce(Result<(), TaskFailure>) + Send + 'static,
    ) {
        if let Some(checkpoint) = checkpoint {
            self.commits.owe(checkpoint, &committables);
        }
        // The thread lives as long as this.
        let _ = self.sender.send(CommitOrder::Commit { checkpoint, committables, done: Box::new(done) });
    }

    /// Has removed what is not committed.
    pub(super) fn discard(&self, done: impl FnOnce() + Send + 'static) {
        // As above.
        let _ = self.sender.send(CommitOrder::Discard { done: Box::new(done) });
    }
}

/// Runs code of committers; a panic in it is an error like others.
fn caught(code: impl FnOnce() -> Result<(), SinkError>) -> Result<(), TaskFailure> {
    failure::catch(|| Ok(code()), |_| String::new())
        .unwrap_or_else(|error| Err(SinkError::new(format!("the sink's committer {error}"))))
        .map_err(|error| TaskFailure::new(FailureKind::Sink, error))
}

/// Commits what is to be restored and discards what else a run of the job wrote aside whose coordinator was killed before it could.
fn clean_up_after(sinks: &Sinks, run_id: &str, restored: Option<&Payloads>) -> Result<()> {
    let context = CommitterContext { run_id: run_id.to_owned(), restored: restored.is_some() };
    for (node, sink) in sinks {
        let clean_up = || {
            let mut committer = match sink.create_committer(&context) {
                Ok(Some(committer)) => committer,
                Ok(None) => return Ok(Ok(())),
                Err(error) => {
                    // Opening the output for the new run says more, if it concerns that one too.
                    terminal::err(format!("what run {run_id} left cannot be removed: {error}"));
                    return Ok(Ok(()));
                }
            };
            if let Some(payloads) = restored
                && let Err(error) = committer.commit(payloads.get(node).cloned().unwrap_or_default())
            {
                // Neither aborted nor dropped: both would remove what is still to be committed.
                std::mem::forget(committer);
                return Ok(Err(error));
            }
            committer.abort();
            Ok(Ok(()))
        };
        match failure::catch(clean_up, |_| String::new()) {
            Ok(result) => result?,
            Err(error) => terminal::err(format!("cleaning up after run {run_id} failed: the sink's committer {error}")),
        }
    }
    Ok(())
}

impl Committers {
    /// Commits what there is for each.
    fn commit(&mut self, payloads: &Payloads) -> Result<(), SinkError> {
        for (node, payloads) in payloads {
            if let Some(committer) = self.by_node.get_mut(node) {
                committer.commit(payloads.clone())?;
            }
        }
        Ok(())
    }

    /// As [`commit`](Self::commit), with those for whom there is nothing.
    fn commit_all(&mut self, payloads: &Payloads) -> Result<(), SinkError> {
        for (node, committer) in &mut self.by_node {
            committer.commit(payloads.get(node).cloned().unwrap_or_default())?;
        }
        Ok(())
    }

    fn commit_last(&mut self, mut payloads: Payloads) -> Result<(), SinkError> {
        for (node, committer) in &mut self.by_node {
            if !self.done.contains(node) {
                committer.commit(payloads.remove(node).unwrap_or_default())?;
                self.done.push(*node);
            }
        }
        // Dropping a committer lets go of what it holds, such as the lock of its output.
        self.by_node.clear();
        Ok(())
    }

    /// Lets these go without touching what they have written aside.
    fn leave(&mut self, nodes: impl Iterator<Item = u32>) {
        nodes.filter_map(|node| self.by_node.remove(&node)).for_each(std::mem::forget);
    }

    fn discard_all(&mut self) {
        for (node, committer) in &mut self.by_node {
            if self.done.contains(node) {
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
