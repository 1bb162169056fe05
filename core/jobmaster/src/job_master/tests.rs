//! The JobMaster under test: `harness.rs` plays everybody else by hand, `world.rs` at random.

mod adaptive;
mod any_order;
mod checkpoints;
mod ends;
mod harness;
mod restarts;
mod scheduling;
mod views;
mod world;
