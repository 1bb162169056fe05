//! The files of what coordinators print: not more of them than are useful.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weir_model::JobId;

/// Files that are kept; beyond, the oldest go.
const KEPT_FILES: usize = 2000;
/// Bytes of them.
const KEPT_BYTES: u64 = 1 << 30;
/// What names of such files begin with.
const PREFIX: &str = "coordinator-";

/// Where a job's coordinator writes its output, standard output first.
pub(super) fn paths(log_dir: &Path, job: JobId) -> [PathBuf; 2] {
    ["out", "err"].map(|kind| log_dir.join(format!("{PREFIX}{job}.{kind}")))
}

/// Removes files of coordinators that nobody has written to, and of the others the oldest. Those of the jobs in `running` stay. Looks at the
/// disk, so it is not for threads that others wait for.
pub(super) fn tidy(log_dir: &Path, running: &BTreeSet<JobId>) {
    tidy_to(log_dir, running, KEPT_FILES, KEPT_BYTES);
}

fn tidy_to(log_dir: &Path, running: &BTreeSet<JobId>, kept_files: usize, kept_bytes: u64) {
    let mut all: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(log_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(job) = name.to_str().and_then(job_of) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        match metadata.modified() {
            _ if running.contains(&job) => {}
            _ if metadata.len() == 0 => drop(fs::remove_file(entry.path())),
            Ok(modified) => all.push((modified, entry.path(), metadata.len())),
            Err(_) => {}
        }
    }
    all.sort();
    let (mut files, mut bytes) = (all.len(), all.iter().map(|(.., bytes)| bytes).sum::<u64>());
    for (_, path, its_bytes) in all {
        if files <= kept_files && bytes <= kept_bytes {
            break;
        }
        // What cannot be removed now can be the next time.
        let _ = fs::remove_file(path);
        files -= 1;
        bytes -= its_bytes;
    }
}

/// The job whose coordinator has written a file of this name.
fn job_of(name: &str) -> Option<JobId> {
    name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_old_files_go_and_those_of_running_jobs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let job = |number: u8| JobId::from_bytes([number; 16]);
        for number in 0..6 {
            let [out, err] = paths(folder.path(), job(number));
            fs::write(&out, [b'x'; 10]).unwrap();
            fs::write(&err, "").unwrap();
            let age = std::time::Duration::from_secs(1000 - u64::from(number));
            fs::File::options().write(true).open(&out).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        fs::write(folder.path().join("weir-jobmanager-1.log"), "").unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path()).collect();
            names.sort();
            names
        };
        let [running_out, running_err] = paths(folder.path(), job(0));
        let log = folder.path().join("weir-jobmanager-1.log");
        let out = |number: u8| paths(folder.path(), job(number))[0].clone();
        tidy_to(folder.path(), &[job(0)].into(), 4, 1000);
        let mut expect = vec![running_err.clone(), running_out.clone(), out(2), out(3), out(4), out(5), log.clone()];
        expect.sort();
        assert_eq!(names(), expect, "by their number");
        tidy_to(folder.path(), &[job(0)].into(), 4, 29);
        let mut expect = vec![running_err, running_out, out(4), out(5), log];
        expect.sort();
        assert_eq!(names(), expect, "by their bytes");
    }
}
