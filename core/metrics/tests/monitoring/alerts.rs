//! The alert rules.

use std::fs;

use crate::fixture::{promtool_passes, repository};
use crate::samples;

#[test]
fn configuration_and_rules_are_valid() {
    let config = repository().join("conf/prometheus.yml");
    promtool_passes(&["check", "config", config.to_str().unwrap()]);
}

#[test]
fn alerts_fire_when_they_should() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/monitoring/alerts_test.yml");
    promtool_passes(&["test", "rules", tests]);
}

#[test]
fn alerts_ask_only_for_metrics_there_are() {
    let rules = fs::read_to_string(repository().join("conf/alerts.yml")).unwrap();
    let asked = samples::families_in(&rules);
    assert!(asked.len() > 10, "{asked:?}");
    let there = samples::families();
    let missing: Vec<_> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_is_explained_in_the_documentation() {
    let rules = fs::read_to_string(repository().join("conf/alerts.yml")).unwrap();
    let manual = fs::read_to_string(repository().join("docs/monitoring.md")).unwrap();
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(manual.contains(&format!("`{alert}`")), "docs/monitoring.md does not say what {alert} means");
    }
}
