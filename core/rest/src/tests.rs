//! The whole server against a cluster that is made up.

mod checkpoints;
mod fake;
mod golden;
mod limits;
mod routes;
mod sockets;
mod submission;
