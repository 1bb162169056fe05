//! How much of what a call runs: sizes that keep a full call below fifteen minutes and a quick one below three.

use crate::generate::{Observed, expected};
use crate::job::{Failure, System, Workload};
use crate::latency;
use crate::text::{self, Text};
use hashbrown::HashMap;
use std::time::Duration;

/// The two sizes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Runs of about 4 s, for figures to quote.
    Full,
    /// Runs of about 0.7 s, for a look.
    Quick,
}

impl Size {
    /// Measured runs after the warm-up.
    pub fn repetitions(self) -> usize {
        match self {
            Size::Full => 3,
            Size::Quick => 1,
        }
    }

    /// How long a call may go on repeating. Every row is run at least once whatever the time.
    pub fn budget(self) -> Duration {
        match self {
            Size::Full => Duration::from_secs(14 * 60),
            Size::Quick => Duration::from_secs(150),
        }
    }

    fn seconds(self) -> f64 {
        match self {
            Size::Full => 4.0,
            Size::Quick => 0.7,
        }
    }

    fn text_mebibytes(self) -> u64 {
        match self {
            Size::Full => 512,
            Size::Quick => 64,
        }
    }
}

/// The parallelisms at which `system` runs `workload`. The yardstick is one thread where one thread can do the work.
pub fn parallelisms(workload: Workload, system: System) -> &'static [usize] {
    match (workload, system) {
        (Workload::Shuffle | Workload::Shuffle2, _) => &[2],
        (Workload::Latency, System::Timely) => &[2],
        (Workload::StateCp, System::Hand) => &[],
        (
            Workload::State
            | Workload::StateCp
            | Workload::Window
            | Workload::Tumbling1s
            | Workload::Tumbling1ms
            | Workload::Sliding,
            System::Timely,
        ) => &[],
        (Workload::Latency, System::Weir) => &[1, 2],
        (_, System::Hand) => &[1],
        (_, System::Timely | System::Weir) => &[1, 2],
    }
}

/// How many bids to generate so that a run takes about as long as `size` says.
fn bids(workload: Workload, system: System, size: Size) -> u64 {
    if workload == Workload::Latency {
        let seconds = if size == Size::Full { 6 } else { 3 };
        return seconds * latency::RATE;
    }
    if let Workload::State | Workload::StateCp = workload {
        // Checkpoints are 3 s apart, and there should be some of them.
        return match (system, size) {
            (System::Hand, Size::Full) => 90_000_000,
            (System::Hand, Size::Quick) => 40_000_000,
            (_, Size::Full) => 240_000_000,
            (_, Size::Quick) => 100_000_000,
        };
    }
    let millions = match (workload, system) {
        (Workload::Q0, System::Hand) => 550,
        (Workload::Q0, System::Timely) => 350,
        (Workload::Q0, System::Weir) => 550,
        (Workload::Q2, System::Hand) => 450,
        (Workload::Q2, System::Timely) => 350,
        (Workload::Q2, System::Weir) => 450,
        (Workload::Shuffle, System::Hand) => 150,
        (Workload::Shuffle, System::Timely) => 75,
        (Workload::Shuffle, System::Weir) => 100,
        (Workload::Shuffle2, System::Hand) => 60,
        (Workload::Shuffle2, System::Timely) => 40,
        (Workload::Shuffle2, System::Weir) => 40,
        (Workload::KeyedCount, System::Hand) => 180,
        (Workload::KeyedCount, System::Timely) => 90,
        (Workload::KeyedCount, System::Weir) => 120,
        (Workload::Window, System::Hand) => 120,
        (Workload::Window, _) => 80,
        // The same for all, because they are compared with each other.
        (Workload::Tumbling1s | Workload::Tumbling1ms | Workload::Sliding, _) => 60,
        (Workload::Wordcount | Workload::Latency | Workload::State | Workload::StateCp, _) => 0,
    };
    (f64::from(millions) * 1e6 * size.seconds()) as u64
}

/// The input of one run and what its sinks must see.
#[derive(Clone, Debug)]
pub struct Input {
    /// Bids, or words of the text.
    pub records: u64,
    /// Only for the word count.
    pub text: Option<Text>,
    /// The right result.
    pub expected: Observed,
}

/// Prepares inputs; computes each right result once.
#[derive(Default)]
pub struct Inputs {
    bids: HashMap<(Workload, u64), Observed>,
    texts: HashMap<u64, Text>,
}

impl Inputs {
    /// Returns the input of a run; for a warm-up a smaller one.
    pub fn get(&mut self, workload: Workload, system: System, size: Size) -> Result<Input, Failure> {
        if workload == Workload::Wordcount {
            let mebibytes = size.text_mebibytes();
            let text = match self.texts.get(&mebibytes) {
                Some(text) => text.clone(),
                None => self.texts.entry(mebibytes).insert(text::prepare(mebibytes)?).get().clone(),
            };
            return Ok(Input { records: text.expected.count, expected: text.expected, text: Some(text) });
        }
        let records = bids(workload, system, size);
        let expected = *self.bids.entry((workload, records)).or_insert_with(|| match workload {
            Workload::Q0 => expected::converted(records),
            Workload::Q2 => expected::selected(records),
            Workload::KeyedCount => expected::counted(records),
            Workload::State | Workload::StateCp => expected::accounts(records),
            Workload::Window | Workload::Tumbling1s | Workload::Tumbling1ms | Workload::Sliding => {
                workload.windows().map_or_else(Observed::default, |windows| expected::windowed(records, windows))
            }
            Workload::Shuffle | Workload::Shuffle2 | Workload::Latency | Workload::Wordcount => {
                expected::unchanged(records)
            }
        });
        Ok(Input { records, text: None, expected })
    }
}
