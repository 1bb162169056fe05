//! Benchmarks of Weir beside their yardsticks: the program behind `scripts/bench`.
//!
//! The parent process decides what to run ([`plan`]), starts one child process of this same binary per run ([`process`]),
//! alternates between the systems so that all see the same load from outside, compares each result with one it computes
//! itself, and prints medians ([`report`]). A child runs one [`job::Job`] on one system: [`hand`], [`timely_jobs`] or
//! [`weir_jobs`].

mod checkpoints;
mod generate;
mod hand;
mod job;
mod latency;
mod options;
mod plan;
mod process;
mod report;
mod text;
mod timely_jobs;
mod weir_jobs;

use checkpoints::Checkpoints;
use job::{Failure, Job, System, Workload};
use latency::Percentiles;
use options::{Command, Format, Options};
use plan::{Input, Inputs, Size};
use report::{Measured, Row};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    if let Some(code) = weir_jobs::run_as_job() {
        return code;
    }
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == process::CHILD_FLAG).is_some() {
        return process::child(arguments.next());
    }
    match options::parse(arguments) {
        Ok(Command::Help) => {
            print!("{}", options::USAGE);
            ExitCode::SUCCESS
        }
        Ok(Command::Bench(options)) => bench(&options),
        Err(message) => {
            eprint!("scripts/bench: {message}\n\n{}", options::USAGE);
            ExitCode::from(2)
        }
    }
}

fn bench(options: &Options) -> ExitCode {
    let mut inputs = Inputs::default();
    let mut rows = Vec::new();
    let neighbours = process::Neighbours::watch();
    let begun = Instant::now();
    let mut done = 0;
    for workloads in options.workloads.chunk_by(|_, next| next.baseline().is_some()) {
        done += workloads.len() as u32;
        let until = begun + options.size.budget() * done / options.workloads.len() as u32;
        match measure(workloads, options, &mut inputs, until) {
            Ok(more) => rows.extend(more),
            Err(error) => {
                eprintln!("scripts/bench: the input of {} could not be prepared: {error}", workloads[0]);
                return ExitCode::FAILURE;
            }
        }
    }
    let neighbours = neighbours.cores();
    if let Some(cores) = neighbours.filter(|cores| *cores > 0.1) {
        eprintln!(
            "scripts/bench: other processes kept {cores:.1} cores busy meanwhile; trust CPU seconds more than rates"
        );
    }
    match options.format {
        Format::Table => print!("{}", report::table(&rows, neighbours)),
        Format::Json => match report::json(&rows) {
            Ok(lines) => print!("{lines}"),
            Err(error) => {
                eprintln!("scripts/bench: the results could not be written as JSON: {error}");
                return ExitCode::FAILURE;
            }
        },
    }
    if rows.iter().all(|row| row.verified) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The runs of one row.
struct Series {
    workload: Workload,
    system: System,
    parallelism: usize,
    input: Input,
    runs: Vec<Measured>,
    verified: bool,
}

/// Runs a workload, and those compared with it, on all systems by turns: a short warm-up each, then the repetitions, of which
/// all but the first are left out when the machine is so busy that it is past `until`.
fn measure(
    workloads: &[Workload],
    options: &Options,
    inputs: &mut Inputs,
    until: Instant,
) -> Result<Vec<Row>, Failure> {
    let mut series = Vec::new();
    for (workload, system) in workloads.iter().flat_map(|one| options.systems.iter().map(move |system| (*one, system)))
    {
        if plan::parallelisms(workload, *system).is_empty() {
            continue;
        }
        let warm_up = inputs.get(workload, *system, Size::Quick)?;
        let input = inputs.get(workload, *system, options.size)?;
        for parallelism in plan::parallelisms(workload, *system) {
            let mut row = Series {
                workload,
                system: *system,
                parallelism: *parallelism,
                input: warm_up.clone(),
                runs: vec![],
                verified: true,
            };
            // A state that fills needs as long to warm up as to be measured.
            if !matches!(workload, Workload::Latency | Workload::State | Workload::StateCp) {
                row.run("warm-up");
            }
            row.input = input.clone();
            row.runs.clear();
            series.push(row);
        }
    }
    for repetition in 1..=options.repetitions {
        if repetition > 1 && Instant::now() > until {
            eprintln!(
                "{:<12} the machine is slow: only {} of {} runs",
                workloads[0],
                repetition - 1,
                options.repetitions
            );
            break;
        }
        for row in &mut series {
            row.run(&format!("run {repetition} of {}", options.repetitions));
        }
    }
    Ok(series.into_iter().map(Series::into_row).collect())
}

impl Series {
    /// Runs once, unless a run of this row failed already.
    fn run(&mut self, which: &str) {
        let workload = self.workload;
        if !self.verified {
            return;
        }
        match self.run_child() {
            Ok(measured) => {
                self.runs.push(measured);
                let rate = self.input.records as f64 / measured.wall_s / 1e6;
                eprintln!(
                    "{workload:<12} {:<7} p={} {which}: {:.2} s, {:.2} CPU s, {rate:.1} M/s",
                    self.system, self.parallelism, measured.wall_s, measured.cpu_s
                );
            }
            Err(error) => {
                self.verified = false;
                eprintln!("{workload:<12} {:<7} p={} {which}: FAILED: {error}", self.system, self.parallelism);
            }
        }
    }

    fn run_child(&self) -> Result<Measured, Failure> {
        let workload = self.workload;
        let report = process::spawn(&Job {
            workload,
            system: self.system,
            parallelism: self.parallelism,
            records: self.input.records,
            text: self.input.text.as_ref().map(|text| (text.path.clone(), text.bytes)),
            peer: None,
        })?
        .wait()?;
        let (found, expected) = (report.outcome.observed, self.input.expected);
        if found != expected {
            return Err(format!("wrong result: found {found:?}, expected {expected:?}").into());
        }
        if workload == Workload::Latency && report.outcome.latency.is_none() {
            return Err("no latency was measured".into());
        }
        Ok(Measured {
            wall_s: report.outcome.wall.as_secs_f64(),
            cpu_s: report.cpu_s,
            latency: report.outcome.latency,
            checkpoints: report.outcome.checkpoints,
        })
    }

    fn into_row(self) -> Row {
        let Series { workload, system, parallelism, input, runs, verified } = self;
        let measured = (verified && !runs.is_empty()).then(|| medians(&runs));
        Row { workload, system, parallelism, records: input.records, measured, verified }
    }
}

fn medians(runs: &[Measured]) -> Measured {
    let checkpoints: Vec<Checkpoints> = runs.iter().filter_map(|run| run.checkpoints).collect();
    let latencies: Vec<Percentiles> = runs.iter().filter_map(|run| run.latency).collect();
    Measured {
        wall_s: median(runs.iter().map(|run| run.wall_s)),
        cpu_s: median(runs.iter().map(|run| run.cpu_s)),
        latency: (!latencies.is_empty()).then(|| Percentiles {
            p50_ms: median(latencies.iter().map(|latency| latency.p50_ms)),
            p99_ms: median(latencies.iter().map(|latency| latency.p99_ms)),
            p9999_ms: median(latencies.iter().map(|latency| latency.p9999_ms)),
        }),
        checkpoints: checkpoints.first().map(|first| Checkpoints {
            median_s: median(checkpoints.iter().map(|run| run.median_s)),
            slowest_s: median(checkpoints.iter().map(|run| run.slowest_s)),
            ..*first
        }),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
    }
}
