//! Looks at coordinators from outside: how much memory they take, and whether a signal has stopped them.
//!
//! What they do to this machine they do to this process and to all other jobs, and a stopped one says nothing, not even that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use weir_model::JobId;
use weir_process::{Killer, Process};

/// The pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A look may take a tenth of the time.
const LOOK_SHARE: u32 = 10;

/// What coordinators may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoordinatorLimits {
    /// Bytes of memory of all coordinators together, with what they have started; `None`: nine tenths of what this machine or the control
    /// group has.
    pub(crate) memory: Option<u64>,
    /// How long one may be stopped by a signal.
    pub(crate) stopped: Duration,
}

/// Watches all coordinators of a JobManager.
#[derive(Debug)]
pub(crate) struct CoordinatorWatch {
    limits: CoordinatorLimits,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    next: u64,
    coordinators: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    job: JobId,
    pid: u32,
    killer: Killer,
    seen: Arc<Seen>,
    stopped: Option<Instant>,
}

/// What is known of a coordinator.
#[derive(Debug, Default)]
struct Seen {
    /// Why it was killed.
    verdict: OnceLock<String>,
    /// How many commits are under way.
    commits: AtomicU32,
}

/// A coordinator being watched, for as long as this lives.
#[derive(Debug)]
pub(crate) struct UnderWatch {
    watch: Arc<CoordinatorWatch>,
    key: u64,
    seen: Arc<Seen>,
}

impl UnderWatch {
    /// Why it was killed, if the watch did it.
    pub(super) fn verdict(&self) -> Option<&str> {
        self.seen.verdict.get().map(String::as_str)
    }

    /// Notes that it was told to make output visible.
    pub(super) fn commit_begins(&self) {
        self.seen.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that it has answered.
    pub(super) fn commit_ends(&self) {
        // It may answer what nobody asked.
        let _ = self.seen.commits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }
}

impl Drop for UnderWatch {
    fn drop(&mut self) {
        self.watch.lock().coordinators.remove(&self.key);
    }
}

impl CoordinatorWatch {
    pub(crate) fn new(limits: CoordinatorLimits) -> Arc<CoordinatorWatch> {
        Arc::new(CoordinatorWatch { limits, watched: Mutex::default() })
    }

    pub(super) fn add(self: &Arc<Self>, job: JobId, process: &Process) -> UnderWatch {
        let seen = Arc::new(Seen::default());
        let entry = Entry { job, pid: process.pid(), killer: process.killer(), seen: seen.clone(), stopped: None };
        let mut watched = self.lock();
        watched.next += 1;
        let key = watched.next;
        watched.coordinators.insert(key, entry);
        UnderWatch { watch: self.clone(), key, seen }
    }

    /// The jobs that have a coordinator.
    pub(super) fn jobs(&self) -> BTreeSet<JobId> {
        self.lock().coordinators.values().map(|entry| entry.job).collect()
    }

    /// Whether some coordinator makes output visible at the moment.
    pub(crate) fn some_commit(&self) -> bool {
        self.lock().coordinators.values().any(|entry| entry.seen.commits.load(Ordering::Relaxed) > 0)
    }

    /// Looks until it is to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = LOOK_INTERVAL;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let watch = self.clone();
            let began = Instant::now();
            let _ = tokio::task::spawn_blocking(move || watch.look(began)).await;
            pause = LOOK_INTERVAL.max(began.elapsed() * LOOK_SHARE);
        }
    }

    fn look(&self, now: Instant) {
        let pids: Vec<(u64, u32)> = self.lock().coordinators.iter().map(|(key, entry)| (*key, entry.pid)).collect();
        // Without the lock: a machine that is short of memory is slow to answer.
        let seen: Vec<(u64, u64, bool)> = pids
            .into_iter()
            .map(|(key, pid)| (key, weir_process::resident_bytes_of_tree(pid), weir_process::is_stopped(pid)))
            .collect();
        let mut watched = self.lock();
        for (key, _, stopped) in &seen {
            if let Some(entry) = watched.coordinators.get_mut(key) {
                self.check_stopped(entry, *stopped, now);
            }
        }
        self.check_memory(&watched, &seen);
    }

    fn check_stopped(&self, entry: &mut Entry, stopped: bool, now: Instant) {
        if !stopped {
            entry.stopped = None;
            return;
        }
        let since = *entry.stopped.get_or_insert(now);
        if now.duration_since(since) >= self.limits.stopped {
            let limit = self.limits.stopped;
            entry.kill(format!(
                "a signal has stopped it for {limit:?} (`heartbeat.timeout`), so it does nothing for its job"
            ));
        }
    }

    /// The largest goes. One at a time: the next look tells whether that was enough.
    fn check_memory(&self, watched: &Watched, seen: &[(u64, u64, bool)]) {
        let (limit, origin) = match self.limits.memory {
            Some(limit) => (limit, "`jobmanager.memory.coordinators.size` allows"),
            None => (
                weir_process::memory().1 / 10 * 9,
                "this machine can give (nine tenths of its memory; `jobmanager.memory.coordinators.size` sets another limit)",
            ),
        };
        let total: u64 = seen.iter().map(|(_, bytes, _)| bytes).sum();
        if total <= limit {
            return;
        }
        let Some((key, bytes, _)) = seen.iter().max_by_key(|(_, bytes, _)| bytes) else { return };
        let Some(entry) = watched.coordinators.get(key) else { return };
        let mib = |bytes: u64| bytes >> 20;
        let others = match seen.len() {
            1 => String::new(),
            _ => format!(" together with {} MiB of other jobs' coordinators", mib(total - bytes)),
        };
        entry.kill(format!(
            "it uses {} MiB of memory{others}, more than the {} MiB that {origin}; look for what the job's builder or its sources load \
             while planning or listing splits",
            mib(*bytes),
            mib(limit)
        ));
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn kill(&self, why: String) {
        if self.seen.verdict.set(why).is_ok() {
            let reason = self.seen.verdict.get();
            tracing::warn!(job_id = %self.job, pid = self.pid, reason, "killed the coordinator of a job");
            self.killer.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_process::Command;

    use super::*;

    async fn process(script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.arguments = vec!["-c".into(), script.into()];
        Process::spawn(command).await.unwrap()
    }

    fn watch(memory: Option<u64>, stopped: Duration) -> Arc<CoordinatorWatch> {
        let watch = CoordinatorWatch::new(CoordinatorLimits { memory, stopped });
        tokio::spawn(watch.clone().run(CancellationToken::new()));
        watch
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn the_largest_is_killed_when_they_take_too_much_memory_together() {
        let watch = watch(Some(40 << 20), LONG);
        let mut small = process("exec sleep 1000").await;
        let mut large =
            process("exec awk 'BEGIN { for (s = \"x\"; length(s) < 50000000; ) s = s s; while (1) n++ }'").await;
        let other = watch.add(JobId::from_bytes([1; 16]), &small);
        let seen = watch.add(JobId::from_bytes([2; 16]), &large);
        assert_eq!(watch.jobs().len(), 2);
        tokio::time::timeout(Duration::from_secs(60), large.wait()).await.expect("killed");
        let why = seen.verdict().unwrap();
        assert!(why.contains("more than the 40 MiB that `jobmanager.memory.coordinators.size` allows"), "{why}");
        assert!(why.contains("of other jobs' coordinators"), "{why}");
        drop(seen);
        assert_eq!(watch.jobs(), [JobId::from_bytes([1; 16])].into());
        assert!(other.verdict().is_none() && small.ended().is_none());
        small.kill();
        small.wait().await;
    }

    #[tokio::test]
    async fn one_that_stays_stopped_is_killed() {
        let watch = watch(None, Duration::from_millis(500));
        let mut frozen = process("kill -STOP $$; sleep 1000").await;
        let seen = watch.add(JobId::from_bytes([1; 16]), &frozen);
        tokio::time::timeout(Duration::from_secs(60), frozen.wait()).await.expect("killed");
        assert!(seen.verdict().unwrap().contains("a signal has stopped it for 500ms (`heartbeat.timeout`)"));
    }

    #[tokio::test]
    async fn commits_are_known_as_long_as_they_last() {
        let watch = watch(None, LONG);
        let process = process("exec sleep 1000").await;
        let seen = watch.add(JobId::from_bytes([1; 16]), &process);
        assert!(!watch.some_commit());
        for _ in 0..2 {
            seen.commit_begins();
        }
        seen.commit_ends();
        assert!(watch.some_commit());
        seen.commit_ends();
        seen.commit_ends();
        assert!(!watch.some_commit());
        seen.commit_begins();
        assert!(watch.some_commit());
        drop(seen);
        assert!(!watch.some_commit());
    }
}
