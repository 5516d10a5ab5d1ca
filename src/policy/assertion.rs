//! `assertion:` documents: what operators declare, and the check of each by itself.
//!
//! The steps are compiled where they are used (`compile/operator.rs`); here their declarations are read, so
//! that a mistake in one is said once and not at every use.

use std::collections::BTreeMap;

use crate::compile::Compile;
use crate::compile::context::Surroundings;
use crate::compile::flow::Happened;
use crate::compile::operator::inputs::{Input, constant, shown};
use crate::compile::operator::{OWN_WORDS, Operator, Output, alone};
use crate::compile::scope::RESERVED;
use crate::engine::value::{Element, Text, Type, Value};
use crate::policy::document::{AbsentDoc, AssertionDoc, Documents, InputDoc, MatchDoc, ServiceDoc};
use crate::source::{Diagnostics, Entry, Name, Node, NodeValue, Span, suggest};

/// The words of types.
const TYPES: [(&str, Type); 10] = [
    ("string", Type::Text),
    ("int", Type::Int),
    ("float", Type::Float),
    ("bool", Type::Bool),
    ("bytes", Type::Bytes),
    ("time", Type::Time),
    ("list", Type::List(Element::Any)),
    ("list<string>", Type::List(Element::Text)),
    ("map", Type::Map(Element::Any)),
    ("json", Type::Json),
];
/// Keys of steps that no block of an assertion is called.
const STEP_KEYS: [&str; 4] = ["name", "when", "as", "shadow"];

/// Where a tested assertion's own upstream would be; the test stands in for it.
const REHEARSED_UPSTREAM: &str = "http://upstream.test";

/// Reads all declarations; everything wrong with them is reported.
pub fn declare(
    documents: &Documents,
    around: Surroundings<'_>,
    diags: &mut Diagnostics,
) -> BTreeMap<Text, Option<Operator>> {
    let broken = documents.broken_assertions.iter().map(|name| (name.clone(), None));
    let mut operators: BTreeMap<Text, Option<Operator>> = broken.collect();
    for (name, doc) in &documents.assertions {
        let mut said = Diagnostics::new();
        let mut cx = Compile::new(around, &mut said, name.clone(), Vec::new());
        let is_free = check_name(&doc.assertion, &mut cx).is_some();
        let operator = operator(doc, &mut cx);
        said.retain(|one| !doc.is_mangled || one.span.is_some()); // the others are about what stands in for something
        diags.append(said);
        operators.insert(name.clone(), Some(operator).filter(|_| is_free));
    }
    operators
}

/// A use of an assertion in a test.
#[derive(Clone, Debug)]
pub struct Use<'u> {
    pub name: &'u str,
    /// What goes in; nothing for no inputs.
    pub inputs: &'u Node,
}

/// A service that does nothing but use an assertion: behind a `route` where it reads the response, and with an
/// empty answer at the end where it gives none. `None` where the assertion does not load, which was reported.
pub fn rehearsal(used: &Use<'_>, around: Surroundings<'_>, diags: &mut Diagnostics) -> Option<ServiceDoc> {
    let operator = around.operators.get(used.name)?.as_ref().filter(|operator| !operator.is_mangled)?;
    let span = used.inputs.span();
    let known = alone(operator, &mut Compile::new(around, diags, used.name.into(), Vec::new()));
    let step = |key: &str, value: Node| {
        Node::new(span, NodeValue::Map(vec![Entry { key: key.to_owned(), key_span: span, value }]))
    };
    let mut steps = Vec::new();
    if known.needs_response {
        steps.push(step("route", Node::text(span, REHEARSED_UPSTREAM)));
    }
    steps.push(step(used.name, used.inputs.clone()));
    if !known.ended && known.routed != Happened::Always {
        steps.push(step("respond", Node::text(span, "204")));
    }
    Some(rehearsed(used.name, span, Node::new(span, NodeValue::List(steps))))
}

/// The service around such a use: any request is its.
fn rehearsed(name: &str, span: Span, policy: Node) -> ServiceDoc {
    ServiceDoc {
        service: Name { name: name.to_owned(), span },
        rule: MatchDoc { host: None, path: "/{*rest}".into(), methods: None },
        listeners: None,
        policy,
        on_fault: None,
        finally: None,
        tests: None,
        without: None,
        is_mangled: false,
    }
}

/// Compiles each assertion by itself. Gives the names of the fragments that they include.
pub fn check(around: Surroundings<'_>, diags: &mut Diagnostics) -> Vec<Text> {
    let mut included = Vec::new();
    for (name, operator) in around.operators.iter() {
        let Some(operator) = operator else { continue };
        let mut cx = Compile::new(around, diags, name.clone(), Vec::new());
        alone(operator, &mut cx);
        included.append(&mut cx.included);
    }
    included
}

fn operator(doc: &AssertionDoc, cx: &mut Compile<'_>) -> Operator {
    let inputs = doc.inputs.iter().map(|(name, input)| self::input(name, input, cx)).collect();
    let outputs = doc.outputs.iter().map(|(name, ty)| {
        check_word(name, "an output", cx);
        let (word, absent) = match ty.as_str().strip_suffix('?') {
            Some(word) => (word, true),
            None => (ty.as_str(), false),
        };
        let known = type_of(word, ty.node(), cx);
        Output { name: name.clone(), span: ty.span(), ty: known, word: word.to_owned(), absent }
    });
    let (name, steps) = (doc.assertion.clone(), doc.policy.clone());
    let (is_mangled, lacks_inputs) = (doc.is_mangled, doc.lacks_inputs);
    Operator { outputs: outputs.collect(), inputs, name, steps, is_mangled, lacks_inputs }
}

fn input(name: &Name, doc: &InputDoc, cx: &mut Compile<'_>) -> Input {
    check_word(name, "an input", cx);
    let ty = type_of(doc.ty.as_str(), doc.ty.node(), cx);
    let word = doc.ty.as_str().to_owned();
    let one_of: Vec<Value> = doc.one_of.iter().filter_map(|node| value(node, ty, &word, cx)).collect();
    let default = doc.default.as_ref().and_then(|node| value(node, ty, &word, cx));
    let span = doc.default.as_ref().map_or(name.span, Node::span);
    if let Some(default) = &default {
        if doc.required {
            let message = format!("`{}` is required and has a default, which would never stand", name.name);
            cx.refuse::<()>("policy.bad_value", span, message, "keep one of the two");
        }
        if !one_of.is_empty() && !one_of.contains(default) {
            let choices = one_of.iter().map(shown).collect::<Vec<_>>().join(", ");
            let message = format!("the default `{}` is not one of {choices}", shown(default));
            cx.refuse::<()>("policy.bad_value", span, message, "add it to `one_of`, or choose another default");
        }
    }
    let takes_absent = doc.absent == AbsentDoc::Allowed;
    Input { name: name.clone(), ty, word, required: doc.required, default, one_of, takes_absent }
}

/// A value that stands in a declaration.
fn value(node: &Node, ty: Type, word: &str, cx: &mut Compile<'_>) -> Option<Value> {
    let text = match node.as_text() {
        Some(_) => Some(cx.literal_of(node)?),
        None => None,
    };
    match constant(node, text.as_deref(), ty) {
        Ok(value) => Some(value),
        Err(message) => {
            let help = format!("the input is declared `type: {word}`");
            cx.refuse("policy.wrong_type", node.span(), message, &help)
        }
    }
}

/// The type of a word; an unknown one is reported and taken for any.
fn type_of(word: &str, node: &Node, cx: &mut Compile<'_>) -> Type {
    if let Some((_, ty)) = TYPES.iter().find(|(known, _)| *known == word) {
        return *ty;
    }
    let known = || TYPES.iter().map(|(word, _)| *word);
    let all = known().collect::<Vec<_>>().join(", ");
    let help = match suggest(word, known()) {
        Some(near) => format!("did you mean `{near}`? the types are: {all}"),
        None => format!("the types are: {all}"),
    };
    let message = format!("there is no type called `{word}`");
    cx.refuse::<()>("policy.bad_value", node.span(), message, &help);
    Type::Any
}

/// Names are words of the language: `input.NAME`, `ASSERTION.NAME`, `ASSERTION.reason`.
fn check_word(name: &Name, what: &str, cx: &mut Compile<'_>) -> Option<()> {
    let text = name.name.as_str();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(legal) {
        return Some(());
    }
    let message = format!("`{text}` is no name of {what}");
    cx.refuse("policy.bad_name", name.span, message, "lower-case letters, digits and `_`, a letter first")
}

/// A name that means nothing else yet: as a step, as a variable, as the beginning of codes.
fn check_name(name: &Name, cx: &mut Compile<'_>) -> Option<()> {
    check_word(name, "an assertion", cx)?;
    let text = name.name.as_str();
    let catalogue = cx.around.catalogue;
    let sets = |set: &crate::compile::Output| set.name.split('.').next() == Some(text);
    let message = if catalogue.iter().any(|kind| kind.name == text) {
        format!("`{text}` is an assertion of the gateway itself")
    } else if STEP_KEYS.contains(&text) || catalogue.iter().any(|kind| kind.blocks.contains(&text)) {
        format!("`{text}` is a key of steps")
    } else if RESERVED.contains(&text) || catalogue.iter().any(|kind| kind.sets.iter().any(sets)) {
        format!("`{text}` is a variable of the gateway, and the outputs would stand under that name")
    } else if OWN_WORDS.contains(&text) {
        format!("codes that begin with `{text}.` are the gateway's own")
    } else {
        return Some(());
    };
    cx.refuse("policy.reserved_name", name.span, message, "choose another name, such as one that begins with a verb")
}
