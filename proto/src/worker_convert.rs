//! Worker protocol: states, failures and placements, from the model to their messages and back.

use std::time::Duration;

use weir_model as model;

use crate::{InvalidMessage, worker as proto};

impl From<model::ExecutionState> for proto::ExecutionState {
    fn from(state: model::ExecutionState) -> Self {
        match state {
            model::ExecutionState::Created => Self::Created,
            model::ExecutionState::Scheduled => Self::Scheduled,
            model::ExecutionState::Deploying => Self::Deploying,
            model::ExecutionState::Initializing => Self::Initializing,
            model::ExecutionState::Running => Self::Running,
            model::ExecutionState::Finished => Self::Finished,
            model::ExecutionState::Canceling => Self::Canceling,
            model::ExecutionState::Canceled => Self::Canceled,
            model::ExecutionState::Failed => Self::Failed,
            model::ExecutionState::Reconciling => Self::Reconciling,
        }
    }
}

impl proto::VertexInfo {
    /// What the vertices of a graph are called, by position.
    pub fn of_graph(graph: &model::JobGraph) -> Vec<Self> {
        let label = |(position, vertex): (u32, &model::JobVertex)| {
            let label = graph.vertex_label(position)?;
            Some(Self {
                id: label.id.as_bytes().to_vec(),
                name: label.name,
                parallelism: vertex.parallelism,
                operators: label.operators.iter().map(Into::into).collect(),
                one_end: label.one_end,
            })
        };
        (0..).zip(&graph.vertices).filter_map(label).collect()
    }
}

/// It is for people and dashboards only: an id that is none counts as that of zeros, operators that are not understood are
/// left out.
impl From<proto::VertexInfo> for model::VertexLabel {
    fn from(info: proto::VertexInfo) -> Self {
        let id = <[u8; 16]>::try_from(info.id.as_slice()).unwrap_or_default();
        let operators = info.operators.into_iter().filter_map(|operator| operator.try_into().ok()).collect();
        Self { id: model::VertexId::from_bytes(id), name: info.name, operators, one_end: info.one_end }
    }
}

impl proto::TaskStateChanged {
    /// The task this is about.
    pub fn task(&self) -> model::TaskId {
        model::TaskId { vertex: self.vertex, subtask: self.subtask }
    }

    /// The state the task has entered; an error if this version does not know it.
    pub fn execution_state(&self) -> Result<model::ExecutionState, InvalidMessage> {
        use model::ExecutionState;
        match self.state() {
            proto::ExecutionState::Created => Ok(ExecutionState::Created),
            proto::ExecutionState::Scheduled => Ok(ExecutionState::Scheduled),
            proto::ExecutionState::Deploying => Ok(ExecutionState::Deploying),
            proto::ExecutionState::Initializing => Ok(ExecutionState::Initializing),
            proto::ExecutionState::Running => Ok(ExecutionState::Running),
            proto::ExecutionState::Finished => Ok(ExecutionState::Finished),
            proto::ExecutionState::Canceling => Ok(ExecutionState::Canceling),
            proto::ExecutionState::Canceled => Ok(ExecutionState::Canceled),
            proto::ExecutionState::Failed => Ok(ExecutionState::Failed),
            proto::ExecutionState::Reconciling => Ok(ExecutionState::Reconciling),
            proto::ExecutionState::Unspecified => Err(InvalidMessage::UnknownValue {
                what: format!("the state of subtask {} of vertex {}", self.subtask, self.vertex),
                found: self.state,
            }),
        }
    }
}

impl From<model::TaskId> for proto::TaskRef {
    fn from(task: model::TaskId) -> Self {
        Self { vertex: task.vertex, subtask: task.subtask }
    }
}

impl From<proto::TaskRef> for model::TaskId {
    fn from(message: proto::TaskRef) -> Self {
        Self { vertex: message.vertex, subtask: message.subtask }
    }
}

impl From<model::Committable> for proto::Committable {
    fn from(committable: model::Committable) -> Self {
        Self { node: committable.node, payload: committable.payload }
    }
}

impl From<proto::Committable> for model::Committable {
    fn from(message: proto::Committable) -> Self {
        Self { node: message.node, payload: message.payload }
    }
}

/// A duration as messages bear it; one that does not fit is as good as the longest that does.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl proto::TriggerCheckpoint {
    /// The message for a worker, of whose tasks these begin the barrier.
    pub fn new(trigger: &model::CheckpointTrigger, tasks: &[model::TaskId]) -> Self {
        let kind = match trigger.kind {
            model::CheckpointKind::Checkpoint => proto::CheckpointKind::Checkpoint,
            model::CheckpointKind::Savepoint => proto::CheckpointKind::Savepoint,
            model::CheckpointKind::Suspend => proto::CheckpointKind::Suspend,
            model::CheckpointKind::Drain => proto::CheckpointKind::Drain,
        };
        let (without_alignment, unaligned_after_nanos) = match trigger.alignment {
            model::Alignment::None => (true, None),
            model::Alignment::Aligned => (false, None),
            model::Alignment::UnalignedAfter(timeout) => (false, Some(nanos(timeout))),
        };
        Self {
            checkpoint: trigger.checkpoint,
            timestamp_millis: trigger.timestamp,
            kind: kind.into(),
            without_alignment,
            unaligned_after_nanos,
            base: trigger.base,
            directory: trigger.directory.clone(),
            shared_directory: trigger.shared_directory.clone(),
            tasks: tasks.iter().copied().map(Into::into).collect(),
        }
    }

    /// The checkpoint, and the tasks that begin its barrier.
    pub fn into_parts(self) -> Result<(model::CheckpointTrigger, Vec<model::TaskId>), InvalidMessage> {
        let kind = match self.kind() {
            proto::CheckpointKind::Checkpoint => model::CheckpointKind::Checkpoint,
            proto::CheckpointKind::Savepoint => model::CheckpointKind::Savepoint,
            proto::CheckpointKind::Suspend => model::CheckpointKind::Suspend,
            proto::CheckpointKind::Drain => model::CheckpointKind::Drain,
            proto::CheckpointKind::Unspecified => {
                return Err(InvalidMessage::UnknownValue {
                    what: format!("the kind of checkpoint {}", self.checkpoint),
                    found: self.kind,
                });
            }
        };
        let alignment = match (self.without_alignment, self.unaligned_after_nanos) {
            (true, _) => model::Alignment::None,
            (false, None) => model::Alignment::Aligned,
            (false, Some(nanos)) => model::Alignment::UnalignedAfter(Duration::from_nanos(nanos)),
        };
        let trigger = model::CheckpointTrigger {
            checkpoint: self.checkpoint,
            timestamp: self.timestamp_millis,
            kind,
            alignment,
            base: self.base,
            directory: self.directory,
            shared_directory: self.shared_directory,
        };
        Ok((trigger, self.tasks.into_iter().map(Into::into).collect()))
    }
}

impl From<model::SnapshotMetrics> for proto::SnapshotMetrics {
    fn from(metrics: model::SnapshotMetrics) -> Self {
        Self {
            state_size: metrics.state_size,
            checkpointed_size: metrics.checkpointed_size,
            sync_nanos: nanos(metrics.sync),
            async_nanos: nanos(metrics.asynchronous),
            alignment_nanos: nanos(metrics.alignment),
            start_delay_nanos: nanos(metrics.start_delay),
            processed: metrics.processed,
            persisted: metrics.persisted,
            unaligned: metrics.unaligned,
        }
    }
}

impl From<proto::SnapshotMetrics> for model::SnapshotMetrics {
    fn from(message: proto::SnapshotMetrics) -> Self {
        Self {
            state_size: message.state_size,
            checkpointed_size: message.checkpointed_size,
            sync: Duration::from_nanos(message.sync_nanos),
            asynchronous: Duration::from_nanos(message.async_nanos),
            alignment: Duration::from_nanos(message.alignment_nanos),
            start_delay: Duration::from_nanos(message.start_delay_nanos),
            processed: message.processed,
            persisted: message.persisted,
            unaligned: message.unaligned,
        }
    }
}

impl From<model::CheckpointAcknowledgement> for proto::CheckpointAcknowledged {
    fn from(ack: model::CheckpointAcknowledgement) -> Self {
        Self {
            vertex: ack.task.vertex,
            subtask: ack.task.subtask,
            checkpoint: ack.checkpoint,
            snapshot: ack.snapshot,
            committables: ack.committables.into_iter().map(Into::into).collect(),
            metrics: Some(ack.metrics.into()),
        }
    }
}

impl From<proto::CheckpointAcknowledged> for model::CheckpointAcknowledgement {
    fn from(message: proto::CheckpointAcknowledged) -> Self {
        Self {
            checkpoint: message.checkpoint,
            task: model::TaskId { vertex: message.vertex, subtask: message.subtask },
            snapshot: message.snapshot,
            committables: message.committables.into_iter().map(Into::into).collect(),
            metrics: message.metrics.map(Into::into).unwrap_or_default(),
        }
    }
}

impl From<model::CheckpointDecline> for proto::CheckpointDeclined {
    fn from(decline: model::CheckpointDecline) -> Self {
        Self {
            vertex: decline.task.vertex,
            subtask: decline.task.subtask,
            checkpoint: decline.checkpoint,
            failed: decline.cause == model::DeclineCause::Failed,
            reason: decline.reason,
            committables: decline.committables.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<proto::CheckpointDeclined> for model::CheckpointDecline {
    fn from(message: proto::CheckpointDeclined) -> Self {
        Self {
            checkpoint: message.checkpoint,
            task: model::TaskId { vertex: message.vertex, subtask: message.subtask },
            cause: if message.failed { model::DeclineCause::Failed } else { model::DeclineCause::NotReady },
            reason: message.reason,
            committables: message.committables.into_iter().map(Into::into).collect(),
        }
    }
}

impl proto::TaskRestore {
    /// What a task begins with.
    pub fn new(task: model::TaskId, snapshot: Vec<u8>) -> Self {
        Self { vertex: task.vertex, subtask: task.subtask, snapshot }
    }

    /// The task, and what it begins with.
    pub fn into_parts(self) -> (model::TaskId, Vec<u8>) {
        (model::TaskId { vertex: self.vertex, subtask: self.subtask }, self.snapshot)
    }
}

impl From<model::TaskChange> for proto::TaskStateChanged {
    fn from(change: model::TaskChange) -> Self {
        let committables = change.committables.into_iter();
        Self {
            vertex: change.task.vertex,
            subtask: change.task.subtask,
            state: proto::ExecutionState::from(change.state).into(),
            failure: change.failure.map(Into::into),
            committables: committables.map(|c| proto::Committable { node: c.node, payload: c.payload }).collect(),
        }
    }
}

impl TryFrom<proto::TaskStateChanged> for model::TaskChange {
    type Error = InvalidMessage;

    fn try_from(message: proto::TaskStateChanged) -> Result<Self, InvalidMessage> {
        let (task, state) = (message.task(), message.execution_state()?);
        let committables = message.committables.into_iter();
        Ok(Self {
            task,
            state,
            failure: message.failure.map(Into::into),
            committables: committables.map(|c| model::Committable { node: c.node, payload: c.payload }).collect(),
        })
    }
}

impl proto::TaskMetrics {
    /// The metrics of a task.
    pub fn new(task: model::TaskId, metrics: model::MetricsSnapshot) -> Self {
        Self {
            vertex: task.vertex,
            subtask: task.subtask,
            records_in: metrics.records_in,
            records_out: metrics.records_out,
            bytes_in: metrics.bytes_in,
            bytes_out: metrics.bytes_out,
            busy_nanos: metrics.busy_nanos,
            idle_nanos: metrics.idle_nanos,
            backpressured_nanos: metrics.backpressured_nanos,
            input_watermark: metrics.input_watermark,
            output_watermark: metrics.output_watermark,
            state_bytes: metrics.state_bytes,
            state_keys: metrics.state_keys,
            operators: metrics.operators.into_iter().map(Into::into).collect(),
        }
    }

    /// The task and its metrics.
    pub fn snapshot(&self) -> (model::TaskId, model::MetricsSnapshot) {
        let metrics = model::MetricsSnapshot {
            records_in: self.records_in,
            records_out: self.records_out,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            busy_nanos: self.busy_nanos,
            idle_nanos: self.idle_nanos,
            backpressured_nanos: self.backpressured_nanos,
            input_watermark: self.input_watermark,
            output_watermark: self.output_watermark,
            state_bytes: self.state_bytes,
            state_keys: self.state_keys,
            operators: self.operators.iter().filter_map(proto::OperatorMetric::metric).collect(),
        };
        (model::TaskId { vertex: self.vertex, subtask: self.subtask }, metrics)
    }
}

impl From<model::OperatorMetric> for proto::OperatorMetric {
    fn from(metric: model::OperatorMetric) -> Self {
        let groups = metric.groups.into_iter();
        Self {
            operator_id: metric.operator.as_bytes().to_vec(),
            groups: groups.map(|group| proto::MetricGroup { name: group.name, value: group.value }).collect(),
            name: metric.name,
            value: metric.value,
        }
    }
}

impl proto::OperatorMetric {
    /// The metric; none if it is of no operator.
    fn metric(&self) -> Option<model::OperatorMetric> {
        let group =
            |group: &proto::MetricGroup| model::MetricGroup { name: group.name.clone(), value: group.value.clone() };
        Some(model::OperatorMetric {
            operator: model::OperatorId::from_bytes(self.operator_id.as_slice().try_into().ok()?),
            groups: self.groups.iter().map(group).collect(),
            name: self.name.clone(),
            value: self.value,
        })
    }
}

impl From<model::FailureKind> for proto::FailureKind {
    fn from(kind: model::FailureKind) -> Self {
        match kind {
            model::FailureKind::Panic => Self::Panic,
            model::FailureKind::Source => Self::Source,
            model::FailureKind::Sink => Self::Sink,
            model::FailureKind::Network => Self::Network,
            model::FailureKind::Worker => Self::Worker,
            model::FailureKind::Job => Self::Job,
            model::FailureKind::State => Self::State,
        }
    }
}

/// A kind this version does not know counts as [`weir_model::FailureKind::Job`]: a failure must get through whatever it is called.
impl From<proto::FailureKind> for model::FailureKind {
    fn from(kind: proto::FailureKind) -> Self {
        match kind {
            proto::FailureKind::Panic => Self::Panic,
            proto::FailureKind::Source => Self::Source,
            proto::FailureKind::Sink => Self::Sink,
            proto::FailureKind::Network => Self::Network,
            proto::FailureKind::Worker => Self::Worker,
            proto::FailureKind::Job | proto::FailureKind::Unspecified => Self::Job,
            proto::FailureKind::State => Self::State,
        }
    }
}

impl From<model::TaskFailure> for proto::TaskFailure {
    fn from(failure: model::TaskFailure) -> Self {
        let model::TaskFailure { kind, message, operator, location, backtrace } = failure;
        Self { message, operator, location, backtrace, kind: proto::FailureKind::from(kind).into() }
    }
}

impl From<proto::TaskFailure> for model::TaskFailure {
    fn from(failure: proto::TaskFailure) -> Self {
        let kind = failure.kind().into();
        let proto::TaskFailure { message, operator, location, backtrace, kind: _ } = failure;
        Self { kind, message, operator, location, backtrace }
    }
}

impl proto::VertexPlacement {
    /// The placement of a vertex whose subtask `i` runs on worker `workers[i]`.
    pub fn from_workers(vertex: u32, workers: &[u32]) -> Self {
        let (run_lengths, run_workers) =
            workers.chunk_by(|left, right| left == right).map(|run| (run.len() as u32, run[0])).unzip();
        Self { vertex, run_lengths, run_workers }
    }

    /// The worker of each of the vertex's subtasks; an error if they are none, or more than its `max_parallelism`.
    pub fn workers(&self, max_parallelism: u32) -> Result<Vec<u32>, InvalidMessage> {
        let broken = |problem| InvalidMessage::Placement { vertex: self.vertex, problem };
        let (lengths, workers) = (self.run_lengths.len(), self.run_workers.len());
        if lengths != workers {
            return Err(broken(format!("it has {lengths} run lengths but {workers} workers")));
        }
        let placed: u64 = self.run_lengths.iter().map(|&length| u64::from(length)).sum();
        if !(1..=u64::from(max_parallelism)).contains(&placed) {
            return Err(broken(format!("it places {placed} subtasks, but the vertex has 1 to {max_parallelism}")));
        }
        let runs = self.run_lengths.iter().zip(&self.run_workers);
        Ok(runs.flat_map(|(&length, &worker)| std::iter::repeat_n(worker, length as usize)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[test]
    fn states_survive_the_way_over_the_wire() {
        for state in model::ExecutionState::ALL {
            let mut message = proto::TaskStateChanged { vertex: 1, subtask: 2, ..Default::default() };
            message.set_state(state.into());
            assert_eq!(message.execution_state(), Ok(state));
            assert_eq!(message.state().as_str_name(), format!("EXECUTION_STATE_{state}"));
        }
        let unknown = proto::TaskStateChanged { vertex: 1, subtask: 2, state: 99, ..Default::default() };
        let error = unknown.execution_state().unwrap_err().to_string();
        assert!(error.contains("subtask 2 of vertex 1 has the value 99"), "{error}");
    }

    #[test]
    fn failures_survive_the_way_over_the_wire() {
        for kind in model::FailureKind::ALL {
            let mut failure = model::TaskFailure::new(kind, "disk full");
            failure.operator = Some("Sink".to_owned());
            assert_eq!(model::TaskFailure::from(proto::TaskFailure::from(failure.clone())), failure);
        }
        let newer = proto::TaskFailure { kind: 99, ..Default::default() };
        assert_eq!(model::TaskFailure::from(newer).kind, model::FailureKind::Job);
    }

    #[test]
    fn a_hundred_thousand_tasks_fit_a_small_message() {
        // The worst case for runs: neighbours never share a worker.
        let workers: Vec<u32> = (0..100_000).map(|subtask| subtask % 100).collect();
        let placement = proto::VertexPlacement::from_workers(0, &workers);
        assert!(placement.encoded_len() < 201_000, "{}", placement.encoded_len());
        let blocks: Vec<u32> = (0..100_000).map(|subtask| subtask / 1000).collect();
        let placement = proto::VertexPlacement::from_workers(0, &blocks);
        assert!(placement.encoded_len() < 400, "{}", placement.encoded_len());
    }

    #[test]
    fn a_placement_that_does_not_fit_is_explained() {
        let check = |run_lengths: &[u32], run_workers: &[u32], expect: &str| {
            let placement = proto::VertexPlacement {
                vertex: 4,
                run_lengths: run_lengths.to_vec(),
                run_workers: run_workers.to_vec(),
            };
            let error = placement.workers(3).unwrap_err().to_string();
            assert!(error.contains("vertex 4") && error.contains(expect), "{error}");
        };
        check(&[3], &[], "1 run lengths but 0 workers");
        check(&[4], &[0], "places 4 subtasks, but the vertex has 1 to 3");
        check(&[], &[], "places 0 subtasks, but the vertex has 1 to 3");
        check(&[u32::MAX, u32::MAX], &[0, 1], "places 8589934590 subtasks");
    }

    proptest! {
        #[test]
        fn placements_survive_run_length_encoding(workers in prop::collection::vec(0u32..4, 1..50)) {
            let placement = proto::VertexPlacement::from_workers(0, &workers);
            prop_assert_eq!(placement.workers(workers.len() as u32), Ok(workers));
        }
    }

    #[test]
    fn labels_of_vertices_come_back_and_nonsense_in_them_is_left_out() {
        let operator = |name: &str, kind| {
            let id = model::OperatorId::from_seed(name.as_bytes());
            model::OperatorInfo { id, name: name.to_owned(), uid: None, kind }
        };
        let operators = vec![
            operator("Source", model::OperatorKind::Source { bounded: false }),
            operator("Map", model::OperatorKind::Transform),
            operator("Sink", model::OperatorKind::Sink),
        ];
        let vertex = model::JobVertex {
            id: model::VertexId::from_seed(b"chain"),
            name: "chain".to_owned(),
            operators,
            parallelism: 3,
            max_parallelism: 128,
            slot_sharing_group: "default".to_owned(),
        };
        let graph = model::JobGraph {
            name: String::new(),
            vertices: vec![vertex],
            edges: Vec::new(),
            config: Default::default(),
        };
        let [info] = proto::VertexInfo::of_graph(&graph).try_into().expect("one vertex");
        assert_eq!((info.parallelism, info.operators.len(), info.one_end), (3, 2, true));
        assert_eq!(Some(info.clone().into()), graph.vertex_label(0));

        let mut odd: proto::VertexInfo = info;
        odd.id.clear();
        odd.operators[0].kind = 99;
        let label = model::VertexLabel::from(odd);
        assert_eq!(label.id, model::VertexId::from_bytes([0; 16]));
        assert_eq!(label.operators.iter().map(|operator| operator.name.as_str()).collect::<Vec<_>>(), ["Sink"]);
    }
}
