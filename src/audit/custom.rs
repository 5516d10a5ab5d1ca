//! Metrics that policies define: counters, gauges and histograms with labels.
//!
//! A metric keeps the kind, labels and buckets of its first use until the process ends; a step that means another
//! thing by the same name is a mistake that is counted. Label sets are bounded: further ones become `other`; and so are
//! metrics, by [`METRICS_MAX`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::metrics::family::{Family, FamilyKind, Point, PointValue, escaped};

/// Metrics that are counted since the process began, those that reloads took away too; a further one cannot be counted.
pub const METRICS_MAX: usize = 1000;
/// Largest value: above it a sum no longer notices what is added in ones.
const VALUE_MAX: f64 = 9_007_199_254_740_992.0;
/// Label sets of one metric.
pub const LABEL_SETS_MAX: usize = 1000;
/// Longest label value, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;
/// Upper bounds of a histogram without its own.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How values add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// They are added; none is negative.
    Counter,
    /// The last one stays.
    Gauge,
    /// They are counted by size.
    Histogram,
}

impl MetricKind {
    fn family(self) -> FamilyKind {
        match self {
            MetricKind::Counter => FamilyKind::Counter,
            MetricKind::Gauge => FamilyKind::Gauge,
            MetricKind::Histogram => FamilyKind::Histogram,
        }
    }
}

/// What a step means by a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub kind: MetricKind,
    pub unit: Option<String>,
    /// Names of the labels, in their order.
    pub labels: Vec<String>,
    /// Upper bounds in rising order; of histograms only.
    pub buckets: Vec<f64>,
}

/// A value that cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncountable;

#[derive(Debug)]
struct Metric {
    shape: Shape,
    series: BTreeMap<Vec<String>, Series>,
}

#[derive(Debug, Default)]
struct Series {
    /// The value, or the sum of a histogram.
    value: f64,
    /// By bucket, the last for what is above all bounds.
    counts: Vec<u64>,
}

/// All metrics of policies.
#[derive(Debug, Default)]
pub struct Custom(RwLock<BTreeMap<String, Arc<Mutex<Metric>>>>);

impl Custom {
    /// Counts a value of a metric. `labels` are as many as the shape names.
    pub fn count(&self, name: &str, shape: &Shape, labels: Vec<String>, value: f64) -> Result<(), Uncountable> {
        if !value.is_finite() || value.abs() > VALUE_MAX || (shape.kind == MetricKind::Counter && value < 0.0) {
            return Err(Uncountable);
        }
        let metric = self.metric(name, shape).ok_or(Uncountable)?;
        let mut metric = metric.lock().unwrap_or_else(PoisonError::into_inner);
        if metric.shape != *shape {
            return Err(Uncountable);
        }
        let full = metric.series.len() >= LABEL_SETS_MAX && !metric.series.contains_key(&labels);
        let labels = if full { vec!["other".to_owned(); labels.len()] } else { labels };
        let series = metric.series.entry(labels).or_default();
        match shape.kind {
            MetricKind::Counter => series.value += value,
            MetricKind::Gauge => series.value = value,
            MetricKind::Histogram => {
                series.value += value;
                series.counts.resize(shape.buckets.len() + 1, 0);
                let bucket = shape.buckets.partition_point(|bound| *bound < value);
                if let Some(count) = series.counts.get_mut(bucket) {
                    *count += 1;
                }
            }
        }
        Ok(())
    }

    fn metric(&self, name: &str, shape: &Shape) -> Option<Arc<Mutex<Metric>>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let make = || Arc::new(Mutex::new(Metric { shape: shape.clone(), series: BTreeMap::new() }));
            let fits = all.len() < METRICS_MAX || all.contains_key(name);
            fits.then(|| all.entry(name.to_owned()).or_insert_with(make).clone())
        })
    }

    /// Appends all of them.
    pub(super) fn families(&self, all: &mut Vec<Family>) {
        for (name, metric) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let metric = metric.lock().unwrap_or_else(PoisonError::into_inner);
            let Metric { shape, series } = &*metric;
            let unit = shape.unit.as_ref().map_or(String::new(), |unit| format!(", in {}", escaped(unit)));
            let help = format!("Counted by a policy{unit}.");
            let mut family = Family::new(format!("gatewright_custom_{name}"), shape.kind.family(), help);
            family.points.extend(series.iter().map(|(values, series)| {
                let labels = shape.labels.iter().zip(values);
                let labels = labels.map(|(name, value)| (Cow::Owned(name.clone()), value.clone()));
                Point { labels: labels.collect(), value: series.value_of(shape) }
            }));
            all.push(family);
        }
    }
}

impl Series {
    fn value_of(&self, shape: &Shape) -> PointValue {
        match shape.kind {
            MetricKind::Histogram => {
                PointValue::Histogram { bounds: shape.buckets.clone(), counts: self.counts.clone(), sum: self.value }
            }
            _ => PointValue::Real(self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kind: MetricKind, labels: &[&str]) -> Shape {
        let labels = labels.iter().map(|name| (*name).to_owned()).collect();
        Shape { kind, unit: None, labels, buckets: vec![1.0, 2.5] }
    }

    fn rendered(custom: &Custom) -> String {
        let (mut families, mut out) = (Vec::new(), String::new());
        custom.families(&mut families);
        families.iter().for_each(|family| family.render(&mut out));
        out
    }

    #[test]
    fn each_kind_adds_up_in_its_way() {
        let custom = Custom::default();
        for (name, kind) in [("c", MetricKind::Counter), ("g", MetricKind::Gauge), ("h", MetricKind::Histogram)] {
            for value in [1.0, 3.0, 2.0] {
                custom.count(name, &shape(kind, &[]), Vec::new(), value).unwrap();
            }
        }
        let text = rendered(&custom);
        assert!(text.contains("# TYPE gatewright_custom_c counter\ngatewright_custom_c 6\n"), "{text}");
        assert!(text.contains("gatewright_custom_g 2\n"), "{text}");
        let buckets = "gatewright_custom_h_bucket{le=\"1\"} 1\ngatewright_custom_h_bucket{le=\"2.5\"} 2\n\
                       gatewright_custom_h_bucket{le=\"+Inf\"} 3\ngatewright_custom_h_sum 6\ngatewright_custom_h_count 3\n";
        assert!(text.contains(buckets), "{text}");
    }

    #[test]
    fn label_sets_are_bounded_and_harmless() {
        let custom = Custom::default();
        let shape = shape(MetricKind::Counter, &["who"]);
        for number in 0..LABEL_SETS_MAX + 5 {
            custom.count("c", &shape, vec![format!("w{number}\"\n")], 1.0).unwrap();
        }
        custom.count("c", &shape, vec!["w1\"\n".into()], 1.0).unwrap();
        let text = rendered(&custom);
        assert!(text.contains("{who=\"other\"} 5\n") && text.contains("{who=\"w1\\\"\\n\"} 2\n"), "{text}");
        assert_eq!(text.lines().count(), LABEL_SETS_MAX + 3);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let custom = Custom::default();
        let counter = shape(MetricKind::Counter, &[]);
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(custom.count("c", &counter, Vec::new(), value), Err(Uncountable));
        }
        custom.count("c", &counter, Vec::new(), 1.0).unwrap();
        assert_eq!(custom.count("c", &shape(MetricKind::Gauge, &[]), Vec::new(), 1.0), Err(Uncountable));
    }

    #[test]
    fn metrics_are_bounded_too() {
        let (custom, shape) = (Custom::default(), shape(MetricKind::Counter, &[]));
        for number in 0..METRICS_MAX {
            custom.count(&format!("m{number}"), &shape, Vec::new(), 1.0).unwrap();
        }
        assert_eq!(custom.count("one_more", &shape, Vec::new(), 1.0), Err(Uncountable));
        custom.count("m1", &shape, Vec::new(), 1.0).unwrap();
        assert!(rendered(&custom).contains("\ngatewright_custom_m1 2\n"));
    }
}
