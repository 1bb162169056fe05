use weir_model::Alignment;

use super::*;
use crate::CheckpointMode;

#[test]
fn a_checkpoint_by_interval_goes_from_enumerators_over_tasks_to_metadata() {
    let mut bench = Bench::running(options());
    assert_eq!(begun(&bench.wait(9)), []);
    assert_eq!(begun(&bench.wait(1)), [1]);
    let effects = bench.enumerated(1);
    // Only sources begin the barrier; the others get it from them.
    assert_eq!(triggered(&effects), [(1, vec![task(0, 0), task(0, 1)])]);
    let CheckpointEffect::Trigger { trigger, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(trigger.timestamp, 1_010_000);
    assert_eq!(trigger.alignment, Alignment::Aligned);
    assert_eq!(trigger.directory.as_deref(), Some(chk(1).as_str()));
    assert_eq!(trigger.shared_directory, Some(format!("{DIRECTORY}/{JOB}/shared")));
    assert_eq!(trigger.base, None);

    for each in [task(0, 0), task(0, 1), task(1, 0)] {
        assert_eq!(bench.ack(1, each), []);
    }
    let effects = bench.ack(1, task(1, 1));
    let [CheckpointEffect::WriteMetadata { checkpoint: 1, uri, bytes }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*uri, format!("{}/_metadata", chk(1)));
    let metadata = crate::CheckpointMetadata::decode(bytes, &chk(1)).unwrap();
    assert_eq!((metadata.checkpoint, metadata.timestamp), (1, 1_010_000));
    assert_eq!(metadata.enumerators, [(operator(0), vec![7])]);
    assert!(matches!(bench.status(1), CheckpointStatus::InProgress));
    assert_eq!(bench.coordinator.restore_point(), RestorePoint::Beginning);

    let effects = bench.written(1);
    assert!(has(&effects, &CheckpointEffect::Completed { checkpoint: 1 }), "{effects:?}");
    assert_eq!(restore_point(&bench).0, 1);
    let view = bench.coordinator.view();
    assert_eq!((view.counts.total, view.counts.completed, view.counts.in_progress), (1, 1, 0));
    let latest = view.latest_completed.unwrap();
    assert_eq!((latest.acknowledged, latest.subtasks, latest.state_size, latest.checkpointed_size), (4, 4, 40, 16));
    assert_eq!(latest.vertices[1].acknowledged(), 2);
}

#[test]
fn timers_are_asked_for_when_something_will_be_due() {
    let at = |effects: &[CheckpointEffect]| {
        effects.iter().find_map(|effect| match effect {
            CheckpointEffect::ScheduleTimer { at, .. } => Some(at.as_secs()),
            _ => None,
        })
    };
    let mut coordinator = CheckpointCoordinator::new(two_by_two(), options());
    let effects = coordinator.on_event(CheckpointEvent::AllRunning, Duration::from_secs(1000));
    assert_eq!(at(&effects), Some(1010));
    let CheckpointEffect::ScheduleTimer { generation, .. } = effects[0] else { panic!("{effects:?}") };
    // With one under way the next thing due is the end of its patience.
    let effects = coordinator.on_event(CheckpointEvent::Timer { generation }, Duration::from_secs(1010));
    assert_eq!(at(&effects), Some(1610));
    // A timer that rings too early is set again.
    let CheckpointEffect::ScheduleTimer { generation, .. } = effects[1] else { panic!("{effects:?}") };
    let effects = coordinator.on_event(CheckpointEvent::Timer { generation }, Duration::from_secs(1011));
    assert_eq!(at(&effects), Some(1610));
    let effects = coordinator.on_event(CheckpointEvent::Timer { generation: 0 }, Duration::from_secs(1012));
    assert_eq!(at(&effects), None);
}

#[test]
fn without_an_interval_nothing_begins_by_itself() {
    let mut bench = Bench::running(CheckpointOptions { interval: None, ..options() });
    assert_eq!(bench.wait(100_000), []);
    assert_eq!(
        begun(&bench.tell(CheckpointEvent::CheckpointRequested { request: 4, full: true, aligned: false })),
        [1]
    );
    let effects = bench.enumerated(1);
    assert_eq!(triggered(&effects).len(), 1);
    for each in bench.tasks.clone() {
        bench.ack(1, each);
    }
    assert_eq!(done(&bench.written(1), 4), Some(Ok(Some(chk(1)))));
    for (full, base) in [(true, None), (false, Some(2))] {
        bench.tell(CheckpointEvent::CheckpointRequested { request: 5, full, aligned: false });
        let checkpoint = bench.coordinator.last_checkpoint();
        let effects = bench.enumerated(checkpoint);
        assert!(
            matches!(&effects[0], CheckpointEffect::Trigger { trigger, .. } if trigger.base == base),
            "{effects:?}"
        );
        bench.tasks.clone().into_iter().for_each(|task| drop(bench.ack(checkpoint, task)));
        bench.written(checkpoint);
    }
}

#[test]
fn checkpoints_that_are_not_incremental_have_no_base() {
    let mut bench = Bench::running(CheckpointOptions { incremental: false, ..options() });
    assert_eq!(bench.complete_next().0, 1);
    bench.tell(CheckpointEvent::CheckpointRequested { request: 5, full: false, aligned: false });
    let effects = bench.enumerated(2);
    assert!(matches!(&effects[0], CheckpointEffect::Trigger { trigger, .. } if trigger.base.is_none()), "{effects:?}");
}

#[test]
fn the_next_one_waits_for_room_and_then_begins_at_once() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    assert_eq!(begun(&bench.wait(35)), [], "one is under way");
    bench.acknowledge_all(1);
    assert_eq!(begun(&bench.written(1)), [2], "what was missed is not made up for more than once");
    bench.acknowledge_all(2);
    assert_eq!(begun(&bench.written(2)), []);
    assert_eq!(begun(&bench.wait(10)), [3]);
}

#[test]
fn as_many_as_allowed_are_under_way() {
    let mut bench = Bench::running(CheckpointOptions { max_concurrent: 2, ..options() });
    assert_eq!(begun(&bench.wait(10)), [1]);
    assert_eq!(begun(&bench.wait(10)), [2]);
    assert_eq!(begun(&bench.wait(10)), []);
    // The newer one completes first: nobody needs the older one.
    bench.acknowledge_all(2);
    let effects = bench.written(2);
    assert_eq!(aborted(&effects), [1]);
    assert!(removed(&effects).contains(&Removal::Directory(chk(1))));
    assert_eq!(failed_job(&effects), None, "that is no failure");
    assert_eq!(begun(&effects), [3]);
}

#[test]
fn the_pause_is_counted_from_the_end_of_the_last_one() {
    let pause = |max_concurrent| CheckpointOptions {
        interval: Some(Duration::from_secs(1)),
        min_pause: Duration::from_secs(5),
        max_concurrent,
        ..options()
    };
    for max_concurrent in [1, 3] {
        let mut bench = Bench::running(pause(max_concurrent));
        // There is never less than the pause between two triggers.
        assert_eq!(begun(&bench.wait(4)), []);
        assert_eq!(begun(&bench.wait(1)), [1]);
        assert_eq!(begun(&bench.wait(7)), [], "with a pause there is one at a time");
        bench.acknowledge_all(1);
        assert_eq!(begun(&bench.written(1)), []);
        assert_eq!(begun(&bench.wait(4)), []);
        assert_eq!(begun(&bench.wait(1)), [2]);
        // Counts for one that failed as well.
        bench.wait(3);
        bench.decline(2, task(0, 0), DeclineCause::NotReady);
        assert_eq!(begun(&bench.wait(4)), []);
        assert_eq!(begun(&bench.wait(1)), [3]);
        // Whoever asks does not wait for it.
        bench.acknowledge_all(3);
        bench.written(3);
        assert_eq!(
            begun(&bench.tell(CheckpointEvent::CheckpointRequested { request: 1, full: false, aligned: false })),
            [4]
        );
    }
}

#[test]
fn requests_wait_for_room_in_their_order() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    for request in [1, 2] {
        assert_eq!(bench.tell(CheckpointEvent::CheckpointRequested { request, full: false, aligned: false }), []);
    }
    bench.acknowledge_all(1);
    assert_eq!(begun(&bench.written(1)), [2]);
    bench.acknowledge_all(2);
    let effects = bench.written(2);
    assert_eq!((done(&effects, 1), done(&effects, 2)), (Some(Ok(Some(chk(2)))), None));
    assert_eq!(begun(&effects), [3]);
}

#[test]
fn what_is_not_complete_in_time_is_given_up_and_says_who_is_missing() {
    let mut bench = Bench::running(CheckpointOptions { timeout: Duration::from_secs(60), ..options() });
    bench.wait(10);
    bench.enumerated(1);
    bench.ack(1, task(0, 0));
    assert_eq!(aborted(&bench.wait(59)), []);
    let effects = bench.wait(1);
    assert_eq!(aborted(&effects), [1]);
    let CheckpointStatus::Failed { reason, .. } = bench.status(1) else { panic!() };
    assert!(reason.contains("V0 (2/2) and 2 more had not acknowledged it"), "{reason}");
    assert!(reason.contains("execution.checkpointing.timeout"), "{reason}");
    // Tolerable are none.
    assert!(failed_job(&effects).unwrap().contains("tolerable-failed-checkpoints"));
}

#[test]
fn failures_are_counted_as_long_as_none_succeeds() {
    let mut bench = Bench::running(CheckpointOptions { tolerable_failures: Some(1), ..options() });
    let fail = |bench: &mut Bench, cause| {
        bench.wait(10);
        let checkpoint = bench.coordinator.last_checkpoint();
        bench.enumerated(checkpoint);
        failed_job(&bench.decline(checkpoint, task(1, 0), cause)).is_some()
    };
    assert!(!fail(&mut bench, DeclineCause::Failed));
    bench.complete_next();
    assert!(!fail(&mut bench, DeclineCause::Failed));
    assert!(!fail(&mut bench, DeclineCause::NotReady), "tasks that are not ready are no failure");
    assert!(fail(&mut bench, DeclineCause::Failed));
    assert!(!fail(&mut bench, DeclineCause::Failed), "it begins anew after the job has failed");
}

#[test]
fn any_number_of_failures_can_be_tolerated() {
    let mut bench = Bench::running(CheckpointOptions { tolerable_failures: None, ..options() });
    for checkpoint in 1..100 {
        bench.wait(10);
        let effects = bench
            .tell(CheckpointEvent::EnumeratorsSnapshotted { checkpoint, result: Err("no such folder".to_owned()) });
        assert_eq!((aborted(&effects), failed_job(&effects)), (vec![checkpoint], None));
    }
}

#[test]
fn metadata_that_cannot_be_written_fails_the_checkpoint() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    bench.acknowledge_all(1);
    let result = Err("read-only file system".to_owned());
    let effects = bench.tell(CheckpointEvent::MetadataWritten { checkpoint: 1, result });
    assert_eq!(aborted(&effects), [1]);
    assert_eq!(removed(&effects), [Removal::Directory(chk(1))]);
    assert!(failed_job(&effects).unwrap().contains("read-only file system"));
    assert_eq!(bench.coordinator.restore_point(), RestorePoint::Beginning);
}

#[test]
fn a_snapshot_that_cannot_be_read_fails_the_checkpoint() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    bench.enumerated(1);
    let acknowledgement = Acknowledgement {
        checkpoint: 1,
        task: task(0, 0),
        deployment: 0,
        snapshot: vec![77],
        committables: Vec::new(),
        metrics: SnapshotMetrics::default(),
    };
    let effects = bench.tell(CheckpointEvent::Acknowledged(Box::new(acknowledgement)));
    assert_eq!(aborted(&effects), [1]);
    assert!(failed_job(&effects).unwrap().contains("V0 (1/2) cannot be read: has an impossible version"));

    bench.wait(10);
    bench.enumerated(2);
    let effects = bench.ack_with(2, task(0, 0), &snapshot_in(task(1, 0), &["file:///a"]), &[]);
    assert_eq!(aborted(&effects), [2]);
    assert!(failed_job(&effects).unwrap().contains("which is not in its chain"));
}

#[test]
fn what_is_said_twice_or_too_late_changes_nothing() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    bench.acknowledge_all(1);
    assert_eq!(bench.enumerated(1), []);
    assert_eq!(bench.ack(1, task(0, 0)), []);
    bench.written(1);
    for event in [
        CheckpointEvent::MetadataWritten { checkpoint: 1, result: Err("late".to_owned()) },
        CheckpointEvent::Removed { removal: 99, result: Ok(()) },
        CheckpointEvent::Committed { checkpoint: 1, result: Err("late".to_owned()) },
        CheckpointEvent::Unreadable { checkpoint: 99, reason: String::new() },
        CheckpointEvent::AllRunning,
    ] {
        assert_eq!(bench.tell(event), []);
    }
    assert_eq!(bench.ack(1, task(0, 0)), []);
    assert_eq!(bench.ack(1, task(9, 0)), []);
    assert_eq!(bench.decline(1, task(0, 0), DeclineCause::Failed), []);
    assert!(matches!(bench.status(1), CheckpointStatus::Completed { .. }));
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut bench = Bench::running(options());
    bench.now = Duration::from_secs(10);
    bench.tell(CheckpointEvent::CheckpointRequested { request: 1, full: false, aligned: false });
    bench.acknowledge_all(1);
    bench.written(1);
    let view = bench.coordinator.view();
    assert_eq!(view.latest_completed.unwrap().triggered, Duration::from_secs(1000));
    // Far ahead: one checkpoint, not all that were missed.
    bench.now = Duration::from_secs(1_000_000_000);
    assert_eq!(begun(&bench.wait(0)), [2]);
    bench.acknowledge_all(2);
    assert_eq!(begun(&bench.written(2)), []);
}

#[test]
fn barriers_do_what_the_mode_says() {
    let alignment = |options: CheckpointOptions, savepoint: bool| {
        let mut bench = Bench::running(options);
        if savepoint {
            bench.tell(CheckpointEvent::SavepointRequested { request: 1, directory: None, stop: None });
        } else {
            bench.wait(10);
        }
        match &bench.enumerated(1)[0] {
            CheckpointEffect::Trigger { trigger, .. } => trigger.alignment,
            other => panic!("{other:?}"),
        }
    };
    let after = Duration::from_secs(3);
    let unaligned = || CheckpointOptions { unaligned: true, aligned_timeout: after, ..options() };
    assert_eq!(alignment(options(), false), Alignment::Aligned);
    assert_eq!(alignment(unaligned(), false), Alignment::UnalignedAfter(after));
    assert_eq!(alignment(unaligned(), true), Alignment::Aligned);
    for (aligned, expect) in [(true, Alignment::Aligned), (false, Alignment::UnalignedAfter(after))] {
        let mut bench = Bench::running(CheckpointOptions { interval: None, ..unaligned() });
        bench.tell(CheckpointEvent::CheckpointRequested { request: 1, full: false, aligned });
        let effects = bench.enumerated(1);
        assert!(
            matches!(&effects[0], CheckpointEffect::Trigger { trigger, .. } if trigger.alignment == expect),
            "{effects:?}"
        );
    }
    let loose = || CheckpointOptions { mode: CheckpointMode::AtLeastOnce, ..options() };
    assert_eq!(alignment(loose(), false), Alignment::None);
}

#[test]
fn options_that_cannot_go_together_are_refused_by_name() {
    let check = |options: CheckpointOptions, expect: &str| {
        let error = options.validate().unwrap_err();
        assert!(error.contains(expect), "{error}");
    };
    assert_eq!(CheckpointOptions::default().validate(), Ok(()));
    check(CheckpointOptions { max_concurrent: 0, ..options() }, "max-concurrent-checkpoints` is 0");
    check(CheckpointOptions { retained: 0, ..options() }, "num-retained` is 0");
    check(CheckpointOptions { timeout: Duration::ZERO, ..options() }, "timeout` is 0");
    check(CheckpointOptions { interval: Some(Duration::ZERO), ..options() }, "below 10 ms");
    check(CheckpointOptions { unaligned: true, max_concurrent: 2, ..options() }, "but it is 2");
    let mode = CheckpointMode::AtLeastOnce;
    check(CheckpointOptions { unaligned: true, mode, ..options() }, "the mode is AT_LEAST_ONCE");
}

#[test]
fn without_a_folder_checkpoints_are_complete_with_the_last_acknowledgement() {
    let mut bench = Bench::running(CheckpointOptions { directory: None, ..options() });
    bench.wait(10);
    let effects = bench.acknowledge_all(1);
    assert!(has(&effects, &CheckpointEffect::Completed { checkpoint: 1 }), "{effects:?}");
    assert_eq!(restore_point(&bench).0, 1);
    bench.wait(10);
    assert_eq!(removed(&bench.acknowledge_all(2)), []);
}
