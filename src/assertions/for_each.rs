//! `for_each`: runs steps once per element of a list.
//!
//! The list is bounded before the first round. A fault in one round ends the loop with that fault. A request is
//! not sent from inside: it has one response.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::blocks::{Inside, filled};
use crate::compile::scope::RESERVED;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Each, Op, Round};
use crate::engine::value::{Element, Facts, Type, Val, Value, with_article};
use crate::expr::{self, fault_by};
use crate::fault::Fault;
use crate::source::{Entries, Expression, Name, Node, Spanned};

/// Most elements that a loop may run over.
const LIMIT_MAX: u32 = 10_000;
/// Loops inside of loops, at most.
const NESTED_MAX: usize = 3;

pub const KIND: Kind = Kind {
    blocks: &["do"],
    bodies: "only what it reads",
    faults: &[
        FaultDoc {
            code: "for_each.too_many",
            status: 400,
            doc: "The list is longer than `limit`; no round was run. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "for_each.not_a_list",
            status: 400,
            doc: "What `in` says is no list, or absent. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[Example {
        title: "Every line is checked, and their numbers are gathered",
        yaml: r#"
service: example
match: { path: /orders, methods: [POST] }
policy:
  - for_each: { item: line, in: "request.json.lines ?? []", limit: 3, collect: { skus: "line.sku ?? ''", places: line_index } }
    do:
      - compare: { condition: "(line.qty ?? 0) > 0", status: 422, code: orders.no_quantity }
  - respond: { json: { skus: "${skus}", places: "${places}" } }
tests:
  - name: two lines
    request: { json: { lines: [{ sku: a, qty: 1 }, { sku: b, qty: 2 }] } }
    expect: { status: 200, json: { skus: [a, b], places: [0, 1] } }
  - name: none
    request: { json: {} }
    expect: { status: 200, json: { skus: [], places: [] } }
  - name: one of them is wrong
    request: { json: { lines: [{ sku: a, qty: 0 }] } }
    expect: { status: 422, fault: orders.no_quantity }
  - name: too many
    request: { json: { lines: [1, 2, 3, 4] } }
    expect: { status: 400, fault: for_each.too_many }
"#,
    }],
    ..Kind::of::<ForEach>("for_each", "Runs steps once per element of a list.", Category::Logic)
};

/// Parameters of `for_each`. `do: [...]` stands beside it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForEach {
    /// A bare expression: a list.
    #[serde(rename = "in")]
    list: Expression,
    /// Most elements, up to 10,000.
    limit: Spanned<u32>,
    /// Name of the element inside; its place from 0 is `NAME_index`. `item` without it.
    #[serde(default)]
    item: Option<Name>,
    /// Lists that are there afterwards: a bare expression for each round.
    #[serde(default)]
    collect: Entries<Expression>,
}

impl Assertion for ForEach {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let Some(body) = step.block("do") else {
            let help = "write `do:` with a list of steps beside `for_each`";
            return cx.refuse("policy.missing_parameter", step.span, "`for_each` needs `do`", help);
        };
        filled(cx, body, "`do`")?;
        let limit = limit(&self.limit, cx);
        let list = list(&self.list.0, cx);
        // With a wrong list or name the steps are judged all the same.
        let own = match &self.item {
            Some(name) => own_name(name, cx),
            None => Some("item"),
        };
        let name = own.unwrap_or("item").to_owned();
        let index_name = format!("{name}_index");
        if let (Some(meant), None) = (&self.item, own) {
            cx.may_be_set([meant.name.clone(), format!("{}_index", meant.name)]);
        }
        for name in [&name, &index_name] {
            if cx.flow.roots.contains_key(name.as_str()) {
                let span = self.item.as_ref().map_or(step.span, |name| name.span);
                let message = format!("`{name}` is set already by a step before this loop");
                return cx.refuse("policy.reserved_name", span, message, "choose another name: `item: line`");
            }
        }
        let facts = list.as_ref().map_or(Facts::policy(Type::Any), |(_, facts)| *facts);
        if cx.looping >= NESTED_MAX {
            let message = format!("loops stand in loops at most {NESTED_MAX} deep");
            return cx.refuse("policy.bad_value", step.span, message, "flatten the data first");
        }
        let id = cx.current();
        let mut gathers = Vec::new();
        let mut slots = Vec::new();
        cx.looping += 1;
        let block = cx.rounds(step.span, [&name, &index_name], &mut |cx| {
            let slots_of_round = (cx.variable(&name, facts), cx.variable(&index_name, Facts::policy(Type::Int)));
            cx.made_by(slots_of_round.0, id);
            let ops = cx.within(Inside::Loop, |cx| cx.steps(body, &step.path_of("do")));
            slots = vec![slots_of_round.0, slots_of_round.1];
            gathers = gathered(&self.collect, cx);
            ops
        });
        cx.looping -= 1;
        cx.flow = block.after;
        let mut outs = Vec::new();
        let mut whole = true;
        for (name, compiled) in self.collect.iter().map(|(name, _)| name).zip(&gathers) {
            whole &= own_name(name, cx).is_some() && compiled.is_some();
            let of = compiled.as_ref().map_or(Facts::policy(Type::Any), |compiled| compiled.facts);
            let element = match of.ty {
                Type::Text if !of.absent => Element::Text,
                Type::Json => Element::Json,
                _ => Element::Any,
            };
            let slot = cx.variable(&name.name, Facts { ty: Type::List(element), absent: false, ..of.mixed(facts) });
            cx.made_by(slot, id);
            outs.push(slot);
        }
        let ((list, _), _) = (list?, own?);
        let gathers: Vec<expr::Compiled> = gathers.into_iter().flatten().collect();
        let ([item, index], true) = (<[_; 2]>::try_from(slots).ok()?, whole) else { return None };
        let each: Arc<dyn Each> = Arc::new(Elements { list, limit: limit?, gathers });
        let length = block.ops.len();
        let round = Round { step: id, item, index, gathered: outs, end: length + 2 };
        let mut ops = vec![Op::Begin(id, each.clone()), Op::Next(Box::new(round))];
        ops.extend(block.ops);
        ops.push(Op::Gather(id, each));
        ops.push(Op::Back(length + 3));
        Some(Compiled::Ops(ops))
    }
}

fn limit(limit: &Spanned<u32>, cx: &mut Compile<'_>) -> Option<usize> {
    match usize::try_from(limit.value) {
        Ok(value) if (1..=LIMIT_MAX).contains(&limit.value) => Some(value),
        _ => {
            let message = format!("`limit` is the most elements that are taken, from 1 to {LIMIT_MAX}");
            cx.refuse("policy.bad_value", limit.span, message, "write `limit: 100`")
        }
    }
}

fn own_name<'n>(name: &'n Name, cx: &mut Compile<'_>) -> Option<&'n str> {
    let text = name.name.as_str();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !text.starts_with(|first: char| first.is_ascii_lowercase()) || !text.bytes().all(legal) {
        let message = format!("`{text}` is no name of a variable");
        return cx.refuse("policy.bad_value", name.span, message, "lower-case letters, digits and `_`, a letter first");
    }
    if RESERVED.contains(&text) {
        let message = format!("`{text}` is a name of the language itself");
        return cx.refuse("policy.reserved_name", name.span, message, "choose another name");
    }
    Some(text)
}

/// The list, and what is known of its elements.
fn list(node: &Node, cx: &mut Compile<'_>) -> Option<(expr::Compiled, Facts)> {
    let compiled = cx.expression(&Expression(node.clone()))?;
    let facts = compiled.facts;
    if facts.absent {
        let help = format!("give it a default: `{} ?? []`", node.as_text().unwrap_or_default());
        return cx.refuse("expr.may_be_absent", node.span(), "this list may be absent", &help);
    }
    let (ty, absent) = match facts.ty {
        Type::List(Element::Text) => (Type::Text, false),
        Type::List(Element::Any) | Type::Any => (Type::Any, true),
        Type::List(Element::Json) | Type::Json => (Type::Json, true),
        other => {
            let message = format!("`for_each` runs over a list; this is {}", with_article(other.word()));
            return cx.refuse("policy.wrong_type", node.span(), message, "split a text with `split(x, ',')`");
        }
    };
    Some((compiled, Facts { ty, absent, ..facts }))
}

fn gathered(collect: &Entries<Expression>, cx: &mut Compile<'_>) -> Vec<Option<expr::Compiled>> {
    collect.iter().map(|(_, expression)| cx.expression(expression)).collect()
}

struct Elements {
    list: expr::Compiled,
    limit: usize,
    gathers: Vec<expr::Compiled>,
}

impl Each for Elements {
    fn items(&self, x: &Exchange) -> Result<Value, Box<Fault>> {
        let origin = self.list.facts.origin;
        let value = self.list.eval(x)?;
        let length = match &value {
            Val::List(list) => list.len(),
            Val::Json(json) if json.is_array() => json.as_array().map_or(0, Vec::len),
            other => {
                let detail = format!("`in` is {}, not a list", other.type_word());
                return Err(fault_by(origin, "for_each.not_a_list", detail));
            }
        };
        if length > self.limit {
            let detail = format!("{length} elements, at most {} are taken", self.limit);
            return Err(fault_by(origin, "for_each.too_many", detail));
        }
        Ok(value.into_value())
    }

    fn gathers(&self) -> usize {
        self.gathers.len()
    }

    fn gathered(&self, which: usize, x: &Exchange) -> Result<Value, Box<Fault>> {
        let Some(gathers) = self.gathers.get(which) else { return Ok(Value::Absent) };
        gathers.eval(x).map(Val::into_value)
    }
}

#[cfg(test)]
mod tests;
