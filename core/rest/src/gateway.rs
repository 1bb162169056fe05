//! What REST asks of the cluster.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use serde::Serialize;
use weir_model::{
    Artifact, JobGraph, JobId, JobSummary, JobView, ParallelismBounds, ResourcesView, TaskManagerId, TaskManagerView,
    VertexId,
};

use crate::{JobCheckpoints, SavepointRequest};

/// An answer that is still to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, GatewayError>> + Send + 'a>>;

/// Why the cluster did not do as asked. Messages are for people: what was found, what was expected, how to put it right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// There is no leader now; asking again helps. 503.
    #[error("{0}")]
    Unavailable(String),
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// The thing is in a state that does not allow it. 409.
    #[error("{0}")]
    Conflict(String),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// Somebody did not answer in time. 504.
    #[error("{0}")]
    Timeout(String),
    /// There is no room, e.g. on the disk. 507.
    #[error("{0}")]
    NoSpace(String),
    /// 500.
    #[error("{0}")]
    Internal(String),
}

/// The cluster as REST sees it.
pub trait ClusterGateway: Send + Sync + 'static {
    /// All jobs: running ones and those that ended lately.
    fn jobs(&self) -> Answer<'_, Vec<JobSummary>>;
    /// A job with everything about it.
    fn job(&self, id: JobId) -> Answer<'_, Arc<JobView>>;
    /// A job in one line; asked often by whoever waits for a status, so it should be cheap.
    fn job_summary(&self, id: JobId) -> Answer<'_, JobSummary> {
        Box::pin(async move { Ok(self.job(id).await?.summary.clone()) })
    }
    /// Asks a job to stop; returns once the request is accepted. Conflict if it has ended otherwise; fine if it was canceled.
    fn cancel(&self, id: JobId) -> Answer<'_, ()>;

    /// Sets between which numbers of subtasks each vertex of a job runs; returns once that is known to be possible. BadRequest if it is
    /// not, Conflict if the job has ended or keeps the parallelism it has.
    fn rescale(&self, id: JobId, bounds: BTreeMap<VertexId, ParallelismBounds>) -> Answer<'_, ()>;

    /// The checkpoints of a job; `None` if it takes none and nobody can ask it for one.
    fn checkpoints(&self, id: JobId) -> Answer<'_, Option<Arc<JobCheckpoints>>>;
    /// Takes a checkpoint; returns its number when it is complete. Conflict if it was not taken; the message says why.
    /// `full`: it must not share files with earlier ones.
    fn take_checkpoint(&self, id: JobId, full: bool) -> Answer<'_, u64>;
    /// Takes a savepoint; returns the URI of its folder when it is complete, or when the job has stopped with it. Conflict if it was
    /// not taken; the message says why.
    fn take_savepoint(&self, id: JobId, request: SavepointRequest) -> Answer<'_, String>;
    /// Removes the savepoint or retained checkpoint in a folder. BadRequest if there is none in it.
    fn dispose_savepoint(&self, path: String) -> Answer<'_, ()>;

    /// The cluster in numbers.
    fn resources(&self) -> Answer<'_, ResourcesView>;
    /// All registered TaskManagers.
    fn task_managers(&self) -> Answer<'_, Vec<TaskManagerView>>;
    /// A TaskManager.
    fn task_manager(&self, id: TaskManagerId) -> Answer<'_, TaskManagerView>;

    /// Uploaded artifacts, newest first.
    fn artifacts(&self) -> Answer<'_, Vec<StoredArtifact>>;
    /// Begins an upload. Dropping the upload discards it.
    fn upload(&self, name: String) -> Answer<'_, Box<dyn ArtifactUpload>>;
    /// Removes an uploaded artifact from the list; running jobs keep theirs.
    fn delete_artifact(&self, key: String) -> Answer<'_, ()>;
    /// Builds a job without running it. BadRequest if it cannot be built, or not go on from the state it is to start with.
    fn plan(&self, request: RunRequest) -> Answer<'_, PlannedJob>;
    /// Builds a job and runs it. Returns once it is accepted.
    fn run(&self, request: RunRequest) -> Answer<'_, JobId>;

    /// The log files of the JobManager, or of a TaskManager.
    fn files(&self, of: ProcessRef) -> Answer<'_, Vec<FileInfo>>;
    /// A log file. `name` has no path in it.
    fn file(&self, of: ProcessRef, name: String) -> Answer<'_, FileBody>;
    /// A log file from the byte `offset` on; nothing if it is shorter. Without a form of its own the bytes before are read too.
    fn file_from(&self, of: ProcessRef, name: String, offset: u64) -> Answer<'_, FileBody> {
        Box::pin(async move { Ok(self.file(of, name).await?.skip(offset)) })
    }
    /// What the threads of a process, and of its children, are doing.
    fn stacks(&self, of: ProcessRef) -> Answer<'_, Vec<Stack>>;

    /// The JobManager's own metrics, under Flink's names without the scope.
    fn job_manager_metrics(&self) -> Answer<'_, BTreeMap<String, f64>>;
    /// All metrics of the JobManager for Prometheus.
    fn prometheus(&self) -> Answer<'_, String>;
    /// Options in effect, by key; not masked.
    fn configuration(&self) -> BTreeMap<String, String>;
    /// Stops the cluster; returns once it has begun.
    fn shut_down(&self) -> Answer<'_, ()>;
}

/// Whose files or stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessRef {
    /// The JobManager's.
    JobManager,
    /// A TaskManager's and its workers'.
    TaskManager(TaskManagerId),
}

/// An artifact that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredArtifact {
    /// Names it in REST paths: `<uuid>_<file name>`.
    pub key: String,
    /// The stored file.
    pub artifact: Artifact,
    /// When it was uploaded, in milliseconds since 1970-01-01 UTC.
    pub uploaded: u64,
    /// The names of its jobs.
    pub jobs: Vec<String>,
}

/// An upload under way.
pub trait ArtifactUpload: Send {
    /// Takes the next bytes.
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()>;
    /// Ends it: the artifact is looked at and kept. BadRequest if it is no job of Weir for this machine.
    fn finish(self: Box<Self>) -> Answer<'static, StoredArtifact>;
}

/// What is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunRequest {
    /// [`StoredArtifact::key`], or the artifact's id in hexadecimal digits.
    pub artifact: String,
    /// Which of the artifact's jobs; may be left out if it has only one.
    pub job: Option<String>,
    /// The job's own arguments.
    pub arguments: Vec<String>,
    /// Parallelism of operators that set none.
    pub parallelism: Option<u32>,
    /// Options for this job, by key.
    pub configuration: BTreeMap<String, String>,
    /// The id it is to have; drawn at random if left out.
    pub job_id: Option<JobId>,
    /// A running job of which it is to be the next version; only for plans.
    pub replaces: Option<JobId>,
}

/// A job that was built.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedJob {
    /// The id it would have.
    pub id: JobId,
    /// Its plan.
    pub graph: Arc<JobGraph>,
    /// What becomes of the state it is to start with; `None` if it is to begin without any.
    pub state: Option<CarriedState>,
}

/// What becomes of the state of a savepoint, or of a running job, in a job that is started from it. Operators as people know them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CarriedState {
    /// Operators that go on with the state they had.
    pub restored: Vec<String>,
    /// Operators and states that begin without anything.
    pub empty: Vec<String>,
    /// What is left behind, one sentence each.
    pub left_behind: Vec<String>,
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Without a path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub modified: u64,
}

/// The content of a file.
pub struct FileBody {
    /// Bytes, if they are known before they are read.
    pub size: Option<u64>,
    /// The content in pieces.
    pub content: Pin<Box<dyn Stream<Item = Result<Bytes, GatewayError>> + Send>>,
}

impl FileBody {
    /// Without the first `offset` bytes.
    pub fn skip(self, offset: u64) -> Self {
        let size = self.size.map(|size| size.saturating_sub(offset));
        let mut left = offset;
        let content = self.content.map(move |piece| {
            piece.map(|mut bytes| {
                let skipped = left.min(bytes.len() as u64);
                left -= skipped;
                bytes.split_off(skipped as usize)
            })
        });
        Self { size, content: Box::pin(content) }
    }
}

impl std::fmt::Debug for FileBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileBody({:?} bytes)", self.size)
    }
}

/// What a thread is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// For people.
    pub text: String,
}
