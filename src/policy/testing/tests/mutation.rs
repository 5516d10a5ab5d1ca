//! Mutation names what no test depends on, and nothing else.

use super::{environment, loaded};
use crate::policy::build::compile;
use crate::policy::testing::{Mutation, mutate};
use crate::source::Diagnostics;

fn mutation(yaml: &str) -> (Mutation, Vec<String>, String) {
    let (parsed, cases) = loaded(yaml);
    let cases: Vec<_> = cases.iter().collect();
    let mut diags = Diagnostics::new();
    let snapshot = compile(&parsed, &environment(), None, None, &mut diags);
    let snapshot = snapshot.unwrap_or_else(|| panic!("{}", crate::source::render(&parsed.sources, &diags, false)));
    let mutation = mutate(&parsed, &environment(), &snapshot, &cases, true).unwrap();
    let survivors = mutation.survivors.iter().map(|one| format!("{} {}", one.step, one.change)).collect();
    let text = mutation.render(&parsed.sources, false);
    (mutation, survivors, text)
}

const SERVICE: &str = r#"
fragment: inside
policy:
  - restrict_ip: [10.0.0.0/8]
---
defaults: all
before:
  - set_headers: { x-a: b }
---
service: one
match: { path: /one }
policy:
  - include: inside
  - name: small
    limit_size: 1KiB
    when: request.method == "POST"
  - if: request.query.a == "1"
    then: [{ respond: { text: "yes" } }]
    else:
      - respond: { text: "no" }
"#;

#[test]
fn changes_that_nobody_notices_are_named() {
    let tests = r#"
tests:
  - { name: a, request: { path: "/one?a=1", client: { ip: 10.0.0.1 } }, expect: { status: 200 } }
"#;
    let (mutation, survivors, text) = mutation(&format!("{SERVICE}{}", tests.trim_start()));
    assert_eq!(
        survivors,
        [
            "restrict_ip removed",
            "set_headers removed",
            "include removed",
            "small inverted",
            "small removed",
            "if inverted"
        ]
    );
    // Without `if` or a `respond` there is a way without an answer, which does not load.
    assert_eq!(mutation.tried, 9);
    for part in [
        "warning[test.survivor]: without `small` every test still passes",
        "help: add a case that it denies",
        "with the condition of `if` turned round",
        "mutation: 9 changes, 3 noticed, 6 not",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn good_tests_leave_no_survivor() {
    let tests = r#"
tests:
  - { name: a, request: { path: "/one?a=1", client: { ip: 10.0.0.1 } }, expect: { status: 200, text: "yes", steps: { passed: set_headers } } }
  - { name: b, request: { path: /one, client: { ip: 10.0.0.1 } }, expect: { status: 200, text: "no" } }
  - { name: c, request: { client: { ip: 192.0.2.1 } }, expect: { status: 403 } }
  - { name: d, request: { method: POST, size: 2KiB, client: { ip: 10.0.0.1 } }, expect: { status: 413 } }
  - { name: e, request: { method: PUT, size: 2KiB, client: { ip: 10.0.0.1 } }, expect: { status: 200 } }
"#;
    let (mutation, survivors, _) = mutation(&format!("{SERVICE}{}", tests.trim_start()));
    assert_eq!((mutation.tried, survivors), (9, Vec::<String>::new()));
}

#[test]
fn a_service_without_tests_notices_nothing() {
    let (_, survivors, text) =
        mutation("service: one\nmatch: { path: /one }\npolicy:\n  - set: { a: b }\n  - respond: 204\n");
    assert_eq!(survivors, ["set removed", "respond removed"]);
    assert!(text.contains("give it `tests:`"), "{text}");
}

#[test]
fn tails_and_conditions_in_mappings_are_changed_too() {
    let yaml = r#"
service: one
match: { path: /one }
policy:
  - if: { condition: "request.query.a == '1'" }
    then: [{ raise: { status: 418, code: tea.pot } }]
  - respond: 204
on_fault:
  - set_headers: { x-sorry: "yes" }
finally:
  - audit: { fields: { n: "${request.query.a ?? 'none'}" } }
tests:
  - { name: a, request: { path: "/one?a=1" }, expect: { status: 418, headers: { x-sorry: "yes" }, audit: { fields: { n: "1" } } } }
  - { name: b, request: { path: /one }, expect: { status: 204 } }
"#;
    assert_eq!(mutation(yaml).1, Vec::<String>::new());
    assert_eq!(mutation(&yaml.replace(", audit: { fields: { n: \"1\" } }", "")).1, ["audit removed"]);
}

#[test]
fn steps_of_an_operators_assertion_are_changed_where_they_are_used() {
    let yaml = r#"
assertion: inside_only
policy:
  - restrict_ip: [10.0.0.0/8]
  - restrict_ip: { deny: [10.9.0.0/16] }
---
service: one
match: { path: /one }
policy:
  - inside_only
  - respond: 204
tests:
  - { name: a, request: { client: { ip: 10.0.0.1 } }, expect: { status: 204 } }
"#;
    assert_eq!(mutation(yaml).1, ["restrict_ip removed", "restrict_ip removed", "inside_only removed"]);
    let denied = "  - { name: b, request: { client: { ip: 192.0.2.1 } }, expect: { status: 403 } }\n";
    assert_eq!(mutation(&format!("{yaml}{denied}")).1, ["restrict_ip removed"]);
}

#[test]
fn an_assertion_that_is_tested_by_itself_is_changed_by_itself() {
    let yaml = r#"
assertion: inside_only
policy:
  - restrict_ip: [10.0.0.0/8]
  - when: request.method == "PUT"
    raise: { status: 405, code: inside_only.method }
tests:
  - { name: a, request: { client: { ip: 10.0.0.1 } }, expect: { verdict: passed } }
"#;
    assert_eq!(mutation(yaml).1, ["restrict_ip removed", "raise removed"]);
    let more = "  - { name: b, request: { client: { ip: 192.0.2.1 } }, expect: { verdict: denied } }\n  \
                - { name: c, request: { method: PUT, client: { ip: 10.0.0.1 } }, expect: { status: 405 } }\n";
    let (mutation, survivors, _) = mutation(&format!("{yaml}{more}"));
    assert_eq!((mutation.tried, survivors), (3, Vec::<String>::new()));
}

const COMPOSITES: &str = r#"
service: one
match: { path: /one }
policy:
  - name: each
    for_each: { in: "split(request.query.l ?? '', ',')", limit: 9 }
    do:
      - name: short
        compare: { condition: "len(item) < 3", status: 422, code: one.long }
  - name: trial
    restrict_ip: [10.0.0.0/8]
    shadow: true
  - name: way
    switch: request.query.a ?? 'x'
    cases: { x: [{ set: { v: one } }], y: [{ set: { v: two } }] }
    default: [{ set: { v: three } }]
  - name: attempt
    try: [{ name: sent, route: http://127.0.0.1:9000 }]
    catch: [{ name: instead, respond: { status: 200, text: instead } }]
  - respond: { text: "${v}" }
tests:
  given: { upstream: [{ answer: { status: 200 } }] }
  cases:
    - { name: x, request: { path: "/one?a=x", client: { ip: 10.0.0.1 } }, expect: { status: 200, text: one } }
"#;

#[test]
fn composites_are_changed_from_inside() {
    assert_eq!(
        mutation(COMPOSITES).1,
        [
            "each removed",
            "short removed",
            "trial removed",
            "trial unshadowed",
            "way uncased",
            "set removed",
            "set removed",
            "attempt removed",
            "sent removed",
            "instead removed",
        ]
    );
    let more = r#"    - { name: y, request: { path: "/one?a=y", client: { ip: 10.0.0.1 } }, expect: { status: 200, text: two, steps: { passed: trial } } }
    - { name: z, request: { path: "/one?a=z" }, expect: { status: 200, text: three, steps: { would_deny: trial } } }
    - { name: long, request: { path: "/one?l=a,abc" }, given: { upstream: [] }, expect: { status: 422 } }
    - { name: down, request: { path: "/one" }, given: { upstream: [{ answer: { fail: refused } }] }, expect: { status: 200, text: instead } }
"#;
    assert_eq!(mutation(&format!("{COMPOSITES}{more}")).1, [""; 0]);
}

#[test]
fn children_of_parallel_are_removed_one_by_one() {
    let service = r#"
service: one
match: { path: /one }
policy:
  - parallel:
      - restrict_ip: [10.0.0.0/8]
      - { name: noted, set: { b: c } }
      - { name: used, when: request.query.a == "1", set: { a: b } }
  - respond: { text: "${a ?? 'none'}" }
tests:
  - { name: a, request: { path: "/one?a=1", client: { ip: 10.0.0.1 } }, expect: { status: 200, text: b } }
  - { name: b, request: { client: { ip: 192.0.2.1 } }, expect: { status: 403 } }
"#;
    let (mutation, survivors, _) = mutation(service);
    assert_eq!((mutation.tried, survivors), (6, vec!["noted removed".to_owned()]));
}
