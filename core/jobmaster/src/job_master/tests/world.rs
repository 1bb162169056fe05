//! Everybody the JobMaster talks to, played at random: TaskManagers with workers, the ResourceManager, the coordinator, time.
//!
//! Every channel keeps its order; which channel moves next, and what fails, is chosen from outside.
//!
//! Tasks count what they process. They hand over what they counted since they last did, with every checkpoint and at their end, and the
//! coordinator makes it visible. In the end everything must be visible once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weir_checkpoint::{
    CheckpointOptions, ListSnapshot, Location, OperatorSnapshot, Redistribution, Schema, TaskSnapshot,
};
use weir_model::{
    CheckpointAcknowledgement, CheckpointDecline, Committable, DeclineCause, ExecutionState, FailureKind,
    FromResourceManager, FromTaskManager, JobStatus, SlotGrant, SlotId, SnapshotMetrics, TaskChange, TaskFailure,
    TaskId, ToResourceManager, ToTaskManager,
};

use super::harness::{NOW, address, deployment, spec, split};
use crate::testing::task_manager;
use crate::{FromCoordinator, JobMaster, JobMasterEffect, JobMasterEvent, JobMasterOptions, JobReport, ToCoordinator};

const TASK_MANAGERS: u32 = 3;
const SLOTS: u32 = 2;

#[derive(Default)]
struct TaskManager {
    inbox: VecDeque<ToTaskManager>,
    outbox: VecDeque<FromTaskManager>,
    /// By deployment.
    workers: BTreeMap<u32, Worker>,
}

#[derive(Default)]
struct Worker {
    tasks: BTreeMap<TaskId, ExecutionState>,
    counts: BTreeMap<TaskId, Count>,
    /// Does not stop when it is told to.
    stubborn: bool,
}

/// What a task has processed.
#[derive(Clone, Copy, Default)]
struct Count {
    processed: u64,
    /// Handed over to be made visible.
    handed: u64,
    /// The last checkpoint it knows of.
    checkpoint: u64,
    /// Whether it had finished when it was restored.
    finished: bool,
}

pub(super) struct World {
    pub(super) master: JobMaster,
    now: Duration,
    events: VecDeque<JobMasterEvent>,
    task_managers: Vec<TaskManager>,
    declared: u32,
    /// Slots the JobMaster may use: granted, told so, and not lost.
    granted: BTreeSet<SlotId>,
    /// Slots the ResourceManager has given away.
    given: BTreeSet<SlotId>,
    resources: VecDeque<FromResourceManager>,
    coordinator_inbox: VecDeque<ToCoordinator>,
    coordinator_outbox: VecDeque<FromCoordinator>,
    coordinator_lives: bool,
    /// What is visible: of a task, from and to.
    visible: BTreeSet<(TaskId, u64, u64)>,
    /// What each task had processed when it finished.
    totals: BTreeMap<TaskId, u64>,
    /// Number of files written.
    written: u32,
    /// Number of restores that were not from the beginning.
    restores: u32,
    timers: BTreeSet<(Duration, u64)>,
    /// In whose hands each task is, as far as the JobMaster can know.
    held: BTreeMap<TaskId, (u32, u32)>,
    /// What was delivered, to be delivered again.
    delivered: Vec<JobMasterEvent>,
    faults: bool,
    /// One in so many of the faults that could be is.
    pub(super) rarity: u32,
    could_fail: u32,
    pub(super) report: Option<JobReport>,
}

impl World {
    pub(super) fn new(graph: weir_model::JobGraph, options: JobMasterOptions) -> Self {
        Self {
            master: JobMaster::new(checkpointed(graph), options, NOW).unwrap(),
            now: NOW,
            events: VecDeque::from([JobMasterEvent::Start]),
            task_managers: (0..TASK_MANAGERS).map(|_| TaskManager::default()).collect(),
            declared: 0,
            granted: BTreeSet::new(),
            given: BTreeSet::new(),
            resources: VecDeque::new(),
            coordinator_inbox: VecDeque::new(),
            coordinator_outbox: VecDeque::new(),
            coordinator_lives: true,
            visible: BTreeSet::new(),
            totals: BTreeMap::new(),
            written: 0,
            restores: 0,
            timers: BTreeSet::new(),
            held: BTreeMap::new(),
            delivered: Vec::new(),
            faults: true,
            rarity: 1,
            could_fail: 0,
            report: None,
        }
    }

    /// Whether a fault that could happen does.
    fn strikes(&mut self, could: bool) -> bool {
        self.could_fail += u32::from(could && self.faults);
        could && self.faults && self.could_fail.is_multiple_of(self.rarity)
    }

    /// Takes one step, chosen by two numbers.
    pub(super) fn step(&mut self, what: u8, which: u8) {
        let number = u32::from(which) % TASK_MANAGERS;
        match what {
            0..30 => self.deliver_event(),
            30..80 => self.deliver_from_task_manager(number),
            80..120 => self.work_task_manager(number, which),
            120..170 => self.work_task(number, which),
            170..185 => self.deliver_resources(),
            185..200 => self.work_coordinator(which),
            200..215 => self.deliver_from_coordinator(),
            215..225 => self.give_slots(),
            225..235 => self.ring(),
            235..241 => self.deliver_again(which),
            241..250 if !self.strikes(true) => self.work_coordinator(which),
            241..245 => self.end_worker(number, which),
            245..248 => self.lose_task_manager(number),
            248..250 => self.lose_coordinator(),
            250 if which < 30 && self.strikes(true) => self.events.push_back(JobMasterEvent::CancelRequested),
            250.. => self.now += Duration::from_millis(u64::from(which)),
        }
    }

    /// Lets nothing fail any more until the job has ended.
    pub(super) fn finish(&mut self) {
        self.faults = false;
        for _ in 0..2000 {
            if self.report.is_some() {
                return;
            }
            let mut idle = true;
            for round in 0..40u8 {
                let before = self.progress();
                self.deliver_event();
                self.deliver_resources();
                self.work_coordinator(255);
                self.deliver_from_coordinator();
                self.give_slots();
                for number in 0..TASK_MANAGERS {
                    self.deliver_from_task_manager(number);
                    self.work_task_manager(number, 255);
                    self.work_task(number, 200 + round);
                }
                idle &= before == self.progress();
            }
            if idle {
                self.ring();
            }
        }
        panic!("the job did not end: {:?}", self.master);
    }

    fn progress(&self) -> (usize, usize, usize) {
        let queues = self.task_managers.iter().map(|tm| tm.inbox.len() + tm.outbox.len()).sum::<usize>();
        let coordinator = self.coordinator_inbox.len() + self.coordinator_outbox.len();
        (self.delivered.len(), queues + coordinator + self.events.len() + self.resources.len(), self.given.len())
    }

    fn deliver(&mut self, event: JobMasterEvent) {
        self.delivered.push(event.clone());
        let effects = self.master.on_event(event, self.now);
        assert!(self.report.is_none() || effects.is_empty(), "nothing follows the end");
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: JobMasterEffect) {
        match effect {
            JobMasterEffect::StatusChanged { .. } | JobMasterEffect::Note(_) | JobMasterEffect::Warning(_) => {}
            JobMasterEffect::TaskManager { id, message } => {
                let number = id.as_str().trim_start_matches("tm-").parse().unwrap();
                self.check_message(number, &message);
                self.task_managers[number as usize].inbox.push_back(message);
            }
            JobMasterEffect::ResourceManager(ToResourceManager::DeclareRequirements { slots, .. }) => {
                self.declared = slots;
            }
            JobMasterEffect::ResourceManager(ToResourceManager::ReleaseSlots { slots, .. }) => {
                for slot in slots {
                    assert!(self.granted.remove(&slot));
                    self.given.remove(&slot);
                }
            }
            JobMasterEffect::Coordinator(ToCoordinator::Restart) => {
                assert!(!self.coordinator_lives);
                self.coordinator_inbox.clear();
                self.coordinator_inbox.push_back(ToCoordinator::Restart);
            }
            JobMasterEffect::Coordinator(message) => self.coordinator_inbox.push_back(message),
            JobMasterEffect::ScheduleTimer { id, at } => assert!(self.timers.insert((at, id))),
            JobMasterEffect::WriteMetadata { checkpoint, .. } => {
                self.written += 1;
                let full = self.strikes(true) && self.written.is_multiple_of(3);
                let result = if full { Err("no space left".to_owned()) } else { Ok(()) };
                self.events.push_back(JobMasterEvent::MetadataWritten { checkpoint, result });
            }
            JobMasterEffect::Remove { removal, .. } => {
                self.events.push_back(JobMasterEvent::Removed { removal, result: Ok(()) });
            }
            JobMasterEffect::RequestDone { .. } => {}
            JobMasterEffect::Ended(report) => {
                if report.status == JobStatus::Finished {
                    self.check_visible();
                }
                self.report = Some(*report);
            }
        }
    }

    /// No task is deployed twice at a time, and no slot is used without being granted.
    fn check_message(&mut self, number: u32, message: &ToTaskManager) {
        match message {
            ToTaskManager::StartWorker(start) => {
                for &index in &start.slots {
                    let slot = SlotId { task_manager: task_manager(number), index };
                    assert!(self.granted.contains(&slot), "{slot:?} was not granted");
                }
            }
            ToTaskManager::Deploy { plan, worker, .. } => {
                for task in plan.placement.tasks_of(*worker) {
                    let before = self.held.insert(task, (plan.deployment.number, number));
                    assert_eq!(before, None, "{task:?} is deployed again as of {}", plan.deployment.number);
                }
            }
            ToTaskManager::KillWorker { deployment, .. } => self.let_go(deployment.number, number),
            ToTaskManager::SplitAnswer { .. }
            | ToTaskManager::TriggerCheckpoint { .. }
            | ToTaskManager::CheckpointCompleted { .. }
            | ToTaskManager::CheckpointAborted { .. }
            | ToTaskManager::CancelTasks { .. }
            | ToTaskManager::ReleaseWorker { .. } => {}
        }
    }

    fn let_go(&mut self, of: u32, number: u32) {
        self.held.retain(|_, holder| *holder != (of, number));
    }

    fn deliver_event(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.deliver(event);
        }
    }

    fn deliver_again(&mut self, which: u8) {
        let recent = self.delivered.len().saturating_sub(50);
        let candidates: Vec<JobMasterEvent> =
            self.delivered[recent..].iter().filter(|event| may_come_twice(event)).cloned().collect();
        if !candidates.is_empty() {
            self.deliver(candidates[usize::from(which) % candidates.len()].clone());
        }
    }

    fn deliver_from_task_manager(&mut self, number: u32) {
        let Some(message) = self.task_managers[number as usize].outbox.pop_front() else { return };
        match &message {
            FromTaskManager::TasksChanged { deployment, changes } => {
                for change in changes.iter().filter(|change| change.state.is_terminal()) {
                    if self.held.get(&change.task) == Some(&(deployment.number, number)) {
                        self.held.remove(&change.task);
                    }
                }
            }
            FromTaskManager::WorkerEnded { deployment, .. } => self.let_go(deployment.number, number),
            _ => {}
        }
        self.deliver(JobMasterEvent::TaskManager { id: task_manager(number), message });
    }

    fn deliver_resources(&mut self) {
        let Some(message) = self.resources.pop_front() else { return };
        match &message {
            FromResourceManager::SlotsGranted(grants) => {
                self.granted.extend(grants.iter().map(|grant| grant.slot.clone()));
            }
            FromResourceManager::TaskManagerLost { id, .. } => {
                self.granted.retain(|slot| slot.task_manager != *id);
                self.held.retain(|_, (_, number)| task_manager(*number) != *id);
            }
            FromResourceManager::Waiting(_) => {}
        }
        self.deliver(JobMasterEvent::ResourceManager(message));
    }

    /// The ResourceManager gives all that is lacking, if it is there.
    fn give_slots(&mut self) {
        let missing = (self.declared as usize).saturating_sub(self.given.len());
        let all = (0..TASK_MANAGERS)
            .flat_map(|number| (0..SLOTS).map(move |index| SlotId { task_manager: task_manager(number), index }));
        let free: Vec<SlotId> = all.filter(|slot| !self.given.contains(slot)).take(missing).collect();
        if missing > 0 && free.len() == missing {
            self.given.extend(free.iter().cloned());
            let grants = free.into_iter().map(|slot| SlotGrant { slot, host: "host".to_owned() });
            self.resources.push_back(FromResourceManager::SlotsGranted(grants.collect()));
        }
    }

    fn work_task_manager(&mut self, number: u32, which: u8) {
        let (bad, broken) = (self.strikes(which.is_multiple_of(7)), self.strikes(which.is_multiple_of(13)));
        let data = &mut self.task_managers[number as usize];
        let Some(message) = data.inbox.pop_front() else { return };
        let of = message.deployment().number;
        match message {
            ToTaskManager::StartWorker(_) if broken => {
                data.outbox.push_back(ended(of));
            }
            ToTaskManager::StartWorker(_) => {
                let stubborn = which.is_multiple_of(11);
                data.workers.insert(of, Worker { stubborn, ..Worker::default() });
                data.outbox.push_back(FromTaskManager::WorkerReady {
                    deployment: deployment(of),
                    data_address: address(of, number),
                    pid: 1,
                });
            }
            ToTaskManager::Deploy { plan, worker, restore } => {
                if let Some(data) = data.workers.get_mut(&of) {
                    data.tasks =
                        plan.placement.tasks_of(worker).map(|task| (task, ExecutionState::Deploying)).collect();
                    data.counts = restore.iter().map(|(task, snapshot)| (*task, restored(snapshot))).collect();
                    self.restores += u32::from(!restore.is_empty());
                }
            }
            ToTaskManager::TriggerCheckpoint { trigger, .. } => data.snapshot(of, trigger.checkpoint, bad),
            ToTaskManager::CancelTasks { tasks, .. } => data.cancel(of, &tasks),
            ToTaskManager::ReleaseWorker { .. } => {
                if let Some(worker) = data.workers.remove(&of) {
                    assert!(worker.tasks.values().all(|state| state.is_terminal()), "released with running tasks");
                }
            }
            ToTaskManager::KillWorker { .. } => {
                if data.workers.remove(&of).is_some() {
                    data.outbox.push_back(ended(of));
                }
            }
            ToTaskManager::SplitAnswer { .. }
            | ToTaskManager::CheckpointCompleted { .. }
            | ToTaskManager::CheckpointAborted { .. } => {}
        }
    }

    /// A task moves on, fails, or asks for a split.
    fn work_task(&mut self, number: u32, which: u8) {
        use ExecutionState::*;
        let (faults, fails) = (self.faults, self.strikes(which.is_multiple_of(17)));
        let data = &mut self.task_managers[number as usize];
        let running: Vec<(u32, TaskId, ExecutionState)> = data
            .workers
            .iter()
            .flat_map(|(of, worker)| worker.tasks.iter().map(|(task, state)| (*of, *task, *state)))
            .filter(|(_, _, state)| !state.is_terminal() && *state != Canceling)
            .collect();
        if running.is_empty() {
            return;
        }
        let (of, task, state) = running[usize::from(which) / 3 % running.len()];
        let next = match state {
            _ if fails => Failed,
            Running if which.is_multiple_of(23) && (self.rarity == 1 || which == 0) => Finished,
            Deploying => Initializing,
            _ if task.vertex == 0 && faults && which.is_multiple_of(4) => {
                data.outbox.push_back(FromTaskManager::SplitRequested { deployment: deployment(of), task });
                return;
            }
            Initializing => Running,
            _ if faults => return data.process(of, task),
            _ => Finished,
        };
        let total = data.report(of, task, next);
        if let (Finished, Some(total)) = (next, total) {
            self.totals.insert(task, total);
        }
    }

    fn work_coordinator(&mut self, which: u8) {
        let Some(message) = self.coordinator_inbox.pop_front() else { return };
        if let ToCoordinator::Restart = message {
            self.coordinator_lives = true;
            self.coordinator_outbox.push_back(FromCoordinator::Started);
            return;
        }
        if !self.coordinator_lives {
            return;
        }
        if let ToCoordinator::Kill = message {
            self.coordinator_lives = false;
            self.coordinator_outbox.push_back(FromCoordinator::Lost { reason: "killed".to_owned() });
            return;
        }
        let bad = self.strikes(which.is_multiple_of(19));
        let result = if bad { Err("no".to_owned()) } else { Ok(()) };
        let answer = match message {
            ToCoordinator::Open { restored, .. } => {
                self.show(restored.map(|restored| restored.committables).unwrap_or_default());
                FromCoordinator::Opened(result)
            }
            ToCoordinator::SplitRequest { task } => split(task),
            ToCoordinator::ResetTasks { restored, .. } => {
                self.show(restored.map(|restored| restored.committables).unwrap_or_default());
                FromCoordinator::TasksReset(result)
            }
            ToCoordinator::SnapshotEnumerators { checkpoint } => {
                let result = result.map(|()| vec![(0, vec![checkpoint as u8])]);
                FromCoordinator::EnumeratorsSnapshotted { checkpoint, result }
            }
            ToCoordinator::CheckpointCompleted { .. } => return,
            ToCoordinator::Commit { checkpoint, committables } => {
                // What fails may have been done in part.
                let done = if bad { committables.len() / 2 } else { committables.len() };
                self.show(committables[..done].to_vec());
                FromCoordinator::CommitDone { checkpoint, result }
            }
            ToCoordinator::SetParallelism(_)
            | ToCoordinator::Discard
            | ToCoordinator::Shutdown
            | ToCoordinator::Kill
            | ToCoordinator::Restart => return,
        };
        self.coordinator_outbox.push_back(answer);
    }

    fn show(&mut self, committables: Vec<Committable>) {
        for Committable { node, payload } in committables {
            let [subtask, from, to] = [0, 8, 16].map(|at| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap()));
            self.visible.insert((TaskId { vertex: node, subtask: subtask as u32 }, from, to));
        }
    }

    /// All that was processed is visible, and once.
    fn check_visible(&self) {
        for (&task, &total) in &self.totals {
            let mut until = 0;
            for &(_, from, to) in self.visible.range((task, 0, 0)..=(task, u64::MAX, u64::MAX)) {
                assert_eq!(from, until, "{task:?}: {:?}", self.visible);
                until = to;
            }
            assert_eq!(until, total, "{task:?}: {:?}", self.visible);
        }
    }

    fn deliver_from_coordinator(&mut self) {
        if let Some(message) = self.coordinator_outbox.pop_front() {
            self.deliver(JobMasterEvent::Coordinator(message));
        }
    }

    fn lose_coordinator(&mut self) {
        if std::mem::take(&mut self.coordinator_lives) {
            self.coordinator_inbox.clear();
            self.coordinator_outbox.push_back(FromCoordinator::Lost { reason: "killed".to_owned() });
        }
    }

    fn ring(&mut self) {
        if let Some((at, id)) = self.timers.pop_first() {
            self.now = self.now.max(at);
            self.deliver(JobMasterEvent::Timer { id });
        }
    }

    fn end_worker(&mut self, number: u32, which: u8) {
        let data = &mut self.task_managers[number as usize];
        let of = data.workers.keys().nth(usize::from(which) % data.workers.len().max(1)).copied();
        if let Some(of) = of {
            data.workers.remove(&of);
            data.outbox.push_back(ended(of));
        }
    }

    /// It is gone with all it ran, and comes back empty under the same name. What it has sent may still arrive.
    fn lose_task_manager(&mut self, number: u32) {
        let data = &mut self.task_managers[number as usize];
        data.workers.clear();
        data.inbox.clear();
        let id = task_manager(number);
        self.given.retain(|slot| slot.task_manager != id);
        self.resources.push_back(FromResourceManager::TaskManagerLost { id, reason: "gone".to_owned() });
    }
}

/// What a coordinator says is not repeated: it sits at the other end of a socket, and an answer means what was asked first.
fn may_come_twice(event: &JobMasterEvent) -> bool {
    match event {
        JobMasterEvent::Start | JobMasterEvent::Timer { .. } => true,
        JobMasterEvent::TaskManager { .. } => true,
        JobMasterEvent::MetadataWritten { .. } | JobMasterEvent::Removed { .. } => true,
        JobMasterEvent::Coordinator(_)
        | JobMasterEvent::ResourceManager(_)
        | JobMasterEvent::TriggerCheckpoint { .. }
        | JobMasterEvent::TriggerSavepoint { .. }
        | JobMasterEvent::CancelRequested => false,
    }
}

impl TaskManager {
    fn cancel(&mut self, of: u32, tasks: &[TaskId]) {
        let Some(worker) = self.workers.get_mut(&of) else { return };
        let wanted = |task: &TaskId| tasks.is_empty() || tasks.contains(task);
        let running: Vec<TaskId> = worker
            .tasks
            .iter()
            .filter(|(task, state)| !state.is_terminal() && wanted(task))
            .map(|(task, _)| *task)
            .collect();
        for task in running {
            let Some(worker) = self.workers.get_mut(&of) else { return };
            if worker.stubborn {
                worker.tasks.insert(task, ExecutionState::Canceling);
            } else {
                self.report(of, task, ExecutionState::Canceled);
            }
        }
    }

    /// A task enters a state; how much it has processed, unless it had finished before.
    fn report(&mut self, of: u32, task: TaskId, state: ExecutionState) -> Option<u64> {
        let worker = self.workers.get_mut(&of)?;
        worker.tasks.insert(task, state);
        let count = worker.counts.entry(task).or_default();
        let committables = if state == ExecutionState::Finished { count.hand_over(task) } else { Vec::new() };
        let failure = (state == ExecutionState::Failed).then(|| TaskFailure::new(FailureKind::Panic, "boom"));
        let changes = vec![TaskChange { task, state, failure, committables }];
        self.outbox.push_back(FromTaskManager::TasksChanged { deployment: deployment(of), changes });
        (!count.finished).then_some(count.processed)
    }

    /// A task works, unless it had finished before.
    fn process(&mut self, of: u32, task: TaskId) {
        let count = self.workers.get_mut(&of).map(|worker| worker.counts.entry(task).or_default());
        if let Some(count) = count.filter(|count| !count.finished) {
            count.processed += 1;
        }
    }

    /// The running tasks of a worker take part in a checkpoint, or do not.
    fn snapshot(&mut self, of: u32, checkpoint: u64, bad: bool) {
        let Some(worker) = self.workers.get_mut(&of) else { return };
        let deployment = deployment(of);
        for (&task, _) in worker.tasks.iter().filter(|(_, state)| **state == ExecutionState::Running) {
            let count = worker.counts.entry(task).or_default();
            // It may be triggered again for others that begin it.
            if checkpoint <= std::mem::replace(&mut count.checkpoint, checkpoint) {
                continue;
            }
            let committables = count.hand_over(task);
            self.outbox.push_back(if bad {
                let (cause, reason) = (DeclineCause::Failed, "disk full".to_owned());
                let decline = Box::new(CheckpointDecline { checkpoint, task, cause, reason, committables });
                FromTaskManager::CheckpointDeclined { deployment, decline }
            } else {
                let (snapshot, metrics) = (count.snapshot(task), SnapshotMetrics::default());
                let acknowledgement =
                    Box::new(CheckpointAcknowledgement { checkpoint, task, snapshot, committables, metrics });
                FromTaskManager::CheckpointAcknowledged { deployment, acknowledgement }
            });
        }
    }
}

impl Count {
    fn hand_over(&mut self, task: TaskId) -> Vec<Committable> {
        let from = std::mem::replace(&mut self.handed, self.processed);
        let payload = [u64::from(task.subtask), from, self.processed].map(u64::to_le_bytes).concat();
        if from < self.processed { vec![Committable { node: task.vertex, payload }] } else { Vec::new() }
    }

    fn snapshot(&self, task: TaskId) -> Vec<u8> {
        let list = ListSnapshot {
            name: "count".to_owned(),
            schema: Schema::Unsigned(64),
            redistribution: Redistribution::Split,
            lengths: vec![8],
            location: Location::Inline(self.processed.to_le_bytes().to_vec()),
            items: 0..1,
        };
        let operator = weir_model::OperatorId::from_seed(format!("V{}.0", task.vertex).as_bytes());
        let operators = vec![OperatorSnapshot { operator, tables: Vec::new(), lists: vec![list] }];
        TaskSnapshot { operators, finished: self.finished }.encode()
    }
}

/// What a task begins with.
fn restored(snapshot: &[u8]) -> Count {
    let snapshot = TaskSnapshot::decode(snapshot).unwrap();
    let list = snapshot.operators.iter().flat_map(|operator| &operator.lists).next();
    let processed = list.map_or(0, |list| match &list.location {
        Location::Inline(bytes) => u64::from_le_bytes(bytes[..].try_into().unwrap()),
        Location::File(_) | Location::Sorted => unreachable!("nothing is written to files"),
    });
    Count { processed, handed: processed, checkpoint: 0, finished: snapshot.finished }
}

/// A job with checkpoints every two seconds.
fn checkpointed(graph: weir_model::JobGraph) -> crate::JobSpec {
    let checkpointing = CheckpointOptions {
        interval: Some(Duration::from_secs(2)),
        timeout: Duration::from_secs(20),
        directory: Some("file:///checkpoints".to_owned()),
        tolerable_failures: Some(2),
        ..CheckpointOptions::default()
    };
    crate::JobSpec { checkpointing, ..spec(graph) }
}

fn ended(of: u32) -> FromTaskManager {
    FromTaskManager::WorkerEnded { deployment: deployment(of), reason: "exit code 3".to_owned() }
}
