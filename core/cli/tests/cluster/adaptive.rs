//! Jobs that run with the slots there are: TaskManagers come and go, people ask for other numbers of subtasks, and each input is counted
//! once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Cluster, exists, kill, wait_for};

const KEYS: u64 = 97;

const SETTINGS: [&str; 9] = [
    "jobmanager.scheduler=adaptive",
    "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout=200 ms",
    "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling=200 ms",
    "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout=200 ms",
    "heartbeat.interval=200 ms",
    "heartbeat.timeout=2 s",
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=1000",
    "restart-strategy.fixed-delay.delay=10 ms",
];

impl Cluster {
    /// How many subtasks the vertices of a job have.
    #[track_caller]
    fn parallelism(&self, job: &str) -> Vec<u64> {
        let detail = self.get(&format!("/jobs/{job}"));
        detail["vertices"].as_array().unwrap().iter().map(|vertex| vertex["parallelism"].as_u64().unwrap()).collect()
    }

    /// Waits until all tasks of a job run, and every vertex has so many. Readers for which there is nothing to read have finished.
    #[track_caller]
    fn wait_for_parallelism(&self, job: &str, wanted: u64) {
        wait_for(&format!("job {job} to run with {wanted} subtasks"), || {
            let state = self.state(job);
            let ended = ["FINISHED", "FAILED", "CANCELED"].contains(&state.as_str());
            assert!(!ended, "the job is {state} already: {}", self.failures(job));
            let (tasks, found) = (self.tasks(job), self.parallelism(job));
            found.iter().all(|found| *found == wanted)
                && tasks.len() as u64 == wanted * found.len() as u64
                && tasks.iter().all(|task| task.state == "RUNNING" || task.state == "FINISHED")
        });
    }

    /// What a job's requirements would be with these bounds of every vertex.
    #[track_caller]
    fn bounds(&self, job: &str, lower: u64, upper: u64) -> Value {
        let mut body = self.get(&format!("/jobs/{job}/resource-requirements"));
        for vertex in body.as_object_mut().unwrap().values_mut() {
            vertex["parallelism"] = json!({ "lowerBound": lower, "upperBound": upper });
        }
        body
    }

    /// Asks for these bounds of every vertex.
    #[track_caller]
    fn ask(&self, job: &str, lower: u64, upper: u64) {
        let (path, body) = (format!("/jobs/{job}/resource-requirements"), self.bounds(job, lower, upper));
        let answer = self.request("PUT", &path, Some(&body)).unwrap();
        assert_eq!((answer.status, answer.json()), (200, json!({})));
        assert_eq!(self.get(&path), body);
    }

    /// Asks for what is refused.
    #[track_caller]
    fn refuses(&self, job: &str, body: &Value, status: u16, expect: &str) {
        let answer = self.request("PUT", &format!("/jobs/{job}/resource-requirements"), Some(body)).unwrap();
        assert!(answer.status == status && answer.body.contains(expect), "{} {}", answer.status, answer.body);
    }
}

/// What the job `tallies` must have written, sorted: its tallies and its totals.
fn expected(count: u64) -> (Vec<String>, Vec<String>) {
    let mut totals = BTreeMap::new();
    let mut tallies = Vec::new();
    for number in 0..count {
        let total = totals.entry(number % KEYS).or_insert(0u64);
        *total += 1;
        tallies.push(format!("{} {total}", number % KEYS));
    }
    let mut totals: Vec<String> = totals.iter().map(|(key, total)| format!("{key} {total}")).collect();
    tallies.sort();
    totals.sort();
    (tallies, totals)
}

#[test]
fn a_job_grows_and_shrinks_with_the_cluster_and_counts_each_input_once() {
    const COUNT: u64 = 60_000;
    let (mut cluster, mut task_managers) = Cluster::with_task_managers(&[1], &SETTINGS);
    let (out, totals) = (cluster.path("out").display().to_string(), cluster.path("totals").display().to_string());
    let checkpoints = format!("execution.checkpointing.dir=file://{}", cluster.path("checkpoints").display());
    let count = COUNT.to_string();
    let arguments = ["--count", &count, "--rate", "5000", "--out", &out, "--totals", &totals];
    let settings = ["parallelism.default=4", "execution.checkpointing.interval=200 ms", &checkpoints];
    let job = cluster.submit("tallies", &arguments, &settings);
    cluster.wait_for_parallelism(&job, 1);
    assert_eq!(cluster.get(&format!("/jobs/{job}"))["schedulerType"], "Adaptive");

    task_managers.push(cluster.start_task_manager(3));
    cluster.wait_for_parallelism(&job, 4);
    assert_eq!(cluster.failures(&job), "", "growing is no failure");

    let lost = task_managers.remove(0);
    kill(lost.pid);
    cluster.wait_for_parallelism(&job, 3);

    let (text, code) = cluster.call(&["rescale", &job, "-p", "2", "-m", &cluster.address()]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("is to run between these numbers of subtasks") && text.contains("SUBTASKS"), "{text}");
    cluster.wait_for_parallelism(&job, 2);
    assert_eq!(cluster.get("/overview")["slots-available"], 1, "what is not wanted is given back");

    cluster.wait_for_state(&job, "FINISHED");
    assert!(exists(task_managers[0].pid));
    let (tallies, expected_totals) = expected(COUNT);
    assert!(cluster.output("out") == tallies, "the tallies differ from those of {COUNT} records");
    assert_eq!(cluster.output("totals"), expected_totals);
}

#[test]
fn a_job_waits_for_its_lower_bounds_and_says_so() {
    let (mut cluster, _) = Cluster::with_task_managers(&[1], &SETTINGS);
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_for_parallelism(&job, 1);
    cluster.refuses(&job, &json!({}), 400, "names no vertex");
    cluster.refuses(&job, &cluster.bounds(&job, 3, 2), 400, "must not be less than");
    cluster.refuses(&job, &cluster.bounds(&job, 1, 1000), 400, "above its max-parallelism 128");
    let unknown =
        json!({ "00000000000000000000000000000007": { "parallelism": { "lowerBound": 1, "upperBound": 2 } } });
    cluster.refuses(&job, &unknown, 400, "has no vertex 00000000000000000000000000000007");

    // It goes on as it is until it can have what was asked for.
    cluster.ask(&job, 2, 2);
    assert_eq!(cluster.state(&job), "RUNNING");
    let wait = cluster.get(&format!("/jobs/{job}/slot-wait"));
    assert!(
        wait["reasons"][0].as_str().unwrap().contains("2 slots at least; until they are there it goes on"),
        "{wait}"
    );
    let second = cluster.start_task_manager(1);
    cluster.wait_for_parallelism(&job, 2);

    // Once it does not run, it waits.
    kill(second.pid);
    cluster.wait_for_state(&job, "RESTARTING");
    wait_for("the reason why it waits", || {
        let (text, _) = cluster.call(&["status", &job, "-m", &cluster.address()]);
        text.contains("the job needs 2 slots at least, by the lower bounds of its requirements")
    });
    cluster.ask(&job, 1, 2);
    cluster.wait_for_parallelism(&job, 1);
    cluster.cancel(&job);
    cluster.wait_for_state(&job, "CANCELED");
    cluster.refuses(&job, &cluster.bounds(&job, 1, 2), 409, "the job is CANCELED");
}

#[test]
fn a_job_of_another_scheduler_keeps_its_parallelism() {
    let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_for_parallelism(&job, 2);
    let (text, code) = cluster.call(&["rescale", &job, "-p", "1", "-m", &cluster.address()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("keeps the parallelism it was started with") && text.contains("jobmanager.scheduler"),
        "{text}"
    );
    assert_eq!(cluster.parallelism(&job), [2, 2]);
}
