//! `parallel`: steps that run at once; all must pass.
//!
//! It is for steps that wait: password checks, long scripts, a turn in a line. Each child works on a fork of the
//! exchange (`engine/parallel.rs`); what they have set is there when all have passed, and a fault takes all of it back.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::blocks::filled;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::source::{DurationValue, Node};

pub const KIND: Kind = Kind {
    main: Some("steps"),
    bodies: "held where a child reads them",
    faults: &[
        FaultDoc {
            code: "parallel.timeout",
            status: 504,
            doc: "`timeout` was over before all children had passed. Those that still waited were given up.",
        },
        FaultDoc {
            code: "parallel.unfit",
            status: 500,
            doc: "A child changed a message or answered, and no check had found that when the files were loaded: a \
                  mistake of the gateway. Put the step behind `parallel`, and report it.",
        },
    ],
    examples: &[Example {
        title: "The password of a person and of a machine are checked at once",
        yaml: r#"
users: staff
entries:
  ann: { password: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2" }
---
users: machines
entries:
  press: { password: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2" }
---
service: example
match: { path: /print }
policy:
  - parallel:
      steps:
        - authenticate_basic: staff
        - as: machine
          authenticate_basic: { directory: machines, from: { header: x-machine, scheme: Basic } }
      timeout: 2s
  - respond: { json: { by: "${auth.subject}", on: "${machine.subject}" } }
tests:
  given:
    users: { staff: { ann: { password: pw } }, machines: { press: { password: ink } } }
  cases:
    - name: both are known
      request: { basic: { ann: pw }, headers: { x-machine: Basic cHJlc3M6aW5r } }
      expect: { status: 200, json: { by: ann, on: press } }
    - name: the person is not
      request: { basic: { ann: no }, headers: { x-machine: Basic cHJlc3M6aW5r } }
      expect: { status: 401, fault: authenticate_basic.invalid }
    - name: the machine says nothing
      request: { basic: { ann: pw } }
      expect: { status: 401, fault: authenticate_basic.missing, variables: { machine.subject: { absent: true } } }
"#,
    }],
    ..Kind::of::<Parallel>("parallel", "Runs steps at once: every one must pass.", Category::Logic)
};

/// Parameters of `parallel`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parallel {
    /// The children, at most 16. None may route, answer, change a message, or set what another sets.
    steps: Node,
    /// Longest time until all have passed; without it that of the request holds alone. Counted in steps of 50 ms. The
    /// clock of a policy test stands still while children run: there it is never over.
    #[serde(default)]
    timeout: Option<DurationValue>,
}

impl Assertion for Parallel {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let items = filled(cx, &self.steps, "`parallel`")?;
        if let Some(timeout) = self.timeout.filter(|timeout| timeout.duration.is_zero()) {
            let help = "write `timeout: 2s`, or remove it";
            return cx.refuse("policy.bad_value", timeout.span, "no child is done in no time", help);
        }
        let time_limit = self.timeout.map(|timeout| timeout.duration);
        Some(Compiled::Ops(cx.side_by_side(step, items, time_limit)?))
    }
}

#[cfg(test)]
mod tests;
