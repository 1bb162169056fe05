//! TaskManagers that register, are refused, fall silent, come back, and are asked for files.

use tokio_stream::wrappers::UnboundedReceiverStream;
use weir_model::{ExecutionState, JobStatus, LeaderEpoch, TaskManagerId};
use weir_proto::control::answer_chunk::Content;
use weir_proto::control::{AnswerChunk, FileInfo, FileList, ForJobManager, ForTaskManager, Registration};
use weir_rest::{GatewayError, ProcessRef};

use crate::harness::{Cluster, FakeTaskManager, registration};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_manager_registers_and_leaves() {
    let cluster = Cluster::start(&[]).await;
    let task_manager = FakeTaskManager::register(&cluster, "tm-1", 3).await;
    cluster.until_task_managers(1).await;
    let [view] = &cluster.gateway.task_managers().await.unwrap()[..] else { panic!("one was expected") };
    assert_eq!((view.info.id.as_str(), view.free_slots), ("tm-1", 3));
    assert!(view.last_heartbeat > 0);
    task_manager.send(ForJobManager::Leaving { reason: "SIGTERM".to_owned() });
    cluster.until_task_managers(0).await;
    let gone = cluster.gateway.task_manager(TaskManagerId::new("tm-1")).await.unwrap_err();
    assert!(matches!(gone, GatewayError::NotFound(_)), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_with_a_reason() {
    let cluster = Cluster::start(&["cluster.id=blue"]).await;
    let check = async |registration: Registration, expect: &str| {
        let mut fake = FakeTaskManager::introduce(&cluster, registration).await;
        let answer = fake.receive().await;
        let Some(ForTaskManager::Refused { reason, retry: false }) = &answer else { panic!("{answer:?}") };
        assert!(reason.contains(expect), "{reason}");
        assert_eq!(fake.receive().await, None, "the connection is closed");
    };
    check(Registration { protocol_version: 99, ..registration("x", 1) }, "version 99 of the control protocol").await;
    check(Registration { cluster_id: "green".to_owned(), ..registration("x", 1) }, "\"green\"").await;
    check(registration("x", 0), "no slots").await;
    check(registration("a b", 1), "taskmanager.resource-id").await;
    assert_eq!(cluster.gateway.resources().await.unwrap().task_managers, 0);
    let same = Registration { cluster_id: "blue".to_owned(), ..registration("x", 1) };
    let _task_manager = FakeTaskManager::introduce(&cluster, same).await;
    cluster.until_task_managers(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_another_leader_is_fenced() {
    let cluster = Cluster::start(&[]).await;
    let mut task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let epoch = task_manager.epoch;
    assert!(epoch > LeaderEpoch(0));
    task_manager.epoch = LeaderEpoch(epoch.0 - 1);
    task_manager.send(ForJobManager::Heartbeat { metrics: Default::default() });
    assert_eq!(task_manager.receive().await, Some(ForTaskManager::Fenced { current: epoch }));
    assert_eq!(task_manager.receive().await, None);
    cluster.until_task_managers(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_task_manager_is_lost_and_a_talking_one_is_not() {
    let cluster = Cluster::start(&["heartbeat.timeout=1 s", "heartbeat.interval=100 ms"]).await;
    let mut talking = FakeTaskManager::register(&cluster, "talking", 1).await;
    let mut silent = FakeTaskManager::register(&cluster, "silent", 1).await;
    cluster.until_task_managers(2).await;
    let talk = async {
        loop {
            talking.send(ForJobManager::Heartbeat { metrics: [("Status.JVM.CPU.Load".to_owned(), 0.5)].into() });
            assert_eq!(talking.receive().await, Some(ForTaskManager::HeartbeatAnswer));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let watch = async {
        assert_eq!(silent.receive().await, None, "its connection is cut");
        cluster.until_task_managers(1).await;
        let [view] = &cluster.gateway.task_managers().await.unwrap()[..] else { panic!("one was expected") };
        assert_eq!(view.info.id.as_str(), "talking");
        assert_eq!(view.metrics["Status.JVM.CPU.Load"], 0.5);
    };
    tokio::select! {
        () = talk => {}
        () = watch => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_task_manager_fails_its_tasks_at_once() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let mut task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let id = cluster.run(&key, "endless", &[]).await.unwrap();
    task_manager.run_worker().await;
    cluster.running(id).await;
    drop(task_manager);
    let view = cluster.ended(id).await;
    assert_eq!(view.summary.status, JobStatus::Failed);
    let failure = &view.failures[0];
    assert!(failure.failure.to_string().contains("tm-1"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_restarts_on_a_standby() {
    let cluster =
        Cluster::start(&["restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.delay=10 ms"]).await;
    let key = cluster.upload().await.key;
    let mut first = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let id = cluster.run(&key, "endless", &[]).await.unwrap();
    first.run_worker().await;
    cluster.running(id).await;
    let mut standby = FakeTaskManager::register(&cluster, "tm-2", 1).await;
    drop(first);
    let (deployment, _) = standby.run_worker().await;
    assert_eq!(deployment.number, 1);
    let view = cluster.running(id).await;
    assert_eq!(view.restarts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_of_the_same_name_takes_the_place_of_the_old_one_when_that_is_silent() {
    let cluster = Cluster::start(&["heartbeat.interval=1 s", "heartbeat.timeout=4 s"]).await;
    let mut old = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let mut again = registration("tm-1", 4);
    again.info.incarnation = 2;
    let mut new = FakeTaskManager::introduce(&cluster, again.clone()).await;
    let answer = new.receive().await;
    let Some(ForTaskManager::Refused { reason, retry: true }) = &answer else { panic!("{answer:?}") };
    assert!(reason.contains("another TaskManager of the name \"tm-1\""), "{reason}");
    assert_eq!(cluster.gateway.resources().await.unwrap().slots_total, 1, "the first one stays");
    assert_eq!(old.receive().await, None, "its connection is cut when it is silent");
    let mut new = FakeTaskManager::introduce(&cluster, again).await;
    assert!(matches!(new.receive().await, Some(ForTaskManager::Registered(_))));
    // What the old one still says harms nobody.
    old.send(ForJobManager::Leaving { reason: "cut".to_owned() });
    new.send(ForJobManager::Heartbeat { metrics: Default::default() });
    assert_eq!(new.receive().await, Some(ForTaskManager::HeartbeatAnswer));
    let resources = cluster.gateway.resources().await.unwrap();
    assert_eq!((resources.task_managers, resources.slots_total), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_workers_nobody_knows_are_ignored() {
    let cluster = Cluster::start(&[]).await;
    let mut task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let deployment = weir_model::DeploymentId { job: weir_model::JobId::from_bytes([3; 16]), number: 7 };
    task_manager.task_is(deployment, weir_model::TaskId { vertex: 0, subtask: 0 }, ExecutionState::Running);
    task_manager.send(ForJobManager::Heartbeat { metrics: Default::default() });
    assert_eq!(task_manager.receive().await, Some(ForTaskManager::HeartbeatAnswer));
}

async fn answer(task_manager: &mut FakeTaskManager, request: u64, contents: Vec<Content>) {
    let epoch = task_manager.epoch.0;
    let chunks = contents.into_iter().map(move |content| AnswerChunk {
        epoch,
        task_manager: "tm-1".to_owned(),
        request,
        content: Some(content),
    });
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    chunks.for_each(|chunk| sender.send(chunk).unwrap());
    drop(sender);
    task_manager.client.answer(UnboundedReceiverStream::new(receiver)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_task_manager_come_over_its_connection() {
    use futures_util::StreamExt;
    let cluster = Cluster::start(&[]).await;
    let mut task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let of = ProcessRef::TaskManager(TaskManagerId::new("tm-1"));
    let asked = async {
        let Some(ForTaskManager::FileRequest(list)) = task_manager.receive().await else { panic!("no request") };
        assert_eq!(list.name, "");
        let files = vec![FileInfo { name: "a.log".to_owned(), size: 6, modified: 1 }];
        answer(&mut task_manager, list.request, vec![Content::Files(FileList { files })]).await;
        let Some(ForTaskManager::FileRequest(file)) = task_manager.receive().await else { panic!("no request") };
        assert_eq!(file.name, "a.log");
        let parts = [&b"abc"[..], b"def"].map(|part| Content::Data(part.to_vec().into()));
        answer(&mut task_manager, file.request, parts.into()).await;
        let Some(ForTaskManager::FileRequest(file)) = task_manager.receive().await else { panic!("no request") };
        let missing = weir_proto::control::Failure { message: "no such file".to_owned(), not_found: true };
        answer(&mut task_manager, file.request, vec![Content::Failure(missing)]).await;
    };
    let asks = async {
        let list = cluster.gateway.files(of.clone()).await.unwrap();
        assert_eq!((list[0].name.as_str(), list[0].size), ("a.log", 6));
        let body = cluster.gateway.file(of.clone(), "a.log".to_owned()).await.unwrap();
        let parts: Vec<_> = body.content.map(|part| part.unwrap()).collect().await;
        assert_eq!(parts.concat(), b"abcdef");
        let missing = cluster.gateway.file(of.clone(), "b.log".to_owned()).await.unwrap_err();
        assert!(matches!(missing, GatewayError::NotFound(_)), "{missing:?}");
    };
    tokio::join!(asked, asks);
    let nobody = ProcessRef::TaskManager(TaskManagerId::new("nobody"));
    assert!(matches!(cluster.gateway.files(nobody).await, Err(GatewayError::NotFound(_))));
}
