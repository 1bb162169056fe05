//! Collects families of metrics and writes them down.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::Values;

/// Longer values of labels are cut: a job's name is repeated in every line of it.
const LONGEST_LABEL: usize = 256;

/// The families of an exposition.
///
/// Families of one scope have the same series (all tasks, all jobs), so the labels of these are kept once for the scope, and a
/// family is a column of values. A TaskManager may run thousands of tasks with two dozen families each; labels are most of it.
#[derive(Debug, Default)]
pub(super) struct Families {
    scopes: Vec<Vec<Metric>>,
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: MetricType,
    scope: usize,
    /// By series of the scope.
    values: Vec<f64>,
}

/// The families of one scope are added through this.
pub(super) struct Scope<'f> {
    families: &'f mut BTreeMap<String, Family>,
    index: usize,
    series: usize,
}

impl Families {
    /// A scope with these series, by their labels.
    pub(super) fn scope(&mut self, series: impl IntoIterator<Item = Vec<LabelPair>>) -> Scope<'_> {
        self.scopes.push(series.into_iter().map(Metric::from_label).collect());
        let index = self.scopes.len() - 1;
        Scope { families: &mut self.families, index, series: self.scopes[index].len() }
    }

    /// Everything in Prometheus' text format, by name.
    pub(super) fn encode(mut self) -> String {
        let mut text = String::new();
        for (name, family) in self.families {
            let mut metrics = std::mem::take(&mut self.scopes[family.scope]);
            for (metric, value) in metrics.iter_mut().zip(&family.values) {
                set(metric, family.kind, *value);
            }
            let mut encoded = MetricFamily::default();
            encoded.set_name(name);
            encoded.set_help(family.help);
            encoded.set_field_type(family.kind);
            encoded.set_metric(metrics);
            TextEncoder::new()
                .encode_utf8(std::slice::from_ref(&encoded), &mut text)
                .expect("the family has a name and a sample, and a String takes everything");
            self.scopes[family.scope] = std::mem::take(encoded.mut_metric());
        }
        text
    }
}

impl Scope<'_> {
    /// A gauge with these values, by series.
    pub(super) fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = f64>) {
        self.add(name.to_owned(), MetricType::GAUGE, help.to_owned(), values);
    }

    /// A counter with these values, by series.
    pub(super) fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = f64>) {
        self.add(name.to_owned(), MetricType::COUNTER, help.to_owned(), values);
    }

    /// A metric under the name, type and description that Flink's reporter gives it in `scope`.
    pub(super) fn flink(&mut self, scope: &str, name: &str, values: impl IntoIterator<Item = f64>) {
        let family = family_name(&format!("flink_{scope}_{name}"));
        self.add(family, MetricType::GAUGE, format!("{name} (scope: {scope})"), values);
    }

    /// [`Self::flink`] for all metrics of the scope; `values` are by series. What one of them lacks is NaN.
    pub(super) fn flink_values(&mut self, scope: &str, values: &[Values]) {
        let names: std::collections::BTreeSet<&String> = values.iter().flat_map(Values::keys).collect();
        for name in names {
            let column = values.iter().map(|values| values.get(name).copied().unwrap_or(f64::NAN));
            self.flink(scope, name, column);
        }
    }

    fn add(&mut self, name: String, kind: MetricType, help: String, values: impl IntoIterator<Item = f64>) {
        let values: Vec<_> = values.into_iter().take(self.series).collect();
        debug_assert_eq!(values.len(), self.series, "{name} has a value for each series");
        // A family without a sample is not written.
        if !values.is_empty() {
            self.families.insert(name, Family { help, kind, scope: self.index, values });
        }
    }
}

fn set(metric: &mut Metric, kind: MetricType, value: f64) {
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
}

/// What does not belong into the name of a family becomes `_`.
fn family_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect()
}

/// A label. Control characters other than line ends are no part of the format, not even escaped.
pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let clean = |c: char| if c.is_control() && c != '\n' { '_' } else { c };
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.chars().take(LONGEST_LABEL).map(clean).collect());
    pair
}

/// `labels` and one more.
pub(super) fn with(labels: &[LabelPair], name: &str, value: &str) -> Vec<LabelPair> {
    labels.iter().cloned().chain([label(name, value)]).collect()
}

/// `labels` and one more of a name that is anybody's choice.
pub(super) fn with_own(mut labels: Vec<LabelPair>, name: &str, value: &str) -> Vec<LabelPair> {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut name: String = name.chars().take(LONGEST_LABEL).map(fits).collect();
    // Names that begin with two underscores are Prometheus' own.
    name = name.trim_start_matches('_').to_owned();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "label_");
    }
    while labels.iter().any(|pair| pair.name() == name) {
        name.push('_');
    }
    labels.push(label(&name, value));
    labels
}
