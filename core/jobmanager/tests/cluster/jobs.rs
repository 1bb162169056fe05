//! Jobs from a request to their end, with TaskManagers that only say what the test wants.

use std::collections::BTreeMap;

use weir_model::{ExecutionState, FromTaskManager, JobId, JobStatus};
use weir_proto::control::ForTaskManager;
use weir_rest::GatewayError;

use crate::harness::{Cluster, FakeTaskManager, processes_from, request, roles_from, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_built_and_nothing_stays() {
    let cluster = Cluster::start(&["parallelism.default=2"]).await;
    let key = cluster.upload().await.key;
    let planned = cluster.gateway.plan(request(&key, "endless", &[])).await.unwrap();
    assert_eq!(planned.graph.name, "endless");
    assert_eq!(planned.graph.vertices.iter().map(|vertex| vertex.parallelism).collect::<Vec<_>>(), [2, 2]);
    let mut wider = request(&key, "endless", &[]);
    wider.parallelism = Some(5);
    wider.configuration = BTreeMap::from([("pipeline.name".to_owned(), "my job".to_owned())]);
    let planned = cluster.gateway.plan(wider).await.unwrap();
    assert_eq!((planned.graph.name.as_str(), planned.graph.vertices[0].parallelism), ("my job", 5));
    let work = cluster.path("work");
    until("no process is left", || async { processes_from(&work).is_empty() }).await;
    assert_eq!(cluster.gateway.jobs().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn builders_that_fail_abort_or_hang_are_explained() {
    let cluster = Cluster::start(&["weir.worker.start-timeout=2 s"]).await;
    let key = cluster.upload().await.key;
    let check = async |job: &str, arguments: &[&str], expect: &[&str]| {
        let error = cluster.run(&key, job, arguments).await.unwrap_err();
        assert!(matches!(error, GatewayError::BadRequest(_)), "{error:?}");
        let text = error.to_string();
        assert!(expect.iter().all(|part| text.contains(part)), "{text}");
    };
    check("refuses", &[], &["the moon is not full"]).await;
    check("aborts", &[], &["signal 6 (SIGABRT)", "about to abort while planning"]).await;
    check("hangs", &[], &["not built within 2s", "weir.worker.start-timeout", "thinking"]).await;
    check("numbers", &["--no-such-argument"], &["--no-such-argument"]).await;
    check("nothing", &[], &["nothing"]).await;
    let work = cluster.path("work");
    until("no process is left", || async { processes_from(&work).is_empty() }).await;
    assert_eq!(cluster.gateway.jobs().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_before_anything_is_started() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let unknown = cluster.run("nothing", "endless", &[]).await.unwrap_err();
    assert!(matches!(unknown, GatewayError::NotFound(_)), "{unknown:?}");
    let mut wrong = request(&key, "endless", &[]);
    wrong.configuration = BTreeMap::from([("pipeline.nam".to_owned(), "x".to_owned())]);
    let wrong = cluster.gateway.run(wrong).await.unwrap_err();
    assert!(matches!(wrong, GatewayError::BadRequest(_)) && wrong.to_string().contains("pipeline.name"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_task_managers_says_why_it_waits_and_can_be_canceled() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let id = cluster.run(&key, "endless", &[]).await.unwrap();
    let view = cluster.job_until(id, "waited", |view| view.waiting.is_some()).await;
    let waiting = view.waiting.as_ref().unwrap();
    assert_eq!((waiting.needed, waiting.granted, waiting.available), (1, 0, 0));
    assert!(!waiting.reasons.is_empty() || waiting.never.is_some(), "{waiting:?}");
    cluster.gateway.cancel(id).await.unwrap();
    let view = cluster.ended(id).await;
    assert_eq!(view.summary.status, JobStatus::Canceled);
    cluster.gateway.cancel(id).await.unwrap();
    let work = cluster.path("work");
    until("no process is left", || async { processes_from(&work).is_empty() }).await;
    let unknown = cluster.gateway.cancel(JobId::from_bytes([7; 16])).await.unwrap_err();
    assert!(matches!(unknown, GatewayError::NotFound(_)), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_a_task_manager_and_its_end_is_remembered() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let mut task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let to = cluster.path("out");
    let id = cluster.run(&key, "numbers", &["--to", to.to_str().unwrap()]).await.unwrap();
    let (deployment, tasks) = task_manager.run_worker().await;
    assert_eq!((deployment.job, deployment.number), (id, 0));
    let view = cluster.running(id).await;
    assert_eq!(view.summary.tasks[ExecutionState::Running as usize] as usize, tasks.len());
    assert_eq!(view.vertices[0][0].host, "127.0.0.1");
    // The job's enumerator answers for its sources.
    task_manager.report(FromTaskManager::SplitRequested { deployment, task: tasks[0] });
    let answer = task_manager.receive().await;
    assert!(matches!(&answer, Some(ForTaskManager::SplitAnswer { task, .. }) if *task == tasks[0]), "{answer:?}");
    for task in tasks {
        task_manager.task_is(deployment, task, ExecutionState::Finished);
    }
    let view = cluster.ended(id).await;
    assert_eq!(view.summary.status, JobStatus::Finished, "{:?}", view.failures);
    let listed = cluster.gateway.jobs().await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&view.summary));
    let conflict = cluster.gateway.cancel(id).await.unwrap_err();
    assert!(matches!(conflict, GatewayError::Conflict(_)), "{conflict:?}");
    let records = cluster.path("work/default/jobmanager/jobs");
    until("its record is gone", || async { std::fs::read_dir(&records).unwrap().count() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_id_is_used_once() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let mut chosen = request(&key, "endless", &[]);
    chosen.job_id = Some(JobId::from_bytes([5; 16]));
    assert_eq!(cluster.gateway.run(chosen.clone()).await.unwrap(), JobId::from_bytes([5; 16]));
    let error = cluster.gateway.run(chosen).await.unwrap_err();
    assert!(matches!(error, GatewayError::Conflict(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_coordinator_fails_a_job_that_does_not_restart() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let mut task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let id = cluster.run(&key, "endless", &[]).await.unwrap();
    let (deployment, tasks) = task_manager.run_worker().await;
    cluster.running(id).await;
    let work = cluster.path("work");
    let [coordinator] = roles_from(&work)[..] else { panic!("one coordinator was expected") };
    // SAFETY: a plain call with plain numbers.
    unsafe { libc::kill(coordinator as i32, libc::SIGKILL) };
    loop {
        match task_manager.receive().await {
            Some(ForTaskManager::CancelTasks { .. }) => {
                tasks.iter().for_each(|task| task_manager.task_is(deployment, *task, ExecutionState::Canceled));
            }
            Some(ForTaskManager::ReleaseWorker { .. } | ForTaskManager::KillWorker { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    let view = cluster.ended(id).await;
    assert_eq!(view.summary.status, JobStatus::Failed);
    let text = view.failures[0].failure.to_string();
    assert!(text.contains("killed by signal 9 (SIGKILL)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_jobs_can_be_submitted_at_once() {
    let cluster = Cluster::start(&["weir.worker.start-timeout=5 min"]).await;
    let key = cluster.upload().await.key;
    let runs = (0..200).map(|_| cluster.run(&key, "endless", &[]));
    let ids = futures_util::future::join_all(runs).await;
    let ids: Vec<JobId> = ids.into_iter().map(|id| id.unwrap()).collect();
    assert_eq!(cluster.gateway.jobs().await.unwrap().len(), 200);
    for id in ids {
        cluster.gateway.cancel(id).await.unwrap();
        cluster.ended(id).await;
    }
    let work = cluster.path("work");
    until("no process is left", || async { processes_from(&work).is_empty() }).await;
}
