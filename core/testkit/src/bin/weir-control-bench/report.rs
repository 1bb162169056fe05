//! Rows of results, and the figures they are to reach.

use std::fmt::Write;

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) measure: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

impl Row {
    pub(crate) fn new(measure: &'static str, value: f64, unit: &'static str) -> Row {
        Row { measure, value, unit }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "measure": self.measure, "value": self.value, "unit": self.unit })
    }
}

/// What a figure is to reach.
struct Goal {
    measure: &'static str,
    must: f64,
    aim: f64,
    /// Whether more is better.
    more: bool,
}

const fn at_most(measure: &'static str, must: f64, aim: f64) -> Goal {
    Goal { measure, must, aim, more: false }
}

const fn at_least(measure: &'static str, must: f64, aim: f64) -> Goal {
    Goal { measure, must, aim, more: true }
}

/// In the units of the rows.
const GOALS: [Goal; 12] = [
    at_most("control.cluster-start", 0.25, 0.1),
    at_most("control.submit-to-running", 30.0, 10.0),
    at_most("control.run-command", 90.0, 30.0),
    at_most("control.memory-jobmanager", 20.0, 8.0),
    at_most("control.memory-taskmanager", 20.0, 8.0),
    at_least("control.tasks-to-running", 2700.0, 10_000.0),
    at_least("control.tasks-to-running-all-to-all", 2700.0, 10_000.0),
    at_most("control.recovery", 0.7, 0.15),
    at_most("control.recovery-state", 0.7, 0.15),
    at_least("control.taskmanagers", 325.0, 1000.0),
    at_most("scale.deploy", 3.0, 1.0),
    at_most("scale.jobmanager-memory-running", 200.0, 50.0),
];

/// The middle of some measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// For people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<44} {:>12} {:<7} {:>9} {:>9}\n", "measure", "value", "unit", "must", "aim");
    for row in rows {
        // Writing to a String does not fail.
        let _ = write!(text, "{:<44} {:>12.3} {:<7}", row.measure, row.value, row.unit);
        if let Some(goal) = GOALS.iter().find(|goal| goal.measure == row.measure) {
            let sign = if goal.more { "≥" } else { "≤" };
            let _ = write!(
                text,
                " {:>9} {:>9}  {}",
                format!("{sign} {}", goal.must),
                format!("{sign} {}", goal.aim),
                goal.verdict(row)
            );
        }
        text.push('\n');
    }
    text
}

impl Goal {
    fn verdict(&self, row: &Row) -> &'static str {
        let reaches = |limit: f64| if self.more { row.value >= limit } else { row.value <= limit };
        match () {
            () if reaches(self.aim) => "aim reached",
            () if reaches(self.must) => "must reached",
            () => "MISSED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn verdicts_know_which_way_is_better() {
        let text = |measure, value| table(&[Row::new(measure, value, "x")]);
        assert!(text("control.recovery", 0.1).contains("aim reached"));
        assert!(text("control.recovery", 0.7).contains("must reached"));
        assert!(text("control.recovery", 0.71).contains("MISSED"));
        assert!(text("control.tasks-to-running", 2000.0).contains("MISSED"));
        assert!(text("control.tasks-to-running", 20_000.0).contains("aim reached"));
    }
}
