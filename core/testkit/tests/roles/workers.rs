//! Workers, with a coordinator.

use std::net::TcpListener;

use weir_model::{ExecutionState, Placement, TaskId};
use weir_proto::{roles, worker};
use weir_testkit::{lines_in, names_in};

use crate::cluster::{Coordinator, Worker, task};

/// Starts `count` workers and deploys a job of which `by_vertex` says what runs where.
fn deploy(
    folder: &std::path::Path,
    words: &[&str],
    hash: u64,
    count: u32,
    by_vertex: Vec<Vec<u32>>,
    deployment: u32,
) -> Vec<Worker> {
    let mut workers: Vec<_> = (0..count).map(|index| Worker::start(folder, words, index)).collect();
    let addresses: Vec<_> = workers.iter().map(|worker| worker.hello.data_address.clone()).collect();
    let placement = Placement::new(count, by_vertex);
    for worker in &mut workers {
        assert_eq!(worker.hello.job_graph_hash, hash);
        worker.deploy(&placement, &addresses, hash, deployment);
    }
    workers
}

const ABSENT: u32 = Placement::ABSENT;

#[test]
fn a_job_on_two_workers_is_committed_by_its_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let words = ["--job", "numbers", "-p", "2", "--count", "5000", "--out", out.to_str().unwrap()];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    let mut workers = deploy(folder.path(), &words, hash, 2, vec![vec![0, 1], vec![0, 1]], 0);
    for (index, worker) in (0u32..).zip(&mut workers) {
        let tasks = [task(0, index), task(1, index)];
        // The other one's source may be waiting for this one's sink, never for this test: inboxes hold all of it.
        worker.await_states(&mut coordinator, &tasks[..1], ExecutionState::Finished);
    }
    for (index, worker) in (0u32..).zip(&mut workers) {
        worker.await_states(&mut coordinator, &[task(1, index)], ExecutionState::Finished);
        worker.hand_over_committables(&mut coordinator);
    }
    assert_eq!(lines_in(&out), [""; 0], "nothing is visible before the commit");
    assert_eq!(coordinator.commit(), "");
    assert_eq!(lines_in(&out).len(), 5000);
    workers.iter_mut().for_each(Worker::leave);
    coordinator.leave();
    assert!(names_in(&out).iter().all(|name| name.starts_with("part-")), "{:?}", names_in(&out));
}

#[test]
fn each_task_tells_its_states_in_order_and_its_final_metrics_before_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let words = [
        "--job",
        "numbers",
        "-p",
        "1",
        "--count",
        "7777",
        "--out",
        out.to_str().unwrap(),
        "-D",
        "weir.progress.interval=1h",
    ];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    let mut workers = deploy(folder.path(), &words, hash, 1, vec![vec![0], vec![0]], 0);
    let worker = &mut workers[0];
    for last in [task(0, 0), task(1, 0)] {
        worker.await_states(&mut coordinator, &[last], ExecutionState::Finished);
        let metrics = &worker.metrics[&last];
        assert_eq!((metrics.records_in, metrics.records_out), (7777, 7777), "{last:?}");
    }
    for id in [task(0, 0), task(1, 0)] {
        let states: Vec<_> =
            worker.changes.iter().filter(|c| c.task() == id).map(|c| c.execution_state().unwrap()).collect();
        let expect = [ExecutionState::Initializing, ExecutionState::Running, ExecutionState::Finished];
        assert_eq!(states, expect, "{id:?}");
    }
    worker.leave();
}

#[test]
fn a_region_that_failed_starts_again_elsewhere_while_the_other_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (marks, out) = (folder.path().join("marks"), folder.path().join("out"));
    std::fs::create_dir(&marks).unwrap();
    let words = [
        "--job",
        "regions",
        "--regions",
        "2",
        "--failing",
        "1",
        "--count",
        "1000",
        "--marks",
        marks.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    let mut first = deploy(folder.path(), &words, hash, 1, vec![vec![0, 0], vec![0, 0]], 0);
    let failing: [TaskId; 2] = [task(0, 1), task(1, 1)];
    first[0].await_states(&mut coordinator, &failing[1..], ExecutionState::Failed);
    let failed = first[0].changes.iter().find(|c| c.failure.is_some()).unwrap();
    assert!(failed.failure.as_ref().unwrap().message.contains("region 1 fails once"), "{failed:?}");
    first[0].cancel(&failing[..1]);
    let end = |worker: &Worker| worker.states()[&failing[0]];
    while !end(&first[0]).is_terminal() {
        first[0].step(&mut coordinator);
    }
    assert_eq!(first[0].states()[&task(0, 0)], ExecutionState::Running, "nobody asked it to stop");
    coordinator.reset(&failing);
    let mut second = deploy(folder.path(), &words, hash, 1, vec![vec![ABSENT, 0], vec![ABSENT, 0]], 1);
    second[0].await_states(&mut coordinator, &failing, ExecutionState::Finished);
    first[0].await_states(&mut coordinator, &[task(0, 0), task(1, 0)], ExecutionState::Finished);
    assert_eq!(second[0].states().len(), 2, "only tasks of the deployment run: {:?}", second[0].states());
    for worker in [&mut first[0], &mut second[0]] {
        worker.hand_over_committables(&mut coordinator);
        worker.leave();
    }
    assert_eq!(coordinator.commit(), "");
    coordinator.leave();
    let mut numbers: Vec<u64> =
        lines_in(&out).iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..1000), "each once");
}

#[test]
fn what_tasks_wrote_that_were_reset_does_not_appear() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let words = ["--job", "numbers", "-p", "1", "--count", "100", "--out", out.to_str().unwrap()];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    for (deployment, reset) in [(0, vec![task(0, 0), task(1, 0)]), (1, Vec::new())] {
        let mut workers = deploy(folder.path(), &words, hash, 1, vec![vec![0], vec![0]], deployment);
        workers[0].await_states(&mut coordinator, &[task(0, 0), task(1, 0)], ExecutionState::Finished);
        workers[0].hand_over_committables(&mut coordinator);
        workers[0].leave();
        coordinator.reset(&reset);
    }
    let mut workers = deploy(folder.path(), &words, hash, 1, vec![vec![0], vec![0]], 2);
    workers[0].await_states(&mut coordinator, &[task(0, 0), task(1, 0)], ExecutionState::Finished);
    workers[0].hand_over_committables(&mut coordinator);
    workers[0].leave();
    assert_eq!(coordinator.commit(), "");
    coordinator.leave();
    let names = names_in(&out);
    assert!(names.len() == 1 && names[0].starts_with("part-0-0-"), "{names:?}");
    assert_eq!(lines_in(&out).len(), 100);
}

/// Asserts that all these tasks fail, and of the network.
#[track_caller]
fn fail_of_the_network(worker: &mut Worker, coordinator: &mut Coordinator, tasks: &[TaskId]) {
    worker.await_states(coordinator, tasks, ExecutionState::Failed);
    for change in worker.changes.iter().filter(|change| change.state() == worker::ExecutionState::Failed) {
        let failure = change.failure.as_ref().unwrap();
        assert_eq!(failure.kind(), worker::FailureKind::Network, "{failure:?}");
    }
}

#[test]
fn a_peer_that_is_killed_is_a_failure_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--job", "ticks", "-p", "2", "--rate", "1000"];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    let mut workers = deploy(folder.path(), &words, hash, 2, vec![vec![0, 1], vec![0, 1]], 0);
    let here = [task(0, 0), task(1, 0)];
    workers[0].await_states(&mut coordinator, &here, ExecutionState::Running);
    workers[1].role.kill();
    fail_of_the_network(&mut workers[0], &mut coordinator, &here);
    workers[0].leave();
}

#[test]
fn a_peer_that_is_gone_before_it_is_reached_is_a_failure_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--job", "ticks", "-p", "2"];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    let mut worker = Worker::start(folder.path(), &words, 0);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let addresses = [worker.hello.data_address.clone(), nobody];
    worker.deploy(&Placement::new(2, vec![vec![0, 1], vec![0, 1]]), &addresses, hash, 0);
    fail_of_the_network(&mut worker, &mut coordinator, &[task(0, 0), task(1, 0)]);
    worker.leave();
}

#[test]
fn tasks_can_be_cancelled_while_a_peer_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--job", "ticks", "-p", "2"];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for tasks in [vec![], vec![task(0, 0), task(1, 0)]] {
        let mut worker = Worker::start(folder.path(), &words, 0);
        let addresses = [worker.hello.data_address.clone(), silent.local_addr().unwrap().to_string()];
        worker.deploy(&Placement::new(2, vec![vec![0, 1], vec![0, 1]]), &addresses, hash, 0);
        // It has dialed.
        let _peer = silent.accept().unwrap();
        worker.cancel(&tasks);
        worker.await_states(&mut coordinator, &[task(0, 0), task(1, 0)], ExecutionState::Canceled);
        worker.leave();
    }
}

#[test]
fn workers_that_exchange_nothing_do_not_connect() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--job", "idles", "--tasks", "2"];
    let (mut coordinator, _, hash) = Coordinator::opened(folder.path(), &words);
    let mut worker = Worker::start(folder.path(), &words, 0);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let addresses = [worker.hello.data_address.clone(), nobody];
    worker.deploy(&Placement::new(2, vec![vec![0, 1]]), &addresses, hash, 0);
    worker.await_states(&mut coordinator, &[task(0, 0)], ExecutionState::Running);
    worker.cancel(&[]);
    worker.await_states(&mut coordinator, &[task(0, 0)], ExecutionState::Canceled);
    worker.leave();
}

#[test]
fn a_deployment_that_cuts_a_channel_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--job", "ticks", "-p", "2"];
    for by_vertex in [vec![vec![0, ABSENT], vec![0, 0]], vec![vec![0, 0], vec![ABSENT, ABSENT]]] {
        let mut worker = Worker::start(folder.path(), &words, 0);
        let (address, hash) = (worker.hello.data_address.clone(), worker.hello.job_graph_hash);
        worker.deploy(&Placement::new(1, by_vertex), &[address], hash, 0);
        assert_eq!(worker.role.wait().code(), Some(1));
        assert!(worker.role.stderr().contains("only a part of what \"ticks"), "{}", worker.role.stderr());
    }
}

#[test]
fn the_data_port_is_on_the_host_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--job", "idles"];
    let start = |host| Worker::try_start(folder.path(), &words, 0, &[(roles::WORKER_BIND_HOST_VARIABLE, host)]);
    for host in ["127.0.0.2", "localhost"] {
        let worker = start(host).map_err(|(status, said)| format!("{status}: {said}")).unwrap();
        let (address, _) = worker.hello.data_address.rsplit_once(':').unwrap();
        assert!(address == host || (host == "localhost" && ["127.0.0.1", "[::1]"].contains(&address)), "{address}");
    }
    for (host, says) in [("0.0.0.0", "which no other worker can connect to"), ("no such host", "cannot be resolved")] {
        let (status, said) = start(host).map(|_| ()).unwrap_err();
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains(says) && said.contains(host), "{said}");
    }
}
