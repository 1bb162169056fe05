//! A task's current attempt: where it runs and since when.

use std::borrow::Cow;

use serde::Serialize;
use weir_model::{ExecutionState, SubtaskView};

use super::IoMetrics;

/// The states whose durations are shown: those before the end.
pub(super) const REPORTED: [ExecutionState; 5] = [
    ExecutionState::Created,
    ExecutionState::Scheduled,
    ExecutionState::Deploying,
    ExecutionState::Initializing,
    ExecutionState::Running,
];

/// What stands for the place of a task that has none yet.
pub(crate) const UNASSIGNED: &str = "(unassigned)";

/// A place as Flink writes it, `host:port`. Weir's workers have a data port each and TaskManagers have none, so the port is 0.
pub(crate) fn endpoint(host: &str) -> String {
    if host.is_empty() { UNASSIGNED.to_owned() } else { format!("{}:0", in_address(host)) }
}

/// A host as it stands before a port: an IPv6 address in brackets.
pub(crate) fn in_address(host: &str) -> Cow<'_, str> {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]").into() } else { host.into() }
}

/// The host alone, as older clients read it.
pub(crate) fn host(host: &str) -> String {
    if host.is_empty() { UNASSIGNED.to_owned() } else { host.to_owned() }
}

/// When something began and ended, in milliseconds; -1 for what has not come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskTimes {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) duration: i64,
}

impl TaskTimes {
    /// Of one task: from its deployment on.
    pub(crate) fn of(task: &SubtaskView, now: u64) -> Self {
        Self::of_all([task], now)
    }

    /// Of several tasks: from the first deployment until all have ended.
    pub(crate) fn of_all<'a>(tasks: impl IntoIterator<Item = &'a SubtaskView>, now: u64) -> Self {
        let (mut start, mut end, mut all_ended) = (None::<u64>, 0, true);
        for task in tasks {
            let deployed = entered(task, ExecutionState::Deploying);
            start = [start, deployed].into_iter().flatten().min();
            end = end.max(entered(task, task.state).unwrap_or(0));
            all_ended &= task.state.is_terminal();
        }
        let Some(start) = start else { return Self { start: -1, end: -1, duration: -1 } };
        if all_ended {
            Self { start: start as i64, end: end as i64, duration: millis_between(start, end) }
        } else {
            Self { start: start as i64, end: -1, duration: millis_between(start, now) }
        }
    }
}

/// Milliseconds from `start` to `end`; never negative, because clocks of two machines differ.
pub(crate) fn millis_between(start: u64, end: u64) -> i64 {
    end.saturating_sub(start) as i64
}

fn entered(task: &SubtaskView, state: ExecutionState) -> Option<u64> {
    task.timestamps[state as usize]
}

/// How long a task was in each of the [`REPORTED`] states, in milliseconds; -1 for those it has not been in.
#[derive(Debug)]
pub(crate) struct StatusDurations(pub(super) [i64; REPORTED.len()]);

impl StatusDurations {
    pub(crate) fn of(task: &SubtaskView, now: u64) -> Self {
        Self(REPORTED.map(|state| {
            let Some(start) = entered(task, state) else { return -1 };
            // States are left for one further down the list only.
            let later = &task.timestamps[state as usize + 1..];
            let end = later.iter().flatten().copied().min().unwrap_or(now);
            millis_between(start, end)
        }))
    }
}

impl Serialize for StatusDurations {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(REPORTED.iter().map(|state| state.name()).zip(&self.0))
    }
}

/// A task's attempt. Some names stand twice, because Flink's clients differ in which they read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SubtaskAttempt {
    subtask: u32,
    status: &'static str,
    attempt: u32,
    endpoint: String,
    host: String,
    start_time: i64,
    #[serde(rename = "start_time")]
    start_time_again: i64,
    end_time: i64,
    duration: i64,
    metrics: IoMetrics,
    taskmanager_id: String,
    status_duration: StatusDurations,
}

impl SubtaskAttempt {
    pub(crate) fn of(index: u32, task: &SubtaskView, now: u64) -> Self {
        let times = TaskTimes::of(task, now);
        Self {
            subtask: index,
            status: task.state.name(),
            attempt: task.attempt,
            endpoint: endpoint(&task.host),
            host: host(&task.host),
            start_time: times.start,
            start_time_again: times.start,
            end_time: times.end,
            duration: times.duration,
            metrics: IoMetrics::of([task]),
            taskmanager_id: task.task_manager.as_ref().map_or_else(|| UNASSIGNED.to_owned(), ToString::to_string),
            status_duration: StatusDurations::of(task, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{MetricsSnapshot, TaskRates};

    use super::*;

    fn task(state: ExecutionState, entered: &[(ExecutionState, u64)]) -> SubtaskView {
        let mut timestamps = [None; ExecutionState::ALL.len()];
        entered.iter().for_each(|&(state, time)| timestamps[state as usize] = Some(time));
        SubtaskView {
            state,
            attempt: 0,
            task_manager: None,
            host: String::new(),
            timestamps,
            metrics: MetricsSnapshot::default(),
            rates: TaskRates::default(),
        }
    }

    #[test]
    fn tasks_are_timed_from_their_deployment() {
        use ExecutionState::*;
        let check = |tasks: &[SubtaskView], expect| {
            let times = TaskTimes::of_all(tasks, 100);
            assert_eq!((times.start, times.end, times.duration), expect, "{tasks:?}");
        };
        let waiting = task(Scheduled, &[(Created, 1), (Scheduled, 2)]);
        let running = task(Running, &[(Created, 1), (Scheduled, 2), (Deploying, 10), (Running, 20)]);
        let finished = task(Finished, &[(Deploying, 5), (Running, 20), (Finished, 50)]);
        check(&[], (-1, -1, -1));
        check(std::slice::from_ref(&waiting), (-1, -1, -1));
        check(&[running.clone(), waiting], (10, -1, 90));
        check(std::slice::from_ref(&finished), (5, 50, 45));
        check(&[finished, running], (5, -1, 95));
    }

    #[test]
    fn a_state_lasts_until_the_next_one() {
        use ExecutionState::*;
        let running = task(Running, &[(Created, 1), (Scheduled, 4), (Deploying, 10), (Running, 20)]);
        assert_eq!(StatusDurations::of(&running, 100).0, [3, 6, 10, -1, 80]);
        let failed = task(Failed, &[(Created, 1), (Scheduled, 4), (Failed, 9)]);
        assert_eq!(StatusDurations::of(&failed, 100).0, [3, 5, -1, -1, -1]);
    }
}
