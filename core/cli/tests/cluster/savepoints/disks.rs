//! Disks that are full or cannot be written to, under checkpoints and under output.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use super::faults::{FILES, Job, TOLERANT};
use super::{json, refusal, run};
use crate::harness::{Cluster, files_below, wait_for};

/// A job on a TaskManager whose folder of checkpoints is on a small disk of its own, which only it sees.
struct OnDisk {
    cluster: Cluster,
    id: String,
    disk: String,
    task_manager: u32,
}

impl OnDisk {
    /// Nothing, with a message, where the system lets nobody mount anything.
    fn begin() -> Option<OnDisk> {
        let allowed = Command::new("unshare").args(["-rm", "true"]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            eprintln!("not tested: this system lets nobody mount a small disk");
            return None;
        }
        let mut cluster = Cluster::new(&[]);
        cluster.start_job_manager();
        let disk = cluster.make_folder("checkpoints");
        let task_manager = cluster.start_task_manager_with_disk(2, &disk, "256k").pid;
        cluster.wait_for_task_managers(1);
        let directory = format!("-Dexecution.checkpointing.dir={disk}");
        let out = cluster.path("out").display().to_string();
        let own = ["--out", &out, "--count", "1000000"];
        let id = run(&cluster, "versions", &["-p", "2", FILES, &directory, TOLERANT], &own);
        cluster.wait_until_running(&id);
        Some(OnDisk { cluster, id, disk, task_manager })
    }

    fn take(&self) -> u64 {
        json(&self.cluster, &["checkpoint", &self.id])["checkpoint"].as_u64().unwrap()
    }

    /// A checkpoint fails because of the disk, and the job goes on.
    #[track_caller]
    fn assert_fails_with(&self, said: &str, remedy: &str) {
        let refused = refusal(&self.cluster, &["checkpoint", &self.id]);
        for part in [said, remedy, &self.disk] {
            assert!(refused.contains(part), "{part:?}: {refused}");
        }
        assert_eq!(self.cluster.state(&self.id), "RUNNING");
    }

    /// What is at a path below the disk, seen from outside.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}/{name}", self.task_manager, self.disk))
    }

    #[track_caller]
    fn remount(&self, how: &str) {
        let target = self.task_manager.to_string();
        let mount = ["mount", "-o", &format!("remount,{how}"), &self.disk];
        let enter = ["-t", &target, "-U", "-m", "--preserve-credentials"];
        let done = Command::new("nsenter").args(enter).args(mount).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

#[test]
fn a_disk_that_is_full_fails_checkpoints_and_the_job_goes_on_until_there_is_room() {
    let Some(job) = OnDisk::begin() else { return };
    assert_eq!(job.take(), 1);
    let filler = job.path("filler");
    fs::write(&filler, vec![1; 1 << 20]).unwrap_err();
    job.assert_fails_with("No space left on device", "make room on its device, or name a folder on another one");
    fs::remove_file(&filler).unwrap();
    assert_eq!(job.take(), 3);
}

#[test]
fn a_disk_that_is_mounted_read_only_fails_checkpoints_and_the_job_goes_on_until_it_is_writable() {
    let Some(job) = OnDisk::begin() else { return };
    assert_eq!(job.take(), 1);
    job.remount("ro");
    job.assert_fails_with("Read-only file system", "mount it writable, or name another folder");
    job.remount("rw");
    assert_eq!(job.take(), 3);
}

/// What the lines that are visible say each key was counted to, if no count of it is missing or there twice.
#[track_caller]
fn counts(cluster: &Cluster) -> BTreeMap<String, Vec<u64>> {
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in cluster.output("out") {
        let mut words = line.split(' ');
        let (key, count) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        counts.entry(key.to_owned()).or_default().push(count);
    }
    for (key, counts) in &mut counts {
        counts.sort_unstable();
        assert!(counts.iter().copied().eq(1..=counts.len() as u64), "key {key}: {counts:?}");
    }
    counts
}

/// The job does not give up while a test puts things right.
const PATIENT: [&str; 2] =
    ["-Drestart-strategy.fixed-delay.attempts=1000", "-Drestart-strategy.fixed-delay.delay=100 ms"];

#[test]
fn output_that_cannot_be_made_visible_because_the_disk_is_full_is_made_visible_once_when_there_is_room() {
    let job = Job::begin(&[], &PATIENT);
    let (cluster, out) = (&job.cluster, job.cluster.path("out"));
    let visible = || -> Vec<_> {
        let visible = files_below(&out).into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("/.weir-"));
        visible.collect()
    };
    job.take();
    wait_for("the output of the first checkpoint", || !visible().is_empty());
    let before = visible();
    // Where a commit notes what it is about to do, the disk is full; tasks do not notice.
    let is_own = |path: &PathBuf| path.is_dir() && path.file_name().unwrap().to_str().unwrap().starts_with(".weir-");
    let folders = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let own: Vec<_> = folders.filter(is_own).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    let note = own[0].join("publishing.new");
    symlink("/dev/full", &note).unwrap();
    let second = job.take();
    wait_for("a failure", || cluster.failures(&job.id).contains("No space left"));
    let expect = [
        &format!("the output of checkpoint {second} could not be made visible; it is tried again after a restart"),
        own[0].to_str().unwrap(),
        "No space left on device",
        "free some space or write to another disk",
    ];
    expect.iter().for_each(|part| cluster.assert_failed_with(&job.id, part));
    assert_eq!(visible(), before);
    fs::remove_file(&note).unwrap();
    cluster.wait_until_running(&job.id);
    job.take();
    json(cluster, &["stop", &job.id, "-p", &cluster.make_folder("savepoints")]);
    assert_eq!(counts(cluster).len(), 5);
}

#[test]
fn output_whose_directory_is_moved_away_goes_on_where_it_was_when_it_is_put_back() {
    let job = Job::begin(&[], &PATIENT);
    let (cluster, out, aside) = (&job.cluster, job.cluster.path("out"), job.cluster.path("aside"));
    job.take();
    wait_for("the output of the first checkpoint", || !cluster.output("out").is_empty());
    fs::rename(&out, &aside).unwrap();
    let said = refusal(cluster, &["checkpoint", &job.id]);
    assert!(said.contains(out.to_str().unwrap()), "{said}");
    wait_for("a failure", || cluster.failures(&job.id).contains("removed or renamed"));
    cluster.assert_failed_with(&job.id, out.to_str().unwrap());
    assert!(!out.exists());
    fs::rename(&aside, &out).unwrap();
    cluster.wait_until_running(&job.id);
    job.take();
    json(cluster, &["stop", &job.id, "-p", &cluster.make_folder("savepoints")]);
    assert_eq!(counts(cluster).len(), 5);
}
