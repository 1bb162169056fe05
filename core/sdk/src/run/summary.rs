//! What a person or a program reads when a job has ended.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_dataflow::task::MetricsSnapshot;
use weir_model::{JobGraph, JobStatus, JobVertex, OperatorKind};
use weir_scheduler::{FailureRecord, JobReport};

use super::arguments::OutputFormat;
use super::backend::Usage;
use super::driver::Outcome;
use super::progress::{VertexTotals, by_vertex, clear_line, count};
use super::{Runtime, terminal};
use crate::error::Error;

/// The end of a run.
pub(super) struct Summary<'a> {
    graph: &'a JobGraph,
    report: &'a JobReport,
    totals: Vec<VertexTotals>,
    usage: Usage,
    interrupted: bool,
}

impl<'a> Summary<'a> {
    pub(super) fn new(graph: &'a JobGraph, outcome: &'a Outcome) -> Self {
        Summary {
            graph,
            report: &outcome.report,
            totals: by_vertex(graph, &outcome.metrics),
            usage: outcome.usage,
            interrupted: outcome.interrupted,
        }
    }

    /// Prints it where the options say. A failure is printed even when everything else is to be quiet.
    /// Returns whether that could be done.
    pub(super) fn print(&self, runtime: &Runtime) -> bool {
        clear_line();
        match runtime.output {
            OutputFormat::Json => terminal::out(self.json()),
            OutputFormat::Text => {
                let text = self.text(runtime.quiet);
                if !text.is_empty() {
                    terminal::err(text.trim_end());
                }
                true
            }
        }
    }

    fn seconds(&self) -> f64 {
        self.report.started.map_or(0.0, |started| self.report.ended.saturating_sub(started).as_secs_f64())
    }

    /// Records read by sources and handed to sinks.
    fn records(&self) -> (u64, u64) {
        let sum = |wanted: fn(OperatorKind) -> bool, value: fn(&MetricsSnapshot) -> u64| {
            let vertices = self.graph.vertices.iter().zip(&self.totals);
            vertices.filter(|(v, _)| v.operators.iter().any(|o| wanted(o.kind))).map(|(_, t)| value(&t.metrics)).sum()
        };
        (
            sum(|kind| matches!(kind, OperatorKind::Source { .. }), |m| m.records_in),
            sum(|kind| kind == OperatorKind::Sink, |m| m.records_out),
        )
    }

    fn status(&self) -> &'static str {
        match self.report.status {
            JobStatus::Canceled if self.interrupted => "interrupted",
            JobStatus::Canceled => "canceled",
            JobStatus::Finished => "finished",
            _ => "failed",
        }
    }

    /// Why the job failed and what did not stop; empty for a job that finished.
    pub(super) fn failure_text(&self) -> String {
        let mut text = String::new();
        if let Some(root) = self.root_cause() {
            text.push_str(&format!("Job {} failed: {}\n", self.graph.name, root.to_string().trim_end()));
            let others = self.report.failures.len() as u64 + self.report.more_failures - 1;
            if others > 0 {
                let s = if others == 1 { "" } else { "s" };
                text.push_str(&format!("    ({others} more failure{s} followed; --output json lists them)\n"));
            }
        }
        if !self.report.stuck_tasks.is_empty() {
            text.push_str("These tasks did not stop when they were told to and were ended by force (user code that blocks or loops?):\n");
            self.report.stuck_tasks.iter().for_each(|task| text.push_str(&format!("    {task}\n")));
        }
        text
    }

    fn text(&self, quiet: bool) -> String {
        let mut text = self.failure_text();
        if quiet {
            return text;
        }
        let (records_in, records_out) = self.records();
        let seconds = self.seconds();
        text.push_str(&format!(
            "Job {} {} after {seconds:.2} s: {} records in ({}/s), {} out, {:.2} CPU s, {} MiB at most\n",
            self.graph.name,
            self.status(),
            count(records_in as f64),
            count(records_in as f64 / seconds.max(1e-9)),
            count(records_out as f64),
            self.usage.cpu.as_secs_f64(),
            self.usage.peak_rss / (1 << 20),
        ));
        for (vertex, total) in self.graph.vertices.iter().zip(&self.totals) {
            let m = &total.metrics;
            let all = (m.busy_nanos + m.idle_nanos + m.backpressured_nanos).max(1) as f64;
            let share = |nanos: u64| (nanos as f64 / all * 100.0).round();
            text.push_str(&format!(
                "    {} ×{}: {} in, {} out, busy {}% idle {}% back-pressured {}%{}\n",
                vertex.name,
                vertex.parallelism,
                count(m.records_in as f64),
                count(m.records_out as f64),
                share(m.busy_nanos),
                share(m.idle_nanos),
                share(m.backpressured_nanos),
                state_text(m),
            ));
        }
        text
    }

    fn root_cause(&self) -> Option<&FailureRecord> {
        if self.report.status == JobStatus::Finished { None } else { self.report.root_cause() }
    }

    fn json(&self) -> Value {
        let (records_in, records_out) = self.records();
        let seconds = self.seconds();
        json!({
            "job": self.graph.name,
            "status": self.status(),
            "duration_s": seconds,
            "records_in": records_in,
            "records_out": records_out,
            "rate": records_in as f64 / seconds.max(1e-9),
            "cpu_s": self.usage.cpu.as_secs_f64(),
            "peak_rss_bytes": self.usage.peak_rss,
            "vertices": self.graph.vertices.iter().zip(&self.totals).map(|(vertex, total)| {
                let m = &total.metrics;
                json!({
                    "id": vertex.id.to_string(),
                    "name": vertex.name,
                    "parallelism": vertex.parallelism,
                    "records_in": m.records_in,
                    "records_out": m.records_out,
                    "bytes_in": m.bytes_in,
                    "bytes_out": m.bytes_out,
                    "busy_s": m.busy_nanos as f64 / 1e9,
                    "idle_s": m.idle_nanos as f64 / 1e9,
                    "backpressured_s": m.backpressured_nanos as f64 / 1e9,
                    "state_bytes": m.state_bytes,
                    "state_keys": m.state_keys,
                    "metrics": operator_metrics(vertex, m),
                })
            }).collect::<Vec<_>>(),
            "root_cause": self.root_cause().map(failure_json),
            "failures": self.report.failures.iter().map(failure_json).collect::<Vec<_>>(),
            "stuck_tasks": self.report.stuck_tasks,
        })
    }
}

/// The keyed state of a vertex at the end, if it has any.
fn state_text(metrics: &MetricsSnapshot) -> String {
    let size = match metrics.state_bytes {
        bytes if bytes < 10 << 20 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        bytes => format!("{} MiB", bytes >> 20),
    };
    match metrics.state_keys {
        0 => String::new(),
        keys => format!(", state of {} keys in {size}", count(keys as f64)),
    }
}

/// What the code of a vertex's operators measured: a value of each task, by operator and name.
fn operator_metrics(vertex: &JobVertex, metrics: &MetricsSnapshot) -> BTreeMap<String, Vec<f64>> {
    let mut by_name = BTreeMap::<_, Vec<_>>::new();
    for metric in &metrics.operators {
        if let Some(operator) = vertex.operators.iter().find(|operator| operator.id == metric.operator) {
            by_name.entry(format!("{}.{}", operator.name, metric.full_name())).or_default().push(metric.value);
        }
    }
    by_name
}

fn failure_json(record: &FailureRecord) -> Value {
    json!({
        "task": record.task_name,
        "worker": record.worker,
        "kind": record.failure.kind.name(),
        "message": record.failure.message,
        "operator": record.failure.operator,
        "location": record.failure.location,
        "backtrace": record.failure.backtrace,
        "at_s": record.at.as_secs_f64(),
    })
}

/// Prints why a job did not start.
pub(super) fn print_error(job: &str, runtime: &Runtime, error: &Error) {
    match runtime.output {
        OutputFormat::Json => {
            let status = if matches!(error, Error::Interrupted) { "interrupted" } else { "failed" };
            terminal::out(json!({ "job": job, "status": status, "root_cause": { "message": error.to_string() } }));
        }
        OutputFormat::Text => terminal::err(format!("Job {job} cannot start: {error}")),
    }
}
