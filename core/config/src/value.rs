//! The types of option values and the notation each is written in.

use std::fmt;
use std::time::Duration;

/// A type an option's value can have.
pub trait ConfigValue: Sized {
    /// Name of the type in the reference, e.g. `Duration`.
    const TYPE: &'static str;
    /// What a value looks like, to follow `expected`, e.g. `a duration (a number and ms, s, min, h or d)`.
    const FORM: &'static str;
    /// A value that parses.
    const EXAMPLE: &'static str;

    /// Whether values must not be shown.
    const IS_SECRET: bool = false;

    /// The value written as `text`; an error says what is wrong with it, to follow `but`.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as text that parses to it again.
    fn render(&self) -> String;

    /// The value of an option that has no default and is not set: only `Option` has one.
    fn absent() -> Option<Self> {
        None
    }
}

/// An option that need not have a value. An unset one is `None`; text is never `None`.
impl<T: ConfigValue> ConfigValue for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const FORM: &'static str = T::FORM;
    const EXAMPLE: &'static str = T::EXAMPLE;
    const IS_SECRET: bool = T::IS_SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn render(&self) -> String {
        self.as_ref().map(T::render).unwrap_or_default()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl ConfigValue for bool {
    const TYPE: &'static str = "Boolean";
    const FORM: &'static str = "true or false";
    const EXAMPLE: &'static str = "true";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("it is neither true nor false".to_owned()),
        }
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl ConfigValue for u32 {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number";
    const EXAMPLE: &'static str = "4";

    fn parse(text: &str) -> Result<Self, String> {
        let number = parse_integer(text)?;
        u32::try_from(number).map_err(|_| format!("it is above {}", u32::MAX))
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl ConfigValue for u64 {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number";
    const EXAMPLE: &'static str = "4";

    fn parse(text: &str) -> Result<Self, String> {
        parse_integer(text)
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl ConfigValue for String {
    const TYPE: &'static str = "String";
    const FORM: &'static str = "a text";
    const EXAMPLE: &'static str = "name";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn render(&self) -> String {
        self.clone()
    }
}

/// Names of a duration's units with their length in nanoseconds, as in Flink. The first of each length is the one written.
const DURATION_UNITS: [(&[&str], u64); 7] = [
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["min", "m", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["ms", "milli", "millis", "millisecond", "milliseconds"], 1_000_000),
    (&["us", "µs", "micro", "micros", "microsecond", "microseconds"], 1_000),
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
];

/// In Flink's notation: a number and a unit, `100 ms`, `1min`; a bare number counts milliseconds.
impl ConfigValue for Duration {
    const TYPE: &'static str = "Duration";
    const FORM: &'static str = "a duration (a whole number and one of d, h, min, s, ms, us, ns)";
    const EXAMPLE: &'static str = "100 ms";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text)?;
        let unit = if unit.is_empty() { "ms" } else { unit };
        let found = DURATION_UNITS.iter().find(|(names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(unit)));
        let Some((_, nanos)) = found else { return Err(format!("{unit:?} is no unit of time")) };
        number.checked_mul(*nanos).map(Duration::from_nanos).ok_or_else(|| "it is longer than 584 years".to_owned())
    }

    fn render(&self) -> String {
        let nanos = self.as_nanos();
        if nanos == 0 {
            return "0 ms".to_owned();
        }
        let fits = DURATION_UNITS.iter().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit)));
        let (names, unit) = fits.expect("every duration is a number of nanoseconds");
        format!("{} {}", nanos / u128::from(*unit), names[0])
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Names of a size's units with their bytes, as in Flink: powers of 1024. The first is the one written.
const SIZE_UNITS: [(&[&str], u64); 5] = [
    (&["tb", "t", "tebibytes"], 1 << 40),
    (&["gb", "g", "gibibytes"], 1 << 30),
    (&["mb", "m", "mebibytes"], 1 << 20),
    (&["kb", "k", "kibibytes"], 1 << 10),
    (&["b", "bytes"], 1),
];

impl ByteSize {
    /// The number of bytes, as far as this machine can address.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: u64| self.0.is_multiple_of(unit) && (self.0 > 0 || unit == 1);
        let found = SIZE_UNITS.iter().find(|(_, unit)| fits(*unit));
        let (names, unit) = found.expect("every size is a number of bytes");
        write!(f, "{}{}", self.0 / unit, names[0])
    }
}

/// In Flink's notation: a number and a unit, `64mb`, `1 g`; a bare number counts bytes.
impl ConfigValue for ByteSize {
    const TYPE: &'static str = "MemorySize";
    const FORM: &'static str = "a size (a whole number and one of b, kb, mb, gb, tb; powers of 1024)";
    const EXAMPLE: &'static str = "64mb";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text)?;
        let unit = if unit.is_empty() { "b" } else { unit };
        let found = SIZE_UNITS.iter().find(|(names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(unit)));
        let Some((_, bytes)) = found else { return Err(format!("{unit:?} is no unit of size")) };
        number.checked_mul(*bytes).map(ByteSize).ok_or_else(|| "it is above 2^64 bytes".to_owned())
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

/// When a partly filled batch of records leaves for its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufferTimeout {
    /// Only when it is full or the task has nothing more to read.
    Disabled,
    /// Also when it has waited this long; zero: whenever a batch of input has been processed.
    After(Duration),
}

impl BufferTimeout {
    /// The longest wait, or `None` if a batch may wait until it is full.
    pub fn interval(self) -> Option<Duration> {
        match self {
            BufferTimeout::Disabled => None,
            BufferTimeout::After(interval) => Some(interval),
        }
    }
}

impl ConfigValue for BufferTimeout {
    const TYPE: &'static str = "Duration or disabled";
    const FORM: &'static str = "a duration (a whole number and one of d, h, min, s, ms, us, ns) or disabled";
    const EXAMPLE: &'static str = "100 ms";

    fn parse(text: &str) -> Result<Self, String> {
        // Flink writes -1 for it.
        if text.eq_ignore_ascii_case("disabled") || text.trim_end_matches("ms").trim_end() == "-1" {
            return Ok(BufferTimeout::Disabled);
        }
        Duration::parse(text).map(BufferTimeout::After)
    }

    fn render(&self) -> String {
        self.interval().map_or_else(|| "disabled".to_owned(), |interval| interval.render())
    }
}

/// Whether reduce and aggregate emit every update or final results only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuntimeMode {
    /// Every update is emitted as it happens.
    Streaming,
    /// Only final results are emitted, at the end of input. All sources must be bounded.
    Batch,
    /// Batch if all sources are bounded, otherwise streaming.
    Automatic,
}

impl ConfigValue for RuntimeMode {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "one of streaming, batch, automatic";
    const EXAMPLE: &'static str = "automatic";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "streaming" => Ok(RuntimeMode::Streaming),
            "batch" => Ok(RuntimeMode::Batch),
            "automatic" => Ok(RuntimeMode::Automatic),
            _ => Err("it is no runtime mode".to_owned()),
        }
    }

    fn render(&self) -> String {
        match self {
            RuntimeMode::Streaming => "streaming",
            RuntimeMode::Batch => "batch",
            RuntimeMode::Automatic => "automatic",
        }
        .to_owned()
    }
}

impl ConfigValue for f64 {
    const TYPE: &'static str = "Double";
    const FORM: &'static str = "a number";
    const EXAMPLE: &'static str = "1.5";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) => Err("it is not finite".to_owned()),
            Err(_) => Err("it is no number".to_owned()),
        }
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

/// Words separated by commas or semicolons; none of them empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl ConfigValue for List {
    const TYPE: &'static str = "List";
    const FORM: &'static str = "words separated by commas or semicolons";
    const EXAMPLE: &'static str = "standalone";

    fn parse(text: &str) -> Result<Self, String> {
        let words = text.split([',', ';']).map(str::trim).filter(|word| !word.is_empty());
        Ok(List(words.map(str::to_owned).collect()))
    }

    fn render(&self) -> String {
        self.0.join(";")
    }
}

/// What is shown instead of a secret.
pub(crate) const MASK: &str = "******";

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text. Do not print it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl ConfigValue for Secret {
    const TYPE: &'static str = "Secret";
    const FORM: &'static str = "a text that is kept secret";
    const EXAMPLE: &'static str = "a-long-random-text";
    const IS_SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Secret(text.trim().to_owned()))
    }

    fn render(&self) -> String {
        self.0.clone()
    }
}

/// An enum whose values are words; the first word of each is the one it is written with.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $form:literal, { $($(#[$value_doc:meta])* $value:ident = $first:literal $(| $other:literal)*),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value),+
        }

        impl ConfigValue for $name {
            const TYPE: &'static str = "Enum";
            const FORM: &'static str = $form;
            const EXAMPLE: &'static str = [$($first),+][0];

            fn parse(text: &str) -> Result<Self, String> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $($first $(| $other)* => Ok($name::$value),)+
                    _ => Err("it is none of them".to_owned()),
                }
            }

            fn render(&self) -> String {
                match self {
                    $($name::$value => $first,)+
                }
                .to_owned()
            }
        }
    };
}

pub(crate) use words;

words! {
    /// What happens after a failure.
    RestartStrategyType, "one of none, fixed-delay, failure-rate, exponential-delay", {
        /// The job fails.
        None = "none" | "off" | "disable" | "disabled",
        /// A number of restarts with the same pause.
        FixedDelay = "fixed-delay" | "fixeddelay",
        /// A number of failures in an interval.
        FailureRate = "failure-rate" | "failurerate",
        /// Growing pauses.
        ExponentialDelay = "exponential-delay" | "exponentialdelay",
    }
}

words! {
    /// Which tasks a failure restarts.
    FailoverStrategy, "region or full", {
        /// Those connected with the failed one.
        Region = "region",
        /// All of the job.
        Full = "full",
    }
}

words! {
    /// How slots are chosen.
    LoadBalanceMode, "slots or none", {
        /// Spread over TaskManagers.
        Slots = "slots",
        /// One TaskManager after the other.
        None = "none",
    }
}

words! {
    /// Importance of a message.
    LogLevel, "one of error, warn, info, debug, trace", {
        /// Work was lost.
        Error = "error",
        /// Someone should look.
        Warn = "warn",
        /// A state changed.
        Info = "info",
        /// For finding faults.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

fn parse_integer(text: &str) -> Result<u64, String> {
    match number_and_unit(text)? {
        (number, "") => Ok(number),
        (_, rest) => Err(format!("{rest:?} follows the number")),
    }
}

/// Splits `100 ms` into 100 and `ms`.
fn number_and_unit(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    match digits.parse() {
        Ok(_) if unit.starts_with(['.', ',']) => Err("it is not whole".to_owned()),
        Ok(number) => Ok((number, unit.trim_start())),
        Err(_) if !digits.is_empty() => Err("the number is too large".to_owned()),
        Err(_) if text.is_empty() => Err("it is empty".to_owned()),
        Err(_) if text.starts_with('-') => Err("it is negative or no number".to_owned()),
        Err(_) => Err("it does not begin with a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts<T: ConfigValue + PartialEq + fmt::Debug>(cases: &[(&str, T)]) {
        for (text, expect) in cases {
            assert_eq!(T::parse(text).as_ref(), Ok(expect), "{text:?}");
            assert_eq!(T::parse(&expect.render()).as_ref(), Ok(expect), "{text:?} renders as {:?}", expect.render());
        }
        assert!(T::parse(T::EXAMPLE).is_ok(), "{}", T::EXAMPLE);
    }

    fn refuses<T: ConfigValue + fmt::Debug>(cases: &[(&str, &str)]) {
        for (text, expect) in cases {
            let problem = T::parse(text).expect_err(text);
            assert!(problem.contains(expect), "{text:?}: {problem:?} lacks {expect:?}");
        }
    }

    #[test]
    fn durations_are_written_as_in_flink() {
        let ms = Duration::from_millis;
        accepts(&[
            ("100 ms", ms(100)),
            ("100ms", ms(100)),
            ("100", ms(100)),
            (" 0 ", ms(0)),
            ("1min", ms(60_000)),
            ("10 s", ms(10_000)),
            ("3 m", ms(180_000)),
            ("2 Hours", ms(7_200_000)),
            ("1 d", ms(86_400_000)),
            ("5 µs", Duration::from_micros(5)),
            ("7 nanos", Duration::from_nanos(7)),
        ]);
        assert_eq!(ms(180_000).render(), "3 min");
        refuses::<Duration>(&[
            ("", "it is empty"),
            ("ten", "does not begin with a number"),
            ("10 parsecs", "\"parsecs\" is no unit of time"),
            ("1.5 s", "not whole"),
            ("-5 s", "negative"),
            ("99999999999999999999 s", "too large"),
            ("1000000 days", "584 years"),
        ]);
    }

    #[test]
    fn sizes_are_written_as_in_flink() {
        let size = ByteSize;
        accepts(&[
            ("64mb", size(64 << 20)),
            ("1g", size(1 << 30)),
            ("32 KB", size(32 << 10)),
            ("1234", size(1234)),
            ("0", size(0)),
            ("5 bytes", size(5)),
            ("2 t", size(2 << 40)),
        ]);
        assert_eq!(size(32 << 10).to_string(), "32kb");
        refuses::<ByteSize>(&[("64 px", "\"px\" is no unit of size"), ("99999999 tb", "2^64"), ("mb", "begin with")]);
    }

    #[test]
    fn other_values_have_their_words() {
        accepts(&[("true", true), ("FALSE", false)]);
        refuses::<bool>(&[("yes", "neither"), ("1", "neither")]);
        accepts(&[("0", 0u32), ("4294967295", u32::MAX)]);
        refuses::<u32>(&[("4294967296", "above 4294967295"), ("4 cores", "\"cores\" follows"), ("-1", "negative")]);
        accepts(&[("18446744073709551615", u64::MAX)]);
        accepts(&[("batch", RuntimeMode::Batch), ("STREAMING", RuntimeMode::Streaming)]);
        refuses::<RuntimeMode>(&[("fast", "no runtime mode")]);
        accepts(&[("", String::new()), ("a b", "a b".to_owned())]);
        accepts(&[("5", Some(5u32))]);
        accepts(&[("1.5", 1.5), ("10", 10.0)]);
        refuses::<f64>(&[("many", "no number"), ("inf", "not finite")]);
        accepts(&[("", List::default()), ("a, b;c,", List(["a", "b", "c"].map(str::to_owned).to_vec()))]);
        accepts(&[("off", RestartStrategyType::None), ("FixedDelay", RestartStrategyType::FixedDelay)]);
        refuses::<FailoverStrategy>(&[("some", "none of them")]);
        accepts(&[("none", LoadBalanceMode::None), ("SLOTS", LoadBalanceMode::Slots)]);
        accepts(&[("warn", LogLevel::Warn)]);
        accepts(&[(" hush ", Secret("hush".to_owned()))]);
        assert_eq!(format!("{:?}", Secret("hush".to_owned())), MASK);
        let after = |millis| BufferTimeout::After(Duration::from_millis(millis));
        accepts(&[("disabled", BufferTimeout::Disabled), ("100 ms", after(100)), ("0", after(0))]);
        accepts(&[("-1", BufferTimeout::Disabled), ("-1 ms", BufferTimeout::Disabled)]);
        refuses::<BufferTimeout>(&[("-2", "negative"), ("never", "begin with")]);
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses_back(number: u64, text in "\\PC{0,20}") {
            let duration = Duration::from_nanos(number);
            prop_assert_eq!(Duration::parse(&duration.render()), Ok(duration));
            prop_assert_eq!(ByteSize::parse(&ByteSize(number).render()), Ok(ByteSize(number)));
            // No text makes the parsers panic.
            let _ = (Duration::parse(&text), ByteSize::parse(&text), u32::parse(&text), BufferTimeout::parse(&text));
        }
    }
}
