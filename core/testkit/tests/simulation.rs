//! Clusters of many seeds, simulated: whatever goes wrong, what must hold does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_model::JobStatus;
use weir_testkit::simulation::{Outcome, Trace, simulate};

/// Number of seeds. More of them: `cargo run -p weir-testkit -- --seeds 0..10000`.
const SEEDS: u64 = 300;

/// Simulates all seeds on all cores, so that this takes seconds in a debug build too.
fn simulate_all() -> Vec<Outcome> {
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            let outcome = simulate(seed, Trace::Off).unwrap_or_else(|_| {
                // Once more, with what led there.
                let violation = simulate(seed, Trace::Keep(80)).expect_err("the same seed fails again");
                panic!("{violation}");
            });
            outcomes.lock().expect("no thread panics with the lock").push(outcome);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    outcomes.into_inner().expect("no thread panics with the lock")
}

#[test]
fn what_must_hold_does_for_every_seed() {
    let outcomes = simulate_all();
    assert_eq!(outcomes.len() as u64, SEEDS);
    // A simulation in which nothing happens would show nothing.
    let count = |status| outcomes.iter().flat_map(|outcome| &outcome.jobs).filter(|job| **job == status).count();
    for status in [JobStatus::Finished, JobStatus::Failed, JobStatus::Canceled] {
        assert!(count(status) >= SEEDS as usize / 4, "{status}: {}", count(status));
    }
    let (faults, deployments): (u32, u32) =
        (outcomes.iter().map(|o| o.faults).sum(), outcomes.iter().map(|o| o.deployments).sum());
    assert!(faults as u64 >= 10 * SEEDS, "{faults} faults");
    let restores: u32 = outcomes.iter().map(|outcome| outcome.restores).sum();
    assert!(u64::from(restores) >= SEEDS, "{restores} restores");
    let rescales: u32 = outcomes.iter().map(|outcome| outcome.rescales).sum();
    assert!(u64::from(rescales) >= SEEDS / 10, "{rescales} times another parallelism");
    let jobs = outcomes.iter().map(|outcome| outcome.jobs.len()).sum::<usize>();
    assert!(deployments as usize > jobs + jobs / 2, "{deployments} deployments of {jobs} jobs");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in [3, 41, 97] {
        assert_eq!(simulate(seed, Trace::Off), simulate(seed, Trace::Keep(10)));
    }
}
