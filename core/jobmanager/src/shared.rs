//! What the parts of a JobManager have in common.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_model::LeaderEpoch;
use weir_storage::ArtifactStore;

use crate::JobManagerOptions;
use crate::builders::Builders;
use crate::clock::Clock;
use crate::coordinator::CoordinatorFolders;
use crate::dispatcher::DispatcherSender;
use crate::executables::Executables;
use crate::jobs::Jobs;
use crate::records::Records;
use crate::requests::Requests;
use crate::resource_manager::ResourceManagerSender;
use crate::task_managers::TaskManagers;
use crate::working_dir::WorkingDir;

/// What the parts of a JobManager have in common: how they reach each other, and what they keep things in.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: JobManagerOptions,
    pub(crate) clock: Clock,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) jobs: Jobs,
    pub(crate) task_managers: TaskManagers,
    pub(crate) requests: Requests,
    pub(crate) dispatcher: DispatcherSender,
    pub(crate) resource_manager: ResourceManagerSender,
    pub(crate) store: ArtifactStore,
    pub(crate) executables: Executables,
    pub(crate) builders: Builders,
    pub(crate) records: Records,
    pub(crate) coordinator_folders: Arc<CoordinatorFolders>,
    /// Cancelled when the servers are to stop, after everything else has.
    pub(crate) stop: CancellationToken,
    /// Work that must be done before the process ends.
    pub(crate) last_work: TaskTracker,
    /// Keeps other JobManagers out as long as anything of this one runs.
    pub(crate) _working_dir: WorkingDir,
}

impl Shared {
    /// Removes artifacts that nobody lists and no job needs.
    pub(crate) async fn sweep_artifacts(&self) {
        match self.store.sweep().await {
            Ok(removed) => self.executables.forget(&removed),
            Err(error) => tracing::warn!(%error, "an artifact that nobody needs cannot be removed"),
        }
    }
}
