//! `limit_size`: tightens the limits on message sizes for one pipeline.
//!
//! RFC 9110 §15.5.14 (413), §15.5.15 (414), RFC 6585 §5 (431). A declared length is judged before anything
//! is read; a body that streams is cut at the limit while it is sent, and the call upstream with it. Bytes
//! count as received, with their content coding.

use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::body::Body;
use crate::compile::message::Message;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Side;
use crate::fault::Fault;
use crate::source::units::write_size;
use crate::source::{Size, Span, Spanned};

/// What a field costs beside name and value: `: ` and the line's end.
const FIELD_OVERHEAD_BYTES: u64 = 4;

pub const KIND: Kind = Kind {
    main: Some("body"),
    faults: &[
        FaultDoc {
            code: "limit_size.body",
            status: 413,
            doc: "The request's body is larger than `body`: it says so, or was cut there on the run.",
        },
        FaultDoc {
            code: "limit_size.headers",
            status: 431,
            doc: "The request's fields together are larger than `headers`, or more than `header_count`.",
        },
        FaultDoc { code: "limit_size.url", status: 414, doc: "The request's path and query are longer than `url`." },
        FaultDoc {
            code: "limit_size.response",
            status: 502,
            doc: "The upstream's answer is larger than `body` or `headers`, or has more fields than `header_count`.",
        },
    ],
    examples: &[Example {
        title: "Small requests, small answers",
        yaml: r#"
service: example
match: { path: "/notes/{*rest}" }
policy:
  - limit_size: { body: 4KiB, headers: 2KiB, header_count: 20, url: 256B }
  - route: http://127.0.0.1:9000
  - limit_size: 64KiB
tests:
  - name: a note
    given: { upstream: [{ answer: { text: ok } }] }
    request: { method: POST, path: /notes/a, size: 4KiB }
    expect: { status: 200, text: ok }
  - name: too long a note
    request: { method: POST, path: /notes/a, size: 5KiB }
    expect: { status: 413, fault: limit_size.body, upstream: none }
  - name: too much in the fields
    request: { path: /notes/a, headers: { x-note: "${random_hex(1024)}" } }
    expect: { status: 431, fault: limit_size.headers, upstream: none }
"#,
    }],
    ..Kind::of::<LimitSize>("limit_size", "Tightens the limits on message sizes.", Category::Traffic)
};

/// Parameters of `limit_size`. Each can only tighten what `limits` of gateway.yaml allow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitSize {
    /// Largest body, as received.
    #[serde(default)]
    body: Option<Size>,
    /// All header fields together.
    #[serde(default)]
    headers: Option<Size>,
    /// Number of header fields.
    #[serde(default)]
    header_count: Option<Spanned<u32>>,
    /// Path and query of the request as received.
    #[serde(default)]
    url: Option<Size>,
    /// `request` before `route`, `response` behind it.
    #[serde(default)]
    message: Option<Message>,
}

impl Assertion for LimitSize {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        cx.changes_message(step.span);
        let side = cx.side(self.message, step.span)?;
        if self.body.is_none() && self.headers.is_none() && self.header_count.is_none() && self.url.is_none() {
            let help = "write `limit_size: 64KiB`";
            return cx.refuse("policy.missing_parameter", step.span, "`limit_size` limits nothing", help);
        }
        if let (Side::Response, Some(url)) = (side, self.url) {
            return cx.refuse("policy.bad_value", url.span, "a response has no URL", "move it before the `route`");
        }
        let bound = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let limits = cx.around.limits;
        let outer = [
            (self.body, limits.body_streamed, "body_streamed"),
            (self.headers, bound(limits.head), "head"),
            (self.url, bound(limits.url), "url"),
        ];
        let count_max = bound(limits.headers);
        let mut tightens = true;
        for (size, most, word) in outer {
            if let (Side::Request, Some(size)) = (side, size) {
                tightens &= check(cx, size.bytes, most, write_size(most), word, size.span);
            }
        }
        if let (Side::Request, Some(count)) = (side, self.header_count) {
            tightens &= check(cx, u64::from(count.value), count_max, count_max.to_string(), "headers", count.span);
        }
        tightens.then_some(())?;
        Compiled::plain(LimitSizeStep {
            side,
            body: self.body.map(|size| size.bytes),
            headers: self.headers.map(|size| size.bytes),
            header_count: self.header_count.map(|count| u64::from(count.value)),
            url: self.url.map(|size| size.bytes),
        })
    }
}

/// A limit that is wider than the gateway's own would never act.
fn check(cx: &mut Compile<'_>, written: u64, most: u64, shown: String, word: &str, span: Span) -> bool {
    if written > most {
        let message = format!("this is wider than `limits: {word}` of gateway.yaml, which is {shown}");
        let help = "a policy can only tighten: lower it, or raise the limit in gateway.yaml";
        cx.refuse::<()>("policy.limit_widened", span, message, help);
    }
    written <= most
}

struct LimitSizeStep {
    side: Side,
    body: Option<u64>,
    headers: Option<u64>,
    header_count: Option<u64>,
    url: Option<u64>,
}

impl Plain for LimitSizeStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        match self.side {
            Side::Request => self.request(x).into(),
            Side::Response => self.response(x).into(),
        }
    }
}

impl LimitSizeStep {
    fn request(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let url = u64::try_from(x.request.target.as_str().len()).unwrap_or(u64::MAX);
        if let Some(most) = self.url.filter(|most| url > *most) {
            let detail = format!("a URL of {url} bytes, at most {most} are taken");
            return Err(Fault::denied(StatusCode::URI_TOO_LONG, "limit_size.url", detail));
        }
        if let Some(detail) = self.fields_too_large(&x.request.headers) {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Fault::denied(status, "limit_size.headers", detail));
        }
        self.tighten(x).map_err(|detail| {
            let mut fault = Fault::denied(StatusCode::PAYLOAD_TOO_LARGE, "limit_size.body", detail).of_size();
            fault.close = matches!(x.request.body, Body::Stream(_)); // what is left of it is no request
            fault
        })
    }

    fn response(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let Some(response) = &x.response else { return Ok(()) };
        let large = match self.fields_too_large(&response.headers) {
            Some(detail) => Err(detail),
            None => self.tighten(x),
        };
        large.map_err(|detail| Fault::broken(StatusCode::BAD_GATEWAY, "limit_size.response", detail))
    }

    fn fields_too_large(&self, headers: &HeaderMap) -> Option<String> {
        let count = u64::try_from(headers.len()).unwrap_or(u64::MAX);
        if let Some(most) = self.header_count.filter(|most| count > *most) {
            return Some(format!("{count} fields, at most {most} are taken"));
        }
        let most = self.headers?;
        let size = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let fields = headers.iter().map(|(name, value)| size(name.as_str().len()) + size(value.len()));
        let bytes: u64 = fields.map(|bytes| bytes + FIELD_OVERHEAD_BYTES).sum();
        (bytes > most).then(|| format!("fields of {bytes} bytes, at most {most} are taken"))
    }

    /// Judges a size that is known, and holds a stream to the limit; the error is for the record.
    fn tighten(&self, x: &mut Exchange) -> Result<(), String> {
        let Some(most) = self.body else { return Ok(()) };
        let size = match (self.side, &x.response) {
            (Side::Request, _) => x.request.body.size(),
            (Side::Response, response) => response.as_ref().and_then(|response| response.body.size()),
        };
        if let Some(size) = size.filter(|size| *size > most) {
            return Err(format!("a body of {size} bytes, at most {most} are taken"));
        }
        x.tighten_body(self.side, most);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn an_answer_that_is_too_large_is_the_upstreams_fault() {
        let steps = "  - route: http://127.0.0.1:9000\n  - limit_size: { body: 4B, header_count: 1 }";
        let fault = |headers: &[(&str, &str)], body| Trial::of(steps).answering(headers, body).get("/").fault;
        assert_eq!(fault(&[("x-a", "1")], "four"), None);
        assert_eq!(fault(&[], "large").as_deref(), Some("limit_size.response"));
        assert_eq!(fault(&[("x-a", "1"), ("x-b", "2")], "").as_deref(), Some("limit_size.response"));
    }

    #[test]
    fn fields_count_with_what_is_between_them() {
        // `host: trial.example` and its line's end are 21 bytes.
        let fault = |most: u32| {
            let steps = format!("  - limit_size: {{ headers: {most}B }}\n  - respond: 204");
            Trial::of(&steps).get("/").fault
        };
        assert_eq!(fault(21), None);
        assert_eq!(fault(20).as_deref(), Some("limit_size.headers"));
    }

    #[test]
    fn a_policy_only_tightens() {
        let limit = |params: &str| refusals(&format!("  - limit_size: {params}\n  - respond: 204"));
        assert!(limit("10MiB").is_empty());
        assert_eq!(limit("11MiB"), ["policy.limit_widened"]);
        assert_eq!(limit("{ url: 9KiB, header_count: 101 }"), ["policy.limit_widened", "policy.limit_widened"]);
        assert!(limit("{ headers: 32KiB, url: 8KiB, header_count: 100 }").is_empty());
        assert_eq!(limit("{ headers: 33KiB }"), ["policy.limit_widened"]);
        assert_eq!(limit("{}"), ["policy.missing_parameter"]);
        let url = "  - route: http://127.0.0.1:9000\n  - limit_size: { url: 1KiB }";
        assert_eq!(refusals(url), ["policy.bad_value"]);
    }

    #[test]
    fn the_url_and_the_number_of_fields_have_their_status() {
        let fault = |params: &str, path: &str| {
            let steps = format!("  - limit_size: {{ {params} }}\n  - respond: 204");
            let outcome = Trial::of(&steps).send("GET", path, &[("x-a", "1")], "");
            (outcome.status, outcome.fault.unwrap_or_default())
        };
        assert_eq!(fault("url: 6B", "/a?b=c"), (204, String::new()));
        assert_eq!(fault("url: 5B", "/a?b=c"), (414, "limit_size.url".into()));
        assert_eq!(fault("header_count: 2", "/"), (204, String::new()));
        assert_eq!(fault("header_count: 1", "/"), (431, "limit_size.headers".into()));
        let of_answer = "  - route: http://127.0.0.1:9000\n  - limit_size: { headers: 6B }";
        let outcome = Trial::of(of_answer).answering(&[("x-a", "1")], "").get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("limit_size.response")));
    }

    #[test]
    fn a_body_of_unknown_length_is_cut_at_the_limit() {
        let steps = "  - limit_size: 3B\n  - respond: { text: \"${request.text}\" }";
        let trial = Trial::of(steps);
        assert_eq!(trial.post_chunked("/", "abc").body, "abc");
        let outcome = trial.post_chunked("/", "abcd");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (413, Some("limit_size.body")));
        assert_eq!(trial.post_streamed("/", "abcd").fault.as_deref(), Some("limit_size.body"));
    }
}
