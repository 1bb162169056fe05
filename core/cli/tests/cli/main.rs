//! The command `weir`, run as a person runs it.

mod artifacts;
mod config;
mod crates;
mod info;
mod run;
mod support;
mod usage;
