//! Counts the words of text files.
//!
//! ```sh
//! cargo run -p weir --example wordcount -- --input README.md
//! cargo run -p weir --example wordcount -- --input 'books/*.txt.gz' --to /tmp/counts
//! ```

use std::path::PathBuf;

use weir::prelude::*;

#[derive(weir::Args)]
struct Options {
    /// File, directory or glob to read; gzip and zstd are recognised
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// Write the counts into this directory, as CSV part files of `word,count`, instead of printing them
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

fn wordcount(env: &Environment, options: Options) -> weir::Result<()> {
    let counts = env.read_text(&options.input).flat_map(|line| line.into_words()).key_by(|word| word.clone()).count();
    match options.to {
        Some(directory) => {
            counts.write_csv(directory);
        }
        None => {
            counts.map(|(word, count)| format!("{word} {count}")).print();
        }
    }
    Ok(())
}

weir::main!(wordcount);
