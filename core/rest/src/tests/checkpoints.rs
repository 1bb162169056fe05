//! Checkpoints and savepoints: what is shown of them, and taking them.

use std::time::Duration;

use serde_json::{Value, json};
use weir_model::{CheckpointKind, SnapshotMetrics};

use super::fake::{NOW, Server, failed, job_id, options, running, vertex_id, waiting};
use crate::{
    Checkpoint, CheckpointConfig, CheckpointCounts, CheckpointStatus, CheckpointSummary, JobCheckpoints,
    RestoredCheckpoint, Spread, SubtaskCheckpoint, VertexCheckpoint,
};

/// Those of the running job: a checkpoint under way, a savepoint, a checkpoint that failed, and an older one that was removed.
pub(super) fn views() -> JobCheckpoints {
    let metrics = |factor: u64| SnapshotMetrics {
        state_size: 4000 * factor,
        checkpointed_size: 1000 * factor,
        sync: Duration::from_millis(3 * factor),
        asynchronous: Duration::from_millis(40 * factor),
        alignment: Duration::from_millis(5),
        start_delay: Duration::from_millis(2),
        processed: 70 * factor,
        persisted: 0,
        unaligned: false,
    };
    let subtask = |ack: u64, factor| Some(SubtaskCheckpoint { acknowledged: ack, metrics: metrics(factor) });
    let vertices = |trigger: u64, whole: bool| {
        let last = if whole { subtask(trigger + 120, 3) } else { None };
        vec![
            VertexCheckpoint { id: vertex_id("lines"), subtasks: vec![subtask(trigger + 50, 1), last] },
            VertexCheckpoint { id: vertex_id("count"), subtasks: vec![subtask(trigger + 60, 2), None] },
        ]
    };
    let checkpoint = |id, kind, status, whole: bool| Checkpoint {
        id,
        kind,
        status,
        triggered: NOW - 1000 * (10 - id),
        latest_ack: Some(NOW - 1000 * (10 - id) + if whole { 120 } else { 60 }),
        checkpointed_size: 6000,
        state_size: 24_000,
        processed_data: 420,
        persisted_data: 0,
        unaligned: false,
        subtasks: 4,
        acknowledged: if whole { 3 } else { 2 },
        vertices: vertices(NOW - 1000 * (10 - id), whole),
    };
    let under_way = checkpoint(8, CheckpointKind::Checkpoint, CheckpointStatus::InProgress, false);
    let path = Some("file:///savepoints/savepoint-0a0a0a-123456789abc".to_owned());
    let savepoint =
        checkpoint(7, CheckpointKind::Savepoint, CheckpointStatus::Completed { path, discarded: false }, true);
    let broken = CheckpointStatus::Failed { at: NOW - 3500, reason: "the disk is full".to_owned() };
    let broken = checkpoint(6, CheckpointKind::Checkpoint, broken, false);
    let mut old =
        checkpoint(5, CheckpointKind::Checkpoint, CheckpointStatus::Completed { path: None, discarded: true }, true);
    old.unaligned = true;
    let spread = |value: u64| Spread {
        min: value,
        max: 2 * value,
        avg: value + 1,
        p50: 1.5,
        p90: 2.0,
        p95: 3.0,
        p99: 4.0,
        p999: 5.0,
    };
    JobCheckpoints {
        config: CheckpointConfig {
            exactly_once: true,
            interval: Some(3000),
            timeout: 600_000,
            max_concurrent: 1,
            after_tasks_finish: true,
            state_backend: "hashmap".to_owned(),
            directory: Some("file:///checkpoints".to_owned()),
            externalized: true,
            ..CheckpointConfig::default()
        },
        counts: CheckpointCounts { restored: 1, total: 8, in_progress: 1, completed: 6, failed: 1 },
        summary: CheckpointSummary {
            checkpointed_size: spread(1000),
            state_size: spread(4000),
            end_to_end_duration: spread(100),
            ..CheckpointSummary::default()
        },
        latest_completed: Some(old.clone()),
        latest_savepoint: Some(savepoint.clone()),
        latest_failed: Some(broken.clone()),
        latest_restored: Some(RestoredCheckpoint {
            id: 3,
            restored: NOW - 9000,
            savepoint: false,
            path: Some("file:///checkpoints/0a/chk-3".to_owned()),
        }),
        history: vec![under_way, savepoint, broken, old],
    }
}

/// What becomes of an operation, once the fake cluster lets it go on.
async fn outcome(server: &Server, path: &str, trigger: &str) -> Value {
    let path = format!("{path}/{trigger}");
    server.fake.proceed.notify_one();
    loop {
        let (status, found) = server.get(&path).await;
        assert_eq!(status, 200, "{found}");
        if found["status"]["id"] == "COMPLETED" {
            return found["operation"].clone();
        }
        assert_eq!(found, json!({"status": {"id": "IN_PROGRESS"}, "operation": null}));
        tokio::task::yield_now().await;
    }
}

/// Begins an operation; its id.
async fn begin(server: &Server, path: &str, body: &str, status: u16) -> String {
    let (found, answer) = server.ask("POST", path, body).await;
    assert_eq!(found, status, "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    answer["request-id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_that_takes_none_says_so_in_the_words_clients_look_for() {
    let server = Server::new(options());
    for path in ["checkpoints", "checkpoints/config", "checkpoints/details/1"] {
        let message = server.error("GET", &format!("/jobs/{}/{path}", waiting()), "", 404).await;
        assert!(message.contains("Checkpointing has not been enabled"), "{message}");
    }
}

#[tokio::test]
async fn checkpoints_that_are_not_remembered_are_404() {
    let server = Server::new(options());
    let details = format!("/jobs/{}/checkpoints/details", running());
    let message = server.error("GET", &format!("{details}/4"), "", 404).await;
    assert!(message.contains("Could not find checkpointing statistics for checkpoint 4."), "{message}");
    let message = server.error("GET", &format!("{details}/7/subtasks/{}", vertex_id("other")), "", 404).await;
    assert!(message.contains("no checkpoint statistics for task"), "{message}");
    server.error("GET", &format!("{details}/seven"), "", 400).await;
}

#[tokio::test]
async fn a_checkpoint_is_taken_and_its_number_told() {
    let server = Server::new(options());
    let path = format!("/jobs/{}/checkpoints", running());
    let trigger = begin(&server, &path, "", 202).await;
    assert_eq!(trigger.len(), 32);
    assert_eq!(server.get(&format!("{path}/{trigger}")).await.1["operation"], Value::Null);
    assert_eq!(outcome(&server, &path, &trigger).await, json!({"checkpointId": 9}));
    let trigger = begin(&server, &path, r#"{"checkpointType": "FULL"}"#, 202).await;
    let operation = outcome(&server, &path, &trigger).await;
    let cause = &operation["failureCause"];
    assert_eq!(operation.as_object().unwrap().len(), 1, "{operation}");
    assert_eq!(
        (&cause["class"], &cause["stack-trace"]),
        (&json!("CheckpointException"), &json!("tasks are not running"))
    );
    assert!(cause["serialized-throwable"].as_str().unwrap().starts_with("rO0AB"), "{cause}");
    server.error("POST", &path, r#"{"checkpointType": "HALF"}"#, 400).await;
}

#[tokio::test]
async fn a_savepoint_is_taken_where_the_request_says() {
    let server = Server::new(options());
    let job = running();
    let path = format!("/jobs/{job}/savepoints");
    let body = r#"{"target-directory": "/here", "cancel-job": false, "formatType": "CANONICAL"}"#;
    let trigger = begin(&server, &path, body, 202).await;
    let location = json!({"location": "file:///here/savepoint-0a0a0a-1"});
    assert_eq!(outcome(&server, &path, &trigger).await, location);
    assert_eq!(server.fake.noted(), [format!("savepoint {job} Some(\"/here\") GoOn")]);
    let trigger = begin(&server, &path, r#"{"target-directory": "/full"}"#, 202).await;
    let operation = outcome(&server, &path, &trigger).await;
    assert_eq!(operation["failure-cause"]["stack-trace"], "the disk is full");
    let trigger = begin(&server, &path, r#"{"target-directory": "/here", "cancel-job": true}"#, 202).await;
    assert_eq!(outcome(&server, &path, &trigger).await, location);
    assert_eq!(server.fake.noted().last(), Some(&format!("cancel {job}")));
}

#[tokio::test]
async fn a_savepoint_needs_a_folder() {
    let server = Server::new(options());
    for (path, property) in [("savepoints", "target-directory"), ("stop", "targetDirectory")] {
        let message = server.error("POST", &format!("/jobs/{}/{path}", running()), "{}", 400).await;
        let expect = format!(
            "Config key [execution.checkpointing.savepoint-dir] is not set. Property [{property}] must be provided."
        );
        assert_eq!(message, expect);
    }
}

#[tokio::test]
async fn a_job_is_stopped_with_a_savepoint() {
    let server = Server::new(options());
    let job = running();
    let savepoints = format!("/jobs/{job}/savepoints");
    for (body, then) in
        [(r#"{"targetDirectory":"/s"}"#, "Suspend"), (r#"{"targetDirectory":"/s","drain":true}"#, "Drain")]
    {
        let trigger = begin(&server, &format!("/jobs/{job}/stop"), body, 202).await;
        let operation = outcome(&server, &savepoints, &trigger).await;
        assert_eq!(operation, json!({"location": "file:///s/savepoint-0a0a0a-1"}));
        assert_eq!(server.fake.noted().last(), Some(&format!("savepoint {job} Some(\"/s\") {then}")));
    }
}

#[tokio::test]
async fn a_trigger_that_is_repeated_with_its_id_begins_nothing_new() {
    let server = Server::new(options());
    let path = format!("/jobs/{}/savepoints", running());
    let trigger = "00112233445566778899aabbccddeeff";
    let body = format!(r#"{{"target-directory": "/s", "triggerId": "{trigger}"}}"#);
    assert_eq!(begin(&server, &path, &body, 202).await, trigger);
    assert_eq!(begin(&server, &path, &body, 202).await, trigger);
    outcome(&server, &path, trigger).await;
    assert_eq!(begin(&server, &path, &body, 202).await, trigger);
    assert_eq!(server.fake.noted().len(), 1);
    let message = server.error("POST", &path, r#"{"target-directory": "/s", "triggerId": "abc"}"#, 400).await;
    assert!(message.contains("32 hexadecimal digits"), "{message}");
}

#[tokio::test]
async fn operations_that_nobody_began_are_404() {
    let server = Server::new(options());
    let (job, other) = (running(), "0".repeat(32));
    for (path, expect) in [
        (
            format!("/jobs/{job}/savepoints/{other}"),
            format!("no savepoint operation with triggerId={other} for job {job}"),
        ),
        (
            format!("/jobs/{job}/checkpoints/{other}"),
            format!("no checkpoint operation with triggerId={other} for job {job}"),
        ),
        (format!("/savepoint-disposal/{other}"), format!("no savepoint disposal with triggerId={other}")),
    ] {
        let message = server.error("GET", &path, "", 404).await;
        assert!(message.contains(&expect), "{message}");
    }
    server.error("GET", &format!("/jobs/{job}/savepoints/abc"), "", 400).await;
}

#[tokio::test]
async fn jobs_that_have_ended_or_are_unknown_take_none() {
    let server = Server::new(options());
    for path in ["checkpoints", "savepoints", "stop"] {
        let body = r#"{"target-directory": "/s", "targetDirectory": "/s"}"#;
        let message = server.error("POST", &format!("/jobs/{}/{path}", failed()), body, 409).await;
        assert!(message.contains("has ended already: it is FAILED"), "{message}");
        server.error("POST", &format!("/jobs/{}/{path}", job_id(0x77)), body, 404).await;
    }
}

#[tokio::test]
async fn savepoints_are_disposed_of() {
    let server = Server::new(options());
    let path = "/savepoint-disposal";
    let trigger = begin(&server, path, r#"{"savepoint-path": "/s/savepoint-1"}"#, 200).await;
    assert_eq!(outcome(&server, path, &trigger).await, json!({}));
    let trigger = begin(&server, path, r#"{"savepoint-path": "/none"}"#, 200).await;
    let operation = outcome(&server, path, &trigger).await;
    assert_eq!(operation["failure-cause"]["stack-trace"], "there is no _metadata in /none");
    let message = server.error("POST", path, "{}", 400).await;
    assert!(message.contains("savepoint-path"), "{message}");
}
