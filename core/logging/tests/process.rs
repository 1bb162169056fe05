//! Logging of a whole process: one test, because it can be set up only once.

use std::fs;

use weir_logging::{InitError, LogOptions, Stderr, init};

#[test]
fn events_and_panics_of_all_threads_are_in_the_file() {
    let dir = tempfile::tempdir().unwrap();

    fs::write(dir.path().join("file"), "").unwrap();
    let error = init(LogOptions::new(dir.path().join("file").join("log"), "taskmanager", "a")).unwrap_err();
    assert!(matches!(error, InitError::Dir { .. }) && error.to_string().contains("env.log.dir"), "{error}");

    let options =
        LogOptions { stderr: Stderr::Nothing, ..LogOptions::new(dir.path().join("log"), "taskmanager", "tm/1") };
    let path = options.path();
    assert!(path.ends_with("log/weir-taskmanager-tm_1.log"));
    init(options.clone()).unwrap();
    assert!(matches!(init(options), Err(InitError::Twice)));

    tracing::info!(taskmanager_id = "tm/1", "started");
    let thread = std::thread::Builder::new().name("worker-7".to_owned()).spawn(|| panic!("lost my marbles")).unwrap();
    thread.join().unwrap_err();

    let log = fs::read_to_string(&path).unwrap();
    assert!(log.contains("INFO process: started taskmanager_id=\"tm/1\""), "{log}");
    assert!(log.contains("ERROR panic: a thread panicked: lost my marbles"), "{log}");
    assert!(log.contains("thread=\"worker-7\"") && log.contains("tests/process.rs:"), "{log}");
}
