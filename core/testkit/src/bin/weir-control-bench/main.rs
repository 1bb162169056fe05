//! Measures the control plane on real processes: what `scripts/bench --control` runs.
//!
//! Every measure starts a cluster of its own from the built command `weir` ([`cluster`]), talks to it over its HTTP API ([`http`]), checks
//! that what was measured came out right, and ends all it has started. [`measures`] has one function for each row of
//! `docs/benchmarks.md`; [`report`] prints medians beside the figures to reach.

mod cluster;
mod http;
mod measures;
mod processes;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

use cluster::Programs;
use measures::{MEASURES, Size};
use report::Row;

/// Measures the control plane: processes of clusters on this machine, started, watched and killed.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench --control")]
struct Arguments {
    /// Runs only these measures, e.g. `recovery`; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Few repetitions and small jobs, for a look and not for quoting.
    #[arg(long)]
    quick: bool,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The folder with the built `weir`, `weir-test-jobs`, `weir-testkit` and plugins; this program's own if left out.
    #[arg(long)]
    programs: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table with the figures to reach.
    Text,
    /// One object of measure, value and unit a line.
    Json,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripts/bench --control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let names: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = arguments.only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("--only {unknown}: expected one of {}", names.join(", "));
    }
    let programs = Programs::find(arguments.programs.clone())?;
    processes::clean_up_on_signals()?;
    let size = if arguments.quick { Size::QUICK } else { Size::FULL };
    let mut rows = Vec::new();
    let neighbours = processes::Neighbours::watch();
    for (name, measure) in MEASURES {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("{name} …");
        rows.extend(measure(&programs, &size).with_context(|| format!("{name} could not be measured"))?);
    }
    rows.push(Row::new("control.load-of-others", neighbours.cores(), "cores"));
    match arguments.output {
        Output::Text => print!("{}", report::table(&rows)),
        Output::Json => rows.iter().for_each(|row| println!("{}", row.json())),
    }
    Ok(())
}
