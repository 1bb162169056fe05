//! A TaskManager with real worker processes, and a JobManager that does what the test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod job_manager;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use job_manager::{Cluster, Connection, until};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_model::{
    Artifact, DeploymentId, ExecutionState, FromTaskManager, JobId, Launch, LeaderEpoch, StartWorker, TaskId,
};
use weir_proto::control::answer_chunk::Content;
use weir_proto::control::{FileRequest, ForJobManager, ForTaskManager};
use weir_proto::worker;
use weir_taskmanager::{TaskManager, TaskManagerError, TaskManagerOptions};

const HASH: u64 = 4711;

fn deployment(job: u8) -> DeploymentId {
    DeploymentId { job: JobId::from_bytes([job; 16]), number: 0 }
}

/// A small artifact that runs the fake worker.
fn fake_worker() -> Vec<u8> {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.parent().unwrap().parent().unwrap().join("examples/fake_worker");
    assert!(path.exists(), "{} is not there; `cargo test -p weir-taskmanager` builds it", path.display());
    format!("#!/bin/sh\nexec {} \"$@\"\n", path.display()).into_bytes()
}

fn start_worker(job: u8, artifact: Artifact, mode: &str) -> StartWorker {
    let launch = Launch {
        artifact,
        job_name: "a job".to_owned(),
        arguments: vec![mode.to_owned()],
        environment: vec![("HASH".to_owned(), HASH.to_string())],
        token: [3; 32],
    };
    StartWorker {
        deployment: deployment(job),
        worker: 0,
        launch: Arc::new(launch),
        slots: vec![u32::from(job)],
        job_graph_hash: HASH,
        start_timeout_millis: 30_000,
    }
}

fn start(cluster: &Cluster, connection: &Connection, job: u8, mode: &str) {
    let artifact = cluster.store(&fake_worker());
    connection.send(ForTaskManager::StartWorker(start_worker(job, artifact, mode)));
}

fn deploy(connection: &Connection, job: u8) {
    let plan = worker::Deploy { run_id: "this run".to_owned(), ..Default::default() }.encode_to_vec().into();
    connection.send(ForTaskManager::Deploy { deployment: deployment(job), worker: 0, plan, restore: Vec::new() });
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Processes with this in their environment, zombies aside.
fn marked(mark: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        alive(*pid) && environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    })
    .collect()
}

/// The states tasks enter until one of them enters `last`.
async fn states_until(connection: &mut Connection, last: ExecutionState) -> Vec<(u32, ExecutionState)> {
    let mut states = Vec::new();
    while !states.iter().any(|(_, state)| *state == last) {
        match connection.next_of_worker().await {
            FromTaskManager::TasksChanged { changes, .. } => {
                states.extend(changes.iter().map(|change| (change.task.subtask, change.state)));
            }
            FromTaskManager::MetricsReported { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    states
}

fn text(chunks: &[weir_proto::control::AnswerChunk]) -> String {
    let data = chunks.iter().filter_map(|chunk| match &chunk.content {
        Some(Content::Data(data)) => Some(data.to_vec()),
        _ => None,
    });
    String::from_utf8(data.flatten().collect()).unwrap()
}

#[tokio::test]
async fn a_worker_runs_from_start_to_release() {
    let mut cluster = Cluster::start().await;
    let (task_manager, mut jm) = cluster.with(TaskManagerOptions { metrics_port: Some(0), ..cluster.options() }).await;
    start(&cluster, &jm, 1, "good");
    let pid = jm.ready().await;
    assert!(alive(pid));
    deploy(&jm, 1);
    let mut states = Vec::new();
    loop {
        match jm.next_of_worker().await {
            FromTaskManager::TasksChanged { changes, .. } => {
                states.extend(changes.iter().map(|change| (change.task.subtask, change.state)));
            }
            FromTaskManager::SplitRequested { task, .. } => {
                assert_eq!(task, TaskId { vertex: 0, subtask: 1 });
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    use ExecutionState::{Canceled, Finished, Initializing, Running};
    assert_eq!(states, [(0, Initializing), (0, Running), (1, Initializing), (1, Running)]);

    let answer: Bytes = worker::SplitResponse { vertex: 0, subtask: 1, answer: None }.encode_to_vec().into();
    jm.send(ForTaskManager::SplitAnswer { deployment: deployment(1), task: TaskId { vertex: 0, subtask: 1 }, answer });
    match jm.next_of_worker().await {
        FromTaskManager::MetricsReported { tasks, .. } => assert_eq!((tasks.len(), tasks[0].1.records_in), (1, 42)),
        other => panic!("{other:?}"),
    }
    assert_eq!(states_until(&mut jm, Finished).await, [(1, Finished)]);
    let tasks = vec![TaskId { vertex: 0, subtask: 0 }];
    jm.send(ForTaskManager::CancelTasks { deployment: deployment(1), tasks });
    assert_eq!(states_until(&mut jm, Canceled).await, [(0, Canceled)]);

    jm.send(ForTaskManager::ReleaseWorker { deployment: deployment(1) });
    until("the worker leaves", || !alive(pid)).await;
    let name = format!("job-{}-0-0", JobId::from_bytes([1; 16]));
    assert_eq!(cluster.log(&format!("{name}.out")), "standard output\n");
    assert_eq!(cluster.log(&format!("{name}.err")), "worker in mode good\ndeployed this run\n");

    // A worker that was released is not reported.
    start(&cluster, &jm, 2, "good");
    jm.ready().await;
    assert_eq!(cluster.store.lock().unwrap().offsets.len(), 1, "the artifact is fetched once");
    drop(task_manager);
}

#[tokio::test]
async fn files_stacks_and_metrics_are_given_on_request() {
    let mut cluster = Cluster::start().await;
    let (task_manager, mut jm) = cluster.with(TaskManagerOptions { metrics_port: Some(0), ..cluster.options() }).await;
    start(&cluster, &jm, 1, "good");
    jm.ready().await;
    let name = format!("job-{}-0-0.err", JobId::from_bytes([1; 16]));
    until("its output is there", || cluster.log(&name).ends_with('\n')).await;
    fs::write(cluster.folder.path().join("secret"), "secret").unwrap();

    let ask = |name: &str, offset| {
        jm.send(ForTaskManager::FileRequest(FileRequest { request: 1, name: name.to_owned(), offset, limit: 0 }));
    };
    ask("", 0);
    match &cluster.answer().await[0].content {
        Some(Content::Files(list)) => assert!(list.files.iter().any(|file| file.name == name && file.size == 20)),
        other => panic!("{other:?}"),
    }
    ask(&name, -5);
    assert_eq!(text(&cluster.answer().await), "good\n");
    ask("../secret", 0);
    assert!(matches!(&cluster.answer().await[0].content, Some(Content::Failure(failure)) if failure.not_found));

    jm.send(ForTaskManager::StacksRequest { request: 2 });
    let answer = cluster.answer().await;
    assert_eq!((answer[0].request, answer[0].task_manager.as_str()), (2, task_manager.id().as_str()));
    match &answer[0].content {
        Some(Content::Stacks(stacks)) => {
            let names: Vec<_> = stacks.stacks.iter().map(|stack| stack.name.as_str()).collect();
            assert!(names.contains(&"taskmanager: weir-taskmanage"), "{names:?}");
            assert!(names.iter().any(|name| name.ends_with("deployment 0: fake_worker")), "{names:?}");
        }
        other => panic!("{other:?}"),
    }

    let scraped = scrape(&task_manager).await;
    assert!(scraped.starts_with("HTTP/1.1 200") && scraped.contains("weir_taskmanager_slots"), "{scraped}");
    assert!(scraped.contains(task_manager.id().as_str()), "{scraped}");
}

async fn scrape(task_manager: &TaskManager) -> String {
    let mut socket = tokio::net::TcpStream::connect(task_manager.metrics_address().unwrap()).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn workers_that_end_or_misbehave_are_reported_with_what_is_known() {
    let mut cluster = Cluster::start().await;
    let (_task_manager, mut jm) = cluster.with(cluster.options()).await;
    let scripts: [(&str, &[&str]); 6] = [
        (
            "#!/bin/sh\necho first >&2; echo second >&2; exit 3\n",
            &["worker 0 exited with code 3", "second", "before it had built"],
        ),
        ("#!/bin/sh\nkill -SEGV $$\n", &["was killed by signal 11 (SIGSEGV)"]),
        ("\u{7f}ELF and nothing else", &["was not started", "job is for another architecture"]),
        ("echo no interpreter is named here\n", &["was not started", "not an executable of this system"]),
        ("#!/no/such/interpreter\n", &["was not started", "cannot be executed"]),
        ("#!/bin/sh\nexec sleep 1000\n", &["did not report within 300ms", "weir.worker.start-timeout"]),
    ];
    for (script, expect) in scripts {
        let artifact = cluster.store(script.as_bytes());
        let start = StartWorker { start_timeout_millis: 30_000, ..start_worker(1, artifact, "") };
        let patience = if script.contains("sleep") { 300 } else { 30_000 };
        jm.send(ForTaskManager::StartWorker(StartWorker { start_timeout_millis: patience, ..start }));
        check(&jm.ended(deployment(1)).await, expect);
    }
    let modes: [(&str, &[&str]); 5] = [
        ("abort", &["was killed by signal 6 (SIGABRT)", "about to abort"]),
        ("old", &["speaks protocol version 1,", "crate `weir`"]),
        ("nonsense", &["was killed: it sent a frame of", "worker in mode nonsense"]),
        ("closes", &["closed its connection, and was killed"]),
        ("hog", &["was killed: it uses", "MiB of memory", "that taskmanager.memory.process.size allows"]),
    ];
    for (mode, expect) in modes {
        let options = TaskManagerOptions { memory: Some(100 << 20), ..cluster.options() };
        let (_task_manager, mut jm) = cluster.with(options).await;
        start(&cluster, &jm, 1, mode);
        if mode == "abort" {
            jm.ready().await;
            deploy(&jm, 1);
        }
        check(&jm.ended(deployment(1)).await, expect);
    }
    let other = StartWorker { job_graph_hash: 1, ..start_worker(1, cluster.store(&fake_worker()), "good") };
    jm.send(ForTaskManager::StartWorker(other));
    check(&jm.ended(deployment(1)).await, &["built another job graph", "not deterministic"]);
    let unknown = Artifact { id: weir_model::ArtifactId::from_bytes([9; 32]), ..cluster.store(b"x") };
    jm.send(ForTaskManager::StartWorker(start_worker(1, unknown, "good")));
    check(&jm.ended(deployment(1)).await, &["the JobManager does not have the artifact job"]);
}

#[track_caller]
fn check(reason: &str, expect: &[&str]) {
    for part in expect {
        assert!(reason.contains(part), "{part:?} is missing in:\n{reason}");
    }
}

#[tokio::test]
async fn killing_a_worker_takes_all_that_it_started_along() {
    let mut cluster = Cluster::start().await;
    let (task_manager, mut jm) = cluster.with(cluster.options()).await;
    let mark = format!("MARK={}", task_manager.id());
    let begin = |jm: &Connection, job: u8| {
        let mut start = start_worker(job, cluster.store(&fake_worker()), "fork");
        let mut launch = (*start.launch).clone();
        launch.environment.push(("MARK".to_owned(), task_manager.id().to_string()));
        start.launch = Arc::new(launch);
        jm.send(ForTaskManager::StartWorker(start));
    };
    begin(&jm, 1);
    jm.ready().await;
    until("it has forked", || marked(&mark).len() == 4).await;
    jm.send(ForTaskManager::KillWorker { deployment: deployment(1), reason: "the test says so".to_owned() });
    check(&jm.ended(deployment(1)).await, &["worker 0 was killed: the test says so"]);
    assert_eq!(marked(&mark), [0; 0], "the end is reported when all are gone");

    begin(&jm, 2);
    jm.ready().await;
    until("it has forked", || marked(&mark).len() == 4).await;
    task_manager.stop("the test is over");
    assert_eq!(task_manager.join().unwrap(), "the test is over");
    assert_eq!(marked(&mark), [0; 0]);
    assert!(matches!(jm.next_message().await, ForJobManager::Leaving { reason } if reason == "the test is over"));
    jm.closed().await;
}

#[tokio::test]
async fn a_cut_connection_kills_the_workers_and_registers_again() {
    let mut cluster = Cluster::start().await;
    let (task_manager, mut jm) = cluster.with(cluster.options()).await;
    start(&cluster, &jm, 1, "good");
    let pid = jm.ready().await;
    drop(jm);
    let (mut jm, registration) = cluster.accept().await;
    until("the worker is killed", || !alive(pid)).await;
    assert_eq!(&registration.info.id, task_manager.id());
    jm.epoch = LeaderEpoch(2);
    jm.send(ForTaskManager::Registered(job_manager::timing()));

    // A message of the former leader is refused, and nothing comes of it.
    start(&cluster, &jm, 2, "good");
    jm.ready().await;
    let start = start_worker(3, cluster.store(&fake_worker()), "good");
    jm.send_as(LeaderEpoch(1), ForTaskManager::StartWorker(start));
    assert_eq!(jm.next_message().await, ForJobManager::Fenced { current: LeaderEpoch(2) });
    // A newer one makes it register again.
    jm.send_as(LeaderEpoch(3), ForTaskManager::HeartbeatAnswer);
    jm.closed().await;
    cluster.register(3).await;
}

#[tokio::test]
async fn a_job_manager_that_falls_silent_counts_as_lost() {
    let mut cluster = Cluster::start().await;
    let _task_manager = TaskManager::start(cluster.options()).unwrap();
    let (mut jm, _) = cluster.accept().await;
    jm.answer_heartbeats = false;
    let timing = weir_proto::control::Timing { heartbeat_timeout: Duration::from_millis(500), ..job_manager::timing() };
    jm.send(ForTaskManager::Registered(timing));
    start(&cluster, &jm, 1, "good");
    let pid = jm.ready().await;
    jm.closed().await;
    until("the worker is killed", || !alive(pid)).await;
    cluster.register(1).await;
}

#[tokio::test]
async fn storage_is_served_to_a_worker_and_what_it_did_not_finish_goes_with_it() {
    let mut cluster = Cluster::start().await;
    let options = cluster.options();
    let copies = options.working_dir.join("localState");
    let (task_manager, mut jm) = cluster.with(options).await;
    let folder = cluster.folder.path().join("checkpoints");
    let mut worker = start_worker(1, cluster.store(&fake_worker()), "stores");
    let launch = Arc::get_mut(&mut worker.launch).unwrap();
    launch.arguments.push(format!("file://{}", folder.display()));
    jm.send(ForTaskManager::StartWorker(worker));
    let pid = jm.ready().await;
    let log = format!("job-{}-0-0.err", JobId::from_bytes([1; 16]));
    until("it has stored something", || cluster.log(&log).ends_with("stored content\n")).await;
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let copies_of = |copies: &Path| names(copies).first().map_or(0, |own| names(&copies.join(own)).len());
    assert_eq!((names(&folder.join("chk-1")).len(), copies_of(&copies)), (2, 2));
    // SAFETY: the process is the worker's.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) }, 0);
    jm.ended(deployment(1)).await;
    until("what it did not finish goes", || names(&folder.join("chk-1")) == ["finished"]).await;
    until("its copy goes", || copies_of(&copies) == 1).await;
    drop(task_manager);
    assert_eq!(names(&copies), Vec::<String>::new());
}

#[tokio::test]
async fn a_frozen_worker_counts_as_lost() {
    let mut cluster = Cluster::start().await;
    let _task_manager = TaskManager::start(cluster.options()).unwrap();
    let (mut jm, _) = cluster.accept().await;
    let timing = weir_proto::control::Timing { heartbeat_timeout: Duration::from_secs(2), ..job_manager::timing() };
    jm.send(ForTaskManager::Registered(timing));
    start(&cluster, &jm, 1, "good");
    let pid = jm.ready().await;
    // SAFETY: the call takes plain numbers.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGSTOP) };
    check(&jm.ended(deployment(1)).await, &["a signal (SIGSTOP or SIGTSTP) had stopped it for 2s"]);
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_flood_of_output_stays_bounded_and_disturbs_nobody() {
    let mut cluster = Cluster::start().await;
    let options = TaskManagerOptions { worker_log_size: 100_000, worker_log_backups: 2, ..cluster.options() };
    let (_task_manager, mut jm) = cluster.with(options).await;
    start(&cluster, &jm, 1, "flood");
    jm.ready().await;
    let name = format!("job-{}-0-0.out", JobId::from_bytes([1; 16]));
    until("files are rotated", || cluster.log_path(&format!("{name}.2")).exists()).await;
    start(&cluster, &jm, 2, "good");
    jm.ready().await;
    deploy(&jm, 2);
    let running =
        |message| matches!(message, FromTaskManager::TasksChanged { deployment: id, .. } if id == deployment(2));
    while !running(jm.next_of_worker().await) {}
    let sizes = fs::read_dir(cluster.folder.path().join("log")).unwrap().flatten();
    let total: u64 = sizes.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
    assert!(total < 500_000, "{total}");
}

#[tokio::test]
async fn a_broken_download_is_taken_up_again() {
    let mut cluster = Cluster::start().await;
    let (_task_manager, mut jm) = cluster.with(cluster.options()).await;
    cluster.store.lock().unwrap().breaks = 2;
    let mut script = fake_worker();
    script.extend(format!("exit\n#{}\n", "x".repeat(1_000_000)).bytes());
    let size = script.len() as u64;
    let artifact = cluster.store(&script);
    jm.send(ForTaskManager::StartWorker(start_worker(1, artifact, "good")));
    jm.ready().await;
    let offsets = cluster.store.lock().unwrap().offsets.clone();
    assert_eq!((offsets[0], offsets.len()), (0, 3), "{offsets:?}");
    assert!(offsets[1] > 0 && offsets[2] > offsets[1] && offsets[2] < size, "{offsets:?}");
}

#[tokio::test]
async fn a_released_worker_that_stays_is_killed_in_the_end() {
    let mut cluster = Cluster::start().await;
    let (_task_manager, mut jm) = cluster.with(cluster.options()).await;
    start(&cluster, &jm, 1, "stays");
    let pid = jm.ready().await;
    jm.send(ForTaskManager::ReleaseWorker { deployment: deployment(1) });
    until("it is killed", || !alive(pid)).await;
}

#[tokio::test]
async fn a_task_manager_that_finds_no_job_manager_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = TaskManagerOptions {
        registration_timeout: Some(Duration::from_millis(300)),
        ..TaskManagerOptions::new(free.to_string(), folder.path().join("work"), folder.path().join("log"))
    };
    let task_manager = TaskManager::start(options).unwrap();
    let error = task_manager.run_until(std::future::pending()).await.unwrap_err().to_string();
    check(&error, &["within 300ms", "taskmanager.registration.timeout", "no JobManager at 127.0.0.1", "refused"]);
}

#[tokio::test]
async fn a_refusal_ends_it_with_the_reason() {
    let mut cluster = Cluster::start().await;
    let task_manager =
        TaskManager::start(TaskManagerOptions { cluster_id: "mine".into(), ..cluster.options() }).unwrap();
    let (jm, registration) = cluster.accept().await;
    assert_eq!(registration.cluster_id, "mine");
    jm.send(ForTaskManager::Refused { reason: "this is the cluster \"other\"".into(), retry: false });
    let error = task_manager.run_until(std::future::pending()).await.unwrap_err().to_string();
    check(&error, &["refused", "this is the cluster \"other\""]);
}

#[test]
fn options_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = TaskManagerOptions::new("127.0.0.1:1", folder.path().join("work"), folder.path().join("log"));
    let refused = |options: TaskManagerOptions, expect: &str| {
        let error = TaskManager::start(options).map(drop).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    refused(TaskManagerOptions { job_manager: "nowhere".into(), ..good.clone() }, "expected host:port");
    refused(TaskManagerOptions { slots: 0, ..good.clone() }, "at least one slot");
    refused(TaskManagerOptions { id: Some("a b".into()), ..good.clone() }, "without spaces");
    refused(TaskManagerOptions { host: Some("192.0.2.1".into()), ..good.clone() }, "taskmanager.bind-host");
    refused(TaskManagerOptions { working_dir: "/dev/null/x".into(), ..good.clone() }, "the folder /dev/null/x");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = TaskManager::start(TaskManagerOptions { metrics_port: Some(port), ..good }).map(drop).unwrap_err();
    assert!(matches!(error, TaskManagerError::MetricsPort { .. }), "{error}");
}
