//! Whatever comes, in whatever order: the scheduler stays consistent, and can be brought to an end.

use super::*;

/// Events in which each task and worker, and some that do not exist, occur; many a sane driver never sends.
fn any_event() -> impl Strategy<Value = Event> {
    let any = || (0u32..3, (0u32..2, 0u32..2).prop_map(|(vertex, subtask)| task(vertex, subtask)));
    let failure = || TaskFailure::new(FailureKind::Source, "enumerator");
    let failed = |(deployment, task)| Event::TaskFailed { deployment, task, failure: boom() };
    let unplaced = move |(deployment, task): (u32, TaskId)| {
        let task = Some(task).filter(|task| task.vertex == 0);
        Event::DeploymentFailed { deployment, task, failure: boom(), blame: Blame::Job }
    };
    prop_oneof![
        1 => Just(Event::Start),
        4 => (0u32..4).prop_map(|deployment| placed(&scheduler(), deployment)),
        4 => any().prop_map(|(deployment, task)| Event::TaskInitializing { deployment, task }),
        4 => any().prop_map(|(deployment, task)| Event::TaskRunning { deployment, task }),
        8 => any().prop_map(|(deployment, task)| Event::TaskFinished { deployment, task }),
        2 => any().prop_map(failed),
        8 => any().prop_map(|(deployment, task)| Event::TaskCanceled { deployment, task }),
        1 => any().prop_map(unplaced),
        1 => (0u32..3, 0u32..3).prop_map(|(deployment, worker)| lost(deployment, worker)),
        1 => (0u32..3, 0u32..3).prop_map(|(deployment, worker)| lost_to(Blame::Cluster, deployment, worker)),
        1 => Just(Event::GlobalFailure(failure())),
        1 => prop::option::weighted(0.1, Just(Event::FatalFailure(failure()))).prop_map(|event| event.unwrap_or(Event::Start)),
        1 => prop::option::weighted(0.3, Just(Event::CancelRequested)).prop_map(|event| event.unwrap_or(Event::Start)),
        4 => (0u64..6).prop_map(|generation| Event::Timer { generation }),
        1 => Just(Event::CommitDone(Ok(()))),
        1 => Just(Event::CommitDone(Err(TaskFailure::new(FailureKind::Sink, "disk full")))),
        1 => (0u32..4, 0u32..4).prop_map(|(vertex, subtask)| finished(task(vertex, subtask))),
    ]
}

/// What must hold after every event.
fn check_invariants(scheduler: &JobScheduler, effects: &[Effect]) -> Result<(), TestCaseError> {
    let by_hand = |wanted| all().iter().filter(|&&task| scheduler.state_of(task) == wanted).count();
    for state in ExecutionState::ALL {
        prop_assert_eq!(scheduler.count(state) as usize, by_hand(state));
    }
    let ended = all().iter().all(|&task| scheduler.state_of(task).is_terminal());
    prop_assert_eq!(scheduler.restart.is_some(), scheduler.status == JobStatus::Restarting);
    if ended {
        prop_assert!(scheduler.status.is_terminal() || scheduler.committing || scheduler.restart.is_some());
    }
    if scheduler.status.is_terminal() {
        prop_assert!(ended);
        prop_assert!(scheduler.deployed.is_empty() && scheduler.waiting.is_empty());
    }
    if scheduler.status == JobStatus::Finished {
        prop_assert_eq!(scheduler.count(ExecutionState::Finished), 4);
    }
    let waits = |task| scheduler.waiting.contains_key(&scheduler.deployment_of(task));
    for task in all() {
        prop_assert_eq!(scheduler.state_of(task) == ExecutionState::Scheduled, waits(task));
    }
    let reports = effects.iter().filter(|effect| matches!(effect, Effect::JobEnded(_))).count();
    let turned = effects.iter().any(|effect| matches!(effect, Effect::JobStatusChanged { to, .. } if to.is_terminal()));
    prop_assert_eq!(reports, usize::from(turned));
    Ok(())
}

/// Watches what runs, from outside: every attempt is deployed once, and not while another of the task runs.
#[derive(Default)]
struct Running {
    attempts: std::collections::BTreeMap<TaskId, u32>,
}

impl Running {
    fn look(&mut self, scheduler: &JobScheduler, effects: &[Effect]) -> Result<(), TestCaseError> {
        for effect in effects {
            let Effect::Deploy(workers) = effect else { continue };
            for WorkerTasks { deployment, tasks, .. } in workers {
                for task in tasks {
                    let before = self.attempts.insert(*task, *deployment);
                    prop_assert!(before.is_none_or(|before| before < *deployment), "{task:?} {before:?} {deployment}");
                    prop_assert_eq!(scheduler.deployment_of(*task), *deployment);
                }
            }
        }
        Ok(())
    }
}

/// What is needed to bring any job to its end: answers to all that may have been asked.
fn closing(scheduler: &JobScheduler) -> Vec<Event> {
    let mut events = vec![Event::Start, Event::Timer { generation: scheduler.timer_generation }];
    events.extend((0..scheduler.next_deployment + 1).map(|deployment| placed(scheduler, deployment)));
    for task in all() {
        let deployment = scheduler.deployment_of(task);
        events.extend([Event::TaskFinished { deployment, task }, Event::TaskCanceled { deployment, task }]);
    }
    events.push(Event::CommitDone(Ok(())));
    events
}

fn any_strategy() -> impl Strategy<Value = RestartStrategy> {
    prop_oneof![
        Just(RestartStrategy::None),
        (0u32..4, 0u64..10)
            .prop_map(|(attempts, delay)| RestartStrategy::FixedDelay { attempts, delay: Duration::from_secs(delay) }),
        Just(RestartStrategy::EXPONENTIAL_DELAY),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_sequence_of_events_is_survived_and_can_be_brought_to_an_end(
        started: bool,
        regions: bool,
        strategy in any_strategy(),
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let partitioner = if regions { Partitioner::Forward } else { Partitioner::Hash };
        let mut scheduler = scheduler_of(partitioner, strategy);
        let mut running = Running::default();
        if started {
            start(&mut scheduler);
            running.attempts.extend(all().map(|task| (task, 0)));
        }
        let (mut reports, mut queue) = (0, std::collections::VecDeque::from(events));
        let mut rounds = 0;
        loop {
            let Some(event) = queue.pop_front() else {
                rounds += 1;
                if scheduler.status().is_terminal() || rounds > 20 {
                    break;
                }
                queue.extend(closing(&scheduler));
                continue;
            };
            let before = scheduler.status();
            let effects = scheduler.on_event(event, NOW);
            if before.is_terminal() {
                prop_assert!(effects.is_empty());
            }
            reports += effects.iter().filter(|effect| matches!(effect, Effect::JobEnded(_))).count();
            running.look(&scheduler, &effects)?;
            check_invariants(&scheduler, &effects)?;
        }
        prop_assert!(scheduler.status().is_terminal(), "{}", scheduler.status());
        prop_assert_eq!(reports, 1);
    }
}
