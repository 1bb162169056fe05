//! The current attempt of every task.

use std::time::Duration;

use weir_model::ExecutionState;

const STATES: usize = ExecutionState::ALL.len();
const NEVER: u64 = u64::MAX;

/// The current attempt of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its state.
    pub state: ExecutionState,
    /// The deployment it belongs to.
    pub deployment: u32,
    /// When it entered each state, in the order of [`ExecutionState::ALL`], to the millisecond.
    pub entered: [Option<Duration>; STATES],
}

/// One [`Execution`] a task, in the graph's order.
#[derive(Debug, Clone)]
pub(super) struct Executions {
    states: Vec<ExecutionState>,
    deployments: Vec<u32>,
    workers: Vec<u32>,
    /// In milliseconds.
    entered: Vec<[u64; STATES]>,
    counts: [u32; STATES],
}

impl Executions {
    /// All tasks CREATED, as of deployment 0.
    pub(super) fn new(tasks: u32) -> Self {
        let mut counts = [0; STATES];
        counts[ExecutionState::Created as usize] = tasks;
        let tasks = tasks as usize;
        Self {
            states: vec![ExecutionState::Created; tasks],
            deployments: vec![0; tasks],
            workers: vec![0; tasks],
            entered: vec![[NEVER; STATES]; tasks],
            counts,
        }
    }

    pub(super) fn get(&self, index: usize) -> Execution {
        let time = |millis: u64| (millis != NEVER).then(|| Duration::from_millis(millis));
        Execution {
            state: self.states[index],
            deployment: self.deployments[index],
            entered: self.entered[index].map(time),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn state(&self, index: usize) -> ExecutionState {
        self.states[index]
    }

    pub(super) fn deployment(&self, index: usize) -> u32 {
        self.deployments[index]
    }

    pub(super) fn worker(&self, index: usize) -> u32 {
        self.workers[index]
    }

    pub(super) fn set_worker(&mut self, index: usize, worker: u32) {
        self.workers[index] = worker;
    }

    pub(super) fn count(&self, state: ExecutionState) -> u32 {
        self.counts[state as usize]
    }

    /// Number of tasks that have not ended.
    pub(super) fn remaining(&self) -> u32 {
        let ended = ExecutionState::ALL.into_iter().filter(|state| state.is_terminal()).map(|state| self.count(state));
        self.len() as u32 - ended.sum::<u32>()
    }

    pub(super) fn enter(&mut self, index: usize, to: ExecutionState, now: Duration) {
        let from = self.states[index];
        assert!(from.can_become(to), "task {index} must not go from {from} to {to}");
        self.put(index, to, now);
    }

    /// Begins another attempt of a task, which must have ended or never begun.
    pub(super) fn renew(&mut self, index: usize, deployment: u32, now: Duration) {
        let from = self.states[index];
        assert!(from.is_terminal() || from == ExecutionState::Created, "task {index} is {from} and cannot begin anew");
        self.deployments[index] = deployment;
        self.entered[index] = [NEVER; STATES];
        self.put(index, ExecutionState::Created, now);
    }

    fn put(&mut self, index: usize, to: ExecutionState, now: Duration) {
        let from = std::mem::replace(&mut self.states[index], to);
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
        self.entered[index][to as usize] = now.as_millis() as u64;
    }
}
