//! The slots the job was given, and which of its own slots (of slot sharing groups) each stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{SlotGrant, SlotId, TaskManagerId};
use weir_scheduler::SlotSharing;

/// The job's slots. One of the job's own slots stays where it is until its TaskManager is lost.
#[derive(Debug)]
pub(super) struct SlotPool {
    /// By slot of the job.
    places: Vec<Option<SlotId>>,
    task_managers: BTreeMap<TaskManagerId, TaskManagerSlots>,
    /// Number of granted slots that are no place of one of the job's.
    free: usize,
    /// Number of the job's slots that have no place.
    unplaced: usize,
    /// How many slots are kept.
    wanted: usize,
}

#[derive(Debug)]
struct TaskManagerSlots {
    host: Arc<str>,
    free: BTreeSet<u32>,
    /// The slots of the job, by slot of the TaskManager.
    used: BTreeMap<u32, u32>,
}

impl SlotPool {
    /// None of a number of slots.
    pub(super) fn new(slots: u32) -> Self {
        let slots = slots as usize;
        Self { places: vec![None; slots], task_managers: BTreeMap::new(), free: 0, unplaced: slots, wanted: slots }
    }

    /// Sets how many slots are kept, which may be more than the job has places for.
    pub(super) fn want(&mut self, slots: u32) {
        self.wanted = slots as usize;
    }

    /// The job has another number of slots, none of which has a place.
    pub(super) fn resize(&mut self, slots: u32) {
        for of_one in self.task_managers.values_mut() {
            let used = std::mem::take(&mut of_one.used);
            self.free += used.len();
            of_one.free.extend(used.into_keys());
        }
        self.places = vec![None; slots as usize];
        self.unplaced = slots as usize;
    }

    /// Takes out slots that are no places, as far as there are more than are wanted.
    pub(super) fn take_surplus(&mut self) -> Vec<SlotId> {
        let count = (self.granted() as usize).saturating_sub(self.wanted).min(self.free);
        // From where the job has the least first: a TaskManager that is not used at all can be stopped.
        let mut by_use: Vec<_> = self.task_managers.iter_mut().collect();
        by_use.sort_by_key(|(_, slots)| slots.used.len());
        let slots = by_use.into_iter().flat_map(|(id, slots)| {
            let free = std::mem::take(&mut slots.free);
            free.into_iter().map(move |index| SlotId { task_manager: id.clone(), index })
        });
        let mut surplus: Vec<_> = slots.collect();
        for kept in surplus.split_off(count) {
            if let Some(slots) = self.task_managers.get_mut(&kept.task_manager) {
                slots.free.insert(kept.index);
            }
        }
        self.free -= surplus.len();
        surplus
    }

    /// Takes in granted slots. Those the job has no use for are returned.
    pub(super) fn grant(&mut self, grants: Vec<SlotGrant>) -> Vec<SlotId> {
        let mut surplus = Vec::new();
        for SlotGrant { slot, host } in grants {
            let new = || TaskManagerSlots { host: host.into(), free: BTreeSet::new(), used: BTreeMap::new() };
            let slots = self.task_managers.entry(slot.task_manager.clone()).or_insert_with(new);
            if slots.used.contains_key(&slot.index) || !slots.free.insert(slot.index) {
                // Granted twice.
                continue;
            }
            if self.free + self.places.len() - self.unplaced >= self.wanted {
                slots.free.remove(&slot.index);
                surplus.push(slot);
            } else {
                self.free += 1;
            }
        }
        surplus
    }

    /// Forgets the slots of a TaskManager.
    pub(super) fn lose(&mut self, id: &TaskManagerId) {
        let Some(slots) = self.task_managers.remove(id) else { return };
        self.free -= slots.free.len();
        self.unplaced += slots.used.len();
        for place in slots.used.into_values() {
            self.places[place as usize] = None;
        }
    }

    /// Number of slots the job was given.
    pub(super) fn granted(&self) -> u32 {
        (self.places.len() - self.unplaced + self.free) as u32
    }

    /// Where a slot of the job is.
    pub(super) fn place_of(&self, slot: u32) -> Option<&SlotId> {
        self.places[slot as usize].as_ref()
    }

    /// The host of a TaskManager that gave a slot.
    pub(super) fn host_of(&self, id: &TaskManagerId) -> Arc<str> {
        self.task_managers.get(id).map_or_else(|| "".into(), |slots| slots.host.clone())
    }

    /// Gives a place to each of these slots of the job, ascending, that has none; all or none. Whether all have one now.
    ///
    /// Each group's slots lie in contiguous shares on the TaskManagers, in proportion to what they gave, so that tasks which
    /// exchange data mostly share one.
    pub(super) fn place(&mut self, wanted: &[u32], sharing: &SlotSharing) -> bool {
        let missing: Vec<u32> = wanted.iter().copied().filter(|&slot| self.places[slot as usize].is_none()).collect();
        if missing.len() > self.free {
            return false;
        }
        for group in sharing.groups() {
            let from = missing.partition_point(|&slot| slot < group.slots.start);
            let to = missing.partition_point(|&slot| slot < group.slots.end);
            self.place_group(&missing[from..to]);
        }
        true
    }

    fn place_group(&mut self, missing: &[u32]) {
        let (mut seen, mut placed) = (0, 0);
        for (id, slots) in &mut self.task_managers {
            if placed == missing.len() {
                break;
            }
            seen += slots.free.len();
            let end = missing.len() * seen / self.free;
            for &place in &missing[placed..end] {
                let index = slots.free.pop_first().expect("a share is at most what is free");
                slots.used.insert(index, place);
                self.places[place as usize] = Some(SlotId { task_manager: id.clone(), index });
            }
            placed = end;
        }
        self.free -= missing.len();
        self.unplaced -= missing.len();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::Partitioner;
    use weir_scheduler::ExecutionGraph;

    use super::*;
    use crate::testing::{chain, task_manager};

    fn grants(of: &[(u32, u32)]) -> Vec<SlotGrant> {
        let one = |&(id, index): &(u32, u32)| SlotGrant {
            slot: SlotId { task_manager: task_manager(id), index },
            host: format!("host-{id}"),
        };
        of.iter().map(one).collect()
    }

    /// Slots of vertices `(parallelism, group)`.
    fn sharing(vertices: &[(u32, &str)]) -> SlotSharing {
        let mut job = chain(&vertices.iter().map(|vertex| vertex.0).collect::<Vec<_>>(), Partitioner::Hash);
        for (vertex, (_, group)) in job.vertices.iter_mut().zip(vertices) {
            vertex.slot_sharing_group = (*group).to_owned();
        }
        SlotSharing::of(&ExecutionGraph::new(&job).unwrap())
    }

    fn places(pool: &SlotPool) -> Vec<Option<(String, u32)>> {
        let place = |slot: &SlotId| (slot.task_manager.to_string(), slot.index);
        pool.places.iter().map(|slot| slot.as_ref().map(place)).collect()
    }

    #[test]
    fn nothing_is_placed_before_all_can_be() {
        let sharing = sharing(&[(3, "a")]);
        let mut pool = SlotPool::new(3);
        assert_eq!(pool.grant(grants(&[(1, 0), (2, 5), (1, 0)])), []);
        assert!(!pool.place(&[0, 1, 2], &sharing));
        assert_eq!((pool.granted(), pool.place_of(0)), (2, None));
        pool.grant(grants(&[(1, 1)]));
        assert!(pool.place(&[0, 1, 2], &sharing));
        let expect = [("tm-1", 0), ("tm-1", 1), ("tm-2", 5)].map(|(id, index)| Some((id.to_owned(), index)));
        assert_eq!(places(&pool), expect);
        assert!(pool.place(&[0, 1, 2], &sharing));
        assert_eq!(&*pool.host_of(&task_manager(2)), "host-2");
    }

    #[test]
    fn groups_are_spread_over_the_same_task_managers() {
        let sharing = sharing(&[(2, "a"), (4, "b")]);
        let mut pool = SlotPool::new(6);
        pool.grant(grants(&[(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]));
        assert!(pool.place(&[0, 1, 2, 3, 4, 5], &sharing));
        let found: Vec<_> = places(&pool).into_iter().flatten().map(|(id, _)| id).collect();
        assert_eq!(found, ["tm-1", "tm-2", "tm-1", "tm-1", "tm-2", "tm-2"]);
    }

    #[test]
    fn a_job_of_another_size_has_its_slots_placed_anew_and_gives_back_what_it_does_not_want() {
        let mut pool = SlotPool::new(2);
        pool.want(4);
        assert_eq!(pool.grant(grants(&[(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)])).len(), 1);
        assert_eq!(pool.granted(), 4);
        assert!(pool.place(&[0, 1], &sharing(&[(2, "a")])));
        pool.resize(4);
        assert_eq!((pool.granted(), pool.take_surplus()), (4, vec![]));
        assert!(pool.place(&[0, 1, 2, 3], &sharing(&[(4, "a")])));
        pool.resize(1);
        pool.want(2);
        assert!(pool.place(&[0], &sharing(&[(1, "a")])));
        assert_eq!(pool.take_surplus().len(), 2);
        assert_eq!((pool.granted(), pool.take_surplus()), (2, vec![]));
        pool.lose(&pool.place_of(0).unwrap().task_manager.clone());
        assert_eq!(pool.grant(grants(&[(5, 0), (5, 1), (5, 2)])).len(), 2);
        assert_eq!(pool.granted(), 2);
    }

    #[test]
    fn what_was_lost_with_a_task_manager_is_placed_anew_and_the_rest_stays() {
        let sharing = sharing(&[(4, "a")]);
        let mut pool = SlotPool::new(4);
        pool.grant(grants(&[(1, 0), (1, 1), (2, 0), (2, 1)]));
        assert!(pool.place(&[0, 1, 2, 3], &sharing));
        pool.lose(&task_manager(1));
        pool.lose(&task_manager(1));
        assert_eq!(pool.granted(), 2);
        assert!(pool.place(&[2, 3], &sharing));
        assert!(!pool.place(&[1, 2], &sharing));
        assert_eq!(pool.grant(grants(&[(3, 0), (3, 1), (3, 2)])), [SlotId { task_manager: task_manager(3), index: 2 }]);
        assert!(pool.place(&[1, 2], &sharing));
        let found: Vec<_> = places(&pool).into_iter().map(|place| place.map(|(id, _)| id)).collect();
        assert_eq!(found, [None, Some("tm-3".to_owned()), Some("tm-2".to_owned()), Some("tm-2".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_slot_is_two_places_and_none_is_used_without_grant(
            granted in prop::collection::vec((0u32..5, 0u32..5), 0..40),
            groups in prop::collection::vec(1u32..6, 1..4),
            lost in prop::option::of(0u32..5),
        ) {
            let names = ["a", "b", "c"];
            let vertices: Vec<_> = groups.iter().copied().zip(names).collect();
            let sharing = sharing(&vertices);
            let wanted: Vec<u32> = (0..sharing.slots_needed()).collect();
            let mut pool = SlotPool::new(sharing.slots_needed());
            let all: BTreeSet<_> = granted.iter().copied().collect();
            let surplus = pool.grant(grants(&granted));
            prop_assert_eq!(pool.granted() as usize, all.len().min(wanted.len()));
            prop_assert!(surplus.len() >= all.len().saturating_sub(wanted.len()));
            prop_assert_eq!(pool.place(&wanted, &sharing), all.len() >= wanted.len());
            if let Some(lost) = lost {
                pool.lose(&task_manager(lost));
            }
            let used: Vec<_> = pool.places.iter().flatten().collect();
            prop_assert_eq!(used.iter().collect::<BTreeSet<_>>().len(), used.len());
            for slot in used {
                prop_assert!(granted.iter().any(|&(id, index)| task_manager(id) == slot.task_manager && index == slot.index));
                prop_assert!(lost.is_none_or(|lost| task_manager(lost) != slot.task_manager));
            }
        }
    }
}
