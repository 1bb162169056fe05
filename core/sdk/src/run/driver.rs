//! The driver of an embedded run: a loop that feeds what happens to the pure scheduler and does what it asks for.

mod checkpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_checkpoint::{CheckpointEvent, TaskSnapshot};
use weir_config::{Configuration, Origin, RestartStrategyType, options};
use weir_dataflow::plan::JobPlan;
use weir_dataflow::source::SplitAnswer;
use weir_dataflow::task::MetricsSnapshot;
use weir_dataflow::worker::WorkerEvent;
use weir_model::{ExecutionState, FailureKind, JobStatus, Placement, TaskFailure, TaskId};
use weir_scheduler::{
    Blame, Effect, Event, ExecutionGraph, FailoverStrategy, JobReport, JobScheduler, RestartStrategy, SchedulerOptions,
    place,
};

use super::backend::{Backend, Deployment, Usage};
use super::checkpoints::{Checkpoints, Start};
use super::commits::{CommitOrders, Commits};
use super::coordinator::{self, Enumerators, Sinks, SplitOrder};
use super::in_process::InProcess;
use super::memory::{self, Limit};
use super::processes::{self, Processes};
use super::progress::Progress;
use super::{Runtime, author_code, exit, signals};
use crate::error::{Error, Result};

/// What happens to a run.
#[derive(Debug)]
pub(super) enum DriverEvent {
    /// A worker reports.
    Worker {
        /// Of the tasks it runs.
        deployment: u32,
        /// What it says.
        event: WorkerEvent,
    },
    /// An enumerator has answered a task.
    SplitAnswered {
        /// The task that asked.
        task: TaskId,
        /// The answer.
        answer: SplitAnswer,
    },
    /// A worker process ended or cannot be reached.
    WorkerLost {
        /// Which one.
        worker: u32,
        /// What is known about it.
        reason: String,
    },
    /// The committers are done.
    CommitDone(Result<(), TaskFailure>),
    /// Something that concerns checkpoints.
    Checkpoint(CheckpointEvent),
    /// Enumerators and committers are where a deployment can begin.
    Reset {
        /// Which.
        deployment: u32,
        /// Why they are not.
        result: Result<(), TaskFailure>,
    },
    /// A signal asks the run to end.
    Interrupted(i32),
    /// A worker uses more memory than it may.
    MemoryExceeded {
        /// Which one.
        worker: u32,
        /// Bytes in use.
        used: u64,
    },
}

/// How long whoever removes output waits for a commit that is in the way.
const LAST_RITES: Duration = Duration::from_secs(2);

/// Embedded runs have a person waiting, so patience with stuck tasks is shorter than a cluster's.
const EMBEDDED_CANCELLATION_TIMEOUT: Duration = Duration::from_secs(10);

/// How a run ended, with what its summary shows.
pub(super) struct Outcome {
    pub(super) report: JobReport,
    pub(super) metrics: Vec<(TaskId, MetricsSnapshot)>,
    pub(super) usage: Usage,
    pub(super) interrupted: bool,
}

impl Outcome {
    /// The exit code of a process that ran only this job.
    pub(super) fn exit_code(&self) -> u8 {
        match self.report.status {
            JobStatus::Finished => exit::FINISHED,
            _ if self.interrupted => exit::INTERRUPTED,
            _ => exit::FAILED,
        }
    }
}

/// Runs a job to its end, as the main thing its process does: signals end it, memory is guarded.
pub(super) fn drive(
    plan: &Arc<JobPlan>,
    sources: coordinator::Sources,
    sinks: &Sinks,
    mut configuration: Configuration,
    runtime: &Runtime,
) -> Result<Outcome> {
    configuration.set_value(&options::CANCELLATION_TIMEOUT, EMBEDDED_CANCELLATION_TIMEOUT, Origin::Default)?;
    let mut run = Preparation::new(plan, &configuration)?;
    let (commits, folder) = (run.commits.clone(), processes::folder(&run.run_id));
    let working = WorkingFolder(processes::working_folder(&run.run_id));
    let removed = working.0.clone();
    // Before the outputs are opened: whatever is made from here on is also removed.
    signals::watch(run.events_in.clone(), run.interrupted.clone(), move || {
        commits.discard_unless_kept(LAST_RITES);
        let _ = std::fs::remove_dir_all(&folder);
        let _ = std::fs::remove_dir_all(&removed);
    })?;
    // The signal thread keeps the committers alive, so leaving early must say that they are not needed.
    let _discard = DiscardAtEnd(run.commits.clone());
    run.open(plan, sources, sinks)?;
    let workers = NonZeroU32::new(configuration.get(&options::EMBEDDED_WORKERS)).unwrap_or(NonZeroU32::MIN);
    let limit = Limit::new(configuration.get(&options::PROCESS_MEMORY).map(|size| size.0), workers.get());
    let started = if workers.get() == 1 {
        if let Some(limit) = limit {
            memory::watch(0, std::process::id(), limit, run.events_in.clone())?;
        }
        Ok(run.in_process(plan))
    } else {
        Processes::start(plan, workers.get(), &configuration, limit, &run)
            .map(|processes| Arc::new(processes) as Arc<dyn Backend>)
    };
    match started {
        Ok(backend) => run.run(plan, backend, workers, limit, &configuration, runtime),
        Err(_) if run.interrupted.load(Ordering::Acquire) => Err(Error::Interrupted),
        Err(failure) => Err(Error::Job(failure.to_string())),
    }
}

/// The working files of a run's tasks, removed when the driver is left, on whatever way.
struct WorkingFolder(PathBuf);

impl Drop for WorkingFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Discards what is not committed when the driver is left, on whatever way.
struct DiscardAtEnd(Commits);

impl Drop for DiscardAtEnd {
    fn drop(&mut self) {
        self.0.discard_unless_kept(LAST_RITES);
    }
}

/// Runs a job to its end inside a process that does other things as well, such as a test.
pub(super) fn drive_quietly(
    plan: &Arc<JobPlan>,
    sources: coordinator::Sources,
    sinks: &Sinks,
    configuration: &Configuration,
) -> Result<Outcome> {
    let mut run = Preparation::new(plan, configuration)?;
    let _working = WorkingFolder(processes::working_folder(&run.run_id));
    run.open(plan, sources, sinks)?;
    let backend = run.in_process(plan);
    run.run(plan, backend, NonZeroU32::MIN, None, configuration, &Runtime::quiet())
}

/// A run before anything is started.
pub(super) struct Preparation {
    pub(super) run_id: String,
    pub(super) events_in: Sender<DriverEvent>,
    pub(super) split_orders: Sender<SplitOrder>,
    /// Set by the first signal.
    pub(super) interrupted: Arc<AtomicBool>,
    events: Receiver<DriverEvent>,
    orders: Receiver<SplitOrder>,
    /// Once the inputs are open.
    enumerators: Option<Enumerators>,
    commits: Commits,
    checkpoints: Checkpoints,
    /// What tasks begin with.
    restore: BTreeMap<TaskId, TaskSnapshot>,
}

impl Preparation {
    fn new(plan: &JobPlan, configuration: &Configuration) -> Result<Preparation> {
        let (events_in, events) = channel();
        let (split_orders, orders) = channel();
        Ok(Preparation {
            run_id: new_run_id(),
            checkpoints: Checkpoints::new(plan, configuration, events_in.clone())?,
            restore: BTreeMap::new(),
            events_in,
            split_orders,
            interrupted: Arc::default(),
            events,
            orders,
            enumerators: None,
            commits: Commits::default(),
        })
    }

    /// Looks at inputs and outputs.
    fn open(&mut self, plan: &JobPlan, sources: coordinator::Sources, sinks: &Sinks) -> Result<()> {
        let start = self.checkpoints.start().map_err(Error::Job)?;
        let (restored, restore) = start.map(|Start { restored, tasks }| (restored, tasks)).unzip();
        self.restore = restore.unwrap_or_default();
        if self.checkpoints.may_outlive_the_run() {
            self.commits.keep();
        }
        let (restored, run_id) = (restored.as_ref(), &self.run_id);
        self.enumerators =
            Some(author_code("a source", || Enumerators::open(sources, plan.graph.parallelism(), restored))?);
        author_code("a sink", || self.commits.open(sinks, run_id, &[], restored))
    }

    fn in_process(&self, plan: &Arc<JobPlan>) -> Arc<dyn Backend> {
        Arc::new(InProcess::new(plan.clone(), &self.run_id, self.events_in.clone(), self.split_orders.clone()))
    }

    fn run(
        self,
        plan: &JobPlan,
        backend: Arc<dyn Backend>,
        workers: NonZeroU32,
        limit: Option<Limit>,
        configuration: &Configuration,
        runtime: &Runtime,
    ) -> Result<Outcome> {
        let graph = ExecutionGraph::new(&plan.graph)?;
        if let Some(enumerators) = self.enumerators {
            // Through the driver, as triggers go: what is answered after the enumerators' state was taken reaches its task after the
            // checkpoint's barrier.
            let events = self.events_in.clone();
            coordinator::serve_splits(enumerators, self.orders, move |task, answer| {
                events.send(DriverEvent::SplitAnswered { task, answer }).is_ok()
            })?;
        }
        let timeout = configuration.get(&options::CANCELLATION_TIMEOUT);
        let restarts = backend.restarts() && configuration.origin(&options::RESTART_STRATEGY) != Origin::Default;
        let scheduler_options = SchedulerOptions {
            cancellation_timeout: Some(timeout).filter(|t| !t.is_zero()),
            restart_strategy: if restarts { restart_strategy(configuration) } else { RestartStrategy::None },
            // All tasks are in one process, or cannot be started again.
            failover: FailoverStrategy::Full,
            ..SchedulerOptions::default()
        };
        let placement = place(&graph, workers);
        let commit_orders = self.commits.serve()?;
        let driver = Driver {
            scheduler: JobScheduler::new(graph, scheduler_options),
            placement,
            progress: Progress::new(&plan.graph, runtime, configuration.get(&options::PROGRESS_INTERVAL)),
            backend,
            commits: self.commits,
            commit_orders,
            split_orders: self.split_orders,
            checkpoints: self.checkpoints,
            restore: self.restore,
            deployment: 0,
            alive: BTreeSet::new(),
            events_in: self.events_in,
            started: Instant::now(),
            timer: None,
            interrupted: false,
            limit,
        };
        Ok(driver.run(&self.events))
    }
}

struct Driver {
    scheduler: JobScheduler,
    placement: Placement,
    progress: Progress,
    backend: Arc<dyn Backend>,
    commits: Commits,
    commit_orders: CommitOrders,
    split_orders: Sender<SplitOrder>,
    checkpoints: Checkpoints,
    /// What the tasks begin with that are deployed next.
    restore: BTreeMap<TaskId, TaskSnapshot>,
    /// The last one.
    deployment: u32,
    /// Its tasks that have come to run, also those that have finished since.
    alive: BTreeSet<TaskId>,
    events_in: Sender<DriverEvent>,
    started: Instant,
    timer: Option<(u64, Duration)>,
    interrupted: bool,
    limit: Option<Limit>,
}

impl Driver {
    fn run(mut self, events: &Receiver<DriverEvent>) -> Outcome {
        let mut ended = self.tell(Event::Start);
        while ended.is_none() {
            let event = events.recv_timeout(self.patience());
            ended = match event {
                Ok(event) => self.on_event(event),
                Err(RecvTimeoutError::Timeout) => self.on_time(),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the driver holds a sender itself"),
            };
        }
        self.progress.clear();
        self.checkpoints.finish();
        let report = ended.unwrap_or_else(|| unreachable!("the loop ends with a report"));
        if report.stuck_tasks.is_empty() && !self.out_of_memory(&report) {
            self.backend.finish();
        }
        Outcome { report, metrics: self.backend.metrics(), usage: self.backend.usage(), interrupted: self.interrupted }
    }

    /// How long nothing may happen before something is due.
    fn patience(&self) -> Duration {
        let now = self.started.elapsed();
        let timer = self.timer.map(|(_, at)| at.saturating_sub(now));
        let checkpoints = self.checkpoints.due_in();
        timer.into_iter().chain(checkpoints).chain([self.progress.due_in(now)]).min().unwrap_or(Duration::MAX)
    }

    fn on_time(&mut self) -> Option<JobReport> {
        let now = self.started.elapsed();
        if self.progress.due_in(now).is_zero() {
            self.progress.show(now, self.scheduler.status(), &self.backend.metrics());
        }
        if let Some(event) = self.checkpoints.due() {
            return self.on_checkpoint(event);
        }
        match self.timer {
            Some((generation, at)) if at <= now => {
                self.timer = None;
                self.tell(Event::Timer { generation })
            }
            Some(_) | None => None,
        }
    }

    fn on_event(&mut self, event: DriverEvent) -> Option<JobReport> {
        match event {
            DriverEvent::Worker { deployment, event } => self.on_worker(deployment, event),
            DriverEvent::SplitAnswered { task, answer } => {
                self.backend.answer_split(task, answer);
                None
            }
            DriverEvent::Checkpoint(event) => self.on_checkpoint(event),
            DriverEvent::Reset { deployment, result } => self.on_reset(deployment, result),
            DriverEvent::WorkerLost { worker, reason } => self.tell(self.worker_lost(worker, reason)),
            DriverEvent::CommitDone(result) => self.tell(Event::CommitDone(result)),
            DriverEvent::Interrupted(signal) => self.on_interrupt(signal),
            DriverEvent::MemoryExceeded { worker, used } => self.on_memory(worker, used),
        }
    }

    fn on_worker(&mut self, deployment: u32, event: WorkerEvent) -> Option<JobReport> {
        let (task, state, failure, committables) = match event {
            WorkerEvent::StateChanged { task, state, failure, committables, metrics: _ } => {
                (task, state, failure, committables)
            }
            WorkerEvent::CheckpointAcknowledged(acknowledgement) => {
                return self.on_acknowledged(deployment, *acknowledgement);
            }
            WorkerEvent::CheckpointDeclined(decline) => return self.on_declined(deployment, *decline),
            // Goes straight to the enumerators.
            WorkerEvent::SplitRequested { .. } => return None,
        };
        match state {
            ExecutionState::Initializing => self.tell(Event::TaskInitializing { deployment, task }),
            ExecutionState::Running => {
                let ended = self.on_alive(deployment, task);
                ended.or_else(|| self.tell(Event::TaskRunning { deployment, task }))
            }
            ExecutionState::Finished => {
                // One that has nothing to do may finish before it says that it runs.
                let ended = self.on_alive(deployment, task);
                let finished = CheckpointEvent::TaskFinished { task, deployment, committables };
                let ended = ended.or_else(|| self.on_checkpoint(finished));
                ended.or_else(|| self.tell(Event::TaskFinished { deployment, task }))
            }
            ExecutionState::Canceled => self.tell(Event::TaskCanceled { deployment, task }),
            ExecutionState::Failed => {
                let unknown = || TaskFailure::new(FailureKind::Worker, "the task failed without saying why");
                let failure = failure.unwrap_or_else(unknown);
                let ended = self.on_unreadable(deployment, &failure);
                ended.or_else(|| self.tell(Event::TaskFailed { deployment, task, failure }))
            }
            // Workers report these never: they are the driver's own.
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Canceling
            | ExecutionState::Reconciling => None,
        }
    }

    fn on_interrupt(&mut self, signal: i32) -> Option<JobReport> {
        self.interrupted = true;
        let name = if signal == signal_hook::consts::SIGINT { "Ctrl-C" } else { "SIGTERM" };
        self.progress.note(&format!("{name}: stopping the job; once more ends it at once"));
        self.tell(Event::CancelRequested)
    }

    /// User code that allocates without end cannot be asked to stop, so the run ends here.
    fn on_memory(&mut self, worker: u32, used: u64) -> Option<JobReport> {
        let limit = self.limit?;
        let who = if self.placement.workers() == 1 { "the job".to_owned() } else { format!("worker {worker}") };
        let reason = limit.message(&who, used);
        if self.placement.workers() > 1 {
            self.backend.kill(&[worker]);
            return self.tell(self.worker_lost(worker, reason));
        }
        // The failure says why, and giving up the worker, this very process, ends every task without waiting for it.
        let failed = self.tell(Event::GlobalFailure(TaskFailure::new(FailureKind::Worker, &reason)));
        failed.or_else(|| self.tell(self.worker_lost(worker, reason)))
    }

    fn out_of_memory(&self, report: &JobReport) -> bool {
        // In this process the tasks are still running; waiting for them would let them go on allocating.
        self.placement.workers() == 1 && report.failures.iter().any(|f| f.failure.kind == FailureKind::Worker)
    }

    /// Tells the scheduler and does what it asks for.
    fn tell(&mut self, event: Event) -> Option<JobReport> {
        let effects = self.scheduler.on_event(event, self.started.elapsed());
        let mut ended = None;
        for effect in effects {
            ended = self.perform(effect).or(ended);
        }
        ended
    }

    fn perform(&mut self, effect: Effect) -> Option<JobReport> {
        match effect {
            Effect::JobStatusChanged { to, .. } => self.on_status(to),
            // Shown with the summary.
            Effect::FailureRecorded { .. } => None,
            // Asked of adaptive jobs only, which run on clusters.
            Effect::AwaitResources => None,
            // All workers are there from the beginning.
            Effect::Schedule { deployment, .. } => self.on_schedule(deployment),
            // Whoever is told that it can begin does not know it any more.
            Effect::Unschedule { .. } => None,
            Effect::Deploy(_) => {
                let (number, placement) = (self.deployment, self.placement.clone());
                let deployment = Deployment { number, placement, restore: std::mem::take(&mut self.restore) };
                let deployed = self.backend.deploy(deployment);
                deployed.err().and_then(|failure| self.tell(Event::GlobalFailure(failure)))
            }
            Effect::CancelTasks(_) => {
                self.backend.cancel();
                None
            }
            Effect::ScheduleTimer { generation, at } => {
                self.timer = Some((generation, at));
                None
            }
            Effect::KillWorkers(workers) => {
                let workers: Vec<u32> = workers.iter().map(|w| w.worker).collect();
                self.backend.kill(&workers);
                None
            }
            Effect::Commit => {
                let events = self.events_in.clone();
                let committables = self.checkpoints.take_uncommitted();
                self.commit_orders.commit(None, committables, move |result| {
                    drop(events.send(DriverEvent::CommitDone(result)));
                });
                None
            }
            Effect::DiscardOutput => {
                // A commit that was given up still has its hands on it.
                self.commits.discard_within(LAST_RITES);
                None
            }
            Effect::JobEnded(report) => {
                // What this asks for does not matter to the report.
                let _ = self.on_checkpoint(CheckpointEvent::Ended { status: report.status });
                Some(report)
            }
        }
    }

    fn worker_lost(&self, worker: u32, reason: String) -> Event {
        let name = format!("worker {worker}");
        Event::WorkerLost { deployment: self.deployment, worker, name, reason, blame: Blame::Job }
    }
}

/// What a run in this process does about failures, if its author or user has chosen something.
fn restart_strategy(configuration: &Configuration) -> RestartStrategy {
    match configuration.get(&options::RESTART_STRATEGY) {
        RestartStrategyType::None => RestartStrategy::None,
        RestartStrategyType::FixedDelay => RestartStrategy::FixedDelay {
            attempts: configuration.get(&options::FIXED_DELAY_ATTEMPTS),
            delay: configuration.get(&options::FIXED_DELAY_DELAY),
        },
        RestartStrategyType::FailureRate => RestartStrategy::FailureRate {
            max_failures_per_interval: configuration.get(&options::FAILURE_RATE_MAX),
            interval: configuration.get(&options::FAILURE_RATE_INTERVAL),
            delay: configuration.get(&options::FAILURE_RATE_DELAY),
        },
        RestartStrategyType::ExponentialDelay => RestartStrategy::ExponentialDelay {
            initial_backoff: configuration.get(&options::EXPONENTIAL_INITIAL),
            max_backoff: configuration.get(&options::EXPONENTIAL_MAX),
            backoff_multiplier: configuration.get(&options::EXPONENTIAL_MULTIPLIER),
            reset_backoff_threshold: configuration.get(&options::EXPONENTIAL_RESET),
            jitter_factor: configuration.get(&options::EXPONENTIAL_JITTER),
            attempts_before_reset: configuration.get(&options::EXPONENTIAL_ATTEMPTS),
        },
    }
}

/// Unique on this machine: process and time.
fn new_run_id() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    format!("{:x}-{:x}", std::process::id(), nanos)
}
