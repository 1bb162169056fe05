use super::*;
use crate::Externalized;

#[test]
fn what_becomes_of_checkpoints_depends_on_the_end_and_the_option() {
    use Externalized::*;
    use JobStatus::*;
    for (externalized, status, removes) in [
        (No, Finished, true),
        (No, Canceled, true),
        (No, Failed, true),
        (No, Suspended, false),
        (DeleteOnCancellation, Finished, true),
        (DeleteOnCancellation, Canceled, true),
        (DeleteOnCancellation, Failed, false),
        (DeleteOnCancellation, Suspended, false),
        (RetainOnCancellation, Finished, true),
        (RetainOnCancellation, Canceled, false),
        (RetainOnCancellation, Failed, false),
        (RetainOnCancellation, Suspended, false),
    ] {
        let mut bench = Bench::running(CheckpointOptions { externalized, ..options() });
        bench.complete_next();
        let gone = removed(&bench.end(status));
        let expect = [
            Removal::File(format!("{}/_metadata", chk(1))),
            Removal::Directory(chk(1)),
            Removal::Directory(format!("{DIRECTORY}/{JOB}")),
        ];
        assert_eq!(gone, if removes { expect.to_vec() } else { Vec::new() }, "{externalized:?} {status}");
        assert_eq!(bench.status(1), CheckpointStatus::Completed { path: Some(chk(1)), discarded: removes });
    }
}

#[test]
fn the_end_gives_up_what_is_under_way_and_nothing_follows() {
    let mut bench = Bench::running(options());
    bench.complete_next();
    bench.wait(10);
    bench.tell(CheckpointEvent::CheckpointRequested { request: 1, full: false, aligned: false });
    let effects = bench.end(JobStatus::Canceled);
    assert_eq!(aborted(&effects), [2]);
    assert!(done(&effects, 1).unwrap().unwrap_err().contains("the job has ended as CANCELED"));
    assert_eq!(failed_job(&effects), None);
    assert_eq!(bench.wait(1000), []);
    assert_eq!(bench.tell(CheckpointEvent::AllRunning), []);
}

#[test]
fn a_job_that_is_canceled_while_it_is_drained_does_not_fail() {
    let mut bench = Bench::running(options());
    let stop = Some(crate::StopMode::Drain);
    bench.tell(CheckpointEvent::SavepointRequested { request: 1, directory: None, stop });
    assert_eq!(failed_job(&bench.end(JobStatus::Canceled)), None);
}

#[test]
fn the_folder_of_a_job_stays_when_a_savepoint_lies_in_it() {
    let mut bench = Bench::running(options());
    let directory = Some(format!("{DIRECTORY}/{JOB}/savepoints"));
    bench.tell(CheckpointEvent::SavepointRequested { request: 1, directory, stop: None });
    bench.acknowledge_all(1);
    bench.written(1);
    bench.complete_next();
    let gone = removed(&bench.end(JobStatus::Finished));
    assert!(gone.contains(&Removal::Directory(chk(2))));
    assert!(!gone.contains(&Removal::Directory(format!("{DIRECTORY}/{JOB}"))), "{gone:?}");
}

#[test]
fn shared_files_that_nobody_needs_go_with_a_job_whose_checkpoints_stay() {
    let externalized = Externalized::RetainOnCancellation;
    let mut bench = Bench::running(CheckpointOptions { externalized, max_concurrent: 2, ..options() });
    let (a, b) = (shared("a"), shared("b"));
    for (checkpoint, files) in [(1, [a.as_str(), b.as_str()].as_slice()), (2, &[b.as_str()])] {
        bench.wait(10);
        bench.enumerated(checkpoint);
        // The third begins here, so the file may still be in use.
        if checkpoint == 2 {
            bench.wait(10);
        }
        bench.ack_with(checkpoint, task(0, 0), &snapshot_in(task(0, 0), files), &[]);
        for each in [task(0, 1), task(1, 0), task(1, 1)] {
            bench.ack(checkpoint, each);
        }
        assert!(!removed(&bench.written(checkpoint)).contains(&Removal::File(a.clone())));
    }
    let gone = removed(&bench.end(JobStatus::Canceled));
    assert!(gone.contains(&Removal::File(a)) && !gone.contains(&Removal::File(b)), "{gone:?}");
    assert!(!gone.contains(&Removal::Directory(chk(2))), "{gone:?}");
}
