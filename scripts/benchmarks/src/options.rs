//! The command line.

use crate::job::{System, Workload};
use crate::plan::Size;

/// The usage text.
pub const USAGE: &str = "\
Measures Weir against a hand-written loop and timely dataflow on this machine, each run verified.

Usage: scripts/bench [OPTIONS]

Options:
      --quick                 Short runs and one repetition: below three minutes; for a look, not for quoting
      --output FORMAT         `table` (default) or `json`, one object per row
      --only WORKLOAD,...     Only these of q0, q2, shuffle, shuffle2, keyed_count, wordcount, state, state_cp,
                              window, tumbling_1s, tumbling_1ms, sliding, latency
      --systems SYSTEM,...    Only these of hand, timely, weir; ratios need hand and timely in the same call
      --repetitions N         Measured runs of each row, of which medians are shown (default 3; 1 with --quick)
  -h, --help                  Print this text

Results go to standard output, progress to standard error.
Exit code: 0 all results verified, 1 a run failed or its result was wrong, 2 wrong usage.
";

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Table,
    /// One JSON object per row.
    Json,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long runs are.
    pub size: Size,
    /// Measured runs of each row.
    pub repetitions: usize,
    /// How results are printed.
    pub format: Format,
    /// What is measured, in the order of the table.
    pub workloads: Vec<Workload>,
    /// Who is measured, in the order of the table.
    pub systems: Vec<System>,
}

/// What the command line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Measure.
    Bench(Options),
    /// Print the usage text.
    Help,
}

/// Reads the arguments behind the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut size = Size::Full;
    let mut repetitions = None;
    let mut format = Format::Table;
    let mut workloads = Workload::ALL.to_vec();
    let mut systems = System::ALL.to_vec();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut value = || attached.clone().or_else(|| arguments.next()).ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--quick" if attached.is_none() => size = Size::Quick,
            "--output" => {
                format = match value()?.as_str() {
                    "table" => Format::Table,
                    "json" => Format::Json,
                    other => return Err(format!("--output is `{other}`, expected `table` or `json`")),
                }
            }
            "--only" => workloads = chosen(&flag, &value()?, &Workload::ALL, Workload::name)?,
            "--systems" => systems = chosen(&flag, &value()?, &System::ALL, System::name)?,
            "--repetitions" => {
                let value = value()?;
                let count = value.parse().ok().filter(|count| *count > 0);
                repetitions =
                    Some(count.ok_or_else(|| format!("--repetitions is `{value}`, expected a number from 1"))?);
            }
            _ => return Err(format!("there is no option `{flag}`")),
        }
    }
    let repetitions = repetitions.unwrap_or(size.repetitions());
    Ok(Command::Bench(Options { size, repetitions, format, workloads, systems }))
}

/// The members of `all` named in a comma-separated list, in the order of `all`.
fn chosen<T: Copy>(flag: &str, list: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<Vec<T>, String> {
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    match names.iter().find(|asked| !all.iter().any(|one| name(*one) == **asked)) {
        Some(unknown) => {
            let known: Vec<&str> = all.iter().map(|one| name(*one)).collect();
            Err(format!("{flag} names `{unknown}`, expected some of {}", known.join(", ")))
        }
        None => Ok(all.iter().copied().filter(|one| names.contains(&name(*one))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let Ok(Command::Bench(options)) = parsed("--quick --only latency,q0 --systems=hand --output json") else {
            panic!("a valid command line");
        };
        assert_eq!(options.workloads, [Workload::Q0, Workload::Latency]);
        assert_eq!((options.systems, options.format), (vec![System::Hand], Format::Json));
        assert_eq!((options.size, options.repetitions), (Size::Quick, 1));
        assert_eq!(parsed("--quick -h"), Ok(Command::Help));
    }

    #[test]
    fn wrong_usage_is_explained() {
        let wrong =
            ["--fast", "--only", "--only q9", "--systems flink", "--output xml", "--repetitions 0", "q0", "--quick=1"];
        for line in wrong {
            assert!(parsed(line).is_err(), "`{line}` is refused");
        }
        assert!(parsed("--only q9").is_err_and(|message| message.contains("q9") && message.contains("keyed_count")));
    }
}
