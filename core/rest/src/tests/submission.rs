//! Artifacts: upload, list, run, plan, delete.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::fake::{Server, job_id, options};
use crate::{RestOptions, RunRequest};

fn part(name: &str, file: Option<&str>, content: &str) -> String {
    let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n")
}

async fn upload(server: &Server, parts: &[String]) -> (u16, Value) {
    send_form(server, format!("{}--XX--\r\n", parts.concat())).await
}

async fn send_form(server: &Server, form: String) -> (u16, Value) {
    let request = Request::post("/v1/jars/upload").header("content-type", "multipart/form-data; boundary=XX");
    let (status, _, body) = server.send(request.body(Body::from(form)).unwrap()).await;
    (status.as_u16(), serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_file_is_uploaded() {
    let server = Server::new(options());
    for field in ["jarfile", "anything"] {
        let answer = upload(&server, &[part(field, Some("../../word-count"), "ELF")]).await;
        assert_eq!(answer, (200, json!({"filename": "/flink-web-upload/5678_word-count", "status": "success"})));
    }
    assert_eq!(server.fake.noted(), ["upload word-count"; 2]);
    // As Java clients of Flink do it.
    let (status, _) = upload(&server, &[part("request", None, "{}"), part("file_0", Some("a.jar"), "ELF")]).await;
    assert_eq!(status, 200);
    assert!(!server.fake.dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn forms_that_are_not_one_file_are_refused() {
    let server = Server::new(options());
    let check = async |answer: (u16, Value), expect: &str| {
        let message = answer.1["errors"][0].as_str().unwrap();
        assert!(answer.0 == 400 && message.contains(expect), "{answer:?}");
    };
    check(upload(&server, &[]).await, "received 0").await;
    check(upload(&server, &[part("a", None, "text")]).await, "is no file").await;
    check(upload(&server, &[part("request", None, "{}")]).await, "received 0").await;
    check(upload(&server, &[part("request", None, &"x".repeat(100_000))]).await, "longer than").await;
    check(upload(&server, &[part("a", Some(""), "x")]).await, "no name").await;
    check(upload(&server, &[part("a", Some(".."), "x")]).await, "no name").await;
    assert!(!server.fake.dropped.load(Ordering::SeqCst));
    let file = part("a", Some("a"), "x");
    check(upload(&server, &[file.clone(), file.clone()]).await, "received several").await;
    assert!(server.fake.dropped.swap(false, Ordering::SeqCst), "nothing is kept");
    check(send_form(&server, file).await, "cannot be read").await;
    assert!(server.fake.dropped.load(Ordering::SeqCst), "nothing of a form that breaks off is kept");
    check(send_form(&server, "no form at all".to_owned()).await, "cannot be read").await;
    let message = server.error("POST", "/jars/upload", "ELF", 400).await;
    assert!(message.contains("Exactly 1 file must be sent, received 0"), "{message}");
    check(upload(&server, &[part("a", Some("a"), "not a job")]).await, "this is no job of Weir").await;
}

#[tokio::test]
async fn an_upload_has_limits_of_its_own() {
    let server = Server::new(RestOptions { max_content_length: 10, max_artifact_size: 1000, ..options() });
    let answer = upload(&server, &[part("a", Some("a"), &"x".repeat(1000))]).await;
    assert_eq!(answer.0, 200, "{answer:?}");
    let (status, body) = upload(&server, &[part("a", Some("a"), &"x".repeat(1001))]).await;
    assert_eq!(status, 413);
    assert!(body["errors"][0].as_str().unwrap().contains("weir.artifacts.max-size"), "{body}");
    assert!(server.fake.dropped.load(Ordering::SeqCst));
    let (status, body) = upload(&server, &[part("a", Some("full"), "x")]).await;
    assert_eq!((status, &body["errors"][0]), (507, &json!("the disk is full")));
}

async fn requested(query: &str, body: &str) -> RunRequest {
    let server = Server::new(options());
    let (status, answer) = server.ask("POST", &format!("/v1/jars/1234_word-count/run{query}"), body).await;
    assert_eq!(status, 200, "{answer}");
    let request = server.fake.requests.lock().unwrap().pop().unwrap();
    assert_eq!(answer, json!({"jobid": request.job_id.unwrap_or(job_id(1)).to_string()}));
    request
}

fn run_request() -> RunRequest {
    RunRequest { artifact: "1234_word-count".to_owned(), ..RunRequest::default() }
}

#[tokio::test]
async fn a_run_takes_what_clients_send() {
    assert_eq!(requested("", "").await, run_request());
    assert_eq!(requested("", "{}").await, run_request());
    let full = json!({
        "entryClass": "main",
        "programArgsList": ["--input", "a b"],
        "parallelism": 3,
        "jobId": job_id(9).to_string(),
        "allowNonRestoredState": false,
        "savepointPath": null,
        "claimMode": "NO_CLAIM",
        "flinkConfiguration": {"a.b": "c", "n": 1, "yes": true},
        "fromTheFuture": [1],
    });
    let configuration =
        [("a.b", "c"), ("n", "1"), ("yes", "true")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let expect = RunRequest {
        job: Some("main".to_owned()),
        arguments: vec!["--input".to_owned(), "a b".to_owned()],
        parallelism: Some(3),
        configuration: BTreeMap::from(configuration),
        job_id: Some(job_id(9)),
        ..run_request()
    };
    assert_eq!(
        requested("?entry-class=other&parallelism=7&programArg=x", &full.to_string()).await,
        expect,
        "the body wins"
    );
    let query = "?entry-class=main&parallelism=3&programArg=--input,a%20b";
    let expect = RunRequest { configuration: BTreeMap::new(), job_id: None, ..expect };
    assert_eq!(requested(query, "").await, expect);
}

#[tokio::test]
async fn a_run_takes_what_the_dashboard_of_flink_sends() {
    let body = r#"{"entryClass":"main","parallelism":"2","programArgs":"--x 'a b'","savepointPath":"","allowNonRestoredState":"true"}"#;
    let request =
        requested("?entry-class=main&parallelism=2&program-args=--x%20'a%20b'&allowNonRestoredState=true", body).await;
    assert_eq!(request.arguments, ["--x", "a b"]);
    assert_eq!((request.parallelism, request.job.as_deref()), (Some(2), Some("main")));
    let request =
        requested("", r#"{"entryClass":null,"parallelism":"","programArgs":null,"savepointPath":null}"#).await;
    assert_eq!(request, run_request());
    assert_eq!(requested("?program-args=-a+-b", "{}").await.arguments, ["-a", "-b"]);
}

#[tokio::test]
async fn a_plan_of_the_next_version_of_a_job_says_what_becomes_of_its_state() {
    let server = Server::new(options());
    let plan = "/v1/jars/1234_word-count/plan";
    let (status, answer) = server.ask("POST", plan, "").await;
    assert_eq!((status, answer.get("state")), (200, None), "{answer}");
    let body = json!({ "replaces": job_id(9).to_string(), "allowNonRestoredState": true }).to_string();
    let (status, answer) = server.ask("POST", plan, &body).await;
    let expect = json!({ "restored": ["operator `Count`"], "empty": [], "left-behind": [] });
    assert_eq!((status, &answer["state"]), (200, &expect), "{answer}");
    let request = server.fake.requests.lock().unwrap().pop().unwrap();
    assert_eq!(request.replaces, Some(job_id(9)));
    assert_eq!(request.configuration["execution.state-recovery.ignore-unclaimed-state"], "true");
    let (status, answer) = server.ask("POST", plan, r#"{"replaces": "my job"}"#).await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test]
async fn a_run_from_a_savepoint_is_a_run_with_the_options_that_say_so() {
    let options = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| (format!("execution.state-recovery.{key}"), (*value).to_owned())).collect()
    };
    let body = r#"{"savepointPath": "/s", "allowNonRestoredState": true, "claimMode": "claim",
        "flinkConfiguration": {"execution.state-recovery.path": "/other"}}"#;
    let expect = [("path", "/s"), ("ignore-unclaimed-state", "true"), ("claim-mode", "CLAIM")];
    assert_eq!(requested("", body).await.configuration, options(&expect));
    let query = "?savepointPath=/s&allowNonRestoredState=true";
    assert_eq!(requested(query, "").await.configuration, options(&expect[..2]));
    let body = r#"{"savepointPath": "/s", "restoreMode": "NO_CLAIM", "allowNonRestoredState": ""}"#;
    assert_eq!(requested("", body).await.configuration, options(&[("path", "/s"), ("claim-mode", "NO_CLAIM")]));
    let body = r#"{"savepointPath": "", "allowNonRestoredState": "true", "claimMode": "CLAIM"}"#;
    assert_eq!(requested("", body).await.configuration, options(&[]));
}

#[tokio::test]
async fn a_run_that_cannot_be_is_refused() {
    let server = Server::new(options());
    let check = async |path: &str, body: &str, expect: &str| {
        let message = server.error("POST", path, body, 400).await;
        assert!(message.contains(expect), "{path} {body}: {message}");
    };
    let path = "/jars/1234_word-count/run";
    check(path, "{", "Request did not match expected format").await;
    check(path, "[]", "Request did not match expected format").await;
    check(path, r#"{"entryClass": {}}"#, "Request did not match expected format").await;
    check(path, r#"{"parallelism": "many"}"#, "parallelism").await;
    check(path, r#"{"parallelism": 0}"#, "at least 1").await;
    check(path, r#"{"jobId": "1"}"#, "Bad request, could not parse parameters").await;
    check(path, r#"{"savepointPath": "/s", "claimMode": "LEGACY"}"#, "use NO_CLAIM").await;
    check(path, r#"{"savepointPath": "/s", "restoreMode": "MINE"}"#, "expected CLAIM or NO_CLAIM").await;
    check(path, r#"{"savepointPath": "/s", "allowNonRestoredState": "maybe"}"#, "expected true or false").await;
    check(path, r#"{"programArgs": "a", "programArgsList": ["b"]}"#, "Confusing request").await;
    check(path, r#"{"flinkConfiguration": {"a": []}}"#, "expected a text").await;
    assert!(server.fake.requests.lock().unwrap().is_empty());
    check(path, r#"{"entryClass": "broken"}"#, "Could not execute application. The job panicked").await;
    check("/jars/unknown/run", "", "does not exist").await;
}

#[tokio::test]
async fn plans_are_made_by_get_and_post() {
    let server = Server::new(options());
    let (_, by_get) = server.get("/jars/1234_word-count/plan?entry-class=main&parallelism=4").await;
    let (_, by_post) =
        server.ask("POST", "/jars/1234_word-count/plan", r#"{"entryClass":"main","parallelism":"4"}"#).await;
    assert_eq!(by_get, by_post);
    let requests = server.fake.requests.lock().unwrap();
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[0].parallelism, Some(4));
}

#[tokio::test]
async fn artifacts_are_deleted() {
    let server = Server::new(options());
    assert_eq!(server.ask("DELETE", "/jars/1234_word-count", "").await, (200, json!({})));
    let message = server.error("DELETE", "/v1/jars/other", "", 400).await;
    assert!(message.contains("does not exist"), "{message}");
}

#[tokio::test]
async fn submission_can_be_switched_off() {
    let server = Server::new(RestOptions { submit_enabled: false, ..options() });
    let paths = [("GET", "/jars"), ("POST", "/jars/upload"), ("POST", "/v1/jars/a/run"), ("DELETE", "/jars/a")];
    for (method, path) in paths {
        assert_eq!(server.error(method, path, "", 404).await, format!("Not found: {path}"));
    }
    assert_eq!(server.get("/config").await.1["features"]["web-submit"], json!(false));
}

#[tokio::test]
async fn jobs_of_java_are_refused_with_advice() {
    let server = Server::new(options());
    for body in ["\u{fffd}serialized", ""] {
        let message = server.error("POST", "/v1/jobs", body, 400).await;
        assert!(message.contains("/jars/upload") && message.contains("JobGraphs of Java"), "{message}");
    }
}

#[tokio::test]
async fn files_are_taken_by_uploads_only() {
    let server = Server::new(options());
    let request = Request::post("/jars/1234_word-count/run").header("content-type", "multipart/form-data; boundary=XX");
    let (status, _, body) = server.send(request.body(Body::from("--XX--")).unwrap()).await;
    assert_eq!(status.as_u16(), 400);
    assert!(String::from_utf8(body).unwrap().contains("File upload not allowed"));
}
