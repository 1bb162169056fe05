use super::*;

fn deployment_id() -> model::DeploymentId {
    model::DeploymentId { job: model::JobId::from_bytes([7; 16]), number: 3 }
}

fn task(vertex: u32, subtask: u32) -> model::TaskId {
    model::TaskId { vertex, subtask }
}

fn start_worker() -> model::StartWorker {
    let launch = model::Launch {
        artifact: model::Artifact { id: model::ArtifactId::from_bytes([9; 32]), size: 5 << 30, name: "wc".into() },
        job_name: "word count".into(),
        arguments: vec!["--input".into(), "a b".into()],
        environment: vec![("A".into(), "1".into()), ("B".into(), String::new())],
        token: [4; 32],
    };
    model::StartWorker {
        deployment: deployment_id(),
        worker: 2,
        launch: Arc::new(launch),
        slots: vec![0, 5],
        job_graph_hash: u64::MAX - 1,
        start_timeout_millis: 60_000,
    }
}

fn registration() -> Registration {
    Registration {
        protocol_version: proto::PROTOCOL_VERSION,
        cluster_id: "c".into(),
        info: model::TaskManagerInfo {
            id: model::TaskManagerId::new("host:6122-ab"),
            incarnation: 11,
            slots: 4,
            host: "10.0.0.1".into(),
            metrics_port: 9249,
            pid: 17,
            memory: 1 << 33,
            cpu_cores: 8,
            physical_memory: 1 << 34,
            version: "0.1.0".into(),
        },
    }
}

fn plan() -> model::DeploymentPlan {
    model::DeploymentPlan {
        deployment: deployment_id(),
        job_graph_hash: 77,
        run_id: "run".into(),
        peers: vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
        placement: model::Placement::new(2, vec![vec![0, 0, 1], vec![model::Placement::ABSENT; 2]]),
    }
}

fn from_task_manager() -> Vec<ForJobManager> {
    use model::FromTaskManager as M;
    let deployment = deployment_id();
    let mut failure = model::TaskFailure::new(model::FailureKind::Sink, "disk full");
    failure.location = Some("a.rs:1:2".into());
    let change = |state, failure| model::TaskChange {
        task: task(1, 2),
        state,
        failure,
        committables: vec![model::Committable { node: 4, payload: vec![1, 0] }],
    };
    let group =
        |name: &str, value: Option<&str>| model::MetricGroup { name: name.into(), value: value.map(Into::into) };
    let metrics = model::MetricsSnapshot {
        records_in: 1,
        busy_nanos: 2,
        backpressured_nanos: 3,
        input_watermark: Some(i64::MAX),
        state_bytes: 4,
        state_keys: 5,
        operators: vec![model::OperatorMetric {
            operator: model::OperatorId::from_seed(b"count"),
            groups: vec![group("Reader", None), group("partition", Some("7"))],
            name: "lag".into(),
            value: 0.5,
        }],
        ..Default::default()
    };
    vec![
        ForJobManager::Register(Box::new(registration())),
        ForJobManager::Heartbeat { metrics: [("Status.JVM.CPU.Load".to_owned(), 0.5)].into() },
        ForJobManager::Worker(M::WorkerReady { deployment, data_address: "10.0.0.1:99".parse().unwrap(), pid: 5 }),
        ForJobManager::Worker(M::TasksChanged {
            deployment,
            changes: vec![
                change(model::ExecutionState::Running, None),
                change(model::ExecutionState::Failed, Some(failure)),
            ],
        }),
        ForJobManager::Worker(M::SplitRequested { deployment, task: task(0, 9) }),
        ForJobManager::Worker(M::MetricsReported { deployment, tasks: vec![(task(1, 1), metrics)] }),
        ForJobManager::Worker(M::CheckpointAcknowledged {
            deployment,
            acknowledgement: Box::new(model::CheckpointAcknowledgement {
                checkpoint: 7,
                task: task(1, 1),
                snapshot: vec![1, 2],
                committables: vec![model::Committable { node: 4, payload: vec![3] }],
                metrics: model::SnapshotMetrics {
                    state_size: 1,
                    checkpointed_size: 2,
                    sync: Duration::from_nanos(3),
                    asynchronous: Duration::from_nanos(4),
                    alignment: Duration::from_nanos(5),
                    start_delay: Duration::from_nanos(6),
                    processed: 7,
                    persisted: 8,
                    unaligned: true,
                },
            }),
        }),
        ForJobManager::Worker(M::CheckpointDeclined {
            deployment,
            decline: Box::new(model::CheckpointDecline {
                checkpoint: 7,
                task: task(1, 1),
                cause: model::DeclineCause::Failed,
                reason: "disk full".into(),
                committables: Vec::new(),
            }),
        }),
        ForJobManager::Worker(M::WorkerEnded { deployment, reason: "exited with code 3".into() }),
        ForJobManager::Fenced { current: model::LeaderEpoch(8) },
        ForJobManager::Leaving { reason: "SIGTERM".into() },
    ]
}

fn to_task_manager() -> Vec<ForTaskManager> {
    use model::ToTaskManager as M;
    let deployment = deployment_id();
    let timing = Timing {
        heartbeat_interval: Duration::from_secs(10),
        heartbeat_timeout: Duration::from_millis(50_001),
        metrics_interval: Duration::from_secs(1),
    };
    let model = [
        M::StartWorker(start_worker()),
        M::Deploy {
            plan: Arc::new(plan()),
            worker: 1,
            restore: vec![(model::TaskId { vertex: 1, subtask: 2 }, b"state".to_vec())],
        },
        M::TriggerCheckpoint {
            deployment: deployment_id(),
            trigger: Arc::new(model::CheckpointTrigger {
                checkpoint: 7,
                timestamp: 1_000,
                kind: model::CheckpointKind::Drain,
                alignment: model::Alignment::UnalignedAfter(std::time::Duration::from_millis(5)),
                base: Some(6),
                directory: Some("file:///chk-7".to_owned()),
                shared_directory: None,
            }),
            tasks: vec![model::TaskId { vertex: 0, subtask: 1 }],
        },
        M::CheckpointCompleted { deployment: deployment_id(), checkpoint: 7 },
        M::CheckpointAborted { deployment: deployment_id(), checkpoint: 8 },
        M::SplitAnswer { deployment, task: task(1, 0), answer: vec![1, 2, 3] },
        M::CancelTasks { deployment, tasks: vec![task(0, 0), task(3, 4)] },
        M::ReleaseWorker { deployment },
        M::KillWorker { deployment, reason: "canceled".into() },
    ];
    let mut all = vec![
        ForTaskManager::Registered(timing),
        ForTaskManager::Refused { reason: "another cluster".into(), retry: true },
        ForTaskManager::HeartbeatAnswer,
        ForTaskManager::FileRequest(proto::FileRequest { request: 5, name: "a.log".into(), offset: -9, limit: 10 }),
        ForTaskManager::StacksRequest { request: 6 },
        ForTaskManager::Shutdown { reason: "idle".into() },
        ForTaskManager::Fenced { current: model::LeaderEpoch(9) },
    ];
    all.extend(model.map(|message| ForTaskManager::from_model(message, |plan| encode_plan(plan))));
    all
}

#[test]
fn everything_survives_the_way_over_the_wire() {
    let epoch = model::LeaderEpoch(41);
    for message in from_task_manager() {
        let bytes = message.clone().into_message(epoch).encode_to_vec();
        let decoded = proto::FromTaskManager::decode(bytes.as_slice()).unwrap();
        assert_eq!(ForJobManager::from_message(decoded), Ok(Some((epoch, message))));
    }
    for message in to_task_manager() {
        let bytes = message.clone().into_message(epoch).encode_to_vec();
        let decoded = proto::ToTaskManager::decode(bytes.as_slice()).unwrap();
        assert_eq!(ForTaskManager::from_message(decoded), Ok(Some((epoch, message))));
    }
}

#[test]
fn a_plan_is_what_workers_read() {
    let message = worker::Deploy::decode(encode_plan(&plan())).unwrap();
    assert_eq!((message.run_id.as_str(), message.deployment, message.job_graph_hash), ("run", 3, 77));
    let peers: Vec<_> = message.peers.iter().map(|p| (p.worker, p.data_address.as_str())).collect();
    assert_eq!(peers, [(0, "127.0.0.1:1"), (1, "[::1]:2")]);
    assert_eq!(message.placements[0].workers(3), Ok(vec![0, 0, 1]));
    assert_eq!(message.placements[1].workers(2), Ok(vec![4_294_967_295; 2]));
}

#[test]
fn a_message_of_a_newer_version_is_skipped() {
    assert_eq!(ForJobManager::from_message(proto::FromTaskManager { epoch: 1, message: None }), Ok(None));
    assert_eq!(ForTaskManager::from_message(proto::ToTaskManager { epoch: 1, message: None }), Ok(None));
}

#[test]
fn broken_messages_are_explained() {
    let check = |message: from::Message, expect: &str| {
        let error = ForJobManager::from_message(proto::FromTaskManager { epoch: 1, message: Some(message) });
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let deployment = |length: usize| Some(proto::DeploymentId { job: vec![1; length], number: 0 });
    let ended = |deployment| from::Message::WorkerEnded(proto::WorkerEnded { deployment, reason: String::new() });
    check(ended(None), "the deployment a message is about is missing");
    check(ended(deployment(15)), "15 bytes long, but it has 16");
    let ready = proto::WorkerReady { deployment: deployment(16), data_address: "localhost".into(), pid: 1 };
    check(from::Message::WorkerReady(ready), "\"localhost\", which is no address");
    let unknown = worker::TaskStateChanged { state: 99, ..Default::default() };
    let changed = proto::TasksChanged { deployment: deployment(16), changes: vec![unknown] };
    check(from::Message::TasksChanged(changed), "has the value 99");

    let broken = |change: fn(&mut proto::StartWorker), expect: &str| {
        let mut message = proto::StartWorker::from(start_worker());
        change(&mut message);
        let error = model::StartWorker::try_from(message).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    broken(|start| start.token = vec![1], "the token of a job is 1 bytes long, but it has 32");
    broken(|start| start.artifact = None, "the artifact of deployment 0707");
    broken(|start| start.slots.clear(), "the list of slots of deployment 0707");
}
