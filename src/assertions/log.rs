//! `log`: writes a line to the process log.
//!
//! Recording never decides about a request: an absent value is null, and so is one that cannot be made. No
//! value forges a line or reaches a terminal: control characters are escaped. Secrets do not load, tokens
//! are short keyed hashes.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::compile::text::{Sink, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::expr::Place;
use crate::source::{Entries, Spanned, Text};

/// Longest line, in bytes: message and fields together.
const LINE_BYTES_MAX: usize = 16 * 1024;

pub const KIND: Kind = Kind {
    main: Some("message"),
    in_finally: true,
    bodies: "only what it reads",
    examples: &[Example {
        title: "Slow or failed requests",
        yaml: r#"
service: example
match: { path: /orders }
policy:
  - log: "request for ${request.query.tenant ?? 'nobody'}"
  - route: http://127.0.0.1:9000
finally:
  - when: (answer.status ?? 0) >= 500
    log: { message: order failed, level: warn, fields: { tenant: "${request.query.tenant}", code: "${fault.code}" } }
tests:
  - name: it changes nothing
    given: { upstream: [{ answer: { status: 503 } }] }
    request: { path: "/orders?tenant=a%0Ab" }
    expect: { status: 503, fault: none }
"#,
    }],
    ..Kind::of::<Log>("log", "Writes a line to the process log.", Category::Records)
};

/// Parameters of `log`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Log {
    /// The line.
    message: Text,
    /// How much attention it asks for.
    #[serde(default)]
    level: Level,
    /// Values beside the message, each with its type; an absent one is null.
    #[serde(default)]
    fields: Entries<Text>,
    /// Share of the requests that write a line, from 0 to 1; all without it.
    #[serde(default)]
    sample: Option<Spanned<f64>>,
}

/// Levels of the process log.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Only where the log is set to it.
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl Assertion for Log {
    fn compile(self, _: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let message = cx.text_into(&self.message, Place::Plain, Sink::Record);
        let fields: Vec<Option<(String, TextParam)>> = self
            .fields
            .iter()
            .map(|(name, text)| Some((name.name.clone(), cx.text_into(text, Place::Plain, Sink::Record)?)))
            .collect();
        let sample = match self.sample {
            None => 1.0,
            Some(Spanned { value, .. }) if (0.0..=1.0).contains(&value) => value,
            Some(Spanned { value, span }) => {
                let message = format!("{value} is no share: from 0 to 1");
                return cx.refuse("policy.bad_value", span, message, "write `0.1` for one line in ten");
            }
        };
        let fields = fields.into_iter().collect::<Option<Vec<_>>>()?;
        Compiled::plain(LogStep { message: message?, fields, level: self.level, sample })
    }
}

struct LogStep {
    message: TextParam,
    fields: Vec<(String, TextParam)>,
    level: Level,
    sample: f64,
}

impl Plain for LogStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        if self.level == Level::Debug && !tracing::enabled!(target: "policy", tracing::Level::DEBUG) {
            return Verdict::Passed;
        }
        if self.sample < 1.0 && share(x.worker.random.number()) >= self.sample {
            return Verdict::Passed;
        }
        let (message, fields) = self.line(x);
        let (service, request_id) = (x.service_name(), x.id.as_str());
        match self.level {
            Level::Debug => tracing::debug!(target: "policy", service, request_id, fields = %fields, "{message}"),
            Level::Info => tracing::info!(target: "policy", service, request_id, fields = %fields, "{message}"),
            Level::Warn => tracing::warn!(target: "policy", service, request_id, fields = %fields, "{message}"),
            Level::Error => tracing::error!(target: "policy", service, request_id, fields = %fields, "{message}"),
        }
        Verdict::Passed
    }
}

impl LogStep {
    /// Message and fields, harmless and together at most [`LINE_BYTES_MAX`] long.
    fn line(&self, x: &Exchange) -> (String, String) {
        let mut message = self.message.recorded_text(x);
        x.scrub_line(&mut message);
        let message = harmless(&message, LINE_BYTES_MAX);
        let members = self.fields.iter().map(|(name, text)| (name.clone(), text.recorded(x)));
        let mut fields = Json::Object(members.collect());
        x.scrub_fields(&mut fields);
        let fields = fields.to_string();
        let fields = harmless(&fields, LINE_BYTES_MAX.saturating_sub(message.len()));
        (message, fields)
    }
}

/// A number spread over [0, 1): its upper 53 bits, which a float holds exactly.
fn share(number: u64) -> f64 {
    const STEPS: f64 = (1_u64 << 53) as f64;
    (number >> 11) as f64 / STEPS
}

/// A text with its control characters as `\u` escapes, cut at `bytes_max`. Line separators of other alphabets
/// and marks that reverse the direction of writing count as control characters.
fn harmless(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for char in text.chars() {
        let before = out.len();
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escape(char, &mut out),
            char if char.is_control() => escape(char, &mut out),
            char => out.push(char),
        }
        if out.len() > bytes_max {
            out.truncate(before);
            break;
        }
    }
    out
}

fn escape(char: char, out: &mut String) {
    let _ = write!(out, "\\u{:04x}", u32::from(char));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions::trial::{Trial, refusals, refusals_of, service};

    #[test]
    fn no_value_forges_a_line() {
        assert_eq!(harmless("a\nb\r\u{1b}[31m\u{9b}\u{202e}", 100), "a\\nb\\r\\u001b[31m\\u009b\\u202e");
        assert_eq!(harmless("abc\n", 4), "abc", "never half an escape");
        assert_eq!(harmless("aé", 2), "a");
    }

    #[test]
    fn shares_cover_zero_to_one() {
        assert_eq!(share(0), 0.0);
        assert!(share(u64::MAX) < 1.0);
        assert_eq!(share(1 << 63), 0.5);
    }

    #[test]
    fn a_log_never_stops_a_request() {
        let log = "  - log: { message: \"${request.json.a}\", fields: { b: \"${request.json.b}\" } }\n  - respond: 204";
        assert_eq!(Trial::of(log).send("POST", "/", &[], "no json").status, 204);
    }

    #[test]
    fn secrets_and_wrong_shares_do_not_load() {
        let yaml =
            format!("secret: s\nfrom: {{ env: S }}\n---\n{}", service("  - log: \"${secret('s')}\"\n  - respond: 204"));
        assert!(refusals_of(&yaml).contains(&"policy.secret_leak"));
        assert_eq!(refusals("  - log: { message: a, sample: 2 }\n  - respond: 204"), ["policy.bad_value"]);
    }
}
