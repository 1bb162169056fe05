//! A job of which there is something to measure.

use std::time::Duration;

use weir::metrics::{Counter, Gauge};
use weir::prelude::*;

/// The time of the first record.
const BEGIN: i64 = 1_700_000_000_000;
const KEYS: u64 = 16;

#[derive(weir::Args)]
pub struct Measured {
    /// Records; without end if it is not given
    #[arg(long)]
    count: Option<u64>,
}

/// Counts the records of a key, and keeps metrics of what it sees.
#[derive(Clone, Default)]
struct Measure {
    count: ValueState<u64>,
    even: Counter,
    latest: Gauge,
}

impl KeyedProcessFunction<u64, (u64, i64)> for Measure {
    type Out = (u64, i64);

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.count = states.value("count");
    }

    fn open(&mut self, context: &mut KeyedContext<u64, (u64, i64)>) {
        self.even = context.metrics().counter("even");
        self.latest = context.metrics().group("times").labelled("of", "records").gauge("latest");
    }

    fn process(&mut self, (number, time): (u64, i64), context: &mut KeyedContext<u64, (u64, i64)>) {
        *self.count.get_or_insert_with(context, || 0) += 1;
        self.even.add(u64::from(number % 2 == 0));
        self.latest.set(time as f64);
        context.emit((number, time));
    }
}

/// Records a tenth of a second apart, every hundredth of them an hour late; state of 16 keys, metrics of a function's own, and windows
/// that come too late for some.
pub fn measured(env: &Environment, options: Measured) -> weir::Result<()> {
    let source = GeneratorSource::new(|n| (n, BEGIN + 100 * n as i64 - if n % 100 == 99 { 4_000_000 } else { 0 }));
    let source = match options.count {
        Some(count) => source.records(count),
        None => source.rate(2000.0),
    };
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1), |r: &(u64, i64)| r.1);
    let records = env.source(source).name("times").watermarks(strategy);
    let measured = records.key_by(|(number, _)| number % KEYS).process(Measure::default()).name("Measure");
    let windows = measured.key_by(|(number, _)| number % KEYS);
    let windows = windows.window(Tumbling::event_time(Duration::from_secs(1000), |r: &(u64, i64)| r.1));
    let windows = windows.allowed_lateness(Duration::from_secs(1000));
    windows.aggregate(aggregates::Count).name("Windows").discard();
    Ok(())
}
