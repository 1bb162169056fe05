//! Clusters of real processes, and what is done to them.
//!
//! Each test starts processes of its own with [`harness::Cluster`], which checks at the end of every test that none is left.

#![allow(clippy::unwrap_used, reason = "clippy's exception for tests does not reach the functions they call")]

mod harness;

mod adaptive;
mod artifacts;
mod commands;
mod disconnected;
mod exactly_once;
mod frozen;
mod input;
mod killed;
mod measured;
mod misbehaving;
mod rest;
mod restarts;
mod savepoints;
mod scripts;
mod wire;
