//! Tests of operators' assertions: inputs go in, outputs and a verdict come out.

use super::{codes, fails, passes};

const OWN: &str = r#"
assertion: plan_of
inputs:
  tenant: { type: string, required: true, absent: allowed }
  mode: { type: string, one_of: [strict, loose], default: strict }
outputs: { plan: string, rest: string? }
policy:
  - when: "!exists(input.tenant)"
    raise: { status: 403, code: plan_of.missing }
  - if: input.mode == 'loose'
    then:
      - set: { plan: any, rest: "${request.query.rest ?? 'none'}" }
      - stop
  - if: (input.tenant ?? '') in list('tenants')
    then: [set: { plan: known }]
    else: [raise: { status: 403, code: plan_of.unknown }]
"#;

fn with(cases: &str) -> String {
    format!(
        "list: tenants\nentries: []\n---{OWN}tests:\n  given: {{ lists: {{ tenants: [acme] }} }}\n  cases:\n{cases}"
    )
}

#[test]
fn inputs_go_in_and_outputs_and_a_verdict_come_out() {
    passes(&with(
        r#"
    - { name: known, inputs: { tenant: acme }, expect: { verdict: passed, outputs: { plan: known, rest: { absent: true } } } }
    - { name: unknown, inputs: { tenant: other }, expect: { fault: plan_of.unknown, verdict: denied, status: 403 } }
    - { name: missing, inputs: { tenant: null }, expect: { fault: plan_of.missing, steps: { not_run: [stop], denied: raise } } }
    - { name: loose, inputs: { tenant: x, mode: loose }, request: { path: "/a?rest=r" }, expect: { outputs: { plan: any, rest: r }, steps: { passed: [stop, plan_of] } } }
    - { name: of the request, inputs: { tenant: "${request.headers.x_tenant}" }, request: { headers: { x-tenant: acme } }, expect: { outputs: { plan: known } } }
    - name: several
      inputs: { tenant: acme, mode: loose }
      exchanges:
        - { request: { path: / }, expect: { outputs: { rest: none } } }
        - { request: { path: "/?rest=b" }, expect: { outputs: { rest: b } } }
"#,
    ));
}

#[test]
fn what_is_expected_falsely_is_noticed() {
    let seen = fails(&with(
        r#"
    - { name: plan, inputs: { tenant: acme }, expect: { outputs: { plan: other } } }
    - { name: verdict, inputs: { tenant: acme }, expect: { verdict: denied } }
    - { name: nothing came, inputs: { tenant: other }, expect: { outputs: { plan: known } } }
    - { name: wrong type, inputs: { tenant: [a] }, expect: { verdict: passed } }
"#,
    ));
    assert_eq!(seen, [vec!["outputs.plan"], vec!["verdict"], vec!["outputs.plan"], vec![""]]);
}

#[test]
fn an_assertion_that_reads_the_response_is_tested_behind_a_route() {
    passes(
        r#"
assertion: count_lines
outputs: { lines: int }
policy: [set: { lines: "${len(response.text)}" }]
---
tests: count_lines
given: { upstream: [{ answer: { status: 200, text: abc } }] }
cases:
  - { name: three, request: {}, expect: { outputs: { lines: 3 }, status: 200, upstream: one } }
"#,
    );
    passes(
        r#"
assertion: greet
policy: [respond: { status: 202, text: hello }]
tests: [{ name: answers, expect: { verdict: ended, status: 202, text: hello } }]
"#,
    );
}

#[test]
fn inputs_and_outputs_are_checked_when_the_tests_load() {
    let case = |case: &str| codes(&with(&format!("    - {{ name: a, {case} }}")));
    assert_eq!(case("inputs: { tenat: a }, expect: { verdict: passed }"), ["policy.unknown_key"]);
    assert_eq!(case("inputs: { tenant: a }, expect: { outputs: { plans: a } }"), ["policy.unknown_name"]);
    assert_eq!(case("inputs: { tenant: a }, expect: { variables: { a: b } }"), ["test.expects_nothing"]);
    let service = |case: &str| {
        codes(&format!("service: one\nmatch: {{ path: /one }}\npolicy: [respond: 204]\ntests: [{{ name: a, {case} }}]"))
    };
    assert_eq!(service("inputs: { a: b }, request: {}, expect: { status: 204 }"), ["policy.unknown_key"]);
    assert_eq!(service("request: {}, expect: { status: 204, outputs: { a: b } }"), ["policy.unknown_key"]);
}

#[test]
fn the_page_about_assertions_shows_what_loads_and_passes() {
    let page = include_str!("../../../../docs/assertions.md");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    passes(example);
}
