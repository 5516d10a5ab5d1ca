//! `stop`: ends the pipeline as passed, with the response as it stands.
//!
//! It makes no answer: where no response can exist it does not load. `finally` runs.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::context::Part;
use crate::compile::flow::Happened;
use crate::compile::kind::Ends;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{EndedBy, Plain, Verdict};

pub const KIND: Kind = Kind {
    ends: Ends::Always,
    examples: &[Example {
        title: "Successes leave as they came",
        yaml: r#"
service: example
match: { path: /orders }
policy:
  - route: http://127.0.0.1:9000
  - if: response.status < 400
    then:
      - stop
  - respond: { status: 502, text: try later }
tests:
  - name: a success
    given: { upstream: [{ answer: { status: 201, text: made } }] }
    request: {}
    expect: { status: 201, text: made, ended_by: stop }
  - name: a failure
    given: { upstream: [{ answer: { status: 500, text: trace } }] }
    request: {}
    expect: { status: 502, text: try later, ended_by: respond }
"#,
    }],
    ..Kind::of::<Stop>("stop", "Ends the pipeline as passed, with the response as it stands.", Category::Logic)
};

/// `stop` has no parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Stop {}

impl Assertion for Stop {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if cx.operator().is_some() {
            return cx.leave();
        }
        if cx.part == Part::Main && cx.flow.routed == Happened::Never {
            let message = "there is no response here that could leave: no `route` stands before this step";
            return cx.refuse("policy.no_response", step.span, message, "use `respond` to answer, `raise` to refuse");
        }
        Compiled::plain(StopStep)
    }
}

struct StopStep;

impl Plain for StopStep {
    fn check(&self, _: &mut Exchange) -> Verdict {
        Verdict::Ended(EndedBy::Stop)
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn it_needs_a_response_and_nothing_behind_it() {
        assert_eq!(refusals("  - stop"), ["policy.no_response"]);
        let after = "  - route: http://127.0.0.1:9000\n  - stop\n  - set_headers: { x-a: b }";
        assert_eq!(refusals(after), ["policy.unreachable_step"]);
    }

    #[test]
    fn finally_runs_behind_stop_and_behind_raise() {
        for end in ["stop", "raise: { status: 422, code: trial.no }"] {
            let steps = format!(
                "  - route: http://127.0.0.1:9000\n  - {end}\nfinally:\n  - audit: {{ message: \"${{answer.status}}\" }}"
            );
            let outcome = Trial::of(&steps).answering(&[], "up").get("/");
            assert_eq!(outcome.record.message, Some(outcome.status.to_string()), "{end}");
            assert_eq!(outcome.body == "up", end == "stop");
        }
    }
}
