//! Random events in any order: what must hold after each of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_model::{FromResourceManager, JobId, SlotId, TaskManagerId, ToResourceManager};
use weir_provider_api::{FinalStatus, ProviderEvent, ProviderRequest, RecoveredWorker};

use super::harness::*;
use crate::workers::Phase;
use crate::{Effect, Event, ResourceManagerOptions};

/// An event before names are known: numbers pick from what there is.
#[derive(Debug, Clone)]
enum Pick {
    Need { job: u8, slots: u32, at_least: u32 },
    Release { job: u8, nth: usize },
    JobGone { job: u8 },
    RegisterWorker { nth: usize },
    RegisterByHand { number: u8, slots: u32, incarnation: u64 },
    Lose { nth: usize },
    Alive { nth: usize },
    Terminated { nth: usize, retryable: bool },
    Draining { nth: usize, seconds: u64 },
    Capacity(Option<u32>),
    Failed,
    Recovered { number: u8 },
    Wait { seconds: u64 },
}

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    let pick = prop_oneof![
        4 => (0u8..4, 0u32..9).prop_map(|(job, slots)| Pick::Need { job, slots, at_least: slots }),
        2 => (0u8..4, 0u32..9, 0u32..9)
            .prop_map(|(job, slots, less)| Pick::Need { job, slots, at_least: slots.saturating_sub(less) }),
        2 => (0u8..4, any::<usize>()).prop_map(|(job, nth)| Pick::Release { job, nth }),
        1 => (0u8..4).prop_map(|job| Pick::JobGone { job }),
        5 => any::<usize>().prop_map(|nth| Pick::RegisterWorker { nth }),
        2 => (0u8..3, 1u32..4, 0u64..3)
            .prop_map(|(number, slots, incarnation)| Pick::RegisterByHand { number, slots, incarnation }),
        2 => any::<usize>().prop_map(|nth| Pick::Lose { nth }),
        2 => any::<usize>().prop_map(|nth| Pick::Alive { nth }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(nth, retryable)| Pick::Terminated { nth, retryable }),
        1 => (any::<usize>(), 0u64..90).prop_map(|(nth, seconds)| Pick::Draining { nth, seconds }),
        1 => prop::option::of(0u32..6).prop_map(Pick::Capacity),
        1 => Just(Pick::Failed),
        1 => (0u8..3).prop_map(|number| Pick::Recovered { number }),
        2 => (0u64..400).prop_map(|seconds| Pick::Wait { seconds }),
    ];
    prop::collection::vec(pick, 1..60)
}

/// What the world outside knows from effects alone.
struct Model {
    cluster: Cluster,
    slots: BTreeMap<SlotId, JobId>,
    /// The least and the most.
    needs: BTreeMap<JobId, (u32, u32)>,
    /// Workers asked for that have not ended; whether it was asked to stop.
    workers: BTreeMap<TaskManagerId, bool>,
    registered: BTreeMap<TaskManagerId, u64>,
}

impl Model {
    fn new() -> Self {
        let options = ResourceManagerOptions { max_slots: Some(12), redundant: 1, ..options(&["p"]) };
        Self {
            cluster: Cluster::with(options),
            slots: BTreeMap::new(),
            needs: BTreeMap::new(),
            workers: BTreeMap::new(),
            registered: BTreeMap::new(),
        }
    }

    fn apply(&mut self, pick: Pick) {
        let worker = |model: &Self, nth: usize| {
            let count = model.workers.len();
            model.workers.keys().nth(nth.checked_rem(count)?).cloned()
        };
        let event = match pick {
            Pick::Need { job: number, slots, at_least } => {
                self.needs.insert(job(number), (at_least, slots));
                if slots == 0 {
                    self.slots.retain(|_, owner| *owner != job(number));
                }
                let name = "job".to_owned();
                Event::Job(ToResourceManager::DeclareRequirements { job: job(number), name, slots, at_least })
            }
            Pick::Release { job: number, nth } => {
                let held: Vec<_> = self.slots.iter().filter(|(_, owner)| **owner == job(number)).collect();
                let Some(slot) = nth.checked_rem(held.len()).map(|nth| held[nth].0.clone()) else { return };
                self.slots.remove(&slot);
                Event::Job(ToResourceManager::ReleaseSlots { job: job(number), slots: vec![slot] })
            }
            Pick::JobGone { job: number } => {
                self.needs.remove(&job(number));
                self.slots.retain(|_, owner| *owner != job(number));
                Event::JobGone { job: job(number) }
            }
            Pick::RegisterWorker { nth } => {
                let Some(id) = worker(self, nth) else { return };
                self.registered.insert(id.clone(), 1);
                Event::TaskManagerRegistered(info(id.as_str(), 1, 2))
            }
            Pick::RegisterByHand { number, slots, incarnation } => {
                let id = format!("hand-{number}");
                self.registered.insert(tm(&id), incarnation);
                Event::TaskManagerRegistered(info(&id, incarnation, slots))
            }
            Pick::Lose { nth } => {
                let count = self.registered.len();
                let Some(nth) = nth.checked_rem(count) else { return };
                let (id, incarnation) = self.registered.iter().nth(nth).map(|(id, i)| (id.clone(), *i)).unwrap();
                Event::TaskManagerLost { id, incarnation, reason: "lost".to_owned() }
            }
            Pick::Alive { nth } => {
                let Some(id) = worker(self, nth) else { return };
                provider(ProviderEvent::Ready { id })
            }
            Pick::Terminated { nth, retryable } => {
                let Some(id) = worker(self, nth) else { return };
                self.workers.remove(&id);
                provider(ProviderEvent::Terminated { id, reason: "ended".to_owned(), retryable })
            }
            Pick::Draining { nth, seconds: time } => {
                let Some(id) = worker(self, nth) else { return };
                let (deadline, reason) = (seconds(time), "preempted".to_owned());
                provider(ProviderEvent::Draining { id, deadline, reason })
            }
            Pick::Capacity(max_workers) => provider(ProviderEvent::Capacity { max_workers, message: String::new() }),
            Pick::Failed => provider(ProviderEvent::Failed { message: "busy".to_owned(), fatal: false }),
            Pick::Recovered { number } => {
                let id = tm(&format!("p-1e-{number}"));
                self.workers.entry(id.clone()).or_insert(false);
                let worker = RecoveredWorker { id, slots: 2, location: String::new() };
                provider(ProviderEvent::Recovered(vec![worker]))
            }
            Pick::Wait { seconds: time } => {
                let effects = self.cluster.wait(seconds(time));
                self.take(effects);
                return;
            }
        };
        let effects = self.cluster.event(event);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::TellJob { job, message: FromResourceManager::SlotsGranted(grants) } => {
                    for grant in grants {
                        let before = self.slots.insert(grant.slot.clone(), job);
                        assert_eq!(before, None, "{:?} is given twice", grant.slot);
                    }
                    let held = self.slots.values().filter(|owner| **owner == job).count() as u32;
                    let (least, most) = self.needs[&job];
                    assert!((least..=most).contains(&held), "{held} slots, and {least} to {most} are of use");
                }
                Effect::TellJob { message: FromResourceManager::TaskManagerLost { id, .. }, .. } => {
                    self.slots.retain(|slot, _| slot.task_manager != id);
                }
                Effect::TellJob { message: FromResourceManager::Waiting(_), .. } => {}
                Effect::Provider { request: ProviderRequest::StartWorker(spec), .. } => {
                    assert_eq!(self.workers.insert(spec.id.clone(), false), None, "{} is used twice", spec.id);
                }
                Effect::Provider { request: ProviderRequest::StopWorker(id), .. } => {
                    self.workers.insert(id, true);
                }
                Effect::ScheduleTimer { .. }
                | Effect::Provider { .. }
                | Effect::ShutDownTaskManager { .. }
                | Effect::Disconnect { .. }
                | Effect::Planned(_) => {}
            }
        }
    }

    fn check(&self) {
        let manager = &self.cluster.manager;
        let mut owned = BTreeMap::new();
        let mut free = 0;
        for task_manager in manager.task_managers() {
            let id = &task_manager.info.id;
            free += task_manager.free;
            for (index, owner) in (0u32..).zip(manager.owners(id).unwrap()) {
                if let Some(owner) = owner {
                    owned.insert(SlotId { task_manager: id.clone(), index }, *owner);
                }
            }
        }
        assert_eq!(owned, self.slots, "the ResourceManager and the jobs agree about slots");
        assert_eq!(manager.view().slots_available, free);
        let by_job: BTreeSet<_> =
            manager.jobs.iter().flat_map(|(id, job)| job.slots.iter().map(|s| (s, *id))).collect();
        assert_eq!(by_job, self.slots.iter().map(|(slot, id)| (slot, *id)).collect::<BTreeSet<_>>());
        for (id, stopping) in &self.workers {
            // Those that were never heard of before may be unknown; nothing that was asked for may be.
            let worker = manager.workers.get(id).unwrap_or_else(|| panic!("{id} has been forgotten"));
            assert_eq!(worker.phase == Phase::Stopping, *stopping, "{id} {worker:?}");
            if worker.phase != Phase::Registered {
                let timer = self.cluster.timer.map(|(_, at)| at);
                assert!(timer.is_some_and(|at| at <= worker.deadline), "{id} {worker:?} has no deadline: {timer:?}");
            }
        }
    }
}

fn provider(event: ProviderEvent) -> Event {
    Event::Provider { name: "p".to_owned(), event }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_slot_is_given_twice_and_no_worker_is_forgotten(picks in picks()) {
        let mut model = Model::new();
        for pick in picks {
            model.apply(pick);
            model.check();
        }
        // Everything ends: no job, enough time, all stops answered.
        for number in 0..4 {
            model.apply(Pick::JobGone { job: number });
        }
        for _ in 0..4 {
            model.apply(Pick::Wait { seconds: 700 });
            let stopping: Vec<_> = model.workers.iter().filter(|(_, stop)| **stop).map(|(id, _)| id.clone()).collect();
            for id in stopping {
                model.workers.remove(&id);
                let ended = ProviderEvent::Terminated { id, reason: "ended".to_owned(), retryable: true };
                let effects = model.cluster.event(provider(ended));
                model.take(effects);
            }
        }
        model.check();
        prop_assert!(model.workers.is_empty(), "left: {:?}", model.workers);
        let (status, message) = (FinalStatus::Succeeded, String::new());
        model.cluster.event(Event::ShutDown { stop_workers: true, status, message });
    }
}
