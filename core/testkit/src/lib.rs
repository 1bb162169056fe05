//! Starts executables as a person would and looks at what a person sees: exit code, output, messages, processes left.
//!
//! Owns the harness of the end-to-end tests and, in `jobs/`, the well-behaved and misbehaving jobs they run. Nothing of it
//! waits for ever: every run has a time limit, after which it and everything it started is killed and the test fails.
//! Linux only, because it finds processes through `/proc`.
//!
//! [`simulation`] runs whole clusters in virtual time, without any process.

mod process;
mod run;
pub mod simulation;

pub use process::{processes_marked, signal, state_of};
pub use run::{Outcome, Run, Running};

use std::path::Path;

/// The lines of all visible files of a directory, sorted; none if it does not exist.
pub fn lines_in(directory: &Path) -> Vec<String> {
    let mut lines: Vec<String> = names_in(directory)
        .iter()
        .filter(|name| !name.starts_with('.'))
        .flat_map(|name| {
            let path = directory.join(name);
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{} cannot be read: {e}", path.display()));
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    lines.sort();
    lines
}

/// The names of everything in a directory, hidden or not, sorted; none if it does not exist.
pub fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// Asserts that `text` contains all of `parts`, and shows it if not.
#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}
