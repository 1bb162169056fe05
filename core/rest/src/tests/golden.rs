//! Answers compared with files under `tests/golden`: names, types and values; the order of fields does not matter.
//!
//! `WEIR_BLESS=1 cargo test -p weir-rest` writes them anew. Read the difference against Flink's shapes before keeping it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::fake::{Server, failed, options, running, vertex_id, waiting};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"))
}

fn compare(name: &str, found: &Value) {
    let file = file(name);
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::write(&file, format!("{found:#}\n")).unwrap();
        return;
    }
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}; see WEIR_BLESS", file.display()));
    let expect = serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(*found, expect, "{name} differs from {}:\n{found:#}", file.display());
}

/// Name of the file, path under `/v1`; the answer is 200.
fn endpoints() -> Vec<(&'static str, String)> {
    let (job, done, stuck) =
        (format!("/jobs/{}", running()), format!("/jobs/{}", failed()), format!("/jobs/{}", waiting()));
    let vertex = format!("{job}/vertices/{}", vertex_id("lines"));
    let sink = format!("{job}/vertices/{}", vertex_id("print"));
    let list = |path: &str| path.to_owned();
    vec![
        ("config", list("/config")),
        ("overview", list("/overview")),
        ("datasets", list("/datasets")),
        ("jobs", list("/jobs")),
        ("jobs-overview", list("/jobs/overview")),
        ("jobs-metrics", list("/jobs/metrics?get=uptime,numRestarts&agg=min,max,avg,sum")),
        ("job", job.clone()),
        ("job-failed", done.clone()),
        ("job-waiting", stuck.clone()),
        ("job-status", format!("{job}/status")),
        ("job-plan", format!("{job}/plan")),
        ("job-config", format!("{job}/config")),
        ("job-jobmanager-config", format!("{job}/jobmanager/config")),
        ("job-exceptions", format!("{job}/exceptions")),
        ("job-exceptions-limited", format!("{job}/exceptions?maxExceptions=1")),
        ("job-exceptions-filtered", format!("{job}/exceptions?failureLabelFilter=kind:job")),
        ("job-exceptions-none", format!("{stuck}/exceptions")),
        ("job-execution-result-running", format!("{job}/execution-result")),
        ("job-execution-result-failed", format!("{done}/execution-result")),
        ("job-accumulators", format!("{job}/accumulators")),
        ("job-metrics", format!("{job}/metrics?get=uptime,numRestarts,unknown,runningState")),
        ("job-resource-requirements", format!("{job}/resource-requirements")),
        ("job-slot-wait", format!("{stuck}/slot-wait")),
        ("job-slot-wait-not", format!("{job}/slot-wait")),
        ("checkpoints", format!("{job}/checkpoints")),
        ("checkpoints-config", format!("{job}/checkpoints/config")),
        ("checkpoint", format!("{job}/checkpoints/details/7")),
        ("checkpoint-failed", format!("{job}/checkpoints/details/6")),
        ("checkpoint-subtasks", format!("{job}/checkpoints/details/7/subtasks/{}", vertex_id("lines"))),
        ("checkpoint-subtasks-pending", format!("{job}/checkpoints/details/8/subtasks/{}", vertex_id("lines"))),
        ("vertex", vertex.clone()),
        ("vertex-subtasktimes", format!("{vertex}/subtasktimes")),
        ("vertex-taskmanagers", format!("{vertex}/taskmanagers")),
        ("vertex-backpressure", format!("{vertex}/backpressure")),
        ("vertex-backpressure-unknown", format!("{sink}/backpressure")),
        ("vertex-watermarks", format!("{vertex}/watermarks")),
        ("vertex-metrics", format!("{vertex}/metrics?get=0.numRecordsIn,1.Source__lines.numRecordsIn,7.numRecordsIn")),
        ("vertex-subtasks-metrics", format!("{vertex}/subtasks/metrics?get=numRecordsIn,busyTimeMsPerSecond")),
        ("vertex-subtasks-metrics-chosen", format!("{vertex}/subtasks/metrics?get=numRecordsIn&agg=max&subtasks=1-3")),
        ("vertex-subtasks-metrics-unknown", format!("{vertex}/subtasks/metrics?get=numRecordsIn,nothing")),
        ("vertex-subtasks-accumulators", format!("{vertex}/subtasks/accumulators")),
        ("vertex-accumulators", format!("{vertex}/accumulators")),
        ("vertex-flamegraph", format!("{vertex}/flamegraph?type=full")),
        ("vertex-jm-operator-metrics", format!("{vertex}/jm-operator-metrics")),
        ("subtask", format!("{vertex}/subtasks/1")),
        ("subtask-attempt", format!("{vertex}/subtasks/1/attempts/1")),
        ("subtask-attempt-accumulators", format!("{vertex}/subtasks/1/attempts/1/accumulators")),
        ("subtask-metrics", format!("{vertex}/subtasks/1/metrics?get=numRecordsIn,isBackPressured")),
        ("taskmanagers", list("/taskmanagers")),
        ("taskmanagers-metrics", list("/taskmanagers/metrics?get=Status.JVM.Memory.Heap.Used&taskmanagers=tm-1,tm-2")),
        ("taskmanager", list("/taskmanagers/tm-1")),
        ("taskmanager-metrics", list("/taskmanagers/tm-1/metrics?get=Status.JVM.CPU.Load")),
        ("taskmanager-metrics-names", list("/taskmanagers/tm-1/metrics")),
        ("taskmanager-logs", list("/taskmanagers/tm-1/logs")),
        ("taskmanager-thread-dump", list("/taskmanagers/tm-1/thread-dump")),
        ("jobmanager-config", list("/jobmanager/config")),
        ("jobmanager-environment", list("/jobmanager/environment")),
        ("jobmanager-metrics", list("/jobmanager/metrics?get=taskSlotsTotal,Status.JVM.CPU.Load")),
        ("jobmanager-metrics-names", list("/jobmanager/metrics")),
        ("jobmanager-logs", list("/jobmanager/logs")),
        ("jobmanager-thread-dump", list("/jobmanager/thread-dump")),
        ("jars", list("/jars")),
        ("jar-plan", list("/jars/1234_word-count/plan")),
        ("prometheus-targets", list("/prometheus/targets")),
    ]
}

#[tokio::test]
async fn answers_are_in_flinks_shapes() {
    let server = Server::new(options());
    for (name, path) in endpoints() {
        let (status, mut found) = server.get(&format!("/v1{path}")).await;
        assert_eq!(status, 200, "{path}: {found}");
        assert_eq!(server.get(&path).await, (200, found.clone()), "{path} with and without /v1");
        if name == "jobmanager-environment" {
            // What differs between machines.
            found["jvm"]["arch"] = json!("(arch)");
            found["jvm"]["options"] = json!(["(options)"]);
        }
        compare(name, &found);
    }
}

#[test]
fn every_golden_file_belongs_to_an_endpoint() {
    let known = endpoints().into_iter().map(|(name, _)| file(name)).collect::<Vec<_>>();
    let folder = file("x").parent().unwrap().to_owned();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(known.contains(&path), "{} belongs to no endpoint", path.display());
    }
}
