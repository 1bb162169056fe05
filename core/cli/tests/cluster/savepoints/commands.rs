//! Taking, using and removing savepoints.

use serde_json::Value;

use super::{difference, inspect, json, numbered, refusal, run, run_refused, wait_for_output};
use crate::harness::{Cluster, wait_for};

#[test]
fn a_job_is_stopped_with_a_savepoint_goes_on_from_it_and_the_savepoint_is_removed() {
    let (cluster, _) = Cluster::with_task_managers(&[1], &[]);
    let folder = cluster.make_folder("savepoints");
    let first = run(&cluster, "ticks", &["-p", "1"], &[]);
    cluster.wait_until_running(&first);
    let said = refusal(&cluster, &["savepoint", &first]);
    assert!(said.contains("execution.checkpointing.savepoint-dir"), "{said}");
    // A job without an interval takes one when somebody asks.
    let checkpoint = json(&cluster, &["checkpoint", &first]);
    assert_eq!((&checkpoint["checkpoint"], &checkpoint["path"]), (&Value::from(1), &Value::Null));
    let kept = json(&cluster, &["savepoint", &first, &folder]);
    assert_eq!(cluster.state(&first), "RUNNING");
    let stopped = json(&cluster, &["stop", &first, "-p", &folder]);
    assert_eq!(cluster.state(&first), "FINISHED");
    let counts = cluster.get(&format!("/jobs/{first}/checkpoints"))["counts"].clone();
    assert_eq!((&counts["completed"], &counts["failed"]), (&Value::from(3), &Value::from(0)), "{counts}");
    let said = refusal(&cluster, &["stop", &first, "-p", &folder]);
    assert!(said.contains("has ended already: it is FINISHED"), "{said}");

    let savepoint = stopped["savepoint"].as_str().unwrap();
    let inspected = inspect(savepoint);
    assert_eq!((&inspected["kind"], &inspected["job_id"]), (&Value::from("suspend"), &Value::from(first.as_str())));
    let second = run(&cluster, "ticks", &["-p", "1", "-s", savepoint, "-rm", "no_claim"], &[]);
    cluster.wait_until_running(&second);
    let restored = cluster.get(&format!("/jobs/{second}/checkpoints"))["latest"]["restored"].clone();
    assert_eq!((&restored["external_path"], &restored["is_savepoint"]), (&stopped["savepoint"], &Value::from(true)));
    cluster.cancel(&second);

    let kept = kept["savepoint"].as_str().unwrap();
    json(&cluster, &["savepoint", "--dispose", kept]);
    let said = refusal(&cluster, &["savepoint", "--dispose", kept]);
    assert!(said.contains("does not exist"), "{said}");
    inspect(savepoint);
}

#[test]
fn state_without_an_operator_is_left_behind_only_if_that_is_allowed() {
    let (cluster, _) = Cluster::with_task_managers(&[1], &[]);
    let folder = cluster.make_folder("savepoints");
    let (first_out, second_out) =
        (cluster.path("first").display().to_string(), cluster.path("second").display().to_string());
    let first = run(&cluster, "versions", &["-p", "1"], &["--out", &first_out, "--count", "100000"]);
    cluster.wait_until_running(&first);
    let stopped = json(&cluster, &["stop", &first, "-p", &folder]);
    let savepoint = stopped["savepoint"].as_str().unwrap();
    let own = ["--out", &second_out, "--count", "100000", "--change", "uid"];
    let said = run_refused(&cluster, "versions", &["-p", "1", "-s", savepoint], &own);
    assert!(said.contains("`Visits` (uid `visits`)") && said.contains("--allowNonRestoredState"), "{said}");
    let second = run(&cluster, "versions", &["-p", "1", "-s", savepoint, "-n"], &own);
    cluster.wait_until_running(&second);
    json(&cluster, &["stop", &second, "-p", &folder]);
    // The function begins with nothing.
    assert!(cluster.output("second").iter().any(|line| line.contains(" 1 last ")), "{:?}", cluster.output("second"));
}

#[test]
fn a_savepoint_that_is_claimed_goes_with_the_checkpoints_that_replace_it_and_others_stay() {
    let (cluster, _) = Cluster::with_task_managers(&[1], &[]);
    let folder = cluster.make_folder("savepoints");
    let checkpoints = format!("-Dexecution.checkpointing.dir={}", cluster.make_folder("checkpoints"));
    let first = run(&cluster, "ticks", &["-p", "1"], &[]);
    cluster.wait_until_running(&first);
    let savepoint = json(&cluster, &["stop", &first, "-p", &folder])["savepoint"].as_str().unwrap().to_owned();
    let path = savepoint.strip_prefix("file://").unwrap();
    for (mode, stays) in [("no_claim", true), ("claim", false)] {
        let job = run(&cluster, "ticks", &["-p", "1", "-s", &savepoint, "-rm", mode, &checkpoints], &[]);
        cluster.wait_until_running(&job);
        let answer = json(&cluster, &["checkpoint", "--full", &job]);
        assert!(answer["path"].as_str().unwrap().contains("/chk-"), "{answer}");
        if !stays {
            wait_for("the claimed savepoint to go", || !std::path::Path::new(path).exists());
        }
        cluster.cancel(&job);
        cluster.wait_for_state(&job, "CANCELED");
        assert_eq!(std::path::Path::new(path).exists(), stays, "{mode}");
    }
}

#[test]
fn a_checkpoint_that_is_retained_when_its_job_is_canceled_is_what_the_next_one_starts_from() {
    let (cluster, _) = Cluster::with_task_managers(&[1], &[]);
    let checkpoints = format!("-Dexecution.checkpointing.dir={}", cluster.make_folder("checkpoints"));
    let retained = "-Dexecution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION";
    let out = cluster.path("out").display().to_string();
    let own = ["--out", &out, "--count", "4000"];
    let interval = "-Dexecution.checkpointing.interval=100 ms";
    let first = run(&cluster, "versions", &["-p", "1", &checkpoints, retained, interval], &own);
    wait_for_output(&cluster, "out", 1_000);
    cluster.cancel(&first);
    cluster.wait_for_state(&first, "CANCELED");
    let kept: Vec<_> = std::fs::read_dir(cluster.path("checkpoints").join(&first)).unwrap().flatten().collect();
    let kept: Vec<_> = kept.iter().filter(|it| it.file_name().to_str().unwrap().starts_with("chk-")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let path = kept[0].path().display().to_string();
    let second = run(&cluster, "versions", &["-p", "1", &checkpoints, "-s", &path], &own);
    cluster.wait_for_state(&second, "FINISHED");
    let found: Vec<_> =
        cluster.output("out").iter().map(|line| line.split(" last").next().unwrap().to_owned()).collect();
    let mut found = found;
    found.sort();
    let expected = numbered((0..4_000).map(|n| (n % 5).to_string()));
    assert_eq!(difference(&found, &expected), None);
    // It was the first job's, and the second one did not claim it.
    let said = json(&cluster, &["savepoint", "--dispose", &path]);
    assert!(said["disposed"].is_string(), "{said}");
    assert!(!std::path::Path::new(&path).exists());
}
