//! A model of a job's coordinator process: hands out splits, collects committables, commits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_jobmaster::{FromCoordinator, ToCoordinator};
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
    given: BTreeMap<TaskId, Vec<u32>>,
    /// Requests that wait for an answer.
    held: BTreeSet<TaskId>,
    /// By task: its deployment, and the splits it has worked on.
    committables: BTreeMap<TaskId, (u32, Vec<u32>)>,
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
            committables: BTreeMap::new(),
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
            ToCoordinator::Open { .. } => {
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
            ToCoordinator::AddCommittables { task, committables } => self.add_committables(job, task, &committables),
            ToCoordinator::ResetTasks { tasks } => self.reset_tasks(job, &tasks),
            ToCoordinator::Commit => self.commit(job),
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
                coordinator.given.entry(task).or_default().push(split);
                SplitAnswer::Split(split)
            }
            None if graph.is_bounded() => SplitAnswer::Finished,
            None => SplitAnswer::NoneYet,
        };
        let message = FromCoordinator::SplitAnswer { task, answer: encode(task, &answer) };
        let delay = self.random.millis(0, 20);
        self.answer(job, message, delay);
    }

    fn add_committables(&mut self, job: JobId, task: TaskId, committables: &[Committable]) {
        let [Committable { payload, .. }] = committables else {
            return self.check(false, || format!("{task:?} of {job} wants {} things committed", committables.len()));
        };
        let numbers = numbers(payload);
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        let before = coordinator.committables.insert(task, (numbers[0], numbers[1..].to_vec()));
        self.check(before.is_none(), || format!("{task:?} of {job} finishes a second time and was not reset"));
    }

    fn reset_tasks(&mut self, job: JobId, tasks: &[TaskId]) {
        let splits = self.job_scenario(job).splits;
        let Some(coordinator) = self.coordinators.get_mut(&job) else { return };
        if tasks.is_empty() {
            coordinator.unassigned = (0..splits).collect();
            coordinator.given.clear();
            coordinator.committables.clear();
            coordinator.held.clear();
        }
        for task in tasks {
            coordinator.unassigned.extend(coordinator.given.remove(task).unwrap_or_default());
            coordinator.committables.remove(task);
            coordinator.held.remove(task);
        }
        let delay = self.random.millis(0, 50);
        self.answer(job, FromCoordinator::TasksReset(Ok(())), delay);
    }

    /// All that was to be done must have been done, by attempts that count, and once.
    fn commit(&mut self, job: JobId) {
        let scenario = self.job_scenario(job).clone();
        let Some(coordinator) = self.coordinators.get(&job) else { return };
        let tasks = scenario.graph.task_count() as usize;
        let committables = coordinator.committables.clone();
        let mut splits: Vec<u32> = committables.values().flat_map(|(_, splits)| splits.iter().copied()).collect();
        splits.sort_unstable();
        self.check(committables.len() == tasks, || {
            format!("{job} is committed when {} of {tasks} tasks have finished", committables.len())
        });
        self.check(splits.iter().copied().eq(0..scenario.splits), || {
            format!("{job} is committed after the splits {splits:?} of {} were worked on", scenario.splits)
        });
        let first = self.checks.committed.insert(job, true).is_none();
        self.check(first, || format!("{job} is committed twice"));
        for (task, (attempt, _)) in committables {
            let current = self.checks.attempt_of(job, task);
            self.check(current == Some(attempt), || {
                format!("attempt {attempt} of {task:?} of {job} is committed, but {current:?} counts")
            });
        }
        let delay = self.random.millis(1, 100);
        match self.random.below(100) {
            0..3 if !self.calm => {
                let instance = self.coordinators[&job].instance;
                self.after(Duration::ZERO, Happening::Coordinator { job, instance, step: Step::Die });
            }
            3..6 if !self.calm => {
                // Some of it is visible.
                self.checks.committed.insert(job, false);
                self.answer(job, FromCoordinator::CommitDone(Err("no space left on device".to_owned())), delay);
            }
            _ => self.answer(job, FromCoordinator::CommitDone(Ok(())), delay),
        }
    }
}
