//! `weir list`, `weir status`, `weir cancel`.

use std::time::Duration;

use serde_json::{Value, json};
use weir_config::Configuration;

use crate::arguments::{CancelArgs, JobRefArgs, ListArgs, OutputFormat};
use crate::client::{Client, JobLine, has_ended};
use crate::failure;
use crate::text::{self, since};

/// How long a request waits for the end of a job that is stopping, before it is made again.
const WAIT: Duration = Duration::from_secs(10);

pub(crate) async fn list(arguments: &ListArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let jobs: Vec<JobLine> = client.jobs().await?.into_iter().filter(|job| wanted(arguments, job)).collect();
    if arguments.cluster.output == OutputFormat::Json {
        let rows = jobs.iter().map(|job| {
            json!({ "id": job.jid, "name": job.name, "status": job.state, "start_time": job.start, "duration": job.duration, "tasks": job.tasks })
        });
        text::print(&format!("{}\n", Value::Array(rows.collect())))?;
        return Ok(failure::OK);
    }
    if jobs.is_empty() {
        let hint = if arguments.all { "" } else { "; --all shows ended ones as well" };
        text::print(&format!("no jobs on the cluster at {}{hint}\n", client.base()))?;
        return Ok(failure::OK);
    }
    let mut rows = vec![["ID", "NAME", "STATUS", "DURATION", "TASKS"].map(str::to_owned).to_vec()];
    rows.extend(
        jobs.iter()
            .map(|job| vec![job.jid.clone(), job.name.clone(), job.state.clone(), since(job.duration), tasks(job)]),
    );
    text::print(&text::table(&rows))?;
    Ok(failure::OK)
}

fn wanted(arguments: &ListArgs, job: &JobLine) -> bool {
    let waits = matches!(job.state.as_str(), "INITIALIZING" | "CREATED" | "RESTARTING");
    match (arguments.all, arguments.running, arguments.scheduled) {
        (true, ..) => true,
        (_, true, false) => job.state == "RUNNING" || job.state == "RESTARTING",
        (_, false, true) => waits && job.state != "RESTARTING",
        _ => !job.has_ended(),
    }
}

fn tasks(job: &JobLine) -> String {
    let states = job.tasks.iter().filter(|(state, count)| state.as_str() != "total" && **count > 0);
    let words: Vec<String> = states.map(|(state, count)| format!("{count} {state}")).collect();
    words.join(", ")
}

pub(crate) async fn status(arguments: &JobRefArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let job = client.find_job(&arguments.job).await?;
    let detail: Value = client.get(&format!("/jobs/{}", job.jid)).await?;
    let exceptions: Value = client.get(&format!("/jobs/{}/exceptions", job.jid)).await?;
    let wait: Option<Value> = slot_wait(&client, &job.jid).await?;
    if arguments.cluster.output == OutputFormat::Json {
        let answer = json!({ "job": detail, "exceptions": exceptions, "slot_wait": wait });
        text::print(&format!("{answer}\n"))?;
        return Ok(failure::OK);
    }
    let mut page = format!("{} ({})\n{} for {}\n", job.name, job.jid, job.state, since(job.duration));
    if let Some(wait) = &wait {
        page.push_str(&explain_wait(wait));
    }
    page.push_str(&text::table(&vertices(&detail)));
    page.push_str(&failures(&exceptions));
    text::print(&page)?;
    Ok(failure::OK)
}

/// Why a job waits for slots, if it does.
pub(crate) async fn slot_wait(client: &Client, id: &str) -> anyhow::Result<Option<Value>> {
    let wait: Value = client.get(&format!("/jobs/{id}/slot-wait")).await?;
    Ok(Some(wait).filter(|wait| wait["waiting"] == true))
}

/// A sentence or more about a job that waits for slots.
pub(crate) fn explain_wait(wait: &Value) -> String {
    let number = |key: &str| wait[key].as_u64().unwrap_or(0);
    let mut text = format!(
        "waits for slots: needs {}, has {}, {} free in the cluster, {} to come from TaskManagers that are starting\n",
        number("needed"),
        number("granted"),
        number("available"),
        number("pending"),
    );
    let reasons = wait["reasons"].as_array().into_iter().flatten().chain([&wait["never"]]);
    for reason in reasons.filter_map(Value::as_str) {
        text.push_str(&format!("    {reason}\n"));
    }
    text
}

fn vertices(detail: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![["TASKS", "STATUS", "RECORDS IN", "RECORDS OUT", "VERTEX"].map(str::to_owned).to_vec()];
    for vertex in detail["vertices"].as_array().into_iter().flatten() {
        let records = |key: &str| text::count(vertex["metrics"][key].as_f64().unwrap_or(0.0));
        rows.push(vec![
            vertex["parallelism"].to_string(),
            vertex["status"].as_str().unwrap_or_default().to_owned(),
            records("read-records"),
            records("write-records"),
            vertex["name"].as_str().unwrap_or_default().to_owned(),
        ]);
    }
    rows
}

/// The failures of a job, newest first.
pub(crate) fn failures(exceptions: &Value) -> String {
    let mut page = String::new();
    for entry in exceptions["exceptionHistory"]["entries"].as_array().into_iter().flatten() {
        let task = entry["taskName"].as_str().map(|task| format!(" in {task}")).unwrap_or_default();
        let place = entry["taskManagerId"].as_str().map(|id| format!(" on TaskManager {id}")).unwrap_or_default();
        page.push_str(&format!("failure{task}{place}:\n"));
        let stack = entry["stacktrace"].as_str().unwrap_or_default();
        stack.lines().for_each(|line| page.push_str(&format!("    {line}\n")));
    }
    page
}

pub(crate) async fn cancel(arguments: &CancelArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let mut jobs = Vec::new();
    for name in &arguments.jobs {
        jobs.push(client.find_job(name).await?);
    }
    for job in &jobs {
        client.patch(&format!("/jobs/{}?mode=cancel", job.jid)).await?;
    }
    let mut rows = Vec::new();
    let mut code = failure::OK;
    for job in &jobs {
        let status = if arguments.detached { "CANCELLING".to_owned() } else { stopped(&client, &job.jid).await? };
        // It finished or failed before the order reached it.
        if !matches!(status.as_str(), "CANCELED" | "CANCELLING") {
            code = failure::FAILED;
        }
        rows.push((job, status));
    }
    match arguments.cluster.output {
        OutputFormat::Json => {
            let rows = rows.iter().map(|(job, status)| json!({ "id": job.jid, "name": job.name, "status": status }));
            text::print(&format!("{}\n", Value::Array(rows.collect())))?;
        }
        OutputFormat::Text => {
            for (job, status) in rows {
                text::print(&format!("{} {} {status}\n", job.jid, job.name))?;
            }
        }
    }
    Ok(code)
}

/// Waits until a job has ended.
async fn stopped(client: &Client, id: &str) -> anyhow::Result<String> {
    loop {
        let status = client.status(id, WAIT).await?;
        if has_ended(&status) {
            return Ok(status);
        }
    }
}
