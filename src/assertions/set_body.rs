//! `set_body`: replaces the body of the request or the response, and its content type.
//!
//! `json` builds a value and writes it out, so text of a client never changes its structure. What described
//! the old body goes: its content coding (RFC 9110 §8.4), its tag (§8.8.3) and its digests (RFC 9530).

use http::header;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::body::Body;
use crate::compile::content::{Content, ContentForms};
use crate::compile::message::Message;
use crate::compile::text::Sink;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Side;
use crate::engine::recode::forget_body;
use crate::engine::value::Origin;
use crate::expr::fault_by;
use crate::fault::Fault;
use crate::source::{Entries, Literal, Node, Text};

pub const KIND: Kind = Kind {
    bodies: "only what it reads",
    faults: &[
        FaultDoc {
            code: "set_body.too_large",
            status: 400,
            doc: "The new body is larger than `limits: body_streamed` of gateway.yaml. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "set_body.unrepresentable",
            status: 400,
            doc: "A value cannot stand in this form: bytes that are no UTF-8 in `json`, `text`, `xml` or `form`. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "set_body.absent",
            status: 400,
            doc: "The one `${}` of a text is absent. Give it a default: `${x ?? ''}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[Example {
        title: "A request and its answer in other words",
        yaml: r#"
service: example
match: { path: /orders, methods: [POST] }
policy:
  - set_body: { json: { sku: "${request.json.item}", qty: "${request.json.n ?? 1}" } }
  - route: http://127.0.0.1:9000
  - set_body: { json: { number: "${response.json.id}" } }
tests:
  - name: structure and types are the policy's
    given: { upstream: [{ answer: { headers: { etag: '"1"' }, json: { id: 7, secret: x } } }] }
    request: { json: { item: 'a", "admin": "1', n: 2 } }
    expect:
      status: 200
      json: { number: 7 }
      headers: { content-type: application/json, etag: { absent: true } }
      upstream: [{ json: { sku: 'a", "admin": "1', qty: 2 } }]
  - name: a body that is no JSON
    request: { text: "{" }
    expect: { status: 400, fault: body.invalid_json, upstream: none }
"#,
    }],
    ..Kind::of::<SetBody>("set_body", "Replaces the body and its content type.", Category::Messages)
};

/// Parameters of `set_body`. Exactly one of `json`, `text`, `xml`, `form`, `value` and `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetBody {
    /// A structure, types kept; an absent value is `null`.
    #[serde(default)]
    json: Option<Node>,
    /// Plain text.
    #[serde(default)]
    text: Option<Text>,
    /// XML; every `${}` in it is escaped.
    #[serde(default)]
    xml: Option<Text>,
    /// Fields, form-encoded.
    #[serde(default)]
    form: Option<Entries<Text>>,
    /// Bytes or text of a variable.
    #[serde(default)]
    value: Option<Text>,
    /// A file below the folder of gateway.yaml, read at load.
    #[serde(default)]
    file: Option<Literal>,
    /// Media type; follows from the form without it.
    #[serde(default)]
    content_type: Option<Literal>,
    /// `request` before `route`, `response` behind it.
    #[serde(default)]
    message: Option<Message>,
}

impl Assertion for SetBody {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        cx.changes_message(step.span);
        let side = cx.side(self.message, step.span)?;
        let forms = ContentForms {
            json: self.json,
            text: self.text,
            xml: self.xml,
            form: self.form,
            value: self.value,
            file: self.file,
            content_type: self.content_type,
        };
        // Where a body with a secret in it may go, its `route` says.
        let sink = if side == Side::Request { Sink::Inside } else { Sink::Client };
        let content = cx.content(forms, sink, step.span).ok()?;
        let Some(content) = content else {
            let help = "write `set_body: { json: { ... } }`, or `text: \"\"` for an empty body";
            return cx.refuse("policy.missing_parameter", step.span, "`set_body` needs a body", help);
        };
        cx.flow.carried.put_body(side, (content.facts().mark, step.span));
        Compiled::plain(SetBodyStep { side, content })
    }
}

struct SetBodyStep {
    side: Side,
    content: Content,
}

impl Plain for SetBodyStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.set(x).into()
    }
}

impl SetBodyStep {
    fn set(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let (bytes, media) = self.content.render(x).map_err(|fault| match fault.code.as_ref() {
            "expression.not_text" => fault.with_code("set_body.unrepresentable"),
            _ => fault,
        })?;
        let limit = x.worker.shared.limits.body_streamed;
        if bytes.len() as u64 > limit {
            let detail = format!("a body of {} bytes was made, at most {limit} are sent", bytes.len());
            return Err(fault_by(self.origin(), "set_body.too_large", detail));
        }
        if let Some(headers) = x.headers_mut(self.side) {
            forget_body(headers);
            headers.insert(header::CONTENT_TYPE, media);
            x.set_body(self.side, Body::Buffered(bytes));
        }
        Ok(())
    }

    fn origin(&self) -> Origin {
        self.content.facts().origin
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    const ROUTE: &str = "  - route: http://127.0.0.1:9000";

    #[test]
    fn the_old_body_leaves_nothing_behind() {
        let trial = Trial::of(&format!("  - set_body: {{ form: {{ a: \"${{request.query.a}}\" }} }}\n{ROUTE}"));
        let old = [("content-encoding", "gzip"), ("content-digest", "sha-256=:x:"), ("content-type", "text/plain")];
        let outcome = trial.send("POST", "/?a=1%262", &old, "old");
        assert_eq!(outcome.sent[0].body, "a=1%262");
        assert_eq!(outcome.sent_header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!((outcome.sent_header("content-encoding"), outcome.sent_header("content-digest")), (None, None));
    }

    #[test]
    fn a_value_that_has_no_text_is_the_fault_of_who_sent_it() {
        let steps = "  - set_body: { json: { a: \"${base64(request.body)}\", b: \"${request.body}\" } }";
        let trial = Trial::of(&format!("{steps}\n{ROUTE}"));
        assert_eq!(trial.send("POST", "/", &[], "plain").sent[0].body, r#"{"a":"cGxhaW4=","b":"plain"}"#);
        let outcome = trial.send_bytes("POST", "/", &[], b"\xff\xfe");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("set_body.unrepresentable")));
    }

    #[test]
    fn a_body_has_one_form() {
        let set = |set: &str| refusals(&format!("  - set_body: {set}\n{ROUTE}"));
        assert_eq!(set("{ json: 1, text: a }"), ["policy.bad_value"]);
        assert_eq!(set("{}"), ["policy.missing_parameter"]);
        assert_eq!(set("{ text: a, message: response }"), ["policy.no_response"]);
        assert_eq!(set("{ text: a, message: answer }"), ["policy.bad_value"]);
    }

    #[test]
    fn each_form_has_its_media_type() {
        let sent = |set: &str| {
            let trial = Trial::of(&format!("  - set_body: {set}\n{ROUTE}"));
            let outcome = trial.send("POST", "/?a=%3Cb%3E%26%22", &[("x-b", "1")], "old");
            (outcome.sent[0].body.clone(), outcome.sent_header("content-type").unwrap().to_owned())
        };
        let of = |body: &str, media: &str| (body.to_owned(), media.to_owned());
        assert_eq!(
            sent("{ json: { a: \"${request.query.a}\", n: 1, none: \"${request.query.none}\" } }"),
            of("{\"a\":\"<b>&\\\"\",\"n\":1,\"none\":null}", "application/json")
        );
        assert_eq!(sent("{ text: \"<${request.query.a ?? ''}\" }"), of("<<b>&\"", "text/plain; charset=utf-8"));
        assert_eq!(
            sent("{ xml: \"<a>${request.query.a ?? ''}</a>\" }"),
            of("<a>&lt;b&gt;&amp;&quot;</a>", "application/xml")
        );
        assert_eq!(
            sent("{ form: { a b: \"${request.query.a}\" } }"),
            of("a+b=%3Cb%3E%26%22", "application/x-www-form-urlencoded")
        );
        assert_eq!(sent("{ value: \"${request.body}\" }"), of("old", "application/octet-stream"));
        assert_eq!(sent("{ text: a, content_type: text/csv }"), of("a", "text/csv"));
    }

    #[test]
    fn a_body_has_the_bound_of_those_that_stream() {
        let eleven = ["\"${response.text}\""; 11].join(", ");
        let large: &'static str = "x".repeat(1024 * 1024).leak();
        let set =
            |body| Trial::of(&format!("{ROUTE}\n  - set_body: {{ json: [{eleven}] }}")).answering(&[], body).get("/");
        assert!(set(&large[..large.len() / 2]).body.len() > 11 * large.len() / 2);
        let outcome = set(large);
        assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("set_body.too_large")));
    }

    #[test]
    fn digests_and_ranges_of_the_old_body_go_from_an_answer_too() {
        let old = [
            ("digest", "x"),
            ("repr-digest", "x"),
            ("content-md5", "x"),
            ("accept-ranges", "bytes"),
            ("content-range", "bytes 0-1/2"),
            ("content-encoding", "br"),
        ];
        let steps = format!("{ROUTE}\n  - set_body: {{ text: new }}");
        let trial = Trial::of(&steps).answering(&old, "old");
        assert_eq!(trial.send("HEAD", "/", &[], "").header("content-length"), Some("3"));
        let outcome = trial.get("/");
        assert_eq!(outcome.body, "new");
        assert!(old.iter().all(|(name, _)| outcome.header(name).is_none()), "{:?}", outcome.headers);
    }
}
