//! Artifacts that are none, that are damaged, that do not fit, and their life in the store.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::json;

use crate::harness::{Cluster, files_below, kill, test_jobs, text, wait_for};
use crate::wire;

fn store(cluster: &Cluster) -> PathBuf {
    cluster.path("work").join(cluster.id()).join("jobmanager/artifacts")
}

/// Names of the stored contents.
fn contents(cluster: &Cluster) -> Vec<String> {
    let files = files_below(&store(cluster).join("content"));
    files.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Whether an artifact, or a part of one, is anywhere in the JobManager's folder.
fn has_nothing(cluster: &Cluster) -> bool {
    let folder = cluster.path("work").join(cluster.id()).join("jobmanager");
    let places = ["artifacts/incoming", "artifacts/content", "artifacts/listed", "executables"];
    places.iter().all(|name| files_below(&folder.join(name)).is_empty())
}

fn keys(cluster: &Cluster) -> Vec<String> {
    cluster.get("/jars")["files"].as_array().unwrap().iter().map(|file| text(&file["id"])).collect()
}

fn job() -> Vec<u8> {
    fs::read(test_jobs()).unwrap()
}

/// Where the version of the protocol is in a job's note.
fn protocol_at(job: &[u8]) -> usize {
    const BEFORE: &[u8] = b"\x05\0\0\0\x1c\0\0\0\x01\0\0\0Weir\0\0\0\0";
    job.windows(BEFORE.len()).position(|bytes| bytes == BEFORE).expect("the job has a note") + BEFORE.len()
}

#[test]
fn uploads_that_are_no_jobs_for_this_machine_are_refused_and_not_kept() {
    let mut cluster = Cluster::new(&[]);
    let job_manager = cluster.start_job_manager();
    let job = job();
    let mut foreign = job.clone();
    foreign[18..20].copy_from_slice(&22u16.to_le_bytes());
    let mut newer = job.clone();
    newer[protocol_at(&job)] = 99;
    for (name, content, part) in [
        ("empty", &b""[..], "empty"),
        ("script.sh", b"#!/bin/sh\ntouch /tmp/it-ran\n", "is a script"),
        ("noise", &[7; 5000], "a file of an unknown kind"),
        ("job.jar", b"PK\x03\x04 and so on", "archive"),
        ("true", &fs::read("/bin/true").unwrap(), "no Weir job"),
        ("weir", &fs::read(env!("CARGO_BIN_EXE_weir")).unwrap(), "no Weir job"),
        ("foreign", &foreign, "is built for s390x"),
        ("newer", &newer, "version 99 of the protocol"),
        ("head", &job[..3000], "is cut short"),
        ("half", &job[..job.len() / 2], "is cut short"),
    ] {
        let (status, answer) = wire::upload(&cluster.address(), name, content);
        assert!(status == 400 && answer.contains(part) && answer.contains(name), "{name}: {answer}");
    }
    assert_eq!(keys(&cluster), Vec::<String>::new());
    assert!(has_nothing(&cluster), "{:?}", cluster.files());
    cluster.assert_runs(job_manager);
}

#[test]
fn the_command_says_why_the_cluster_does_not_take_a_job() {
    let mut cluster = Cluster::new(&["weir.artifacts.max-size=1mb"]);
    cluster.start_job_manager();
    let path = test_jobs().display().to_string();
    let (said, code) = cluster.call(&["run", "-t", "remote", "--job", "idles", &path]);
    assert!(code == Some(1) && said.contains("weir.artifacts.max-size"), "{code:?} {said}");
    wait_for("nothing to be left of it", || has_nothing(&cluster));
    let job = job();
    let (status, answer) = wire::upload(&cluster.address(), "large", &job[..2 << 20]);
    assert!(status == 413 && answer.contains("weir.artifacts.max-size"), "{answer}");
    wait_for("nothing to be left of it", || has_nothing(&cluster));
}

#[test]
fn an_artifact_that_was_corrupted_in_the_store_is_not_run_until_it_is_uploaded_again() {
    let mut cluster = Cluster::new(&[]);
    cluster.start_job_manager();
    cluster.start_task_manager(1);
    let key = cluster.upload(&test_jobs());
    let file = store(&cluster).join("content").join(&contents(&cluster)[0]);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();

    let run = |key: &str| {
        let body =
            json!({ "entryClass": "numbers", "programArgsList": ["--count", "5", "--out", cluster.path("out")] });
        cluster.request("POST", &format!("/jars/{key}/run"), Some(&body)).unwrap()
    };
    let refused = run(&key);
    assert!(refused.status == 500 && refused.body.contains("SHA-256"), "{refused:?}");
    assert_eq!(cluster.get("/jobs")["jobs"], json!([]));
    assert!(!cluster.path("out").exists());

    let again = cluster.upload(&test_jobs());
    for key in [&again, &key] {
        let _ = fs::remove_dir_all(cluster.path("out"));
        let taken = run(key);
        assert_eq!(taken.status, 200, "{taken:?}");
        cluster.wait_for_state(&text(&taken.json()["jobid"]), "FINISHED");
    }
}

#[test]
fn an_upload_that_is_cut_leaves_nothing() {
    let mut cluster = Cluster::new(&[]);
    let job_manager = cluster.start_job_manager();
    let (header, body) = wire::form("cut", &job()[..4 << 20]);
    let head = format!(
        "POST /jars/upload HTTP/1.1\r\nhost: {}\r\n{header}\r\ncontent-length: {}\r\n\r\n",
        cluster.address(),
        body.len()
    );
    let mut stream = wire::connect(&cluster.address());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    wait_for("a beginning of it to be there", || !has_nothing(&cluster));
    drop(stream);
    wait_for("nothing to be left of it", || has_nothing(&cluster));

    // The same, with a JobManager that has no time to clear away.
    let mut stream = wire::connect(&cluster.address());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    wait_for("a beginning of it to be there", || !has_nothing(&cluster));
    kill(job_manager);
    cluster.wait_for_exit(job_manager);
    cluster.start_job_manager();
    assert!(has_nothing(&cluster), "{:?}", cluster.files());
    assert_eq!(keys(&cluster), Vec::<String>::new());
}

#[test]
fn equal_uploads_at_the_same_time_are_stored_once_and_go_with_the_last_of_them() {
    let mut cluster = Cluster::new(&[]);
    cluster.start_job_manager();
    let (address, job) = (cluster.address(), job());
    let statuses: Vec<u16> = thread::scope(|scope| {
        let uploads: Vec<_> = (0..3).map(|_| scope.spawn(|| wire::upload(&address, "same", &job).0)).collect();
        uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 3]);
    let keys = keys(&cluster);
    assert_eq!((keys.len(), contents(&cluster).len()), (3, 1));
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(contents(&cluster).len(), 1, "before {number} is deleted");
        assert_eq!(cluster.request("DELETE", &format!("/jars/{key}"), None).unwrap().status, 200);
    }
    wait_for("the content to go", || has_nothing(&cluster));
    let gone = cluster.request("POST", &format!("/jars/{}/run", keys[0]), Some(&json!({}))).unwrap();
    assert!(gone.status == 404 || gone.status == 400, "{gone:?}");
}

#[test]
fn uploads_survive_a_job_manager_that_is_killed() {
    let mut cluster = Cluster::new(&[]);
    let job_manager = cluster.start_job_manager();
    let key = cluster.upload(&test_jobs());
    kill(job_manager);
    cluster.wait_for_exit(job_manager);
    cluster.start_job_manager();
    cluster.start_task_manager(1);
    assert_eq!(keys(&cluster), [key.as_str()]);
    let body = json!({ "entryClass": "numbers", "programArgsList": ["--count", "5", "--out", cluster.path("out")] });
    let run = cluster.request("POST", &format!("/jars/{key}/run"), Some(&body)).unwrap();
    cluster.wait_for_state(&text(&run.json()["jobid"]), "FINISHED");
    assert_eq!(cluster.output("out").len(), 5);
}

#[test]
fn a_job_whose_artifact_is_deleted_goes_on_even_after_a_failure_and_takes_it_along_when_it_ends() {
    let settings = ["restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.delay=10 ms"];
    let (cluster, _) = Cluster::with_task_managers(&[1], &settings);
    let job = cluster.submit("ticks", &[], &["parallelism.default=1"]);
    cluster.wait_until_running(&job);
    let key = keys(&cluster).remove(0);
    assert_eq!(cluster.request("DELETE", &format!("/jars/{key}"), None).unwrap().status, 200);
    assert_eq!(keys(&cluster), Vec::<String>::new());
    assert_eq!(contents(&cluster).len(), 1, "the job still needs it");

    let before = cluster.workers(&job);
    before.iter().for_each(|pid| kill(*pid));
    wait_for("another worker", || cluster.workers(&job).iter().any(|pid| !before.contains(pid)));
    cluster.wait_until_running(&job);
    cluster.cancel(&job);
    cluster.wait_for_state(&job, "CANCELED");
    wait_for("the content to go", || has_nothing(&cluster));
}

/// `weir` in a mount namespace of its own, where `folder` is a small disk; its options are to be added. Without the right to have one,
/// just `weir`, and true: then the size of the files it writes is to be limited, which is the second-best full disk.
fn on_a_small_disk(cluster: &Cluster, role: &str, folder: &Path, megabytes: u32) -> (Command, bool) {
    fs::create_dir_all(folder).unwrap();
    let mount = format!("mount -t tmpfs -o size={megabytes}m small '{}'", folder.display());
    let flags = ["-m", "-rm"].into_iter().find(|flags| {
        let mut probe = Command::new("unshare");
        probe.args([flags, &"sh", &"-c", &mount.as_str()]).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    });
    let plain = cluster.weir(&[role]);
    let Some(flags) = flags else { return (plain, true) };
    let mut command = Command::new("unshare");
    command.args([flags, "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")]);
    command.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        let _ = match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    (command, false)
}

/// From now on the process can write no larger files.
fn limit_files(pid: u32, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the pointer is to a live local, and no old limit is asked for.
    let done = unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_full_disk_of_the_store_is_told_to_whoever_uploads_and_harms_nobody_else() {
    let mut cluster = Cluster::new(&[]);
    let disk = cluster.path("disk");
    let (mut command, limited) = on_a_small_disk(&cluster, "jobmanager", &disk, 8);
    command.arg(format!("-Dweir.artifacts.dir={}", disk.display()));
    let job_manager = cluster.start("jobmanager", command);
    wait_for("the JobManager", || cluster.request("GET", "/overview", None).is_some_and(|answer| answer.status == 200));
    if limited {
        limit_files(job_manager, 8 << 20);
    }
    let path = test_jobs().display().to_string();
    let (said, code) = cluster.call(&["run", "-t", "remote", "--job", "idles", &path]);
    assert!(code == Some(1) && said.contains("space") && said.contains("disk"), "{code:?} {said}");
    for _ in 0..2 {
        // Nothing of the first is left, or this one would not fit any more.
        let (status, answer) = wire::upload(&cluster.address(), "noise", &[1; 5 << 20]);
        assert!(status == 400 && answer.contains("a file of an unknown kind"), "{answer}");
    }
    cluster.assert_runs(job_manager);
    assert_eq!(keys(&cluster), Vec::<String>::new());
}

#[test]
fn a_full_disk_of_a_task_managers_cache_fails_the_job_with_the_reason() {
    let mut cluster = Cluster::new(&[]);
    cluster.start_job_manager();
    let disk = cluster.path("disk");
    let (mut command, limited) = on_a_small_disk(&cluster, "taskmanager", &disk, 8);
    command.arg("-Dtaskmanager.resource-id=small");
    command.arg(format!("-Dprocess.working-dir={}", disk.display()));
    command.arg(format!("-Denv.log.dir={}", cluster.path("small-log").display()));
    let task_manager = cluster.start("small", command);
    cluster.wait_for_task_managers(1);
    if limited {
        limit_files(task_manager, 8 << 20);
    }
    let job = cluster.submit("ticks", &[], &["restart-strategy.type=none"]);
    cluster.wait_for_state(&job, "FAILED");
    cluster.assert_failed_with(&job, "space");
    cluster.assert_failed_with(&job, "process.working-dir");
    cluster.assert_runs(task_manager);
    assert_eq!(cluster.task_managers(), ["small"]);
}

#[test]
fn a_full_disk_of_a_task_managers_logs_ends_nothing() {
    let mut cluster = Cluster::new(&[]);
    cluster.start_job_manager();
    let disk = cluster.path("disk");
    let (mut command, limited) = on_a_small_disk(&cluster, "taskmanager", &disk, 1);
    command.arg("-Dtaskmanager.resource-id=small");
    command.arg(format!("-Denv.log.dir={}", disk.display()));
    let task_manager = cluster.start("small", command);
    cluster.wait_for_task_managers(1);
    if limited {
        // Once it has the artifact.
        let first = cluster.submit("prints", &["--count", "5"], &["parallelism.default=1"]);
        cluster.wait_for_state(&first, "FINISHED");
        limit_files(task_manager, 100 << 10);
    }
    let printed = cluster.submit("prints", &["--count", "400000"], &["parallelism.default=1"]);
    cluster.wait_for_state(&printed, "FINISHED");
    // The disk as the process sees it, if it has one of its own.
    let seen = Path::new("/proc").join(task_manager.to_string()).join("root").join(disk.strip_prefix("/").unwrap());
    let used: u64 = files_below(&seen).iter().map(|(_, size)| size).sum();
    assert!(limited || used > 900 << 10, "the disk was not full: {used} bytes");
    let out = cluster.path("out").display().to_string();
    let next = cluster.submit("numbers", &["--count", "5", "--out", &out], &["parallelism.default=1"]);
    cluster.wait_for_state(&next, "FINISHED");
    assert_eq!(cluster.output("out").len(), 5);
    cluster.assert_runs(task_manager);
    assert_eq!(cluster.task_managers(), ["small"]);
}
