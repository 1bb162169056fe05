//! Running a job: what a job's executable does.
//!
//! One executable plays several roles. Started by a person it is the *driver* of an embedded run: it builds the job, decides
//! with the pure [`weir_scheduler::JobScheduler`], and runs the tasks in its own process or in worker processes that it
//! starts. Started by a driver it is a *worker*: it builds the same job, checks that it is the same, and runs its share.
//! In a cluster TaskManagers start the workers, and the JobManager starts the executable as the *coordinator*, which plans,
//! enumerates what sources read, and commits what sinks wrote.

mod arguments;
mod backend;
mod checkpoints;
mod commits;
mod coordinator;
mod coordinator_role;
mod describe;
mod driver;
#[cfg(target_os = "linux")]
mod guardian;
mod in_process;
mod memory;
mod processes;
mod progress;
mod protocol;
mod signals;
mod summary;
mod terminal;
mod usage;
mod worker_role;

use std::ffi::OsString;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::{ArgMatches, Command};
use weir_config::Configuration;
use weir_dataflow::failure;
use weir_dataflow::plan::{DriverSide, JobPlan};

use crate::environment::Environment;
use crate::error::{Error, Result};
use arguments::{Parsed, RuntimeArgs};
use coordinator::Sources;
pub(crate) use progress::clear_line;
use summary::Summary;

/// Exit codes of a job's executable.
pub(crate) mod exit {
    /// The job finished.
    pub(crate) const FINISHED: u8 = 0;
    /// The job failed, or could not start.
    pub(crate) const FAILED: u8 = 1;
    /// The command line was wrong.
    pub(crate) const USAGE: u8 = 2;
    /// Interrupted by a signal.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// A named job of an executable. Made by [`main!`](crate::main).
pub struct Job {
    name: &'static str,
    builder: Box<dyn Builder>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({})", self.name)
    }
}

impl Job {
    /// A job built by `function`, a function from `&Environment` or from `&Environment` and arguments.
    pub fn new<M: 'static>(name: &'static str, function: impl JobFunction<M> + 'static) -> Job {
        Job { name, builder: Box::new(TypedBuilder { function, marker: PhantomData::<fn() -> M> }) }
    }
}

/// Functions that build a job. `M` only tells the two kinds apart.
pub trait JobFunction<M> {
    /// Adds the job's own arguments to a command.
    fn augment(command: Command) -> Command;
    /// Builds the job.
    fn build(&self, env: &Environment, matches: &ArgMatches) -> Result<()>;
}

/// Marks functions without arguments.
#[derive(Debug)]
pub struct WithoutArguments;

impl<F: Fn(&Environment) -> Result<()>> JobFunction<WithoutArguments> for F {
    fn augment(command: Command) -> Command {
        command
    }
    fn build(&self, env: &Environment, _matches: &ArgMatches) -> Result<()> {
        self(env)
    }
}

impl<A: clap::Args, F: Fn(&Environment, A) -> Result<()>> JobFunction<(A,)> for F {
    fn augment(command: Command) -> Command {
        A::augment_args(command)
    }
    fn build(&self, env: &Environment, matches: &ArgMatches) -> Result<()> {
        let arguments = A::from_arg_matches(matches).map_err(|e| Error::Job(e.to_string()))?;
        self(env, arguments)
    }
}

trait Builder {
    fn augment(&self, command: Command) -> Command;
    fn build(&self, env: &Environment, matches: &ArgMatches) -> Result<()>;
}

struct TypedBuilder<F, M> {
    function: F,
    marker: PhantomData<fn() -> M>,
}

impl<M, F: JobFunction<M>> Builder for TypedBuilder<F, M> {
    fn augment(&self, command: Command) -> Command {
        F::augment(command)
    }
    fn build(&self, env: &Environment, matches: &ArgMatches) -> Result<()> {
        self.function.build(env, matches)
    }
}

/// Builds the chosen job.
fn build_job(job: &Job, parsed: &Parsed) -> Result<(JobPlan, DriverSide, Configuration)> {
    author_code("the job's function", || {
        let env = Environment::new(job.name, parsed.runtime.configuration()?);
        job.builder.build(&env, &parsed.matches)?;
        env.into_job()
    })
}

/// Runs code that somebody else wrote outside of any task; a panic in it is an error like others.
fn author_code<R>(whose: &str, code: impl FnOnce() -> Result<R>) -> Result<R> {
    match failure::catch(|| Ok(code()), |_| String::new()) {
        Ok(result) => result,
        Err(error) => Err(Error::Job(format!("{whose} {error}"))),
    }
}

/// The `fn main` of a job's executable: parses the command line, then drives the job or plays the role it was
/// started for.
pub fn main(jobs: Vec<Job>) -> ExitCode {
    if let Some(role) = describe::asked_role() {
        return ExitCode::from(describe::answer(&jobs, &role));
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(seat) = coordinator_role::Seat::from_environment() {
        #[cfg(target_os = "linux")]
        let _guardian = guardian::start();
        return ExitCode::from(coordinator_role::serve(&jobs, arguments, &seat));
    }
    let code = match arguments::parse(&jobs, arguments) {
        Ok(parsed) => run(&jobs, &parsed),
        Err(stop) => stop.print(),
    };
    ExitCode::from(code)
}

fn run(jobs: &[Job], parsed: &Parsed) -> u8 {
    let job = &jobs[parsed.job];
    match worker_role::Seat::from_environment() {
        Some(Ok(seat)) => {
            #[cfg(target_os = "linux")]
            let _guardian = guardian::start();
            return worker_role::serve(job, parsed, seat);
        }
        Some(Err(error)) => {
            terminal::err(format!("error: {error}"));
            return exit::USAGE;
        }
        None => {}
    }
    match drive(job, parsed) {
        Ok(code) => code,
        Err(error) => {
            summary::print_error(job.name, &parsed.runtime, &error);
            if matches!(error, Error::Interrupted) { exit::INTERRUPTED } else { exit::FAILED }
        }
    }
}

fn drive(job: &Job, parsed: &Parsed) -> Result<u8> {
    let (plan, side, configuration) = build_job(job, parsed)?;
    if let Some(format) = parsed.runtime.explain {
        return Ok(written(terminal::out(format.render(&plan.graph)), exit::FINISHED));
    }
    let plan = Arc::new(plan);
    // Not dropped: the process ends anyway, and an author's `Drop` that panics must not change how the job ended.
    std::mem::forget(plan.clone());
    let (sources, sinks) = (Sources::new(Mutex::new(side.sources)), ManuallyDrop::new(side.sinks));
    std::mem::forget(sources.clone());
    let outcome = driver::drive(&plan, sources, &sinks, configuration, &parsed.runtime)?;
    let printed = Summary::new(&plan.graph, &outcome).print(&parsed.runtime);
    Ok(written(printed, outcome.exit_code()))
}

/// The exit code of something whose output was asked for: success is only success if the output could be written.
fn written(written: bool, code: u8) -> u8 {
    if written || code != exit::FINISHED { code } else { exit::FAILED }
}

/// Builds a job and runs it to its end in this process, printing nothing: for tests of a job, with
/// [`CollectSink`](crate::connectors::CollectSink) to look at its results.
///
/// ```
/// use weir::prelude::*;
///
/// let (sink, results) = CollectSink::new();
/// weir::run::in_process("doubles", |env| {
///     env.from_collection([1u64, 2, 3]).map(|n| n * 2).sink(sink);
///     Ok(())
/// })?;
/// assert_eq!(results.take_sorted(), [2, 4, 6]);
/// # Ok::<(), weir::Error>(())
/// ```
///
/// # Errors
/// Whatever keeps the job from being built or from finishing; [`Error::Failed`] holds the report of a failed task.
pub fn in_process(name: &str, build: impl FnOnce(&Environment) -> Result<()>) -> Result<()> {
    let env = Environment::new(name, Configuration::new());
    build(&env)?;
    let (plan, side, configuration) = env.into_job()?;
    let plan = Arc::new(plan);
    let sources = Sources::new(Mutex::new(side.sources));
    let outcome = driver::drive_quietly(&plan, sources, &side.sinks, &configuration)?;
    match outcome.exit_code() {
        exit::FINISHED => Ok(()),
        _ => Err(Error::Failed(Summary::new(&plan.graph, &outcome).failure_text())),
    }
}

/// What a job's builder and driver are told by the command line.
pub(crate) type Runtime = RuntimeArgs;
