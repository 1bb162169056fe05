//! The hidden directory of a run, where its part files are until they are visible, and how they become visible: in steps,
//! each of which leaves the directory in a state from which a later committer can go on, or go back.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::OutputError;
use super::part::{Part, is_part, name_of};

/// What the names of hidden directories begin with.
pub(super) const PREFIX: &str = ".weir-";

/// Names of part files from before this run, which the first commit replaces, one a line.
const OLD: &str = "old";

/// Files that a commit is replacing.
const REPLACED: &str = "replaced";

/// The files that a commit is making visible, as they are called in here, one a line. Whoever finds it goes on with that commit or takes it
/// back, because it was interrupted.
const PUBLISHING: &str = "publishing";

/// What the list is called once all of them are visible: nothing is taken back any more.
const PUBLISHED: &str = "published";

/// There if earlier runs of the job may have output in the directory.
const RESTORED: &str = "restored";

/// The hidden directory of one run.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    output: PathBuf,
    pub(super) path: PathBuf,
}

/// A step of a commit. Names are as in the staging directory, but for those of old files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Hides a file again that an interrupted commit has made visible and that is not part of this one.
    TakeBack(String),
    /// Moves an old file out of the way.
    SetAside(String),
    /// Notes what is about to become visible. None of these names is taken by somebody else's file.
    Note(Vec<String>),
    /// Makes a file visible.
    Publish(String),
    /// Removes the other name of a visible file.
    Unstage(String),
    /// Makes the names of visible files durable.
    Sync,
    /// Notes that all of it is visible.
    Confirm,
    /// Forgets which files were to be replaced.
    ForgetOld,
    /// Removes the files that were replaced.
    RemoveReplaced,
    /// Removes the note.
    RemoveNote,
}

/// What follows once all files are visible.
const AFTERWARDS: [Step; 3] = [Step::ForgetOld, Step::RemoveReplaced, Step::RemoveNote];

impl Staging {
    /// That of a run with this id.
    pub(super) fn of(output: &Path, run: &str) -> Staging {
        Staging { output: output.to_owned(), path: output.join(format!("{PREFIX}{}", run.replace('/', "-"))) }
    }

    /// Every run's that there is.
    pub(super) fn all(output: &Path, names: &[String]) -> Vec<Staging> {
        let hidden = names.iter().filter(|name| name.starts_with(PREFIX)).map(|name| output.join(name));
        hidden.filter(|path| path.is_dir()).map(|path| Staging { output: output.to_owned(), path }).collect()
    }

    /// The directory that its files will be visible in.
    pub(super) fn output(&self) -> &Path {
        &self.output
    }

    /// Whether there is such a file, visible or written aside.
    pub(super) fn has(&self, part: &Part) -> bool {
        self.output.join(&part.name).exists() || self.path.join(part.staged()).exists()
    }

    /// The run's id, as far as it is part of names.
    pub(super) fn run(&self) -> String {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.strip_prefix(PREFIX).unwrap_or_default().to_owned()
    }

    /// Makes the directory; `old` are the part files that the first commit replaces.
    pub(super) fn create(&self, old: &[String], restored: bool) -> Result<(), OutputError> {
        fs::create_dir(&self.path).map_err(OutputError::io(&self.path, "created"))?;
        if !old.is_empty() {
            self.write_list(OLD, old)?;
        }
        if restored {
            let marker = self.path.join(RESTORED);
            File::create(&marker).map_err(OutputError::io(&marker, "created"))?;
        }
        Ok(())
    }

    /// Whether earlier runs of the job may have output in the directory.
    pub(super) fn is_restored(&self) -> bool {
        self.path.join(RESTORED).exists()
    }

    /// What makes these files visible, which must be of this run: nothing if they are.
    pub(super) fn plan(&self, parts: &[Part]) -> Result<Vec<Step>, OutputError> {
        let mut steps = Vec::new();
        let (mut old, mut noted) = (BTreeSet::new(), BTreeSet::new());
        let confirmed = self.path.join(PUBLISHED).exists();
        if confirmed {
            steps.extend(AFTERWARDS);
        } else {
            (old, noted) = (self.read_list(OLD)?, self.read_list(PUBLISHING)?);
        }
        let aside = |name: &str| self.path.join(REPLACED).join(name).exists();
        let in_the_way: BTreeSet<String> = old.iter().filter(|name| !aside(name)).cloned().collect();
        let mut hidden = Vec::new();
        for part in parts {
            if self.is_hidden(part, &in_the_way)? {
                hidden.push(part.staged());
            }
        }
        if hidden.is_empty() && noted.is_empty() && (confirmed || !self.path.join(OLD).exists()) {
            return Ok(steps);
        }
        let wanted: BTreeSet<String> = parts.iter().map(Part::staged).collect();
        steps.extend(noted.difference(&wanted).cloned().map(Step::TakeBack));
        steps.extend(in_the_way.into_iter().map(Step::SetAside));
        let note = wanted.into_iter().filter(|name| noted.contains(name) || hidden.contains(name));
        steps.push(Step::Note(note.collect()));
        steps.extend(hidden.into_iter().flat_map(|name| [Step::Publish(name.clone()), Step::Unstage(name)]));
        steps.extend([Step::Sync, Step::Confirm]);
        steps.extend(AFTERWARDS);
        Ok(steps)
    }

    /// Whether a part is still to be made visible; an error if it cannot be.
    fn is_hidden(&self, part: &Part, in_the_way: &BTreeSet<String>) -> Result<bool, OutputError> {
        let (from, to) = (self.path.join(part.staged()), self.output.join(&part.name));
        let len = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
        let replaced = in_the_way.contains(&part.name);
        match (len(&from), len(&to)) {
            (Some(_), Some(_)) if !replaced && !same_file(&from, &to) => Err(OutputError::Appeared { path: to }),
            (Some(len), _) if len != part.len => Err(OutputError::Altered { path: from, len, expected: part.len }),
            (Some(_), _) => Ok(true),
            // Published by an earlier attempt.
            (None, Some(len)) if !replaced && len == part.len => Ok(false),
            (None, Some(len)) if !replaced => Err(OutputError::Altered { path: to, len, expected: part.len }),
            (None, _) => Err(OutputError::Lost { path: to, staged: from }),
        }
    }

    /// Does a step, or finds that it is done.
    pub(super) fn perform(&self, step: &Step) -> Result<(), OutputError> {
        match step {
            Step::TakeBack(staged) => self.hide(staged),
            Step::SetAside(name) => self.set_aside(name),
            Step::Note(names) => self.write_list(PUBLISHING, names),
            Step::Publish(staged) => match name_of(staged) {
                Some(name) => publish(&self.path.join(staged), &self.output.join(name)),
                None => Ok(()),
            },
            Step::Unstage(staged) => removed(&self.path.join(staged), "published", |path| fs::remove_file(path)),
            Step::Sync => sync(&self.output),
            Step::Confirm => {
                let to = self.path.join(PUBLISHED);
                fs::rename(self.path.join(PUBLISHING), &to).map_err(OutputError::io(&to, "written"))?;
                sync(&self.path)
            }
            Step::ForgetOld => removed(&self.path.join(OLD), "removed", |path| fs::remove_file(path)),
            Step::RemoveReplaced => removed(&self.path.join(REPLACED), "removed", |path| fs::remove_dir_all(path)),
            Step::RemoveNote => removed(&self.path.join(PUBLISHED), "removed", |path| fs::remove_file(path)),
        }
    }

    /// Takes an interrupted commit back: hides what it has made visible and puts back what it was replacing.
    pub(super) fn take_back(&self) -> Result<(), OutputError> {
        if self.path.join(PUBLISHED).exists() {
            // It was complete.
            return Ok(());
        }
        self.read_list(PUBLISHING)?.iter().try_for_each(|staged| self.hide(staged))?;
        let aside = self.path.join(REPLACED);
        if !aside.exists() {
            return Ok(());
        }
        for name in list(&aside)? {
            let target = self.output.join(&name);
            if !target.exists() {
                fs::rename(aside.join(&name), &target).map_err(OutputError::io(&target, "put back"))?;
            }
        }
        Ok(())
    }

    fn hide(&self, staged: &str) -> Result<(), OutputError> {
        let Some(name) = name_of(staged) else { return Ok(()) };
        let (hidden, visible) = (self.path.join(staged), self.output.join(name));
        if !hidden.exists() {
            return removed(&visible, "taken back", |path| fs::rename(path, &hidden));
        }
        // Otherwise a file that is visible under the name is somebody else's.
        match same_file(&hidden, &visible) {
            true => removed(&visible, "taken back", |path| fs::remove_file(path)),
            false => Ok(()),
        }
    }

    fn set_aside(&self, name: &str) -> Result<(), OutputError> {
        let aside = self.path.join(REPLACED);
        DirBuilder::new().recursive(true).create(&aside).map_err(OutputError::io(&aside, "created"))?;
        // One that is gone was removed by its owner.
        removed(&self.output.join(name), "replaced", |path| fs::rename(path, aside.join(name)))
    }

    fn write_list(&self, list: &str, names: &[String]) -> Result<(), OutputError> {
        let (path, part) = (self.path.join(list), self.path.join(format!("{list}.new")));
        let text: String = names.iter().flat_map(|name| [name, "\n"]).collect();
        let written = fs::write(&part, text).and_then(|()| File::open(&part)?.sync_all());
        written.and_then(|()| fs::rename(&part, &path)).map_err(OutputError::io(&path, "written"))?;
        sync(&self.path)
    }

    fn read_list(&self, list: &str) -> Result<BTreeSet<String>, OutputError> {
        let path = self.path.join(list);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
            text => {
                let text = text.map_err(OutputError::io(&path, "read"))?;
                let of_sink = |line: &&str| is_part(line) || name_of(line).is_some();
                Ok(text.lines().filter(of_sink).map(str::to_owned).collect())
            }
        }
    }
}

/// Makes a file visible under its final name, never over another one.
fn publish(from: &Path, to: &Path) -> Result<(), OutputError> {
    // Unlike a rename, a link refuses to replace a file that came into being just now.
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        // Linked by an attempt that was interrupted before it removed the other name.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && same_file(from, to) => Ok(()),
        // A file system without links.
        Err(_) if !to.exists() => fs::rename(from, to).map_err(OutputError::io(to, "published")),
        Err(_) => Err(OutputError::Appeared { path: to.to_owned() }),
    }
}

/// Removes or moves a file; one that is not there is done with.
fn removed(
    path: &Path,
    action: &'static str,
    remove: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), OutputError> {
    match remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(OutputError::io(path, action)(error)),
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> Result<(), OutputError> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Some file systems cannot do this for directories, and need not.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result.map_err(OutputError::io(directory, "made durable")),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Names of what is in a directory, sorted.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, OutputError> {
    let entries = fs::read_dir(directory).map_err(OutputError::io(directory, "listed"))?;
    let names: std::io::Result<Vec<String>> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    let mut names = names.map_err(OutputError::io(directory, "listed"))?;
    names.sort();
    Ok(names)
}
