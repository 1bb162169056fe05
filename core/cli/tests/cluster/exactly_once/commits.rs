//! Processes killed at each step from a checkpoint's begin to the end of the commit that follows it: as soon as the step shows in the files.

use std::path::Path;

use super::{Kind, Mode, Trial, Work};
use crate::harness::{Change, Cluster, Watch, kill, wait_for, wait_for_some};

/// What can be seen of a step.
type Seen = fn(Change, &Path) -> bool;

/// The steps of a checkpoint, and of the commit of what was written before it.
const STEPS: [(&str, Seen); 9] = [
    ("a task's state is written", |change, path| {
        appears(change) && path.to_string_lossy().contains("/chk-") && !is_metadata(path)
    }),
    ("a file is written aside", |change, path| appears(change) && is_part(path) && is_aside(path)),
    ("the metadata is written", |change, path| appears(change) && is_metadata(path)),
    ("the files to be made visible are noted", |change, path| appears(change) && is_named(path, "publishing")),
    ("a file becomes visible", |change, path| appears(change) && is_part(path) && !is_aside(path)),
    ("a file is no longer aside", |change, path| !appears(change) && is_part(path) && is_aside(path)),
    ("it is noted that all files are visible", |change, path| appears(change) && is_named(path, "published")),
    ("the note is removed", |change, path| !appears(change) && is_named(path, "published")),
    ("an older checkpoint is removed", |change, path| !appears(change) && is_metadata(path)),
];

fn appears(change: Change) -> bool {
    change == Change::Appeared
}

fn is_named(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|own| own == name)
}

fn is_metadata(path: &Path) -> bool {
    is_named(path, "_metadata")
}

fn is_part(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-"))
}

fn is_aside(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name.to_string_lossy().starts_with(".weir-"))
}

/// A job whose tasks write their state to files.
fn begin(settings: &[&str], seconds: u64) -> Trial {
    let in_files = "execution.checkpointing.data-inline-threshold=0 b";
    let settings = [&[in_files], settings].concat();
    Trial::begin_with(Kind(Work::Tallies, Mode::Aligned), 0, seconds, &settings)
}

fn watch(cluster: &Cluster, folders: &[&str]) -> Watch {
    let folders: Vec<_> = folders.iter().map(|name| cluster.path(name)).collect();
    folders.iter().for_each(|folder| wait_for("the folders of the job", || folder.exists()));
    Watch::of(&folders)
}

/// Kills those whom `victims` finds at each step, the first or the second time that it is seen.
fn kill_at_each_step(victims: impl Fn(&Trial) -> Vec<u32>) {
    let mut trial = begin(&[], 12);
    let mut watch = watch(&trial.cluster, &["out", "checkpoints"]);
    for (number, (what, seen)) in STEPS.into_iter().enumerate() {
        // Looked for now: it takes longer than a step.
        let victims = || Some(victims(&trial)).filter(|pids| !pids.is_empty());
        let victims = wait_for_some("somebody to be killed", victims);
        watch.forget();
        let mut times = 1 + number % 2;
        watch.wait_for(what, |change, path| {
            times -= usize::from(seen(change, path));
            times == 0
        });
        victims.iter().copied().for_each(kill);
        trial.machines.story.push(format!("{victims:?} killed when {what}"));
        assert!(!trial.has_ended(), "the job is too short for this machine");
    }
    trial.assert_exactly_once();
}

#[test]
fn a_coordinator_killed_at_any_step_of_a_commit_neither_loses_nor_repeats_output() {
    kill_at_each_step(|trial| trial.cluster.coordinators());
}

#[test]
fn workers_killed_at_any_step_of_a_commit_neither_lose_nor_repeat_output() {
    kill_at_each_step(|trial| trial.cluster.workers(&trial.job));
}

#[test]
fn all_processes_of_a_job_killed_at_any_step_of_a_commit_neither_lose_nor_repeat_output() {
    kill_at_each_step(|trial| {
        let (coordinators, workers) = (trial.cluster.coordinators(), trial.cluster.workers(&trial.job));
        if coordinators.is_empty() || workers.is_empty() { Vec::new() } else { [coordinators, workers].concat() }
    });
}

#[test]
fn a_coordinator_killed_at_any_step_of_the_commit_at_the_end_neither_loses_nor_repeats_output() {
    let of_commit = STEPS
        .iter()
        .filter(|(what, _)| what.contains("visible") || what.contains("note") || what.contains("no longer"));
    for (what, seen) in of_commit {
        // One commit there is, at the end.
        let mut trial = begin(&["execution.checkpointing.interval=1 h"], 2);
        let coordinator = wait_for_some("the coordinator", || trial.cluster.coordinators().first().copied());
        watch(&trial.cluster, &["out"]).wait_for(what, seen);
        kill(coordinator);
        trial.machines.story.push(format!("{coordinator} killed when {what}"));
        trial.assert_exactly_once();
    }
}
