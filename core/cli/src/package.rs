//! A crate as what is run: finds its binary and has cargo build it.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use crate::arguments::BuildArgs;
use crate::failure::usage;

/// Builds the crate in `folder`; its executable. The compiler's messages go to standard error.
pub(crate) fn build(folder: &Path, arguments: &BuildArgs, quiet: bool) -> anyhow::Result<PathBuf> {
    if !folder.join("Cargo.toml").is_file() {
        return Err(usage(format!(
            "{} is a folder without a Cargo.toml: expected a job's executable or the folder of a crate",
            folder.display()
        )));
    }
    let metadata = metadata(folder)?;
    let (package, target) = choose(folder, &metadata, arguments)?;
    let mut command = cargo(folder);
    command.args(["build", "--message-format=json-render-diagnostics", "--package", &package.id]);
    command.args([if target.is("bin") { "--bin" } else { "--example" }, &target.name]);
    if !arguments.debug {
        command.arg("--release");
    }
    if quiet {
        command.arg("--quiet");
    }
    execute_build(command, folder, target)
}

/// Cargo as it is when started in the crate's folder, so that its toolchain file and its configuration count.
fn cargo(folder: &Path) -> Command {
    let program = std::env::var_os("CARGO").filter(|name| !name.is_empty()).unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn no_cargo(command: &Command, error: &std::io::Error) -> anyhow::Error {
    anyhow!(
        "{} cannot be started to build the crate ({error}): install Rust (https://rustup.rs), or name a job's executable",
        command.get_program().display()
    )
}

/// The part of `cargo metadata` that is needed here.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    #[serde(default)]
    workspace_default_members: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    manifest_path: PathBuf,
    #[serde(default)]
    default_run: Option<String>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Target {
    fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|other| other == kind)
    }
}

fn metadata(folder: &Path) -> anyhow::Result<Metadata> {
    let mut command = cargo(folder);
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let output = command.output().map_err(|error| no_cargo(&command, &error))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("cargo does not understand the crate in {}:\n{}", folder.display(), message.trim_end());
    }
    serde_json::from_slice(&output.stdout).context("what `cargo metadata` printed cannot be read")
}

/// What to build and run: what was asked for, or the only binary there is.
fn choose<'a>(
    folder: &Path,
    metadata: &'a Metadata,
    arguments: &BuildArgs,
) -> anyhow::Result<(&'a Package, &'a Target)> {
    let packages = packages_of(folder, metadata);
    let all = |kind: &str| -> Vec<(&'a Package, &'a Target)> {
        let targets = packages.iter().flat_map(|&package| package.targets.iter().map(move |target| (package, target)));
        targets.filter(|(_, target)| target.is(kind)).collect()
    };
    let shown = folder.display();
    if let Some((kind, name)) = asked_for(arguments) {
        let there = all(kind);
        let found = there.iter().find(|(_, target)| target.name == *name);
        return found.copied().ok_or_else(|| match names(&there) {
            None => usage(format!("the crate in {shown} has no {kind} {name:?}, nor any other")),
            Some(names) => usage(format!("the crate in {shown} has no {kind} {name:?}; it has: {names}")),
        });
    }
    let binaries = all("bin");
    let default = packages.iter().find_map(|package| package.default_run.as_ref());
    match binaries.as_slice() {
        [only] => Ok(*only),
        [] => Err(usage(match names(&all("example")) {
            None => {
                format!("the crate in {shown} has no binary: a job's executable has a src/main.rs with `weir::main!`")
            }
            Some(names) => {
                format!("the crate in {shown} has no binary; choose one of its examples with --example NAME: {names}")
            }
        })),
        several => several.iter().find(|(_, target)| Some(&target.name) == default).copied().ok_or_else(|| {
            let names = names(several).unwrap_or_default();
            usage(format!("the crate in {shown} has several binaries; choose one with --bin NAME: {names}"))
        }),
    }
}

fn asked_for(arguments: &BuildArgs) -> Option<(&'static str, &String)> {
    let binary = arguments.bin.as_ref().map(|name| ("bin", name));
    binary.or_else(|| arguments.example.as_ref().map(|name| ("example", name)))
}

/// The package of the folder, or those that a workspace without one builds by default.
fn packages_of<'a>(folder: &Path, metadata: &'a Metadata) -> Vec<&'a Package> {
    let manifest = fs::canonicalize(folder.join("Cargo.toml")).ok();
    let own = metadata.packages.iter().find(|package| fs::canonicalize(&package.manifest_path).ok() == manifest);
    let members = || metadata.packages.iter().filter(|p| metadata.workspace_default_members.contains(&p.id)).collect();
    own.map_or_else(members, |package| vec![package])
}

fn names(targets: &[(&Package, &Target)]) -> Option<String> {
    let names: Vec<_> = targets.iter().map(|(_, target)| target.name.as_str()).collect();
    if names.is_empty() { None } else { Some(names.join(", ")) }
}

/// A message of cargo; all other kinds have no executable.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    executable: Option<PathBuf>,
}

fn execute_build(mut command: Command, folder: &Path, wanted: &Target) -> anyhow::Result<PathBuf> {
    command.stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| no_cargo(&command, &error))?;
    let stdout = child.stdout.take().expect("it was asked for above");
    let mut executable = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cargo's messages cannot be read")?;
        // Other programs' output may stand between cargo's messages.
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        let is_wanted = |target: &Target| target.name == wanted.name && target.kind == wanted.kind;
        if message.target.as_ref().is_some_and(is_wanted) {
            executable = message.executable.or(executable);
        }
    }
    let status = child.wait().context("cargo's end cannot be waited for")?;
    if !status.success() {
        bail!("the crate in {} cannot be built: cargo ended with {status}; its messages are above", folder.display());
    }
    executable.ok_or_else(|| anyhow!("cargo built {} but named no executable of it", wanted.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        targets: &[(&str, &str)],
        default_run: Option<&str>,
        flags: [Option<&str>; 2],
        expect: Result<&str, &str>,
    ) {
        let target = |&(kind, name): &(&str, &str)| Target { name: name.to_owned(), kind: vec![kind.to_owned()] };
        let package = Package {
            id: "id".to_owned(),
            manifest_path: PathBuf::from("/nowhere/Cargo.toml"),
            default_run: default_run.map(str::to_owned),
            targets: targets.iter().map(target).collect(),
        };
        let metadata = Metadata { packages: vec![package], workspace_default_members: vec!["id".to_owned()] };
        let [bin, example] = flags.map(|name| name.map(str::to_owned));
        let arguments = BuildArgs { release: false, debug: false, bin, example };
        match (choose(Path::new("/elsewhere"), &metadata, &arguments), expect) {
            (Ok((_, target)), Ok(name)) => assert_eq!(target.name, name),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error} lacks {part:?}"),
            (found, expect) => panic!("found {found:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_binary_is_chosen_or_asked_for() {
        let one = [("lib", "a"), ("bin", "a"), ("example", "e")];
        check(&one, None, [None, None], Ok("a"));
        check(&one, None, [None, Some("e")], Ok("e"));
        check(&one, None, [Some("e"), None], Err("has no bin \"e\"; it has: a"));
        let two = [("bin", "a"), ("bin", "b")];
        check(&two, None, [None, None], Err("--bin NAME: a, b"));
        check(&two, Some("b"), [None, None], Ok("b"));
        check(&two, None, [Some("a"), None], Ok("a"));
        check(&two, None, [None, Some("e")], Err("has no example \"e\", nor any other"));
        check(&[("lib", "a"), ("example", "e")], None, [None, None], Err("--example NAME: e"));
        check(&[("lib", "a")], None, [None, None], Err("has no binary: a job's executable"));
    }
}
