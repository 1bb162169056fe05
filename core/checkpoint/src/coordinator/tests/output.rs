use super::*;

/// A checkpoint by interval to which the tasks of vertex 1 bring this output.
fn complete_with(bench: &mut Bench, output: [u8; 2]) -> Vec<CheckpointEffect> {
    bench.wait(10);
    let checkpoint = bench.coordinator.last_checkpoint();
    bench.enumerated(checkpoint);
    bench.ack(checkpoint, task(0, 0));
    bench.ack(checkpoint, task(0, 1));
    bench.ack_with(checkpoint, task(1, 0), &TaskSnapshot::default(), &output[..1]);
    bench.ack_with(checkpoint, task(1, 1), &TaskSnapshot::default(), &output[1..]);
    bench.written(checkpoint)
}

fn confirm(bench: &mut Bench, checkpoint: u64) {
    assert_eq!(bench.tell(CheckpointEvent::Committed { checkpoint, result: Ok(()) }), []);
}

#[test]
fn output_is_committed_with_the_checkpoint_it_is_part_of() {
    let mut bench = Bench::running(options());
    assert_eq!(committed(&complete_with(&mut bench, [1, 2])), [1, 2]);
    // Should all tasks fail now, it is not known whether it is visible.
    assert_eq!(restore_point(&bench), (1, vec![1, 2]));
    confirm(&mut bench, 1);
    assert_eq!(restore_point(&bench), (1, vec![]));
    assert_eq!(committed(&complete_with(&mut bench, [3, 4])), [3, 4]);
}

#[test]
fn output_of_checkpoints_that_fail_goes_with_the_next_one() {
    let mut bench = Bench::running(CheckpointOptions { tolerable_failures: None, ..options() });
    bench.wait(10);
    bench.enumerated(1);
    bench.ack_with(1, task(1, 0), &TaskSnapshot::default(), &[1]);
    bench.decline_with(1, task(1, 1), DeclineCause::Failed, &[2]);
    // It had not heard of it yet.
    bench.ack_with(1, task(0, 0), &TaskSnapshot::default(), &[3]);
    bench.decline_with(1, task(0, 1), DeclineCause::NotReady, &[4]);
    assert_eq!(committed(&complete_with(&mut bench, [5, 6])), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn output_after_the_barrier_waits_for_the_next_checkpoint() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    bench.enumerated(1);
    bench.ack_with(1, task(1, 0), &TaskSnapshot::default(), &[1]);
    bench.finish(task(1, 0), &[9]);
    for each in [task(0, 0), task(0, 1), task(1, 1)] {
        bench.ack(1, each);
    }
    assert_eq!(committed(&bench.written(1)), [1]);
    bench.wait(10);
    bench.enumerated(2);
    for each in [task(0, 0), task(0, 1), task(1, 1)] {
        bench.ack(2, each);
    }
    assert_eq!(committed(&bench.written(2)), [9]);
}

#[test]
fn a_savepoint_has_output_without_making_it_visible() {
    let mut bench = Bench::running(options());
    bench.tell(CheckpointEvent::SavepointRequested { request: 1, directory: None, stop: None });
    bench.enumerated(1);
    let mut written = Vec::new();
    for each in bench.tasks.clone() {
        written.extend(bench.ack_with(
            1,
            each,
            &TaskSnapshot::default(),
            &[each.vertex as u8 * 2 + each.subtask as u8],
        ));
    }
    let [CheckpointEffect::WriteMetadata { bytes, .. }] = &written[..] else { panic!("{written:?}") };
    let metadata = crate::CheckpointMetadata::decode(bytes, "file:///x").unwrap();
    let mut expect = vec![(operator(0), vec![vec![0], vec![1]]), (operator(1), vec![vec![2], vec![3]])];
    expect.sort();
    assert_eq!(metadata.committables, expect);
    assert_eq!(committed(&bench.written(1)), []);
    assert_eq!(committed(&complete_with(&mut bench, [8, 9])), [0, 1, 2, 3, 8, 9]);
}

#[test]
fn a_commit_that_fails_fails_the_job_and_is_done_again_after_the_restart() {
    let mut bench = Bench::running(options());
    complete_with(&mut bench, [1, 2]);
    let result = Err("disk full".to_owned());
    let effects = bench.tell(CheckpointEvent::Committed { checkpoint: 1, result });
    assert!(failed_job(&effects).unwrap().contains("disk full"));
    assert_eq!(restore_point(&bench), (1, vec![1, 2]));
    bench.restart();
    assert_eq!(restore_point(&bench), (1, vec![]), "committed before all tasks ran");
    assert_eq!(committed(&complete_with(&mut bench, [3, 4])), [3, 4]);
}

#[test]
fn a_restart_that_does_not_get_far_commits_again() {
    let mut bench = Bench::running(options());
    complete_with(&mut bench, [1, 2]);
    bench.interrupt(&[]);
    for deployment in 1..4 {
        assert_eq!(restore_point(&bench), (1, vec![1, 2]));
        bench.tell(CheckpointEvent::Redeployed { deployment, tasks: Vec::new() });
        bench.interrupt(&[]);
    }
}

#[test]
fn what_was_prepared_after_the_last_checkpoint_is_forgotten_with_its_task() {
    let mut bench = Bench::running(CheckpointOptions { tolerable_failures: None, ..options() });
    complete_with(&mut bench, [1, 2]);
    confirm(&mut bench, 1);
    bench.wait(10);
    bench.enumerated(2);
    bench.ack_with(2, task(1, 0), &TaskSnapshot::default(), &[3]);
    bench.ack_with(2, task(1, 1), &TaskSnapshot::default(), &[4]);
    // One region fails; what the other has prepared stays.
    bench.interrupt(&[task(0, 1), task(1, 1)]);
    bench.tell(CheckpointEvent::Redeployed { deployment: 1, tasks: vec![task(0, 1), task(1, 1)] });
    bench.tell(CheckpointEvent::AllRunning);
    assert_eq!(restore_point(&bench), (1, vec![]));
    bench.wait(10);
    bench.enumerated(3);
    bench.ack(3, task(0, 0));
    bench.ack_with(3, task(1, 0), &TaskSnapshot::default(), &[5]);
    bench.deployment = 1;
    bench.ack(3, task(0, 1));
    bench.ack_with(3, task(1, 1), &TaskSnapshot::default(), &[6]);
    assert_eq!(committed(&bench.written(3)), [3, 5, 6]);
}

#[test]
fn the_restart_of_a_region_leaves_a_commit_under_way_alone() {
    let mut bench = Bench::running(options());
    complete_with(&mut bench, [1, 2]);
    bench.interrupt(&[task(0, 1), task(1, 1)]);
    bench.tell(CheckpointEvent::Redeployed { deployment: 1, tasks: vec![task(0, 1), task(1, 1)] });
    bench.tell(CheckpointEvent::AllRunning);
    assert_eq!(restore_point(&bench), (1, vec![1, 2]), "still not known to be visible");
    confirm(&mut bench, 1);
    assert_eq!(restore_point(&bench), (1, vec![]));
}

#[test]
fn output_of_a_node_that_is_no_operator_fails_the_checkpoint() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    bench.enumerated(1);
    let acknowledgement = Acknowledgement {
        checkpoint: 1,
        task: task(0, 0),
        deployment: 0,
        snapshot: TaskSnapshot::default().encode(),
        committables: vec![Committable { node: 77, payload: vec![1] }],
        metrics: SnapshotMetrics::default(),
    };
    let effects = bench.tell(CheckpointEvent::Acknowledged(Box::new(acknowledgement)));
    assert!(failed_job(&effects).unwrap().contains("came with output of node 77"));
}

#[test]
fn at_the_end_everything_that_is_not_known_to_be_visible_is_handed_out_once() {
    let mut bench = Bench::running(options());
    complete_with(&mut bench, [1, 2]);
    bench.finish(task(1, 0), &[3]);
    bench.finish(task(1, 1), &[4]);
    assert_eq!(payloads(&bench.coordinator.take_uncommitted()), [1, 2, 3, 4]);
    assert_eq!(bench.coordinator.take_uncommitted(), []);
}
