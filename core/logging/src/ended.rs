//! Removing what processes that have ended left in a log directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Removes log files of ended processes of a role from `dir`, those written to last excepted: `kept` processes' are left. The files of a
/// process are `weir-<role>-<id>.log` and what was put aside of it. A process that runs keeps its files, however many there are.
///
/// Returns how many processes' files were removed. What cannot be removed stays; it is tried again the next time.
pub fn remove_ended(dir: &Path, role: &str, kept: usize) -> usize {
    let mut processes: BTreeMap<PathBuf, (SystemTime, Vec<PathBuf>)> = BTreeMap::new();
    let prefix = format!("weir-{role}-");
    for (name, path, modified) in regular_files(dir) {
        let Some(at) = name.starts_with(&prefix).then(|| name.rfind(".log")).flatten() else { continue };
        let rest = &name[at + 4..];
        let put_aside = rest.strip_prefix('.').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        if rest.is_empty() || put_aside {
            let files = processes.entry(dir.join(&name[..at + 4])).or_insert_with(|| (UNIX_EPOCH, Vec::new()));
            files.0 = files.0.max(modified);
            files.1.push(path);
        }
    }
    let mut by_age: Vec<_> = processes.into_iter().map(|(main, (modified, files))| (modified, main, files)).collect();
    by_age.sort();
    let excess = by_age.len().saturating_sub(kept);
    let old = by_age.drain(..excess).filter(|(_, main, _)| !is_written(main));
    old.map(|(_, _, files)| files.iter().for_each(|file| drop(fs::remove_file(file)))).count()
}

/// Removes folders of `dir` in which processes that have ended have logged, each in one of its own; `kept` of them are left, those
/// written to last. A folder in which there is anything but logs is left alone.
///
/// Returns how many were removed.
pub fn remove_ended_folders(dir: &Path, kept: usize) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
    let mut by_age: Vec<(SystemTime, PathBuf)> = folders
        .filter_map(|folder| {
            let files = regular_files(&folder.path());
            let only_logs = files.iter().all(|(name, ..)| name.starts_with("weir-") || name.starts_with("job-"))
                && files.iter().any(|(name, ..)| name.starts_with("weir-"))
                && files.len() == fs::read_dir(folder.path()).ok()?.count();
            let written = files.into_iter().map(|(.., modified)| modified).max()?;
            only_logs.then(|| (written, folder.path()))
        })
        .collect();
    by_age.sort();
    let excess = by_age.len().saturating_sub(kept);
    let remove = |(_, folder): &(SystemTime, PathBuf)| {
        let files = regular_files(folder);
        if files.iter().any(|(_, path, _)| is_written(path)) {
            return false;
        }
        files.iter().for_each(|(_, path, _)| drop(fs::remove_file(path)));
        fs::remove_dir(folder).is_ok()
    };
    by_age.drain(..excess).filter(remove).count()
}

fn regular_files(dir: &Path) -> Vec<(String, PathBuf, SystemTime)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let file = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((entry.file_name().into_string().ok()?, entry.path(), metadata.modified().ok()?))
    };
    entries.filter_map(file).collect()
}

/// Whether somebody writes the file: a [`RollingFile`](crate::RollingFile) holds a lock on it.
fn is_written(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::RollingFile;

    fn write(path: &Path, age: u64) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_of_ended_processes_go_and_those_of_running_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [
            ("weir-jobmanager-1.log", 100),
            ("weir-jobmanager-1.log.1", 110),
            ("weir-jobmanager-2.log", 90),
            ("weir-jobmanager-2.log.12", 95),
            ("weir-jobmanager-3.log", 80),
            ("weir-jobmanager-4.log", 70),
            ("weir-jobmanager-1.login", 200),
            ("weir-taskmanager-1.log", 200),
            ("job-1.err", 200),
        ] {
            write(&dir.path().join(name), age);
        }
        let running = RollingFile::open(dir.path().join("weir-jobmanager-1.log"), 1000, 1).unwrap();
        assert_eq!(remove_ended(dir.path(), "jobmanager", 2), 1);
        let left = [
            "job-1.err",
            "weir-jobmanager-1.log",
            "weir-jobmanager-1.log.1",
            "weir-jobmanager-1.login",
            "weir-jobmanager-3.log",
            "weir-jobmanager-4.log",
            "weir-taskmanager-1.log",
        ];
        assert_eq!(names(dir.path()), left);
        drop(running);
        assert_eq!(remove_ended(dir.path(), "jobmanager", 2), 1);
        assert_eq!(names(dir.path()).len(), 5);
    }

    #[test]
    fn folders_of_ended_processes_go_if_nothing_else_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        for (name, age) in [
            ("a/weir-taskmanager-a.log", 100),
            ("a/job-1.out", 100),
            ("b/weir-taskmanager-b.log", 90),
            ("c/weir-taskmanager-c.log", 80),
            ("c/notes", 80),
        ] {
            write(&dir.path().join(name), age);
        }
        let running = RollingFile::open(dir.path().join("b/weir-taskmanager-b.log"), 1000, 1).unwrap();
        assert_eq!(remove_ended_folders(dir.path(), 0), 1);
        assert_eq!(names(dir.path()), ["b", "c", "empty"]);
        drop(running);
        assert_eq!(remove_ended_folders(dir.path(), 1), 0);
        assert_eq!(remove_ended_folders(dir.path(), 0), 1);
        assert_eq!(names(dir.path()), ["c", "empty"]);
    }
}
