//! The cluster as the HTTP API sees it.

mod artifacts;
mod checkpoints;
mod files;
mod runs;
mod stacks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use weir_jobmaster::{JobMasterEvent, RescaleError};
use weir_metrics::{CheckpointFigures, JobManagerSample};
use weir_model::{
    JobId, JobStatus, JobSummary, JobView, ParallelismBounds, ResourcesView, TaskManagerId, TaskManagerView, VertexId,
};
use weir_resourcemanager::TaskManagerSlots;
use weir_rest::{
    Answer, ArtifactUpload, ClusterGateway, FileBody, FileInfo, GatewayError, JobCheckpoints, PlannedJob, ProcessRef,
    RunRequest, SavepointRequest, Stack, StoredArtifact,
};

use crate::dispatcher::DispatcherMessage;
use crate::jobs::{JobMessage, JobSender};
use crate::resource_manager::ResourceManagerMessage;
use crate::shared::Shared;

/// How long a part of the JobManager may take for an answer that needs no work.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cluster as the HTTP API sees it.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
    /// Cancelled when the cluster is to be shut down.
    shut_down: CancellationToken,
}

impl Gateway {
    pub(crate) fn new(shared: Arc<Shared>, shut_down: CancellationToken) -> Gateway {
        Gateway { shared, shut_down }
    }

    /// Asks one of the loops.
    async fn ask<M, T>(
        &self,
        of: &mpsc::UnboundedSender<M>,
        message: impl FnOnce(oneshot::Sender<T>) -> M,
    ) -> Result<T, GatewayError> {
        let (sender, answer) = oneshot::channel();
        let gone = || GatewayError::Unavailable("the JobManager is shutting down".to_owned());
        of.send(message(sender)).map_err(|_| gone())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(GatewayError::Timeout(format!("the JobManager did not answer within {PATIENCE:?}"))),
        }
    }

    /// Asks a JobMaster; `None` if its job has ended meanwhile.
    async fn ask_job<T>(
        &self,
        job: &JobSender,
        message: impl FnOnce(oneshot::Sender<T>) -> JobMessage,
    ) -> Result<Option<T>, GatewayError> {
        match self.ask(job, message).await {
            Ok(answer) => Ok(Some(answer)),
            Err(GatewayError::Unavailable(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn summaries(&self) -> Result<Vec<JobSummary>, GatewayError> {
        let running = self.shared.jobs.all();
        let running = join_all(running.iter().map(|job| self.ask_job(job, JobMessage::Summary))).await;
        // Asked for afterwards, so that no job is missed that ends in between.
        let archived = self.ask(&self.shared.dispatcher, DispatcherMessage::AllArchived).await?;
        let mut summaries: BTreeMap<JobId, JobSummary> = BTreeMap::new();
        for summary in running {
            summaries.extend(summary?.map(|summary| (summary.id, summary)));
        }
        summaries.extend(archived.iter().map(|view| (view.summary.id, view.summary.clone())));
        let mut summaries: Vec<JobSummary> = summaries.into_values().collect();
        summaries.sort_by_key(|summary| (summary.start, summary.id));
        Ok(summaries)
    }

    async fn view(&self, id: JobId) -> Result<Arc<JobView>, GatewayError> {
        if let Some(job) = self.shared.jobs.get(id)
            && let Some(view) = self.ask_job(&job, JobMessage::View).await?
        {
            return Ok(view);
        }
        let archived = self.ask(&self.shared.dispatcher, |answer| DispatcherMessage::Archived(id, answer)).await?;
        archived.ok_or_else(|| no_job(id))
    }

    async fn cancel_job(&self, id: JobId) -> Result<(), GatewayError> {
        if self.shared.jobs.tell(id, JobMasterEvent::CancelRequested) {
            tracing::info!(job_id = %id, "a job is to be canceled");
            return Ok(());
        }
        let status = self.view(id).await?.summary.status;
        match status {
            JobStatus::Canceled | JobStatus::Cancelling => Ok(()),
            _ => Err(GatewayError::Conflict(format!("the job {id} has ended already: it is {status}"))),
        }
    }

    async fn set_bounds(&self, id: JobId, bounds: BTreeMap<VertexId, ParallelismBounds>) -> Result<(), GatewayError> {
        if let Some(job) = self.shared.jobs.get(id) {
            let message = |answer| JobMessage::SetRequirements { bounds, answer };
            if let Some(result) = self.ask_job(&job, message).await? {
                return result.map_err(|error| match error {
                    RescaleError::NotAdaptive | RescaleError::Ended(_) => GatewayError::Conflict(error.to_string()),
                    RescaleError::UnknownVertex(_) | RescaleError::MissingVertex { .. } | RescaleError::Invalid(_) => {
                        GatewayError::BadRequest(error.to_string())
                    }
                });
            }
        }
        let status = self.view(id).await?.summary.status;
        Err(GatewayError::Conflict(RescaleError::Ended(status).to_string()))
    }

    async fn resources_view(&self) -> Result<ResourcesView, GatewayError> {
        self.ask(&self.shared.resource_manager, ResourceManagerMessage::Resources).await
    }

    async fn task_manager_views(&self, id: Option<TaskManagerId>) -> Result<Vec<TaskManagerView>, GatewayError> {
        let ask = |answer| ResourceManagerMessage::TaskManagers(id, answer);
        let registered = self.ask(&self.shared.resource_manager, ask).await?;
        Ok(registered.into_iter().map(|slots| self.task_manager_view(slots)).collect())
    }

    fn task_manager_view(&self, slots: TaskManagerSlots) -> TaskManagerView {
        let TaskManagerSlots { info, free, allocated, provider } = slots;
        let connection = self.shared.task_managers.get(&info.id);
        let (last_heartbeat, metrics) = connection.map(|connection| connection.last_heartbeat()).unwrap_or_default();
        TaskManagerView { info, last_heartbeat, free_slots: free, allocated, provider, metrics }
    }

    async fn metrics(&self) -> Result<BTreeMap<String, f64>, GatewayError> {
        let mut metrics = weir_metrics::process_metrics();
        metrics.extend(weir_metrics::cluster_metrics(&self.resources_view().await?, &self.summaries().await?));
        Ok(metrics)
    }

    async fn exposition(&self) -> Result<String, GatewayError> {
        let (resources, summaries) = (self.resources_view().await?, self.summaries().await?);
        let running = self.shared.jobs.all();
        let views = join_all(running.iter().map(async |job| {
            let view = self.ask_job(job, JobMessage::View).await?;
            let checkpoints = self.ask_job(job, JobMessage::Checkpoints).await?;
            Ok::<_, GatewayError>(view.zip(checkpoints))
        }));
        let views = views.await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let views = views.into_iter().flatten().map(|(view, checkpoints)| {
            (view, checkpoints::shown(&checkpoints, weir_rest::CheckpointConfig::default()).figures())
        });
        let views: Vec<(Arc<JobView>, CheckpointFigures)> = views.collect();
        let jobs: Vec<(&JobView, CheckpointFigures)> =
            views.iter().map(|(view, figures)| (view.as_ref(), *figures)).collect();
        Ok(weir_metrics::job_manager_exposition(&JobManagerSample {
            host: &self.shared.options.rpc_host,
            process: &weir_metrics::process_metrics(),
            resources: &resources,
            summaries: &summaries,
            jobs: &jobs,
            now: self.shared.clock.millis(),
        }))
    }
}

fn no_job(id: JobId) -> GatewayError {
    GatewayError::NotFound(format!(
        "there is no job {id}; ended jobs are forgotten after a while (`jobstore.expiration-time`)"
    ))
}

fn no_task_manager(id: &TaskManagerId) -> GatewayError {
    GatewayError::NotFound(format!("there is no TaskManager {id}"))
}

impl ClusterGateway for Gateway {
    fn jobs(&self) -> Answer<'_, Vec<JobSummary>> {
        Box::pin(self.summaries())
    }

    fn job(&self, id: JobId) -> Answer<'_, Arc<JobView>> {
        Box::pin(self.view(id))
    }

    fn cancel(&self, id: JobId) -> Answer<'_, ()> {
        Box::pin(self.cancel_job(id))
    }

    fn rescale(&self, id: JobId, bounds: BTreeMap<VertexId, ParallelismBounds>) -> Answer<'_, ()> {
        Box::pin(self.set_bounds(id, bounds))
    }

    fn checkpoints(&self, id: JobId) -> Answer<'_, Option<Arc<JobCheckpoints>>> {
        Box::pin(checkpoints::of(self, id))
    }

    fn take_checkpoint(&self, id: JobId, full: bool) -> Answer<'_, u64> {
        Box::pin(checkpoints::take_checkpoint(self, id, full))
    }

    fn take_savepoint(&self, id: JobId, request: SavepointRequest) -> Answer<'_, String> {
        Box::pin(checkpoints::take_savepoint(self, id, request))
    }

    fn dispose_savepoint(&self, path: String) -> Answer<'_, ()> {
        Box::pin(async move { checkpoints::dispose(self, &path).await })
    }

    fn resources(&self) -> Answer<'_, ResourcesView> {
        Box::pin(self.resources_view())
    }

    fn task_managers(&self) -> Answer<'_, Vec<TaskManagerView>> {
        Box::pin(self.task_manager_views(None))
    }

    fn task_manager(&self, id: TaskManagerId) -> Answer<'_, TaskManagerView> {
        Box::pin(async move {
            let found = self.task_manager_views(Some(id.clone())).await?;
            found.into_iter().next().ok_or_else(|| no_task_manager(&id))
        })
    }

    fn artifacts(&self) -> Answer<'_, Vec<StoredArtifact>> {
        Box::pin(async { Ok(artifacts::list(&self.shared)) })
    }

    fn upload(&self, name: String) -> Answer<'_, Box<dyn ArtifactUpload>> {
        Box::pin(artifacts::begin(&self.shared, name))
    }

    fn delete_artifact(&self, key: String) -> Answer<'_, ()> {
        Box::pin(artifacts::delete(&self.shared, key))
    }

    fn plan(&self, request: RunRequest) -> Answer<'_, PlannedJob> {
        Box::pin(runs::plan(self, request))
    }

    fn run(&self, request: RunRequest) -> Answer<'_, JobId> {
        Box::pin(runs::run(self, request))
    }

    fn files(&self, of: ProcessRef) -> Answer<'_, Vec<FileInfo>> {
        Box::pin(files::list(&self.shared, of))
    }

    fn file(&self, of: ProcessRef, name: String) -> Answer<'_, FileBody> {
        Box::pin(files::open(&self.shared, of, name))
    }

    fn stacks(&self, of: ProcessRef) -> Answer<'_, Vec<Stack>> {
        Box::pin(stacks::of(&self.shared, of))
    }

    fn job_manager_metrics(&self) -> Answer<'_, BTreeMap<String, f64>> {
        Box::pin(self.metrics())
    }

    fn prometheus(&self) -> Answer<'_, String> {
        Box::pin(self.exposition())
    }

    fn configuration(&self) -> BTreeMap<String, String> {
        self.shared.options.configuration.effective()
    }

    fn shut_down(&self) -> Answer<'_, ()> {
        Box::pin(async {
            tracing::info!("the cluster is to be shut down");
            self.shut_down.cancel();
            Ok(())
        })
    }
}
