use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{call, one_job};

/// Writes a file that may be executed.
fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[track_caller]
fn is_refused(path: &Path, part: &str) {
    for command in ["run", "info"] {
        let found = call(&[command, path.to_str().unwrap()]).expect(2).stderr_has(part);
        assert!(found.stdout.is_empty() && found.stderr.lines().count() == 1, "{found:#?}");
    }
}

#[test]
fn what_is_no_job_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    is_refused(&file("missing"), "there is no file or folder");
    is_refused(folder.path(), "a folder without a Cargo.toml");
    is_refused(Path::new("/dev/null"), "neither a file nor a folder");
    is_refused(Path::new("/bin/ls"), "a program, but no Weir job");
    is_refused(Path::new(env!("CARGO_BIN_EXE_weir")), "a program, but no Weir job");
    is_refused(&file("missing.jar"), "is a Java archive");

    for (name, bytes, part) in [
        ("empty", &b""[..], "is an empty file"),
        ("script", b"#!/bin/sh\necho ran\n", "is a script"),
        ("job.py", b"print()\n", "is a Python program"),
        ("archive", b"PK\x03\x04", "is a zip or Java archive"),
        ("Cargo.toml", b"[package]\n", "describes a crate: name its folder"),
        ("noise", b"\x00\x01\x02", "a file of an unknown kind"),
        ("stub", b"\x7fELF", "is cut short"),
    ] {
        write(&file(name), bytes);
        is_refused(&file(name), part);
    }
}

#[test]
fn a_damaged_job_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job");
    let job = fs::read(one_job()).unwrap();

    for length in [100, 2000, job.len() / 2] {
        write(&file, &job[..length]);
        is_refused(&file, "is cut short");
    }

    let mut foreign = job.clone();
    foreign[18..20].copy_from_slice(&22u16.to_le_bytes());
    write(&file, &foreign);
    is_refused(&file, "is built for s390x");

    write(&file, &job);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    is_refused(&file, "chmod +x");
}

#[test]
fn an_executable_is_not_built() {
    call(&["run", "--debug", &one_job()]).expect(2).stderr_has("--debug says how a crate is built");
}
