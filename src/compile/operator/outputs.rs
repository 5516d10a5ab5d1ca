//! What comes out of an operator's assertion: the declared outputs, each checked against its type.

use crate::compile::context::Compile;
use crate::compile::flow::Root;
use crate::compile::operator::Operator;
use crate::compile::operator::inputs::{Fit, convert, fit};
use crate::compile::steps::Step;
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Read, Slot};
use crate::engine::value::{Facts, Origin, Type, Value, with_article};
use crate::expr::fault_by;
use crate::source::{Name, Span};

/// A declared output.
#[derive(Clone, Debug)]
pub struct Output {
    pub name: Name,
    /// Where its type stands.
    pub span: Span,
    pub ty: Type,
    /// The word of the type, as it was written.
    pub word: String,
    /// It may be absent after the assertion has passed (`string?`).
    pub absent: bool,
}

/// An output that the steps set.
#[derive(Debug)]
pub(super) struct Given {
    name: String,
    from: Slot,
    /// As they are seen outside: type and absence as declared, origin and mark as they came about.
    facts: Facts,
    /// The type shows at run time only.
    open: bool,
}

/// Finds the outputs among what the steps have set. `whole`: the steps have compiled, so that what is missing
/// is really missing.
pub(super) fn collect(operator: &Operator, whole: bool, cx: &mut Compile<'_>) -> Vec<Given> {
    if cx.flow.ended {
        return Vec::new(); // nothing follows
    }
    operator.outputs.iter().filter_map(|output| of_flow(operator, output, whole, cx)).collect()
}

fn of_flow(operator: &Operator, output: &Output, whole: bool, cx: &mut Compile<'_>) -> Option<Given> {
    let name = &output.name.name;
    let declared = Facts { ty: output.ty, absent: output.absent, ..Facts::policy(output.ty) };
    let root = cx.flow.roots.get(name.as_str()).cloned();
    let (from, facts) = match root {
        Some(Root::Value(slot, facts)) => (slot, facts),
        other => {
            let message = match other {
                None => format!("no step of `{}` sets its output `{name}`", operator.name.name),
                _ => format!("`{name}` is set by a step with members of its own, not as one value"),
            };
            let help = format!("set it before the end: `- set: {{ {name}: ... }}`");
            if whole {
                cx.refuse::<()>("policy.output_unset", output.name.span, message, &help);
            }
            // Declared all the same, so that who reads it is not told that it does not exist.
            let slot = cx.slot(name, "");
            return Some(Given { name: name.clone(), from: slot, facts: declared, open: false });
        }
    };
    if facts.absent && !output.absent {
        let message = format!("some ways through `{}` pass without setting its output `{name}`", operator.name.name);
        let help = format!("set it on every way, or declare that it may be absent: `{name}: {}?`", output.word);
        cx.refuse::<()>("policy.output_unset", output.name.span, message, &help);
    }
    let fit = fit(output.ty, facts.ty);
    if fit == Fit::No {
        let message =
            format!("`{name}` is declared {}, and the steps set it to {}", output.word, with_article(facts.ty.word()));
        let help = format!(
            "convert it: `- set: {{ {name}: {{ value: ..., type: {} }} }}`, or declare the type that it has",
            output.word
        );
        cx.refuse::<()>("policy.output_type", output.span, message, &help);
    }
    let facts = Facts { origin: facts.origin, mark: facts.mark, ..declared };
    Some(Given { name: name.clone(), from, facts, open: fit == Fit::AtRunTime })
}

/// Declares the outputs in the caller's scope, and gives the step that hands them over.
pub(super) fn give(given: Vec<Given>, step: &Step<'_>, cx: &mut Compile<'_>) -> Box<dyn Plain> {
    let root = step.renamed().unwrap_or(step.word);
    let mut outputs = Vec::with_capacity(given.len());
    for one in given {
        let to = cx.out_with(&format!("{root}.{}", one.name), None, one.facts);
        cx.made_of(to, [&Read::Slot(one.from)]);
        let ty = one.open.then_some(one.facts.ty);
        outputs.push(Handed { name: one.name, from: one.from, to, ty, origin: one.facts.origin });
    }
    Box::new(Hand { assertion: step.word.to_owned(), outputs })
}

struct Handed {
    name: String,
    from: Slot,
    to: Slot,
    /// To be checked, where the type is known at run time only.
    ty: Option<Type>,
    origin: Origin,
}

/// The end of an assertion: its outputs go out.
struct Hand {
    assertion: String,
    outputs: Vec<Handed>,
}

impl Plain for Hand {
    fn check(&self, x: &mut Exchange) -> Verdict {
        for output in &self.outputs {
            let mut value = x.var(output.from).clone();
            if let Some(ty) = output.ty
                && !matches!(value, Value::Absent)
            {
                match convert(value, ty) {
                    Some(converted) => value = converted,
                    None => {
                        let detail = format!("the output `{}` is no {}", output.name, ty.word());
                        let fault = fault_by(output.origin, "expression.type", detail);
                        return Verdict::Fault(fault.with_code(format!("{}.output", self.assertion)));
                    }
                }
            }
            x.set(output.to, value);
        }
        Verdict::Passed
    }
}
