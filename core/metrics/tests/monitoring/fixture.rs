//! The real Prometheus.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http;

/// A loaded machine may also have to download it first.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn script() -> Command {
    Command::new(repository().join("scripts/fixtures/prometheus"))
}

/// Runs promtool with `input` as its standard input.
pub fn promtool(arguments: &[&str], input: &str) -> Output {
    let got = script().arg("install").stdin(Stdio::null()).output().unwrap();
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    let mut child = script()
        .arg("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs promtool, which must not complain.
pub fn promtool_passes(arguments: &[&str]) {
    let output = promtool(arguments, "");
    assert!(output.status.success(), "promtool {arguments:?}: {output:?}");
}

/// The only thing promtool may find in an exposition, and only in Flink's names: they are as Flink's dashboards ask for them.
const FLINKS_SPELLING: &str = "metric names should be written in 'snake_case' not 'camelCase'";

/// Has promtool look at an exposition.
pub fn lint(exposition: &str) {
    let output = promtool(&["check", "metrics"], exposition);
    let complaints = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for complaint in complaints.lines() {
        let (name, reason) = complaint.split_once(' ').unwrap_or_else(|| panic!("{complaint}"));
        assert!(name.starts_with("flink_") && reason == FLINKS_SPELLING, "{complaint}");
    }
    // 3: it has linted everything and found something. Others: it could not read it.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}: {complaints}", output.status);
}

/// A running server; ends with this value.
pub struct Prometheus {
    script: Child,
    address: String,
}

impl Prometheus {
    pub fn start(config: &Path) -> Self {
        let mut script = script().arg("run").arg(config).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (told, ready) = mpsc::channel();
        let stdout = script.stdout.take().unwrap();
        std::thread::spawn(move || told.send(BufReader::new(stdout).lines().next()));
        let line = ready.recv_timeout(PATIENCE);
        let Ok(Some(Ok(line))) = line else {
            let _ = script.kill();
            panic!("Prometheus did not start ({line:?}); its own words are on standard error");
        };
        let address = line.strip_prefix("ready http://").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { script, address }
    }

    /// What the API answers at this path.
    pub fn api(&self, path: &str) -> Value {
        let body = http::get(&self.address, path);
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(answer["status"], "success", "{path}: {body}");
        answer["data"].clone()
    }

    /// The value of the only sample a query gives, if it gives one.
    pub fn query(&self, query: &str) -> Option<f64> {
        let data = self.api(&format!("/api/v1/query?query={}", http::encode(query)));
        let result = data["result"].as_array().unwrap();
        assert!(result.len() <= 1, "{query}: {result:?}");
        result.first().map(|sample| sample["value"][1].as_str().unwrap().parse().unwrap())
    }

    /// Waits until a query gives this value.
    pub fn wait_for(&self, query: &str, expect: f64) {
        self.wait_until(query, |found| found == expect);
    }

    /// Waits until a query gives a value that is as wanted.
    pub fn wait_until(&self, query: &str, wanted: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.query(query);
            if found.is_some_and(&wanted) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{query} is still {found:?}; targets: {:#}",
                self.api("/api/v1/targets")["activeTargets"]
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The script ends when its input does, and takes the server with it.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
