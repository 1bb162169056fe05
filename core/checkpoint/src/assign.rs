//! Which task restores what, also where the numbers of subtasks have changed.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{KeyGroup, KeyGroups, OperatorId};

use crate::{
    CheckpointJob, CheckpointMetadata, GroupSlice, IN_FLIGHT, JobVertexState, ListSnapshot, Location, OperatorMetadata,
    OperatorSnapshot, Redistribution, SortedFile, SubtaskState, TableSnapshot, TaskSnapshot,
};

/// What every part of a job restores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// By position in [`CheckpointJob::tasks`].
    pub tasks: Vec<TaskSnapshot>,
    /// State of split enumerators, by position of the vertex.
    pub enumerators: Vec<(u32, Vec<u8>)>,
    /// State that nobody restores, one sentence each.
    pub warnings: Vec<String>,
}

/// Why a job cannot be restored from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// The number of key groups of an operator with state by key is another one.
    #[error(
        "{operator} has state of max-parallelism {found}, and the job says {expected}: rows cannot be found in other key groups; \
         set the operator's max-parallelism to {found}"
    )]
    MaxParallelism {
        /// The operator as people know it.
        operator: String,
        /// As written.
        found: u32,
        /// The job's.
        expected: u32,
    },
    /// There is state of an operator that the job has not.
    #[error(
        "there is state of {operator}, which the job has not: give the operator that is to have it that uid, or leave the state \
         behind with `execution.state-recovery.ignore-unclaimed-state` (`--allowNonRestoredState`)"
    )]
    NotRestored {
        /// The operator as people know it.
        operator: String,
    },
    /// There are records in flight, and another number of subtasks.
    #[error(
        "records were in flight to {operator}, which had {found} subtasks and has {expected} now; only the same number can restore \
         them: take a savepoint or an aligned checkpoint before its parallelism changes"
    )]
    InFlight {
        /// The operator as people know it.
        operator: String,
        /// As written.
        found: u32,
        /// The job's.
        expected: u32,
    },
    /// The metadata contradicts itself.
    #[error("the state of {operator} is damaged: {problem}")]
    Damaged {
        /// The operator as people know it.
        operator: String,
        /// What cannot be.
        problem: String,
    },
}

/// Decides which task of the job restores what.
///
/// Rows go to whom their key groups belong. Items of lists are spread evenly, or go to all, as their redistribution says. Where the
/// number of subtasks has not changed, everything goes back to the subtask it is of. Operators without state begin without.
/// `allow_non_restored`: whether state of operators that the job has not may be left behind.
pub fn assign(
    metadata: &CheckpointMetadata,
    job: &CheckpointJob,
    allow_non_restored: bool,
) -> Result<Assignment, AssignError> {
    let known = job.vertices.iter().flat_map(|vertex| &vertex.operators).map(|operator| operator.id).collect();
    let warnings = non_restored(metadata, &known, allow_non_restored)?;
    let states: BTreeMap<_, _> = metadata.operators.iter().map(|operator| (operator.id, operator)).collect();
    let mut tasks = Vec::with_capacity(job.task_count());
    for vertex in &job.vertices {
        let known: Vec<_> = vertex.operators.iter().map(|operator| states.get(&operator.id).copied()).collect();
        let finished = finished(vertex, &known);
        let first = tasks.len();
        tasks.extend(finished.into_iter().map(|finished| TaskSnapshot { operators: Vec::new(), finished }));
        for state in known.into_iter().flatten() {
            check(vertex, state)?;
            restore_tables(vertex, state, &mut tasks[first..]);
            restore_lists(vertex, state, &mut tasks[first..]);
        }
    }
    let heads = (0u32..).zip(&job.vertices).filter_map(|(index, vertex)| Some((vertex.operators.first()?.id, index)));
    let heads: BTreeMap<OperatorId, u32> = heads.collect();
    let enumerators =
        metadata.enumerators.iter().filter_map(|(id, state)| Some((*heads.get(id)?, state.clone()))).collect();
    Ok(Assignment { tasks, enumerators, warnings })
}

/// Says what of the checkpoint nobody restores, when the job has the operators `known`.
pub(crate) fn non_restored(
    metadata: &CheckpointMetadata,
    known: &BTreeSet<OperatorId>,
    allowed: bool,
) -> Result<Vec<String>, AssignError> {
    let label = |id: OperatorId| {
        let found = metadata.operators.iter().find(|operator| operator.id == id);
        found.map_or_else(|| format!("operator {id}"), OperatorMetadata::label)
    };
    let with_state = metadata.operators.iter().filter(|operator| !operator.subtasks.is_empty());
    let with_state = with_state.map(|operator| operator.id).chain(metadata.enumerators.iter().map(|(id, _)| *id));
    let lost: BTreeSet<_> = with_state.filter(|id| !known.contains(id)).collect();
    match lost.first() {
        Some(&id) if !allowed => Err(AssignError::NotRestored { operator: label(id) }),
        _ => {
            let left = |id| format!("the state of {} is left behind: the job has no such operator", label(id));
            Ok(lost.into_iter().map(left).collect())
        }
    }
}

/// Which subtasks had finished, and so finish at once. It is kept only where it is known of each subtask.
fn finished(vertex: &JobVertexState, states: &[Option<&OperatorMetadata>]) -> Vec<bool> {
    let finished = |state: &Option<&OperatorMetadata>, subtask: u32| {
        state.is_some_and(|state| {
            let all = state.finished.len() == state.parallelism as usize;
            all || (state.parallelism == vertex.parallelism && state.finished.contains(&subtask))
        })
    };
    (0..vertex.parallelism).map(|subtask| states.iter().all(|state| finished(state, subtask))).collect()
}

fn check(vertex: &JobVertexState, state: &OperatorMetadata) -> Result<(), AssignError> {
    let damaged = |problem: String| AssignError::Damaged { operator: state.label(), problem };
    for subtask in &state.subtasks {
        if subtask.subtask >= state.parallelism {
            return Err(damaged(format!("it has subtask {} of {}", subtask.subtask, state.parallelism)));
        }
        for table in &subtask.tables {
            if table.max_parallelism != vertex.max_parallelism {
                let (found, expected) = (table.max_parallelism, vertex.max_parallelism);
                return Err(AssignError::MaxParallelism { operator: state.label(), found, expected });
            }
            let files = table.files.iter().map(|file| file.last_group);
            if let Some(group) =
                table.groups.iter().map(|group| group.group).chain(files).find(|&group| group >= table.max_parallelism)
            {
                return Err(damaged(format!("it has key group {group} of {}", table.max_parallelism)));
            }
        }
        for list in &subtask.lists {
            if list.name.starts_with(IN_FLIGHT) && vertex.parallelism != state.parallelism {
                let (found, expected) = (state.parallelism, vertex.parallelism);
                return Err(AssignError::InFlight { operator: state.label(), found, expected });
            }
            if list.items.start > list.items.end || list.items.end as usize > list.lengths.len() {
                let (items, count) = (&list.items, list.lengths.len());
                return Err(damaged(format!(
                    "list `{}` is of items {} to {} of {count}",
                    list.name, items.start, items.end
                )));
            }
            let length: u64 = list.lengths.iter().map(|&length| u64::from(length)).sum();
            if length != list.location.length() {
                let problem = format!(
                    "the items of list `{}` have {length} bytes, and there are {}",
                    list.name,
                    list.location.length()
                );
                return Err(damaged(problem));
            }
        }
    }
    Ok(())
}

fn restore_tables(vertex: &JobVertexState, state: &OperatorMetadata, tasks: &mut [TaskSnapshot]) {
    let groups = KeyGroups::new(vertex.max_parallelism, vertex.parallelism);
    for subtask in &state.subtasks {
        let mut parts: BTreeMap<usize, OperatorSnapshot> = BTreeMap::new();
        for table in &subtask.tables {
            // Ascending, so those of one subtask lie together.
            let owner = |group: u32| groups.subtask_of(KeyGroup(group as u16)) as usize;
            for run in table.groups.chunk_by(|a, b| owner(a.group) == owner(b.group)) {
                let part = parts.entry(owner(run[0].group)).or_insert_with(|| empty(state.id));
                part.tables.push(TableSnapshot {
                    files: clipped(&table.files, run),
                    groups: run.to_vec(),
                    columns: table.columns.clone(),
                    key: table.key.clone(),
                    name: table.name.clone(),
                    ..*table
                });
            }
            // So that the state is known to have been there, even if it is empty.
            if table.groups.is_empty() && vertex.parallelism == state.parallelism {
                let part = parts.entry(subtask.subtask as usize).or_insert_with(|| empty(state.id));
                part.tables.push(table.clone());
            }
        }
        parts.into_iter().for_each(|(task, part)| tasks[task].operators.push(part));
    }
}

/// What of some files counts for these groups, which are ascending and some.
fn clipped(files: &[SortedFile], groups: &[GroupSlice]) -> Vec<SortedFile> {
    let mut sorted = groups.iter().filter(|group| group.location == Location::Sorted).map(|group| group.group);
    let Some(first) = sorted.next() else { return Vec::new() };
    let last = sorted.next_back().unwrap_or(first);
    let clip = |file: &SortedFile| SortedFile {
        first_group: file.first_group.max(first),
        last_group: file.last_group.min(last),
        slice: file.slice.clone(),
    };
    files.iter().map(clip).filter(|file| file.first_group <= file.last_group).collect()
}

fn empty(operator: OperatorId) -> OperatorSnapshot {
    OperatorSnapshot { operator, tables: Vec::new(), lists: Vec::new() }
}

fn restore_lists(vertex: &JobVertexState, state: &OperatorMetadata, tasks: &mut [TaskSnapshot]) {
    let names: BTreeSet<_> = state.subtasks.iter().flat_map(|subtask| &subtask.lists).map(|list| &list.name).collect();
    for name in names {
        let of_name = |subtask: &'_ SubtaskState| subtask.lists.iter().find(|list| list.name == *name).cloned();
        let lists: Vec<(u32, ListSnapshot)> =
            state.subtasks.iter().filter_map(|subtask| Some((subtask.subtask, of_name(subtask)?))).collect();
        let Some((_, first)) = lists.first() else { continue };
        let mut give = |task: u32, lists: Vec<ListSnapshot>| {
            if !lists.is_empty() {
                tasks[task as usize].operators.push(OperatorSnapshot { lists, ..empty(state.id) });
            }
        };
        match first.redistribution {
            Redistribution::Split if state.parallelism == vertex.parallelism => {
                lists.into_iter().for_each(|(subtask, list)| give(subtask, vec![list]));
            }
            Redistribution::Split => {
                (0..vertex.parallelism).for_each(|task| give(task, share(&lists, task, vertex.parallelism)));
            }
            Redistribution::Union => {
                let all: Vec<_> = lists.into_iter().map(|(_, list)| list).collect();
                (0..vertex.parallelism).for_each(|task| give(task, all.clone()));
            }
            Redistribution::Broadcast => {
                // All have the same; each gets its own where it can.
                for task in 0..vertex.parallelism {
                    let own = lists.iter().find(|(subtask, _)| *subtask == task);
                    let (_, list) = own.unwrap_or(&lists[task as usize % lists.len()]);
                    give(task, vec![list.clone()]);
                }
            }
        }
    }
}

/// The part of all items that one of `count` subtasks gets: as many as any other, but for one.
fn share(lists: &[(u32, ListSnapshot)], subtask: u32, count: u32) -> Vec<ListSnapshot> {
    let total: u64 = lists.iter().map(|(_, list)| list.items.len() as u64).sum();
    let bound = |subtask: u32| total * u64::from(subtask) / u64::from(count);
    let (begin, end) = (bound(subtask), bound(subtask + 1));
    let mut before = 0;
    let mut parts = Vec::new();
    for (_, list) in lists {
        let items = list.items.len() as u64;
        let from = begin.clamp(before, before + items) - before;
        let to = end.clamp(before, before + items) - before;
        if from < to {
            parts.push(part(list, from as u32, to as u32));
        }
        before += items;
    }
    parts
}

fn part(list: &ListSnapshot, from: u32, to: u32) -> ListSnapshot {
    let items = list.items.start + from..list.items.start + to;
    match &list.location {
        // The checksum is that of all of them, so the slice stays as it is.
        Location::File(_) | Location::Sorted => {
            let location = list.location.clone();
            ListSnapshot {
                items,
                location,
                name: list.name.clone(),
                schema: list.schema.clone(),
                lengths: list.lengths.clone(),
                ..*list
            }
        }
        Location::Inline(bytes) => {
            let length = |items: &[u32]| items.iter().map(|&length| length as usize).sum::<usize>();
            let (first, last) = (items.start as usize, items.end as usize);
            let begin = length(&list.lengths[..first]);
            let lengths = list.lengths[first..last].to_vec();
            let location = Location::Inline(bytes[begin..begin + length(&lengths)].to_vec());
            ListSnapshot {
                items: 0..to - from,
                lengths,
                location,
                name: list.name.clone(),
                schema: list.schema.clone(),
                ..*list
            }
        }
    }
}
