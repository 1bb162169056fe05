//! Jobs for this crate's tests.

use std::collections::BTreeMap;

use weir_model::{
    JobEdge, JobGraph, JobId, JobVertex, OperatorId, OperatorInfo, OperatorKind, Partitioner, TaskId, VertexId,
};

use crate::CheckpointJob;

pub const JOB: JobId = JobId::from_bytes([0xab; 16]);

pub fn operator(vertex: u32) -> OperatorId {
    OperatorId::from_seed(format!("V{vertex}").as_bytes())
}

/// A job of vertices `V0`, `V1`, …, each of one operator that is also node of the same number; those without input are sources.
pub fn graph(parallelisms: &[u32], edges: &[(u32, u32, Partitioner)]) -> JobGraph {
    let vertex = |(index, &parallelism): (u32, &u32)| {
        let kind = if edges.iter().any(|edge| edge.1 == index) {
            OperatorKind::Transform
        } else {
            OperatorKind::Source { bounded: true }
        };
        let id = operator(index);
        let name = format!("V{index}");
        JobVertex {
            id: VertexId::from(id),
            operators: vec![OperatorInfo { id, name: name.clone(), uid: Some(format!("v{index}")), kind }],
            name,
            parallelism,
            max_parallelism: 128,
            slot_sharing_group: "default".to_owned(),
        }
    };
    JobGraph {
        name: "test".to_owned(),
        vertices: (0..).zip(parallelisms).map(vertex).collect(),
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
        config: BTreeMap::new(),
    }
}

pub fn job(parallelisms: &[u32], edges: &[(u32, u32, Partitioner)]) -> CheckpointJob {
    let nodes = (0..parallelisms.len() as u32).map(|vertex| (vertex, operator(vertex))).collect();
    CheckpointJob::new(JOB, &graph(parallelisms, edges), nodes)
}

pub fn task(vertex: u32, subtask: u32) -> TaskId {
    TaskId { vertex, subtask }
}
