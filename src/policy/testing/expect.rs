//! `expect:` of a test: what must be true of an answer and of the way to it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::policy::testing::later;
use crate::policy::testing::text::Names;
use crate::policy::testing::want::{Form, Want};
use crate::source::{Diagnostic, Diagnostics, Entries, Name, Node, OneOrMany, Span, Text, read};

/// Keys of the contract that this version does not know yet.
const LATER: [&str; 3] = ["json_path", "metrics", "upstream_any_order"];

/// Everything that one exchange expects.
#[derive(Debug, Default)]
pub(super) struct Expect {
    /// `service`, `status`, `fault`, `ended_by`, `json`, ... in the order of the documentation.
    pub single: Vec<(Single, Want)>,
    pub headers: Vec<(String, Want)>,
    pub upstream: Option<(Span, Upstream)>,
    pub steps: Vec<(StepWord, Name)>,
    pub variables: Vec<(Name, Want)>,
    /// Of a tested assertion: what must have come out of it.
    pub outputs: Vec<(Name, Want)>,
    pub audit_level: Option<Want>,
    pub audit_fields: Vec<(String, Want)>,
    pub audit_without: Vec<Want>,
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
}

/// One request as it must have been sent.
#[derive(Debug, Default)]
pub(super) struct WantCall {
    pub fields: Vec<(&'static str, Want)>,
    pub headers: Vec<(String, Want)>,
}

/// What must have become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepWord {
    Passed,
    NotRun,
    Denied,
}

impl StepWord {
    /// Its key.
    pub fn word(self) -> &'static str {
        match self {
            StepWord::Passed => "passed",
            StepWord::NotRun => "not_run",
            StepWord::Denied => "denied",
        }
    }
}

/// What is expected.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ExpectDoc {
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
    text: Option<Node>,
    /// Hexadecimal digits of the body's SHA-256.
    body_sha256: Option<Node>,
    /// `none`, `one`, or all requests in the order in which they were sent.
    upstream: Option<Node>,
    steps: StepsDoc,
    /// Variables by their dotted names.
    variables: Entries<Node>,
    audit: AuditDoc,
    /// Outputs of a tested assertion.
    outputs: Entries<Node>,
    /// `end`, `respond`, `redirect`, `stop` or `fault`.
    ended_by: Option<Node>,
    /// `passed`, `ended` (it answered), `denied` or `broken`.
    verdict: Option<Node>,
}

/// Steps by name, assertion or index path.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct StepsDoc {
    passed: OneOrMany<Name>,
    not_run: OneOrMany<Name>,
    denied: OneOrMany<Name>,
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
        let node = &later(node, "expect", &LATER, diags);
        let node = &super::request::within(node, "steps", &["would_deny"], diags);
        let doc: ExpectDoc = read(node, None, "`expect`", diags)?;
        // A null body can be expected; any other key without a value would expect nothing.
        for entry in node.as_map().unwrap_or_default() {
            if entry.value.is_null() && entry.key != Single::Json.word() {
                let message = format!("`{}` has no value, so that nothing is expected", entry.key);
                diags.push(Diagnostic::error("policy.wrong_type", entry.key_span, message));
                return None;
            }
        }
        let mut wants = |node: &Node, form| Want::compile(node, form, names, diags);
        let mut expect = Expect::default();
        for (single, node, form) in [
            (Single::Service, &doc.service, Form::Text),
            (Single::Status, &doc.status, Form::Json),
            (Single::Fault, &doc.fault, Form::Text),
            (Single::EndedBy, &doc.ended_by, Form::Text),
            (Single::Verdict, &doc.verdict, Form::Text),
            (Single::Json, &doc.json.or_else(|| node.get(Single::Json.word()).cloned()), Form::Json),
            (Single::JsonHas, &doc.json_has, Form::Json),
            (Single::Text, &doc.text, Form::Text),
            (Single::BodySha256, &doc.body_sha256, Form::Text),
        ] {
            if let Some(node) = node {
                expect.single.push((single, wants(node, form)?));
            }
        }
        expect.headers = lower_case(&doc.headers, &mut wants)?;
        for (name, node) in &doc.variables {
            expect.variables.push((name.clone(), wants(node, Form::Json)?));
        }
        for (name, node) in &doc.outputs {
            expect.outputs.push((name.clone(), wants(node, Form::Json)?));
        }
        if let Some(level) = &doc.audit.level {
            expect.audit_level = Some(wants(level, Form::Text)?);
        }
        for (name, node) in &doc.audit.fields {
            expect.audit_fields.push((name.name.clone(), wants(node, Form::Json)?));
        }
        for text in &doc.audit.contains_none {
            expect.audit_without.push(wants(&text.0, Form::Text)?);
        }
        for (word, names) in [
            (StepWord::Passed, doc.steps.passed),
            (StepWord::NotRun, doc.steps.not_run),
            (StepWord::Denied, doc.steps.denied),
        ] {
            expect.steps.extend(names.into_iter().map(|name| (word, name)));
        }
        if let Some(node) = &doc.upstream {
            expect.upstream = Some((node.span(), upstream(node, names, diags)?));
        }
        Some(expect)
    }

    /// Whether it says what the outcome is at all.
    pub fn says_something(&self) -> bool {
        let says = |single: &Single| matches!(single, Single::Status | Single::Fault | Single::Verdict);
        self.upstream.is_some() || !self.outputs.is_empty() || self.single.iter().any(|(single, _)| says(single))
    }
}

fn lower_case(
    entries: &Entries<Node>,
    wants: &mut impl FnMut(&Node, Form) -> Option<Want>,
) -> Option<Vec<(String, Want)>> {
    let fields = entries.iter().map(|(name, node)| Some((name.name.to_ascii_lowercase(), wants(node, Form::Text)?)));
    fields.collect()
}

fn upstream(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<Upstream> {
    match node.as_text() {
        Some("none") => return Some(Upstream::None),
        Some("one") => return Some(Upstream::One),
        Some(other) => {
            let message = format!("expected `none`, `one` or a list of requests, got `{other}`");
            diags.push(Diagnostic::error("policy.bad_value", node.span(), message));
            return None;
        }
        None => {}
    }
    let one = [node.clone()];
    let calls: Vec<_> = node.as_list().unwrap_or(&one).iter().map(|node| call(node, names, diags)).collect();
    calls.into_iter().collect::<Option<_>>().map(Upstream::List)
}

fn call(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<WantCall> {
    let doc: CallDoc = read(node, None, "a request sent upstream", diags)?;
    let mut wants = |node: &Node, form| Want::compile(node, form, names, diags);
    let mut want = WantCall::default();
    for (word, node, form) in [
        ("method", &doc.method, Form::Text),
        ("path", &doc.path, Form::Text),
        ("host", &doc.host, Form::Text),
        ("json", &doc.json, Form::Json),
        ("json_has", &doc.json_has, Form::Json),
        ("text", &doc.text, Form::Text),
    ] {
        if let Some(node) = node {
            want.fields.push((word, wants(node, form)?));
        }
    }
    want.headers = lower_case(&doc.headers, &mut wants)?;
    Some(want)
}
