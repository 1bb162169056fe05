//! Start, end and restart of the JobManager.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_jobmanager::{JobManager, JobManagerError};
use weir_model::JobStatus;
use weir_proto::control::ForTaskManager;
use weir_provider_api::{
    Description, EventSink, OpenError, OpenRequest, Provider, ProviderEvent, ProviderFactory, ProviderRequest,
};
use weir_rest::ProcessRef;

use crate::harness::{
    Cluster, FakeTaskManager, example, executable, options, processes_from, registration, roles_from, until,
};

async fn http(cluster: &Cluster, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.job_manager.rest_address()).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_api_answers_and_shuts_the_cluster_down() {
    let cluster = Cluster::start(&[]).await;
    let overview = http(&cluster, "GET", "/v1/overview").await;
    assert!(overview.starts_with("HTTP/1.1 200") && overview.contains("\"taskmanagers\":0"), "{overview}");
    let mut task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    let answer = http(&cluster, "DELETE", "/v1/cluster").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    cluster.job_manager.wait().await.unwrap();
    while let Some(message) = task_manager.receive().await {
        assert!(matches!(message, ForTaskManager::Shutdown { .. }), "{message:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_in_use_are_named_with_the_option_to_change() {
    let cluster = Cluster::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let check = async |setting: String, expect: &[&str]| {
        let error = JobManager::start(options(folder.path(), &[&setting])).await.unwrap_err().to_string();
        assert!(expect.iter().all(|part| error.contains(part)), "{error}");
    };
    let rest = cluster.job_manager.rest_address().port();
    check(format!("rest.port={rest}"), &[&rest.to_string(), "in use", "`rest.port`"]).await;
    let rpc = cluster.job_manager.rpc_address();
    check(format!("jobmanager.rpc.port={}", rpc.port()), &[&rpc.to_string(), "in use", "`jobmanager.rpc.port`"]).await;
    check("jobmanager.bind-host=no.such.host.invalid".to_owned(), &["no.such.host", "`jobmanager.bind-host`"]).await;
    check("process.working-dir=/proc/nothing".to_owned(), &["/proc/nothing", "process.working-dir"]).await;
    check("weir.artifacts.dir=hdfs://names/x".to_owned(), &["hdfs://", "weir.artifacts.dir"]).await;
    check("resourcemanager.providers=nobody".to_owned(), &["\"nobody\"", "resourcemanager.providers"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_job_managers_do_not_share_a_cluster_and_two_clusters_share_a_machine() {
    let cluster = Cluster::start(&[]).await;
    let error = JobManager::start(options(cluster.folder.path(), &[])).await.unwrap_err();
    assert!(matches!(error, JobManagerError::AlreadyRuns { .. }), "{error}");
    let other = Cluster::start_in(cluster.folder.clone(), &["cluster.id=other"]).await;
    let _task_manager = FakeTaskManager::register(&other, "tm-1", 1).await;
    other.until_task_managers(1).await;
    cluster.until_task_managers(0).await;
}

/// A process that does not outlive the test, however that ends.
struct KilledWhenDropped(Child);

impl Drop for KilledWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Without high availability: what ran is reported as lost, what was uploaded is there, and the leader is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_a_kill_loses_jobs_and_keeps_uploads() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mut command = std::process::Command::new(example("jobmanager-alone"));
    command.arg(folder.path()).arg(executable()).stdout(Stdio::piped());
    let mut process = KilledWhenDropped(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let [address, key, id] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line:?}") };
    let mut task_manager = FakeTaskManager::introduce_to(address.parse().unwrap(), registration("fake", 1)).await;
    assert!(matches!(task_manager.receive().await, Some(ForTaskManager::Registered(_))));
    let epoch = task_manager.epoch;
    until("there are coordinator and worker", || async { roles_from(folder.path()).len() == 2 }).await;
    drop(process);
    until("coordinator and worker are gone", || async { processes_from(folder.path()).is_empty() }).await;
    assert_eq!(task_manager.receive().await, None);

    let cluster = Cluster::start_in(folder.clone(), &[]).await;
    let view = cluster.ended(id.parse().unwrap()).await;
    assert_eq!(view.summary.status, JobStatus::Failed);
    let text = view.failures[0].failure.to_string();
    assert!(text.contains("restarted without high availability"), "{text}");
    let task_manager = FakeTaskManager::register(&cluster, "tm-1", 1).await;
    assert!(task_manager.epoch > epoch);
    let id = cluster.run(key, "endless", &[]).await.unwrap();
    cluster.gateway.cancel(id).await.unwrap();
    assert_eq!(cluster.ended(id).await.summary.status, JobStatus::Canceled);
    cluster.job_manager.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_cancels_jobs_and_leaves_no_process() {
    let cluster = Cluster::start(&[]).await;
    let key = cluster.upload().await.key;
    cluster.run(&key, "endless", &[]).await.unwrap();
    let work = cluster.path("work");
    // A guardian is one only once it has its name.
    until("the coordinator is alone", || async { roles_from(&work).len() == 1 }).await;
    cluster.job_manager.shut_down().await.unwrap();
    assert_eq!(roles_from(&work), [0; 0]);
    until("no guardian is left", || async { processes_from(&work).is_empty() }).await;
    let records = cluster.path("work/default/jobmanager/jobs");
    assert_eq!(std::fs::read_dir(records).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_own_files_are_served() {
    let cluster = Cluster::start(&[]).await;
    let _task_manager = FakeTaskManager::register(&cluster, "tm-1", 2).await;
    cluster.until_task_managers(1).await;
    let metrics = cluster.gateway.job_manager_metrics().await.unwrap();
    assert_eq!(metrics["taskSlotsTotal"], 2.0);
    let text = cluster.gateway.prometheus().await.unwrap();
    assert!(text.contains("flink_jobmanager_numRegisteredTaskManagers"), "{text}");
    std::fs::write(cluster.path("work/default/jobmanager/log/x.log"), "hello").unwrap();
    let files = cluster.gateway.files(ProcessRef::JobManager).await.unwrap();
    assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["x.log"]);
    let log = http(&cluster, "GET", "/jobmanager/logs/x.log").await;
    assert!(log.ends_with("hello"), "{log}");
    let threads = cluster.gateway.stacks(ProcessRef::JobManager).await.unwrap();
    assert!(threads.iter().any(|thread| thread.text.contains("state:")));
}

/// A provider that starts nothing and remembers what it was asked for.
#[derive(Clone, Default)]
struct Remembering {
    requests: Arc<Mutex<Vec<ProviderRequest>>>,
    events: Arc<Mutex<Option<EventSink>>>,
}

impl ProviderFactory for Remembering {
    fn describe(&self) -> Description {
        Description { name: "remembering".to_owned(), ..Description::default() }
    }

    fn open(&self, _: OpenRequest, events: EventSink) -> Result<Box<dyn Provider>, OpenError> {
        *self.events.lock().unwrap() = Some(events);
        Ok(Box::new(self.clone()))
    }
}

impl Provider for Remembering {
    fn request(&mut self, request: ProviderRequest) {
        let answer = match &request {
            ProviderRequest::RecoverWorkers => Some(ProviderEvent::Recovered(Vec::new())),
            ProviderRequest::Shutdown { .. } => Some(ProviderEvent::Closed),
            _ => None,
        };
        self.requests.lock().unwrap().push(request);
        if let Some(answer) = answer {
            let events = self.events.lock().unwrap().clone().unwrap();
            events(answer);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_asked_for_task_managers_and_told_of_the_end() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let provider = Remembering::default();
    let settings =
        ["resourcemanager.providers=remembering", "taskmanager.numberOfTaskSlots=2", "parallelism.default=3"];
    let mut options = options(folder.path(), &settings);
    options.built_in_providers.insert("remembering".to_owned(), Arc::new(provider.clone()));
    options.task_manager_command = vec!["/bin/weir".to_owned(), "taskmanager".to_owned()];
    let cluster = Cluster::start_with(folder, options).await;
    let key = cluster.upload().await.key;
    let id = cluster.run(&key, "endless", &[]).await.unwrap();
    let specs = || {
        let requests = provider.requests.lock().unwrap().clone();
        let specs = requests.into_iter().filter_map(|request| match request {
            ProviderRequest::StartWorker(spec) => Some(spec),
            _ => None,
        });
        specs.collect::<Vec<_>>()
    };
    until("two are asked for", || async { specs().len() == 2 }).await;
    let spec = &specs()[0];
    let port = cluster.job_manager.rpc_address().port();
    assert_eq!(spec.command[..2], ["/bin/weir", "taskmanager"]);
    for setting in [
        format!("jobmanager.rpc.port={port}"),
        "taskmanager.numberOfTaskSlots=2".to_owned(),
        "cluster.id=default".to_owned(),
        format!("taskmanager.resource-id={}", spec.id),
    ] {
        assert!(spec.command.contains(&setting), "{setting} in {:?}", spec.command);
    }
    let mut task_managers = Vec::new();
    for spec in specs() {
        let mut fake = FakeTaskManager::introduce(&cluster, registration(spec.id.as_str(), 2)).await;
        assert!(matches!(fake.receive().await, Some(ForTaskManager::Registered(_))));
        task_managers.push(fake);
    }
    for fake in &mut task_managers {
        let start = fake.receive().await;
        assert!(matches!(start, Some(ForTaskManager::StartWorker(_))), "{start:?}");
    }
    let views = cluster.gateway.task_managers().await.unwrap();
    assert!(views.iter().all(|view| view.provider.as_deref() == Some("remembering")), "{views:?}");
    cluster.gateway.cancel(id).await.unwrap();
    cluster.job_manager.shut_down().await.unwrap();
    let last = provider.requests.lock().unwrap().last().cloned();
    assert!(matches!(last, Some(ProviderRequest::Shutdown { stop_workers: true, .. })), "{last:?}");
}
