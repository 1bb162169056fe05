//! Job graphs for this crate's tests.

use weir_model::{JobEdge, JobGraph, JobVertex, OperatorId, OperatorInfo, OperatorKind, Partitioner, TaskId, VertexId};

/// A job of vertices `V0`, `V1`, … with these parallelisms and edges; the first is a source, each vertex nobody consumes a sink.
pub fn job(parallelisms: &[u32], edges: &[(u32, u32, Partitioner)]) -> JobGraph {
    let vertex = |(index, &parallelism): (usize, &u32)| {
        let name = format!("V{index}");
        let kind = if !edges.iter().any(|edge| edge.0 as usize == index) {
            OperatorKind::Sink
        } else if !edges.iter().any(|edge| edge.1 as usize == index) {
            OperatorKind::Source { bounded: true }
        } else {
            OperatorKind::Transform
        };
        let id = OperatorId::from_seed(name.as_bytes());
        JobVertex {
            id: VertexId::from(id),
            operators: vec![OperatorInfo { id, name: name.clone(), uid: None, kind }],
            name,
            parallelism,
            max_parallelism: 32_768,
            slot_sharing_group: "default".to_owned(),
        }
    };
    JobGraph {
        name: "test".to_owned(),
        vertices: parallelisms.iter().enumerate().map(vertex).collect(),
        edges: edges
            .iter()
            .map(|(source, target, partitioner)| JobEdge {
                source: *source,
                source_port: 0,
                target: *target,
                target_input: 0,
                partitioner: partitioner.clone(),
                record_type: "u64".to_owned(),
            })
            .collect(),
        config: Default::default(),
    }
}

/// A job whose vertices follow each other, all edges of one kind.
pub fn chain(parallelisms: &[u32], partitioner: Partitioner) -> JobGraph {
    let edges: Vec<_> =
        (1..parallelisms.len() as u32).map(|target| (target - 1, target, partitioner.clone())).collect();
    job(parallelisms, &edges)
}

/// A job of one task, source and sink at once.
pub fn single_task() -> JobGraph {
    let mut job = chain(&[1, 1], Partitioner::Forward);
    job.edges.clear();
    let sink = job.vertices.pop().expect("there were two");
    job.vertices[0].operators.extend(sink.operators);
    job
}

pub fn task(vertex: u32, subtask: u32) -> TaskId {
    TaskId { vertex, subtask }
}
