//! A cluster of real processes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Http;
use crate::processes::{self, Process};

/// How long anything may take before a measure is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// The programs under test.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) weir: PathBuf,
    pub(crate) jobs: PathBuf,
    pub(crate) testkit: PathBuf,
}

impl Programs {
    pub(crate) fn find(folder: Option<PathBuf>) -> anyhow::Result<Programs> {
        let own = std::env::current_exe()?;
        let folder = folder.or_else(|| Some(own.parent()?.to_owned())).context("this program is in no folder")?;
        let find = |name: &str| {
            let path = folder.join(name);
            ensure!(path.is_file(), "{} is missing: scripts/bench --control builds it", path.display());
            Ok(path)
        };
        Ok(Programs { weir: find("weir")?, jobs: find("weir-test-jobs")?, testkit: find("weir-testkit")? })
    }
}

/// Asks again and again, a thousand times a second, until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A JobManager and TaskManagers, in a folder of their own. Dropping it kills them and removes the folder.
pub(crate) struct Cluster {
    weir: PathBuf,
    jobs: PathBuf,
    id: String,
    rest: SocketAddr,
    rpc_port: u16,
    pub(crate) task_managers: Vec<(String, Process)>,
    pub(crate) job_manager: Process,
    pub(crate) http: Http,
    folder: TempDir,
}

impl Cluster {
    /// A JobManager whose HTTP API answers.
    pub(crate) fn new(programs: &Programs) -> anyhow::Result<Cluster> {
        let folder = TempDir::with_prefix("weir-control-")?;
        processes::remove_on_signal(folder.path().to_owned());
        let id: String = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = id.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let mut command = weir(&programs.weir, "jobmanager", folder.path(), &id);
        command.args(["-Drest.port=0", "-Djobmanager.rpc.port=0"]).stdout(Stdio::piped());
        let mut job_manager = Process::start(&mut command)?;
        let (rest, rpc) = addresses(&mut job_manager)?;
        Ok(Cluster {
            weir: programs.weir.clone(),
            jobs: programs.jobs.clone(),
            id,
            rest,
            rpc_port: rpc.port(),
            job_manager,
            task_managers: Vec::new(),
            http: Http::new(rest),
            folder,
        })
    }

    /// A JobManager and TaskManagers with so many slots each, all registered.
    pub(crate) fn with(programs: &Programs, task_managers: u32, slots: u32) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::new(programs)?;
        (0..task_managers).try_for_each(|_| cluster.start_task_manager(slots))?;
        cluster.wait_for_task_managers(task_managers)?;
        Ok(cluster)
    }

    /// Starts a TaskManager and does not wait.
    pub(crate) fn start_task_manager(&mut self, slots: u32) -> anyhow::Result<()> {
        let id = format!("tm-{}", self.task_managers.len() + 1);
        let mut command = weir(&self.weir, "taskmanager", self.folder.path(), &self.id);
        command.arg(format!("-Djobmanager.rpc.port={}", self.rpc_port));
        command.arg(format!("-Dtaskmanager.numberOfTaskSlots={slots}"));
        command.arg(format!("-Dtaskmanager.resource-id={id}")).stdout(Stdio::null());
        self.task_managers.push((id, Process::start(&mut command)?));
        Ok(())
    }

    pub(crate) fn wait_for_task_managers(&mut self, count: u32) -> anyhow::Result<()> {
        wait_for("the TaskManagers to register", || {
            let registered = self.http.get("/overview")?["taskmanagers"].as_u64();
            Ok((registered == Some(u64::from(count))).then_some(()))
        })
    }

    /// Uploads the test jobs; their key.
    pub(crate) fn upload(&mut self) -> anyhow::Result<String> {
        let jobs = self.jobs.clone();
        self.http.upload(&jobs)
    }

    /// Starts a job; its id.
    pub(crate) fn run(
        &mut self,
        artifact: &str,
        job: &str,
        arguments: &[&str],
        options: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let options: serde_json::Map<String, Value> =
            options.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let body = json!({ "entryClass": job, "programArgsList": arguments, "flinkConfiguration": options });
        let answer = self.http.post(&format!("/jars/{artifact}/run"), &body)?;
        Ok(answer["jobid"].as_str().context("the run was answered without an id")?.to_owned())
    }

    /// Waits until so many tasks run, and that is all of them.
    pub(crate) fn wait_for_tasks(&mut self, job: &str, tasks: u64) -> anyhow::Result<()> {
        wait_for("all tasks to run", || {
            let detail = self.http.get(&format!("/jobs/{job}"))?;
            let state = detail["state"].as_str().unwrap_or_default();
            ensure!(!matches!(state, "FAILED" | "FINISHED" | "CANCELED"), "the job is {state}: {}", self.failures(job));
            Ok((state == "RUNNING" && running(&detail) == tasks).then_some(()))
        })
    }

    /// What brought a job down.
    pub(crate) fn failures(&mut self, job: &str) -> String {
        match self.http.get(&format!("/jobs/{job}/exceptions")) {
            Ok(failures) => failures["exceptionHistory"].to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Waits until a job has ended so.
    pub(crate) fn wait_for_end(&mut self, job: &str, wanted: &str) -> anyhow::Result<()> {
        let state = wait_for("the end of the job", || {
            let status = self.http.get(&format!("/jobs/{job}/status"))?;
            let state = status["status"].as_str().unwrap_or_default().to_owned();
            Ok(matches!(state.as_str(), "FAILED" | "FINISHED" | "CANCELED").then_some(state))
        })?;
        if state != wanted {
            bail!("the job is {state}, not {wanted}: {}", self.failures(job));
        }
        Ok(())
    }

    /// Cancels a job and waits until it is gone and its slots are free.
    pub(crate) fn cancel(&mut self, job: &str) -> anyhow::Result<()> {
        self.http.patch(&format!("/jobs/{job}?mode=cancel"))?;
        self.wait_for_end(job, "CANCELED")?;
        wait_for("its slots to be free", || {
            let overview = self.http.get("/overview")?;
            Ok((overview["slots-available"] == overview["slots-total"]).then_some(()))
        })
    }

    /// `weir run` of one of the test jobs, as a person calls it.
    pub(crate) fn run_command(&self, job: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.weir);
        without_settings(&mut command);
        command.args(["run", "-t", "remote", "-m", &self.rest.to_string(), "--output", "json", "--job", job]);
        command.arg(&self.jobs).arg("--").args(arguments).stdin(Stdio::null());
        command
    }

    /// A path in the cluster's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Cluster {
    /// First the JobManager is frozen, so that none complains of the loss of another.
    fn drop(&mut self) {
        self.job_manager.freeze();
        self.task_managers.clear();
    }
}

/// Number of tasks that run.
pub(crate) fn running(detail: &Value) -> u64 {
    let vertices = detail["vertices"].as_array().map(Vec::as_slice).unwrap_or_default();
    vertices.iter().filter_map(|vertex| vertex["tasks"]["RUNNING"].as_u64()).sum()
}

fn weir(program: &Path, role: &str, folder: &Path, cluster_id: &str) -> Command {
    let mut command = Command::new(program);
    without_settings(&mut command);
    command.arg(role).arg(format!("-Dcluster.id={cluster_id}"));
    command.arg(format!("-Dprocess.working-dir={}", folder.join("work").display()));
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// Options of whoever calls this are not those that are measured.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
        command.env_remove(name);
    }
}

/// Where the JobManager says it listens: for HTTP and for TaskManagers.
fn addresses(job_manager: &mut Process) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let stdout = job_manager.child().stdout.take().context("its output was not asked for")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let after = |mark: &str| -> anyhow::Result<SocketAddr> {
        let (_, rest) = line.split_once(mark).with_context(|| format!("the JobManager said {line:?}"))?;
        let word = rest.split([',', ' ', '\n']).next().unwrap_or_default();
        word.parse().with_context(|| format!("the JobManager said {line:?}"))
    };
    Ok((after("http://")?, after("connect to ")?))
}
