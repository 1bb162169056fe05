//! What is shown of a job.

use std::time::Duration;

use weir_model::{ExecutionState, JobStatus, JobSummary, JobView, SubtaskView, TaskId};

use super::JobMaster;

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

impl JobMaster {
    /// The job in one line.
    pub fn summary(&self) -> JobSummary {
        JobSummary {
            id: self.spec.id,
            name: self.spec.graph.name.clone(),
            status: self.scheduler.status(),
            start: millis(self.accepted),
            end: self.ended.map(millis),
            last_modification: millis(self.scheduler.changed().max(self.accepted)),
            tasks: ExecutionState::ALL.map(|state| self.scheduler.count(state)),
            bounded: self.spec.graph.is_bounded(),
            adaptive: self.adaptive.is_some(),
        }
    }

    /// Everything that can be shown of the job. Takes time and memory by tasks.
    pub fn view(&self) -> JobView {
        JobView {
            summary: self.summary(),
            graph: self.graph.clone(),
            artifact: Some(self.spec.launch.artifact.clone()),
            timestamps: self.status_timestamps(),
            time_in_status: self.stays.map(millis),
            configuration: self.spec.configuration.clone(),
            restart_strategy: self.options.restart_strategy.describe(),
            restarts: self.scheduler.restarts(),
            vertices: (0u32..)
                .zip(&self.graph.vertices)
                .map(|(vertex, data)| {
                    (0..data.parallelism).map(|subtask| self.subtask(TaskId { vertex, subtask })).collect()
                })
                .collect(),
            failures: self.failures(),
            failures_truncated: self.history.truncated(),
            waiting: self.slot_wait(),
            scaling: self.scaling_view(),
        }
    }

    fn status_timestamps(&self) -> [Option<u64>; JobStatus::ALL.len()] {
        let mut times = self.scheduler.status_times().map(|time| time.map(millis));
        // It was both when it was accepted.
        for status in [JobStatus::Initializing, JobStatus::Created] {
            times[status as usize] = Some(millis(self.accepted));
        }
        times
    }

    fn subtask(&self, task: TaskId) -> SubtaskView {
        let execution = self.scheduler.execution(task);
        let entry = self.tasks.get(self.scheduler.graph().index_of(task));
        let location = entry.location.as_deref();
        SubtaskView {
            state: execution.state,
            attempt: execution.deployment,
            task_manager: location.map(|location| location.task_manager.clone()),
            host: location.map_or_else(String::new, |location| location.host.to_string()),
            timestamps: execution.entered.map(|time| time.map(millis)),
            metrics: entry.metrics.clone(),
            rates: entry.rates,
        }
    }
}
