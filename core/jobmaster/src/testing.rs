//! Jobs for this crate's tests.

use weir_model::{
    JobEdge, JobGraph, JobVertex, OperatorId, OperatorInfo, OperatorKind, Partitioner, TaskManagerId, VertexId,
};

/// A job whose vertices `V0`, `V1`, … follow each other, all edges of one kind. A single one is source and sink.
pub(crate) fn chain(parallelisms: &[u32], partitioner: Partitioner) -> JobGraph {
    let vertex = |(index, &parallelism): (usize, &u32)| {
        let name = format!("V{index}");
        let (first, last) = (index == 0, index + 1 == parallelisms.len());
        let roles = match (first, last) {
            (true, true) => vec![OperatorKind::Source { bounded: true }, OperatorKind::Sink],
            (true, false) => vec![OperatorKind::Source { bounded: true }],
            (false, false) => vec![OperatorKind::Transform],
            (false, true) => vec![OperatorKind::Sink],
        };
        let operator = |(place, kind): (usize, OperatorKind)| {
            let id = OperatorId::from_seed(format!("{name}.{place}").as_bytes());
            OperatorInfo { id, name: format!("{kind:?}"), uid: None, kind }
        };
        let operators: Vec<_> = roles.into_iter().enumerate().map(operator).collect();
        JobVertex {
            id: VertexId::from(operators[0].id),
            operators,
            name,
            parallelism,
            max_parallelism: 32_768,
            slot_sharing_group: "default".to_owned(),
        }
    };
    let edge = |target: u32| JobEdge {
        source: target - 1,
        source_port: 0,
        target,
        target_input: 0,
        partitioner: partitioner.clone(),
        record_type: "u64".to_owned(),
    };
    JobGraph {
        name: "test".to_owned(),
        vertices: parallelisms.iter().enumerate().map(vertex).collect(),
        edges: (1..parallelisms.len() as u32).map(edge).collect(),
        config: Default::default(),
    }
}

pub(crate) fn task_manager(number: u32) -> TaskManagerId {
    TaskManagerId::new(format!("tm-{number}"))
}
