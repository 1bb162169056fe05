//! Slot sharing: which subtasks live in one slot.
//!
//! A slot of a group holds at most one slice of each of the group's vertices, so a job needs as many slots as its widest vertex in
//! each group, not one a task.

use std::ops::Range;

use weir_model::TaskId;

use crate::ExecutionGraph;

/// The slots a job needs, and what runs in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSharing {
    groups: Vec<SlotSharingGroup>,
    /// Group by vertex.
    group_of: Vec<u32>,
    parallelism: Vec<u32>,
}

/// Vertices that share slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSharingGroup {
    /// The group's name.
    pub name: String,
    /// Positions of its vertices.
    pub vertices: Vec<u32>,
    /// Its slots among all slots of the job: as many as its widest vertex has subtasks.
    pub slots: Range<u32>,
}

impl SlotSharing {
    /// The slots of a graph, groups in the order in which they first occur.
    pub fn of(graph: &ExecutionGraph) -> Self {
        let vertices = graph.vertices().iter();
        Self::of_vertices(vertices.map(|vertex| (vertex.slot_sharing_group.as_str(), vertex.key_groups.parallelism)))
    }

    /// The slots of vertices given by group and parallelism.
    pub(crate) fn of_vertices<'a>(vertices: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut groups: Vec<SlotSharingGroup> = Vec::new();
        let (mut group_of, mut parallelism) = (Vec::new(), Vec::new());
        for (position, (name, subtasks)) in (0u32..).zip(vertices) {
            let group = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
                groups.push(SlotSharingGroup { name: name.to_owned(), vertices: Vec::new(), slots: 0..0 });
                groups.len() - 1
            });
            groups[group].vertices.push(position);
            group_of.push(group as u32);
            parallelism.push(subtasks);
        }
        let mut first = 0;
        for group in &mut groups {
            let widest: Option<u32> = group.vertices.iter().map(|&vertex| parallelism[vertex as usize]).max();
            group.slots = first..first + widest.expect("a group has a vertex");
            first = group.slots.end;
        }
        Self { groups, group_of, parallelism }
    }

    /// The groups.
    pub fn groups(&self) -> &[SlotSharingGroup] {
        &self.groups
    }

    /// Number of slots the job needs.
    pub fn slots_needed(&self) -> u32 {
        self.groups.last().map_or(0, |group| group.slots.end)
    }

    /// The slot of a task.
    ///
    /// A narrow vertex is spread over its group's slots rather than put into the first ones; that keeps slots even, and pointwise
    /// neighbours close. Rounded up, because that is where [`crate::place`] lets a worker's share of the slots begin.
    pub fn slot_of(&self, task: TaskId) -> u32 {
        let slots = &self.groups[self.group_of[task.vertex as usize] as usize].slots;
        let parallelism = self.parallelism[task.vertex as usize];
        slots.start + (u64::from(task.subtask) * slots.len() as u64).div_ceil(u64::from(parallelism)) as u32
    }

    /// The tasks in a slot, by vertex. At most one of each vertex.
    pub fn tasks_in(&self, slot: u32) -> Vec<TaskId> {
        let Some(group) = self.groups.iter().find(|group| group.slots.contains(&slot)) else { return Vec::new() };
        let (offset, slots) = (u64::from(slot - group.slots.start), group.slots.len() as u64);
        let tasks = group.vertices.iter().map(|&vertex| {
            let parallelism = u64::from(self.parallelism[vertex as usize]);
            TaskId { vertex, subtask: (offset * parallelism / slots) as u32 }
        });
        tasks.filter(|&task| self.slot_of(task) == slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::Partitioner;

    use super::*;
    use crate::testing::{chain, task};

    #[test]
    fn a_group_needs_as_many_slots_as_its_widest_vertex() {
        let mut job = chain(&[1, 4, 2], Partitioner::Hash);
        let sharing = SlotSharing::of(&ExecutionGraph::new(&job).unwrap());
        assert_eq!(sharing.slots_needed(), 4);
        assert_eq!(sharing.tasks_in(0), [task(0, 0), task(1, 0), task(2, 0)]);
        assert_eq!(sharing.tasks_in(1), [task(1, 1)]);
        assert_eq!(sharing.tasks_in(2), [task(1, 2), task(2, 1)]);

        job.vertices[1].slot_sharing_group = "heavy".to_owned();
        let sharing = SlotSharing::of(&ExecutionGraph::new(&job).unwrap());
        assert_eq!(sharing.slots_needed(), 6);
        assert_eq!(sharing.groups().iter().map(|group| group.slots.clone()).collect::<Vec<_>>(), [0..2, 2..6]);
        assert_eq!(sharing.tasks_in(1), [task(2, 1)]);
        assert_eq!(sharing.tasks_in(2), [task(1, 0)]);
        assert_eq!(sharing.tasks_in(6), []);
    }

    proptest! {
        #[test]
        fn every_task_has_one_slot_and_every_slot_at_most_one_task_of_a_vertex(
            vertices in prop::collection::vec((1u32..20, 0u32..3), 1..6),
        ) {
            let parallelisms: Vec<_> = vertices.iter().map(|vertex| vertex.0).collect();
            let mut job = chain(&parallelisms, Partitioner::Hash);
            for (vertex, (_, group)) in job.vertices.iter_mut().zip(&vertices) {
                vertex.slot_sharing_group = group.to_string();
            }
            let graph = ExecutionGraph::new(&job).unwrap();
            let sharing = SlotSharing::of(&graph);
            let mut placed = 0;
            for slot in 0..sharing.slots_needed() {
                let tasks = sharing.tasks_in(slot);
                prop_assert!(!tasks.is_empty());
                prop_assert!(tasks.windows(2).all(|pair| pair[0].vertex < pair[1].vertex));
                for task in &tasks {
                    prop_assert_eq!(sharing.slot_of(*task), slot);
                }
                placed += tasks.len();
            }
            prop_assert_eq!(placed, graph.task_count() as usize);
        }
    }
}
