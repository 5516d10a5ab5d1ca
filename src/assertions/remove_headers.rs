//! `remove_headers`: takes header fields away.
//!
//! Removing an absent field is a pass. Fields that say where a message ends, or whose it is, stay
//! (RFC 9112 §6, RFC 9110 §7.2).

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::header::is_of_connection;
use crate::compile::message::Message;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Step};
use crate::engine::exchange::{AnswerEdit, Exchange};
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Side;
use crate::engine::serve::apply;
use crate::source::{Literal, OneOrMany};

pub const KIND: Kind = Kind {
    main: Some("names"),
    examples: &[
        Example {
            title: "What tells too much, in both directions",
            yaml: r#"
service: example
match: { path: /orders }
policy:
  - remove_headers: [x-debug, x-internal-*]
  - route: http://127.0.0.1:9000
  - remove_headers: [server, x-powered-by]
tests:
  - name: named fields and those below a star go
    given: { upstream: [{ answer: { headers: { server: thing/1.2, x-kept: a } } }] }
    request: { headers: { x-debug: "1", x-internal-user: root, x-other: b } }
    expect:
      status: 200
      headers: { server: { absent: true }, x-kept: a }
      upstream: [{ headers: { x-debug: { absent: true }, x-internal-user: { absent: true }, x-other: b } }]
"#,
        },
        Example {
            title: "All but a few, on whatever leaves",
            yaml: r#"
service: example
match: { path: /orders }
policy:
  - remove_headers: { message: answer, keep: [content-type, x-kept] }
  - respond: { text: hello, headers: { x-kept: a, x-other: b } }
tests:
  - name: what is not kept goes
    request: {}
    expect:
      status: 200
      text: hello
      headers: { x-kept: a, x-other: { absent: true } }
"#,
        },
    ],
    ..Kind::of::<RemoveHeaders>("remove_headers", "Takes header fields away.", Category::Messages)
};

/// Parameters of `remove_headers`. Exactly one of `names` and `keep`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RemoveHeaders {
    /// Fields to remove; a trailing star stands for all names that begin so.
    #[serde(default)]
    names: Option<OneOrMany<Literal>>,
    /// Removes all fields but these.
    #[serde(default)]
    keep: Option<OneOrMany<Literal>>,
    /// `request` before `route`, `response` behind it; `answer` is whatever leaves, faults included.
    #[serde(default)]
    message: Option<Message>,
}

impl Assertion for RemoveHeaders {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        cx.changes_message(step.span);
        let target = cx.side_or_answer(self.message, step.span)?;
        let edits = match (self.names, self.keep) {
            (Some(names), None) => {
                let edits: Vec<Option<AnswerEdit>> = names.iter().map(|name| removal(name, cx)).collect();
                edits.into_iter().collect::<Option<Vec<_>>>()?
            }
            (None, Some(keep)) => {
                let names: Vec<Option<HeaderName>> = keep.iter().map(|name| kept(name, cx)).collect();
                let names = names.into_iter().collect::<Option<Vec<_>>>()?;
                vec![AnswerEdit::Keep(Arc::from(names))]
            }
            _ => {
                let help = "write `remove_headers: [server, x-powered-by]`";
                let message = "`remove_headers` takes exactly one of `names` and `keep`";
                return cx.refuse("policy.bad_value", step.span, message, help);
            }
        };
        for edit in &edits {
            if let (Some(side), AnswerEdit::Remove(name)) = (target, edit) {
                cx.flow.carried.remove_field(side, name.as_str());
            }
        }
        Compiled::plain(RemoveHeadersStep { target, edits })
    }
}

fn removal(literal: &Literal, cx: &mut Compile<'_>) -> Option<AnswerEdit> {
    let name = cx.literal(literal)?.to_ascii_lowercase();
    let Some(prefix) = name.strip_suffix('*') else {
        return field(&name, literal, cx).map(AnswerEdit::Remove);
    };
    if prefix.is_empty() {
        let help = "to remove all fields but some write `keep: [...]`";
        return cx.refuse("policy.bad_header", literal.span(), "a lone star would remove every field", help);
    }
    token(prefix).map(|_| AnswerEdit::RemovePrefix(prefix.into())).or_else(|| {
        let help = "one star may stand at the end: `x-internal-*`";
        cx.refuse("policy.bad_header", literal.span(), format!("`{name}` is no field name"), help)
    })
}

/// A field name. A star is a legal character of one (RFC 9110 §5.6.2), but here it is a pattern.
fn token(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| !name.contains('*'))
}

fn kept(literal: &Literal, cx: &mut Compile<'_>) -> Option<HeaderName> {
    let name = cx.literal(literal)?.to_ascii_lowercase();
    token(&name).or_else(|| {
        let message = format!("`{name}` is no field name (RFC 9110 §5.1)");
        cx.refuse("policy.bad_header", literal.span(), message, "stars stand in `names` only")
    })
}

/// A field that may go. Unlike one that is set it may hold an underscore: it is somebody else's.
fn field(name: &str, literal: &Literal, cx: &mut Compile<'_>) -> Option<HeaderName> {
    match token(name) {
        Some(field) if is_of_connection(&field) => {
            let message = format!("`{field}` belongs to the connection or the framing: the gateway sees to it");
            cx.refuse("policy.bad_header", literal.span(), message, "take it out of the list")
        }
        Some(field) => Some(field),
        None => {
            let message = format!("`{name}` is no field name (RFC 9110 §5.1)");
            cx.refuse("policy.bad_header", literal.span(), message, "write `x-powered-by`, or `x-internal-*`")
        }
    }
}

struct RemoveHeadersStep {
    /// `None` is whatever leaves.
    target: Option<Side>,
    edits: Vec<AnswerEdit>,
}

impl Plain for RemoveHeadersStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        match self.target {
            None => self.edits.iter().for_each(|edit| x.edit_answer(edit.clone())),
            Some(side) => {
                if let Some(headers) = x.headers_mut(side) {
                    self.apply(headers);
                }
                if side == Side::Request {
                    x.disown_removed_headers();
                }
            }
        }
        Verdict::Passed
    }
}

impl RemoveHeadersStep {
    fn apply(&self, headers: &mut HeaderMap) {
        for edit in &self.edits {
            apply(edit.clone(), headers);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn framing_stays_whatever_is_removed() {
        let steps = "  - remove_headers: { keep: [x-a] }\n  - route: http://127.0.0.1:9000\n  - respond: 200";
        let outcome = Trial::of(steps).send("POST", "/", &[("x-a", "1"), ("x-b", "2"), ("cookie", "a=b")], "body");
        assert_eq!(outcome.sent_header("x-a"), Some("1"));
        assert_eq!((outcome.sent_header("x-b"), outcome.sent_header("cookie")), (None, None));
        assert_eq!(outcome.sent[0].body, "body");
    }

    #[test]
    fn names_are_checked_at_load() {
        let remove = |remove: &str| refusals(&format!("  - remove_headers: {remove}\n  - respond: 204"));
        assert!(remove("[x_odd, X-Upper, \"x-*\"]").is_empty());
        assert_eq!(remove("transfer-encoding"), ["policy.bad_header"]);
        assert_eq!(remove("\"*\""), ["policy.bad_header"]);
        assert_eq!(remove("\"x-*-y\""), ["policy.bad_header"]);
        assert_eq!(remove("{ names: [a], keep: [b] }"), ["policy.bad_value"]);
        assert_eq!(remove("{ keep: [\"a*\"] }"), ["policy.bad_header"]);
        assert_eq!(remove("{ names: [a], message: response }"), ["policy.no_response"]);
    }

    #[test]
    fn removing_what_is_not_there_is_a_pass() {
        let steps = "  - remove_headers: [x-none, x-none-*]\n  - route: http://127.0.0.1:9000\n  - remove_headers: { keep: [] }";
        let outcome = Trial::of(steps).answering(&[("x-a", "1")], "body").get("/");
        assert_eq!((outcome.status, outcome.header("x-a"), outcome.body.as_str()), (200, None, "body"));
        let lost = outcome.sent[0].headers.keys().any(|name| name.as_str().starts_with("x-none"));
        assert!(!lost);
    }
}
