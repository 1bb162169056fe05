//! Adaptive jobs: nothing is scheduled before somebody says with how many subtasks.

use super::*;

fn adaptive(partitioner: Partitioner) -> JobScheduler {
    let graph = ExecutionGraph::new(&chain(&[2, 2], partitioner)).unwrap();
    let restart_strategy = RestartStrategy::FixedDelay { attempts: 9, delay: TIMEOUT };
    let options = SchedulerOptions { adaptive: true, restart_strategy, ..SchedulerOptions::default() };
    JobScheduler::new(graph, options)
}

fn ready(parallelism: u32) -> Event {
    let graph = ExecutionGraph::new(&chain(&[parallelism; 2], Partitioner::Hash)).unwrap();
    Event::ResourcesReady(Box::new(graph))
}

/// Running with one subtask of each of two vertices.
fn running_alone() -> JobScheduler {
    let mut scheduler = adaptive(Partitioner::Hash);
    scheduler.on_event(Event::Start, NOW);
    scheduler.on_event(ready(1), NOW);
    scheduler.on_event(Event::Placed { deployment: 0, placement: place(scheduler.graph(), NonZeroU32::MIN) }, NOW);
    run(&mut scheduler, 0, [task(0, 0), task(1, 0)]);
    scheduler
}

fn timer(effects: &[Effect]) -> Event {
    let generation = effects.iter().find_map(|effect| match effect {
        Effect::ScheduleTimer { generation, .. } => Some(*generation),
        _ => None,
    });
    Event::Timer { generation: generation.unwrap() }
}

#[test]
fn a_job_is_created_until_there_are_resources() {
    let mut scheduler = adaptive(Partitioner::Hash);
    assert_eq!(scheduler.on_event(Event::Start, NOW), [Effect::AwaitResources]);
    assert_eq!(scheduler.on_event(Event::Start, NOW), []);
    assert_eq!((scheduler.status(), scheduler.awaits_resources()), (JobStatus::Created, true));
    let tasks = vec![task(0, 0), task(1, 0)];
    let expect = [changed(JobStatus::Created, JobStatus::Running), Effect::Schedule { deployment: 0, tasks }];
    assert_eq!(scheduler.on_event(ready(1), NOW), expect);
    assert_eq!(scheduler.on_event(ready(2), NOW), [], "nobody asked again");
    assert_eq!(scheduler.graph().task_count(), 2);
}

#[test]
fn another_parallelism_is_no_failure_and_stops_everything_first() {
    let mut scheduler = running_alone();
    let effects = scheduler.on_event(Event::Rescale, NOW);
    assert_eq!(effects[0], changed(JobStatus::Running, JobStatus::Restarting));
    assert_eq!(effects[1], Effect::CancelTasks(vec![on(0, &[task(0, 0), task(1, 0)])]));
    let timer = timer(&effects);
    assert_eq!(scheduler.on_event(ready(2), NOW), [], "tasks run");
    assert_eq!(scheduler.on_event(canceled(task(0, 0)), NOW), []);
    assert_eq!(scheduler.on_event(canceled(task(1, 0)), NOW), []);
    assert_eq!(scheduler.on_event(timer, NOW), [Effect::AwaitResources]);
    let effects = scheduler.on_event(ready(2), NOW);
    let expect =
        [changed(JobStatus::Restarting, JobStatus::Running), Effect::Schedule { deployment: 1, tasks: all().to_vec() }];
    assert_eq!(effects, expect);
    assert_eq!((scheduler.restarts(), scheduler.failures().len()), (1, 0));
    assert_eq!(scheduler.on_event(runs(task(0, 0)), NOW), [], "of an attempt before");
}

#[test]
fn a_job_that_waits_for_resources_can_be_canceled_and_can_fail() {
    let mut scheduler = adaptive(Partitioner::Hash);
    let report = end(&mut scheduler, [Event::Start, Event::CancelRequested]);
    assert_eq!(report.status, JobStatus::Canceled);
    let mut scheduler = running_alone();
    let timer = timer(&scheduler.on_event(Event::Rescale, NOW));
    let events = [timer, canceled(task(0, 0)), canceled(task(1, 0)), Event::FatalFailure(boom())];
    assert_eq!(end(&mut scheduler, events).status, JobStatus::Failed);
    assert!(!scheduler.awaits_resources());
}

#[test]
fn a_job_that_is_not_adaptive_is_not_rescaled() {
    let mut scheduler = running();
    assert_eq!(scheduler.on_event(Event::Rescale, NOW), []);
    assert_eq!(scheduler.on_event(ready(1), NOW), []);
    assert_eq!(scheduler.status(), JobStatus::Running);
}
