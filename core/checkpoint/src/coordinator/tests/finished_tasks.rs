use super::*;

/// Two sources, each with a consumer of its own, and a sink of all.
fn pipeline() -> CheckpointJob {
    job(&[2, 2, 1], &[(0, 1, Partitioner::Forward), (1, 2, Partitioner::Rebalance)])
}

#[test]
fn a_task_all_of_whose_producers_have_finished_begins_the_barrier() {
    let mut bench = Bench::running_job(pipeline(), options());
    bench.finish(task(0, 0), &[]);
    bench.wait(10);
    assert_eq!(triggered(&bench.enumerated(1)), [(1, vec![task(0, 1), task(1, 0)])]);
    for each in [task(0, 1), task(1, 0), task(1, 1)] {
        assert_eq!(bench.ack(1, each), []);
    }
    let effects = bench.ack(1, task(2, 0));
    let [CheckpointEffect::WriteMetadata { bytes, .. }] = &effects[..] else { panic!("{effects:?}") };
    let metadata = crate::CheckpointMetadata::decode(bytes, &chk(1)).unwrap();
    let finished: Vec<_> = metadata.operators.iter().map(|operator| operator.finished.clone()).collect();
    assert_eq!(finished, [vec![0], vec![], vec![]]);
}

#[test]
fn a_task_that_finishes_without_its_part_counts_and_its_consumers_begin() {
    let mut bench = Bench::running_job(pipeline(), options());
    bench.wait(10);
    bench.enumerated(1);
    // Its barrier never came: its consumer must begin.
    assert_eq!(triggered(&bench.finish(task(0, 0), &[])), [(1, vec![task(1, 0)])]);
    // This one has sent the barrier before it finished.
    bench.ack(1, task(0, 1));
    assert_eq!(bench.finish(task(0, 1), &[]), []);
    // The sink has a producer that still runs.
    assert_eq!(bench.finish(task(1, 0), &[]), []);
    assert_eq!(bench.ack(1, task(1, 1)), []);
    assert!(matches!(bench.ack(1, task(2, 0))[..], [CheckpointEffect::WriteMetadata { .. }]));
}

#[test]
fn the_last_of_many_producers_makes_its_consumers_begin() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    bench.enumerated(1);
    assert_eq!(bench.finish(task(0, 1), &[]), []);
    assert_eq!(triggered(&bench.finish(task(0, 0), &[])), [(1, vec![task(1, 0), task(1, 1)])]);
    bench.finish(task(1, 0), &[5]);
    let effects = bench.finish(task(1, 1), &[6]);
    assert!(matches!(effects[..], [CheckpointEffect::WriteMetadata { .. }]), "{effects:?}");
    // What they prepared at the end is part of it.
    assert_eq!(committed(&bench.written(1)), [5, 6]);
}

#[test]
fn tasks_may_finish_while_enumerators_are_asked() {
    let mut bench = Bench::running(options());
    bench.wait(10);
    for each in [task(0, 0), task(0, 1)] {
        assert_eq!(bench.finish(each, &[]), []);
    }
    assert_eq!(triggered(&bench.enumerated(1)), [(1, vec![task(1, 0), task(1, 1)])]);

    let mut bench = Bench::running(options());
    bench.wait(10);
    for each in bench.tasks.clone() {
        bench.finish(each, &[]);
    }
    assert!(matches!(bench.enumerated(1)[..], [CheckpointEffect::WriteMetadata { .. }]));
}

#[test]
fn a_job_all_of_whose_tasks_have_finished_has_no_more_checkpoints() {
    let mut bench = Bench::running(options());
    for each in bench.tasks.clone() {
        bench.finish(each, &[each.vertex as u8 * 2 + each.subtask as u8]);
    }
    assert_eq!(bench.wait(100), []);
    let effects = bench.tell(CheckpointEvent::CheckpointRequested { request: 1, full: false, aligned: false });
    assert!(done(&effects, 1).unwrap().unwrap_err().contains("all tasks of the job have finished"));
    assert_eq!(payloads(&bench.coordinator.take_uncommitted()), [0, 1, 2, 3]);
    assert_eq!(bench.coordinator.take_uncommitted(), []);
}

#[test]
fn checkpoints_after_the_end_of_tasks_can_be_forbidden() {
    let mut bench = Bench::running(CheckpointOptions { after_tasks_finish: false, ..options() });
    bench.complete_next();
    bench.finish(task(0, 0), &[]);
    assert_eq!(bench.wait(100), []);
    let effects = bench.tell(CheckpointEvent::SavepointRequested { request: 1, directory: None, stop: None });
    assert!(done(&effects, 1).unwrap().unwrap_err().contains("checkpoints-after-tasks-finish"));
}

#[test]
fn a_job_without_sources_is_triggered_at_once() {
    // Cannot be built, but a graph may say so; then nobody has to be asked.
    let mut graph = crate::testing::graph(&[1], &[]);
    graph.vertices[0].operators[0].kind = weir_model::OperatorKind::Transform;
    let job = CheckpointJob::new(JOB, &graph, Default::default());
    let mut bench = Bench::running_job(job, options());
    assert_eq!(triggered(&bench.wait(10)), [(1, vec![task(0, 0)])]);
}

#[test]
fn wide_jobs_are_decided_about_quickly() {
    const WIDTH: u32 = 10_000;
    let mut bench = Bench::running_job(job(&[WIDTH, WIDTH], &[(0, 1, Partitioner::Hash)]), options());
    bench.wait(10);
    assert_eq!(triggered(&bench.enumerated(1))[0].1.len(), WIDTH as usize);
    // Work that grows with the square would take minutes here.
    for subtask in 0..WIDTH {
        bench.finish(task(0, subtask), &[]);
    }
    for subtask in 0..WIDTH - 1 {
        bench.ack(1, task(1, subtask));
    }
    assert!(matches!(bench.ack(1, task(1, WIDTH - 1))[..], [CheckpointEffect::WriteMetadata { .. }]));
}
