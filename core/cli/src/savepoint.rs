//! `weir savepoint`, `weir stop`, `weir checkpoint`.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_config::Configuration;

use crate::arguments::{CheckpointArgs, ClusterArgs, OutputFormat, SavepointArgs, StopArgs};
use crate::client::{Client, JobLine};
use crate::failure;
use crate::text;

/// How long it takes until the cluster is asked again what has become of something: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Triggered {
    request_id: String,
}

pub(crate) async fn savepoint(arguments: &SavepointArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let (job, dispose) = (&arguments.job, &arguments.dispose);
    let Some(named) = job else {
        let path = dispose.as_deref().ok_or_else(|| failure::usage("name a job, or --dispose PATH"))?;
        return remove(&client, &arguments.cluster, path).await;
    };
    let job = client.find_job(named).await?;
    let directory = arguments.directory.as_deref().map(place).transpose()?;
    let path = format!("/jobs/{}/savepoints", job.jid);
    let trigger: Triggered = client.post(&path, &json!({ "target-directory": directory })).await?;
    if arguments.detached {
        return left(&arguments.cluster, &job, &trigger);
    }
    let location = location(&client, &path, &trigger).await?;
    let answer = json!({ "job_id": job.jid, "job": job.name, "savepoint": location });
    taken(&arguments.cluster, &answer, &location)
}

pub(crate) async fn stop(arguments: &StopArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let job = client.find_job(&arguments.job).await?;
    let trigger = trigger_stop(&client, &job, arguments.directory.as_deref(), arguments.drain).await?;
    if arguments.detached {
        return left(&arguments.cluster, &job, &trigger);
    }
    let location = location(&client, &format!("/jobs/{}/savepoints", job.jid), &trigger).await?;
    let answer = json!({ "job_id": job.jid, "job": job.name, "savepoint": location, "drained": arguments.drain });
    taken(&arguments.cluster, &answer, &location)
}

/// Stops a job with a savepoint, and waits until it has ended. Returns where the savepoint is.
pub(crate) async fn stop_job(client: &Client, job: &JobLine, directory: Option<&str>) -> anyhow::Result<String> {
    let trigger = trigger_stop(client, job, directory, false).await?;
    location(client, &format!("/jobs/{}/savepoints", job.jid), &trigger).await
}

async fn trigger_stop(
    client: &Client,
    job: &JobLine,
    directory: Option<&str>,
    drain: bool,
) -> anyhow::Result<Triggered> {
    let directory = directory.map(place).transpose()?;
    let body = json!({ "targetDirectory": directory, "drain": drain });
    client.post(&format!("/jobs/{}/stop", job.jid), &body).await
}

pub(crate) async fn checkpoint(arguments: &CheckpointArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let job = client.find_job(&arguments.job).await?;
    let path = format!("/jobs/{}/checkpoints", job.jid);
    let kind = if arguments.full { "FULL" } else { "CONFIGURED" };
    let trigger: Triggered = client.post(&path, &json!({ "checkpointType": kind })).await?;
    let operation = outcome(&client, &path, &trigger).await?;
    let number = operation["checkpointId"].as_u64().context("the cluster did not say which checkpoint was taken")?;
    // It may be forgotten already where many are taken.
    let details: Option<Value> = client.get(&format!("{path}/details/{number}")).await.ok();
    let place =
        details.as_ref().and_then(|details| details["external_path"].as_str()).filter(|path| path.contains(':'));
    text::print(&match arguments.cluster.output {
        OutputFormat::Json => {
            format!("{}\n", json!({ "job_id": job.jid, "job": job.name, "checkpoint": number, "path": place }))
        }
        OutputFormat::Text => {
            let place = place.map(|place| format!(" Path: {place}")).unwrap_or_default();
            format!("Checkpoint {number} for job {} completed.{place}\n", job.jid)
        }
    })?;
    Ok(failure::OK)
}

async fn remove(client: &Client, cluster: &ClusterArgs, path: &str) -> anyhow::Result<u8> {
    let path = place(path)?;
    let trigger: Triggered = client.post("/savepoint-disposal", &json!({ "savepoint-path": path })).await?;
    outcome(client, "/savepoint-disposal", &trigger).await?;
    text::print(&match cluster.output {
        OutputFormat::Json => format!("{}\n", json!({ "disposed": path })),
        OutputFormat::Text => format!("Savepoint '{path}' disposed.\n"),
    })?;
    Ok(failure::OK)
}

fn taken(cluster: &ClusterArgs, answer: &Value, location: &str) -> anyhow::Result<u8> {
    text::print(&match cluster.output {
        OutputFormat::Json => format!("{answer}\n"),
        OutputFormat::Text => format!("Savepoint completed. Path: {location}\n"),
    })?;
    Ok(failure::OK)
}

fn left(cluster: &ClusterArgs, job: &JobLine, trigger: &Triggered) -> anyhow::Result<u8> {
    let id = &trigger.request_id;
    text::print(&match cluster.output {
        OutputFormat::Json => format!("{}\n", json!({ "job_id": job.jid, "job": job.name, "trigger_id": id })),
        OutputFormat::Text => {
            format!("Savepoint triggered; GET /jobs/{}/savepoints/{id} shows what becomes of it\n", job.jid)
        }
    })?;
    Ok(failure::OK)
}

async fn location(client: &Client, path: &str, trigger: &Triggered) -> anyhow::Result<String> {
    let operation = outcome(client, path, trigger).await?;
    let location = operation["location"].as_str();
    location.map(str::to_owned).context("the cluster did not say where the savepoint is")
}

/// Waits until an operation has ended. The error is what made it fail, in the cluster's words.
async fn outcome(client: &Client, path: &str, trigger: &Triggered) -> anyhow::Result<Value> {
    let path = format!("{path}/{}", trigger.request_id);
    let mut pause = FIRST_PAUSE;
    loop {
        let answer: Value = client.get(&path).await?;
        if answer["status"]["id"] != "COMPLETED" {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            continue;
        }
        let operation = &answer["operation"];
        let failure =
            [&operation["failure-cause"], &operation["failureCause"]].into_iter().find(|cause| !cause.is_null());
        return match failure {
            Some(cause) => {
                bail!(
                    "{}",
                    cause["stack-trace"].as_str().unwrap_or("it failed, and the cluster did not say why").trim_end()
                )
            }
            None => Ok(operation.clone()),
        };
    }
}

/// A place as the cluster understands it: a path without a beginning is one of the present folder.
pub(crate) fn place(named: &str) -> anyhow::Result<String> {
    if named.contains("://") || named.starts_with('/') {
        return Ok(named.to_owned());
    }
    let path = std::path::absolute(named).map_err(|error| anyhow!("{named:?} is no path: {error}"))?;
    let path = path.to_str().map(str::to_owned);
    path.ok_or_else(|| failure::usage(format!("the folder in which {named:?} is has a name that is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_absolute() {
        for whole in ["/s", "file:///s", "hdfs://names/s"] {
            assert_eq!(place(whole).unwrap(), whole);
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(place("s/x").unwrap(), here.join("s/x").to_str().unwrap());
    }
}
