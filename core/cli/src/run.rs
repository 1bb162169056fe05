//! `weir run`: uploads a job, runs it, and stays with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir_config::{Configuration, options};

use crate::arguments::{OutputFormat, RestoreMode, RunArgs, Target};
use crate::client::{Client, JobLine, Refused};
use crate::cluster::{Embedded, Signals, cores};
use crate::command_line;
use crate::executable;
use crate::failure::{self, usage};
use crate::follow::{Follower, Summary};
use crate::replace::{self, State};
use crate::savepoint;
use crate::text;

pub(crate) async fn run(arguments: &RunArgs, mut configuration: Configuration) -> anyhow::Result<u8> {
    let place = place(arguments)?;
    let executable = executable::find(&arguments.target, arguments.quiet)?;
    if let Some(parallelism) = &arguments.job.parallelism {
        let set = configuration.set_argument(&format!("{}={parallelism}", options::PARALLELISM_DEFAULT.key()));
        set.map_err(|error| usage(format!("-p {parallelism}: {error}")))?;
    }
    match place {
        Target::Remote => {
            let client = Client::new(arguments.jobmanager.as_deref(), &configuration)?;
            let mut submission = Submission::new(arguments, &configuration)?;
            let id = match submit(arguments, &client, &executable.path, &mut submission).await {
                Ok(Some(id)) => id,
                Ok(None) => return Ok(failure::OK),
                Err(error) => return command_line::explain(arguments, &executable.path, error).await,
            };
            if arguments.detached {
                return detached(arguments, &id, &submission);
            }
            attached(arguments, &configuration, &client, &id, None, &mut Signals::new()?).await
        }
        Target::Local => {
            // A running cluster may be of another version; its JobManager looks for itself.
            executable.check_protocol()?;
            local(arguments, configuration, &executable.path).await
        }
    }
}

/// Hands the job to a running cluster, in the place of another one if that is wanted. Returns its id; `None` if it was only to be looked
/// at.
async fn submit(
    arguments: &RunArgs,
    client: &Client,
    path: &Path,
    submission: &mut Submission,
) -> anyhow::Result<Option<String>> {
    let replaced = match &arguments.restore.replace {
        Some(named) => Some(replace::running(client, named).await?),
        None => None,
    };
    let artifact = client.stored(path).await?;
    if let Some(job) = &replaced {
        submission.replaces(job);
    }
    if replaced.is_some() || arguments.restore.dry_run {
        let state = submission.check(client, &artifact).await?;
        if arguments.restore.dry_run {
            return state.print(arguments.output).map(|()| None);
        }
    }
    match &replaced {
        Some(job) => replace::replace(client, arguments, job, submission, &artifact).await.map(Some),
        None => submission.run(client, &artifact).await.map(Some),
    }
}

fn place(arguments: &RunArgs) -> anyhow::Result<Target> {
    let names_cluster = arguments.jobmanager.is_some() || arguments.restore.replace.is_some();
    let place = arguments.place.unwrap_or(if names_cluster { Target::Remote } else { Target::Local });
    match place {
        Target::Local if arguments.jobmanager.is_some() => {
            Err(usage("-m names a running cluster, but -t local makes one of its own: leave one of them out"))
        }
        Target::Local if arguments.restore.replace.is_some() => Err(usage(
            "--replace is about a job on a running cluster, but -t local makes one of its own: leave one of them out",
        )),
        Target::Local if arguments.detached => Err(usage(
            "-d leaves the job to a cluster, but without -t remote the cluster is in this process: start one with `weir local` and add -t remote",
        )),
        Target::Remote if arguments.workers.is_some() => {
            Err(usage("--workers is for a local cluster; a running one has the TaskManagers it has"))
        }
        place => Ok(place),
    }
}

/// A cluster of its own for one job.
async fn local(arguments: &RunArgs, mut configuration: Configuration, path: &Path) -> anyhow::Result<u8> {
    if configuration.get(&options::PARALLELISM_DEFAULT).is_none() {
        configuration.set_argument(&format!("{}={}", options::PARALLELISM_DEFAULT.key(), cores()))?;
    }
    // From here on there are things to clear away.
    let mut signals = Signals::new()?;
    let mut cluster = Embedded::for_one_job(&configuration).await?;
    let code = on_own_cluster(arguments, &configuration, &mut cluster, path, &mut signals).await;
    cluster.shut_down().await;
    code
}

async fn on_own_cluster(
    arguments: &RunArgs,
    configuration: &Configuration,
    cluster: &mut Embedded,
    path: &Path,
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    let client = cluster.client()?;
    let submission = Submission::new(arguments, configuration)?;
    let submit = async {
        let artifact = client.upload(path).await?;
        if arguments.restore.dry_run {
            submission.check(&client, &artifact).await?.print(arguments.output)?;
            return Ok(None);
        }
        let id = submission.run(&client, &artifact).await?;
        let slots = slots(&client, &id).await?;
        anyhow::Ok(Some((id, slots)))
    };
    let submitted = tokio::select! {
        submitted = submit => submitted,
        name = signals.next() => {
            eprintln!("{name}: stopped before the job has begun");
            return Ok(failure::INTERRUPTED);
        }
    };
    let (id, slots) = match submitted {
        Ok(Some(submitted)) => submitted,
        Ok(None) => return Ok(failure::OK),
        Err(error) => return command_line::explain(arguments, path, error).await,
    };
    // Only now is it known how many slots it takes; the job waits for them.
    let task_managers = arguments.workers.unwrap_or(1);
    cluster.start_task_managers(task_managers, slots.div_ceil(task_managers))?;
    attached(arguments, configuration, &client, &id, Some(cluster), signals).await
}

fn detached(arguments: &RunArgs, id: &str, submission: &Submission) -> anyhow::Result<u8> {
    match arguments.output {
        OutputFormat::Json => text::print(&format!("{}\n", json!({ "job_id": id, "status": "submitted" })))?,
        OutputFormat::Text if arguments.quiet => text::print(&format!("{id}\n"))?,
        OutputFormat::Text => {
            let name = submission.job.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            text::print(&format!("Job{name} submitted with id {id}\n"))?;
        }
    }
    Ok(failure::OK)
}

/// Stays until the job has ended. A job on a cluster of its own is stopped by Ctrl-C; one on a running cluster is left there.
async fn attached(
    arguments: &RunArgs,
    configuration: &Configuration,
    client: &Client,
    id: &str,
    cluster: Option<&Embedded>,
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    let talks = !arguments.quiet && arguments.output == OutputFormat::Text;
    if talks {
        match cluster {
            Some(_) => eprintln!("Job {id}; dashboard at {}", client.base()),
            None => eprintln!("Job {id} on {}; Ctrl-C leaves it running, `weir cancel {id}` stops it", client.base()),
        }
    }
    let mut follower = Follower::new(client, id, talks, configuration.get(&options::PROGRESS_INTERVAL));
    let mut interrupted = false;
    loop {
        tokio::select! {
            ended = follower.until_the_end() => {
                ended?;
                break;
            }
            name = signals.next() => {
                let Some(_) = cluster else {
                    eprintln!("\n{name}: the job goes on; `weir cancel {id}` stops it, `weir status {id}` shows it");
                    return Ok(failure::INTERRUPTED);
                };
                if interrupted {
                    // The cluster goes with this function's caller, and kills what still runs.
                    return Ok(failure::INTERRUPTED);
                }
                interrupted = true;
                eprintln!("{name}: stopping the job; once more ends it at once");
                client.patch(&format!("/jobs/{id}?mode=cancel")).await?;
            }
        }
    }
    let summary = Summary::fetch(client, id, interrupted).await?;
    report(arguments, &summary)?;
    Ok(match () {
        () if summary.finished() => failure::OK,
        () if summary.canceled() => failure::INTERRUPTED,
        () => failure::FAILED,
    })
}

fn report(arguments: &RunArgs, summary: &Summary) -> anyhow::Result<()> {
    match arguments.output {
        OutputFormat::Json => text::print(&format!("{}\n", summary.json())),
        OutputFormat::Text => {
            let failure = summary.failure_text();
            if !failure.is_empty() {
                eprintln!("{}", failure.trim_end());
            }
            if !arguments.quiet {
                eprintln!("{}", summary.text().trim_end());
            }
            Ok(())
        }
    }
}

/// What is asked of the cluster.
pub(crate) struct Submission {
    job: Option<String>,
    body: Value,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    jobid: String,
}

impl Submission {
    fn new(arguments: &RunArgs, configuration: &Configuration) -> anyhow::Result<Submission> {
        let own = arguments.target.own.iter().map(|word| {
            word.to_str()
                .ok_or_else(|| usage(format!("the argument {word:?} is not UTF-8, so it cannot be sent to a cluster")))
        });
        let own = own.collect::<anyhow::Result<Vec<&str>>>()?;
        let parallelism = options::PARALLELISM_DEFAULT.key();
        let of_job: BTreeMap<&str, &str> = configuration.of_jobs().filter(|(key, _)| *key != parallelism).collect();
        let body = json!({
            "entryClass": arguments.job.name,
            "programArgsList": own,
            "parallelism": configuration.get(&options::PARALLELISM_DEFAULT),
            "flinkConfiguration": of_job,
            "savepointPath": arguments.restore.from.as_deref().map(savepoint::place).transpose()?,
            "allowNonRestoredState": arguments.restore.allow_non_restored.then_some(true),
            "claimMode": arguments.restore.mode.map(|mode| match mode {
                RestoreMode::Claim => "CLAIM",
                RestoreMode::NoClaim => "NO_CLAIM",
            }),
        });
        Ok(Submission { job: arguments.job.name.clone(), body })
    }

    /// Has it go on from the state of a job that runs.
    fn replaces(&mut self, job: &JobLine) {
        self.body["replaces"] = json!(job.jid);
    }

    /// Has it go on from the savepoint with which the job was stopped that it replaces.
    pub(crate) fn starts_from(&mut self, savepoint: &str) {
        self.body["replaces"] = Value::Null;
        self.body["savepointPath"] = json!(savepoint);
    }

    /// What would become of the state it is to start with. An error if it cannot.
    async fn check(&self, client: &Client, artifact: &str) -> anyhow::Result<State> {
        #[derive(Deserialize)]
        struct Planned {
            state: Option<State>,
        }
        let planned: Planned = client.post(&format!("/jars/{artifact}/plan"), &self.body).await?;
        planned.state.context("the cluster did not say what becomes of the state: it is of an earlier release")
    }

    pub(crate) async fn run(&self, client: &Client, artifact: &str) -> anyhow::Result<String> {
        let accepted: Accepted = client.post(&format!("/jars/{artifact}/run"), &self.body).await?;
        Ok(accepted.jobid)
    }
}

/// How many slots a job needs: of each slot sharing group as many as its widest vertex has subtasks.
async fn slots(client: &Client, id: &str) -> anyhow::Result<u32> {
    #[derive(Deserialize)]
    struct Detail {
        plan: Plan,
    }
    #[derive(Deserialize)]
    struct Plan {
        nodes: Vec<Node>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Node {
        parallelism: u32,
        #[serde(default)]
        slot_sharing_group: String,
    }
    let Detail { plan } = client.get(&format!("/jobs/{id}")).await?;
    let mut groups: BTreeMap<String, u32> = BTreeMap::new();
    for node in plan.nodes {
        let widest = groups.entry(node.slot_sharing_group).or_default();
        *widest = (*widest).max(node.parallelism);
    }
    Ok(groups.values().sum::<u32>().max(1))
}

impl Client {
    /// The key under which the cluster has this executable, which is uploaded unless it is there already.
    async fn stored(&self, path: &Path) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Stored {
            files: Vec<StoredFile>,
        }
        #[derive(Deserialize)]
        struct StoredFile {
            id: String,
            sha256: String,
        }
        let Stored { files } = self.get("/jars").await.map_err(|error| self.takes_no_jobs(error))?;
        let digest = sha256(path).with_context(|| format!("{} cannot be read", path.display()))?;
        match files.into_iter().find(|file| file.sha256 == digest) {
            Some(file) => Ok(file.id),
            None => self.upload(path).await,
        }
    }

    /// A cluster that takes no jobs has no list of artifacts.
    fn takes_no_jobs(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == StatusCode::NOT_FOUND => anyhow!(
                "the cluster at {} takes no jobs over its HTTP API: web.submit.enable is false there",
                self.base()
            ),
            _ => error,
        }
    }
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Replaces this process by the job's executable, which then answers signals itself.
pub(crate) fn become_it(mut command: Command, path: &Path) -> anyhow::Error {
    use std::os::unix::process::CommandExt;
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
