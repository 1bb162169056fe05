//! Plugins built apart from Weir, in Rust and in C, loaded from disk: good ones, bad ones, and files that are none.

mod behaviour;
mod build;
mod docs;
mod files;
mod languages;
