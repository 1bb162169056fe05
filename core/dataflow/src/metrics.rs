//! Metrics that the code of operators keeps: counters and gauges under the names its author gives them.
//!
//! Each is a cell that the task's own thread writes with a plain store and anybody may read. Reports of the task carry them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weir_model::{MetricGroup, OperatorId, OperatorMetric};

use crate::task::TaskShared;

/// Metrics of one task that are reported; its code may keep more, but nobody sees those.
pub const MOST_METRICS: usize = 2000;

/// Where an operator's code gets its metrics: in `open` of a function, in `create_reader` of a source, in `create_writer` of a sink.
///
/// They appear among the metrics of the operator, in REST as `<subtask>.<operator>.<groups>.<name>`.
#[derive(Debug, Clone)]
pub struct OperatorMetrics {
    task: Arc<TaskShared>,
    operator: OperatorId,
    groups: Vec<MetricGroup>,
}

impl OperatorMetrics {
    pub(crate) fn new(task: Arc<TaskShared>, operator: OperatorId) -> Self {
        OperatorMetrics { task, operator, groups: Vec::new() }
    }

    /// Metrics of no task: they count, and nobody sees it. For tests of a reader, a writer or a function.
    pub fn detached() -> Self {
        let task = TaskShared::new(crate::task::TaskId { vertex: 0, subtask: 0 });
        OperatorMetrics::new(task, OperatorId::from_bytes([0; 16]))
    }

    /// The group of this name in this one.
    pub fn group(&self, name: impl Into<String>) -> Self {
        self.in_group(name.into(), None)
    }

    /// One of several groups alike, e.g. `labelled("partition", "3")`: part of the name in REST, a label in Prometheus.
    pub fn labelled(&self, name: impl Into<String>, value: impl ToString) -> Self {
        self.in_group(name.into(), Some(value.to_string()))
    }

    fn in_group(&self, name: String, value: Option<String>) -> Self {
        let mut group = self.clone();
        group.groups.push(MetricGroup { name, value });
        group
    }

    /// A number that only grows, from 0. Asked for again, it is the same one.
    pub fn counter(&self, name: impl Into<String>) -> Counter {
        Counter { cell: self.cell(name.into(), Kind::Counter), thread: PhantomData }
    }

    /// A number that says how things stand, at first 0. Asked for again, it is the same one.
    pub fn gauge(&self, name: impl Into<String>) -> Gauge {
        Gauge { cell: self.cell(name.into(), Kind::Gauge), thread: PhantomData }
    }

    fn cell(&self, name: String, kind: Kind) -> Arc<AtomicU64> {
        self.task.operator_metrics().cell(Registered {
            operator: self.operator,
            groups: self.groups.clone(),
            name,
            kind,
            cell: Arc::default(),
        })
    }

    /// What is known of the task's metrics now; for tests of a reader, a writer or a function.
    pub fn values(&self) -> Vec<OperatorMetric> {
        self.task.operator_metrics().values()
    }
}

/// Counts. Of the task's thread only: counts of several threads would lose some. The default one counts for nobody.
#[derive(Debug, Clone, Default)]
pub struct Counter {
    cell: Arc<AtomicU64>,
    thread: PhantomData<Cell<()>>,
}

impl Counter {
    /// Counts `n` more.
    #[inline]
    pub fn add(&self, n: u64) {
        self.cell.store(self.get() + n, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.cell.load(Ordering::Relaxed)
    }
}

/// Shows a number. The default one shows it to nobody.
#[derive(Debug, Clone, Default)]
pub struct Gauge {
    cell: Arc<AtomicU64>,
    thread: PhantomData<Cell<()>>,
}

impl Gauge {
    /// Shows `value` from now on.
    #[inline]
    pub fn set(&self, value: f64) {
        self.cell.store(value.to_bits(), Ordering::Relaxed);
    }

    /// What is shown.
    #[inline]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.cell.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

#[derive(Debug)]
struct Registered {
    operator: OperatorId,
    groups: Vec<MetricGroup>,
    name: String,
    kind: Kind,
    cell: Arc<AtomicU64>,
}

impl Registered {
    fn is(&self, other: &Registered) -> bool {
        self.operator == other.operator && self.name == other.name && self.groups == other.groups
    }

    fn value(&self) -> OperatorMetric {
        let bits = self.cell.load(Ordering::Relaxed);
        let value = match self.kind {
            Kind::Counter => bits as f64,
            Kind::Gauge => f64::from_bits(bits),
        };
        OperatorMetric { operator: self.operator, groups: self.groups.clone(), name: self.name.clone(), value }
    }
}

/// The metrics of the operators of a task.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Vec<Registered>>);

impl Registry {
    fn cell(&self, wanted: Registered) -> Arc<AtomicU64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|known| known.is(&wanted)) {
            // A counter is no gauge: the second of a name is its owner's own business.
            return if known.kind == wanted.kind { known.cell.clone() } else { wanted.cell };
        }
        let cell = wanted.cell.clone();
        if all.len() < MOST_METRICS {
            all.push(wanted);
        }
        cell
    }

    pub(crate) fn values(&self) -> Vec<OperatorMetric> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Registered::value).collect()
    }
}

/// What an operator's keyed state adds to that of its task.
#[derive(Debug, Default)]
pub(crate) struct StateMetrics {
    task: Option<Arc<TaskShared>>,
    bytes: u64,
    keys: u64,
    measured_at: i64,
}

/// Milliseconds between two looks at how much there is.
const MEASURE_EVERY: i64 = 1000;

impl StateMetrics {
    pub(crate) fn new(task: Arc<TaskShared>) -> Self {
        StateMetrics { task: Some(task), ..StateMetrics::default() }
    }

    /// Whether it is time to measure again, by the clock.
    #[inline]
    pub(crate) fn is_due(&self, now: i64) -> bool {
        now.abs_diff(self.measured_at) >= MEASURE_EVERY as u64
    }

    /// Takes what was measured into account.
    pub(crate) fn report(&mut self, now: i64, bytes: u64, keys: u64) {
        let Some(task) = &self.task else { return };
        task.metrics().change_state((self.bytes, self.keys), (bytes, keys));
        (self.bytes, self.keys, self.measured_at) = (bytes, keys, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(metrics: &OperatorMetrics) -> Vec<(String, f64)> {
        let text = |metric: OperatorMetric| {
            let groups = metric.groups.iter().map(|group| match &group.value {
                Some(value) => format!("{}={value}/", group.name),
                None => format!("{}/", group.name),
            });
            (groups.collect::<String>() + &metric.name, metric.value)
        };
        metrics.values().into_iter().map(text).collect()
    }

    #[test]
    fn what_code_measures_is_known_by_groups_and_name() {
        let metrics = OperatorMetrics::detached();
        metrics.counter("errors").add(3);
        let partition = metrics.group("Reader").labelled("partition", 7);
        partition.gauge("lag").set(2.5);
        partition.gauge("lag").set(1.5);
        metrics.counter("errors").add(1);
        let expect = [("errors".to_owned(), 4.0), ("Reader/partition=7/lag".to_owned(), 1.5)];
        assert_eq!(named(&metrics), expect);
    }

    #[test]
    fn more_metrics_than_can_be_reported_are_kept_to_oneself() {
        let metrics = OperatorMetrics::detached();
        for number in 0..MOST_METRICS + 5 {
            metrics.counter(format!("number {number}")).add(1);
        }
        assert_eq!(metrics.values().len(), MOST_METRICS);
    }

    #[test]
    fn the_state_of_a_task_is_that_of_its_operators() {
        let task = TaskShared::new(crate::task::TaskId { vertex: 0, subtask: 0 });
        let (mut first, mut second) = (StateMetrics::new(task.clone()), StateMetrics::new(task.clone()));
        first.report(5000, 100, 2);
        second.report(5000, 50, 1);
        first.report(6000, 40, 1);
        let snapshot = task.snapshot();
        assert_eq!((snapshot.state_bytes, snapshot.state_keys), (90, 2));
        assert!(!first.is_due(6999));
        assert!(first.is_due(7000));
    }
}
