//! Pipelined regions: the sets of tasks that exchange data while they run, and therefore fail and restart together.

use weir_model::{DistributionPattern, TaskId};

use crate::ExecutionGraph;

/// Which task belongs to which region. Regions are numbered by their first task, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    by_task: Vec<u32>,
    /// Positions of tasks, by region.
    members: Vec<u32>,
    /// Where each region begins in `members`, and where the last one ends.
    first_member: Vec<u32>,
}

impl Regions {
    /// The regions of a graph. Takes time by tasks, not by channels: an all-to-all edge joins everything at once.
    pub fn of(graph: &ExecutionGraph) -> Self {
        let mut sets = DisjointSets::new(graph.task_count());
        for edge in graph.edges() {
            let task = |vertex, subtask| graph.index_of(TaskId { vertex, subtask }) as u32;
            match edge.pattern() {
                DistributionPattern::AllToAll => {
                    let hub = task(edge.source, 0);
                    for subtask in 0..edge.producers {
                        sets.join(hub, task(edge.source, subtask));
                    }
                    for subtask in 0..edge.consumers {
                        sets.join(hub, task(edge.target, subtask));
                    }
                }
                DistributionPattern::Pointwise => {
                    for producer in 0..edge.producers {
                        for consumer in edge.consumers_of(producer) {
                            sets.join(task(edge.source, producer), task(edge.target, consumer));
                        }
                    }
                }
            }
        }
        sets.number()
    }

    /// Number of regions.
    pub fn count(&self) -> u32 {
        self.first_member.len() as u32 - 1
    }

    /// The region of a task of `graph`, the graph the regions were made of.
    pub fn region_of(&self, graph: &ExecutionGraph, task: TaskId) -> u32 {
        self.by_task[graph.index_of(task)]
    }

    /// The tasks of a region of `graph`, the graph the regions were made of, by vertex and subtask.
    pub fn tasks_of(&self, graph: &ExecutionGraph, region: u32) -> impl Iterator<Item = TaskId> {
        self.members(region).iter().map(|&index| graph.task_at(index))
    }

    /// The region of the task at this position.
    pub(crate) fn region_at(&self, index: u32) -> u32 {
        self.by_task[index as usize]
    }

    /// The positions of a region's tasks, ascending.
    pub(crate) fn members(&self, region: u32) -> &[u32] {
        let bounds = &self.first_member[region as usize..];
        &self.members[bounds[0] as usize..bounds[1] as usize]
    }

    /// `count` regions, given by task.
    fn new(by_task: Vec<u32>, count: u32) -> Self {
        let mut first_member = vec![0; count as usize + 1];
        for &region in &by_task {
            first_member[region as usize + 1] += 1;
        }
        for region in 0..count as usize {
            first_member[region + 1] += first_member[region];
        }
        let mut next = first_member.clone();
        let mut members = vec![0; by_task.len()];
        for (index, &region) in (0u32..).zip(&by_task) {
            let place = &mut next[region as usize];
            members[*place as usize] = index;
            *place += 1;
        }
        Self { by_task, members, first_member }
    }
}

/// Union-find with path halving; the root of a set is its least member.
struct DisjointSets {
    parent: Vec<u32>,
}

impl DisjointSets {
    fn new(count: u32) -> Self {
        Self { parent: (0..count).collect() }
    }

    fn root(&mut self, mut member: u32) -> u32 {
        while self.parent[member as usize] != member {
            let grandparent = self.parent[self.parent[member as usize] as usize];
            self.parent[member as usize] = grandparent;
            member = grandparent;
        }
        member
    }

    fn join(&mut self, left: u32, right: u32) {
        let (left, right) = (self.root(left), self.root(right));
        self.parent[left.max(right) as usize] = left.min(right);
    }

    fn number(mut self) -> Regions {
        let mut by_task = vec![0; self.parent.len()];
        let mut count = 0;
        for member in 0..self.parent.len() as u32 {
            let root = self.root(member);
            // The root is the least member, so it has been numbered before the others.
            by_task[member as usize] = if root == member {
                count += 1;
                count - 1
            } else {
                by_task[root as usize]
            };
        }
        Regions::new(by_task, count)
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{JobGraph, Partitioner};

    use super::*;
    use crate::testing::{chain, job, task};

    fn check(job: &JobGraph, expect: &[u32]) {
        let graph = ExecutionGraph::new(job).unwrap();
        let regions = Regions::of(&graph);
        let found: Vec<_> = graph.tasks().map(|task| regions.region_of(&graph, task)).collect();
        assert_eq!(found, expect);
        assert_eq!(regions.count(), expect.iter().max().unwrap() + 1);
    }

    #[test]
    fn all_to_all_joins_everything_and_pointwise_only_what_is_connected() {
        check(&chain(&[2, 3], Partitioner::Hash), &[0, 0, 0, 0, 0]);
        check(&chain(&[3, 3], Partitioner::Forward), &[0, 1, 2, 0, 1, 2]);
        check(&chain(&[2, 4], Partitioner::Rescale), &[0, 1, 0, 0, 1, 1]);
        check(&chain(&[4, 2], Partitioner::Rescale), &[0, 0, 1, 1, 0, 1]);
        // 2 → 3 → 2: rescale ties the outer halves together only where a consumer has several producers.
        check(&chain(&[2, 3, 2], Partitioner::Rescale), &[0, 1, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn separate_pipelines_are_separate_regions() {
        let edges = [(0, 2, Partitioner::Hash), (1, 3, Partitioner::Hash)];
        check(&job(&[1, 2, 1, 2], &edges), &[0, 1, 1, 0, 1, 1]);
    }

    #[test]
    fn a_late_edge_joins_regions_that_were_apart() {
        let edges = [(0, 2, Partitioner::Forward), (1, 2, Partitioner::Forward)];
        check(&job(&[2, 2, 2], &edges), &[0, 1, 0, 1, 0, 1]);
        let graph = ExecutionGraph::new(&job(&[2, 2, 2], &edges)).unwrap();
        let tasks: Vec<_> = Regions::of(&graph).tasks_of(&graph, 1).collect();
        assert_eq!(tasks, [task(0, 1), task(1, 1), task(2, 1)]);
    }
}
