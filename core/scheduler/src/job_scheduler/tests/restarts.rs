//! Failover: which tasks are started again, when, and what is told of it.

use super::*;
use crate::FailoverStrategy;

const DELAY: Duration = Duration::from_secs(5);

fn fixed(attempts: u32) -> RestartStrategy {
    RestartStrategy::FixedDelay { attempts, delay: DELAY }
}

/// Two regions: subtask 0 of both vertices on worker 0, subtask 1 on worker 1.
fn two_regions(attempts: u32) -> JobScheduler {
    let mut scheduler = scheduler_of(Partitioner::Forward, fixed(attempts));
    start(&mut scheduler);
    run(&mut scheduler, 0, all());
    scheduler
}

/// One region of all four tasks.
fn one_region(attempts: u32) -> JobScheduler {
    let mut scheduler = scheduler_of(Partitioner::Hash, fixed(attempts));
    start(&mut scheduler);
    run(&mut scheduler, 0, all());
    scheduler
}

/// Lets the timer asked for last come due.
fn fire(scheduler: &mut JobScheduler) -> Vec<Effect> {
    let (generation, at) = (scheduler.timer_generation, scheduler.timer.expect("a timer is under way"));
    scheduler.on_event(Event::Timer { generation }, at)
}

fn scheduled(effects: &[Effect]) -> Option<(u32, Vec<TaskId>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Schedule { deployment, tasks } => Some((*deployment, tasks.clone())),
        _ => None,
    })
}

fn messages(scheduler: &JobScheduler) -> Vec<&str> {
    scheduler.failures().iter().map(|record| record.failure.message.as_str()).collect()
}

#[test]
fn a_failure_restarts_its_region_and_leaves_others_alone() {
    let mut scheduler = two_regions(1);
    let effects = scheduler.on_event(panic_of(task(1, 1)), NOW);
    let record = scheduler.failures()[0].clone();
    let expect = [
        Effect::FailureRecorded { first: true, record },
        changed(JobStatus::Running, JobStatus::Restarting),
        Effect::CancelTasks(vec![on(1, &[task(0, 1)])]),
        Effect::ScheduleTimer { generation: 1, at: NOW + DELAY },
    ];
    assert_eq!(effects, expect);
    // The delay is over, but one of the region's tasks has not stopped.
    let effects = fire(&mut scheduler);
    assert_eq!(effects, [Effect::ScheduleTimer { generation: 2, at: NOW + TIMEOUT }]);
    let expect = [
        changed(JobStatus::Restarting, JobStatus::Running),
        Effect::Schedule { deployment: 1, tasks: vec![task(0, 1), task(1, 1)] },
    ];
    assert_eq!(scheduler.on_event(canceled(task(0, 1)), NOW + 2 * DELAY), expect);
    assert_eq!((scheduler.restarts(), scheduler.failures().len()), (1, 0));
    assert_eq!(scheduler.deployment_of(task(0, 1)), 1);
    assert_eq!((scheduler.state_of(task(0, 0)), scheduler.deployment_of(task(0, 0))), (ExecutionState::Running, 0));
    let tasks = vec![task(0, 1), task(1, 1)];
    let expect = Effect::Deploy(vec![WorkerTasks { deployment: 1, worker: 1, tasks }]);
    let place = placed(&scheduler, 1);
    assert_eq!(scheduler.on_event(place, NOW), [expect]);
}

#[test]
fn what_the_cluster_lost_restarts_at_once_unless_it_happens_too_often() {
    let mut scheduler = one_region(3);
    let effects = scheduler.on_event(lost_to(Blame::Cluster, 0, 0), NOW);
    assert!(effects.contains(&Effect::ScheduleTimer { generation: 1, at: NOW }), "{effects:?}");
    scheduler.on_event(lost_to(Blame::Cluster, 0, 1), NOW);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, all().to_vec())));
    // The next comes within the pause, the one after it does not.
    for (deployment, at, restart) in
        [(1, NOW + DELAY / 2, NOW + DELAY / 2 + DELAY), (2, NOW + 3 * DELAY, NOW + 3 * DELAY)]
    {
        let place = placed(&scheduler, deployment);
        scheduler.on_event(place, at);
        scheduler.on_event(lost_to(Blame::Cluster, deployment, 0), at);
        scheduler.on_event(lost_to(Blame::Cluster, deployment, 1), at);
        assert_eq!(scheduler.timer, Some(restart));
        assert!(scheduled(&fire(&mut scheduler)).is_some());
    }
    // All of them have counted.
    let place = placed(&scheduler, 3);
    scheduler.on_event(place, NOW + 90 * DELAY);
    scheduler.on_event(lost_to(Blame::Cluster, 3, 0), NOW + 90 * DELAY);
    assert_eq!(scheduler.status(), JobStatus::Failing);
}

#[test]
fn broken_connections_wait_until_it_is_known_why_they_broke() {
    let broken = |task| Event::TaskFailed {
        deployment: 0,
        task,
        failure: TaskFailure::new(FailureKind::Network, "connection reset"),
    };
    let mut lost_machine = one_region(1);
    lost_machine.on_event(broken(task(1, 1)), NOW);
    assert_eq!(lost_machine.timer, Some(NOW + DELAY));
    lost_machine.on_event(lost_to(Blame::Cluster, 0, 0), NOW + DELAY / 5);
    assert_eq!(lost_machine.timer, Some(NOW + DELAY / 5));
    // The job's own failure keeps its pause, whatever comes with it.
    for blame in [lost(0, 0), panic_of(task(0, 0))] {
        let mut own = one_region(1);
        own.on_event(broken(task(1, 1)), NOW);
        own.on_event(blame, NOW);
        own.on_event(lost_to(Blame::Cluster, 0, 1), NOW);
        assert_eq!(own.timer, Some(NOW + DELAY));
    }
}

#[test]
fn the_restart_waits_for_the_delay_even_when_all_tasks_have_stopped() {
    let mut scheduler = two_regions(1);
    scheduler.on_event(panic_of(task(1, 1)), NOW);
    assert_eq!(scheduler.on_event(canceled(task(0, 1)), NOW), []);
    assert_eq!(scheduler.status(), JobStatus::Restarting);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, vec![task(0, 1), task(1, 1)])));
}

#[test]
fn finished_tasks_of_a_restarted_region_run_again_and_those_of_others_do_not() {
    let mut scheduler = two_regions(1);
    for task in [task(0, 0), task(1, 0), task(0, 1)] {
        scheduler.on_event(finished(task), NOW);
    }
    scheduler.on_event(panic_of(task(1, 1)), NOW);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, vec![task(0, 1), task(1, 1)])));
    assert_eq!(scheduler.state_of(task(0, 0)), ExecutionState::Finished);
    let place = placed(&scheduler, 1);
    scheduler.on_event(place, NOW);
    scheduler.on_event(Event::TaskFinished { deployment: 1, task: task(0, 1) }, NOW);
    let effects = scheduler.on_event(Event::TaskFinished { deployment: 1, task: task(1, 1) }, NOW);
    assert_eq!(effects, [Effect::Commit]);
    let report = end(&mut scheduler, [Event::CommitDone(Ok(()))]);
    assert_eq!((report.status, report.failures.len()), (JobStatus::Finished, 0));
}

#[test]
fn full_failover_restarts_everything() {
    let graph = ExecutionGraph::new(&chain(&[2, 2], Partitioner::Forward)).unwrap();
    let options = SchedulerOptions {
        failover: FailoverStrategy::Full,
        restart_strategy: fixed(1),
        ..SchedulerOptions::default()
    };
    let mut scheduler = JobScheduler::new(graph, options);
    start(&mut scheduler);
    scheduler.on_event(finished(task(0, 0)), NOW);
    scheduler.on_event(panic_of(task(1, 1)), NOW);
    scheduler.on_event(canceled(task(1, 0)), NOW);
    scheduler.on_event(canceled(task(0, 1)), NOW);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, all().to_vec())));
}

#[test]
fn a_global_failure_restarts_everything() {
    let mut scheduler = two_regions(1);
    scheduler.on_event(Event::GlobalFailure(boom()), NOW);
    for task in all() {
        scheduler.on_event(canceled(task), NOW);
    }
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, all().to_vec())));
}

#[test]
fn failures_while_restarting_come_with_the_first_and_take_no_attempt() {
    let mut scheduler = two_regions(1);
    scheduler.on_event(panic_of(task(1, 1)), NOW);
    let effects = scheduler.on_event(panic_of(task(0, 0)), NOW + DELAY / 2);
    assert!(matches!(&effects[0], Effect::FailureRecorded { first: false, .. }), "{effects:?}");
    assert_eq!(effects[1], Effect::CancelTasks(vec![on(0, &[task(1, 0)])]));
    assert_eq!(messages(&scheduler), ["boom", "boom"]);
    scheduler.on_event(canceled(task(1, 0)), NOW);
    scheduler.on_event(canceled(task(0, 1)), NOW);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, all().to_vec())));
    // The next failure finds no attempt left.
    let place = placed(&scheduler, 1);
    scheduler.on_event(place, NOW);
    scheduler.on_event(Event::TaskFailed { deployment: 1, task: task(0, 0), failure: boom() }, NOW);
    assert_eq!(scheduler.status(), JobStatus::Failing);
    let canceled = [task(0, 1), task(1, 0), task(1, 1)].map(|task| Event::TaskCanceled { deployment: 1, task });
    let report = end(&mut scheduler, canceled);
    assert_eq!((report.status, report.failures.len()), (JobStatus::Failed, 1));
    let expect = "the restart strategy fixed delay (5 s, 1 attempt) allows no further restart: 1 attempt has been used";
    assert_eq!(report.not_restarted.as_deref(), Some(expect));
}

#[test]
fn what_is_told_of_an_earlier_attempt_is_ignored() {
    let mut scheduler = one_region(1);
    scheduler.on_event(panic_of(task(0, 0)), NOW);
    for task in &all()[1..] {
        scheduler.on_event(canceled(*task), NOW);
    }
    fire(&mut scheduler);
    let place = placed(&scheduler, 1);
    scheduler.on_event(place, NOW);
    let stale = placed(&scheduler, 0);
    let events =
        [panic_of(task(0, 0)), runs(task(0, 0)), finished(task(0, 1)), canceled(task(1, 0)), lost(0, 0), stale];
    for event in events {
        assert_eq!(scheduler.on_event(event, NOW), []);
    }
    assert_eq!(scheduler.count(ExecutionState::Deploying), 4);
}

#[test]
fn a_task_that_does_not_stop_takes_its_worker_along() {
    // Three regions on two workers: the third shares worker 0 with the first.
    let graph = ExecutionGraph::new(&chain(&[3, 3], Partitioner::Forward)).unwrap();
    let options = SchedulerOptions {
        cancellation_timeout: Some(TIMEOUT),
        restart_strategy: fixed(1),
        ..SchedulerOptions::default()
    };
    let mut scheduler = JobScheduler::new(graph, options);
    scheduler.on_event(Event::Start, NOW);
    let placement = weir_model::Placement::new(2, vec![vec![0, 1, 0], vec![0, 1, 0]]);
    scheduler.on_event(Event::Placed { deployment: 0, placement }, NOW);
    scheduler.on_event(panic_of(task(0, 0)), NOW);
    fire(&mut scheduler);
    let effects = fire(&mut scheduler);
    let killed = [task(0, 2), task(1, 0), task(1, 2)];
    assert_eq!(effects[0], Effect::KillWorkers(vec![on(0, &killed)]));
    let expect = ["boom", "this task did not stop within 30 s, so the worker was killed"];
    let told: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::FailureRecorded { .. })).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(scheduled(&effects), Some((1, vec![task(0, 0), task(0, 2), task(1, 0), task(1, 2)])));
    assert!(matches!(told[0], Effect::FailureRecorded { record, .. } if record.failure.message == expect[1]));
    assert_eq!(scheduler.state_of(task(0, 1)), ExecutionState::Deploying);
    assert_eq!(scheduler.on_event(lost(0, 0), NOW), []);
}

#[test]
fn a_lost_worker_is_one_failure_of_all_its_regions() {
    let mut scheduler = two_regions(1);
    scheduler.on_event(lost(0, 1), NOW);
    assert_eq!(messages(&scheduler), ["worker 1, which ran this task and another one, was lost: killed by signal 9"]);
    scheduler.on_event(lost(0, 0), NOW);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, all().to_vec())));
}

#[test]
fn an_old_worker_is_lost_without_what_runs_elsewhere_by_now() {
    // One region of the worker's two goes on in it, the other one has moved.
    let mut scheduler = scheduler_of(Partitioner::Forward, fixed(1));
    scheduler.on_event(Event::Start, NOW);
    let one_worker = |deployment, scheduler: &JobScheduler| Event::Placed {
        deployment,
        placement: place(scheduler.graph(), NonZeroU32::MIN),
    };
    scheduler.on_event(one_worker(0, &scheduler), NOW);
    scheduler.on_event(panic_of(task(0, 1)), NOW);
    scheduler.on_event(canceled(task(1, 1)), NOW);
    fire(&mut scheduler);
    scheduler.on_event(one_worker(1, &scheduler), NOW);
    scheduler.on_event(lost(0, 0), NOW);
    assert_eq!(scheduler.state_of(task(0, 0)), ExecutionState::Failed);
    // No attempt is left, so it is told to stop; it is not taken for lost.
    assert_eq!(scheduler.state_of(task(0, 1)), ExecutionState::Canceling);
}

#[test]
fn a_deployment_that_fails_is_tried_again() {
    let mut scheduler = scheduler_of(Partitioner::Hash, fixed(1));
    scheduler.on_event(Event::Start, NOW);
    let fail =
        |deployment| Event::DeploymentFailed { deployment, task: Some(task(0, 1)), failure: boom(), blame: Blame::Job };
    let effects = scheduler.on_event(fail(0), NOW);
    assert_eq!(effects[0], Effect::Unschedule { deployment: 0 });
    assert_eq!(effects[2], changed(JobStatus::Running, JobStatus::Restarting));
    assert_eq!(scheduler.state_of(task(0, 1)), ExecutionState::Failed);
    let place = placed(&scheduler, 0);
    assert_eq!(scheduler.on_event(place, NOW), []);
    assert_eq!(scheduler.on_event(fail(0), NOW), []);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, all().to_vec())));
    let report = end(&mut scheduler, [fail(1)]);
    assert_eq!(report.status, JobStatus::Failed);
}

#[test]
fn a_failed_deployment_of_one_task_is_forgotten_as_well() {
    let graph = ExecutionGraph::new(&crate::testing::single_task()).unwrap();
    let mut scheduler = JobScheduler::new(graph, SchedulerOptions { restart_strategy: fixed(1), ..Default::default() });
    scheduler.on_event(Event::Start, NOW);
    let failed = Event::DeploymentFailed { deployment: 0, task: Some(task(0, 0)), failure: boom(), blame: Blame::Job };
    assert_eq!(scheduler.on_event(failed, NOW)[0], Effect::Unschedule { deployment: 0 });
    let place = placed(&scheduler, 0);
    assert_eq!(scheduler.on_event(place, NOW), []);
    assert_eq!(scheduled(&fire(&mut scheduler)), Some((1, vec![task(0, 0)])));
}

#[test]
fn a_fatal_failure_is_not_restarted() {
    let report = end(&mut scheduler_of(Partitioner::Hash, fixed(9)), [Event::Start, Event::FatalFailure(boom())]);
    assert_eq!((report.status, report.not_restarted), (JobStatus::Failed, None));
    let mut restarting = two_regions(9);
    restarting.on_event(panic_of(task(0, 0)), NOW);
    restarting.on_event(Event::FatalFailure(boom()), NOW);
    assert_eq!(restarting.status(), JobStatus::Failing);
}

#[test]
fn a_failed_commit_is_not_restarted() {
    let mut scheduler = two_regions(9);
    let events = all().map(finished).into_iter().chain([Event::CommitDone(Err(boom()))]);
    assert_eq!(end(&mut scheduler, events).status, JobStatus::Failed);
}

#[test]
fn canceling_while_restarting_ends_the_job() {
    let mut scheduler = two_regions(1);
    scheduler.on_event(panic_of(task(0, 0)), NOW);
    let effects = scheduler.on_event(Event::CancelRequested, NOW);
    assert_eq!(effects[0], changed(JobStatus::Restarting, JobStatus::Cancelling));
    assert_eq!(effects[1], Effect::CancelTasks(vec![on(1, &[task(0, 1), task(1, 1)])]));
    let report = end(&mut scheduler, [task(1, 0), task(0, 1), task(1, 1)].map(canceled));
    assert_eq!((report.status, report.failures.len()), (JobStatus::Canceled, 1));
}

#[test]
fn the_failure_that_explains_the_others_is_kept_beyond_the_limit() {
    let graph = ExecutionGraph::new(&chain(&[50, 50], Partitioner::Hash)).unwrap();
    let mut scheduler = JobScheduler::new(graph, SchedulerOptions::default());
    start(&mut scheduler);
    for subtask in 0..40 {
        let failure = TaskFailure::new(FailureKind::Network, "closed");
        scheduler.on_event(Event::TaskFailed { deployment: 0, task: task(0, subtask), failure }, NOW);
    }
    scheduler.on_event(lost(0, 1), NOW);
    let tasks: Vec<_> = scheduler.graph().tasks().collect();
    let report = end(&mut scheduler, tasks.into_iter().map(canceled));
    assert_eq!((report.failures.len(), report.more_failures), (JobReport::MAX_FAILURES, 9));
    assert_eq!(report.root_cause().map(|record| record.failure.kind), Some(FailureKind::Worker));
}

#[test]
fn times_of_states_are_kept_for_each_attempt() {
    let mut scheduler = two_regions(1);
    let at = |execution: Execution, state: ExecutionState| execution.entered[state as usize];
    scheduler.on_event(panic_of(task(0, 0)), NOW + DELAY);
    assert_eq!(at(scheduler.execution(task(0, 0)), ExecutionState::Running), Some(NOW));
    assert_eq!(at(scheduler.execution(task(1, 0)), ExecutionState::Canceling), Some(NOW + DELAY));
    assert_eq!(scheduler.status_times()[JobStatus::Restarting as usize], Some(NOW + DELAY));
    scheduler.on_event(canceled(task(1, 0)), NOW + DELAY);
    fire(&mut scheduler);
    assert_eq!(at(scheduler.execution(task(1, 0)), ExecutionState::Scheduled), Some(NOW + 2 * DELAY));
    assert_eq!(at(scheduler.execution(task(1, 0)), ExecutionState::Canceling), None);
    assert_eq!(scheduler.changed(), NOW + 2 * DELAY);
}
