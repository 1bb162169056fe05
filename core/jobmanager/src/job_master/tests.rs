use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use weir_checkpoint::{CheckpointOptions, StateDeclarations};
use weir_config::Configuration;
use weir_jobmaster::{JobMasterOptions, JobSpec};
use weir_model::{JobGraph, JobStatus, JobVertex, Launch, OperatorId, OperatorInfo, OperatorKind, VertexId};
use weir_process::{Command, Process};

use super::*;
use crate::JobManagerOptions;
use crate::coordinator::CoordinatorFolders;
use crate::job_manager::Prepared;

fn graph() -> JobGraph {
    let operator = OperatorInfo {
        id: OperatorId::from_seed(b"o"),
        name: "Source".to_owned(),
        uid: None,
        kind: OperatorKind::Source { bounded: true },
    };
    let sink =
        OperatorInfo { id: OperatorId::from_seed(b"s"), name: "Sink".to_owned(), uid: None, kind: OperatorKind::Sink };
    let vertex = JobVertex {
        id: VertexId::from_seed(b"o"),
        name: "Source -> Sink".to_owned(),
        operators: vec![operator, sink],
        parallelism: 2,
        max_parallelism: 128,
        slot_sharing_group: "default".to_owned(),
    };
    JobGraph { name: "job".to_owned(), vertices: vec![vertex], edges: Vec::new(), config: BTreeMap::new() }
}

/// A job whose coordinator is a process that does nothing, and the other end of its connection.
async fn planned(shared: &Shared, number: u8) -> (PlannedJob, tokio::net::UnixStream) {
    let mut upload = shared.store.begin("job").await.unwrap();
    upload.write(Bytes::from_static(b"job")).await.unwrap();
    let pin = upload.finish().await.unwrap();
    let mut command = Command::new("/bin/sleep");
    command.arguments = vec![OsString::from("1000")];
    let (stream, other) = tokio::net::UnixStream::pair().unwrap();
    let (id, graph) = (JobId::from_bytes([number; 16]), Arc::new(graph()));
    let launch = Launch {
        artifact: pin.artifact().clone(),
        job_name: graph.name.clone(),
        arguments: Vec::new(),
        environment: Vec::new(),
        token: [0; 32],
    };
    let record = JobRecord {
        id,
        graph: graph.clone(),
        artifact: pin.artifact().clone(),
        arguments: Vec::new(),
        configuration: BTreeMap::new(),
        submitted: shared.clock.now(),
    };
    let folders = CoordinatorFolders {
        log_dir: shared.options.log_dir.clone(),
        tmp_dir: shared.options.tmp_dir.clone(),
        max_log_size: 1 << 20,
        max_old_logs: 1,
        watch: shared.coordinator_folders.watch.clone(),
    };
    let folders = Arc::new(folders);
    let coordinator = Coordinator::of(Process::spawn(command).await.unwrap(), stream, id, folders.clone());
    let coordinator_spec = CoordinatorSpec {
        executable: "/bin/sleep".into(),
        job: id,
        arguments: Vec::new(),
        environment: Vec::new(),
        start_timeout: Duration::from_secs(10),
        folders,
    };
    let spec = JobSpec {
        id,
        graph,
        job_graph_hash: 0,
        launch: Arc::new(launch),
        configuration: BTreeMap::new(),
        checkpointing: CheckpointOptions::default(),
        states: StateDeclarations::default(),
        restore: None,
    };
    let machine = JobMaster::new(spec, JobMasterOptions::default(), record.submitted).unwrap();
    (PlannedJob { record: Arc::new(record), machine, job_graph_hash: 0, coordinator, coordinator_spec, pin }, other)
}

async fn archived(shared: &Shared, id: JobId) -> Arc<JobView> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (sender, answer) = oneshot::channel();
        shared.dispatcher.send(DispatcherMessage::Archived(id, sender)).unwrap();
        if let Some(view) = answer.await.unwrap() {
            return view;
        }
        assert!(Instant::now() < deadline, "the job never ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bug_in_one_job_master_ends_its_job_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut configuration = Configuration::new();
    configuration.set_argument(&format!("process.working-dir={}", folder.path().display())).unwrap();
    let options = JobManagerOptions::from_configuration(&configuration).unwrap();
    let (shared, loops) = Prepared::new(options, "127.0.0.1:1".parse().unwrap()).await.unwrap().start();
    let mut jobs = Vec::new();
    for number in [1, 2] {
        let (planned, connection) = planned(&shared, number).await;
        let (id, pid) = (planned.record.id, planned.coordinator.pid());
        let (sender, answer) = oneshot::channel();
        shared.dispatcher.send(DispatcherMessage::Submit(Box::new(planned), sender)).unwrap();
        assert_eq!(answer.await.unwrap(), Ok(id));
        jobs.push((id, pid, connection));
    }
    let [(broken, pid, _connection), (other, ..)] = &jobs[..] else { unreachable!() };
    let Some(job) = shared.jobs.get(*broken) else { panic!("{:?}", archived(&shared, *broken).await.failures) };
    job.send(JobMessage::Panic).unwrap();
    let view = archived(&shared, *broken).await;
    assert_eq!(view.summary.status, JobStatus::Failed);
    let text = view.failures[0].failure.to_string();
    assert!(text.contains("a bug in Weir (asked to)"), "{text}");
    let gone = || !std::path::Path::new(&format!("/proc/{pid}/exe")).exists() || is_zombie(*pid);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !gone() {
        assert!(Instant::now() < deadline, "its coordinator is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (sender, answer) = oneshot::channel();
    shared.jobs.get(*other).unwrap().send(JobMessage::Summary(sender)).unwrap();
    assert!(!answer.await.unwrap().status.is_terminal());
    assert!(shared.jobs.get(*broken).is_none());
    assert!(!loops.are_finished());
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"))
}
