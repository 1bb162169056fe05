//! Checkpoint storage that fails, and what is left of checkpoints that were damaged.

use std::fs;
use std::path::{Path, PathBuf};

use super::{json, refusal, run, run_refused};
use crate::harness::{Cluster, files_below, kill, text, wait_for};

/// No state is so small that it goes into the metadata.
pub(super) const FILES: &str = "-Dexecution.checkpointing.data-inline-threshold=0";
/// Checkpoints may fail.
pub(super) const TOLERANT: &str = "-Dexecution.checkpointing.tolerable-failed-checkpoints=10";
const RESTARTS: [&str; 3] = [
    "-Drestart-strategy.type=fixed-delay",
    "-Drestart-strategy.fixed-delay.attempts=3",
    "-Drestart-strategy.fixed-delay.delay=10 ms",
];

/// A job whose checkpoints are taken by hand, so that what is newest is known.
pub(super) struct Job {
    pub(super) cluster: Cluster,
    pub(super) id: String,
    checkpoints: PathBuf,
}

impl Job {
    pub(super) fn begin(settings: &[&str], options: &[&str]) -> Job {
        let (cluster, _) = Cluster::with_task_managers(&[2], settings);
        let checkpoints = cluster.path("checkpoints");
        let directory = format!("-Dexecution.checkpointing.dir={}", checkpoints.display());
        let out = cluster.path("out").display().to_string();
        let own = ["--out", &out, "--count", "1000000"];
        let fixed = ["-p", "2", FILES, &directory, "-Dexecution.checkpointing.num-retained=3"];
        let id = run(&cluster, "versions", &[&fixed[..], &RESTARTS, options].concat(), &own);
        cluster.wait_until_running(&id);
        Job { checkpoints: checkpoints.join(&id), cluster, id }
    }

    pub(super) fn take(&self) -> u64 {
        json(&self.cluster, &["checkpoint", &self.id])["checkpoint"].as_u64().unwrap()
    }

    /// The files with state of a checkpoint.
    fn files(&self, checkpoint: u64) -> Vec<PathBuf> {
        let all = files_below(&self.checkpoints.join(format!("chk-{checkpoint}")));
        let files: Vec<_> = all.into_iter().map(|(path, _)| path).filter(|path| !path.ends_with("_metadata")).collect();
        assert!(!files.is_empty(), "checkpoint {checkpoint} has no files");
        files
    }

    fn kill_workers(&self) {
        self.cluster.workers(&self.id).into_iter().for_each(kill);
    }

    /// The checkpoint that the job was restored from last.
    fn restored(&self) -> Option<u64> {
        self.cluster.get(&format!("/jobs/{}/checkpoints", self.id))["latest"]["restored"]["id"].as_u64()
    }

    fn job_manager_log(&self) -> String {
        logs(&self.cluster, "weir-jobmanager")
    }
}

/// The logs of processes whose files begin with this.
fn logs(cluster: &Cluster, name: &str) -> String {
    let is_log = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    let files = cluster.files().into_iter().map(|(path, _)| path).filter(|path| is_log(path));
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn cut(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

#[track_caller]
fn falls_back(settings: &[&str], harm: fn(&Path), expect: &str) {
    let job = Job::begin(settings, &[]);
    let (first, second) = (job.take(), job.take());
    job.files(second).iter().for_each(|file| harm(file));
    job.kill_workers();
    wait_for("the checkpoint before the damaged one", || job.restored() == Some(first));
    job.cluster.wait_until_running(&job.id);
    let said = format!("checkpoint {second} cannot be read, so all tasks start again from the one before it");
    job.cluster.assert_failed_with(&job.id, &said);
    job.cluster.assert_failed_with(&job.id, expect);
    let log = job.job_manager_log();
    assert!(log.contains(&format!("checkpoint {second} cannot be read and is not used again")), "{log}");
    // It goes on as before.
    assert!(job.take() > second);
}

#[test]
fn a_job_whose_newest_state_has_a_flipped_bit_goes_back_to_the_checkpoint_before() {
    falls_back(&[], flip, "checksum");
}

#[test]
fn a_job_whose_newest_state_was_cut_goes_back_to_the_checkpoint_before() {
    falls_back(&["jobmanager.execution.failover-strategy=full"], cut, "it has 23 bytes, but 24 bytes");
}

#[test]
fn a_job_whose_newest_state_is_missing_goes_back_to_the_checkpoint_before() {
    falls_back(&[], remove, "there is no such file");
}

#[test]
fn a_job_of_which_no_checkpoint_can_be_read_fails_and_says_so() {
    let job = Job::begin(&[], &[]);
    let (first, second) = (job.take(), job.take());
    job.files(first).iter().chain(&job.files(second)).for_each(|file| flip(file));
    job.kill_workers();
    job.cluster.wait_for_state(&job.id, "FAILED");
    job.cluster.assert_failed_with(&job.id, &format!("checkpoint {second} cannot be read"));
    job.cluster.assert_failed_with(&job.id, "checksum");
}

#[test]
fn a_checkpoint_directory_is_made_and_made_again_when_somebody_removes_it() {
    let job = Job::begin(&[], &[]);
    assert_eq!(job.take(), 1);
    fs::remove_dir_all(job.cluster.path("checkpoints")).unwrap();
    assert_eq!(job.take(), 2);
    job.kill_workers();
    wait_for("the second checkpoint", || job.restored() == Some(2));
    job.cluster.wait_until_running(&job.id);
}

#[test]
fn a_checkpoint_directory_that_cannot_be_written_to_fails_checkpoints_and_not_the_job() {
    let job = Job::begin(&[], &[TOLERANT]);
    assert_eq!(job.take(), 1);
    let directory = job.cluster.path("checkpoints");
    fs::rename(&directory, job.cluster.path("aside")).unwrap();
    fs::write(&directory, "a file").unwrap();
    let said = refusal(&job.cluster, &["checkpoint", &job.id]);
    assert!(
        said.contains(directory.to_str().unwrap()) && said.contains("a file and a folder claim the same name"),
        "{said}"
    );
    assert_eq!(job.cluster.state(&job.id), "RUNNING");
    let checkpoints = job.cluster.get(&format!("/jobs/{}/checkpoints", job.id));
    assert_eq!((&checkpoints["counts"]["failed"], &checkpoints["counts"]["completed"]), (&1.into(), &1.into()));
    assert!(text(&checkpoints["latest"]["failed"]["failure_message"]).contains("claim the same name"), "{checkpoints}");
    // Put right, the next one is complete.
    fs::remove_file(&directory).unwrap();
    fs::rename(job.cluster.path("aside"), &directory).unwrap();
    job.take();
}

#[test]
fn a_job_that_tolerates_no_failed_checkpoint_starts_again_from_the_last_one() {
    let tolerable = "-Dexecution.checkpointing.tolerable-failed-checkpoints=0";
    let job = Job::begin(&[], &[tolerable, "-Dexecution.checkpointing.interval=200 ms"]);
    wait_for("a checkpoint", || job.cluster.get(&format!("/jobs/{}/checkpoints", job.id))["counts"]["completed"] != 0);
    let directory = job.cluster.path("checkpoints");
    fs::rename(&directory, job.cluster.path("aside")).unwrap();
    fs::write(&directory, "a file").unwrap();
    wait_for("a failure", || job.cluster.failures(&job.id).contains("claim the same name"));
    fs::remove_file(&directory).unwrap();
    fs::rename(job.cluster.path("aside"), &directory).unwrap();
    wait_for("a restore", || job.restored().is_some());
    job.cluster.wait_until_running(&job.id);
}

#[test]
fn what_is_no_savepoint_of_this_job_is_refused_in_words() {
    let job = Job::begin(&[], &[]);
    let (cluster, folder) = (&job.cluster, job.cluster.make_folder("savepoints"));
    let savepoint = text(&json(cluster, &["stop", &job.id, "-p", &folder])["savepoint"]);
    let path = PathBuf::from(savepoint.strip_prefix("file://").unwrap());
    let own = ["--out", "/nowhere"];
    let refused = |path: &Path, job: &str, expect: &[&str]| {
        let said = run_refused(cluster, job, &["-s", path.to_str().unwrap()], &own);
        expect.iter().for_each(|part| assert!(said.contains(part), "{}: {said}", path.display()));
    };
    refused(&cluster.path("nothing"), "versions", &["does not exist", "savepoint-<"]);
    fs::write(cluster.path("file"), "x").unwrap();
    refused(&cluster.path("file"), "versions", &["Not a directory", "savepoint-<"]);
    refused(Path::new(&folder), "versions", &["does not exist", "savepoint-<"]);
    // A savepoint of another job has state of operators that this one has not.
    refused(&path, "window_counts", &["operator `Visits` (uid `visits`)", "which the job has not"]);
    let metadata = path.join("_metadata");
    let whole = fs::read(&metadata).unwrap();
    let mut newer = whole.clone();
    newer[8] = 2;
    fs::write(&metadata, &newer).unwrap();
    refused(&path, "versions", &["it has format 2, and this release reads"]);
    fs::write(&metadata, &whole[..whole.len() / 2]).unwrap();
    refused(&path, "versions", &["_metadata cannot be read as the metadata of a checkpoint"]);
    flip(&metadata);
    refused(&path, "versions", &["_metadata cannot be read as the metadata of a checkpoint"]);
    fs::write(&metadata, whole).unwrap();
    // State that is damaged shows when tasks read it; there is nothing before it to go back to.
    let state = files_below(&path).into_iter().map(|(path, _)| path).find(|file| *file != metadata).unwrap();
    flip(&state);
    let out = cluster.path("second").display().to_string();
    let second = run(cluster, "versions", &["-p", "2", "-s", &savepoint], &["--out", &out]);
    cluster.wait_for_state(&second, "FAILED");
    cluster.assert_failed_with(&second, "checksum");
    cluster.assert_failed_with(&second, state.to_str().unwrap());
}

#[test]
fn a_worker_that_was_killed_begins_with_the_copies_on_its_machine_and_without_them_if_they_are_damaged() {
    let job = Job::begin(&[], &["-Dexecution.checkpointing.local-backup.enabled=true"]);
    let log = || logs(&job.cluster, "weir-taskmanager");
    let first = job.take();
    // Only the copies are left.
    job.files(first).iter().for_each(|file| remove(file));
    job.kill_workers();
    wait_for("a restore", || job.restored() == Some(first));
    job.cluster.wait_until_running(&job.id);
    let said = "state is restored from the copies on this machine";
    assert_eq!(log().matches(said).count(), 1, "{}", log());
    // Now the copies are what is damaged.
    let second = job.take();
    let is_copy = |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().bytes().all(|b| b.is_ascii_digit());
    let files: Vec<_> = job.cluster.files().into_iter().map(|(path, _)| path).collect();
    let copies: Vec<_> = files.iter().filter(is_copy).collect();
    assert!(!copies.is_empty(), "{files:?}");
    copies.into_iter().for_each(|file| flip(file));
    job.kill_workers();
    wait_for("a restore", || job.restored() == Some(second));
    job.cluster.wait_until_running(&job.id);
    assert!(log().contains("cannot be read; it goes on without"), "{}", log());
    // It was not taken for a checkpoint that cannot be read.
    assert!(!job.cluster.failures(&job.id).contains("StateUnreadable"));
}
