//! `set`: sets variables, from top to bottom; one may read the one above.
//!
//! A value keeps the type of its `${}`; a conversion is written out (`type:`) and fails by origin. What is
//! absent stays a fault: a variable is never silently empty.

use std::borrow::Cow;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::compile::content::{JsonTemplate, structure};
use crate::compile::scope::RESERVED;
use crate::compile::text::{Sink, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Slot;
use crate::engine::value::{Element, Facts, Type, Val, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Entries, Entry, Name, Node, NodeValue, Text, read};

const TYPE: &str = "set.type";

pub const KIND: Kind = Kind {
    in_finally: true,
    bodies: "only what it reads",
    faults: &[
        FaultDoc {
            code: TYPE,
            status: 400,
            doc: "A value cannot be read as the `type` that was written. By origin of the value: 400, 502 or 500.",
        },
        FaultDoc {
            code: "set.absent",
            status: 400,
            doc: "A value is absent. Give it a default: `\"${request.query.page ?? '1'}\"`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[Example {
        title: "Text, a number, and one made of the one above",
        yaml: r#"
service: example
match: { path: /items }
policy:
  - set:
      tenant: "${request.query.tenant ?? 'none'}"
      page: { value: "${request.query.page ?? '1'}", type: int }
      next: { value: "${page + 1}", type: string }
      tags: [small, "${tenant}"]
      owner: { name: "${tenant}", page: "${page}" }
  - respond: { json: { tenant: "${tenant}", page: "${page}", next: "${next}", tags: "${tags}", owner: "${owner}" } }
tests:
  - name: with defaults
    request: {}
    expect:
      status: 200
      json: { tenant: none, page: 1, next: "2", tags: [small, none], owner: { name: none, page: 1 } }
  - name: types are kept
    request: { path: "/items?tenant=acme&page=41" }
    expect: { status: 200, json_has: { tenant: acme, page: 41, next: "42" } }
  - name: what is no number is the client's fault
    request: { path: "/items?page=two" }
    expect: { status: 400, fault: set.type }
"#,
    }],
    ..Kind::of::<Set>("set", "Sets variables.", Category::Messages)
};

/// Names with a text, a list, a mapping, or `{ value: TEXT, type: TYPE }`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Set(Entries<Node>);

impl JsonSchema for Set {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Set".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (typed, any) = (generator.subschema_for::<Typed>(), generator.subschema_for::<Node>());
        json_schema!({
            "type": "object",
            "additionalProperties": { "anyOf": [typed, any] },
            "propertyNames": { "pattern": "^[a-z][a-z0-9_]*$" }
        })
    }
}

/// A value that is read as another type.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Typed {
    /// The value.
    value: Text,
    /// What it is read as.
    #[serde(rename = "type")]
    ty: Target,
}

/// A type to convert to.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Target {
    /// Text of any value.
    String,
    /// A whole number: `42`.
    Int,
    /// A number: `4.2`.
    Float,
    /// `true` or `false`.
    Bool,
    /// Parsed JSON text.
    Json,
    /// The bytes of a text.
    Bytes,
    /// RFC 3339, or seconds since 1970.
    Time,
    /// A URL with scheme and host.
    Url,
}

impl Target {
    fn ty(self) -> Type {
        match self {
            Target::String | Target::Url => Type::Text,
            Target::Int => Type::Int,
            Target::Float => Type::Float,
            Target::Bool => Type::Bool,
            Target::Json => Type::Json,
            Target::Bytes => Type::Bytes,
            Target::Time => Type::Time,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Target::String => "string",
            Target::Int => "int",
            Target::Float => "float",
            Target::Bool => "bool",
            Target::Json => "json",
            Target::Bytes => "bytes",
            Target::Time => "time",
            Target::Url => "url",
        }
    }
}

impl Assertion for Set {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if self.0.is_empty() {
            let help = "write `set: { name: value }`";
            return cx.refuse("policy.missing_parameter", step.span, "`set` sets no variable", help);
        }
        let mut all = Vec::with_capacity(self.0.len());
        let mut whole = true;
        for (name, node) in &self.0 {
            let named = check_name(name, cx);
            let source = source(node, cx);
            // Declared even where the value is wrong, so that what reads it is not reported too.
            let facts = source.as_ref().map_or(Facts::policy(Type::Any), Source::facts);
            let slot = cx.variable(&name.name, Facts { absent: false, ..facts });
            match &source {
                Some(Source::Text(text) | Source::Typed(text, _)) => cx.made_of(slot, text.template().reads()),
                Some(Source::Json(..)) => cx.made_here(slot),
                None => {}
            }
            match (named, source) {
                (Some(()), Some(source)) => all.push((slot, source)),
                _ => whole = false,
            }
        }
        if !whole {
            return None;
        }
        Compiled::plain(SetStep(all))
    }
}

fn check_name(name: &Name, cx: &mut Compile<'_>) -> Option<()> {
    let text = name.name.as_str();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !text.starts_with(|first: char| first.is_ascii_lowercase()) || !text.bytes().all(legal) {
        let message = format!("`{text}` is no name of a variable");
        let help = "lower-case letters, digits and `_`, a letter first; members are set by a mapping: `a: { b: 1 }`";
        return cx.refuse("policy.bad_value", name.span, message, help);
    }
    if RESERVED.contains(&text) {
        let message = format!("`{text}` is a name of the language itself");
        return cx.refuse("policy.reserved_name", name.span, message, "choose another name");
    }
    Some(())
}

/// Where a value comes from.
#[derive(Debug)]
enum Source {
    Text(TextParam),
    Typed(TextParam, Target),
    Json(JsonTemplate, Facts),
}

fn source(node: &Node, cx: &mut Compile<'_>) -> Option<Source> {
    match node.value() {
        NodeValue::Null => {
            let help = "write a text, or `\"\"` for an empty one";
            cx.refuse("policy.wrong_type", node.span(), "a variable needs a value", help)
        }
        NodeValue::Scalar(_) => Some(Source::Text(cx.text_of(node, Place::Plain, Sink::Inside)?)),
        NodeValue::Map(entries) if is_typed(entries) => {
            let typed: Typed = read(node, None, "the typed value", cx.diags)?;
            let text = cx.text_of(&typed.value.0, Place::Plain, Sink::Inside)?;
            check_literal(&text, typed.ty, node, cx)?;
            Some(Source::Typed(text, typed.ty))
        }
        NodeValue::List(_) | NodeValue::Map(_) => {
            let ty = if node.as_list().is_some() { Type::List(Element::Any) } else { Type::Map(Element::Any) };
            let template = cx.json(node, Sink::Inside)?;
            let facts = template.mixed_into(Facts::policy(ty));
            Some(Source::Json(template, facts))
        }
    }
}

/// Whether a mapping is `{ value, type }` and not the value itself.
fn is_typed(entries: &[Entry]) -> bool {
    let has = |name: &str| entries.iter().any(|entry| entry.key == name);
    entries.len() == 2 && has("value") && has("type")
}

/// A literal that cannot be converted is wrong for every request.
fn check_literal(text: &TextParam, target: Target, node: &Node, cx: &mut Compile<'_>) -> Option<()> {
    match text.literal().map(|literal| convert(Val::Text(Cow::Borrowed(literal)), target)) {
        Some(Err(why)) => {
            cx.refuse("policy.bad_value", node.span(), why, "write a value of that type, or another `type:`")
        }
        _ => Some(()),
    }
}

impl Source {
    fn facts(&self) -> Facts {
        match self {
            Source::Text(text) => text.facts(),
            Source::Typed(text, target) => Facts { ty: target.ty(), ..text.facts() },
            Source::Json(_, facts) => *facts,
        }
    }

    fn value(&self, x: &Exchange) -> Result<Value, Box<Fault>> {
        match self {
            Source::Text(text) => match text.value(x)? {
                Val::Absent => Err(text.absence()),
                value => Ok(value.into_value()),
            },
            Source::Typed(text, target) => match text.value(x)? {
                Val::Absent => Err(text.absence()),
                value => convert(value, *target).map_err(|why| fault_by(text.facts().origin, TYPE, why)),
            },
            Source::Json(template, _) => Ok(structure(&template.build(x)?)),
        }
    }
}

/// Reads a value as another type; the error says what it is not, without repeating a value that may be a credential.
fn convert(value: Val<'_>, target: Target) -> Result<Value, String> {
    let wrong = || format!("expected a value that can be read as {}", target.word());
    let converted = match (target, value) {
        (Target::String, value) => {
            let mut text = String::new();
            crate::expr::write_text(&value, &mut text).ok().map(|()| Value::text(text))
        }
        (Target::Int, Val::Int(int)) => Some(Value::Int(int)),
        (Target::Int, Val::Float(float)) => whole(float).map(Value::Int),
        (Target::Int, Val::Text(text)) => decimal(&text).and_then(|text| text.parse().ok()).map(Value::Int),
        (Target::Float, Val::Int(int)) => Some(Value::Float(int as f64)),
        (Target::Float, Val::Float(float)) => Some(Value::Float(float)),
        (Target::Float, Val::Text(text)) => {
            let float = decimal(&text).and_then(|text| text.parse::<f64>().ok());
            float.filter(|float| float.is_finite()).map(Value::Float)
        }
        (Target::Bool, Val::Bool(bool)) => Some(Value::Bool(bool)),
        (Target::Bool, Val::Text(text)) => match &*text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        (Target::Json, Val::Text(text)) => serde_json::from_str(&text).ok().map(Value::from_json),
        (Target::Json, Val::Bytes(bytes)) => serde_json::from_slice(&bytes).ok().map(Value::from_json),
        (Target::Json, value) => Some(value.into_value()),
        (Target::Bytes, Val::Bytes(bytes)) => Some(Val::Bytes(bytes).into_value()),
        (Target::Bytes, Val::Text(text)) => Some(Value::Bytes(Bytes::from(text.into_owned()))),
        (Target::Time, Val::Time(time)) => Some(Value::Time(time)),
        (Target::Time, Val::Int(seconds)) => jiff::Timestamp::from_second(seconds).ok().map(Value::Time),
        (Target::Time, Val::Text(text)) => match text.parse::<i64>() {
            Ok(seconds) => jiff::Timestamp::from_second(seconds).ok().map(Value::Time),
            Err(_) => text.parse().ok().map(Value::Time),
        },
        (Target::Url, Val::Text(text)) => is_url(&text).then(|| Value::text(text)),
        _ => None,
    };
    converted.ok_or_else(wrong)
}

/// A number in decimal digits; what `parse` would also take (`inf`, `+1`) is no number of a policy.
fn decimal(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+');
    (digits.starts_with(|first: char| first.is_ascii_digit()) && digits.bytes().all(plain)).then_some(text)
}

/// A float without a fraction that i64 holds exactly.
fn whole(float: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53
    (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
}

fn is_url(text: &str) -> bool {
    let parsed = text.parse::<http::Uri>();
    parsed.is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    })
}

struct SetStep(Vec<(Slot, Source)>);

impl Plain for SetStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        for (slot, source) in &self.0 {
            match source.value(x) {
                Ok(value) => x.set(*slot, value),
                Err(fault) => return Verdict::Fault(fault),
            }
        }
        Verdict::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions::trial::{Trial, refusals};

    fn text(text: &str, target: Target) -> Option<Value> {
        convert(Val::Text(Cow::Borrowed(text)), target).ok()
    }

    #[test]
    fn conversions_take_only_what_loses_nothing() {
        assert_eq!(text("-7", Target::Int), Some(Value::Int(-7)));
        assert_eq!(text("+7", Target::Int), None);
        assert_eq!(text("7.0", Target::Int), None);
        assert_eq!(text("1e400", Target::Float), None);
        assert_eq!(text("inf", Target::Float), None);
        assert_eq!(text("1.5", Target::Float), Some(Value::Float(1.5)));
        assert_eq!(text("yes", Target::Bool), None);
        assert_eq!(
            [text("true", Target::Bool), text("false", Target::Bool)],
            [true, false].map(|bool| Some(Value::Bool(bool)))
        );
        assert_eq!(text("ab", Target::Bytes), Some(Value::Bytes(Bytes::from_static(b"ab"))));
        assert_eq!(text("[1]", Target::Json).map(|json| json.view().type_word()), Some("list"));
        assert_eq!(text("{", Target::Json), None);
        assert_eq!(text("0", Target::Time), text("1970-01-01T00:00:00Z", Target::Time));
        assert_eq!(text("https://a.example/x", Target::Url), Some(Value::text("https://a.example/x")));
        assert_eq!(text("//a.example", Target::Url), None);
        assert_eq!(convert(Val::Float(1.5), Target::Int).ok(), None);
    }

    #[test]
    fn what_is_absent_is_not_an_empty_text() {
        let steps = "  - set: { a: \"${request.query.a}\" }\n  - respond: { text: \"${a}\" }";
        let outcome = Trial::of(steps).get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("set.absent")));
    }

    #[test]
    fn names_and_literals_are_checked_at_load() {
        let set = |set: &str| refusals(&format!("  - set: {set}\n  - respond: 204"));
        assert_eq!(set("{ request: a }"), ["policy.reserved_name"]);
        assert_eq!(set("{ aB: a }"), ["policy.bad_value"]);
        assert_eq!(set("{ a: { value: x, type: int } }"), ["policy.bad_value"]);
        assert_eq!(set("{ a: }"), ["policy.wrong_type"]);
        assert_eq!(set("{}"), ["policy.missing_parameter"]);
        assert!(set("{ a: { value: 1, type: 2, more: 3 } }").is_empty(), "a mapping of its own");
    }

    #[test]
    fn marks_travel_with_the_variable() {
        let set = "secret: s\nfrom: { env: S }\n---\n";
        let steps = "  - set: { a: [\"${secret('s')}\"] }\n  - respond: { json: \"${a}\" }";
        let yaml = format!("{set}{}", crate::assertions::trial::service(steps));
        assert!(crate::assertions::trial::refusals_of(&yaml).contains(&"policy.secret_leak"));
    }

    #[test]
    fn whose_value_it_is_decides_about_the_fault() {
        let fault = |steps: &str| {
            let outcome = Trial::of(steps).answering(&[], "{\"a\":\"x\"}").get("/");
            (outcome.status, outcome.fault.unwrap_or_default())
        };
        let of = |value: &str| format!("  - set: {{ n: {{ value: \"${{{value}}}\", type: int }} }}\n  - respond: 204");
        let routed = format!("  - route: http://127.0.0.1:9000\n{}", of("response.json.a"));
        assert_eq!(fault(&routed), (502, "set.type".into()));
        assert_eq!(fault(&of("service.name")), (500, "set.type".into()));
    }

    #[test]
    fn every_name_of_the_language_is_reserved_and_order_counts() {
        for name in RESERVED {
            assert_eq!(refusals(&format!("  - set: {{ {name}: a }}\n  - respond: 204")), ["policy.reserved_name"]);
        }
        let below = "  - set: { a: \"${b}\", b: x }\n  - respond: 204";
        assert_eq!(refusals(below), ["expr.unknown_variable"]);
    }
}
