//! `respond`: answers at once and ends the pipeline.
//!
//! 204 and 304 have no body (RFC 9110 §15.3.5, §15.4.5).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::body::Body;
use crate::compile::content::{Content, ContentForms};
use crate::compile::header::SetHeader;
use crate::compile::kind::Ends;
use crate::compile::text::{Sink, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::message::Response;
use crate::engine::program::{EndedBy, Plain, Verdict};
use crate::engine::read::Side;
use crate::engine::recode::forget_body;
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::units::parse_digits;
use crate::source::{Entries, Literal, Node, OneOrMany, Text};

pub const KIND: Kind = Kind {
    main: Some("status"),
    ends: Ends::Always,
    bodies: "only what it reads",
    faults: &[
        FaultDoc {
            code: "respond.bad_status",
            status: 500,
            doc: "`status` came out as something else than a number from 200 to 599. Mend the expression.",
        },
        FaultDoc {
            code: "respond.invalid_value",
            status: 500,
            doc: "A header value holds characters that no field may have (RFC 9110 §5.5). By origin of the value: 400, 502 or 500.",
        },
    ],
    examples: &[Example {
        title: "Accept and say under which id",
        yaml: r#"
service: example
match: { path: /jobs, methods: [POST] }
policy:
  - respond:
      status: 202
      headers: { location: "/jobs/${request.id}" }
      json: { id: "${request.id}", from: "${request.client.ip}" }
tests:
  - name: accepted
    request: { method: POST, client: { ip: 192.0.2.7 } }
    expect: { status: 202, json_has: { from: 192.0.2.7 }, headers: { content-type: application/json }, ended_by: respond }
  - name: another method
    request: { method: GET }
    expect: { status: 405, fault: service.method, service: none, headers: { allow: POST } }
"#,
    }],
    ..Kind::of::<Respond>("respond", "Answers at once and ends the pipeline.", Category::Routing)
};

/// Parameters of `respond`. At most one of `json`, `text`, `xml`, `form`, `value` and `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Respond {
    /// Status code; without it 200, with `keep` that of the present response.
    #[serde(default)]
    status: Option<Text>,
    /// Header fields; a list sends several fields of one name.
    #[serde(default)]
    headers: Option<Entries<OneOrMany<Text>>>,
    /// A structure, types kept.
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
    /// Starts from the present response instead of an empty one.
    #[serde(default)]
    keep: bool,
}

impl Assertion for Respond {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let status = match self.status {
            Some(text) => status(cx, &text)?,
            None if self.keep => Status::Kept,
            None => Status::Fixed(StatusCode::OK),
        };
        let headers = cx.set_headers(self.headers, Sink::Client);
        let forms = ContentForms {
            json: self.json,
            text: self.text,
            xml: self.xml,
            form: self.form,
            value: self.value,
            file: self.file,
            content_type: self.content_type,
        };
        let content = cx.content(forms, Sink::Client, step.span).ok()?;
        if let (Status::Fixed(fixed), Some(_)) = (&status, &content)
            && has_no_body(*fixed)
        {
            let message = format!("an answer with status {} has no body", fixed.as_u16());
            return cx.refuse("policy.bad_value", step.span, message, "remove the body, or choose another status");
        }
        let headers = headers?;
        for (name, values) in &headers {
            let mark = SetHeader::mark_of_all(values);
            cx.flow.carried.put_field(Side::Response, name.as_str(), (mark, step.span), true);
        }
        Compiled::plain(RespondStep { status, headers, content, keep: self.keep })
    }
}

#[derive(Debug)]
enum Status {
    Fixed(StatusCode),
    Text(TextParam),
    /// That of the present response: an answer that is only dressed up stays what it was.
    Kept,
}

fn status(cx: &mut Compile<'_>, text: &Text) -> Option<Status> {
    let compiled = cx.text_into(text, Place::Plain, Sink::Client)?;
    let Some(literal) = compiled.literal() else { return Some(Status::Text(compiled)) };
    match parse_status(literal) {
        Some(status) => Some(Status::Fixed(status)),
        None => {
            let message = format!("`{literal}` is no status: a number from 200 to 599 is");
            cx.refuse("policy.bad_value", text.0.span(), message, "write `respond: 204`, or leave it out for 200")
        }
    }
}

fn parse_status(text: &str) -> Option<StatusCode> {
    let number = parse_digits::<u16>(text).filter(|number| (200..600).contains(number))?;
    StatusCode::from_u16(number).ok()
}

fn has_no_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

struct RespondStep {
    status: Status,
    headers: Vec<(HeaderName, Vec<SetHeader>)>,
    content: Option<Content>,
    keep: bool,
}

impl Plain for RespondStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        match self.respond(x) {
            Ok(()) => Verdict::Ended(EndedBy::Respond),
            Err(fault) => Verdict::Fault(fault),
        }
    }
}

impl RespondStep {
    fn respond(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let status = match &self.status {
            Status::Fixed(status) => *status,
            Status::Kept => x.response.as_ref().map_or(StatusCode::OK, |response| response.status),
            Status::Text(text) => {
                let word = text.read(x)?;
                parse_status(&word).ok_or_else(|| {
                    let shown = text.recorded_text(x);
                    fault_by(text.facts().origin, "respond.bad_status", format!("`{shown}` is no status"))
                })?
            }
        };
        let made = self.content.as_ref().map(|content| content.render(x)).transpose()?;
        let mut fields: Vec<(HeaderName, Vec<HeaderValue>)> = Vec::with_capacity(self.headers.len());
        for (name, values) in &self.headers {
            let values = values.iter().map(|value| value.render(x, "respond.invalid_value"));
            fields.push((name.clone(), values.collect::<Result<_, _>>()?));
        }
        let kept = if self.keep { x.take_response() } else { None };
        let (mut headers, mut body) = match kept {
            Some(kept) => (kept.headers, kept.body),
            None => (HeaderMap::new(), Body::Empty),
        };
        if let Some((bytes, media)) = made {
            forget_body(&mut headers);
            headers.insert(header::CONTENT_TYPE, media);
            body = Body::Buffered(bytes);
        }
        for (name, values) in fields {
            headers.remove(&name);
            for value in values {
                headers.append(&name, value);
            }
        }
        if has_no_body(status) {
            body = Body::Empty;
        }
        x.set_response(Response::new(status, headers, body));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Outcome, Trial, refusals};

    fn responding(params: &str) -> Outcome {
        Trial::of(&format!("  - respond: {params}")).send("POST", "/?s=418&a=x%0A&b=%3Cb%3E", &[], "old")
    }

    #[test]
    fn a_status_is_written_or_made_and_has_its_range() {
        assert_eq!(responding("{ text: a }").status, 200);
        assert_eq!(responding("\"${request.query.s ?? '200'}\"").status, 418);
        let outcome = responding("\"${request.query.a ?? '200'}\"");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("respond.bad_status")));
        let outcome = responding("\"${len(request.path)}\"");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("respond.bad_status")));
        assert_eq!(refusals("  - respond: { headers: { x-a: a, X-a: b } }"), ["policy.duplicate_header"]);
        for status in ["199", "600", "many", "0310", "+310"] {
            assert_eq!(refusals(&format!("  - respond: {status}")), ["policy.bad_value"], "{status}");
        }
        for status in ["204", "304"] {
            assert_eq!(refusals(&format!("  - respond: {{ status: {status}, text: a }}")), ["policy.bad_value"]);
        }
    }

    #[test]
    fn a_body_has_its_media_type_and_fields_may_be_several() {
        let shown = |params: &str| {
            let outcome = responding(params);
            (outcome.body.clone(), outcome.header("content-type").unwrap_or_default().to_owned())
        };
        let of = |body: &str, media: &str| (body.to_owned(), media.to_owned());
        assert_eq!(shown("{ xml: \"<a>${request.query.b ?? ''}</a>\" }"), of("<a>&lt;b&gt;</a>", "application/xml"));
        assert_eq!(
            shown("{ form: { a: \"b&c ${request.query.b ?? ''}\" } }"),
            of("a=b%26c+%3Cb%3E", "application/x-www-form-urlencoded")
        );
        assert_eq!(shown("{ value: \"${request.body}\" }"), of("old", "application/octet-stream"));
        assert_eq!(shown("{ text: a, content_type: text/csv }"), of("a", "text/csv"));
        let outcome = responding("{ headers: { x-a: [one, two] } }");
        assert_eq!(outcome.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["one", "two"]);
        let outcome = responding("{ headers: { x-a: \"${request.query.a ?? ''}\" } }");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("respond.invalid_value")));
    }

    #[test]
    fn what_is_kept_is_the_present_response() {
        let kept = |respond: &str| {
            let steps = format!("  - route: http://127.0.0.1:9000\n  - respond: {respond}");
            let fields = [("x-up", "1"), ("content-encoding", "br"), ("etag", "\"1\""), ("content-md5", "x")];
            Trial::of(&steps).answering(&fields, "up").get("/")
        };
        let outcome = kept("{ keep: true, status: 202, headers: { x-a: b } }");
        assert_eq!((outcome.status, outcome.body.as_str()), (202, "up"));
        assert_eq!((outcome.header("x-up"), outcome.header("x-a")), (Some("1"), Some("b")));
        assert_eq!((outcome.header("etag"), outcome.header("content-md5")), (Some("\"1\""), Some("x")));
        let outcome = kept("{ keep: true, text: ours }");
        assert_eq!((outcome.body.as_str(), outcome.header("content-encoding")), ("ours", None));
        assert_eq!((outcome.header("etag"), outcome.header("content-md5")), (None, None));
        let outcome = kept("{ text: ours }");
        assert_eq!((outcome.body.as_str(), outcome.header("x-up")), ("ours", None));
        assert_eq!(kept("{ keep: true, status: \"${string(204)}\" }").body, "");
    }
}
