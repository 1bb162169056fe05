//! Finds the most frequent words of text files, or the most frequent values of a column of CSV files.
//!
//! ```sh
//! cargo run -p weir --example topk -- --input README.md
//! cargo run -p weir --example topk -- --input flights.csv --column dest --k 5
//! ```
//!
//! Values are counted before they are sent to the subtask that owns them, and again behind it. Every subtask keeps
//! the leaders among its own values only, and one subtask picks the leaders among those: it receives k values from each
//! subtask, however many there were.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use weir::prelude::*;
use weir::stream::{DataStream, Upstream};

#[derive(weir::Args)]
struct Options {
    /// File, directory or glob to read; gzip and zstd are recognised
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// Read CSV with a header line and count the values of this column, instead of the words of text
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// How many to show
    #[arg(long, value_name = "N", default_value = "10")]
    k: usize,
}

/// Keeps the `k` most frequent values; of equally frequent ones, those that come first in the alphabet.
///
/// A value may come again with a higher count, as it does when a job's input has no end.
#[derive(Clone)]
struct Leaders {
    k: usize,
    counts: HashMap<Text, u64>,
    ranking: BTreeSet<(Reverse<u64>, Text)>,
}

impl Leaders {
    fn new(k: usize) -> Leaders {
        Leaders { k, counts: HashMap::new(), ranking: BTreeSet::new() }
    }
}

impl ProcessFunction<(Text, u64)> for Leaders {
    type Out = (Text, u64);

    fn process(&mut self, (mut value, count): (Text, u64), _context: &mut ProcessContext<(Text, u64)>) {
        // A value that is kept should not keep the buffer it was read into.
        value.detach();
        if let Some(before) = self.counts.insert(value.clone(), count) {
            self.ranking.remove(&(Reverse(before), value.clone()));
        }
        self.ranking.insert((Reverse(count), value));
        if self.ranking.len() > self.k
            && let Some((_, last)) = self.ranking.pop_last()
        {
            self.counts.remove(&last);
        }
    }

    fn end(&mut self, context: &mut ProcessContext<(Text, u64)>) {
        for (Reverse(count), value) in std::mem::take(&mut self.ranking) {
            context.emit((value, count));
        }
    }
}

/// The leaders of `values`, from the most frequent one down.
fn print_leaders<C: Upstream<Out = Text>>(values: DataStream<C>, k: usize) {
    values
        .key_by(|value| value.clone())
        .count()
        .process(Leaders::new(k))
        .name("Local leaders")
        .global()
        .process(Leaders::new(k))
        .name("Leaders")
        .parallelism(1)
        .map(|(value, count)| format!("{count:>8}  {value}"))
        .print();
}

fn topk(env: &Environment, options: Options) -> weir::Result<()> {
    match options.column {
        None => print_leaders(env.read_text(&options.input).flat_map(|line| line.into_words()), options.k),
        Some(column) => {
            let rows = CsvSource::<HashMap<String, Text>>::new(options.input.to_string_lossy());
            let values = env.source(rows).map(move |mut row| {
                row.remove(&column).unwrap_or_else(|| {
                    let mut names: Vec<String> = row.into_keys().collect();
                    names.sort();
                    panic!("there is no column `{column}`; the columns are {}", names.join(", "))
                })
            });
            print_leaders(values, options.k);
        }
    }
    Ok(())
}

weir::main!(topk);
