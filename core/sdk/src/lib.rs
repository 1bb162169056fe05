//! Weir's SDK: what a job author depends on.
//!
//! A job is a function that describes a dataflow; [`main!`] turns one or several such functions into an executable:
//!
//! ```no_run
//! use std::path::PathBuf;
//! use weir::prelude::*;
//!
//! #[derive(weir::Args)]
//! struct Options {
//!     /// File, directory or glob to read.
//!     #[arg(long)]
//!     input: PathBuf,
//! }
//!
//! fn wordcount(env: &Environment, options: Options) -> weir::Result<()> {
//!     env.read_text(&options.input)
//!         .flat_map(|line| line.into_words())
//!         .key_by(|word| word.clone())
//!         .count()
//!         .map(|(word, count)| format!("{word} {count}"))
//!         .print();
//!     Ok(())
//! }
//!
//! weir::main!(wordcount);
//! ```
//!
//! The executable runs the job embedded, in its own process on all cores; the same file is what a cluster runs.
//! Owns the authors' API, the connectors and the embedded driver. Never contains cluster services: no RPC server, no
//! storage client, so that a job builds fast.

extern crate self as weir;

// Failures and cancellation leave a task by unwinding; without it any of them would end the process without a report.
#[cfg(panic = "abort")]
compile_error!("Weir jobs need `panic = \"unwind\"`: remove `panic = \"abort\"` from the profile in Cargo.toml");

mod build;
pub mod connectors;
mod environment;
mod error;
pub mod run;
pub mod stream;

pub use clap::Args;
pub use environment::Environment;
pub use error::{Error, Result};
pub use weir_dataflow::operators::async_io::{AsyncContext, AsyncError, AsyncFunction, AsyncOptions, RetryStrategy};
pub use weir_dataflow::operators::window::{TimeWindow, Trigger, WindowContext, WindowFunction};
pub use weir_dataflow::operators::{Aggregator, WatermarkAlignment, WatermarkGenerator, WatermarkStrategy};
pub use weir_dataflow::process::{
    BroadcastProcessFunction, CoProcessFunction, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext,
    KeyedProcessFunction, OutputTag, ProcessContext, ProcessFunction, Timers,
};
pub use weir_dataflow::{exchange, metrics, operator, record, sink, source, state};
pub use weir_derive::Record;

/// The derive macro of [`Args`], and what its output refers to.
#[doc(hidden)]
pub use clap;

/// What most jobs use.
pub mod prelude {
    /// What the derive macro of `Args` writes refers to `clap` by name, so the name has to be in scope.
    #[doc(hidden)]
    pub use clap;

    pub use crate::connectors::*;
    pub use crate::environment::Environment;
    pub use crate::record::{Bytes, Record, Serde, Text};
    pub use crate::state::{
        AggregatingState, BroadcastDeclarer, BroadcastState, BroadcastStates, ListState, MapState, OperatorListState,
        OperatorStateDeclarer, ReducingState, StateDeclarer, StateTtl, TimeDomain, Timer, ValueState,
    };
    pub use crate::stream::joins::Side;
    pub use crate::stream::windows::{Global, Session, Sliding, Tumbling, WindowResult};
    pub use crate::stream::{Chain, DataStream, KeyedStream, aggregates};
    pub use crate::{
        Aggregator, Args, BroadcastProcessFunction, CoProcessFunction, KeyedBroadcastProcessFunction,
        KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, OutputTag, ProcessContext, ProcessFunction,
    };
    pub use crate::{AsyncContext, AsyncError, AsyncFunction, AsyncOptions, RetryStrategy};
    pub use crate::{TimeWindow, Trigger, WatermarkGenerator, WatermarkStrategy, WindowContext, WindowFunction};
    pub use weir_derive::Record;
}

/// Turns one or several job functions into `fn main`.
///
/// Each job is a function from `&Environment`, or from `&Environment` and its arguments (any `clap::Args`), to
/// [`Result<()>`](Result). The function's name is the job's name; with several, `--job NAME` chooses.
#[macro_export]
macro_rules! main {
    ($($job:ident),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run::main(::std::vec![$($crate::run::Job::new(::std::stringify!($job), $job)),+])
        }
    };
}
