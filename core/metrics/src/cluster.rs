//! The cluster in numbers.

use weir_model::{JobSummary, ResourcesView};

use crate::{Values, extend};

/// The metrics of the scope `jobmanager`.
pub fn cluster_metrics(resources: &ResourcesView, jobs: &[JobSummary]) -> Values {
    let running = jobs.iter().filter(|job| !job.status.is_terminal()).count();
    let mut values = Values::new();
    extend(
        &mut values,
        [
            ("numRegisteredTaskManagers", f64::from(resources.task_managers)),
            ("numPendingTaskManagers", f64::from(resources.pending_task_managers)),
            ("numRunningJobs", running as f64),
            ("taskSlotsTotal", f64::from(resources.slots_total)),
            ("taskSlotsAvailable", f64::from(resources.slots_available)),
        ],
    );
    values
}

#[cfg(test)]
mod tests {
    use weir_model::{JobId, JobStatus};

    use super::*;

    fn job(status: JobStatus) -> JobSummary {
        JobSummary {
            id: JobId::from_bytes([1; 16]),
            name: "job".to_owned(),
            status,
            start: 0,
            end: None,
            last_modification: 0,
            tasks: [0; 10],
            bounded: true,
            adaptive: false,
        }
    }

    #[test]
    fn jobs_that_have_ended_are_not_running() {
        let resources = ResourcesView {
            task_managers: 3,
            pending_task_managers: 1,
            slots_total: 12,
            slots_available: 5,
            providers: Vec::new(),
        };
        let jobs: Vec<_> = JobStatus::ALL.into_iter().map(job).collect();
        let values = cluster_metrics(&resources, &jobs);
        let expect = [
            ("numPendingTaskManagers", 1.0),
            ("numRegisteredTaskManagers", 3.0),
            ("numRunningJobs", 7.0),
            ("taskSlotsAvailable", 5.0),
            ("taskSlotsTotal", 12.0),
        ];
        assert!(values.iter().map(|(name, value)| (name.as_str(), *value)).eq(expect), "{values:?}");
    }
}
