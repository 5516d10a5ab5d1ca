//! `count_metric`: feeds a metric that the operator defines.
//!
//! Exported as `gatewright_custom_NAME` in Prometheus' text format. Counting never decides about a request: a value
//! that cannot be counted is counted in `gatewright_metric_errors`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::audit::custom::{BUCKETS, LABEL_BYTES_MAX, MetricKind, Shape};
use crate::compile::text::{Sink, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::value::Val;
use crate::expr::Place;
use crate::source::{Entries, Literal, Name, OneOrMany, Spanned, Text};

/// Most buckets of one histogram.
const BUCKETS_MAX: usize = 100;

pub const KIND: Kind = Kind {
    main: Some("name"),
    in_finally: true,
    bodies: "only what it reads",
    examples: &[Example {
        title: "Orders by tenant, and their size",
        yaml: r#"
service: example
match: { path: "/{tenant}/orders", methods: [POST] }
policy:
  - count_metric: { name: orders, labels: { tenant: "${path.tenant}" } }
  - count_metric: { name: order_bytes, kind: histogram, unit: bytes, value: "${request.size}", buckets: [100, 1000] }
  - respond: 204
tests:
  - name: counting changes nothing
    request: { path: /acme/orders, json: { id: 1 } }
    expect: { status: 204 }
"#,
    }],
    ..Kind::of::<CountMetric>("count_metric", "Feeds an operator's metric.", Category::Records)
};

/// Parameters of `count_metric`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountMetric {
    /// Lower-case letters and `_`; exported as `gatewright_custom_NAME`.
    name: Literal,
    /// How values add up.
    #[serde(default)]
    kind: Word,
    /// A number; 1 without it.
    #[serde(default)]
    value: Option<Text>,
    /// Said in the help text of the metric.
    #[serde(default)]
    unit: Option<Literal>,
    /// Values by which it is told apart, at most 1000 sets; each is cut to 128 bytes, an absent one is empty.
    #[serde(default)]
    labels: Entries<Text>,
    /// Upper bounds of a histogram, rising.
    #[serde(default)]
    buckets: Option<Spanned<OneOrMany<f64>>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// Values are added.
    #[default]
    Counter,
    /// The last value stays.
    Gauge,
    /// Values are counted by size.
    Histogram,
}

impl Assertion for CountMetric {
    fn compile(self, _: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let name = cx.literal(&self.name)?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            let message = format!("`{name}` is no name of a metric: lower-case letters and `_` are");
            return cx.refuse("policy.bad_value", self.name.span(), message, "write `name: orders`");
        }
        let value = match &self.value {
            Some(value) => Some(metric_text(value, cx)?),
            None => None,
        };
        let labels: Vec<Option<(String, TextParam)>> =
            self.labels.iter().map(|(name, text)| labelled(name, text, cx)).collect();
        let labels = labels.into_iter().collect::<Option<Vec<_>>>()?;
        let buckets = self.buckets(cx)?;
        let unit = match &self.unit {
            Some(unit) => Some(cx.literal(unit)?),
            None => None,
        };
        let kind = match self.kind {
            Word::Counter => MetricKind::Counter,
            Word::Gauge => MetricKind::Gauge,
            Word::Histogram => MetricKind::Histogram,
        };
        let (labels, texts) = labels.into_iter().unzip();
        Compiled::plain(CountMetricStep { name, shape: Shape { kind, unit, labels, buckets }, value, texts })
    }
}

impl CountMetric {
    fn buckets(&self, cx: &mut Compile<'_>) -> Option<Vec<f64>> {
        let Some(buckets) = &self.buckets else {
            return Some(if self.kind == Word::Histogram { BUCKETS.to_vec() } else { Vec::new() });
        };
        if self.kind != Word::Histogram {
            let help = "write `kind: histogram`, or remove them";
            return cx.refuse("policy.bad_value", buckets.span, "`buckets` belong to a histogram", help);
        }
        let bounds = &buckets.value.0;
        let rising = bounds.iter().zip(bounds.iter().skip(1)).all(|(low, high)| low < high);
        let usable = bounds.iter().all(|bound| bound.is_finite());
        if bounds.is_empty() || bounds.len() > BUCKETS_MAX || !rising || !usable {
            let message = format!("expected 1 to {BUCKETS_MAX} numbers, each greater than the one before");
            return cx.refuse("policy.bad_value", buckets.span, message, "write `buckets: [0.1, 1, 10]`");
        }
        Some(bounds.clone())
    }
}

fn labelled(name: &Name, text: &Text, cx: &mut Compile<'_>) -> Option<(String, TextParam)> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let first = name.name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !first || !name.name.bytes().all(legal) || name.name == "le" {
        let message = format!("`{}` is no label: lower-case letters, digits and `_` are, but not `le`", name.name);
        return cx.refuse("policy.bad_value", name.span, message, "write `labels: { tenant: \"${path.tenant}\" }`");
    }
    Some((name.name.clone(), metric_text(text, cx)?))
}

/// A text that goes into a metric, which everybody who scrapes it can read.
fn metric_text(text: &Text, cx: &mut Compile<'_>) -> Option<TextParam> {
    let compiled = cx.text_into(text, Place::Plain, Sink::Record)?;
    if compiled.facts().mark.is_credential() {
        let message = "a credential would stand in a metric";
        let help = "count by `${auth.subject}` or another name of the caller";
        return cx.refuse("policy.secret_leak", text.span(), message, help);
    }
    Some(compiled)
}

struct CountMetricStep {
    name: String,
    shape: Shape,
    value: Option<TextParam>,
    texts: Vec<TextParam>,
}

impl Plain for CountMetricStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        let metrics = &x.worker.shared.metrics;
        let counted = self.value(x).zip(self.labels(x)).is_some_and(|(value, labels)| {
            let counted = metrics.custom.count(&self.name, &self.shape, labels, value);
            counted.is_ok()
        });
        if !counted {
            metrics.add("gatewright_metric_errors", "Values of count_metric steps that could not be counted.", 1);
        }
        Verdict::Passed
    }
}

impl CountMetricStep {
    fn value(&self, x: &Exchange) -> Option<f64> {
        let Some(value) = &self.value else { return Some(1.0) };
        match value.value(x).ok()? {
            Val::Int(int) => Some(int as f64),
            Val::Float(float) => Some(float),
            Val::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn labels(&self, x: &Exchange) -> Option<Vec<String>> {
        let label = |text: &TextParam| {
            let text = text.read_optional(x).ok()?.unwrap_or_default();
            let end = (0..=LABEL_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            Some(text.get(..end.unwrap_or_default()).unwrap_or_default().to_owned())
        };
        self.texts.iter().map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn what_is_counted_can_be_scraped() {
        let steps =
            "  - count_metric: { name: seen, value: \"${request.query.n}\", labels: { who: \"${request.query.who}\" } }
  - respond: 204";
        let trial = Trial::of(steps);
        let long = format!("/?n=2&who={}", "é".repeat(100));
        for path in [
            "/?n=1.5&who=a",
            "/?n=2&who=a",
            "/?n=1",
            "/?n=x&who=a",
            "/?who=a",
            "/?n=-1",
            "/?n=1e308&who=a",
            long.as_str(),
        ] {
            assert_eq!(trial.get(path).status, 204);
        }
        let text = trial.metrics();
        assert!(text.contains("gatewright_custom_seen{who=\"a\"} 3.5\n"), "{text}");
        assert!(text.contains("gatewright_custom_seen{who=\"\"} 1\n"), "{text}");
        assert!(text.contains(&format!("gatewright_custom_seen{{who=\"{}\"}} 2\n", "é".repeat(64))), "{text}");
        assert!(text.contains("gatewright_metric_errors 4\n"), "{text}");
    }

    #[test]
    fn it_may_stand_in_finally() {
        let yaml = "service: trial\nmatch: { path: \"/{*rest}\" }\npolicy:\n  - respond: 404
finally:\n  - count_metric: { name: ended, labels: { status: \"${answer.status}\" } }\n";
        let trial = Trial::of_set(yaml);
        trial.get("/");
        assert!(trial.metrics().contains("gatewright_custom_ended{status=\"404\"} 1\n"));
    }

    #[test]
    fn what_cannot_work_does_not_load() {
        let wrong = [
            ("name: Orders", "policy.bad_value"),
            ("name: a, buckets: [1]", "policy.bad_value"),
            ("name: a, kind: histogram, buckets: [2, 1]", "policy.bad_value"),
            ("name: a, labels: { le: x }", "policy.bad_value"),
            ("name: a, labels: { t: \"${request.headers.authorization}\" }", "policy.secret_leak"),
            ("name: a, value: \"${request.headers.cookie}\"", "policy.secret_leak"),
        ];
        for (params, code) in wrong {
            assert_eq!(refusals(&format!("  - count_metric: {{ {params} }}\n  - respond: 204")), [code], "{params}");
        }
    }
}
