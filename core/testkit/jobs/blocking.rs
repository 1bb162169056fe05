//! Jobs that do not come to an end by themselves.

use std::time::Duration;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Blocks {
    /// Another task fails meanwhile
    #[arg(long)]
    fails: bool,
}

/// One task never returns from the author's function.
pub fn blocks(env: &Environment, options: Blocks) -> weir::Result<()> {
    env.generate(10, |n| n)
        .parallelism(1)
        .map(|n| {
            eprintln!("blocking");
            std::thread::sleep(Duration::from_secs(3600));
            n
        })
        .name("sleeper")
        .discard();
    let fails = options.fails;
    env.source(GeneratorSource::new(|n| n).rate(100.0))
        .parallelism(1)
        .map(move |n| {
            assert!(!fails || n < 20, "no fish in record {n}");
            n
        })
        .name("other")
        .discard();
    Ok(())
}

/// A function that takes its time, before and behind an exchange: 4096 of its calls take half a minute.
pub fn slow(env: &Environment) -> weir::Result<()> {
    let slow = |n: u64| {
        std::thread::sleep(Duration::from_millis(8));
        n
    };
    env.generate(100_000, |n| n)
        .parallelism(1)
        .inspect(|n| {
            if *n == 10 {
                eprintln!("under way");
            }
        })
        .rebalance()
        .map(slow)
        .name("slow")
        .parallelism(1)
        .discard();
    env.generate(100_000, slow).parallelism(1).name("slow source").discard();
    let others = env.from_collection([1_u64]);
    env.generate(100_000, |n| n).parallelism(1).connect(others).map(slow, |n| n).parallelism(1).discard();
    Ok(())
}

/// Runs until it is told to stop, with tasks everywhere and an exchange between all of them.
pub fn waits(env: &Environment) -> weir::Result<()> {
    env.source(GeneratorSource::new(|n| n).rate(1000.0))
        .parallelism(2)
        .key_by(|n| n % 10)
        .count()
        .parallelism(3)
        .inspect(|(key, count)| {
            if *key == 0 && *count > 0 {
                eprintln!("under way");
            }
        })
        .filter(|(key, _)| *key == 0)
        .discard();
    Ok(())
}
