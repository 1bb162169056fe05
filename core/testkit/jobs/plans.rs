//! A job with everything that shows in a plan.

use weir::prelude::*;

pub fn plan(env: &Environment) -> weir::Result<()> {
    env.generate(100, |n| n)
        .name("numbers")
        .uid("the-numbers")
        .parallelism(2)
        .map(|n| n + 1)
        .name("increment")
        .start_new_chain()
        .filter(|n| n % 2 == 0)
        .name("even")
        .disable_chaining()
        .map(|n| n * 2)
        .name("twice")
        .max_parallelism(64)
        .map(|n| n * 3)
        .name("thrice")
        .uid("tripled")
        .parallelism(3)
        .map(|n| n * 5)
        .name("grouped")
        .slot_sharing_group("gpu")
        .key_by(|n| n % 7)
        .count()
        .name("per key")
        .parallelism(4)
        .map(|(k, v)| format!("{k} {v}"))
        .print()
        .name("printed")
        .uid("printer");
    Ok(())
}
