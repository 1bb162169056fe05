//! What becomes of a job whose processes are killed or stopped.

use std::time::Duration;

use weir_testkit::{Run, Running, lines_in, names_in, signal, state_of};

fn job(name: &str) -> Run {
    Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job").arg(name)
}

/// A job on two workers that is under way, and the workers.
fn waiting(arguments: &str) -> (Running, Vec<u32>) {
    let run = job("waits").words("--workers 2 -p 2").words(arguments).start();
    run.await_stderr("under way");
    let workers = run.await_children(2);
    (run, workers)
}

#[test]
fn a_killed_worker_is_named_with_its_signal() {
    for victim in [0, 1] {
        let (run, workers) = waiting("--quiet");
        signal(workers[victim], libc::SIGKILL);
        let ended = run.wait();
        ended.exits(1).says(&["Job waits failed: ", "was lost: worker ", "was killed by signal 9 (SIGKILL)"]);
        assert!(ended.took < Duration::from_secs(10), "{ended:?}");
    }
}

#[test]
fn output_of_a_job_that_lost_a_worker_stays_invisible() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let run = job("numbers").words("--unbounded --rate 20000 --workers 2 --quiet --out").arg(&out).start();
    let workers = run.await_children(2);
    std::thread::sleep(Duration::from_millis(300));
    signal(workers[1], libc::SIGKILL);
    run.wait().exits(1);
    assert_eq!(names_in(folder.path()), [""; 0], "the folder was made by the run and goes with it");
}

#[test]
fn ctrl_c_does_not_wait_for_a_worker_that_is_stopped() {
    let (run, workers) = waiting("-D task.cancellation.timeout=500ms --quiet");
    signal(workers[0], libc::SIGSTOP);
    while state_of(workers[0]) != Some('T') {
        std::thread::sleep(Duration::from_millis(1));
    }
    run.interrupt();
    let ended = run.wait();
    ended.exits(130).says(&["did not stop when they were told to"]);
    assert!(ended.took < Duration::from_secs(10), "{ended:?}");
}

#[test]
fn a_failure_does_not_wait_for_a_worker_that_is_stopped() {
    let (run, workers) = waiting("-D task.cancellation.timeout=500ms --quiet");
    signal(workers[0], libc::SIGSTOP);
    signal(workers[1], libc::SIGKILL);
    let ended = run.wait();
    ended.exits(1).says(&["SIGKILL", "did not stop when they were told to"]);
    assert!(ended.took < Duration::from_secs(10), "{ended:?}");
}

#[test]
fn workers_end_with_their_driver() {
    let (run, _) = waiting("");
    run.signal(libc::SIGKILL);
    // `wait` asserts that no process is left a second later.
    assert_eq!(run.wait().signal(), Some(libc::SIGKILL));
}

#[test]
fn what_a_killed_driver_left_is_removed_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let run = job("numbers").words("--unbounded --rate 20000 --quiet --out").arg(&out).start();
    while names_in(&out).len() < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    run.signal(libc::SIGKILL);
    run.wait();
    assert!(names_in(&out).iter().all(|name| name.starts_with('.')), "{:?}", names_in(&out));
    job("numbers").words("--count 100 --quiet --out").arg(&out).run().exits(0);
    assert_eq!(lines_in(&out).len(), 100);
    assert!(names_in(&out).iter().all(|name| name.starts_with("part-")), "{:?}", names_in(&out));
}

#[test]
fn sigterm_ends_a_run_as_ctrl_c_does() {
    let (run, _) = waiting("");
    run.signal(libc::SIGTERM);
    run.wait().exits(130).says(&["SIGTERM: stopping the job", "Job waits interrupted"]);
}

/// A terminal sends Ctrl-C to every process of the job.
#[test]
fn ctrl_c_to_all_processes_is_decided_by_the_driver() {
    for delay in [0, 5, 20, 300] {
        let run = job("waits").words("--workers 2 -p 2").start();
        let workers = run.await_children(2);
        std::thread::sleep(Duration::from_millis(delay));
        workers.iter().for_each(|&pid| signal(pid, libc::SIGINT));
        run.interrupt();
        let ended = run.wait();
        ended.exits(130);
        // The earliest come before the workers have reported.
        let early = ended.stderr.contains("interrupted before the job had started");
        assert!(early || ended.stderr.contains("Ctrl-C: stopping the job"), "{ended:?}");
    }
}

#[test]
fn a_builder_that_is_not_deterministic_is_found_out() {
    let ended = job("random").words("--workers 2").run();
    ended.exits(1).says(&["built another job graph", "not deterministic", "same graph from the same arguments"]);
    job("random").words("--quiet").run().exits(0);
}
