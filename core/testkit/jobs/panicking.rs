//! A job whose author's code panics, in a place of choice.

use std::fmt;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Options {
    /// Where
    #[arg(long = "in")]
    place: String,
}

pub fn panics(env: &Environment, options: Options) -> weir::Result<()> {
    // Something else runs as well, and has to be stopped.
    env.source(GeneratorSource::new(|n| n).rate(100.0)).name("bystander").discard();
    let place = options.place.as_str();
    let numbers = if place == "source" { source } else { |n| n };
    let numbers = env.generate(1000, numbers);
    match place {
        "source" => drop(numbers.discard()),
        "map" => drop(numbers.map(fussy).name("fussy map").discard()),
        "behind_exchange" => drop(numbers.rebalance().map(fussy).name("fussy map").discard()),
        "key" => drop(numbers.key_by(|n| fussy(*n)).count().discard()),
        "reduce" => drop(numbers.key_by(|n| n % 2).reduce(|a, b| a + fussy(b)).discard()),
        "open" | "process" | "end" => {
            let place = options.place;
            numbers.process(Fussy::at(place)).name("fussy process").discard();
        }
        "keyed_open" | "keyed_process" | "end_of_key" | "keyed_state_in_end" => {
            let place = options.place;
            numbers.key_by(|n| n % 3).process(Fussy::at(place)).name("fussy keyed").discard();
        }
        "connected" => {
            let others = env.from_collection([1_u64]);
            numbers.connect(others).map(fussy, |n| n).name("fussy connected").discard();
        }
        "display" => drop(numbers.map(Unprintable).name("unprintable").print()),
        "record_drop" => {
            drop(numbers.map(Precious).name("precious").filter(|p| p.0 % 2 == 1).name("dropping").discard())
        }
        "capture_drop" => {
            let captured = Captured;
            let touch = move |n| {
                let _ = &captured;
                n
            };
            numbers.map(touch).name("capturing").discard();
        }
        "not_text" => {
            drop(numbers.map(|n| if n == 500 { std::panic::panic_any(n) } else { n }).name("not text").discard())
        }
        other => return Err(weir::Error::job(format!("there is no place {other}"))),
    }
    Ok(())
}

fn source(n: u64) -> u64 {
    assert!(n != 500, "no fish in record {n}");
    n
}

fn fussy(n: u64) -> u64 {
    assert!(n != 500, "no fish in record {n}");
    n
}

#[derive(Clone)]
struct Fussy {
    seen: ValueState<u64>,
    place: String,
}

impl Fussy {
    fn at(place: String) -> Fussy {
        Fussy { place, seen: ValueState::default() }
    }
}

impl ProcessFunction<u64> for Fussy {
    type Out = u64;

    fn open(&mut self, _context: &mut ProcessContext<u64>) {
        assert!(self.place != "open", "no fish in open");
    }
    fn process(&mut self, record: u64, context: &mut ProcessContext<u64>) {
        assert!(self.place != "process", "no fish in process");
        context.emit(record);
    }
    fn end(&mut self, _context: &mut ProcessContext<u64>) {
        assert!(self.place != "end", "no fish in end");
    }
}

impl KeyedProcessFunction<u64, u64> for Fussy {
    type Out = u64;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.seen = states.value("seen");
    }
    fn open(&mut self, context: &mut KeyedContext<u64, u64>) {
        assert!(self.place != "keyed_open", "no fish in keyed_open");
        if self.place == "keyed_state_in_end" {
            self.seen.set(context, 1);
        }
    }
    fn process(&mut self, record: u64, context: &mut KeyedContext<u64, u64>) {
        assert!(self.place != "keyed_process", "no fish in keyed_process of {}", context.key());
        context.emit(record);
    }
    fn end(&mut self, _context: &mut KeyedContext<u64, u64>) {
        assert!(self.place != "end_of_key", "no fish in end_of_key");
    }
}

struct Unprintable(u64);

impl fmt::Display for Unprintable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(self.0 != 500, "no fish in display");
        write!(f, "{}", self.0)
    }
}

struct Precious(u64);

impl Drop for Precious {
    fn drop(&mut self) {
        assert!(self.0 != 500 || std::thread::panicking(), "no fish in record_drop");
    }
}

#[derive(Clone)]
struct Captured;

impl Drop for Captured {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "no fish in capture_drop");
    }
}
