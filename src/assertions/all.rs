//! `all`: every child must pass; the first that does not decides. It groups steps under one `when`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Step};
use crate::source::Node;

pub const KIND: Kind = Kind {
    main: Some("steps"),
    in_finally: true,
    examples: &[Example {
        title: "Two steps under one condition",
        yaml: r#"
service: example
match: { path: /items }
policy:
  - when: request.method == "POST"
    all:
      - limit_size: 1KiB
      - set_headers: { x-writes: "yes" }
  - respond: { json: { writes: "${request.headers.x_writes ?? 'no'}" } }
tests:
  - name: a POST passes both
    request: { method: POST, text: hello }
    expect: { status: 200, json: { writes: "yes" } }
  - name: a GET passes by
    request: {}
    expect: { json: { writes: "no" }, status: 200 }
"#,
    }],
    ..Kind::of::<All>("all", "Groups steps: every one must pass.", Category::Logic)
};

/// Parameters of `all`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct All {
    /// The steps.
    steps: Node,
}

impl Assertion for All {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if self.steps.as_list().is_some_and(<[_]>::is_empty) {
            return cx.refuse("policy.empty_list", self.steps.span(), "`all` without steps does nothing", "remove it");
        }
        Some(Compiled::Ops(cx.steps(&self.steps, &step.path_of(""))))
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn the_first_that_does_not_pass_decides() {
        let trial = Trial::of(
            "  - all:
      - set: { a: b }
      - when: request.query.one == '1'
        raise: { status: 403, code: trial.first }
      - when: request.query.two == '1'
        raise: { status: 503, code: trial.second }
  - respond: { text: \"${a}\" }",
        );
        assert_eq!(trial.get("/?one=1&two=1").fault.as_deref(), Some("trial.first"));
        assert_eq!(trial.get("/?two=1").fault.as_deref(), Some("trial.second"));
        assert_eq!(trial.get("/").body, "b");
        assert_eq!(refusals("  - all: []\n  - respond: 204"), ["policy.empty_list"]);
    }
}
