use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{call, one_job, outcome, two_jobs, weir};

#[test]
fn the_jobs_output_and_exit_code_are_passed_on() {
    let job = one_job();
    let run = call(&["run", "-p", "1", &job, "--", "--count", "3"]).expect(0).stderr_has("Job numbers finished");
    assert_eq!(run.stdout, "0\n1\n2\n");
    call(&["run", "-p", "1", &job, "--", "--count", "3", "--fail-at", "1"]).expect(1).stderr_has("this is number 1");
    call(&["run", &job]).expect(2).stderr_has("--count");
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
fn ctrl_c_reaches_the_job_and_its_exit_code_comes_back() {
    let mut child = weir()
        .args(["run", "--job", "endless", &two_jobs()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().expect("the job prints").unwrap();
    // SAFETY: sends a signal to a child that was not waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
