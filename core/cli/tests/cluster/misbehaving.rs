//! Jobs that do what no job should: each harms its own processes, and nothing else.

use std::fs;
use std::path::Path;

use crate::harness::{Cluster, TaskManager, exists, kill, memory, wait_for, wait_for_some};

/// A cluster with one TaskManager, and a job that must not notice anything.
struct Bystander {
    cluster: Cluster,
    job_manager: u32,
    task_manager: TaskManager,
    job: String,
    workers: Vec<u32>,
}

impl Bystander {
    fn new(settings: &[&str]) -> Bystander {
        let mut cluster = Cluster::new(settings);
        let job_manager = cluster.start_job_manager();
        let task_manager = cluster.start_task_manager(8);
        cluster.wait_for_task_managers(1);
        let job = cluster.submit("ticks", &[], &["pipeline.name=bystander"]);
        cluster.wait_until_running(&job);
        let workers = cluster.workers(&job);
        Bystander { cluster, job_manager, task_manager, job, workers }
    }

    /// Fails if JobManager, TaskManager or the other job's tasks are not those of the beginning.
    #[track_caller]
    fn assert_unharmed(&self) {
        self.cluster.assert_runs(self.job_manager);
        self.cluster.assert_runs(self.task_manager.pid);
        assert_eq!(self.cluster.task_managers(), [self.task_manager.id.as_str()]);
        assert_eq!(self.cluster.workers(&self.job), self.workers);
        let tasks = self.cluster.tasks(&self.job);
        assert!(tasks.iter().all(|task| task.state == "RUNNING" && task.attempt == 0), "{tasks:?}");
        assert_eq!(self.cluster.state(&self.job), "RUNNING");
    }
}

#[test]
fn a_job_that_panics_fails_with_what_it_said() {
    let bystander = Bystander::new(&[]);
    let cluster = &bystander.cluster;
    let job = cluster.submit("panics", &["--in", "behind_exchange"], &["parallelism.default=2"]);
    cluster.wait_for_state(&job, "FAILED");
    cluster.assert_failed_with(&job, "no fish in record 500");
    cluster.assert_failed_with(&job, "fussy map");
    let (status, _) = cluster.call(&["status", &job]);
    assert!(status.contains("no fish in record 500"), "{status}");
    wait_for("the end of its workers", || cluster.workers(&job).is_empty());
    bystander.assert_unharmed();
}

#[test]
fn jobs_that_end_their_process_while_running_end_nothing_else() {
    let bystander = Bystander::new(&[]);
    let cluster = &bystander.cluster;
    let ways = [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", "code 3"), ("overflow", "SIGABRT")];
    let jobs = ways.map(|(how, _)| cluster.submit("crashes", &["--how", how], &[]));
    for (job, (how, end)) in jobs.iter().zip(ways) {
        cluster.wait_for_state(job, "FAILED");
        cluster.assert_failed_with(job, end);
        // Its last lines are where a person looks.
        cluster.assert_failed_with(job, &format!("about to crash: {how}"));
        let (status, _) = cluster.call(&["status", job]);
        assert!(status.contains(&format!("about to crash: {how}")) && status.contains(end), "{status}");
    }
    bystander.assert_unharmed();
}

#[test]
fn jobs_that_end_their_process_while_they_are_planned_end_nothing_else() {
    let bystander = Bystander::new(&["weir.worker.start-timeout=3 s", "jobmanager.memory.coordinators.size=300mb"]);
    let cluster = &bystander.cluster;
    let ways = [
        ("builder_hoards", "jobmanager.memory.coordinators.size"),
        ("builder_aborts", "about to abort while planning"),
        ("builder_exits", "exited with code 0"),
        ("builder_panics", "no fish in the builder"),
        ("builder_hangs", "weir.worker.start-timeout"),
        ("refuses", "the moon is not full"),
    ];
    for (job, expect) in ways {
        let answer = cluster.try_submit(job, &[], &[]);
        assert_eq!(answer.status, 400, "{job}: {}", answer.body);
        assert!(answer.body.contains(expect), "{job}: {}", answer.body);
    }
    assert_eq!(cluster.coordinators().len(), 1, "only the other job's");
    bystander.assert_unharmed();
}

#[test]
fn a_job_that_ignores_cancel_is_killed_after_the_timeout_and_named() {
    let bystander = Bystander::new(&[]);
    let cluster = &bystander.cluster;
    for arguments in [&[][..], &["--sleeps"][..]] {
        let job = cluster.submit("ignores_cancel", arguments, &["task.cancellation.timeout=500 ms"]);
        cluster.wait_until_running(&job);
        let workers = cluster.workers(&job);
        wait_for("it to be deaf", || cluster.call(&["logs", &job]).0.contains("never to return"));
        cluster.cancel(&job);
        cluster.wait_for_state(&job, "CANCELED");
        wait_for("the end of its worker", || workers.iter().all(|pid| !exists(*pid)));
        let (status, _) = cluster.call(&["status", &job]);
        assert!(status.contains("deaf") && status.contains("task.cancellation.timeout"), "{status}");
    }
    bystander.assert_unharmed();
}

/// The children of the job `forks`, once there are two.
fn children(folder: &str) -> Vec<u32> {
    wait_for_some("its children", || {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let pids: Vec<u32> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
        (pids.len() == 2).then_some(pids)
    })
}

#[test]
fn children_of_a_job_do_not_outlive_it() {
    let bystander = Bystander::new(&[]);
    let cluster = &bystander.cluster;
    let none_left = |children: &[u32]| wait_for("the end of its children", || children.iter().all(|pid| !exists(*pid)));

    let folder = cluster.make_folder("finishes");
    let job = cluster.submit("forks", &["--pids", &folder, "--finishes"], &[]);
    cluster.wait_for_state(&job, "FINISHED");
    none_left(&children(&folder));

    let folder = cluster.make_folder("canceled");
    let job = cluster.submit("forks", &["--pids", &folder], &[]);
    let started = children(&folder);
    cluster.wait_until_running(&job);
    assert!(started.iter().all(|pid| exists(*pid)));
    cluster.cancel(&job);
    cluster.wait_for_state(&job, "CANCELED");
    none_left(&started);

    let folder = cluster.make_folder("killed");
    let job = cluster.submit("forks", &["--pids", &folder], &[]);
    let started = children(&folder);
    cluster.wait_until_running(&job);
    kill(cluster.workers(&job)[0]);
    cluster.wait_for_state(&job, "FAILED");
    none_left(&started);
    bystander.assert_unharmed();
}

#[test]
fn children_of_a_job_do_not_outlive_its_killed_task_manager() {
    let (mut cluster, task_managers) = Cluster::with_task_managers(&[1], &[]);
    let folder = cluster.make_folder("pids");
    let job = cluster.submit("forks", &["--pids", &folder], &[]);
    let started = children(&folder);
    cluster.wait_until_running(&job);
    kill(task_managers[0].pid);
    cluster.wait_for_exit(task_managers[0].pid);
    wait_for("the end of the job's children", || started.iter().all(|pid| !exists(*pid)));
}

#[test]
fn a_job_that_fills_memory_is_ended_with_a_report() {
    let bystander = Bystander::new(&["taskmanager.memory.process.size=400mb"]);
    let cluster = &bystander.cluster;
    let job = cluster.submit("hoards", &[], &[]);
    cluster.wait_for_state(&job, "FAILED");
    cluster.assert_failed_with(&job, "more than the 400 MiB");
    bystander.assert_unharmed();
}

#[test]
fn a_job_that_floods_its_output_fills_neither_disk_nor_memory_and_delays_nobody() {
    let bystander = Bystander::new(&["env.log.max-size=1mb", "env.log.max=2"]);
    let cluster = &bystander.cluster;
    let jobs = [cluster.submit("floods_stdout", &[], &[]), cluster.submit("floods_stdout", &["--stderr"], &[])];
    jobs.iter().for_each(|job| cluster.wait_until_running(job));
    let logs_of = |job: &str| {
        let of_job = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with(&format!("job-{job}"));
        cluster.files().into_iter().filter(|(path, _)| of_job(path)).collect::<Vec<_>>()
    };
    for job in &jobs {
        wait_for("a log file to be put aside", || logs_of(job).len() > 1);
    }
    // While both flood, others work.
    let other = cluster.submit("lasts", &["--seconds", "1"], &[]);
    cluster.wait_for_state(&other, "FINISHED");
    for job in &jobs {
        let logs = logs_of(job);
        let bytes: u64 = logs.iter().map(|(_, size)| size).sum();
        assert!(bytes < 1 << 20, "{logs:?}");
        cluster.cancel(job);
        cluster.wait_for_state(job, "CANCELED");
    }
    for (who, pid) in [("TaskManager", bystander.task_manager.pid), ("JobManager", bystander.job_manager)] {
        let mib = memory(pid) >> 20;
        assert!(mib < 150, "the {who} has {mib} MiB");
    }
    bystander.assert_unharmed();
}
