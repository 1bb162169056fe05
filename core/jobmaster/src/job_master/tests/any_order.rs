//! Whatever happens, in whatever order: the job ends once nothing fails any more.

use std::time::Duration;

use proptest::prelude::*;
use weir_model::{ExecutionState, JobStatus, Partitioner};

use super::world::World;
use crate::testing::chain;
use crate::{FailoverStrategy, JobMasterOptions, RestartStrategy};

fn any_strategy() -> impl Strategy<Value = RestartStrategy> {
    prop_oneof![
        1 => Just(RestartStrategy::None),
        3 => (0u32..5, 0u64..3).prop_map(|(attempts, seconds)| RestartStrategy::FixedDelay {
            attempts,
            delay: Duration::from_secs(seconds)
        }),
        6 => Just(RestartStrategy::EXPONENTIAL_DELAY),
    ]
}

fn any_options() -> impl Strategy<Value = JobMasterOptions> {
    (any_strategy(), any::<bool>(), any::<bool>()).prop_map(|(restart_strategy, full, patient)| JobMasterOptions {
        restart_strategy,
        failover: if full { FailoverStrategy::Full } else { FailoverStrategy::Region },
        cancellation_timeout: Some(Duration::from_secs(if patient { 180 } else { 0 })),
        ..JobMasterOptions::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_job_ends(
        regions: bool,
        parallelisms in prop::collection::vec(1u32..5, 1..4),
        options in any_options(),
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 0..600),
    ) {
        let partitioner = if regions { Partitioner::Rescale } else { Partitioner::Hash };
        let mut world = World::new(chain(&parallelisms, partitioner), options);
        for (what, which) in steps {
            world.step(what, which);
        }
        world.finish();
        let report = world.report.as_ref().unwrap();
        let view = world.master.view();
        prop_assert_eq!(report.status, view.summary.status);
        let tasks: u32 = parallelisms.iter().sum();
        let finished = view.summary.tasks[ExecutionState::Finished as usize];
        prop_assert_eq!(finished == tasks && report.failure.is_none(), report.status == JobStatus::Finished);
        let ended = ExecutionState::ALL.into_iter().filter(|state| state.is_terminal());
        prop_assert_eq!(ended.map(|state| view.summary.tasks[state as usize]).sum::<u32>(), tasks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Faults are rare enough that jobs get to checkpoints between them.
    #[test]
    fn what_is_processed_is_visible_once_whatever_fails_in_between(
        regions: bool,
        parallelisms in prop::collection::vec(1u32..3, 1..3),
        rarity in 10u32..60,
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 3000..6000),
    ) {
        let partitioner = if regions { Partitioner::Rescale } else { Partitioner::Hash };
        let options = JobMasterOptions { restart_strategy: RestartStrategy::EXPONENTIAL_DELAY, ..JobMasterOptions::default() };
        let mut world = World::new(chain(&parallelisms, partitioner), options);
        world.rarity = rarity;
        for (what, which) in steps {
            world.step(what, which);
        }
        // The world looks at what is visible when the job has finished.
        world.finish();
    }
}
