//! What a job's own executable says about arguments with which it was refused.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::arguments::RunArgs;
use crate::client::Refused;
use crate::failure;
use crate::text;

/// How long the executable may take; its builder may wait for something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the command after a submission has failed. If the arguments were wrong, or ask for help, the job's executable says so better than
/// the cluster can: with its name, and colours on a terminal.
pub(crate) async fn explain(arguments: &RunArgs, path: &Path, error: anyhow::Error) -> anyhow::Result<u8> {
    let may_be_usage = error.downcast_ref::<Refused>().is_some_and(|refused| refused.status.as_u16() == 400);
    if !may_be_usage {
        return Err(error);
    }
    let mut command = Command::new(path);
    command.args(arguments.job.to_words()).arg("--explain=tree").args(&arguments.target.own);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(Ok(Output { status, stdout, stderr })) = tokio::time::timeout(PATIENCE, command.output()).await else {
        return Err(error);
    };
    let stderr = String::from_utf8_lossy(&stderr);
    match status.code() {
        Some(code) if code == i32::from(failure::USAGE) && !stderr.is_empty() => {
            eprintln!("{}", stderr.trim_end());
            Ok(failure::USAGE)
        }
        // It has printed help, as the cluster was not willing to.
        Some(0) if arguments.target.own.iter().any(|word| word == "--help" || word == "-h") => {
            text::print(&String::from_utf8_lossy(&stdout))?;
            Ok(failure::OK)
        }
        _ => Err(error),
    }
}
