//! The parallel form of a job: vertices with their subtasks, and the exchanges between them as groups.

use std::ops::Range;

use weir_model::{DistributionPattern, InvalidJobGraph, JobGraph, KeyGroups, Partitioner, TaskId, VertexId};

/// A job's tasks and the connections between them.
///
/// Takes memory by vertices and edges of the JobGraph, not by tasks, let alone by channels: subtasks are numbers, and which of them an
/// edge connects is computed from its pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionGraph {
    job_name: String,
    vertices: Vec<ExecutionJobVertex>,
    edges: Vec<ExecutionEdge>,
    /// Number of tasks in the vertices before; one entry more than vertices.
    first_task: Vec<u32>,
}

/// A vertex with all its subtasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionJobVertex {
    /// The vertex's id.
    pub id: VertexId,
    /// Its name.
    pub name: String,
    /// Number of subtasks and key groups, and how the groups lie on the subtasks.
    pub key_groups: KeyGroups,
    /// Name of its slot sharing group.
    pub slot_sharing_group: String,
}

/// An exchange: all channels of one JobEdge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionEdge {
    /// Position of the producing vertex.
    pub source: u32,
    /// Output port of the producer.
    pub source_port: u32,
    /// Position of the consuming vertex.
    pub target: u32,
    /// Input of the consumer.
    pub target_input: u32,
    /// How records are distributed.
    pub partitioner: Partitioner,
    /// Number of producing subtasks.
    pub producers: u32,
    /// Number of consuming subtasks.
    pub consumers: u32,
}

impl ExecutionEdge {
    /// Which subtasks the edge connects.
    pub fn pattern(&self) -> DistributionPattern {
        self.partitioner.pattern()
    }

    /// The consumers that producer `subtask` is connected with.
    pub fn consumers_of(&self, subtask: u32) -> Range<u32> {
        self.pattern().consumers(subtask, self.producers, self.consumers)
    }

    /// The producers that consumer `subtask` is connected with.
    pub fn producers_of(&self, subtask: u32) -> Range<u32> {
        self.pattern().producers(subtask, self.producers, self.consumers)
    }

    /// Number of channels: connected pairs of producer and consumer.
    pub fn channel_count(&self) -> u64 {
        match self.pattern() {
            DistributionPattern::AllToAll => u64::from(self.producers) * u64::from(self.consumers),
            DistributionPattern::Pointwise => u64::from(self.producers.max(self.consumers)),
        }
    }
}

impl ExecutionGraph {
    /// The parallel form of `graph`, which is validated first.
    pub fn new(graph: &JobGraph) -> Result<Self, InvalidJobGraph> {
        graph.validate()?;
        let vertices: Vec<_> = graph
            .vertices
            .iter()
            .map(|vertex| ExecutionJobVertex {
                id: vertex.id,
                name: vertex.name.clone(),
                key_groups: vertex.key_groups(),
                slot_sharing_group: vertex.slot_sharing_group.clone(),
            })
            .collect();
        let parallelism = |vertex: u32| graph.vertices[vertex as usize].parallelism;
        let edges = graph
            .edges
            .iter()
            .map(|edge| ExecutionEdge {
                source: edge.source,
                source_port: edge.source_port,
                target: edge.target,
                target_input: edge.target_input,
                partitioner: edge.partitioner.clone(),
                producers: parallelism(edge.source),
                consumers: parallelism(edge.target),
            })
            .collect();
        let mut first_task = vec![0];
        for vertex in &vertices {
            let before = first_task[first_task.len() - 1];
            first_task.push(before + vertex.key_groups.parallelism);
        }
        Ok(Self { job_name: graph.name.clone(), vertices, edges, first_task })
    }

    /// The job's name.
    pub fn job_name(&self) -> &str {
        &self.job_name
    }

    /// The vertices, in the order of the JobGraph.
    pub fn vertices(&self) -> &[ExecutionJobVertex] {
        &self.vertices
    }

    /// The exchanges, in the order of the JobGraph.
    pub fn edges(&self) -> &[ExecutionEdge] {
        &self.edges
    }

    /// Number of tasks.
    pub fn task_count(&self) -> u32 {
        self.first_task[self.vertices.len()]
    }

    /// Number of channels of all edges.
    pub fn channel_count(&self) -> u64 {
        self.edges.iter().map(ExecutionEdge::channel_count).sum()
    }

    /// All tasks, by vertex and subtask.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        (0u32..)
            .zip(&self.vertices)
            .flat_map(|(vertex, data)| (0..data.key_groups.parallelism).map(move |subtask| TaskId { vertex, subtask }))
    }

    /// Whether the job has this task.
    pub fn contains(&self, task: TaskId) -> bool {
        self.vertices.get(task.vertex as usize).is_some_and(|vertex| task.subtask < vertex.key_groups.parallelism)
    }

    /// The task as people know it: `Count (2/4)`, subtasks counted from 1 as in Flink.
    pub fn task_name(&self, task: TaskId) -> String {
        let vertex = &self.vertices[task.vertex as usize];
        format!("{} ({}/{})", vertex.name, task.subtask + 1, vertex.key_groups.parallelism)
    }

    /// The position in [`Self::tasks`] of a task of the job.
    pub fn index_of(&self, task: TaskId) -> usize {
        debug_assert!(self.contains(task), "{task:?}");
        (self.first_task[task.vertex as usize] + task.subtask) as usize
    }

    /// The task at a position in [`Self::tasks`], which must be below [`Self::task_count`].
    pub fn task_at(&self, index: u32) -> TaskId {
        debug_assert!(index < self.task_count(), "{index}");
        // Every vertex has a task, so no two begin at the same position.
        let vertex = self.first_task.partition_point(|&first| first <= index) - 1;
        TaskId { vertex: vertex as u32, subtask: index - self.first_task[vertex] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chain, job};

    #[test]
    fn tasks_are_numbered_by_vertex_and_subtask() {
        let graph =
            ExecutionGraph::new(&job(&[2, 3, 1], &[(0, 1, Partitioner::Hash), (1, 2, Partitioner::Global)])).unwrap();
        assert_eq!(graph.task_count(), 6);
        for (index, task) in graph.tasks().enumerate() {
            assert_eq!(graph.index_of(task), index);
            assert_eq!(graph.task_at(index as u32), task);
            assert!(graph.contains(task));
        }
        assert_eq!(graph.task_name(TaskId { vertex: 1, subtask: 2 }), "V1 (3/3)");
        assert!(!graph.contains(TaskId { vertex: 1, subtask: 3 }));
        assert!(!graph.contains(TaskId { vertex: 3, subtask: 0 }));
        assert_eq!(graph.channel_count(), 6 + 3);
    }

    #[test]
    fn a_pointwise_edge_has_as_many_channels_as_its_wider_side() {
        for (producers, consumers) in [(1, 1), (2, 5), (5, 2), (7, 3)] {
            let graph = ExecutionGraph::new(&chain(&[producers, consumers], Partitioner::Rescale)).unwrap();
            let edge = &graph.edges()[0];
            let channels: usize = (0..producers).map(|subtask| edge.consumers_of(subtask).len()).sum();
            assert_eq!(channels as u64, edge.channel_count());
        }
    }

    #[test]
    fn an_invalid_job_is_refused() {
        let error = ExecutionGraph::new(&chain(&[2, 3], Partitioner::Forward)).unwrap_err();
        assert!(matches!(error, InvalidJobGraph::ForwardNeedsEqualParallelism { .. }), "{error}");
    }
}
