//! The example jobs, run as a person would run them, against results computed in another way.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod flights;
mod flights_by_hour;
mod nexmark;
mod run;
mod topk;
mod wordcount;
