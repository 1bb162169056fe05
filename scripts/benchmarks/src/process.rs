//! Child processes of this binary: each run gets a fresh one, so that memory, threads and CPU seconds are its own.

use crate::job::{ChildReport, Failure, Job, Outcome};
use std::io::Read;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The first argument of a child; the second is its [`Job`] as JSON.
pub const CHILD_FLAG: &str = "--child";

/// A run that takes longer has hung.
const TIME_LIMIT: Duration = Duration::from_secs(240);

/// A running child. Dropping it kills it.
pub struct Running {
    child: Child,
}

/// Starts a child of this binary that runs `job`.
pub fn spawn(job: &Job) -> Result<Running, Failure> {
    let child = Command::new(std::env::current_exe()?)
        .arg(CHILD_FLAG)
        .arg(serde_json::to_string(job)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(Running { child })
}

impl Running {
    /// Waits for the child's report.
    pub fn wait(mut self) -> Result<ChildReport, Failure> {
        let mut stdout = self.child.stdout.take().ok_or("the child's output is taken only here")?;
        let output = thread::spawn(move || {
            let mut output = String::new();
            stdout.read_to_string(&mut output).map(|_| output)
        });
        let started = Instant::now();
        while !output.is_finished() {
            if started.elapsed() > TIME_LIMIT {
                return Err(format!("no result after {} s; it was stopped", TIME_LIMIT.as_secs()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let output = output.join().map_err(|_| "the thread that reads a child's output does not panic")??;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("it ended with {status}").into());
        }
        let last = output.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|error| format!("expected a report, found `{last}`: {error}").into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child does: the run its argument describes, then one line of JSON.
pub fn child(argument: Option<String>) -> ExitCode {
    end_with_parent();
    match run_child(argument) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("weir-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_child(argument: Option<String>) -> Result<String, Failure> {
    let job: Job = serde_json::from_str(&argument.ok_or("a child needs a job")?)?;
    let before = cpu_seconds();
    let outcome = job.system.run(&job)?;
    Ok(serde_json::to_string(&ChildReport { outcome, cpu_s: cpu_seconds() - before })?)
}

/// Ends this process when its standard input, which the parent holds, closes.
fn end_with_parent() {
    thread::spawn(|| {
        let mut stdin = std::io::stdin();
        while stdin.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        std::process::exit(3);
    });
}

/// CPU seconds, user and system, of this process and of its children that have ended.
fn cpu_seconds() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(usage).sum()
}

fn usage(who: libc::c_int) -> f64 {
    // SAFETY: `rusage` is plain integers, for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid rusage that outlives the call.
    let result = unsafe { libc::getrusage(who, &mut usage) };
    assert_eq!(result, 0, "getrusage of this process succeeds");
    [usage.ru_utime, usage.ru_stime].iter().map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6).sum()
}

/// Measures how busy other processes keep the machine while this one and its children work.
pub struct Neighbours {
    since: Instant,
    theirs_s: Option<f64>,
}

impl Neighbours {
    /// Begins to measure.
    pub fn watch() -> Neighbours {
        Neighbours { since: Instant::now(), theirs_s: others_cpu_seconds() }
    }

    /// The cores others used on average since then, where the system tells.
    pub fn cores(&self) -> Option<f64> {
        let theirs_s = others_cpu_seconds()? - self.theirs_s?;
        Some((theirs_s / self.since.elapsed().as_secs_f64()).max(0.0))
    }
}

/// CPU seconds of everyone but this process and its children, since the machine started.
fn others_cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; the two last are guests, counted in the first already.
    let busy: u64 = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|field| ticks.get(field)).sum();
    // SAFETY: `sysconf` reads a constant of the system.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(busy as f64 / ticks_per_second as f64 - cpu_seconds())
}

/// The outcome of two processes that worked together.
pub fn join_outcomes(one: Outcome, other: Outcome) -> Outcome {
    Outcome {
        wall: one.wall.max(other.wall),
        observed: one.observed.merge(other.observed),
        latency: one.latency.or(other.latency),
        checkpoints: one.checkpoints.or(other.checkpoints),
    }
}
