//! Jobs whose output tells whether each record was counted once.

use std::path::PathBuf;
use std::time::Duration;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Tallies {
    /// Records
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// Records per second
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Keys
    #[arg(long, default_value_t = 97)]
    keys: u64,
    /// Milliseconds that the function which writes tallies takes for each thousandth record
    #[arg(long, default_value_t = 0)]
    drag: u64,
    /// Where the tallies go: a line for each record, with its key and how many of the key there were so far
    #[arg(long)]
    out: PathBuf,
    /// Where the totals go: a line for each key, with how many of it there were
    #[arg(long)]
    totals: PathBuf,
}

/// Numbers each record within its key. A record that was lost, or counted twice, shows in every later line of its key.
#[derive(Clone, Default)]
struct Tally {
    count: ValueState<u64>,
    drag: Drag,
}

/// Holds a task up at each thousandth record, so that records wait in front of it.
#[derive(Clone, Default)]
pub struct Drag {
    pause: Duration,
    records: u32,
}

impl Drag {
    /// By so many milliseconds.
    pub fn new(millis: u64) -> Drag {
        Drag { pause: Duration::from_millis(millis), records: 0 }
    }

    /// Takes note of a record.
    pub fn on_record(&mut self) {
        self.records += 1;
        if self.records.is_multiple_of(1_000) {
            std::thread::sleep(self.pause);
        }
    }
}

impl KeyedProcessFunction<u64, u64> for Tally {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.count = states.value("count");
    }

    fn process(&mut self, _record: u64, context: &mut KeyedContext<u64, String>) {
        self.drag.on_record();
        let count = self.count.get_or_insert_with(context, || 0);
        *count += 1;
        let count = *count;
        let line = format!("{} {count}", context.key());
        context.emit(line);
    }
}

/// Counts records by key in two ways: by a function with state, and by an aggregation that combines before the exchange.
pub fn tallies(env: &Environment, options: Tallies) -> weir::Result<()> {
    let keys = options.keys;
    let numbers = env.source(GeneratorSource::new(|n| n).records(options.count).rate(options.rate)).name("numbers");
    let numbers = numbers.share();
    let tally = Tally { drag: Drag::new(options.drag), ..Tally::default() };
    let tallies = numbers.stream().key_by(move |n| n % keys).process(tally);
    tallies.uid("tallies").write_text(options.out).uid("tallies-out");
    let totals = numbers.stream().key_by(move |n| n % keys).count();
    totals.uid("totals").map(|(key, count)| format!("{key} {count}")).write_text(options.totals).uid("totals-out");
    Ok(())
}

#[derive(weir::Args)]
pub struct Remembers {
    /// Records
    #[arg(long, default_value_t = 600_000)]
    count: u64,
    /// Records per second
    #[arg(long, default_value_t = 200_000.0)]
    rate: f64,
    /// Keys; each has a state of a hundred bytes
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Where the totals go: a line for each key, with how many of it there were
    #[arg(long)]
    out: PathBuf,
}

/// Counts, and pads the count to a hundred digits, so that the size of the state is known.
#[derive(Clone, Default)]
struct Padded {
    digits: ValueState<String>,
}

impl Padded {
    fn count(digits: Option<&String>) -> u64 {
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

impl KeyedProcessFunction<u64, u64> for Padded {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.digits = states.value("digits");
    }

    fn process(&mut self, _record: u64, context: &mut KeyedContext<u64, String>) {
        let count = Padded::count(self.digits.get(context)) + 1;
        self.digits.set(context, format!("{count:0>100}"));
    }

    fn end_of_key(&mut self, context: &mut KeyedContext<u64, String>) {
        let line = format!("{} {}", context.key(), Padded::count(self.digits.get(context)));
        context.emit(line);
    }
}

/// Keeps a hundred bytes for each key and, at the end, says how many records it had.
pub fn remembers(env: &Environment, options: Remembers) -> weir::Result<()> {
    let keys = options.keys;
    let numbers = env.source(GeneratorSource::new(|n| n).records(options.count).rate(options.rate)).name("numbers");
    numbers.key_by(move |n| n % keys).process(Padded::default()).uid("padded").write_text(options.out).uid("out");
    Ok(())
}
