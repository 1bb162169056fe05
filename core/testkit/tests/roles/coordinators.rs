//! The coordinator alone.

use std::os::unix::process::ExitStatusExt;

use weir_proto::coordinator::{self, to_coordinator, to_job_manager};
use weir_proto::worker::split_response::Answer;
use weir_testkit::names_in;

use crate::cluster::{Coordinator, task};

/// Why a job has no plan.
fn failure(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (mut coordinator, first) = Coordinator::start(folder.path(), words);
    let Some(to_job_manager::Message::Failed(failed)) = first else { panic!("{words:?}: {first:?}") };
    assert_eq!(coordinator.read(), None, "the last message");
    assert_eq!(coordinator.role.wait().code(), Some(0));
    assert!(coordinator.role.stderr().contains(&failed.message), "also for whoever looks at its output");
    failed.message
}

#[test]
fn a_job_that_cannot_be_planned_says_why() {
    let check = |words: &str, parts: &[&str]| {
        let message = failure(&words.split(' ').collect::<Vec<_>>());
        parts.iter().for_each(|part| assert!(message.contains(part), "{words}: {message}"));
    };
    check("--job builder_panics", &["the job's function panicked: no fish in the builder", "unbuildable.rs:"]);
    check("--job refuses", &["the moon is not full"]);
    check("--job no_sink", &["loose end"]);
    check("--job nobody", &["there is no job `nobody`", "numbers"]);
    check("--job waits --colour blue", &["unexpected argument '--colour'"]);
    check("--job waits -D paralelism.default=3", &["parallelism.default"]);
    check("--job waits --help", &["the arguments ask for help", "Usage:"]);
}

#[test]
fn a_builder_that_takes_its_process_down_just_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (mut coordinator, first) = Coordinator::start(folder.path(), &["--job", "builder_aborts"]);
    assert_eq!(first, None);
    assert_eq!(coordinator.role.wait().signal(), Some(libc::SIGABRT));
    assert!(coordinator.role.stderr().contains("about to abort while planning"));
}

#[test]
fn the_command_line_makes_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--job", "ticks", "-p", "5"];
    let (mut coordinator, graph, hash) = Coordinator::planned(folder.path(), &words);
    assert_eq!((graph.name.as_str(), graph.vertices[0].parallelism), ("ticks", 5));
    assert_eq!(weir_proto::job_graph_hash(&graph), hash);
    assert_eq!(graph.config["parallelism.default"], "5");
    coordinator.leave();
}

#[test]
fn inputs_and_outputs_that_cannot_be_used_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("notes"), "keep").unwrap();
    let words = ["--job", "numbers", "--out", out.to_str().unwrap()];
    let (mut coordinator, ..) = Coordinator::planned(folder.path(), &words);
    let error = coordinator.open();
    assert!(error.contains("notes") && error.contains("overwrite"), "{error}");
    coordinator.leave();
    assert_eq!(names_in(&out), ["notes"]);
    let (mut coordinator, ..) = Coordinator::planned(folder.path(), &["--job", "ticks", "--rate", "0"]);
    let error = coordinator.open();
    assert!(error.contains("above 0"), "{error}");
    coordinator.leave();
}

/// The split that a task is given, or nothing more.
fn split(coordinator: &mut Coordinator, subtask: u32) -> Option<Vec<u8>> {
    match coordinator.split(task(0, subtask)).answer {
        Some(Answer::Split(bytes)) => Some(bytes),
        Some(Answer::Finished(_)) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn splits_of_tasks_that_are_reset_are_handed_out_again() {
    let folder = tempfile::tempdir().unwrap();
    // Each split is one of three equal parts.
    let words = ["--job", "idles", "--tasks", "3"];
    let (mut coordinator, ..) = Coordinator::opened(folder.path(), &words);
    let given: Vec<_> = (0..3).map(|subtask| split(&mut coordinator, subtask).unwrap()).collect();
    assert_eq!(split(&mut coordinator, 1), None);
    coordinator.reset(&[task(0, 1)]);
    assert_eq!(split(&mut coordinator, 1).as_ref(), Some(&given[1]));
    assert_eq!(split(&mut coordinator, 1), None, "once");
    coordinator.reset(&[task(0, 1), task(0, 2), task(1, 0)]);
    let mut again = [split(&mut coordinator, 0).unwrap(), split(&mut coordinator, 0).unwrap()];
    again.sort();
    let mut expected = [given[1].clone(), given[2].clone()];
    expected.sort();
    assert_eq!((again, split(&mut coordinator, 0)), (expected, None));
    // All over.
    coordinator.reset(&[]);
    let again: Vec<_> = (0..3).map(|subtask| split(&mut coordinator, subtask).unwrap()).collect();
    assert_eq!(again, given);
    coordinator.leave();
}

#[test]
fn a_request_is_answered_before_a_reset_that_comes_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut coordinator, ..) = Coordinator::opened(folder.path(), &["--job", "idles", "--tasks", "1"]);
    for round in 0..50 {
        let request = weir_proto::worker::SplitRequest { vertex: 0, subtask: 0 };
        coordinator.say(to_coordinator::Message::SplitRequest(request));
        let reset = coordinator::ResetTasks {
            tasks: vec![weir_proto::worker::TaskRef { vertex: 0, subtask: 0 }],
            restored: None,
        };
        coordinator.say(to_coordinator::Message::ResetTasks(reset));
        let (first, second) = (coordinator.read(), coordinator.read());
        let Some(to_job_manager::Message::SplitResponse(response)) = first else { panic!("{round}: {first:?}") };
        assert!(matches!(response.answer, Some(Answer::Split(_))), "{round}: {response:?}");
        assert!(matches!(second, Some(to_job_manager::Message::TasksReset(_))), "{round}: {second:?}");
    }
    coordinator.leave();
}

#[test]
fn requests_that_make_no_sense_are_answered_with_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (mut coordinator, ..) = Coordinator::planned(folder.path(), &["--job", "idles"]);
    let error = |coordinator: &mut Coordinator, vertex| match coordinator.split(task(vertex, 0)).answer {
        Some(Answer::Error(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(error(&mut coordinator, 0).contains("not open"));
    assert_eq!(coordinator.open(), "");
    assert!(coordinator.open().contains("twice"));
    assert!(error(&mut coordinator, 9).contains("has no source"));
    coordinator.leave();
}

#[test]
fn what_was_written_aside_goes_with_the_coordinator() {
    let ways: [fn(&mut Coordinator); 3] = [
        |coordinator| {
            coordinator.say(to_coordinator::Message::Discard(coordinator::Discard {}));
            let answer = coordinator.read();
            assert!(matches!(answer, Some(to_job_manager::Message::Discarded(_))), "{answer:?}");
            coordinator.leave();
        },
        Coordinator::leave,
        |coordinator| {
            coordinator.role.stream.shutdown(std::net::Shutdown::Both).unwrap();
            assert_eq!(coordinator.role.wait().code(), Some(1));
            assert!(coordinator.role.stderr().contains("the JobManager is gone"), "{}", coordinator.role.stderr());
        },
    ];
    for way in ways {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let words = ["--job", "numbers", "--out", out.to_str().unwrap()];
        let (mut coordinator, ..) = Coordinator::opened(folder.path(), &words);
        assert!(!names_in(&out).is_empty(), "a place to write aside");
        way(&mut coordinator);
        assert!(!out.exists(), "{:?}", names_in(&out));
    }
}

#[test]
fn signals_to_the_group_do_not_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut coordinator, ..) = Coordinator::opened(folder.path(), &["--job", "idles"]);
    let pid = coordinator.pid();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        weir_testkit::signal(pid, signal);
    }
    assert!(split(&mut coordinator, 0).is_some());
    coordinator.leave();
}
