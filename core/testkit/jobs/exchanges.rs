//! Every exchange between a producer and a consumer of chosen parallelisms. A line is `producer consumer value`: the
//! subtask a record came from, the one it came to, and the record.

use std::path::PathBuf;

use weir::prelude::*;

#[derive(weir::Args)]
pub struct Options {
    /// Which exchange
    #[arg(long)]
    case: String,
    /// Subtasks before it
    #[arg(long, default_value_t = 2)]
    from: u32,
    /// Subtasks behind it
    #[arg(long, default_value_t = 3)]
    to: u32,
    /// Records
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// Where the result goes
    #[arg(long)]
    out: PathBuf,
}

pub fn exchanges(env: &Environment, options: Options) -> weir::Result<()> {
    // One reader of the source may get all of its splits; every producer of the exchange has to have records.
    let words = env
        .generate(options.count, |n| n)
        .parallelism(options.from)
        .map(|n| format!("record {n}"))
        .rebalance()
        .process_with(|word: String, context: &mut ProcessContext<(u32, String)>| {
            let producer = context.subtask();
            context.emit((producer, word));
        })
        .parallelism(options.from);
    if options.case == "key_by" {
        words
            .key_by(|(_, word)| word.len() as u64 * 31 + u64::from(word.as_bytes()[word.len() - 1]))
            .process(Subtask)
            .parallelism(options.to)
            .write_text(&options.out);
        return Ok(());
    }
    let exchanged = match options.case.as_str() {
        "rebalance" => words.rebalance(),
        "rescale" => words.rescale(),
        "shuffle" => words.shuffle(),
        "global" => words.global(),
        "forward" => words.forward(),
        "broadcast" => words.broadcast(),
        "custom" => words.partition_custom(|(_, word), consumers| word.len() % consumers),
        "custom_out_of_range" => words.partition_custom(|_, consumers| consumers),
        "automatic" => words.disable_chaining(),
        other => return Err(weir::Error::job(format!("there is no case {other}"))),
    };
    exchanged
        .process_with(|(producer, word): (u32, String), context: &mut ProcessContext<String>| {
            let line = format!("{producer} {} {word}", context.subtask());
            context.emit(line);
        })
        .parallelism(options.to)
        .write_text(&options.out);
    Ok(())
}

/// Says which subtask got a record.
#[derive(Clone)]
struct Subtask;

impl KeyedProcessFunction<u64, (u32, String)> for Subtask {
    type Out = String;

    fn process(&mut self, (producer, word): (u32, String), context: &mut KeyedContext<u64, String>) {
        let line = format!("{producer} {} {word}", context.subtask());
        context.emit(line);
    }
}
