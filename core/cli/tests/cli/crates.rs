use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Outcome, one_job, outcome, weir};

/// A program that carries a job's note, of protocol 1, and nothing else of the SDK, so that it is built in no time.
/// Spells the note out: what the SDK writes and what the command reads must both stay like this.
const STUB: &str = r###"
#[used]
#[unsafe(link_section = ".note.weir")]
static NOTE: [u8; 48] = *b"\x05\0\0\0\x1c\0\0\0\x01\0\0\0Weir\0\0\0\0\x01\0\0\01.2.3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn main() {
    std::hint::black_box(&NOTE);
    if std::env::var("WEIR_ROLE").is_ok_and(|role| role == "describe") {
        println!("{}", r##"{"weir":"1.2.3","protocol":1,"jobs":[{"name":"stub"}],"later":true}"##);
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("{} debug={} {}", env!("CARGO_CRATE_NAME"), cfg!(debug_assertions), arguments.join(" "));
    std::process::exit(7);
}
"###;

const MANIFEST: &str = "[package]\nname = \"stub\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";

/// A crate of these files.
fn package(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// `weir COMMAND FLAGS… FOLDER`, with cargo kept from the network.
fn call(command: &str, flags: &[&str], folder: &Path) -> Outcome {
    let mut weir = weir();
    weir.arg(command).args(flags).arg(folder);
    weir.env("CARGO_TARGET_DIR", folder.join("target")).env("CARGO_NET_OFFLINE", "true");
    weir.env_remove("CARGO_BUILD_TARGET").env_remove("RUSTFLAGS");
    outcome(&mut weir)
}

/// A cargo that puts a job that was built already in the place of what it has built: building the whole SDK would take minutes.
fn cargo_that_knows_the_sdk(folder: &Path) -> PathBuf {
    let script = folder.join("cargo");
    let real = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let text = format!(
        "#!/bin/sh\n'{real}' \"$@\" || exit\nif [ \"$1\" = build ]; then cp -f '{}' \"$CARGO_TARGET_DIR/debug/stub\"; fi\n",
        one_job()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn a_crate_is_built_and_run() {
    let stub = package(&[("Cargo.toml", MANIFEST), ("src/main.rs", STUB)]);
    let cargo = cargo_that_knows_the_sdk(stub.path());
    let run = |flags: &[&str]| {
        let mut weir = weir();
        weir.args(["run", "--debug", "-p1"]).args(flags).arg(stub.path()).args(["--", "--count", "1"]);
        weir.env("CARGO_TARGET_DIR", stub.path().join("target")).env("CARGO_NET_OFFLINE", "true").env("CARGO", &cargo);
        outcome(&mut weir).expect(0)
    };
    let first = run(&[]).stderr_has("Compiling stub").stderr_has("Job numbers finished");
    assert_eq!(first.stdout, "0\n");
    let again = run(&["-q"]);
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("0\n", ""));
}

#[test]
fn a_crate_is_built_as_told_and_its_arguments_are_passed_on() {
    let stub = package(&[("Cargo.toml", MANIFEST), ("src/main.rs", STUB)]);
    let info = call("info", &["-p3", "-Da=b"], stub.path()).expect(7).stderr_has("Compiling stub");
    assert_eq!(info.stdout, "stub debug=false --parallelism=3 -Da=b --explain=tree\n");
    call("info", &["--dot", "--debug"], stub.path()).expect(7).stdout_has("debug=true --explain=dot");
}

#[test]
fn one_of_several_binaries_is_chosen() {
    let files =
        [("Cargo.toml", MANIFEST), ("src/main.rs", STUB), ("src/bin/other.rs", STUB), ("examples/small.rs", STUB)];
    let stub = package(&files);
    call("run", &[], stub.path()).expect(2).stderr_has("--bin NAME: other, stub");
    call("run", &["--bin", "third"], stub.path()).expect(2).stderr_has("has no bin \"third\"; it has: other, stub");
    call("run", &["--bin", "other", "--example", "small"], stub.path()).expect(2).stderr_has("cannot be used with");
    call("info", &["--debug", "--bin", "other"], stub.path()).expect(7).stdout_has("other debug=true");
    call("info", &["--debug", "--example", "small"], stub.path()).expect(7).stdout_has("small debug=true");
}

#[test]
fn a_job_of_another_protocol_version_is_not_run() {
    let stub = package(&[("Cargo.toml", MANIFEST), ("src/main.rs", STUB)]);
    let refused = call("run", &["--debug", "-q"], stub.path()).expect(2);
    let refused = refused
        .stderr_has("its SDK 1.2.3 speaks version 1 of the protocol")
        .stderr_has("build it with the crate `weir`");
    assert_eq!(refused.stdout, "");
}

#[test]
fn a_crate_that_is_no_job_is_refused() {
    let hello = package(&[("Cargo.toml", MANIFEST), ("src/main.rs", "fn main() { println!(\"hello\"); }")]);
    let found = call("run", &["--debug"], hello.path()).expect(2).stderr_has("a program, but no Weir job");
    assert_eq!(found.stdout, "");
    let library = package(&[("Cargo.toml", MANIFEST), ("src/lib.rs", "")]);
    call("run", &[], library.path()).expect(2).stderr_has("has no binary");
}

#[test]
fn a_crate_that_does_not_build_shows_why() {
    let broken = package(&[("Cargo.toml", MANIFEST), ("src/main.rs", "fn main() { no_such_function() }")]);
    call("run", &["-q", "--debug"], broken.path())
        .expect(1)
        .stderr_has("cannot find function `no_such_function`")
        .stderr_has("cannot be built: cargo ended with");
    let nonsense = package(&[("Cargo.toml", "[package\n")]);
    call("run", &[], nonsense.path()).expect(1).stderr_has("cargo does not understand the crate");
    let stub = package(&[("Cargo.toml", MANIFEST), ("src/main.rs", STUB)]);
    outcome(weir().arg("run").arg(stub.path()).env("CARGO", "/nowhere/cargo"))
        .expect(1)
        .stderr_has("/nowhere/cargo cannot be started");
}
