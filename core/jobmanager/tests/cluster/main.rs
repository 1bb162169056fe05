//! A JobManager as others see it: over HTTP, over gRPC, and through what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod artifacts;
mod connections;
mod end_to_end;
mod harness;
mod jobs;
mod large;
mod life;
