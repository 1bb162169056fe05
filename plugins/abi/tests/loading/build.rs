//! Builds the plugins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of this crate.
pub fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The root of the repository.
pub fn root() -> &'static Path {
    crate_folder().parent().and_then(Path::parent).expect("the crate is at plugins/abi")
}

/// The library of a Rust plugin of `tests/plugins`.
pub fn rust_plugin(name: &str) -> PathBuf {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    let target = TARGET.get_or_init(build_rust_plugins);
    target.join("debug").join(weir_plugin::file_name(name))
}

/// All of them at once. They are built where tests may write, with the versions of dependencies that Weir itself was built with.
fn build_rust_plugins() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    copy(&crate_folder().join("tests/plugins"), &folder);
    put(&folder.join("Cargo.lock"), &fs::read(root().join("Cargo.lock")).expect("Weir has a Cargo.lock"));
    let target = folder.join("target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--quiet"]).current_dir(&folder).env("CARGO_TARGET_DIR", &target);
    run(cargo);
    target
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("tests may write there");
    for entry in fs::read_dir(from).expect("the folder of plugins is there") {
        let path = entry.expect("it can be listed").path();
        let target = to.join(path.file_name().expect("it was listed"));
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => copy(&path, &target),
            Some("toml") => {
                let text = fs::read_to_string(&path).expect("it is a manifest");
                let text = text.replace("../../../../", &format!("{}/", root().display()));
                put(&target, text.replace("\"../..\"", &format!("{:?}", crate_folder())).as_bytes());
            }
            _ => put(&target, &fs::read(&path).expect("it can be read")),
        }
    }
}

/// Leaves the file alone if nothing has changed, so that cargo does, too.
fn put(path: &Path, content: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).expect("tests may write there");
    }
}

/// Compiles a file of `tests/c` to a library at `output`.
pub fn c_library(source: &str, arguments: &[&str], output: &Path) {
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-I"]).arg(crate_folder().join("include"));
    cc.arg("-o").arg(output).arg(crate_folder().join("tests/c").join(source)).args(arguments);
    run(cc);
}

/// Runs a compiler.
pub fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{text}");
}
