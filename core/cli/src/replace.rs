//! `weir run --replace` and `--dry-run`: what becomes of state in another version of its job, before anything is stopped.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::arguments::{OutputFormat, RunArgs};
use crate::client::{Client, JobLine};
use crate::run::Submission;
use crate::{savepoint, text};

/// What becomes of state in the job that is to start with it, in the cluster's words.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct State {
    restored: Vec<String>,
    empty: Vec<String>,
    left_behind: Vec<String>,
}

impl State {
    pub(crate) fn print(&self, output: OutputFormat) -> anyhow::Result<()> {
        text::print(&match output {
            OutputFormat::Json => format!("{}\n", serde_json::to_string(self).context("the answer is no JSON")?),
            OutputFormat::Text => self.text(),
        })
    }

    fn text(&self) -> String {
        let mut lines = vec!["The job can go on from there.".to_owned()];
        lines.extend(self.restored.iter().map(|what| format!("  goes on:       {what}")));
        lines.extend(self.empty.iter().map(|what| format!("  begins empty:  {what}")));
        lines.extend(self.left_behind.iter().map(|what| format!("  left behind:   {what}")));
        lines.join("\n") + "\n"
    }
}

/// The job that is to be replaced.
pub(crate) async fn running(client: &Client, named: &str) -> anyhow::Result<JobLine> {
    let job = client.find_job(named).await?;
    if job.has_ended() {
        bail!(
            "job {} ({}) has ended already: it is {}; start the next one from what it has left with -s PATH",
            job.name,
            job.jid,
            job.state
        );
    }
    Ok(job)
}

/// Stops a job with a savepoint and runs another one from it, which is known to be able to go on from its state. Returns the id of the new
/// job.
pub(crate) async fn replace(
    client: &Client,
    arguments: &RunArgs,
    job: &JobLine,
    submission: &mut Submission,
    artifact: &str,
) -> anyhow::Result<String> {
    let stopped = savepoint::stop_job(client, job, arguments.restore.directory.as_deref()).await;
    let savepoint = stopped.with_context(|| format!("job {} ({}) is not replaced", job.name, job.jid))?;
    if !arguments.quiet {
        eprintln!("Job {} has stopped with the savepoint {savepoint}", job.jid);
    }
    submission.starts_from(&savepoint);
    submission.run(client, artifact).await.with_context(|| {
        format!(
            "job {} ({}) has stopped, and the new one does not run; either goes on with `-s {savepoint}`",
            job.name, job.jid
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_state_is_said_line_by_line() {
        let answer = r#"{"restored": ["operator `a`"], "empty": ["state `b` of operator `a`"], "left-behind": ["c is left behind"]}"#;
        let state: State = serde_json::from_str(answer).unwrap();
        let expect = "The job can go on from there.\n  goes on:       operator `a`\n  \
                      begins empty:  state `b` of operator `a`\n  left behind:   c is left behind\n";
        assert_eq!(state.text(), expect);
    }
}
