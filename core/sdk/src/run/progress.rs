//! What a person sees while a job runs: one line that is rewritten on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_dataflow::task::MetricsSnapshot;
use weir_model::{JobGraph, JobStatus, TaskId};

use super::arguments::OutputFormat;
use super::{Runtime, terminal};

/// Lines outside a terminal appear this many times less often than updates on one.
const PLAIN_EVERY: u32 = 10;

/// Whether a rewritten line stands on the terminal right now.
static LINE_SHOWN: AtomicBool = AtomicBool::new(false);

/// Takes a progress line off the terminal, so that something else can be printed. It comes back with the next update.
pub(crate) fn clear_line() {
    if LINE_SHOWN.swap(false, Ordering::AcqRel) {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(b"\r\x1b[K").and_then(|()| err.flush());
    }
}

/// The sums of a vertex's tasks; what operators' code measures is kept apart, in the tasks' order.
#[derive(Debug, Clone, Default)]
pub(super) struct VertexTotals {
    pub(super) tasks: u32,
    pub(super) metrics: MetricsSnapshot,
}

/// Sums the tasks' metrics by vertex.
pub(super) fn by_vertex(graph: &JobGraph, tasks: &[(TaskId, MetricsSnapshot)]) -> Vec<VertexTotals> {
    let mut totals = vec![VertexTotals::default(); graph.vertices.len()];
    for (task, m) in tasks {
        let Some(total) = totals.get_mut(task.vertex as usize) else { continue };
        total.tasks += 1;
        let sum = &mut total.metrics;
        sum.records_in += m.records_in;
        sum.records_out += m.records_out;
        sum.bytes_in += m.bytes_in;
        sum.bytes_out += m.bytes_out;
        sum.busy_nanos += m.busy_nanos;
        sum.idle_nanos += m.idle_nanos;
        sum.backpressured_nanos += m.backpressured_nanos;
        sum.state_bytes += m.state_bytes;
        sum.state_keys += m.state_keys;
        sum.operators.extend(m.operators.iter().cloned());
    }
    totals
}

/// Shows how a run is going.
pub(super) struct Progress {
    graph: JobGraph,
    enabled: bool,
    terminal: bool,
    interval: Duration,
    next: Duration,
    last: Vec<VertexTotals>,
    last_at: Duration,
}

impl Progress {
    pub(super) fn new(graph: &JobGraph, runtime: &Runtime, interval: Duration) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let interval = if terminal { interval } else { interval * PLAIN_EVERY };
        Progress {
            graph: graph.clone(),
            enabled: !runtime.quiet && runtime.output == OutputFormat::Text,
            terminal,
            interval,
            next: interval,
            last: vec![VertexTotals::default(); graph.vertices.len()],
            last_at: Duration::ZERO,
        }
    }

    /// Time until the next update.
    pub(super) fn due_in(&self, now: Duration) -> Duration {
        if self.enabled { self.next.saturating_sub(now) } else { Duration::MAX }
    }

    /// Shows the tasks' metrics as of `now`.
    pub(super) fn show(&mut self, now: Duration, status: JobStatus, tasks: &[(TaskId, MetricsSnapshot)]) {
        let totals = by_vertex(&self.graph, tasks);
        let line = self.line(now, status, &totals);
        (self.last, self.last_at, self.next) = (totals, now, now + self.interval);
        let mut err = std::io::stderr().lock();
        // Progress is a courtesy: a closed terminal must not end the job.
        let _ = if self.terminal {
            LINE_SHOWN.store(true, Ordering::Release);
            let line: String = line.chars().take(terminal_width().saturating_sub(1)).collect();
            write!(err, "\r\x1b[K{line}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{line}")
        };
    }

    fn line(&self, now: Duration, status: JobStatus, totals: &[VertexTotals]) -> String {
        let seconds = (now - self.last_at).as_secs_f64().max(1e-9);
        let mut line = format!("{} {status}", clock(now));
        for (index, vertex) in self.graph.vertices.iter().enumerate() {
            let (total, last) = (&totals[index].metrics, &self.last[index].metrics);
            let rate = |now: u64, before: u64| count(now.saturating_sub(before) as f64 / seconds);
            let share = |now: u64, before: u64| {
                let tasks = f64::from(totals[index].tasks.max(1));
                (now.saturating_sub(before) as f64 / 1e9 / seconds / tasks * 100.0).min(100.0).round() as u32
            };
            line.push_str(&format!(
                " | {} in {}/s out {}/s busy {}% bp {}%",
                short_name(&vertex.name),
                rate(total.records_in, last.records_in),
                rate(total.records_out, last.records_out),
                share(total.busy_nanos, last.busy_nanos),
                share(total.backpressured_nanos, last.backpressured_nanos),
            ));
        }
        line
    }

    /// Prints a line about something that happened.
    pub(super) fn note(&self, text: &str) {
        clear_line();
        terminal::err(text);
    }

    /// Takes the progress line away for good.
    pub(super) fn clear(&self) {
        clear_line();
    }
}

/// The first and the last operator of a vertex tell it apart from others.
fn short_name(name: &str) -> String {
    let operators: Vec<&str> = name.split(" -> ").collect();
    let cut = |operator: &str| {
        if operator.chars().count() <= 24 {
            operator.to_owned()
        } else {
            operator.chars().take(23).chain(['…']).collect()
        }
    };
    match operators.as_slice() {
        [] => String::new(),
        [only] => cut(only),
        [first, .., last] => format!("{}→{}", cut(first), cut(last)),
    }
}

/// A number of records as people say it: `950`, `12.3 K`, `4.56 M`.
pub(super) fn count(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.1} K", v / 1e3),
        v if v < 1e9 => format!("{:.2} M", v / 1e6),
        v => format!("{:.2} G", v / 1e9),
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_like_people_say_them() {
        for (value, expect) in
            [(0.0, "0"), (999.0, "999"), (12_340.0, "12.3 K"), (4_560_000.0, "4.56 M"), (2.5e9, "2.50 G")]
        {
            assert_eq!(count(value), expect);
        }
    }

    #[test]
    fn a_vertex_is_named_by_its_ends() {
        assert_eq!(short_name("Source: text -> Flat Map -> Pre-Count"), "Source: text→Pre-Count");
        assert_eq!(short_name("Count"), "Count");
    }
}
