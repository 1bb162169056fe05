use std::num::NonZeroU32;

use proptest::prelude::*;
use weir_model::{FailureKind, Partitioner};

use super::*;
use crate::testing::{chain, task};
use crate::{JobReport, WorkerTasks, place};

const TIMEOUT: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::from_secs(1000);

/// Two vertices of two subtasks on two workers; subtask i of each runs on worker i.
fn scheduler() -> JobScheduler {
    let graph = ExecutionGraph::new(&chain(&[2, 2], Partitioner::Hash)).unwrap();
    let placement = place(&graph, NonZeroU32::new(2).unwrap());
    JobScheduler::new(graph, placement, SchedulerOptions { cancellation_timeout: Some(TIMEOUT) })
}

fn running() -> JobScheduler {
    let mut scheduler = scheduler();
    scheduler.on_event(Event::Start, NOW);
    for task in all() {
        scheduler.on_event(Event::TaskInitializing(task), NOW);
        scheduler.on_event(Event::TaskRunning(task), NOW);
    }
    assert_eq!(scheduler.count(ExecutionState::Running), 4);
    scheduler
}

fn all() -> [TaskId; 4] {
    [task(0, 0), task(0, 1), task(1, 0), task(1, 1)]
}

fn panic_of(task: TaskId) -> Event {
    Event::TaskFailed { task, failure: TaskFailure::new(FailureKind::Panic, "boom") }
}

fn changed(from: JobStatus, to: JobStatus) -> Effect {
    Effect::JobStatusChanged { from, to }
}

fn on(worker: u32, tasks: &[TaskId]) -> WorkerTasks {
    WorkerTasks { worker, tasks: tasks.to_vec() }
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
    let expect = [
        changed(JobStatus::Created, JobStatus::Running),
        Effect::Deploy(vec![on(0, &[task(0, 0), task(1, 0)]), on(1, &[task(0, 1), task(1, 1)])]),
    ];
    assert_eq!(scheduler.on_event(Event::Start, NOW), expect);
    assert_eq!(scheduler.on_event(Event::Start, NOW), []);
    assert_eq!(scheduler.count(ExecutionState::Deploying), 4);
}

#[test]
fn a_job_finishes_when_all_tasks_have_and_the_commit_is_done() {
    let mut scheduler = running();
    for task in &all()[..3] {
        assert_eq!(scheduler.on_event(Event::TaskFinished(*task), NOW), []);
    }
    assert_eq!(scheduler.on_event(Event::TaskFinished(all()[3]), NOW), [Effect::Commit]);
    assert_eq!(scheduler.status(), JobStatus::Running);
    // Neither may tear the output apart now.
    assert_eq!(scheduler.on_event(Event::CancelRequested, NOW), []);
    assert_eq!(scheduler.on_event(Event::WorkerLost { worker: 0, reason: "gone".to_owned() }, NOW), []);
    let report = end(&mut scheduler, [Event::CommitDone(Ok(()))]);
    assert_eq!((report.status, report.failures.len(), report.started), (JobStatus::Finished, 0, Some(NOW)));
}

#[test]
fn a_fast_task_may_report_the_end_first() {
    let mut scheduler = scheduler();
    scheduler.on_event(Event::Start, NOW);
    scheduler.on_event(Event::TaskFinished(task(0, 0)), NOW);
    assert_eq!(scheduler.state_of(task(0, 0)), ExecutionState::Finished);
    // Late and double messages change nothing.
    for event in [Event::TaskRunning(task(0, 0)), Event::TaskFinished(task(0, 0)), panic_of(task(0, 0))] {
        assert_eq!(scheduler.on_event(event, NOW), []);
    }
    scheduler.on_event(Event::TaskRunning(task(0, 1)), NOW);
    scheduler.on_event(Event::TaskInitializing(task(0, 1)), NOW);
    assert_eq!(scheduler.state_of(task(0, 1)), ExecutionState::Running);
}

#[test]
fn a_failed_commit_fails_the_job() {
    let mut scheduler = running();
    let failure = TaskFailure::new(FailureKind::Sink, "disk full");
    let events = all().map(Event::TaskFinished).into_iter().chain([Event::CommitDone(Err(failure.clone()))]);
    let report = end(&mut scheduler, events);
    assert_eq!(report.status, JobStatus::Failed);
    assert_eq!(report.root_cause().unwrap().failure, failure);
}

#[test]
fn the_first_failure_cancels_the_others_and_later_ones_are_kept() {
    let mut scheduler = running();
    let expect = [
        changed(JobStatus::Running, JobStatus::Failing),
        Effect::CancelTasks(vec![on(0, &[task(0, 0), task(1, 0)]), on(1, &[task(0, 1)])]),
        Effect::ScheduleTimer { generation: 1, at: NOW + TIMEOUT },
    ];
    assert_eq!(scheduler.on_event(panic_of(task(1, 1)), NOW), expect);
    let events = [panic_of(task(0, 0)), Event::TaskFinished(task(0, 1)), Event::TaskCanceled(task(1, 0))];
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
    let report = end(&mut scheduler, all().map(Event::TaskCanceled));
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
    let report = end(&mut scheduler, all().map(Event::TaskCanceled));
    assert_eq!((report.status, report.failures.len()), (JobStatus::Canceled, 1));
}

#[test]
fn tasks_that_do_not_stop_are_named_and_the_job_ends_anyway() {
    let mut scheduler = running();
    scheduler.on_event(Event::CancelRequested, NOW);
    scheduler.on_event(Event::TaskCanceled(task(0, 0)), NOW);
    scheduler.on_event(Event::TaskCanceled(task(1, 1)), NOW);
    assert_eq!(scheduler.on_event(Event::Timer { generation: 0 }, NOW), []);
    let effects = scheduler.on_event(Event::Timer { generation: 1 }, NOW);
    assert_eq!(effects[0], Effect::KillTasks(vec![on(0, &[task(1, 0)]), on(1, &[task(0, 1)])]));
    let Some(Effect::JobEnded(report)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(report.status, JobStatus::Canceled);
    assert_eq!(report.stuck_tasks, ["V0 (2/2)", "V1 (1/2)"]);
}

#[test]
fn a_lost_worker_fails_the_job_with_one_failure() {
    let mut scheduler = running();
    scheduler.on_event(Event::TaskFinished(task(0, 1)), NOW);
    let lost = |worker| Event::WorkerLost { worker, reason: "killed by signal 9".to_owned() };
    let effects = scheduler.on_event(lost(0), NOW);
    assert_eq!(effects[1], Effect::CancelTasks(vec![on(1, &[task(1, 1)])]));
    let record = &scheduler.failures()[0];
    assert_eq!(record.failure.kind, FailureKind::Worker);
    let expect = "worker 0, which ran this task and another one, was lost: killed by signal 9";
    assert_eq!(record.failure.message, expect);
    assert_eq!(scheduler.on_event(lost(0), NOW), []);
    assert_eq!(scheduler.on_event(lost(77), NOW), []);
    // The other worker ends while its task is being canceled: that is what was wanted, not a second failure.
    let report = end(&mut scheduler, [lost(1)]);
    assert_eq!((report.status, report.failures.len()), (JobStatus::Failed, 1));
}

#[test]
fn a_lost_worker_explains_the_connections_that_broke_with_it() {
    let mut scheduler = running();
    let broken = TaskFailure::new(FailureKind::Network, "closed");
    scheduler.on_event(Event::TaskFailed { task: task(0, 0), failure: broken }, NOW);
    let lost = Event::WorkerLost { worker: 1, reason: "killed by signal 9".to_owned() };
    let report = end(&mut scheduler, [lost, Event::TaskCanceled(task(1, 0))]);
    let root = report.root_cause().map(|record| (record.failure.kind, record.worker));
    assert_eq!(root, Some((FailureKind::Worker, Some(1))));
}

#[test]
fn a_worker_lost_before_the_start_fails_the_job() {
    let report = end(&mut scheduler(), [Event::WorkerLost { worker: 1, reason: "exit code 1".to_owned() }]);
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
    check(running(), Event::TaskCanceled(task(0, 0)), "stopped in state RUNNING, although nobody canceled it");
    check(running(), Event::TaskRunning(task(9, 0)), "subtask 0 of vertex 9, which this job does not have");
    check(scheduler(), Event::TaskRunning(task(0, 0)), "never deployed");
    check(running(), Event::GlobalFailure(TaskFailure::new(FailureKind::Source, "no such file")), "no such file");
}

#[test]
fn failures_are_kept_up_to_a_limit() {
    let graph = ExecutionGraph::new(&chain(&[50, 50], Partitioner::Hash)).unwrap();
    let placement = place(&graph, NonZeroU32::MIN);
    let mut scheduler = JobScheduler::new(graph, placement, SchedulerOptions { cancellation_timeout: None });
    let tasks: Vec<_> = scheduler.graph().tasks().collect();
    let report = end(&mut scheduler, [Event::Start].into_iter().chain(tasks.into_iter().map(panic_of)));
    assert_eq!((report.failures.len(), report.more_failures), (32, 68));
}

/// Events in which each task and worker, and some that do not exist, occur; `wild` ones a sane driver never sends.
fn any_event() -> impl Strategy<Value = Event> {
    let any_task = || (0u32..2, 0u32..2).prop_map(|(vertex, subtask)| task(vertex, subtask));
    prop_oneof![
        1 => Just(Event::Start),
        4 => any_task().prop_map(Event::TaskInitializing),
        4 => any_task().prop_map(Event::TaskRunning),
        8 => any_task().prop_map(Event::TaskFinished),
        2 => any_task().prop_map(panic_of),
        4 => any_task().prop_map(Event::TaskCanceled),
        1 => (0u32..3).prop_map(|worker| Event::WorkerLost { worker, reason: "gone".to_owned() }),
        1 => Just(Event::GlobalFailure(TaskFailure::new(FailureKind::Source, "enumerator"))),
        1 => Just(Event::CancelRequested),
        1 => (0u64..3).prop_map(|generation| Event::Timer { generation }),
        1 => Just(Event::CommitDone(Ok(()))),
        1 => Just(Event::CommitDone(Err(TaskFailure::new(FailureKind::Sink, "disk full")))),
        1 => (0u32..4, 0u32..4).prop_map(|(vertex, subtask)| Event::TaskFinished(task(vertex, subtask))),
    ]
}

/// What must hold after every event.
fn check_invariants(scheduler: &JobScheduler, effects: &[Effect]) -> Result<(), TestCaseError> {
    let by_hand = |wanted| all().iter().filter(|&&task| scheduler.state_of(task) == wanted).count();
    for state in ExecutionState::ALL {
        prop_assert_eq!(scheduler.count(state) as usize, by_hand(state));
    }
    let ended = all().iter().all(|&task| scheduler.state_of(task).is_terminal());
    if ended {
        prop_assert!(scheduler.status.is_terminal() || scheduler.committing);
    }
    if scheduler.status.is_terminal() {
        prop_assert!(ended);
    }
    if scheduler.status == JobStatus::Finished {
        prop_assert_eq!(scheduler.count(ExecutionState::Finished), 4);
    }
    let reports = effects.iter().filter(|effect| matches!(effect, Effect::JobEnded(_))).count();
    let turned = effects.iter().any(|effect| matches!(effect, Effect::JobStatusChanged { to, .. } if to.is_terminal()));
    prop_assert_eq!(reports, usize::from(turned));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_sequence_of_events_is_survived_and_can_be_brought_to_an_end(
        started: bool,
        events in prop::collection::vec(any_event(), 0..30),
    ) {
        let mut scheduler = if started { running() } else { scheduler() };
        let mut reports = 0;
        let rest = [Event::Start, Event::CommitDone(Ok(()))];
        let closing = all().into_iter().flat_map(|task| [Event::TaskFinished(task), Event::TaskCanceled(task)]);
        let events = events.into_iter().chain(rest[..1].to_vec()).chain(closing).chain(rest[1..].to_vec());
        for event in events {
            let before = scheduler.status();
            let effects = scheduler.on_event(event, NOW);
            if before.is_terminal() {
                prop_assert!(effects.is_empty());
            }
            reports += effects.iter().filter(|effect| matches!(effect, Effect::JobEnded(_))).count();
            check_invariants(&scheduler, &effects)?;
        }
        prop_assert!(scheduler.status().is_terminal(), "{}", scheduler.status());
        prop_assert_eq!(reports, 1);
    }
}
