//! The enumerators of a run, on a thread of their own so that slow storage delays nothing else.
//!
//! An embedded run has it in the driver's process, a cluster in a process of its own; both use what is here.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use weir_dataflow::failure;
use weir_dataflow::sink::{Committable, ErasedSink};
use weir_dataflow::source::{EnumeratorContext, ErasedEnumerator, ErasedSource, NextSplit, SourceError, SplitAnswer};
use weir_model::TaskId;

use crate::error::Result;

/// The sources of a job, by vertex. Shared, so that whoever ends its process may keep them from being dropped.
pub(super) type Sources = Arc<Mutex<BTreeMap<u32, Box<dyn ErasedSource>>>>;

/// The sinks of a job, by node.
pub(super) type Sinks = BTreeMap<u32, Box<dyn ErasedSink>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From where a run goes on, as far as it concerns its coordinator.
#[derive(Debug, Clone, Default)]
pub(super) struct Restored {
    /// The checkpoint.
    pub(super) checkpoint: u64,
    /// State of enumerators, by vertex; those without begin anew.
    pub(super) enumerators: BTreeMap<u32, Vec<u8>>,
    /// Output that is perhaps not visible yet.
    pub(super) committables: Vec<Committable>,
}

/// States of enumerators, by vertex; or why there are none.
pub(super) type EnumeratorStates = Result<Vec<(u32, Vec<u8>)>, String>;

/// The enumerators of a run.
pub(super) struct Enumerators {
    sources: Sources,
    /// By vertex of the graph.
    parallelism: Vec<u32>,
    by_vertex: BTreeMap<u32, Enumeration>,
}

/// One enumerator and what came of it.
struct Enumeration {
    enumerator: Box<dyn ErasedEnumerator>,
    /// What each subtask was given to read, in case it has to start again.
    given: BTreeMap<u32, Vec<Given>>,
}

/// A split that a reader has.
struct Given {
    split: Vec<u8>,
    /// The first checkpoint whose readers' state it is part of; none if the enumerators have not been asked for one since.
    checkpoint: Option<u64>,
}

impl Given {
    fn is_part_of(&self, checkpoint: u64) -> bool {
        self.checkpoint.is_some_and(|first| first <= checkpoint)
    }
}

impl Enumerators {
    /// Looks at every input. An input that is not there fails the job before anything starts. `parallelism`: by vertex of the graph.
    pub(super) fn open(sources: Sources, parallelism: Vec<u32>, restored: Option<&Restored>) -> Result<Enumerators> {
        let mut enumerators = Enumerators { sources, parallelism, by_vertex: BTreeMap::new() };
        enumerators.make(restored)?;
        Ok(enumerators)
    }

    fn make(&mut self, restored: Option<&Restored>) -> Result<()> {
        for (&vertex, source) in lock(&self.sources).iter() {
            let restored = restored.and_then(|restored| restored.enumerators.get(&vertex).cloned());
            let context = EnumeratorContext { parallelism: self.parallelism[vertex as usize], restored };
            let enumerator = source.create_enumerator(&context)?;
            self.by_vertex.insert(vertex, Enumeration { enumerator, given: BTreeMap::new() });
        }
        Ok(())
    }

    fn next_split(&mut self, task: TaskId) -> SplitAnswer {
        let Some(enumeration) = self.by_vertex.get_mut(&task.vertex) else {
            return SplitAnswer::Failed(format!("vertex {} asked for a split but has no source", task.vertex));
        };
        let answer = failure::catch(|| Ok(enumeration.enumerator.next_split(task.subtask)), |_| String::new())
            .unwrap_or_else(|error| SplitAnswer::Failed(format!("the source's enumerator {error}")));
        if let SplitAnswer::Next(NextSplit::Split(bytes)) = &answer {
            let given = Given { split: bytes.clone(), checkpoint: None };
            enumeration.given.entry(task.subtask).or_default().push(given);
        }
        answer
    }

    /// The state of all enumerators. Splits given so far are part of the state of readers.
    fn snapshot(&mut self, checkpoint: u64) -> EnumeratorStates {
        let state = |(&vertex, one): (&u32, &Enumeration)| Ok((vertex, one.enumerator.snapshot()?));
        let states = || self.by_vertex.iter().map(state).collect::<Result<Vec<_>, SourceError>>();
        let states = caught(|| states().map_err(|error| error.to_string()))?;
        for given in self.given().filter(|given| given.checkpoint.is_none()) {
            given.checkpoint = Some(checkpoint);
        }
        Ok(states)
    }

    /// Forgets the splits that will come back with the readers' state.
    fn completed(&mut self, checkpoint: u64) {
        for enumeration in self.by_vertex.values_mut() {
            for given in enumeration.given.values_mut() {
                given.retain(|given| !given.is_part_of(checkpoint));
            }
        }
    }

    fn given(&mut self) -> impl Iterator<Item = &mut Given> {
        self.by_vertex.values_mut().flat_map(|one| one.given.values_mut().flatten())
    }

    /// Gives back what these tasks were given and will not have in their state. Without any, all enumerators begin anew, or from
    /// where they were.
    fn reset(&mut self, tasks: &[TaskId], restored: Option<&Restored>) -> Result<(), String> {
        caught(|| {
            if tasks.is_empty() {
                self.by_vertex.clear();
                return self.make(restored).map_err(|error| error.to_string());
            }
            let checkpoint = restored.map(|restored| restored.checkpoint);
            tasks.iter().try_for_each(|task| self.add_back(*task, checkpoint))
        })
    }

    fn add_back(&mut self, task: TaskId, checkpoint: Option<u64>) -> Result<(), String> {
        // Most tasks read from others, not from a source.
        let Some(enumeration) = self.by_vertex.get_mut(&task.vertex) else { return Ok(()) };
        let given = enumeration.given.remove(&task.subtask).unwrap_or_default();
        let lost = given.into_iter().filter(|given| !checkpoint.is_some_and(|restored| given.is_part_of(restored)));
        let splits: Vec<_> = lost.map(|given| given.split).collect();
        if splits.is_empty() {
            return Ok(());
        }
        enumeration.enumerator.add_back(&splits).map_err(|error| error.to_string())
    }
}

/// Runs code of enumerators; a panic in it is an error like others.
fn caught<R>(code: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    failure::catch(|| Ok(code()), |_| String::new())
        .unwrap_or_else(|error| Err(format!("the source's enumerator {error}")))
}

/// What is asked of the enumerators; done in order.
pub(super) enum SplitOrder {
    /// A source task wants a split.
    Next(TaskId),
    /// A checkpoint begins.
    Snapshot {
        /// Its number.
        checkpoint: u64,
        /// Hears the state of the enumerators, by vertex; or why there is none.
        done: Box<dyn FnOnce(EnumeratorStates) + Send>,
    },
    /// Enumerators that are made from now on have so many readers, by vertex of the graph.
    SetParallelism(Vec<u32>),
    /// A checkpoint is complete.
    Completed {
        /// Its number.
        checkpoint: u64,
    },
    /// These tasks, or all if none are named, begin again.
    Reset {
        /// By vertex and subtask.
        tasks: Vec<TaskId>,
        /// From where they go on; none: from the beginning.
        restored: Option<Restored>,
        /// Hears how it went, or why it cannot be.
        done: Box<dyn FnOnce(Result<(), String>) + Send>,
    },
}

/// Does what is ordered until the sender of `orders` is gone, or nobody wants the answers any more, which `answer` tells.
pub(super) fn serve_splits(
    mut enumerators: Enumerators,
    orders: Receiver<SplitOrder>,
    answer: impl Fn(TaskId, SplitAnswer) -> bool + Send + 'static,
) -> std::io::Result<()> {
    thread::Builder::new().name("weir-enumerator".into()).spawn(move || {
        for order in orders {
            match order {
                SplitOrder::Next(task) => {
                    if !answer(task, enumerators.next_split(task)) {
                        return;
                    }
                }
                SplitOrder::Snapshot { checkpoint, done } => done(enumerators.snapshot(checkpoint)),
                SplitOrder::SetParallelism(parallelism) => enumerators.parallelism = parallelism,
                SplitOrder::Completed { checkpoint } => enumerators.completed(checkpoint),
                SplitOrder::Reset { tasks, restored, done } => done(enumerators.reset(&tasks, restored.as_ref())),
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use weir_dataflow::record::{Decoder, Record};
    use weir_dataflow::source::{DriverSource, Source};

    use super::*;
    use crate::connectors::CollectionSource;

    /// Hands out the numbers 0 to 8, each in a split of its own, to two readers.
    fn open(restored: Option<&Restored>) -> Enumerators {
        let source: Box<dyn ErasedSource> = Box::new(DriverSource(CollectionSource::new(0..8)));
        let sources = Sources::new(Mutex::new([(0, source)].into()));
        let mut enumerators = Enumerators { sources, parallelism: vec![2], by_vertex: BTreeMap::new() };
        enumerators.make(restored).unwrap();
        enumerators
    }

    fn task(subtask: u32) -> TaskId {
        TaskId { vertex: 0, subtask }
    }

    /// The next number for a reader; none if there are no more.
    fn next(enumerators: &mut Enumerators, subtask: u32) -> Option<u64> {
        match enumerators.next_split(task(subtask)) {
            SplitAnswer::Next(NextSplit::Split(bytes)) => {
                let split = <CollectionSource<i32> as Source>::Split::decode(&mut Decoder::new(&bytes)).unwrap();
                assert_eq!(split.next + 1, split.end);
                Some(split.next)
            }
            SplitAnswer::Next(NextSplit::Finished) => None,
            other => panic!("{other:?}"),
        }
    }

    fn both(enumerators: &mut Enumerators) -> [Option<u64>; 2] {
        [next(enumerators, 0), next(enumerators, 1)]
    }

    fn rest(enumerators: &mut Enumerators) -> Vec<u64> {
        let mut rest: Vec<u64> = std::iter::from_fn(|| next(enumerators, 0)).collect();
        rest.sort_unstable();
        rest
    }

    fn restored(checkpoint: u64, enumerators: Vec<(u32, Vec<u8>)>) -> Restored {
        Restored { checkpoint, enumerators: enumerators.into_iter().collect(), committables: Vec::new() }
    }

    #[test]
    fn a_task_that_starts_again_gives_back_what_it_was_given_since_the_last_complete_checkpoint() {
        let mut enumerators = open(None);
        both(&mut enumerators);
        enumerators.snapshot(1).unwrap();
        assert_eq!(both(&mut enumerators), [Some(2), Some(3)]);
        enumerators.completed(1);
        // Not complete.
        enumerators.snapshot(2).unwrap();
        assert_eq!(both(&mut enumerators), [Some(4), Some(5)]);
        enumerators.reset(&[task(1)], Some(&restored(1, Vec::new()))).unwrap();
        assert_eq!(rest(&mut enumerators), [3, 5, 6, 7]);
    }

    #[test]
    fn a_task_that_starts_again_without_a_checkpoint_gives_everything_back() {
        let mut enumerators = open(None);
        both(&mut enumerators);
        enumerators.snapshot(1).unwrap();
        next(&mut enumerators, 0);
        enumerators.reset(&[task(0)], None).unwrap();
        assert_eq!(rest(&mut enumerators), [0, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_checkpoint_of_which_the_news_is_late_counts_all_the_same() {
        let mut enumerators = open(None);
        next(&mut enumerators, 0);
        enumerators.snapshot(1).unwrap();
        next(&mut enumerators, 0);
        enumerators.reset(&[task(0)], Some(&restored(1, Vec::new()))).unwrap();
        assert_eq!(rest(&mut enumerators), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_snapshot_that_came_later_holds_what_an_earlier_one_did_not() {
        let mut enumerators = open(None);
        next(&mut enumerators, 0);
        enumerators.snapshot(1).unwrap();
        next(&mut enumerators, 0);
        enumerators.snapshot(2).unwrap();
        next(&mut enumerators, 0);
        enumerators.completed(2);
        enumerators.reset(&[task(0)], Some(&restored(2, Vec::new()))).unwrap();
        assert_eq!(rest(&mut enumerators), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn all_tasks_go_on_from_where_the_enumerators_were() {
        let mut enumerators = open(None);
        both(&mut enumerators);
        let states = enumerators.snapshot(1).unwrap();
        both(&mut enumerators);
        let restored = restored(1, states);
        enumerators.reset(&[], Some(&restored)).unwrap();
        // What the readers have in their state is not given back, now or when one of them starts again.
        assert_eq!(next(&mut enumerators, 0), Some(2));
        enumerators.reset(&[task(0), task(1)], Some(&restored)).unwrap();
        assert_eq!(rest(&mut enumerators), [2, 3, 4, 5, 6, 7]);
        assert_eq!(rest(&mut open(Some(&restored))), [2, 3, 4, 5, 6, 7]);
        enumerators.reset(&[], None).unwrap();
        assert_eq!(rest(&mut enumerators), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn input_is_divided_anew_among_another_number_of_readers() {
        let source: Box<dyn ErasedSource> = Box::new(DriverSource(CollectionSource::new(0..8)));
        let sources = Sources::new(Mutex::new([(0, source)].into()));
        let mut enumerators = Enumerators::open(sources, vec![1], None).unwrap();
        let first = |enumerators: &mut Enumerators| match enumerators.next_split(task(0)) {
            SplitAnswer::Next(NextSplit::Split(bytes)) => {
                let split = <CollectionSource<i32> as Source>::Split::decode(&mut Decoder::new(&bytes)).unwrap();
                split.end - split.next
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(first(&mut enumerators), 8, "a single reader reads all of it");
        enumerators.parallelism = vec![2];
        enumerators.reset(&[], None).unwrap();
        assert_eq!(first(&mut enumerators), 1);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_an_error_that_says_so() {
        let error = open(None).reset(&[], Some(&restored(1, vec![(0, vec![1])]))).unwrap_err();
        assert!(error.contains("the stored state of a collection cannot be restored"), "{error}");
    }
}
