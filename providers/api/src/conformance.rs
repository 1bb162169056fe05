//! The conformance suite: what every provider has to do, as checks that its own tests run.
//!
//! ```no_run
//! use std::path::Path;
//! use weir_provider_api::ProviderFactory;
//! use weir_provider_api::conformance::{Level, Setup, run};
//!
//! fn conforms(factory: &dyn ProviderFactory, empty_folder: &Path) {
//!     let setup = Setup::with_shell(empty_folder);
//!     run(factory, &setup, Level::Full).assert_passed();
//! }
//! ```
//!
//! Each check opens the provider anew, for a cluster of its own, and stops what it has started. Whatever a check is about, the order of
//! events is watched: for one worker Started before Ready before Terminated, each once at most, nothing after Terminated, nothing about
//! workers that nobody asked for, nothing after Closed; and no request may keep its caller waiting.

mod checks;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::{Capability, ProviderFactory, ResourceProfile, TaskManagerId, WorkerSpec};

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What even the smallest provider has to do.
    Basic,
    /// What a provider for production has to do, its capabilities included.
    Full,
}

/// What the suite needs to know about the place where a provider starts its workers.
#[derive(Debug, Clone)]
pub struct Setup {
    /// An existing, empty folder for the provider's state.
    pub state_dir: PathBuf,
    /// Options the provider is opened with. At least four workers must be allowed.
    pub configuration: BTreeMap<String, String>,
    /// A worker whose command runs until it is stopped. Its id is replaced.
    pub template: WorkerSpec,
    /// A command that ends by itself, at once, with status 7.
    pub exits: Vec<String>,
    /// A command that ends itself with SIGKILL.
    pub kills_itself: Vec<String>,
    /// A command that ignores SIGTERM.
    pub stubborn: Vec<String>,
    /// A command that cannot be started, e.g. a program that does not exist.
    pub cannot_start: Vec<String>,
    /// How many workers are started at once; not more than the provider may have.
    pub many: u32,
    /// How many checks are made at the same time, each with a cluster of its own; 1 unless it is changed.
    pub checks_at_once: usize,
    /// How long an event may take.
    pub patience: Duration,
    /// How long a request may keep its caller.
    pub request_limit: Duration,
}

impl Setup {
    /// For providers whose workers can run `/bin/sh`.
    pub fn with_shell(state_dir: impl Into<PathBuf>) -> Self {
        let shell = |script: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
        Self {
            state_dir: state_dir.into(),
            configuration: BTreeMap::new(),
            template: WorkerSpec {
                id: TaskManagerId::new("template"),
                resources: ResourceProfile::default(),
                slots: 2,
                command: shell("exec sleep 1000000"),
                environment: BTreeMap::new(),
                files: Vec::new(),
            },
            exits: shell("exit 7"),
            kills_itself: shell("kill -9 $$"),
            stubborn: shell("trap '' TERM; while :; do sleep 1; done"),
            cannot_start: vec!["/nonexistent/program".to_owned()],
            many: 4,
            checks_at_once: 1,
            patience: Duration::from_secs(60),
            request_limit: Duration::from_secs(5),
        }
    }
}

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The check.
    pub check: &'static str,
    /// What the provider did wrong.
    pub result: Result<(), String>,
}

/// How all checks went, the simple ones first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One for each check.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.result.is_ok())
    }

    /// Panics with the report if a check failed.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.passed(), "the provider does not conform:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome { check, result } in &self.outcomes {
            match result {
                Ok(()) => writeln!(f, "passed  {check}")?,
                Err(problem) => writeln!(f, "FAILED  {check}: {problem}")?,
            }
        }
        Ok(())
    }
}

/// One check. `needs` is the capability without which it is left out.
struct Check {
    name: &'static str,
    level: Level,
    needs: Option<Capability>,
    run: fn(&session::Bench<'_>) -> Result<(), String>,
}

fn chosen(factory: &dyn ProviderFactory, level: Level) -> impl Iterator<Item = &'static Check> {
    let capabilities = factory.describe().capabilities;
    checks::ALL.iter().filter(move |check| {
        check.level <= level && check.needs.is_none_or(|capability| capabilities.contains(&capability))
    })
}

/// Names of the checks that [`run`] makes of this provider.
pub fn names(factory: &dyn ProviderFactory, level: Level) -> Vec<&'static str> {
    chosen(factory, level).map(|check| check.name).collect()
}

/// Makes all checks of the level that the provider's capabilities allow.
pub fn run(factory: &dyn ProviderFactory, setup: &Setup, level: Level) -> Report {
    let checks: Vec<_> = chosen(factory, level).collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let run_checks = || {
        while let Some((position, check)) = take(&next, &checks) {
            let bench = session::Bench { factory, setup, check: check.name };
            let result = catch_unwind(AssertUnwindSafe(|| (check.run)(&bench)));
            let result = result.unwrap_or_else(|_| Err("it panicked".to_owned()));
            let outcome = Outcome { check: check.name, result };
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((position, outcome));
        }
    };
    thread::scope(|scope| {
        for _ in 0..setup.checks_at_once.max(1) {
            scope.spawn(run_checks);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(position, _)| *position);
    Report { outcomes: outcomes.into_iter().map(|(_, outcome)| outcome).collect() }
}

fn take(next: &AtomicUsize, checks: &[&'static Check]) -> Option<(usize, &'static Check)> {
    let position = next.fetch_add(1, Ordering::Relaxed);
    checks.get(position).map(|check| (position, *check))
}

/// Makes one check, for looking into a failure.
pub fn run_one(factory: &dyn ProviderFactory, setup: &Setup, check: &str) -> Result<(), String> {
    let found = chosen(factory, Level::Full).find(|candidate| candidate.name == check);
    let found = found.ok_or_else(|| format!("there is no check {check:?} for this provider"))?;
    (found.run)(&session::Bench { factory, setup, check: found.name })
}
