//! Stand-ins for upstreams: which requests they take and what they answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::policy::build::Parsed;
use crate::policy::testing::seen::{SentCall, field};
use crate::policy::testing::text::{Bench, Names, TestText, Tree};
use crate::policy::testing::want::{Extent, Form, Want};
use crate::source::{Diagnostic, Diagnostics, DurationValue, Entries, Name, Node, OneOrMany, Span, Text, read};

/// One stand-in.
#[derive(Debug)]
pub(super) struct StandIn {
    pub span: Span,
    rule: Match,
    pub answer: GivenAnswer,
    /// How often it must be used; afterwards it takes no more. `None`: any number.
    pub times: Option<u32>,
    /// It stands in the case itself, so that it is there to be used.
    pub own: bool,
}

#[derive(Debug, Default)]
struct Match {
    upstream: Option<String>,
    fields: Vec<(&'static str, Want)>,
    headers: Vec<(String, Want)>,
    json: Option<Want>,
    text: Option<Want>,
}

/// What a stand-in answers.
#[derive(Debug, Default)]
pub(super) struct GivenAnswer {
    status: StatusCode,
    headers: Vec<(HeaderName, TestText)>,
    body: GivenBody,
    pub delay: Duration,
    pub fail: Option<Fail>,
}

#[derive(Debug, Default)]
enum GivenBody {
    #[default]
    Empty,
    Json(Tree),
    Text(TestText),
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fail {
    /// No connection.
    Refused,
    /// The connection breaks without an answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// Something that is no HTTP.
    Malformed,
}

/// A stand-in for an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StandInDoc {
    /// Which requests it takes; without it all.
    #[serde(default, rename = "match")]
    rule: MatchDoc,
    /// What it answers; 200 with nothing without it.
    #[serde(default)]
    answer: AnswerDoc,
    /// How often it is to be used.
    #[serde(default)]
    times: Option<u32>,
}

/// All of what is written must fit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct MatchDoc {
    /// Name of an `upstream`.
    upstream: Option<Name>,
    method: Option<Node>,
    /// The Host field as it goes out.
    host: Option<Node>,
    /// The path; with a question mark, the query too.
    path: Option<Node>,
    headers: Entries<Node>,
    json: Option<Node>,
    text: Option<Node>,
}

/// An answer, or `fail`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AnswerDoc {
    status: Option<u16>,
    headers: Entries<OneOrMany<Text>>,
    json: Option<Node>,
    text: Option<Text>,
    /// The clock moves on by this before the answer's head.
    delay: Option<DurationValue>,
    fail: Option<Fail>,
}

impl StandIn {
    /// Reads a stand-in; everything wrong with it is reported.
    pub fn read(
        node: &Node,
        own: bool,
        parsed: &Parsed,
        names: &mut Names,
        diags: &mut Diagnostics,
    ) -> Option<StandIn> {
        let fail =
            node.get("answer").and_then(|answer| answer.get("fail")).filter(|fail| fail.as_text() == Some("tls"));
        if let Some(fail) = fail {
            let message = "`fail: tls` comes with TLS to upstreams in a later version";
            let diagnostic = Diagnostic::error("policy.not_supported", fail.span(), message);
            diags.push(diagnostic.with_help("write `fail: refused` for now"));
            return None;
        }
        let doc: StandInDoc = read(node, None, "a stand-in for an upstream", diags)?;
        let rule = rule(doc.rule, parsed, names, diags);
        let answer = answer(doc.answer, node.span(), names, diags);
        Some(StandIn { span: node.span(), rule: rule?, answer: answer?, times: doc.times, own })
    }

    /// Whether it takes a request. `upstream` is the name of the resource that was routed to.
    pub fn takes(&self, upstream: Option<&str>, call: &SentCall, bench: &Bench<'_>) -> bool {
        if self.rule.upstream.as_deref().is_some_and(|wanted| upstream != Some(wanted)) {
            return false;
        }
        let text = |text: &str| serde_json::Value::String(text.to_owned());
        let mut misses = Vec::new();
        for (name, want) in &self.rule.fields {
            let path = call.target.split('?').next().unwrap_or_default();
            let got = match *name {
                "method" => Some(text(&call.method)),
                "host" => field(&call.headers, "host"),
                _ if want.word().is_some_and(|word| word.contains('?')) => Some(text(&call.target)),
                _ => Some(text(path)),
            };
            want.check(got.as_ref(), Extent::Exact, name, bench, &mut misses);
        }
        for (name, want) in &self.rule.headers {
            want.check(field(&call.headers, name).as_ref(), Extent::Exact, name, bench, &mut misses);
        }
        if let Some(want) = &self.rule.json {
            let json = serde_json::from_slice(&call.body).ok();
            want.check(json.as_ref(), Extent::Exact, "json", bench, &mut misses);
        }
        if let Some(want) = &self.rule.text {
            let body = std::str::from_utf8(&call.body).ok().map(text);
            want.check(body.as_ref(), Extent::Exact, "text", bench, &mut misses);
        }
        misses.is_empty()
    }
}

impl GivenAnswer {
    /// Status, fields and body; the error says which text cannot be made.
    pub fn make(&self, bench: &Bench<'_>) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let mut headers = HeaderMap::new();
        for (name, text) in &self.headers {
            let value = HeaderValue::try_from(text.text(bench)?).map_err(|error| format!("{name}: {error}"))?;
            headers.append(name, value);
        }
        let (media, body) = match &self.body {
            GivenBody::Empty => return Ok((self.status, headers, Bytes::new())),
            GivenBody::Json(tree) => ("application/json", tree.json(bench)?.to_string()),
            GivenBody::Text(text) => ("text/plain; charset=utf-8", text.text(bench)?),
        };
        headers.entry(http::header::CONTENT_TYPE).or_insert(HeaderValue::from_static(media));
        Ok((self.status, headers, body.into()))
    }
}

fn rule(doc: MatchDoc, parsed: &Parsed, names: &mut Names, diags: &mut Diagnostics) -> Option<Match> {
    let mut wants = |node: &Node, form| Want::compile(node, form, names, diags);
    let mut fields = Vec::new();
    for (name, node) in [("method", &doc.method), ("host", &doc.host), ("path", &doc.path)] {
        if let Some(node) = node {
            fields.push((name, wants(node, Form::Text)?));
        }
    }
    let mut headers = Vec::new();
    for (name, node) in &doc.headers {
        headers.push((name.name.to_ascii_lowercase(), wants(node, Form::Text)?));
    }
    let json = doc.json.as_ref().map(|node| wants(node, Form::Json));
    let text = doc.text.as_ref().map(|node| wants(node, Form::Text));
    let upstream = match doc.upstream {
        None => None,
        Some(name) => {
            let is_upstream = |doc: &&crate::policy::document::ResourceDoc| doc.kind.word == "upstream";
            let mut declared = parsed.documents.resources.iter().filter(is_upstream);
            if !declared.any(|doc| doc.name.name == name.name) {
                let message = format!("there is no `upstream: {}`", name.name);
                diags.push(
                    Diagnostic::error("policy.unknown_name", name.span, message)
                        .with_help("declare it in any file, or match by `host`"),
                );
                return None;
            }
            Some(name.name)
        }
    };
    let given = |want: Option<Option<Want>>| match want {
        None => Some(None),
        Some(want) => want.map(Some),
    };
    Some(Match { upstream, fields, headers, json: given(json)?, text: given(text)? })
}

fn answer(doc: AnswerDoc, span: Span, names: &mut Names, diags: &mut Diagnostics) -> Option<GivenAnswer> {
    let written = doc.status.unwrap_or(200);
    let Some(status) = StatusCode::from_u16(written).ok().filter(|status| written >= 200 && status.as_u16() < 600)
    else {
        let message = format!("{written} is no status of a final answer (200 to 599)");
        diags.push(
            Diagnostic::error("policy.bad_value", span, message)
                .with_help("write `status: 200`, or `fail: refused` for no answer at all"),
        );
        return None;
    };
    let headers = fields(&doc.headers, names, diags)?;
    let body = match (&doc.json, &doc.text) {
        (None, None) => GivenBody::Empty,
        (Some(node), None) => GivenBody::Json(Tree::compile(node, names, diags)?),
        (None, Some(text)) => GivenBody::Text(TestText::compile(&text.0, names, diags)?),
        (Some(_), Some(text)) => {
            let message = "`json` and `text` exclude each other";
            diags.push(Diagnostic::error("policy.bad_value", text.span(), message).with_help("keep one of them"));
            return None;
        }
    };
    let delay = doc.delay.map_or(Duration::ZERO, |delay| delay.duration);
    Some(GivenAnswer { status, headers, body, delay, fail: doc.fail })
}

/// Header fields with their texts; a list gives several fields of one name.
pub(super) fn fields(
    entries: &Entries<OneOrMany<Text>>,
    names: &mut Names,
    diags: &mut Diagnostics,
) -> Option<Vec<(HeaderName, TestText)>> {
    let mut fields = Vec::new();
    for (name, texts) in entries {
        let Ok(field) = HeaderName::from_bytes(name.name.as_bytes()) else {
            let message = format!("`{}` is no field name (RFC 9110 §5.1)", name.name);
            diags.push(
                Diagnostic::error("policy.bad_value", name.span, message)
                    .with_help("letters, digits and `-`: `x-tenant`"),
            );
            return None;
        };
        for text in texts {
            fields.push((field.clone(), TestText::compile(&text.0, names, diags)?));
        }
    }
    Some(fields)
}
