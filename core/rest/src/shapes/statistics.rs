//! How values of several tasks spread.

use serde::Serialize;
use weir_model::SubtaskView;

use super::attempt::{REPORTED, StatusDurations};
use super::io_metrics::IoStatistics;

/// The spread of some whole numbers; zeros if there are none.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Statistics {
    min: i64,
    max: i64,
    avg: i64,
    sum: i64,
    median: i64,
    p25: i64,
    p75: i64,
    p95: i64,
}

impl Statistics {
    pub(crate) fn of(values: impl Iterator<Item = i64>) -> Self {
        let mut values = values.collect::<Vec<_>>();
        values.sort_unstable();
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let sum = values.iter().fold(0i64, |sum, value| sum.saturating_add(*value));
        let at = |percent| percentile(&values, percent) as i64;
        let avg = sum / values.len() as i64;
        Self { min, max, avg, sum, median: at(50.0), p25: at(25.0), p75: at(75.0), p95: at(95.0) }
    }
}

/// As Flink estimates it: the position `percent · (n + 1)`, interpolated between its neighbours. `values` are sorted, not empty.
pub(super) fn percentile(values: &[i64], percent: f64) -> f64 {
    let position = percent / 100.0 * (values.len() as f64 + 1.0);
    let below = position.floor();
    if below < 1.0 {
        return values[0] as f64;
    }
    let (Some(&low), Some(&high)) = (values.get(below as usize - 1), values.get(below as usize)) else {
        return values[values.len() - 1] as f64;
    };
    low as f64 + (position - below) * (high as f64 - low as f64)
}

/// The spread over tasks of all that a task shows in numbers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Aggregated {
    metrics: IoStatistics,
    status_duration: StatusStatistics,
}

impl Aggregated {
    pub(crate) fn of(tasks: &[&SubtaskView], now: u64) -> Self {
        let durations = tasks.iter().map(|task| StatusDurations::of(task, now)).collect::<Vec<_>>();
        // A task that has not been in a state says nothing about how long that takes.
        let over = |index: usize| Statistics::of(durations.iter().map(|task| task.0[index]).filter(|&time| time >= 0));
        Self { metrics: IoStatistics::of(tasks), status_duration: StatusStatistics(std::array::from_fn(over)) }
    }
}

#[derive(Debug)]
struct StatusStatistics([Statistics; REPORTED.len()]);

impl Serialize for StatusStatistics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(REPORTED.iter().map(|state| state.name()).zip(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_interpolated_between_neighbours() {
        let of = |values: &[i64]| Statistics::of(values.iter().copied());
        assert_eq!(of(&[]), Statistics::default());
        let one = of(&[7]);
        assert_eq!((one.min, one.max, one.avg, one.median, one.p25, one.p95), (7, 7, 7, 7, 7, 7));
        let four = of(&[40, 10, 20, 30]);
        assert_eq!((four.min, four.max, four.avg, four.sum), (10, 40, 25, 100));
        assert_eq!((four.p25, four.median, four.p75, four.p95), (12, 25, 37, 40));
    }
}
