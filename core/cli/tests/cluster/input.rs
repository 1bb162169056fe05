//! What people get wrong, or ask too much of: options, ports, ids, slots, plugins, and many jobs at once.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Cluster, memory, plugins_dir, test_jobs, text, wait_for, wait_for_some};
use crate::wire;

/// What a command prints, on both outputs, and its exit code. It ends by itself.
#[track_caller]
fn ends(mut command: Command) -> (String, Option<i32>) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout) + &text(&output.stderr), output.status.code())
}

/// `weir` with further options.
fn with(cluster: &Cluster, role: &str, settings: &[&str]) -> Command {
    let mut command = cluster.weir(&[role]);
    command.args(settings.iter().map(|setting| format!("-D{setting}")));
    command
}

// ---- slots

#[test]
fn more_slots_than_the_cluster_may_have_fail_at_once() {
    let providers = format!("plugins.dir={}", plugins_dir().display());
    for (settings, part) in [
        (
            &["resourcemanager.providers=standalone", &providers, "slotmanager.number-of-slots.max=2"][..],
            "slotmanager.number-of-slots.max",
        ),
        (
            &["resourcemanager.providers=standalone", &providers, "provider.standalone.max-workers=2"],
            "provider.standalone.max-workers",
        ),
    ] {
        let mut cluster = Cluster::new(settings);
        cluster.start_job_manager();
        let started = Instant::now();
        let job = cluster.submit("idles", &["--tasks", "5"], &[]);
        cluster.wait_for_state(&job, "FAILED");
        cluster.assert_failed_with(&job, part);
        // Far less than slot.request.timeout.
        assert!(started.elapsed() < Duration::from_secs(60));
        let path = test_jobs().display().to_string();
        let (said, code) = cluster.call(&["run", "-t", "remote", "--job", "idles", &path, "-q"]);
        assert!(code == Some(1) && said.contains(part), "{code:?} {said}");
    }
}

#[test]
fn a_job_without_slots_explains_what_it_waits_for_and_fails_when_its_time_is_up() {
    let (mut cluster, _) = Cluster::with_task_managers(&[1], &["slot.request.timeout=4 s"]);
    let output = fs::File::create(cluster.path("run.txt")).unwrap();
    let mut run = cluster.weir(&["run", "-t", "remote", "--job", "ticks", "-p", "3"]);
    run.arg(test_jobs()).stdout(output.try_clone().unwrap()).stderr(output);
    let mut run = run.spawn().unwrap();
    let job = wait_for_some("the job to be there", || {
        Some(text(cluster.get("/jobs/overview")["jobs"].as_array()?.first()?.get("jid")?))
    });
    let wait = wait_for_some("the job to wait for slots", || {
        let wait = cluster.get(&format!("/jobs/{job}/slot-wait"));
        (wait["waiting"] == true).then_some(wait)
    });
    assert_eq!((wait["needed"].as_u64(), wait["available"].as_u64()), (Some(3), Some(1)), "{wait}");
    assert!(!wait["reasons"].as_array().unwrap().is_empty(), "{wait}");
    let (said, code) = cluster.call(&["status", "ticks"]);
    assert!(code == Some(0) && said.contains("waits for slots: needs 3"), "{said}");
    let status = run.wait().unwrap();
    let said = fs::read_to_string(cluster.path("run.txt")).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("waits for slots: needs 3") && said.contains("slot.request.timeout"), "{said}");
    assert_eq!(cluster.state(&job), "FAILED");
    cluster.assert_failed_with(&job, "slot.request.timeout");
    // It was all about that job.
    cluster.start_task_manager(2);
    let out = cluster.path("out").display().to_string();
    let next = cluster.submit("numbers", &["--count", "5", "--out", &out], &["parallelism.default=3"]);
    cluster.wait_for_state(&next, "FINISHED");
}

// ---- options

#[test]
fn processes_do_not_start_with_options_that_are_wrong() {
    let cluster = Cluster::new(&[]);
    for role in ["jobmanager", "taskmanager", "local"] {
        for (setting, part) in [
            ("rest.prot=1", "did you mean \"rest.port\"?"),
            ("heartbeat.timeout=soon", "heartbeat.timeout"),
            ("rest.port=99999", "between 0 and 65535"),
            ("cluster.id=", "cluster.id"),
        ] {
            let (said, code) = ends(with(&cluster, role, &[setting]));
            assert!(code == Some(2) && said.contains(part), "{role} {setting}: {code:?} {said}");
        }
        let mut command = cluster.weir(&[role]);
        command.env("WEIR_CONF_HEARTBEAT_TIMEOT", "5 s");
        let (said, code) = ends(command);
        assert!(code == Some(2) && said.contains("WEIR_CONF_HEARTBEAT_TIMEOUT"), "{role}: {code:?} {said}");
    }
}

// ---- ports

#[test]
fn a_port_in_use_is_told_with_the_option_that_sets_it() {
    let mut cluster = Cluster::new(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (role, option) in [
        ("jobmanager", "rest.port"),
        ("jobmanager", "jobmanager.rpc.port"),
        ("local", "rest.port"),
        ("taskmanager", "metrics.reporter.prom.port"),
    ] {
        let (said, code) = ends(with(&cluster, role, &[&format!("{option}={port}")]));
        assert!(
            code == Some(1) && said.contains(option) && said.contains(&port.to_string()),
            "{role}: {code:?} {said}"
        );
    }
    // None of them has left a lock or anything else in the way.
    cluster.start_job_manager();
}

#[test]
fn a_run_takes_another_port_for_its_dashboard_if_somebody_has_the_usual_one() {
    let cluster = Cluster::new(&[]);
    // Whether somebody else on this machine has it or this test does not matter.
    let _taken = TcpListener::bind("127.0.0.1:8081");
    let mut run = Command::new(env!("CARGO_BIN_EXE_weir"));
    run.args(["run", "-p1", "--job", "prints"]).arg(test_jobs()).args(["--", "--count", "3"]);
    run.env("TMPDIR", cluster.make_folder("tmp"));
    let (said, code) = ends(run);
    assert!(code == Some(0) && said.contains("number 2"), "{code:?} {said}");
    assert!(!said.contains("http://127.0.0.1:8081"), "{said}");
}

// ---- clusters beside each other

#[test]
fn two_clusters_on_one_host_do_not_meet() {
    let (red, _) = Cluster::with_task_managers(&[1], &[]);
    let (blue, _) = Cluster::with_task_managers(&[1, 1], &[]);
    assert_eq!((red.task_managers().len(), blue.task_managers().len()), (1, 2));
    // Somebody has mixed up the ports.
    let port = format!("jobmanager.rpc.port={}", blue.rpc_port());
    let (said, code) = ends(with(&red, "taskmanager", &[&port, "taskmanager.resource-id=lost"]));
    assert!(code == Some(1) && said.contains(red.id()) && said.contains(blue.id()), "{code:?} {said}");
    assert!(said.contains("cluster.id"), "{said}");
    assert_eq!((red.task_managers().len(), blue.task_managers().len()), (1, 2));
    for cluster in [&red, &blue] {
        let out = cluster.path("out").display().to_string();
        let job = cluster.submit("numbers", &["--count", "5", "--out", &out], &[]);
        cluster.wait_for_state(&job, "FINISHED");
        assert_eq!(cluster.get("/jobs/overview")["jobs"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_second_job_manager_of_the_same_cluster_does_not_start() {
    let mut cluster = Cluster::new(&[]);
    let first = cluster.start_job_manager();
    for role in ["jobmanager", "local"] {
        let (said, code) = ends(with(&cluster, role, &["rest.port=0", "jobmanager.rpc.port=0"]));
        assert!(code == Some(1) && said.contains(cluster.id()), "{code:?} {said}");
        let folder = cluster.path("work").join(cluster.id()).join("jobmanager");
        assert!(said.contains(folder.to_str().unwrap()) && said.contains("process.working-dir"), "{said}");
    }
    cluster.assert_runs(first);
    assert_eq!(cluster.get("/taskmanagers")["taskmanagers"], json!([]));
}

// ---- plugins

#[test]
fn a_provider_that_cannot_be_loaded_is_a_clear_error_at_the_start() {
    let cluster = Cluster::new(&[]);
    let folder = cluster.make_folder("plugins");
    let plugins = format!("plugins.dir={folder}");
    let start =
        |name: &str| ends(with(&cluster, "jobmanager", &[&format!("resourcemanager.providers={name}"), &plugins]));
    let (said, code) = start("yarn");
    assert!(code == Some(1) && said.contains("yarn") && said.contains("plugins.dir"), "{code:?} {said}");
    assert!(said.contains("resourcemanager.providers") && said.contains(&folder), "{said}");

    let real = fs::read(plugins_dir().join("libweir_provider_standalone.so")).unwrap();
    let text: &[u8] = b"no library at all";
    for (name, content) in [("text", text), ("half", &real[..real.len() / 2]), ("empty", b""), ("other", &real)] {
        let file = cluster.path("plugins").join(format!("libweir_provider_{name}.so"));
        fs::write(&file, content).unwrap();
        if name == "other" {
            continue;
        }
        let (said, code) = start(name);
        assert!(code == Some(1) && said.contains(file.to_str().unwrap()), "{name}: {code:?} {said}");
    }
    fs::write(cluster.path("plugins").join("libweir_provider_standalone.so"), &real).unwrap();
    let (said, code) = ends(with(&cluster, "plugins", &[&plugins]));
    assert_eq!(code, Some(1), "{said}");
    let rows: Vec<&str> = said.lines().collect();
    assert!(rows.iter().any(|row| row.starts_with("standalone") && row.contains("capacity")), "{said}");
    for name in ["text", "half", "empty"] {
        assert!(said.contains(&format!("libweir_provider_{name}.so")), "{said}");
    }
}

// ---- many

#[test]
fn two_hundred_submissions_at_once_all_end() {
    const JOBS: usize = 200;
    let (cluster, _) = Cluster::with_task_managers(&[12], &["slot.request.timeout=5 min"]);
    let key = cluster.upload(&test_jobs());
    let job_manager = cluster.processes().into_iter().find(|pid| {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').any(|word| word == "jobmanager")
    });
    let job_manager = job_manager.unwrap();
    let before = memory(job_manager);
    let address = cluster.address();
    let body =
        json!({ "entryClass": "all_to_all", "programArgsList": ["--subtasks", "1", "--count", "1"] }).to_string();
    let target = format!("/jars/{key}/run");
    thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                let (status, answer) =
                    wire::request(&address, "POST", &target, &["content-type: application/json"], body.as_bytes());
                assert_eq!(status, 200, "{answer}");
            });
        }
    });
    let count = || {
        let overview = cluster.get("/overview");
        ["jobs-finished", "jobs-failed", "jobs-cancelled"].map(|key| overview[key].as_u64().unwrap() as usize)
    };
    wait_for("all of them to end", || count().iter().sum::<usize>() == JOBS);
    assert_eq!(count(), [JOBS, 0, 0]);
    wait_for("workers and coordinators to be gone", || cluster.processes().len() == 2);
    let grown = memory(job_manager).saturating_sub(before);
    assert!(grown < 200 << 20, "the JobManager has grown by {} MiB", grown >> 20);
    wait_for("all slots to be free", || cluster.get("/overview")["slots-available"] == 12);
}
