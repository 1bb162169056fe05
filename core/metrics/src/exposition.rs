//! The metrics in Prometheus' text format, named and labelled as Flink's reporter does.
//!
//! Flink exports everything as gauges: counters too, and without `_total`. So do the families named `flink_…` here, so that
//! existing dashboards and alerts go on working. What should be a counter is one beside it, named `weir_…_total`.
//!
//! Values of labels are the names themselves, escaped; Flink replaces special characters in them unless its reporter's
//! `filterLabelValueCharacters` is false, which this corresponds to.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use weir_model::{
    JobId, JobStatus, JobSummary, JobView, MetricsSnapshot, ProviderView, ResourcesView, TaskManagerInfo, TaskRates,
    VertexId,
};

use crate::{Values, cluster_metrics, job_metrics, task};

/// The `Content-Type` of an exposition.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Longer values of labels are cut: a job's name is repeated in every line of it.
const LONGEST_LABEL: usize = 256;

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
    /// The jobs whose own metrics are shown. Those that have ended are left out, as in Flink.
    pub jobs: &'a [&'a JobView],
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
    /// Its vertex.
    pub vertex: VertexId,
    /// The vertex's name.
    pub vertex_name: String,
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
    let host = [label("host", sample.host)];
    families.flink("jobmanager", &host, sample.process);
    families.flink("jobmanager", &host, &cluster_metrics(sample.resources, sample.summaries));
    families.process(&host, "jobmanager", sample.process);
    families.jobs_by_status(&host, sample.summaries);
    families.providers(&host, &sample.resources.providers);
    for job in sample.jobs.iter().filter(|job| !job.summary.status.is_terminal()) {
        let [host] = host.clone();
        let labels = [host, label("job_id", &job.summary.id.to_string()), label("job_name", &job.summary.name)];
        families.flink("jobmanager_job", &labels, &job_metrics(job, sample.now));
        let restarts = f64::from(job.restarts);
        families.counter(
            "weir_job_restarts_total",
            "How often tasks of the job were started again.",
            &labels,
            restarts,
        );
        let missing = job.waiting.as_ref().map_or(0, |wait| wait.needed.saturating_sub(wait.granted));
        families.gauge("weir_job_missing_slots", "Slots the job waits for.", &labels, f64::from(missing));
    }
    families.encode()
}

/// All metrics of a TaskManager and the tasks on it, in Prometheus' text format.
pub fn task_manager_exposition(sample: &TaskManagerSample<'_>) -> String {
    let mut families = Families::default();
    let own = [label("host", &sample.info.host), label("tm_id", sample.info.id.as_str())];
    families.flink("taskmanager", &own, sample.process);
    families.process(&own, "taskmanager", sample.process);
    let slots = f64::from(sample.info.slots);
    families.gauge("weir_taskmanager_slots", "Slots of the TaskManager.", &own, slots);
    for task in sample.tasks {
        let labels = task_labels(&own, task);
        families.flink("taskmanager_job_task", &labels, &task::values_of(&task.metrics, &task.rates));
        families.task_counters(&labels, &task.metrics);
    }
    families.encode()
}

/// Flink's labels of a task, in Flink's order.
fn task_labels(own: &[LabelPair], task: &TaskSample) -> Vec<LabelPair> {
    let TaskSample { job, job_name, vertex, vertex_name, subtask, attempt, .. } = task;
    let mut labels = own.to_vec();
    labels.extend([
        label("job_id", &job.to_string()),
        label("job_name", job_name),
        label("task_id", &vertex.to_string()),
        label("task_name", vertex_name),
        label("task_attempt_id", &format!("{job}_{vertex}_{subtask}_{attempt}")),
        label("task_attempt_num", &attempt.to_string()),
        label("subtask_index", &subtask.to_string()),
    ]);
    labels
}

/// The families of an exposition, by name.
#[derive(Debug, Default)]
struct Families(BTreeMap<String, MetricFamily>);

impl Families {
    /// Adds values under the names Flink gives them in this scope.
    fn flink(&mut self, scope: &str, labels: &[LabelPair], values: &Values) {
        for (name, value) in values {
            let family = family_name(&format!("flink_{scope}_{name}"));
            self.add(&family, MetricType::GAUGE, || format!("{name} (scope: {scope})"), labels, *value);
        }
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &[LabelPair], value: f64) {
        self.add(name, MetricType::GAUGE, || help.to_owned(), labels, value);
    }

    fn counter(&mut self, name: &str, help: &str, labels: &[LabelPair], value: f64) {
        self.add(name, MetricType::COUNTER, || help.to_owned(), labels, value);
    }

    fn process(&mut self, labels: &[LabelPair], scope: &str, process: &Values) {
        if let Some(nanos) = process.get("Status.JVM.CPU.Time") {
            let name = format!("weir_{scope}_cpu_seconds_total");
            self.counter(&name, "Processor time of the process.", labels, nanos / 1e9);
        }
        let mut build = labels.to_vec();
        build.push(label("version", env!("CARGO_PKG_VERSION")));
        self.gauge(&format!("weir_{scope}_info"), "Always 1; tells the version of Weir.", &build, 1.0);
    }

    fn jobs_by_status(&mut self, labels: &[LabelPair], jobs: &[JobSummary]) {
        for status in JobStatus::ALL {
            let mut labels = labels.to_vec();
            labels.push(label("status", status.name()));
            let count = jobs.iter().filter(|job| job.status == status).count();
            self.gauge("weir_jobs", "Jobs the JobManager knows, those that ended lately too.", &labels, count as f64);
        }
    }

    fn providers(&mut self, labels: &[LabelPair], providers: &[ProviderView]) {
        for provider in providers {
            let mut labels = labels.to_vec();
            labels.push(label("provider", &provider.name));
            let failing = f64::from(u8::from(provider.last_failure.is_some()));
            let values = [
                (
                    "pending_workers",
                    "TaskManagers the provider was asked for that have not registered.",
                    f64::from(provider.pending),
                ),
                (
                    "running_workers",
                    "TaskManagers the provider started that are registered.",
                    f64::from(provider.running),
                ),
                ("failing", "Whether the last thing the provider did failed.", failing),
            ];
            for (name, help, value) in values {
                self.gauge(&format!("weir_provider_{name}"), help, &labels, value);
            }
        }
    }

    fn task_counters(&mut self, labels: &[LabelPair], metrics: &MetricsSnapshot) {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let counters = [
            ("records_in", "Records the attempt has taken in.", metrics.records_in as f64),
            ("records_out", "Records the attempt has handed on, by consumer.", metrics.records_out as f64),
            ("bytes_in", "Bytes the attempt has received from other processes.", metrics.bytes_in as f64),
            ("bytes_out", "Bytes the attempt has sent to other processes.", metrics.bytes_out as f64),
            ("busy_seconds", "Time the attempt has worked.", seconds(metrics.busy_nanos)),
            ("idle_seconds", "Time the attempt has waited for input.", seconds(metrics.idle_nanos)),
            (
                "backpressured_seconds",
                "Time the attempt has waited for consumers.",
                seconds(metrics.backpressured_nanos),
            ),
        ];
        for (name, help, value) in counters {
            self.counter(&format!("weir_task_{name}_total"), help, labels, value);
        }
    }

    fn add(&mut self, name: &str, of: MetricType, help: impl FnOnce() -> String, labels: &[LabelPair], value: f64) {
        let family = self.0.entry(name.to_owned()).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help());
            family.set_field_type(of);
            family
        });
        let mut metric = Metric::from_label(labels.to_vec());
        if of == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        family.mut_metric().push(metric);
    }

    fn encode(self) -> String {
        let families: Vec<_> = self.0.into_values().collect();
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&families, &mut text)
            .expect("every family has a name and a sample, and a String takes everything");
        text
    }
}

/// What does not belong into the name of a family becomes `_`.
fn family_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect()
}

/// Control characters other than line ends are no part of the format, not even escaped.
fn label(name: &str, value: &str) -> LabelPair {
    let clean = |c: char| if c.is_control() && c != '\n' { '_' } else { c };
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.chars().take(LONGEST_LABEL).map(clean).collect());
    pair
}

#[cfg(test)]
mod tests;
