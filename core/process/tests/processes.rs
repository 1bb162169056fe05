//! Real processes: their output, their end, and that of what they start.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_process::{Command, Process, variables_beginning_with};

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arguments = vec![OsString::from("-c"), OsString::from(script)];
    command
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat[stat.rfind(')').unwrap_or(0)..].starts_with(") Z")
}

fn number_in(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[tokio::test]
async fn output_goes_to_files_and_the_end_is_told_with_the_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("x.out"), folder.path().join("x.err"));
    let mut command = shell("echo hello; echo $GREETING >&2; echo last words >&2; exit 3");
    command.stdout = Some(out.clone());
    command.stderr = Some(err.clone());
    command.environment = vec![("GREETING".to_owned(), "good day".to_owned())];
    command.without = variables_beginning_with("PA");
    command.without.push("GREETING".to_owned());
    let mut process = Process::spawn(command).await.unwrap();
    let ended = process.wait().await;
    assert_eq!(ended.describe(), "exited with code 3; its last lines were:\n    good day\n    last words");
    assert_eq!(process.ended().unwrap().status, ended.status);
    assert_eq!(fs::read_to_string(out).unwrap(), "hello\n");
    assert_eq!(fs::read_to_string(err).unwrap(), "good day\nlast words\n");
}

#[tokio::test]
async fn a_flood_is_bounded_and_its_end_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = shell("i=0; while [ $i -lt 20000 ]; do echo this is line $i >&2; i=$((i+1)); done");
    command.stderr = Some(folder.path().join("x.err"));
    command.max_size = 50_000;
    command.max_old_files = 1;
    let ended = Process::spawn(command).await.unwrap().wait().await;
    assert_eq!(ended.last_lines.last().map(String::as_str), Some("this is line 19999"));
    let sizes = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() < 120_000);
}

#[tokio::test]
async fn no_name_saves_a_process_that_was_left_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // The kernel's name of a process is that of its file.
    let script = format!(
        "cp \"$(command -v sleep)\" {0}/weir-guardian; setsid {0}/weir-guardian 1000 & echo $! > {0}/pid; wait",
        folder.path().display()
    );
    let mut process = Process::spawn(shell(&script)).await.unwrap();
    let named = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "weir-guardian\n");
    until("it has the name", || number_in(&path("pid")).is_some_and(named)).await;
    process.kill();
    process.wait().await;
    until("it is gone", || !runs(number_in(&path("pid")).unwrap())).await;
}

#[tokio::test]
async fn killing_ends_children_that_left_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let script = format!(
        "sleep 1000 & echo $! > {}; setsid sleep 1000 & echo $! > {}; trap '' TERM; wait",
        path("in").display(),
        path("out").display()
    );
    let mut process = Process::spawn(shell(&script)).await.unwrap();
    until("both are started", || number_in(&path("in")).and(number_in(&path("out"))).is_some()).await;
    let children = [number_in(&path("in")).unwrap(), number_in(&path("out")).unwrap()];
    assert!(children.iter().all(|pid| runs(*pid)));
    process.kill();
    let ended = process.wait().await;
    assert_eq!(ended.describe(), "was killed by signal 9 (SIGKILL)");
    for pid in children.into_iter().chain([process.pid()]) {
        until("the child is gone", || !runs(pid)).await;
    }
}

#[tokio::test]
async fn children_do_not_outlive_a_process_that_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let mut process = Process::spawn(shell(&format!("sleep 1000 & echo $! > {}", path.display()))).await.unwrap();
    assert_eq!(process.wait().await.describe(), "exited with code 0");
    let pid = number_in(&path).unwrap();
    until("the child is gone", || !runs(pid)).await;
}

#[tokio::test]
async fn dropping_kills() {
    let process = Process::spawn(shell("sleep 1000")).await.unwrap();
    let pid = process.pid();
    assert!(runs(pid));
    drop(process);
    until("it is gone", || !runs(pid)).await;
}

#[test]
fn a_process_does_not_outlive_its_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let process = runtime.block_on(Process::spawn(shell("sleep 1000"))).unwrap();
    let pid = process.pid();
    std::mem::forget(process);
    drop(runtime);
    let deadline = Instant::now() + Duration::from_secs(20);
    while runs(pid) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn sigint_and_sigterm_are_for_the_parent_only() {
    let mut process = Process::spawn(shell("kill -INT $$; kill -TERM $$; echo alive >&2")).await.unwrap();
    assert_eq!(process.wait().await.describe(), "exited with code 0; its last lines were:\n    alive");
}

#[tokio::test]
async fn what_cannot_be_started_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let check = |command: Command, expect: &'static str| async move {
        let error = Process::spawn(command).await.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(Command::new("/no/such/program"), "/no/such/program does not start: there is no such file").await;
    let plain = folder.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    check(Command::new(&plain), "may not be executed").await;
    let mut command = shell("true");
    command.folder = Some(folder.path().join("nowhere"));
    check(command, "nowhere is not there").await;
}

#[tokio::test]
async fn user_code_is_the_first_to_go_when_memory_runs_out() {
    let mut process = Process::spawn(shell("cat /proc/self/oom_score_adj >&2")).await.unwrap();
    assert_eq!(process.wait().await.last_lines, ["1000"]);
}
