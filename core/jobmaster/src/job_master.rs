//! The machine.

use std::time::Duration;

use weir_model::{ExecutionState, InvalidJobGraph, JobStatus, JobSummary, JobView};
use weir_scheduler::ExecutionGraph;

use crate::{JobMasterEffect, JobMasterEvent, JobMasterOptions, JobSpec};

/// Decides everything about one job from its graph to its end.
///
/// Events may come in any order and more than once; what cannot matter any more is ignored, nothing panics, and the job ends
/// once everything asked for has been answered or reported lost.
#[derive(Debug)]
pub struct JobMaster {
    spec: JobSpec,
    options: JobMasterOptions,
    accepted: Duration,
}

impl JobMaster {
    /// A job in status CREATED, accepted at `now`. Fails if the graph is not a valid one.
    pub fn new(spec: JobSpec, options: JobMasterOptions, now: Duration) -> Result<Self, InvalidJobGraph> {
        ExecutionGraph::new(&spec.graph)?;
        Ok(Self { spec, options, accepted: now })
    }

    /// Takes in an event and says what to do, in this order. `now` is the time since 1970-01-01 UTC and never goes back.
    pub fn on_event(&mut self, event: JobMasterEvent, now: Duration) -> Vec<JobMasterEffect> {
        let _ = (event, now);
        Vec::new()
    }

    /// The job in one line.
    pub fn summary(&self) -> JobSummary {
        JobSummary {
            id: self.spec.id,
            name: self.spec.graph.name.clone(),
            status: JobStatus::Created,
            start: self.accepted.as_millis() as u64,
            end: None,
            last_modification: self.accepted.as_millis() as u64,
            tasks: [0; ExecutionState::ALL.len()],
            bounded: self.spec.graph.is_bounded(),
        }
    }

    /// Everything that can be shown of the job. Takes time and memory by tasks.
    pub fn view(&self) -> JobView {
        JobView {
            summary: self.summary(),
            graph: self.spec.graph.clone(),
            artifact: Some(self.spec.launch.artifact.clone()),
            timestamps: [None; JobStatus::ALL.len()],
            time_in_status: [0; JobStatus::ALL.len()],
            configuration: self.spec.configuration.clone(),
            restart_strategy: self.options.restart_strategy.describe(),
            restarts: 0,
            vertices: Vec::new(),
            failures: Vec::new(),
            failures_truncated: false,
            waiting: None,
        }
    }
}
