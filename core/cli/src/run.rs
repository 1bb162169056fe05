//! `weir run`.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::anyhow;

use crate::arguments::{OutputFormat, RunArgs};
use crate::executable;

/// Becomes the job's executable; returns only if that failed.
pub(crate) fn run(arguments: &RunArgs) -> anyhow::Result<u8> {
    let executable = executable::find(&arguments.target, arguments.quiet)?;
    let mut command = Command::new(&executable.path);
    command.args(arguments.job.to_words());
    if let Some(workers) = &arguments.workers {
        command.arg(format!("--workers={workers}"));
    }
    if arguments.quiet {
        command.arg("--quiet");
    }
    if arguments.output == OutputFormat::Json {
        command.arg("--output=json");
    }
    command.args(&arguments.target.own);
    Err(become_it(command, &executable.path))
}

/// Replaces this process: the job answers signals itself and its exit code is what the caller sees.
pub(crate) fn become_it(mut command: Command, path: &Path) -> anyhow::Error {
    not_started(path, &command.exec())
}

/// Why an executable that is there does not start.
pub(crate) fn not_started(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let reason = match error.kind() {
        // The file was there a moment ago.
        ErrorKind::NotFound => "the dynamic loader it needs is not on this machine, or it was removed just now; \
             build it here, or link it statically (--target x86_64-unknown-linux-musl)"
            .to_owned(),
        ErrorKind::PermissionDenied => {
            format!("{error}: you may not execute it, or its file system is mounted noexec")
        }
        ErrorKind::ExecutableFileBusy => format!("{error}: somebody is still writing it"),
        _ => error.to_string(),
    };
    anyhow!("{} does not start: {reason}", path.display())
}
