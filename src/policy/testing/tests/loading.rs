//! What is wrong with the format is said when the tests are read.

use super::{codes, environment, loaded, passes, run};
use crate::policy::testing::Options;

fn case(case: &str) -> Vec<&'static str> {
    codes(&format!(
        r#"
list: names
entries: [a]
---
service: one
match: {{ path: "/one/{{id}}" }}
policy: [{{ respond: {{ status: 204 }} }}]
tests:
  - {{ name: n, {case} }}
"#
    ))
}

const GOOD: &str = "request: { path: /one/1 }, expect: { status: 204 }";

/// Each case gives exactly this code, or none.
fn check(table: &[(String, &'static str)]) {
    for (written, code) in table {
        let expected: Vec<&str> = if code.is_empty() { Vec::new() } else { vec![code] };
        assert_eq!(case(written), expected, "{written}");
    }
}

#[test]
fn sequences_that_cannot_be_sent_are_load_errors() {
    let good = GOOD;
    check(&[
        (format!("exchanges: [{{ {good}, together: 2 }}]"), ""),
        (format!("exchanges: [{{ {good}, together: 1 }}]"), "test.bad_sequence"),
        (format!("exchanges: [{{ {good}, together: 1000000 }}]"), "test.bad_sequence"),
        (format!("exchanges: [{{ {good}, together: false }}]"), "test.bad_sequence"),
        (format!("exchanges: [{{ {good}, together: true }}]"), "test.bad_sequence"),
        (format!("exchanges: [{{ {good}, repeat: 0 }}]"), "test.bad_sequence"),
        (format!("exchanges: [{{ {good}, repeat: 1000000 }}]"), "policy.bad_value"),
        (format!("exchanges: [{{ {good}, repeat: 1000, together: 1000 }}]"), "policy.bad_value"),
        (format!("exchanges: [{{ {good} }}, {{ {good}, together: true, after: 1s }}]"), "test.bad_sequence"),
        (
            format!("exchanges: [{{ {good}, together: 2, capture: {{ a: '${{response.text}}' }} }}]"),
            "test.bad_sequence",
        ),
        (format!("exchanges: [{{ {good}, capture: {{ a: '${{captured.a}}' }} }}]"), "expr.unknown_variable"),
        (
            format!(
                "exchanges: [{{ {good}, capture: {{ a: '${{response.status}}' }} }}, \
                 {{ request: {{ path: '/one/${{captured.a}}' }}, expect: {{ status: 204 }}, together: true }}]"
            ),
            "expr.unknown_variable",
        ),
    ]);
}

#[test]
fn two_mistakes_are_both_reported() {
    let yaml = "service: one\nmatch: { path: /one }\npolicy: [{ respond: 204 }]\ntests:\n  \
                - { name: a, request: { pth: /one }, expect: { status: 204 } }\n  \
                - { name: b, request: {}, expect: { status: 204, text: { matches: '(' } } }\n";
    assert_eq!(codes(yaml), ["policy.unknown_key", "test.bad_matcher"]);
}

#[test]
fn mistakes_are_load_errors() {
    let good = GOOD;
    let table = [
        (good.to_owned(), ""),
        ("request: { path: /one/1 }".into(), "test.expects_nothing"),
        ("request: { path: /one/1 }, expect: { headers: { a: b } }".into(), "test.expects_nothing"),
        ("expect: { status: 204 }".into(), "test.no_request"),
        ("request: {}, expect: { status: 204 }".into(), "test.no_path"),
        ("request: { path: /one/1, pth: x }, expect: { status: 204 }".into(), "policy.unknown_key"),
        ("request: { path: /one/1, json: 1, text: x }, expect: { status: 204 }".into(), "policy.bad_value"),
        ("request: { path: /one/1, basic: { a: b, c: d } }, expect: { status: 204 }".into(), "policy.bad_value"),
        ("request: { path: /one/1, api_key: acme }, expect: { status: 204 }".into(), "policy.unknown_name"),
        ("request: { path: /one/1, client: { ip: x } }, expect: { status: 204 }".into(), "policy.bad_value"),
        ("request: { path: /one/1, client: { tls: true } }, expect: { status: 204 }".into(), ""),
        (
            "request: { path: /one/1, client: { certificate: { subject: app } } }, expect: { status: 204 }".into(),
            "policy.bad_value",
        ),
        ("request: { path: /one/1, headers: { 'a b': c } }, expect: { status: 204 }".into(), "policy.bad_value"),
        ("request: { path: '/one/${x}' }, expect: { status: 204 }".into(), "expr.unknown_variable"),
        ("request: { path: '/one/${captured.x}' }, expect: { status: 204 }".into(), "expr.unknown_variable"),
        ("request: { path: '/one/${response.text}' }, expect: { status: 204 }".into(), "expr.unknown_variable"),
        ("request: { path: \"/one/${secret('a')}\" }, expect: { status: 204 }".into(), "expr.unknown_variable"),
        ("request: { path: '/one/${' }, expect: { status: 204 }".into(), "expr.unclosed"),
        ("request: { path: /one/1 }, expect: { status: 204, x: 1 }".into(), "policy.unknown_key"),
        ("request: { path: /one/1 }, expect: { status: 204, json_path: { items: 1 } }".into(), "test.bad_path"),
        ("request: { path: /one/1 }, expect: { status: 204, json_path: { '$.a[': 1 } }".into(), "test.bad_path"),
        (
            "request: { path: /one/1 }, expect: { status: 204, metrics: { a: { value: 1, label: {} } } }".into(),
            "policy.unknown_key",
        ),
        ("request: { path: /one/1 }, expect: { upstream: none, upstream_any_order: [] }".into(), "policy.bad_value"),
        ("request: { path: /one/1, body_file: ../x }, expect: { status: 204 }".into(), "policy.bad_value"),
        ("request: { path: /one/1, body_file: /etc/passwd }, expect: { status: 204 }".into(), "policy.bad_value"),
        ("request: { path: /one/1 }, expect: { status: }".into(), "policy.wrong_type"),
        ("request: { path: /one/1 }, expect: { status: 204, upstream: two }".into(), "policy.bad_value"),
        ("request: { path: /one/1 }, expect: { status: 204, text: { matches: '(' } }".into(), "test.bad_matcher"),
        ("request: { path: /one/1 }, expect: { status: 204, text: { typ: x } }".into(), "test.bad_matcher"),
        ("request: { path: /one/1 }, expect: { status: 204, text: { type: x } }".into(), "test.bad_matcher"),
        ("exchanges: [{ request: again, expect: { status: 204 } }]".into(), "policy.bad_value"),
        (format!("{good}, given: {{ tokens: {{ t: {{ issuer: nobody }} }} }}"), "policy.unknown_name"),
        (format!("{good}, given: {{ clients: {{}} }}"), "policy.not_supported"),
        (format!("{good}, given: {{ store: ok, counters: ok }}"), ""),
        (format!("{good}, given: {{ store: down }}"), "policy.not_supported"),
        (format!("{good}, given: {{ counters: maybe }}"), "policy.bad_value"),
        (format!("{good}, given: {{ clok: x }}"), "policy.unknown_key"),
        (format!("{good}, given: {{ clock: today }}"), "policy.bad_value"),
        (format!("{good}, given: {{ lists: {{ name: [a] }} }}"), "policy.unknown_name"),
        (format!("{good}, given: {{ secrets: {{ a: b }} }}"), "policy.unknown_name"),
        (format!("{good}, given: {{ upstream: [{{ match: {{ upstream: x }} }}] }}"), "policy.unknown_name"),
        (format!("{good}, given: {{ upstream: [{{ answer: {{ status: 99 }} }}] }}"), "policy.bad_value"),
        (format!("{good}, given: {{ upstream: [{{ answer: {{ fail: tls }} }}] }}"), "policy.not_supported"),
        (format!("{good}, given: {{ upstream: [{{ answer: {{ json: 1, text: x }} }}] }}"), "policy.bad_value"),
    ];
    check(&table);
    assert_eq!(codes("tests: nobody\ncases: []\n"), ["policy.unknown_name"]);
}

#[test]
fn a_shared_given_is_merged_key_by_key() {
    let yaml = r#"
list: names
entries: []
---
list: others
entries: []
---
service: one
match: { path: "/${env.PLACE}" }
policy:
  - if: contains(list('names'), request.query.name ?? '') || contains(list('others'), request.query.name ?? '')
    then: [{ respond: { status: 200 } }]
    else: [{ respond: { status: 404 } }]
---
tests: one
given: { env: { PLACE: here }, lists: { names: [ann], others: [bob] } }
cases:
  - { name: shared, request: { path: "/here?name=ann" }, expect: { status: 200 } }
  - { name: own list, given: { lists: { names: [eve] } }, request: { path: "/here?name=ann" }, expect: { status: 404 } }
  - { name: the other list stays, given: { lists: { names: [eve] } }, request: { path: "/here?name=bob" }, expect: { status: 200 } }
  - { name: own environment, given: { env: { PLACE: there } }, request: {}, expect: { status: 404, service: one, fault: none } }
"#;
    passes(yaml);
}

#[test]
fn files_that_do_not_load_with_a_given_fail_the_case() {
    let (parsed, cases) = loaded(
        r#"
service: one
match: { path: "${env.PLACE}" }
policy: [{ respond: { status: 204 } }]
tests:
  - { name: without, request: {}, expect: { status: 204 } }
  - { name: with, given: { env: { PLACE: /one } }, request: {}, expect: { status: 204 } }
"#,
    );
    let report = run(&parsed, &environment(), &cases, &Options::default()).unwrap();
    assert_eq!((report.passed, report.failed.len()), (1, 1));
    assert!(report.failed[0].mismatches[0].got.contains("policy.env_missing"), "{report:?}");
}

#[test]
fn expectations_that_cannot_fail_or_be_met_do_not_load() {
    let expecting = |expect: &str| format!("request: {{ path: /one/1 }}, expect: {{ status: 204, {expect} }}");
    let status = |status: &str| format!("request: {{ path: /one/1 }}, expect: {{ status: {status} }}");
    let refused = [
        status("{ present: true }"),
        status("{ absent: true }"),
        status("{ not: { one_of: [] } }"),
        status("{ not: { absent: true } }"),
        status("{ one_of: [] }"),
        status("{ one_of: [204, { type: int }] }"),
        status("{ above: 99 }"),
        status("{ above: 599 }"),
        status("{ below: 100 }"),
        status("{ below: 600 }"),
        status("{ not: { contains: 2 } }"),
        expecting("service: { present: true }"),
        expecting("fault: { present: true }"),
        expecting("ended_by: { type: string }"),
        expecting("verdict: { not: { above: 1 } }"),
        expecting("body_sha256: { present: true }"),
        expecting("json: { not: { one_of: [] } }"),
        expecting("headers: { x-a: { one_of: [] } }"),
        expecting("variables: { a.b: { one_of: [] } }"),
        expecting("upstream: [{ method: { present: true } }]"),
    ];
    let refused = refused.into_iter().map(|case| (case, "test.bad_matcher"));
    let loads = [status("{ above: 100 }"), status("{ below: 599 }"), status("{ not: { one_of: [200] } }")];
    let table: Vec<(String, &str)> = refused.chain(loads.into_iter().map(|case| (case, ""))).collect();
    check(&table);
}

#[test]
fn numbers_that_nothing_counts_do_not_load() {
    let with = |steps: &str, name: &str| {
        format!(
            "service: one\nmatch: {{ path: /one }}\npolicy: [{steps}{{ respond: 204 }}]\ntests:\n  \
             - {{ name: a, request: {{}}, expect: {{ status: 204, metrics: {{ gatewright_{name}: {{ absent: true }} }} }} }}\n"
        )
    };
    for (steps, name, code) in [
        ("", "typo_total", Some("policy.unknown_name")),
        ("", "fault_total", Some("policy.unknown_name")),
        ("", "request_duration_seconds", Some("policy.unknown_name")),
        ("", "request_duration_seconds_sum", None),
        ("", "faults_total", None),
        ("{ count_metric: seen }, ", "custom_sen", Some("policy.unknown_name")),
        ("{ count_metric: seen }, ", "custom_seen", None),
        ("{ if: request.path == '/x', then: [{ count_metric: { name: seen } }] }, ", "custom_seen_count", None),
        ("{ count_metric: { name: '${env.GATEWRIGHT_NONE}' } }, ", "custom_x", None),
    ] {
        let found = codes(&with(steps, name));
        let unknown: Vec<&str> = found.into_iter().filter(|code| *code == "policy.unknown_name").collect();
        assert_eq!(unknown, code.into_iter().collect::<Vec<_>>(), "{steps}{name}");
    }
    // What a service that cannot be read counts is not known, what the program counts is.
    let broken = "---\nservice: two\nmatch: { path: /two }\npolicy: 7\nlisteners: { a: b }\n";
    let found = codes(&format!("{}{broken}", with("", "custom_x")));
    assert!(!found.is_empty() && !found.contains(&"policy.unknown_name"), "{found:?}");
    assert!(codes(&format!("{}{broken}", with("", "typo_total"))).contains(&"policy.unknown_name"));
}
