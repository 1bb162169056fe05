//! Jobs of many tasks, and many TaskManagers, as far as the JobManager is concerned: the TaskManagers only say that all is well.

use futures_util::future::join_all;
use weir_model::{ExecutionState, FromTaskManager, TaskChange};
use weir_proto::control::{ForJobManager, ForTaskManager};

use crate::harness::{Cluster, FakeTaskManager, request, tasks_of};

/// Changes in one message, as a TaskManager gathers them.
const BATCH: usize = 500;

/// Starts what it is told to start and lets all tasks run; returns how many.
async fn run_all(task_manager: &mut FakeTaskManager) -> usize {
    let Some(ForTaskManager::StartWorker(start)) = task_manager.receive().await else { panic!("no worker") };
    let deployment = start.deployment;
    let data_address = "127.0.0.1:1".parse().unwrap();
    task_manager.report(FromTaskManager::WorkerReady { deployment, data_address, pid: 1 });
    let Some(ForTaskManager::Deploy { worker, plan, .. }) = task_manager.receive().await else {
        panic!("no deployment")
    };
    let tasks = tasks_of(&plan, worker);
    for state in [ExecutionState::Initializing, ExecutionState::Running] {
        for batch in tasks.chunks(BATCH) {
            let change = |task| TaskChange { task, state, failure: None, committables: Vec::new() };
            let changes = batch.iter().map(|task| change(*task)).collect();
            task_manager.report(FromTaskManager::TasksChanged { deployment, changes });
        }
    }
    tasks.len()
}

/// Deploys two vertices of `parallelism` subtasks, all connected with all, and waits until all run.
async fn deploy(parallelism: u32, task_managers: u32) {
    let cluster = Cluster::start(&["slot.request.timeout=5 min", "weir.worker.start-timeout=5 min"]).await;
    let key = cluster.upload().await.key;
    let register = (0..task_managers).map(|number| {
        let (cluster, name) = (&cluster, format!("tm-{number}"));
        async move { FakeTaskManager::register(cluster, &name, parallelism.div_ceil(task_managers)).await }
    });
    let mut fakes = join_all(register).await;
    cluster.until_task_managers(task_managers).await;
    let mut wanted = request(&key, "endless", &[]);
    wanted.parallelism = Some(parallelism);
    let id = cluster.gateway.run(wanted).await.unwrap();
    let tasks: usize = join_all(fakes.iter_mut().map(run_all)).await.into_iter().sum();
    assert_eq!(tasks as u32, 2 * parallelism);
    let all_run = |view: &weir_model::JobView| view.summary.tasks[ExecutionState::Running as usize] == 2 * parallelism;
    cluster.job_until(id, "ran", all_run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_thousand_tasks_runs_on_ten_task_managers() {
    deploy(500, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_task_managers_are_heard() {
    const COUNT: u32 = 400;
    let cluster = Cluster::start(&["heartbeat.timeout=60 s"]).await;
    let register = (0..COUNT).map(|number| {
        let (cluster, name) = (&cluster, format!("tm-{number}"));
        async move { FakeTaskManager::register(cluster, &name, 1).await }
    });
    let mut fakes = join_all(register).await;
    cluster.until_task_managers(COUNT).await;
    let beats = fakes.iter_mut().map(|fake| async {
        fake.send(ForJobManager::Heartbeat { metrics: Default::default() });
        assert_eq!(fake.receive().await, Some(ForTaskManager::HeartbeatAnswer));
    });
    join_all(beats).await;
    assert_eq!(cluster.gateway.resources().await.unwrap().slots_total, COUNT);
}
