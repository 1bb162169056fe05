//! What becomes of a job whose author's code panics, blocks, or takes all memory.

use std::time::Duration;

use weir_testkit::{Outcome, Run};

fn job(name: &str) -> Run {
    Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job").arg(name)
}

const BYSTANDER: &str = "bystander -> Sink: discard";

/// Panics in `place`, in one process and in two, and checks the report.
#[track_caller]
fn check_panic(place: &str, says: &[&str]) {
    for workers in ["1", "2"] {
        let ended = job("panics").words("-p 2 --quiet --in").arg(place).arg("--workers").arg(workers).run();
        ended
            .exits(1)
            .says(&["Job panics failed: ", "panicked: ", "    at core/testkit/jobs/panicking.rs:"])
            .says(says);
        assert!(!ended.stderr.contains(BYSTANDER), "the others are not to blame: {ended:?}");
        assert!(ended.took < Duration::from_secs(5), "{ended:?}");
    }
}

#[test]
fn a_panic_is_reported_with_task_operator_message_and_place() {
    let of = |operator: &'static str| format!("in operator `{operator}`");
    let record = "no fish in record 500";
    check_panic("source", &["Source: generator of 1000 -> Sink: discard (", record, &of("Source: generator of 1000")]);
    check_panic("map", &["-> fussy map -> Sink: discard (", record, &of("fussy map")]);
    check_panic("behind_exchange", &["failed: fussy map -> Sink: discard (", record, &of("fussy map")]);
    check_panic("key", &[record, &of("Pre-Count")]);
    check_panic("reduce", &[record, &of("Pre-Reduce")]);
    check_panic("connected", &[record, &of("fussy connected")]);
    check_panic("not_text", &["a panic whose payload is not text", &of("not text")]);
}

#[test]
fn a_panic_in_open_process_or_end_names_the_operator() {
    for place in ["open", "process", "end"] {
        check_panic(place, &[&format!("no fish in {place}"), "in operator `fussy process`"]);
    }
    for place in ["keyed_open", "keyed_process", "end_of_key"] {
        check_panic(place, &[&format!("no fish in {place}"), "in operator `fussy keyed`"]);
    }
}

#[test]
fn a_panic_in_display_or_drop_is_reported_like_others() {
    check_panic("display", &["no fish in display", "in operator `Sink: print`"]);
    check_panic("record_drop", &["no fish in record_drop", "in operator `dropping`"]);
    check_panic("capture_drop", &["no fish in capture_drop", "-> capturing -> Sink: discard ("]);
}

#[test]
fn state_without_a_key_is_explained() {
    let ended = job("panics").words("--quiet --in keyed_state_in_end").run();
    ended.exits(1).says(&["where there is no current key (in `open` or `end`)", "in operator `fussy keyed`"]);
}

#[test]
fn a_panic_of_the_jobs_function_is_an_error() {
    for workers in ["1", "2"] {
        let ended = job("builder_panics").arg("--workers").arg(workers).run();
        ended.exits(1).says(&[
            "Job builder_panics cannot start",
            "panicked: no fish in the builder",
            "unbuildable.rs:",
        ]);
    }
}

const STUCK: &str = "did not stop when they were told to";

#[test]
fn ctrl_c_ends_a_job_with_a_blocked_task_and_names_it() {
    for workers in ["1", "2"] {
        let run = job("blocks").words("-D task.cancellation.timeout=1s --quiet --workers").arg(workers).start();
        run.await_stderr("blocking");
        run.interrupt();
        let ended = run.wait();
        ended.exits(130).says(&["Ctrl-C: stopping the job", STUCK, "sleeper -> Sink: discard (1/1)"]);
        assert!(!ended.stderr.contains("other ->"), "only what is stuck is named: {ended:?}");
        assert!(ended.took > Duration::from_secs(1) && ended.took < Duration::from_secs(10), "{ended:?}");
    }
}

#[test]
fn a_failure_beside_a_blocked_task_ends_the_job_and_names_both() {
    for workers in ["1", "2"] {
        let run = job("blocks").words("--fails -D task.cancellation.timeout=300ms --quiet --workers").arg(workers);
        run.run().exits(1).says(&[
            "no fish in record 20",
            "in operator `other`",
            STUCK,
            "sleeper -> Sink: discard (1/1)",
        ]);
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    for workers in ["1", "2"] {
        let run = job("blocks").words("-D task.cancellation.timeout=1h --workers").arg(workers).start();
        run.await_stderr("blocking");
        run.interrupt();
        run.await_stderr("Ctrl-C");
        // Sooner it would count as the same wish.
        std::thread::sleep(Duration::from_millis(700));
        run.interrupt();
        let ended = run.wait();
        ended.exits(130);
        assert!(ended.took < Duration::from_secs(10), "{ended:?}");
    }
}

#[test]
fn a_slow_function_is_not_a_blocked_one() {
    for workers in ["1", "2"] {
        let run = job("slow").words("-D task.cancellation.timeout=10s --workers").arg(workers).start();
        run.await_stderr("under way");
        run.interrupt();
        let ended = run.wait();
        ended.exits(130);
        assert!(!ended.stderr.contains(STUCK), "{ended:?}");
        assert!(ended.took < Duration::from_secs(8), "between two records there is time to stop: {ended:?}");
    }
}

#[test]
fn a_job_that_takes_all_memory_is_ended_with_a_report() {
    for workers in ["1", "2"] {
        let run = job("hoards").words("-D taskmanager.memory.process.size=256mb --quiet --workers").arg(workers);
        let ended = run.run();
        let option = "MiB of memory, more than the 256 MiB that taskmanager.memory.process.size allows";
        ended.exits(1).says(&["Job hoards failed: ", option, "only grow"]);
        assert_eq!(ended.stderr.contains("was lost"), workers == "2", "one process is not lost: {ended:?}");
    }
}

/// In one process nothing can survive this; with workers the driver does.
#[test]
fn an_aborting_worker_is_reported_with_its_last_words() {
    for _ in 0..3 {
        let ended: Outcome = job("giant").words("--quiet -p 2 --workers 2").run();
        let death = "was killed by signal 6 (SIGABRT); its last lines were:";
        ended.exits(1).says(&[
            "Job giant failed: ",
            "on worker ",
            death,
            "    memory allocation of 1152921504606846976 bytes",
        ]);
    }
}
