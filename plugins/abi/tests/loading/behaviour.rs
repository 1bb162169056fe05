//! Plugins that misbehave while they run: the host goes on, and says what happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir_plugin::{LoadOptions, LoadProblem, LogLevel, load};
use weir_provider_api::{
    FinalStatus, OpenError, OpenRequest, Provider, ProviderEvent, ProviderFactory, ProviderRequest, ResourceProfile,
    TaskManagerId, WorkerSpec,
};

use crate::build::rust_plugin;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// After it a plugin is taken to hang.
const DEADLINE: Duration = Duration::from_secs(1);

/// A plugin logs to the host that has opened it last, so there is one at a time.
static TURN: Mutex<()> = Mutex::new(());

type Lines = Arc<Mutex<Vec<(LogLevel, String)>>>;

struct Opened {
    provider: Box<dyn Provider>,
    events: Receiver<ProviderEvent>,
    lines: Lines,
    _turn: MutexGuard<'static, ()>,
}

fn options(deadline: Duration, lines: &Lines) -> LoadOptions {
    let lines = lines.clone();
    let log = move |plugin: &str, level, text: &str| {
        assert_eq!(plugin, "capricious");
        lines.lock().expect("nobody panics with the lines").push((level, text.to_owned()));
    };
    LoadOptions { deadline, log: Arc::new(log) }
}

/// Opens the plugin `capricious`, which then does `how`.
fn open(how: &str, state_dir: &Path, deadline: Duration) -> Result<Opened, OpenError> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = Lines::default();
    let mut plugin = load(&rust_plugin("capricious"), &options(PATIENCE, &lines)).expect("it is a good plugin");
    plugin.set_deadline(deadline);
    let (sink, events) = mpsc::channel();
    let request = OpenRequest {
        cluster_id: "cluster".to_owned(),
        configuration: BTreeMap::from([("capricious.how".to_owned(), how.to_owned())]),
        state_dir: state_dir.to_owned(),
    };
    let provider = plugin.open(request, Arc::new(move |event| drop(sink.send(event))))?;
    Ok(Opened { provider, events, lines, _turn: turn })
}

impl Opened {
    fn start(&mut self, id: &str) {
        self.provider.request(ProviderRequest::StartWorker(WorkerSpec {
            id: TaskManagerId::new(id),
            resources: ResourceProfile::default(),
            slots: 1,
            command: Vec::new(),
            environment: BTreeMap::new(),
            files: Vec::new(),
        }));
    }

    fn stop(&mut self, id: &str) {
        self.provider.request(ProviderRequest::StopWorker(TaskManagerId::new(id)));
    }

    fn shut_down(&mut self) {
        let (status, message) = (FinalStatus::Succeeded, String::new());
        self.provider.request(ProviderRequest::Shutdown { stop_workers: true, status, message });
    }

    fn next(&self) -> ProviderEvent {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    /// The next event, which is a failure: its message and whether it is fatal.
    fn failure(&self) -> (String, bool) {
        match self.next() {
            ProviderEvent::Failed { message, fatal } => (message, fatal),
            other => panic!("{other:?} is not a failure"),
        }
    }

    fn expect_worker(&self, id: &str) {
        let id = TaskManagerId::new(id);
        assert_eq!(self.next(), ProviderEvent::Started { id: id.clone(), location: "nowhere".to_owned() });
        assert_eq!(self.next(), ProviderEvent::Ready { id });
    }

    fn expect_line(&self, part: &str) -> LogLevel {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines.lock().expect("nobody panics with the lines").clone();
            match lines.iter().find(|(_, text)| text.contains(part)) {
                Some((level, _)) => return *level,
                None => assert!(Instant::now() < deadline, "no line with {part:?} in {lines:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_plugin_that_panics_in_describe_is_refused() {
    let error = load(&rust_plugin("describe_panics"), &LoadOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("describe failed") && text.contains("panicked: it has nothing to say"), "{text}");
}

#[test]
fn a_plugin_that_hangs_in_describe_is_refused() {
    let options = LoadOptions { deadline: DEADLINE, ..LoadOptions::default() };
    let error = load(&rust_plugin("describe_hangs"), &options).unwrap_err();
    assert_eq!(error.problem, LoadProblem::Hangs { call: "describe", waited: DEADLINE });
    assert!(error.to_string().contains("not returned from describe for 1 s"), "{error}");
}

#[test]
fn a_plugin_that_does_not_open_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for (how, expected) in
        [("refuse", "could not be opened: it has no mind to"), ("panic in open", "it panicked: no way in")]
    {
        let error = open(how, dir.path(), PATIENCE).err().unwrap().to_string();
        assert!(error.contains("plugin capricious") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_plugin_that_hangs_in_open_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let error = open("hang in open", dir.path(), DEADLINE).err().unwrap().to_string();
    assert!(error.contains("has not returned from open for 1 s"), "{error}");
    // Lets its thread go on, whose handle is then closed.
    fs::write(dir.path().join("release"), "").unwrap();
    // The same library is as good as new.
    let mut opened = open("", dir.path(), PATIENCE).unwrap();
    opened.start("a");
    opened.expect_worker("a");
}

#[test]
fn a_plugin_that_panics_in_a_request_is_not_used_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open("panic in request", dir.path(), PATIENCE).unwrap();
    opened.start("a");
    let (message, fatal) = opened.failure();
    assert!(message.contains("capricious failed in start_worker: it panicked: no worker a"), "{message}");
    assert!(fatal);
    assert_eq!(opened.expect_line("no worker a"), LogLevel::Error);
    opened.stop("a");
    let (message, _) = opened.failure();
    assert!(message.contains("panicked earlier"), "{message}");
}

#[test]
fn a_panic_on_a_thread_of_the_plugin_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open("panic on a thread", dir.path(), PATIENCE).unwrap();
    opened.start("a");
    opened.expect_worker("a");
    assert_eq!(opened.expect_line("not a either"), LogLevel::Error);
    opened.expect_line("thread \"worse\"");
    opened.start("b");
    opened.expect_worker("b");
}

#[test]
fn a_plugin_that_can_tell_nothing_any_more_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open("lose the sink on a thread", dir.path(), PATIENCE).unwrap();
    opened.start("a");
    let (message, fatal) = opened.failure();
    assert!(message.contains("can tell nothing any more") && fatal, "{message}");
}

#[test]
fn nothing_follows_closed_and_the_log_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open("", dir.path(), PATIENCE).unwrap();
    opened.provider.request(ProviderRequest::RecoverWorkers);
    assert_eq!(opened.next(), ProviderEvent::Recovered(Vec::new()));
    opened.start("a");
    opened.expect_worker("a");
    opened.shut_down();
    assert_eq!(opened.next(), ProviderEvent::Closed);
    // The plugin says something else, but the way is shut: the sending end is gone.
    assert_eq!(opened.events.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(opened.expect_line("opened"), LogLevel::Info);
}

#[test]
fn a_plugin_that_hangs_in_a_request_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open("hang in request", dir.path(), DEADLINE).unwrap();
    opened.start("a");
    // Goes into the queue, and is refused when the hang is noticed.
    opened.start("b");
    let (message, fatal) = opened.failure();
    assert!(message.contains("capricious has not returned from start_worker for 1 s") && !fatal, "{message}");
    let refused = |event| match event {
        ProviderEvent::Terminated { id, reason, retryable: true } => {
            assert!(reason.contains("has not returned from start_worker"), "{reason}");
            id.to_string()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(opened.next()), "b");
    opened.start("c");
    assert_eq!(refused(opened.next()), "c");
    opened.stop("a");

    fs::write(dir.path().join("release"), "").unwrap();
    opened.expect_worker("a");
    let stopped =
        ProviderEvent::Terminated { id: TaskManagerId::new("a"), reason: "stopped".to_owned(), retryable: true };
    assert_eq!(opened.next(), stopped);
    assert_eq!(opened.expect_line("has returned from start_worker after"), LogLevel::Warn);
    opened.start("d");
    opened.expect_worker("d");
}

#[test]
fn shutting_down_does_not_wait_for_a_plugin_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    // Known to hang already, and not yet.
    for wait_first in [true, false] {
        let mut opened = open("hang in request", dir.path(), DEADLINE).unwrap();
        opened.start("a");
        if wait_first {
            assert!(!opened.failure().1);
        }
        opened.shut_down();
        assert!(opened.failure().1);
        assert_eq!(opened.next(), ProviderEvent::Closed);
    }
    fs::write(dir.path().join("release"), "").unwrap();
}

#[test]
fn a_provider_that_is_dropped_tells_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open("", dir.path(), PATIENCE).unwrap();
    drop(opened.provider);
    assert_eq!(opened.events.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}
