//! Jobs with state that are stopped and started again: at another parallelism, and as another version of themselves.

use std::path::PathBuf;
use std::time::Duration;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Lines {
    /// A folder with text files
    #[arg(long)]
    input: PathBuf,
    /// Bytes of a piece of a file that one task reads
    #[arg(long, default_value_t = 1 << 20)]
    split: u64,
    /// Microseconds that each line takes
    #[arg(long, default_value_t = 0)]
    micros: u64,
    /// Where the lines go, each with how many of its first word there were so far
    #[arg(long)]
    out: PathBuf,
}

/// Numbers the lines of files within their first word.
pub fn lines(env: &Environment, options: Lines) -> weir::Result<()> {
    let pause = Duration::from_micros(options.micros);
    let source = TextSource::new(options.input.display().to_string()).split_size(options.split);
    let lines = env.source(source).name("files").uid("files").map(move |line: Text| {
        std::thread::sleep(pause);
        line.split(' ').next().unwrap_or_default()
    });
    lines.key_by(|word| word.clone()).process(Number::default()).uid("numbers").write_text(options.out).uid("out");
    Ok(())
}

#[derive(Clone, Default)]
struct Number {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<Text, Text> for Number {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.count = states.value("count");
    }

    fn process(&mut self, word: Text, context: &mut KeyedContext<Text, String>) {
        let count = self.count.get_or_insert_with(context, || 0);
        *count += 1;
        let line = format!("{word} {count}");
        context.emit(line);
    }
}

#[derive(weir::Args)]
pub struct Windowed {
    /// Records; each is a millisecond after the one before
    #[arg(long, default_value_t = 6_000)]
    count: u64,
    /// Records per second
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// Subtasks of the source
    #[arg(long, default_value_t = 1)]
    readers: u32,
    /// Where the windows go, a line for each: key, start, records
    #[arg(long)]
    out: PathBuf,
}

/// Counts records by key in windows of a second of event time.
pub fn window_counts(env: &Environment, options: Windowed) -> weir::Result<()> {
    let numbers = env.source(GeneratorSource::new(|n| n as i64).records(options.count).rate(options.rate));
    let numbers = numbers
        .name("numbers")
        .uid("numbers")
        .parallelism(options.readers)
        .watermarks(WatermarkStrategy::monotonic(|n: &i64| *n));
    numbers
        .key_by(|n| n % 7)
        .window(Tumbling::event_time(Duration::from_secs(1), |n: &i64| *n))
        .aggregate(aggregates::Count)
        .uid("windows")
        .map(|result| format!("{} {} {}", result.key, result.window.start, result.value))
        .write_text(options.out)
        .uid("out");
    Ok(())
}

#[derive(weir::Args)]
pub struct Versions {
    /// What has changed since the first version: `nothing`, `added`, `removed`, `widened`, `renamed`, `narrowed`, `retyped`, `kind`, `key`
    /// or `uid`
    #[arg(long, default_value = "nothing")]
    change: String,
    /// Records
    #[arg(long, default_value_t = 4_000)]
    count: u64,
    /// Records per second
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// Where the output goes: a line for each record, with its key and what is known of the key
    #[arg(long)]
    out: PathBuf,
}

/// One job in several versions, told apart by the type of its state.
pub fn versions(env: &Environment, options: Versions) -> weir::Result<()> {
    let numbers = env.source(GeneratorSource::new(|n| n).records(options.count).rate(options.rate));
    let numbers = numbers.name("numbers").uid("numbers");
    let (change, out) = (options.change, options.out);
    let uid = if change == "uid" { "visitors" } else { "visits" };
    macro_rules! with {
        ($function:expr) => {
            numbers.key_by(|n| n % 5).process($function).name("Visits").uid(uid).write_text(out).uid("out")
        };
    }
    match change.as_str() {
        "nothing" | "uid" => drop(with!(Visits::<Visit>::default())),
        "added" => drop(with!(Visits::<Added>::default())),
        "removed" => drop(with!(Visits::<Removed>::default())),
        "widened" => drop(with!(Visits::<Widened>::default())),
        "renamed" => drop(with!(Visits::<Renamed>::default())),
        "narrowed" => drop(with!(Visits::<Narrowed>::default())),
        "retyped" => drop(with!(Visits::<Retyped>::default())),
        "kind" => drop(with!(AllVisits::default())),
        "key" => {
            let texts = numbers.key_by(|n| (n % 5).to_string());
            drop(texts.process(Visits::<Visit>::default()).name("Visits").uid(uid).write_text(out).uid("out"));
        }
        other => return Err(weir::Error::job(format!("there is no version with the change {other}"))),
    }
    Ok(())
}

/// What a version knows of a key.
trait Known: Record + Clone + Default {
    fn see(&mut self, n: u64);
    /// In words; the number of records first.
    fn say(&self) -> String;
}

#[derive(Clone)]
struct Visits<V> {
    visit: ValueState<V>,
}

impl<V> Default for Visits<V> {
    fn default() -> Self {
        Visits { visit: ValueState::default() }
    }
}

impl<K: Record + Clone + Eq + std::hash::Hash + std::fmt::Display, V: Known> KeyedProcessFunction<K, u64>
    for Visits<V>
{
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.visit = states.value("visit");
    }

    fn process(&mut self, n: u64, context: &mut KeyedContext<K, String>) {
        let visit = self.visit.get_or_insert_with(context, V::default);
        visit.see(n);
        let said = visit.say();
        let line = format!("{} {said}", context.key());
        context.emit(line);
    }
}

/// State of another kind under the same name.
#[derive(Clone, Default)]
struct AllVisits {
    visit: ListState<u64>,
}

impl KeyedProcessFunction<u64, u64> for AllVisits {
    type Out = String;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.visit = states.list("visit");
    }

    fn process(&mut self, n: u64, context: &mut KeyedContext<u64, String>) {
        self.visit.push(context, n);
    }
}

/// Each version's type of state, how it takes a record into account, and what it says.
macro_rules! known {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* } $self:ident $n:ident $see:block $($say:tt)*) => {
        #[derive(Clone, Default, Record)]
        struct $name { $($(#[$meta])* $field: $type,)* }
        impl Known for $name {
            fn see(&mut $self, $n: u64) $see
            fn say(&$self) -> String { format!($($say)*) }
        }
    };
}

known! {
    Visit { count: u32, last: u64, even: bool, }
    self n { self.count += 1; self.last = n; self.even = n.is_multiple_of(2); }
    "{} last {}", self.count, self.last
}
known! {
    Added { count: u32, #[record(default = 7)] bonus: u8, last: u64, even: bool, }
    self n { self.count += 1; self.last = n; self.even = n.is_multiple_of(2); }
    "{} bonus {}", self.count, self.bonus
}
known! {
    Removed { count: u32, last: u64, }
    self n { self.count += 1; self.last = n; }
    "{} last {}", self.count, self.last
}
known! {
    Widened { count: u64, last: u64, even: bool, }
    self n { self.count += 1; self.last = n; self.even = n.is_multiple_of(2); }
    "{} last {}", self.count, self.last
}
known! {
    Renamed { #[record(former_name = "count")] visits: u32, last: u64, even: bool, }
    self n { self.visits += 1; self.last = n; self.even = n.is_multiple_of(2); }
    "{} last {}", self.visits, self.last
}
known! {
    Narrowed { count: u16, last: u64, even: bool, }
    self n { self.count += 1; self.last = n; self.even = n.is_multiple_of(2); }
    "{} last {}", self.count, self.last
}
known! {
    Retyped { count: u32, last: String, even: bool, }
    self n { self.count += 1; self.last = n.to_string(); self.even = n.is_multiple_of(2); }
    "{} last {}", self.count, self.last
}
