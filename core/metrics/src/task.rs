//! The metrics of a task and of the operators in it.

use std::time::Duration;

use weir_model::{
    ExecutionState, JobGraph, MetricsSnapshot, OperatorInfo, OperatorKind, SubtaskView, TaskRates, VertexLabel,
};

use crate::{Values, extend, id_part};

/// From this share of its time on a task counts as back-pressured.
const BACKPRESSURED: f64 = 0.5;

/// The metrics of a task, without its subtask's number.
pub fn task_metrics(subtask: &SubtaskView) -> Values {
    let rates = current_rates(subtask);
    let mut values = Values::new();
    extend(&mut values, METRICS.map(|(name, value)| (name, value(&subtask.metrics, &rates))));
    extend(&mut values, STATE.map(|(name, _, value)| (name, value(&subtask.metrics))));
    let entered = |state: ExecutionState| subtask.timestamps[state as usize];
    if let (Some(begun), Some(running)) = (entered(ExecutionState::Initializing), entered(ExecutionState::Running)) {
        values.insert("initializationTime".to_owned(), running.saturating_sub(begun) as f64);
    }
    values
}

/// The metrics of a task and of its operators, without its subtask's number: `numRecordsIn`, `Source__lines.numRecordsIn`.
/// `vertex`: position of its vertex in the graph.
pub fn subtask_metrics(graph: &JobGraph, vertex: u32, subtask: &SubtaskView) -> Values {
    let mut values = task_metrics(subtask);
    for (operator, own) in operator_metrics(graph, vertex, subtask) {
        let prefix = id_part(&operator.name);
        values.extend(own.into_iter().map(|(name, value)| (format!("{prefix}.{name}"), value)));
    }
    let Some(vertex) = graph.vertices.get(vertex as usize) else { return values };
    for metric in &subtask.metrics.operators {
        // What is of no operator of the graph is of another version of the job.
        if let Some(operator) = vertex.operators.iter().find(|operator| operator.id == metric.operator) {
            values.insert(format!("{}.{}", id_part(&operator.name), metric.full_name()), metric.value);
        }
    }
    values
}

/// The metrics of the operators of a task, as far as they can be told: the operators of a chain are fused into one loop that
/// counts what comes in at its head and what goes out at its end. What passes between them is not counted. Where a chain has
/// several ends, or its records are broadcast, the records that went out are counted by consumer, and what an operator made is
/// not told either.
pub fn operator_metrics(graph: &JobGraph, vertex: u32, subtask: &SubtaskView) -> Vec<(OperatorInfo, Values)> {
    let Some(label) = graph.vertex_label(vertex) else { return Vec::new() };
    let told = operator_values(&label, &subtask.metrics, &current_rates(subtask));
    let named = told.into_iter().map(|(operator, told)| {
        let mut values = Values::new();
        extend(&mut values, told);
        (operator.clone(), values)
    });
    named.collect()
}

/// What is told of each operator.
type OperatorValues<'l> = Vec<(&'l OperatorInfo, Vec<(&'static str, f64)>)>;

pub(crate) fn operator_values<'l>(
    label: &'l VertexLabel,
    metrics: &MetricsSnapshot,
    rates: &TaskRates,
) -> OperatorValues<'l> {
    let (Some(first), Some(last)) = (label.operators.first(), label.operators.last()) else { return Vec::new() };
    let alone = label.operators.len() == 1;
    let (records_in, records_out) = (metrics.records_in as f64, metrics.records_out as f64);

    let mut head = vec![("numRecordsIn", records_in), ("numRecordsInPerSecond", rates.records_in)];
    let is_source = matches!(first.kind, OperatorKind::Source { .. });
    if !is_source {
        head.push((INPUT_WATERMARK, millis_or_none(metrics.input_watermark)));
    }
    if is_source && !alone {
        // What a source reads is what it hands to the operator behind it.
        head.extend([("numRecordsOut", records_in), ("numRecordsOutPerSecond", rates.records_in)]);
    }
    let mut tail = Vec::new();
    if label.one_end {
        tail.extend([("numRecordsOut", records_out), ("numRecordsOutPerSecond", rates.records_out)]);
        tail.push((OUTPUT_WATERMARK, millis_or_none(metrics.output_watermark)));
        if last.kind == OperatorKind::Sink {
            tail.extend([("numRecordsSend", records_out), ("numRecordsSendPerSecond", rates.records_out)]);
        }
        if last.kind == OperatorKind::Sink && !alone {
            tail.extend([("numRecordsIn", records_out), ("numRecordsInPerSecond", rates.records_out)]);
        }
    }
    if alone {
        head.extend(tail);
        return vec![(first, head)];
    }
    vec![(first, head), (last, tail)].into_iter().filter(|(_, values)| !values.is_empty()).collect()
}

/// Changes between two reports of a task, per second of the time between them. A report that counts less than the one before
/// (of an attempt started anew) counts from 0; none if no time has passed.
pub fn rates_between(before: &MetricsSnapshot, after: &MetricsSnapshot, time: Duration) -> Option<TaskRates> {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let rate = |before: u64, after: u64| after.checked_sub(before).unwrap_or(after) as f64 / seconds;
    let share = |before: u64, after: u64| (rate(before, after) / 1e9).min(1.0);
    Some(TaskRates {
        records_in: rate(before.records_in, after.records_in),
        records_out: rate(before.records_out, after.records_out),
        bytes_in: rate(before.bytes_in, after.bytes_in),
        bytes_out: rate(before.bytes_out, after.bytes_out),
        busy: share(before.busy_nanos, after.busy_nanos),
        idle: share(before.idle_nanos, after.idle_nanos),
        backpressured: share(before.backpressured_nanos, after.backpressured_nanos),
    })
}

/// A task that does not run any more does not work at the speed it last had.
fn current_rates(subtask: &SubtaskView) -> TaskRates {
    if subtask.state.is_terminal() { TaskRates::default() } else { subtask.rates }
}

type Value = fn(&MetricsSnapshot, &TaskRates) -> f64;

/// The metrics of a task. Bytes are those that travel between processes; within one, records change hands without becoming
/// bytes.
pub(crate) const METRICS: [(&str, Value); 21] = [
    ("numRecordsIn", |m, _| m.records_in as f64),
    ("numRecordsInPerSecond", |_, r| r.records_in),
    ("numRecordsOut", |m, _| m.records_out as f64),
    ("numRecordsOutPerSecond", |_, r| r.records_out),
    ("numBytesIn", |m, _| m.bytes_in as f64),
    ("numBytesInPerSecond", |_, r| r.bytes_in),
    ("numBytesOut", |m, _| m.bytes_out as f64),
    ("numBytesOutPerSecond", |_, r| r.bytes_out),
    ("Shuffle.Netty.Input.numBytesInRemote", |m, _| m.bytes_in as f64),
    ("Shuffle.Netty.Input.numBytesInRemotePerSecond", |_, r| r.bytes_in),
    ("Shuffle.Netty.Input.numBytesInLocal", |_, _| 0.0),
    ("Shuffle.Netty.Input.numBytesInLocalPerSecond", |_, _| 0.0),
    ("busyTimeMsPerSecond", |_, r| r.busy * 1000.0),
    ("idleTimeMsPerSecond", |_, r| r.idle * 1000.0),
    ("backPressuredTimeMsPerSecond", |_, r| r.backpressured * 1000.0),
    ("isBackPressured", |_, r| f64::from(u8::from(r.backpressured >= BACKPRESSURED))),
    ("accumulateBusyTimeMs", |m, _| millis(m.busy_nanos)),
    ("accumulateIdleTimeMs", |m, _| millis(m.idle_nanos)),
    ("accumulateBackPressuredTimeMs", |m, _| millis(m.backpressured_nanos)),
    (INPUT_WATERMARK, |m, _| millis_or_none(m.input_watermark)),
    (OUTPUT_WATERMARK, |m, _| millis_or_none(m.output_watermark)),
];

const INPUT_WATERMARK: &str = "currentInputWatermark";
const OUTPUT_WATERMARK: &str = "currentOutputWatermark";

/// A metric of a task that Flink does not have: its name in REST, its description and its value.
type OwnValue = (&'static str, &'static str, fn(&MetricsSnapshot) -> f64);

/// The keyed state of a task.
pub(crate) const STATE: [OwnValue; 2] = [
    ("stateBytes", "About how many bytes of memory the keyed state of the task takes.", |m| m.state_bytes as f64),
    ("stateKeys", "For how many keys the operators of the task have state.", |m| m.state_keys as f64),
];

/// A watermark in milliseconds since the epoch; the least number, as in Flink, before the first.
fn millis_or_none(watermark: Option<i64>) -> f64 {
    watermark.unwrap_or(i64::MIN) as f64
}

fn millis(nanos: u64) -> f64 {
    (nanos / 1_000_000) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_model::{JobEdge, JobVertex, MetricGroup, OperatorId, OperatorMetric, Partitioner, VertexId};

    use super::*;

    const SOURCE: OperatorKind = OperatorKind::Source { bounded: true };

    fn vertex(operators: &[(&str, OperatorKind)]) -> JobVertex {
        let info = |(name, kind): &(&str, OperatorKind)| OperatorInfo {
            id: OperatorId::from_seed(name.as_bytes()),
            name: (*name).to_owned(),
            uid: None,
            kind: *kind,
        };
        JobVertex {
            id: VertexId::from_seed(operators[0].0.as_bytes()),
            name: operators.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" -> "),
            operators: operators.iter().map(info).collect(),
            parallelism: 1,
            max_parallelism: 128,
            slot_sharing_group: "default".to_owned(),
        }
    }

    fn edge(source: u32, source_port: u32, target: u32) -> JobEdge {
        let partitioner = Partitioner::Hash;
        JobEdge { source, source_port, target, target_input: 0, partitioner, record_type: "u64".to_owned() }
    }

    fn graph(vertices: Vec<JobVertex>, edges: Vec<JobEdge>) -> JobGraph {
        JobGraph { name: "job".to_owned(), vertices, edges, config: BTreeMap::new() }
    }

    fn subtask(state: ExecutionState) -> SubtaskView {
        let mut timestamps = [None; 10];
        timestamps[ExecutionState::Initializing as usize] = Some(1000);
        timestamps[ExecutionState::Running as usize] = Some(1040);
        SubtaskView {
            state,
            attempt: 0,
            task_manager: None,
            host: String::new(),
            timestamps,
            metrics: MetricsSnapshot {
                records_in: 100,
                records_out: 40,
                bytes_in: 1000,
                bytes_out: 400,
                busy_nanos: 2_500_000_000,
                idle_nanos: 1_000_000,
                backpressured_nanos: 999_999,
                input_watermark: Some(1_700_000_000_999),
                output_watermark: None,
                state_bytes: 4096,
                state_keys: 3,
                operators: Vec::new(),
            },
            rates: TaskRates {
                records_in: 10.0,
                records_out: 4.0,
                bytes_in: 100.0,
                bytes_out: 40.0,
                busy: 0.25,
                idle: 0.125,
                backpressured: 0.625,
            },
        }
    }

    #[test]
    fn a_task_has_totals_and_rates() {
        let values = task_metrics(&subtask(ExecutionState::Running));
        let expect = [
            ("Shuffle.Netty.Input.numBytesInLocal", 0.0),
            ("Shuffle.Netty.Input.numBytesInLocalPerSecond", 0.0),
            ("Shuffle.Netty.Input.numBytesInRemote", 1000.0),
            ("Shuffle.Netty.Input.numBytesInRemotePerSecond", 100.0),
            ("accumulateBackPressuredTimeMs", 0.0),
            ("accumulateBusyTimeMs", 2500.0),
            ("accumulateIdleTimeMs", 1.0),
            ("backPressuredTimeMsPerSecond", 625.0),
            ("busyTimeMsPerSecond", 250.0),
            ("currentInputWatermark", 1_700_000_000_999.0),
            ("currentOutputWatermark", i64::MIN as f64),
            ("idleTimeMsPerSecond", 125.0),
            ("initializationTime", 40.0),
            ("isBackPressured", 1.0),
            ("numBytesIn", 1000.0),
            ("numBytesInPerSecond", 100.0),
            ("numBytesOut", 400.0),
            ("numBytesOutPerSecond", 40.0),
            ("numRecordsIn", 100.0),
            ("numRecordsInPerSecond", 10.0),
            ("numRecordsOut", 40.0),
            ("numRecordsOutPerSecond", 4.0),
            ("stateBytes", 4096.0),
            ("stateKeys", 3.0),
        ];
        assert!(values.iter().map(|(name, value)| (name.as_str(), *value)).eq(expect), "{values:#?}");
    }

    #[test]
    fn a_task_that_has_ended_keeps_its_totals_and_does_nothing_more() {
        let values = task_metrics(&subtask(ExecutionState::Finished));
        assert_eq!((values["numRecordsIn"], values["numRecordsInPerSecond"]), (100.0, 0.0));
        assert_eq!((values["busyTimeMsPerSecond"], values["isBackPressured"]), (0.0, 0.0));
    }

    #[test]
    fn rates_are_changes_per_second() {
        let before = MetricsSnapshot { records_in: 100, busy_nanos: 1_000_000_000, ..MetricsSnapshot::default() };
        let after = MetricsSnapshot { records_in: 300, busy_nanos: 2_000_000_000, ..MetricsSnapshot::default() };
        let rates = rates_between(&before, &after, Duration::from_secs(2)).unwrap();
        assert_eq!((rates.records_in, rates.busy, rates.idle), (100.0, 0.5, 0.0));
        assert_eq!(rates_between(&before, &after, Duration::ZERO), None);
        // A new attempt began, and the clocks of two processes differ.
        let rates = rates_between(&after, &before, Duration::from_millis(500)).unwrap();
        assert_eq!((rates.records_in, rates.busy), (200.0, 1.0));
    }

    /// What is told of which operator of the first vertex.
    fn check(graph: &JobGraph, expect: &[(&str, f64)]) {
        let task = subtask(ExecutionState::Running);
        let mut told: Vec<_> = subtask_metrics(graph, 0, &task).into_iter().collect();
        let of_task = task_metrics(&task);
        told.retain(|(name, _)| {
            !of_task.contains_key(name) && !name.ends_with("PerSecond") && !name.ends_with("Watermark")
        });
        let told: Vec<_> = told.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn the_ends_of_a_chain_are_told() {
        let chain = vertex(&[("Source: lines", SOURCE), ("Split", OperatorKind::Transform)]);
        let sink = vertex(&[("Sink: out", OperatorKind::Sink)]);
        check(
            &graph(vec![chain, sink.clone()], vec![edge(0, 0, 1)]),
            &[
                ("Source__lines.numRecordsIn", 100.0),
                ("Source__lines.numRecordsOut", 100.0),
                ("Split.numRecordsOut", 40.0),
            ],
        );
        check(
            &graph(vec![sink], vec![]),
            &[("Sink__out.numRecordsIn", 100.0), ("Sink__out.numRecordsOut", 40.0), ("Sink__out.numRecordsSend", 40.0)],
        );
        check(
            &graph(vec![vertex(&[("Count", OperatorKind::Transform), ("Sink: out", OperatorKind::Sink)])], vec![]),
            &[
                ("Count.numRecordsIn", 100.0),
                ("Sink__out.numRecordsIn", 40.0),
                ("Sink__out.numRecordsOut", 40.0),
                ("Sink__out.numRecordsSend", 40.0),
            ],
        );
    }

    #[test]
    fn watermarks_and_what_code_measures_are_told_by_operator() {
        let chain = vertex(&[("Count", OperatorKind::Transform), ("Sink: out", OperatorKind::Sink)]);
        let mut task = subtask(ExecutionState::Running);
        let groups = [("partition", Some("7")), ("Fetcher", None)]
            .map(|(name, value)| MetricGroup { name: name.to_owned(), value: value.map(str::to_owned) });
        let measured = |operator: &str, value| OperatorMetric {
            operator: OperatorId::from_seed(operator.as_bytes()),
            groups: groups.to_vec(),
            name: "lag".to_owned(),
            value,
        };
        task.metrics.operators = vec![measured("Count", 3.0), measured("of another version", 4.75)];
        let told = subtask_metrics(&graph(vec![chain], vec![]), 0, &task);
        assert_eq!(told["Count.currentInputWatermark"], 1_700_000_000_999.0);
        assert_eq!(told["Sink__out.currentOutputWatermark"], i64::MIN as f64);
        assert_eq!(told["Count.partition.7.Fetcher.lag"], 3.0);
        assert!(!told.values().any(|value| *value == 4.75), "{told:?}");
    }

    #[test]
    fn what_goes_out_of_one_of_several_ends_is_not_told() {
        let forked = vertex(&[("Map", OperatorKind::Transform), ("Late", OperatorKind::Transform)]);
        let other = vertex(&[("Sink: out", OperatorKind::Sink)]);
        let only_the_head = [("Map.numRecordsIn", 100.0)];
        let vertices = vec![forked.clone(), other.clone(), other.clone()];
        check(&graph(vertices.clone(), vec![edge(0, 0, 1), edge(0, 1, 2)]), &only_the_head);
        check(&graph(vertices, vec![edge(0, 0, 1), edge(0, 0, 2)]), &only_the_head);
        let broadcast = JobEdge { partitioner: Partitioner::Broadcast, ..edge(0, 0, 1) };
        check(&graph(vec![forked, other], vec![broadcast]), &only_the_head);
        let tapped = vertex(&[
            ("Map", OperatorKind::Transform),
            ("Sink: tap", OperatorKind::Sink),
            ("Sink: out", OperatorKind::Sink),
        ]);
        check(&graph(vec![tapped], vec![]), &only_the_head);
    }

    #[test]
    fn a_vertex_that_is_not_there_has_no_operators() {
        assert!(operator_metrics(&graph(vec![], vec![]), 3, &subtask(ExecutionState::Running)).is_empty());
    }
}
