//! `evaluate_json_path`: reads values out of JSON.
//!
//! RFC 9535, compiled at load. The document is refused where a name stands twice in an object (RFC 8259 §4, RFC
//! 7493 §2.3): two readers would see two documents. The parsed body is shared with other steps. `null` is no
//! value: it counts among `values`, but what is wanted of it is its default.

mod wanted;

use std::borrow::Cow;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use self::wanted::{Many, TypeWord, Wanted, list};
use crate::compile::message::Message;
use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::value::{Element, Facts, Origin, Type, Val, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::json_path::{NODES_MAX, TooManySelected, check_text, count_nodes};
use crate::source::{Entries, Literal, Name, Node, ScalarOr, Span, Spanned, Text};

/// Members of `json_path` that no path may take.
const OWN_MEMBERS: [&str; 4] = ["value", "values", "count", "found"];

pub const KIND: Kind = Kind {
    main: Some("path"),
    bodies: "buffer, without `value` or where it reads one",
    sets: &[
        Output {
            name: "json_path.value",
            ty: Type::Json,
            absent: false,
            doc: "The value, of the type that `type` names, or the default. With `paths` that of the first; each has its own as `json_path.NAME`.",
        },
        Output {
            name: "json_path.values",
            ty: Type::List(Element::Json),
            absent: false,
            doc: "Everything that was selected; with `paths` by all of them in their order.",
        },
        Output { name: "json_path.count", ty: Type::Int, absent: false, doc: "How many were selected." },
        Output { name: "json_path.found", ty: Type::Bool, absent: false, doc: "Whether no default had to be taken." },
    ],
    faults: &[
        FaultDoc {
            code: "evaluate_json_path.invalid_json",
            status: 400,
            doc: "The document is no JSON, has a name twice in one object, is nested deeper than 64, or has more values than the query may see: 100 000, or 10 000 where it descends more than once, reads the root in a filter, or matches patterns. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "evaluate_json_path.no_match",
            status: 400,
            doc: "Nothing but `null` is selected and there is no default. By origin: 400, 502 or 500; or `status`.",
        },
        FaultDoc {
            code: "evaluate_json_path.type",
            status: 400,
            doc: "What is selected has another type; types are never converted. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "evaluate_json_path.many",
            status: 400,
            doc: "Several values are selected and `many` refuses that, or more than 10 000. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "evaluate_json_path.absent",
            status: 400,
            doc: "`value` is absent. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "Parts of an order",
            yaml: r#"
service: example
match: { path: /orders, methods: [POST] }
policy:
  - evaluate_json_path:
      paths:
        order: "$.order.id"
        lines: { path: "$.lines[*].sku", type: list }
        note: { path: "$.note", type: string, default: none }
  - respond: { json: { order: "${json_path.order}", lines: "${json_path.lines}", note: "${json_path.note}" } }
tests:
  - name: all of it
    request: { json: { order: { id: 7 }, lines: [{ sku: a }, { sku: b }], note: soon } }
    expect: { status: 200, json: { order: 7, lines: [a, b], note: soon } }
  - name: a default
    request: { json: { order: { id: 7 }, lines: [{ sku: a }], note: null } }
    expect: { status: 200, json: { order: 7, lines: [a], note: none } }
  - name: no match
    request: { json: { lines: [{ sku: a }] } }
    expect: { status: 400, fault: evaluate_json_path.no_match }
  - name: another type
    request: { json: { order: { id: 7 }, lines: [{ sku: a }], note: 1 } }
    expect: { status: 400, fault: evaluate_json_path.type }
  - name: a name that stands twice
    request: { method: POST, text: '{"order":{"id":7,"id":8},"lines":[{"sku":"a"}]}' }
    expect: { status: 400, fault: evaluate_json_path.invalid_json }
"#,
        },
        Example {
            title: "A value of an answer, and one of a variable",
            yaml: r#"
service: example
match: { path: /price }
policy:
  - evaluate_json_path: { path: "$.max", value: "${request.headers.x_filter ?? '{}'}", type: int, default: 100 }
  - route: http://127.0.0.1:9000
  - { evaluate_json_path: { path: "$..price", type: float, many: refuse }, as: found }
  - respond: { json: { price: "${found.value}", max: "${json_path.value}" } }
tests:
  - name: one price
    given: { upstream: [{ answer: { json: { item: { price: 9.5 } } } }] }
    request: { headers: { x-filter: '{"max": 20}' } }
    expect: { status: 200, json: { price: 9.5, max: 20 } }
  - name: two prices
    given: { upstream: [{ answer: { json: [{ price: 1 }, { price: 2 }] } }] }
    request: {}
    expect: { status: 502, fault: evaluate_json_path.many }
  - name: an answer that is no JSON
    given: { upstream: [{ answer: { text: oops } }] }
    request: {}
    expect: { status: 502, fault: evaluate_json_path.invalid_json }
"#,
        },
    ],
    ..Kind::of::<EvaluateJsonPath>("evaluate_json_path", "Reads values out of JSON.", Category::Messages)
};

/// Parameters of `evaluate_json_path`. Exactly one of `path` and `paths`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EvaluateJsonPath {
    /// A JSONPath query (RFC 9535).
    #[serde(default)]
    path: Option<Literal>,
    /// Several under names, each a query or `{ path, type, default }`.
    #[serde(default)]
    paths: Option<Entries<ScalarOr<Literal, NamedPath>>>,
    /// Whose body, where `value` is left out.
    #[serde(default)]
    message: Option<Spanned<Message>>,
    /// A variable: JSON, or a text that holds it.
    #[serde(default)]
    value: Option<Text>,
    /// Taken where nothing but `null` is selected; for all `paths` that have no own.
    #[serde(default)]
    default: Option<Node>,
    /// What the value has to be; for all `paths` that have no own.
    #[serde(default, rename = "type")]
    ty: TypeWord,
    /// What happens where several values are selected.
    #[serde(default)]
    many: Many,
    /// Status of `.no_match`, from 400 to 499; by origin without it.
    #[serde(default)]
    status: Option<Literal>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NamedPath {
    /// A JSONPath query (RFC 9535).
    path: Literal,
    /// What the value has to be.
    #[serde(default, rename = "type")]
    ty: Option<TypeWord>,
    /// Taken where nothing but `null` is selected.
    #[serde(default)]
    default: Option<Node>,
}

impl Assertion for EvaluateJsonPath {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let status = match &self.status {
            None => None,
            Some(literal) => Some(cx.denied_status(literal)?),
        };
        let wanted = self.wanted(step.span, cx);
        let (document, facts) = self.document(step.span, cx)?;
        let wanted = wanted?;
        let (_, first) = wanted.first()?;
        let renamed = step.renamed();
        let of = |ty| Facts { ty, absent: false, ..facts };
        let value = cx.out_with("json_path.value", renamed, first.facts(facts));
        let values = cx.out_with("json_path.values", renamed, of(Type::List(Element::Json)));
        let count = cx.out_with("json_path.count", renamed, of(Type::Int));
        let found = cx.out_with("json_path.found", renamed, of(Type::Bool));
        let mut out = |(name, wanted): (Option<String>, Wanted)| {
            let slot = name.map(|name| cx.out_with(&format!("json_path.{name}"), renamed, wanted.facts(facts)));
            (wanted, slot)
        };
        let wanted = wanted.into_iter().map(&mut out).collect();
        Compiled::plain(EvaluateJsonPathStep {
            wanted,
            document,
            origin: facts.origin,
            status,
            slots: Slots { value, values, count, found },
        })
    }
}

impl EvaluateJsonPath {
    fn wanted(&self, span: Span, cx: &mut Compile<'_>) -> Option<Vec<(Option<String>, Wanted)>> {
        match (&self.path, &self.paths) {
            (Some(path), None) => {
                let wanted = Wanted::compile(path, (self.ty, self.many), self.default.as_ref(), cx)?;
                Some(vec![(None, wanted)])
            }
            (None, Some(paths)) if !paths.is_empty() => {
                let all: Vec<Option<_>> = paths.iter().map(|(name, path)| self.named(name, path, cx)).collect();
                all.into_iter().collect()
            }
            (Some(path), Some(_)) => {
                let message = "`path` and `paths` exclude each other";
                cx.refuse("policy.bad_value", path.span(), message, "keep one of them")
            }
            (None, _) => {
                let help = "write `path: \"$.order.id\"`, or `paths: { order: \"$.order.id\" }`";
                cx.refuse("policy.missing_parameter", span, "nothing is looked for", help)
            }
        }
    }

    fn named(
        &self,
        name: &Name,
        path: &ScalarOr<Literal, NamedPath>,
        cx: &mut Compile<'_>,
    ) -> Option<(Option<String>, Wanted)> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if OWN_MEMBERS.contains(&name.name.as_str()) || !name.name.bytes().all(legal) {
            let message = format!("a path cannot be called `{}`: it would be `json_path.{0}`", name.name);
            let help = "name it with lower-case letters, digits and `_`, but not `value`, `values`, `count` or `found`";
            return cx.refuse("policy.reserved_name", name.span, message, help);
        }
        let (path, ty, default) = match path {
            ScalarOr::Scalar(path) => (path, None, None),
            ScalarOr::Larger(named) => (&named.path, named.ty, named.default.as_ref()),
        };
        let default = default.or(self.default.as_ref());
        let wanted = Wanted::compile(path, (ty.unwrap_or(self.ty), self.many), default, cx)?;
        Some((Some(name.name.clone()), wanted))
    }

    fn document(&self, span: Span, cx: &mut Compile<'_>) -> Option<(Document, Facts)> {
        let Some(value) = &self.value else {
            let span = self.message.as_ref().map_or(span, |message| message.span);
            let side = cx.side(self.message.map(|message| message.value), span)?;
            cx.need_body(side);
            let origin = if side == Side::Request { Origin::Client } else { Origin::Upstream };
            let facts = Facts::policy(Type::Json).marked(cx.flow.carried.body(side));
            return Some((Document::Body(side), Facts { origin, ..facts }));
        };
        if let Some(message) = &self.message {
            let help = "remove one of them";
            return cx.refuse("policy.bad_value", message.span, "`message` is for the body, `value` is given", help);
        }
        let text = cx.text(value, Place::Plain)?;
        if let Some(read) = text.variable() {
            cx.flow.prove(read.clone());
        }
        let facts = text.facts();
        Some((Document::Value(text), facts))
    }
}

enum Document {
    Body(Side),
    Value(TextParam),
}

struct Slots {
    value: Slot,
    values: Slot,
    count: Slot,
    found: Slot,
}

struct EvaluateJsonPathStep {
    /// At least one.
    wanted: Vec<(Wanted, Option<Slot>)>,
    document: Document,
    origin: Origin,
    status: Option<StatusCode>,
    slots: Slots,
}

impl Plain for EvaluateJsonPathStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.evaluate(x).into()
    }
}

impl EvaluateJsonPathStep {
    fn evaluate(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let (document, nodes) = self.read(x)?;
        let mut taken = Vec::with_capacity(self.wanted.len());
        let (mut all, mut found): (Vec<&Json>, bool) = (Vec::new(), true);
        for (wanted, _) in &self.wanted {
            let nodes_max = wanted.query.nodes_max();
            if nodes > nodes_max {
                return Err(self.invalid(format!("the document has more than {nodes_max} values")));
            }
            let many = |why: TooManySelected| fault_by(self.origin, "evaluate_json_path.many", why.to_string());
            let selected = wanted.query.select(&document).map_err(many)?;
            let value = match wanted.taken(&selected, self.origin)? {
                Some(value) => value,
                None => {
                    found = false;
                    wanted.default(x)?.ok_or_else(|| self.no_match())?
                }
            };
            taken.push(value);
            all.extend(selected);
        }
        let (values, count) = (list(&all), i64::try_from(all.len()).unwrap_or(i64::MAX));
        drop(document);
        if let Some(first) = taken.first() {
            x.set(self.slots.value, first.clone());
        }
        for ((_, slot), value) in self.wanted.iter().zip(taken) {
            if let Some(slot) = slot {
                x.set(*slot, value);
            }
        }
        x.set(self.slots.values, values);
        x.set(self.slots.count, Value::Int(count));
        x.set(self.slots.found, Value::Bool(found));
        Ok(())
    }

    /// The document and the number of its values.
    fn read<'x>(&'x self, x: &'x Exchange) -> Result<(Cow<'x, Json>, usize), Box<Fault>> {
        let text = match &self.document {
            Document::Body(side) => {
                let renamed = |fault: Box<Fault>| match fault.code.as_ref() {
                    "body.not_text" | "body.invalid_json" | "body.too_deep" => {
                        fault.with_code("evaluate_json_path.invalid_json")
                    }
                    _ => fault,
                };
                let text = x.body_as_text(*side).map_err(renamed)?;
                let nodes = check_text(text.as_bytes()).map_err(|broken| self.invalid(broken.to_string()))?;
                let document = x.document(*side).map_err(renamed)?;
                return Ok((Cow::Borrowed(document.as_ref()), nodes));
            }
            Document::Value(text) => text,
        };
        let bytes = match text.value(x)? {
            Val::Absent => return Err(text.absence()),
            Val::Json(json) => {
                let nodes = count_nodes(&json, NODES_MAX);
                return Ok((json, nodes));
            }
            Val::Text(text) => Cow::Owned(text.into_owned().into_bytes()),
            Val::Bytes(bytes) => bytes,
            other => {
                let json = other.to_json();
                let nodes = count_nodes(&json, NODES_MAX);
                return Ok((Cow::Owned(json), nodes));
            }
        };
        let nodes = check_text(&bytes).map_err(|broken| self.invalid(broken.to_string()))?;
        let json = serde_json::from_slice(&bytes).map_err(|error| self.invalid(error.to_string()))?;
        Ok((Cow::Owned(json), nodes))
    }

    fn invalid(&self, why: String) -> Box<Fault> {
        fault_by(self.origin, "evaluate_json_path.invalid_json", why)
    }

    fn no_match(&self) -> Box<Fault> {
        let (code, detail) = ("evaluate_json_path.no_match", "nothing is selected, and there is no default");
        match self.status {
            Some(status) => Fault::denied(status, code, detail),
            None => fault_by(self.origin, code, detail),
        }
    }
}

#[cfg(test)]
mod tests;
