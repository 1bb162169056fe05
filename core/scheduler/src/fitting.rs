//! Which parallelism a job gets for the slots there are.

use std::collections::BTreeMap;

use weir_model::{JobGraph, ResourceRequirements};

use crate::SlotSharing;

/// The number of slots a graph needs.
fn slots_needed(graph: &JobGraph, parallelism: &[u32]) -> u32 {
    let groups = graph.vertices.iter().map(|vertex| vertex.slot_sharing_group.as_str());
    SlotSharing::of_vertices(groups.zip(parallelism.iter().copied())).slots_needed()
}

/// The number of slots with which the job has the most subtasks it may have.
pub fn slots_desired(graph: &JobGraph, requirements: &ResourceRequirements) -> u32 {
    let upper: Vec<u32> = requirements.in_step(graph).iter().map(|bounds| bounds.upper).collect();
    slots_needed(graph, &upper)
}

/// The number of slots without which the job cannot run.
pub fn slots_required(graph: &JobGraph, requirements: &ResourceRequirements) -> u32 {
    let lower: Vec<u32> = requirements.in_step(graph).iter().map(|bounds| bounds.lower).collect();
    slots_needed(graph, &lower)
}

/// How many subtasks each vertex has if the job has this number of slots: as many as they allow between its bounds. `None` if they
/// are too few. The requirements must be valid for the graph.
///
/// What is not needed for the lower bounds goes to the slot sharing groups in turn, to those first that have the fewest slots. Vertices
/// that forward edges connect get equally many subtasks.
pub fn fitting_parallelism(graph: &JobGraph, requirements: &ResourceRequirements, slots: u32) -> Option<Vec<u32>> {
    let bounds = requirements.in_step(graph);
    let mut groups: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (vertex, bounds) in graph.vertices.iter().zip(&bounds) {
        let group = groups.entry(&vertex.slot_sharing_group).or_default();
        *group = (group.0.max(bounds.lower), group.1.max(bounds.upper));
    }
    let mut left = slots.checked_sub(groups.values().map(|group| group.0).sum())?;
    while left > 0 {
        let growing = groups.values_mut().filter(|(has, most)| has < most);
        let Some((has, _)) = growing.min_by_key(|(has, _)| *has) else { break };
        *has += 1;
        left -= 1;
    }
    let together = graph.bound_together();
    let most = |(vertex, bounds): (&weir_model::JobVertex, &weir_model::ParallelismBounds)| {
        groups[vertex.slot_sharing_group.as_str()].0.min(bounds.upper)
    };
    let most: Vec<u32> = graph.vertices.iter().zip(&bounds).map(most).collect();
    let in_step =
        |first: &u32| most.iter().zip(&together).filter(|(_, with)| *with == first).map(|(most, _)| *most).min();
    together.iter().map(in_step).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::{ParallelismBounds, Partitioner};

    use super::*;
    use crate::testing::{chain, job};

    fn requirements(bounds: &[(u32, u32)]) -> ResourceRequirements {
        ResourceRequirements(bounds.iter().map(|&(lower, upper)| ParallelismBounds { lower, upper }).collect())
    }

    fn check(graph: &JobGraph, bounds: &[(u32, u32)], slots: u32, expect: Option<&[u32]>) {
        assert_eq!(fitting_parallelism(graph, &requirements(bounds), slots).as_deref(), expect, "{slots} slots");
    }

    #[test]
    fn vertices_share_the_slots_there_are() {
        let graph = chain(&[4, 4, 1], Partitioner::Hash);
        let bounds = [(1, 4), (2, 3), (1, 1)];
        check(&graph, &bounds, 1, None);
        check(&graph, &bounds, 2, Some(&[2, 2, 1]));
        check(&graph, &bounds, 4, Some(&[4, 3, 1]));
        check(&graph, &bounds, 9, Some(&[4, 3, 1]));
        assert_eq!(
            (slots_desired(&graph, &requirements(&bounds)), slots_required(&graph, &requirements(&bounds))),
            (4, 2)
        );
    }

    #[test]
    fn groups_get_slots_in_turn() {
        let mut graph = chain(&[4, 4], Partitioner::Hash);
        graph.vertices[1].slot_sharing_group = "other".to_owned();
        check(&graph, &[(1, 4), (1, 4)], 1, None);
        check(&graph, &[(1, 4), (1, 4)], 2, Some(&[1, 1]));
        check(&graph, &[(1, 4), (3, 4)], 5, Some(&[2, 3]));
        check(&graph, &[(1, 2), (1, 4)], 6, Some(&[2, 4]));
    }

    #[test]
    fn vertices_in_step_get_equally_many_subtasks_whatever_their_groups() {
        let mut graph = job(&[4, 4, 4], &[(0, 1, Partitioner::Forward), (1, 2, Partitioner::Hash)]);
        graph.vertices[1].slot_sharing_group = "other".to_owned();
        check(&graph, &[(1, 4), (1, 4), (1, 4)], 5, Some(&[2, 2, 3]));
        check(&graph, &[(1, 4), (1, 2), (1, 4)], 8, Some(&[2, 2, 4]));
    }

    proptest! {
        #[test]
        fn what_is_given_lies_between_the_bounds_and_fits_the_slots(
            vertices in prop::collection::vec((1u32..5, 0u32..4, 0u32..3, any::<bool>()), 1..6),
            slots in 0u32..20,
        ) {
            let edge = |target: usize| {
                let partitioner = if vertices[target].3 { Partitioner::Forward } else { Partitioner::Hash };
                (target as u32 - 1, target as u32, partitioner)
            };
            let edges: Vec<_> = (1..vertices.len()).map(edge).collect();
            let mut graph = job(&vec![4; vertices.len()], &edges);
            let mut bounds = Vec::new();
            for (vertex, (lower, more, group, _)) in graph.vertices.iter_mut().zip(&vertices) {
                vertex.slot_sharing_group = group.to_string();
                bounds.push((*lower, lower + more));
            }
            let requirements = requirements(&bounds);
            prop_assume!(requirements.validate(&graph).is_ok());
            match fitting_parallelism(&graph, &requirements, slots) {
                None => prop_assert!(slots < slots_required(&graph, &requirements)),
                Some(given) => {
                    prop_assert!(slots_needed(&graph, &given) <= slots);
                    prop_assert!(given.iter().zip(&bounds).all(|(given, (lower, upper))| (lower..=upper).contains(&given)));
                    prop_assert!(graph.at_parallelism(&given).validate().is_ok());
                    if slots >= slots_desired(&graph, &requirements) {
                        let upper: Vec<u32> = requirements.in_step(&graph).iter().map(|bounds| bounds.upper).collect();
                        prop_assert_eq!(given, upper);
                    }
                }
            }
        }
    }
}
