//! What is run: workloads, systems, one run's description and its result.

use crate::checkpoints::Checkpoints;
use crate::generate::{Observed, Windows};
use crate::latency::Percentiles;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a run failed, for a person to read.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Generate bids, convert the price, discard.
    Q0,
    /// Generate bids, keep those of every 123rd auction, discard.
    Q2,
    /// Exchange whole bids by hash of the auction between 2 subtasks of one process.
    Shuffle,
    /// The same between two processes over loopback.
    Shuffle2,
    /// Count the bids of each of 10 000 auctions.
    KeyedCount,
    /// Count the words of a text file.
    Wordcount,
    /// Read, change and write 100 bytes of state of one of 1 000 000 keys for each bid.
    State,
    /// The same with a checkpoint every 3 s.
    StateCp,
    /// Count the bids of each of 10 000 auctions in windows of 1 s of event time.
    Window,
    /// The same with 100 auctions.
    #[serde(rename = "tumbling_1s")]
    Tumbling1s,
    /// The same with 100 auctions and windows of 1 ms.
    #[serde(rename = "tumbling_1ms")]
    Tumbling1ms,
    /// The same with 100 auctions and windows of 1 s of which one begins each millisecond.
    Sliding,
    /// One exchange by key at 100 000 bids a second: how long after it was due does the sink see a bid?
    Latency,
}

impl Workload {
    /// All of them, in the order of the table.
    pub const ALL: [Workload; 13] = [
        Workload::Q0,
        Workload::Q2,
        Workload::Shuffle,
        Workload::Shuffle2,
        Workload::KeyedCount,
        Workload::Wordcount,
        Workload::State,
        Workload::StateCp,
        Workload::Window,
        Workload::Tumbling1s,
        Workload::Tumbling1ms,
        Workload::Sliding,
        Workload::Latency,
    ];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Q0 => "q0",
            Workload::Q2 => "q2",
            Workload::Shuffle => "shuffle",
            Workload::Shuffle2 => "shuffle2",
            Workload::KeyedCount => "keyed_count",
            Workload::Wordcount => "wordcount",
            Workload::State => "state",
            Workload::StateCp => "state_cp",
            Workload::Window => "window",
            Workload::Tumbling1s => "tumbling_1s",
            Workload::Tumbling1ms => "tumbling_1ms",
            Workload::Sliding => "sliding",
            Workload::Latency => "latency",
        }
    }

    /// The workload this one is compared with. The two are run by turns, so that both see the same load from outside.
    pub fn baseline(self) -> Option<Workload> {
        match self {
            Workload::StateCp => Some(Workload::State),
            Workload::Tumbling1ms | Workload::Sliding => Some(Workload::Tumbling1s),
            Workload::Q0
            | Workload::Q2
            | Workload::Shuffle
            | Workload::Shuffle2
            | Workload::KeyedCount
            | Workload::Wordcount
            | Workload::State
            | Workload::Window
            | Workload::Tumbling1s
            | Workload::Latency => None,
        }
    }

    /// The windows of the workloads that have some.
    pub fn windows(self) -> Option<Windows> {
        match self {
            Workload::Window => Some(Windows::WINDOW),
            Workload::Tumbling1s => Some(Windows::TUMBLING_1S),
            Workload::Tumbling1ms => Some(Windows::TUMBLING_1MS),
            Workload::Sliding => Some(Windows::SLIDING),
            Workload::Q0
            | Workload::Q2
            | Workload::Shuffle
            | Workload::Shuffle2
            | Workload::KeyedCount
            | Workload::Wordcount
            | Workload::State
            | Workload::StateCp
            | Workload::Latency => None,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Plain Rust loops: the yardstick.
    Hand,
    /// Timely dataflow.
    Timely,
    /// Weir.
    Weir,
}

impl System {
    /// All of them, in the order of the table.
    pub const ALL: [System; 3] = [System::Hand, System::Timely, System::Weir];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            System::Hand => "hand",
            System::Timely => "timely",
            System::Weir => "weir",
        }
    }

    /// Runs `job` in this process.
    pub fn run(self, job: &Job) -> Result<Outcome, Failure> {
        match self {
            System::Hand => crate::hand::run(job),
            System::Timely => crate::timely_jobs::run(job),
            System::Weir => crate::weir_jobs::run(job),
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One run, as handed to the child process that does it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What to run.
    pub workload: Workload,
    /// On which system.
    pub system: System,
    /// Subtasks of every operator.
    pub parallelism: usize,
    /// Bids to generate, over all subtasks; for the word count the words in the text.
    pub records: u64,
    /// The text to count: its path and exact size in bytes. Only for the word count.
    pub text: Option<(PathBuf, u64)>,
    /// Set when this process is the second of a two-process run (`hand` and `timely`, which start it themselves).
    pub peer: Option<Vec<String>>,
}

impl Job {
    /// The text of a word count.
    pub fn text(&self) -> Result<(&PathBuf, u64), Failure> {
        let (path, bytes) = self.text.as_ref().ok_or("the word count needs a text")?;
        Ok((path, *bytes))
    }
}

/// What a run found.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// From the first record to the last result, without starting processes.
    pub wall: Duration,
    /// What all sinks saw together.
    pub observed: Observed,
    /// Only for the latency workload.
    pub latency: Option<Percentiles>,
    /// Only for runs with checkpoints.
    pub checkpoints: Option<Checkpoints>,
}

/// What a child process prints: its outcome and the CPU seconds of the run, of its own children too.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ChildReport {
    /// What the run found.
    pub outcome: Outcome,
    /// User and system time.
    pub cpu_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_their_serialised_form() {
        for workload in Workload::ALL {
            assert_eq!(serde_json::to_value(workload).expect("a value"), workload.name());
        }
        for system in System::ALL {
            assert_eq!(serde_json::to_value(system).expect("a value"), system.name());
        }
    }
}
