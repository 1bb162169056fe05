//! The workers: from the order to start one to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_metrics::{TaskSample, rates_between};
use weir_model::{
    DeploymentId, FromTaskManager, MetricsSnapshot, StartWorker, TaskChange, TaskId, TaskRates, VertexLabel,
};
use weir_proto::MAX_FRAME_BYTES;
use weir_proto::worker::PROTOCOL_VERSION;

use super::connection::Connection;
use super::{Effect, Greeting, Measurement, TaskManagerState, WorkerEnd, WorkerEvent, WorkerKey, WorkerMessage};

/// A worker process, or the attempt to start one.
#[derive(Debug)]
pub(super) struct WorkerState {
    pub(super) start: Box<StartWorker>,
    pub(super) phase: Phase,
    /// The graph's vertices by position; empty before it is ready.
    vertices: Vec<Arc<VertexLabel>>,
    /// What its tasks last reported.
    metrics: BTreeMap<TaskId, TaskReport>,
    /// Whether some of it was not passed on.
    pub(super) unreported: bool,
    /// Since when it is stopped by a signal.
    stopped: Option<Duration>,
}

/// What a task last reported.
#[derive(Debug)]
struct TaskReport {
    metrics: MetricsSnapshot,
    rates: TaskRates,
    at: Duration,
    /// Whether the task still runs.
    running: bool,
}

/// How far a worker is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its artifact is fetched, or its process is building the job.
    Starting { deadline: Duration },
    /// It waits for its tasks.
    Ready,
    /// It runs tasks.
    Deployed,
    /// It was told to leave.
    Releasing { deadline: Duration },
    /// It was killed and is about to be gone. The reason is reported then; without one nobody wants to know.
    Killed { reason: Option<String> },
}

impl WorkerState {
    /// Whether its slots are taken. Those of a worker that was given up may be given away while it dies.
    pub(super) fn holds_slots(&self) -> bool {
        match self.phase {
            Phase::Starting { .. } | Phase::Ready | Phase::Deployed => true,
            Phase::Releasing { .. } | Phase::Killed { .. } => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Starting { deadline } | Phase::Releasing { deadline } => Some(deadline),
            Phase::Ready | Phase::Deployed | Phase::Killed { .. } => None,
        }
    }

    /// Metrics of the tasks that run.
    pub(super) fn samples(&self) -> impl Iterator<Item = TaskSample> + '_ {
        let deployment = self.start.deployment;
        self.metrics.iter().filter(|(_, report)| report.running).filter_map(move |(task, report)| {
            Some(TaskSample {
                job: deployment.job,
                job_name: self.start.launch.job_name.clone(),
                vertex: self.vertices.get(task.vertex as usize)?.clone(),
                subtask: task.subtask,
                attempt: deployment.number,
                metrics: report.metrics.clone(),
                rates: report.rates,
            })
        })
    }

    fn take_report(&mut self, task: TaskId, metrics: MetricsSnapshot, now: Duration) {
        let before = self.metrics.get(&task);
        let rates = before.and_then(|b| rates_between(&b.metrics, &metrics, now.saturating_sub(b.at)));
        let rates = rates.or(before.map(|before| before.rates)).unwrap_or_default();
        let running = before.is_none_or(|before| before.running);
        self.metrics.insert(task, TaskReport { metrics, rates, at: now, running });
    }

    fn name(&self) -> String {
        format!("worker {}", self.start.worker)
    }
}

impl TaskManagerState {
    fn find(&mut self, deployment: DeploymentId) -> Option<(WorkerKey, &mut WorkerState)> {
        // The newest: one of the same name that is dying is not meant.
        let mut matching = self.workers.iter_mut().rev().filter(|(_, w)| w.start.deployment == deployment);
        matching.next().map(|(key, worker)| (*key, worker))
    }

    pub(super) fn on_start_worker(&mut self, start: StartWorker, now: Duration) {
        let deployment = start.deployment;
        if self.find(deployment).is_some_and(|(_, worker)| worker.holds_slots()) {
            tracing::warn!(job_id = %deployment.job, deployment = deployment.number, "a worker of it is started already");
            return;
        }
        if let Some(reason) = self.slot_problem(&start) {
            tracing::warn!(job_id = %deployment.job, deployment = deployment.number, reason, "no worker is started");
            return self.report(FromTaskManager::WorkerEnded { deployment, reason });
        }
        self.started_workers += 1;
        let key = WorkerKey(self.started_workers);
        let deadline = now + Duration::from_millis(start.start_timeout_millis);
        self.workers.insert(
            key,
            WorkerState {
                start: Box::new(start.clone()),
                phase: Phase::Starting { deadline },
                vertices: Vec::new(),
                metrics: BTreeMap::new(),
                unreported: false,
                stopped: None,
            },
        );
        self.effects.push(Effect::StartWorker { worker: key, start });
    }

    fn slot_problem(&self, start: &StartWorker) -> Option<String> {
        let (job, slots) = (start.deployment.job, self.options.info.slots);
        let id = &self.options.info.id;
        if let Some(slot) = start.slots.iter().find(|slot| **slot >= slots) {
            return Some(format!(
                "TaskManager {id} has no slot {slot}: its slots are 0 to {}",
                slots.saturating_sub(1)
            ));
        }
        let mut others = self.workers.values().filter(|w| w.holds_slots() && w.start.deployment.job != job);
        others.find_map(|other| {
            let slot = other.start.slots.iter().find(|slot| start.slots.contains(slot))?;
            let holder = other.start.deployment.job;
            Some(format!("slot {slot} of TaskManager {id} is held by job {holder}"))
        })
    }

    pub(super) fn on_deploy(&mut self, deployment: DeploymentId, plan: Bytes, restore: Vec<(TaskId, Vec<u8>)>) {
        let Some((key, worker)) = self.find(deployment) else { return };
        match worker.phase {
            Phase::Ready => {
                if let Some((task, snapshot)) = restore.iter().find(|(_, snapshot)| snapshot.len() > MAX_SNAPSHOT_BYTES)
                {
                    let reason = too_large(&worker.name(), *task, snapshot.len());
                    return self.kill(key, reason);
                }
                worker.phase = Phase::Deployed;
                for part in in_parts(restore) {
                    self.tell(key, WorkerMessage::Restore(part));
                }
                self.tell(key, WorkerMessage::Deploy(plan));
            }
            Phase::Starting { .. } => self.kill(key, "the JobManager deployed tasks before it was ready".to_owned()),
            Phase::Deployed => self.kill(key, "the JobManager deployed tasks twice".to_owned()),
            // It ends; the JobManager hears of that, or gave the order itself.
            Phase::Releasing { .. } | Phase::Killed { .. } => {}
        }
    }

    /// Passes something on to the worker of a deployment, if it runs tasks. Whoever it is for may be gone, and a worker without tasks
    /// has nothing to stop or to take part in.
    pub(super) fn pass_on(&mut self, deployment: DeploymentId, message: WorkerMessage) {
        let found = self.find(deployment).filter(|(_, worker)| worker.phase == Phase::Deployed);
        if let Some(key) = found.map(|(key, _)| key) {
            self.tell(key, message);
        }
    }

    pub(super) fn on_release(&mut self, deployment: DeploymentId, now: Duration) {
        let deadline = now + self.options.release_timeout;
        let Some((key, worker)) = self.find(deployment) else { return };
        match worker.phase {
            Phase::Ready | Phase::Deployed => {
                worker.phase = Phase::Releasing { deadline };
                self.tell(key, WorkerMessage::Shutdown);
            }
            Phase::Starting { .. } => {
                worker.phase = Phase::Killed { reason: None };
                self.effects.push(Effect::KillWorker { worker: key });
            }
            Phase::Killed { .. } => worker.phase = Phase::Killed { reason: None },
            Phase::Releasing { .. } => {}
        }
    }

    pub(super) fn on_kill(&mut self, deployment: DeploymentId, reason: String) {
        let Some((key, worker)) = self.find(deployment) else { return };
        let text = format!("{} was killed: {reason}", worker.name());
        self.kill(key, text);
    }

    /// Kills a worker; `reason` is the whole report.
    fn kill(&mut self, key: WorkerKey, reason: String) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        match worker.phase {
            Phase::Starting { .. } | Phase::Ready | Phase::Deployed | Phase::Releasing { .. } => {
                let deployment = worker.start.deployment;
                tracing::info!(job_id = %deployment.job, deployment = deployment.number, reason, "a worker is killed");
                worker.phase = Phase::Killed { reason: Some(reason) };
                self.effects.push(Effect::KillWorker { worker: key });
            }
            // The first reason is the cause.
            Phase::Killed { .. } => {}
        }
    }

    fn tell(&mut self, worker: WorkerKey, message: WorkerMessage) {
        self.effects.push(Effect::TellWorker { worker, message });
    }

    pub(super) fn on_worker_time(&mut self, now: Duration) {
        let due: Vec<WorkerKey> =
            self.workers.iter().filter(|(_, w)| w.deadline().is_some_and(|d| now >= d)).map(|(key, _)| *key).collect();
        for key in due {
            let Some(worker) = self.workers.get_mut(&key) else { continue };
            if matches!(worker.phase, Phase::Releasing { .. }) {
                tracing::warn!(job_id = %worker.start.deployment.job, "a released worker did not leave in time and is killed");
                worker.phase = Phase::Killed { reason: None };
                self.effects.push(Effect::KillWorker { worker: key });
                continue;
            }
            let patience = Duration::from_millis(worker.start.start_timeout_millis);
            let reason = format!(
                "{} did not report within {patience:?}; weir.worker.start-timeout gives it longer",
                worker.name()
            );
            self.kill(key, reason);
        }
    }

    pub(super) fn on_worker(&mut self, key: WorkerKey, event: WorkerEvent, now: Duration) {
        match event {
            WorkerEvent::Greeted(greeting) => self.on_greeting(key, greeting),
            WorkerEvent::TasksChanged(changes) => self.on_tasks_changed(key, changes),
            WorkerEvent::SplitRequested(task) => {
                if let Some(deployment) = self.listening_to(key) {
                    self.report(FromTaskManager::SplitRequested { deployment, task });
                }
            }
            WorkerEvent::CheckpointAcknowledged(acknowledgement) => {
                if let Some(deployment) = self.listening_to(key) {
                    self.report(FromTaskManager::CheckpointAcknowledged { deployment, acknowledgement });
                }
            }
            WorkerEvent::CheckpointDeclined(decline) => {
                if let Some(deployment) = self.listening_to(key) {
                    self.report(FromTaskManager::CheckpointDeclined { deployment, decline });
                }
            }
            WorkerEvent::MetricsReported(tasks) => self.on_metrics(key, tasks, now),
            WorkerEvent::Misbehaved { problem } => {
                if let Some(worker) = self.workers.get(&key) {
                    let reason = format!("{} was killed: {problem}", worker.name());
                    self.kill(key, reason);
                }
            }
            WorkerEvent::Ended(end) => self.on_ended(key, &end),
        }
    }

    /// The deployment of a worker whose tasks are of interest.
    fn listening_to(&self, key: WorkerKey) -> Option<DeploymentId> {
        let worker = self.workers.get(&key)?;
        match worker.phase {
            Phase::Starting { .. } | Phase::Ready | Phase::Deployed | Phase::Releasing { .. } => {
                Some(worker.start.deployment)
            }
            // What a dying process still said counts as lost with it.
            Phase::Killed { .. } => None,
        }
    }

    fn on_greeting(&mut self, key: WorkerKey, greeting: Greeting) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        if !matches!(worker.phase, Phase::Starting { .. }) {
            // It was given up meanwhile, or greets twice.
            return;
        }
        let deployment = worker.start.deployment;
        match check_greeting(&worker.start, &greeting) {
            Ok(data_address) => {
                worker.phase = Phase::Ready;
                worker.vertices = greeting.vertices;
                self.report(FromTaskManager::WorkerReady { deployment, data_address, pid: greeting.pid });
            }
            Err(reason) => self.kill(key, reason),
        }
    }

    fn on_tasks_changed(&mut self, key: WorkerKey, changes: Vec<TaskChange>) {
        let Some(deployment) = self.listening_to(key) else { return };
        // Whoever hears of a task's end wants to know its last figures.
        let mut last = Vec::new();
        for change in changes.iter().filter(|change| change.state.is_terminal()) {
            let report = self.workers.get_mut(&key).and_then(|worker| worker.metrics.get_mut(&change.task));
            if let Some(report) = report {
                report.running = false;
                last.push((change.task, report.metrics.clone()));
            }
        }
        if !last.is_empty() {
            self.report(FromTaskManager::MetricsReported { deployment, tasks: last });
        }
        self.report(FromTaskManager::TasksChanged { deployment, changes });
    }

    fn on_metrics(&mut self, key: WorkerKey, tasks: Vec<(TaskId, MetricsSnapshot)>, now: Duration) {
        let Some(deployment) = self.listening_to(key) else { return };
        let Some(worker) = self.workers.get_mut(&key) else { return };
        tasks.iter().for_each(|(task, metrics)| worker.take_report(*task, metrics.clone(), now));
        if matches!(worker.phase, Phase::Releasing { .. }) {
            // Its last words.
            worker.unreported = false;
            return self.report(FromTaskManager::MetricsReported { deployment, tasks });
        }
        worker.unreported = true;
        self.report_metrics_if_due(now);
    }

    pub(super) fn report_metrics_if_due(&mut self, now: Duration) {
        let Connection::Registered(registered) = &mut self.connection else { return };
        if now < registered.next_metrics || !self.workers.values().any(|worker| worker.unreported) {
            return;
        }
        registered.next_metrics = now + registered.timing.metrics_interval;
        let reports: Vec<_> = self
            .workers
            .values_mut()
            .filter_map(|worker| {
                let deployment = worker.start.deployment;
                let tasks = || worker.metrics.iter().map(|(task, report)| (*task, report.metrics.clone())).collect();
                let unreported = std::mem::take(&mut worker.unreported);
                unreported.then(|| FromTaskManager::MetricsReported { deployment, tasks: tasks() })
            })
            .collect();
        reports.into_iter().for_each(|report| self.report(report));
    }

    pub(super) fn on_measured(&mut self, workers: &[Measurement], now: Duration) {
        self.check_stopped(workers, now);
        self.check_memory(workers);
    }

    /// A process that does nothing counts as lost as soon as a JobManager that says nothing would.
    fn check_stopped(&mut self, workers: &[Measurement], now: Duration) {
        let Connection::Registered(registered) = &self.connection else { return };
        let patience = registered.timing.heartbeat_timeout;
        for Measurement { worker: key, stopped, .. } in workers {
            let Some(worker) = self.workers.get_mut(key) else { continue };
            let since = *worker.stopped.get_or_insert(now);
            if !stopped {
                worker.stopped = None;
            } else if now.saturating_sub(since) >= patience {
                let reason = format!(
                    "{} was killed: a signal (SIGSTOP or SIGTSTP) had stopped it for {patience:?} (heartbeat.timeout)",
                    worker.name()
                );
                self.kill(*key, reason);
            }
        }
    }

    /// All workers together may take so much. When it is more, the one goes that is furthest above its share, so that a job
    /// within its share never suffers for another.
    fn check_memory(&mut self, workers: &[Measurement]) {
        let limit = self.options.info.memory;
        let living =
            |key: &WorkerKey| self.workers.get(key).filter(|worker| !matches!(worker.phase, Phase::Killed { .. }));
        let used: Vec<_> = workers.iter().filter_map(|m| Some((m.worker, m.memory, living(&m.worker)?))).collect();
        let total: u64 = used.iter().map(|(_, bytes, _)| bytes).sum();
        if total <= limit {
            return;
        }
        // Excess over the share, compared without division.
        let Some((key, bytes, worker)) = used.into_iter().max_by_key(|(key, bytes, worker)| {
            (u128::from(*bytes) * 1_000_000 / worker.start.slots.len() as u128, *key)
        }) else {
            return;
        };
        let reason = self.memory_report(&worker.name(), bytes, total);
        self.kill(key, reason);
    }

    fn memory_report(&self, who: &str, used: u64, total: u64) -> String {
        let origin = if self.options.memory_configured {
            "taskmanager.memory.process.size allows"
        } else {
            "this machine can give it (nine tenths of its memory; taskmanager.memory.process.size sets another limit)"
        };
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let others = match total - used {
            0 => String::new(),
            others => format!(" together with {} MiB of other workers of its TaskManager", mib(others)),
        };
        format!(
            "{who} was killed: it uses {} MiB of memory{others}, more than the {} MiB that {origin}; look for state or buffers in the job \
             that only grow",
            mib(used),
            mib(self.options.info.memory)
        )
    }

    fn on_ended(&mut self, key: WorkerKey, end: &WorkerEnd) {
        let Some(worker) = self.workers.remove(&key) else { return };
        let deployment = worker.start.deployment;
        let reason = match &worker.phase {
            Phase::Killed { reason: None } | Phase::Releasing { .. } => {
                tracing::info!(job_id = %deployment.job, deployment = deployment.number, how = end.how, "a worker has ended");
                return;
            }
            Phase::Killed { reason: Some(reason) } => with_lines(reason.clone(), &end.last_lines),
            Phase::Starting { .. } if end.started => {
                let text = with_lines(format!("{} {}", worker.name(), end.how), &end.last_lines);
                format!("{text}\n    before it had built the job")
            }
            Phase::Starting { .. } | Phase::Ready | Phase::Deployed => {
                with_lines(format!("{} {}", worker.name(), end.how), &end.last_lines)
            }
        };
        tracing::warn!(job_id = %deployment.job, deployment = deployment.number, reason, "a worker is lost");
        self.report(FromTaskManager::WorkerEnded { deployment, reason });
    }
}

/// What a frame may have beside the snapshot in it.
const FRAME_OVERHEAD: usize = 64;
/// How large a snapshot can be that is handed to a worker.
const MAX_SNAPSHOT_BYTES: usize = MAX_FRAME_BYTES - FRAME_OVERHEAD;
/// How much a part of a restore may have unless a single snapshot is larger: a worker works on one part while it reads the next.
const PART_BYTES: usize = 4 << 20;

/// Divides what tasks begin with into messages, each of which fits into a frame.
fn in_parts(restore: Vec<(TaskId, Vec<u8>)>) -> Vec<Vec<(TaskId, Vec<u8>)>> {
    let mut parts: Vec<Vec<(TaskId, Vec<u8>)>> = Vec::new();
    let mut bytes = 0;
    for (task, snapshot) in restore {
        let size = snapshot.len() + FRAME_OVERHEAD;
        match parts.last_mut() {
            Some(part) if bytes + size <= PART_BYTES => part.push((task, snapshot)),
            Some(_) | None => {
                parts.push(vec![(task, snapshot)]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    parts
}

fn too_large(worker: &str, task: TaskId, size: usize) -> String {
    format!(
        "{worker} was killed: subtask {} of vertex {} would begin with {size} bytes of state in its message, more than the \
         {MAX_SNAPSHOT_BYTES} that fit; with `execution.checkpointing.dir` set, state is kept in files",
        task.subtask, task.vertex
    )
}

fn with_lines(mut text: String, lines: &[String]) -> String {
    if !lines.is_empty() {
        text.push_str("; its last lines were:");
        lines.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
    }
    text
}

fn check_greeting(start: &StartWorker, greeting: &Greeting) -> Result<std::net::SocketAddr, String> {
    let worker = start.worker;
    if greeting.protocol_version != PROTOCOL_VERSION {
        return Err(format!(
            "worker {worker} speaks protocol version {}, this TaskManager {PROTOCOL_VERSION}: build the job with the version of the crate \
             `weir` that the cluster has ({})",
            greeting.protocol_version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    if greeting.job_graph_hash != start.job_graph_hash {
        return Err(format!(
            "worker {worker} built another job graph (hash {:016x}) than the coordinator ({:016x}): the job's builder is not deterministic. \
             It must build the same graph from the same arguments each time, on every machine; look for random numbers, clocks, hash map \
             iteration, environment variables or files that change in the job's function",
            greeting.job_graph_hash, start.job_graph_hash
        ));
    }
    greeting.data_address.parse().map_err(|_| {
        format!("worker {worker} gave {:?} as its data address; expected host:port", greeting.data_address)
    })
}
