//! The JobGraph: what a job's builder produces and every component of the cluster reads.

use std::collections::BTreeMap;

use crate::{OperatorId, VertexId};

#[cfg(test)]
mod tests;
mod validate;

pub use validate::InvalidJobGraph;

/// A job as a graph of vertices (chains of fused operators) and edges (exchanges between them).
///
/// Vertices stand in topological order: an edge always leads from a lower to a higher index.
#[derive(Debug, Clone, PartialEq)]
pub struct JobGraph {
    /// The job's name, as shown to people.
    pub name: String,
    /// Vertices in topological order; edges refer to them by position.
    pub vertices: Vec<JobVertex>,
    /// Edges in the order the builder made them.
    pub edges: Vec<JobEdge>,
    /// Options the builder or the command line set for this job, by key.
    pub config: BTreeMap<String, String>,
}

/// One chain of fused operators; runs as `parallelism` subtasks.
#[derive(Debug, Clone, PartialEq)]
pub struct JobVertex {
    /// Stable across runs of the same builder: derived from the first operator's uid or, without one, from its place in the graph.
    pub id: VertexId,
    /// The operators' names joined by ` -> `.
    pub name: String,
    /// Fused operators, upstream first; never empty.
    pub operators: Vec<OperatorInfo>,
    /// Number of subtasks, from 1 to `max_parallelism`.
    pub parallelism: u32,
    /// Number of key groups, at most [`MAX_KEY_GROUPS`](crate::MAX_KEY_GROUPS).
    pub max_parallelism: u32,
    /// Subtasks of vertices in one group may share a slot.
    pub slot_sharing_group: String,
}

/// One logical operator inside a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorInfo {
    /// Stable id: the hash of the uid, or of the operator's place in the graph.
    pub id: OperatorId,
    /// Name shown to people, e.g. `Map`.
    pub name: String,
    /// The author's stable name for state, unique in the job.
    pub uid: Option<String>,
    /// What role it plays.
    pub kind: OperatorKind,
}

/// Role of an operator in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperatorKind {
    /// Reads from outside. Bounded sources end by themselves.
    Source {
        /// Whether the input ends.
        bounded: bool,
    },
    /// Transforms records.
    Transform,
    /// Writes to the outside.
    Sink,
}

/// What a vertex and those of its operators are called whose records are counted; for whoever shows metrics of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexLabel {
    /// The vertex.
    pub id: VertexId,
    /// Its name.
    pub name: String,
    /// The first operator of the chain, and the last one if that is another. What passes between fused operators is not
    /// counted.
    pub operators: Vec<OperatorInfo>,
    /// Whether each record that leaves the chain leaves it once: over one edge to one consumer, or through one sink. Otherwise
    /// records are counted by consumer, and nobody knows how many an operator made.
    pub one_end: bool,
}

/// An exchange between two vertices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEdge {
    /// Position of the producing vertex in [`JobGraph::vertices`].
    pub source: u32,
    /// Output port of the producer: 0 is the main output, side outputs follow.
    pub source_port: u32,
    /// Position of the consuming vertex.
    pub target: u32,
    /// Input of the consumer: 0, or 1 for the second input of a connected operator.
    pub target_input: u32,
    /// How records are distributed over the consumer's subtasks.
    pub partitioner: Partitioner,
    /// Name of the record type that travels; a change of it changes the graph's hash.
    pub record_type: String,
}

/// How records of an edge find the consumer's subtask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Partitioner {
    /// Subtask i to subtask i; both sides have the same parallelism.
    Forward,
    /// Round robin over all consumers.
    Rebalance,
    /// Round robin over a consumer group next to the producer.
    Rescale,
    /// Uniformly at random.
    Shuffle,
    /// To every consumer.
    Broadcast,
    /// To the first consumer.
    Global,
    /// By the key group of the record's key.
    Hash,
    /// By a function of the job's author.
    Custom,
}

/// Which producers are connected with which consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DistributionPattern {
    /// Every producer with every consumer.
    AllToAll,
    /// Each producer with a contiguous range of consumers, or the other way round.
    Pointwise,
}

impl JobGraph {
    /// The edges into the vertex at position `vertex`, in the builder's order.
    pub fn in_edges(&self, vertex: u32) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.target == vertex)
    }

    /// The edges out of the vertex at position `vertex`, in the builder's order.
    pub fn out_edges(&self, vertex: u32) -> impl Iterator<Item = &JobEdge> {
        self.edges.iter().filter(move |edge| edge.source == vertex)
    }

    /// What the vertex at position `vertex` is called; `None` if there is none.
    pub fn vertex_label(&self, vertex: u32) -> Option<VertexLabel> {
        let chain = self.vertices.get(vertex as usize)?;
        let sinks = chain.operators.iter().filter(|operator| operator.kind == OperatorKind::Sink).count();
        let mut edges = self.out_edges(vertex);
        let one_end = match (edges.next(), edges.next()) {
            (None, _) => sinks == 1,
            (Some(edge), None) => sinks == 0 && edge.partitioner != Partitioner::Broadcast,
            (Some(_), Some(_)) => false,
        };
        let last = chain.operators.last().filter(|_| chain.operators.len() > 1);
        let operators = chain.operators.first().into_iter().chain(last).cloned().collect();
        Some(VertexLabel { id: chain.id, name: chain.name.clone(), operators, one_end })
    }

    /// Number of subtasks of all vertices together.
    pub fn task_count(&self) -> u64 {
        self.vertices.iter().map(|vertex| u64::from(vertex.parallelism)).sum()
    }

    /// The number of subtasks of each vertex.
    pub fn parallelism(&self) -> Vec<u32> {
        self.vertices.iter().map(|vertex| vertex.parallelism).collect()
    }

    /// The same job with other numbers of subtasks, one a vertex: chains and exchanges stay as they were built, and so do the ids.
    pub fn at_parallelism(&self, parallelism: &[u32]) -> JobGraph {
        debug_assert_eq!(parallelism.len(), self.vertices.len());
        let mut graph = self.clone();
        for (vertex, parallelism) in graph.vertices.iter_mut().zip(parallelism) {
            vertex.parallelism = *parallelism;
        }
        graph
    }

    /// Which vertices have the same number of subtasks whatever it is, because forward edges connect them: by vertex, the position of
    /// the first of those.
    pub fn bound_together(&self) -> Vec<u32> {
        let mut first: Vec<u32> = (0..self.vertices.len() as u32).collect();
        // Edges lead forwards, but two branches can meet late, so until nothing changes.
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for edge in self.edges.iter().filter(|edge| edge.partitioner == Partitioner::Forward) {
                let (source, target) = (edge.source as usize, edge.target as usize);
                let least = first[source].min(first[target]);
                changed |= first[source] != least || first[target] != least;
                (first[source], first[target]) = (least, least);
            }
        }
        first
    }

    /// Whether every source ends by itself, so that the job does.
    pub fn is_bounded(&self) -> bool {
        let mut operators = self.vertices.iter().flat_map(|vertex| &vertex.operators);
        operators.all(|operator| operator.kind != OperatorKind::Source { bounded: false })
    }
}

impl JobVertex {
    /// The vertex's key groups.
    pub fn key_groups(&self) -> crate::KeyGroups {
        crate::KeyGroups::new(self.max_parallelism, self.parallelism)
    }
}

impl Partitioner {
    /// Which channels this partitioner needs.
    pub fn pattern(&self) -> DistributionPattern {
        match self {
            Partitioner::Forward | Partitioner::Rescale => DistributionPattern::Pointwise,
            Partitioner::Rebalance
            | Partitioner::Shuffle
            | Partitioner::Broadcast
            | Partitioner::Global
            | Partitioner::Hash
            | Partitioner::Custom => DistributionPattern::AllToAll,
        }
    }

    /// The name used in plans and REST: `FORWARD`, `REBALANCE`, `HASH`, …
    pub fn name(&self) -> &'static str {
        match self {
            Partitioner::Forward => "FORWARD",
            Partitioner::Rebalance => "REBALANCE",
            Partitioner::Rescale => "RESCALE",
            Partitioner::Shuffle => "SHUFFLE",
            Partitioner::Broadcast => "BROADCAST",
            Partitioner::Global => "GLOBAL",
            Partitioner::Hash => "HASH",
            Partitioner::Custom => "CUSTOM",
        }
    }
}

impl DistributionPattern {
    /// The consumer subtasks that producer `subtask` is connected with, of `consumers` in all. Contiguous by construction.
    ///
    /// Pointwise follows Flink: with fewer producers each feeds a contiguous range of consumers, with more
    /// producers a contiguous range of them feeds one consumer.
    pub fn consumers(self, subtask: u32, producers: u32, consumers: u32) -> std::ops::Range<u32> {
        match self {
            DistributionPattern::AllToAll => 0..consumers,
            DistributionPattern::Pointwise if producers >= consumers => {
                let target = scaled(subtask, consumers, producers);
                target..target + 1
            }
            DistributionPattern::Pointwise => {
                // Consumer c belongs to producer floor(c * producers / consumers).
                let first = ceil_scaled(subtask, consumers, producers);
                let last = ceil_scaled(subtask + 1, consumers, producers);
                first..last
            }
        }
    }

    /// The producer subtasks that consumer `subtask` is connected with: the inverse of [`Self::consumers`].
    pub fn producers(self, subtask: u32, producers: u32, consumers: u32) -> std::ops::Range<u32> {
        match self {
            DistributionPattern::AllToAll => 0..producers,
            DistributionPattern::Pointwise => DistributionPattern::Pointwise.consumers(subtask, consumers, producers),
        }
    }
}

fn scaled(index: u32, to: u32, from: u32) -> u32 {
    (u64::from(index) * u64::from(to) / u64::from(from)) as u32
}

fn ceil_scaled(index: u32, to: u32, from: u32) -> u32 {
    (u64::from(index) * u64::from(to)).div_ceil(u64::from(from)) as u32
}
