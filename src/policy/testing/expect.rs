//! `expect:` of a test: what must be true of an answer and of the way to it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json_path::JsonPath;

use crate::policy::testing::text::Names;
use crate::policy::testing::want::{Form, Want};
use crate::source::{Diagnostic, Diagnostics, Entries, Name, Node, OneOrMany, ScalarOr, Span, Text, read};

/// Everything that one exchange expects.
#[derive(Debug, Default)]
pub(super) struct Expect {
    /// `service`, `status`, `fault`, `ended_by`, `json`, ... in the order of the documentation.
    pub single: Vec<(Single, Want)>,
    pub headers: Vec<(String, Want)>,
    pub json_path: Vec<(Query, Want)>,
    pub upstream: Option<(Span, Upstream)>,
    pub steps: Vec<(StepWord, Name)>,
    pub variables: Vec<(Name, Want)>,
    /// Of a tested assertion: what must have come out of it.
    pub outputs: Vec<(Name, Want)>,
    pub audit_level: Option<Want>,
    pub audit_fields: Vec<(String, Want)>,
    pub audit_without: Vec<Want>,
    pub metrics: Vec<WantMetric>,
}

/// A JSONPath (RFC 9535).
#[derive(Debug)]
pub(super) struct Query {
    pub text: String,
    path: JsonPath,
    /// It names one place, not a list of them.
    singular: bool,
}

/// A number of the process.
#[derive(Debug)]
pub(super) struct WantMetric {
    pub name: Name,
    /// Labels that its series must have, among others.
    pub labels: Vec<(String, String)>,
    pub value: Want,
}

/// Expectations of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Single {
    Service,
    Status,
    Fault,
    EndedBy,
    Verdict,
    Json,
    JsonHas,
    Text,
    BodySha256,
}

impl Single {
    /// Its key.
    pub fn word(self) -> &'static str {
        match self {
            Single::Service => "service",
            Single::Status => "status",
            Single::Fault => "fault",
            Single::EndedBy => "ended_by",
            Single::Verdict => "verdict",
            Single::Json => "json",
            Single::JsonHas => "json_has",
            Single::Text => "text",
            Single::BodySha256 => "body_sha256",
        }
    }
}

/// What must have been sent upstream.
#[derive(Debug)]
pub(super) enum Upstream {
    None,
    One,
    List(Vec<WantCall>),
    /// All of them, in whatever order.
    AnyOrder(Vec<WantCall>),
}

/// One request as it must have been sent.
#[derive(Debug)]
pub(super) struct WantCall {
    pub span: Span,
    pub fields: Vec<(&'static str, Want)>,
    pub headers: Vec<(String, Want)>,
}

/// What must have become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepWord {
    Passed,
    NotRun,
    Denied,
    WouldDeny,
    WouldBreak,
}

impl StepWord {
    /// Its key.
    pub fn word(self) -> &'static str {
        match self {
            StepWord::Passed => "passed",
            StepWord::NotRun => "not_run",
            StepWord::Denied => "denied",
            StepWord::WouldDeny => "would_deny",
            StepWord::WouldBreak => "would_break",
        }
    }
}

/// Words of `ended_by`.
const ENDED_BY: [&str; 5] = ["end", "respond", "redirect", "stop", "fault"];
/// Words of `verdict`.
const VERDICTS: [&str; 4] = ["passed", "ended", "denied", "broken"];
/// Words of `audit: level`.
const LEVELS: [&str; 3] = ["info", "warning", "severe"];

/// What is expected.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectDoc {
    /// Who answered; `none` for a request that no service takes. The tested service without it.
    service: Option<Node>,
    status: Option<Node>,
    /// `none`, or the code of the fault.
    fault: Option<Node>,
    headers: Entries<Node>,
    /// The body as JSON, exactly.
    json: Option<Node>,
    /// Members that the body's JSON must have.
    json_has: Option<Node>,
    /// Values by JSONPath: `{ "$.items[0].id": 7 }`.
    json_path: Entries<Node>,
    text: Option<Node>,
    /// Hexadecimal digits of the body's SHA-256.
    body_sha256: Option<Node>,
    /// `none`, `one`, or all requests in the order in which they were sent.
    #[schemars(with = "Option<ScalarOr<Calls, Vec<CallDoc>>>")]
    upstream: Option<Node>,
    /// The same list where the order is not told.
    upstream_any_order: Option<Node>,
    steps: StepsDoc,
    /// Variables by their dotted names.
    variables: Entries<Node>,
    audit: AuditDoc,
    /// Outputs of a tested assertion.
    outputs: Entries<Node>,
    /// Numbers of the process, since the case began.
    metrics: Entries<Node>,
    /// `end`, `respond`, `redirect`, `stop` or `fault`.
    ended_by: Option<Node>,
    /// `passed`, `ended` (it answered), `denied` or `broken`.
    verdict: Option<Node>,
}

/// A word for how many requests were sent.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)] // only its schema is used
enum Calls {
    None,
    One,
}

/// Steps by name, assertion or index path.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct StepsDoc {
    /// Of a composite: something in it ran, and the request's fault, if there is one, did not come out of it.
    passed: OneOrMany<Name>,
    not_run: OneOrMany<Name>,
    /// Of a composite: the denial of the request came out of it.
    denied: OneOrMany<Name>,
    /// Shadowed steps that would have denied.
    would_deny: OneOrMany<Name>,
    /// Shadowed steps that were broken.
    would_break: OneOrMany<Name>,
}

/// The request's record.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AuditDoc {
    level: Option<Node>,
    fields: Entries<Node>,
    /// Texts that the record must not hold anywhere.
    contains_none: OneOrMany<Text>,
}

/// A number with labels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MetricDoc {
    value: Node,
    /// Only series with these labels count.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// One request that was sent upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct CallDoc {
    method: Option<Node>,
    /// Path and query as they were sent.
    path: Option<Node>,
    /// The Host field.
    host: Option<Node>,
    headers: Entries<Node>,
    json: Option<Node>,
    json_has: Option<Node>,
    text: Option<Node>,
}

impl Expect {
    /// Reads an expectation; everything wrong with it is reported.
    pub fn read(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<Expect> {
        let doc: ExpectDoc = read(node, None, "`expect`", diags)?;
        check_values(node, diags)?;
        let (mut expect, mut wants) = (Expect::default(), Wants { names, diags, is_broken: false });
        expect.upstream = wants.read(|names, diags| upstream(&doc, names, diags)).flatten();
        for (single, node, form) in [
            (Single::Service, &doc.service, Form::There),
            (Single::Status, &doc.status, Form::Status),
            (Single::Fault, &doc.fault, Form::There),
            (Single::EndedBy, &doc.ended_by, Form::Word(&ENDED_BY)),
            (Single::Verdict, &doc.verdict, Form::Word(&VERDICTS)),
            (Single::Json, &doc.json.or_else(|| node.get(Single::Json.word()).cloned()), Form::Json),
            (Single::JsonHas, &doc.json_has, Form::Json),
            (Single::Text, &doc.text, Form::Text),
            (Single::BodySha256, &doc.body_sha256, Form::There),
        ] {
            if let Some(node) = node {
                expect.single.push((single, wants.of(node, form)));
            }
        }
        expect.headers = wants.of_fields(&doc.headers);
        for (name, node) in &doc.variables {
            expect.variables.push((name.clone(), wants.of(node, Form::Json)));
        }
        for (name, node) in &doc.outputs {
            expect.outputs.push((name.clone(), wants.of(node, Form::Json)));
        }
        if let Some(level) = &doc.audit.level {
            expect.audit_level = Some(wants.of(level, Form::Word(&LEVELS)));
        }
        for (name, node) in &doc.audit.fields {
            expect.audit_fields.push((name.name.clone(), wants.of(node, Form::Json)));
        }
        for text in &doc.audit.contains_none {
            expect.audit_without.push(wants.of(&text.0, Form::Text));
        }
        for (word, names) in [
            (StepWord::Passed, doc.steps.passed),
            (StepWord::NotRun, doc.steps.not_run),
            (StepWord::Denied, doc.steps.denied),
            (StepWord::WouldDeny, doc.steps.would_deny),
            (StepWord::WouldBreak, doc.steps.would_break),
        ] {
            expect.steps.extend(names.into_iter().map(|name| (word, name)));
        }
        for (query, node) in &doc.json_path {
            let (query, want) = (wants.read(|_, diags| Query::read(query, diags)), wants.of(node, Form::Json));
            expect.json_path.extend(query.map(|query| (query, want)));
        }
        for (name, node) in &doc.metrics {
            expect.metrics.extend(wants.read(|names, diags| metric(name, node, names, diags)));
        }
        (!wants.is_broken).then_some(expect)
    }

    /// Whether it says what the outcome is at all.
    pub fn says_something(&self) -> bool {
        let says = |single: &Single| matches!(single, Single::Status | Single::Fault | Single::Verdict);
        self.upstream.is_some() || !self.outputs.is_empty() || self.single.iter().any(|(single, _)| says(single))
    }
}

/// A null body can be expected; any other key without a value would expect nothing.
fn check_values(node: &Node, diags: &mut Diagnostics) -> Option<()> {
    let mut entries = node.as_map().unwrap_or_default().iter();
    let Some(empty) = entries.find(|entry| entry.value.is_null() && entry.key != Single::Json.word()) else {
        return Some(());
    };
    let message = format!("`{}` has no value, so that nothing is expected", empty.key);
    let diagnostic = Diagnostic::error("policy.wrong_type", empty.key_span, message);
    diags.push(diagnostic.with_help("write what it must be, or take it out"));
    None
}

/// Reads one want after the other: a mistake hides none behind it.
struct Wants<'a> {
    names: &'a mut Names,
    diags: &'a mut Diagnostics,
    is_broken: bool,
}

impl Wants<'_> {
    fn of(&mut self, node: &Node, form: Form) -> Want {
        self.read(|names, diags| Want::compile(node, form, names, diags)).unwrap_or_else(|| Want::anything(node.span()))
    }

    /// Fields by their names in lower case.
    fn of_fields(&mut self, entries: &Entries<Node>) -> Vec<(String, Want)> {
        entries.iter().map(|(name, node)| (name.name.to_ascii_lowercase(), self.of(node, Form::Text))).collect()
    }

    /// What `read` makes; it has reported why it made nothing.
    fn read<T>(&mut self, read: impl FnOnce(&mut Names, &mut Diagnostics) -> Option<T>) -> Option<T> {
        let made = read(self.names, self.diags);
        self.is_broken |= made.is_none();
        made
    }
}

/// `upstream`, or `upstream_any_order`.
fn upstream(doc: &ExpectDoc, names: &mut Names, diags: &mut Diagnostics) -> Option<Option<(Span, Upstream)>> {
    let (node, upstream) = match (&doc.upstream, &doc.upstream_any_order) {
        (None, None) => return Some(None),
        (Some(node), None) => (node, in_order(node, names, diags)),
        (None, Some(node)) => (node, calls(node, names, diags).map(Upstream::AnyOrder)),
        (Some(_), Some(node)) => {
            let message = "`upstream` and `upstream_any_order` exclude each other";
            let help = "keep the one whose order is meant";
            diags.push(Diagnostic::error("policy.bad_value", node.span(), message).with_help(help));
            return None;
        }
    };
    Some(Some((node.span(), upstream?)))
}

fn in_order(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<Upstream> {
    match node.as_text() {
        Some("none") => Some(Upstream::None),
        Some("one") => Some(Upstream::One),
        Some(other) => {
            let message = format!("expected `none`, `one` or a list of requests, got `{other}`");
            let help = "write `upstream: none`, or what must be sent: `upstream: [{ path: /v2/orders/7 }]`";
            diags.push(Diagnostic::error("policy.bad_value", node.span(), message).with_help(help));
            None
        }
        None => calls(node, names, diags).map(Upstream::List),
    }
}

fn calls(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<Vec<WantCall>> {
    let one = [node.clone()];
    let calls: Vec<_> = node.as_list().unwrap_or(&one).iter().map(|node| call(node, names, diags)).collect();
    calls.into_iter().collect()
}

/// `NAME: 1`, or `NAME: { value: 1, labels: { author: ann } }`.
fn metric(name: &Name, node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<WantMetric> {
    let doc = match node.get("value") {
        Some(_) => read::<MetricDoc>(node, None, "a number", diags)?,
        None => MetricDoc { value: node.clone(), labels: BTreeMap::new() },
    };
    let value = Want::compile(&doc.value, Form::Json, names, diags)?;
    Some(WantMetric { name: name.clone(), labels: doc.labels.into_iter().collect(), value })
}

impl Query {
    fn read(name: &Name, diags: &mut Diagnostics) -> Option<Query> {
        match JsonPath::parse(&name.name) {
            Ok(path) => Some(Query { singular: is_singular(&name.name), text: name.name.clone(), path }),
            Err(error) => {
                let message = format!("`{}` is no JSONPath: {error}", name.name);
                let help = "a path begins at `$`: `$.items[0].id` (RFC 9535)";
                diags.push(Diagnostic::error("test.bad_path", name.span, message).with_help(help));
                None
            }
        }
    }

    /// The one value, or all of them as a list; nothing where the one is not there.
    pub fn of(&self, json: &Json) -> Option<Json> {
        let found = self.path.query(json);
        match self.singular {
            true => found.first().cloned(),
            false => Some(found.all().into_iter().cloned().collect()),
        }
    }
}

/// Whether a path has only names and indexes (RFC 9535 §2.3.5.1).
fn is_singular(path: &str) -> bool {
    let mut quote = None;
    let mut before = ' ';
    for character in path.chars() {
        match quote {
            Some(open) if character == open && before != '\\' => quote = None,
            Some(_) => {}
            None if matches!(character, '"' | '\'') => quote = Some(character),
            None if matches!(character, '*' | '?' | ':' | ',') || (character, before) == ('.', '.') => return false,
            None => {}
        }
        // A backslash that is itself escaped escapes nothing.
        before = if (before, character) == ('\\', '\\') { ' ' } else { character };
    }
    true
}

fn call(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<WantCall> {
    let doc: CallDoc = read(node, None, "a request sent upstream", diags)?;
    let mut wants = Wants { names, diags, is_broken: false };
    let mut want = WantCall { span: node.span(), fields: Vec::new(), headers: Vec::new() };
    for (word, node, form) in [
        ("method", &doc.method, Form::There),
        ("path", &doc.path, Form::There),
        ("host", &doc.host, Form::Text),
        ("json", &doc.json, Form::Json),
        ("json_has", &doc.json_has, Form::Json),
        ("text", &doc.text, Form::Text),
    ] {
        if let Some(node) = node {
            want.fields.push((word, wants.of(node, form)));
        }
    }
    want.headers = wants.of_fields(&doc.headers);
    (!wants.is_broken).then_some(want)
}
