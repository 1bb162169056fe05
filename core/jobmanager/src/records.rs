//! Records of running jobs, one file each, from which a restarted JobManager tells what was lost.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use weir_dispatcher::JobRecord;
use weir_model::{Artifact, ArtifactId, JobGraph, JobId};
use weir_proto::job_graph;

/// Part of the sentence about a full device.
pub(crate) const NO_SPACE: &str = "no space is left on its device";

/// The folder of the records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    folder: PathBuf,
}

/// What is in a file. Only ever read by JobManagers of the same cluster, but perhaps by a later version: fields are only added.
#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(bytes = "vec", tag = "1")]
    job: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    graph: Option<job_graph::JobGraph>,
    #[prost(bytes = "vec", tag = "3")]
    artifact: Vec<u8>,
    #[prost(uint64, tag = "4")]
    artifact_size: u64,
    #[prost(string, tag = "5")]
    artifact_name: String,
    #[prost(string, repeated, tag = "6")]
    arguments: Vec<String>,
    #[prost(map = "string, string", tag = "7")]
    configuration: HashMap<String, String>,
    #[prost(uint64, tag = "8")]
    submitted_millis: u64,
}

impl Records {
    pub(crate) fn new(folder: PathBuf) -> Records {
        Records { folder }
    }

    /// Keeps a record. Written beside its place and renamed, so that a crash leaves no half of one. Not flushed to the disk: it is
    /// for the next process, and a machine that lost power has nothing left to report.
    pub(crate) async fn keep(&self, record: Arc<JobRecord>) -> Result<(), String> {
        let path = self.path(record.id);
        let write = tokio::task::spawn_blocking(move || {
            let bytes = encode(&record);
            let new = path.with_extension("new");
            let written = File::create(&new).and_then(|mut file| file.write_all(&bytes));
            written.and_then(|()| fs::rename(&new, &path)).map_err(|error| {
                let _ = fs::remove_file(&new);
                let full = error.kind() == io::ErrorKind::StorageFull;
                let what =
                    if full { "no space is left on its device, make room".to_owned() } else { error.to_string() };
                format!("{} cannot be written: {what}", path.display())
            })
        });
        write.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Removes a record. Fine if there is none.
    pub(crate) async fn forget(&self, job: JobId) {
        let path = self.path(job);
        let _ = tokio::task::spawn_blocking(move || fs::remove_file(path)).await;
    }

    /// All records that can be read; the others are removed.
    pub(crate) fn load(&self) -> Vec<JobRecord> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut records = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            match load(&path) {
                Some(record) => records.push(record),
                None => {
                    tracing::warn!(path = %path.display(), "removed a job's record that is damaged or unfinished");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        records.sort_by_key(|record| (record.submitted, record.id));
        records
    }

    fn path(&self, job: JobId) -> PathBuf {
        self.folder.join(format!("{job}.job"))
    }
}

fn load(path: &Path) -> Option<JobRecord> {
    if path.extension().is_none_or(|extension| extension != "job") {
        return None;
    }
    let stored = StoredRecord::decode(fs::read(path).ok()?.as_slice()).ok()?;
    Some(JobRecord {
        id: JobId::from_bytes(stored.job.as_slice().try_into().ok()?),
        graph: Arc::new(JobGraph::try_from(stored.graph?).ok()?),
        artifact: Artifact {
            id: ArtifactId::from_bytes(stored.artifact.as_slice().try_into().ok()?),
            size: stored.artifact_size,
            name: stored.artifact_name,
        },
        arguments: stored.arguments,
        configuration: BTreeMap::from_iter(stored.configuration),
        submitted: Duration::from_millis(stored.submitted_millis),
    })
}

fn encode(record: &JobRecord) -> Vec<u8> {
    let stored = StoredRecord {
        job: record.id.as_bytes().to_vec(),
        graph: Some(record.graph.as_ref().into()),
        artifact: record.artifact.id.as_bytes().to_vec(),
        artifact_size: record.artifact.size,
        artifact_name: record.artifact.name.clone(),
        arguments: record.arguments.clone(),
        configuration: record.configuration.clone().into_iter().collect(),
        submitted_millis: record.submitted.as_millis() as u64,
    };
    stored.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use weir_model::{JobVertex, OperatorId, OperatorInfo, OperatorKind, VertexId};

    use super::*;

    fn record(number: u8) -> JobRecord {
        let operator = OperatorInfo {
            id: OperatorId::from_seed(b"o"),
            name: "Source".to_owned(),
            uid: None,
            kind: OperatorKind::Source { bounded: true },
        };
        let vertex = JobVertex {
            id: VertexId::from_seed(b"v"),
            name: "Source".to_owned(),
            operators: vec![operator],
            parallelism: 2,
            max_parallelism: 128,
            slot_sharing_group: "default".to_owned(),
        };
        let config = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        JobRecord {
            id: JobId::from_bytes([number; 16]),
            graph: Arc::new(JobGraph {
                name: "job".to_owned(),
                vertices: vec![vertex],
                edges: Vec::new(),
                config: config.clone(),
            }),
            artifact: Artifact { id: ArtifactId::from_bytes([9; 32]), size: 7, name: "job".to_owned() },
            arguments: vec!["--x".to_owned(), "y z".to_owned()],
            configuration: config,
            submitted: Duration::from_millis(u64::from(number)),
        }
    }

    #[tokio::test]
    async fn records_come_back_and_damaged_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().to_owned());
        for number in [2, 1, 3] {
            records.keep(Arc::new(record(number))).await.unwrap();
        }
        records.forget(record(3).id).await;
        records.forget(record(3).id).await;
        fs::write(folder.path().join("x.job"), [0xff; 9]).unwrap();
        fs::write(folder.path().join("y.new"), "").unwrap();
        assert_eq!(records.load(), [record(1), record(2)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_kept_is_an_error() {
        let records = Records::new(PathBuf::from("/no/such/folder"));
        let error = records.keep(Arc::new(record(1))).await.unwrap_err();
        assert!(error.contains("/no/such/folder") && error.contains("cannot be written"), "{error}");
        assert_eq!(records.load(), []);
    }
}
