//! Between which numbers of subtasks the vertices of a job may run.

use crate::{JobGraph, JobVertex, MAX_KEY_GROUPS};

/// The least and the greatest number of subtasks of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParallelismBounds {
    /// The vertex does not run with fewer; at least 1.
    pub lower: u32,
    /// It does not run with more; at most its max-parallelism.
    pub upper: u32,
}

/// Between which numbers of subtasks each vertex of a job runs, when there are slots for them. By position of the vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRequirements(pub Vec<ParallelismBounds>);

/// Why requirements cannot be those of a job. Who asked for them must change them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequirements {
    /// Not one for each vertex.
    #[error("{found} vertices are given bounds, but the job has {expected}; name each of them")]
    Vertices {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A lower bound of 0.
    #[error("the lower bound of {vertex:?} is 0, but a vertex runs with 1 subtask at least: set it to 1 or more")]
    Zero {
        /// Name of the vertex.
        vertex: String,
    },
    /// Nothing lies between the bounds.
    #[error(
        "the lower bound of {vertex:?} is {lower} and its upper bound {upper}; the upper one must not be less than the lower one"
    )]
    Reversed {
        /// Name of the vertex.
        vertex: String,
        /// Its lower bound.
        lower: u32,
        /// Its upper bound.
        upper: u32,
    },
    /// More subtasks than key groups.
    #[error(
        "the upper bound of {vertex:?} is {upper}, above its max-parallelism {max_parallelism}, which is part of its state and stays as it \
         is: ask for {max_parallelism} at most (a job that is built anew may have up to {MAX_KEY_GROUPS}, see `pipeline.max-parallelism`)"
    )]
    AboveMax {
        /// Name of the vertex.
        vertex: String,
        /// Its upper bound.
        upper: u32,
        /// Its max-parallelism.
        max_parallelism: u32,
    },
    /// Two vertices must run with equally many subtasks, and cannot.
    #[error(
        "{first:?} and {second:?} are connected by forward edges, so they run with equally many subtasks, but no number lies between the \
         bounds of both: give both the same bounds"
    )]
    Apart {
        /// Name of the one.
        first: String,
        /// Name of the other.
        second: String,
    },
}

impl ResourceRequirements {
    /// What a job needs about which nobody has said anything: as many subtasks as it was built with, or fewer.
    pub fn of(graph: &JobGraph) -> Self {
        let bounds = |vertex: &JobVertex| ParallelismBounds { lower: 1, upper: vertex.parallelism };
        Self(graph.vertices.iter().map(bounds).collect())
    }

    /// Checks that the job can run between them.
    pub fn validate(&self, graph: &JobGraph) -> Result<(), InvalidRequirements> {
        if self.0.len() != graph.vertices.len() {
            return Err(InvalidRequirements::Vertices { found: self.0.len(), expected: graph.vertices.len() });
        }
        for (vertex, &ParallelismBounds { lower, upper }) in graph.vertices.iter().zip(&self.0) {
            let name = || vertex.name.clone();
            if lower == 0 {
                return Err(InvalidRequirements::Zero { vertex: name() });
            }
            if lower > upper {
                return Err(InvalidRequirements::Reversed { vertex: name(), lower, upper });
            }
            let max_parallelism = vertex.max_parallelism;
            if upper > max_parallelism {
                return Err(InvalidRequirements::AboveMax { vertex: name(), upper, max_parallelism });
            }
        }
        let together = graph.bound_together();
        for (one, &first) in together.iter().enumerate() {
            for (other, _) in together.iter().enumerate().skip(one + 1).filter(|(_, with)| **with == first) {
                if self.0[one].lower.max(self.0[other].lower) > self.0[one].upper.min(self.0[other].upper) {
                    let name = |vertex: usize| graph.vertices[vertex].name.clone();
                    return Err(InvalidRequirements::Apart { first: name(one), second: name(other) });
                }
            }
        }
        Ok(())
    }

    /// The bounds that hold for each vertex together with those it runs in step with.
    pub fn in_step(&self, graph: &JobGraph) -> Vec<ParallelismBounds> {
        let together = graph.bound_together();
        let of = |first: u32| {
            let members = self.0.iter().zip(&together).filter(move |(_, with)| **with == first);
            let bounds = members.map(|(bounds, _)| *bounds);
            bounds.reduce(|a, b| ParallelismBounds { lower: a.lower.max(b.lower), upper: a.upper.min(b.upper) })
        };
        together.iter().zip(&self.0).map(|(&first, own)| of(first).unwrap_or(*own)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobEdge, OperatorId, OperatorInfo, OperatorKind, Partitioner, VertexId};

    /// Vertices A, B, … of these numbers of subtasks and a max-parallelism of 8.
    fn graph(parallelism: &[u32], edges: &[(u32, u32, Partitioner)]) -> JobGraph {
        let vertex = |(index, &parallelism): (usize, &u32)| {
            let name = char::from(b'A' + index as u8).to_string();
            let id = OperatorId::from_seed(name.as_bytes());
            let operators = vec![OperatorInfo { id, name: name.clone(), uid: None, kind: OperatorKind::Sink }];
            let (id, slot_sharing_group) = (VertexId::from(id), "default".to_owned());
            JobVertex { id, name, operators, parallelism, max_parallelism: 8, slot_sharing_group }
        };
        let edge = |(source, target, partitioner): &(u32, u32, Partitioner)| JobEdge {
            source: *source,
            source_port: 0,
            target: *target,
            target_input: 0,
            partitioner: partitioner.clone(),
            record_type: "u64".to_owned(),
        };
        JobGraph {
            name: "test".to_owned(),
            vertices: parallelism.iter().enumerate().map(vertex).collect(),
            edges: edges.iter().map(edge).collect(),
            config: Default::default(),
        }
    }

    fn requirements(bounds: &[(u32, u32)]) -> ResourceRequirements {
        ResourceRequirements(bounds.iter().map(|&(lower, upper)| ParallelismBounds { lower, upper }).collect())
    }

    #[test]
    fn a_job_needs_what_it_was_built_with_or_less() {
        let graph = graph(&[4, 1], &[(0, 1, Partitioner::Hash)]);
        assert_eq!(ResourceRequirements::of(&graph), requirements(&[(1, 4), (1, 1)]));
        assert_eq!(graph.at_parallelism(&[2, 1]).parallelism(), [2, 1]);
        assert_eq!(graph.at_parallelism(&[4, 1]), graph);
    }

    #[test]
    fn requirements_that_cannot_be_are_refused_with_what_is_wrong() {
        let graph = graph(&[4, 4], &[(0, 1, Partitioner::Forward)]);
        let check = |bounds: &[(u32, u32)], expect: &str| {
            let error = requirements(bounds).validate(&graph).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        requirements(&[(1, 8), (2, 3)]).validate(&graph).unwrap();
        check(&[(1, 1)], "1 vertices are given bounds, but the job has 2");
        check(&[(0, 1), (1, 1)], "the lower bound of \"A\" is 0");
        check(&[(1, 1), (3, 2)], "the lower bound of \"B\" is 3 and its upper bound 2");
        check(&[(1, 9), (1, 1)], "\"A\" is 9, above its max-parallelism 8");
        check(&[(1, 2), (3, 4)], "\"A\" and \"B\" are connected by forward edges");
    }

    #[test]
    fn vertices_that_forward_edges_connect_run_in_step() {
        let edges = [(0, 2, Partitioner::Forward), (1, 3, Partitioner::Forward), (2, 3, Partitioner::Hash)];
        let two = graph(&[2; 4], &edges);
        assert_eq!(two.bound_together(), [0, 1, 0, 1]);
        let bounds = requirements(&[(1, 4), (2, 8), (2, 3), (1, 5)]).in_step(&two);
        assert_eq!(bounds, requirements(&[(2, 3), (2, 5), (2, 3), (2, 5)]).0);
        let late =
            graph(&[2; 4], &[(0, 3, Partitioner::Forward), (1, 2, Partitioner::Forward), (2, 3, Partitioner::Forward)]);
        assert_eq!(late.bound_together(), [0; 4]);
    }
}
