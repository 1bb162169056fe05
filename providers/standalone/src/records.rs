//! What the provider remembers on disk: a folder for each TaskManager that may be running.
//!
//! ```text
//! <state folder>/<cluster>/lock              held by the JobManager that uses the folder
//! <state folder>/<cluster>/workers/<id>/worker.json   written before the process is started
//! <state folder>/<cluster>/workers/<id>/process       written by the process itself, before it becomes the TaskManager
//! ```
//!
//! So whenever the JobManager is lost, each TaskManager that runs has a whole record. A process that finds its folder gone does not
//! become a TaskManager at all, which is how one is shut out that was caught in between.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weir_provider_api::TaskManagerId;

use crate::process::{Process, ProcessId, boot_id};

/// How long another holder of the folder may take to let go, and a process to write its half of a record.
const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

const WORKER_FILE: &str = "worker.json";
const PROCESS_FILE: &str = "process";

#[derive(Debug, Serialize, Deserialize)]
struct WorkerRecord {
    id: String,
    cluster_id: String,
    slots: u32,
    /// Which boot of the machine it was started in.
    boot_id: String,
    /// Where its output goes.
    output: PathBuf,
}

/// The records of one cluster, which nobody else uses at the same time.
#[derive(Debug)]
pub(crate) struct Records {
    cluster_id: String,
    folder: PathBuf,
    /// Locked while it is open.
    lock: File,
}

/// A TaskManager that was found running.
#[derive(Debug)]
pub(crate) struct FoundWorker {
    pub(crate) id: TaskManagerId,
    pub(crate) slots: u32,
    pub(crate) output: PathBuf,
    pub(crate) process: Process,
}

impl Records {
    /// Takes possession of the cluster's records in `state_dir`.
    pub(crate) fn open(state_dir: &Path, cluster_id: &str) -> Result<Self, String> {
        // A worker may run in a folder of its own when it writes its half of the record.
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let folder = state_dir.join(file_name(cluster_id));
        let problem =
            |what: &str, error: io::Error| format!("the provider's folder {} {what}: {error}", folder.display());
        fs::create_dir_all(folder.join("workers")).map_err(|error| problem("cannot be made", error))?;
        let lock = File::create(folder.join("lock")).map_err(|error| problem("cannot be locked", error))?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = try_lock(&lock) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(problem("cannot be locked", error));
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "the provider's folder {} is used by another JobManager of the cluster {cluster_id:?}: end that one, or give this one another cluster id or folder",
                    folder.display()
                ));
            }
            std::thread::sleep(POLL);
        }
        Ok(Self { cluster_id: cluster_id.to_owned(), folder, lock })
    }

    /// The cluster's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the TaskManager `id`.
    pub(crate) fn worker_folder(&self, id: &TaskManagerId) -> PathBuf {
        self.folder.join("workers").join(file_name(id.as_str()))
    }

    /// Notes that a TaskManager is about to be started; gives the file its process has to write before it becomes one.
    pub(crate) fn begin(&self, id: &TaskManagerId, slots: u32, output: &Path) -> io::Result<PathBuf> {
        let folder = self.worker_folder(id);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(io::Error::other("a TaskManager of this name was started before"));
            }
            made => made?,
        }
        let record = WorkerRecord {
            id: id.to_string(),
            cluster_id: self.cluster_id.clone(),
            slots,
            boot_id: boot_id(),
            output: output.to_owned(),
        };
        fs::write(folder.join(WORKER_FILE), serde_json::to_vec_pretty(&record)?)?;
        Ok(folder.join(PROCESS_FILE))
    }

    /// What the process has written there.
    pub(crate) fn process_id(process_file: &Path) -> Option<ProcessId> {
        ProcessId::parse(&String::from_utf8_lossy(&fs::read(process_file).ok()?))
    }

    /// Forgets a TaskManager that does not run, and the files it was given.
    pub(crate) fn forget(&self, id: &TaskManagerId) {
        remove(&self.worker_folder(id));
    }

    /// The TaskManagers that run. Forgets the others.
    pub(crate) fn find_running(&self) -> io::Result<Vec<FoundWorker>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder.join("workers"))? {
            let folder = entry?.path();
            match self.find(&folder) {
                Some(worker) => found.push(worker),
                None => remove(&folder),
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    fn find(&self, folder: &Path) -> Option<FoundWorker> {
        let record: WorkerRecord = serde_json::from_slice(&fs::read(folder.join(WORKER_FILE)).ok()?).ok()?;
        if record.cluster_id != self.cluster_id || record.boot_id != boot_id() {
            return None;
        }
        let process = Process::find(wait_for_process_id(folder)?)?;
        Some(FoundWorker { id: TaskManagerId::new(record.id), slots: record.slots, output: record.output, process })
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // Explicitly: a process that is being forked at this moment has the file open, too.
        // SAFETY: the descriptor is open.
        unsafe { libc::flock(self.lock.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// The process of a record. If it has not written its half yet, it is shut out or awaited.
fn wait_for_process_id(folder: &Path) -> Option<ProcessId> {
    let file = folder.join(PROCESS_FILE);
    if !file.exists() {
        // Without its first half the folder is empty, so it can only be removed if the process has not made its file meanwhile.
        let _ = fs::remove_file(folder.join(WORKER_FILE));
        if fs::remove_dir(folder).is_ok() || !file.exists() {
            return None;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Records::process_id(&file) {
            None if Instant::now() < deadline => std::thread::sleep(POLL),
            id => return id,
        }
    }
}

fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(
                "the record {} of a TaskManager that has ended cannot be removed: {error}",
                folder.display()
            );
        }
        Ok(()) | Err(_) => {}
    }
}

/// A file name for any text, different for different texts.
pub(crate) fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.is_empty() { "%".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_of_files_stay_in_their_folder_and_apart() {
        let texts = ["", ".", "..", "a", "a/b", "a%2fb", "../../etc", "a b", "ä", "10.0.0.1:6122-5"];
        let names: BTreeSet<_> = texts.iter().map(|text| file_name(text)).collect();
        assert_eq!(names.len(), texts.len());
        assert!(names.iter().all(|name| !name.contains('/') && !name.starts_with('.')), "{names:?}");
    }

    #[test]
    fn a_folder_serves_one_job_manager_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = Records::open(dir.path(), "c").unwrap();
        Records::open(dir.path(), "another").unwrap();
        let refused = Records::open(dir.path(), "c").unwrap_err();
        assert!(refused.contains("used by another JobManager"), "{refused}");
        drop(held);
        Records::open(dir.path(), "c").unwrap();
    }

    /// What is found of a TaskManager whose process file has this content, with the record edited.
    fn found(process: Option<&str>, edit: impl Fn(&mut WorkerRecord)) -> (usize, bool) {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), "c").unwrap();
        let id = TaskManagerId::new("tm");
        let file = records.begin(&id, 3, Path::new("out")).unwrap();
        let path = records.worker_folder(&id).join(WORKER_FILE);
        let mut record: WorkerRecord = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut record);
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        if let Some(process) = process {
            fs::write(file, process).unwrap();
        }
        let running = records.find_running().unwrap();
        (running.len(), records.worker_folder(&id).exists())
    }

    #[test]
    fn only_a_process_of_this_boot_and_cluster_is_found() {
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(found(Some(&own), |_| ()), (1, true));
        assert_eq!(found(Some(&own), |record| record.boot_id = "another".to_owned()), (0, false));
        assert_eq!(found(Some(&own), |record| record.cluster_id = "another".to_owned()), (0, false));
        // The JobManager was lost before the process had started.
        assert_eq!(found(None, |_| ()), (0, false));
    }

    #[test]
    fn a_process_that_was_caught_before_its_start_is_shut_out() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path(), "c").unwrap();
        let file = records.begin(&TaskManagerId::new("tm"), 1, Path::new("out")).unwrap();
        assert!(records.find_running().unwrap().is_empty());
        assert!(File::create(file).is_err());
    }
}
