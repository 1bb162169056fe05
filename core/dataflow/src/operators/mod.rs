//! The operators the SDK builds chains of.

mod aggregate;
mod simple;

pub use aggregate::{Aggregator, EmitAs, EmitPair, EmitResult, KeyOf, MergeOperator, PreAggregateOperator, Reduce};
pub use simple::{FilterOperator, FlatMapOperator, InspectOperator, MapOperator};
