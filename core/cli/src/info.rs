//! `weir info`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use weir_proto::artifact::{ROLE_DESCRIBE, ROLE_VARIABLE};

use crate::arguments::{InfoArgs, OutputFormat};
use crate::executable::{self, Executable};
use crate::failure;
use crate::run::{become_it, not_started};
use crate::text;

/// What an executable says when it is asked to describe itself.
#[derive(Debug, Deserialize)]
struct Description {
    weir: String,
    protocol: u32,
    jobs: Vec<DescribedJob>,
}

#[derive(Debug, Deserialize, Serialize)]
struct DescribedJob {
    name: String,
}

pub(crate) fn info(arguments: &InfoArgs) -> anyhow::Result<u8> {
    let executable = executable::find(&arguments.target, arguments.output == OutputFormat::Json)?;
    let chosen = arguments.job.name.is_some();
    match arguments.output {
        OutputFormat::Json => print_json(arguments, &executable),
        OutputFormat::Text if chosen => Err(become_it(explain(arguments, &executable), &executable.path)),
        OutputFormat::Text => match describe(&executable.path)? {
            description if description.jobs.len() == 1 => {
                Err(become_it(explain(arguments, &executable), &executable.path))
            }
            description => print_jobs(&executable, &description),
        },
    }
}

/// Asks the executable what is in it.
fn describe(path: &Path) -> anyhow::Result<Description> {
    let mut command = Command::new(path);
    command.env(ROLE_VARIABLE, ROLE_DESCRIBE).stdin(Stdio::null()).stderr(Stdio::inherit());
    let Output { status, stdout, .. } = command.output().map_err(|error| not_started(path, &error))?;
    if !status.success() {
        bail!("{} was asked to describe itself and ended with {status}", path.display());
    }
    serde_json::from_slice(&stdout)
        .with_context(|| format!("{} was asked to describe itself and gave no valid answer", path.display()))
}

/// The executable, to print its plan.
fn explain(arguments: &InfoArgs, executable: &Executable) -> Command {
    let mut command = Command::new(&executable.path);
    command.args(arguments.job.to_words());
    command.arg(if arguments.dot { "--explain=dot" } else { "--explain=tree" });
    command.args(&arguments.target.own);
    command
}

fn print_jobs(executable: &Executable, description: &Description) -> anyhow::Result<u8> {
    let mut page = format!(
        "{}: weir {}, {} jobs; --job NAME shows the plan of one\n",
        executable.path.display(),
        description.weir,
        description.jobs.len()
    );
    for job in &description.jobs {
        page.push_str(&format!("    {}\n", job.name));
    }
    text::print(&page)?;
    Ok(failure::OK)
}

fn print_json(arguments: &InfoArgs, executable: &Executable) -> anyhow::Result<u8> {
    let description = describe(&executable.path)?;
    let only = match description.jobs.as_slice() {
        [job] => Some(&job.name),
        _ => None,
    };
    let job = arguments.job.name.as_ref().or(only);
    let plan = match job {
        None => None,
        Some(_) => {
            let mut command = explain(arguments, executable);
            let output = command.stderr(Stdio::inherit()).output();
            let Output { status, stdout, .. } = output.map_err(|error| not_started(&executable.path, &error))?;
            if !status.success() {
                // The job has said why.
                return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(failure::FAILED));
            }
            Some(String::from_utf8_lossy(&stdout).trim_end().to_owned())
        }
    };
    let answer = json!({
        "artifact": executable.path,
        "weir": description.weir,
        "protocol": description.protocol,
        "jobs": description.jobs,
        "job": job,
        "plan_format": if arguments.dot { "dot" } else { "tree" },
        "plan": plan,
    });
    text::print(&format!("{answer}\n"))?;
    Ok(failure::OK)
}
