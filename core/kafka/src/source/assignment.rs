//! Which subtask reads which partition.

use std::collections::{BTreeMap, BTreeSet};

use weir::record::{Decoder, Record};
use weir::source::NextSplit;

use super::split::{KafkaSplit, PartitionSplit};
use crate::client::TopicPartition;

/// Form of the encoded state.
const VERSION: u8 = 1;

/// Partitions and the subtasks that read them. A partition stays with its subtask; a new one goes to the subtask that has the fewest.
#[derive(Debug)]
pub(super) struct Assignment {
    /// Every partition ever seen, and its subtask.
    owners: BTreeMap<TopicPartition, u32>,
    /// What has not been handed out, by subtask.
    pending: Vec<BTreeMap<TopicPartition, PartitionSplit>>,
    /// Subtasks that have been told that they have everything.
    told: Vec<bool>,
    bounded: bool,
}

impl Assignment {
    pub(super) fn new(parallelism: u32, bounded: bool) -> Assignment {
        let subtasks = parallelism.max(1) as usize;
        Assignment {
            owners: BTreeMap::new(),
            pending: vec![BTreeMap::new(); subtasks],
            told: vec![false; subtasks],
            bounded,
        }
    }

    /// Continues from what [`encode`](Self::encode) wrote, also with another number of subtasks.
    pub(super) fn restore(bytes: &[u8], parallelism: u32, bounded: bool) -> Result<Assignment, String> {
        let mut input = Decoder::new(bytes);
        let version = u8::decode(&mut input).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("the state has version {version}, expected is {VERSION}"));
        }
        let decoded = <(Vec<(String, i32)>, Vec<PartitionSplit>)>::decode(&mut input);
        let (known, pending) = decoded.map_err(|error| error.to_string())?;
        let mut assignment = Assignment::new(parallelism, bounded);
        for (topic, partition) in known {
            assignment.owner(&TopicPartition::new(topic, partition));
        }
        pending.into_iter().for_each(|split| assignment.put(split));
        Ok(assignment)
    }

    /// The state: partitions that are known, and those that nobody has yet.
    pub(super) fn encode(&self) -> Vec<u8> {
        let known: Vec<(String, i32)> = self.owners.keys().map(|one| (one.topic.to_string(), one.partition)).collect();
        let pending: Vec<PartitionSplit> = self.pending.iter().flat_map(BTreeMap::values).cloned().collect();
        let mut bytes = vec![VERSION];
        (known, pending).encode(&mut bytes);
        bytes
    }

    /// The partitions that are known.
    pub(super) fn known(&self) -> BTreeSet<TopicPartition> {
        self.owners.keys().cloned().collect()
    }

    /// Takes partitions in; those that are known are left as they are.
    pub(super) fn add_new(&mut self, splits: Vec<PartitionSplit>) {
        for split in splits {
            if !self.owners.contains_key(&split.id()) {
                self.put(split);
            }
        }
    }

    /// Takes splits back from a reader, with the positions they carry.
    pub(super) fn add_back(&mut self, splits: Vec<KafkaSplit>) {
        for split in splits {
            if let KafkaSplit::Partition(split) = split {
                self.put(split);
            }
        }
    }

    /// Answers a subtask.
    pub(super) fn next(&mut self, subtask: u32) -> NextSplit<KafkaSplit> {
        let at = subtask as usize % self.pending.len();
        if let Some((_, split)) = self.pending[at].pop_first() {
            return NextSplit::Split(KafkaSplit::Partition(split));
        }
        if self.bounded && std::mem::replace(&mut self.told[at], true) {
            return NextSplit::Finished;
        }
        NextSplit::Split(KafkaSplit::NothingNew)
    }

    fn put(&mut self, split: PartitionSplit) {
        let id = split.id();
        let owner = self.owner(&id);
        // What comes back knows better where to go on than what was found anew.
        if split.is_finished() {
            self.pending[owner].remove(&id);
        } else {
            self.told[owner] = false;
            self.pending[owner].insert(id, split);
        }
    }

    fn owner(&mut self, id: &TopicPartition) -> usize {
        if let Some(owner) = self.owners.get(id) {
            return *owner as usize;
        }
        let mut load = vec![0; self.pending.len()];
        self.owners.values().for_each(|owner| load[*owner as usize] += 1);
        let least = (0..load.len()).min_by_key(|at| load[*at]).expect("there is at least one subtask");
        self.owners.insert(id.clone(), least as u32);
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(partition: i32, position: i64) -> PartitionSplit {
        PartitionSplit { topic: "t".to_owned(), partition, position, stop: None }
    }

    /// Everything a subtask gets until it is told that this is all.
    fn drain(assignment: &mut Assignment, subtask: u32) -> Vec<(i32, i64)> {
        let mut got = Vec::new();
        while let NextSplit::Split(KafkaSplit::Partition(split)) = assignment.next(subtask) {
            got.push((split.partition, split.position));
        }
        got
    }

    #[test]
    fn partitions_are_dealt_out_evenly_and_new_ones_go_where_there_are_fewest() {
        let mut assignment = Assignment::new(2, false);
        assignment.add_new((0..3).map(|partition| split(partition, 0)).collect());
        assert_eq!(drain(&mut assignment, 0), [(0, 0), (2, 0)]);
        assert_eq!(drain(&mut assignment, 1), [(1, 0)]);
        assignment.add_new(vec![split(0, 99), split(3, 0)]);
        assert_eq!(drain(&mut assignment, 0), []);
        assert_eq!(drain(&mut assignment, 1), [(3, 0)]);
    }

    #[test]
    fn a_split_that_comes_back_goes_to_the_same_subtask_with_its_position() {
        let mut assignment = Assignment::new(2, false);
        assignment.add_new(vec![split(0, 0), split(1, 0)]);
        drain(&mut assignment, 0);
        drain(&mut assignment, 1);
        assignment.add_back(vec![KafkaSplit::NothingNew, KafkaSplit::Partition(split(1, 7))]);
        assert_eq!(drain(&mut assignment, 0), []);
        assert_eq!(drain(&mut assignment, 1), [(1, 7)]);
    }

    #[test]
    fn a_split_that_comes_back_replaces_the_one_that_was_found_anew() {
        let mut assignment = Assignment::new(1, false);
        assignment.add_new(vec![split(0, 0), PartitionSplit { stop: Some(9), ..split(1, 0) }]);
        let done = PartitionSplit { stop: Some(9), ..split(1, 9) };
        assignment.add_back(vec![KafkaSplit::Partition(split(0, 7)), KafkaSplit::Partition(done)]);
        assert_eq!(drain(&mut assignment, 0), [(0, 7)]);
    }

    #[test]
    fn a_source_without_end_never_finishes_a_reader() {
        let mut assignment = Assignment::new(1, false);
        for _ in 0..3 {
            assert_eq!(assignment.next(0), NextSplit::Split(KafkaSplit::NothingNew));
        }
    }

    #[test]
    fn a_bounded_one_finishes_a_reader_that_asks_after_it_has_everything() {
        let mut assignment = Assignment::new(1, true);
        let done = PartitionSplit { stop: Some(5), ..split(1, 5) };
        assignment.add_new(vec![PartitionSplit { stop: Some(5), ..split(0, 0) }, done]);
        assert_eq!(drain(&mut assignment, 0), [(0, 0)]);
        assert_eq!(assignment.next(0), NextSplit::Finished);
        assignment.add_back(vec![KafkaSplit::Partition(PartitionSplit { stop: Some(5), ..split(0, 3) })]);
        assert_eq!(drain(&mut assignment, 0), [(0, 3)]);
    }

    #[test]
    fn restored_at_another_parallelism_it_knows_what_it_knew_and_hands_out_what_nobody_had() {
        let mut assignment = Assignment::new(2, false);
        assignment.add_new((0..4).map(|partition| split(partition, 10)).collect());
        drain(&mut assignment, 0);
        let mut restored = Assignment::restore(&assignment.encode(), 3, false).unwrap();
        assert_eq!(restored.known().len(), 4);
        let mut left: Vec<_> = (0..3).flat_map(|subtask| drain(&mut restored, subtask)).collect();
        left.sort_unstable();
        assert_eq!(left, [(1, 10), (3, 10)]);
        restored.add_new(vec![split(0, 0)]);
        assert_eq!((0..3).flat_map(|subtask| drain(&mut restored, subtask)).count(), 0, "it is known");
    }

    #[test]
    fn state_of_another_version_is_refused() {
        assert_eq!(Assignment::restore(&[9], 1, false).unwrap_err(), "the state has version 9, expected is 1");
        assert!(Assignment::restore(&[1, 1], 1, false).is_err());
    }
}
