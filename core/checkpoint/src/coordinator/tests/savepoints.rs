use super::*;
use crate::StopMode;

fn savepoint(bench: &mut Bench, request: u64, stop: Option<StopMode>) -> (u64, Vec<CheckpointEffect>) {
    let effects = bench.tell(CheckpointEvent::SavepointRequested { request, directory: None, stop });
    (bench.coordinator.last_checkpoint(), effects)
}

/// Where the metadata of an effect goes, without the name of the file.
fn folder(effects: &[CheckpointEffect]) -> String {
    let found = effects.iter().find_map(|effect| match effect {
        CheckpointEffect::WriteMetadata { uri, .. } => uri.strip_suffix("/_metadata"),
        _ => None,
    });
    found.expect("metadata is written").to_owned()
}

#[test]
fn a_savepoint_goes_into_a_folder_of_its_own_and_stays_there() {
    let mut bench = Bench::running(options());
    let (id, effects) = savepoint(&mut bench, 5, None);
    assert_eq!(begun(&effects), [1]);
    let effects = bench.enumerated(id);
    let CheckpointEffect::Trigger { trigger, .. } = &effects[0] else { panic!("{effects:?}") };
    assert!(trigger.base.is_none() && trigger.shared_directory.is_none(), "it shares nothing");
    let written: Vec<_> = bench.tasks.clone().into_iter().flat_map(|task| bench.ack(id, task)).collect();
    let folder = folder(&written);
    assert!(folder.starts_with("file:///savepoints/savepoint-ababab-"), "{folder}");
    let effects = bench.written(id);
    assert_eq!(done(&effects, 5), Some(Ok(Some(folder.clone()))));
    // The job goes on as if it had not been: tasks are not told, recovery does not use it.
    assert!(!has(&effects, &CheckpointEffect::Completed { checkpoint: id }));
    assert_eq!(bench.coordinator.restore_point(), RestorePoint::Beginning);
    assert_eq!(bench.coordinator.view().latest_savepoint.unwrap().id, 1);

    bench.complete_next();
    let effects = bench.complete_next().1;
    assert!(!removed(&effects).is_empty());
    let all = [effects, bench.end(JobStatus::Finished)].concat();
    assert!(removed(&all).iter().all(|item| !format!("{item:?}").contains("savepoint")), "{all:?}");
}

#[test]
fn savepoints_have_different_folders() {
    let mut bench = Bench::running(CheckpointOptions { interval: None, ..options() });
    let mut folders = std::collections::BTreeSet::new();
    for request in 0..20 {
        let (id, _) = savepoint(&mut bench, request, None);
        folders.insert(folder(&bench.acknowledge_all(id)));
        bench.written(id);
    }
    assert_eq!(folders.len(), 20);
}

#[test]
fn a_savepoint_without_a_folder_is_refused_with_the_option_to_set() {
    let mut bench = Bench::running(CheckpointOptions { savepoint_directory: None, ..options() });
    let (_, effects) = savepoint(&mut bench, 1, None);
    assert!(done(&effects, 1).unwrap().unwrap_err().contains("execution.checkpointing.savepoint-dir"));
    let directory = Some("file:///mine/".to_owned());
    bench.tell(CheckpointEvent::SavepointRequested { request: 2, directory, stop: None });
    assert!(folder(&bench.acknowledge_all(1)).starts_with("file:///mine/savepoint-"));
}

#[test]
fn a_savepoint_does_not_wait_for_checkpoints_but_they_do_for_it() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    assert_eq!(begun(&savepoint(&mut bench, 1, None).1), [2]);
    bench.acknowledge_all(1);
    assert_eq!(begun(&[bench.written(1), bench.wait(10)].concat()), []);
    bench.acknowledge_all(2);
    assert_eq!(begun(&bench.written(2)), [3]);
}

#[test]
fn a_newer_checkpoint_does_not_end_a_savepoint() {
    let mut bench = Bench::running(CheckpointOptions { max_concurrent: 3, ..options() });
    savepoint(&mut bench, 1, None);
    bench.wait(10);
    bench.acknowledge_all(2);
    assert_eq!(aborted(&bench.written(2)), []);
    bench.acknowledge_all(1);
    assert!(done(&bench.written(1), 1).unwrap().is_ok());
}

#[test]
fn a_failed_savepoint_is_not_counted_and_leaves_nothing_behind() {
    let mut bench = Bench::running(options());
    let (id, _) = savepoint(&mut bench, 1, None);
    bench.enumerated(id);
    let effects = bench.decline(id, task(0, 0), DeclineCause::Failed);
    assert_eq!(failed_job(&effects), None);
    assert!(done(&effects, 1).unwrap().unwrap_err().contains("savepoint 1 failed: V0 (1/2) declined it: disk full"));
    assert!(
        matches!(&removed(&effects)[..], [Removal::Directory(uri)] if uri.starts_with("file:///savepoints/savepoint-"))
    );
}

#[test]
fn requests_before_all_tasks_run_are_refused() {
    let mut coordinator = CheckpointCoordinator::new(two_by_two(), options());
    for stop in [None, Some(StopMode::Suspend)] {
        let event = CheckpointEvent::SavepointRequested { request: 1, directory: None, stop };
        let effects = coordinator.on_event(event, Duration::ZERO);
        assert!(done(&effects, 1).unwrap().unwrap_err().contains("not all tasks of the job are running"));
    }
}

#[test]
fn a_job_stops_when_its_last_savepoint_is_complete() {
    for stop in [StopMode::Suspend, StopMode::Drain] {
        let mut bench = Bench::running(options());
        bench.wait(10);
        bench.tell(CheckpointEvent::CheckpointRequested { request: 8, full: false, aligned: false });
        let (id, effects) = savepoint(&mut bench, 1, Some(stop));
        assert_eq!(begun(&effects), [2]);
        assert!(done(&effects, 8).unwrap().unwrap_err().contains("being stopped with a savepoint"));
        assert!(bench.coordinator.is_stopping());
        // What is under way goes on, nothing else begins.
        bench.acknowledge_all(1);
        assert_eq!(begun(&[bench.written(1), bench.wait(50)].concat()), []);
        let (_, effects) = savepoint(&mut bench, 2, None);
        assert!(done(&effects, 2).unwrap().unwrap_err().contains("being stopped"));

        bench.enumerated(id);
        for each in [task(0, 0), task(0, 1), task(1, 0)] {
            bench.ack_with(id, each, &TaskSnapshot::default(), &[each.subtask as u8]);
        }
        bench.ack(id, task(1, 1));
        let effects = bench.written(id);
        assert!(has(&effects, &CheckpointEffect::Completed { checkpoint: id }));
        assert_eq!(committed(&effects), [0, 1, 0]);
        assert_eq!(done(&effects, 1), None, "the job has not stopped yet");
        let path = effects.iter().find_map(|effect| match effect {
            CheckpointEffect::Stopped { checkpoint: 2, path } => Some(path.clone()),
            _ => None,
        });
        bench.tell(CheckpointEvent::Committed { checkpoint: id, result: Ok(()) });
        for each in bench.tasks.clone() {
            bench.finish(each, &[]);
        }
        assert_eq!(bench.coordinator.take_uncommitted(), []);
        let effects = bench.end(JobStatus::Finished);
        assert_eq!(done(&effects, 1), Some(Ok(path)));
        // Its checkpoints are of no use any more.
        assert!(removed(&effects).contains(&Removal::Directory(chk(1))));
    }
}

#[test]
fn a_job_that_could_not_be_suspended_goes_on_and_one_that_could_not_be_drained_fails() {
    for (stop, fails) in [(StopMode::Suspend, false), (StopMode::Drain, true)] {
        let mut bench = Bench::running(options());
        let (id, _) = savepoint(&mut bench, 1, Some(stop));
        bench.enumerated(id);
        let effects = bench.decline(id, task(0, 0), DeclineCause::Failed);
        assert!(done(&effects, 1).unwrap().is_err());
        assert_eq!(failed_job(&effects).is_some(), fails);
        assert!(!bench.coordinator.is_stopping());
        assert_eq!(begun(&bench.wait(10)), [2]);
    }
}

#[test]
fn a_job_that_fails_after_its_last_savepoint_goes_on_from_there() {
    let mut bench = Bench::running(options());
    bench.complete_next();
    let (id, _) = savepoint(&mut bench, 1, Some(StopMode::Suspend));
    bench.acknowledge_all(id);
    bench.written(id);
    let effects = bench.interrupt(&[]);
    let message = done(&effects, 1).unwrap().unwrap_err();
    assert!(message.contains("is complete, but the job did not stop: worker 3 was killed"), "{message}");
    assert_eq!(failed_job(&effects), None);
    assert_eq!(restore_point(&bench).0, id);
    // The next checkpoint takes its place; the savepoint stays.
    bench.tell(CheckpointEvent::Redeployed { deployment: 1, tasks: Vec::new() });
    bench.deployment = 1;
    bench.tell(CheckpointEvent::AllRunning);
    let effects = bench.complete_next().1;
    assert_eq!(restore_point(&bench).0, 3);
    assert!(removed(&effects).iter().all(|item| !format!("{item:?}").contains("savepoints")), "{effects:?}");
}

#[test]
fn a_failure_before_the_last_savepoint_is_complete_ends_the_stop() {
    let mut bench = Bench::running(options());
    savepoint(&mut bench, 1, Some(StopMode::Drain));
    let effects = bench.interrupt(&[task(0, 0)]);
    assert!(done(&effects, 1).unwrap().unwrap_err().contains("the job was interrupted: worker 3 was killed"));
    assert_eq!(failed_job(&effects), None, "it is failing already");
    assert!(!bench.coordinator.is_stopping());
}
