//! Staying with a job until it ends: progress, and what is said at the end.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, has_ended};
use crate::list::{explain_wait, failures, slot_wait};
use crate::text::count;

/// How long a request waits for the end of the job, before it is made again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// Lines outside a terminal appear this many times less often than updates on one.
const PLAIN_EVERY: u32 = 10;
/// How often a person is told why a job still waits for slots.
const WAIT_NOTE: Duration = Duration::from_secs(5);

/// A job as `/jobs/:id` shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Detail {
    pub(crate) name: String,
    pub(crate) state: String,
    duration: i64,
    vertices: Vec<Vertex>,
    plan: Plan,
}

#[derive(Debug, Deserialize)]
struct Vertex {
    id: String,
    name: String,
    parallelism: u64,
    metrics: Metrics,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metrics {
    read_records: u64,
    write_records: u64,
    read_bytes: u64,
    write_bytes: u64,
    accumulated_idle_time: u64,
    accumulated_backpressured_time: u64,
    /// A number, or the text `NaN`.
    accumulated_busy_time: Value,
}

impl Metrics {
    fn busy_millis(&self) -> f64 {
        self.accumulated_busy_time.as_f64().unwrap_or(0.0)
    }
}

#[derive(Debug, Deserialize)]
struct Plan {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    #[serde(default)]
    inputs: Vec<Input>,
}

#[derive(Debug, Deserialize)]
struct Input {
    id: String,
}

/// Follows one job.
pub(crate) struct Follower<'a> {
    client: &'a Client,
    id: &'a str,
    shown: bool,
    terminal: bool,
    line_stands: bool,
    interval: Duration,
    started: Instant,
    next_line: Instant,
    next_wait_note: Instant,
    last: BTreeMap<String, Metrics>,
    last_at: Instant,
}

impl<'a> Follower<'a> {
    /// `shown`: whether a person wants to see progress; `interval`: time between two updates on a terminal.
    pub(crate) fn new(client: &'a Client, id: &'a str, shown: bool, interval: Duration) -> Follower<'a> {
        let terminal = std::io::stderr().is_terminal();
        let interval = if terminal { interval } else { interval * PLAIN_EVERY };
        let now = Instant::now();
        Follower {
            client,
            id,
            shown,
            terminal,
            line_stands: false,
            interval,
            started: now,
            next_line: now + interval,
            next_wait_note: now + WAIT_NOTE / 5,
            last: BTreeMap::new(),
            last_at: now,
        }
    }

    /// Returns once the job has ended.
    pub(crate) async fn until_the_end(&mut self) -> anyhow::Result<()> {
        loop {
            let status = self.client.status(self.id, self.until_next_words()).await?;
            if has_ended(&status) {
                self.clear();
                return Ok(());
            }
            if self.shown {
                self.show(&status).await?;
            }
        }
    }

    /// How long there is nothing to say about a job that goes on.
    fn until_next_words(&self) -> Duration {
        if !self.shown {
            return LONGEST_WAIT;
        }
        let next = self.next_line.min(self.next_wait_note);
        next.saturating_duration_since(Instant::now()).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    async fn show(&mut self, status: &str) -> anyhow::Result<()> {
        let now = Instant::now();
        if now >= self.next_wait_note {
            self.next_wait_note = now + WAIT_NOTE;
            let waits = matches!(status, "CREATED" | "RUNNING" | "RESTARTING" | "INITIALIZING");
            if waits && let Some(wait) = slot_wait(self.client, self.id).await? {
                self.note(explain_wait(&wait).trim_end());
            }
        }
        if now >= self.next_line {
            self.next_line = now + self.interval;
            let detail: Detail = self.client.get(&format!("/jobs/{}", self.id)).await?;
            let line = self.line(&detail, now);
            self.write_line(&line);
            self.last = detail.vertices.iter().map(|vertex| (vertex.id.clone(), vertex.metrics.clone())).collect();
            self.last_at = now;
        }
        Ok(())
    }

    fn line(&self, detail: &Detail, now: Instant) -> String {
        let seconds = (now - self.last_at).as_secs_f64().max(1e-9);
        let elapsed = (now - self.started).as_secs();
        let mut line = format!("{:02}:{:02} {}", elapsed / 60, elapsed % 60, detail.state);
        for vertex in &detail.vertices {
            let last = self.last.get(&vertex.id).cloned().unwrap_or_default();
            let rate = |now: u64, before: u64| count(now.saturating_sub(before) as f64 / seconds);
            let share =
                |millis: f64| (millis / 10.0 / seconds / vertex.parallelism.max(1) as f64).clamp(0.0, 100.0).round();
            let backpressured =
                vertex.metrics.accumulated_backpressured_time.saturating_sub(last.accumulated_backpressured_time);
            line.push_str(&format!(
                " | {} in {}/s out {}/s busy {}% bp {}%",
                short_name(&vertex.name),
                rate(vertex.metrics.read_records, last.read_records),
                rate(vertex.metrics.write_records, last.write_records),
                share(vertex.metrics.busy_millis() - last.busy_millis()),
                share(backpressured as f64),
            ));
        }
        line
    }

    fn write_line(&mut self, line: &str) {
        let mut err = std::io::stderr().lock();
        // Progress is a courtesy: a closed terminal must not end the command.
        let _ = if self.terminal {
            let line: String = line.chars().take(terminal_width().saturating_sub(1)).collect();
            self.line_stands = true;
            write!(err, "\r\x1b[K{line}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{line}")
        };
    }

    /// Prints a line about something that happened.
    pub(crate) fn note(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.line_stands) {
            let mut err = std::io::stderr().lock();
            let _ = err.write_all(b"\r\x1b[K").and_then(|()| err.flush());
        }
    }
}

/// The first and the last operator of a vertex tell it apart from others.
fn short_name(name: &str) -> String {
    let operators: Vec<&str> = name.split(" -> ").collect();
    let cut = |operator: &str| match operator.chars().count() {
        ..=24 => operator.to_owned(),
        _ => operator.chars().take(23).chain(['…']).collect(),
    };
    match operators.as_slice() {
        [] => String::new(),
        [only] => cut(only),
        [first, .., last] => format!("{}→{}", cut(first), cut(last)),
    }
}

fn terminal_width() -> usize {
    // SAFETY: `winsize` is plain data for which all zeros is valid, and the pointer is to a live local.
    let columns = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut size);
        size.ws_col
    };
    if columns == 0 { 80 } else { usize::from(columns) }
}

/// What is said about a job that has ended.
pub(crate) struct Summary {
    id: String,
    detail: Detail,
    exceptions: Value,
    interrupted: bool,
}

impl Summary {
    pub(crate) async fn fetch(client: &Client, id: &str, interrupted: bool) -> anyhow::Result<Summary> {
        let detail = client.get(&format!("/jobs/{id}")).await?;
        let exceptions = client.get(&format!("/jobs/{id}/exceptions")).await?;
        Ok(Summary { id: id.to_owned(), detail, exceptions, interrupted })
    }

    pub(crate) fn finished(&self) -> bool {
        self.detail.state == "FINISHED"
    }

    pub(crate) fn canceled(&self) -> bool {
        self.detail.state == "CANCELED"
    }

    fn status(&self) -> &'static str {
        match self.detail.state.as_str() {
            "CANCELED" if self.interrupted => "interrupted",
            "CANCELED" => "canceled",
            "FINISHED" => "finished",
            _ => "failed",
        }
    }

    fn seconds(&self) -> f64 {
        self.detail.duration.max(0) as f64 / 1000.0
    }

    /// Records read by sources and handed to sinks.
    fn records(&self) -> (u64, u64) {
        let nodes = &self.detail.plan.nodes;
        let sum = |wanted: &dyn Fn(&Vertex) -> bool, value: fn(&Metrics) -> u64| {
            self.detail.vertices.iter().filter(|vertex| wanted(vertex)).map(|vertex| value(&vertex.metrics)).sum()
        };
        let is_source = |vertex: &Vertex| nodes.iter().any(|node| node.id == vertex.id && node.inputs.is_empty());
        let is_sink = |vertex: &Vertex| !nodes.iter().flat_map(|node| &node.inputs).any(|input| input.id == vertex.id);
        (sum(&is_source, |m| m.read_records), sum(&is_sink, |m| m.write_records))
    }

    /// Why the job did not finish; empty if it did.
    pub(crate) fn failure_text(&self) -> String {
        let text = failures(&self.exceptions);
        if self.finished() || text.is_empty() {
            return String::new();
        }
        format!("Job {} {}:\n{text}", self.detail.name, self.status())
    }

    pub(crate) fn text(&self) -> String {
        let (records_in, records_out) = self.records();
        let seconds = self.seconds();
        let mut text = format!(
            "Job {} {} after {seconds:.2} s: {} records in ({}/s), {} out\n",
            self.detail.name,
            self.status(),
            count(records_in as f64),
            count(records_in as f64 / seconds.max(1e-9)),
            count(records_out as f64),
        );
        for vertex in &self.detail.vertices {
            let m = &vertex.metrics;
            let (idle, backpressured) = (m.accumulated_idle_time as f64, m.accumulated_backpressured_time as f64);
            let all = (m.busy_millis() + idle + backpressured).max(1e-9);
            let share = |millis: f64| (millis / all * 100.0).round();
            text.push_str(&format!(
                "    {} ×{}: {} in, {} out, busy {}% idle {}% back-pressured {}%\n",
                vertex.name,
                vertex.parallelism,
                count(m.read_records as f64),
                count(m.write_records as f64),
                share(m.busy_millis()),
                share(idle),
                share(backpressured),
            ));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let (records_in, records_out) = self.records();
        let seconds = self.seconds();
        let history = &self.exceptions["exceptionHistory"]["entries"];
        json!({
            "job_id": self.id,
            "job": self.detail.name,
            "status": self.status(),
            "duration_s": seconds,
            "records_in": records_in,
            "records_out": records_out,
            "rate": records_in as f64 / seconds.max(1e-9),
            "vertices": self.detail.vertices.iter().map(|vertex| json!({
                "id": vertex.id,
                "name": vertex.name,
                "parallelism": vertex.parallelism,
                "records_in": vertex.metrics.read_records,
                "records_out": vertex.metrics.write_records,
                "bytes_in": vertex.metrics.read_bytes,
                "bytes_out": vertex.metrics.write_bytes,
                "busy_s": vertex.metrics.busy_millis() / 1e3,
                "idle_s": vertex.metrics.accumulated_idle_time as f64 / 1e3,
                "backpressured_s": vertex.metrics.accumulated_backpressured_time as f64 / 1e3,
            })).collect::<Vec<_>>(),
            "root_cause": if self.finished() { Value::Null } else { history[0].clone() },
            "failures": history,
        })
    }
}
