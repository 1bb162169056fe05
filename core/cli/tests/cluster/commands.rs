//! The commands that ask a cluster, as docs/cli.md shows them.

use serde_json::Value;

use crate::harness::{Cluster, test_jobs, wait_for};

/// What a command prints on standard output. It must succeed.
#[track_caller]
fn prints(cluster: &Cluster, words: &[&str]) -> String {
    let output = cluster.weir(words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(cluster: &Cluster, words: &[&str]) -> Value {
    let text = prints(cluster, &[words, &["--output", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

/// Runs a job on the cluster and does not stay; returns its id.
fn leave_there(cluster: &Cluster, job: &str) -> String {
    let mut run = cluster.weir(&["run", "-t", "remote", "-d", "-q", "-p", "1", "--job", job]);
    let output = run.arg(test_jobs()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn jobs_are_listed_shown_and_canceled() {
    let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
    assert!(prints(&cluster, &["list"]).contains("no jobs on the cluster"));
    let (first, second) = (leave_there(&cluster, "ticks"), leave_there(&cluster, "ticks"));
    let third = leave_there(&cluster, "idles");
    for job in [&first, &second] {
        cluster.wait_until_running(job);
    }
    let table = prints(&cluster, &["list"]);
    assert!(table.starts_with("ID") && [&first, &second, &third].iter().all(|id| table.contains(*id)), "{table}");
    assert_eq!(
        json(&cluster, &["list", "--running"]).as_array().unwrap().iter().filter(|job| job["name"] == "ticks").count(),
        2
    );

    let status = prints(&cluster, &["status", &first[..12]]);
    assert!(status.contains(&first) && status.contains("RUNNING") && status.contains("ticks"), "{status}");
    assert_eq!(json(&cluster, &["status", &first])["job"]["jid"], first.as_str());
    let (said, code) = cluster.call(&["status", "ticks"]);
    assert!(
        code == Some(2) && said.contains("2 jobs are named \"ticks\"") && said.contains(&second),
        "{code:?} {said}"
    );
    let (said, code) = cluster.call(&["status", "nothing"]);
    assert!(code == Some(1) && said.contains("weir list --all"), "{code:?} {said}");

    let canceled = json(&cluster, &["cancel", &first, "idles"]);
    assert!(canceled.as_array().unwrap().iter().all(|job| job["status"] == "CANCELED"), "{canceled}");
    assert!(prints(&cluster, &["cancel", "ticks"]).contains("CANCELED"));
    assert!(prints(&cluster, &["list"]).contains("--all shows ended ones as well"));
    assert_eq!(json(&cluster, &["list", "--all"]).as_array().unwrap().len(), 3);
}

#[test]
fn logs_of_processes_and_jobs_are_printed() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[1], &[]);
    let job = leave_there(&cluster, "prints");
    cluster.wait_for_state(&job, "FINISHED");
    wait_for("all that it printed", || {
        let log = prints(&cluster, &["logs", &job]);
        (0..1000).all(|n| log.contains(&format!("number {n}\n")))
    });
    assert_eq!(prints(&cluster, &["logs", &job, "-n", "1", "--file", &file_of(&cluster, &job)]), "number 999\n");
    assert!(prints(&cluster, &["logs"]).contains("the JobManager is up"));
    assert!(prints(&cluster, &["logs", &task_managers[0].id]).contains("registered"));
    let (said, code) = cluster.call(&["logs", "--file", "nothing.log"]);
    assert!(code == Some(2) && said.contains("--list"), "{code:?} {said}");
    let (said, code) = cluster.call(&["logs", "nobody"]);
    assert!(code == Some(1) && said.contains("neither a TaskManager nor a job"), "{code:?} {said}");
}

/// The file with a job's standard output.
fn file_of(cluster: &Cluster, job: &str) -> String {
    let files = json(cluster, &["logs", "--list", job]);
    let files: Vec<&str> = files.as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    files.iter().find(|name| name.ends_with(".out")).unwrap_or_else(|| panic!("{files:?}")).to_string()
}

#[test]
fn an_attached_run_on_a_cluster_ends_with_its_job_and_ctrl_c_leaves_the_job_alone() {
    let (mut cluster, _) = Cluster::with_task_managers(&[1], &[]);
    let mut run = cluster.weir(&["run", "-t", "remote", "-p", "1", "--job", "ticks"]);
    run.arg(test_jobs());
    let pid = cluster.start("run", run);
    let said = || std::fs::read_to_string(cluster.path("run.out")).unwrap();
    wait_for("the run to say where its job is", || said().contains("Ctrl-C leaves it running"));
    let job = cluster.get("/jobs/overview")["jobs"][0]["jid"].as_str().unwrap().to_owned();
    cluster.wait_until_running(&job);
    crate::harness::signal(pid, libc::SIGINT);
    wait_for("the run to say what becomes of its job", || said().contains("the job goes on"));
    assert_eq!(cluster.wait_for_exit(pid), Some(130));
    assert_eq!(cluster.state(&job), "RUNNING");

    let mut run = cluster.weir(&["run", "-t", "remote", "-p", "1", "--job", "ticks"]);
    run.arg(test_jobs());
    cluster.cancel(&job);
    cluster.wait_for_state(&job, "CANCELED");
    let pid = cluster.start("second", run);
    wait_for("the second job", || cluster.get("/jobs/overview")["jobs"].as_array().unwrap().len() == 2);
    let mut jobs = cluster.get("/jobs/overview")["jobs"].as_array().unwrap().clone();
    jobs.retain(|it| it["jid"] != job.as_str());
    let second = jobs[0]["jid"].as_str().unwrap().to_owned();
    cluster.wait_until_running(&second);
    cluster.cancel(&second);
    assert_eq!(cluster.wait_for_exit(pid), Some(130), "somebody has canceled it");
}

#[test]
fn a_whole_cluster_runs_in_one_process_until_it_is_interrupted() {
    let mut cluster = Cluster::new(&[]);
    let local = cluster.weir(&["local", "--taskmanagers", "2", "--slots", "3"]);
    let pid = cluster.start("local", local);
    wait_for("the cluster", || cluster.request("GET", "/overview", None).is_some_and(|answer| answer.status == 200));
    cluster.wait_for_task_managers(2);
    assert_eq!(cluster.get("/overview")["slots-total"], 6);
    let said = std::fs::read_to_string(cluster.path("local.out")).unwrap();
    assert!(said.contains(&cluster.address()) && said.contains("2 TaskManagers of 3 slots"), "{said}");
    let job = leave_there(&cluster, "ticks");
    cluster.wait_until_running(&job);
    assert!(!cluster.workers(&job).is_empty());
    crate::harness::signal(pid, libc::SIGINT);
    assert_eq!(cluster.wait_for_exit(pid), Some(0));
    assert_eq!(cluster.processes(), Vec::<u32>::new());
}
