//! What is told of event time, of state and of what the author's code measures, by the HTTP API of a cluster.

use std::collections::BTreeMap;

use crate::harness::{Cluster, text, wait_for_some};

/// The time of the job's first record.
const BEGIN: i64 = 1_700_000_000_000;

#[test]
fn event_time_state_and_own_metrics_of_a_running_job_are_told() {
    let (cluster, _task_managers) = Cluster::with_task_managers(&[2], &[]);
    let job = cluster.submit("measured", &[], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let vertices: BTreeMap<String, String> = cluster.get(&format!("/jobs/{job}"))["vertices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vertex| (text(&vertex["name"]), text(&vertex["id"])))
        .collect();
    let named = |part: &str| {
        let found = vertices.iter().find(|(name, _)| name.contains(part));
        format!("/jobs/{job}/vertices/{}", found.unwrap_or_else(|| panic!("{part} in {vertices:?}")).1)
    };
    let measure = named("Measure");

    let watermark = |vertex: &str, subtask: usize| -> i64 {
        let all = cluster.get(&format!("{vertex}/watermarks"));
        assert_eq!(all[subtask]["id"], format!("{subtask}.currentInputWatermark"));
        text(&all[subtask]["value"]).parse().unwrap()
    };
    let first = wait_for_some("a watermark of both tasks", || {
        let both = [0, 1].map(|subtask| watermark(&measure, subtask));
        both.iter().all(|time| *time > BEGIN).then_some(both[0])
    });
    wait_for_some("event time to go on", || (watermark(&measure, 0) > first).then_some(()));
    assert_eq!(watermark(&named("times"), 0), i64::MIN, "a source has no input");

    let values = |path: &str, names: &[&str]| -> BTreeMap<String, f64> {
        let answer = cluster.get(&format!("{path}/metrics?get={}", names.join(",")));
        let metrics = answer.as_array().unwrap().iter();
        metrics.map(|metric| (text(&metric["id"]), text(&metric["value"]).parse().unwrap())).collect()
    };
    wait_for_some("the state of all keys", || {
        let both = values(&measure, &["0.stateKeys", "1.stateKeys", "0.stateBytes", "1.stateBytes"]);
        assert_eq!(both.len(), 4, "{both:?}");
        let bytes = both["0.stateBytes"] + both["1.stateBytes"];
        (both["0.stateKeys"] + both["1.stateKeys"] == 16.0 && bytes >= 16.0 * 8.0).then_some(())
    });
    let own = ["0.Measure.even", "1.Measure.even", "0.Measure.times.of.records.latest"];
    wait_for_some("what the function measures", || {
        let told = values(&measure, &own);
        let even = told.get(own[0])? + told.get(own[1])?;
        (even > 100.0 && told.get(own[2])? > &(BEGIN as f64)).then_some(())
    });
    let windows = named("Windows");
    wait_for_some("records that are too late, and windows", || {
        let told =
            values(&windows, &["0.Windows.numLateRecordsDropped", "1.Windows.numLateRecordsDropped", "0.stateKeys"]);
        assert_eq!(told.len(), 3, "{told:?}");
        let late: f64 = told.iter().filter(|(name, _)| name.contains("Late")).map(|(_, value)| value).sum();
        (late >= 2.0 && told["0.stateKeys"] > 0.0).then_some(())
    });
    let output = values(&format!("{measure}/subtasks/0"), &["currentOutputWatermark", "Measure.currentInputWatermark"]);
    assert!(output.len() == 2 && output.values().all(|time| *time > BEGIN as f64), "{output:?}");
    cluster.cancel(&job);
}
