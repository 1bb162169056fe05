//! From what a person named to a job's executable, looked at before anything of it runs.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use weir_proto::artifact::{self, ArtifactNote};

use crate::arguments::TargetArgs;
use crate::failure::usage;
use crate::{habits, package};

/// The executable of a job.
#[derive(Debug)]
pub(crate) struct Executable {
    /// Has a `/` in it, so that nobody looks for it in `PATH`.
    pub(crate) path: PathBuf,
    /// What it says of itself; `None` where it could not be looked at.
    note: Option<ArtifactNote>,
}

impl Executable {
    /// An error if it speaks another version of the protocol than this program.
    pub(crate) fn check_protocol(&self) -> anyhow::Result<()> {
        let Some(note) = &self.note else { return Ok(()) };
        artifact::check_protocol(note).map_err(|what| usage(what.explain(self.path.display())))
    }
}

/// The executable that `target` names; a crate is built first.
pub(crate) fn find(target: &TargetArgs, quiet: bool) -> anyhow::Result<Executable> {
    let path = with_a_slash(&target.path);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(usage(not_found(&target.path))),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    if metadata.is_dir() {
        let path = package::build(&path, &target.build, quiet)?;
        let metadata = fs::metadata(&path).with_context(|| format!("{} was built and is gone", path.display()))?;
        let note = inspect(&path, &metadata)?;
        return Ok(Executable { path, note });
    }
    let note = inspect(&path, &metadata)?;
    if let Some(flag) = target.build.given() {
        return Err(usage(format!(
            "{} is an executable already, but {flag} says how a crate is built: leave it out, or name the crate's folder",
            path.display()
        )));
    }
    Ok(Executable { path, note })
}

fn with_a_slash(path: &Path) -> PathBuf {
    let mut components = path.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => Path::new(".").join(name),
        _ => path.to_owned(),
    }
}

fn not_found(path: &Path) -> String {
    let shown = path.display();
    match habits::foreign_artifact(path) {
        Some(advice) => format!("{advice} (nor is there such a file)"),
        None => format!("there is no file or folder {shown}: expected a job's executable or the folder of a crate"),
    }
}

/// The note in the file; an error unless it is a job's executable that this machine can run.
fn inspect(path: &Path, metadata: &Metadata) -> anyhow::Result<Option<ArtifactNote>> {
    let shown = path.display();
    if path.file_name().is_some_and(|name| name == "Cargo.toml") {
        let folder = path.parent().unwrap_or(path).display();
        return Err(usage(format!("{shown} describes a crate: name its folder, {folder}")));
    }
    if !metadata.is_file() {
        return Err(usage(format!("{shown} is neither a file nor a folder: expected a job's executable")));
    }
    let mut file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    if let Some(advice) = habits::foreign_artifact(path) {
        return Err(usage(advice));
    }
    let note = match cfg!(any(target_os = "linux", target_os = "freebsd")) {
        true => {
            let checked = artifact::check(&mut file).with_context(|| format!("{shown} cannot be read"))?;
            Some(checked.map_err(|what| usage(what.explain(&shown)))?)
        }
        // Other systems have no ELF notes.
        false => None,
    };
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(usage(format!("{shown} is not executable: make it so with `chmod +x {shown}`")));
    }
    Ok(note)
}
