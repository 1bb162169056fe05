//! The HTTP API of the JobManager, in the shapes of Flink's, and the dashboard page.
//!
//! Owns paths, shapes, status codes and who is let in. Knows the cluster only through [`ClusterGateway`]; never decides anything
//! about jobs. Every path is served as `/v1/x` and as `/x`.

mod access;
mod answer;
mod api;
mod body;
mod checkpoints;
mod connection;
mod endpoints;
mod error;
mod gateway;
mod operations;
mod options;
mod request;
mod server;
mod shapes;
mod stall;

pub use access::same_secret;
pub use checkpoints::*;
pub use gateway::*;
pub use options::{RestError, RestOptions};
pub use server::{Leader, RestServer};

#[cfg(test)]
mod tests;
