//! Copies one Kafka topic to another, exactly once, and numbers the records of each key on the way.
//!
//! ```sh
//! cargo run -p weir-kafka --example kafka_copy -- --servers localhost:9092 --from words --to numbered --until-end
//! ```
//!
//! Each record `value` with the key `key` becomes `value n`, where n says how many records with that key there were so far. Records of a
//! key have to be in one partition, as they are when their producer chooses partitions by key; what is written is then the same in every run,
//! whatever fails, but for the order of different keys.

use weir::prelude::*;
use weir::source::SourceError;
use weir_kafka::{Cluster, KafkaMessage, KafkaSink, KafkaSource, OffsetAt};

#[derive(weir::Args)]
struct Options {
    /// Bootstrap servers of Kafka, host:port, separated by commas
    #[arg(long)]
    servers: String,
    /// Topic to read
    #[arg(long)]
    from: String,
    /// Topic to write
    #[arg(long)]
    to: String,
    /// Prefix of the transactional ids; no other sink may use it
    #[arg(long, default_value = "kafka-copy")]
    prefix: String,
    /// Stop where the topic ends now, instead of waiting for more
    #[arg(long)]
    until_end: bool,
}

/// Numbers the values of a key.
#[derive(Clone, Default)]
struct Number {
    seen: ValueState<u64>,
}

impl KeyedProcessFunction<String, (String, String)> for Number {
    type Out = (String, String);

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.seen = states.value("seen");
    }

    fn process(&mut self, (key, value): (String, String), context: &mut KeyedContext<String, Self::Out>) {
        let seen = self.seen.get_or_insert_with(context, || 0);
        *seen += 1;
        let numbered = format!("{value} {seen}");
        context.emit((key, numbered));
    }
}

fn text(bytes: Option<&[u8]>) -> Result<String, SourceError> {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).map_err(SourceError::new)
}

fn kafka_copy(env: &Environment, options: Options) -> weir::Result<()> {
    let cluster = Cluster::new(options.servers);
    let mut source = KafkaSource::new(cluster.clone(), [options.from], |record| {
        Ok(Some((text(record.key())?, text(record.value())?)))
    });
    if options.until_end {
        source = source.until(OffsetAt::Latest);
    }
    let sink = KafkaSink::new(cluster, options.to, |(key, value): (String, String)| KafkaMessage::new(value).key(key));
    env.source(source)
        .key_by(|(key, _)| key.clone())
        .process(Number::default())
        .sink(sink.exactly_once(options.prefix));
    Ok(())
}

weir::main!(kafka_copy);
