//! Source and sink with the real Kafka.
//!
//! The broker comes from `scripts/fixtures/kafka`; where it cannot be got, the tests fail and say how to get it. All tests share one broker and have topics
//! of their own.

#![allow(clippy::unwrap_used, reason = "clippy's exception for tests does not reach the functions they call")]

mod errors;
mod event_time;
mod fixture;
mod harness;
mod jobs;
mod outage;
mod processes;
mod reading;
mod writing;
