//! Kafka as source and sink of Weir jobs.

mod batch;
pub mod client;
mod error;
mod sink;
mod source;

pub use batch::Compression;
pub use client::{Cluster, OffsetAt, TopicPartition};
pub use error::KafkaError;
pub use sink::{KafkaMessage, KafkaSink, KafkaWriter, LostTransaction};
pub use source::{KafkaEnumerator, KafkaReader, KafkaRecord, KafkaSource, KafkaSplit, LostPosition, PartitionSplit};
