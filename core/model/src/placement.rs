//! Placement: which worker runs which task.

use crate::TaskId;

/// The worker of every task of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    workers: u32,
    by_vertex: Vec<Vec<u32>>,
}

impl Placement {
    /// Stands for the worker of a task that is not part of the deployment: one whose region runs elsewhere or has ended.
    pub const ABSENT: u32 = u32::MAX;

    /// `by_vertex[vertex][subtask]` is the worker of a task, below `workers`, or [`ABSENT`](Self::ABSENT).
    pub fn new(workers: u32, by_vertex: Vec<Vec<u32>>) -> Self {
        debug_assert!(
            by_vertex.iter().flatten().all(|&worker| worker < workers || worker == Self::ABSENT),
            "a task is placed beyond {workers} workers"
        );
        Self { workers, by_vertex }
    }

    /// Number of workers, with those that got nothing.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// Number of vertices, placed or not.
    pub fn vertices(&self) -> u32 {
        self.by_vertex.len() as u32
    }

    /// The number of subtasks of each vertex, placed or not.
    pub fn parallelism(&self) -> Vec<u32> {
        self.by_vertex.iter().map(|subtasks| subtasks.len() as u32).collect()
    }

    /// The worker of a task.
    pub fn worker_of(&self, task: TaskId) -> u32 {
        self.by_vertex[task.vertex as usize][task.subtask as usize]
    }

    /// The worker of each subtask of a vertex.
    pub fn workers_of_vertex(&self, vertex: u32) -> &[u32] {
        &self.by_vertex[vertex as usize]
    }

    /// All tasks that are placed, by vertex and subtask.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        (0u32..)
            .zip(&self.by_vertex)
            .flat_map(|(vertex, workers)| (0..workers.len() as u32).map(move |subtask| TaskId { vertex, subtask }))
            .filter(|&task| self.worker_of(task) != Self::ABSENT)
    }

    /// The tasks of one worker, by vertex and subtask.
    pub fn tasks_of(&self, worker: u32) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks().filter(move |&task| self.worker_of(task) == worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_listed_by_worker() {
        let placement = Placement::new(3, vec![vec![0, 1], vec![1, Placement::ABSENT]]);
        let task = |vertex, subtask| TaskId { vertex, subtask };
        assert_eq!(placement.tasks_of(1).collect::<Vec<_>>(), [task(0, 1), task(1, 0)]);
        assert_eq!(placement.tasks_of(2).count(), 0);
        assert_eq!(placement.tasks().count(), 3);
        assert_eq!((placement.worker_of(task(0, 1)), placement.workers_of_vertex(0)), (1, [0, 1].as_slice()));
    }
}
