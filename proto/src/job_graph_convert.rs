//! JobGraph: from the model to its message and back, and the hash over its canonical encoding.

use std::collections::BTreeMap;

use prost::Message;
use weir_model as model;
use xxhash_rust::xxh3::xxh3_64;

use crate::{InvalidMessage, job_graph as proto};

/// The hash by which two processes recognise that they hold the same graph: XXH3-64 of the canonical encoding, which
/// `weir/job_graph.proto` defines.
pub fn job_graph_hash(graph: &model::JobGraph) -> u64 {
    // prost writes fields by number and leaves defaults out, and the model's config is sorted: this is the canonical encoding.
    xxh3_64(&proto::JobGraph::from(graph).encode_to_vec())
}

impl From<&model::JobGraph> for proto::JobGraph {
    fn from(graph: &model::JobGraph) -> Self {
        Self {
            name: graph.name.clone(),
            vertices: graph.vertices.iter().map(Into::into).collect(),
            edges: graph.edges.iter().map(Into::into).collect(),
            config: graph
                .config
                .iter()
                .map(|(key, value)| proto::ConfigEntry { key: key.clone(), value: value.clone() })
                .collect(),
        }
    }
}

impl From<&model::JobVertex> for proto::JobVertex {
    fn from(vertex: &model::JobVertex) -> Self {
        Self {
            id: vertex.id.as_bytes().to_vec(),
            name: vertex.name.clone(),
            operators: vertex.operators.iter().map(Into::into).collect(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            slot_sharing_group: vertex.slot_sharing_group.clone(),
        }
    }
}

impl From<&model::OperatorInfo> for proto::OperatorInfo {
    fn from(operator: &model::OperatorInfo) -> Self {
        let kind = match operator.kind {
            model::OperatorKind::Source { bounded: true } => proto::OperatorKind::BoundedSource,
            model::OperatorKind::Source { bounded: false } => proto::OperatorKind::UnboundedSource,
            model::OperatorKind::Transform => proto::OperatorKind::Transform,
            model::OperatorKind::Sink => proto::OperatorKind::Sink,
        };
        Self {
            id: operator.id.as_bytes().to_vec(),
            name: operator.name.clone(),
            uid: operator.uid.clone(),
            kind: kind.into(),
        }
    }
}

impl From<&model::JobEdge> for proto::JobEdge {
    fn from(edge: &model::JobEdge) -> Self {
        let partitioner = match edge.partitioner {
            model::Partitioner::Forward => proto::Partitioner::Forward,
            model::Partitioner::Rebalance => proto::Partitioner::Rebalance,
            model::Partitioner::Rescale => proto::Partitioner::Rescale,
            model::Partitioner::Shuffle => proto::Partitioner::Shuffle,
            model::Partitioner::Broadcast => proto::Partitioner::Broadcast,
            model::Partitioner::Global => proto::Partitioner::Global,
            model::Partitioner::Hash => proto::Partitioner::Hash,
            model::Partitioner::Custom => proto::Partitioner::Custom,
        };
        Self {
            source: edge.source,
            source_port: edge.source_port,
            target: edge.target,
            target_input: edge.target_input,
            partitioner: partitioner.into(),
            record_type: edge.record_type.clone(),
        }
    }
}

/// Only the form is checked here; [`weir_model::JobGraph::validate`] checks the sense.
impl TryFrom<proto::JobGraph> for model::JobGraph {
    type Error = InvalidMessage;

    fn try_from(graph: proto::JobGraph) -> Result<Self, InvalidMessage> {
        let mut config = BTreeMap::new();
        for proto::ConfigEntry { key, value } in graph.config {
            if config.contains_key(&key) {
                return Err(InvalidMessage::DuplicateKey { key });
            }
            config.insert(key, value);
        }
        Ok(Self {
            name: graph.name,
            vertices: graph.vertices.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            edges: graph.edges.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            config,
        })
    }
}

impl TryFrom<proto::JobVertex> for model::JobVertex {
    type Error = InvalidMessage;

    fn try_from(vertex: proto::JobVertex) -> Result<Self, InvalidMessage> {
        let id = id_bytes(&vertex.id, || format!("the id of vertex {:?}", vertex.name))?;
        Ok(Self {
            id: model::VertexId::from_bytes(id),
            name: vertex.name,
            operators: vertex.operators.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            slot_sharing_group: vertex.slot_sharing_group,
        })
    }
}

impl TryFrom<proto::OperatorInfo> for model::OperatorInfo {
    type Error = InvalidMessage;

    fn try_from(operator: proto::OperatorInfo) -> Result<Self, InvalidMessage> {
        let id = id_bytes(&operator.id, || format!("the id of operator {:?}", operator.name))?;
        let kind = match operator.kind() {
            proto::OperatorKind::BoundedSource => model::OperatorKind::Source { bounded: true },
            proto::OperatorKind::UnboundedSource => model::OperatorKind::Source { bounded: false },
            proto::OperatorKind::Transform => model::OperatorKind::Transform,
            proto::OperatorKind::Sink => model::OperatorKind::Sink,
            proto::OperatorKind::Unspecified => {
                let what = format!("the kind of operator {:?}", operator.name);
                return Err(InvalidMessage::UnknownValue { what, found: operator.kind });
            }
        };
        Ok(Self { id: model::OperatorId::from_bytes(id), name: operator.name, uid: operator.uid, kind })
    }
}

impl TryFrom<proto::JobEdge> for model::JobEdge {
    type Error = InvalidMessage;

    fn try_from(edge: proto::JobEdge) -> Result<Self, InvalidMessage> {
        let partitioner = match edge.partitioner() {
            proto::Partitioner::Forward => model::Partitioner::Forward,
            proto::Partitioner::Rebalance => model::Partitioner::Rebalance,
            proto::Partitioner::Rescale => model::Partitioner::Rescale,
            proto::Partitioner::Shuffle => model::Partitioner::Shuffle,
            proto::Partitioner::Broadcast => model::Partitioner::Broadcast,
            proto::Partitioner::Global => model::Partitioner::Global,
            proto::Partitioner::Hash => model::Partitioner::Hash,
            proto::Partitioner::Custom => model::Partitioner::Custom,
            proto::Partitioner::Unspecified => {
                let what = format!("the partitioner of the edge from vertex {} to {}", edge.source, edge.target);
                return Err(InvalidMessage::UnknownValue { what, found: edge.partitioner });
            }
        };
        Ok(Self {
            source: edge.source,
            source_port: edge.source_port,
            target: edge.target,
            target_input: edge.target_input,
            partitioner,
            record_type: edge.record_type,
        })
    }
}

fn id_bytes(bytes: &[u8], what: impl Fn() -> String) -> Result<[u8; 16], InvalidMessage> {
    bytes.try_into().map_err(|_| InvalidMessage::IdLength { what: what(), found: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{JobEdge, JobGraph, JobVertex, OperatorId, OperatorInfo, OperatorKind, Partitioner, VertexId};

    fn operator(name: &str, uid: Option<&str>, kind: OperatorKind) -> OperatorInfo {
        let id = OperatorId::from_seed(name.as_bytes());
        OperatorInfo { id, name: name.to_owned(), uid: uid.map(str::to_owned), kind }
    }

    fn vertex(operators: Vec<OperatorInfo>, parallelism: u32) -> JobVertex {
        JobVertex {
            id: VertexId::from(operators[0].id),
            name: operators[0].name.clone(),
            operators,
            parallelism,
            max_parallelism: 128,
            slot_sharing_group: "default".to_owned(),
        }
    }

    /// A graph in which every enum value occurs.
    fn graph() -> JobGraph {
        use Partitioner::*;
        let partitioners = [Forward, Rebalance, Rescale, Shuffle, Broadcast, Global, Hash, Custom];
        JobGraph {
            name: "wörter".to_owned(),
            vertices: vec![
                vertex(vec![operator("Lines", Some("lines"), OperatorKind::Source { bounded: true })], 2),
                vertex(vec![operator("Clock", None, OperatorKind::Source { bounded: false })], 1),
                vertex(
                    vec![
                        operator("Count", Some(""), OperatorKind::Transform),
                        operator("Print", None, OperatorKind::Sink),
                    ],
                    40_000,
                ),
            ],
            edges: (0u32..)
                .zip(partitioners)
                .map(|(port, partitioner)| JobEdge {
                    source: port % 2,
                    source_port: port,
                    target: 2,
                    target_input: port % 2,
                    partitioner,
                    record_type: "(String, u64)".to_owned(),
                })
                .collect(),
            config: [("a", "1"), ("b", "")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn a_graph_survives_the_way_over_the_wire() {
        let bytes = proto::JobGraph::from(&graph()).encode_to_vec();
        let message = proto::JobGraph::decode(bytes.as_slice()).unwrap();
        assert_eq!(JobGraph::try_from(message), Ok(graph()));
    }

    #[test]
    fn the_hash_is_fixed() {
        let empty = JobGraph { name: String::new(), vertices: vec![], edges: vec![], config: BTreeMap::new() };
        // XXH3-64 of nothing.
        assert_eq!(job_graph_hash(&empty), 0x2d06_8005_38d3_94c2);
        assert_eq!(job_graph_hash(&graph()), 0xdef8_b44c_dbd5_553a);
    }

    #[test]
    fn any_difference_changes_the_hash() {
        let check = |change: &dyn Fn(&mut JobGraph)| {
            let mut changed = graph();
            change(&mut changed);
            assert_ne!(job_graph_hash(&changed), job_graph_hash(&graph()));
        };
        check(&|graph| graph.name.push('x'));
        check(&|graph| graph.vertices.swap(0, 1));
        check(&|graph| graph.vertices[0].parallelism += 1);
        check(&|graph| graph.vertices[0].max_parallelism += 1);
        check(&|graph| graph.vertices[0].slot_sharing_group.push('x'));
        check(&|graph| graph.vertices[2].operators[0].uid = None);
        check(&|graph| graph.vertices[0].operators[0].kind = OperatorKind::Source { bounded: false });
        check(&|graph| graph.edges[0].record_type.push('x'));
        check(&|graph| graph.edges[0].partitioner = Partitioner::Hash);
        check(&|graph| drop(graph.config.remove("b")));
    }

    #[test]
    fn a_message_the_model_does_not_know_is_explained() {
        let check = |spoil: &dyn Fn(&mut proto::JobGraph), expect: &str| {
            let mut message = proto::JobGraph::from(&graph());
            spoil(&mut message);
            let error = JobGraph::try_from(message).unwrap_err().to_string();
            assert!(error.contains(expect), "{error:?} lacks {expect:?}");
        };
        check(&|graph| graph.vertices[0].id.clear(), "id of vertex \"Lines\" is 0 bytes long");
        check(&|graph| graph.vertices[0].operators[0].id.push(0), "id of operator \"Lines\" is 17 bytes long");
        check(&|graph| graph.vertices[0].operators[0].kind = 77, "kind of operator \"Lines\" has the value 77");
        check(&|graph| graph.edges[0].partitioner = 0, "from vertex 0 to 2 has the value 0");
        check(&|graph| graph.config[1].key = "a".to_owned(), "\"a\" is set twice");
    }
}
