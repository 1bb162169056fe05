//! What operators are given to watch a cluster with, against the real Prometheus: the expositions, `conf/prometheus.yml`,
//! `conf/alerts.yml` and the dashboards in `conf/grafana`.
//!
//! Prometheus comes from `scripts/fixtures/prometheus`; where it cannot be got, these tests fail and say how to get it.

#![allow(clippy::unwrap_used, reason = "clippy's exception for tests does not reach the functions they call")]

mod alerts;
mod dashboards;
mod fixture;
mod http;
mod samples;
mod scraping;
mod server;
