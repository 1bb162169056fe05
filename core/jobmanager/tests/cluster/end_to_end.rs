//! Real jobs on real TaskManagers: everything but the processes' boundaries.

use std::collections::BTreeSet;
use std::path::Path;

use weir_model::JobStatus;
use weir_taskmanager::{TaskManager, TaskManagerOptions};

use crate::harness::{Cluster, processes_from, request, until};

/// A TaskManager in this process; its workers are processes of their own.
fn task_manager(cluster: &Cluster, name: &str, slots: u32) -> TaskManager {
    let address = cluster.job_manager.rpc_address().to_string();
    let mut options = TaskManagerOptions::new(address, cluster.path("work").join(name), cluster.path(name).join("log"));
    options.id = Some(name.to_owned());
    options.slots = slots;
    TaskManager::start(options).unwrap()
}

/// The numbers in all visible files of a folder.
fn numbers_in(folder: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_str().is_some_and(|name| !name.starts_with('.')) && entry.path().is_file() {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            numbers.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
        }
    }
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_over_two_task_managers_and_its_output_is_whole() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let _task_managers = [task_manager(&cluster, "tm-1", 2), task_manager(&cluster, "tm-2", 2)];
    cluster.until_task_managers(2).await;
    let to = cluster.path("out");
    let mut wanted = request(&key, "numbers", &["--to", to.to_str().unwrap(), "--count", "10000"]);
    wanted.parallelism = Some(4);
    let id = cluster.gateway.run(wanted).await.unwrap();
    let view = cluster.ended(id).await;
    assert_eq!(view.summary.status, JobStatus::Finished, "{:#?}", view.failures);
    let used: BTreeSet<_> = view.vertices.iter().flatten().flat_map(|subtask| subtask.task_manager.clone()).collect();
    assert_eq!(used.len(), 2, "spread over both: {used:?}");
    assert_eq!(numbers_in(&to), (0..10_000).collect::<Vec<_>>());
    let sent: u64 = view.vertices[0].iter().map(|subtask| subtask.metrics.records_out).sum();
    assert_eq!(sent, 10_000);
    let resources = cluster.gateway.resources().await.unwrap();
    assert_eq!((resources.slots_total, resources.slots_available), (4, 4));
    let work = cluster.path("work");
    until("no process is left", || async { processes_from(&work).is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_canceled() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    let _task_manager = task_manager(&cluster, "tm-1", 1);
    let id = cluster.run(&key, "endless", &[]).await.unwrap();
    cluster.running(id).await;
    cluster.gateway.cancel(id).await.unwrap();
    assert_eq!(cluster.ended(id).await.summary.status, JobStatus::Canceled);
    let work = cluster.path("work");
    until("no process is left", || async { processes_from(&work).is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_says_where_and_why() {
    let cluster =
        Cluster::start(&["restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.delay=10 ms"]).await;
    let key = cluster.upload().await.key;
    let _task_manager = task_manager(&cluster, "tm-1", 1);
    let id = cluster.run(&key, "fails", &[]).await.unwrap();
    let view = cluster.ended(id).await;
    assert_eq!((view.summary.status, view.restarts), (JobStatus::Failed, 1));
    assert_eq!(view.failures.len(), 2);
    for failure in &view.failures {
        let text = failure.failure.to_string();
        assert!(text.contains("no fish in record 20"), "{text}");
        assert_eq!(failure.task_manager.as_ref().map(|id| id.as_str()), Some("tm-1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_manager_moves_its_job_to_a_standby() {
    let cluster =
        Cluster::start(&["restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.delay=10 ms"]).await;
    let key = cluster.upload().await.key;
    let first = task_manager(&cluster, "tm-1", 1);
    let id = cluster.run(&key, "endless", &[]).await.unwrap();
    cluster.running(id).await;
    let _standby = task_manager(&cluster, "tm-2", 1);
    cluster.until_task_managers(2).await;
    tokio::task::spawn_blocking(|| drop(first)).await.unwrap();
    let moved = |view: &weir_model::JobView| view.restarts == 1;
    cluster.job_until(id, "restarted", moved).await;
    let view = cluster.running(id).await;
    assert_eq!(view.vertices[0][0].task_manager.as_ref().map(|id| id.as_str()), Some("tm-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_threads_of_a_task_manager_are_served() {
    use futures_util::StreamExt;
    use weir_model::TaskManagerId;
    use weir_rest::ProcessRef;
    let cluster = Cluster::start(&[]).await;
    let _task_manager = task_manager(&cluster, "tm-1", 1);
    cluster.until_task_managers(1).await;
    std::fs::write(cluster.path("tm-1/log/x.log"), "hello").unwrap();
    let of = ProcessRef::TaskManager(TaskManagerId::new("tm-1"));
    let files = cluster.gateway.files(of.clone()).await.unwrap();
    assert!(files.iter().any(|file| file.name == "x.log" && file.size == 5), "{files:?}");
    let body = cluster.gateway.file(of.clone(), "x.log".to_owned()).await.unwrap();
    let parts: Vec<_> = body.content.map(|part| part.unwrap()).collect().await;
    assert_eq!(parts.concat(), b"hello");
    assert!(cluster.gateway.file(of.clone(), "../../work".to_owned()).await.is_err());
    assert!(!cluster.gateway.stacks(of).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_a_secret_takes_only_task_managers_that_know_it() {
    use std::time::Duration;
    use weir_jobmanager::JobManager;
    use weir_taskmanager::Token;
    let cluster = Cluster::start(&["security.internal.token=0123456789abcdef"]).await;
    let options = |name: &str, token: Option<&str>| TaskManagerOptions {
        id: Some(name.to_owned()),
        internal_token: token.map(Token::new),
        registration_timeout: Some(Duration::from_secs(1)),
        ..TaskManagerOptions::new(
            cluster.job_manager.rpc_address().to_string(),
            cluster.path(name).join("work"),
            cluster.path(name).join("log"),
        )
    };
    for (token, expect) in [(None, "asks TaskManagers for a token"), (Some("0123456789abcdeF"), "is not that of")] {
        let stranger = TaskManager::start(options("stranger", token)).unwrap();
        stranger.ended().await;
        let error = stranger.join().unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains("security.internal.token"), "{error}");
    }
    let _known = TaskManager::start(options("known", Some("0123456789abcdef"))).unwrap();
    cluster.until_task_managers(1).await;

    let folder = tempfile::tempdir().unwrap();
    let open = crate::harness::options(folder.path(), &["jobmanager.bind-host=0.0.0.0"]);
    let error = JobManager::start(open).await.unwrap_err().to_string();
    assert!(error.contains("`jobmanager.bind-host`") && error.contains("`security.internal.token`"), "{error}");
}
