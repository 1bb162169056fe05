//! The metrics in Prometheus' text format, named and labelled as Flink's reporter does.
//!
//! Flink exports everything as gauges: counters too, and without `_total`. So do the families named `flink_…` here, so that
//! existing dashboards and alerts go on working. What should be a counter is one beside it, named `weir_…_total`.
//!
//! Values of labels are the names themselves, escaped; Flink replaces special characters in them unless its reporter's
//! `filterLabelValueCharacters` is false, which this corresponds to.

mod families;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prometheus::proto::LabelPair;
use weir_model::{
    JobId, JobStatus, JobSummary, JobView, MetricsSnapshot, ProviderView, ResourcesView, TaskManagerInfo, TaskRates,
    VertexLabel,
};

use self::families::{Families, label, with, with_own};
use crate::{CheckpointFigures, Values, cluster_metrics, job_metrics, task};

/// The `Content-Type` of an exposition.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What the JobManager shows of itself, the cluster and the jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobManagerSample<'a> {
    /// Host of the JobManager.
    pub host: &'a str,
    /// Of its process: [`process_metrics`](crate::process_metrics).
    pub process: &'a Values,
    /// The cluster in numbers.
    pub resources: &'a ResourcesView,
    /// All jobs.
    pub summaries: &'a [JobSummary],
    /// The jobs whose own metrics are shown, with their checkpoints. Those that have ended are left out, as in Flink.
    pub jobs: &'a [(&'a JobView, CheckpointFigures)],
    /// Milliseconds since 1970-01-01 UTC.
    pub now: u64,
}

/// What a TaskManager shows of itself and its tasks.
#[derive(Debug, Clone, Copy)]
pub struct TaskManagerSample<'a> {
    /// The TaskManager.
    pub info: &'a TaskManagerInfo,
    /// Of its process: [`task_manager_metrics`](crate::task_manager_metrics).
    pub process: &'a Values,
    /// The tasks that run on it.
    pub tasks: &'a [TaskSample],
}

/// A task that runs on a TaskManager.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSample {
    /// Its job.
    pub job: JobId,
    /// The job's name.
    pub job_name: String,
    /// What its vertex is called.
    pub vertex: Arc<VertexLabel>,
    /// Index of the subtask, from 0.
    pub subtask: u32,
    /// Number of the attempt.
    pub attempt: u32,
    /// What it last reported.
    pub metrics: MetricsSnapshot,
    /// How fast it works.
    pub rates: TaskRates,
}

/// All metrics of the JobManager, in Prometheus' text format.
pub fn job_manager_exposition(sample: &JobManagerSample<'_>) -> String {
    let mut families = Families::default();
    let own = vec![label("host", sample.host)];
    let mut values = sample.process.clone();
    values.extend(cluster_metrics(sample.resources, sample.summaries));
    add_process(&mut families, "jobmanager", &own, values);
    add_jobs_by_status(&mut families, &own, sample.summaries);
    add_providers(&mut families, &own, &sample.resources.providers);
    let running: Vec<_> = sample.jobs.iter().copied().filter(|(job, _)| !job.summary.status.is_terminal()).collect();
    add_jobs(&mut families, &own, &running, sample.now);
    families.encode()
}

/// All metrics of a TaskManager and the tasks on it, in Prometheus' text format.
pub fn task_manager_exposition(sample: &TaskManagerSample<'_>) -> String {
    let mut families = Families::default();
    let own = vec![label("host", &sample.info.host), label("tm_id", sample.info.id.as_str())];
    add_process(&mut families, "taskmanager", &own, sample.process.clone());
    let slots = f64::from(sample.info.slots);
    families.scope([own.clone()]).gauge("weir_taskmanager_slots", "Slots of the TaskManager.", [slots]);
    add_tasks(&mut families, &own, sample.tasks);
    add_operators(&mut families, &own, sample.tasks);
    families.encode()
}

fn add_process(families: &mut Families, role: &str, own: &[LabelPair], values: Values) {
    let mut scope = families.scope([own.to_vec()]);
    if let Some(nanos) = values.get("Status.JVM.CPU.Time") {
        let name = format!("weir_{role}_cpu_seconds_total");
        scope.counter(&name, "Processor time of the process.", [nanos / 1e9]);
    }
    scope.flink_values(role, &[values]);
    let build = with(own, "version", env!("CARGO_PKG_VERSION"));
    families.scope([build]).gauge(&format!("weir_{role}_info"), "Always 1; tells the version of Weir.", [1.0]);
}

fn add_jobs_by_status(families: &mut Families, own: &[LabelPair], jobs: &[JobSummary]) {
    let mut scope = families.scope(JobStatus::ALL.map(|status| with(own, "status", status.name())));
    let counts = JobStatus::ALL.map(|status| jobs.iter().filter(|job| job.status == status).count() as f64);
    scope.gauge("weir_jobs", "Jobs the JobManager knows, those that ended lately too.", counts);
}

fn add_providers(families: &mut Families, own: &[LabelPair], providers: &[ProviderView]) {
    let mut scope = families.scope(providers.iter().map(|provider| with(own, "provider", &provider.name)));
    let mut add = |name: &str, help: &str, value: fn(&ProviderView) -> f64| {
        scope.gauge(&format!("weir_provider_{name}"), help, providers.iter().map(value));
    };
    add("pending_workers", "TaskManagers the provider was asked for that have not registered.", |p| {
        f64::from(p.pending)
    });
    add("running_workers", "TaskManagers the provider started that are registered.", |p| f64::from(p.running));
    add("failing", "Whether the last thing the provider did failed.", |p| {
        f64::from(u8::from(p.last_failure.is_some()))
    });
}

fn add_jobs(families: &mut Families, own: &[LabelPair], jobs: &[(&JobView, CheckpointFigures)], now: u64) {
    let labels = |(job, _): &(&JobView, CheckpointFigures)| {
        let summary = &job.summary;
        with(&with(own, "job_id", &summary.id.to_string()), "job_name", &summary.name)
    };
    let mut scope = families.scope(jobs.iter().map(labels));
    let values: Vec<_> = jobs.iter().map(|(job, checkpoints)| job_metrics(job, checkpoints, now)).collect();
    scope.flink_values("jobmanager_job", &values);
    let restarts = jobs.iter().map(|(job, _)| f64::from(job.restarts));
    scope.counter("weir_job_restarts_total", "How often tasks of the job were started again.", restarts);
    let missing =
        jobs.iter().map(|(job, _)| job.waiting.as_ref().map_or(0, |wait| wait.needed.saturating_sub(wait.granted)));
    scope.gauge("weir_job_missing_slots", "Slots the job waits for.", missing.map(f64::from));
}

fn add_tasks(families: &mut Families, own: &[LabelPair], tasks: &[TaskSample]) {
    let mut scope = families.scope(tasks.iter().map(|task| task_labels(own, task)));
    for (name, value) in task::METRICS {
        scope.flink("taskmanager_job_task", name, tasks.iter().map(|task| value(&task.metrics, &task.rates)));
    }
    for (name, (_, help, value)) in ["weir_task_state_bytes", "weir_task_state_keys"].into_iter().zip(task::STATE) {
        scope.gauge(name, help, tasks.iter().map(|task| value(&task.metrics)));
    }
    let mut add = |name: &str, help: &str, value: fn(&MetricsSnapshot) -> f64| {
        scope.counter(&format!("weir_task_{name}_total"), help, tasks.iter().map(|task| value(&task.metrics)));
    };
    add("records_in", "Records the attempt has taken in.", |m| m.records_in as f64);
    add("records_out", "Records the attempt has handed on, by consumer.", |m| m.records_out as f64);
    add("bytes_in", "Bytes the attempt has received from other processes.", |m| m.bytes_in as f64);
    add("bytes_out", "Bytes the attempt has sent to other processes.", |m| m.bytes_out as f64);
    add("busy_seconds", "Time the attempt has worked.", |m| m.busy_nanos as f64 / 1e9);
    add("idle_seconds", "Time the attempt has waited for input.", |m| m.idle_nanos as f64 / 1e9);
    add("backpressured_seconds", "Time the attempt has waited for consumers.", |m| m.backpressured_nanos as f64 / 1e9);
}

/// What is known of the operators of the tasks. Not every operator has every metric, so each metric has series of its own.
fn add_operators(families: &mut Families, own: &[LabelPair], tasks: &[TaskSample]) {
    let mut samples: BTreeMap<&str, (Vec<Vec<LabelPair>>, Vec<f64>)> = BTreeMap::new();
    for task in tasks.iter().filter(|task| !task.vertex.operators.is_empty()) {
        let of_task = task_labels(own, task);
        for (operator, values) in task::operator_values(&task.vertex, &task.metrics, &task.rates) {
            let labels =
                with(&with(&of_task, "operator_id", &operator.id.to_string()), "operator_name", &operator.name);
            for (name, value) in values {
                let (series, column) = samples.entry(name).or_default();
                series.push(labels.clone());
                column.push(value);
            }
        }
    }
    let own_names: BTreeSet<String> = samples.keys().map(|name| (*name).to_owned()).collect();
    for (name, (series, values)) in samples {
        families.scope(series).flink(OPERATOR, name, values);
    }
    add_measured(families, own, tasks, &own_names);
}

const OPERATOR: &str = "taskmanager_job_task_operator";

/// What the code of operators measures. Its names are the author's: they hide nothing else, and no series comes twice.
fn add_measured(families: &mut Families, own: &[LabelPair], tasks: &[TaskSample], taken: &BTreeSet<String>) {
    let mut samples: BTreeMap<String, (Vec<Vec<LabelPair>>, Vec<f64>)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for task in tasks.iter().filter(|task| !task.metrics.operators.is_empty()) {
        let of_task = task_labels(own, task);
        for metric in &task.metrics.operators {
            let Some(operator) = task.vertex.operators.iter().find(|operator| operator.id == metric.operator) else {
                continue;
            };
            let groups = metric.groups.iter().map(|group| group.name.as_str());
            let name = groups.chain([metric.name.as_str()]).collect::<Vec<_>>().join("_");
            let labels =
                with(&with(&of_task, "operator_id", &operator.id.to_string()), "operator_name", &operator.name);
            let labels = metric.groups.iter().fold(labels, |labels, group| match &group.value {
                Some(value) => with_own(labels, &group.name, value),
                None => labels,
            });
            let text: Vec<_> = labels.iter().flat_map(|pair| [pair.name(), pair.value()]).collect();
            if !taken.contains(&name) && seen.insert(format!("{name}\0{}", text.join("\0"))) {
                let (series, column) = samples.entry(name).or_default();
                series.push(labels);
                column.push(metric.value);
            }
        }
    }
    for (name, (series, values)) in samples {
        families.scope(series).flink(OPERATOR, &name, values);
    }
}

/// Flink's labels of a task, in Flink's order.
fn task_labels(own: &[LabelPair], task: &TaskSample) -> Vec<LabelPair> {
    let TaskSample { job, job_name, vertex, subtask, attempt, .. } = task;
    let VertexLabel { id, name, .. } = &**vertex;
    let mut labels = own.to_vec();
    labels.extend([
        label("job_id", &job.to_string()),
        label("job_name", job_name),
        label("task_id", &id.to_string()),
        label("task_name", name),
        label("task_attempt_id", &format!("{job}_{id}_{subtask}_{attempt}")),
        label("task_attempt_num", &attempt.to_string()),
        label("subtask_index", &subtask.to_string()),
    ]);
    labels
}

#[cfg(test)]
mod tests;
