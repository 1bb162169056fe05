//! Results as a person and as a program reads them.

use crate::checkpoints::Checkpoints;
use crate::job::{System, Workload};
use crate::latency::Percentiles;
use serde::Serialize;

/// One row: medians over the repetitions.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was run.
    pub workload: Workload,
    /// By whom.
    pub system: System,
    /// Subtasks of every operator.
    pub parallelism: usize,
    /// Records of one run.
    pub records: u64,
    /// What was measured; `None` when a run failed.
    pub measured: Option<Measured>,
    /// Whether every run's result was right.
    pub verified: bool,
}

/// The medians of a row's runs.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Seconds from the first record to the last result.
    pub wall_s: f64,
    /// CPU seconds of all threads and processes.
    pub cpu_s: f64,
    /// Only for latency.
    pub latency: Option<Percentiles>,
    /// Only for runs with checkpoints.
    pub checkpoints: Option<Checkpoints>,
}

impl Row {
    /// Records per second.
    pub fn rate(&self) -> Option<f64> {
        self.measured.map(|measured| self.records as f64 / measured.wall_s)
    }

    /// This row's rate over that of `system` in the same workload: at the same parallelism, or at the one it was run at.
    /// There is none for latency, whose rate is given.
    fn ratio_to(&self, system: System, rows: &[Row]) -> Option<f64> {
        if self.workload == Workload::Latency {
            return None;
        }
        let same = |row: &&Row| row.workload == self.workload && row.system == system;
        let yardstick = rows
            .iter()
            .filter(same)
            .find(|row| row.parallelism == self.parallelism)
            .or_else(|| rows.iter().find(same))?;
        Some(self.rate()? / yardstick.rate()?)
    }
}

impl Row {
    /// This row's rate over that of the workload it is compared with, on the same system at the same parallelism.
    fn ratio_to_baseline(&self, rows: &[Row]) -> Option<(Workload, f64)> {
        let baseline = self.workload.baseline()?;
        let same =
            |row: &&Row| row.workload == baseline && row.system == self.system && row.parallelism == self.parallelism;
        Some((baseline, self.rate()? / rows.iter().find(same)?.rate()?))
    }

    /// What has no column: how it stands to the workload it is compared with, and its checkpoints.
    fn remark(&self, rows: &[Row]) -> Option<String> {
        let ratio = self.ratio_to_baseline(rows);
        let checkpoints = self.measured.and_then(|measured| measured.checkpoints);
        let ratio = ratio.map(|(baseline, ratio)| format!("{ratio:.3} of the rate of {baseline}"));
        let checkpoints = checkpoints.map(|seen| {
            format!(
                "{} checkpoints of {} MiB, median {:.3} s, slowest {:.3} s",
                seen.count,
                seen.bytes >> 20,
                seen.median_s,
                seen.slowest_s
            )
        });
        let parts: Vec<String> = ratio.into_iter().chain(checkpoints).collect();
        let row = format!("{} p={} {}", self.workload, self.parallelism, self.system);
        (!parts.is_empty()).then(|| format!("{row}: {}.\n", parts.join("; ")))
    }
}

/// A row as `--output json` prints it.
#[derive(Serialize)]
struct JsonRow {
    workload: Workload,
    system: System,
    parallelism: usize,
    records: u64,
    wall_s: Option<f64>,
    cpu_s: Option<f64>,
    rate: Option<f64>,
    ratio_to_hand: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_baseline: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoints: Option<Checkpoints>,
    verified: bool,
}

/// Renders `rows` as one JSON object a line.
pub fn json(rows: &[Row]) -> Result<String, serde_json::Error> {
    let mut lines = String::new();
    for row in rows {
        let latency = row.measured.and_then(|measured| measured.latency);
        let row = JsonRow {
            workload: row.workload,
            system: row.system,
            parallelism: row.parallelism,
            records: row.records,
            wall_s: row.measured.map(|measured| rounded(measured.wall_s, 4)),
            cpu_s: row.measured.map(|measured| rounded(measured.cpu_s, 4)),
            rate: row.rate().map(|rate| rounded(rate, 0)),
            ratio_to_hand: row.ratio_to(System::Hand, rows).map(|ratio| rounded(ratio, 4)),
            p50_ms: latency.map(|latency| rounded(latency.p50_ms, 4)),
            p99_ms: latency.map(|latency| rounded(latency.p99_ms, 4)),
            ratio_to_baseline: row.ratio_to_baseline(rows).map(|(_, ratio)| rounded(ratio, 4)),
            checkpoints: row.measured.and_then(|measured| measured.checkpoints),
            verified: row.verified,
        };
        lines.push_str(&serde_json::to_string(&row)?);
        lines.push('\n');
    }
    Ok(lines)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Renders `rows` as a table, with what must be known to read it: among it the cores that other processes kept busy.
pub fn table(rows: &[Row], neighbours: Option<f64>) -> String {
    let header = [
        "workload",
        "p",
        "system",
        "records",
        "wall s",
        "CPU s",
        "CPU ns",
        "M/s",
        "/hand",
        "/timely",
        "p50/p99/p99.99 ms",
        "verified",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| cells(row, rows)));
    let mut widths = [0; 12];
    for line in &lines {
        widths.iter_mut().zip(line).for_each(|(width, cell)| *width = (*width).max(cell.len()));
    }
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let is_word = [0, 2, 11].contains(&column);
            text.push_str(&if is_word { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") });
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.extend(rows.iter().filter_map(|row| row.remark(rows)));
    text.push_str(NOTES);
    let cores = std::thread::available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string());
    let neighbours = neighbours.map_or_else(|| "?".to_owned(), |busy| format!("{busy:.1}"));
    text.push_str(&format!("Machine: {cores} cores, of which other processes kept {neighbours} busy meanwhile.\n"));
    text
}

fn cells(row: &Row, rows: &[Row]) -> [String; 12] {
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let latency = row.measured.and_then(|measured| measured.latency);
    [
        row.workload.name().to_owned(),
        row.parallelism.to_string(),
        row.system.name().to_owned(),
        format!("{:.1} M", row.records as f64 / 1e6),
        seconds(row.measured.map(|measured| measured.wall_s)),
        seconds(row.measured.map(|measured| measured.cpu_s)),
        row.measured
            .map_or_else(|| "-".to_owned(), |measured| format!("{:.1}", measured.cpu_s * 1e9 / row.records as f64)),
        row.rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1}", rate / 1e6)),
        seconds(row.ratio_to(System::Hand, rows)),
        seconds(row.ratio_to(System::Timely, rows)),
        latency.map_or_else(
            || "-".to_owned(),
            |latency| format!("{:.3} / {:.3} / {:.3}", latency.p50_ms, latency.p99_ms, latency.p9999_ms),
        ),
        if row.verified { "yes" } else { "NO" }.to_owned(),
    ]
}

const NOTES: &str = "
Medians; every run in a fresh process. CPU ns: of all threads, for one record. Ratios are of rates in this call, to the same parallelism where there is such a row.
Keyed state has 10^6 keys × 100 bytes; state_cp takes a checkpoint every 3 s, to a folder for temporary files. Bids have 10^6 events per
second of event time; windows of 1 s, of 10 000 keys (window) or 100, of 1 ms (tumbling_1ms), or one of 1 s each ms (sliding).
hand: one thread (p=1); shuffle 2 sources and 2 receivers with std channels of 1 024-record batches; shuffle2 the same in two
processes, 64 KiB written to loopback TCP at once; latency one source that sleeps until a record is due and one sink.
timely: one worker per p; sources of 1 024-record batches, 8 KiB exchange batches, no local pre-aggregation; shuffle2 with its
own bincode encoding; latency with workers that poll for 10 µs, then sleep up to 50 µs.
latency: from when a record was due, not from when it was sent; the first half second is left out.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn row(system: System, parallelism: usize, wall_s: f64) -> Row {
        let measured = Some(Measured { wall_s, cpu_s: wall_s, latency: None, checkpoints: None });
        Row { workload: Workload::Q0, system, parallelism, records: 1_000_000, measured, verified: true }
    }

    #[test]
    fn ratios_prefer_the_same_parallelism() {
        let rows = [
            row(System::Hand, 1, 1.0),
            row(System::Timely, 1, 4.0),
            row(System::Timely, 2, 2.0),
            row(System::Weir, 2, 0.5),
        ];
        assert_eq!(rows[3].ratio_to(System::Hand, &rows), Some(2.0));
        assert_eq!(rows[3].ratio_to(System::Timely, &rows), Some(4.0));
        assert_eq!(rows[1].ratio_to(System::Weir, &rows[..3]), None);
    }

    #[test]
    fn json_rows_have_the_agreed_fields() {
        let mut failed = row(System::Hand, 1, 1.0);
        failed.measured = None;
        failed.verified = false;
        assert_eq!(
            json(&[failed]).expect("json"),
            "{\"workload\":\"q0\",\"system\":\"hand\",\"parallelism\":1,\"records\":1000000,\"wall_s\":null,\"cpu_s\":null,\
             \"rate\":null,\"ratio_to_hand\":null,\"p50_ms\":null,\"p99_ms\":null,\"verified\":false}\n"
        );
    }
}
