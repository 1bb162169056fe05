//! `scripts/start-cluster` and `scripts/stop-cluster`, with the hosts of a configuration folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Cluster, test_jobs, wait_for};

fn script(cluster: &Cluster, name: &str, more: &[&str]) -> (String, Option<i32>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
    let mut command = Command::new(path);
    command.args(["--config-dir", cluster.path("conf").to_str().unwrap()]);
    command.args(["--run-dir", cluster.path("run").to_str().unwrap()]).args(more);
    // Takes the mark over, by which the test finds what is left.
    for (name, value) in cluster.weir(&[]).get_envs() {
        match value {
            Some(value) => drop(command.env(name, value)),
            None => drop(command.env_remove(name)),
        }
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout) + &text(&output.stderr), output.status.code())
}

/// A configuration folder with the cluster's ports.
fn configure(cluster: &Cluster) -> PathBuf {
    let folder = PathBuf::from(cluster.make_folder("conf"));
    let rest_port = cluster.address().rsplit_once(':').unwrap().1.to_owned();
    let text = format!(
        "cluster:\n  id: {}\nprocess:\n  working-dir: {}\nrest:\n  port: {rest_port}\njobmanager:\n  rpc:\n    port: {}\ntaskmanager:\n  \
         numberOfTaskSlots: 2\n",
        cluster.id(),
        cluster.path("work").display(),
        cluster.rpc_port()
    );
    fs::write(folder.join("config.yaml"), text).unwrap();
    fs::write(folder.join("jobmanagers"), "# one\nlocalhost\n").unwrap();
    fs::write(folder.join("workers"), "localhost\n\nlocalhost # the second\n").unwrap();
    folder
}

#[test]
fn the_scripts_start_a_cluster_and_end_it() {
    let cluster = Cluster::new(&[]);
    let folder = configure(&cluster);
    let program = ["--weir", env!("CARGO_BIN_EXE_weir")];
    let (said, code) = script(&cluster, "start-cluster", &program);
    assert!(code == Some(0) && said.contains("the cluster runs"), "{code:?} {said}");
    cluster.wait_for_task_managers(2);
    assert_eq!(cluster.processes().len(), 3);

    let mut run = Command::new(env!("CARGO_BIN_EXE_weir"));
    run.args(["--config-dir", folder.to_str().unwrap(), "run", "-t", "remote", "-q", "-p", "4", "--job", "numbers"]);
    run.arg(test_jobs()).args(["--", "--count", "100", "--out"]).arg(cluster.path("out"));
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(cluster.output("out").len(), 100);

    let (said, code) = script(&cluster, "start-cluster", &program);
    assert!(code == Some(1) && said.contains("runs already"), "{code:?} {said}");
    assert_eq!(cluster.processes().len(), 3, "a second start harms nobody");

    let (said, code) = script(&cluster, "stop-cluster", &[]);
    assert!(code == Some(0) && !said.contains("killing"), "{code:?} {said}");
    assert_eq!(cluster.processes(), Vec::<u32>::new());
    let (said, code) = script(&cluster, "stop-cluster", &[]);
    assert!(code == Some(0) && said.contains("was not started from here"), "{code:?} {said}");
}

#[test]
fn a_cluster_that_cannot_start_is_reported_with_the_reason() {
    let cluster = Cluster::new(&[]);
    let folder = configure(&cluster);
    let _taken = std::net::TcpListener::bind(cluster.address()).unwrap();
    let (said, code) = script(&cluster, "start-cluster", &["--weir", env!("CARGO_BIN_EXE_weir")]);
    assert!(
        code == Some(1) && said.contains("jobmanager-0 has ended") && said.contains("rest.port"),
        "{code:?} {said}"
    );
    script(&cluster, "stop-cluster", &[]);
    wait_for("all processes to end", || cluster.processes().is_empty());

    fs::remove_file(folder.join("workers")).unwrap();
    let (said, code) = script(&cluster, "start-cluster", &["--weir", env!("CARGO_BIN_EXE_weir")]);
    assert!(code == Some(2) && said.contains("workers"), "{code:?} {said}");
    let (said, code) = script(&cluster, "start-cluster", &["--nonsense"]);
    assert!(code == Some(2) && said.contains("unknown argument"), "{code:?} {said}");
}
