use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::support::{call, one_job, outcome, two_jobs, weir};

#[test]
fn the_jobs_output_and_exit_code_are_passed_on() {
    let job = one_job();
    let run = call(&["run", "-p", "1", &job, "--", "--count", "3"]).expect(0).stderr_has("Job numbers finished");
    assert_eq!(run.stdout, "0\n1\n2\n");
    call(&["run", "-p", "1", &job, "--", "--count", "3", "--fail-at", "1"]).expect(1).stderr_has("this is number 1");
    call(&["run", &job]).expect(2).stderr_has("--count").stderr_has("Usage: cli-one-job");
    call(&["run", &job, "--", "--count", "three"]).expect(2).stderr_has("invalid value 'three'");
    call(&["run", &job, "--", "--help"]).expect(0).stdout_has("How many numbers to print");
}

#[test]
fn what_a_job_prints_is_complete_and_in_order() {
    let run = call(&["run", "-q", "-p", "1", &one_job(), "--", "--count", "30000"]).expect(0);
    let expect: String = (0..30_000).map(|number| format!("{number}\n")).collect();
    assert!(run.stdout == expect, "{} lines", run.stdout.lines().count());
}

#[test]
fn a_run_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = weir();
    command.args(["run", "-q", "-p1", &one_job(), "--", "--count", "1"]).env("TMPDIR", folder.path());
    outcome(&mut command).expect(0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let runs: Vec<_> =
        (0..2).map(|_| std::thread::spawn(|| call(&["run", "-q", "-p1", &one_job(), "--", "--count", "3"]))).collect();
    for run in runs {
        assert_eq!(run.join().unwrap().expect(0).stdout, "0\n1\n2\n");
    }
}

#[test]
fn contradictions_are_refused_before_anything_is_started() {
    let job = one_job();
    for (words, part) in [
        (&["-t", "local", "-m", "localhost:1"][..], "leave one of them out"),
        (&["-d"], "add -t remote"),
        (&["-t", "remote", "--workers", "2"], "--workers is for a local cluster"),
        (&["-t", "yarn"], "local, remote"),
        (&["-m", "yarn-cluster"], "HOST:PORT"),
        (&["-p", "0"], "between 1 and"),
        (&["-D", "rest.port"], "rest.port"),
    ] {
        let refused = call(&[&["run"], words, &[&job, "--", "--count", "1"]].concat()).expect(2).stderr_has(part);
        assert_eq!(refused.stdout, "");
    }
    call(&["run", "-m", "localhost:1", &job, "--", "--count", "1"]).expect(1).stderr_has("no JobManager answers at");
}

#[test]
fn options_of_every_job_reach_it() {
    let job = one_job();
    let quiet = call(&["run", "-q", "-Dparallelism.default=1", "--workers", "2", &job, "--", "--count", "1"]).expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("0\n", ""));
    let json = call(&["run", "--output", "json", "--parallelism=1", &job, "--", "--count", "2"]).expect(0);
    assert_eq!(json.last_line_as_json()["records_in"], 2);
    call(&["run", "-D", "paralelism.default=1", &job, "--", "--count", "1"])
        .expect(2)
        .stderr_has("did you mean \"parallelism.default\"");
    call(&["run", "-D", "rest.port=70000", &job, "--", "--count", "1"]).expect(2).stderr_has("rest.port");
    call(&["run", &two_jobs()]).expect(2).stderr_has("--job NAME: endless, short");
    call(&["run", "-q", "-p1", "--job", "short", &two_jobs()]).expect(0).stdout_has("a\nb\n");
}

#[test]
fn a_name_without_a_slash_is_a_file_here_and_not_one_in_path() {
    let job = std::path::PathBuf::from(one_job());
    let mut command = weir();
    command.current_dir(job.parent().unwrap()).args(["run", "-q", "-p1", "cli-one-job", "--", "--count", "1"]);
    assert_eq!(outcome(&mut command).expect(0).stdout, "0\n");
    call(&["run", "ls"]).expect(2).stderr_has("there is no file or folder ls");
}

#[test]
fn ctrl_c_ends_the_job_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = weir()
        .args(["run", "-p1", "--job", "endless", &two_jobs()])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().expect("the job prints").unwrap();
    // SAFETY: sends a signal to a child that was not waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("Ctrl-C: stopping the job") && said.contains("Job endless interrupted"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
