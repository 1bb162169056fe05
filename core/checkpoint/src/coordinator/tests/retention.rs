use super::*;

/// A checkpoint by interval in which the tasks refer to these files.
fn complete_with(bench: &mut Bench, files: &[&str]) -> Vec<Removal> {
    bench.wait(10);
    let checkpoint = bench.coordinator.last_checkpoint();
    bench.enumerated(checkpoint);
    let own = format!("{}/state", chk(checkpoint));
    let mut files = files.to_vec();
    files.push(&own);
    bench.ack_with(checkpoint, task(0, 0), &snapshot_in(task(0, 0), &files), &[]);
    for each in [task(0, 1), task(1, 0), task(1, 1)] {
        bench.ack(checkpoint, each);
    }
    removed(&bench.written(checkpoint))
}

fn metadata_of(checkpoint: u64) -> Removal {
    Removal::File(format!("{}/_metadata", chk(checkpoint)))
}

#[test]
fn older_checkpoints_go_metadata_first() {
    let mut bench = Bench::running(CheckpointOptions { retained: 2, ..options() });
    assert_eq!(complete_with(&mut bench, &[]), []);
    assert_eq!(complete_with(&mut bench, &[]), []);
    assert_eq!(complete_with(&mut bench, &[]), [metadata_of(1), Removal::Directory(chk(1))]);
    assert_eq!(bench.status(1), CheckpointStatus::Completed { path: Some(chk(1)), discarded: true });
    assert_eq!(bench.status(2), CheckpointStatus::Completed { path: Some(chk(2)), discarded: false });
}

#[test]
fn a_shared_file_goes_with_the_last_that_refers_to_it() {
    let mut bench = Bench::running(options());
    let (a, b) = (shared("a"), shared("b"));
    complete_with(&mut bench, &[&a, &b]);
    assert_eq!(complete_with(&mut bench, &[&b]), [metadata_of(1), Removal::File(a), Removal::Directory(chk(1))]);
    assert_eq!(complete_with(&mut bench, &[&b]), [metadata_of(2), Removal::Directory(chk(2))]);
    assert!(complete_with(&mut bench, &[]).contains(&Removal::File(b)));
}

#[test]
fn what_one_under_way_may_refer_to_stays_until_it_ends() {
    let mut bench = Bench::running(CheckpointOptions { max_concurrent: 3, tolerable_failures: None, ..options() });
    let a = shared("a");
    complete_with(&mut bench, &[&a]);
    let begin = |bench: &mut Bench| {
        bench.wait(10);
        let checkpoint = bench.coordinator.last_checkpoint();
        match &bench.enumerated(checkpoint)[0] {
            CheckpointEffect::Trigger { trigger, .. } => trigger.base,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([begin(&mut bench), begin(&mut bench), begin(&mut bench)], [Some(1); 3]);
    bench.tasks.clone().into_iter().for_each(|task| drop(bench.ack(2, task)));
    assert_eq!(removed(&bench.written(2)), [metadata_of(1)]);
    assert_eq!(begin(&mut bench), Some(2), "those that begin now share with the second");
    // The third refers to the file, is complete and replaced by the fifth; the fourth may still do so.
    bench.ack_with(3, task(0, 0), &snapshot_in(task(0, 0), &[&a]), &[]);
    bench.tasks.clone().into_iter().for_each(|task| drop(bench.ack(3, task)));
    bench.written(3);
    assert!(removed(&bench.decline(4, task(0, 0), DeclineCause::Failed)).contains(&Removal::Directory(chk(1))));
    bench.tasks.clone().into_iter().for_each(|task| drop(bench.ack(5, task)));
    let gone = removed(&bench.written(5));
    assert!(gone.contains(&Removal::File(a)), "{gone:?}");
}

#[test]
fn files_in_the_folder_of_an_older_one_stay_while_they_are_referred_to() {
    let mut bench = Bench::running(options());
    complete_with(&mut bench, &[]);
    let old = format!("{}/state", chk(1));
    assert_eq!(complete_with(&mut bench, &[&old]), [metadata_of(1)]);
    assert!(!complete_with(&mut bench, &[&old]).contains(&Removal::Directory(chk(1))));
    let gone = complete_with(&mut bench, &[]);
    assert!(gone.contains(&Removal::File(old)) && gone.contains(&Removal::Directory(chk(1))), "{gone:?}");
}

#[test]
fn what_was_written_for_a_checkpoint_that_failed_goes() {
    let mut bench = Bench::running(CheckpointOptions { tolerable_failures: None, ..options() });
    bench.wait(10);
    bench.enumerated(1);
    let files = [format!("{}/state", chk(1)), shared("new")];
    let snapshot = snapshot_in(task(0, 0), &[&files[0], &files[1]]);
    bench.ack_with(1, task(0, 0), &snapshot, &[]);
    let gone = removed(&bench.decline(1, task(0, 1), DeclineCause::Failed));
    assert_eq!(gone, [Removal::Directory(chk(1)), Removal::File(shared("new"))]);
    // Written before the task had heard of it.
    let late = snapshot_in(task(1, 0), &[&format!("{}/late", chk(1)), &shared("late")]);
    let gone = removed(&bench.ack_with(1, task(1, 0), &late, &[]));
    assert_eq!(gone, [Removal::Directory(chk(1)), Removal::File(shared("late"))]);
}

#[test]
fn files_that_are_not_the_jobs_are_never_removed() {
    let mut bench = Bench::running(options());
    complete_with(&mut bench, &["file:///elsewhere/x"]);
    for _ in 0..3 {
        let gone = complete_with(&mut bench, &[]);
        assert!(!gone.contains(&Removal::File("file:///elsewhere/x".to_owned())), "{gone:?}");
    }
    assert!(!removed(&bench.end(JobStatus::Finished)).contains(&Removal::File("file:///elsewhere/x".to_owned())));
}

#[test]
fn a_removal_that_fails_is_tried_three_times() {
    let mut bench = Bench::running(options());
    bench.complete_next();
    let mut last = bench.complete_next().1;
    let first = vec![metadata_of(1)];
    for attempt in 1..5 {
        let found = last.iter().find_map(|effect| match effect {
            CheckpointEffect::Remove { removal, items } if *items == first => Some(*removal),
            _ => None,
        });
        assert_eq!(found.is_some(), attempt <= 3, "attempt {attempt}: {last:?}");
        if let Some(removal) = found {
            bench.tell(CheckpointEvent::Removed { removal, result: Err("permission denied".to_owned()) });
        }
        last = bench.complete_next().1;
    }
}
