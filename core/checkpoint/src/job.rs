//! What a coordinator knows of the job whose checkpoints it decides about.

use std::collections::BTreeMap;

use weir_model::{DistributionPattern, JobGraph, JobId, OperatorId, OperatorInfo, OperatorKind, TaskId, VertexId};

/// The job as checkpoints see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointJob {
    /// Its id.
    pub id: JobId,
    /// Its name, for people who look at savepoints.
    pub name: String,
    /// In the order of the JobGraph.
    pub vertices: Vec<JobVertexState>,
    /// Which operator a node of the StreamGraph became. Tasks name sinks by their node.
    pub nodes: BTreeMap<u32, OperatorId>,
    first_task: Vec<usize>,
}

/// A vertex as checkpoints see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobVertexState {
    /// Its id.
    pub id: VertexId,
    /// Its name.
    pub name: String,
    /// Upstream first.
    pub operators: Vec<OperatorInfo>,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The edges into it.
    pub inputs: Vec<VertexInput>,
}

/// An edge as its consumer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VertexInput {
    /// Position of the producing vertex.
    pub producer: u32,
    /// Which of its subtasks are connected with which of the consumer's.
    pub pattern: DistributionPattern,
}

impl CheckpointJob {
    /// The job with this graph, which must be valid. `nodes` says which operator each node of the StreamGraph became.
    pub fn new(id: JobId, graph: &JobGraph, nodes: BTreeMap<u32, OperatorId>) -> Self {
        let vertices: Vec<_> = (0u32..)
            .zip(&graph.vertices)
            .map(|(position, vertex)| JobVertexState {
                id: vertex.id,
                name: vertex.name.clone(),
                operators: vertex.operators.clone(),
                parallelism: vertex.parallelism,
                max_parallelism: vertex.max_parallelism,
                inputs: graph
                    .in_edges(position)
                    .map(|edge| VertexInput { producer: edge.source, pattern: edge.partitioner.pattern() })
                    .collect(),
            })
            .collect();
        let mut first_task = vec![0];
        for vertex in &vertices {
            first_task.push(first_task[first_task.len() - 1] + vertex.parallelism as usize);
        }
        Self { id, name: graph.name.clone(), vertices, nodes, first_task }
    }

    /// Number of tasks.
    pub fn task_count(&self) -> usize {
        self.first_task[self.vertices.len()]
    }

    /// All tasks, by vertex and subtask.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        (0u32..)
            .zip(&self.vertices)
            .flat_map(|(vertex, data)| (0..data.parallelism).map(move |subtask| TaskId { vertex, subtask }))
    }

    /// Whether any vertex reads from outside, so that there are enumerators whose state belongs to a checkpoint.
    pub fn has_enumerators(&self) -> bool {
        let heads = self.vertices.iter().filter_map(|vertex| vertex.operators.first());
        heads.into_iter().any(|head| matches!(head.kind, OperatorKind::Source { .. }))
    }

    /// The task as people know it: `Count (2/4)`.
    pub fn task_name(&self, task: TaskId) -> String {
        match self.vertices.get(task.vertex as usize) {
            Some(vertex) => format!("{} ({}/{})", vertex.name, task.subtask + 1, vertex.parallelism),
            None => format!("task {}/{}, which the job has not", task.vertex, task.subtask),
        }
    }

    /// The position in [`Self::tasks`]; `None` if the job has no such task.
    pub(crate) fn index_of(&self, task: TaskId) -> Option<usize> {
        let vertex = self.vertices.get(task.vertex as usize)?;
        (task.subtask < vertex.parallelism).then(|| self.first_task[task.vertex as usize] + task.subtask as usize)
    }
}
