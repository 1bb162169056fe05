//! The standalone provider conforms when it is loaded from its file, as a JobManager does it.

use std::path::PathBuf;

use weir_plugin::{LoadOptions, load, load_by_name, scan};
use weir_provider_api::ProviderFactory;
use weir_provider_api::conformance::{Level, Setup, run};

/// Where cargo puts the library that belongs to this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    test.with_file_name("libweir_provider_standalone.so")
}

#[test]
fn the_loaded_plugin_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = load(&library(), &LoadOptions::default()).unwrap();
    let mut setup = Setup::with_shell(dir.path());
    setup.configuration.insert("provider.standalone.max-workers".to_owned(), "4".to_owned());
    setup.checks_at_once = 6;
    run(&plugin, &setup, Level::Full).assert_passed();
}

#[test]
fn the_plugin_is_found_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(library(), dir.path().join(weir_plugin::file_name("standalone"))).unwrap();
    let found = scan(dir.path(), &LoadOptions::default()).unwrap();
    let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["standalone"]);
    let info = found[0].plugin.as_ref().unwrap();
    assert_eq!((info.abi_major, info.description.name.as_str()), (1, "standalone"));
    let expected = concat!("weir-plugin-standalone ", env!("CARGO_PKG_VERSION"), ", Rust, weir-plugin ");
    assert!(info.build_info.starts_with(expected), "{}", info.build_info);

    let plugin = load_by_name(dir.path(), "standalone", &LoadOptions::default()).unwrap();
    assert_eq!(plugin.describe(), info.description);
}
