//! A cluster of real processes, watched by the real Prometheus with the configuration in `conf/`.
//!
//! Prometheus comes from `scripts/fixtures/prometheus`; where it cannot be got, the test fails and says how to get it.

#![allow(clippy::unwrap_used, reason = "clippy's exception for tests does not reach the functions they call")]

#[path = "../../../metrics/tests/monitoring/fixture.rs"]
mod fixture;
#[path = "../../../metrics/tests/monitoring/http.rs"]
mod http;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use fixture::{Prometheus, lint, promtool_passes, repository};

/// A process of the cluster; told to end with this value, and awaited.
struct Process {
    child: Child,
    /// What it said when it was up.
    greeting: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: sends a signal to a child that has not been waited for, so its id is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

/// A JobManager with its files in a folder of its own.
struct Cluster {
    // Ends before its folder does.
    job_manager: Process,
    dir: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let job_manager = start(dir.path(), "jobmanager", &["rest.port=0", "jobmanager.rpc.port=0"]);
        Self { job_manager, dir }
    }

    fn start_task_manager(&self, slots: u32) -> Process {
        let (_, port) = self.job_manager.greeting.rsplit_once(':').unwrap();
        let port = format!("jobmanager.rpc.port={port}");
        start(self.dir.path(), "taskmanager", &[&port, &format!("taskmanager.numberOfTaskSlots={slots}")])
    }

    /// Host and port of the HTTP API.
    fn rest(&self) -> &str {
        let (_, rest) = self.job_manager.greeting.split_once("http://").unwrap();
        rest.split(',').next().unwrap()
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&http::get(self.rest(), path)).unwrap()
    }

    /// Waits until the API answers as wanted.
    fn wait_until(&self, path: &str, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let answer = self.get(path);
            if wanted(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{path} is still {answer:#}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs `weir`, which must succeed, and returns what it printed.
    fn call(&self, words: &[&str]) -> String {
        let output = weir().args(words).args(["-m", self.rest()]).output().unwrap();
        assert!(output.status.success(), "weir {words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `conf/prometheus.yml` for this cluster, in a hurry.
    fn prometheus_configuration(&self) -> PathBuf {
        let conf = repository().join("conf");
        let config = fs::read_to_string(conf.join("prometheus.yml")).unwrap();
        let config = config.replace("localhost:8081", self.rest()).replace("interval: 10s", "interval: 1s");
        let path = self.dir.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        fs::copy(conf.join("alerts.yml"), self.dir.path().join("alerts.yml")).unwrap();
        path
    }
}

/// The command, free of settings of whoever runs the tests.
fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Starts a process of the cluster, and waits until it greets.
fn start(dir: &Path, role: &str, options: &[&str]) -> Process {
    let folders = [("process.working-dir", "work"), ("env.log.dir", "log")];
    let folders = folders.map(|(key, folder)| format!("{key}={}", dir.join(folder).display()));
    let mut command = weir();
    command.arg(role).stdout(Stdio::piped());
    for option in options.iter().copied().chain(folders.iter().map(String::as_str)) {
        command.args(["-D", option]);
    }
    let mut child = command.spawn().unwrap();
    let greeting = BufReader::new(child.stdout.take().unwrap()).lines().next();
    let greeting = greeting.unwrap_or_else(|| panic!("the {role} ended without a word")).unwrap();
    Process { child, greeting }
}

fn endless_job() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().join("examples/cli-two-jobs");
    assert!(path.exists(), "{} is missing: build it with `cargo build -p weir-cli --examples`", path.display());
    path.to_str().unwrap().to_owned()
}

#[test]
fn prometheus_watches_a_cluster_run_a_job_and_lose_its_task_manager() {
    let cluster = Cluster::start();
    let task_manager = cluster.start_task_manager(3);
    let configuration = cluster.prometheus_configuration();
    promtool_passes(&["check", "config", configuration.to_str().unwrap()]);
    let prometheus = Prometheus::start(&configuration);

    prometheus.wait_for("sum(up)", 2.0);
    prometheus.wait_for("flink_jobmanager_numRegisteredTaskManagers", 1.0);
    prometheus.wait_for("flink_jobmanager_taskSlotsAvailable", 3.0);

    let restarts = ["restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.attempts=100"];
    let mut words = vec!["run", "-d", "-p", "2", "--job", "endless"];
    words.extend(restarts.into_iter().flat_map(|option| ["-D", option]));
    let executable = endless_job();
    words.push(&executable);
    let submitted = cluster.call(&words);
    let job = submitted.split_whitespace().last().unwrap().to_owned();
    let of_job = format!("{{job_id=\"{job}\",job_name=\"endless\"}}");
    prometheus.wait_until(&format!("flink_jobmanager_job_uptime{of_job}"), |uptime| uptime > 0.0);
    prometheus.wait_for("flink_jobmanager_taskSlotsAvailable", 1.0);
    prometheus.wait_for(&format!("count(flink_taskmanager_job_task_numRecordsIn{of_job})"), 2.0);
    // What the TaskManager counts is what its tasks do, and what the JobManager says of them.
    prometheus.wait_until(&format!("sum(flink_taskmanager_job_task_numRecordsIn{of_job})"), |records| records > 1000.0);
    prometheus.wait_until(&format!("sum(rate(weir_task_records_in_total{of_job}[10s]))"), |rate| rate > 10.0);
    let operators = format!("count by (job_id) (flink_taskmanager_job_task_operator_numRecordsIn{of_job})");
    prometheus.wait_until(&operators, |series| series >= 2.0);
    prometheus.wait_until("flink_taskmanager_Status_Flink_Memory_Managed_Used", |bytes| bytes > 100_000.0);
    let vertex = cluster.get(&format!("/jobs/{job}"))["vertices"][0]["id"].as_str().unwrap().to_owned();
    let over_rest = format!("/jobs/{job}/vertices/{vertex}/subtasks/metrics?get=numRecordsIn&agg=sum");
    cluster.wait_until(&over_rest, |answer| answer[0]["sum"].as_f64().is_some_and(|records| records > 1000.0));

    let targets = cluster.get("/prometheus/targets");
    for target in targets.as_array().unwrap() {
        lint(&http::get(target["targets"][0].as_str().unwrap(), "/metrics"));
    }

    drop(task_manager);
    prometheus.wait_for("flink_jobmanager_numRegisteredTaskManagers", 0.0);
    prometheus.wait_for("count(up)", 1.0);
    prometheus.wait_for(&format!("weir_job_missing_slots{of_job}"), 2.0);
    prometheus.wait_for(&format!("weir_job_restarts_total{of_job}"), 1.0);
    prometheus.wait_for("count(ALERTS{alertname=\"WeirNoTaskManagers\"})", 1.0);
    cluster.call(&["cancel", &job]);
    prometheus.wait_for("weir_jobs{status=\"CANCELED\"}", 1.0);
    prometheus.wait_for("flink_jobmanager_numRunningJobs", 0.0);
}
