//! Simulates clusters: `weir-testkit --seed 7 --trace` replays what a failed test reports, `weir-testkit --scale` runs a large
//! job.

use std::ops::Range;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use weir_testkit::simulation::scale::{self, Scale};
use weir_testkit::simulation::{Outcome, Trace, simulate};

/// Simulates a cluster's control plane in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seed to run.
    #[arg(long, conflicts_with_all = ["seeds", "scale"])]
    seed: Option<u64>,
    /// Seeds to run, e.g. 0..1000.
    #[arg(long, value_parser = range, default_value = "0..200", conflicts_with = "scale")]
    seeds: Range<u64>,
    /// Print everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run one large job on many TaskManagers instead, and measure. Only a release build tells anything.
    #[arg(long)]
    scale: bool,
    /// Number of TaskManagers, with --scale.
    #[arg(long, default_value_t = 1000, requires = "scale", value_parser = clap::value_parser!(u32).range(1..))]
    taskmanagers: u32,
    /// Number of tasks, with --scale.
    #[arg(long, default_value_t = 20_000, requires = "scale", value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// Number of vertices, with --scale: each has an equal share of the tasks, and all edges are all-to-all. As many as the
    /// greatest parallelism makes necessary if left out, but at least 2.
    #[arg(long, requires = "scale", value_parser = clap::value_parser!(u32).range(1..))]
    vertices: Option<u32>,
    /// How results are written, with --scale.
    #[arg(long, value_enum, default_value_t = Output::Text, requires = "scale")]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One object of measure, value and unit a line.
    Json,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.ok_or_else(|| format!("found {text:?}, expected a range of seeds like 0..1000"))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.scale {
        return run_large(&arguments);
    }
    let seeds = arguments.seed.map_or(arguments.seeds, |seed| seed..seed + 1);
    let trace = if arguments.trace { Trace::Print } else { Trace::Keep(60) };
    for seed in seeds {
        let start = Instant::now();
        match simulate(seed, trace) {
            Ok(outcome) => println!("seed {seed}: {} in {:.0?}", describe(&outcome), start.elapsed()),
            Err(violation) => anyhow::bail!("{violation}"),
        }
    }
    Ok(())
}

fn describe(outcome: &Outcome) -> String {
    let jobs: Vec<_> = outcome.jobs.iter().map(|status| status.name()).collect();
    format!(
        "{} after {:.0?}, {} events, {} faults, {} deployments",
        jobs.join(" "),
        outcome.time,
        outcome.events,
        outcome.faults,
        outcome.deployments
    )
}

fn run_large(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { taskmanagers, tasks, .. } = *arguments;
    // A vertex has at most 32 768 subtasks.
    let vertices = arguments.vertices.unwrap_or_else(|| tasks.div_ceil(10_000).max(2));
    let parallelism = tasks.div_ceil(vertices);
    let slots = parallelism.div_ceil(taskmanagers);
    let scale = Scale { task_managers: taskmanagers, slots, vertices, parallelism };
    let report = scale::run(scale).map_err(anyhow::Error::msg)?;
    match arguments.output {
        Output::Text => print!("{report}"),
        Output::Json => {
            for (measure, value, unit) in report.rows() {
                println!("{}", serde_json::json!({ "measure": measure, "value": value, "unit": unit }));
            }
        }
    }
    Ok(())
}
