//! Departure and arrival delays of flights, by carrier and by hour of the day.
//!
//! ```sh
//! cargo run -p weir --example flights -- \
//!     --flights core/sdk/examples/data/flights/flights-2013-01.csv.gz \
//!     --airlines core/sdk/examples/data/flights/airlines.csv
//! ```
//!
//! The flights are read once and aggregated twice. What is known of a carrier meets the carrier's name in an operator with
//! two inputs; the table of names is broadcast, so that each of its subtasks has all of them.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Deserialize;
use weir::prelude::*;

/// A flight is late if it left more than this many minutes after its time.
const LATE: f64 = 15.0;

#[derive(weir::Args)]
struct Options {
    /// CSV of flights: a file, directory or glob; gzip and zstd are recognised
    #[arg(long, value_name = "PATH")]
    flights: PathBuf,
    /// CSV of the carriers' names, with the columns `carrier` and `name`
    #[arg(long, value_name = "PATH")]
    airlines: PathBuf,
}

/// The columns of a flight that matter here. Delays are in minutes, below 0 when early.
#[derive(Clone, Deserialize, Record)]
struct Flight {
    carrier: Text,
    /// Of the scheduled departure.
    hour: u32,
    /// None if the flight never left.
    dep_delay: Option<f64>,
    /// None if it did not arrive, or not where it was to.
    arr_delay: Option<f64>,
}

#[derive(Clone, Deserialize, Record)]
struct Airline {
    carrier: Text,
    name: Text,
}

/// Delays of a group of flights.
#[derive(Clone, Record)]
struct Delays {
    flights: u64,
    departed: u64,
    departure_minutes: f64,
    arrived: u64,
    arrival_minutes: f64,
    late: u64,
    worst: f64,
}

impl Delays {
    const NONE: Delays = Delays {
        flights: 0,
        departed: 0,
        departure_minutes: 0.0,
        arrived: 0,
        arrival_minutes: 0.0,
        late: 0,
        worst: f64::NEG_INFINITY,
    };
}

/// Folds flights into [`Delays`].
#[derive(Clone)]
struct SumDelays;

impl Aggregator<Flight> for SumDelays {
    type Accumulator = Delays;
    type Out = Delays;

    fn first(&mut self, flight: Flight) -> Delays {
        let mut delays = Delays::NONE;
        self.add(&mut delays, flight);
        delays
    }

    fn add(&mut self, delays: &mut Delays, flight: Flight) {
        delays.flights += 1;
        if let Some(minutes) = flight.dep_delay {
            delays.departed += 1;
            delays.departure_minutes += minutes;
            delays.late += u64::from(minutes > LATE);
            delays.worst = delays.worst.max(minutes);
        }
        if let Some(minutes) = flight.arr_delay {
            delays.arrived += 1;
            delays.arrival_minutes += minutes;
        }
    }

    fn combine(&mut self, delays: &mut Delays, other: Delays) {
        delays.flights += other.flights;
        delays.departed += other.departed;
        delays.departure_minutes += other.departure_minutes;
        delays.arrived += other.arrived;
        delays.arrival_minutes += other.arrival_minutes;
        delays.late += other.late;
        delays.worst = delays.worst.max(other.worst);
    }

    fn result(&mut self, delays: &Delays) -> Delays {
        delays.clone()
    }
}

/// What a row of a table is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Record)]
enum Group {
    Carrier { code: Text, name: Text },
    Hour(u32),
}

type Row = (Group, Delays);

/// Adds names to carriers. Carriers that come before the table of names is complete are held back until it is.
#[derive(Clone, Default)]
struct NameCarriers {
    names: HashMap<Text, Text>,
    complete: bool,
    waiting: Vec<(Text, Delays)>,
}

impl NameCarriers {
    fn name(&self, (code, delays): (Text, Delays)) -> Row {
        let name = self.names.get(&code).cloned().unwrap_or_else(|| Text::from("(unknown)"));
        (Group::Carrier { code, name }, delays)
    }
}

impl CoProcessFunction<(Text, Delays), Airline> for NameCarriers {
    type Out = Row;

    fn first(&mut self, carrier: (Text, Delays), context: &mut ProcessContext<Row>) {
        if self.complete {
            context.emit(self.name(carrier));
        } else {
            self.waiting.push(carrier);
        }
    }

    fn second(&mut self, airline: Airline, _context: &mut ProcessContext<Row>) {
        self.names.insert(airline.carrier, airline.name);
    }

    fn second_ended(&mut self, context: &mut ProcessContext<Row>) {
        self.complete = true;
        for carrier in std::mem::take(&mut self.waiting) {
            context.emit(self.name(carrier));
        }
    }
}

/// Collects all rows and lays them out as two tables at the end.
#[derive(Clone, Default)]
struct Tables {
    carriers: Vec<Row>,
    hours: Vec<Row>,
}

impl ProcessFunction<Row> for Tables {
    type Out = String;

    fn process(&mut self, row: Row, _context: &mut ProcessContext<String>) {
        match row.0 {
            Group::Carrier { .. } => self.carriers.push(row),
            Group::Hour(_) => self.hours.push(row),
        }
    }

    fn end(&mut self, context: &mut ProcessContext<String>) {
        self.carriers.sort_by(|(a, x), (b, y)| y.flights.cmp(&x.flights).then_with(|| a.cmp(b)));
        self.hours.sort_by(|(a, _), (b, _)| a.cmp(b));
        table(context, "Carrier", &self.carriers);
        context.emit(String::new());
        table(context, "Hour", &self.hours);
    }
}

fn table(context: &mut ProcessContext<String>, first_column: &str, rows: &[Row]) {
    let labels: Vec<String> = rows
        .iter()
        .map(|(group, _)| match group {
            Group::Carrier { code, name } => format!("{code}  {name}"),
            Group::Hour(hour) => format!("{hour:>4}"),
        })
        .collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(first_column.len());
    context.emit(format!(
        "{first_column:<width$}  {:>8}  {:>8}  {:>13}  {:>13}  {:>13}  {:>9}",
        "flights", "departed", "mean dep. min", "mean arr. min", "late > 15 min", "worst min"
    ));
    for (label, (_, delays)) in labels.iter().zip(rows) {
        context.emit(format!(
            "{label:<width$}  {:>8}  {:>8}  {:>13}  {:>13}  {:>13}  {:>9}",
            delays.flights,
            delays.departed,
            ratio(delays.departure_minutes, delays.departed, 2, ""),
            ratio(delays.arrival_minutes, delays.arrived, 2, ""),
            ratio(100.0 * delays.late as f64, delays.departed, 1, " %"),
            ratio(delays.worst, delays.departed.min(1), 0, ""),
        ));
    }
}

/// `sum / count`, or a dash where there was nothing to count.
fn ratio(sum: f64, count: u64, digits: usize, unit: &str) -> String {
    if count == 0 { "-".to_owned() } else { format!("{:.digits$}{unit}", sum / count as f64) }
}

fn flights(env: &Environment, options: Options) -> weir::Result<()> {
    let flights = CsvSource::<Flight>::new(options.flights.to_string_lossy()).null_values(["NA"]);

    let flights = env.source(flights).name("Flights").share();
    let airlines = env.read_csv::<Airline>(&options.airlines).name("Airlines").broadcast();

    let by_carrier = flights
        .stream()
        .key_by(|flight| flight.carrier.clone())
        .aggregate(SumDelays)
        .name("Delays by carrier")
        .connect(airlines)
        .process(NameCarriers::default())
        .name("Name carriers");
    let by_hour = flights
        .stream()
        .key_by(|flight| flight.hour)
        .aggregate(SumDelays)
        .name("Delays by hour")
        .map(|(hour, delays)| (Group::Hour(hour), delays));

    by_carrier.union(by_hour).global().process(Tables::default()).name("Tables").parallelism(1).print();
    Ok(())
}

weir::main!(flights);
