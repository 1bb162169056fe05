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
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.query(query);
            if found == Some(expect) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{query} is {found:?} and not {expect}; targets: {:#}",
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
