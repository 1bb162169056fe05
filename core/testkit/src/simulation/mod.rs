//! The whole control plane in virtual time: the machines that decide in a cluster, with everything around them simulated.
//!
//! The Dispatcher, the ResourceManager, the JobMasters and the TaskManagers are the real ones. Worker processes, coordinators,
//! providers, the network and the rest of the JobManager are models. All that is random comes from one seed, so a failure can
//! be replayed. What must always hold is checked after every event; see `invariants`.

mod coordinator;
mod faults;
mod former_leader;
mod invariants;
mod job_manager;
mod network;
mod provider;
mod random;
pub mod scale;
mod scenario;
mod task_manager;
mod worker;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use weir_dispatcher::Event as DispatcherEvent;
use weir_model::{DeploymentId, JobId, JobStatus, LeaderEpoch, TaskId};
use weir_proto::control::{ForJobManager, ForTaskManager};
use weir_provider_api::ProviderEvent;
use weir_taskmanager::state::{ConnectionKey, WorkerEvent, WorkerKey};

use self::coordinator::Coordinator;
use self::faults::Fault;
use self::invariants::Checks;
use self::job_manager::{Inner, JobManager};
use self::network::Connection;
use self::provider::SimulatedProvider;
use self::random::Random;
use self::scenario::Scenario;
use self::task_manager::TaskManagerProcess;
use self::worker::{Flow, WorkerStep};

/// How a simulated cluster fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the jobs ended, in the order in which they were submitted.
    pub jobs: Vec<JobStatus>,
    /// Virtual time until everything was over.
    pub time: Duration,
    /// Number of events.
    pub events: u64,
    /// Number of faults.
    pub faults: u32,
    /// Number of deployments of all jobs.
    pub deployments: u32,
    /// How often the tasks of a worker began from a checkpoint.
    pub restores: u32,
    /// How often jobs came to run with another parallelism.
    pub rescales: u32,
    /// Depends on everything that happened: equal for equal runs.
    pub fingerprint: u64,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The seed that leads there.
    pub seed: u64,
    /// When, since the start.
    pub at: Duration,
    /// What.
    pub what: String,
    /// What happened before, if it was kept; the last lines of it.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let Self { seed, at, what, .. } = self;
        writeln!(f, "seed {seed}, after {at:?}: {what}")?;
        write!(f, "replay it with `cargo run -p weir-testkit -- --seed {seed} --trace`")
    }
}

/// What becomes of the trace of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// There is none.
    Off,
    /// It is printed as it comes.
    Print,
    /// This many lines before a violation are kept.
    Keep(usize),
}

/// Simulates the cluster of a seed until all its jobs have ended and all its TaskManagers are idle or gone.
pub fn simulate(seed: u64, trace: Trace) -> Result<Outcome, Box<Violation>> {
    conclude(seed, &mut World::new(seed, trace))
}

/// Runs to the end. A panic counts as a violation, so that it is reported with its seed.
fn conclude(seed: u64, world: &mut World) -> Result<Outcome, Box<Violation>> {
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let what = match result {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with no message");
            format!("a component panicked: {text}")
        }
    };
    Err(Box::new(Violation { seed, at: world.now - START, what, trace: std::mem::take(&mut world.lines) }))
}

/// When the simulation starts, since 1970-01-01 UTC.
const START: Duration = Duration::from_secs(1_700_000_000);

/// How long jobs may take once faults have stopped, before those that need not end by themselves are canceled.
const PATIENCE: Duration = Duration::from_secs(40 * 60);

/// How long everything may take after that.
const GRACE: Duration = Duration::from_secs(20 * 60);

/// No simulation needs nearly as many events.
const MAX_EVENTS: u64 = 500_000;

/// Something that happens at a time.
#[derive(Debug)]
enum Happening {
    /// To a JobManager; does not happen if it is not the one that lives then.
    JobManager {
        life: u32,
        what: ForJm,
    },
    /// To a TaskManager; likewise.
    TaskManager {
        index: usize,
        life: u32,
        what: ForTm,
    },
    /// In a worker process.
    Worker {
        index: usize,
        life: u32,
        worker: WorkerKey,
        step: WorkerStep,
    },
    /// In a coordinator process.
    Coordinator {
        job: JobId,
        instance: u32,
        step: coordinator::Step,
    },
    /// In a provider.
    Provider {
        index: usize,
        step: provider::Step,
    },
    /// Somebody submits a job, by position.
    Submit(usize),
    /// Somebody cancels a job, by position.
    Cancel(usize),
    /// Somebody asks for other numbers of subtasks, by position of the job.
    Rescale(usize),
    Fault(Fault),
    /// A TaskManager process is started.
    StartTaskManager {
        index: usize,
    },
    /// A JobManager is started.
    StartJobManager,
    /// A TaskManager says something to the JobManager that was replaced.
    FormerLeader {
        connection: usize,
        message: ForJobManager,
    },
    FormerLeaderEnds,
}

/// What happens to a JobManager process.
#[derive(Debug)]
enum ForJm {
    Timer(TimerOf),
    Message {
        connection: usize,
        epoch: LeaderEpoch,
        message: ForJobManager,
    },
    Broken {
        connection: usize,
        reason: String,
    },
    /// A TaskManager may have been silent for too long.
    LookAfter {
        connection: usize,
    },
    Coordinator {
        job: JobId,
        instance: u32,
        message: weir_jobmaster::FromCoordinator,
    },
    Persisted(DispatcherEvent),
    Provider {
        index: usize,
        event: ProviderEvent,
    },
    /// One of its machines is told something by another.
    Inner(Inner),
    Thaw,
}

/// Whose timer it is.
#[derive(Debug)]
enum TimerOf {
    Dispatcher(u64),
    ResourceManager(u64),
    Job(JobId, u64),
}

/// What happens to a TaskManager process.
#[derive(Debug)]
enum ForTm {
    Time,
    Connected(ConnectionKey),
    ConnectionLost { key: ConnectionKey, reason: String },
    Message { connection: usize, epoch: LeaderEpoch, message: ForTaskManager },
    Worker { worker: WorkerKey, event: WorkerEvent },
    Thaw,
}

/// A [`Happening`] at its time; those of the same time happen in the order in which they were planned.
struct Planned {
    at: Duration,
    order: u64,
    what: Happening,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Everything there is.
struct World {
    now: Duration,
    agenda: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    happened: u64,
    fingerprint: u64,
    random: Random,
    scenario: Scenario,
    job_manager: JobManager,
    /// The epoch of a JobManager that was replaced and lives on.
    former_leader: Option<LeaderEpoch>,
    task_managers: Vec<TaskManagerProcess>,
    connections: Vec<Connection>,
    coordinators: BTreeMap<JobId, Coordinator>,
    providers: Vec<SimulatedProvider>,
    /// What the tasks of a deployment do together.
    flows: BTreeMap<DeploymentId, Flow>,
    /// Whether anything may still go wrong.
    calm: bool,
    faults: u32,
    checks: Checks,
    trace: Trace,
    lines: Vec<String>,
}

impl World {
    fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let scenario = Scenario::draw(&mut random);
        Self::of(scenario, random, trace)
    }

    fn of(scenario: Scenario, random: Random, trace: Trace) -> Self {
        Self {
            now: START,
            agenda: BinaryHeap::new(),
            planned: 0,
            happened: 0,
            fingerprint: 0,
            random,
            job_manager: JobManager::not_started(),
            former_leader: None,
            task_managers: Vec::new(),
            connections: Vec::new(),
            coordinators: BTreeMap::new(),
            providers: scenario.providers.iter().map(SimulatedProvider::new).collect(),
            flows: BTreeMap::new(),
            calm: false,
            faults: 0,
            checks: Checks::new(scenario.jobs.len()),
            scenario,
            trace,
            lines: Vec::new(),
        }
    }

    fn at(&mut self, at: Duration, what: Happening) {
        let order = self.planned;
        self.planned += 1;
        self.agenda.push(Reverse(Planned { at: at.max(self.now), order, what }));
    }

    fn after(&mut self, delay: Duration, what: Happening) {
        self.at(self.now + delay, what);
    }

    /// Notes a line in the trace.
    fn log(&mut self, line: impl FnOnce(&World) -> String) {
        if self.trace == Trace::Off {
            return;
        }
        let line = format!("{:>12.6}  {}", (self.now - START).as_secs_f64(), line(self));
        match self.trace {
            Trace::Off => {}
            Trace::Print => println!("{line}"),
            Trace::Keep(limit) => {
                if self.lines.len() >= 2 * limit {
                    self.lines.drain(..limit);
                }
                self.lines.push(line);
            }
        }
    }

    /// Notes a violation unless `holds`; the first one counts.
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.checks.violation.is_none() {
            self.checks.violation = Some(what());
        }
    }

    fn run(&mut self) -> Result<Outcome, String> {
        self.begin();
        let calm_from = START + self.scenario.calm_from;
        self.run_until(calm_from, |_| false)?;
        self.calm_down();
        self.run_until(calm_from + PATIENCE, World::all_jobs_ended)?;
        self.check_jobs_that_end_by_themselves();
        for job in 0..self.scenario.jobs.len() {
            self.after(Duration::ZERO, Happening::Cancel(job));
        }
        let end = self.now + GRACE;
        self.run_until(end, World::all_jobs_ended)?;
        self.check_all_jobs_ended();
        // Time for idle TaskManagers to be released, and for those that were lost to be given up.
        let end = self.now + GRACE;
        self.run_until(end, |_| false)?;
        self.check_nothing_is_left();
        match self.checks.violation.take() {
            Some(what) => Err(what),
            None => Ok(self.outcome()),
        }
    }

    fn begin(&mut self) {
        self.at(START, Happening::StartJobManager);
        for (index, slots) in self.scenario.by_hand.clone().into_iter().enumerate() {
            self.task_managers.push(TaskManagerProcess::by_hand(index, slots));
            let delay = self.random.millis(0, 5_000);
            self.after(delay, Happening::StartTaskManager { index });
        }
        for job in 0..self.scenario.jobs.len() {
            let at = START + self.scenario.jobs[job].submit_at;
            self.at(at, Happening::Submit(job));
            if let Some(cancel_at) = self.scenario.jobs[job].cancel_at {
                self.at(at + cancel_at, Happening::Cancel(job));
            }
            for rescale_at in self.scenario.jobs[job].rescale_at.clone() {
                self.at(at + rescale_at, Happening::Rescale(job));
            }
        }
        self.plan_faults();
    }

    /// Lets things happen until a time, or until `over`.
    fn run_until(&mut self, end: Duration, over: impl Fn(&World) -> bool) -> Result<(), String> {
        while self.agenda.peek().is_some_and(|Reverse(next)| next.at <= end) && !over(self) {
            let Some(Reverse(next)) = self.agenda.pop() else { break };
            self.now = next.at;
            self.happened += 1;
            // Order and time of all that happens follow from all that happened before.
            let sign = next.order ^ (next.at.as_nanos() as u64).rotate_left(32);
            self.fingerprint = (self.fingerprint ^ sign).wrapping_mul(0x0100_0000_01b3);
            self.happen(next.what);
            self.check(self.happened < MAX_EVENTS, || "components keep each other busy without end".to_owned());
            if let Some(what) = self.checks.violation.take() {
                return Err(what);
            }
        }
        if !over(self) {
            self.now = self.now.max(end);
        }
        Ok(())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::JobManager { life, what } => self.happen_to_job_manager(life, what),
            Happening::TaskManager { index, life, what } => self.happen_to_task_manager(index, life, what),
            Happening::Worker { index, life, worker, step } => self.happen_in_worker(index, life, worker, step),
            Happening::Coordinator { job, instance, step } => self.happen_in_coordinator(job, instance, step),
            Happening::Provider { index, step } => self.happen_in_provider(index, step),
            Happening::Submit(job) => self.submit(job),
            Happening::Cancel(job) => self.cancel(job),
            Happening::Rescale(job) => self.rescale(job),
            Happening::Fault(fault) => self.strike(fault),
            Happening::StartTaskManager { index } => self.start_task_manager(index),
            Happening::StartJobManager => self.start_job_manager(),
            Happening::FormerLeader { connection, message } => self.happen_to_former_leader(connection, &message),
            Happening::FormerLeaderEnds => self.end_former_leader(),
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            jobs: (0..self.scenario.jobs.len()).filter_map(|job| self.status(job)).collect(),
            time: self.now - START,
            events: self.happened,
            faults: self.faults,
            deployments: self.flows.len() as u32,
            restores: self.checks.restores,
            rescales: self.checks.rescales,
            fingerprint: self.fingerprint,
        }
    }
}

/// The task as people write it: `1/3` is subtask 3 of vertex 1.
fn short(task: TaskId) -> String {
    format!("{}/{}", task.vertex, task.subtask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_says_how_to_replay_it() {
        let violation = Violation {
            seed: 7,
            at: Duration::from_millis(1500),
            what: "a slot is given twice".to_owned(),
            trace: vec!["what came before".to_owned()],
        };
        let text = violation.to_string();
        assert!(text.starts_with("what came before\nseed 7, after 1.5s: a slot is given twice\n"), "{text}");
        assert!(text.contains("cargo run -p weir-testkit -- --seed 7 --trace"), "{text}");
    }

    #[test]
    fn a_panic_of_a_component_is_a_violation_of_its_seed() {
        let mut world = World::new(3, Trace::Off);
        // A job that is not in the scenario: the simulation itself relies on that.
        world.at(START, Happening::Submit(99));
        let violation = conclude(3, &mut world).expect_err("there is no such job");
        assert!(violation.what.contains("panicked"), "{violation}");
    }
}
