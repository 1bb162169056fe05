//! How records come in and go out: sizes, timing, files, pipes, and Ctrl-C at any moment.

use std::fs::File;
use std::io::{BufRead, BufReader, pipe};
use std::time::{Duration, Instant};

use weir_testkit::{Run, lines_in, names_in};

fn job(name: &str) -> Run {
    Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job").arg(name)
}

#[test]
fn a_record_may_be_far_larger_than_a_buffer() {
    for (kind, bytes) in [("text", 5_000_000), ("bytes", 5_000_000), ("list", 5_000_000), ("bytes", 80_000_000)] {
        for workers in ["1", "2"] {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            let run = job("large").words("--quiet -p 2 --count 2 --kind").arg(kind).arg("--workers").arg(workers);
            run.arg("--bytes").arg(bytes.to_string()).arg("--out").arg(&out).run().exits(0);
            let expect: Vec<String> = (0..2).map(|n| format!("{n} {} bytes, 0 wrong", bytes + n)).collect();
            assert_eq!(lines_in(&out), expect, "{kind}, {workers} workers");
        }
    }
}

#[test]
fn the_runtime_mode_decides_between_every_update_and_the_last() {
    let lines = |words: &str| job("updates").words("--quiet").words(words).run().exits(0).sorted_lines();
    let last = ["0 200", "1 200"];
    assert_eq!(lines("-D execution.runtime-mode=batch"), last);
    assert_eq!(lines("-D execution.runtime-mode=automatic"), last);
    assert_eq!(lines(""), last);
    let updates = lines("-D execution.runtime-mode=streaming -D execution.buffer-timeout=1ms");
    assert!(updates.len() > 4, "400 records over 200 ms are many updates: {updates:?}");
    for expect in last {
        assert!(updates.iter().any(|line| line == expect), "{updates:?}");
    }
    let ended = job("updates").words("--unbounded -D execution.runtime-mode=batch").run();
    ended.exits(1).says(&["`batch`", "unbounded", "use `streaming`"]);
}

#[test]
fn ctrl_c_ends_an_unbounded_job_that_had_been_emitting() {
    for workers in ["1", "2"] {
        let run = job("updates").words("--unbounded --workers").arg(workers).start();
        run.await_stdout("1 5");
        run.interrupt();
        run.wait().exits(130).says(&["Ctrl-C: stopping the job", "Job updates interrupted after"]);
    }
}

#[test]
fn the_buffer_timeout_moves_records_of_a_busy_source() {
    for workers in ["1", "2"] {
        // The source takes 8 minutes; a batch of it would take 20 seconds.
        let started = Instant::now();
        let run = job("trickle").words("--quiet -D execution.buffer-timeout=20ms --workers").arg(workers).start();
        run.await_stdout("number 9");
        assert!(started.elapsed() < Duration::from_secs(5));
        run.interrupt();
        run.wait().exits(130);
    }
    let run = job("trickle").words("--quiet -D execution.buffer-timeout=disabled").start();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(run.stdout_so_far(), "", "batches leave only when they are full");
    run.interrupt();
    run.wait().exits(130);
}

#[test]
fn ctrl_c_at_any_moment_leaves_all_of_the_output_or_nothing() {
    // A run takes some 50 to 200 ms; the moments are spread over all of it.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut ends = [0, 0];
    for round in 0..16 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_micros((seed >> 33) % 120_000);
        let workers = if round % 2 == 0 { "1" } else { "2" };
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let command =
            || job("numbers").words("--count 30000 --quiet -p 2 --workers").arg(workers).arg("--out").arg(&out);
        let run = command().start();
        std::thread::sleep(delay);
        run.interrupt();
        let ended = run.wait();
        // Before the program has begun, the signal itself ends the process: a shell shows 130 for that, too.
        let interrupted = ended.code() == Some(130) || ended.signal() == Some(libc::SIGINT);
        assert!(interrupted || ended.code() == Some(0), "seeded delay {delay:?}: {ended:?}");
        ended.no_raw_panic();
        let names = names_in(&out);
        assert!(names.iter().all(|name| name.starts_with("part-")), "delay {delay:?} left {names:?}");
        ends[usize::from(interrupted)] += 1;
        if interrupted && ended.code().is_some() && names.is_empty() {
            assert!(!out.exists(), "delay {delay:?}: a folder the run made goes with it");
            command().run().exits(0);
        }
        match lines_in(&out).len() {
            0 => assert!(interrupted, "delay {delay:?}: {ended:?}"),
            n => assert_eq!(n, 30_000, "delay {delay:?}"),
        }
    }
    assert!(ends[1] > 0, "no moment was early enough to interrupt anything");
}

#[test]
fn output_that_is_there_is_refused_unless_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let write = |words: &str| job("numbers").words("--quiet").words(words).arg("--out").arg(&out).run();
    write("--count 10").exits(0);
    let shown = out.display().to_string();
    write("--count 20").exits(1).says(&[&shown, "part-", "overwrite"]);
    assert_eq!(lines_in(&out).len(), 10, "the old output stays");
    write("--count 20 --overwrite").exits(0);
    assert_eq!(lines_in(&out).len(), 20);
    assert!(names_in(&out).iter().all(|name| name.starts_with("part-")), "{:?}", names_in(&out));
}

#[test]
fn a_file_where_the_output_should_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::write(&out, "precious").unwrap();
    job("numbers").arg("--out").arg(&out).run().exits(1).says(&["cannot start", "out", "directory"]);
    assert_eq!(std::fs::read_to_string(out).unwrap(), "precious");
}

#[test]
fn a_reader_that_goes_away_ends_the_job_with_a_message() {
    for workers in ["1", "2"] {
        let (reader, writer) = pipe().unwrap();
        let run = job("prints").words("--rate 5000 --quiet --workers").arg(workers).stdout(writer).start();
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert!(line.contains("number"), "{line}");
        run.wait().exits(1).says(&["Job prints failed", "standard output was closed by the program that reads it"]);
    }
}

#[test]
fn a_closed_standard_output_panics_nothing() {
    for words in ["--job plan --explain", "--help", "--job no_sink --output json", "--job waits --help"] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let ended = Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words(words).stdout(writer).run();
        ended.no_raw_panic();
        assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
    }
}

#[test]
fn a_full_disk_behind_standard_output_fails_the_job_with_a_hint() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for workers in ["1", "2"] {
        let ended = job("prints").words("--quiet --workers").arg(workers).stdout(full()).run();
        ended.exits(1).says(&["Job prints failed", "standard output", "full", "free some space"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let ended = job("numbers").words("--output json --out").arg(folder.path().join("out")).stdout(full()).run();
    ended.exits(1).says(&["standard output cannot be written"]);
}

#[test]
fn two_jobs_do_not_write_to_one_directory() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let first = job("numbers").words("--unbounded --rate 100 --quiet --out").arg(&out).start();
    while names_in(&out).len() < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    job("numbers")
        .words("--overwrite --out")
        .arg(&out)
        .run()
        .exits(1)
        .says(&["out is being written to by another job"]);
    first.interrupt();
    first.wait().exits(130);
    assert!(!out.exists());
}

#[test]
fn a_place_where_nothing_can_be_written_is_refused_before_the_start() {
    let ended = job("numbers").words("--out /proc/weir/out").run();
    ended.exits(1).says(&["Job numbers cannot start: output /proc/weir", "cannot be created"]);
}

/// The size limit stands for a full disk: a write of a part file fails half-way.
#[test]
fn a_write_that_fails_half_way_publishes_nothing() {
    for workers in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = r#"trap '' XFSZ; ulimit -f 16; exec "$@""#;
        let run = Run::of("/bin/sh").arg("-c").arg(script).arg("sh").arg(env!("CARGO_BIN_EXE_weir-test-jobs"));
        let run = run.words("--job numbers --count 100000 --quiet --workers").arg(workers).arg("--out").arg(&out);
        let shown = out.display().to_string();
        run.run().exits(1).says(&["Job numbers failed", "Sink: txt files", &shown, "cannot be written", "too large"]);
        assert!(!out.exists(), "{:?}", names_in(&out));
    }
}

#[test]
fn progress_is_told_line_by_line_where_there_is_no_terminal() {
    let run = job("waits").words("-D weir.progress.interval=20ms -p 2").start();
    run.await_stderr(" RUNNING | Source: generator");
    run.await_stderr("/s busy ");
    run.interrupt();
    let ended = run.wait();
    ended.exits(130);
    assert!(!ended.stderr.contains('\r') && !ended.stderr.contains('\u{1b}'), "{ended:?}");
}
