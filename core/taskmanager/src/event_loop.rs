//! The single-owner loop: takes what happens one after the other, asks the state, does what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use weir_metrics::{TaskManagerSample, WorkerUsage, task_manager_exposition, task_manager_metrics};
use weir_model::{DeploymentId, FromTaskManager, LeaderEpoch, TaskManagerInfo};
use weir_proto::control::ForJobManager;

use crate::answer::{self, Address};
use crate::connection::{self, Client, FromJobManager, Line};
use crate::options::Token;
use crate::processes::{self, Adopted};
use crate::state::{
    ConnectionKey, Effect, Ending, Event, Measurement, StateOptions, TaskManagerState, WorkerEvent, WorkerKey,
};
use crate::worker::{self, WorkerHandle, WorkerSettings};

/// Inputs taken in one turn; what they cause is sent together.
const TURN: usize = 1024;
/// How often workers are looked at, while there are some. A core fills about a gigabyte in this time at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Looking at them takes at most this part of a core's time.
const LOOK_SHARE: u32 = 50;
/// How often adopted processes are looked after where others start processes as well: time enough for those to take the ends of
/// their own. Otherwise it is at every look.
const ADOPTED_INTERVAL: Duration = Duration::from_secs(1);
/// For how long they are looked after when the last worker has ended.
const ADOPTED_LINGER: Duration = Duration::from_secs(5);
/// How long killed workers may take to be gone when the TaskManager ends.
const LAST_PATIENCE: Duration = Duration::from_secs(15);

/// What the loop takes in.
pub(crate) enum Input {
    /// Something for the state.
    Event(Event),
    /// A connection is open.
    Dialed(ConnectionKey, Client),
    /// How the workers are, and how long looking took.
    Measured { workers: Vec<Measurement>, took: Duration, adopted: Adopted },
    /// Somebody wants the metrics.
    Scrape(oneshot::Sender<String>),
}

/// Where inputs go.
#[derive(Clone)]
pub(crate) struct Inputs(mpsc::UnboundedSender<Input>);

impl Inputs {
    /// Inputs, and where they come out.
    pub(crate) fn new() -> (Inputs, mpsc::UnboundedReceiver<Input>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Inputs(sender), receiver)
    }

    pub(crate) fn send(&self, input: Input) {
        // After the loop's end nothing is of interest.
        let _ = self.0.send(input);
    }

    pub(crate) fn event(&self, event: Event) {
        self.send(Input::Event(event));
    }
}

/// The time since 1970, advanced by a clock that never goes back.
struct Clock {
    start: Duration,
    since: Instant,
}

impl Clock {
    fn new() -> Clock {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start, since: Instant::now() }
    }

    fn now(&self) -> Duration {
        self.start + self.since.elapsed()
    }

    fn instant(&self, time: Duration) -> Instant {
        self.since + time.saturating_sub(self.start)
    }
}

/// When workers and adopted processes are looked at.
struct Guard {
    next: Instant,
    /// Until then, if there are no workers.
    until: Instant,
    next_adopted: Instant,
    /// Absent while a look is under way.
    adopted: Option<Adopted>,
    /// What workers had at the last look.
    memory: u64,
}

/// The loop and what it owns.
pub(crate) struct EventLoop {
    pub(crate) job_manager: String,
    token: Option<Token>,
    pub(crate) owns_process: bool,
    inputs: Inputs,
    received: mpsc::UnboundedReceiver<Input>,
    settings: Arc<WorkerSettings>,
    info: TaskManagerInfo,
    clock: Clock,
    state: TaskManagerState,
    line: Option<Line>,
    workers: BTreeMap<WorkerKey, WorkerHandle>,
    guard: Guard,
    ending: Option<(Ending, Instant)>,
}

impl EventLoop {
    pub(crate) fn new(
        options: StateOptions,
        settings: Arc<WorkerSettings>,
        (job_manager, token): (String, Option<Token>),
        owns_process: bool,
        (inputs, received): (Inputs, mpsc::UnboundedReceiver<Input>),
    ) -> EventLoop {
        let now = Instant::now();
        EventLoop {
            job_manager,
            token,
            owns_process,
            inputs,
            received,
            settings,
            info: options.info.clone(),
            clock: Clock::new(),
            state: TaskManagerState::new(options),
            line: None,
            workers: BTreeMap::new(),
            guard: Guard { next: now, until: now, next_adopted: now, adopted: Some(Adopted::default()), memory: 0 },
            ending: None,
        }
    }

    /// Runs until the TaskManager ends and all its workers are gone; says why it ended.
    pub(crate) async fn run(mut self) -> Ending {
        let effects = self.state.on_event(Event::Started, self.clock.now());
        self.perform(effects);
        loop {
            if let Some((ending, deadline)) = &self.ending
                && (self.state.is_empty() || Instant::now() >= *deadline)
            {
                let ending = ending.clone();
                if let Some(line) = self.line.take() {
                    line.close().await;
                }
                return ending;
            }
            self.turn().await;
        }
    }

    /// Waits for something to happen, and sees to all that has.
    async fn turn(&mut self) {
        let mut effects = Vec::new();
        let alarm = tokio::time::Instant::from_std(self.next_alarm());
        tokio::select! {
            biased;
            // First what has arrived: after a pause of this process, it shows that the JobManager lives.
            Some(input) = self.received.recv() => {
                self.on_input(input, &mut effects);
                for _ in 1..TURN {
                    let Ok(input) = self.received.try_recv() else { break };
                    self.on_input(input, &mut effects);
                }
            }
            () = tokio::time::sleep_until(alarm) => {}
        }
        let now = self.clock.now();
        if self.state.next_deadline().is_some_and(|deadline| now >= deadline) {
            effects.extend(self.state.on_event(Event::TimePassed, now));
        }
        self.look_at_workers();
        self.perform(effects);
    }

    fn next_alarm(&self) -> Instant {
        let deadline = self.state.next_deadline().map(|deadline| self.clock.instant(deadline));
        let guard = (self.guard.adopted.is_some() && self.guarding()).then_some(self.guard.next);
        let ending = self.ending.as_ref().map(|(_, deadline)| *deadline);
        let far = Instant::now() + Duration::from_secs(3600);
        [deadline, guard, ending].into_iter().flatten().min().unwrap_or(far)
    }

    fn on_input(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let event = match input {
            Input::Event(event) => {
                if let Event::Worker { worker, event: WorkerEvent::Ended(_) } = &event {
                    self.workers.remove(worker);
                }
                event
            }
            Input::Dialed(key, client) => {
                self.line = Some(Line::open(key, client, self.inputs.clone()));
                Event::Connected(key)
            }
            Input::Measured { workers, took, adopted } => {
                self.guard.adopted = Some(adopted);
                self.guard.next = Instant::now() + LOOK_INTERVAL.max(took * LOOK_SHARE);
                self.guard.memory = workers.iter().map(|worker| worker.memory).sum();
                Event::Measured(workers)
            }
            Input::Scrape(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.exposition());
                return;
            }
        };
        let now = self.clock.now();
        effects.extend(self.state.on_event(event, now));
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in coalesce(effects) {
            match effect {
                Effect::Dial(key) => {
                    connection::dial(key, &self.job_manager, self.token.clone(), self.inputs.clone());
                }
                Effect::HangUp(key) => {
                    if let Some(line) = self.line.take_if(|line| line.key == key) {
                        tokio::spawn(line.close());
                    }
                }
                Effect::Send { epoch, message } => self.send(epoch, message),
                Effect::SendHeartbeat { epoch } => {
                    let metrics = task_manager_metrics(self.usage());
                    self.send(epoch, ForJobManager::Heartbeat { metrics });
                }
                Effect::StartWorker { worker, start } => self.start_worker(worker, start),
                Effect::TellWorker { worker, message } => {
                    if let Some(handle) = self.workers.get(&worker) {
                        handle.tell(message);
                    }
                }
                Effect::KillWorker { worker } => {
                    if let Some(handle) = self.workers.get_mut(&worker) {
                        handle.kill();
                    }
                }
                Effect::AnswerFile { epoch, request } => {
                    let address = self.address(epoch, request.request);
                    if let Some(line) = &self.line {
                        answer::answer_file(line.client.clone(), address, self.settings.log_dir.clone(), request);
                    }
                }
                Effect::AnswerStacks { epoch, request } => {
                    let address = self.address(epoch, request);
                    if let Some(line) = &self.line {
                        answer::answer_stacks(line.client.clone(), address, self.named_workers());
                    }
                }
                Effect::End(ending) => self.ending = Some((ending, Instant::now() + LAST_PATIENCE)),
            }
        }
    }

    fn send(&self, epoch: LeaderEpoch, message: ForJobManager) {
        if let Some(line) = &self.line {
            line.send(message.into_message(epoch));
        }
    }

    fn start_worker(&mut self, worker: WorkerKey, start: weir_model::StartWorker) {
        let inputs = self.inputs.clone();
        let tell = move |event| inputs.event(Event::Worker { worker, event });
        // The order came over a connection; if that broke meanwhile, the worker is about to be killed.
        let (Some(line), Some(epoch)) = (&self.line, self.state.registered()) else {
            return tell(WorkerEvent::Ended(crate::state::WorkerEnd::default()));
        };
        let source = FromJobManager { client: line.client.clone(), epoch };
        self.workers.insert(worker, worker::start(self.settings.clone(), start, source, tell));
        self.guard.next = self.guard.next.min(Instant::now() + LOOK_INTERVAL);
    }

    fn address(&self, epoch: LeaderEpoch, request: u64) -> Address {
        Address { epoch, task_manager: self.info.id.clone(), request }
    }

    fn named_workers(&self) -> Vec<(String, u32)> {
        let named = self.state.workers().filter_map(|(key, deployment)| {
            let pid = self.workers.get(&key)?.pid()?;
            Some((format!("job {} deployment {}", deployment.job, deployment.number), pid))
        });
        named.collect()
    }

    fn usage(&self) -> WorkerUsage {
        WorkerUsage { memory: self.guard.memory, memory_limit: self.info.memory }
    }

    fn exposition(&self) -> String {
        let process = task_manager_metrics(self.usage());
        let tasks = self.state.task_samples();
        task_manager_exposition(&TaskManagerSample { info: &self.info, process: &process, tasks: &tasks })
    }

    fn guarding(&self) -> bool {
        !self.workers.is_empty() || Instant::now() < self.guard.until
    }

    /// Looks at workers and adopted processes, on a thread of its own, if it is time to.
    fn look_at_workers(&mut self) {
        let now = Instant::now();
        if now < self.guard.next || !self.guarding() {
            return;
        }
        let Some(mut adopted) = self.guard.adopted.take() else { return };
        if !self.workers.is_empty() {
            self.guard.until = now + ADOPTED_LINGER;
        }
        let look_after = self.owns_process || now >= self.guard.next_adopted;
        if look_after {
            self.guard.next_adopted = now + ADOPTED_INTERVAL;
        }
        let pids: Vec<(WorkerKey, u32)> =
            self.workers.iter().filter_map(|(key, worker)| Some((*key, worker.pid()?))).collect();
        let kill = self.owns_process && self.workers.is_empty();
        let inputs = self.inputs.clone();
        tokio::task::spawn_blocking(move || {
            let measure = |(worker, pid): &(WorkerKey, u32)| Measurement {
                worker: *worker,
                memory: processes::resident_bytes_of_tree(*pid),
                stopped: processes::is_stopped(*pid),
            };
            let measured = pids.iter().map(measure).collect();
            if look_after {
                let workers: BTreeSet<u32> = pids.iter().map(|(_, pid)| *pid).collect();
                adopted.look_after(&workers, kill);
            }
            inputs.send(Input::Measured { workers: measured, took: now.elapsed(), adopted });
        });
    }
}

/// Makes one message of all changes of a deployment's tasks that are not separated by another message about it.
fn coalesce(effects: Vec<Effect>) -> Vec<Effect> {
    let mut result: Vec<Effect> = Vec::with_capacity(effects.len());
    // Where the last message about each deployment is, if it tells changes.
    let mut last: BTreeMap<DeploymentId, usize> = BTreeMap::new();
    for effect in effects {
        let (deployment, changes) = match effect {
            Effect::Send {
                epoch,
                message: ForJobManager::Worker(FromTaskManager::TasksChanged { deployment, changes }),
            } => (deployment, (epoch, changes)),
            Effect::Send { epoch, message: ForJobManager::Worker(other) } => {
                last.remove(&other.deployment());
                result.push(Effect::Send { epoch, message: ForJobManager::Worker(other) });
                continue;
            }
            other => {
                result.push(other);
                continue;
            }
        };
        let (epoch, changes) = changes;
        let before = last.get(&deployment).and_then(|index| result.get_mut(*index));
        match before {
            Some(Effect::Send {
                epoch: its,
                message: ForJobManager::Worker(FromTaskManager::TasksChanged { changes: earlier, .. }),
            }) if *its == epoch => earlier.extend(changes),
            _ => {
                last.insert(deployment, result.len());
                let message = ForJobManager::Worker(FromTaskManager::TasksChanged { deployment, changes });
                result.push(Effect::Send { epoch, message });
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use weir_model::{ExecutionState, JobId, TaskChange, TaskId};

    use super::*;

    fn changed(number: u32, subtask: u32) -> Effect {
        let deployment = DeploymentId { job: JobId::from_bytes([1; 16]), number };
        let task = TaskId { vertex: 0, subtask };
        let change = TaskChange { task, state: ExecutionState::Running, failure: None, committables: Vec::new() };
        let message = FromTaskManager::TasksChanged { deployment, changes: vec![change] };
        Effect::Send { epoch: LeaderEpoch(1), message: ForJobManager::Worker(message) }
    }

    fn ended(number: u32) -> Effect {
        let deployment = DeploymentId { job: JobId::from_bytes([1; 16]), number };
        let message = FromTaskManager::WorkerEnded { deployment, reason: String::new() };
        Effect::Send { epoch: LeaderEpoch(1), message: ForJobManager::Worker(message) }
    }

    #[test]
    fn changes_of_a_turn_become_one_message_and_keep_their_order() {
        let effects = vec![changed(0, 0), changed(1, 0), changed(0, 1), ended(1), changed(0, 2), changed(1, 1)];
        let sizes: Vec<_> = coalesce(effects)
            .iter()
            .map(|effect| match effect {
                Effect::Send { message: ForJobManager::Worker(message), .. } => match message {
                    FromTaskManager::TasksChanged { deployment, changes } => {
                        let subtasks = changes.iter().map(|change| change.task.subtask);
                        (deployment.number, subtasks.collect::<Vec<_>>())
                    }
                    other => (other.deployment().number, Vec::new()),
                },
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [(0, vec![0, 1, 2]), (1, vec![0]), (1, vec![]), (1, vec![1])]);
    }
}
