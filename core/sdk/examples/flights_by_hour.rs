//! Departures by airport and hour, in windows of event time, with what is told too late.
//!
//! ```sh
//! cargo run -p weir --example flights_by_hour -- \
//!     --flights core/sdk/examples/data/flights/flights-2013-01.csv.gz --to /tmp/hours --late /tmp/late
//! ```
//!
//! The table has the flights of a day in the order in which they left, and then those that never did, with the time at which they should have.
//! An hour is therefore told once it has passed, once more for each cancellation of the last hours, and what was cancelled
//! earlier than that is too late for its hour and goes to an output of its own.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weir::prelude::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// An hour has passed when a flight has left so much after it.
const GRACE: i64 = 15 * MINUTE;

#[derive(weir::Args)]
struct Options {
    /// CSV of flights: a file, directory or glob; gzip and zstd are recognised
    #[arg(long, value_name = "PATH")]
    flights: PathBuf,
    /// Folder for the hours: hour, airport, flights that left, flights that were cancelled, mean delay in minutes
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// Folder for the flights that came too late: time, airport, carrier and number
    #[arg(long, value_name = "PATH")]
    late: PathBuf,
    /// For how many hours a passed one can still change
    #[arg(long, default_value_t = 6)]
    lateness: u64,
}

/// The columns that matter here. Times are hours times 100 plus minutes, at the airport.
#[derive(Clone, Deserialize, Record)]
struct Flight {
    year: i64,
    month: i64,
    day: i64,
    /// None if it never left.
    dep_time: Option<i64>,
    sched_dep_time: i64,
    /// In minutes, below 0 when early.
    dep_delay: Option<i64>,
    carrier: Text,
    flight: u32,
    origin: Text,
}

impl Flight {
    /// When it left, or should have: milliseconds since 1970, as if the airport's clock showed UTC.
    fn time(&self) -> i64 {
        let clock = self.dep_time.unwrap_or(self.sched_dep_time);
        days_since_1970(self.year, self.month, self.day) * 24 * HOUR + clock / 100 * HOUR + clock % 100 * MINUTE
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that a leap day is its last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
        - 719_469
}

/// A time as text, e.g. `2013-01-31 17:45`.
fn text(time: i64) -> String {
    let days = time.div_euclid(24 * HOUR);
    // The largest year and month that do not begin later.
    let year = (1970 + days / 366..).take_while(|year| days_since_1970(*year, 1, 1) <= days).last().unwrap_or(1970);
    let month = (1..=12).take_while(|month| days_since_1970(year, *month, 1) <= days).last().unwrap_or(1);
    let day = days - days_since_1970(year, month, 1) + 1;
    let (hour, minute) = (time.rem_euclid(24 * HOUR) / HOUR, time.rem_euclid(HOUR) / MINUTE);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

/// Says that an hour has passed at the first flight that shows it. It is sent right behind that flight, so what comes too late is the same in
/// each run; `WatermarkStrategy::bounded_out_of_orderness` would send one now and then.
#[derive(Clone)]
struct HoursPassed(i64);

impl WatermarkGenerator<Flight> for HoursPassed {
    fn on_record(&mut self, flight: &Flight) -> bool {
        let passed = (flight.time() - GRACE).div_euclid(HOUR) * HOUR - 1;
        let later = passed > self.0;
        self.0 = self.0.max(passed);
        later
    }

    fn watermark(&self) -> i64 {
        self.0
    }
}

/// The flights of an airport in an hour.
#[derive(Clone, Default, Record)]
struct Departures {
    left: u64,
    cancelled: u64,
    delay: i64,
}

/// Folds flights into [`Departures`].
#[derive(Clone)]
struct Count;

impl Aggregator<Flight> for Count {
    type Accumulator = Departures;
    type Out = Departures;

    fn first(&mut self, flight: Flight) -> Departures {
        let mut departures = Departures::default();
        self.add(&mut departures, flight);
        departures
    }

    fn add(&mut self, departures: &mut Departures, flight: Flight) {
        match flight.dep_time {
            Some(_) => departures.left += 1,
            None => departures.cancelled += 1,
        }
        departures.delay += flight.dep_delay.unwrap_or(0);
    }

    fn combine(&mut self, departures: &mut Departures, other: Departures) {
        departures.left += other.left;
        departures.cancelled += other.cancelled;
        departures.delay += other.delay;
    }

    fn result(&mut self, departures: &Departures) -> Departures {
        departures.clone()
    }
}

fn flights_by_hour(env: &Environment, options: Options) -> weir::Result<()> {
    let flights = CsvSource::<Flight>::new(options.flights.to_string_lossy()).null_values(["NA"]);
    // One task reads, because the order of the table is what tells how far time has come.
    let flights = env.source(flights).name("Flights").parallelism(1);
    let flights = flights.watermarks(WatermarkStrategy::custom(HoursPassed(i64::MIN)));

    let too_late = OutputTag::<Flight>::new("too late");
    let (hours, late) = flights
        .key_by(|flight| flight.origin.clone())
        .window(Tumbling::event_time(Duration::from_secs(3600), Flight::time))
        .allowed_lateness(Duration::from_secs(3600 * options.lateness))
        .late_output(&too_late)
        .aggregate(Count)
        .name("Hours")
        .side_output(&too_late);

    let line = |WindowResult { key, window, value }: WindowResult<Text, Departures>| {
        let Departures { left, cancelled, delay } = value;
        let mean = delay as f64 / left.max(1) as f64;
        format!("{},{key},{left},{cancelled},{mean:.2}", text(window.start))
    };
    hours.map(line).write_text(options.to);
    let line =
        |flight: Flight| format!("{},{},{} {}", text(flight.time()), flight.origin, flight.carrier, flight.flight);
    late.map(line).write_text(options.late);
    Ok(())
}

weir::main!(flights_by_hour);
