//! The StreamGraph while a job is being built, and how it becomes a JobGraph.
//!
//! Every operator is a node. Fused operators are linked by `chained_after`; everything else is connected by edges that start at
//! ports. Chaining is decided by the types as the author writes them, so turning the StreamGraph into a JobGraph is only a
//! matter of gathering each run of linked nodes into a vertex.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use weir_dataflow::operator::VertexBody;
use weir_dataflow::plan::{DriverSide, JobPlan, PortId, RuntimeOptions};
use weir_dataflow::sink::ErasedSink;
use weir_dataflow::source::ErasedSource;
use weir_model::{
    JobEdge, JobGraph, JobVertex, OperatorId, OperatorInfo, OperatorKind, Partitioner, VertexId,
    default_max_parallelism,
};

use crate::error::Error;

/// Position of an operator in the StreamGraph.
pub(crate) type NodeId = u32;

/// The graph under construction, shared by the environment and its streams.
#[derive(Clone, Default)]
pub struct Draft(Rc<RefCell<StreamGraph>>);

impl Draft {
    pub(crate) fn borrow_mut(&self) -> RefMut<'_, StreamGraph> {
        self.0.borrow_mut()
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft of {} operators", self.0.borrow().nodes.len())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) kind: OperatorKind,
    pub(crate) parallelism: Option<u32>,
    pub(crate) max_parallelism: Option<u32>,
    pub(crate) slot_sharing_group: Option<String>,
    pub(crate) chained_after: Option<NodeId>,
}

/// An edge whose ends are known as far as the author has written.
#[derive(Debug, Clone)]
struct Edge {
    source: NodeId,
    target: Option<(NodeId, u32)>,
    partitioner: Partitioner,
    /// Forward if both sides turn out to have the same parallelism, else rebalance.
    automatic: bool,
    record_type: &'static str,
}

/// A finished chain.
struct Vertex {
    last: NodeId,
    body: Arc<dyn VertexBody>,
}

/// Operators, edges and finished chains so far.
#[derive(Default)]
pub(crate) struct StreamGraph {
    nodes: Vec<Node>,
    edges: BTreeMap<PortId, Edge>,
    vertices: Vec<Vertex>,
    sources: BTreeMap<NodeId, Box<dyn ErasedSource>>,
    sinks: BTreeMap<NodeId, Box<dyn ErasedSink>>,
}

/// What the environment decides for the whole job.
#[derive(Debug, Clone)]
pub(crate) struct JobDefaults {
    pub(crate) name: String,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: Option<u32>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) options: RuntimeOptions,
}

impl StreamGraph {
    pub(crate) fn add_node(
        &mut self,
        name: impl Into<String>,
        kind: OperatorKind,
        chained_after: Option<NodeId>,
    ) -> NodeId {
        self.nodes.push(Node {
            name: name.into(),
            uid: None,
            kind,
            parallelism: None,
            max_parallelism: None,
            slot_sharing_group: None,
            chained_after,
        });
        (self.nodes.len() - 1) as NodeId
    }

    pub(crate) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    pub(crate) fn add_source(&mut self, node: NodeId, source: Box<dyn ErasedSource>) {
        self.sources.insert(node, source);
    }

    pub(crate) fn add_sink(&mut self, node: NodeId, sink: Box<dyn ErasedSink>) {
        self.sinks.insert(node, sink);
    }

    /// Starts an edge at `source`; its target comes with [`connect`](Self::connect).
    pub(crate) fn add_edge<T>(&mut self, source: NodeId, partitioner: Partitioner, automatic: bool) -> PortId {
        let port = PortId(self.edges.len() as u32);
        let record_type = std::any::type_name::<T>();
        self.edges.insert(port, Edge { source, target: None, partitioner, automatic, record_type });
        port
    }

    /// Ends edges at input `input` of `target`.
    pub(crate) fn connect(&mut self, ports: &[PortId], target: NodeId, input: u32) {
        for port in ports {
            if let Some(edge) = self.edges.get_mut(port) {
                edge.target = Some((target, input));
            }
        }
    }

    /// Takes the code of a chain that ends at `last`.
    pub(crate) fn finish_vertex(&mut self, last: NodeId, body: Arc<dyn VertexBody>) {
        self.vertices.push(Vertex { last, body });
    }

    /// The finished job. Takes the graph's contents.
    pub(crate) fn finish(&mut self, defaults: &JobDefaults) -> Result<(JobPlan, DriverSide), Error> {
        let graph = std::mem::take(self);
        graph.check_complete()?;
        Chaining::new(graph).into_job(defaults)
    }

    /// Every operator must belong to a finished chain; one that does not has no consumer.
    fn check_complete(&self) -> Result<(), Error> {
        if self.nodes.is_empty() {
            return Err(Error::Build(
                "the job has no source; start one with `env.read_text(…)` or `env.source(…)`".into(),
            ));
        }
        let mut covered = vec![false; self.nodes.len()];
        for vertex in &self.vertices {
            let mut node = Some(vertex.last);
            while let Some(id) = node {
                covered[id as usize] = true;
                node = self.nodes[id as usize].chained_after;
            }
        }
        // The last node of an unfinished chain is the one to name.
        let loose = covered.iter().rposition(|c| !c);
        let unread = self.edges.values().find(|edge| edge.target.is_none()).map(|edge| edge.source as usize);
        let (node, what) = match (loose, unread) {
            (None, None) => return Ok(()),
            (Some(node), _) => (node, "the output"),
            (None, Some(node)) => (node, "one of the outputs (a side output, or the stream behind an exchange)"),
        };
        Err(Error::Build(format!(
            "nothing reads {what} of operator `{}`; end the stream with a sink such as `.print()`, `.write_text(…)` or `.discard()`",
            self.nodes[node].name
        )))
    }
}

/// Gathers linked nodes into vertices.
struct Chaining {
    graph: StreamGraph,
    /// Nodes of each vertex, upstream first; vertices ordered by their first node, which is a topological order: an edge's
    /// target is always written after its source.
    chains: Vec<Vec<NodeId>>,
    bodies: Vec<Arc<dyn VertexBody>>,
    vertex_of: Vec<u32>,
}

impl Chaining {
    fn new(mut graph: StreamGraph) -> Chaining {
        let mut found: Vec<(Vec<NodeId>, Arc<dyn VertexBody>)> = std::mem::take(&mut graph.vertices)
            .into_iter()
            .map(|vertex| {
                let mut chain = vec![vertex.last];
                while let Some(before) = graph.nodes[chain[chain.len() - 1] as usize].chained_after {
                    chain.push(before);
                }
                chain.reverse();
                (chain, vertex.body)
            })
            .collect();
        found.sort_by_key(|(chain, _)| chain[0]);
        let mut vertex_of = vec![0; graph.nodes.len()];
        for (index, (chain, _)) in found.iter().enumerate() {
            chain.iter().for_each(|&node| vertex_of[node as usize] = index as u32);
        }
        let (chains, bodies) = found.into_iter().unzip();
        Chaining { graph, chains, bodies, vertex_of }
    }

    fn into_job(mut self, defaults: &JobDefaults) -> Result<(JobPlan, DriverSide), Error> {
        let vertices: Vec<JobVertex> = self.chains.iter().map(|chain| self.vertex(chain, defaults)).collect();
        let mut ports = BTreeMap::new();
        let mut next_port = vec![0; vertices.len()];
        let mut edges = Vec::new();
        for (port, edge) in &self.graph.edges {
            let Some((target, target_input)) = edge.target else { continue };
            let (source, target) = (self.vertex_of[edge.source as usize], self.vertex_of[target as usize]);
            let same = vertices[source as usize].parallelism == vertices[target as usize].parallelism;
            let partitioner = match (edge.automatic, same) {
                (true, true) => Partitioner::Forward,
                (true, false) => Partitioner::Rebalance,
                (false, _) => edge.partitioner.clone(),
            };
            let source_port = next_port[source as usize];
            next_port[source as usize] += 1;
            ports.insert(*port, edges.len() as u32);
            edges.push(JobEdge {
                source,
                source_port,
                target,
                target_input,
                partitioner,
                record_type: edge.record_type.to_owned(),
            });
        }
        let graph = JobGraph { name: defaults.name.clone(), vertices, edges, config: defaults.config.clone() };
        graph.validate()?;
        let sources = std::mem::take(&mut self.graph.sources);
        let sources = sources.into_iter().map(|(node, s)| (self.vertex_of[node as usize], s)).collect();
        let node_names = self.graph.nodes.iter().map(|node| node.name.clone()).collect();
        let options = defaults.options.clone();
        let ids = (0..).zip(&self.graph.nodes).map(|(id, node)| operator_info(id, node).id);
        let operator_ids = ids.collect();
        let plan = JobPlan { graph, bodies: self.bodies, node_names, operator_ids, ports, options };
        Ok((plan, DriverSide { sources, sinks: self.graph.sinks }))
    }

    fn vertex(&self, chain: &[NodeId], defaults: &JobDefaults) -> JobVertex {
        let nodes: Vec<&Node> = chain.iter().map(|&id| &self.graph.nodes[id as usize]).collect();
        let parallelism = nodes[0].parallelism.unwrap_or(defaults.parallelism);
        let max_parallelism = nodes.iter().find_map(|n| n.max_parallelism).or(defaults.max_parallelism);
        let operators: Vec<OperatorInfo> =
            chain.iter().zip(&nodes).map(|(&id, node)| operator_info(id, node)).collect();
        JobVertex {
            id: VertexId::from_seed(operators[0].id.to_string().as_bytes()),
            name: nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(" -> "),
            operators,
            parallelism,
            max_parallelism: max_parallelism.unwrap_or_else(|| default_max_parallelism(parallelism)),
            slot_sharing_group: nodes
                .iter()
                .find_map(|n| n.slot_sharing_group.clone())
                .unwrap_or_else(|| "default".into()),
        }
    }
}

fn operator_info(id: NodeId, node: &Node) -> OperatorInfo {
    let seed = match &node.uid {
        Some(uid) => format!("uid:{uid}"),
        None => format!("node:{id}"),
    };
    OperatorInfo {
        id: OperatorId::from_seed(seed.as_bytes()),
        name: node.name.clone(),
        uid: node.uid.clone(),
        kind: node.kind,
    }
}
