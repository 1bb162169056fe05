//! Tells the program from which commit it is built: what WEIR_BUILD_COMMIT and WEIR_BUILD_COMMIT_DATE say, or git, or nobody.
//!
//! Git is asked for release builds only, so that a commit does not make every developer link again.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let from_git = if release { last_commit() } else { None };
    let (commit, date) = from_git.unwrap_or_else(|| ("unknown".to_owned(), "unknown".to_owned()));
    for (name, found) in [("WEIR_BUILD_COMMIT", commit), ("WEIR_BUILD_COMMIT_DATE", date)] {
        println!("cargo::rerun-if-env-changed={name}");
        let given = std::env::var(name).ok().map(|text| text.trim().to_owned());
        println!("cargo::rustc-env={name}={}", given.filter(|text| plain(text)).unwrap_or(found));
    }
}

fn plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_ascii_graphic() || char == ' ')
}

/// Its id and date; `None` in sources that did not come with git.
fn last_commit() -> Option<(String, String)> {
    // Sources unpacked inside somebody else's repository are not of its commits.
    if !Path::new("../../.git").exists() {
        return None;
    }
    let history = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={history}");
    let text = git(&["log", "-1", "--format=%h %cI"])?;
    let (commit, date) = text.split_once(' ')?;
    Some((commit.to_owned(), date.to_owned()))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && plain(&text)).then_some(text)
}
