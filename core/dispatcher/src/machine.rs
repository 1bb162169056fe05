//! The Dispatcher itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{
    ArtifactId, ExecutionState, FailureKind, FailureView, JobId, JobStatus, JobSummary, JobView, MetricsSnapshot,
    SubtaskView, TaskFailure, TaskRates,
};

use crate::archive::{Archive, Limits};
use crate::{Effect, Event, JobRecord, SubmitError};

/// What can be chosen about the Dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatcherOptions {
    /// How long ended jobs are remembered (`jobstore.expiration-time`).
    pub expiration: Duration,
    /// How many ended jobs are remembered (`jobstore.max-capacity`); `None` is no limit.
    pub max_archived: Option<usize>,
    /// How many tasks of ended jobs are remembered, all jobs together; the job that ended last is remembered even if it has more.
    pub max_archived_tasks: usize,
}

impl Default for DispatcherOptions {
    fn default() -> Self {
        Self { expiration: Duration::from_secs(3600), max_archived: None, max_archived_tasks: 500_000 }
    }
}

/// Accepts jobs and remembers them.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    options: DispatcherOptions,
    jobs: BTreeMap<JobId, Job>,
    archive: Archive,
    /// Running jobs, and those about to, by artifact.
    artifact_users: BTreeMap<ArtifactId, u32>,
    timer: Option<(u64, Duration)>,
    next_timer: u64,
}

#[derive(Debug, Clone)]
struct Job {
    record: Arc<JobRecord>,
    /// The request to be answered once the record is kept; `None` when the job runs.
    submission: Option<u64>,
}

impl Dispatcher {
    /// A Dispatcher without jobs.
    pub fn new(options: DispatcherOptions) -> Self {
        Self {
            options,
            jobs: BTreeMap::new(),
            archive: Archive::default(),
            artifact_users: BTreeMap::new(),
            timer: None,
            next_timer: 0,
        }
    }

    /// Takes note of what happened and says what to do, in this order. Unexpected events are ignored.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Submitted { request, record } => self.on_submitted(request, record, &mut effects),
            Event::Persisted { job, result } => self.on_persisted(job, result, &mut effects),
            Event::JobEnded { view } => self.on_job_ended(view, now, &mut effects),
            Event::Recovered(records) => self.on_recovered(records, now, &mut effects),
            Event::Timer { id } => self.on_timer(id),
        }
        self.archive.expire(self.options.expiration, now);
        self.schedule_expiry(&mut effects);
        effects
    }

    /// The record of a job that runs or is about to.
    pub fn running(&self, id: JobId) -> Option<&Arc<JobRecord>> {
        self.jobs.get(&id).filter(|job| job.submission.is_none()).map(|job| &job.record)
    }

    /// Records of all running jobs, by id.
    pub fn running_jobs(&self) -> impl Iterator<Item = &Arc<JobRecord>> {
        self.jobs.values().filter(|job| job.submission.is_none()).map(|job| &job.record)
    }

    /// The last view of a job that ended.
    pub fn archived(&self, id: JobId) -> Option<&Arc<JobView>> {
        self.archive.get(id)
    }

    /// The last views of all ended jobs that are remembered, those that ended last first.
    pub fn archived_jobs(&self) -> impl Iterator<Item = &Arc<JobView>> {
        self.archive.iter().rev()
    }

    /// Number of jobs that run, or are about to, from this artifact.
    pub fn users_of(&self, artifact: ArtifactId) -> u32 {
        self.artifact_users.get(&artifact).copied().unwrap_or(0)
    }

    fn on_submitted(&mut self, request: u64, record: Arc<JobRecord>, effects: &mut Vec<Effect>) {
        if let Some((name, status)) = self.known(record.id) {
            let error = SubmitError::Duplicate { id: record.id, name, status };
            effects.push(Effect::Answer { request, result: Err(error) });
            return;
        }
        *self.artifact_users.entry(record.artifact.id).or_default() += 1;
        self.jobs.insert(record.id, Job { record: Arc::clone(&record), submission: Some(request) });
        effects.push(Effect::Persist(record));
    }

    /// Name and status of the job with this id.
    fn known(&self, id: JobId) -> Option<(String, &'static str)> {
        if let Some(job) = self.jobs.get(&id) {
            let status = if job.submission.is_some() { "being submitted" } else { "running" };
            return Some((job.record.graph.name.clone(), status));
        }
        self.archive.get(id).map(|view| (view.summary.name.clone(), view.summary.status.name()))
    }

    fn on_persisted(&mut self, id: JobId, result: Result<(), String>, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(request) = job.submission.take() else { return };
        match result {
            Ok(()) => {
                effects.push(Effect::StartJobMaster(Arc::clone(&job.record)));
                effects.push(Effect::Answer { request, result: Ok(id) });
            }
            Err(reason) => {
                let artifact = job.record.artifact.id;
                self.jobs.remove(&id);
                effects.push(Effect::Answer { request, result: Err(SubmitError::NotRecorded { id, reason }) });
                // A part of it may have been written.
                effects.push(Effect::Forget(id));
                self.release_artifact(artifact, effects);
            }
        }
    }

    fn on_job_ended(&mut self, view: Arc<JobView>, now: Duration, effects: &mut Vec<Effect>) {
        if self.running(view.summary.id).is_none() {
            return;
        }
        let Some(job) = self.jobs.remove(&view.summary.id) else { return };
        effects.push(Effect::Forget(view.summary.id));
        self.put_aside(view, now, effects);
        self.release_artifact(job.record.artifact.id, effects);
    }

    fn on_recovered(&mut self, records: Vec<JobRecord>, now: Duration, effects: &mut Vec<Effect>) {
        for record in records {
            effects.push(Effect::Forget(record.id));
            self.put_aside(Arc::new(lost_job(&record, now)), now, effects);
            if self.users_of(record.artifact.id) == 0 {
                effects.push(Effect::ReleaseArtifact(record.artifact.id));
            }
        }
    }

    fn put_aside(&mut self, view: Arc<JobView>, now: Duration, effects: &mut Vec<Effect>) {
        let jobs = self.options.max_archived.unwrap_or(usize::MAX);
        let limits = Limits { jobs, tasks: self.options.max_archived_tasks };
        self.archive.insert(Arc::clone(&view), limits, now);
        effects.push(Effect::Archived(view));
    }

    fn release_artifact(&mut self, artifact: ArtifactId, effects: &mut Vec<Effect>) {
        let users = self.artifact_users.get_mut(&artifact).expect("a job's artifact is counted as long as the job");
        *users -= 1;
        if *users == 0 {
            self.artifact_users.remove(&artifact);
            effects.push(Effect::ReleaseArtifact(artifact));
        }
    }

    fn on_timer(&mut self, id: u64) {
        if self.timer.is_some_and(|(current, _)| current == id) {
            self.timer = None;
        }
    }

    fn schedule_expiry(&mut self, effects: &mut Vec<Effect>) {
        let Some(at) = self.archive.next_expiry(self.options.expiration) else { return };
        // A timer that fires too early schedules the next one.
        if self.timer.is_some_and(|(_, scheduled)| scheduled <= at) {
            return;
        }
        let id = self.next_timer;
        self.next_timer += 1;
        self.timer = Some((id, at));
        effects.push(Effect::ScheduleTimer { id, at });
    }
}

/// The end of a job whose JobManager is gone, and with it all that was known of its tasks.
fn lost_job(record: &JobRecord, now: Duration) -> JobView {
    let (start, end) = (millis(record.submitted), millis(now));
    let message =
        "the JobManager was restarted without high availability, and the job was lost with it; submit it again";
    let failure = FailureView {
        failure: TaskFailure::new(FailureKind::Worker, message),
        task: None,
        task_name: None,
        task_manager: None,
        host: None,
        timestamp: end,
        concurrent: Vec::new(),
    };
    // TaskManagers kill the workers of a JobManager they lose.
    let subtask = SubtaskView {
        state: ExecutionState::Canceled,
        attempt: 0,
        task_manager: None,
        host: String::new(),
        timestamps: [None; ExecutionState::ALL.len()],
        metrics: MetricsSnapshot::default(),
        rates: TaskRates::default(),
    };
    let vertices = record.graph.vertices.iter().map(|vertex| vec![subtask.clone(); vertex.parallelism as usize]);
    let mut tasks = [0; ExecutionState::ALL.len()];
    tasks[ExecutionState::Canceled as usize] = record.graph.task_count() as u32;
    let mut timestamps = [None; JobStatus::ALL.len()];
    timestamps[JobStatus::Initializing as usize] = Some(start);
    timestamps[JobStatus::Failed as usize] = Some(end);
    JobView {
        summary: JobSummary {
            id: record.id,
            name: record.graph.name.clone(),
            status: JobStatus::Failed,
            start,
            end: Some(end),
            last_modification: end,
            tasks,
            bounded: record.graph.is_bounded(),
            adaptive: false,
        },
        vertices: vertices.collect(),
        graph: Arc::clone(&record.graph),
        artifact: Some(record.artifact.clone()),
        timestamps,
        time_in_status: [0; JobStatus::ALL.len()],
        configuration: BTreeMap::new(),
        restart_strategy: String::new(),
        restarts: 0,
        failures: vec![failure],
        failures_truncated: false,
        waiting: None,
        scaling: None,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
