//! `set_headers`: sets header fields of the request, the response or whatever leaves.
//!
//! RFC 9110 §5.1 and §5.5: names are checked when the policy loads; a value with CR, LF, NUL or other
//! controls is refused, never cleaned, because it could split the message. Fields of the connection
//! (§7.6.1) and of the framing are not for policies.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use smallvec::{SmallVec, smallvec};

use crate::compile::header::SetHeader;
use crate::compile::message::Message;
use crate::compile::text::Sink;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::{AnswerEdit, Exchange};
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Side;
use crate::engine::serve::apply;
use crate::fault::Fault;
use crate::source::{Entries, Name, Node, OneOrMany, ScalarOr, Text, read};

const INVALID_VALUE: &str = "set_headers.invalid_value";

pub const KIND: Kind = Kind {
    faults: &[
        FaultDoc {
            code: INVALID_VALUE,
            status: 400,
            doc: "A value holds control characters, which no field may have (RFC 9110 §5.5). By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "set_headers.absent",
            status: 400,
            doc: "The one `${}` of a value is absent. Give it a default: `${x ?? 'none'}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "For the upstream, and for the client",
            yaml: r#"
service: example
match: { path: /orders }
policy:
  - set_headers: { x-tenant: "${request.query.tenant}", x-hop: [a, b], accept: { default: application/json } }
  - route: http://127.0.0.1:9000
  - set_headers: { x-served-by: gatewright, vary: { append: origin } }
tests:
  - name: the policy's value takes the place of the client's
    given: { upstream: [{ answer: { headers: { vary: accept } } }] }
    request: { path: "/orders?tenant=acme", headers: { x-tenant: forged, accept: text/plain } }
    expect:
      status: 200
      headers: { x-served-by: gatewright }
      upstream: [{ headers: { x-tenant: acme, accept: text/plain } }]
  - name: the default stands in for an absent field
    given: { upstream: [{ answer: { status: 200 } }] }
    request: { path: "/orders?tenant=acme" }
    expect: { status: 200, upstream: [{ headers: { accept: application/json } }] }
  - name: no value, no request
    request: { path: /orders }
    expect: { status: 400, fault: set_headers.absent, upstream: none }
  - name: a line feed would split the message
    request: { path: "/orders?tenant=a%0D%0Ax-admin:1" }
    expect: { status: 400, fault: set_headers.invalid_value, upstream: none }
"#,
        },
        Example {
            title: "On every answer, faults included",
            yaml: r#"
service: example
match: { path: /orders }
policy:
  - set_headers: { message: answer, headers: { strict-transport-security: max-age=31536000 } }
  - if: request.query.ok == '1'
    then:
      - respond: { status: 204 }
    else:
      - respond: { status: 200, headers: { x-a: "${request.query.a}" } }
tests:
  - name: on an answer
    request: { path: "/orders?ok=1" }
    expect: { status: 204, headers: { strict-transport-security: max-age=31536000 } }
  - name: on a fault
    request: { path: /orders }
    expect: { status: 400, fault: respond.absent, headers: { strict-transport-security: max-age=31536000 } }
"#,
        },
    ],
    ..Kind::of::<SetHeaders>("set_headers", "Sets header fields.", Category::Messages)
};

/// A mapping of field names to values, or `{ message, headers }`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct SetHeaders(Node);

impl JsonSchema for SetHeaders {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SetHeaders".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (long, short) = (generator.subschema_for::<LongForm>(), generator.subschema_for::<Fields>());
        json_schema!({ "anyOf": [long, short] })
    }
}

/// Field names with a text, a list of texts (several fields of one name), `{ append: TEXT }` or
/// `{ default: TEXT }`.
type Fields = Entries<OneOrMany<ScalarOr<Text, EditDoc>>>;

/// The form that says which message it means.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongForm {
    /// `request` before `route`, `response` behind it; `answer` is whatever leaves, faults included.
    #[serde(default)]
    message: Option<Message>,
    /// The fields.
    headers: Fields,
}

/// A change that keeps what is there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditDoc {
    /// One more field of this name.
    #[serde(default)]
    append: Option<Text>,
    /// Only where the message has no field of this name.
    #[serde(default)]
    default: Option<Text>,
}

impl Assertion for SetHeaders {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let what = "the parameters of `set_headers`";
        let (message, fields) = if is_long(&self.0) {
            let LongForm { message, headers } = read(&self.0, None, what, cx.diags)?;
            (message, headers)
        } else {
            (None, read::<Fields>(&self.0, None, what, cx.diags)?)
        };
        cx.changes_message(step.span);
        let target = cx.side_or_answer(message, step.span)?;
        if fields.is_empty() {
            let help = "write `set_headers: { x-name: value }`";
            return cx.refuse("policy.missing_parameter", step.span, "`set_headers` sets no field", help);
        }
        let twice = cx.fields_twice(fields.iter().map(|(name, _)| name));
        let sink = if target == Some(Side::Request) { Sink::Inside } else { Sink::Client };
        let edits: Vec<Option<Edit>> = fields.iter().map(|(name, values)| edit(name, values, sink, cx)).collect();
        let edits = edits.into_iter().collect::<Option<Vec<_>>>().filter(|_| !twice)?;
        for edit in &edits {
            let mark = SetHeader::mark_of_all(&edit.values);
            // What leaves is changed at the end: until then the response has its own.
            let (side, replaces) = (target.unwrap_or(Side::Response), edit.how == How::Set && target.is_some());
            cx.flow.carried.put_field(side, edit.name.as_str(), (mark, step.span), replaces);
        }
        for edit in edits.iter().filter(|edit| target == Some(Side::Request) && edit.how == How::Set) {
            cx.owned_headers.push(edit.name.clone());
        }
        Compiled::plain(SetHeadersStep { target, edits })
    }
}

/// Whether a node is `{ message, headers }`: `headers` holds a mapping, or only `message` was written.
fn is_long(node: &Node) -> bool {
    let words = ["request", "response", "answer"];
    let message = node.get("message").and_then(Node::as_text);
    let lone = node.as_map().is_some_and(|entries| entries.len() == 1);
    node.get("headers").is_some_and(|headers| headers.as_map().is_some())
        || (lone && message.is_some_and(|word| words.contains(&word)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Set,
    Append,
    Default,
}

#[derive(Debug)]
struct Edit {
    name: HeaderName,
    how: How,
    values: Vec<SetHeader>,
}

fn edit(name: &Name, values: &OneOrMany<ScalarOr<Text, EditDoc>>, sink: Sink, cx: &mut Compile<'_>) -> Option<Edit> {
    let field = cx.field_name(&name.name, name.span);
    let (how, texts): (How, Vec<&Text>) = match values.0.as_slice() {
        [ScalarOr::Larger(EditDoc { append: Some(text), default: None })] => (How::Append, vec![text]),
        [ScalarOr::Larger(EditDoc { append: None, default: Some(text) })] => (How::Default, vec![text]),
        values => {
            let texts = values.iter().map(|value| match value {
                ScalarOr::Scalar(text) => Some(text),
                ScalarOr::Larger(_) => None,
            });
            match texts.collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty()) {
                Some(texts) => (How::Set, texts),
                None => {
                    let message = "a field is set to a text or a list of texts, or gets one `append` or `default`";
                    let help = "write `x-name: value`, or `x-name: { default: value }`; to take a field away use `remove_headers`";
                    return cx.refuse("policy.bad_value", name.span, message, help);
                }
            }
        }
    };
    let values: Vec<Option<SetHeader>> = texts.into_iter().map(|text| cx.set_header(text, sink)).collect();
    let values = values.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Edit { name: field?, how, values })
}

struct SetHeadersStep {
    /// `None` is whatever leaves.
    target: Option<Side>,
    edits: Vec<Edit>,
}

impl Plain for SetHeadersStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.set(x).into()
    }
}

impl SetHeadersStep {
    fn set(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        for edit in &self.edits {
            let made = edit.render(x)?;
            match self.target {
                None => made.into_iter().for_each(|edit| x.edit_answer(edit)),
                Some(side) => {
                    let own =
                        side == Side::Request && (edit.how == How::Set || !x.request.headers.contains_key(&edit.name));
                    if let Some(headers) = x.headers_mut(side) {
                        made.into_iter().for_each(|edit| apply(edit, headers));
                    }
                    if own {
                        x.own_header(&edit.name);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Edit {
    fn render(&self, x: &Exchange) -> Result<SmallVec<[AnswerEdit; 1]>, Box<Fault>> {
        let values: SmallVec<[HeaderValue; 1]> =
            self.values.iter().map(|value| value.render(x, INVALID_VALUE)).collect::<Result<_, _>>()?;
        let name = || self.name.clone();
        Ok(match self.how {
            How::Set => smallvec![AnswerEdit::Set(name(), values)],
            How::Append => values.into_iter().map(|value| AnswerEdit::Append(name(), value)).collect(),
            How::Default => values.into_iter().map(|value| AnswerEdit::Default(name(), value)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    const ROUTE: &str = "  - route: http://127.0.0.1:9000";

    fn steps(set: &str) -> String {
        format!("  - set_headers: {set}\n{ROUTE}")
    }

    #[test]
    fn a_set_field_is_the_policys_and_an_appended_one_keeps_the_clients() {
        let trial = Trial::of(&steps("{ x-a: ours, x-b: { append: ours }, x-c: { default: ours }, x-d: [one, two] }"));
        let client = [("x-a", "theirs"), ("x-b", "theirs"), ("x-c", "theirs"), ("x-d", "theirs")];
        let outcome = trial.send("GET", "/", &client, "");
        let all = |name: &str| -> Vec<String> {
            outcome.sent[0].headers.get_all(name).iter().map(|value| value.to_str().unwrap().into()).collect()
        };
        assert_eq!(all("x-a"), ["ours"]);
        assert_eq!(all("x-b"), ["theirs", "ours"]);
        assert_eq!(all("x-c"), ["theirs"]);
        assert_eq!(all("x-d"), ["one", "two"]);
    }

    #[test]
    fn a_field_that_was_not_set_this_time_is_not_the_clients_either() {
        let set = "  - set_headers: { x-role: admin }\n    when: request.query.admin == '1'\n";
        let trial = Trial::of(&format!("{set}{ROUTE}"));
        assert_eq!(trial.send("GET", "/?admin=1", &[("x-role", "forged")], "").sent_header("x-role"), Some("admin"));
        assert_eq!(trial.send("GET", "/", &[("x-role", "forged")], "").sent_header("x-role"), None);
    }

    #[test]
    fn listed_forwarding_sends_a_set_field_once() {
        let route = "  - route: { to: \"http://127.0.0.1:9000\", forward_headers: [x-a] }";
        let trial = Trial::of(&format!("  - set_headers: {{ x-a: ours, x-b: ours }}\n{route}"));
        let outcome = trial.send("GET", "/", &[("x-c", "theirs")], "");
        assert_eq!(outcome.sent[0].headers.get_all("x-a").iter().count(), 1);
        assert_eq!((outcome.sent_header("x-b"), outcome.sent_header("x-c")), (Some("ours"), None));
    }

    #[test]
    fn behind_the_route_it_means_the_response() {
        let trial = Trial::of(&format!("{ROUTE}\n  - set_headers: {{ x-a: \"${{response.status}}\" }}"));
        assert_eq!(trial.get("/").header("x-a"), Some("200"));
    }

    #[test]
    fn what_no_policy_sets_does_not_load() {
        assert_eq!(refusals(&steps("{ host: a }")), ["policy.bad_header"]);
        assert_eq!(refusals(&steps("{ Content-Length: 3 }")), ["policy.bad_header"]);
        assert_eq!(refusals(&steps("{ \"x a\": 3 }")), ["policy.bad_header"]);
        assert_eq!(refusals(&steps("{ x-a: \"a\\nb\" }")), ["policy.bad_value"]);
        assert_eq!(refusals(&steps("{ x-a: [] }")), ["policy.bad_value"]);
        assert_eq!(refusals(&steps("{ X-A: a, x-b: b, x-a: c }")), ["policy.duplicate_header"]);
        assert_eq!(refusals(&steps("{ message: request, headers: { x-a: a, X-A: a } }")), ["policy.duplicate_header"]);
        assert_eq!(refusals(&steps("{ x-a: { append: b, default: c } }")), ["policy.bad_value"]);
        assert_eq!(refusals(&steps("{ message: response, headers: { x-a: b } }")), ["policy.no_response"]);
        assert_eq!(refusals(&steps("{ message: answer }")), ["policy.missing_parameter"]);
        assert_eq!(refusals(&steps("{}")), ["policy.missing_parameter"]);
    }

    #[test]
    fn every_field_of_the_connection_and_every_control_character_is_refused() {
        let of_connection = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "host",
            "content-length",
        ];
        for name in of_connection {
            assert_eq!(refusals(&steps(&format!("{{ {name}: a }}"))), ["policy.bad_header"], "{name}");
        }
        let trial = Trial::of(&steps("{ x-a: \"a${request.query.a ?? ''}\" }"));
        for control in ["%00", "%0D", "%0A", "%1F", "%7F"] {
            let outcome = trial.get(&format!("/?a={control}b"));
            let seen = (outcome.status, outcome.fault.as_deref(), outcome.sent.len());
            assert_eq!(seen, (400, Some("set_headers.invalid_value"), 0), "{control}");
        }
        let of_answer = format!("{ROUTE}\n  - set_headers: {{ x-a: \"${{response.text}}\" }}");
        let outcome = Trial::of(&of_answer).answering(&[], "a\nb").get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("set_headers.invalid_value")));
    }

    #[test]
    fn what_is_appended_stands_beside_what_the_answer_had() {
        let set = format!("{ROUTE}\n  - set_headers: {{ vary: {{ append: origin }}, x-a: {{ default: ours }} }}");
        let outcome = Trial::of(&set).answering(&[("vary", "accept"), ("x-a", "theirs")], "").get("/");
        assert_eq!(outcome.headers.get_all("vary").iter().collect::<Vec<_>>(), ["accept", "origin"]);
        assert_eq!(outcome.header("x-a"), Some("theirs"));
    }
}
