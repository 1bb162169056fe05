//! A source that is not one of Weir's, written with its public names only.

use weir_testkit::{Run, assert_says, lines_in, names_in};

fn job(arguments: &str) -> Run {
    Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job own_source --quiet").words(arguments)
}

#[test]
fn every_number_of_every_split_arrives_once() {
    for (count, split) in [(0, 300), (1, 300), (10_000, 300), (10_000, 1), (1000, 5000)] {
        let mut expect: Vec<String> = (0..count).map(|n| format!("{} {n}", n / split * split)).collect();
        expect.sort();
        for processes in ["-p 1", "-p 3", "-p 2 --workers 2", "-p 3 --workers 2"] {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            job(processes).words(&format!("--count {count} --split {split} --out")).arg(&out).run().exits(0);
            assert!(lines_in(&out) == expect, "{count} in splits of {split} with {processes}: {:?}", lines_in(&out));
        }
    }
}

#[test]
fn its_errors_reach_the_person_from_before_the_start_and_from_the_middle() {
    for processes in ["-p 2", "-p 2 --workers 2"] {
        for (fault, says) in
            [("--split 0", "a split of 0 numbers never ends"), ("--broken-at 7000", "there is no number 7000")]
        {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            job(processes).words(fault).arg("--out").arg(&out).run().exits(1).says(&[says]);
            assert_eq!(names_in(&out), [""; 0], "nothing stays of a failed job");
        }
    }
}

#[test]
fn it_is_shown_in_plans_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = job("--explain --count 12 --out").arg(folder.path().join("out")).run();
    assert_says(&run.exits(0).stdout, &["Source: own numbers below 12"]);
}
