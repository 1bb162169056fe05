//! Kafka as source and sink of Weir jobs.

pub mod client;
mod batch;
mod error;

pub use batch::Compression;
pub use client::Cluster;
pub use error::KafkaError;
