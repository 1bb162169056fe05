//! What a JobGraph must satisfy before anything is scheduled.

use std::collections::HashMap;

use super::{JobGraph, JobVertex, OperatorKind, Partitioner};
use crate::{OperatorId, VertexId, key_group::MAX_KEY_GROUPS};

/// Why a JobGraph cannot be run. Who: the job's author. What now: change the job or its options, then submit again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJobGraph {
    /// There is nothing to run.
    #[error("the job {job:?} has no operators: add a source and a sink to its environment")]
    NoVertices {
        /// Name of the job.
        job: String,
    },
    /// A vertex without an operator: a mistake of the builder, not of the author.
    #[error(
        "vertex {vertex} ({name:?}) has no operators; a vertex holds at least one: this is a bug of the graph's builder"
    )]
    NoOperators {
        /// Position of the vertex.
        vertex: usize,
        /// Its name.
        name: String,
    },
    /// Parallelism 0.
    #[error(
        "{name:?} has parallelism 0, but at least 1 subtask is needed: \
         set `.parallelism(n)`, `--parallelism n` or `parallelism.default` to 1 or more"
    )]
    ZeroParallelism {
        /// Name of the vertex.
        name: String,
    },
    /// Max-parallelism 0 or above [`MAX_KEY_GROUPS`].
    #[error(
        "{name:?} has max-parallelism {found}, but it must lie between 1 and {MAX_KEY_GROUPS}: \
         change `.max_parallelism(n)` or `pipeline.max-parallelism`"
    )]
    MaxParallelismOutOfRange {
        /// Name of the vertex.
        name: String,
        /// What was set.
        found: u32,
    },
    /// More subtasks than key groups.
    #[error(
        "{name:?} has parallelism {parallelism}, which is above its max-parallelism {max_parallelism}: \
         lower the parallelism, or raise `.max_parallelism(n)` or `pipeline.max-parallelism` (at most {MAX_KEY_GROUPS})"
    )]
    ParallelismAboveMax {
        /// Name of the vertex.
        name: String,
        /// Its parallelism.
        parallelism: u32,
        /// Its max-parallelism.
        max_parallelism: u32,
    },
    /// One uid on two operators.
    #[error(
        "the operators {first:?} and {second:?} both have the uid {uid:?}, but a uid names the state of one operator: \
         give each its own `.uid(…)`"
    )]
    DuplicateUid {
        /// The uid.
        uid: String,
        /// Name of the operator that comes first.
        first: String,
        /// Name of the other.
        second: String,
    },
    /// One operator id on two operators: possible only by a hash collision or a mistake of the builder.
    #[error(
        "the operators {first:?} and {second:?} have the same id {id}, but ids must differ: give each its own `.uid(…)`"
    )]
    DuplicateOperatorId {
        /// The id.
        id: OperatorId,
        /// Name of the operator that comes first.
        first: String,
        /// Name of the other.
        second: String,
    },
    /// One vertex id on two vertices.
    #[error(
        "the vertices {first:?} and {second:?} have the same id {id}, but ids must differ: give their operators a `.uid(…)`"
    )]
    DuplicateVertexId {
        /// The id.
        id: VertexId,
        /// Name of the vertex that comes first.
        first: String,
        /// Name of the other.
        second: String,
    },
    /// An edge that refers to a vertex which is not there.
    #[error(
        "edge {edge} leads from vertex {source_index} to vertex {target_index}, but the graph has {vertices} vertices, \
         numbered from 0: this is a bug of the graph's builder"
    )]
    DanglingEdge {
        /// Position of the edge.
        edge: usize,
        /// Position of the producer it names.
        source_index: u32,
        /// Position of the consumer it names.
        target_index: u32,
        /// Number of vertices in the graph.
        vertices: usize,
    },
    /// An edge backwards, or from a vertex to itself.
    #[error(
        "an edge leads from {producer:?} back to {consumer:?}, but a job's graph has no cycles and its vertices stand in \
         topological order: feed results back through an external system instead"
    )]
    NotTopological {
        /// Name of the producing vertex.
        producer: String,
        /// Name of the consuming vertex, which comes earlier or is the same.
        consumer: String,
    },
    /// A forward edge between vertices of different parallelism.
    #[error(
        "a forward edge leads from {producer:?} (parallelism {producer_parallelism}) to {consumer:?} (parallelism \
         {consumer_parallelism}), but forward needs the same parallelism on both sides: set them equal, or use `.rebalance()` or `.rescale()`"
    )]
    ForwardNeedsEqualParallelism {
        /// Name of the producing vertex.
        producer: String,
        /// Its parallelism.
        producer_parallelism: u32,
        /// Name of the consuming vertex.
        consumer: String,
        /// Its parallelism.
        consumer_parallelism: u32,
    },
    /// A path through the graph that ends in something other than a sink.
    #[error(
        "the output of {operator:?} goes nowhere: every path of a job must end in a sink; add one, e.g. \
         `.print()`, `.write_text(…)` or `.discard()`, or remove the operator"
    )]
    NoSink {
        /// Name of the operator whose output nobody takes.
        operator: String,
    },
}

impl JobGraph {
    /// Checks that the graph can be run, and reports the first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), InvalidJobGraph> {
        if self.vertices.is_empty() {
            return Err(InvalidJobGraph::NoVertices { job: self.name.clone() });
        }
        for (index, vertex) in self.vertices.iter().enumerate() {
            check_vertex(index, vertex)?;
        }
        self.check_ids()?;
        self.check_edges()?;
        self.check_sinks()
    }

    fn check_ids(&self) -> Result<(), InvalidJobGraph> {
        let mut vertices = HashMap::new();
        for vertex in &self.vertices {
            if let Some(first) = vertices.insert(vertex.id, &vertex.name) {
                let (first, second) = (first.clone(), vertex.name.clone());
                return Err(InvalidJobGraph::DuplicateVertexId { id: vertex.id, first, second });
            }
        }
        let mut uids = HashMap::new();
        let operators = || self.vertices.iter().flat_map(|vertex| &vertex.operators);
        for operator in operators() {
            let Some(uid) = &operator.uid else { continue };
            if let Some(first) = uids.insert(uid, &operator.name) {
                let (first, second) = (first.clone(), operator.name.clone());
                return Err(InvalidJobGraph::DuplicateUid { uid: uid.clone(), first, second });
            }
        }
        // After the uids: equal uids also give equal ids, and the uid is what the author knows.
        let mut ids = HashMap::new();
        for operator in operators() {
            if let Some(first) = ids.insert(operator.id, &operator.name) {
                let (first, second) = (first.clone(), operator.name.clone());
                return Err(InvalidJobGraph::DuplicateOperatorId { id: operator.id, first, second });
            }
        }
        Ok(())
    }

    fn check_edges(&self) -> Result<(), InvalidJobGraph> {
        for (index, edge) in self.edges.iter().enumerate() {
            let vertex = |position: u32| {
                self.vertices.get(position as usize).ok_or(InvalidJobGraph::DanglingEdge {
                    edge: index,
                    source_index: edge.source,
                    target_index: edge.target,
                    vertices: self.vertices.len(),
                })
            };
            let (producer, consumer) = (vertex(edge.source)?, vertex(edge.target)?);
            if edge.source >= edge.target {
                return Err(InvalidJobGraph::NotTopological {
                    producer: producer.name.clone(),
                    consumer: consumer.name.clone(),
                });
            }
            if edge.partitioner == Partitioner::Forward && producer.parallelism != consumer.parallelism {
                return Err(InvalidJobGraph::ForwardNeedsEqualParallelism {
                    producer: producer.name.clone(),
                    producer_parallelism: producer.parallelism,
                    consumer: consumer.name.clone(),
                    consumer_parallelism: consumer.parallelism,
                });
            }
        }
        Ok(())
    }

    /// In a graph without cycles every path reaches a vertex without outgoing edges, so checking those covers every path.
    fn check_sinks(&self) -> Result<(), InvalidJobGraph> {
        let mut has_output = vec![false; self.vertices.len()];
        for edge in &self.edges {
            has_output[edge.source as usize] = true;
        }
        for (vertex, has_output) in self.vertices.iter().zip(has_output) {
            let Some(last) = vertex.operators.last() else { continue };
            if !has_output && last.kind != OperatorKind::Sink {
                return Err(InvalidJobGraph::NoSink { operator: last.name.clone() });
            }
        }
        Ok(())
    }
}

fn check_vertex(index: usize, vertex: &JobVertex) -> Result<(), InvalidJobGraph> {
    let name = || vertex.name.clone();
    let &JobVertex { parallelism, max_parallelism, .. } = vertex;
    if vertex.operators.is_empty() {
        return Err(InvalidJobGraph::NoOperators { vertex: index, name: name() });
    }
    if !(1..=MAX_KEY_GROUPS).contains(&max_parallelism) {
        return Err(InvalidJobGraph::MaxParallelismOutOfRange { name: name(), found: max_parallelism });
    }
    if parallelism == 0 {
        return Err(InvalidJobGraph::ZeroParallelism { name: name() });
    }
    if parallelism > max_parallelism {
        return Err(InvalidJobGraph::ParallelismAboveMax { name: name(), parallelism, max_parallelism });
    }
    Ok(())
}
