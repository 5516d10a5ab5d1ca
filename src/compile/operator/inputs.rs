//! What goes into an operator's assertion: its inputs, and the values that a use gives them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::compile::content::{JsonTemplate, structure};
use crate::compile::context::Compile;
use crate::compile::operator::Operator;
use crate::compile::steps::Step;
use crate::compile::text::{Sink, TextParam};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Read, Slot};
use crate::engine::value::{Element, Facts, Text, Type, Val, Value, with_article};
use crate::expr::{Kinds, Place, Resolved, fault_by};
use crate::fault::Fault;
use crate::source::{Entry, Name, Node, NodeValue, ScalarStyle, suggest};

/// A declared input.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: Name,
    pub ty: Type,
    /// The word of the type, as it was written.
    pub word: String,
    /// A use must write it.
    pub required: bool,
    /// Stands where a use does not write it.
    pub default: Option<Value>,
    /// The only values that it can have, where there are any.
    pub one_of: Vec<Value>,
    /// What a use writes may be absent at run time.
    pub takes_absent: bool,
}

impl Input {
    /// What the steps inside know of it.
    pub fn facts(&self) -> Facts {
        let absent = self.default.is_none() && (!self.required || self.takes_absent);
        Facts { absent, ..Facts::policy(self.ty) }
    }

    /// Its possible values, as they are shown.
    pub fn choices(&self) -> String {
        self.one_of.iter().map(shown).collect::<Vec<_>>().join(", ")
    }
}

/// A value as a message shows it.
pub fn shown(value: &Value) -> String {
    match value.view().to_json() {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

/// Whether a value of a type can stand where another is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Yes,
    /// Its type shows then.
    AtRunTime,
    No,
}

/// Whether a value that is known to be `got` is one of the declared type.
pub fn fit(declared: Type, got: Type) -> Fit {
    match (declared, got) {
        (Type::Json | Type::Any, _) => Fit::Yes,
        (Type::List(Element::Text), Type::List(Element::Any | Element::Json)) => Fit::AtRunTime,
        (Type::List(_), Type::List(_)) | (Type::Map(_), Type::Map(_)) => Fit::Yes,
        (Type::Float, Type::Int) => Fit::AtRunTime,
        (one, other) if one == other => Fit::Yes,
        (_, open) if open.is_open() && Kinds::of(open).meets(Kinds::of(declared)) => Fit::AtRunTime,
        _ => Fit::No,
    }
}

/// The value as one of the declared type, where it is one. Only an int becomes a float: nothing else is converted.
pub fn convert(value: Value, declared: Type) -> Option<Value> {
    let is_text = |value: &Value| matches!(value.view(), Val::Text(_));
    Some(match (declared, value) {
        (Type::Float, Value::Int(int)) => Value::Float(int as f64),
        (Type::List(element), Value::Json(json)) if json.is_array() => {
            let items: Vec<Value> = json.as_array().into_iter().flatten().cloned().map(Value::from_json).collect();
            if element == Element::Text && !items.iter().all(is_text) {
                return None;
            }
            Value::List(items.into())
        }
        (Type::List(Element::Text), Value::List(items)) if !items.iter().all(is_text) => return None,
        (declared, value) => match Kinds::of(declared).meets(Kinds::of_val(&value.view())) {
            true => value,
            false => return None,
        },
    })
}

/// A value that stands in a file, read as the declared type; the error says what was expected.
pub fn constant(node: &Node, text: Option<&str>, ty: Type) -> Result<Value, String> {
    let wrong = || {
        let got = text.map_or_else(|| node.kind().to_owned(), |text| format!("`{text}`"));
        format!("expected {}, got {got}", a_word(ty))
    };
    let plain = node.as_scalar().is_some_and(|scalar| scalar.style == ScalarStyle::Plain);
    let value = match (ty, text) {
        (Type::Text, Some(text)) => Some(Value::text(text)),
        (Type::Int, Some(text)) => text.parse().ok().map(Value::Int),
        (Type::Float, Some(text)) => text.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float),
        (Type::Bool, Some("true")) => Some(Value::Bool(true)),
        (Type::Bool, Some("false")) => Some(Value::Bool(false)),
        (Type::Bytes, Some(text)) => Some(Value::Bytes(text.to_owned().into_bytes().into())),
        (Type::Time, Some(text)) => text.parse().ok().map(Value::Time),
        (Type::Json | Type::Any, Some(text)) if !plain => Some(Value::text(text)),
        (Type::Json | Type::Any, Some(text)) => Some(structure(&node.with_text(text).to_json())),
        (Type::List(Element::Text), Some(text)) => Some(Value::List(Arc::new([Value::text(text)]))),
        (Type::List(_), Some(text)) => {
            let item = if plain { structure(&node.with_text(text).to_json()) } else { Value::text(text) };
            Some(Value::List(Arc::new([item])))
        }
        (Type::List(Element::Text), None) => texts(node),
        (Type::List(_), None) if node.as_list().is_some() => Some(structure(&node.to_json())),
        (Type::Map(_), None) if node.as_map().is_some() => Some(structure(&node.to_json())),
        (Type::Json | Type::Any, None) => Some(structure(&node.to_json())),
        _ => None,
    };
    value.ok_or_else(wrong)
}

fn texts(node: &Node) -> Option<Value> {
    let items = node.as_list()?.iter().map(|item| item.as_text().map(Value::text));
    items.collect::<Option<Vec<_>>>().map(|items| Value::List(items.into()))
}

/// A type as a phrase.
pub fn a_word(ty: Type) -> String {
    match ty {
        Type::Text => "a text".to_owned(),
        Type::Int => "a whole number".to_owned(),
        Type::Float => "a number".to_owned(),
        Type::Bool => "`true` or `false`".to_owned(),
        Type::Time => "a time such as 2026-03-01T12:00:00Z".to_owned(),
        Type::List(Element::Text) => "a list of texts".to_owned(),
        Type::Map(_) => "a mapping".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::List(_) => "a list".to_owned(),
        Type::Json | Type::Any => "any value".to_owned(),
    }
}

/// What an input is while a use is compiled. A value known at load may be a secret: it is never printed.
#[derive(Clone)]
pub(super) enum Bound {
    /// Known at load.
    Constant(Value, Facts),
    Slot(Slot, Facts),
}

impl Bound {
    pub fn resolved(&self) -> Resolved {
        match self {
            Bound::Constant(value, facts) => Resolved::Constant { value: value.clone(), facts: *facts, used: 2 },
            Bound::Slot(slot, facts) => Resolved::Read { read: Read::Slot(*slot), facts: *facts, used: 2 },
        }
    }
}

/// The compiled values of one use.
pub(super) struct Arguments<'o> {
    assertion: Text,
    all: Vec<(&'o Input, Argument, Facts)>,
}

enum Argument {
    Constant(Value),
    Text(TextParam, Fit),
    Texts(Vec<TextParam>),
    Structure(JsonTemplate),
}

impl Argument {
    /// Notes what the input is made of.
    fn made(&self, slot: Slot, cx: &mut Compile<'_>) {
        match self {
            Argument::Constant(_) => {}
            Argument::Text(text, _) => cx.made_of(slot, text.template().reads()),
            Argument::Texts(texts) => cx.made_of(slot, texts.iter().flat_map(|text| text.template().reads())),
            Argument::Structure(_) => cx.made_here(slot),
        }
    }
}

/// Reads what a use writes against the declaration; everything wrong is reported.
pub(super) fn arguments<'o>(operator: &'o Operator, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Arguments<'o>> {
    let written = written(operator, step, cx)?;
    let mut all = Vec::with_capacity(operator.inputs.len());
    let mut whole = true;
    for entry in &written {
        if !operator.inputs.iter().any(|input| input.name.name == entry.key) {
            unknown(operator, entry, cx);
            whole = false;
        }
    }
    for input in &operator.inputs {
        let entry = written.iter().find(|entry| entry.key == input.name.name);
        let argument = match entry.map(|entry| &entry.value) {
            Some(node) => argument(input, node, cx),
            None if input.required => {
                let message = format!("`{}` needs `{}` ({})", step.word, input.name.name, input.word);
                let help = format!("add `{}: ...`", input.name.name);
                cx.refuse("policy.missing_parameter", step.span, message, &help)
            }
            None => Some((Argument::Constant(input.default.clone().unwrap_or_default()), input.facts())),
        };
        match argument {
            Some((argument, facts)) => all.push((input, argument, facts)),
            None => whole = false,
        }
    }
    whole.then(|| Arguments { assertion: step.word.into(), all })
}

/// The mapping of a use; a bare value stands for the one input that is required.
fn written(operator: &Operator, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Vec<Entry>> {
    let node = step.parameter_node();
    match node.value() {
        NodeValue::Map(entries) => Some(entries.clone()),
        _ if node.is_null() => Some(Vec::new()),
        _ => {
            let mut required = operator.inputs.iter().filter(|input| input.required);
            if let (Some(main), None) = (required.next(), required.next()) {
                let key = main.name.name.clone();
                return Some(vec![Entry { key, key_span: node.span(), value: node }]);
            }
            let message = format!("`{}` takes a mapping of its inputs, got {}", step.word, node.kind());
            let help = match operator.inputs.first() {
                Some(input) => format!("write `{}: {{ {}: ... }}`", step.word, input.name.name),
                None => format!("it has no inputs: write `- {}`", step.word),
            };
            cx.refuse("policy.wrong_type", node.span(), message, &help)
        }
    }
}

fn unknown(operator: &Operator, entry: &Entry, cx: &mut Compile<'_>) {
    let known = || operator.inputs.iter().map(|input| input.name.name.as_str());
    let message = format!("`{}` has no input `{}`", operator.name.name, entry.key);
    let help = match suggest(&entry.key, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if operator.inputs.is_empty() => "it has no inputs".to_owned(),
        None => format!("it has: {}", known().collect::<Vec<_>>().join(", ")),
    };
    cx.refuse::<()>("policy.unknown_key", entry.key_span, message, &help);
}

fn argument(input: &Input, node: &Node, cx: &mut Compile<'_>) -> Option<(Argument, Facts)> {
    let declared = input.facts();
    if node.is_null() {
        if declared.absent || (input.default.is_some() && input.takes_absent) {
            return Some((Argument::Constant(input.default.clone().unwrap_or_default()), declared));
        }
        let message = format!("`{}` needs a value", input.name.name);
        let empty = if input.ty == Type::Text { "; `\"\"` is an empty one" } else { "" };
        let help = format!("write {}{empty}", a_word(input.ty));
        return cx.refuse("policy.wrong_type", node.span(), message, &help);
    }
    let holds = |node: &Node| node.as_text().is_some_and(|text| text.contains("${"));
    match node.value() {
        NodeValue::Scalar(_) if holds(node) => of_text(input, node, cx),
        NodeValue::List(items) if input.ty == Type::List(Element::Text) && items.iter().any(holds) => {
            let texts: Vec<_> = items.iter().map(|item| of_list(item, cx)).collect();
            let texts = texts.into_iter().collect::<Option<Vec<_>>>()?;
            let facts = texts.iter().fold(declared, |facts, text| facts.mixed(text.facts()));
            Some((Argument::Texts(texts), facts))
        }
        NodeValue::List(_) | NodeValue::Map(_) if is_structure(input.ty, node) => {
            let template = cx.json(node, Sink::Inside)?;
            if let JsonTemplate::Fixed(_) = template {
                return fixed(input, node, node.as_text(), cx);
            }
            let facts = template.mixed_into(declared);
            Some((Argument::Structure(template), facts))
        }
        _ => fixed(input, node, node.as_text(), cx),
    }
}

fn is_structure(ty: Type, node: &Node) -> bool {
    match ty {
        Type::List(Element::Text) => false,
        Type::List(_) => node.as_list().is_some(),
        Type::Map(_) => node.as_map().is_some(),
        ty => ty.is_open(),
    }
}

fn of_list(item: &Node, cx: &mut Compile<'_>) -> Option<TextParam> {
    if item.as_text().is_none() {
        let message = format!("expected a text, got {}", item.kind());
        return cx.refuse("policy.wrong_type", item.span(), message, "each item of this list is a text");
    }
    let text = cx.text_of(item, Place::Plain, Sink::Inside)?;
    match fit(Type::Text, text.facts().ty) {
        Fit::No => {
            let message = format!("expected a text, got {}", with_article(text.facts().ty.word()));
            cx.refuse("policy.wrong_type", item.span(), message, "convert it: `${string(...)}`")
        }
        _ => Some(text),
    }
}

/// A value that is known at load, checked against type and choices.
fn fixed(input: &Input, node: &Node, text: Option<&str>, cx: &mut Compile<'_>) -> Option<(Argument, Facts)> {
    match constant(node, text, input.ty) {
        Ok(value) => settled(input, node, value, input.facts(), cx),
        Err(message) => {
            let message = format!("`{}`: {message}", input.name.name);
            let help = format!("`{}` is declared `type: {}`", input.name.name, input.word);
            cx.refuse("policy.wrong_type", node.span(), message, &help)
        }
    }
}

fn settled(input: &Input, node: &Node, value: Value, facts: Facts, cx: &mut Compile<'_>) -> Option<(Argument, Facts)> {
    if !input.one_of.is_empty() && !input.one_of.contains(&value) {
        let message = format!("`{}` is not possible for `{}`", shown(&value), input.name.name);
        let choices: Vec<String> = input.one_of.iter().map(shown).collect();
        let help = match suggest(&shown(&value), choices.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? possible are {}", input.choices()),
            None => format!("possible are {}", input.choices()),
        };
        return cx.refuse("policy.bad_value", node.span(), message, &help);
    }
    Some((Argument::Constant(value), facts))
}

fn of_text(input: &Input, node: &Node, cx: &mut Compile<'_>) -> Option<(Argument, Facts)> {
    let text = cx.text_of(node, Place::Plain, Sink::Inside)?;
    if let Some(literal) = text.literal() {
        return fixed(input, node, Some(literal), cx); // `$${` is a literal `${`
    }
    let got = text.facts();
    let fit = fit(input.ty, got.ty);
    if fit == Fit::No {
        let message = format!("`{}` is declared {}, got {}", input.name.name, input.word, with_article(got.ty.word()));
        let help = match input.ty {
            Type::Int => "convert it: `${int(...)}`".to_owned(),
            Type::Float => "convert it: `${float(...)}`".to_owned(),
            Type::Text => "convert it: `${string(...)}`".to_owned(),
            Type::List(_) => "put it into a list: `[\"${...}\"]`".to_owned(),
            _ => format!("pass {}", a_word(input.ty)),
        };
        return cx.refuse("policy.wrong_type", node.span(), message, &help);
    }
    if got.mark.is_credential() && !input.one_of.is_empty() {
        let message = format!("a credential cannot be one of the choices of `{}`", input.name.name);
        return cx.refuse("policy.wrong_type", node.span(), message, "pass a value that is no secret and no token");
    }
    let facts = Facts { origin: got.origin, mark: got.mark, ..input.facts() };
    // What is known at load, such as `${env.REGION}`, is checked at load.
    let known = text.template().single().and_then(|single| single.known()).cloned();
    match known.map(|value| convert(value, input.ty)) {
        Some(Some(value)) => settled(input, node, value, facts, cx),
        _ => Some((Argument::Text(text, fit), facts)),
    }
}

/// The scope of a use whose values are wrong: its steps are checked as if they had been given.
pub(super) fn declared(operator: &Operator, prefix: &str, cx: &mut Compile<'_>) -> (Bind, BTreeMap<Text, Bound>) {
    let bound = operator.inputs.iter().map(|input| {
        let slot = cx.slot_of(format!("{prefix}input").into(), &input.name.name);
        (input.name.name.as_str().into(), Bound::Slot(slot, input.facts()))
    });
    let bound = bound.collect();
    (Bind { assertion: operator.name.name.as_str().into(), clear: Box::default(), inputs: Vec::new() }, bound)
}

impl Arguments<'_> {
    /// Gives each input its place: what is known at load stands in the steps themselves.
    pub fn bind(self, prefix: &str, cx: &mut Compile<'_>) -> (Bind, BTreeMap<Text, Bound>) {
        let mut inputs = Vec::new();
        let mut bound = BTreeMap::new();
        for (input, argument, facts) in self.all {
            let name: Text = input.name.name.as_str().into();
            if let Argument::Constant(value) = argument {
                bound.insert(name, Bound::Constant(value, facts));
                continue;
            }
            let slot = cx.slot_of(format!("{prefix}input").into(), &name);
            cx.mark(slot, facts);
            argument.made(slot, cx);
            bound.insert(name, Bound::Slot(slot, facts));
            inputs.push(Taken { input: input.clone(), argument, facts, slot });
        }
        (Bind { assertion: self.assertion, clear: Box::default(), inputs }, bound)
    }
}

struct Taken {
    input: Input,
    argument: Argument,
    facts: Facts,
    slot: Slot,
}

/// The beginning of an assertion: its inputs are evaluated, each once.
pub(super) struct Bind {
    assertion: Text,
    /// Variables of an earlier run of the same use, in a loop.
    clear: Box<[Slot]>,
    inputs: Vec<Taken>,
}

impl Bind {
    /// The same, which first forgets what these variables held.
    pub fn clearing(self, slots: Range<usize>) -> Bind {
        let clear = slots.filter_map(|slot| u16::try_from(slot).ok().map(Slot));
        Bind { clear: clear.collect(), ..self }
    }
}

impl Plain for Bind {
    fn check(&self, x: &mut Exchange) -> Verdict {
        for slot in &self.clear {
            x.set(*slot, Value::Absent);
        }
        for taken in &self.inputs {
            match taken.value(x, &self.assertion) {
                Ok(value) => x.set(taken.slot, value),
                Err(fault) => return Verdict::Fault(fault),
            }
        }
        Verdict::Passed
    }
}

impl Taken {
    fn value(&self, x: &Exchange, assertion: &str) -> Result<Value, Box<Fault>> {
        let input = &self.input;
        let (value, fit) = match &self.argument {
            Argument::Constant(value) => (value.clone(), Fit::Yes),
            Argument::Text(text, fit) => match text.value(x)? {
                Val::Absent if input.takes_absent => return Ok(input.default.clone().unwrap_or_default()),
                Val::Absent => return Err(text.absence()),
                value => (value.into_value(), *fit),
            },
            Argument::Texts(texts) => {
                let items = texts.iter().map(|text| Ok(Value::text(text.read(x)?.into_owned())));
                (Value::List(items.collect::<Result<Vec<_>, Box<Fault>>>()?.into()), Fit::Yes)
            }
            Argument::Structure(template) => (structure(&template.build(x)?), Fit::Yes),
        };
        let wrong = |what: String| {
            let detail = format!("the input `{}` is {what}", input.name.name);
            fault_by(self.facts.origin, "expression.type", detail).with_code(format!("{assertion}.input"))
        };
        let value = match fit {
            Fit::Yes => value,
            _ => convert(value, input.ty).ok_or_else(|| wrong(format!("not of type {}", input.word)))?,
        };
        match input.one_of.is_empty() || input.one_of.contains(&value) {
            true => Ok(value),
            false => Err(wrong(format!("none of {}", input.choices()))),
        }
    }
}
