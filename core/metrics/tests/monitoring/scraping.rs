//! Prometheus understands the expositions.

use std::fs;
use std::net::SocketAddr;

use serde_json::json;
use weir_metrics::CONTENT_TYPE;

use crate::fixture::{Prometheus, lint, promtool, repository};
use crate::{samples, server};

#[test]
fn promtool_finds_nothing_but_flinks_spelling() {
    lint(&samples::of_job_manager());
    lint(&samples::of_task_manager());
}

#[test]
fn promtool_does_find_what_is_wrong() {
    let broken = samples::of_job_manager().replace("# TYPE weir_jobs gauge", "# TYPE weir_jobs counter");
    let output = promtool(&["check", "metrics"], &broken);
    assert!(String::from_utf8(output.stderr).unwrap().contains("weir_jobs counter metrics should have"));
    assert_eq!(promtool(&["check", "metrics"], "weir_jobs{").status.code(), Some(1));
}

#[test]
fn prometheus_finds_a_cluster_with_the_given_configuration_and_has_its_values() {
    let listener = server::listen();
    let task_manager = listener.local_addr().unwrap();
    server::serve(listener, vec![("/metrics", CONTENT_TYPE, samples::of_task_manager())]);
    let listener = server::listen();
    let job_manager = listener.local_addr().unwrap();
    let target = |address: SocketAddr, component: &str| {
        let labels = json!({"component": component, "version": "0.1.0", "taskmanager": "tm-1"});
        json!({"targets": [address.to_string()], "labels": labels})
    };
    let targets = json!([target(job_manager, "jobmanager"), target(task_manager, "taskmanager")]).to_string();
    let pages = vec![
        ("/metrics", CONTENT_TYPE, samples::of_job_manager()),
        ("/prometheus/targets", "application/json", targets),
    ];
    server::serve(listener, pages);

    let dir = tempfile::tempdir().unwrap();
    let conf = repository().join("conf");
    let config = fs::read_to_string(conf.join("prometheus.yml")).unwrap();
    let config = config.replace("localhost:8081", &job_manager.to_string()).replace("interval: 10s", "interval: 1s");
    fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    fs::copy(conf.join("alerts.yml"), dir.path().join("alerts.yml")).unwrap();
    let prometheus = Prometheus::start(&dir.path().join("prometheus.yml"));

    prometheus.wait_for("sum(up)", 2.0);
    prometheus.wait_for("count(up{job=\"weir-taskmanager\",taskmanager=\"\",version=\"\"})", 1.0);
    prometheus.wait_for("flink_jobmanager_taskSlotsTotal{host=\"jm.example\"}", 8.0);
    prometheus.wait_for("flink_jobmanager_job_uptime{job_name=\"Word \\\"Count\\\"\\\\\\n1\"}", 5000.0);
    prometheus.wait_for("sum(weir_task_records_in_total)", 2.0 * samples::RECORDS_IN as f64);
    let busiest =
        "max by (task_name) (flink_taskmanager_job_task_busyTimeMsPerSecond{subtask_index=\"1\",tm_id=\"tm-1\"})";
    prometheus.wait_for(busiest, 750.0);

    let rules = prometheus.api("/api/v1/rules");
    let rules: Vec<_> =
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 10);
    for rule in rules {
        assert_ne!(rule["health"], "err", "{rule}");
        assert_eq!(rule["state"], "inactive", "{rule}");
    }
}
