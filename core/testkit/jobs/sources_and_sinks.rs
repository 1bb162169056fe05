//! Jobs about how records come in and go out.

use std::path::PathBuf;
use std::time::Duration;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Numbers {
    /// How many
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// Records per second; as fast as possible if not given
    #[arg(long)]
    rate: Option<f64>,
    /// Never ends
    #[arg(long)]
    unbounded: bool,
    /// Replaces output that is there
    #[arg(long)]
    overwrite: bool,
    /// Where they go
    #[arg(long)]
    out: PathBuf,
}

/// Numbers into files.
pub fn numbers(env: &Environment, options: Numbers) -> weir::Result<()> {
    let mut source = GeneratorSource::new(|n| n);
    if !options.unbounded {
        source = source.records(options.count);
    }
    if let Some(rate) = options.rate {
        source = source.rate(rate);
    }
    env.source(source)
        .rebalance()
        .map(|n| format!("number {n}"))
        .sink(FileSink::text(&options.out).overwrite(options.overwrite));
    Ok(())
}

#[derive(weir::Args)]
pub struct Prints {
    /// How many
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// Never ends, and prints no more than this a second
    #[arg(long)]
    rate: Option<f64>,
}

/// Numbers onto standard output.
pub fn prints(env: &Environment, options: Prints) -> weir::Result<()> {
    let source = GeneratorSource::new(|n| n);
    let source = match options.rate {
        Some(rate) => source.rate(rate),
        None => source.records(options.count),
    };
    env.source(source).rebalance().map(|n| format!("number {n}")).print();
    Ok(())
}

#[derive(weir::Args)]
pub struct Updates {
    /// Never ends
    #[arg(long)]
    unbounded: bool,
}

/// Counts, of which `execution.runtime-mode` says how often they are emitted.
pub fn updates(env: &Environment, options: Updates) -> weir::Result<()> {
    let source = GeneratorSource::new(|n| n).rate(2000.0);
    let source = if options.unbounded { source } else { source.records(400) };
    env.source(source).parallelism(1).key_by(|n| n % 2).count().parallelism(1).map(|(k, v)| format!("{k} {v}")).print();
    Ok(())
}

/// A source that is always busy, and slow: only the buffer timeout moves its records on.
pub fn trickle(env: &Environment) -> weir::Result<()> {
    let slow = |n| {
        std::thread::sleep(Duration::from_millis(5));
        n
    };
    env.generate(100_000, slow).parallelism(1).rebalance().map(|n| format!("number {n}")).parallelism(2).print();
    Ok(())
}

#[derive(weir::Args)]
pub struct Large {
    /// Bytes of a record
    #[arg(long)]
    bytes: usize,
    /// Number of records
    #[arg(long, default_value_t = 3)]
    count: u64,
    /// `text`, `bytes` or `list`
    #[arg(long)]
    kind: String,
    /// Where their lengths go
    #[arg(long)]
    out: PathBuf,
}

/// Records far larger than a buffer across an exchange, and back.
pub fn large(env: &Environment, options: Large) -> weir::Result<()> {
    let Large { bytes, count, kind, out } = options;
    let size = move |n: u64| bytes + n as usize;
    let letter = |n: u64| b'a' + (n % 26) as u8;
    let check = |n: u64, content: &[u8]| {
        let wrong = content.iter().filter(|byte| **byte != b'a' + (n % 26) as u8).count();
        format!("{n} {} bytes, {wrong} wrong", content.len())
    };
    match kind.as_str() {
        "text" => {
            let texts =
                env.generate(count, move |n| (n, String::from_utf8_lossy(&vec![letter(n); size(n)]).into_owned()));
            texts
                .parallelism(1)
                .partition_custom(|(n, _), p| (*n as usize + 1) % p)
                .map(move |(n, text)| check(n, text.as_bytes()))
                .write_text(out);
        }
        "bytes" => {
            let blobs = env.generate(count, move |n| (n, Bytes::from(vec![letter(n); size(n)])));
            blobs
                .parallelism(1)
                .partition_custom(|(n, _), p| (*n as usize + 1) % p)
                .map(move |(n, blob)| check(n, &blob))
                .write_text(out);
        }
        "list" => {
            let lists = env.generate(count, move |n| (n, vec![letter(n); size(n)]));
            lists
                .parallelism(1)
                .partition_custom(|(n, _), p| (*n as usize + 1) % p)
                .map(move |(n, list)| check(n, &list))
                .write_text(out);
        }
        other => return Err(weir::Error::job(format!("there is no kind {other}"))),
    }
    Ok(())
}
