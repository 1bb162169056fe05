//! Paths, parameters and status codes.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use weir_model::JobId;

use super::fake::{Server, failed, job_id, options, running, vertex_id, waiting};
use crate::RestOptions;

#[tokio::test]
async fn unknown_paths_and_methods_are_404() {
    let server = Server::new(options());
    let unknown = [
        ("GET", "/nothing?x=1"),
        ("GET", "/v1/nothing"),
        ("GET", "/v2/overview"),
        ("POST", "/overview"),
        ("POST", "/v1/jobs/overview"),
        ("OPTIONS", "/overview"),
        ("DELETE", "/jobs"),
        ("GET", "/jobs//overview"),
        ("GET", "/jobmanager/logs/../config"),
        ("GET", "/static/app.js"),
    ];
    for (method, path) in unknown {
        let message = server.error(method, path, "", 404).await;
        assert_eq!(message, format!("Not found: {path}"), "{method}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_is_ignored() {
    let server = Server::new(options());
    assert_eq!(server.get("/v1/overview/").await, server.get("/overview").await);
    assert_eq!(server.get("/jobs/").await, server.get("/jobs").await);
    assert_eq!(
        server.get("/jobs/metrics/?get=uptime&agg=max").await,
        server.get("/jobs/metrics?get=uptime&agg=max").await
    );
}

#[tokio::test]
async fn malformed_ids_and_parameters_are_400() {
    let server = Server::new(options());
    let (job, vertex) = (running(), vertex_id("lines"));
    for path in [
        "/jobs/xyz".to_owned(),
        "/jobs/0a0a".to_owned(),
        "/jobs/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0".to_owned(),
        "/jobs/%FF%FE/status".to_owned(),
        "/jobs/xyz/checkpoints".to_owned(),
        format!("/jobs/{job}/vertices/12"),
        format!("/jobs/xyz/vertices/{vertex}"),
        format!("/jobs/{job}/vertices/{vertex}/subtasks/first"),
        format!("/jobs/{job}/vertices/{vertex}/subtasks/-1/metrics"),
        format!("/jobs/{job}/vertices/{vertex}/subtasks/0/attempts/x"),
        format!("/jobs/{job}/vertices/{vertex}/subtasks/metrics?subtasks=a"),
        format!("/jobs/{job}/vertices/{vertex}/subtasks/metrics?get=x&agg=mode"),
        format!("/jobs/{job}/exceptions?maxExceptions=many"),
        format!("/jobs/{job}/exceptions?failureLabelFilter=kind"),
        format!("/jobs/{job}/status?wait=HAPPY"),
        "/jobs/metrics?jobs=1,2".to_owned(),
    ] {
        let message = server.error("GET", &path, "", 400).await;
        assert!(message.starts_with("Bad request, could not parse parameters: "), "{path}: {message}");
    }
}

#[tokio::test]
async fn things_that_are_not_there_are_404() {
    let server = Server::new(options());
    let (job, vertex, other) = (running(), vertex_id("lines"), job_id(0x77));
    let check = async |path: String, expect: &str| {
        let message = server.error("GET", &path, "", 404).await;
        assert!(message.contains(expect), "{path}: {message}");
    };
    for suffix in ["", "/status", "/plan", "/config", "/exceptions", "/execution-result", "/metrics", "/checkpoints"] {
        check(format!("/jobs/{other}{suffix}"), &format!("Job {other} not found")).await;
    }
    check(format!("/jobs/{other}/vertices/{vertex}"), "not found").await;
    check(format!("/jobs/{job}/vertices/{other}"), "No vertex with ID").await;
    check(format!("/jobs/{job}/vertices/{vertex}/subtasks/2"), "has 2 subtasks").await;
    check(format!("/jobs/{job}/vertices/{vertex}/subtasks/0/attempts/0"), "the current attempt is 1").await;
    for suffix in ["", "/metrics", "/logs", "/log", "/stdout", "/logs/a.log"] {
        check(format!("/taskmanagers/tm-9{suffix}"), "tm-9").await;
    }
    check("/jobmanager/logs/secret.txt".to_owned(), "does not exist").await;
}

#[tokio::test]
async fn the_environment_of_a_jobs_jobmanager_is_that_of_all() {
    let server = Server::new(options());
    let job = running();
    let of_all = server.get("/jobmanager/environment").await;
    assert_eq!(server.get(&format!("/jobs/{job}/jobmanager/environment")).await, of_all);
    server.error("GET", &format!("/jobs/{}/jobmanager/environment", job_id(0x77)), "", 404).await;
}

#[tokio::test]
async fn jobs_are_canceled() {
    let server = Server::new(options());
    let (job, done, other) = (running(), failed(), job_id(0x77));
    let accepted = (202, json!({}));
    assert_eq!(server.ask("PATCH", &format!("/v1/jobs/{job}?mode=cancel"), "").await, accepted);
    assert_eq!(server.ask("PATCH", &format!("/jobs/{job}"), "{}").await, accepted);
    assert_eq!(server.get(&format!("/jobs/{job}/yarn-cancel")).await, accepted);
    assert_eq!(server.fake.noted(), vec![format!("cancel {job}"); 3]);
    server.error("PATCH", &format!("/jobs/{done}?mode=CANCEL"), "", 409).await;
    let message = server.error("PATCH", &format!("/jobs/{other}"), "", 404).await;
    assert!(message.contains(&format!("Job {other} not found")), "{message}");
    server.error("PATCH", &format!("/jobs/{job}?mode=stop"), "", 308).await;
    server.error("GET", &format!("/jobs/{job}/yarn-stop"), "", 308).await;
    server.error("PATCH", &format!("/jobs/{job}?mode=kill"), "", 400).await;
}

#[tokio::test]
async fn canceling_can_be_switched_off() {
    let server = Server::new(RestOptions { cancel_enabled: false, ..options() });
    let job = running();
    for (method, path) in [("PATCH", format!("/jobs/{job}")), ("GET", format!("/v1/jobs/{job}/yarn-cancel"))] {
        let message = server.error(method, &path, "", 403).await;
        assert!(message.contains("web.cancel.enable"), "{message}");
    }
    assert!(server.fake.noted().is_empty());
    assert_eq!(server.get("/config").await.1["features"]["web-cancel"], json!(false));
}

#[tokio::test]
async fn requirements_of_a_job_are_checked_and_passed_on() {
    let server = Server::new(options());
    let path = |job: JobId| format!("/jobs/{job}/resource-requirements");
    let body = |lower: u32, upper: u32| {
        format!(r#"{{"{}": {{"parallelism": {{"lowerBound": {lower}, "upperBound": {upper}}}}}}}"#, vertex_id("lines"))
    };
    assert_eq!(server.ask("PUT", &path(running()), &body(1, 4)).await, (200, json!({})));
    assert_eq!(server.fake.noted(), [format!("rescale {} {} 1..4", running(), vertex_id("lines"))]);
    let empty = server.error("PUT", &path(running()), "{}", 400).await;
    assert!(empty.contains("names no vertex") && empty.contains("lowerBound"), "{empty}");
    let negative = body(1, 4).replace('4', "-4");
    for wrong in [r#"{"lines": {"parallelism": {"lowerBound": 1, "upperBound": 2}}}"#, r#"{"x": 3}"#, "[]", &negative] {
        server.error("PUT", &path(running()), wrong, 400).await;
    }
    server.error("PUT", &path(waiting()), &body(1, 4), 400).await;
    server.error("PUT", &path(failed()), &body(1, 4), 409).await;
    let unknown = server.error("PUT", &path(job_id(0x77)), &body(1, 4), 404).await;
    assert!(unknown.contains("not found"), "{unknown}");
}

#[tokio::test]
async fn the_rest_of_what_clients_call_is_answered() {
    let server = Server::new(options());
    let job = running();
    let heartbeat = server.ask("PATCH", &format!("/jobs/{job}/clientHeartbeat"), r#"{"expiredTimestamp":1}"#).await;
    assert_eq!(heartbeat, (202, json!({})));
    server.error("PATCH", &format!("/jobs/{job}/rescaling?parallelism=2"), "", 503).await;
    assert_eq!(server.ask("DELETE", "/v1/cluster", "").await, (200, json!({})));
    assert_eq!(server.fake.noted(), ["shut down"]);
}

#[tokio::test]
async fn a_client_can_wait_for_a_status() {
    let server = Server::new(options());
    let (job, done) = (running(), failed());
    let status = async |path: String| server.get(&path).await.1["status"].clone();
    assert_eq!(status(format!("/jobs/{job}/status?wait=RUNNING,FINISHED")).await, "RUNNING");
    assert_eq!(status(format!("/jobs/{done}/status?wait=RUNNING")).await, "FAILED", "an ended job is not waited for");
    assert_eq!(status(format!("/jobs/{job}/status?wait=FINISHED&timeout=20")).await, "RUNNING", "after the time");
}

#[tokio::test]
async fn lists_of_metrics_have_names_only() {
    let server = Server::new(options());
    let vertex = format!("/jobs/{}/vertices/{}", running(), vertex_id("lines"));
    let own = format!("{vertex}/metrics");
    for (path, name) in [
        (own.as_str(), "1.numRecordsOut"),
        (&format!("{vertex}/subtasks/metrics"), "busyTimeMsPerSecond"),
        (&format!("{vertex}/subtasks/0/metrics"), "Source__lines.numRecordsIn"),
        ("/jobs/metrics", "uptime"),
        (&format!("/jobs/{}/metrics", running()), "numRestarts"),
        ("/taskmanagers/metrics", "Status.JVM.CPU.Load"),
    ] {
        let (_, answer) = server.get(path).await;
        let metrics = answer.as_array().unwrap();
        assert!(metrics.iter().all(|metric| metric.as_object().unwrap().keys().eq(["id"])), "{answer}");
        assert!(metrics.contains(&json!({"id": name})), "{path}: {answer}");
    }
}

#[tokio::test]
async fn names_of_metrics_may_be_encoded_and_repeated() {
    let server = Server::new(options());
    let (_, plain) = server.get("/jobmanager/metrics?get=taskSlotsTotal,Status.JVM.CPU.Load").await;
    let (_, encoded) = server.get("/jobmanager/metrics?get=taskSlotsTotal%2CStatus%2eJVM.CPU.Load").await;
    let (_, repeated) = server.get("/jobmanager/metrics?get=taskSlotsTotal&get=Status.JVM.CPU.Load&x=y").await;
    assert_eq!((&plain, &plain), (&encoded, &repeated));
    assert_eq!(plain.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn without_a_leader_the_answer_is_503() {
    let server = Server::new(options());
    server.lose_leadership();
    for path in ["/overview", "/jobs", "/v1/jobs/overview", "/taskmanagers", "/jobmanager/config", "/metrics", "/jars"]
    {
        let message = server.error("GET", path, "", 503).await;
        assert!(message.contains("ongoing leader election. Please refresh."), "{message}");
    }
    assert_eq!(server.get("/config").await.0, 200, "it is about this process only");
}

#[tokio::test]
async fn a_panic_while_answering_is_a_500() {
    let server = Server::new(options());
    let (status, body) = server.get(&format!("/jobs/{}", job_id(0xee))).await;
    assert_eq!(status, 500);
    let errors = body["errors"].as_array().unwrap();
    assert_eq!(errors[0], "Internal server error.");
    let detail = errors[1].as_str().unwrap();
    assert!(detail.starts_with("<Exception on server side:\n") && detail.contains("a fault for the test"), "{detail}");
    assert_eq!(server.get("/overview").await.0, 200, "it goes on");
}

#[tokio::test]
async fn files_are_plain_text() {
    let server = Server::new(options());
    for path in [
        "/jobmanager/log",
        "/jobmanager/logs/jobmanager.log",
        "/v1/taskmanagers/tm-1/log",
        "/taskmanagers/tm-1/logs/worker-0a.out",
    ] {
        let (status, headers, body) = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(
            (&headers["content-type"], &headers["content-length"]),
            (&"text/plain".parse().unwrap(), &12.into())
        );
        assert_eq!(headers["access-control-allow-origin"], "*");
        // The made-up file is a byte longer than was said: it grew meanwhile.
        assert_eq!(body, b"first\nsecond");
    }
    // What a job's processes print is not what the process itself prints, which nobody keeps here.
    for (path, name) in [("/jobmanager/stdout", "weir-jobmanager-"), ("/taskmanagers/tm-1/stdout", "weir-taskmanager-")]
    {
        let message = server.error("GET", path, "", 404).await;
        assert!(message.contains(name) && message.contains("log folder"), "{message}");
    }
}

#[tokio::test]
async fn a_part_of_a_file_can_be_asked_for() {
    let server = Server::new(options());
    for (offset, expect) in [("6", "second"), ("-3", "ond"), ("-100", "first\nsecond"), ("12", ""), ("100", "")] {
        for path in ["/jobmanager/log", "/taskmanagers/tm-1/logs/taskmanager.log"] {
            let request = Request::get(format!("{path}?offset={offset}")).body(Body::empty()).unwrap();
            let (status, headers, body) = server.send(request).await;
            assert_eq!((status, String::from_utf8(body).unwrap().as_str()), (StatusCode::OK, expect), "{offset}");
            assert_eq!(headers["content-length"], expect.len().to_string());
        }
    }
    server.error("GET", "/jobmanager/log?offset=x", "", 400).await;
}

#[tokio::test]
async fn no_name_leads_out_of_the_log_folder() {
    let server = Server::new(options());
    for name in [
        "..%2F..%2Fetc%2Fpasswd",
        "..%252F..%252Fetc%252Fpasswd",
        "%2Fetc%2Fpasswd",
        "..",
        "%2e%2e",
        "..%5C..%5Cboot.ini",
        "jobmanager.log%00",
        "jobmanager.log%2F..",
        "%20jobmanager.log",
    ] {
        for path in [format!("/jobmanager/logs/{name}"), format!("/v1/taskmanagers/tm-1/logs/{name}")] {
            server.error("GET", &path, "", 404).await;
        }
    }
    assert!(server.fake.noted().is_empty(), "{:?}", server.fake.noted());
    let path = "/jobmanager/logs/..%2F..%2Fjobmanager.log";
    let (status, ..) = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "only the last element counts, as in Flink");
    assert_eq!(server.fake.noted(), ["file JobManager jobmanager.log"]);
}

#[tokio::test]
async fn prometheus_gets_its_own_format() {
    let server = Server::new(options());
    let (status, headers, body) = server.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"), "{headers:?}");
    assert!(body.ends_with(b"flink_jobmanager_taskSlotsTotal 8\n"));
}

#[tokio::test]
async fn the_page_is_served_and_loads_nothing_from_elsewhere() {
    let server = Server::new(options());
    for path in ["/", "/index.html"] {
        let (status, headers, body) = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
        let page = String::from_utf8(body).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["content-type"], "text/html; charset=UTF-8");
        assert!(headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        // The name of SVG looks like an address and is none.
        let page = page.replace("http://www.w3.org/2000/svg", "").replace("url(#arrow)", "");
        for elsewhere in ["http://", "https://", "src=", "@import", "url(", "innerHTML"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}

#[tokio::test]
async fn the_page_asks_for_the_token_itself() {
    let server = Server::new(RestOptions { tokens: vec!["0123456789abcdef".to_owned()], ..options() });
    let page = Request::get("/").header("accept", "text/html,*/*").body(Body::empty()).unwrap();
    let (status, headers, body) = server.send(page).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    assert_eq!(headers["content-type"], "text/html; charset=UTF-8");
    assert!(body.starts_with(b"<!doctype html>"));
    let message = server.error("GET", "/overview", "", 401).await;
    assert!(message.contains("security.rest.token"), "{message}");
    let request = Request::get("/overview").header("authorization", "Bearer 0123456789abcdef");
    assert_eq!(server.send(request.body(Body::empty()).unwrap()).await.0, StatusCode::OK);
}
