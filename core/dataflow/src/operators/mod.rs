//! The operators the SDK builds chains of.

mod aggregate;
pub mod async_io;
mod simple;
mod split_watermarks;
mod watermarks;
pub mod window;

pub use aggregate::{Aggregator, EmitAs, EmitPair, EmitResult, KeyOf, MergeOperator, PreAggregateOperator, Reduce};
pub use simple::{FilterOperator, FlatMapOperator, InspectOperator, MapOperator};
pub use split_watermarks::{WatermarkAlignment, WatermarkReader, WithWatermarks};
pub use watermarks::{BoundedOutOfOrderness, WatermarkGenerator, WatermarkOperator, WatermarkStrategy};
