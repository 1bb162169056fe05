//! The thread that keeps the TaskManagers: starts them, waits for their ends, stops them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use weir_provider_api::{EventSink, ProviderEvent, ProviderRequest, RecoveredWorker, TaskManagerId, WorkerSpec};

use crate::process::{End, Process};
use crate::records::{Records, file_name};
use crate::{MAX_WORKERS, StandaloneOptions, files, spawn};

/// How long a TaskManager may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);
/// How often processes are looked at that cannot be waited for.
const POLL: Duration = Duration::from_millis(200);
/// How much of its output is told when a TaskManager has ended.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 5;
/// Files with the output of TaskManagers that have ended which are left when another one starts.
const KEPT_OUTPUTS: usize = 10;

struct Worker {
    process: Process,
    slots: u32,
    output: PathBuf,
    stopping: Option<Stopping>,
}

/// It was asked to end.
struct Stopping {
    /// When it is made to.
    deadline: Instant,
    killed: bool,
}

/// Why the keeper's loop ends.
enum Leaving {
    /// Stop everything, then say Closed.
    Stop,
    /// Leave everything.
    Leave {
        /// Whether somebody waits for Closed.
        told: bool,
    },
}

pub(crate) struct Keeper {
    options: StandaloneOptions,
    log_dir: PathBuf,
    records: Records,
    events: EventSink,
    inbox: Receiver<ProviderRequest>,
    woken: UnixStream,
    workers: BTreeMap<TaskManagerId, Worker>,
    /// Whether the records were read.
    recovered: bool,
    leaving: Option<Leaving>,
}

impl Keeper {
    pub(crate) fn new(
        options: StandaloneOptions,
        records: Records,
        events: EventSink,
        inbox: Receiver<ProviderRequest>,
        woken: UnixStream,
    ) -> Result<Self, String> {
        let log_dir = options.log_dir.clone().unwrap_or_else(|| records.folder().join("log"));
        // The workers' own folder may be another one.
        let log_dir = std::path::absolute(&log_dir)
            .and_then(|log_dir| fs::create_dir_all(&log_dir).map(|()| log_dir))
            .map_err(|error| {
                format!(
                    "the folder {} for the output of TaskManagers cannot be made: {error}; check env.log.dir",
                    log_dir.display()
                )
            })?;
        let workers = BTreeMap::new();
        Ok(Self { options, log_dir, records, events, inbox, woken, workers, recovered: false, leaving: None })
    }

    /// Keeps until the provider is shut down or dropped.
    pub(crate) fn run(mut self) {
        let events = self.events.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while !self.is_done() {
                let ended = self.wait();
                self.take_requests();
                self.take_ends(ended);
                self.make_stubborn_end();
            }
            self.close();
        }));
        if outcome.is_err() {
            let message = "the standalone provider's thread panicked; its TaskManagers go on, and a restarted JobManager finds them".to_owned();
            events(ProviderEvent::Failed { message, fatal: true });
        }
    }

    fn is_done(&self) -> bool {
        match self.leaving {
            None => false,
            Some(Leaving::Stop) => self.workers.is_empty(),
            Some(Leaving::Leave { .. }) => true,
        }
    }

    /// Until there is a request, a TaskManager has ended, or one has to be killed. Gives the TaskManagers that may have ended.
    fn wait(&self) -> Vec<TaskManagerId> {
        let now = Instant::now();
        let kill = self.workers.values().filter_map(|worker| worker.stopping.as_ref().filter(|it| !it.killed));
        let kill = kill.map(|stopping| stopping.deadline.saturating_duration_since(now)).min();
        // After a shutdown nothing is taken any more; and when the other end is gone, the pipe would wake this thread for ever.
        let woken = self.leaving.is_none().then_some(&self.woken);
        let may_have_ended = poll(woken, &self.workers, kill);
        let mut bytes = [0; 64];
        while matches!((&self.woken).read(&mut bytes), Ok(64)) {}
        may_have_ended
    }

    fn take_requests(&mut self) {
        while self.leaving.is_none() {
            match self.inbox.try_recv() {
                Ok(request) => self.on_request(request),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.leaving = Some(Leaving::Leave { told: false }),
            }
        }
    }

    fn on_request(&mut self, request: ProviderRequest) {
        match request {
            ProviderRequest::RecoverWorkers => self.on_recover(),
            ProviderRequest::StartWorker(spec) => self.on_start(&spec),
            ProviderRequest::StopWorker(id) => self.on_stop(&id),
            // A process is there at once, so nothing is asked for ahead.
            ProviderRequest::DeclareDemand { .. } => {}
            ProviderRequest::Shutdown { stop_workers: true, message, .. } => {
                self.adopt();
                tracing::info!("stopping {} TaskManagers: {message}", self.workers.len());
                for id in self.workers.keys().cloned().collect::<Vec<_>>() {
                    self.on_stop(&id);
                }
                self.leaving = Some(Leaving::Stop);
            }
            ProviderRequest::Shutdown { stop_workers: false, message, .. } => {
                tracing::info!("leaving {} TaskManagers: {message}", self.workers.len());
                self.leaving = Some(Leaving::Leave { told: true });
            }
        }
    }

    fn tell(&self, event: ProviderEvent) {
        (self.events)(event);
    }

    fn on_recover(&mut self) {
        self.adopt();
        let found = self.workers.iter().map(|(id, worker)| RecoveredWorker {
            id: id.clone(),
            slots: worker.slots,
            location: location(&worker.process),
        });
        self.tell(ProviderEvent::Recovered(found.collect()));
        let max = self.options.max_workers;
        let reason = match self.options.max_is_set {
            true => format!("{MAX_WORKERS} is {max}"),
            false => format!("this machine has {max} cores; {MAX_WORKERS} sets another limit"),
        };
        self.tell(ProviderEvent::Capacity { max_workers: Some(max), message: reason });
    }

    /// Takes over what an earlier JobManager has left.
    fn adopt(&mut self) {
        if std::mem::replace(&mut self.recovered, true) {
            return;
        }
        let found = match self.records.find_running() {
            Ok(found) => found,
            Err(error) => {
                let folder = self.records.folder().display();
                let message = format!("the records of running TaskManagers in {folder} cannot be read: {error}");
                return self.tell(ProviderEvent::Failed { message, fatal: false });
            }
        };
        for worker in found {
            // Also those that were started since this JobManager began are on record.
            self.workers.entry(worker.id).or_insert(Worker {
                process: worker.process,
                slots: worker.slots,
                output: worker.output,
                stopping: None,
            });
        }
    }

    fn on_start(&mut self, spec: &WorkerSpec) {
        let id = &spec.id;
        if self.workers.contains_key(id) {
            // Its end must not be told while it runs, and its start was told.
            return tracing::warn!("TaskManager {id} was to be started a second time, but it runs");
        }
        match self.start(spec) {
            Ok(worker) => {
                let location = location(&worker.process);
                tracing::info!("started TaskManager {id}, {location}, output in {}", worker.output.display());
                self.workers.insert(id.clone(), worker);
                self.tell(ProviderEvent::Started { id: id.clone(), location });
                self.tell(ProviderEvent::Ready { id: id.clone() });
            }
            Err(Refusal { reason, retryable }) => {
                tracing::warn!("TaskManager {id} was not started: {reason}");
                self.tell(ProviderEvent::Terminated { id: id.clone(), reason, retryable });
            }
        }
    }

    fn start(&mut self, spec: &WorkerSpec) -> Result<Worker, Refusal> {
        let id = &spec.id;
        self.check_room(spec)?;
        let output = self.log_dir.join(format!("taskmanager-{}.out", file_name(id.as_str())));
        let in_use: Vec<&Path> = self.workers.values().map(|worker| worker.output.as_path()).collect();
        remove_old_outputs(&self.log_dir, &in_use, KEPT_OUTPUTS);
        let process_file = self.records.begin(id, spec.slots, &output).map_err(|error| Refusal {
            reason: format!("it cannot be put on record in {}: {error}", self.records.folder().display()),
            retryable: spawn::may_help_to_retry(&error),
        })?;
        let started = self.place_files(spec).and_then(|folder| {
            spawn::spawn(spec, folder.as_deref(), &output, &process_file).map_err(|error| Refusal {
                reason: format!("its command {:?} cannot be started: {error}", spec.command.join(" ")),
                retryable: spawn::may_help_to_retry(&error),
            })
        });
        match started {
            Ok(process) => Ok(Worker { process, slots: spec.slots, output, stopping: None }),
            Err(refusal) => {
                self.records.forget(id);
                Err(refusal)
            }
        }
    }

    fn check_room(&self, spec: &WorkerSpec) -> Result<(), Refusal> {
        let (max, running) = (self.options.max_workers, self.workers.len());
        if running >= max as usize {
            let stopping = self.workers.values().filter(|worker| worker.stopping.is_some()).count();
            let reason = format!(
                "{running} TaskManagers run on this machine ({stopping} of them are stopping), which is the most {MAX_WORKERS} allows ({max})"
            );
            return Err(Refusal { reason, retryable: true });
        }
        match total_memory() {
            Some(total) if spec.resources.memory_bytes > total => {
                let needs = spec.resources.memory_bytes >> 20;
                let reason = format!(
                    "it needs {needs} MiB of memory, but this machine has {} MiB: lower taskmanager.memory.process.size",
                    total >> 20
                );
                Err(Refusal::for_good(reason))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The worker's folder, if it needs one for its files. Without files it runs where the JobManager does.
    fn place_files(&self, spec: &WorkerSpec) -> Result<Option<PathBuf>, Refusal> {
        if spec.files.is_empty() {
            return Ok(None);
        }
        let folder = self.records.worker_folder(&spec.id).join("files");
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        files::place(&spec.files, &folder).map_err(Refusal::for_good)?;
        Ok(Some(folder))
    }

    fn on_stop(&mut self, id: &TaskManagerId) {
        // One that is not known has ended, and that was told.
        let Some(worker) = self.workers.get_mut(id) else { return };
        if worker.stopping.is_none() {
            worker.process.terminate();
            worker.stopping = Some(Stopping { deadline: Instant::now() + GRACE, killed: false });
        }
    }

    fn make_stubborn_end(&mut self) {
        let now = Instant::now();
        for (id, worker) in &mut self.workers {
            let Some(stopping) = worker.stopping.as_mut().filter(|it| !it.killed && it.deadline <= now) else {
                continue;
            };
            tracing::warn!("TaskManager {id} has not ended within {GRACE:?} of SIGTERM and is killed");
            worker.process.kill();
            stopping.killed = true;
        }
    }

    fn take_ends(&mut self, may_have_ended: Vec<TaskManagerId>) {
        for id in may_have_ended {
            let Some(end) = self.workers.get(&id).and_then(|worker| worker.process.end()) else { continue };
            let Some(worker) = self.workers.remove(&id) else { continue };
            self.records.forget(&id);
            let reason = reason(&worker, end);
            tracing::info!("TaskManager {id} ended: {reason}");
            self.tell(ProviderEvent::Terminated { id, reason, retryable: true });
        }
    }

    fn close(self) {
        let Self { records, events, workers, leaving, .. } = self;
        // Before Closed: whoever hears it may open the folder again.
        drop(records);
        let told = match leaving {
            Some(Leaving::Stop) | Some(Leaving::Leave { told: true }) => true,
            Some(Leaving::Leave { told: false }) | None => false,
        };
        if told {
            events(ProviderEvent::Closed);
        }
        drop(events);
        wait_for_children(workers);
    }
}

/// Those that were left are still children of this process: whoever goes on in it must not find zombies.
fn wait_for_children(mut workers: BTreeMap<TaskManagerId, Worker>) {
    while !workers.is_empty() {
        for id in poll(None, &workers, None) {
            if workers.get(&id).is_some_and(|worker| worker.process.end().is_some()) {
                workers.remove(&id);
            }
        }
    }
}

/// Waits until `woken` has something to read, a worker has ended or the time is up. Gives the workers that may have ended.
fn poll(
    woken: Option<&UnixStream>,
    workers: &BTreeMap<TaskManagerId, Worker>,
    timeout: Option<Duration>,
) -> Vec<TaskManagerId> {
    let poll_for = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // A negative descriptor is left out: without a pidfd a worker is looked at now and then.
    let pidfds = workers.values().map(|worker| worker.process.pidfd().unwrap_or(-1));
    let mut polled: Vec<_> =
        std::iter::once(woken.map_or(-1, AsRawFd::as_raw_fd)).chain(pidfds).map(poll_for).collect();
    let look = polled[1..].iter().any(|polled| polled.fd < 0).then_some(POLL);
    let timeout = match timeout.into_iter().chain(look).min() {
        // Rounded up, so that the time has come when it returns.
        Some(timeout) => i32::try_from(timeout.as_millis() + 1).unwrap_or(i32::MAX),
        None => -1,
    };
    // SAFETY: the array is as long as said and lives through the call. An error is as good as nothing having happened.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
    let pairs = workers.keys().zip(&polled[1..]);
    pairs.filter(|(_, polled)| polled.fd < 0 || polled.revents != 0).map(|(id, _)| id.clone()).collect()
}

/// Why a worker was not started.
struct Refusal {
    reason: String,
    retryable: bool,
}

impl Refusal {
    fn for_good(reason: String) -> Self {
        Self { reason, retryable: false }
    }
}

fn location(process: &Process) -> String {
    format!("pid {}", process.pid())
}

fn reason(worker: &Worker, end: End) -> String {
    match &worker.stopping {
        Some(Stopping { killed: true, .. }) => {
            format!("it was stopped: it had not ended within {} s of SIGTERM and was killed", GRACE.as_secs())
        }
        Some(Stopping { killed: false, .. }) => format!("it was stopped: {end}"),
        None => match last_lines(&worker.output) {
            Some(lines) => format!("{end}; the last lines it wrote to {} are: {lines}", worker.output.display()),
            None => format!("{end}; it wrote nothing to {}", worker.output.display()),
        },
    }
}

fn last_lines(file: &Path) -> Option<String> {
    let mut file = File::open(file).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    (!last.is_empty()).then(|| last.join("\n"))
}

/// Bytes of memory of this machine.
fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Removes the outputs of TaskManagers that have ended, but for those written to last.
fn remove_old_outputs(folder: &Path, in_use: &[&Path], kept: usize) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut outputs: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_one = name.starts_with("taskmanager-") && name.ends_with(".out");
            let metadata = entry.metadata().ok().filter(|metadata| is_one && metadata.is_file())?;
            Some((metadata.modified().ok()?, entry.path()))
        })
        .filter(|(_, path)| !in_use.contains(&path.as_path()))
        .collect();
    outputs.sort();
    let excess = outputs.len().saturating_sub(kept);
    for (_, path) in outputs.drain(..excess) {
        // What cannot be removed is tried again the next time.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::ProcessId;

    #[test]
    fn processes_are_watched_without_pidfds_too() {
        let child = Command::new("sh").args(["-c", "read line"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let process = Process::find(ProcessId::parse(&stat).unwrap()).unwrap().without_pidfd();
        let id = TaskManagerId::new("tm");
        let worker = Worker { process, slots: 1, output: PathBuf::new(), stopping: None };
        let workers = BTreeMap::from([(id.clone(), worker)]);
        assert_eq!(poll(None, &workers, None).as_slice(), std::slice::from_ref(&id));
        assert_eq!(workers[&id].process.end(), None);
        drop(child);
        let mut end = None;
        while end.is_none() {
            poll(None, &workers, None);
            end = workers[&id].process.end();
        }
        assert_eq!(end, Some(End::Exited(1)));
    }

    #[test]
    fn outputs_of_ended_task_managers_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, age) in
            [("taskmanager-a.out", 90), ("taskmanager-b.out", 80), ("taskmanager-c.out", 70), ("b.out", 99)]
        {
            let file = File::create(path(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        let used = path("taskmanager-a.out");
        remove_old_outputs(dir.path(), &[&used], 1);
        let left =
            ["taskmanager-a.out", "taskmanager-b.out", "taskmanager-c.out", "b.out"].map(|name| path(name).exists());
        assert_eq!(left, [true, false, true, true]);
    }
}
