//! `include`: puts the steps of a fragment in its place, in the same scope.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Step};
use crate::source::Name;

pub const KIND: Kind = Kind {
    main: Some("fragment"),
    in_finally: true,
    examples: &[Example {
        title: "Checks that several services share",
        yaml: r#"
fragment: partner_checks
policy:
  - restrict_ip: [10.0.0.0/8]
---
service: example
match: { path: /partner }
policy:
  - include: partner_checks
  - respond: { status: 204 }
tests:
  - name: from inside
    request: { client: { ip: 10.1.2.3 } }
    expect: { status: 204 }
  - name: from outside
    request: { client: { ip: 192.0.2.1 } }
    expect: { status: 403, fault: restrict_ip.refused }
"#,
    }],
    ..Kind::of::<Include>("include", "Puts a fragment's steps here.", Category::Logic)
};

/// Parameters of `include`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Include {
    /// Name of the fragment.
    fragment: Name,
}

impl Assertion for Include {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        cx.include(&self.fragment, &step.path_of("")).map(Compiled::Ops)
    }
}

#[cfg(test)]
mod tests {
    use crate::assertions::trial::{Trial, codes, service};

    #[test]
    fn a_fragment_has_the_scope_of_its_place() {
        let fragment = "fragment: shared\npolicy:\n  - set: { b: \"${a}2\" }\n---\n";
        let steps = service("  - set: { a: \"1\" }\n  - include: shared\n  - respond: { text: \"${b}\" }");
        assert_eq!(Trial::of_set(&format!("{fragment}{steps}")).get("/").body, "12");
        let before = service("  - include: shared\n  - set: { a: \"1\" }\n  - respond: 204");
        assert_eq!(codes(&format!("{fragment}{before}")), ["expr.unknown_variable"]);
    }
}
