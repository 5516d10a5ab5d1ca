//! A side of a comparison: a text, a number or truth value without quotes, or a list of them.

use std::borrow::Cow;

use crate::compile::Compile;
use crate::compile::text::{Sink, TextParam};
use crate::engine::exchange::Exchange;
use crate::engine::value::{Element, Facts, Type, Val, Value};
use crate::expr::Place;
use crate::fault::Fault;
use crate::source::{Node, ScalarStyle};

/// One side of a comparison.
#[derive(Debug)]
pub(super) enum Side {
    Known(Value),
    Text(TextParam),
    List(Vec<Side>),
}

impl Side {
    /// Type, origin and mark.
    pub(super) fn facts(&self) -> Facts {
        let ty = match self {
            Side::Text(text) => return text.facts(),
            Side::Known(Value::Bool(_)) => Type::Bool,
            Side::Known(Value::Int(_)) => Type::Int,
            Side::Known(_) => Type::Float,
            Side::List(sides) => {
                let list = Facts::policy(Type::List(Element::Any));
                return sides.iter().fold(list, |facts, side| facts.mixed(side.facts()));
            }
        };
        Facts::policy(ty)
    }

    /// Its value at run time; absent stays absent.
    pub(super) fn value<'x>(&'x self, x: &'x Exchange) -> Result<Val<'x>, Box<Fault>> {
        match self {
            Side::Known(value) => Ok(value.view()),
            Side::Text(text) => text.value(x),
            Side::List(sides) => {
                let mut list = Vec::with_capacity(sides.len());
                for side in sides {
                    list.push(side.value(x)?.into_value());
                }
                Ok(Val::List(Cow::Owned(list)))
            }
        }
    }
}

/// Compiles a side: a scalar or a list of scalars.
pub(super) fn side(cx: &mut Compile<'_>, node: &Node) -> Option<Side> {
    if let Some(items) = node.as_list() {
        let sides: Vec<Option<Side>> = items
            .iter()
            .map(|item| match item.as_scalar() {
                Some(_) => side(cx, item),
                None => {
                    let message = format!("expected a text, a number or a truth value, got {}", item.kind());
                    cx.refuse("policy.wrong_type", item.span(), message, "write a text, a number, or true or false")
                }
            })
            .collect();
        return Some(Side::List(sides.into_iter().collect::<Option<_>>()?));
    }
    let Some(scalar) = node.as_scalar() else {
        let message = format!("expected a text or a list of them, got {}", node.kind());
        return cx.refuse("policy.wrong_type", node.span(), message, "write a value or a list of values");
    };
    if scalar.style == ScalarStyle::Plain
        && let Some(value) = plain(&scalar.text)
    {
        return Some(Side::Known(value));
    }
    cx.warn_of_ambiguity(node);
    cx.text_of(node, Place::Plain, Sink::Inside).map(Side::Text)
}

/// Numbers and truth values without quotes (YAML 1.2.2 §10.3.2); all else is text.
fn plain(text: &str) -> Option<Value> {
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if leading_zero || !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if let Ok(int) = text.parse() {
        return Some(Value::Int(int));
    }
    text.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float)
}
