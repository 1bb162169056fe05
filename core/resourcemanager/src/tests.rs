//! The ResourceManager as a whole, and under random events.

mod harness;
mod jobs;
mod plans;
mod providers;
mod random;
mod taskmanagers;
