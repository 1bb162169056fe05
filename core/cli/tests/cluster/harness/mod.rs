//! Starts clusters of real processes for tests, harms them, and looks at what becomes of them.
//!
//! A test makes a [`Cluster`], which gets a temporary folder, a `cluster.id` and ports of its own, and starts processes in it:
//!
//! ```ignore
//! let mut cluster = Cluster::new(&["heartbeat.timeout=2 s"]);
//! cluster.start_job_manager();
//! let first = cluster.start_task_manager(2);
//! let job = cluster.submit("ticks", &["--rate", "10"], &["restart-strategy.type=fixed-delay"]);
//! cluster.wait_until_running(&job);
//! kill(first.pid);
//! cluster.wait_for_state(&job, "FAILED");
//! ```
//!
//! Dropping the cluster ends its processes and checks that no other process is left: neither a worker, nor a coordinator, nor anything
//! that user code has started. All are known by a variable in their environment ([`MARKER`]), which children inherit. If the test has
//! failed already, the logs of all processes are printed instead.
//!
//! Waiting is always for a condition ([`wait_for`]), with [`PATIENCE`], which only a test that fails uses up.

mod http;
mod process;
mod proxy;
mod turn;
mod watch;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use http::Answer;
pub(crate) use process::{cut_connections, descendants, exists, kill, memory, parent, resume, signal, stop};
pub(crate) use proxy::Proxy;
pub(crate) use watch::{Change, Watch};

/// How long a condition may take to come true: far longer than it should on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Variable in the environment of all processes of a test.
const MARKER: &str = "CLUSTER_TEST";
/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A cluster of one test.
pub(crate) struct Cluster {
    /// `cluster.id`, and the value of [`MARKER`].
    id: String,
    /// Everything the test writes is in here.
    folder: TempDir,
    /// Options of all processes, as `key=value`.
    settings: Vec<String>,
    rest_port: u16,
    rpc_port: u16,
    /// Processes the test has started itself, and that have not been found to have ended.
    children: Vec<Started>,
    /// The key of the test jobs' executable, once it was uploaded.
    artifact: OnceCell<String>,
    http: http::Http,
    started_task_managers: u32,
    /// Whether its files stay when the test fails; they are printed otherwise.
    keeps_files: bool,
    _turn: turn::Turn,
}

/// A process that the test has started.
struct Started {
    name: String,
    child: Child,
}

/// A TaskManager that the test has started.
#[derive(Debug, Clone)]
pub(crate) struct TaskManager {
    pub(crate) id: String,
    pub(crate) pid: u32,
}

/// Calls `condition` until it is true. `what` is what is waited for, to follow "waited in vain for".
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for_some(what, || condition().then_some(()));
}

/// Calls `find` until it finds something.
#[track_caller]
pub(crate) fn wait_for_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

impl Cluster {
    /// A cluster without processes. `settings`: options of all that will be started, as `key=value`. Waits while too many other tests
    /// run.
    pub(crate) fn new(settings: &[&str]) -> Cluster {
        let turn = turn::take();
        let folder = TempDir::with_prefix("weir-test-").unwrap();
        let id =
            folder.path().file_name().unwrap().to_str().unwrap().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let (rest_port, rpc_port) = (turn::free_port(), turn::free_port());
        Cluster {
            id,
            folder,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            rest_port,
            rpc_port,
            children: Vec::new(),
            artifact: OnceCell::new(),
            http: http::Http::new(),
            started_task_managers: 0,
            keeps_files: false,
            _turn: turn,
        }
    }

    /// A JobManager and TaskManagers with so many slots each, all registered.
    pub(crate) fn with_task_managers(slots: &[u32], settings: &[&str]) -> (Cluster, Vec<TaskManager>) {
        let mut cluster = Cluster::new(settings);
        cluster.start_job_manager();
        let task_managers: Vec<_> = slots.iter().map(|slots| cluster.start_task_manager(*slots)).collect();
        cluster.wait_for_task_managers(slots.len());
        (cluster, task_managers)
    }

    /// Has the files of a test that fails stay, instead of printing the ends of its logs.
    pub(crate) fn keep_files(&mut self) {
        self.keeps_files = true;
    }

    // ---- processes

    /// The command `weir` with the cluster's options, to be started by the caller with [`start`](Self::start) or run to its end. Anything
    /// in `words` stands before the options.
    pub(crate) fn weir(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
            command.env_remove(name);
        }
        command.args(words);
        for setting in self.all_settings() {
            command.arg(format!("-D{setting}"));
        }
        command.env(MARKER, &self.id).stdin(Stdio::null());
        command
    }

    /// Options that every process of this cluster has.
    fn all_settings(&self) -> Vec<String> {
        let mut settings = vec![
            format!("cluster.id={}", self.id),
            format!("process.working-dir={}", self.folder.path().join("work").display()),
            format!("rest.port={}", self.rest_port),
            format!("jobmanager.rpc.port={}", self.rpc_port),
        ];
        settings.extend(self.settings.iter().cloned());
        settings
    }

    /// Starts a process in the background. Its output goes to `<name>.out` in the test's folder. Returns its process id.
    pub(crate) fn start(&mut self, name: &str, mut command: Command) -> u32 {
        let output = fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.out"))).unwrap();
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        let pid = child.id();
        self.children.push(Started { name: name.to_owned(), child });
        pid
    }

    /// Starts a JobManager and waits until its HTTP API answers. On the same ports each time. Returns its process id.
    pub(crate) fn start_job_manager(&mut self) -> u32 {
        self.start_job_manager_with(&[])
    }

    /// The same, with further options.
    pub(crate) fn start_job_manager_with(&mut self, settings: &[&str]) -> u32 {
        let mut command = self.weir(&["jobmanager"]);
        command.args(settings.iter().map(|setting| format!("-D{setting}")));
        let pid = self.start("jobmanager", command);
        wait_for("the JobManager's HTTP API", || {
            self.assert_runs(pid);
            self.request("GET", "/overview", None).is_some_and(|answer| answer.status == 200)
        });
        pid
    }

    /// Starts a TaskManager with so many slots, and does not wait.
    pub(crate) fn start_task_manager(&mut self, slots: u32) -> TaskManager {
        self.start_task_manager_with(slots, &[])
    }

    /// The same, with further options.
    pub(crate) fn start_task_manager_with(&mut self, slots: u32, settings: &[&str]) -> TaskManager {
        let command = self.weir(&["taskmanager"]);
        self.start_task_manager_by(command, slots, settings)
    }

    /// The same, for which a disk of its own of this size is mounted on a folder. Nobody else sees it.
    pub(crate) fn start_task_manager_with_disk(&mut self, slots: u32, folder: &str, size: &str) -> TaskManager {
        let weir = self.weir(&["taskmanager"]);
        let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &mount, folder]).arg(weir.get_program()).args(weir.get_args());
        command.env(MARKER, &self.id).stdin(Stdio::null());
        self.start_task_manager_by(command, slots, &[])
    }

    fn start_task_manager_by(&mut self, mut command: Command, slots: u32, settings: &[&str]) -> TaskManager {
        self.started_task_managers += 1;
        let id = format!("tm-{}", self.started_task_managers);
        // In which it has a folder of its own.
        let log_dir = self.folder.path();
        command.arg(format!("-Dtaskmanager.resource-id={id}"));
        command.arg(format!("-Denv.log.dir={}", log_dir.display()));
        command.arg(format!("-Dtaskmanager.numberOfTaskSlots={slots}"));
        command.args(settings.iter().map(|setting| format!("-D{setting}")));
        let pid = self.start(&id, command);
        TaskManager { id, pid }
    }

    /// Waits until exactly so many TaskManagers are registered.
    #[track_caller]
    pub(crate) fn wait_for_task_managers(&self, count: usize) {
        wait_for(&format!("{count} TaskManagers"), || self.task_managers().len() == count);
    }

    /// Ids of the registered TaskManagers.
    pub(crate) fn task_managers(&self) -> Vec<String> {
        let answer = self.get("/taskmanagers");
        answer["taskmanagers"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect()
    }

    /// Waits until a process that the test has started has ended by itself, and returns its exit code, if it was not a signal.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self, pid: u32) -> Option<i32> {
        let index = self.children.iter().position(|started| started.child.id() == pid).unwrap();
        let status = wait_for_some(&format!("the end of {}", self.children[index].name), || {
            self.children[index].child.try_wait().unwrap()
        });
        self.children.remove(index);
        status.code()
    }

    /// Processes of TaskManagers that a provider has started.
    pub(crate) fn provided(&self) -> Vec<u32> {
        let own = |pid: &u32| self.children.iter().any(|started| started.child.id() == *pid);
        let is_task_manager = |pid: &u32| process::words(*pid).get(1).is_some_and(|word| word == "taskmanager");
        self.processes().into_iter().filter(|pid| !own(pid) && is_task_manager(pid)).collect()
    }

    /// Fails unless the process runs, under the id it was started with.
    #[track_caller]
    pub(crate) fn assert_runs(&self, pid: u32) {
        assert!(exists(pid), "process {pid} has ended");
    }

    /// Process ids of the workers of a job.
    pub(crate) fn workers(&self, job: &str) -> Vec<u32> {
        // It is in the name of the socket.
        self.of_role("WEIR_WORKER_SOCKET", &job[..8])
    }

    /// Process ids of the coordinators of all jobs. A job that is being planned has one as well.
    pub(crate) fn coordinators(&self) -> Vec<u32> {
        self.of_role("WEIR_COORDINATOR_SOCKET", "")
    }

    /// Processes that have this variable and whose parents have not: those behind them are what user code has started.
    fn of_role(&self, variable: &str, part: &str) -> Vec<u32> {
        let value = |pid| process::variable(pid, variable).filter(|value| value.contains(part));
        let own = self.processes().into_iter().filter(|pid| value(*pid).is_some());
        own.filter(|pid| parent(*pid).is_none_or(|parent| process::variable(parent, variable).is_none())).collect()
    }

    /// All processes of this cluster that are alive, whoever started them.
    pub(crate) fn processes(&self) -> Vec<u32> {
        process::with_variable(MARKER, &self.id)
    }

    /// `cluster.id`, unless the settings name another one.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    // ---- HTTP

    /// `host:port` of the HTTP API.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.rest_port)
    }

    /// The port on which TaskManagers reach the JobManager.
    pub(crate) fn rpc_port(&self) -> u16 {
        self.rpc_port
    }

    /// A request; `None` if nobody answers.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Answer> {
        self.http.request(method, &format!("http://{}{path}", self.address()), body)
    }

    /// The answer to a question that must be answered. The JobManager may be slow, but not away.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, None).unwrap_or_else(|| panic!("GET {path}: no answer"));
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.json()
    }

    // ---- jobs

    /// Runs one of the jobs of `weir-test-jobs` with its own arguments. `settings`: options of the job. Returns its id.
    #[track_caller]
    pub(crate) fn submit(&self, job: &str, arguments: &[&str], settings: &[&str]) -> String {
        self.try_submit(job, arguments, settings).accepted()
    }

    /// The same, when it may be refused. `parallelism.default` among the settings is the job's parallelism.
    #[track_caller]
    pub(crate) fn try_submit(&self, job: &str, arguments: &[&str], settings: &[&str]) -> Answer {
        let artifact = self.artifact.get_or_init(|| self.upload(&test_jobs()));
        self.try_submit_of(artifact, job, arguments, settings)
    }

    /// The same with another executable, by its key.
    pub(crate) fn try_submit_of(&self, artifact: &str, job: &str, arguments: &[&str], settings: &[&str]) -> Answer {
        let of_job: BTreeMap<&str, &str> = settings.iter().map(|setting| setting.split_once('=').unwrap()).collect();
        let body = json!({ "entryClass": job, "programArgsList": arguments, "flinkConfiguration": of_job });
        self.request("POST", &format!("/jars/{artifact}/run"), Some(&body)).unwrap()
    }

    /// Uploads an executable and returns its key.
    #[track_caller]
    pub(crate) fn upload(&self, path: &Path) -> String {
        let answer = self.http.upload(&format!("http://{}/jars/upload", self.address()), path);
        assert_eq!(answer.status, 200, "{} is not taken: {}", path.display(), answer.body);
        let name = text(&answer.json()["filename"]);
        name.rsplit('/').next().unwrap().to_owned()
    }

    /// The status of a job.
    #[track_caller]
    pub(crate) fn state(&self, job: &str) -> String {
        text(&self.get(&format!("/jobs/{job}/status"))["status"])
    }

    /// Waits until a job has this status. Fails at once if it ends with another one.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, job: &str, wanted: &str) {
        wait_for(&format!("job {job} to be {wanted}"), || {
            let state = self.state(job);
            let ended = ["FINISHED", "FAILED", "CANCELED"].contains(&state.as_str());
            assert!(!ended || state == wanted, "the job is {state}, not {wanted}: {}", self.failures(job));
            state == wanted
        });
    }

    /// Waits until a job is RUNNING with all its tasks.
    #[track_caller]
    pub(crate) fn wait_until_running(&self, job: &str) {
        self.wait_for_state(job, "RUNNING");
        wait_for(&format!("all tasks of job {job} to run"), || {
            let tasks = self.tasks(job);
            !tasks.is_empty() && tasks.iter().all(|task| task.state == "RUNNING")
        });
    }

    /// The tasks of a job as they are now.
    #[track_caller]
    pub(crate) fn tasks(&self, job: &str) -> Vec<Task> {
        let detail = self.get(&format!("/jobs/{job}"));
        let mut tasks = Vec::new();
        for vertex in detail["vertices"].as_array().unwrap() {
            let answer = self.get(&format!("/jobs/{job}/vertices/{}", text(&vertex["id"])));
            for subtask in answer["subtasks"].as_array().unwrap() {
                tasks.push(Task {
                    vertex: text(&vertex["name"]),
                    subtask: subtask["subtask"].as_u64().unwrap(),
                    state: text(&subtask["status"]),
                    attempt: subtask["attempt"].as_u64().unwrap(),
                    task_manager: subtask["taskmanager-id"].as_str().unwrap_or_default().to_owned(),
                });
            }
        }
        tasks
    }

    /// What `/jobs/:id/exceptions` knows of a job's failures, newest first, with all that belongs to each.
    #[track_caller]
    pub(crate) fn failures(&self, job: &str) -> String {
        let answer = self.get(&format!("/jobs/{job}/exceptions"));
        let entries = answer["exceptionHistory"]["entries"].as_array().unwrap();
        let texts = entries.iter().map(|it| {
            let task = it["taskName"].as_str().unwrap_or("no task");
            let place = it["taskManagerId"].as_str().unwrap_or("no TaskManager");
            format!("[{task} on {place}] {}", it["stacktrace"].as_str().unwrap_or_default())
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Waits until the job's failures have this text in them.
    #[track_caller]
    pub(crate) fn assert_failed_with(&self, job: &str, part: &str) {
        let failures = self.failures(job);
        assert!(failures.contains(part), "the failures of {job} lack {part:?}: {failures}");
    }

    /// Asks for a job's end.
    #[track_caller]
    pub(crate) fn cancel(&self, job: &str) {
        let answer = self.request("PATCH", &format!("/jobs/{job}?mode=cancel"), None).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
    }

    /// What a `weir` command that talks to this cluster prints, on both outputs, and its exit code.
    #[track_caller]
    pub(crate) fn call(&self, words: &[&str]) -> (String, Option<i32>) {
        let output = self.weir(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout) + &text(&output.stderr), output.status.code())
    }

    // ---- files

    /// A path in the test's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder in the test's folder, made now, as text.
    pub(crate) fn make_folder(&self, name: &str) -> String {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// All lines of a job's text output, sorted.
    #[track_caller]
    pub(crate) fn output(&self, folder: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for file in fs::read_dir(self.path(folder)).unwrap() {
            let path = file.unwrap().path();
            let hidden = path.file_name().unwrap().to_str().unwrap().starts_with(['.', '_']);
            if path.is_file() && !hidden {
                lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
            }
        }
        lines.sort();
        lines
    }

    /// All files in the working folder of the cluster and the log folders, with their sizes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        files_below(self.folder.path())
    }

    fn print_logs(&self) {
        let is_log = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            [".log", ".out", ".err"].iter().any(|end| name.ends_with(end))
        };
        for (path, size) in self.files().into_iter().filter(|(path, size)| is_log(path) && *size > 0) {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("---- {} ({size} bytes, its last lines)", path.display());
            lines[lines.len().saturating_sub(60)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }

    /// Ends what the test has started. Returns complaints.
    fn end(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        // First whoever would start others: a JobManager asks its provider for TaskManagers until it is told to end.
        if self.children.iter().any(|it| it.name == "jobmanager") {
            let _ = self.request("DELETE", "/cluster", None);
        }
        for started in &self.children {
            signal(started.child.id(), libc::SIGCONT);
            signal(started.child.id(), libc::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE / 2;
        for started in &mut self.children {
            while started.child.try_wait().unwrap().is_none() {
                if Instant::now() > deadline {
                    complaints.push(format!("{} did not end when it was told to", started.name));
                    let _ = started.child.kill();
                    let _ = started.child.wait();
                    break;
                }
                std::thread::sleep(LOOK);
            }
        }
        // Provider's TaskManagers end when the cluster does.
        let deadline = Instant::now() + PATIENCE / 4;
        while !self.processes().is_empty() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        complaints
            .extend(self.processes().into_iter().map(|pid| format!("a process is left: {}", process::describe(pid))));
        complaints
    }

    fn kill_all(&mut self) {
        for _ in 0..20 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(kill);
            std::thread::sleep(LOOK);
        }
        self.children.iter_mut().for_each(|started| drop(started.child.wait()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.keeps_files {
                self.folder.disable_cleanup(true);
                eprintln!("its files stay in {}", self.folder.path().display());
            } else {
                self.print_logs();
            }
            self.kill_all();
            return;
        }
        let complaints = self.end();
        if !complaints.is_empty() {
            self.print_logs();
            self.kill_all();
            panic!("{}", complaints.join("\n"));
        }
    }
}

/// A subtask of a job.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    #[allow(dead_code, reason = "for messages of tests that fail")]
    pub(crate) vertex: String,
    pub(crate) subtask: u64,
    pub(crate) state: String,
    pub(crate) attempt: u64,
    pub(crate) task_manager: String,
}

/// The text in a JSON value.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

/// All files below a folder, with their sizes.
pub(crate) fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(metadata) => files.push((entry.path(), metadata.len())),
                // It was removed meanwhile.
                Err(_) => {}
            }
        }
    }
    files
}

/// The executable with the jobs of the tests, without what debuggers want: every cluster copies and hashes it.
pub(crate) fn test_jobs() -> PathBuf {
    static STRIPPED: OnceLock<PathBuf> = OnceLock::new();
    let full = beside_weir("weir-test-jobs", "cargo build -p weir-testkit --bin weir-test-jobs");
    STRIPPED.get_or_init(|| strip(&full).unwrap_or(full)).clone()
}

/// The job that copies a topic of Kafka.
pub(crate) fn kafka_copy() -> PathBuf {
    beside_weir("examples/kafka_copy", "cargo build -p weir-kafka --examples")
}

/// A copy without symbols; `None` if this machine has no program for that.
fn strip(full: &Path) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (new, copy) = (folder.join(format!("weir-test-jobs.{}", std::process::id())), folder.join("weir-test-jobs"));
    let status = Command::new("strip").arg("-o").arg(&new).arg(full).status().ok()?;
    if !status.success() {
        return None;
    }
    // Another process with the same tests may be reading the last one.
    fs::rename(new, &copy).ok()?;
    Some(copy)
}

/// The folder with the standalone provider's plugin.
pub(crate) fn plugins_dir() -> PathBuf {
    const PLUGIN: &str = "libweir_provider_standalone.so";
    let beside = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
    // Built for tests, a library stays where dependencies are; `cargo build` puts it beside the program.
    let folder = [beside.join("deps"), beside.to_owned()].into_iter().find(|folder| folder.join(PLUGIN).exists());
    folder.unwrap_or_else(|| panic!("{PLUGIN} is missing: `cargo build -p weir-plugin-standalone` makes it"))
}

fn beside_weir(name: &str, how: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().join(name);
    assert!(path.exists(), "{} is missing: `{how}` makes it", path.display());
    path
}
