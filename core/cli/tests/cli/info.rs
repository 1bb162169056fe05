use crate::support::{call, one_job, outcome, two_jobs, weir};

#[test]
fn the_plan_of_a_job_is_shown() {
    let job = one_job();
    call(&["info", "-p", "2", &job, "--", "--count", "3"]).expect(0).stdout_has("job numbers").stdout_has("check");
    call(&["info", "--dot", &job, "--", "--count", "3"]).expect(0).stdout_has("digraph");
    call(&["info", &job]).expect(2).stderr_has("--count");
    call(&["info", "--job", "short", &two_jobs()]).expect(0).stdout_has("job short");
    call(&["info", "--job", "third", &two_jobs()]).expect(2).stderr_has("it has: endless, short");
}

#[test]
fn the_jobs_of_an_executable_are_listed() {
    let list = call(&["info", &two_jobs()]).expect(0).stdout_has("2 jobs");
    assert_eq!(list.stdout.lines().skip(1).map(str::trim).collect::<Vec<_>>(), ["endless", "short"]);
    let json = call(&["info", "--output", "json", &two_jobs()]).expect(0).last_line_as_json();
    assert_eq!(json["jobs"], serde_json::json!([{ "name": "endless" }, { "name": "short" }]));
    assert_eq!((&json["job"], &json["plan"]), (&serde_json::Value::Null, &serde_json::Value::Null));
}

#[test]
fn programs_get_the_plan_as_json() {
    let json = call(&["info", "--output=json", &one_job(), "--", "--count", "3"]).expect(0).last_line_as_json();
    assert_eq!(json["job"], "numbers");
    assert_eq!(json["weir"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["protocol"], weir_proto::worker::PROTOCOL_VERSION);
    assert!(json["plan"].as_str().unwrap().starts_with("job numbers"), "{json}");
    let failed = call(&["info", "--output=json", &one_job()]).expect(2).stderr_has("--count");
    assert_eq!(failed.stdout, "");
}

#[test]
fn a_role_that_the_job_does_not_know_is_an_error() {
    let asked = outcome(weir().args(["run", &one_job()]).env("WEIR_ROLE", "conductor"));
    assert_eq!(asked.expect(2).stderr_has("WEIR_ROLE is \"conductor\"").stdout, "");
}
