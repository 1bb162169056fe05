//! Sources and sinks that come with Weir.
//!
//! Sources: [`TextSource`], [`CsvSource`], [`SocketTextSource`], [`CollectionSource`], [`GeneratorSource`]. Sinks:
//! [`PrintSink`], [`FileSink`], [`DiscardSink`], [`CollectSink`]. They are built on the public traits in
//! [`weir_dataflow::source`] and [`weir_dataflow::sink`] only, as anybody's own can be.

pub mod collect;
pub mod collection;
pub mod csv;
pub mod discard;
pub mod file_sink;
pub mod files;
pub mod generator;
pub mod print;
mod snapshot;
pub mod socket;
#[cfg(test)]
mod testing;
pub mod text;

pub use self::csv::{BadRows, CsvSource};
pub use collect::{CollectSink, Collected};
pub use collection::CollectionSource;
pub use discard::DiscardSink;
pub use file_sink::{FileSink, OutputError};
pub use files::{FileError, Skipped};
pub use generator::GeneratorSource;
pub use print::PrintSink;
pub use socket::SocketTextSource;
pub use text::{InvalidUtf8, TextSource};
