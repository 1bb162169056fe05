//! Jobs for tests of a cluster: of known size and duration, and such that fail a known number of times.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Idles {
    /// Number of tasks
    #[arg(long, default_value_t = 4)]
    tasks: u32,
}

/// Tasks that have nothing to do and do not end; each is a region of its own.
pub fn idles(env: &Environment, options: Idles) -> weir::Result<()> {
    env.source(GeneratorSource::new(|n| n).rate(0.001)).name("idle").parallelism(options.tasks).discard();
    Ok(())
}

#[derive(weir::Args)]
pub struct Ticks {
    /// Records per second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
}

/// Never ends: a source with a rate, and counts behind an exchange between all tasks.
pub fn ticks(env: &Environment, options: Ticks) -> weir::Result<()> {
    let source = env.source(GeneratorSource::new(|n| n).rate(options.rate)).name("ticks");
    source.key_by(|n| n % 64).count().discard();
    Ok(())
}

#[derive(weir::Args)]
pub struct Lasts {
    /// How long it takes
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Writes its records there
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Ends after a given time, with an exchange between all tasks.
pub fn lasts(env: &Environment, options: Lasts) -> weir::Result<()> {
    const RATE: f64 = 1000.0;
    let records = (options.seconds * RATE) as u64;
    let source = env.source(GeneratorSource::new(|n| n).rate(RATE).records(records)).name("clock");
    let lines = source.rebalance().map(|n| format!("number {n}"));
    match options.out {
        Some(out) => drop(lines.write_text(out)),
        None => drop(lines.discard()),
    }
    Ok(())
}

#[derive(weir::Args)]
pub struct AllToAll {
    /// Producers, and consumers
    #[arg(long, default_value_t = 4)]
    subtasks: u32,
    /// Records; without end, ten a second, if it is not given
    #[arg(long)]
    count: Option<u64>,
}

/// Every producer is connected with every consumer.
pub fn all_to_all(env: &Environment, options: AllToAll) -> weir::Result<()> {
    let source = GeneratorSource::new(|n| n);
    let source = match options.count {
        Some(count) => source.records(count),
        None => source.rate(10.0),
    };
    env.source(source)
        .name("producers")
        .parallelism(options.subtasks)
        .key_by(|n| *n)
        .count()
        .name("consumers")
        .parallelism(options.subtasks)
        .discard();
    Ok(())
}

#[derive(weir::Args)]
pub struct Regions {
    /// Independent chains: each is one subtask of every vertex
    #[arg(long, default_value_t = 3)]
    regions: u32,
    /// Records over all regions; half of them a second
    #[arg(long, default_value_t = 2000)]
    count: u64,
    /// The region that fails once, in the middle of its work
    #[arg(long)]
    failing: Option<u32>,
    /// How it fails: `panic`, or `abort`, which takes its process down
    #[arg(long, default_value = "panic")]
    how: String,
    /// Remembers the failure, between the processes of a job
    #[arg(long)]
    marks: PathBuf,
    /// Where the numbers go, each with the region that it came through
    #[arg(long)]
    out: PathBuf,
}

/// Chains that exchange nothing with each other, of which one fails once. Whatever fails, every number is written once.
pub fn regions(env: &Environment, options: Regions) -> weir::Result<()> {
    let Regions { regions, count, failing, how, marks, out } = options;
    // With a rate every reader has numbers of its own.
    let source = GeneratorSource::new(|n| n).records(count).rate(count as f64 / 2.0);
    let middle = count / 2;
    let fails = move |n: u64, context: &mut ProcessContext<String>| {
        let region = context.subtask();
        if Some(region) == failing && n >= middle && is_first(&marks, "region-failed") {
            assert!(how == "abort", "region {region} fails once, at record {n}");
            std::process::abort();
        }
        context.emit(format!("{n} {region}"));
    };
    env.source(source)
        .name("numbers")
        .parallelism(regions)
        .forward()
        .process_with(fails)
        .name("fails once")
        .parallelism(regions)
        .write_text(out);
    Ok(())
}

#[derive(weir::Args)]
pub struct FailsAtFirst {
    /// How often it fails before it succeeds
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Remembers the failures, between the processes of a job
    #[arg(long)]
    marks: PathBuf,
    /// Records
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// Where they go
    #[arg(long)]
    out: PathBuf,
}

/// Fails a few times in the middle of its work; then writes its records.
pub fn fails_at_first(env: &Environment, options: FailsAtFirst) -> weir::Result<()> {
    let FailsAtFirst { times, marks, count, out } = options;
    let fail = move |n: u64| {
        if n == count / 2 {
            let failure = (0..times).find(|i| is_first(&marks, &format!("failure-{i}")));
            assert!(failure.is_none(), "failure {} of {times}", failure.unwrap_or_default() + 1);
        }
        n
    };
    let numbers = env.generate(count, |n| n).map(fail).name("fails at first");
    numbers.rebalance().map(|n| format!("number {n}")).write_text(out);
    Ok(())
}

/// Whether nobody asked before for this mark in this folder; asking leaves it.
fn is_first(folder: &Path, mark: &str) -> bool {
    match File::create_new(folder.join(mark)) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => panic!("{}: {error}", folder.join(mark).display()),
    }
}
