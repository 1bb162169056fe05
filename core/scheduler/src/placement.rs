//! Placement: which worker runs which slot, and so which task.

use std::num::NonZeroU32;

use weir_model::Placement;

use crate::{ExecutionGraph, SlotSharing, SlotSharingGroup};

/// Spreads a job's slots over `workers`, so that their numbers of slots differ by at most one.
///
/// Each worker gets a contiguous run of a group's slots: pointwise neighbours mostly share a worker, and placements stay short when
/// they are sent.
pub fn place(graph: &ExecutionGraph, workers: NonZeroU32) -> Placement {
    let sharing = SlotSharing::of(graph);
    let mut load = vec![0; workers.get() as usize];
    let mut worker_of_slot = Vec::with_capacity(sharing.slots_needed() as usize);
    for group in sharing.groups() {
        for (worker, count) in (0u32..).zip(shares(group, &mut load)) {
            worker_of_slot.extend(std::iter::repeat_n(worker, count as usize));
        }
    }
    let mut by_vertex = vec![Vec::new(); graph.vertices().len()];
    for task in graph.tasks() {
        by_vertex[task.vertex as usize].push(worker_of_slot[sharing.slot_of(task) as usize]);
    }
    Placement::new(workers.get(), by_vertex)
}

/// How many of the group's slots each worker gets: equal shares, what is left over to the workers with the least so far.
fn shares(group: &SlotSharingGroup, load: &mut [u32]) -> Vec<u32> {
    let (slots, workers) = (group.slots.len() as u32, load.len() as u32);
    let mut shares = vec![slots / workers; load.len()];
    let mut by_load: Vec<usize> = (0..load.len()).collect();
    by_load.sort_by_key(|&worker| load[worker]);
    for &worker in &by_load[..(slots % workers) as usize] {
        shares[worker] += 1;
    }
    for (load, share) in load.iter_mut().zip(&shares) {
        *load += share;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::Partitioner;

    use super::*;
    use crate::testing::{chain, task};

    fn workers(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    #[test]
    fn slots_go_to_workers_in_contiguous_shares() {
        let graph = ExecutionGraph::new(&chain(&[1, 5, 2], Partitioner::Hash)).unwrap();
        let placement = place(&graph, workers(2));
        assert_eq!(placement.workers_of_vertex(0), [0]);
        assert_eq!(placement.workers_of_vertex(1), [0, 0, 0, 1, 1]);
        assert_eq!(placement.workers_of_vertex(2), [0, 1]);
        let expect = [task(0, 0), task(1, 0), task(1, 1), task(1, 2), task(2, 0)];
        assert_eq!(placement.tasks_of(0).collect::<Vec<_>>(), expect);
        assert_eq!(placement.tasks_of(1).collect::<Vec<_>>(), [task(1, 3), task(1, 4), task(2, 1)]);
    }

    #[test]
    fn workers_beyond_the_slots_get_nothing() {
        let graph = ExecutionGraph::new(&chain(&[2, 2], Partitioner::Hash)).unwrap();
        let placement = place(&graph, workers(5));
        assert_eq!(placement.workers(), 5);
        assert_eq!((0..5).filter(|&worker| placement.tasks_of(worker).count() > 0).count(), 2);
    }

    proptest! {
        #[test]
        fn slots_are_spread_evenly(
            vertices in prop::collection::vec((1u32..20, 0u32..3), 1..6),
            count in 1u32..8,
        ) {
            let parallelisms: Vec<_> = vertices.iter().map(|vertex| vertex.0).collect();
            let mut job = chain(&parallelisms, Partitioner::Hash);
            for (vertex, (_, group)) in job.vertices.iter_mut().zip(&vertices) {
                vertex.slot_sharing_group = group.to_string();
            }
            let graph = ExecutionGraph::new(&job).unwrap();
            let placement = place(&graph, workers(count));
            let sharing = SlotSharing::of(&graph);
            let mut load = vec![0u32; count as usize];
            for slot in 0..sharing.slots_needed() {
                let tasks = sharing.tasks_in(slot);
                let worker = placement.worker_of(tasks[0]);
                prop_assert!(tasks.iter().all(|&task| placement.worker_of(task) == worker));
                load[worker as usize] += 1;
            }
            let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{load:?}");
        }
    }
}
