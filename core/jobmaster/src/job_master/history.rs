//! The failures of a job, newest first.

use std::collections::VecDeque;

use weir_model::{FailureKind, FailureView, JobStatus};
use weir_scheduler::FailureRecord;

use super::JobMaster;

/// Failures that were handled together, in the order in which they came.
type Group = Vec<FailureView>;

/// The last failures.
#[derive(Debug)]
pub(super) struct FailureHistory {
    limit: usize,
    groups: VecDeque<Group>,
    truncated: bool,
}

impl FailureHistory {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), groups: VecDeque::new(), truncated: false }
    }

    fn add(&mut self, first: bool, failure: FailureView) {
        match self.groups.front_mut() {
            Some(group) if !first => group.push(failure),
            Some(_) | None => self.groups.push_front(vec![failure]),
        }
        if self.groups.len() > self.limit {
            self.groups.pop_back();
            self.truncated = true;
        }
    }

    pub(super) fn truncated(&self) -> bool {
        self.truncated
    }

    /// Root failures with those that came with them, newest first.
    pub(super) fn failures(&self) -> impl Iterator<Item = FailureView> + '_ {
        self.groups.iter().map(with_root_first)
    }
}

/// When a worker fails, its neighbours' complaints about broken connections can arrive before what is told of it.
fn with_root_first(group: &Group) -> FailureView {
    let root = group.iter().position(|failure| failure.failure.kind != FailureKind::Network).unwrap_or(0);
    let mut concurrent = group.clone();
    let root = concurrent.remove(root);
    FailureView { concurrent, ..root }
}

impl JobMaster {
    /// Keeps a failure, with where it happened.
    pub(super) fn remember(&mut self, first: bool, record: FailureRecord) {
        let index = record.task.map(|task| self.scheduler.graph().index_of(task));
        let location = index.and_then(|index| self.tasks.get(index).location.clone());
        let failure = FailureView {
            failure: record.failure,
            task: record.task,
            task_name: record.task_name,
            task_manager: location.as_ref().map(|location| location.task_manager.clone()),
            host: location.map(|location| location.host.to_string()),
            timestamp: record.at.as_millis() as u64,
            concurrent: Vec::new(),
        };
        self.history.add(first, failure);
    }

    /// The history as it is shown: the failure that ended the job says why it was not the begin of a restart.
    pub(super) fn failures(&self) -> Vec<FailureView> {
        let mut failures: Vec<_> = self.history.failures().collect();
        let failed = matches!(self.scheduler.status(), JobStatus::Failing | JobStatus::Failed);
        if let (true, Some(last), Some(why)) = (failed, failures.first_mut(), self.scheduler.not_restarted()) {
            last.failure.message = format!("{}\n{why}", last.failure.message);
        }
        failures
    }
}
