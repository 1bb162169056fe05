//! State larger than the memory it may take, in files: what becomes of them, and how it moves to memory and back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{difference, json, run, wait_for_output};
use crate::harness::{Cluster, TaskManager, files_below, kill, wait_for};

const RECORDS: u64 = 150_000;
/// About 3 MB of state, of which each of two tasks may have 1 MB in memory, half of it in rows.
const KEYS: u64 = 25_000;

const IN_FILES: [&str; 2] = ["-Dstate.backend.type=lsm", "-Dstate.backend.lsm.memory.size=1 mb"];
const IN_MEMORY: [&str; 1] = ["-Dstate.backend.type=hashmap"];

/// Runs the job that counts with a hundred digits.
fn begin(cluster: &Cluster, options: &[&str], further: &[&str]) -> String {
    let directory = format!("-Dexecution.checkpointing.dir={}", cluster.path("checkpoints").display());
    let fixed = [
        "-p",
        "2",
        "-Dexecution.checkpointing.interval=100 ms",
        "-Dexecution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION",
        "-Drestart-strategy.type=fixed-delay",
        "-Drestart-strategy.fixed-delay.attempts=100",
        "-Drestart-strategy.fixed-delay.delay=10 ms",
        &directory,
    ];
    let (out, count, keys) = (cluster.path("out").display().to_string(), RECORDS.to_string(), KEYS.to_string());
    let own = ["--out", &out, "--count", &count, "--keys", &keys, "--rate", "30000"];
    run(cluster, "remembers", &[&fixed, options, further].concat(), &own)
}

fn assert_counted(cluster: &Cluster) {
    let mut expected: Vec<_> = (0..KEYS).map(|key| format!("{key} {}", RECORDS / KEYS)).collect();
    expected.sort();
    assert_eq!(difference(&cluster.output("out"), &expected), None);
}

/// Waits for a further complete checkpoint of a job that has this much state at least.
fn wait_for_state(cluster: &Cluster, job: &str, bytes: u64) {
    let latest = || cluster.get(&format!("/jobs/{job}/checkpoints"))["latest"]["completed"].clone();
    let before = latest()["id"].as_u64();
    wait_for(&format!("a checkpoint with {bytes} bytes"), || {
        assert_ne!(cluster.state(job), "FINISHED", "the job is too short for this machine");
        let latest = latest();
        latest["id"].as_u64() > before && latest["state_size"].as_u64() >= Some(bytes)
    });
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    files_below(folder).into_iter().map(|(path, _)| path).collect()
}

/// Folders in which workers have files.
fn of_workers(cluster: &Cluster) -> BTreeSet<String> {
    let folder = |path: &PathBuf| {
        let parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        parts.into_iter().find(|part| part.starts_with("worker-job-"))
    };
    paths(&cluster.path("state")).iter().filter_map(folder).collect()
}

#[test]
fn state_in_files_outlives_its_workers_and_machines_which_leave_nothing_behind() {
    let mut cluster = Cluster::new(&["heartbeat.interval=100 ms", "heartbeat.timeout=2 s"]);
    cluster.start_job_manager();
    let folder = format!("taskmanager.state.local.root-dirs={}", cluster.path("state").display());
    let task_managers: Vec<TaskManager> = (0..3).map(|_| cluster.start_task_manager_with(1, &[&folder])).collect();
    cluster.wait_for_task_managers(3);
    let job = begin(&cluster, &IN_FILES, &[]);
    wait_for_state(&cluster, &job, 1_000_000);
    assert_eq!(of_workers(&cluster).len(), 2);
    let before = of_workers(&cluster);
    cluster.workers(&job).into_iter().for_each(kill);
    wait_for_state(&cluster, &job, 1_000_000);
    let after = of_workers(&cluster);
    assert!(before.is_disjoint(&after), "{before:?} have ended, but there are {after:?}");
    // On another machine, none of the state is there.
    let used: BTreeSet<_> = cluster.tasks(&job).into_iter().map(|task| task.task_manager).collect();
    let lost = task_managers.iter().find(|it| used.contains(&it.id)).unwrap();
    kill(lost.pid);
    cluster.wait_for_task_managers(2);
    wait_for_state(&cluster, &job, 1_000_000);
    let used: BTreeSet<_> = cluster.tasks(&job).into_iter().map(|task| task.task_manager).collect();
    assert!(!used.contains(&lost.id), "{used:?}");
    cluster.wait_for_state(&job, "FINISHED");
    assert_counted(&cluster);
    wait_for("the end of the job's workers", || cluster.workers(&job).is_empty());
    wait_for("checkpoints of a job that has finished to go", || paths(&cluster.path("checkpoints")).is_empty());
    // The folder of the TaskManager that was killed goes with the start of another one, later.
    let left = |path: &PathBuf| !of_killed(path, &cluster);
    wait_for("the files of workers that have ended to go", || !paths(&cluster.path("state")).iter().any(left));
}

/// Whether a file is in a folder that nobody has locked any more.
fn of_killed(path: &Path, cluster: &Cluster) -> bool {
    let state = cluster.path("state").join("state");
    let own = path.strip_prefix(&state).ok().and_then(|path| path.components().next());
    own.is_some_and(|own| fs::File::open(state.join(own)).is_ok_and(|folder| folder.try_lock().is_ok()))
}

#[test]
fn state_moves_from_files_to_memory_and_back_with_a_checkpoint_and_with_savepoints() {
    let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
    let folder = cluster.make_folder("savepoints");
    let first = begin(&cluster, &IN_FILES, &[]);
    wait_for_state(&cluster, &first, 1_500_000);
    cluster.cancel(&first);
    cluster.wait_for_state(&first, "CANCELED");
    let kept = cluster.path("checkpoints").join(&first);
    // What no checkpoint refers to may still be being removed.
    wait_for("files that no checkpoint refers to to go", || {
        let (shared, others): (Vec<_>, Vec<_>) =
            paths(&kept).into_iter().partition(|path| path.parent().unwrap().ends_with("shared"));
        let [metadata] = &others[..] else { return false };
        let metadata = String::from_utf8_lossy(&fs::read(metadata).unwrap()).into_owned();
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!shared.is_empty(), "{others:?}");
        shared.iter().all(|path| metadata.contains(&name(path)))
    });
    let retained = cluster.get(&format!("/jobs/{first}/checkpoints"))["latest"]["completed"]["external_path"].clone();
    let second = begin(&cluster, &IN_MEMORY, &["-s", retained.as_str().unwrap(), "-rm", "claim"]);
    wait_for_state(&cluster, &second, 1_500_000);
    let stopped = json(&cluster, &["stop", &second, "-p", &folder]);
    // It was the second job's, which has no use for it any more.
    wait_for("the checkpoint that was claimed to go", || paths(&kept).is_empty());
    let third = begin(&cluster, &IN_FILES, &["-s", stopped["savepoint"].as_str().unwrap()]);
    wait_for_state(&cluster, &third, 1_500_000);
    let stopped = json(&cluster, &["stop", &third, "-p", &folder]);
    let fourth = begin(&cluster, &IN_MEMORY, &["-s", stopped["savepoint"].as_str().unwrap()]);
    cluster.wait_for_state(&fourth, "FINISHED");
    wait_for_output(&cluster, "out", KEYS as usize);
    assert_counted(&cluster);
}
