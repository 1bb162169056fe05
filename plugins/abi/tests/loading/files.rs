//! Files that are no usable plugins.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_plugin::{LoadOptions, LoadProblem, load, load_by_name, scan};

use crate::build::{c_library, crate_folder, run, rust_plugin};

fn problem_of(path: &Path) -> LoadProblem {
    let options = LoadOptions { deadline: Duration::from_secs(60), ..LoadOptions::default() };
    let error = load(path, &options).expect_err("it is no usable plugin");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    error.problem
}

/// A plugin that may not even be loaded.
fn odd(dir: &Path, macros: &[&str]) -> PathBuf {
    let path = dir.join("libweir_provider_odd.so");
    c_library("odd.c", macros, &path);
    path
}

fn any_libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("this is Linux");
    let path = maps.lines().filter_map(|line| line.split_once('/')).find(|(_, path)| path.contains("libc.so.6"));
    PathBuf::from(format!("/{}", path.expect("tests use the C library").1))
}

#[test]
fn a_library_that_is_no_plugin_is_refused() {
    let problem = problem_of(&any_libc());
    assert_eq!(problem, LoadProblem::NotAPlugin);
    assert!(problem.to_string().contains("export_provider!"), "{problem}");
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libweir_provider_x.so");
    for (content, expected) in [
        (&b"just text\n"[..], "a text file"),
        (b"#!/bin/sh\n", "a script"),
        (b"", "an empty file"),
        (b"!<arch>\n....", "a static library"),
        (b"\x00\x01\x02\x03", "another kind"),
    ] {
        fs::write(&path, content).unwrap();
        let problem = problem_of(&path).to_string();
        assert!(problem.contains("not a shared library") && problem.contains(expected), "{problem}");
    }
    let problem = problem_of(dir.path()).to_string();
    assert!(problem.contains("a folder"), "{problem}");
    let problem = problem_of(&dir.path().join("nothing.so"));
    assert!(matches!(problem, LoadProblem::NotFound(_)), "{problem}");
}

#[test]
fn a_truncated_plugin_is_refused_wherever_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = dir.path().join("tiny.so");
    c_library("tiny.c", &[], &tiny);
    let cut = dir.path().join("cut.so");
    for (whole, cuts) in [(fs::read(&tiny).unwrap(), 200), (fs::read(rust_plugin("processes")).unwrap(), 40)] {
        for part in 0..cuts {
            let len = whole.len() * part / cuts;
            fs::write(&cut, &whole[..len]).unwrap();
            match problem_of(&cut) {
                LoadProblem::Truncated { size, needs, .. } => assert!(size == len as u64 && needs > size),
                other => assert!(len < 4, "cut to {len} of {} bytes: {other}", whole.len()),
            }
        }
        fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(problem_of(&cut), LoadProblem::Truncated { .. }));
    }
}

#[test]
fn a_plugin_whose_rest_is_zeros_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.so");
    c_library("tiny.c", &[], &path);
    let whole = fs::read(&path).unwrap();
    // The section headers come last.
    let headers = u64::from_le_bytes(whole[40..48].try_into().unwrap()) as usize;
    for part in 1..50 {
        let mut bytes = whole.clone();
        bytes[64 + (headers - 64) * part / 50..].fill(0);
        fs::write(&path, &bytes).unwrap();
        let problem = problem_of(&path);
        assert!(matches!(problem, LoadProblem::Damaged(_)), "{problem}");
    }
}

#[test]
fn a_plugin_for_another_machine_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = odd(dir.path(), &[]);
    let mut bytes = fs::read(&path).unwrap();
    let other = if cfg!(target_arch = "x86_64") { (183, "64-bit ARM") } else { (62, "x86-64") };
    bytes[18] = other.0;
    fs::write(&path, bytes).unwrap();
    let problem = problem_of(&path).to_string();
    assert!(problem.contains(&format!("built for {}", other.1)), "{problem}");
}

#[test]
fn a_damaged_plugin_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = odd(dir.path(), &[]);
    let whole = fs::read(&path).unwrap();
    // Where the headers are, their number and their size.
    for field in [32..40, 40..48, 54..56, 58..60] {
        let mut bytes = whole.clone();
        bytes[field.clone()].fill(0xff);
        fs::write(&path, &bytes).unwrap();
        let problem = problem_of(&path);
        let expected = matches!(problem, LoadProblem::Damaged(_) | LoadProblem::Truncated { .. });
        assert!(expected, "bytes {field:?}: {problem}");
    }
}

#[test]
fn another_major_version_is_refused_without_being_loaded() {
    let dir = tempfile::tempdir().unwrap();
    for macros in [["-DMAJOR=2"], ["-DSYMBOL=weir_provider_v2"]] {
        let problem = problem_of(&odd(dir.path(), &macros));
        assert_eq!(problem, LoadProblem::OtherMajor { found: 2 });
        let text = problem.to_string();
        assert!(text.contains("version 2") && text.contains("version 1") && text.contains("newer Weir"), "{text}");
    }
    let text = problem_of(&odd(dir.path(), &["-DMAJOR=0"])).to_string();
    assert!(text.contains("newer version of the plugin"), "{text}");
}

#[test]
fn a_table_of_an_earlier_layout_is_refused_without_being_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let problem = problem_of(&odd(dir.path(), &["-DSIZE=40"]));
    assert_eq!(problem, LoadProblem::TableTooSmall { found: 40, expected: 64 });
    // It claims more than it has.
    let mut bytes = fs::read(odd(dir.path(), &["-DMAGIC={1,2,3,4,5,6,7,8}"])).unwrap();
    let path = dir.path().join("odd.so");
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(problem_of(&path), LoadProblem::NotATable(_)));
    let table = bytes.windows(8).position(|bytes| bytes == [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    bytes[table..table + 8].copy_from_slice(b"WEIRPROV");
    bytes[table + 20] = 9;
    fs::write(&path, &bytes).unwrap();
    assert!(problem_of(&path).to_string().contains("panics is 9"));
}

#[test]
fn a_plugin_that_aborts_on_panics_is_refused_without_being_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let problem = problem_of(&odd(dir.path(), &["-DPANICS=WEIR_PANICS_ABORT"]));
    assert_eq!(problem, LoadProblem::AbortsOnPanic);
    assert!(problem.to_string().contains("panic = \"unwind\""), "{problem}");
}

#[test]
fn a_plugin_of_a_newer_system_is_refused_with_the_version_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let libc = dir.path().join("libc.so.6");
    let map = crate_folder().join("tests/c/newer_libc.map");
    let map = format!("-Wl,--version-script={}", map.display());
    c_library("newer_libc.c", &["-nostdlib", "-Wl,-soname,libc.so.6", &map], &libc);
    let path = dir.path().join("libweir_provider_x.so");
    c_library("needs_newer_libc.c", &["-nostdlib", &libc.display().to_string()], &path);
    let problem = problem_of(&path);
    assert!(matches!(&problem, LoadProblem::NewerGlibc { needs, .. } if needs == "GLIBC_9.99"), "{problem}");
}

#[test]
fn a_plugin_whose_libraries_are_missing_is_refused_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libmissing.so");
    let map = "-Wl,-soname,libmissing.so";
    c_library("newer_libc.c", &["-nostdlib", map], &library);
    let path = dir.path().join("libweir_provider_x.so");
    c_library("needs_newer_libc.c", &["-nostdlib", &library.display().to_string()], &path);
    fs::remove_file(library).unwrap();
    let problem = problem_of(&path).to_string();
    assert!(problem.contains("libmissing.so") && problem.contains("ldd"), "{problem}");
}

#[test]
fn a_stripped_plugin_is_as_good() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libweir_provider_processes.so");
    fs::copy(rust_plugin("processes"), &path).unwrap();
    let mut strip = std::process::Command::new("strip");
    strip.arg(&path);
    run(strip);
    load_by_name(dir.path(), "processes", &LoadOptions::default()).unwrap();
}

#[test]
fn a_scan_tells_of_every_file_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = |name: &str| dir.path().join(weir_plugin::file_name(name));
    c_library("tiny.c", &[], &plugin("tiny"));
    fs::copy(plugin("tiny"), plugin("other")).unwrap();
    fs::copy(rust_plugin("processes"), plugin("processes")).unwrap();
    fs::write(plugin("broken"), "text").unwrap();
    fs::write(dir.path().join("README"), "not looked at").unwrap();

    let found = scan(dir.path(), &LoadOptions::default()).unwrap();
    let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["broken", "other", "processes", "tiny"]);
    let problem = |at: usize| found[at].plugin.as_ref().unwrap_err().problem.clone();
    assert!(matches!(problem(0), LoadProblem::NotALibrary { .. }));
    assert_eq!(problem(1), LoadProblem::OtherName { described: "tiny".to_owned(), named: "other".to_owned() });
    let rust = found[2].plugin.as_ref().unwrap();
    assert!(rust.build_info.starts_with("processes 0.1.0, Rust, weir-plugin "), "{}", rust.build_info);
    let c = found[3].plugin.as_ref().unwrap();
    assert_eq!((c.build_info.as_str(), c.abi_major, c.abi_minor), ("tiny 1.0, C", 1, 0));
    assert_eq!(c.description.summary, "Starts workers as processes, in C");

    assert!(scan(&dir.path().join("nothing"), &LoadOptions::default()).is_err());
    let missing = load_by_name(dir.path(), "yarn", &LoadOptions::default()).unwrap_err().to_string();
    assert!(missing.contains("libweir_provider_yarn.so") && missing.contains("processes, tiny"), "{missing}");
}
