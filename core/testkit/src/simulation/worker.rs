//! A model of worker processes and the tasks in them.
//!
//! Sources ask for splits and work on each for a while; other tasks finish after all that feed them. What a task has worked on
//! travels in its committables, with a checkpoint or at its end, so that the coordinator can tell whether everything was worked on once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use weir_checkpoint::TaskSnapshot;
use weir_model::{
    CheckpointAcknowledgement, CheckpointDecline, Committable, DeclineCause, DeploymentId, ExecutionState, FailureKind,
    JobGraph, OperatorKind, Placement, SnapshotMetrics, StartWorker, TaskChange, TaskFailure, TaskId,
};
use weir_proto::worker::Deploy;
use weir_taskmanager::state::{Greeting, WorkerEnd, WorkerEvent, WorkerKey, WorkerMessage};

use super::{ForTm, Happening, World, coordinator, short};

/// A worker process.
pub(crate) struct WorkerProcess {
    pub(crate) start: StartWorker,
    /// Whether it was told to leave or killed: its slots may be given to others.
    pub(crate) leaving: bool,
    /// Whether it is dead; its TaskManager has not heard of it.
    dead: bool,
    tasks: BTreeMap<TaskId, Task>,
    /// What its tasks will begin with.
    restored: BTreeMap<TaskId, TaskSnapshot>,
    /// When the last thing it said arrives at its TaskManager.
    last: Duration,
}

#[derive(Debug)]
struct Task {
    state: ExecutionState,
    stubborn: bool,
    /// What it has worked on and not handed over.
    splits: Vec<u32>,
    /// The last checkpoint it took part in.
    checkpoint: u64,
    /// The checkpoint it was triggered for and has not said anything about.
    owes: Option<u64>,
    /// Whether it had finished before it was restored.
    had_finished: bool,
}

impl Task {
    /// What it has worked on, to be made visible.
    fn hand_over(&mut self, deployment: DeploymentId, task: TaskId) -> Vec<Committable> {
        if self.splits.is_empty() {
            return Vec::new();
        }
        let numbers = [deployment.number, task.vertex, task.subtask].into_iter().chain(self.splits.drain(..));
        let payload = numbers.flat_map(u32::to_le_bytes).collect();
        vec![Committable { node: task.vertex, payload }]
    }
}

/// The tasks of a deployment, over all its workers.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Where each runs: TaskManager, its life, worker.
    places: BTreeMap<TaskId, (usize, u32, WorkerKey)>,
    finished: BTreeSet<TaskId>,
    /// The job with as many subtasks as the deployment has.
    graph: Option<Arc<JobGraph>>,
}

/// What happens in a worker process by itself.
#[derive(Debug)]
pub(crate) enum WorkerStep {
    Greet,
    Run(TaskId),
    AskForSplit(TaskId),
    Finish(TaskId),
    Fail(TaskId, FailureKind),
    StopTask(TaskId),
    /// The process ends.
    Exit(&'static str),
}

impl World {
    pub(crate) fn start_worker(&mut self, index: usize, worker: WorkerKey, start: StartWorker) {
        let process = &self.task_managers[index];
        let id = process.id.clone();
        let others = process.workers.values().filter(|other| !other.leaving && !other.dead);
        let mut others = others.filter(|other| other.start.deployment.job != start.deployment.job);
        let clash = others.find(|other| other.start.slots.iter().any(|slot| start.slots.contains(slot)));
        let clash = clash.map(|other| other.start.deployment);
        self.check(clash.is_none(), || {
            format!("workers of {} and {clash:?} are in the same slot of {id}", start.deployment)
        });
        self.log(|_| format!("{id}: worker of {} in slots {:?}", start.deployment, start.slots));
        let worker_process = WorkerProcess {
            start,
            leaving: false,
            dead: false,
            tasks: BTreeMap::new(),
            restored: BTreeMap::new(),
            last: self.now,
        };
        self.task_managers[index].workers.insert(worker, worker_process);
        if !self.calm && self.random.chance(self.scenario.broken_workers) {
            let step = WorkerStep::Exit("exited with code 127");
            let delay = self.random.millis(1, 30_000);
            self.worker_after(index, worker, delay, step);
        }
        let slow = !self.calm && self.random.chance(5);
        let delay = if slow { self.random.millis(50_000, 90_000) } else { self.random.millis(5, 300) };
        self.worker_after(index, worker, delay, WorkerStep::Greet);
    }

    fn worker_after(&mut self, index: usize, worker: WorkerKey, delay: Duration, step: WorkerStep) {
        let life = self.task_managers[index].life;
        self.after(delay, Happening::Worker { index, life, worker, step });
    }

    /// A worker says something to its TaskManager.
    fn report(&mut self, index: usize, worker: WorkerKey, event: WorkerEvent) {
        let delay = self.random.millis(0, 2);
        let Some(process) = self.task_managers[index].workers.get_mut(&worker) else { return };
        let at = (self.now + delay).max(process.last + Duration::from_nanos(1));
        process.last = at;
        let life = self.task_managers[index].life;
        self.at(at, Happening::TaskManager { index, life, what: ForTm::Worker { worker, event } });
    }

    fn report_change(&mut self, index: usize, worker: WorkerKey, task: TaskId, state: ExecutionState) {
        let change = TaskChange { task, state, failure: None, committables: Vec::new() };
        self.report(index, worker, WorkerEvent::TasksChanged(vec![change]));
    }

    pub(crate) fn tell_worker(&mut self, index: usize, worker: WorkerKey, message: WorkerMessage) {
        let Some(process) = self.task_managers[index].workers.get_mut(&worker) else { return };
        if process.dead {
            return;
        }
        match message {
            WorkerMessage::Restore(tasks) => {
                for (task, snapshot) in tasks {
                    match TaskSnapshot::decode(&snapshot) {
                        Ok(snapshot) => drop(process.restored.insert(task, snapshot)),
                        Err(error) => {
                            return self.check(false, || format!("{task:?} cannot be restored: {error}"));
                        }
                    }
                }
            }
            WorkerMessage::TriggerCheckpoint(trigger, _) => self.take_part(index, worker, trigger.checkpoint),
            WorkerMessage::CheckpointCompleted(checkpoint) | WorkerMessage::CheckpointAborted(checkpoint) => {
                for task in process.tasks.values_mut() {
                    task.owes = task.owes.filter(|owes| *owes > checkpoint);
                }
            }
            WorkerMessage::Deploy(plan) => match Deploy::decode(plan) {
                Ok(plan) => self.deploy(index, worker, &plan),
                Err(error) => self.check(false, || format!("a plan cannot be decoded: {error}")),
            },
            WorkerMessage::SplitAnswer(answer) => self.on_split_answer(index, worker, &answer),
            WorkerMessage::Cancel(tasks) => self.on_cancel_tasks(index, worker, &tasks),
            WorkerMessage::Shutdown => {
                process.leaving = true;
                let delay =
                    if self.random.chance(20) { self.random.millis(5_000, 20_000) } else { self.random.millis(0, 200) };
                self.worker_after(index, worker, delay, WorkerStep::Exit("exited with code 0"));
            }
        }
    }

    /// The job with as many subtasks as the deployment has, once something of it was deployed.
    fn graph_of(&self, deployment: DeploymentId) -> Arc<JobGraph> {
        let deployed = self.flows.get(&deployment).and_then(|flow| flow.graph.clone());
        deployed.unwrap_or_else(|| self.job_scenario(deployment.job).graph.clone())
    }

    fn deploy(&mut self, index: usize, worker: WorkerKey, plan: &Deploy) {
        let Some(process) = self.task_managers[index].workers.get(&worker) else { return };
        let (deployment, number) = (process.start.deployment, process.start.worker);
        self.check(plan.deployment == deployment.number, || {
            format!("{deployment} got the plan of {}", plan.deployment)
        });
        let graph = self.graph_of(deployment);
        let placed = graph.vertices.iter().zip(&plan.placements).map(|(vertex, at)| at.workers(vertex.max_parallelism));
        let placement = match placed.collect::<Result<Vec<_>, _>>() {
            Ok(placed) => Placement::new(plan.peers.len() as u32, placed),
            Err(error) => return self.check(false, || format!("the plan of {deployment} is wrong: {error}")),
        };
        let graph = Arc::new(graph.at_parallelism(&placement.parallelism()));
        self.check(graph.validate().is_ok(), || format!("{deployment} has an impossible parallelism: {graph:?}"));
        self.flows.entry(deployment).or_default().graph = Some(graph);
        let tasks: Vec<TaskId> = placement.tasks_of(number).collect();
        self.log(|world| {
            let names: Vec<_> = tasks.iter().map(|task| short(*task)).collect();
            format!("{}: {deployment} runs {}", world.task_managers[index].id, names.join(" "))
        });
        self.start_tasks(index, worker, deployment, &tasks);
    }

    fn start_tasks(&mut self, index: usize, worker: WorkerKey, deployment: DeploymentId, tasks: &[TaskId]) {
        let job = self.job_scenario(deployment.job).clone();
        let life = self.task_managers[index].life;
        let mut changes = Vec::new();
        for &task in tasks {
            let stubborn = self.random.chance(job.stubborn) && job.options.cancellation_timeout.is_some();
            let state = ExecutionState::Initializing;
            changes.push(TaskChange { task, state, failure: None, committables: Vec::new() });
            if let Some(process) = self.task_managers[index].workers.get_mut(&worker) {
                let had_finished = process.restored.get(&task).is_some_and(|snapshot| snapshot.finished);
                let splits = Vec::new();
                process.tasks.insert(task, Task { state, stubborn, splits, checkpoint: 0, owes: None, had_finished });
            }
            self.flows.entry(deployment).or_default().places.insert(task, (index, life, worker));
            let delay = self.random.millis(1, 100);
            self.worker_after(index, worker, delay, WorkerStep::Run(task));
            if !self.calm && self.random.chance(job.failing) {
                let delay = self.random.millis(0, 20_000);
                self.worker_after(index, worker, delay, WorkerStep::Fail(task, FailureKind::Panic));
            }
        }
        self.report(index, worker, WorkerEvent::TasksChanged(changes));
    }

    /// The task, if it has not ended.
    fn living_task(&mut self, index: usize, worker: WorkerKey, task: TaskId) -> Option<&mut Task> {
        let process = self.task_managers[index].workers.get_mut(&worker).filter(|process| !process.dead)?;
        process.tasks.get_mut(&task).filter(|task| !task.state.is_terminal())
    }

    pub(crate) fn happen_in_worker(&mut self, index: usize, life: u32, worker: WorkerKey, step: WorkerStep) {
        let process = &self.task_managers[index];
        if process.life != life || process.workers.get(&worker).is_none_or(|process| process.dead) {
            return;
        }
        match step {
            WorkerStep::Greet => self.greet(index, worker),
            WorkerStep::Run(task) => self.run_task(index, worker, task),
            WorkerStep::AskForSplit(task) => {
                if self.living_task(index, worker, task).is_some() {
                    self.report(index, worker, WorkerEvent::SplitRequested(task));
                }
            }
            WorkerStep::Finish(task) => self.finish_task(index, worker, task),
            WorkerStep::Fail(task, kind) => {
                if let Some(found) = self.living_task(index, worker, task) {
                    found.state = ExecutionState::Failed;
                    let failure = Some(TaskFailure::new(kind, "simulated"));
                    let state = ExecutionState::Failed;
                    let change = TaskChange { task, state, failure, committables: Vec::new() };
                    self.report(index, worker, WorkerEvent::TasksChanged(vec![change]));
                }
            }
            WorkerStep::StopTask(task) => {
                if let Some(found) = self.living_task(index, worker, task) {
                    found.state = ExecutionState::Canceled;
                    self.report_change(index, worker, task, ExecutionState::Canceled);
                }
            }
            WorkerStep::Exit(how) => self.kill_worker(index, worker, how),
        }
    }

    fn greet(&mut self, index: usize, worker: WorkerKey) {
        let start = &self.task_managers[index].workers[&worker].start;
        let greeting = Greeting {
            protocol_version: weir_proto::worker::PROTOCOL_VERSION,
            job_graph_hash: start.job_graph_hash,
            data_address: format!("127.0.0.1:{}", 1024 + index * 16 + worker.0 as usize % 16),
            pid: 2,
            vertices: Vec::new(),
        };
        self.report(index, worker, WorkerEvent::Greeted(greeting));
    }

    fn run_task(&mut self, index: usize, worker: WorkerKey, task: TaskId) {
        let Some(found) = self.living_task(index, worker, task) else { return };
        found.state = ExecutionState::Running;
        let had_finished = found.had_finished;
        self.report_change(index, worker, task, ExecutionState::Running);
        let deployment = self.task_managers[index].workers[&worker].start.deployment;
        if is_source(&self.graph_of(deployment), task.vertex) {
            let step = if had_finished { WorkerStep::Finish(task) } else { WorkerStep::AskForSplit(task) };
            self.worker_after(index, worker, Duration::ZERO, step);
        } else {
            self.finish_if_fed(deployment, task);
        }
    }

    /// The running tasks of a worker take part in a checkpoint: at once, so that what they were given before it is in it, and nothing else.
    fn take_part(&mut self, index: usize, worker: WorkerKey, checkpoint: u64) {
        let Some(process) = self.task_managers[index].workers.get(&worker) else { return };
        let deployment = process.start.deployment;
        let running = process.tasks.iter().filter(|(_, task)| task.state == ExecutionState::Running);
        for task in running.map(|(task, _)| *task).collect::<Vec<_>>() {
            let luck = if self.calm { 1000 } else { self.random.below(1000) };
            let Some(found) = self.living_task(index, worker, task).filter(|found| found.checkpoint < checkpoint)
            else {
                // It was triggered before.
                continue;
            };
            found.checkpoint = checkpoint;
            if luck < 10 {
                // It says nothing, and does nothing else before somebody gives the checkpoint up.
                found.owes = Some(checkpoint);
                continue;
            }
            let committables = found.hand_over(deployment, task);
            let event = if luck < 20 {
                let (cause, reason) = (DeclineCause::Failed, "no space left on device".to_owned());
                let decline = CheckpointDecline { checkpoint, task, cause, reason, committables };
                WorkerEvent::CheckpointDeclined(Box::new(decline))
            } else {
                let snapshot = TaskSnapshot { operators: Vec::new(), finished: found.had_finished }.encode();
                let metrics = SnapshotMetrics::default();
                let said = CheckpointAcknowledgement { checkpoint, task, snapshot, committables, metrics };
                WorkerEvent::CheckpointAcknowledged(Box::new(said))
            };
            self.report(index, worker, event);
        }
    }

    fn on_split_answer(&mut self, index: usize, worker: WorkerKey, answer: &[u8]) {
        let Some((task, answer)) = coordinator::decode(answer) else {
            return self.check(false, || format!("the answer {answer:?} is not what a coordinator sent"));
        };
        let job = self.task_managers[index].workers[&worker].start.deployment.job;
        let longest = self.job_scenario(job).longest_split;
        let Some(found) = self.living_task(index, worker, task) else { return };
        let (delay, step) = match answer {
            coordinator::SplitAnswer::Split(split) => {
                found.splits.push(split);
                (self.random.millis(10, longest), WorkerStep::AskForSplit(task))
            }
            coordinator::SplitAnswer::NoneYet => (self.random.millis(500, 5_000), WorkerStep::AskForSplit(task)),
            coordinator::SplitAnswer::Finished => (self.random.millis(0, 100), WorkerStep::Finish(task)),
        };
        self.worker_after(index, worker, delay, step);
    }

    fn finish_task(&mut self, index: usize, worker: WorkerKey, task: TaskId) {
        let deployment = self.task_managers[index].workers[&worker].start.deployment;
        let Some(found) = self.living_task(index, worker, task) else { return };
        if found.owes.is_some() {
            // As a real task does: it hears of triggers and splits in the order in which they were sent, takes its snapshot before it reads
            // what was given to it later, and waits at its end until the snapshot is acknowledged or declined. One that finishes without
            // having looked at a trigger got no split behind it, because "there are no more" was the last it heard. Here, what it
            // did after the trigger would count as done before.
            return self.worker_after(index, worker, Duration::from_secs(1), WorkerStep::Finish(task));
        }
        found.state = ExecutionState::Finished;
        let committables = found.hand_over(deployment, task);
        let change = TaskChange { task, state: ExecutionState::Finished, failure: None, committables };
        self.report(index, worker, WorkerEvent::TasksChanged(vec![change]));
        let flow = self.flows.entry(deployment).or_default();
        flow.finished.insert(task);
        let graph = self.graph_of(deployment);
        for edge in graph.out_edges(task.vertex) {
            let (producers, consumers) = (parallelism(&graph, edge.source), parallelism(&graph, edge.target));
            for subtask in edge.partitioner.pattern().consumers(task.subtask, producers, consumers) {
                self.finish_if_fed(deployment, TaskId { vertex: edge.target, subtask });
            }
        }
    }

    /// A task finishes when it runs and all that feed it have finished.
    fn finish_if_fed(&mut self, deployment: DeploymentId, task: TaskId) {
        let graph = self.graph_of(deployment);
        let Some(flow) = self.flows.get(&deployment) else { return };
        for edge in graph.in_edges(task.vertex) {
            let (producers, consumers) = (parallelism(&graph, edge.source), parallelism(&graph, edge.target));
            let mut feeding = edge.partitioner.pattern().producers(task.subtask, producers, consumers);
            if !feeding.all(|subtask| flow.finished.contains(&TaskId { vertex: edge.source, subtask })) {
                return;
            }
        }
        let Some(&(index, life, worker)) = flow.places.get(&task) else { return };
        let running = self.task_managers[index].life == life
            && self.living_task(index, worker, task).is_some_and(|task| task.state == ExecutionState::Running);
        if running {
            let delay = self.random.millis(0, 500);
            self.worker_after(index, worker, delay, WorkerStep::Finish(task));
        }
    }

    fn on_cancel_tasks(&mut self, index: usize, worker: WorkerKey, tasks: &[TaskId]) {
        let Some(process) = self.task_managers[index].workers.get(&worker) else { return };
        let wanted = |task: &TaskId| tasks.is_empty() || tasks.contains(task);
        let stopping: Vec<_> = process
            .tasks
            .iter()
            .filter(|(task, found)| wanted(task) && !found.state.is_terminal() && !found.stubborn)
            .map(|(task, _)| *task)
            .collect();
        for task in stopping {
            let delay = self.random.millis(0, 500);
            self.worker_after(index, worker, delay, WorkerStep::StopTask(task));
        }
    }

    /// The process ends, with everything in it. Tasks that are connected with those in it may notice.
    pub(crate) fn kill_worker(&mut self, index: usize, worker: WorkerKey, how: &str) {
        let Some(process) = self.task_managers[index].workers.get_mut(&worker) else { return };
        process.leaving = true;
        if std::mem::replace(&mut process.dead, true) {
            return;
        }
        let deployment = process.start.deployment;
        let unfinished = process.tasks.values().any(|task| !task.state.is_terminal());
        self.log(|world| format!("{}: the worker of {deployment} {how}", world.task_managers[index].id));
        let end = WorkerEnd { how: how.to_owned(), started: true, last_lines: Vec::new() };
        self.report(index, worker, WorkerEvent::Ended(end));
        if unfinished {
            self.disturb_peers(deployment, (index, worker));
        }
    }

    /// Tasks lose their connections to a worker that died; most notice.
    fn disturb_peers(&mut self, deployment: DeploymentId, died: (usize, WorkerKey)) {
        let Some(flow) = self.flows.get(&deployment) else { return };
        let peers: Vec<_> = flow
            .places
            .iter()
            .filter(|(_, (index, _, worker))| (*index, *worker) != died)
            .map(|(task, place)| (*task, *place))
            .collect();
        for (task, (index, life, worker)) in peers {
            if self.task_managers[index].life == life && self.random.chance(700) {
                let delay = self.random.millis(0, 1000);
                self.worker_after(index, worker, delay, WorkerStep::Fail(task, FailureKind::Network));
            }
        }
    }

    /// Forgets a process whose end its TaskManager knows.
    pub(crate) fn reap(&mut self, index: usize) {
        let now = self.now;
        self.task_managers[index].workers.retain(|_, worker| !worker.dead || worker.last > now);
    }
}

pub(crate) fn is_source(graph: &JobGraph, vertex: u32) -> bool {
    let operators = &graph.vertices[vertex as usize].operators;
    operators.iter().any(|operator| matches!(operator.kind, OperatorKind::Source { .. }))
}

fn parallelism(graph: &JobGraph, vertex: u32) -> u32 {
    graph.vertices[vertex as usize].parallelism
}
