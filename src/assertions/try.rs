//! `try`: steps whose faults another list of steps deals with.
//!
//! What the block changed before the fault is taken back. Denials of Access and Threats steps are caught only when
//! their code is written, so that nobody swallows an authentication by accident.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::blocks::{Inside, filled, routes};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Step};
use crate::engine::program::{Catches, Frame, Op, StepId};
use crate::source::{Literal, Node, OneOrMany, suggest};

pub const KIND: Kind = Kind {
    main: Some("steps"),
    blocks: &["catch"],
    bodies: "held where the block and `catch` may both need it",
    examples: &[Example {
        title: "An answer of its own where the upstream fails",
        yaml: r#"
service: example
match: { path: /prices }
policy:
  - try:
      - route: http://127.0.0.1:9000
    catch:
      - respond: { status: 200, json: { prices: [], why: "${fault.code}" } }
tests:
  - name: the upstream answers
    given: { upstream: [{ answer: { json: { prices: [1] } } }] }
    request: {}
    expect: { status: 200, json: { prices: [1] } }
  - name: it does not
    given: { upstream: [{ answer: { fail: refused } }] }
    request: {}
    expect: { status: 200, fault: none, json: { prices: [], why: route.connect } }
"#,
    }],
    ..Kind::of::<Try>("try", "Steps whose faults are dealt with.", Category::Logic)
};

/// Parameters of `try`. `catch: [...]` stands beside it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Try {
    /// The steps.
    steps: Node,
    /// Which faults: `broken`, `denied`, codes such as `route.connect`, or all of an assertion's: `route.*`;
    /// `broken` without it.
    #[serde(default)]
    catches: Option<OneOrMany<Literal>>,
}

impl Assertion for Try {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let catches = catches(self.catches.as_ref(), cx);
        filled(cx, &self.steps, "`try`")?;
        let Some(catch) = step.block("catch") else {
            let help = "write `catch:` with a list of steps beside `try`";
            return cx.refuse("policy.missing_parameter", step.span, "`try` needs `catch`", help);
        };
        filled(cx, catch, "`catch`")?;
        let before = cx.flow.clone();
        let first = cx.steps.len();
        let block = cx.within(Inside::Frame, |cx| cx.block(&self.steps, &step.path_of(""), before.clone()));
        let guards = guards(cx, first);
        let mut begins = before.after_undoing(&block.after);
        begins.undone.extend(routes(&block.ops));
        begins.undone.extend(cx.unsafe_calls_since(first));
        let mut handler = cx.within(Inside::Catch, |cx| cx.block(catch, &step.path_of("catch"), begins));
        handler.ops.push(Op::EndCatch);
        cx.flow = block.after.join(handler.after);
        let catches = Catches { guards, ..catches? };
        Some(Compiled::Ops(cx.caught(Frame::Try(Box::new(catches)), block.ops, handler.ops)))
    }
}

/// Steps of the block whose denials are not to be swallowed.
fn guards(cx: &Compile<'_>, first: usize) -> Vec<StepId> {
    let guard = |category| matches!(category, Category::Access | Category::Threats);
    let inside = cx.steps.iter().enumerate().skip(first);
    let ids = inside.filter(|(_, meta)| cx.kind_of(meta).is_none_or(|kind| guard(kind.category)));
    ids.filter_map(|(at, _)| StepId::try_from(at).ok()).collect()
}

fn catches(words: Option<&OneOrMany<Literal>>, cx: &mut Compile<'_>) -> Option<Catches> {
    let mut catches = Catches::default();
    let Some(words) = words else { return Some(Catches { broken: true, ..catches }) };
    if words.iter().next().is_none() {
        let message = "`catches` names no fault";
        return cx.refuse("policy.empty_list", cx.step_span(), message, "remove it to catch what is broken");
    }
    let mut whole = true;
    for literal in words.iter() {
        let Some(word) = cx.literal(literal) else {
            whole = false;
            continue;
        };
        match word.as_str() {
            "broken" => catches.broken = true,
            "denied" => catches.denied = true,
            word => {
                let family = word.strip_suffix(".*");
                whole &= check_code(family.unwrap_or(word), literal, cx).is_some();
                match family {
                    Some(family) => catches.families.push(family.into()),
                    None => catches.codes.push(word.into()),
                }
            }
        }
    }
    whole.then_some(catches)
}

/// A code has words joined by points; one of an assertion has to exist.
fn check_code(code: &str, literal: &Literal, cx: &mut Compile<'_>) -> Option<()> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let whole = !literal.0.as_text().unwrap_or_default().ends_with(".*");
    if !code.split('.').all(word) || (whole && !code.contains('.')) {
        let message = format!("`{code}` is no code of a fault");
        let help = "it takes `broken`, `denied`, codes such as `route.connect`, and `route.*`";
        return cx.refuse("policy.bad_value", literal.span(), message, help);
    }
    let (first, _) = code.split_once('.').unwrap_or((code, ""));
    let Some(kind) = cx.around.catalogue.iter().find(|kind| kind.name == first).filter(|_| whole) else {
        return Some(());
    };
    if kind.faults.iter().any(|fault| fault.code == code) {
        return Some(());
    }
    let message = format!("`{first}` has no fault `{code}`");
    let help = match suggest(code, kind.faults.iter().map(|fault| fault.code)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`gatewright docs` lists the faults of `{first}`"),
    };
    cx.refuse("policy.bad_value", literal.span(), message, &help)
}

#[cfg(test)]
mod tests;
