//! Windows and timers whose results do not depend on what happens to the job.

use std::path::PathBuf;
use std::time::Duration;

use weir::prelude::*;
use weir::stream::aggregates::{Count, Sum};

use crate::exactly_once::Drag;

#[derive(weir::Args)]
pub struct Windowed {
    /// Records
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// Records per second
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Milliseconds that counting by timers takes for each thousandth record
    #[arg(long, default_value_t = 0)]
    drag: u64,
    /// Folder for what comes out, a folder for each operator
    #[arg(long)]
    out: PathBuf,
}

/// A record: key, time and value.
type Event = (u64, i64, u64);

/// How far behind others a record may be, in milliseconds.
const DISORDER: u64 = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Record number `n` of a stream in which each key comes for a while and then pauses. Times are a millisecond apart, out of order, and
/// begin before the epoch.
fn event(n: u64) -> Event {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let key = (n / 300 * 7 + mixed % 3) % 41;
    (key, n as i64 - 5_000 - (mixed / 3 % DISORDER) as i64, n % 1_000)
}

/// Record number `n` of a stream in which some come late: one in fifty for a window that has fired, one in seventy-seven for one that is
/// no longer kept.
fn late_event(n: u64) -> Event {
    let behind = if n % 77 == 5 {
        6_000
    } else if n % 50 == 7 {
        900
    } else {
        0
    };
    (n % 5, n as i64 - behind, n)
}

fn time(event: &Event) -> i64 {
    event.1
}

/// A watermark behind each hundredth record, so that it does not depend on anything else which records are late.
#[derive(Clone)]
struct Hundredths(i64);

impl WatermarkGenerator<Event> for Hundredths {
    fn on_record(&mut self, &(_, _, n): &Event) -> bool {
        let due = n % 100 == 99;
        if due {
            self.0 = n as i64 - 100;
        }
        due
    }

    fn watermark(&self) -> i64 {
        self.0
    }
}

/// Counts the records of each second with a map and a timer for each of them.
#[derive(Clone, Default)]
struct Seconds {
    counts: MapState<i64, u64>,
    drag: Drag,
}

impl KeyedProcessFunction<u64, Event> for Seconds {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.counts = states.map("counts");
    }

    fn process(&mut self, (_, time, _): Event, context: &mut KeyedContext<u64, String>) {
        self.drag.on_record();
        let last = time.div_euclid(1_000) * 1_000 + 999;
        let count = self.counts.get(context, &last).copied().unwrap_or(0);
        self.counts.insert(context, last, count + 1);
        context.timers().register_event_time(last);
    }

    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<u64, String>) {
        let count = self.counts.remove(context, &timer.time).unwrap_or(0);
        let line = format!("{} {} {count}", context.key(), timer.time - 999);
        context.emit(line);
    }
}

fn line<R: std::fmt::Display>(result: WindowResult<u64, R>) -> String {
    format!("{} {} {}", result.key, result.window.start, result.value)
}

/// The same records in windows of all kinds, and others of which some come late.
pub fn windowed(env: &Environment, options: Windowed) -> weir::Result<()> {
    let out = |name: &str| options.out.join(name);
    let disorder = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(DISORDER), time);
    let events = env.source(GeneratorSource::new(event).records(options.count).rate(options.rate)).name("events");
    let events = events.watermarks_per_split(disorder).share();
    let by_key = || events.stream().key_by(|event| event.0);

    let tumbling = by_key().window(Tumbling::event_time(SECOND, time)).aggregate(Count).uid("tumbling");
    tumbling.map(line).write_text(out("tumbling")).uid("tumbling-out");
    let sliding = Sliding::event_time(2 * SECOND, SECOND / 4, time);
    let sliding = by_key().window(sliding).aggregate(Sum::new(|event: &Event| event.2)).uid("sliding");
    sliding.map(line).write_text(out("sliding")).uid("sliding-out");
    let sessions = by_key().window(Session::event_time(SECOND + SECOND / 2, time));
    let sessions = sessions.process_with(|key, events: &[Event], context: &mut WindowContext<String>| {
        let sum: u64 = events.iter().map(|event| event.2).sum();
        let TimeWindow { start, end } = context.window();
        context.emit(format!("{key} {start} {end} {} {sum}", events.len()));
    });
    sessions.uid("sessions").write_text(out("sessions")).uid("sessions-out");
    let seconds = Seconds { drag: Drag::new(options.drag), ..Seconds::default() };
    by_key().process(seconds).uid("seconds").write_text(out("seconds")).uid("seconds-out");

    let disorderly = env.source(GeneratorSource::new(late_event).records(options.count).rate(options.rate));
    // Of one task, so that it is certain what comes before what.
    let disorderly = disorderly.name("disorderly").parallelism(1);
    let late = OutputTag::<Event>::new("late");
    let windows = disorderly
        .watermarks(WatermarkStrategy::custom(Hundredths(i64::MIN)))
        .key_by(|event| event.0)
        .window(Tumbling::event_time(SECOND, time))
        .allowed_lateness(SECOND)
        .late_output(&late)
        .aggregate(Count)
        .uid("again");
    let (again, late) = windows.side_output(&late);
    again.map(line).write_text(out("again")).uid("again-out");
    late.map(|(key, time, n)| format!("{key} {time} {n}")).write_text(out("late")).uid("late-out");
    Ok(())
}
