//! Texts of policy tests: `${...}` over functions, `hmac_sha256` and what earlier exchanges captured.

use std::collections::BTreeMap;

use http::HeaderName;
use serde_json::Value as Json;

use crate::engine::random::Random;
use crate::engine::read::{Builtin, Read, Reader, Side, Slot};
use crate::engine::value::{Element, Facts, Map, Text, Type, Val, Value};
use crate::expr::functions::{Function, OF_TESTS};
use crate::expr::{self, Constant, Place, Resolved, Scope, Segment, Template, Unresolved};
use crate::fault::Fault;
use crate::policy::testing::seen::Seen;
use crate::source::{Diagnostic, Diagnostics, Node, NodeValue, Span};

/// The slot of `redirect`, which no captured value ever gets.
const REDIRECT: Slot = Slot(u16::MAX);
/// The slots of tokens begin here, above those of captured values.
const TOKENS: u16 = 0x8000;
/// Values that one case can capture.
pub(super) const CAPTURED_MAX: usize = 1024;

/// What names mean in the texts of one case.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Captured by the exchanges before this text, in the order of their slots.
    pub captured: Vec<String>,
    /// Captured by exchanges that go out together with the one at hand: known once they have all been answered.
    pub pending: Vec<String>,
    /// The text is a `capture`: it reads the answer.
    pub answered: bool,
    /// Names of given tokens, in the order of their slots.
    tokens: Vec<String>,
}

/// A text of a test.
#[derive(Debug)]
pub(super) struct TestText {
    template: Template,
    pub span: Span,
}

/// A structure whose leaves may be texts with `${...}`.
#[derive(Debug)]
pub(super) enum Tree {
    Fixed(Json),
    Text(TestText),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// What the texts of one case are evaluated over.
pub(super) struct Bench<'b> {
    pub captured: &'b BTreeMap<String, Value>,
    /// Names in the order of their slots.
    pub order: &'b [String],
    /// Given tokens, in the order of their slots.
    pub tokens: &'b [Value],
    pub answer: Option<&'b Seen>,
    pub now: jiff::Timestamp,
    pub random: &'b Random,
}

impl Names {
    /// Nothing is captured yet; these tokens are given.
    pub fn with_tokens<T>(tokens: &[(String, T)]) -> Names {
        Names { tokens: tokens.iter().map(|(name, _)| name.clone()).collect(), ..Names::default() }
    }

    /// All exchanges so far have been answered.
    pub fn settle(&mut self) {
        for name in std::mem::take(&mut self.pending) {
            if !self.captured.contains(&name) {
                self.captured.push(name);
            }
        }
    }
}

impl TestText {
    /// Compiles a scalar; everything wrong with it is reported.
    pub fn compile(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<TestText> {
        let Some(source) = node.as_text() else {
            let message = format!("expected a text, got {}", node.kind());
            diags.push(
                Diagnostic::error("policy.wrong_type", node.span(), message).with_help("put it in quotes, on one line"),
            );
            return None;
        };
        match expr::template(source, Place::Plain, names) {
            Ok(template) => Some(TestText { template, span: node.span() }),
            Err(errors) => {
                for error in errors {
                    let span = node.position_of(error.at.start, error.at.end);
                    let mut diagnostic = Diagnostic::error(error.code, span, error.message).with_label(error.label);
                    diagnostic.help = error.help;
                    diags.push(diagnostic);
                }
                None
            }
        }
    }

    /// The text; the error says why there is none.
    pub fn text(&self, bench: &Bench<'_>) -> Result<String, String> {
        let mut text = String::new();
        self.template.render(bench, &mut text).map_err(|fault| why(&fault))?;
        Ok(text)
    }

    /// The value with its type, where the text is exactly one `${...}`. Absent stays absent.
    pub fn value(&self, bench: &Bench<'_>) -> Result<Value, String> {
        self.template.value(bench).map(Val::into_value).map_err(|fault| why(&fault))
    }
}

fn why(fault: &Fault) -> String {
    format!("{} ({})", fault.detail, fault.code)
}

impl Tree {
    /// Compiles a structure.
    pub fn compile(node: &Node, names: &mut Names, diags: &mut Diagnostics) -> Option<Tree> {
        match node.value() {
            NodeValue::Scalar(scalar) if scalar.text.contains("${") => {
                TestText::compile(node, names, diags).map(Tree::Text)
            }
            NodeValue::Null | NodeValue::Scalar(_) => Some(Tree::Fixed(node.to_json())),
            NodeValue::List(items) => {
                let items: Vec<_> = items.iter().map(|item| Tree::compile(item, names, diags)).collect();
                items.into_iter().collect::<Option<_>>().map(Tree::List)
            }
            NodeValue::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|entry| Some((entry.key.clone(), Tree::compile(&entry.value, names, diags)?)))
                    .collect();
                entries.into_iter().collect::<Option<_>>().map(Tree::Map)
            }
        }
    }

    /// The JSON value.
    pub fn json(&self, bench: &Bench<'_>) -> Result<Json, String> {
        Ok(match self {
            Tree::Fixed(json) => json.clone(),
            Tree::Text(text) => text.value(bench)?.view().to_json(),
            Tree::List(items) => items.iter().map(|item| item.json(bench)).collect::<Result<_, _>>()?,
            Tree::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((key.clone(), value.json(bench)?)));
                Json::Object(entries.collect::<Result<_, String>>()?)
            }
        })
    }
}

impl Scope for Names {
    fn resolve(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let name = |at: usize| path.get(at).map_or("", |segment| segment.name);
        let read = |read, facts, used| Ok(Resolved::Read { read, facts, used });
        let upstream = |ty| Facts::policy(ty).maybe();
        match (name(0), name(1)) {
            ("captured", wanted) => match self.captured.iter().position(|known| known == wanted) {
                Some(at) => read(Read::Slot(slot(at)), Facts::policy(Type::Any), 2),
                None => Err(unknown(
                    format!("no exchange before this one captures `{wanted}`"),
                    "write `capture: { NAME: \"${response.json.id}\" }` beside the exchange that has it",
                    1,
                )),
            },
            ("token", wanted) => match self.tokens.iter().position(|known| known == wanted) {
                Some(at) => {
                    let slot = Slot(TOKENS.saturating_add(u16::try_from(at).unwrap_or(u16::MAX)));
                    read(Read::Slot(slot), Facts::policy(Type::Text), 2)
                }
                None => Err(unknown(
                    format!("no token `{wanted}` is given"),
                    "write `given: { tokens: { NAME: { issuer: PROVIDER, subject: ann } } }`",
                    1,
                )),
            },
            ("response", "status") if self.answered => {
                read(Read::Builtin(Builtin::ResponseStatus), Facts::policy(Type::Int), 2)
            }
            ("response", "text") if self.answered => read(Read::BodyText(Side::Response), upstream(Type::Text), 2),
            ("response", "json") if self.answered => read(Read::Json(Side::Response), upstream(Type::Json), 2),
            ("response", "headers") if self.answered => {
                let written = name(2).to_ascii_lowercase().replace('_', "-");
                match HeaderName::from_bytes(written.as_bytes()) {
                    Ok(field) => read(Read::Header(Side::Response, field), upstream(Type::Text), 3),
                    Err(_) => Err(unknown(format!("`{}` is no field name", name(2)), "write `headers.x_tenant`", 2)),
                }
            }
            ("redirect", _) if self.answered => read(Read::Slot(REDIRECT), Facts::policy(Type::Map(Element::Any)), 1),
            ("response" | "redirect", _) if !self.answered => {
                Err(unknown(format!("`{}` exists in `capture` only", name(0)), "capture it, then read `captured`", 0))
            }
            (root, _) => Err(unknown(
                format!("a test knows no variable `{root}`"),
                "texts of tests read functions, `captured.NAME` and `token.NAME`; `capture` also `response` and `redirect`",
                0,
            )),
        }
    }

    fn constant(&mut self, function: &str, name: &str) -> Result<Constant, Unresolved> {
        let help = format!("write the value of `{name}` out: it stands in `given` anyway");
        Err(unknown(format!("`{function}` cannot be read in a test"), &help, 0))
    }

    fn functions(&self) -> &'static [Function] {
        OF_TESTS
    }
}

fn slot(at: usize) -> Slot {
    Slot(u16::try_from(at).unwrap_or(REDIRECT.0 - 1))
}

fn unknown(message: String, help: &str, at_segment: usize) -> Unresolved {
    Unresolved {
        code: "expr.unknown_variable",
        message,
        label: "unknown".into(),
        help: Some(help.to_owned()),
        at_segment,
    }
}

impl Reader for Bench<'_> {
    fn read<'x>(&'x self, read: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        Ok(match (read, self.answer) {
            (Read::Slot(REDIRECT), Some(answer)) => redirect(answer),
            (Read::Slot(Slot(at)), _) if *at >= TOKENS => {
                self.tokens.get(usize::from(*at - TOKENS)).map_or(Val::Absent, Value::view)
            }
            (Read::Slot(Slot(at)), _) => {
                let name = self.order.get(usize::from(*at));
                name.and_then(|name| self.captured.get(name)).map_or(Val::Absent, Value::view)
            }
            (Read::Header(_, name), Some(answer)) => {
                let field = answer.headers.get(name);
                field.map_or(Val::Absent, |field| Val::Text(String::from_utf8_lossy(field.as_bytes())))
            }
            (Read::Json(_), Some(answer)) => answer.json().map_or(Val::Absent, Val::json),
            (Read::BodyText(_), Some(answer)) => match std::str::from_utf8(&answer.body) {
                Ok(text) => Val::Text(text.into()),
                Err(_) => Val::Absent,
            },
            (Read::Builtin(Builtin::ResponseStatus), Some(answer)) => Val::Int(i64::from(answer.status)),
            _ => Val::Absent,
        })
    }

    fn now(&self) -> jiff::Timestamp {
        self.now
    }

    fn random(&self, into: &mut [u8]) {
        self.random.fill(into);
    }
}

/// The answer's `Location`, taken apart: `origin`, `path` and `query`.
fn redirect(answer: &Seen) -> Val<'_> {
    let location = answer.headers.get(http::header::LOCATION).and_then(|field| field.to_str().ok());
    let Some(uri) = location.and_then(|text| text.parse::<http::Uri>().ok()) else { return Val::Absent };
    let mut map: Vec<(Text, Value)> = Vec::new();
    if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
        map.push(("origin".into(), Value::text(format!("{scheme}://{authority}"))));
    }
    map.push(("path".into(), Value::text(uri.path())));
    let pairs = crate::engine::message::pairs(uri.query().unwrap_or_default());
    let query = pairs.map(|(name, value)| (Text::from(name.as_ref()), Value::text(value.as_ref()))).collect();
    map.push(("query".into(), Value::Map(Map(query).into())));
    Val::Map(std::borrow::Cow::Owned(Map(map)))
}
