//! A model of a job's coordinator process: hands out splits, tells its state for checkpoints, commits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_jobmaster::{FromCoordinator, Restored, ToCoordinator};
use weir_model::{Committable, JobId, TaskId};

use super::worker::is_source;
use super::{ForJm, Happening, World};

/// A coordinator process.
#[derive(Debug)]
pub(crate) struct Coordinator {
    /// Counts the job's coordinators.
    pub(crate) instance: u32,
    pub(crate) alive: bool,
    /// The JobManager it belongs to.
    job_manager: u32,
    /// When the last message arrives, at it and from it.
    last: [Duration; 2],
    unassigned: BTreeSet<u32>,
    /// By task: splits, and the last checkpoint whose snapshot was taken before each.
    given: BTreeMap<TaskId, Vec<(u32, u64)>>,
    snapshotted: u64,
    /// Requests that wait for an answer.
    held: BTreeSet<TaskId>,
}

/// What happens in a coordinator process.
#[derive(Debug)]
pub(crate) enum Step {
    Message(ToCoordinator),
    /// A request that was held is answered.
    AnswerHeld(TaskId),
    Die,
    Started,
}

/// What the simulation's coordinators answer to a request for a split.
pub(crate) enum SplitAnswer {
    Split(u32),
    NoneYet,
    Finished,
}

fn encode(task: TaskId, answer: &SplitAnswer) -> Vec<u8> {
    let number = match answer {
        SplitAnswer::Split(split) => *split,
        SplitAnswer::NoneYet => u32::MAX,
        SplitAnswer::Finished => u32::MAX - 1,
    };
    [task.vertex, task.subtask, number].into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The inverse of `encode`.
pub(crate) fn decode(bytes: &[u8]) -> Option<(TaskId, SplitAnswer)> {
    let [vertex, subtask, number] = numbers(bytes)[..] else { return None };
    let answer = match number {
        u32::MAX => SplitAnswer::NoneYet,
        number if number == u32::MAX - 1 => SplitAnswer::Finished,
        split => SplitAnswer::Split(split),
    };
    Some((TaskId { vertex, subtask }, answer))
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

impl World {
    /// A process starts and has built the job.
    pub(crate) fn start_coordinator(&mut self, job: JobId) {
        let splits = self.job_scenario(job).splits;
        let instance = self.coordinators.get(&job).map_or(0, |former| former.instance + 1);
        let coordinator = Coordinator {
            instance,
            alive: true,
            job_manager: self.job_manager.life,
            last: [self.now; 2],
            unassigned: (0..splits).collect(),
            given: BTreeMap::new(),
            held: BTreeSet::new(),
            snapshotted: 0,
        };
        self.coordinators.insert(job, coordinator);
    }

    pub(crate) fn send_to_coordinator(&mut self, job: JobId, message: ToCoordinator) {
        self.log(|_| format!("coordinator of {} <- {message:?}", &job.to_string()[..4]));
        let delay = self.random.millis(0, 3);
        if message == ToCoordinator::Restart {
            let alive = self.coordinators.get(&job).is_some_and(|coordinator| coordinator.alive);
            self.check(!alive, || format!("the coordinator of {job} is started again, though it has not died"));
            self.start_coordinator(job);
            let instance = self.coordinators[&job].instance;
            let broken = !self.calm && self.random.chance(self.scenario.broken_workers);
            let step = if broken { Step::Die } else { Step::Started };
            let delay = self.random.millis(5, 300);
            self.after(delay, Happening::Coordinator { job, instance, step });
            return;
        }
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        let at = (self.now + delay).max(coordinator.last[0] + Duration::from_nanos(1));
        coordinator.last[0] = at;
        let instance = coordinator.instance;
        self.at(at, Happening::Coordinator { job, instance, step: Step::Message(message) });
    }

    fn answer(&mut self, job: JobId, message: FromCoordinator, delay: Duration) {
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        let at = (self.now + delay).max(coordinator.last[1] + Duration::from_nanos(1));
        coordinator.last[1] = at;
        let (instance, life) = (coordinator.instance, coordinator.job_manager);
        self.at(at, Happening::JobManager { life, what: ForJm::Coordinator { job, instance, message } });
    }

    pub(crate) fn happen_in_coordinator(&mut self, job: JobId, instance: u32, step: Step) {
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        if coordinator.instance != instance || !coordinator.alive {
            return;
        }
        match step {
            Step::Message(message) => self.on_coordinator_message(job, message),
            Step::AnswerHeld(task) => {
                if coordinator.held.remove(&task) {
                    self.give_split(job, task);
                }
            }
            Step::Die => {
                coordinator.alive = false;
                self.log(|_| format!("coordinator of {} dies", &job.to_string()[..4]));
                let reason = "killed by signal 9 (SIGKILL)".to_owned();
                let delay = self.random.millis(0, 20);
                self.answer(job, FromCoordinator::Lost { reason }, delay);
            }
            Step::Started => self.answer(job, FromCoordinator::Started, Duration::ZERO),
        }
    }

    fn on_coordinator_message(&mut self, job: JobId, message: ToCoordinator) {
        match message {
            ToCoordinator::Open { restored, .. } => {
                self.restore(job, restored.as_ref());
                let broken = !self.calm && self.random.chance(5);
                let result = if broken { Err("no such file".to_owned()) } else { Ok(()) };
                let delay = self.random.millis(1, 200);
                self.answer(job, FromCoordinator::Opened(result), delay);
            }
            ToCoordinator::SplitRequest { task } => {
                if self.random.chance(100) {
                    let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
                    coordinator.held.insert(task);
                    let instance = coordinator.instance;
                    let delay = self.random.millis(10, 3_000);
                    self.after(delay, Happening::Coordinator { job, instance, step: Step::AnswerHeld(task) });
                } else {
                    self.give_split(job, task);
                }
            }
            ToCoordinator::ResetTasks { tasks, restored } => self.reset_tasks(job, &tasks, restored.as_ref()),
            // All sources share the splits, whatever their number of readers.
            ToCoordinator::SetParallelism(_) => {}
            ToCoordinator::SnapshotEnumerators { checkpoint } => self.snapshot(job, checkpoint),
            ToCoordinator::CheckpointCompleted { checkpoint } => {
                let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
                coordinator.given.values_mut().for_each(|given| given.retain(|(_, after)| *after >= checkpoint));
            }
            ToCoordinator::Commit { checkpoint, committables } => self.commit(job, checkpoint, &committables),
            ToCoordinator::Discard => {
                let committed = self.checks.committed.get(&job) == Some(&true);
                self.check(!committed, || format!("the output of {job} is discarded after it was committed"));
            }
            ToCoordinator::Shutdown => {
                if let Some(coordinator) = self.coordinators.get_mut(&job) {
                    coordinator.alive = false;
                }
            }
            ToCoordinator::Kill => {
                let Some(coordinator) = self.coordinators.get(&job) else { return };
                let instance = coordinator.instance;
                self.after(Duration::ZERO, Happening::Coordinator { job, instance, step: Step::Die });
            }
            ToCoordinator::Restart => {}
        }
    }

    fn give_split(&mut self, job: JobId, task: TaskId) {
        let graph = self.job_scenario(job).graph.clone();
        self.check(is_source(&graph, task.vertex), || format!("{task:?} of {job} is no source, but wants a split"));
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        let answer = match coordinator.unassigned.pop_first() {
            Some(split) => {
                let after = coordinator.snapshotted;
                coordinator.given.entry(task).or_default().push((split, after));
                SplitAnswer::Split(split)
            }
            None if graph.is_bounded() => SplitAnswer::Finished,
            None => SplitAnswer::NoneYet,
        };
        let message = FromCoordinator::SplitAnswer { task, answer: encode(task, &answer) };
        let delay = self.random.millis(0, 20);
        self.answer(job, message, delay);
    }

    /// Makes the enumerator anew, and what is perhaps not visible visible.
    fn restore(&mut self, job: JobId, restored: Option<&Restored>) {
        let splits = self.job_scenario(job).splits;
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        let state = restored.and_then(|restored| restored.enumerators.first());
        coordinator.unassigned =
            state.map_or_else(|| (0..splits).collect(), |(_, state)| numbers(state).into_iter().collect());
        coordinator.given.clear();
        coordinator.held.clear();
        self.show(job, restored.map(|restored| &restored.committables[..]).unwrap_or_default());
    }

    fn reset_tasks(&mut self, job: JobId, tasks: &[TaskId], restored: Option<&Restored>) {
        if tasks.is_empty() {
            self.restore(job, restored);
        }
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        for task in tasks {
            let given = coordinator.given.remove(task).unwrap_or_default();
            coordinator.unassigned.extend(given.into_iter().map(|(split, _)| split));
            coordinator.held.remove(task);
        }
        let delay = self.random.millis(0, 50);
        self.answer(job, FromCoordinator::TasksReset(Ok(())), delay);
    }

    fn snapshot(&mut self, job: JobId, checkpoint: u64) {
        let broken = !self.calm && self.random.chance(10);
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        coordinator.snapshotted = checkpoint;
        let state = coordinator.unassigned.iter().copied().flat_map(u32::to_le_bytes).collect();
        // All sources share the splits.
        let result = if broken { Err("it is busy".to_owned()) } else { Ok(vec![(0, state)]) };
        let delay = self.random.millis(0, 50);
        self.answer(job, FromCoordinator::EnumeratorsSnapshotted { checkpoint, result }, delay);
    }

    /// No split may become visible as part of two things.
    fn show(&mut self, job: JobId, committables: &[Committable]) {
        for Committable { payload, .. } in committables {
            for split in numbers(payload).into_iter().skip(3) {
                let visible = self.checks.visible.entry(job).or_default();
                let before = visible.insert(split, payload.clone()).filter(|before| before != payload);
                self.check(before.is_none(), || {
                    format!(
                        "split {split} of {job} is visible twice: by {:?} and {:?}",
                        before.as_deref().map(numbers),
                        numbers(payload)
                    )
                });
            }
        }
    }

    /// In the end all that was to be done must be visible.
    fn commit(&mut self, job: JobId, checkpoint: Option<u64>, committables: &[Committable]) {
        let delay = self.random.millis(1, 100);
        let luck = if self.calm { 100 } else { self.random.below(100) };
        // What fails may have been done in part.
        let part = self.random.below(committables.len() as u64 + 1) as usize;
        let done = if luck < 6 { &committables[..part] } else { committables };
        self.show(job, done);
        if checkpoint.is_none() {
            self.checks.committed.insert(job, luck >= 6);
        }
        if luck < 3 {
            let instance = self.coordinators.get(&job).map_or(0, |coordinator| coordinator.instance);
            return self.after(Duration::ZERO, Happening::Coordinator { job, instance, step: Step::Die });
        }
        if luck < 6 {
            let result = Err("no space left on device".to_owned());
            return self.answer(job, FromCoordinator::CommitDone { checkpoint, result }, delay);
        }
        if checkpoint.is_none() {
            let splits = self.job_scenario(job).splits;
            let visible: Vec<u32> =
                self.checks.visible.get(&job).into_iter().flatten().map(|(split, _)| *split).collect();
            self.check(visible.iter().copied().eq(0..splits), || {
                format!("{job} is committed, and the splits {visible:?} of {splits} are visible")
            });
        }
        self.answer(job, FromCoordinator::CommitDone { checkpoint, result: Ok(()) }, delay);
    }
}
