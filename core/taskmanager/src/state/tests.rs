use std::sync::Arc;

use proptest::prelude::*;
use weir_model::{Artifact, ArtifactId, DeclineCause, ExecutionState, JobId, Launch, TaskManagerId, VertexId};
use weir_proto::control::Timing;
use weir_proto::worker;

use super::*;

const START: Duration = Duration::from_secs(1_000_000);
const HASH: u64 = 77;
const TIMING: Timing =
    Timing { heartbeat_interval: millis(10_000), heartbeat_timeout: millis(50_000), metrics_interval: millis(1000) };

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn options() -> StateOptions {
    StateOptions {
        info: TaskManagerInfo {
            id: TaskManagerId::new("tm"),
            // No spread.
            incarnation: 255,
            slots: 4,
            host: "localhost".into(),
            metrics_port: 0,
            pid: 1,
            memory: 1000 << 20,
            cpu_cores: 2,
            physical_memory: 1 << 40,
            version: "0".into(),
        },
        cluster_id: "c".into(),
        registration_initial_timeout: millis(100),
        registration_max_timeout: millis(5000),
        registration_timeout: Some(Duration::from_secs(300)),
        release_timeout: millis(5000),
        memory_configured: true,
    }
}

fn deployment(job: u8, number: u32) -> DeploymentId {
    DeploymentId { job: JobId::from_bytes([job; 16]), number }
}

fn start_worker(job: u8, number: u32, slots: &[u32]) -> StartWorker {
    let artifact = Artifact { id: ArtifactId::from_bytes([1; 32]), size: 1, name: "job".into() };
    let launch =
        Launch { artifact, job_name: "name".into(), arguments: Vec::new(), environment: Vec::new(), token: [0; 32] };
    StartWorker {
        deployment: deployment(job, number),
        worker: 3,
        launch: Arc::new(launch),
        slots: slots.to_vec(),
        job_graph_hash: HASH,
        start_timeout_millis: 60_000,
    }
}

fn greeting() -> Greeting {
    Greeting {
        protocol_version: worker::PROTOCOL_VERSION,
        job_graph_hash: HASH,
        data_address: "127.0.0.1:99".into(),
        pid: 17,
        vertices: vec![Arc::new(VertexLabel {
            id: VertexId::from_bytes([5; 16]),
            name: "Source".into(),
            operators: Vec::new(),
            one_end: true,
        })],
    }
}

fn task(subtask: u32) -> TaskId {
    TaskId { vertex: 0, subtask }
}

fn change(subtask: u32, state: ExecutionState) -> TaskChange {
    TaskChange { task: task(subtask), state, failure: None, committables: Vec::new() }
}

/// A state with a clock, and everything it wanted done since somebody looked.
struct Fixture {
    state: TaskManagerState,
    now: Duration,
    effects: Vec<Effect>,
}

impl Fixture {
    fn new() -> Fixture {
        let mut fixture = Fixture { state: TaskManagerState::new(options()), now: START, effects: Vec::new() };
        fixture.event(Event::Started);
        fixture
    }

    fn registered(epoch: u64) -> Fixture {
        let mut fixture = Fixture::new();
        fixture.register(epoch);
        fixture.taken();
        fixture
    }

    fn register(&mut self, epoch: u64) {
        let key = self.dialed();
        self.event(Event::Connected(key));
        self.receive(epoch, ForTaskManager::Registered(TIMING));
    }

    fn event(&mut self, event: Event) {
        self.effects.extend(self.state.on_event(event, self.now));
    }

    fn receive(&mut self, epoch: u64, message: ForTaskManager) {
        let connection = ConnectionKey(self.state.connections);
        self.event(Event::Received { connection, epoch: LeaderEpoch(epoch), message });
    }

    fn worker(&mut self, key: u64, event: WorkerEvent) {
        self.event(Event::Worker { worker: WorkerKey(key), event });
    }

    fn ended(&mut self, key: u64, how: &str, lines: &[&str]) {
        let last_lines = lines.iter().map(|line| (*line).to_owned()).collect();
        self.worker(key, WorkerEvent::Ended(WorkerEnd { how: how.to_owned(), started: true, last_lines }));
    }

    /// Lets time pass up to the next deadline, and over it.
    fn pass(&mut self) -> Duration {
        let before = self.now;
        self.now = self.state.next_deadline().expect("something to wait for").max(before);
        self.event(Event::TimePassed);
        self.now - before
    }

    fn taken(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn dialed(&mut self) -> ConnectionKey {
        match self.taken()[..] {
            [.., Effect::Dial(key)] => key,
            ref other => panic!("{other:?}"),
        }
    }

    /// Brings worker `key` of a job as far as running tasks.
    fn deploy(&mut self, key: u64, job: u8, slots: &[u32]) {
        self.receive(1, ForTaskManager::StartWorker(start_worker(job, 0, slots)));
        self.worker(key, WorkerEvent::Greeted(greeting()));
        let plan = Bytes::from_static(b"plan");
        self.receive(
            1,
            ForTaskManager::Deploy { deployment: deployment(job, 0), worker: 3, restore: Vec::new(), plan },
        );
        self.taken();
    }

    /// The reason of the only report, which must be a worker's end.
    #[track_caller]
    fn end_reported(&mut self) -> String {
        match &self.taken()[..] {
            [Effect::Send { message: ForJobManager::Worker(FromTaskManager::WorkerEnded { reason, .. }), .. }] => {
                reason.clone()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn send(message: FromTaskManager) -> Effect {
    Effect::Send { epoch: LeaderEpoch(1), message: ForJobManager::Worker(message) }
}

fn measured(key: u64, mib: u64) -> Measurement {
    Measurement { worker: WorkerKey(key), memory: mib << 20, stopped: false }
}

fn kill(key: u64) -> Effect {
    Effect::KillWorker { worker: WorkerKey(key) }
}

/// Brings a worker to where it can be deployed.
fn ready() -> Fixture {
    let mut fixture = Fixture::registered(1);
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(1, 0, &[0])));
    fixture.worker(1, WorkerEvent::Greeted(greeting()));
    fixture.taken();
    fixture
}

fn deploy_with(restore: Vec<(TaskId, Vec<u8>)>) -> ForTaskManager {
    ForTaskManager::Deploy { deployment: deployment(1, 0), worker: 3, plan: Bytes::from_static(b"plan"), restore }
}

#[test]
fn what_tasks_begin_with_reaches_the_worker_before_their_plan_in_messages_that_fit() {
    let mut fixture = ready();
    let restore: Vec<_> = (0..20).map(|subtask| (task(subtask), vec![subtask as u8; 1 << 20])).collect();
    fixture.receive(1, deploy_with(restore.clone()));
    let mut told: Vec<WorkerMessage> = fixture
        .taken()
        .into_iter()
        .map(|effect| match effect {
            Effect::TellWorker { message, .. } => message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told.pop(), Some(WorkerMessage::Deploy(Bytes::from_static(b"plan"))));
    assert!(told.len() > 1, "a worker restores one part while it reads the next");
    let mut parts = Vec::new();
    for message in told {
        let WorkerMessage::Restore(part) = message else { panic!("{message:?}") };
        assert!(part.iter().map(|(_, snapshot)| snapshot.len()).sum::<usize>() <= 4 << 20);
        parts.extend(part);
    }
    assert_eq!(parts, restore);
}

#[test]
fn a_snapshot_that_fits_into_no_message_ends_its_worker_with_advice() {
    let mut fixture = ready();
    fixture.receive(1, deploy_with(vec![(task(0), vec![0; weir_proto::MAX_FRAME_BYTES])]));
    assert_eq!(fixture.taken(), [Effect::KillWorker { worker: WorkerKey(1) }]);
    fixture.ended(1, "ended", &[]);
    let reason = fixture.end_reported();
    assert!(reason.contains("execution.checkpointing.dir"), "{reason}");
}

#[test]
fn checkpoints_are_for_workers_that_run_tasks_and_their_answers_are_passed_on() {
    let mut fixture = ready();
    let id = deployment(1, 0);
    fixture.receive(1, ForTaskManager::CheckpointCompleted { deployment: id, checkpoint: 1 });
    assert_eq!(fixture.taken(), []);
    fixture.receive(1, deploy_with(Vec::new()));
    fixture.receive(1, ForTaskManager::CheckpointCompleted { deployment: id, checkpoint: 2 });
    fixture.receive(1, ForTaskManager::CheckpointAborted { deployment: id, checkpoint: 3 });
    fixture.receive(1, ForTaskManager::CheckpointAborted { deployment: deployment(2, 0), checkpoint: 3 });
    let tell = |message| Effect::TellWorker { worker: WorkerKey(1), message };
    let told = [
        WorkerMessage::Deploy(Bytes::from_static(b"plan")),
        WorkerMessage::CheckpointCompleted(2),
        WorkerMessage::CheckpointAborted(3),
    ];
    assert_eq!(fixture.taken(), told.map(tell));
    let decline = Box::new(CheckpointDecline {
        checkpoint: 4,
        task: task(0),
        cause: DeclineCause::NotReady,
        reason: String::new(),
        committables: Vec::new(),
    });
    fixture.worker(1, WorkerEvent::CheckpointDeclined(decline.clone()));
    assert_eq!(fixture.taken(), [send(FromTaskManager::CheckpointDeclined { deployment: id, decline })]);
}

#[test]
fn it_registers_and_says_that_it_lives() {
    let mut fixture = Fixture::new();
    let key = fixture.dialed();
    fixture.event(Event::Connected(key));
    match &fixture.taken()[..] {
        [Effect::Send { epoch: LeaderEpoch(0), message: ForJobManager::Register(registration) }] => {
            assert_eq!((registration.info.clone(), registration.cluster_id.as_str()), (options().info, "c"));
        }
        other => panic!("{other:?}"),
    }
    fixture.receive(7, ForTaskManager::Registered(TIMING));
    let heartbeat = Effect::SendHeartbeat { epoch: LeaderEpoch(7) };
    assert_eq!(fixture.taken(), std::slice::from_ref(&heartbeat));
    assert_eq!(fixture.state.registered(), Some(LeaderEpoch(7)));
    for _ in 0..20 {
        assert_eq!(fixture.pass(), TIMING.heartbeat_interval);
        assert_eq!(fixture.taken(), std::slice::from_ref(&heartbeat));
        fixture.receive(7, ForTaskManager::HeartbeatAnswer);
    }
}

#[test]
fn attempts_to_register_come_less_and_less_often_until_it_gives_up() {
    let mut fixture = Fixture::new();
    let mut waits = Vec::new();
    let end = loop {
        let connection = match fixture.taken()[..] {
            [.., Effect::Dial(key)] => key,
            [.., Effect::End(ref ending)] => break ending.clone(),
            ref other => panic!("{other:?}"),
        };
        fixture.event(Event::ConnectionLost { connection, reason: "connection refused".into() });
        if fixture.state.next_deadline().is_some() {
            waits.push(fixture.pass().as_millis());
        }
    };
    let first: Vec<_> = waits.iter().take(11).copied().collect();
    // 255 of the incarnation make it 1023 of 1024.
    assert_eq!(first, [9, 19, 39, 79, 159, 319, 639, 1278, 2557, 4995, 4995]);
    assert!(waits.iter().all(|wait| *wait <= 5000));
    let Ending::Failed(reason) = end else { panic!("{end:?}") };
    assert!(reason.contains("within 300s (taskmanager.registration.timeout)"), "{reason}");
    assert!(reason.contains("connection refused"), "{reason}");
    assert!(fixture.now - START >= Duration::from_secs(300));
}

#[test]
fn a_refusal_is_final_only_if_it_says_so() {
    let check = |retry, expect: fn(&Effect) -> bool| {
        let mut fixture = Fixture::new();
        let key = fixture.dialed();
        fixture.event(Event::Connected(key));
        fixture.taken();
        fixture.receive(1, ForTaskManager::Refused { reason: "another cluster".into(), retry });
        let effects = fixture.taken();
        assert!(effects.iter().any(expect), "{effects:?}");
    };
    check(true, |effect| matches!(effect, Effect::HangUp(_)));
    check(false, |effect| matches!(effect, Effect::End(Ending::Failed(reason)) if reason.contains("another cluster")));
}

#[test]
fn a_lost_connection_kills_all_workers_and_registers_again() {
    let mut fixture = Fixture::registered(1);
    fixture.deploy(1, 1, &[0, 1]);
    fixture.deploy(2, 2, &[2]);
    let connection = ConnectionKey(1);
    fixture.event(Event::ConnectionLost { connection, reason: "reset".into() });
    assert_eq!(fixture.taken(), [Effect::HangUp(connection), kill(1), kill(2)]);
    // What the dying say is of no interest, and their slots are free before they are gone.
    fixture.worker(1, WorkerEvent::TasksChanged(vec![change(0, ExecutionState::Failed)]));
    assert_eq!((fixture.state.slots_held(), fixture.taken()), (0, vec![]));
    assert!(fixture.pass() < millis(20), "the first attempt comes soon");
    fixture.register(1);
    fixture.taken();
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(3, 0, &[0, 1, 2, 3])));
    assert!(matches!(fixture.taken()[..], [Effect::StartWorker { worker: WorkerKey(3), .. }]));
    fixture.ended(1, "was killed by signal 9 (SIGKILL)", &[]);
    fixture.ended(2, "was killed by signal 9 (SIGKILL)", &[]);
    assert_eq!(fixture.taken(), []);
    assert_eq!(fixture.state.workers().count(), 1);
}

#[test]
fn a_silent_job_manager_counts_as_lost() {
    let mut fixture = Fixture::registered(1);
    fixture.deploy(1, 1, &[0]);
    let mut waited = Duration::ZERO;
    while fixture.state.registered().is_some() {
        waited += fixture.pass();
    }
    assert_eq!(waited, TIMING.heartbeat_timeout);
    assert!(fixture.taken().contains(&kill(1)));
}

#[test]
fn an_older_leader_is_fenced_and_a_newer_one_taken_over_to() {
    let mut fixture = Fixture::registered(5);
    fixture.receive(4, ForTaskManager::StartWorker(start_worker(1, 0, &[0])));
    let fenced = ForJobManager::Fenced { current: LeaderEpoch(5) };
    assert_eq!(fixture.taken(), [Effect::Send { epoch: LeaderEpoch(4), message: fenced.clone() }]);
    fixture.receive(5, ForTaskManager::StartWorker(start_worker(1, 0, &[0])));
    assert!(matches!(fixture.taken()[..], [Effect::StartWorker { .. }]));

    fixture.receive(6, ForTaskManager::HeartbeatAnswer);
    assert_eq!(fixture.taken(), [Effect::HangUp(ConnectionKey(1)), kill(1)]);
    fixture.pass();
    let key = fixture.dialed();
    fixture.event(Event::Connected(key));
    fixture.taken();
    // The former leader answers the registration.
    fixture.receive(5, ForTaskManager::Registered(TIMING));
    let fenced = ForJobManager::Fenced { current: LeaderEpoch(6) };
    assert_eq!(fixture.taken(), [Effect::Send { epoch: LeaderEpoch(5), message: fenced }, Effect::HangUp(key)]);
    assert_eq!(fixture.state.registered(), None);
    fixture.pass();
    fixture.register(6);
    assert_eq!(fixture.state.registered(), Some(LeaderEpoch(6)));
    fixture.receive(6, ForTaskManager::Fenced { current: LeaderEpoch(9) });
    assert_eq!(fixture.state.registered(), None);
    assert_eq!(fixture.state.highest, LeaderEpoch(9));
}

#[test]
fn messages_of_a_connection_that_was_given_up_are_not_heard() {
    let mut fixture = Fixture::registered(1);
    fixture.event(Event::ConnectionLost { connection: ConnectionKey(1), reason: "reset".into() });
    fixture.taken();
    let message = ForTaskManager::StartWorker(start_worker(1, 0, &[0]));
    fixture.event(Event::Received { connection: ConnectionKey(1), epoch: LeaderEpoch(1), message });
    assert_eq!(fixture.taken(), []);
    fixture.pass();
    let key = fixture.dialed();
    fixture.event(Event::ConnectionLost { connection: ConnectionKey(1), reason: "again".into() });
    fixture.event(Event::Connected(key));
    assert!(matches!(fixture.taken()[..], [Effect::Send { message: ForJobManager::Register(_), .. }]));
}

#[test]
fn a_worker_goes_from_start_to_release() {
    let mut fixture = Fixture::registered(1);
    let id = deployment(1, 0);
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(1, 0, &[0])));
    let start = start_worker(1, 0, &[0]);
    assert_eq!(fixture.taken(), [Effect::StartWorker { worker: WorkerKey(1), start }]);
    fixture.worker(1, WorkerEvent::Greeted(greeting()));
    let data_address = "127.0.0.1:99".parse().unwrap();
    assert_eq!(fixture.taken(), [send(FromTaskManager::WorkerReady { deployment: id, data_address, pid: 17 })]);

    let tell = |message| Effect::TellWorker { worker: WorkerKey(1), message };
    let bytes = Bytes::from_static(b"plan");
    fixture.receive(1, ForTaskManager::Deploy { deployment: id, worker: 3, restore: Vec::new(), plan: bytes.clone() });
    fixture.receive(1, ForTaskManager::SplitAnswer { deployment: id, task: task(0), answer: bytes.clone() });
    fixture.receive(1, ForTaskManager::CancelTasks { deployment: id, tasks: vec![task(1)] });
    let told =
        [WorkerMessage::Deploy(bytes.clone()), WorkerMessage::SplitAnswer(bytes), WorkerMessage::Cancel(vec![task(1)])];
    assert_eq!(fixture.taken(), told.map(tell));

    fixture.worker(1, WorkerEvent::SplitRequested(task(0)));
    let changes = vec![change(0, ExecutionState::Running)];
    fixture.worker(1, WorkerEvent::TasksChanged(changes.clone()));
    assert_eq!(
        fixture.taken(),
        [
            send(FromTaskManager::SplitRequested { deployment: id, task: task(0) }),
            send(FromTaskManager::TasksChanged { deployment: id, changes }),
        ]
    );

    fixture.receive(1, ForTaskManager::ReleaseWorker { deployment: id });
    assert_eq!(fixture.taken(), [tell(WorkerMessage::Shutdown)]);
    assert_eq!(fixture.state.slots_held(), 0);
    fixture.ended(1, "exited with code 0", &[]);
    assert_eq!((fixture.taken(), fixture.state.is_empty()), (vec![], true));
}

#[test]
fn a_released_worker_that_stays_is_killed() {
    let mut fixture = Fixture::registered(1);
    fixture.deploy(1, 1, &[0]);
    fixture.receive(1, ForTaskManager::ReleaseWorker { deployment: deployment(1, 0) });
    fixture.taken();
    assert_eq!(fixture.pass(), options().release_timeout);
    assert_eq!(fixture.taken(), [kill(1)]);
    fixture.ended(1, "was killed by signal 9 (SIGKILL)", &[]);
    assert_eq!(fixture.taken(), []);
}

#[test]
fn the_slot_of_a_worker_that_leaves_or_dies_can_be_given_to_another_job_at_once() {
    let ends: [fn(DeploymentId) -> ForTaskManager; 2] = [
        |deployment| ForTaskManager::ReleaseWorker { deployment },
        |deployment| ForTaskManager::KillWorker { deployment, reason: "it does not stop".to_owned() },
    ];
    for end in ends {
        let mut fixture = Fixture::registered(1);
        fixture.deploy(1, 1, &[0]);
        fixture.receive(1, end(deployment(1, 0)));
        fixture.taken();
        fixture.receive(1, ForTaskManager::StartWorker(start_worker(2, 0, &[0])));
        assert!(matches!(fixture.taken()[..], [Effect::StartWorker { worker: WorkerKey(2), .. }]));
        assert_eq!(fixture.state.slots_held(), 1);
    }
}

#[test]
fn a_slot_belongs_to_one_job_at_a_time() {
    let mut fixture = Fixture::registered(1);
    fixture.deploy(1, 1, &[1, 2]);
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(2, 0, &[0, 2])));
    let reason = fixture.end_reported();
    assert!(reason.contains("slot 2 of TaskManager tm is held by job 0101"), "{reason}");
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(2, 0, &[4])));
    let reason = fixture.end_reported();
    assert!(reason.contains("no slot 4") && reason.contains("0 to 3"), "{reason}");
    // Another deployment of the same job may have them.
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(1, 1, &[2])));
    assert!(matches!(fixture.taken()[..], [Effect::StartWorker { worker: WorkerKey(2), .. }]));
    // The same deployment again changes nothing.
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(1, 1, &[2])));
    assert_eq!(fixture.taken(), []);
}

#[test]
fn a_worker_that_is_not_what_it_should_be_is_killed_with_the_reason() {
    let check = |change: fn(&mut Greeting), expect: &[&str]| {
        let mut fixture = Fixture::registered(1);
        fixture.receive(1, ForTaskManager::StartWorker(start_worker(1, 0, &[0])));
        fixture.taken();
        let mut greeting = greeting();
        change(&mut greeting);
        fixture.worker(1, WorkerEvent::Greeted(greeting));
        assert_eq!(fixture.taken(), [kill(1)]);
        fixture.ended(1, "was killed by signal 9 (SIGKILL)", &["a line"]);
        let reason = fixture.end_reported();
        for part in expect {
            assert!(reason.contains(part), "{part:?} is missing in {reason}");
        }
        assert!(reason.ends_with("; its last lines were:\n    a line"), "{reason}");
    };
    check(|g| g.protocol_version = 99, &["worker 3 speaks protocol version 99", "crate `weir`"]);
    check(|g| g.job_graph_hash = 1, &["hash 0000000000000001", "(000000000000004d)", "not deterministic"]);
    check(|g| g.data_address = "nowhere".into(), &["\"nowhere\" as its data address"]);
}

#[test]
fn the_end_of_a_worker_is_told_with_what_is_known() {
    let mut fixture = Fixture::registered(1);
    fixture.receive(1, ForTaskManager::StartWorker(start_worker(1, 0, &[0])));
    fixture.taken();
    fixture.ended(1, "exited with code 3", &["no such file"]);
    let expect = "worker 3 exited with code 3; its last lines were:\n    no such file\n    before it had built the job";
    assert_eq!(fixture.end_reported(), expect);

    fixture.deploy(2, 2, &[0]);
    fixture.ended(2, "was killed by signal 11 (SIGSEGV)", &[]);
    assert_eq!(fixture.end_reported(), "worker 3 was killed by signal 11 (SIGSEGV)");

    fixture.deploy(3, 3, &[0]);
    fixture.receive(1, ForTaskManager::KillWorker { deployment: deployment(3, 0), reason: "it ignored cancel".into() });
    assert_eq!(fixture.taken(), [kill(3)]);
    fixture.ended(3, "was killed by signal 9 (SIGKILL)", &[]);
    assert_eq!(fixture.end_reported(), "worker 3 was killed: it ignored cancel");

    fixture.receive(1, ForTaskManager::StartWorker(start_worker(4, 0, &[0])));
    fixture.taken();
    while !fixture.taken().contains(&kill(4)) {
        fixture.receive(1, ForTaskManager::HeartbeatAnswer);
        fixture.pass();
        assert!(fixture.now <= START + Duration::from_secs(60), "it is not killed");
    }
    fixture.ended(4, "was killed by signal 9 (SIGKILL)", &[]);
    let reason = fixture.end_reported();
    assert!(reason.contains("did not report within 60s; weir.worker.start-timeout"), "{reason}");

    fixture.deploy(5, 5, &[0]);
    fixture.worker(5, WorkerEvent::Misbehaved { problem: "it sent nonsense".into() });
    fixture.taken();
    fixture.ended(5, "was killed by signal 9 (SIGKILL)", &[]);
    assert_eq!(fixture.end_reported(), "worker 3 was killed: it sent nonsense");
}

#[test]
fn metrics_are_passed_on_at_an_interval_and_with_the_end_of_a_task() {
    let mut fixture = Fixture::registered(1);
    fixture.deploy(1, 1, &[0]);
    let id = deployment(1, 0);
    let snapshot = |records_in| MetricsSnapshot { records_in, ..MetricsSnapshot::default() };
    let report = |tasks: &[(TaskId, MetricsSnapshot)]| {
        send(FromTaskManager::MetricsReported { deployment: id, tasks: tasks.to_vec() })
    };
    fixture.worker(1, WorkerEvent::MetricsReported(vec![(task(0), snapshot(1)), (task(1), snapshot(5))]));
    assert_eq!(fixture.taken(), [report(&[(task(0), snapshot(1)), (task(1), snapshot(5))])]);
    for records in 2..10 {
        fixture.now += millis(100);
        fixture.worker(1, WorkerEvent::MetricsReported(vec![(task(0), snapshot(records))]));
        assert_eq!(fixture.taken(), []);
    }
    fixture.pass();
    assert_eq!(fixture.taken(), [report(&[(task(0), snapshot(9)), (task(1), snapshot(5))])]);

    fixture.now += millis(100);
    fixture.worker(1, WorkerEvent::MetricsReported(vec![(task(0), snapshot(12))]));
    assert_eq!(fixture.state.task_samples().len(), 2);
    let changes = vec![change(0, ExecutionState::Finished)];
    fixture.worker(1, WorkerEvent::TasksChanged(changes.clone()));
    let changed = send(FromTaskManager::TasksChanged { deployment: id, changes });
    assert_eq!(fixture.taken(), [report(&[(task(0), snapshot(12))]), changed]);
    let samples = fixture.state.task_samples();
    assert_eq!(samples.iter().map(|sample| sample.subtask).collect::<Vec<_>>(), [1], "the other one has ended");
    assert_eq!((samples[0].vertex.name.as_str(), samples[0].job_name.as_str()), ("Source", "name"));

    fixture.receive(1, ForTaskManager::ReleaseWorker { deployment: id });
    fixture.taken();
    fixture.worker(1, WorkerEvent::MetricsReported(vec![(task(1), snapshot(99))]));
    assert_eq!(fixture.taken(), [report(&[(task(1), snapshot(99))])]);
}

#[test]
fn the_worker_furthest_above_its_share_of_memory_is_killed() {
    let mut fixture = Fixture::registered(1);
    fixture.deploy(1, 1, &[0]);
    fixture.deploy(2, 2, &[1, 2, 3]);
    let mut measure = |first: u64, second: u64| {
        fixture.event(Event::Measured(vec![measured(1, first), measured(2, second)]));
        fixture.taken()
    };
    assert_eq!(measure(500, 500), [], "above its share, but there is enough");
    assert_eq!(measure(300, 710), [kill(1)], "300 of 250 is further above than 710 of 750");
    assert_eq!(measure(300, 710), [], "the dying one counts no more");
    fixture.ended(1, "was killed by signal 9 (SIGKILL)", &[]);
    let reason = fixture.end_reported();
    assert!(reason.contains("it uses 300 MiB of memory together with 710 MiB of other workers"), "{reason}");
    assert!(reason.contains("more than the 1000 MiB that taskmanager.memory.process.size allows"), "{reason}");
    fixture.event(Event::Measured(vec![measured(2, 1001)]));
    assert_eq!(fixture.taken(), [kill(2)]);
}

#[test]
fn a_worker_that_stays_stopped_is_killed() {
    let mut fixture = Fixture::registered(1);
    fixture.deploy(1, 1, &[0]);
    let mut look = |seconds: u64, stopped: bool| {
        fixture.now = START + Duration::from_secs(seconds);
        fixture.event(Event::Measured(vec![Measurement { stopped, ..measured(1, 1) }]));
        fixture.taken()
    };
    for (seconds, stopped) in [(0, true), (49, true), (50, false), (51, true), (100, true)] {
        assert_eq!(look(seconds, stopped), [], "{seconds}");
    }
    assert_eq!(look(101, true), [kill(1)]);
    fixture.ended(1, "was killed by signal 9 (SIGKILL)", &[]);
    let reason = fixture.end_reported();
    assert!(reason.contains("stopped it for 50s (heartbeat.timeout)"), "{reason}");
}

#[test]
fn it_ends_when_it_is_asked_to() {
    let shutdown = |fixture: &mut Fixture| fixture.event(Event::ShutdownRequested { reason: "SIGTERM".into() });
    let told = |fixture: &mut Fixture| fixture.receive(1, ForTaskManager::Shutdown { reason: "SIGTERM".into() });
    for ask in [shutdown as fn(&mut Fixture), told] {
        let mut fixture = Fixture::registered(1);
        fixture.deploy(1, 1, &[0]);
        ask(&mut fixture);
        let leaving = ForJobManager::Leaving { reason: "SIGTERM".into() };
        assert_eq!(
            fixture.taken(),
            [
                Effect::Send { epoch: LeaderEpoch(1), message: leaving },
                kill(1),
                Effect::End(Ending::Asked("SIGTERM".into())),
            ]
        );
        ask(&mut fixture);
        assert_eq!((fixture.taken(), fixture.state.next_deadline()), (vec![], None));
        fixture.ended(1, "was killed by signal 9 (SIGKILL)", &[]);
        assert!(fixture.state.is_empty() && fixture.taken().is_empty());
    }
}

#[test]
fn requests_for_files_and_stacks_are_passed_on() {
    let mut fixture = Fixture::registered(2);
    let request = FileRequest { request: 5, name: "a".into(), offset: 0, limit: 0 };
    fixture.receive(2, ForTaskManager::FileRequest(request.clone()));
    fixture.receive(2, ForTaskManager::StacksRequest { request: 6 });
    let epoch = LeaderEpoch(2);
    assert_eq!(fixture.taken(), [Effect::AnswerFile { epoch, request }, Effect::AnswerStacks { epoch, request: 6 }]);
}

/// What may happen, in any order.
#[derive(Debug, Clone)]
enum Step {
    Connected,
    Lost,
    Registered(u64),
    Start { job: u8, number: u32, slots: Vec<u32> },
    Deploy { job: u8, number: u32 },
    Release { job: u8, number: u32 },
    Kill { job: u8, number: u32 },
    Greeted { worker: u64, hash: u64 },
    Changed(u64),
    Ended(u64),
    Memory(u64),
    Time(u64),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        2 => Just(Step::Connected),
        1 => Just(Step::Lost),
        3 => (1u64..4).prop_map(Step::Registered),
        6 => (0u8..3, 0u32..3, prop::collection::btree_set(0u32..5, 1..3))
            .prop_map(|(job, number, slots)| Step::Start { job, number, slots: slots.into_iter().collect() }),
        4 => (0u8..3, 0u32..3).prop_map(|(job, number)| Step::Deploy { job, number }),
        2 => (0u8..3, 0u32..3).prop_map(|(job, number)| Step::Release { job, number }),
        2 => (0u8..3, 0u32..3).prop_map(|(job, number)| Step::Kill { job, number }),
        5 => (1u64..8, prop_oneof![9 => Just(HASH), 1 => Just(1)]).prop_map(|(worker, hash)| Step::Greeted { worker, hash }),
        3 => (1u64..8).prop_map(Step::Changed),
        3 => (1u64..8).prop_map(Step::Ended),
        1 => (1u64..8).prop_map(Step::Memory),
        3 => (1u64..100_000).prop_map(Step::Time),
    ];
    prop::collection::vec((1u64..4, step), 0..120)
}

/// What is true of every worker, seen from outside.
#[derive(Default)]
struct Ledger {
    /// Started and not ended; whether it was killed.
    living: BTreeMap<u64, bool>,
    highest: u64,
}

impl Ledger {
    fn check(&mut self, effects: &[Effect], state: &TaskManagerState) {
        for effect in effects {
            match effect {
                Effect::StartWorker { worker, .. } => {
                    assert!(state.registered().is_some(), "started without a leader");
                    assert_eq!(self.living.insert(worker.0, false), None, "started twice");
                }
                Effect::KillWorker { worker } => {
                    assert_eq!(self.living.insert(worker.0, true), Some(false), "killed twice, or not there");
                }
                Effect::TellWorker { worker, .. } => assert_eq!(self.living.get(&worker.0), Some(&false)),
                Effect::Send { epoch, message: ForJobManager::Worker(_) } => {
                    assert!(epoch.0 >= self.highest, "told to a former leader");
                }
                _ => {}
            }
        }
        self.highest = self.highest.max(state.registered().map_or(0, |epoch| epoch.0));
        let known: Vec<u64> = state.workers().map(|(key, _)| key.0).collect();
        assert_eq!(known, self.living.keys().copied().collect::<Vec<_>>());
        let mut holders: BTreeMap<u32, JobId> = BTreeMap::new();
        for worker in state.workers.values().filter(|worker| worker.holds_slots()) {
            for slot in &worker.start.slots {
                let job = worker.start.deployment.job;
                assert!(*slot < 4 && holders.insert(*slot, job).is_none_or(|other| other == job), "slot given twice");
            }
        }
        if state.registered().is_none() {
            assert!(self.living.values().all(|killed| *killed), "a worker lives without a leader");
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_the_rules(steps in steps()) {
        let mut fixture = Fixture::new();
        let mut ledger = Ledger::default();
        for (epoch, step) in steps {
            let connection = ConnectionKey(fixture.state.connections);
            match step {
                Step::Connected => fixture.event(Event::Connected(connection)),
                Step::Lost => fixture.event(Event::ConnectionLost { connection, reason: "x".into() }),
                Step::Registered(epoch) => fixture.receive(epoch, ForTaskManager::Registered(TIMING)),
                Step::Start { job, number, slots } => {
                    fixture.receive(epoch, ForTaskManager::StartWorker(start_worker(job, number, &slots)));
                }
                Step::Deploy { job, number } => {
                    let message =
                        ForTaskManager::Deploy { deployment: deployment(job, number), worker: 3, restore: Vec::new(), plan: Bytes::new() };
                    fixture.receive(epoch, message);
                }
                Step::Release { job, number } => {
                    fixture.receive(epoch, ForTaskManager::ReleaseWorker { deployment: deployment(job, number) });
                }
                Step::Kill { job, number } => {
                    let message = ForTaskManager::KillWorker { deployment: deployment(job, number), reason: "k".into() };
                    fixture.receive(epoch, message);
                }
                Step::Greeted { worker, hash } => {
                    fixture.worker(worker, WorkerEvent::Greeted(Greeting { job_graph_hash: hash, ..greeting() }));
                }
                Step::Changed(worker) => {
                    fixture.worker(worker, WorkerEvent::TasksChanged(vec![change(0, ExecutionState::Running)]));
                }
                Step::Ended(worker) => {
                    ledger.living.remove(&worker);
                    fixture.ended(worker, "ended", &[]);
                }
                Step::Memory(worker) => {
                    fixture.event(Event::Measured(vec![measured(worker, 2000)]));
                }
                Step::Time(millis) => {
                    fixture.now += Duration::from_millis(millis);
                    fixture.event(Event::TimePassed);
                }
            }
            let effects = fixture.taken();
            ledger.check(&effects, &fixture.state);
        }
        fixture.event(Event::ShutdownRequested { reason: "end".into() });
        let effects = fixture.taken();
        ledger.check(&effects, &fixture.state);
        prop_assert_eq!(fixture.state.registered(), None);
        prop_assert!(ledger.living.values().all(|killed| *killed));
    }
}
