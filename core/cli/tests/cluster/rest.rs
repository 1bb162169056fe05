//! The HTTP API of a real JobManager: whom it lets in, what it refuses, and what cannot harm it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Cluster, test_jobs, text, wait_for};
use crate::wire;

#[test]
fn malformed_and_huge_requests_are_refused_and_harm_nobody() {
    let mut cluster = Cluster::new(&["rest.server.max-content-length=1mb"]);
    let job_manager = cluster.start_job_manager();
    let address = cluster.address();
    let key = cluster.upload(&test_jobs());
    let host = format!("host: {address}\r\nconnection: close\r\n");
    for (bytes, expect) in [
        ("\0\0\0\0\r\n\r\n".to_owned(), 400),
        ("GET\r\n\r\n".to_owned(), 400),
        ("HELLO WORLD\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        (format!("POST /jars/{key}/run HTTP/1.1\r\n{host}content-length: many\r\n\r\n"), 400),
        (format!("POST /jars/{key}/run HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\nnonsense\r\n"), 400),
        (format!("GET /overview HTTP/1.1\r\n{host}x: {}\r\n\r\n", "y".repeat(100_000)), 431),
        (format!("GET /overview HTTP/1.1\r\n{host}{}\r\n", "x: y\r\n".repeat(500)), 431),
    ] {
        let answer = wire::exchange(&address, bytes.as_bytes());
        assert_eq!(wire::status(&answer), expect, "{:?}: {answer}", &bytes[..bytes.len().min(60)]);
    }
    let long = format!("/jobs/{}", "a".repeat(60_000));
    assert!((400..500).contains(&wire::request(&address, "GET", &long, &[], b"").0));
    let run = format!("/jars/{key}/run");
    for (method, target, body, expect) in [
        ("POST", run.as_str(), &b"{\"entryClass\":"[..], 400),
        ("POST", &run, b"[1]", 400),
        ("POST", &run, br#"{"parallelism": "many"}"#, 400),
        ("POST", &run, br#"{"parallelism": -1}"#, 400),
        ("POST", &run, &[0xff, 0xfe], 400),
        ("POST", &run, &vec![b' '; 2 << 20], 413),
        ("GET", "/jobs/nonsense", b"", 400),
        ("GET", "/jobs/00000000000000000000000000000000", b"", 404),
        ("GET", "/jobs/%00", b"", 400),
        ("GET", "/no/such/path", b"", 404),
        // As Flink answers it.
        ("PUT", "/overview", b"", 404),
        ("POST", "/jars/upload", b"no form", 400),
    ] {
        let (status, answer) = wire::request(&address, method, target, &["content-type: application/json"], body);
        assert_eq!(status, expect, "{method} {target}: {answer}");
        assert!(answer.contains("\"errors\""), "{method} {target}: {answer}");
    }
    cluster.assert_runs(job_manager);
    assert_eq!(cluster.get("/jobs")["jobs"], json!([]));
}

#[test]
fn wrong_arguments_of_a_job_are_explained_to_whoever_submits_it() {
    let mut cluster = Cluster::new(&[]);
    cluster.start_job_manager();
    let refused = cluster.try_submit("numbers", &["--cont", "1"], &[]);
    assert_eq!(refused.status, 400);
    for part in ["unexpected argument '--cont'", "'--count'", "Usage: job "] {
        assert!(refused.body.contains(part), "{part:?} is missing: {}", refused.body);
    }
    let refused = cluster.try_submit("builder_panics", &[], &[]);
    assert!(refused.status == 400 && refused.body.contains("no fish in the builder"), "{refused:?}");
    let refused = cluster.try_submit("numbers", &["--out", "x"], &["rest.port=1"]);
    assert!(refused.status == 400 && refused.body.contains("an option of the cluster"), "{refused:?}");
    assert_eq!(cluster.get("/jobs")["jobs"], json!([]));
}

#[test]
fn clients_that_say_nothing_or_never_end_do_not_keep_others_from_being_answered() {
    let mut cluster = Cluster::new(&[]);
    let job_manager = cluster.start_job_manager();
    let address = cluster.address();
    let mut slow: Vec<_> = (0..300).map(|_| wire::connect(&address)).collect();
    for (number, stream) in slow.iter_mut().enumerate() {
        let beginning: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /overview HTTP/1.1\r\nhost: local",
            _ => b"POST /jars/upload HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 1000000\r\n\r\n--b\r\n",
        };
        stream.write_all(beginning).unwrap();
    }
    let out = cluster.path("out").display().to_string();
    cluster.start_task_manager(1);
    let job = cluster.submit("numbers", &["--count", "5", "--out", &out], &[]);
    cluster.wait_for_state(&job, "FINISHED");
    assert!(slow.iter_mut().any(wire::is_open), "they were not open all the time, so nothing was tested");
    cluster.assert_runs(job_manager);
}

/// Ways to write `../` and `/` in a path, in front of names outside of a log folder.
fn escapes(target: &str) -> Vec<String> {
    let ups =
        ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "%252e%252e%252f", "....//", "..;/", "..%c0%af"];
    let mut names: Vec<String> = ups.iter().map(|up| format!("{}{target}", up.repeat(6))).collect();
    names.extend([
        format!("/{target}"),
        format!("%2f{target}"),
        format!("x%00/{target}"),
        "..".to_owned(),
        "%2e%2e".to_owned(),
    ]);
    names.extend([".".to_owned(), "%00".to_owned(), "%".to_owned(), "%zz".to_owned()]);
    names
}

#[test]
fn no_path_leads_out_of_the_log_folders() {
    let (mut cluster, task_managers) = Cluster::with_task_managers(&[1], &[]);
    let secret = cluster.path("secret.log");
    fs::write(&secret, "the secret").unwrap();
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("numbers", &["--count", "5", "--out", &out], &[]);
    cluster.wait_for_state(&job, "FINISHED");
    for process in ["/jobmanager".to_owned(), format!("/taskmanagers/{}", task_managers[0].id)] {
        let own = text(&cluster.get(&format!("{process}/logs"))["logs"][0]["name"]);
        let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name == own.as_str());
        let file = cluster.files().into_iter().map(|(path, _)| path).find(is_it);
        let file = file.unwrap_or_else(|| panic!("{own} is nowhere"));
        let folder = file.parent().unwrap();
        symlink(&secret, folder.join("link.log")).unwrap();
        symlink(Path::new("/etc"), folder.join("etc")).unwrap();
        fs::create_dir(folder.join("inner")).unwrap();
        fs::write(folder.join("inner/deep.log"), "the secret").unwrap();
        let names = escapes("etc/passwd").into_iter().chain(escapes(&secret.display().to_string()[1..]));
        let more = [
            "link.log",
            "etc",
            "etc/passwd",
            "etc%2fpasswd",
            "inner",
            "inner/deep.log",
            "inner%2fdeep.log",
            "secret.log",
        ];
        for name in names.chain(more.map(str::to_owned)) {
            for target in [format!("{process}/logs/{name}"), format!("/v1{process}/logs/{name}")] {
                let (status, answer) = wire::request(&cluster.address(), "GET", &target, &[], b"");
                assert!(status == 404 || status == 400 || status == 405, "{target}: {answer}");
                assert!(!answer.contains("root:") && !answer.contains("the secret"), "{target}: {answer}");
            }
        }
        let listed = cluster.get(&format!("{process}/logs"));
        let listed: Vec<String> = listed["logs"].as_array().unwrap().iter().map(|file| text(&file["name"])).collect();
        assert!(!listed.is_empty(), "{process} has no logs");
        for name in listed {
            assert!(!["link.log", "etc", "inner", "deep.log"].contains(&name.as_str()), "{name}");
            let (status, answer) =
                wire::request(&cluster.address(), "GET", &format!("{process}/logs/{name}"), &[], b"");
            assert_eq!(status, 200, "{name}: {answer}");
        }
    }
    // The same for the ids in other paths.
    for name in escapes("etc/passwd") {
        for target in
            [format!("/jars/{name}/plan"), format!("/taskmanagers/{name}/log"), format!("/taskmanagers/{name}/logs")]
        {
            let (status, answer) = wire::request(&cluster.address(), "GET", &target, &[], b"");
            assert!((400..500).contains(&status) && !answer.contains("root:"), "{target}: {answer}");
        }
    }
    let _ = cluster.start_task_manager(1);
    cluster.wait_for_task_managers(2);
}

#[test]
fn without_the_token_nothing_is_answered() {
    const TOKEN: &str = "0123456789-very-secret";
    let mut cluster = Cluster::new(&[]);
    let mut command = cluster.weir(&["jobmanager"]);
    command.arg(format!("-Dsecurity.rest.token={TOKEN}"));
    let job_manager = cluster.start("jobmanager", command);
    cluster.start_task_manager(1);
    let ask =
        |method: &str, target: &str, header: &str| wire::request(&cluster.address(), method, target, &[header], b"{}");
    let right = format!("authorization: Bearer {TOKEN}");
    wait_for("the TaskManager, which needs no token", || {
        wire_is_up(&cluster) && ask("GET", "/overview", &right).1.contains("\"taskmanagers\":1")
    });
    let (wrong, cut) = (format!("authorization: Bearer {TOKEN}x"), format!("authorization: Bearer {}", &TOKEN[..8]));
    for header in ["x: y", "authorization: Bearer", "authorization: Bearer ", "authorization: Basic QTpC", &wrong, &cut]
    {
        for (method, target) in [
            ("GET", "/"),
            ("GET", "/overview"),
            ("GET", "/v1/jobs"),
            ("GET", "/metrics"),
            ("GET", "/prometheus/targets"),
            ("GET", "/jobmanager/log"),
            ("GET", "/jobmanager/config"),
            ("POST", "/jars/upload"),
            ("POST", "/jars/x/run"),
            ("PATCH", "/jobs/00000000000000000000000000000000"),
            ("DELETE", "/cluster"),
        ] {
            let (status, answer) = ask(method, target, header);
            assert_eq!(status, 401, "{method} {target} with {header}: {answer}");
            assert!(!answer.contains(TOKEN), "{answer}");
        }
    }
    // Browsers get a page with it, which asks its reader for the token.
    let (status, page) = ask("GET", "/", "accept: text/html");
    assert!(
        status == 401 && page.contains("<html") && page.contains("security.rest.token") && !page.contains(TOKEN),
        "{status}"
    );
    assert!(!ask("GET", "/jobmanager/config", &right).1.contains(TOKEN));

    let (said, code) = cluster.call(&["list"]);
    assert!(code == Some(1) && said.contains("security.rest.token"), "{code:?} {said}");
    let (said, code) = cluster.call(&["list", "-D", "security.rest.token=another-token-of-someone"]);
    assert!(code == Some(1) && said.contains("security.rest.token"), "{code:?} {said}");
    let mut list = cluster.weir(&["list"]);
    let output = list.env("WEIR_CONF_SECURITY_REST_TOKEN", TOKEN).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (path, token) = (test_jobs().display().to_string(), format!("security.rest.token={TOKEN}"));
    let out = cluster.path("out").display().to_string();
    let words = ["run", "-t", "remote", "--job", "numbers", "-D", &token, &path, "--", "--count", "5", "--out", &out];
    // Options of the cluster come before `--`.
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    run.args(["run", "-m", &cluster.address()]).args(&words[3..]);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(cluster.output("out").len(), 5);

    assert_eq!(ask("DELETE", "/cluster", &right).0, 200);
    assert_eq!(cluster.wait_for_exit(job_manager), Some(0));
}

/// Whether somebody listens.
fn wire_is_up(cluster: &Cluster) -> bool {
    std::net::TcpStream::connect(cluster.address()).is_ok()
}

#[test]
fn an_address_that_others_reach_needs_a_token_or_a_clear_wish() {
    let mut cluster = Cluster::new(&["rest.bind-address=0.0.0.0"]);
    for role in ["jobmanager", "local"] {
        let output = cluster.weir(&[role]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in ["0.0.0.0", "security.rest.token", "security.rest.allow-unauthenticated"] {
            assert!(said.contains(part), "{said}");
        }
    }
    let job_manager = cluster.start_job_manager_with(&["security.rest.allow-unauthenticated=true"]);
    assert_eq!(cluster.request("DELETE", "/cluster", None).unwrap().status, 200);
    assert_eq!(cluster.wait_for_exit(job_manager), Some(0));
}

#[test]
fn what_is_switched_off_is_refused() {
    let mut cluster = Cluster::new(&[]);
    cluster.start_job_manager();
    cluster.start_task_manager(1);
    let job = cluster.submit("idles", &["--tasks", "1"], &[]);
    let key = text(&cluster.get("/jars")["files"][0]["id"]);
    cluster.wait_until_running(&job);
    assert_eq!(cluster.get("/config")["features"]["web-submit"], true);

    let mut closed = Cluster::new(&["web.submit.enable=false", "web.cancel.enable=false"]);
    closed.start_job_manager();
    assert_eq!(closed.get("/config")["features"]["web-submit"], false);
    assert_eq!(closed.get("/config")["features"]["web-cancel"], false);
    let (status, answer) = wire::upload(&closed.address(), "job", b"x");
    assert!((403..=404).contains(&status), "{answer}");
    for (method, path) in [
        ("POST", format!("/jars/{key}/run")),
        ("POST", format!("/jars/{key}/plan")),
        ("DELETE", format!("/jars/{key}")),
        ("PATCH", format!("/jobs/{job}?mode=cancel")),
        ("GET", format!("/jobs/{job}/yarn-cancel")),
    ] {
        let answer = closed.request(method, &path, Some(&json!({}))).unwrap();
        assert!((403..=404).contains(&answer.status), "{method} {path}: {answer:?}");
    }
    let path = test_jobs().display().to_string();
    let (said, code) = closed.call(&["run", "-t", "remote", "--job", "idles", &path]);
    assert!(code == Some(1) && said.contains("web.submit.enable"), "{code:?} {said}");
}

#[test]
fn deleting_the_cluster_cancels_its_jobs_and_ends_it() {
    let mut cluster = Cluster::new(&[]);
    let job_manager = cluster.start_job_manager();
    cluster.start_task_manager(2);
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let workers = cluster.workers(&job);
    assert_eq!(cluster.request("DELETE", "/cluster", None).unwrap().status, 200);
    assert_eq!(cluster.wait_for_exit(job_manager), Some(0));
    wait_for("the workers to be gone", || workers.iter().all(|pid| !crate::harness::exists(*pid)));
    // The TaskManager, which somebody started by hand, waits for the next one.
    cluster.start_job_manager();
    cluster.wait_for_task_managers(1);
    assert_eq!(cluster.get("/jobs")["jobs"], json!([]), "a canceled job is not reported as lost");
}
