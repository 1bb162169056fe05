//! Starts the command and looks at what it did.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What one call printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn stderr_has(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "standard error lacks {part:?}: {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn stdout_has(self, part: &str) -> Self {
        assert!(self.stdout.contains(part), "standard output lacks {part:?}: {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn last_line_as_json(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The command, free of settings of whoever runs the tests.
pub(crate) fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let Output { status, stdout, stderr } = command.output().expect("the command starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Outcome { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs `weir` with these words.
pub(crate) fn call(words: &[&str]) -> Outcome {
    outcome(weir().args(words))
}

/// The executable of `tests/fixtures/one_job.rs`.
pub(crate) fn one_job() -> String {
    example("cli-one-job")
}

/// The executable of `tests/fixtures/two_jobs.rs`.
pub(crate) fn two_jobs() -> String {
    example("cli-two-jobs")
}

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_weir")).parent().expect("a folder").join("examples");
    let path: PathBuf = folder.join(name);
    assert!(path.exists(), "{} is missing: build it with `cargo build -p weir-cli --examples`", path.display());
    path.to_str().expect("UTF-8").to_owned()
}
