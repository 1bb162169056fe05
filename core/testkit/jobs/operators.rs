//! One small dataflow for each operator; the tests compute the same in a straight line.

use std::path::PathBuf;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Options {
    /// Which operator
    #[arg(long)]
    case: String,
    /// Where the result goes
    #[arg(long)]
    out: PathBuf,
    /// How many numbers go in
    #[arg(long, default_value_t = 5000)]
    count: u64,
}

/// The value that record `n` carries.
fn value(n: u64) -> u64 {
    n.wrapping_mul(2_654_435_761) % 1000
}

pub fn operators(env: &Environment, options: Options) -> weir::Result<()> {
    let numbers = env.generate(options.count, |n| n);
    let out = &options.out;
    match options.case.as_str() {
        "map" => drop(numbers.map(|n| n * 2).write_text(out)),
        "filter" => drop(numbers.filter(|n| n % 3 == 0).write_text(out)),
        "flat_map" => drop(numbers.flat_map(|n| (0..n % 4).map(move |i| format!("{n}.{i}"))).write_text(out)),
        "inspect" => drop(numbers.inspect(|n| assert!(*n < u64::MAX)).write_text(out)),
        "reduce" => drop(
            numbers
                .map(|n| (n % 7, value(n)))
                .key_by(|(key, _)| *key)
                .reduce(|a, b| (a.0, a.1.max(b.1)))
                .map(|(key, most)| format!("{key} {most}"))
                .write_text(out),
        ),
        "aggregate" => drop(
            numbers
                .key_by(|n| n % 7)
                .aggregate(Extremes)
                .map(|(key, (least, most))| format!("{key} {least} {most}"))
                .write_text(out),
        ),
        "count" => drop(numbers.key_by(|n| n % 7).count().map(|(k, v)| format!("{k} {v}")).write_text(out)),
        "sum" => drop(numbers.key_by(|n| n % 7).sum(|n| value(*n)).map(|(k, v)| format!("{k} {v}")).write_text(out)),
        "max" => drop(numbers.key_by(|n| n % 7).max(|n| value(*n)).map(|(k, v)| format!("{k} {v}")).write_text(out)),
        "min" => drop(numbers.key_by(|n| n % 7).min(|n| value(*n)).map(|(k, v)| format!("{k} {v}")).write_text(out)),
        "mean" => drop(
            numbers
                .key_by(|n| n % 7)
                .aggregate(aggregates::Mean(|n: &u64| value(*n) as f64))
                .map(|(key, (mean, count))| format!("{key} {mean:.6} {count}"))
                .write_text(out),
        ),
        "process" => drop(numbers.process(Held::default()).write_text(out)),
        "keyed" => drop(numbers.key_by(|n| format!("key {}", n % 7)).process(Remembers::default()).write_text(out)),
        "side" => {
            let odd = OutputTag::<u64>::new("odd");
            let to = odd.clone();
            let split =
                numbers.process_with(
                    move |n: u64, context: &mut ProcessContext<u64>| {
                        if n.is_multiple_of(2) { context.emit(n) } else { context.emit_to(&to, n) }
                    },
                );
            let (even, odd) = split.side_output(&odd);
            let even = even.map(|n| format!("even {n}"));
            even.union(odd.map(|n| format!("odd {n}"))).write_text(out);
        }
        "union" => {
            let more = env.from_collection((0..100_u64).map(|n| n + 1_000_000));
            numbers.union(more).write_text(out);
        }
        "union_self" => {
            let shared = numbers.share();
            shared.stream().union(shared.stream()).write_text(out);
        }
        "share" => {
            let shared = numbers.map(|n| n + 1).share();
            let thrice = shared.stream().map(|n| format!("a {n}"));
            let keyed = shared.stream().key_by(|n| n % 3).count().map(|(k, v)| format!("b {k} {v}"));
            let everywhere = shared.stream().rebalance().map(|n| format!("c {n}"));
            thrice.union(keyed).union(everywhere).write_text(out);
        }
        "connect_map" => {
            let words = env.from_collection(["a", "b", "c"].map(str::to_owned));
            numbers.connect(words).map(|n| format!("number {n}"), |w| format!("word {w}")).write_text(out);
        }
        "connect_flat_map" => {
            let words = env.from_collection(["a", "b", "c"].map(str::to_owned));
            numbers
                .connect(words)
                .flat_map(|n| (n % 2 == 0).then(|| n.to_string()), |w| [w.clone(), w])
                .write_text(out);
        }
        "timers" => drop(numbers.key_by(|n| n % 7).process(Rings::default()).write_text(out)),
        "keyed_connect" => {
            let names = env.from_collection((0..7_u64).map(|key| (key, format!("name {key}"))));
            let keyed = numbers.key_by(|n| n % 7).connect(names.key_by(|(key, _)| *key));
            keyed.process(KeyedJoin::default()).write_text(out);
        }
        "broadcast" => {
            let names = env.from_collection((0..7_u64).map(|key| (key, format!("name {key}"))));
            numbers.connect_broadcast(names).process(Renames::default()).write_text(out);
        }
        "keyed_broadcast" => {
            let names = env.from_collection((0..7_u64).map(|key| (key, format!("name {key}"))));
            numbers.key_by(|n| n % 7).connect_broadcast(names).process(Renames::default()).write_text(out);
        }
        "connect_process" => {
            let names = env.from_collection((0..7_u64).map(|n| (n, format!("name {n}"))));
            numbers.connect(names.broadcast()).process(Join::default()).write_text(out);
        }
        other => return Err(weir::Error::job(format!("there is no case {other}"))),
    }
    Ok(())
}

/// The smallest and the largest value.
#[derive(Clone)]
struct Extremes;

impl Aggregator<u64> for Extremes {
    type Accumulator = (u64, u64);
    type Out = (u64, u64);

    fn first(&mut self, record: u64) -> (u64, u64) {
        (value(record), value(record))
    }
    fn add(&mut self, accumulator: &mut (u64, u64), record: u64) {
        self.combine(accumulator, (value(record), value(record)));
    }
    fn combine(&mut self, accumulator: &mut (u64, u64), other: (u64, u64)) {
        *accumulator = (accumulator.0.min(other.0), accumulator.1.max(other.1));
    }
    fn result(&mut self, accumulator: &(u64, u64)) -> (u64, u64) {
        *accumulator
    }
}

/// Emits at the end what it was given.
#[derive(Clone, Default)]
struct Held {
    opened: bool,
    held: Vec<u64>,
}

impl ProcessFunction<u64> for Held {
    type Out = u64;

    fn open(&mut self, _context: &mut ProcessContext<u64>) {
        assert!(self.held.is_empty(), "every subtask has its own copy");
        self.opened = true;
    }
    fn process(&mut self, record: u64, _context: &mut ProcessContext<u64>) {
        assert!(self.opened);
        self.held.push(record);
    }
    fn end(&mut self, context: &mut ProcessContext<u64>) {
        self.held.drain(..).for_each(|record| context.emit(record));
    }
}

/// Keeps the number, the first three and the last digits of a key's records in the three kinds of state.
#[derive(Clone, Default)]
struct Remembers {
    count: ValueState<u64>,
    tens: ListState<u64>,
    digits: MapState<u64, u64>,
}

impl KeyedProcessFunction<String, u64> for Remembers {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.count = states.value("count");
        self.tens = states.list("tens");
        self.digits = states.map("digits");
    }
    fn process(&mut self, record: u64, context: &mut KeyedContext<String, String>) {
        let Remembers { count, tens, digits } = self;
        *count.get_or_insert_with(context, || 0) += 1;
        if record.is_multiple_of(10) && record < 100 {
            tens.push(context, record);
        }
        *digits.get_or_insert_with(context, record % 10, || 0) += 1;
    }
    fn end_of_key(&mut self, context: &mut KeyedContext<String, String>) {
        let Remembers { count, tens, digits } = self;
        let mut tens = tens.get(context).to_vec();
        tens.sort_unstable();
        let mut digits: Vec<(u64, u64)> = digits.entries(context).map(|(k, v)| (*k, *v)).collect();
        digits.sort_unstable();
        let line = format!("{}: {} {tens:?} {digits:?}", context.key(), count.get(context).unwrap_or(&0));
        context.emit(line);
    }
}

/// Keeps numbers until all names are there, then names them.
#[derive(Clone, Default)]
struct Join {
    names: std::collections::BTreeMap<u64, String>,
    waiting: Vec<u64>,
    complete: bool,
    numbers_ended: bool,
}

impl CoProcessFunction<u64, (u64, String)> for Join {
    type Out = String;

    fn first(&mut self, record: u64, context: &mut ProcessContext<String>) {
        assert!(!self.numbers_ended, "a record came behind the end of its input");
        if self.complete {
            context.emit(format!("{record} {}", self.names[&(record % 7)]));
        } else {
            self.waiting.push(record);
        }
    }
    fn second(&mut self, (key, name): (u64, String), _context: &mut ProcessContext<String>) {
        assert!(!self.complete, "a record came behind the end of its input");
        self.names.insert(key, name);
    }
    fn first_ended(&mut self, _context: &mut ProcessContext<String>) {
        self.numbers_ended = true;
    }
    fn second_ended(&mut self, context: &mut ProcessContext<String>) {
        self.complete = true;
        for record in std::mem::take(&mut self.waiting) {
            self.first_named(record, context);
        }
    }
}

impl Join {
    fn first_named(&self, record: u64, context: &mut ProcessContext<String>) {
        context.emit(format!("{record} {}", self.names[&(record % 7)]));
    }
}

/// Rings a key at the hundreds of the numbers it saw, and then once more.
#[derive(Clone, Default)]
struct Rings {
    rung: ReducingState<u64>,
}

impl KeyedProcessFunction<u64, u64> for Rings {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.rung = states.reducing("rung", |a, b| a + b);
    }
    fn process(&mut self, record: u64, context: &mut KeyedContext<u64, String>) {
        // Many numbers make the same timer; it rings once.
        context.timers().register_event_time((record / 100 * 100) as i64);
        context.timers().register_event_time(-1);
        context.timers().delete_event_time(-1);
    }
    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<u64, String>) {
        assert_eq!(timer.domain, TimeDomain::Event);
        assert!(context.watermark() >= timer.time);
        if timer.time % 100 == 0 {
            context.timers().register_event_time(timer.time + 1);
        }
        self.rung.add(context, 1);
        let line = format!("{} rings at {}", context.key(), timer.time);
        context.emit(line);
    }
    fn end_of_key(&mut self, context: &mut KeyedContext<u64, String>) {
        let line = format!("{} rang {} times", context.key(), self.rung.get(context).unwrap_or(&0));
        context.emit(line);
    }
}

/// Names the numbers of a key, once its name is there.
#[derive(Clone, Default)]
struct KeyedJoin {
    name: ValueState<String>,
    waiting: ListState<u64>,
}

impl KeyedCoProcessFunction<u64, u64, (u64, String)> for KeyedJoin {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.name = states.value("name");
        self.waiting = states.list("waiting");
    }
    fn first(&mut self, record: u64, context: &mut KeyedContext<u64, String>) {
        match self.name.get(context) {
            Some(name) => {
                let line = format!("{record} {name}");
                context.emit(line);
            }
            None => self.waiting.push(context, record),
        }
    }
    fn second(&mut self, (_, name): (u64, String), context: &mut KeyedContext<u64, String>) {
        for record in self.waiting.take(context) {
            context.emit(format!("{record} {name}"));
        }
        self.name.set(context, name);
    }
}

/// Names numbers at the end, by when all names have been broadcast.
#[derive(Clone, Default)]
struct Renames {
    names: BroadcastState<u64, String>,
    kept: ListState<u64>,
    held: Vec<u64>,
}

impl Renames {
    fn named(&self, record: u64, states: &BroadcastStates) -> String {
        format!("{record} {}", self.names.get(states, &(record % 7)).expect("every name is broadcast"))
    }
}

impl BroadcastProcessFunction<u64, (u64, String)> for Renames {
    type Out = String;

    fn declare_broadcast(&mut self, states: &mut BroadcastDeclarer<'_>) {
        self.names = states.map("names");
    }
    fn process(&mut self, record: u64, _states: &BroadcastStates, _context: &mut ProcessContext<String>) {
        self.held.push(record);
    }
    fn broadcast(
        &mut self,
        (key, name): (u64, String),
        states: &mut BroadcastStates,
        _context: &mut ProcessContext<String>,
    ) {
        assert_eq!(self.names.insert(states, key, name), None);
    }
    fn end(&mut self, states: &BroadcastStates, context: &mut ProcessContext<String>) {
        assert_eq!(self.names.len(states), 7);
        for record in std::mem::take(&mut self.held) {
            context.emit(self.named(record, states));
        }
    }
}

impl KeyedBroadcastProcessFunction<u64, u64, (u64, String)> for Renames {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.kept = states.list("kept");
    }
    fn declare_broadcast(&mut self, states: &mut BroadcastDeclarer<'_>) {
        self.names = states.map("names");
    }
    fn process(&mut self, record: u64, _states: &BroadcastStates, context: &mut KeyedContext<u64, String>) {
        self.kept.push(context, record);
    }
    fn broadcast(
        &mut self,
        (key, name): (u64, String),
        states: &mut BroadcastStates,
        _context: &mut ProcessContext<String>,
    ) {
        self.names.insert(states, key, name);
    }
    fn end_of_key(&mut self, states: &BroadcastStates, context: &mut KeyedContext<u64, String>) {
        for record in self.kept.take(context) {
            context.emit(self.named(record, states));
        }
    }
}
