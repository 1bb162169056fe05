//! The end of a job whose JobMaster failed itself.

use std::any::Any;
use std::sync::Arc;

use weir_dispatcher::JobRecord;
use weir_model::{
    ExecutionState, FailureKind, FailureView, JobStatus, JobSummary, JobView, MetricsSnapshot, SubtaskView,
    TaskFailure, TaskRates,
};
use weir_proto::control::ForTaskManager;
use weir_resourcemanager::Event;

use super::Workers;
use crate::resource_manager::ResourceManagerMessage;
use crate::shared::Shared;

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it did not say why".to_owned())
}

/// Ends a job whose JobMaster is gone: its workers are killed, its slots given back, its coordinator has gone with it.
pub(super) fn end(shared: &Shared, record: &JobRecord, workers: &Workers, problem: &str) {
    tracing::error!(job_id = %record.id, problem, "the JobMaster of a job failed; this is a bug in Weir");
    let reason = "the job's JobMaster failed".to_owned();
    for (task_manager, deployment) in std::mem::take(&mut *workers.lock().unwrap_or_else(|e| e.into_inner())) {
        let kill = ForTaskManager::KillWorker { deployment, reason: reason.clone() };
        shared.task_managers.send(&task_manager, kill);
    }
    let gone = Event::JobGone { job: record.id };
    let _ = shared.resource_manager.send(ResourceManagerMessage::Event(gone));
    super::end_job(shared, Arc::new(view(record, problem, shared.clock.millis())));
}

fn view(record: &JobRecord, problem: &str, now: u64) -> JobView {
    let message = format!(
        "the job's JobMaster failed, which is a bug in Weir ({problem}); the log of the JobManager says where. Submit the job again"
    );
    let failure = FailureView {
        failure: TaskFailure::new(FailureKind::Job, message),
        task: None,
        task_name: None,
        task_manager: None,
        host: None,
        timestamp: now,
        concurrent: Vec::new(),
    };
    let subtask = SubtaskView {
        state: ExecutionState::Canceled,
        attempt: 0,
        task_manager: None,
        host: String::new(),
        timestamps: [None; ExecutionState::ALL.len()],
        metrics: MetricsSnapshot::default(),
        rates: TaskRates::default(),
    };
    let start = record.submitted.as_millis() as u64;
    let mut tasks = [0; ExecutionState::ALL.len()];
    tasks[ExecutionState::Canceled as usize] = record.graph.task_count() as u32;
    let mut timestamps = [None; JobStatus::ALL.len()];
    timestamps[JobStatus::Initializing as usize] = Some(start);
    timestamps[JobStatus::Failed as usize] = Some(now);
    let vertices = record.graph.vertices.iter().map(|vertex| vec![subtask.clone(); vertex.parallelism as usize]);
    JobView {
        summary: JobSummary {
            id: record.id,
            name: record.graph.name.clone(),
            status: JobStatus::Failed,
            start,
            end: Some(now),
            last_modification: now,
            tasks,
            bounded: record.graph.is_bounded(),
            adaptive: false,
        },
        vertices: vertices.collect(),
        graph: record.graph.clone(),
        artifact: Some(record.artifact.clone()),
        timestamps,
        time_in_status: [0; JobStatus::ALL.len()],
        configuration: record.configuration.clone(),
        restart_strategy: String::new(),
        restarts: 0,
        failures: vec![failure],
        failures_truncated: false,
        waiting: None,
        scaling: None,
    }
}
