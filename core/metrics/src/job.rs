//! The metrics of a job.

use weir_model::{ExecutionState, JobStatus, JobView};

use crate::{Values, extend};

/// The statuses Flink measures the time of, with their names there.
const TIMED: [(JobStatus, &str); 6] = [
    (JobStatus::Initializing, "initializing"),
    (JobStatus::Created, "created"),
    (JobStatus::Running, "running"),
    (JobStatus::Failing, "failing"),
    (JobStatus::Cancelling, "cancelling"),
    (JobStatus::Restarting, "restarting"),
];

/// The checkpoints of a job in numbers. Sizes are bytes, times milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointFigures {
    /// Under way, savepoints included, as in all that follows.
    pub in_progress: u64,
    /// Completed.
    pub completed: u64,
    /// Failed or given up.
    pub failed: u64,
    /// Triggered.
    pub total: u64,
    /// The last one that completed.
    pub last: Option<LastCheckpoint>,
    /// When the job was last restored, since 1970-01-01 UTC.
    pub restored: Option<u64>,
}

/// The last checkpoint that completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastCheckpoint {
    /// Its number.
    pub id: u64,
    /// From its trigger to the last acknowledgement.
    pub duration: u64,
    /// Written for it.
    pub size: u64,
    /// All of its state.
    pub full_size: u64,
    /// Processed during alignment.
    pub processed: u64,
    /// Data in flight that is part of it.
    pub persisted: u64,
}

/// The metrics of a job, in the scope `jobmanager.job`. `now`: milliseconds since 1970-01-01 UTC. Times are in milliseconds.
///
/// What is said of the last checkpoint is -1 before the first, as in Flink. Its folder, `lastCheckpointExternalPath` there, is no
/// number and is not among them.
pub fn job_metrics(job: &JobView, checkpoints: &CheckpointFigures, now: u64) -> Values {
    let mut values = Values::new();
    let restarts = f64::from(job.restarts);
    let or_none = |value: Option<u64>| value.map_or(-1.0, |value| value as f64);
    let last = |part: fn(&LastCheckpoint) -> u64| or_none(checkpoints.last.as_ref().map(part));
    extend(
        &mut values,
        [
            ("uptime", uptime(job, now)),
            ("downtime", downtime(job, now)),
            ("numRestarts", restarts),
            // Its name before Flink 1.12; dashboards still ask for it.
            ("fullRestarts", restarts),
            ("numberOfInProgressCheckpoints", checkpoints.in_progress as f64),
            ("numberOfCompletedCheckpoints", checkpoints.completed as f64),
            ("numberOfFailedCheckpoints", checkpoints.failed as f64),
            ("totalNumberOfCheckpoints", checkpoints.total as f64),
            ("lastCheckpointDuration", last(|last| last.duration)),
            ("lastCheckpointSize", last(|last| last.size)),
            ("lastCheckpointFullSize", last(|last| last.full_size)),
            ("lastCheckpointProcessedData", last(|last| last.processed)),
            ("lastCheckpointPersistedData", last(|last| last.persisted)),
            ("lastCheckpointRestoreTimestamp", or_none(checkpoints.restored)),
            ("lastCompletedCheckpointId", last(|last| last.id)),
        ],
    );
    for (status, name) in TIMED {
        let current = since(job, status, now).filter(|_| job.summary.status == status);
        let before = job.time_in_status[status as usize] as f64;
        add_times(&mut values, name, current, before + current.unwrap_or(0.0));
    }
    let deploying = deploying_since(job).map(|entered| elapsed(entered, now));
    values.insert("deployingState".to_owned(), f64::from(u8::from(deploying.is_some())));
    values.insert("deployingTime".to_owned(), deploying.unwrap_or(0.0));
    values
}

fn add_times(values: &mut Values, name: &str, current: Option<f64>, total: f64) {
    values.insert(format!("{name}State"), f64::from(u8::from(current.is_some())));
    values.insert(format!("{name}Time"), current.unwrap_or(0.0));
    values.insert(format!("{name}TimeTotal"), total);
}

/// How long it has been running without interruption; 0 while it does not, -1 when it has ended.
fn uptime(job: &JobView, now: u64) -> f64 {
    match job.summary.status {
        JobStatus::Running => since(job, JobStatus::Running, now).unwrap_or(0.0),
        status if status.is_terminal() => -1.0,
        _ => 0.0,
    }
}

/// How long it has been out of service after it once ran; 0 while it runs, -1 when it has ended.
fn downtime(job: &JobView, now: u64) -> f64 {
    let status = job.summary.status;
    if status == JobStatus::Running {
        return 0.0;
    }
    if status.is_terminal() {
        return -1.0;
    }
    let Some(ran) = job.timestamps[JobStatus::Running as usize] else { return 0.0 };
    // It stopped running when it entered the first status that came after that.
    let left = job.timestamps.iter().flatten().filter(|entered| **entered >= ran);
    let left = left.filter(|entered| Some(**entered) != job.timestamps[JobStatus::Running as usize]).min();
    left.map_or(0.0, |left| elapsed(*left, now))
}

fn since(job: &JobView, status: JobStatus, now: u64) -> Option<f64> {
    job.timestamps[status as usize].map(|entered| elapsed(entered, now))
}

/// Since when tasks of a running job are being deployed, if there are any.
fn deploying_since(job: &JobView) -> Option<u64> {
    let deployed = |state| matches!(state, ExecutionState::Deploying | ExecutionState::Initializing);
    let running = job.summary.status == JobStatus::Running;
    let tasks = job.vertices.iter().flatten().filter(|task| running && deployed(task.state));
    tasks.filter_map(|task| task.timestamps[ExecutionState::Deploying as usize]).min()
}

fn elapsed(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use weir_model::{JobGraph, JobId, JobSummary, MetricsSnapshot, SubtaskView, TaskRates};

    use super::*;

    pub(crate) fn job(status: JobStatus, entered: &[(JobStatus, u64)]) -> JobView {
        let mut timestamps = [None; JobStatus::ALL.len()];
        for (status, at) in entered {
            timestamps[*status as usize] = Some(*at);
        }
        let name = "Word Count".to_owned();
        JobView {
            summary: JobSummary {
                id: JobId::from_bytes([0xab; 16]),
                name: name.clone(),
                status,
                start: 1000,
                end: None,
                last_modification: 1000,
                tasks: [0; 10],
                bounded: true,
                adaptive: false,
            },
            graph: Arc::new(JobGraph { name, vertices: Vec::new(), edges: Vec::new(), config: BTreeMap::new() }),
            artifact: None,
            timestamps,
            time_in_status: [0; JobStatus::ALL.len()],
            configuration: BTreeMap::new(),
            restart_strategy: String::new(),
            restarts: 0,
            vertices: Vec::new(),
            failures: Vec::new(),
            failures_truncated: false,
            waiting: None,
            scaling: None,
        }
    }

    fn check(job: &JobView, now: u64, expect: &[(&str, f64)]) {
        let values = job_metrics(job, &CheckpointFigures::default(), now);
        for (name, value) in expect {
            assert_eq!(values.get(*name), Some(value), "{name} of a job that is {}", job.summary.status);
        }
    }

    #[test]
    fn a_running_job_has_an_uptime() {
        use JobStatus::*;
        let mut running = job(Running, &[(Initializing, 1000), (Created, 1010), (Running, 1030)]);
        running.time_in_status[Initializing as usize] = 10;
        running.time_in_status[Created as usize] = 20;
        check(
            &running,
            3030,
            &[
                ("uptime", 2000.0),
                ("downtime", 0.0),
                ("runningState", 1.0),
                ("runningTime", 2000.0),
                ("runningTimeTotal", 2000.0),
                ("createdState", 0.0),
                ("createdTime", 0.0),
                ("createdTimeTotal", 20.0),
                ("initializingTimeTotal", 10.0),
                ("deployingState", 0.0),
                ("deployingTime", 0.0),
                ("numRestarts", 0.0),
                ("numberOfCompletedCheckpoints", 0.0),
                ("lastCheckpointDuration", -1.0),
            ],
        );
    }

    #[test]
    fn checkpoints_are_counted_and_the_last_one_measured() {
        let last = LastCheckpoint { id: 7, duration: 120, size: 100, full_size: 4000, processed: 3, persisted: 0 };
        let figures = CheckpointFigures {
            in_progress: 1,
            completed: 5,
            failed: 2,
            total: 8,
            last: Some(last),
            restored: Some(99),
        };
        let values = job_metrics(&job(JobStatus::Running, &[]), &figures, 1000);
        for (name, expect) in [
            ("numberOfInProgressCheckpoints", 1.0),
            ("numberOfCompletedCheckpoints", 5.0),
            ("numberOfFailedCheckpoints", 2.0),
            ("totalNumberOfCheckpoints", 8.0),
            ("lastCheckpointDuration", 120.0),
            ("lastCheckpointSize", 100.0),
            ("lastCheckpointFullSize", 4000.0),
            ("lastCheckpointProcessedData", 3.0),
            ("lastCheckpointPersistedData", 0.0),
            ("lastCheckpointRestoreTimestamp", 99.0),
            ("lastCompletedCheckpointId", 7.0),
        ] {
            assert_eq!(values[name], expect, "{name}");
        }
    }

    #[test]
    fn a_restarting_job_has_a_downtime_and_keeps_its_earlier_times() {
        use JobStatus::*;
        let mut restarting = job(Restarting, &[(Created, 1010), (Running, 5000), (Restarting, 9000)]);
        restarting.restarts = 2;
        restarting.time_in_status[Running as usize] = 7000;
        restarting.time_in_status[Restarting as usize] = 300;
        check(
            &restarting,
            9500,
            &[
                ("uptime", 0.0),
                ("downtime", 500.0),
                ("restartingState", 1.0),
                ("restartingTime", 500.0),
                ("restartingTimeTotal", 800.0),
                ("runningState", 0.0),
                ("runningTime", 0.0),
                ("runningTimeTotal", 7000.0),
                ("numRestarts", 2.0),
                ("fullRestarts", 2.0),
            ],
        );
    }

    #[test]
    fn a_job_that_has_not_run_yet_is_neither_up_nor_down() {
        check(&job(JobStatus::Created, &[(JobStatus::Created, 10)]), 500, &[("uptime", 0.0), ("downtime", 0.0)]);
    }

    #[test]
    fn a_job_that_has_ended_is_neither_up_nor_down() {
        for status in [JobStatus::Finished, JobStatus::Failed, JobStatus::Canceled] {
            let ended = job(status, &[(JobStatus::Running, 10), (status, 20)]);
            check(&ended, 500, &[("uptime", -1.0), ("downtime", -1.0), ("runningState", 0.0)]);
        }
    }

    #[test]
    fn a_running_job_is_deploying_while_one_of_its_tasks_is() {
        let mut deploying = job(JobStatus::Running, &[(JobStatus::Running, 100)]);
        let task = |state, since| {
            let mut timestamps = [None; 10];
            timestamps[ExecutionState::Deploying as usize] = Some(since);
            SubtaskView {
                state,
                attempt: 0,
                task_manager: None,
                host: String::new(),
                timestamps,
                metrics: MetricsSnapshot::default(),
                rates: TaskRates::default(),
            }
        };
        deploying.vertices = vec![
            vec![task(ExecutionState::Running, 100), task(ExecutionState::Initializing, 120)],
            vec![task(ExecutionState::Deploying, 130)],
        ];
        check(&deploying, 150, &[("deployingState", 1.0), ("deployingTime", 30.0)]);
    }

    #[test]
    fn a_clock_behind_the_timestamps_gives_no_negative_times() {
        check(&job(JobStatus::Running, &[(JobStatus::Running, 100)]), 50, &[("uptime", 0.0), ("runningTime", 0.0)]);
    }
}
