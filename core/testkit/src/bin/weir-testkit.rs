//! Simulates clusters: `weir-testkit --seed 7 --trace` replays what a failed test reports.

use std::ops::Range;
use std::time::Instant;

use clap::Parser;
use weir_testkit::simulation::{Outcome, Trace, simulate};

/// Simulates a cluster's control plane in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seed to run.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds to run, e.g. 0..1000.
    #[arg(long, value_parser = range, default_value = "0..200")]
    seeds: Range<u64>,
    /// Print everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.ok_or_else(|| format!("found {text:?}, expected a range of seeds like 0..1000"))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
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
