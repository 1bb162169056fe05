//! Counts the words of text files.
//!
//! `cargo run --example wordcount -- --input PATH`

use std::path::PathBuf;

use weir::prelude::*;

#[derive(weir::Args)]
struct Options {
    /// File, directory or glob to read; gzip and zstd are recognised
    #[arg(long)]
    input: PathBuf,
}

fn wordcount(env: &Environment, options: Options) -> weir::Result<()> {
    let counts = env
        .read_text(&options.input)
        .flat_map(|line| line.into_words())
        .key_by(|word| word.clone())
        .count()
        .map(|(word, count)| format!("{word} {count}"));
    counts.print();
    Ok(())
}

weir::main!(wordcount);
