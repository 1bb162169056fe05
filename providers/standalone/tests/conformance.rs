//! The standalone provider passes the conformance suite.

use weir_provider_api::conformance::{Level, Setup, names, run};
use weir_standalone::{MAX_WORKERS, Standalone};

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = Setup::with_shell(dir.path());
    setup.configuration.insert(MAX_WORKERS.to_owned(), "4".to_owned());
    assert!(names(&Standalone, Level::Full).contains(&"recovers-workers-that-were-left"));
    setup.checks_at_once = 6;
    run(&Standalone, &setup, Level::Full).assert_passed();
}
