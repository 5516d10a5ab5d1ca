//! `any`: alternatives; the first child that passes wins.
//!
//! A child that does not pass leaves nothing behind in variables, identity and messages. When none passes, the
//! fault is chosen so that nothing is hidden: a question that could not be answered goes before a refusal, and a
//! 401 names all ways to prove who one is (RFC 9110 §11.6.1).

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::blocks::filled;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::program::Exhausts;
use crate::fault::{Fault, Kind as FaultKind};
use crate::source::Node;

pub const KIND: Kind = Kind {
    main: Some("steps"),
    bodies: "held where two children may need it",
    faults: &[FaultDoc {
        code: "any.none",
        status: 403,
        doc: "The `when` of no child held, so that none could pass. Give the last child no `when`.",
    }],
    examples: &[Example {
        title: "A partner's key, or a person's password",
        yaml: r#"
api_keys: partners
entries:
  - { id: acme, hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b", client: acme }
---
users: staff
entries:
  ann: { password: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2" }
---
service: example
match: { path: /orders }
policy:
  - any:
      - authenticate_api_key: partners
      - authenticate_basic: staff
  - respond: { json: { who: "${auth.subject}", how: "${auth.scheme}", client: "${auth.client ?? 'none'}" } }
tests:
  given:
    users: { staff: { ann: { password: pw } } }
    api_keys: { partners: { acme: { value: k-1 } } }
  cases:
    - name: the first way
      request: { api_key: acme }
      expect: { status: 200, json_has: { how: api_key, client: acme } }
    - name: the second way
      request: { basic: { ann: pw } }
      expect: { status: 200, json: { who: ann, how: basic, client: none } }
    - name: neither, and the answer asks for either
      request: {}
      expect:
        status: 401
        fault: authenticate_api_key.missing
        headers: { www-authenticate: ['ApiKey realm="example"', 'Basic realm="example", charset="UTF-8"'] }
"#,
    }],
    ..Kind::of::<Any>("any", "Alternatives: the first child that passes wins.", Category::Logic)
};

/// Parameters of `any`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Any {
    /// The children, in the order in which they are tried.
    steps: Node,
}

impl Assertion for Any {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let items = filled(cx, &self.steps, "`any`")?;
        Some(Compiled::Ops(cx.alternatives(step, items, Box::new(NonePassed))))
    }
}

struct NonePassed;

impl Exhausts for NonePassed {
    fn choose(&self, mut faults: Vec<Fault>) -> Box<Fault> {
        let broken = faults.iter().position(|fault| fault.kind == FaultKind::Broken);
        let asks = faults.iter().position(|fault| fault.status == StatusCode::UNAUTHORIZED);
        let Some(at) = broken.or(asks).or(faults.len().checked_sub(1)) else {
            return Fault::denied(StatusCode::FORBIDDEN, "any.none", "the `when` of no child held");
        };
        let mut chosen = Box::new(faults.remove(at));
        if chosen.status == StatusCode::UNAUTHORIZED {
            let others = faults.iter().flat_map(|fault| &fault.challenges);
            for challenge in others {
                if !chosen.challenges.contains(challenge) {
                    chosen.challenges.push(challenge.clone());
                }
            }
        }
        for other in faults {
            chosen.missed.extend(other.step.into_iter().chain(other.missed));
            let detail = if other.detail.is_empty() { String::new() } else { format!(" ({})", other.detail) };
            chosen.detail.push_str(&format!("; also {}{detail}", other.code));
        }
        chosen
    }
}

#[cfg(test)]
mod tests;
