//! Plans under random numbers.

use proptest::prelude::*;

use crate::Step;
use crate::plan::{Observed, Supply};

fn supply() -> impl Strategy<Value = Supply> {
    (any::<bool>(), prop::option::of(0u32..8), 0u32..6, 0u32..6, 0u32..4).prop_map(
        |(usable, room, asked, others, min)| Supply {
            name: String::new(),
            usable,
            room,
            wanted: asked + others,
            asked,
            min,
        },
    )
}

fn observed() -> impl Strategy<Value = Observed> {
    let slots = (0u32..40, 0u32..8, 0u32..20, 0u32..10, prop::option::of(0u32..60), 1u32..5);
    (slots, prop::collection::vec(supply(), 0..4)).prop_map(|(numbers, mut providers)| {
        let (lacking, reserve, free, used, max_slots, slots_per_worker) = numbers;
        for (index, supply) in providers.iter_mut().enumerate() {
            supply.name = index.to_string();
        }
        let pending = providers.iter().map(|supply| supply.asked).sum::<u32>() * slots_per_worker;
        let registered = free + used;
        Observed { lacking, reserve, free, registered, pending, max_slots, slots_per_worker, providers }
    })
}

/// What there is when the plan has been carried out and nothing has been answered.
fn carried_out(before: &Observed, steps: &[Step]) -> Observed {
    let mut after = before.clone();
    for step in steps {
        let (provider, change) = match step {
            Step::Start { provider, workers } => (provider, i64::from(*workers)),
            Step::Withdraw { provider, workers } => (provider, -i64::from(*workers)),
        };
        let supply = after.providers.iter_mut().find(|supply| supply.name == *provider).unwrap();
        let moved = |number: u32, by: i64| u32::try_from(i64::from(number) + by).unwrap();
        supply.asked = moved(supply.asked, change);
        supply.wanted = moved(supply.wanted, change);
        // One that was withdrawn takes room until it is gone.
        supply.room = supply.room.map(|room| moved(room, (-change).min(0)));
        after.pending = moved(after.pending, change * i64::from(before.slots_per_worker));
    }
    after
}

proptest! {
    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do(observed in observed()) {
        let plan = observed.plan();
        let after = carried_out(&observed, &plan.steps).plan();
        prop_assert!(after.steps.is_empty(), "{plan} then {after}");
    }

    #[test]
    fn a_plan_keeps_to_the_limits(observed in observed()) {
        let plan = observed.plan();
        let (mut started, mut withdrawn) = (0, 0);
        for step in &plan.steps {
            match step {
                Step::Start { provider, workers } => {
                    let supply = observed.providers.iter().find(|supply| supply.name == *provider).unwrap();
                    prop_assert!(supply.usable && supply.room.is_none_or(|room| *workers <= room), "{plan}");
                    started += workers * observed.slots_per_worker;
                }
                Step::Withdraw { provider, workers } => {
                    let supply = observed.providers.iter().find(|supply| supply.name == *provider).unwrap();
                    prop_assert!(*workers <= supply.asked && supply.wanted - workers >= supply.min, "{plan}");
                    withdrawn += workers * observed.slots_per_worker;
                }
            }
        }
        if let Some(max) = observed.max_slots.filter(|_| started > 0) {
            prop_assert!(observed.registered + observed.pending + started <= max + withdrawn, "{plan}");
        }
    }

    #[test]
    fn what_is_missing_is_started_if_there_is_room(observed in observed()) {
        let plan = observed.plan();
        let unlimited = observed.max_slots.is_none()
            && observed.providers.iter().any(|supply| supply.usable && supply.room.is_none());
        if unlimited {
            prop_assert_eq!(plan.unmet_slots, 0, "{}", plan);
        }
        if plan.unmet_slots > 0 {
            prop_assert!(plan.missing_slots > plan.pending_slots);
        }
    }
}
