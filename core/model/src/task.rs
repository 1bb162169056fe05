//! A task's name and its failure, as driver and workers tell each other.

use std::fmt;

use crate::OperatorId;

/// Names one subtask of a job: position of the vertex in the JobGraph, and index of the subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// Position of the vertex in the JobGraph.
    pub vertex: u32,
    /// Index of the subtask, from 0.
    pub subtask: u32,
}

/// What kind of thing went wrong, which tells who can put it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// User code panicked.
    Panic,
    /// A source could not read its input.
    Source,
    /// A sink could not write or commit its output.
    Sink,
    /// Data or a connection between workers was damaged or lost.
    Network,
    /// The worker process that ran the task ended or cannot be reached.
    Worker,
    /// The job asked for something that cannot be (wrong configuration, wrong use of a handle).
    Job,
    /// State that a task was to begin with cannot be read.
    State,
}

impl FailureKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [FailureKind; 7] = [
        FailureKind::Panic,
        FailureKind::Source,
        FailureKind::Sink,
        FailureKind::Network,
        FailureKind::Worker,
        FailureKind::Job,
        FailureKind::State,
    ];

    /// A lower-case word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            FailureKind::Panic => "panic",
            FailureKind::Source => "source",
            FailureKind::Sink => "sink",
            FailureKind::Network => "network",
            FailureKind::Worker => "worker",
            FailureKind::Job => "job",
            FailureKind::State => "state",
        }
    }

    /// The inverse of [`name`](Self::name); unknown words (from a newer worker) count as [`FailureKind::Job`].
    pub fn from_name(name: &str) -> FailureKind {
        FailureKind::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or(FailureKind::Job)
    }
}

/// A task's failure as reported to the driver and to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// What kind of thing went wrong.
    pub kind: FailureKind,
    /// The error or panic message.
    pub message: String,
    /// The operator it happened in, if known.
    pub operator: Option<String>,
    /// `file:line:column` of a panic.
    pub location: Option<String>,
    /// The backtrace of a panic, when `RUST_BACKTRACE` asks for one.
    pub backtrace: Option<String>,
}

impl TaskFailure {
    /// A failure of `kind` with a message and nothing else known.
    pub fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), operator: None, location: None, backtrace: None }
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == FailureKind::Panic {
            f.write_str("panicked: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(operator) = &self.operator {
            write!(f, "\n    in operator `{operator}`")?;
        }
        if let Some(location) = &self.location {
            write!(f, "\n    at {location}")?;
        }
        if let Some(backtrace) = &self.backtrace {
            write!(f, "\n{backtrace}")?;
        }
        Ok(())
    }
}

/// Something a sink wants to become visible when the job completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committable {
    /// The sink's node in the StreamGraph.
    pub node: u32,
    /// What the sink's writer said, for its committer to read.
    pub payload: Vec<u8>,
}

/// The values of a task's metrics at one moment; what counts something counts since its attempt began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// Records taken in: from channels, or produced by the source of a source task.
    pub records_in: u64,
    /// Records handed on: to channels, or to the sink of a sink task.
    pub records_out: u64,
    /// Encoded bytes taken in from other workers.
    pub bytes_in: u64,
    /// Encoded bytes sent to other workers.
    pub bytes_out: u64,
    /// Nanoseconds spent working.
    pub busy_nanos: u64,
    /// Nanoseconds spent waiting for input.
    pub idle_nanos: u64,
    /// Nanoseconds spent waiting for consumers.
    pub backpressured_nanos: u64,
    /// The watermark its inputs have reached, in milliseconds since the epoch; none before the first, the largest number at their end.
    pub input_watermark: Option<i64>,
    /// The watermark it has passed on, or its sink has seen; as [`input_watermark`](Self::input_watermark).
    pub output_watermark: Option<i64>,
    /// About how many bytes of memory its keyed state takes.
    pub state_bytes: u64,
    /// For how many keys its operators have state.
    pub state_keys: u64,
    /// What its operators' code measures.
    pub operators: Vec<OperatorMetric>,
}

/// A metric that the code of an operator keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorMetric {
    /// The operator.
    pub operator: OperatorId,
    /// The groups it is in, outermost first.
    pub groups: Vec<MetricGroup>,
    /// Its name in its group.
    pub name: String,
    /// Its value.
    pub value: f64,
}

impl OperatorMetric {
    /// Its name with its groups and which they are, e.g. `Reader.partition.3.lag`.
    pub fn full_name(&self) -> String {
        let groups = self.groups.iter().flat_map(|group| [Some(&group.name), group.value.as_ref()]);
        groups.flatten().chain([&self.name]).map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

/// A part of the name of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricGroup {
    /// Its name, e.g. `partition`.
    pub name: String,
    /// Which of several alike it is, e.g. `3`; where metrics have labels it is one.
    pub value: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name() {
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::from_name(kind.name()), kind);
        }
        assert_eq!(FailureKind::from_name("from the future"), FailureKind::Job);
    }

    #[test]
    fn a_failure_is_told_with_all_that_is_known() {
        let mut failure = TaskFailure::new(FailureKind::Panic, "index out of bounds");
        assert_eq!(failure.to_string(), "panicked: index out of bounds");
        failure.operator = Some("Split".to_owned());
        failure.location = Some("src/main.rs:1:2".to_owned());
        let expect = "panicked: index out of bounds\n    in operator `Split`\n    at src/main.rs:1:2";
        assert_eq!(failure.to_string(), expect);
    }
}
