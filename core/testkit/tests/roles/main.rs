//! The roles of a job's executable in a cluster, driven as JobManager and TaskManager drive them.

#![allow(clippy::unwrap_used, reason = "a test may, also outside the functions marked as one")]

mod cluster;
mod coordinators;
mod workers;
