//! `if`: chooses between two lists of steps.
//!
//! A fault in `then` is a fault: it never falls into `else`. A condition that breaks never counts as false.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Condition, Op};
use crate::engine::value::{Type, Val};
use crate::expr;
use crate::fault::Fault;
use crate::source::Node;

pub const KIND: Kind = Kind {
    main: Some("condition"),
    blocks: &["then", "else"],
    faults: &[FaultDoc {
        code: "if.not_bool",
        status: 500,
        doc: "The condition was no bool when the request came. Compare it: `request.json.paid == true`.",
    }],
    examples: &[Example {
        title: "Small requests are answered here, others refused",
        yaml: r#"
service: example
match: { path: /items }
policy:
  - if: request.query.kind == 'small'
    then:
      - respond: { status: 200, text: small }
    else:
      - respond: { status: 404, text: only small ones }
tests:
  - name: the condition holds
    request: { path: "/items?kind=small" }
    expect: { status: 200, text: small }
  - name: it does not
    request: { path: "/items?kind=large" }
    expect: { status: 404 }
  - name: an absent parameter equals nothing
    request: {}
    expect: { status: 404 }
"#,
    }],
    ..Kind::of::<If>("if", "Chooses between two lists of steps.", Category::Logic)
};

/// Parameters of `if`. `then: [...]` and `else: [...]` stand beside it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct If {
    /// A bare expression that is true or false.
    condition: Node,
}

/// A condition whose type shows only at run time is never taken for false.
struct Bool(expr::Compiled);

impl Condition for Bool {
    fn holds(&self, x: &Exchange) -> Result<bool, Box<Fault>> {
        if self.0.facts.ty == Type::Bool {
            return self.0.holds(x);
        }
        match self.0.eval(x)? {
            Val::Bool(bool) => Ok(bool),
            other => {
                let detail = format!("the condition is {}, not a bool", other.type_word());
                Err(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "if.not_bool", detail))
            }
        }
    }
}

impl Assertion for If {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let condition = cx.condition(&self.condition);
        let Some(then) = step.block("then") else {
            let help = "write `then:` with a list of steps beside `if`";
            return cx.refuse("policy.missing_parameter", step.span, "`if` needs `then`", help);
        };
        // The condition's own needs come before both branches; those of the branches stand inside.
        let before = cx.flow.clone();
        if let Some(condition) = &condition {
            cx.flow.proven.extend(condition.proves.iter().cloned());
        }
        let id = cx.current();
        let mut then = cx.steps(then, &step.path_of("then"));
        let after_then = std::mem::replace(&mut cx.flow, before);
        let other = step.block("else").map_or_else(Vec::new, |list| cx.steps(list, &step.path_of("else")));
        let after_else = std::mem::take(&mut cx.flow);
        cx.flow = after_then.join(after_else);
        if !other.is_empty() {
            then.push(Op::Jump(other.len()));
        }
        let mut ops = vec![Op::If(id, Box::new(Bool(condition?)), then.len())];
        ops.extend(then);
        ops.extend(other);
        Some(Compiled::Ops(ops))
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::Trial;

    #[test]
    fn a_condition_that_is_no_bool_is_never_false() {
        let steps = "  - if: request.json.flag ?? false\n    then:\n      - respond: 202\n  - respond: 204";
        let trial = Trial::of(steps);
        let sent = |body| trial.send("POST", "/", &[("content-type", "application/json")], body);
        assert_eq!(sent("{\"flag\":true}").status, 202);
        assert_eq!(sent("{}").status, 204);
        let outcome = sent("{\"flag\":\"true\"}");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (500, Some("if.not_bool")));
    }

    #[test]
    fn a_fault_in_then_never_falls_into_else() {
        let steps = "  - if: request.method == 'GET'\n    then:\n      - raise: { status: 403, code: trial.no }\n    else:\n      - respond: 204";
        let outcome = Trial::of(steps).get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (403, Some("trial.no")));
    }

    #[test]
    fn a_condition_that_breaks_is_a_fault_and_not_false() {
        let steps = "  - if: request.json.a == 1\n    then:\n      - respond: 202\n  - respond: 204";
        let outcome = Trial::of(steps).send("POST", "/", &[], "{");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("body.invalid_json")));
        let outcome = Trial::of(steps).send("POST", "/", &[], "{\"a\":\"1\"}");
        assert_eq!(outcome.fault.as_deref(), Some("expression.type"));
    }
}
