//! What a person sees before and after a run: wrong usage, jobs that cannot start, plans and summaries.

use serde_json::Value;
use weir_testkit::{Run, assert_says};

fn run(words: &str) -> Run {
    Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words(words)
}

#[test]
fn a_job_that_cannot_start_says_why_and_what_to_do() {
    let cases: [(&str, &[&str]); 9] = [
        ("no_sink", &["output of operator `loose end`", ".print()"]),
        ("no_source", &["has no source", "env.read_text"]),
        ("unread_side", &["side output", "operator `splitter`", ".discard()"]),
        ("unread_share", &["\"shared\"", "goes nowhere", ".print()"]),
        ("again_uid", &["\"second\"", "both have the uid \"same\"", "give each its own `.uid(…)`"]),
        ("zero", &["\"nobody -> Sink: discard\" has parallelism 0", "at least 1", "1 or more"]),
        ("above_max", &["\"crowd -> Sink: discard\" has parallelism 9", "max-parallelism 8", "lower the parallelism"]),
        ("refuses", &["the moon is not full"]),
        ("builder_panics", &["panicked: no fish in the builder"]),
    ];
    for (job, says) in cases {
        for rest in ["", "--workers 2"] {
            let ended = run(&format!("--job {job} {rest}")).run();
            ended.exits(1).says(&[&format!("Job {job} cannot start: ")]).says(says);
            assert!(ended.stdout.is_empty(), "{ended:?}");
        }
    }
}

#[test]
fn parallelism_above_the_jobs_key_groups_is_refused() {
    let ended = run("--job waits -p 2 -D pipeline.max-parallelism=1").run();
    ended.exits(1).says(&["parallelism 2", "max-parallelism 1", "lower the parallelism", "pipeline.max-parallelism"]);
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_right() {
    let cases: [(&str, &[&str]); 16] = [
        ("", &[" jobs and none was chosen", "--job NAME", "operators", "clashes"]),
        ("--count 3", &["none was chosen"]),
        ("--job nonsense", &["no job `nonsense`", "operators"]),
        ("--job", &["none was chosen"]),
        ("--job waits --bogus", &["--bogus"]),
        ("--job waits extra", &["extra"]),
        ("--job numbers", &["--out"]),
        ("--job numbers --out x --count many", &["many", "--count"]),
        ("--job clashes --parallelism 2", &["`--parallelism`", "already", "rename it"]),
        ("--job waits -D parallelism.defualt=2", &["\"parallelism.defualt\"", "did you mean \"parallelism.default\"?"]),
        ("--job waits -D parallelism.default=two", &["\"two\"", "parallelism.default", "expected", "e.g."]),
        ("--job waits -D execution.buffer-timeout=soon", &["\"soon\"", "e.g."]),
        ("--job waits -D parallelism.default", &["key=value"]),
        ("--job waits --parallelism 0", &["--parallelism is \"0\"", "between 1 and 32768"]),
        ("--job waits --workers 0", &["--workers is \"0\"", "between 1 and 1024"]),
        ("--job waits --output xml", &["xml", "text", "json"]),
    ];
    for (words, says) in cases {
        let ended = run(words).run();
        ended.exits(2).says(says);
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
}

#[test]
fn wrong_options_in_the_environment_are_wrong_usage() {
    run("--job waits")
        .env("WEIR_CONF_PARALLELISM_DEFAULT", "many")
        .run()
        .exits(2)
        .says(&["WEIR_CONF_PARALLELISM_DEFAULT"]);
}

#[test]
fn help_explains_the_jobs_and_the_runtimes_arguments() {
    let all = run("--help").run();
    all.exits(0);
    assert_says(&all.stdout, &[" jobs; choose one", "--job NAME", "numbers"]);
    let one = run("--job numbers --help").run();
    one.exits(0);
    assert_says(
        &one.stdout,
        &["Runs the job `numbers`", "--rate", "Records per second", "Runtime options", "--parallelism"],
    );
    assert_says(&one.stdout, &["--workers", "--explain", "--quiet", "--output", "docs/configuration.md"]);
}

#[test]
fn explain_shows_what_the_author_asked_for() {
    let ended = run("--job plan --explain -p 2").run();
    ended.exits(0);
    let says = [
        "job plan (bounded): ",
        "numbers (bounded source) uid=the-numbers",
        "increment",
        "even",
        "twice",
        " of 64, slot group default",
        "thrice uid=tripled",
        "slot group gpu",
        "grouped",
        "per key",
        "HASH ─ ",
        "REBALANCE ─ ",
        "FORWARD ─ ",
        "printed (sink) uid=printer",
    ];
    assert_says(&ended.stdout, &says);
    let vertex = |name: &str| {
        let line = ended.stdout.lines().find(|line| line.contains(name) && line.contains(" × "));
        line.unwrap_or_else(|| panic!("no vertex {name}: {ended:?}")).to_owned()
    };
    // numbers | increment | even (unchained) | twice | thrice | grouped | per key -> … -> printed
    assert_says(&vertex("numbers"), &["numbers  × 2 of "]);
    assert_says(&vertex("increment"), &["increment  × 2 of "]);
    assert_says(&vertex("even"), &["even  × 2 of "]);
    assert_says(&vertex("twice"), &["twice  × 2 of 64"]);
    assert_says(&vertex("thrice"), &["thrice  × 3 of ", "slot group default"]);
    assert_says(&vertex("grouped"), &["grouped -> Pre-Count  × 2 of ", "slot group gpu"]);
    assert_says(&vertex("per key"), &["per key -> Map -> printed  × 4 of "]);
    assert_says(&ended.stdout, &["7 vertices", "17 tasks"]);
    // It runs as well.
    let ended = run("--job plan -p 2 --quiet").run();
    ended.exits(0);
    assert_eq!(ended.stdout.lines().count(), 7, "a line for each key: {ended:?}");
}

#[test]
fn explain_draws_for_graphviz() {
    let ended = run("--job plan --explain=dot").run();
    ended.exits(0);
    assert_says(
        &ended.stdout,
        &["digraph job {", "subgraph cluster_", "slot group gpu", "v0 -> v1", "printed (sink) uid=printer"],
    );
    assert!(ended.stdout.trim_end().ends_with('}'));
    assert_eq!(ended.stdout.matches('{').count(), ended.stdout.matches('}').count());
}

#[test]
fn quiet_prints_nothing_on_success() {
    for workers in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let ended = run("--job numbers -q --out").arg(folder.path().join("out")).arg("--workers").arg(workers).run();
        ended.exits(0);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    }
}

#[test]
fn the_summary_goes_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run("--job numbers --out").arg(folder.path().join("out")).run();
    ended.exits(0).says(&["Job numbers finished after ", "1.0 K records in", "1.0 K out", "CPU s", "MiB at most"]);
    ended.says(&["    Source: generator of 1000", "busy ", "idle ", "back-pressured "]);
    assert!(ended.stdout.is_empty(), "{ended:?}");
}

fn has_numbers(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object[field].as_f64().is_some_and(|number| number >= 0.0), "{field} in {object}");
    }
}

#[test]
fn json_is_one_object_with_every_field() {
    for workers in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let run = run("--job numbers --count 3000 --output json --out").arg(folder.path().join("out"));
        let ended = run.arg("--workers").arg(workers).run();
        ended.exits(0);
        assert!(ended.stderr.is_empty(), "{ended:?}");
        let json = ended.json();
        assert_eq!((&json["job"], &json["status"]), (&"numbers".into(), &"finished".into()));
        assert_eq!((&json["records_in"], &json["records_out"]), (&3000.into(), &3000.into()));
        has_numbers(&json, &["duration_s", "rate", "cpu_s", "peak_rss_bytes"]);
        assert_eq!((&json["root_cause"], &json["failures"]), (&Value::Null, &Value::Array(vec![])));
        assert_eq!(json["stuck_tasks"], Value::Array(vec![]));
        let vertices = json["vertices"].as_array().unwrap();
        assert_eq!(vertices.len(), 2);
        for vertex in vertices {
            assert!(vertex["id"].is_string() && vertex["name"].is_string(), "{vertex}");
            has_numbers(vertex, &["parallelism", "records_in", "records_out", "bytes_in", "bytes_out"]);
            has_numbers(vertex, &["busy_s", "idle_s", "backpressured_s"]);
        }
        assert_eq!((&vertices[0]["records_out"], &vertices[1]["records_in"]), (&3000.into(), &3000.into()));
    }
}

#[test]
fn json_tells_failures_and_what_never_started() {
    let failed = run("--job panics --in map --output json").run();
    failed.exits(1);
    let json = failed.json();
    assert_eq!(json["status"], "failed");
    let cause = &json["root_cause"];
    assert_eq!((&cause["kind"], &cause["operator"]), (&"panic".into(), &"fussy map".into()));
    assert_eq!(cause["message"], "no fish in record 500");
    assert!(cause["location"].as_str().unwrap().contains("panicking.rs"), "{cause}");
    assert!(cause["task"].as_str().unwrap().contains("fussy map"), "{cause}");
    assert_eq!(json["failures"][0], *cause);
    let never = run("--job no_sink --output json").run();
    never.exits(1);
    assert_says(never.json()["root_cause"]["message"].as_str().unwrap(), &["loose end"]);
    let run = run("--job waits --output json").start();
    run.await_stderr("under way");
    run.interrupt();
    let interrupted = run.wait();
    interrupted.exits(130);
    assert_eq!(interrupted.json()["status"], "interrupted");
}
