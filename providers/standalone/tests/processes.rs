//! TaskManagers as processes: what happens to them when their JobManager, they themselves or others end.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use weir_provider_api::{
    FinalStatus, OpenRequest, Provider, ProviderEvent, ProviderFactory, ProviderRequest, RecoveredWorker,
    ResourceProfile, TaskManagerId, WorkerFile, WorkerSpec,
};
use weir_standalone::{MAX_WORKERS, Standalone};

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const STATE_DIR: &str = "WEIR_TEST_STATE_DIR";
const SCRIPT: &str = "WEIR_TEST_SCRIPT";

struct Opened {
    provider: Box<dyn Provider>,
    events: Receiver<ProviderEvent>,
}

fn open(state_dir: &Path, settings: &[(&str, &str)]) -> Result<Opened, String> {
    let (sink, events) = mpsc::channel();
    let mut configuration = BTreeMap::from([(MAX_WORKERS.to_owned(), "3".to_owned())]);
    configuration.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let request = OpenRequest { cluster_id: "cluster".to_owned(), configuration, state_dir: state_dir.to_owned() };
    let provider = Standalone.open(request, Arc::new(move |event| drop(sink.send(event))));
    Ok(Opened { provider: provider.map_err(|error| error.to_string())?, events })
}

fn opened(state_dir: &Path) -> Opened {
    open(state_dir, &[]).expect("it opens")
}

fn spec(id: &str, script: &str) -> WorkerSpec {
    WorkerSpec {
        id: TaskManagerId::new(id),
        resources: ResourceProfile::default(),
        slots: 5,
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        environment: BTreeMap::from([("WORKER_NUMBER".to_owned(), "17".to_owned())]),
        files: Vec::new(),
    }
}

impl Opened {
    fn next(&self) -> ProviderEvent {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    fn start(&mut self, spec: WorkerSpec) {
        self.provider.request(ProviderRequest::StartWorker(spec));
    }

    /// Starts a worker and gives its process id.
    fn started(&mut self, spec: WorkerSpec) -> u32 {
        let expected = spec.id.clone();
        self.start(spec);
        let ProviderEvent::Started { id, location } = self.next() else { panic!("{expected} was not started") };
        assert_eq!(self.next(), ProviderEvent::Ready { id: id.clone() });
        assert_eq!(id, expected);
        pid(&location)
    }

    fn stop(&mut self, id: &str) {
        self.provider.request(ProviderRequest::StopWorker(TaskManagerId::new(id)));
    }

    fn recovered(&mut self) -> Vec<RecoveredWorker> {
        self.provider.request(ProviderRequest::RecoverWorkers);
        let ProviderEvent::Recovered(workers) = self.next() else { panic!("it does not recover first") };
        assert!(matches!(self.next(), ProviderEvent::Capacity { max_workers: Some(3), .. }));
        workers
    }

    /// The next event, which is the end of a worker: why, and whether to try again.
    fn terminated(&self, expected: &str) -> (String, bool) {
        match self.next() {
            ProviderEvent::Terminated { id, reason, retryable } if id.as_str() == expected => (reason, retryable),
            other => panic!("{other:?} is not the end of {expected}"),
        }
    }

    fn shut_down(&mut self, stop_workers: bool) {
        let (status, message) = (FinalStatus::Succeeded, "the test is over".to_owned());
        self.provider.request(ProviderRequest::Shutdown { stop_workers, status, message });
    }
}

/// Leaves no process behind, also when a test has failed.
impl Drop for Opened {
    fn drop(&mut self) {
        self.shut_down(true);
        while self.events.recv_timeout(PATIENCE).is_ok_and(|event| event != ProviderEvent::Closed) {}
    }
}

fn pid(location: &str) -> u32 {
    location.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).expect("a location is a process id")
}

/// The fields of /proc/<pid>/stat from the state on; none if there is no such process.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_number(path: &Path) -> u32 {
    let number = || fs::read_to_string(path).ok()?.trim().parse().ok();
    wait_until("a number was written", || number().is_some());
    number().expect("it was there")
}

/// A JobManager in a process of its own, which starts a worker "tm" and then does nothing.
struct JobManager(Child);

impl JobManager {
    fn start(state_dir: &Path, script: &str) -> (Self, u32) {
        let mut test = Command::new(std::env::current_exe().expect("a test is a file"));
        test.args(["--exact", "job_manager", "--nocapture"]).env(STATE_DIR, state_dir).env(SCRIPT, script);
        let mut child = test.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts again");
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let mut pids = lines.map_while(Result::ok).filter_map(|line| line.split_once("started ").map(|it| pid(it.1)));
        let pid = pids.next().expect("it starts a worker");
        (Self(child), pid)
    }

    fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it is a child");
    }
}

/// Not a test by itself: what other tests run as a process of its own.
#[test]
fn job_manager() {
    let Some(state_dir) = std::env::var_os(STATE_DIR).map(PathBuf::from) else { return };
    let mut opened = opened(&state_dir);
    let pid = opened.started(spec("tm", &std::env::var(SCRIPT).unwrap()));
    println!("started pid {pid}");
    // Until it is killed, or the test that waits for it has ended.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_worker_outlives_its_killed_job_manager_and_is_found_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (job_manager, pid) = JobManager::start(dir.path(), "exec sleep 100000");
    job_manager.kill();
    assert!(runs(pid));

    let mut opened = opened(dir.path());
    let expected = RecoveredWorker { id: TaskManagerId::new("tm"), slots: 5, location: format!("pid {pid}") };
    assert_eq!(opened.recovered(), [expected]);
    opened.stop("tm");
    let (reason, _) = opened.terminated("tm");
    assert!(reason.contains("was stopped"), "{reason}");
    assert!(!runs(pid));
    assert_eq!(fs::read_dir(dir.path().join("cluster/workers")).unwrap().count(), 0);
}

#[test]
fn a_shutdown_that_nobody_recovered_before_stops_what_an_earlier_job_manager_left() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = dir.path().join("deaf");
    let script = format!("trap '' TERM; touch {}; while :; do sleep 1; done", deaf.display());
    let (job_manager, pid) = JobManager::start(dir.path(), &script);
    wait_until("SIGTERM is ignored", || deaf.exists());
    job_manager.kill();
    let mut opened = opened(dir.path());
    opened.shut_down(true);
    let (reason, _) = opened.terminated("tm");
    assert!(reason.contains("not ended within 5 s of SIGTERM"), "{reason}");
    assert_eq!(opened.next(), ProviderEvent::Closed);
    wait_until("the worker has gone", || !runs(pid));
}

#[test]
fn the_end_of_a_recovered_worker_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; exit 3", go.display());
    let (job_manager, _) = JobManager::start(dir.path(), &script);
    job_manager.kill();
    let mut opened = opened(dir.path());
    assert_eq!(opened.recovered().len(), 1);
    fs::write(go, "").unwrap();
    let (reason, retryable) = opened.terminated("tm");
    assert!(reason.contains("exit status is not known") && retryable, "{reason}");
}

#[test]
fn a_worker_that_ended_without_its_job_manager_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let (job_manager, pid) = JobManager::start(dir.path(), "exec sleep 100000");
    job_manager.kill();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    wait_until("the worker has gone", || !runs(pid));
    assert_eq!(opened(dir.path()).recovered(), []);
}

#[test]
fn a_worker_leads_a_session_of_its_own_and_reads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path(), &[("env.log.dir", &dir.path().join("log").display().to_string())]).unwrap();
    let pid = opened.started(spec("tm", "cat; echo to stdout $WORKER_NUMBER; echo to stderr >&2; exec sleep 100000"));
    let fields = stat(pid).unwrap();
    assert_eq!((&fields[2], &fields[3]), (&pid.to_string(), &pid.to_string()), "group and session");
    let output = dir.path().join("log/taskmanager-tm.out");
    let expected = "to stdout 17\nto stderr\n";
    wait_until("both outputs are in the file", || fs::read_to_string(&output).is_ok_and(|text| text == expected));
    opened.shut_down(true);
    opened.terminated("tm");
}

#[test]
fn nothing_a_worker_has_started_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let child = dir.path().join("child");
    let fork = format!("sleep 100000 & echo $! > {}", child.display());
    let mut opened = opened(dir.path());

    opened.started(spec("stopped", &format!("{fork}; exec sleep 100000")));
    let left = read_number(&child);
    assert!(runs(left));
    opened.stop("stopped");
    opened.terminated("stopped");
    wait_until("what the stopped worker had started has ended", || !runs(left));

    fs::remove_file(&child).unwrap();
    opened.start(spec("ended", &format!("{fork}; echo 'last words'; exit 7")));
    assert!(matches!(opened.next(), ProviderEvent::Started { .. }));
    assert!(matches!(opened.next(), ProviderEvent::Ready { .. }));
    let (reason, retryable) = opened.terminated("ended");
    assert!(reason.contains("status 7") && reason.contains("last words") && retryable, "{reason}");
    let left = read_number(&child);
    wait_until("what the ended worker had started has ended", || !runs(left));
}

#[test]
fn workers_that_are_left_become_no_zombies() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = opened(dir.path());
    let pid = opened.started(spec("tm", "exec sleep 100000"));
    opened.shut_down(false);
    assert_eq!(opened.next(), ProviderEvent::Closed);
    assert!(runs(pid));
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    wait_until("the worker was waited for", || stat(pid).is_none());
}

#[test]
fn what_cannot_be_started_says_why_and_whether_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = opened(dir.path());
    let mut check = |change: &dyn Fn(&mut WorkerSpec), expected: &str, expected_retry: bool| {
        let mut spec = spec("tm", "exec sleep 100000");
        change(&mut spec);
        opened.start(spec);
        let (reason, retryable) = opened.terminated("tm");
        assert!(reason.contains(expected) && retryable == expected_retry, "{reason} (retryable: {retryable})");
    };
    check(
        &|spec| spec.command = vec!["/nonexistent".to_owned()],
        "\"/nonexistent\" cannot be started: No such file",
        false,
    );
    check(&|spec| spec.command.clear(), "its command is empty", false);
    check(&|spec| spec.resources.memory_bytes = 1 << 60, "taskmanager.memory.process.size", false);
    let file = WorkerFile { path: "x".to_owned(), uri: "s3://b/x".to_owned(), sha256: None, executable: false };
    check(&|spec| spec.files = vec![file.clone()], "only file://", false);
    assert_eq!(fs::read_dir(dir.path().join("cluster/workers")).unwrap().count(), 0);
}

#[test]
fn there_are_no_more_workers_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = opened(dir.path());
    for id in ["one", "two", "three"] {
        opened.started(spec(id, "exec sleep 100000"));
    }
    opened.start(spec("four", "exec sleep 100000"));
    let (reason, retryable) = opened.terminated("four");
    assert!(reason.contains(MAX_WORKERS) && reason.contains("(3)") && retryable, "{reason}");
    // Once more, which changes nothing.
    opened.start(spec("one", "exec sleep 100000"));
    opened.shut_down(true);
    for _ in 0..3 {
        assert!(matches!(opened.next(), ProviderEvent::Terminated { .. }));
    }
    assert_eq!(opened.next(), ProviderEvent::Closed);
}

#[test]
fn a_worker_runs_among_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::write(&program, "#!/bin/sh\necho from $(basename $PWD) >&2\nexec sleep 100000\n").unwrap();
    let mut opened = opened(dir.path());
    let mut spec = spec("tm", "");
    spec.command = vec!["./bin/program".to_owned()];
    let uri = format!("file://{}", program.display());
    spec.files = vec![WorkerFile { path: "bin/program".to_owned(), uri, sha256: None, executable: true }];
    opened.started(spec);
    let output = dir.path().join("cluster/log/taskmanager-tm.out");
    wait_until("it runs", || fs::read_to_string(&output).is_ok_and(|text| text == "from files\n"));
    opened.shut_down(true);
    opened.terminated("tm");
    assert!(!dir.path().join("cluster/workers/tm").exists());
}

#[test]
fn a_provider_that_cannot_work_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(dir.path(), &[(MAX_WORKERS, "none")]).err().unwrap();
    assert!(error.contains(MAX_WORKERS) && error.contains("\"none\""), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file, &[]).err().unwrap();
    assert!(error.contains("cannot be made"), "{error}");
    let error = open(dir.path(), &[("env.log.dir", &file.display().to_string())]).err().unwrap();
    assert!(error.contains("env.log.dir"), "{error}");
}
