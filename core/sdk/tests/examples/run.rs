//! Runs the built executables of the examples.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No example takes longer, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run printed, and its exit code.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The lines of standard output of a run that must have succeeded.
    pub fn lines(&self) -> Vec<&str> {
        self.succeeded();
        self.stdout.lines().collect()
    }

    pub fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
    }
}

/// Runs an example to its end.
pub fn example(name: &str, arguments: &[&str]) -> Ran {
    let executable = executable(name);
    let directory = tempfile::tempdir().unwrap();
    let (out, err) = (directory.path().join("out"), directory.path().join("err"));
    let mut child = Command::new(executable)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{name} {arguments:?} did not end: {}", fs::read_to_string(&err).unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ran { code: status.code(), stdout: fs::read_to_string(out).unwrap(), stderr: fs::read_to_string(err).unwrap() }
}

/// Cargo puts tests into `deps` and examples into `examples` beside it.
fn executable(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing; `cargo test -p weir` and `cargo build -p weir --examples` build it",
        path.display()
    );
    path
}

/// A file of the examples' data.
pub fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(name);
    path.to_str().unwrap().to_owned()
}

/// The content of a gzip file of the examples' data.
pub fn unpacked(name: &str) -> String {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(File::open(data(name)).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// The rows of all part files in a directory, sorted. There must be nothing else in it, hidden or not.
pub fn rows(directory: &Path, headers: bool) -> Vec<csv::StringRecord> {
    let mut rows: Vec<csv::StringRecord> = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("part-") && name.ends_with(".csv"), "{name} should not be there");
        let mut reader = csv::ReaderBuilder::new().has_headers(headers).from_path(&path).unwrap();
        rows.extend(reader.records().map(Result::unwrap));
    }
    rows.sort_by(|a, b| a.iter().cmp(b.iter()));
    rows
}
