//! Things counted or timed by state, as objects with a field for every state there is.

use serde::ser::{Serialize, SerializeMap, Serializer};
use weir_model::{ExecutionState, JobStatus, SubtaskView};

/// One value for each state of a task, under its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByState<T>(pub(crate) [T; ExecutionState::ALL.len()]);

/// Number of tasks, or of vertices, by state.
pub(crate) type Counts = ByState<u32>;

impl Counts {
    pub(crate) fn of(states: impl Iterator<Item = ExecutionState>) -> Self {
        let mut counts = [0; ExecutionState::ALL.len()];
        states.for_each(|state| counts[state as usize] += 1);
        Self(counts)
    }

    pub(crate) fn of_tasks<'a>(tasks: impl IntoIterator<Item = &'a SubtaskView>) -> Self {
        Self::of(tasks.into_iter().map(|task| task.state))
    }
}

impl<T: Serialize> Serialize for ByState<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(ExecutionState::ALL.iter().map(|state| state.name()).zip(&self.0))
    }
}

/// One value for each status of a job, under its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByJobStatus<T>(pub(crate) [T; JobStatus::ALL.len()]);

impl<T: Serialize> Serialize for ByJobStatus<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(JobStatus::ALL.iter().map(|status| status.name()).zip(&self.0))
    }
}

/// [`Counts`] as lists of jobs have them: names in lower case, and the total.
#[derive(Debug)]
pub(crate) struct LowerCaseCounts(pub(crate) Counts);

impl Serialize for LowerCaseCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = &self.0.0;
        let mut map = serializer.serialize_map(Some(counts.len() + 1))?;
        map.serialize_entry("total", &counts.iter().sum::<u32>())?;
        for (state, count) in ExecutionState::ALL.iter().zip(counts) {
            map.serialize_entry(&state.name().to_ascii_lowercase(), count)?;
        }
        map.end()
    }
}

/// The state of a vertex, from those of its tasks, by Flink's rule.
pub(crate) fn aggregate(counts: &Counts) -> ExecutionState {
    use ExecutionState::*;
    let count = |state: ExecutionState| counts.0[state as usize];
    let first = [Failed, Canceling, Canceled, Initializing, Running].into_iter().find(|&state| count(state) > 0);
    match first {
        Some(state) => state,
        None if count(Finished) > 0 && count(Finished) == counts.0.iter().sum::<u32>() => Finished,
        None if count(Finished) > 0 => Running,
        None => Created,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vertex_is_in_the_state_that_matters_most() {
        use ExecutionState::*;
        let check = |tasks: &[ExecutionState], expect: ExecutionState| {
            assert_eq!(aggregate(&Counts::of(tasks.iter().copied())), expect, "{tasks:?}");
        };
        check(&[Running, Failed, Finished], Failed);
        check(&[Running, Canceling, Canceled], Canceling);
        check(&[Running, Canceled], Canceled);
        check(&[Running, Initializing], Initializing);
        check(&[Running, Finished, Created], Running);
        check(&[Finished, Finished], Finished);
        check(&[Finished, Scheduled], Running);
        check(&[Scheduled, Deploying], Created);
        check(&[], Created);
    }
}
