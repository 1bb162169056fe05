//! The C ABI of resource-provider plugins, from both sides: [`export_provider!`] for a plugin, [`load`] and [`scan`] for its host.
//!
//! A plugin is a shared library with one symbol, a table of C functions ([`abi`], for other languages `include/weir_provider.h`).
//! Requests, events and descriptions cross as the bytes of `provider.proto`; no Rust type does, so a plugin may come from another
//! compiler or another language. Versions and sizes are checked in the file, before the library is loaded. Panics stay on the
//! side where they happen, memory is freed by the side that allocated it, and a library is never unloaded.

pub mod abi;
mod elf;
mod error;
#[doc(hidden)]
pub mod export;
mod forward;
mod host;
mod load;
mod log;

pub use error::{LoadError, LoadProblem};
pub use export::log;
pub use load::{Found, LoadOptions, LoadedPlugin, PluginInfo, file_name, load, load_by_name, scan};
pub use log::{LogLevel, LogSink, log_to_tracing};

/// The version of this crate, part of every plugin's build information.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
