//! What a worker runs: the JobGraph with the code of its vertices, and the context each task runs in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{OperatorDeclaration, StateDeclarations};
use weir_model::{JobGraph, KeyGroups, OperatorId};

use crate::channel::{ChannelWriter, Gate};
use crate::declaration::OperatorState;
use crate::exchange::PartitionContext;
use crate::fabric::ChannelOptions;
use crate::failure::TaskError;
use crate::operator::VertexBody;
use crate::record::Record;
use crate::sink::ErasedSink;
use crate::snapshot::{RestoredTask, in_flight_list};
use crate::source::ErasedSource;
use crate::task::{TaskId, TaskShared};
use crate::worker::WorkerRuntime;

/// An output port of the job: the start of exactly one edge. Unique in a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

/// A job as its builder made it: the JobGraph and the code behind it.
pub struct JobPlan {
    /// The graph; vertices and edges are referred to by position.
    pub graph: JobGraph,
    /// The code of each vertex, by position.
    pub bodies: Vec<Arc<dyn VertexBody>>,
    /// Names of StreamGraph nodes, by node id; for reports.
    pub node_names: Vec<String>,
    /// Ids of StreamGraph nodes, by node id: what their state is known by.
    pub operator_ids: Vec<OperatorId>,
    /// The edge that starts at each port.
    pub ports: BTreeMap<PortId, u32>,
    /// Options of the runtime.
    pub options: RuntimeOptions,
}

/// What of a job's code runs beside its driver: enumerators and committers.
#[derive(Default)]
pub struct DriverSide {
    /// Sources by vertex position.
    pub sources: BTreeMap<u32, Box<dyn ErasedSource>>,
    /// Sinks by node id.
    pub sinks: BTreeMap<u32, Box<dyn ErasedSink>>,
}

impl fmt::Debug for DriverSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DriverSide({} sources, {} sinks)", self.sources.len(), self.sinks.len())
    }
}

impl fmt::Debug for JobPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobPlan({}, {} vertices)", self.graph.name, self.graph.vertices.len())
    }
}

impl JobPlan {
    /// What state the job's operators have; all operators are listed, also those without.
    pub fn state_declarations(&self) -> StateDeclarations {
        let infos = self.graph.vertices.iter().flat_map(|vertex| &vertex.operators);
        let uids: BTreeMap<_, _> = infos.map(|info| (info.id, info.uid.clone())).collect();
        let mut declared: BTreeMap<_, _> = self.bodies.iter().flat_map(|body| body.declare()).collect();
        let operator = |(node, (id, name)): (u32, (&OperatorId, &String))| {
            let OperatorState { tables, lists } = declared.remove(&node).unwrap_or_default();
            let uid = uids.get(id).cloned().flatten();
            OperatorDeclaration { node, id: *id, name: name.clone(), uid, tables, lists }
        };
        let operators = (0..).zip(self.operator_ids.iter().zip(&self.node_names)).map(operator).collect();
        StateDeclarations { operators }
    }
}

/// Options every task of a job runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Buffered results leave at the latest after this time; `None`: when a buffer is full or the task is idle.
    pub buffer_timeout: Option<Duration>,
    /// How channels are dimensioned.
    pub channels: ChannelOptions,
    /// Whether running aggregates are emitted only once, at the end of the input.
    pub final_results_only: bool,
    /// Bytes of state up to which a task's part of a checkpoint is inline, and no file of its own.
    pub inline_threshold: usize,
    /// Bytes of memory that each subtask of an operator with state by key may take for it, the rest being in files; `None`: all state
    /// is in memory.
    pub lsm_memory: Option<usize>,
    /// Whether tasks go on reading inputs whose barrier has come: at-least-once.
    pub at_least_once: bool,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        RuntimeOptions {
            buffer_timeout: Some(Duration::from_millis(100)),
            channels: ChannelOptions::default(),
            final_results_only: false,
            inline_threshold: 20 * 1024,
            lsm_memory: None,
            at_least_once: false,
        }
    }
}

/// What a task's body runs in. Lives on the task's thread.
pub struct TaskContext {
    shared: Arc<TaskShared>,
    runtime: Arc<WorkerRuntime>,
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskContext({:?})", self.shared.id())
    }
}

impl TaskContext {
    pub(crate) fn new(shared: Arc<TaskShared>, runtime: Arc<WorkerRuntime>) -> TaskContext {
        TaskContext { shared, runtime }
    }

    /// The task's face to other threads.
    pub fn shared(&self) -> &Arc<TaskShared> {
        &self.shared
    }

    /// Which subtask this is.
    pub fn id(&self) -> TaskId {
        self.shared.id()
    }

    /// Index of the subtask, from 0.
    pub fn subtask(&self) -> u32 {
        self.shared.id().subtask
    }

    /// Number of subtasks of the vertex.
    pub fn parallelism(&self) -> u32 {
        self.runtime.plan().graph.vertices[self.shared.id().vertex as usize].parallelism
    }

    /// Unique to this run of the job.
    pub fn run_id(&self) -> &str {
        self.runtime.run_id()
    }

    /// Which attempt at this task this is, from 0.
    pub fn attempt(&self) -> u32 {
        self.runtime.attempt()
    }

    /// The job's runtime options.
    pub fn options(&self) -> &RuntimeOptions {
        &self.runtime.plan().options
    }

    /// The gate over input `input` of this task.
    pub(crate) fn gate<T: Record>(&self, input: u32) -> Gate<T> {
        Gate::new(self.runtime.fabric().inbox::<T>(self.id(), input), self.options().at_least_once)
    }

    /// One writer per connected consumer of the edge at `port`, in the consumers' order.
    pub(crate) fn writers<T: Record>(&self, port: PortId) -> Vec<ChannelWriter<T>> {
        self.runtime.fabric().writers::<T>(self.edge(port), self.subtask())
    }

    /// Number of edges that start at this task's vertex.
    pub(crate) fn output_edges(&self) -> usize {
        self.runtime.plan().graph.out_edges(self.id().vertex).count()
    }

    pub(crate) fn partition_context(&self, port: PortId) -> PartitionContext {
        let graph = &self.runtime.plan().graph;
        let edge = &graph.edges[self.edge(port) as usize];
        let consumer = &graph.vertices[edge.target as usize];
        let connected = edge.partitioner.pattern().consumers(self.subtask(), self.parallelism(), consumer.parallelism);
        PartitionContext {
            subtask: self.subtask(),
            channels: connected.len() as u32,
            consumers: consumer.parallelism,
            max_parallelism: consumer.max_parallelism,
        }
    }

    fn edge(&self, port: PortId) -> u32 {
        *self.runtime.plan().ports.get(&port).expect("every port of a finished job starts an edge")
    }

    pub(crate) fn runtime(&self) -> &Arc<WorkerRuntime> {
        &self.runtime
    }

    /// What the task begins with, if it was restored.
    pub(crate) fn restored(&self) -> Option<&RestoredTask> {
        self.runtime.restored(self.id())
    }

    /// Whether the task had finished when the job was restored: it has nothing to do but to say so.
    pub(crate) fn had_finished(&self) -> bool {
        self.restored().is_some_and(|restored| restored.snapshot.finished)
    }

    /// For working files.
    pub(crate) fn working_folder(&self) -> &Path {
        self.runtime.folder()
    }

    /// The id of the operator at this node.
    pub(crate) fn operator_id(&self, node: u32) -> OperatorId {
        self.runtime.plan().operator_ids[node as usize]
    }

    /// The records that were in flight before this input in the checkpoint the task begins with.
    pub(crate) fn restored_in_flight<T: Record>(&self, input: u32) -> Result<Vec<T>, TaskError> {
        match (self.restored(), self.runtime.head_operator(self.id())) {
            (Some(restored), Some(head)) => restored.items(head, &in_flight_list(input)),
            _ => Ok(Vec::new()),
        }
    }

    /// Fails if the checkpoint the task begins with holds records in flight that a chain with so many inputs would not read.
    pub(crate) fn check_in_flight(&self, inputs: u32) -> Result<(), TaskError> {
        let head = self.runtime.head_operator(self.id());
        self.restored().map_or(Ok(()), |restored| restored.check_in_flight(head, inputs))
    }

    /// The key groups of this vertex.
    pub fn key_groups(&self) -> KeyGroups {
        self.runtime.plan().graph.vertices[self.id().vertex as usize].key_groups()
    }

    /// Asks the enumerator of this task's source for a split; the answer comes as mail.
    pub(crate) fn request_split(&self) {
        self.runtime.coordinator().request_split(self.id());
    }

    /// Tells the driver that the task's operators are open.
    pub(crate) fn report_running(&self) {
        self.runtime.report_running(self.id());
    }
}
