use std::sync::Arc;

use super::*;
use crate::{CheckpointMetadata, CompletedCheckpoint, RestoreMode};

fn given(checkpoint: u64, directory: &str) -> CompletedCheckpoint {
    let metadata = CheckpointMetadata {
        job: weir_model::JobId::from_bytes([1; 16]),
        job_name: "other".to_owned(),
        checkpoint,
        timestamp: 0,
        kind: weir_model::CheckpointKind::Savepoint,
        enumerators: Vec::new(),
        committables: vec![(operator(1), vec![vec![42]])],
        operators: Vec::new(),
    };
    CompletedCheckpoint { metadata: Arc::new(metadata), directory: Some(directory.to_owned()) }
}

#[test]
fn an_interruption_ends_what_is_under_way_without_counting_it() {
    let mut bench = Bench::running(CheckpointOptions { max_concurrent: 2, ..options() });
    bench.wait(10);
    bench.wait(10);
    bench.tell(CheckpointEvent::CheckpointRequested { request: 3, full: false, aligned: false });
    bench.acknowledge_all(2);
    let effects = bench.interrupt(&[task(1, 0)]);
    assert_eq!((aborted(&effects), failed_job(&effects)), (vec![1, 2], None));
    assert!(done(&effects, 3).unwrap().unwrap_err().contains("worker 3 was killed"));
    assert_eq!(begun(&bench.wait(100)), [], "not before all tasks run again");
    // Its metadata was written all the same: nobody must take it for complete.
    assert_eq!(removed(&bench.written(2)), [Removal::Directory(chk(2))]);
    bench.tell(CheckpointEvent::Redeployed { deployment: 1, tasks: vec![task(1, 0)] });
    bench.tell(CheckpointEvent::AllRunning);
    assert_eq!(begun(&bench.wait(9)), []);
    assert_eq!(begun(&bench.wait(1)), [3], "numbers only grow");
}

#[test]
fn earlier_attempts_are_not_heard() {
    let mut bench = Bench::running(options());
    bench.complete_next();
    bench.restart();
    bench.wait(10);
    bench.enumerated(2);
    bench.deployment = 0;
    for each in bench.tasks.clone() {
        assert_eq!(bench.ack(2, each), []);
        assert_eq!(bench.finish(each, &[1]), []);
        assert_eq!(bench.decline(2, each, DeclineCause::Failed), []);
    }
    assert_eq!(bench.coordinator.view().history[0].acknowledged, 0);
    assert_eq!(bench.coordinator.take_uncommitted(), []);
}

#[test]
fn tasks_start_again_from_the_last_complete_checkpoint() {
    let mut bench = Bench::running(CheckpointOptions { retained: 2, ..options() });
    assert_eq!(bench.coordinator.restore_point(), RestorePoint::Beginning);
    bench.complete_next();
    bench.complete_next();
    assert_eq!(restore_point(&bench).0, 2);
    bench.restart();
    let view = bench.coordinator.view();
    assert_eq!((view.counts.restored, view.latest_restored.unwrap().id), (1, 2));
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_passed_over_and_removed_later() {
    let mut bench = Bench::running(CheckpointOptions { retained: 2, ..options() });
    bench.complete_next();
    bench.complete_next();
    bench.interrupt(&[]);
    let unreadable = |bench: &mut Bench, checkpoint| {
        let reason = format!("chk-{checkpoint}: checksum");
        bench.tell(CheckpointEvent::Unreadable { checkpoint, reason });
    };
    unreadable(&mut bench, 2);
    assert_eq!(restore_point(&bench).0, 1);
    bench.tell(CheckpointEvent::Redeployed { deployment: 1, tasks: Vec::new() });
    bench.deployment = 1;
    bench.tell(CheckpointEvent::AllRunning);
    let (id, effects) = bench.complete_next();
    assert_eq!((id, restore_point(&bench).0), (3, 3));
    assert!(removed(&effects).contains(&Removal::Directory(chk(2))));
    assert!(!removed(&effects).contains(&Removal::Directory(chk(1))), "two that can be read are kept");

    unreadable(&mut bench, 3);
    unreadable(&mut bench, 1);
    // Starting over would count everything twice.
    assert_eq!(bench.coordinator.restore_point(), RestorePoint::Lost { reason: "chk-3: checksum".to_owned() });
}

#[test]
fn a_job_started_from_a_savepoint_leaves_it_alone() {
    let mut bench = Bench::running(options());
    bench.coordinator = CheckpointCoordinator::new(two_by_two(), options());
    bench.coordinator.restore(given(41, "file:///savepoints/s"), RestoreMode::NoClaim, bench.now).unwrap();
    assert_eq!(restore_point(&bench), (41, vec![42]));
    bench.tell(CheckpointEvent::AllRunning);
    assert_eq!(restore_point(&bench), (41, vec![]), "committed before any task ran");
    assert_eq!(bench.coordinator.view().latest_restored.unwrap().id, 41);
    let mut bases = Vec::new();
    for checkpoint in [42, 43] {
        bench.wait(10);
        let CheckpointEffect::Trigger { trigger, .. } = &bench.enumerated(checkpoint)[0] else { panic!() };
        bases.push(trigger.base);
        bench.tasks.clone().into_iter().for_each(|task| drop(bench.ack(checkpoint, task)));
        assert!(removed(&bench.written(checkpoint)).iter().all(|item| !format!("{item:?}").contains("savepoints")));
    }
    // The first shares no file with it, the next may share with the first.
    assert_eq!(bases, [None, Some(42)]);
    assert_eq!(restore_point(&bench).0, 43);
    assert!(removed(&bench.end(JobStatus::Finished)).iter().all(|item| !format!("{item:?}").contains("savepoints")));
}

#[test]
fn a_claimed_checkpoint_is_removed_when_nothing_refers_to_it() {
    let mut bench = Bench::running(options());
    bench.coordinator = CheckpointCoordinator::new(two_by_two(), options());
    let mut given = given(41, "file:///old/chk-41");
    let state = crate::SubtaskState {
        subtask: 0,
        tables: Vec::new(),
        lists: snapshot_in(task(0, 0), &["file:///old/chk-41/a", "file:///old/shared/b"]).operators.remove(0).lists,
    };
    Arc::make_mut(&mut given.metadata).operators.push(crate::OperatorMetadata {
        id: operator(0),
        name: "V0".to_owned(),
        uid: None,
        parallelism: 2,
        max_parallelism: 128,
        finished: Vec::new(),
        subtasks: vec![state],
    });
    bench.coordinator.restore(given, RestoreMode::Claim, bench.now).unwrap();
    bench.tell(CheckpointEvent::AllRunning);
    bench.wait(10);
    bench.enumerated(42);
    // It still uses a file of it.
    bench.ack_with(42, task(0, 0), &snapshot_in(task(0, 0), &["file:///old/shared/b"]), &[]);
    for each in [task(0, 1), task(1, 0), task(1, 1)] {
        bench.ack(42, each);
    }
    let old =
        [Removal::File("file:///old/chk-41/_metadata".to_owned()), Removal::Directory("file:///old/chk-41".to_owned())];
    assert_eq!(removed(&bench.written(42)), old);
    let gone = removed(&bench.complete_next().1);
    assert!(gone.contains(&Removal::File("file:///old/shared/b".to_owned())), "{gone:?}");
}

#[test]
fn output_of_a_sink_that_the_job_has_not_is_refused_by_name() {
    let mut given = given(41, "file:///savepoints/s");
    let stranger = weir_model::OperatorId::from_seed(b"gone");
    let metadata = Arc::make_mut(&mut given.metadata);
    metadata.committables = vec![(stranger, vec![vec![1]])];
    metadata.operators.push(crate::OperatorMetadata {
        id: stranger,
        name: "Old sink".to_owned(),
        uid: Some("old-sink".to_owned()),
        parallelism: 1,
        max_parallelism: 128,
        finished: Vec::new(),
        subtasks: Vec::new(),
    });
    let mut coordinator = CheckpointCoordinator::new(two_by_two(), options());
    let error = coordinator.restore(given, RestoreMode::NoClaim, Duration::ZERO).unwrap_err();
    assert!(
        error.contains("operator `Old sink` (uid `old-sink`)") && error.contains("file:///savepoints/s"),
        "{error}"
    );
    assert_eq!(coordinator.restore_point(), RestorePoint::Beginning);
}

#[test]
fn a_job_goes_on_with_another_number_of_subtasks() {
    let mut bench = Bench::running(options());
    bench.complete_next();
    bench.wait(10);
    bench.interrupt(&[]);
    let wider = job(&[2, 3], &[(0, 1, Partitioner::Hash)]);
    bench.tasks = wider.tasks().collect();
    bench.coordinator.rescale(wider, None);
    assert_eq!(restore_point(&bench).0, 1);
    assert_eq!(bench.finish(task(1, 2), &[1]), [], "not deployed yet");
    bench.deployment = 1;
    bench.tell(CheckpointEvent::Redeployed { deployment: 1, tasks: Vec::new() });
    bench.tell(CheckpointEvent::AllRunning);
    let (id, _) = bench.complete_next();
    let RestorePoint::Checkpoint { checkpoint, .. } = bench.coordinator.restore_point() else { panic!() };
    assert_eq!((checkpoint.metadata.checkpoint, checkpoint.metadata.operators[1].parallelism), (id, 3));
    let folder = checkpoint.directory.clone().unwrap();
    let expect = [Removal::File(format!("{folder}/_metadata")), Removal::Directory(folder)];
    assert_eq!(checkpoint.disposal(), expect);
}
