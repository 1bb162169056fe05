//! The Grafana dashboards.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use serde_json::Value;

use crate::fixture::{promtool_passes, repository};
use crate::samples;

/// The dashboards by file name.
fn dashboards() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository().join("conf/grafana")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        found.push((name.clone(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["cluster.json", "job.json"]);
    found
}

fn list<'v>(value: &'v Value, what: &str) -> &'v [Value] {
    value.as_array().unwrap_or_else(|| panic!("{what}: {value}"))
}

/// What the panels of a dashboard ask Prometheus for.
fn expressions(board: &Value) -> Vec<&str> {
    let panels = list(&board["panels"], "panels").iter().filter(|panel| panel["type"] != "row");
    panels.flat_map(|panel| list(&panel["targets"], "targets")).map(|target| target["expr"].as_str().unwrap()).collect()
}

fn variables(board: &Value) -> &[Value] {
    list(&board["templating"]["list"], "variables")
}

#[test]
fn dashboards_ask_only_for_metrics_there_are() {
    let there = samples::families();
    for (name, board) in dashboards() {
        let mut asked: BTreeSet<_> = expressions(&board).into_iter().flat_map(samples::families_in).collect();
        let queries = variables(&board).iter().filter_map(|variable| variable["definition"].as_str());
        asked.extend(queries.flat_map(samples::families_in));
        assert!(asked.len() > 10, "{name}: {asked:?}");
        let missing: Vec<_> = asked.difference(&there).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn panels_are_told_apart_and_lie_side_by_side() {
    let mut boards = BTreeSet::new();
    for (name, board) in dashboards() {
        assert!(boards.insert(board["uid"].as_str().unwrap().to_owned()), "{name}");
        assert!(board["title"].as_str().unwrap().starts_with("Weir / "), "{name}");
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in list(&board["panels"], "panels") {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {panel}");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {panel}");
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{name}: {} covers another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn variables_that_are_used_exist() {
    for (name, board) in dashboards() {
        let known: Vec<_> = variables(&board).iter().map(|variable| variable["name"].as_str().unwrap()).collect();
        for expression in expressions(&board) {
            for used in expression.split('$').skip(1) {
                let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                assert!(used == "__rate_interval" || known.contains(&used.as_str()), "{name}: ${used} in {expression}");
            }
        }
    }
}

#[test]
fn prometheus_understands_the_expressions() {
    let mut rules = String::from("groups:\n  - name: dashboards\n    rules:\n");
    for (name, board) in dashboards() {
        for (index, expression) in expressions(&board).into_iter().enumerate() {
            let expression = expression.replace("$__rate_interval", "1m");
            let stem = name.trim_end_matches(".json");
            writeln!(rules, "      - record: {stem}:panel:{index}").unwrap();
            writeln!(rules, "        expr: {}", serde_json::to_string(&expression).unwrap()).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.yml");
    fs::write(&path, rules).unwrap();
    promtool_passes(&["check", "rules", path.to_str().unwrap()]);
}
