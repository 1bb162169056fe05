use std::num::NonZeroU32;

use proptest::prelude::*;
use weir_model::{FailureKind, Partitioner, TaskFailure};

use super::*;
use crate::testing::{chain, task};
use crate::{JobReport, WorkerTasks, place};

mod any_order;
mod rescaling;
mod restarts;

const TIMEOUT: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::from_secs(1000);

/// Two vertices of two subtasks on two workers; subtask i of each runs on worker i.
fn scheduler() -> JobScheduler {
    scheduler_of(Partitioner::Hash, RestartStrategy::None)
}

fn scheduler_of(partitioner: Partitioner, restart_strategy: RestartStrategy) -> JobScheduler {
    let graph = ExecutionGraph::new(&chain(&[2, 2], partitioner)).unwrap();
    let options =
        SchedulerOptions { cancellation_timeout: Some(TIMEOUT), restart_strategy, ..SchedulerOptions::default() };
    JobScheduler::new(graph, options)
}

/// Places a deployment: subtask i of each vertex on worker i.
fn placed(scheduler: &JobScheduler, deployment: u32) -> Event {
    Event::Placed { deployment, placement: place(scheduler.graph(), NonZeroU32::new(2).unwrap()) }
}

fn started() -> JobScheduler {
    let mut scheduler = scheduler();
    start(&mut scheduler);
    scheduler
}

fn start(scheduler: &mut JobScheduler) {
    scheduler.on_event(Event::Start, NOW);
    scheduler.on_event(placed(scheduler, 0), NOW);
}

fn running() -> JobScheduler {
    let mut scheduler = started();
    run(&mut scheduler, 0, all());
    assert_eq!(scheduler.count(ExecutionState::Running), 4);
    scheduler
}

fn run(scheduler: &mut JobScheduler, deployment: u32, tasks: impl IntoIterator<Item = TaskId>) {
    for task in tasks {
        scheduler.on_event(Event::TaskInitializing { deployment, task }, NOW);
        scheduler.on_event(Event::TaskRunning { deployment, task }, NOW);
    }
}

fn finished(task: TaskId) -> Event {
    Event::TaskFinished { deployment: 0, task }
}

fn canceled(task: TaskId) -> Event {
    Event::TaskCanceled { deployment: 0, task }
}

fn runs(task: TaskId) -> Event {
    Event::TaskRunning { deployment: 0, task }
}

fn initializes(task: TaskId) -> Event {
    Event::TaskInitializing { deployment: 0, task }
}

fn lost(deployment: u32, worker: u32) -> Event {
    lost_to(Blame::Job, deployment, worker)
}

fn lost_to(blame: Blame, deployment: u32, worker: u32) -> Event {
    let (name, reason) = (format!("worker {worker}"), "killed by signal 9".to_owned());
    Event::WorkerLost { deployment, worker, name, reason, blame }
}

fn all() -> [TaskId; 4] {
    [task(0, 0), task(0, 1), task(1, 0), task(1, 1)]
}

fn panic_of(task: TaskId) -> Event {
    Event::TaskFailed { deployment: 0, task, failure: boom() }
}

fn boom() -> TaskFailure {
    TaskFailure::new(FailureKind::Panic, "boom")
}

fn changed(from: JobStatus, to: JobStatus) -> Effect {
    Effect::JobStatusChanged { from, to }
}

fn on(worker: u32, tasks: &[TaskId]) -> WorkerTasks {
    WorkerTasks { deployment: 0, worker, tasks: tasks.to_vec() }
}

/// Sends the events and returns the report of the job's end, which the last of them must bring.
fn end(scheduler: &mut JobScheduler, events: impl IntoIterator<Item = Event>) -> JobReport {
    let effects: Vec<_> = events.into_iter().flat_map(|event| scheduler.on_event(event, NOW)).collect();
    match effects.last() {
        Some(Effect::JobEnded(report)) => {
            assert_eq!(report.status, scheduler.status());
            let discards = effects.iter().filter(|effect| **effect == Effect::DiscardOutput).count();
            assert_eq!(discards, usize::from(report.status != JobStatus::Finished));
            report.clone()
        }
        other => panic!("the job has not ended, but {other:?}"),
    }
}

#[test]
fn start_deploys_every_task_once() {
    let mut scheduler = scheduler();
    let expect =
        [changed(JobStatus::Created, JobStatus::Running), Effect::Schedule { deployment: 0, tasks: all().to_vec() }];
    assert_eq!(scheduler.on_event(Event::Start, NOW), expect);
    assert_eq!(scheduler.on_event(Event::Start, NOW), []);
    assert_eq!(scheduler.count(ExecutionState::Scheduled), 4);
    let expect = [Effect::Deploy(vec![on(0, &[task(0, 0), task(1, 0)]), on(1, &[task(0, 1), task(1, 1)])])];
    let place = placed(&scheduler, 0);
    assert_eq!(scheduler.on_event(place.clone(), NOW), expect);
    assert_eq!(scheduler.on_event(place, NOW), []);
    assert_eq!(scheduler.count(ExecutionState::Deploying), 4);
}

#[test]
fn a_job_finishes_when_all_tasks_have_and_the_commit_is_done() {
    let mut scheduler = running();
    for task in &all()[..3] {
        assert_eq!(scheduler.on_event(finished(*task), NOW), []);
    }
    assert_eq!(scheduler.on_event(finished(all()[3]), NOW), [Effect::Commit]);
    assert_eq!(scheduler.status(), JobStatus::Running);
    // Neither may tear the output apart now; but the wish to cancel limits how long that may take.
    let limit = Effect::ScheduleTimer { generation: 1, at: NOW + TIMEOUT };
    assert_eq!(scheduler.on_event(Event::CancelRequested, NOW), [limit]);
    assert_eq!(scheduler.on_event(lost(0, 0), NOW), []);
    let report = end(&mut scheduler, [Event::CommitDone(Ok(()))]);
    assert_eq!((report.status, report.failures.len(), report.started), (JobStatus::Finished, 0, Some(NOW)));
}

#[test]
fn a_fast_task_may_report_the_end_first() {
    let mut scheduler = started();
    scheduler.on_event(finished(task(0, 0)), NOW);
    assert_eq!(scheduler.state_of(task(0, 0)), ExecutionState::Finished);
    // Late and double messages change nothing.
    for event in [runs(task(0, 0)), finished(task(0, 0)), panic_of(task(0, 0))] {
        assert_eq!(scheduler.on_event(event, NOW), []);
    }
    scheduler.on_event(runs(task(0, 1)), NOW);
    scheduler.on_event(initializes(task(0, 1)), NOW);
    assert_eq!(scheduler.state_of(task(0, 1)), ExecutionState::Running);
}

#[test]
fn a_failed_commit_fails_the_job() {
    let mut scheduler = running();
    let failure = TaskFailure::new(FailureKind::Sink, "disk full");
    let events = all().map(finished).into_iter().chain([Event::CommitDone(Err(failure.clone()))]);
    let report = end(&mut scheduler, events);
    assert_eq!(report.status, JobStatus::Failed);
    assert_eq!(report.root_cause().unwrap().failure, failure);
}

#[test]
fn the_first_failure_cancels_the_others_and_later_ones_are_kept() {
    let mut scheduler = running();
    let effects = scheduler.on_event(panic_of(task(1, 1)), NOW);
    let record = scheduler.failures()[0].clone();
    let expect = [
        Effect::FailureRecorded { first: true, record },
        changed(JobStatus::Running, JobStatus::Failing),
        Effect::CancelTasks(vec![on(0, &[task(0, 0), task(1, 0)]), on(1, &[task(0, 1)])]),
        Effect::ScheduleTimer { generation: 1, at: NOW + TIMEOUT },
    ];
    assert_eq!(effects, expect);
    let events = [panic_of(task(0, 0)), finished(task(0, 1)), canceled(task(1, 0))];
    let report = end(&mut scheduler, events);
    assert_eq!(report.status, JobStatus::Failed);
    assert_eq!(scheduler.state_of(task(0, 1)), ExecutionState::Canceled);
    let names: Vec<_> = report.failures.iter().map(|record| record.task_name.clone().unwrap()).collect();
    assert_eq!(names, ["V1 (2/2)", "V0 (1/2)"]);
    assert_eq!(report.failures[0].worker, Some(1));
}

#[test]
fn cancel_stops_all_tasks() {
    let mut scheduler = running();
    scheduler.on_event(Event::CancelRequested, NOW);
    assert_eq!(scheduler.status(), JobStatus::Cancelling);
    assert_eq!(scheduler.on_event(Event::CancelRequested, NOW), []);
    let report = end(&mut scheduler, all().map(canceled));
    assert_eq!((report.status, report.stuck_tasks.len()), (JobStatus::Canceled, 0));
    // Nothing wakes it up again.
    for event in [Event::Start, Event::CancelRequested, panic_of(task(0, 0)), Event::CommitDone(Ok(()))] {
        assert_eq!(scheduler.on_event(event, NOW), []);
    }
}

#[test]
fn a_job_canceled_before_its_start_ends_at_once() {
    let report = end(&mut scheduler(), [Event::CancelRequested]);
    assert_eq!((report.status, report.started), (JobStatus::Canceled, None));
}

#[test]
fn canceling_a_failing_job_names_the_end_and_keeps_the_failure() {
    let mut scheduler = running();
    scheduler.on_event(panic_of(task(0, 0)), NOW);
    let cancel = scheduler.on_event(Event::CancelRequested, NOW);
    assert_eq!(cancel, [changed(JobStatus::Failing, JobStatus::Cancelling)]);
    let report = end(&mut scheduler, all().map(canceled));
    assert_eq!((report.status, report.failures.len()), (JobStatus::Canceled, 1));
}

#[test]
fn tasks_that_do_not_stop_are_named_and_the_job_ends_anyway() {
    let mut scheduler = running();
    scheduler.on_event(Event::CancelRequested, NOW);
    scheduler.on_event(canceled(task(0, 0)), NOW);
    scheduler.on_event(canceled(task(1, 1)), NOW);
    assert_eq!(scheduler.on_event(Event::Timer { generation: 0 }, NOW), []);
    let effects = scheduler.on_event(Event::Timer { generation: 1 }, NOW);
    assert_eq!(effects[0], Effect::KillWorkers(vec![on(0, &[task(1, 0)]), on(1, &[task(0, 1)])]));
    let Some(Effect::JobEnded(report)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(report.status, JobStatus::Canceled);
    assert_eq!(report.stuck_tasks, ["V0 (2/2)", "V1 (1/2)"]);
}

#[test]
fn a_lost_worker_fails_the_job_with_one_failure() {
    let mut scheduler = running();
    scheduler.on_event(finished(task(0, 1)), NOW);
    let effects = scheduler.on_event(lost(0, 0), NOW);
    assert_eq!(effects[2], Effect::CancelTasks(vec![on(1, &[task(1, 1)])]));
    let record = &scheduler.failures()[0];
    assert_eq!(record.failure.kind, FailureKind::Worker);
    let expect = "worker 0, which ran this task and another one, was lost: killed by signal 9";
    assert_eq!(record.failure.message, expect);
    assert_eq!(scheduler.on_event(lost(0, 0), NOW), []);
    assert_eq!(scheduler.on_event(lost(0, 77), NOW), []);
    // The other worker ends while its task is being canceled: that is what was wanted, not a second failure.
    let report = end(&mut scheduler, [lost(0, 1)]);
    assert_eq!((report.status, report.failures.len()), (JobStatus::Failed, 1));
}

#[test]
fn a_lost_worker_explains_the_connections_that_broke_with_it() {
    let mut scheduler = running();
    let broken = TaskFailure::new(FailureKind::Network, "closed");
    scheduler.on_event(Event::TaskFailed { deployment: 0, task: task(0, 0), failure: broken }, NOW);
    let report = end(&mut scheduler, [lost(0, 1), canceled(task(1, 0))]);
    let root = report.root_cause().map(|record| (record.failure.kind, record.worker));
    assert_eq!(root, Some((FailureKind::Worker, Some(1))));
}

#[test]
fn a_worker_lost_before_the_start_fails_the_job() {
    let report = end(&mut scheduler(), [lost(0, 1)]);
    assert_eq!(report.status, JobStatus::Failed);
}

#[test]
fn what_ought_not_to_happen_fails_the_job_and_is_explained() {
    let check = |scheduler: JobScheduler, event: Event, expect: &str| {
        let mut scheduler = scheduler;
        scheduler.on_event(event, NOW);
        assert!(matches!(scheduler.status(), JobStatus::Failing | JobStatus::Failed));
        if scheduler.status() == JobStatus::Failing {
            assert!(scheduler.failures()[0].failure.message.contains(expect), "{:?}", scheduler.failures());
        }
    };
    check(running(), canceled(task(0, 0)), "stopped in state RUNNING, although nobody canceled it");
    check(running(), runs(task(9, 0)), "subtask 0 of vertex 9, which this job does not have");
    check(scheduler(), runs(task(0, 0)), "was not deployed");
    check(running(), Event::GlobalFailure(TaskFailure::new(FailureKind::Source, "no such file")), "no such file");
}

#[test]
fn failures_are_kept_up_to_a_limit() {
    let graph = ExecutionGraph::new(&chain(&[50, 50], Partitioner::Hash)).unwrap();
    let mut scheduler = JobScheduler::new(graph, SchedulerOptions::default());
    start(&mut scheduler);
    let tasks: Vec<_> = scheduler.graph().tasks().collect();
    let report = end(&mut scheduler, tasks.into_iter().map(panic_of));
    assert_eq!((report.failures.len(), report.more_failures), (32, 68));
}
