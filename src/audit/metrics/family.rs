//! Numbers on their way out: what a scrape prints and what is sent over OTLP, in one form for both.
//!
//! Prometheus' text format 0.0.4. It counts nothing itself.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

/// How values of a number are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// It only grows, until the process ends.
    Counter,
    /// It stands for a moment.
    Gauge,
    /// Values are counted by size.
    Histogram,
}

impl FamilyKind {
    /// The word of the text format.
    pub fn word(self) -> &'static str {
        match self {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
            FamilyKind::Histogram => "histogram",
        }
    }
}

/// All values of one number.
#[derive(Clone, Debug)]
pub struct Family {
    pub name: Cow<'static, str>,
    pub kind: FamilyKind,
    pub help: Cow<'static, str>,
    pub points: Vec<Point>,
}

/// The value for one set of labels.
#[derive(Clone, Debug)]
pub struct Point {
    /// Names and values, in the order of the names.
    pub labels: Vec<(Cow<'static, str>, String)>,
    pub value: PointValue,
}

/// A value.
#[derive(Clone, Debug)]
pub enum PointValue {
    Whole(u64),
    Real(f64),
    Histogram {
        /// Upper bounds in rising order.
        bounds: Vec<f64>,
        /// By bucket, one more than there are bounds: the last is for what is above all of them.
        counts: Vec<u64>,
        sum: f64,
    },
}

impl Family {
    /// A number without values yet.
    pub fn new(name: impl Into<Cow<'static, str>>, kind: FamilyKind, help: impl Into<Cow<'static, str>>) -> Family {
        Family { name: name.into(), kind, help: help.into(), points: Vec::new() }
    }

    /// Adds the value for a set of labels.
    pub fn add<const N: usize>(&mut self, labels: [(&'static str, &str); N], value: PointValue) {
        let labels = labels.map(|(name, value)| (Cow::Borrowed(name), value.to_owned()));
        self.points.push(Point { labels: labels.into(), value });
    }

    /// Appends it in the text format.
    pub fn render(&self, out: &mut String) {
        let name = &self.name;
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", self.help, self.kind.word());
        for point in &self.points {
            let around = Labels(&point.labels, None);
            let _ = match &point.value {
                PointValue::Whole(value) => writeln!(out, "{name}{around} {value}"),
                PointValue::Real(value) => writeln!(out, "{name}{around} {value}"),
                PointValue::Histogram { bounds, counts, sum } => {
                    let mut running = 0;
                    let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                    for (bound, count) in bounds.zip(counts) {
                        running += count;
                        let _ = writeln!(out, "{name}_bucket{} {running}", Labels(&point.labels, Some(&bound)));
                    }
                    writeln!(out, "{name}_sum{around} {sum}\n{name}_count{around} {running}")
                }
            };
        }
    }
}

/// Labels in braces, with the bound of a bucket as the last; nothing where there is none.
struct Labels<'a>(&'a [(Cow<'static, str>, String)], Option<&'a str>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.0.iter().map(|(name, value)| (&**name, &**value));
        let pairs = pairs.chain(self.1.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in pairs {
            write!(out, "{before}{name}=\"{}\"", escaped(value))?;
            before = ',';
        }
        out.write_str(if before == ',' { "}" } else { "" })
    }
}

/// A label's value as it may stand between quotes.
pub(in crate::audit) fn escaped(value: &str) -> Cow<'_, str> {
    match value.contains(['\\', '"', '\n']) {
        true => value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into(),
        false => value.into(),
    }
}
