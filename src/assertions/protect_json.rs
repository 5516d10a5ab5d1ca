//! `protect_json`: refuses JSON that attacks parsers.
//!
//! RFC 8259, RFC 7493 §2.3. One pass over the bytes before any tree is built; every limit is on. A body that does
//! not call itself JSON is refused, else a wrong content type would walk past.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::message::Message;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::media::Media;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Side;
use crate::fault::Fault;
use crate::json::{Bounds, Breach, Broken, scan};

pub const KIND: Kind = Kind {
    bodies: "buffer",
    faults: &[
        FaultDoc {
            code: "protect_json.depth",
            status: 400,
            doc: "Objects and arrays are nested deeper than `depth`. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.members",
            status: 400,
            doc: "An object has more members than `members`. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.items",
            status: 400,
            doc: "An array has more items than `items`. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.name_length",
            status: 400,
            doc: "A name has more characters than `name_length`. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.string_length",
            status: 400,
            doc: "A string has more characters than `string_length`. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.number_length",
            status: 400,
            doc: "A number is written with more characters than `number_length`. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.nodes",
            status: 400,
            doc: "There are more values than `nodes`. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.duplicate_name",
            status: 400,
            doc: "A name stands twice in one object: two readers would see two documents. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.invalid_json",
            status: 400,
            doc: "It is not JSON in UTF-8; the record says where. 502 for a response.",
        },
        FaultDoc {
            code: "protect_json.content_type",
            status: 415,
            doc: "The body does not call itself JSON in UTF-8: neither `application/json` nor `text/json` nor a type that ends in `+json`, or another charset. 502 for a response.",
        },
    ],
    examples: &[
        Example {
            title: "Every limit at its default",
            yaml: r#"
service: example
match: { path: /orders }
policy:
  - protect_json
  - respond: 204
tests:
  - name: a plain order
    request: { json: { id: 1, lines: [{ sku: a }] } }
    expect: { status: 204 }
  - name: a name that stands twice
    request: { method: POST, text: '{"role":"user","role":"admin"}', headers: { content-type: application/json } }
    expect: { status: 400, fault: protect_json.duplicate_name }
  - name: no JSON
    request: { method: POST, text: '{"a":1,}', headers: { content-type: application/json } }
    expect: { status: 400, fault: protect_json.invalid_json }
  - name: it does not call itself JSON
    request: { method: POST, text: '{}' }
    expect: { status: 415, fault: protect_json.content_type }
  - name: an empty body passes
    request: {}
    expect: { status: 204 }
"#,
        },
        Example {
            title: "Narrow limits, and an answer that is looked at",
            yaml: r#"
service: example
match: { path: /notes, methods: [POST] }
policy:
  - protect_json: { depth: 2, items: 3, string_length: 5 }
  - route: http://127.0.0.1:9000
  - protect_json: { depth: 8, content_type: ignore }
tests:
  given: { upstream: [{ answer: { text: "[[[[[[[[[1]]]]]]]]]" } }] }
  cases:
    - { name: too deep, request: { json: { a: { b: { c: 1 } } } }, expect: { status: 400, fault: protect_json.depth } }
    - { name: too many, request: { json: [1, 2, 3, 4] }, expect: { status: 400, fault: protect_json.items } }
    - { name: too long, request: { json: [abcdef] }, expect: { status: 400, fault: protect_json.string_length } }
    - { name: an answer too deep, request: { json: [1] }, expect: { status: 502, fault: protect_json.depth } }
"#,
        },
    ],
    ..Kind::of::<ProtectJson>("protect_json", "Refuses JSON that attacks parsers.", Category::Threats)
};

/// Parameters of `protect_json`. Each number is still allowed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProtectJson {
    /// Nesting of objects and arrays.
    #[serde(default = "depth")]
    depth: u32,
    /// Members of one object.
    #[serde(default = "members")]
    members: u32,
    /// Items of one array.
    #[serde(default = "items")]
    items: u32,
    /// Characters of a name.
    #[serde(default = "name_length")]
    name_length: u32,
    /// Characters of a string.
    #[serde(default = "string_length")]
    string_length: u32,
    /// Characters of a number as written.
    #[serde(default = "number_length")]
    number_length: u32,
    /// Values of the whole document, objects and arrays counted.
    #[serde(default = "nodes")]
    nodes: u32,
    /// Whether a name may stand twice in one object.
    #[serde(default)]
    duplicates: Duplicates,
    /// Whether the body has to call itself JSON.
    #[serde(default)]
    content_type: ContentType,
    /// `request` before `route`, `response` behind it.
    #[serde(default)]
    message: Option<Message>,
}

fn depth() -> u32 {
    64
}

fn members() -> u32 {
    1000
}

fn items() -> u32 {
    10_000
}

fn name_length() -> u32 {
    256
}

fn string_length() -> u32 {
    65_536
}

fn number_length() -> u32 {
    64
}

fn nodes() -> u32 {
    100_000
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Duplicates {
    #[default]
    Deny,
    Allow,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum ContentType {
    #[default]
    Require,
    Ignore,
}

impl Assertion for ProtectJson {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let side = cx.side(self.message, step.span)?;
        cx.need_body(side);
        let bound = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let bounds = Bounds {
            depth: bound(self.depth),
            members: bound(self.members),
            items: bound(self.items),
            name_length: bound(self.name_length),
            string_length: bound(self.string_length),
            number_length: bound(self.number_length),
            nodes: bound(self.nodes),
            duplicates: self.duplicates == Duplicates::Allow,
        };
        Compiled::plain(ProtectJsonStep { side, bounds, typed: self.content_type == ContentType::Require })
    }
}

struct ProtectJsonStep {
    side: Side,
    bounds: Bounds,
    typed: bool,
}

impl Plain for ProtectJsonStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.protect(x).into()
    }
}

impl ProtectJsonStep {
    fn protect(&self, x: &Exchange) -> Result<(), Box<Fault>> {
        if x.body(self.side).size() == Some(0) {
            return Ok(());
        }
        let media = x.headers(self.side).and_then(Media::of);
        if self.typed && !media.is_some_and(|media| media.is_json()) {
            let detail = "the body does not call itself JSON in UTF-8";
            return Err(self.fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, "protect_json.content_type", detail.to_owned()));
        }
        let text = x.body_as_text(self.side).map_err(|fault| match fault.code.as_ref() {
            "body.not_text" => fault.with_code("protect_json.invalid_json"),
            _ => fault,
        })?;
        let scanned = scan(text.as_bytes(), &self.bounds).map(drop);
        scanned.map_err(|broken| self.fault(StatusCode::BAD_REQUEST, code(broken), broken.to_string()))
    }

    fn fault(&self, status: StatusCode, code: &'static str, detail: String) -> Box<Fault> {
        match self.side {
            Side::Request => Fault::denied(status, code, detail),
            Side::Response => Fault::broken(StatusCode::BAD_GATEWAY, code, detail),
        }
    }
}

fn code(broken: Broken) -> &'static str {
    match broken.breach {
        Breach::Depth => "protect_json.depth",
        Breach::Members => "protect_json.members",
        Breach::Items => "protect_json.items",
        Breach::NameLength => "protect_json.name_length",
        Breach::StringLength => "protect_json.string_length",
        Breach::NumberLength => "protect_json.number_length",
        Breach::Nodes => "protect_json.nodes",
        Breach::DuplicateName => "protect_json.duplicate_name",
        Breach::Invalid(_) => "protect_json.invalid_json",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::assertions::trial::{Trial, refusals};

    const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

    fn protecting(params: &str) -> Trial {
        Trial::of(&format!("  - protect_json: {{ {params} }}\n  - respond: 204"))
    }

    /// nst/JSONTestSuite through one service: what was not answered as its name says. An empty text is no body and
    /// passes.
    fn misjudged(params: &str) -> Vec<String> {
        let trial = protecting(params);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/jsontestsuite/test_parsing");
        let (mut seen, mut wrong) = (0, Vec::new());
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text: &'static [u8] = std::fs::read(entry.path()).unwrap().leak();
            let status = trial.send_bytes("POST", "/", &JSON, text).status;
            let right = match name.get(..2) {
                _ if text.is_empty() => status == 204,
                Some("y_") => status == 204,
                Some("n_") => (400..500).contains(&status),
                _ => status == 204 || (400..500).contains(&status),
            };
            seen += 1;
            if !right {
                wrong.push(format!("{name} {status}"));
            }
        }
        assert_eq!(seen, 318);
        wrong.sort();
        wrong
    }

    #[test]
    fn the_json_test_suite_is_judged_right() {
        assert_eq!(misjudged("duplicates: allow, number_length: 100"), [""; 0]);
        // To the suite a name that stands twice and a number of 81 characters are JSON; the defaults refuse them.
        let refused = ["number_double_close_to_zero", "object_duplicated_key", "object_duplicated_key_and_value"];
        assert_eq!(misjudged(""), refused.map(|name| format!("y_{name}.json 400")));
    }

    #[test]
    fn each_limit_has_its_code() {
        let fault = |params: &str, body| protecting(params).send("POST", "/", &JSON, body).fault.unwrap_or_default();
        assert_eq!(fault("members: 1", r#"{"a":1,"b":2}"#), "protect_json.members");
        assert_eq!(fault("name_length: 1", r#"{"ab":1}"#), "protect_json.name_length");
        assert_eq!(fault("number_length: 2", "123"), "protect_json.number_length");
        assert_eq!(fault("nodes: 2", "[1,2]"), "protect_json.nodes");
        assert_eq!(fault("duplicates: allow", r#"{"a":1,"a":2}"#), "");
        assert_eq!(fault("depth: 0", "7"), "");
        assert_eq!(fault("", "\"\\ud800\""), "protect_json.invalid_json");
    }

    #[test]
    fn what_is_not_plain_utf8_json_does_not_walk_past() {
        let trial = protecting("");
        let send = |media: &'static str, body| {
            let outcome = trial.send_bytes("POST", "/", &[("content-type", media)], body);
            (outcome.status, outcome.fault.unwrap_or_default())
        };
        assert_eq!(send("application/vnd.api+json", b"{}").0, 204);
        assert_eq!(send("text/plain", b"{}"), (415, "protect_json.content_type".into()));
        assert_eq!(send("application/json; charset=utf-16", b"{}"), (415, "protect_json.content_type".into()));
        assert_eq!(send("application/json", b"\xff"), (400, "protect_json.invalid_json".into()));
        assert_eq!(protecting("content_type: ignore").send("POST", "/", &[], "{}").status, 204);
        let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
        assert_eq!(trial.send("POST", "/", &packed, "{}").fault.as_deref(), Some("body.encoded"));
    }

    #[test]
    fn limits_are_whole_numbers() {
        assert_eq!(refusals("  - protect_json: { depth: -1 }\n  - respond: 204"), ["policy.bad_value"]);
    }

    #[test]
    fn the_limits_without_a_word_about_them() {
        let names = |count: usize| (0..count).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(",");
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let items = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        let named = |length: usize| format!("{{\"{}\":1}}", "é".repeat(length));
        let text = |length: usize| format!("\"{}\"", "é".repeat(length));
        // One array of arrays: itself, eleven, and what is in them.
        let nodes = |count: usize| {
            let inner: Vec<String> = (0..11).map(|n| items(if n < 10 { 9_998 } else { count - 12 - 99_980 })).collect();
            format!("[{}]", inner.join(","))
        };
        let cases = [
            ("depth", nested(64), nested(65)),
            ("members", format!("{{{}}}", names(1000)), format!("{{{}}}", names(1001))),
            ("items", items(10_000), items(10_001)),
            ("name_length", named(256), named(257)),
            ("string_length", text(65_536), text(65_537)),
            ("number_length", "1".repeat(64), "1".repeat(65)),
            ("nodes", nodes(100_000), nodes(100_001)),
        ];
        for (name, last, first_refused) in cases {
            let fault = |body: String| protecting("").send("POST", "/", &JSON, body.leak()).fault;
            assert_eq!(fault(last), None, "{name}");
            assert_eq!(fault(first_refused), Some(format!("protect_json.{name}")));
        }
    }

    #[test]
    fn an_answer_is_the_upstreams_fault_whatever_is_wrong_with_it() {
        let steps = "  - route: http://127.0.0.1:9000\n  - protect_json: { members: 1 }";
        let fault = |media: &str, body| {
            let outcome = Trial::of(steps).answering(&[("content-type", media)], body).get("/");
            (outcome.status, outcome.fault.unwrap_or_default())
        };
        assert_eq!(fault("application/json", "{\"a\":1}"), (200, String::new()));
        assert_eq!(fault("text/html", "{}"), (502, "protect_json.content_type".into()));
        assert_eq!(fault("application/json", "{"), (502, "protect_json.invalid_json".into()));
        assert_eq!(fault("application/json", "{\"a\":1,\"a\":1}"), (502, "protect_json.members".into()));
    }
}
