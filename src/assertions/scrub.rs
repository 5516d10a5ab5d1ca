//! `scrub`: removes sensitive data from messages or records.
//!
//! PCI DSS 3.4.1 for card numbers. A message that cannot be read as its type is refused rather than let through;
//! content codings are undone first. Rules for records hold for the whole request, wherever the step stands and
//! whatever its `when` says.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::coding::{Format, InflateBounds, Inflater};
use crate::compile::context::Surroundings;
use crate::compile::message::Message;
use crate::compile::named::Named;
use crate::compile::pattern::PatternFlags;
use crate::compile::resources::Resources;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::media::Media;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::recode::content_codings;
use crate::engine::scrubbing::RecordRules;
use crate::engine::value::{Type, Value};
use crate::fault::Fault;
use crate::json_path::{Query, check_text};
use crate::limits::Limits;
use crate::scrub::{Pairs, Rules, What, With};
use crate::source::{Diagnostics, Literal, OneOrMany, ScalarOr, Sources, Span, Spanned};

/// What a compressed body may become, in bytes and for each of its own.
const BODY_BOUNDS: InflateBounds = InflateBounds { output: 10 * 1024 * 1024, ratio: 100 };

pub const KIND: Kind = Kind {
    main: Some("rules"),
    bodies: "buffer, where rules look into the body of a message",
    sets: &[Output { name: "scrub.count", ty: Type::Int, absent: false, doc: "Places that were changed in messages." }],
    faults: &[FaultDoc {
        code: "scrub.unscannable",
        status: 400,
        doc: "The body cannot be read as what it says it is, or not as far as the rules need: no JSON, a name that stands twice in an object, no UTF-8, a coding that the gateway cannot undo, `json` rules and JSON in another charset, `form` rules and a multipart body. 502 for a response.",
    }],
    examples: &[Example {
        title: "Card numbers and more leave neither in answers nor in records",
        yaml: r#"
service: example
match: { path: /customers, methods: [POST] }
policy:
  - audit: { fields: { note: "${request.text}" } }
  - route: http://127.0.0.1:9000
  - scrub: { rules: [pan, { json: "$..ssn", with: remove }, { header: x-patient }], from: [response, audit] }
  - set_headers: { x-count: "${scrub.count}" }
tests:
  - name: an answer and the record
    given: { upstream: [{ answer: { headers: { x-patient: "77" }, json: { card: "4111 1111 1111 1111", ssn: x } } }] }
    request: { method: POST, text: "paid with 4111111111111111" }
    expect:
      status: 200
      json: { card: "4111 11** **** 1111" }
      headers: { x-patient: "***", x-count: "3" }
      audit: { fields: { note: "paid with 411111******1111" } }
"#,
    }],
    ..Kind::of::<Scrub>("scrub", "Removes sensitive data from messages or records.", Category::Records)
};

/// Parameters of `scrub`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scrub {
    /// What is looked for: `pan`, or one of `json`, `header`, `query`, `form` and `regex`. `pan` and `regex` are
    /// looked for in names of members and fields too. JSON in which something was found is written anew: its other
    /// numbers keep their values as far as a double holds them (`1.10` becomes `1.1`), and names that became the same
    /// are told apart (`***`, `***_2`).
    rules: OneOrMany<ScalarOr<Literal, RuleDoc>>,
    /// Where: records, messages, or both; all records without it.
    #[serde(default = "records")]
    from: OneOrMany<Spanned<From>>,
}

fn records() -> OneOrMany<Spanned<From>> {
    OneOrMany([From::Audit, From::Log, From::Trace].map(Spanned::from).to_vec())
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum From {
    /// The record of the request.
    Audit,
    /// Lines of `log`.
    Log,
    /// Traces of live requests, and what is kept of failed ones.
    Trace,
    /// The request as it stands.
    Request,
    /// The response as it stands.
    Response,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RuleDoc {
    /// Card numbers, where they need a `with`.
    #[serde(default)]
    pan: Option<bool>,
    /// A pointer (RFC 6901) or a query (RFC 9535) into a JSON body.
    #[serde(default)]
    json: Option<Literal>,
    /// Comes with a later version.
    #[serde(default)]
    xpath: Option<Literal>,
    /// A field.
    #[serde(default)]
    header: Option<Literal>,
    /// A parameter of the query.
    #[serde(default)]
    query: Option<Literal>,
    /// A field of a form.
    #[serde(default)]
    form: Option<Literal>,
    /// A regular expression.
    #[serde(default)]
    regex: Option<Literal>,
    /// What happens to what is found.
    #[serde(default)]
    with: Word,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// `***`; of a card number the first six and last four digits stay.
    #[default]
    Mask,
    /// It goes.
    Remove,
    /// A short keyed hash: equal values stay equal.
    Hash,
}

impl Assertion for Scrub {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let all: Vec<Option<(What, With)>> = self.rules.iter().map(|rule| compiled(rule, step.span, cx)).collect();
        let rules = Arc::new(Rules(all.into_iter().collect::<Option<_>>()?));
        if rules.0.is_empty() || self.from.is_empty() {
            let help = "write `scrub: { rules: [pan], from: [audit] }`";
            return cx.refuse("policy.empty_list", step.span, "`scrub` scrubs nothing", help);
        }
        let holds = |wanted: From| self.from.iter().any(|from| from.value == wanted);
        let (audit, log, trace) = (holds(From::Audit), holds(From::Log), holds(From::Trace));
        if audit || log || trace {
            cx.scrubs.push(RecordRules { rules: rules.clone(), audit, log, trace });
        }
        let mut sides = Vec::new();
        for from in self.from.iter() {
            let side = match from.value {
                From::Request => Side::Request,
                From::Response => cx.side(Some(Message::Response), from.span)?,
                _ => continue,
            };
            cx.changes_message(from.span);
            if rules.read_bodies() {
                cx.need_body(side);
            }
            sides.push(side);
        }
        let count = cx.out(KIND.sets.first()?, step.renamed());
        Compiled::plain(ScrubStep { rules, sides, count })
    }
}

/// The rules of gateway.yaml: for all records of all services.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct HouseRules(OneOrMany<ScalarOr<Literal, RuleDoc>>);

impl HouseRules {
    /// Compiles them; nothing where there are none, or something is wrong, which is reported.
    pub fn compile(&self, span: Span, diags: &mut Diagnostics) -> Option<RecordRules> {
        let sources = Sources::new();
        let (resources, limits) = (Resources::default(), Limits::default());
        let (fragments, operators) = (Named::default(), Named::default());
        let around = Surroundings {
            sources: &sources,
            resources: &resources,
            fragments: &fragments,
            catalogue: &[],
            operators: &operators,
            limits: &limits,
        };
        let mut cx = Compile::new(around, diags, "".into(), Vec::new());
        let all: Vec<_> = self.0.iter().map(|rule| compiled(rule, span, &mut cx)).collect();
        let rules = Rules(all.into_iter().collect::<Option<_>>()?);
        (!rules.0.is_empty()).then(|| RecordRules { rules: Arc::new(rules), audit: true, log: true, trace: true })
    }
}

fn compiled(rule: &ScalarOr<Literal, RuleDoc>, span: Span, cx: &mut Compile<'_>) -> Option<(What, With)> {
    let doc = match rule {
        ScalarOr::Scalar(word) if word.as_str() == "pan" => return Some((What::Pan, With::Mask)),
        ScalarOr::Scalar(word) => {
            let message = format!("`{}` is no rule", word.as_str());
            let help = "write `pan`, or `{ json: \"$..ssn\" }`, `{ header: x-patient }`, `{ regex: \"...\" }`";
            return cx.refuse("policy.bad_value", word.span(), message, help);
        }
        ScalarOr::Larger(doc) => doc,
    };
    let with = match doc.with {
        Word::Mask => With::Mask,
        Word::Remove => With::Remove,
        Word::Hash => With::Hash,
    };
    if let Some(xpath) = &doc.xpath {
        let message = "XML cannot be scrubbed by place in this version";
        let help = "use `{ regex: ... }` over the text of the body";
        return cx.refuse("policy.not_supported", xpath.span(), message, help);
    }
    let given = [&doc.json, &doc.header, &doc.query, &doc.form, &doc.regex];
    let count = given.iter().filter(|given| given.is_some()).count() + usize::from(doc.pan == Some(true));
    if count != 1 {
        let help = "write each in an item of its own";
        return cx.refuse("policy.bad_value", span, "a rule looks for exactly one thing", help);
    }
    let what = match (&doc.json, &doc.header, &doc.query, &doc.form, &doc.regex) {
        (Some(place), ..) => What::Json(place_of(place, cx)?),
        (_, Some(name), ..) => What::Header(header(name, cx)?),
        (_, _, Some(name), ..) => What::Query(cx.literal(name)?),
        (_, _, _, Some(name), _) => What::Form(cx.literal(name)?),
        (.., Some(pattern)) => What::Regex(cx.pattern(pattern, PatternFlags::default())?.regex),
        _ => What::Pan,
    };
    Some((what, with))
}

fn header(name: &Literal, cx: &mut Compile<'_>) -> Option<HeaderName> {
    let text = cx.literal(name)?;
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Some(name),
        Err(_) => {
            let message = format!("`{text}` is no field name (RFC 9110 §5.1)");
            cx.refuse("policy.bad_header", name.span(), message, "write `header: x-patient`")
        }
    }
}

/// A query, or a pointer as the query that means the same.
fn place_of(place: &Literal, cx: &mut Compile<'_>) -> Option<Query> {
    let text = cx.literal(place)?;
    let query = match text.strip_prefix('/') {
        None => text,
        Some(pointer) => {
            let step = |token: &str| {
                let name = token.replace("~1", "/").replace("~0", "~");
                // Digits are a position in an array and a name in an object.
                match name.parse::<u32>() {
                    Ok(number) => format!("[{number}, '{name}']"),
                    Err(_) => format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'")),
                }
            };
            pointer.split('/').map(step).fold("$".to_owned(), |query, step| query + &step)
        }
    };
    match Query::parse(&query) {
        Ok(query) if query.is_bounded() => Some(query),
        Ok(_) => {
            let message = "a pattern of `match` or `search` would come out of the document";
            cx.refuse("policy.bad_json_path", place.span(), message, "write the pattern in quotes")
        }
        Err(why) => {
            let message = format!("this is no pointer and no JSONPath query: {why}");
            cx.refuse("policy.bad_json_path", place.span(), message, "write `/card/number` or `$..ssn`")
        }
    }
}

struct ScrubStep {
    rules: Arc<Rules>,
    /// Messages; none where only records are meant.
    sides: Vec<Side>,
    count: Slot,
}

impl Plain for ScrubStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        let mut count = 0;
        for side in &self.sides {
            match self.message(x, *side) {
                Ok(found) => count += found,
                Err(fault) => return Verdict::Fault(fault),
            }
        }
        x.set(self.count, Value::Int(i64::try_from(count).unwrap_or(i64::MAX)));
        Verdict::Passed
    }
}

impl ScrubStep {
    fn message(&self, x: &mut Exchange, side: Side) -> Result<usize, Box<Fault>> {
        let mut count = x.headers_mut(side).map_or(0, |headers| self.rules.headers(headers));
        if side == Side::Request
            && let Some((query, found)) = x.request.query().and_then(|query| self.rules.pairs(query, Pairs::Query))
        {
            x.rewrite(None, Some(query), None);
            count += found;
        }
        if !self.rules.read_bodies() || x.body(side).size() == Some(0) {
            return Ok(count);
        }
        plain(x, side)?;
        let text = x.body_as_text(side).map_err(|fault| match fault.code.as_ref() {
            "body.not_text" => fault.with_code("scrub.unscannable"),
            _ => fault,
        })?;
        let media = x.headers(side).and_then(Media::of);
        if let Some(why) = media.and_then(|media| unreadable(&self.rules, &media)) {
            return Err(unscannable(side, why.to_owned()));
        }
        let (scrubbed, found) = if media.is_some_and(|media| media.is_json()) {
            check_text(text.as_bytes()).map_err(|why| unscannable(side, why.to_string()))?;
            let parsed: Result<Json, _> = serde_json::from_str(text);
            let mut json = parsed.map_err(|why| unscannable(side, why.to_string()))?;
            let found = self.rules.json(&mut json);
            let found = found.map_err(|_| unscannable(side, "more values than a query may see".to_owned()))?;
            (json.to_string(), found)
        } else if media.is_some_and(|media| media.is("application/x-www-form-urlencoded")) {
            self.rules.pairs(text, Pairs::Form).unwrap_or_default()
        } else {
            let mut text = text.to_owned();
            let found = self.rules.text(&mut text);
            (text, found)
        };
        if found > 0 {
            x.replace_body(side, Bytes::from(scrubbed));
        }
        Ok(count + found)
    }
}

/// Why the places that the rules name cannot be found in a body of this type.
fn unreadable(rules: &Rules, media: &Media<'_>) -> Option<&'static str> {
    let essence = media.essence.to_ascii_lowercase();
    if rules.read_forms() && essence.starts_with("multipart/") {
        return Some("a `form` rule, and the fields of a multipart body are not told apart");
    }
    let is_json = essence.ends_with("/json") || essence.ends_with("+json");
    (rules.read_json() && is_json && !media.is_json()).then_some("JSON in another charset than UTF-8")
}

/// Undoes the coding of a body.
fn plain(x: &mut Exchange, side: Side) -> Result<(), Box<Fault>> {
    let codings = x.headers(side).map(content_codings).unwrap_or_default();
    let format = match codings.as_slice() {
        [] => return Ok(()),
        [coding] if coding == "gzip" || coding == "x-gzip" => Format::Gzip,
        [coding] if coding == "deflate" => Format::Zlib,
        _ => return Err(unscannable(side, format!("coded as {}", codings.join(", ")))),
    };
    let inflater = Box::new(Inflater::new(format, BODY_BOUNDS));
    x.recode(side, inflater, None).map_err(|why| unscannable(side, why.to_string()))
}

fn unscannable(side: Side, detail: String) -> Box<Fault> {
    match side {
        Side::Request => Fault::denied(StatusCode::BAD_REQUEST, "scrub.unscannable", detail),
        Side::Response => Fault::broken(StatusCode::BAD_GATEWAY, "scrub.unscannable", detail),
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};
    use crate::coding::{Deflater, Format, code};

    const CARD: &str = "4111111111111111";
    const MASKED: &str = "411111******1111";

    #[test]
    fn a_request_is_scrubbed_in_all_its_parts() {
        let steps = "  - scrub: { rules: [pan, { query: key, with: remove }, { form: pin }, { header: x-a, with: hash }], from: request }
  - route: http://127.0.0.1:9000";
        let fields = [("content-type", "application/x-www-form-urlencoded"), ("x-a", "7")];
        let outcome = Trial::of(steps).send("POST", "/p?a=1&key=2", &fields, "card=4111111111111111&pin=12&b=1");
        let sent = &outcome.sent[0];
        assert_eq!(sent.body, format!("card={}&pin=%2A%2A%2A&b=1", MASKED.replace('*', "%2A")));
        assert!(sent.target.ends_with("/p?a=1"), "{}", sent.target);
        assert!(outcome.sent_header("x-a").unwrap().starts_with('#'));
    }

    #[test]
    fn a_coding_is_no_obstacle_and_what_cannot_be_read_does_not_pass() {
        let steps = "  - scrub: { rules: [{ json: /card/0 }, { regex: \"P-[0-9]+\" }], from: request }
  - route: http://127.0.0.1:9000";
        let trial = Trial::of(steps);
        let json = [("content-type", "application/json"), ("content-encoding", "gzip")];
        let body = r#"{"card":["a","b"],"t":"P-1"}"#;
        let packed: &'static [u8] = code(&mut Deflater::new(Format::Gzip, 6, false), body.into()).unwrap().leak();
        let outcome = trial.send_bytes("POST", "/", &json, packed);
        assert_eq!(outcome.sent[0].body, r#"{"card":["***","b"],"t":"***"}"#);
        assert_eq!(outcome.sent_header("content-encoding"), None);
        let fault = |fields: &[(&str, &str)], body| {
            let outcome = trial.send_bytes("POST", "/", fields, body);
            (outcome.status, outcome.fault.unwrap_or_default())
        };
        let unscannable = (400, "scrub.unscannable".to_owned());
        assert_eq!(fault(&json, b"{}"), unscannable);
        assert_eq!(fault(&json[..1], b"{"), unscannable);
        assert_eq!(fault(&json[..1], br#"{"a":1,"a":"P-1"}"#), unscannable);
        assert_eq!(fault(&[], b"\xff"), unscannable);
        assert_eq!(fault(&[("content-encoding", "br")], b"x"), unscannable);
        let latin = [("content-type", "application/json; charset=iso-8859-1")];
        assert_eq!(fault(&latin, br#"{"card":["a"]}"#), unscannable);
        let response = "  - route: http://127.0.0.1:9000\n  - scrub: { rules: pan, from: response }";
        let outcome = Trial::of(response).answering(&[("content-type", "application/json")], "{").get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("scrub.unscannable")));
    }

    #[test]
    fn records_are_scrubbed_wherever_the_step_stands() {
        let steps = "  - audit: { save: [request_headers, request_body], message: \"of ${request.text}\" }
  - when: request.path == '/stop'
    respond: 204
  - scrub: [pan, { json: $.ssn }, { header: x-patient }]
  - respond: 204";
        let body = r#"{"ssn":"secret-1","n":"4111111111111111"}"#;
        for path in ["/stop", &format!("/{CARD}")] {
            let outcome = Trial::of(steps).send("POST", path, &[("x-patient", "anna")], body);
            let mut line = String::new();
            outcome.record.write_line(&mut line);
            assert!(!line.contains(CARD) && !line.contains("anna"), "{line}");
            let fields: serde_json::Map<String, serde_json::Value> =
                outcome.record.fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            assert_eq!(fields["request_body"], format!(r#"{{"ssn":"***","n":"{MASKED}"}}"#));
        }
    }

    #[test]
    fn the_fields_of_a_multipart_body_do_not_pass_unseen() {
        let part = "--b\r\ncontent-disposition: form-data; name=pin\r\n\r\n12\r\n--b--\r\n";
        let fields = [("content-type", "Multipart/form-data; boundary=b")];
        let step =
            |rules: &str| format!("  - scrub: {{ rules: {rules}, from: request }}\n  - route: http://127.0.0.1:9000");
        let outcome = Trial::of(&step("{ form: pin }")).send("POST", "/", &fields, part);
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("scrub.unscannable")));
        let outcome = Trial::of(&step("{ regex: '[0-9]+' }")).send("POST", "/", &fields, part);
        assert!(outcome.sent[0].body.contains("\r\n\r\n***\r\n"));
        let saved = "  - audit: { save: [request_body] }\n  - scrub: [{ form: pin }]\n  - respond: 204";
        let outcome = Trial::of(saved).send("POST", "/", &fields, part);
        assert_eq!(outcome.record.fields[0].1, "(unscannable)");
    }

    #[test]
    fn no_spelling_of_a_saved_body_hides_anything() {
        let steps = "  - audit: { save: [request_body] }\n  - scrub: [pan, { json: $..ssn }, { regex: 'P-[0-9]+' }]\n  - respond: 204";
        for (body, saved) in [
            (format!(r#"{{"a":"{CARD}","a":"x"}}"#), "(unscannable)".to_owned()),
            (r#"{"a":"\u0034111111111111111""#.to_owned(), "(unscannable)".to_owned()),
            (format!(r#"{{"{CARD}":"x"}}"#), format!(r#"{{"{MASKED}":"x"}}"#)),
            ("\u{feff}{\"ssn\":\"123-45-6789\"}".to_owned(), r#"{"ssn":"***"}"#.to_owned()),
            ("\u{feff}{\"ssn\":".to_owned(), "(unscannable)".to_owned()),
            (r#"{"a": ["P-1", 1.10]}"#.to_owned(), r#"{"a":["***",1.1]}"#.to_owned()),
            (r#"{"a": [1.10, "b"]}"#.to_owned(), r#"{"a": [1.10, "b"]}"#.to_owned()),
            (CARD.to_owned(), format!("\"{MASKED}\"")),
            (format!("{CARD}=1&a=4111%201111+1111+1111"), {
                let encoded = MASKED.replace('*', "%2A");
                format!("{encoded}=1&a=4111%2011%2A%2A%20%2A%2A%2A%2A%201111")
            }),
            ("4000 0000 0000 4111 1111 1111 1111".to_owned(), "4000 00** **** 4111 11** **** 1111".to_owned()),
        ] {
            let outcome = Trial::of(steps).send("POST", "/", &[], body.clone().leak());
            assert_eq!(outcome.record.fields[0].1, saved, "{body}");
        }
    }

    #[test]
    fn faults_that_were_caught_are_scrubbed_too() {
        let steps = "  - scrub: [pan]\n  - any:\n      - raise: { status: 403, code: trial.no, detail: \"of ${request.text}\" }\n      \
                     - log: x\n  - respond: 204";
        let outcome = Trial::of(steps).send("POST", "/", &[], CARD);
        assert_eq!(outcome.record.caught[0].detail, format!("of {MASKED}"));
    }

    #[test]
    fn what_cannot_work_does_not_load() {
        let wrong = [
            ("[{ xpath: //a }]", "policy.not_supported"),
            ("[cards]", "policy.bad_value"),
            ("[{ json: $.a, header: b }]", "policy.bad_value"),
            ("[{ json: a }]", "policy.bad_json_path"),
            ("{ rules: pan, from: response }", "policy.no_response"),
            ("[]", "policy.empty_list"),
        ];
        for (params, code) in wrong {
            assert_eq!(refusals(&format!("  - scrub: {params}\n  - respond: 204")), [code], "{params}");
        }
    }
}
