//! The command `weir`, run as a person runs it.

#![allow(clippy::unwrap_used, reason = "clippy's exception for tests does not reach the functions they call")]

mod artifacts;
mod config;
mod crates;
mod info;
mod plugins;
mod run;
mod savepoints;
mod support;
mod usage;
