//! A process that writes to Kafka or commits what others have written, for tests that kill it in between.
//!
//! `write SERVERS TOPIC PREFIX RUN ATTEMPT FROM TO`: writes the numbers from FROM to TO (not included), as one subtask of two; prints `written`. Told
//! so by a line, it prepares and prints `prepared HEX`.
//! `commit SERVERS TOPIC PREFIX RUN HEX…`: for each line it reads, commits one more of the committables and prints `committed`.

#![allow(clippy::unwrap_used, reason = "this is part of a test")]

use std::io::BufRead;

use weir::metrics::OperatorMetrics;
use weir::sink::{CommitterContext, Sink, SinkWriter, WriterContext};
use weir_kafka::{KafkaMessage, KafkaSink};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (role, servers, topic, prefix, run, rest) = match words[..] {
        [role, servers, topic, prefix, run, ref rest @ ..] => (role, servers, topic, prefix, run.to_owned(), rest),
        _ => panic!("{words:?}"),
    };
    let encode = |number: u64| KafkaMessage::new(number.to_string()).key(number.to_string());
    let sink = KafkaSink::new(servers, topic, encode).exactly_once(prefix);
    let mut lines = std::io::stdin().lock().lines();
    let mut told = move || lines.next().map(Result::unwrap).is_some();
    match (role, rest) {
        ("write", [attempt, from, to]) => {
            let attempt = attempt.parse().unwrap();
            let context = WriterContext {
                subtask: 0,
                parallelism: 2,
                run_id: run,
                attempt,
                metrics: OperatorMetrics::detached(),
            };
            let mut writer = sink.create_writer(&context).unwrap();
            let write = |number| writer.write(number).unwrap();
            (from.parse().unwrap()..to.parse().unwrap()).for_each(write);
            println!("written");
            if told() {
                for committable in writer.prepare_commit().unwrap() {
                    let hex: String = committable.iter().map(|byte| format!("{byte:02x}")).collect();
                    println!("prepared {hex}");
                }
            }
            told();
        }
        ("commit", committables) => {
            let mut committer =
                sink.create_committer(&CommitterContext { run_id: run, restored: false }).unwrap().unwrap();
            for hex in committables {
                told();
                let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                committer.commit(vec![(0..hex.len()).step_by(2).map(digits).collect()]).unwrap();
                println!("committed");
            }
            told();
        }
        _ => panic!("{words:?}"),
    }
}
