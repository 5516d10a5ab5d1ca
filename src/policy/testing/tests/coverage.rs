//! Coverage counts outcomes by their place, and traces show what steps did.

use super::{environment, loaded, run};
use crate::engine::value::Text;
use crate::policy::build::compile;
use crate::policy::testing::{Coverage, Options, Report, render};
use crate::source::Diagnostics;

const PARTS: &str = r#"
fragment: shared
policy:
  - restrict_ip: { allow: [10.0.0.0/8] }
---
service: one
match: { path: "/one" }
policy:
  - include: shared
  - if: request.query.a == "1"
    then: [{ name: yes, respond: { text: yes } }]
    else: [{ when: request.query.b == "2", raise: { status: 418, code: tea.pot } }, { respond: { text: no } }]
---
service: two
match: { path: "/two" }
policy:
  - include: shared
  - respond: 204
---
tests: two
cases:
  - { name: ok, request: { client: { ip: 10.0.0.1 } }, expect: { status: 204 } }
"#;

fn coverage(yaml: &str, services: Option<&[Text]>) -> (Coverage, Vec<String>, String) {
    let (parsed, cases) = loaded(yaml);
    let report: Report = run(&parsed, &environment(), &cases, &Options::default()).unwrap();
    assert!(report.is_good(), "{}", render(&report, &parsed.sources, false));
    let snapshot = compile(&parsed, &environment(), None, None, &mut Diagnostics::new()).unwrap();
    let coverage = Coverage::of(&snapshot, services, &report.touched, &parsed.sources);
    let untested = coverage.files.iter().flat_map(|file| &file.untested).map(|one| one.message.clone()).collect();
    let text = coverage.render(&parsed.sources, false);
    (coverage, untested, text)
}

#[test]
fn outcomes_that_no_case_brings_about_are_named() {
    let (coverage, untested, text) = coverage(PARTS, None);
    assert_eq!(
        untested,
        [
            "no case is denied by `restrict_ip`",
            "no case gets past `yes`",
            "no case enters `then` of `if`",
            "no case gets past `raise`",
            "no case enters `else` of `if`",
            "no case gets past `respond`",
        ]
    );
    assert_eq!(coverage.counts(), (2, 8));
    assert_eq!(coverage.percent(), 25);
    for part in [" 25 %  test.yaml  2/8", "warning[test.untested]", "coverage 25 % (2 of 8 outcomes)", "^^^^^^^^^^^"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn only_the_services_that_are_asked_for_count() {
    let (coverage, untested, _) = coverage(PARTS, Some(&["two".into()]));
    assert_eq!((coverage.counts(), untested.len()), ((2, 3), 1));
}

#[test]
fn everything_can_be_covered() {
    let more = r#"
  - { name: denied, request: { client: { ip: 192.0.2.1 } }, expect: { status: 403 } }
---
tests: one
given: {}
cases:
  - { name: a, request: { path: "/one?a=1", client: { ip: 10.0.0.1 } }, expect: { status: 200, text: "yes" } }
  - { name: b, request: { path: "/one?b=2", client: { ip: 10.0.0.1 } }, expect: { status: 418 } }
  - { name: c, request: { path: "/one", client: { ip: 10.0.0.1 } }, expect: { status: 200 } }
"#;
    let (coverage, untested, _) = coverage(&format!("{}{}", PARTS.trim_end(), more), None);
    assert_eq!((coverage.percent(), untested), (100, Vec::<String>::new()));
}

#[test]
fn a_trace_shows_the_time_and_what_steps_changed() {
    let yaml = r#"
users: people
entries: {}
---
service: one
match: { path: /one }
policy:
  - authenticate_basic: people
  - set: { tenant: "t-${auth.subject}", proof: "${request.headers.authorization ?? ''}" }
  - route: http://127.0.0.1:9000
tests:
  - name: wrong
    given: { users: { people: { ann: hunter22 } }, upstream: [{ answer: { delay: 20ms } }] }
    request: { basic: { ann: hunter22 } }
    expect: { status: 201, variables: { proof: other } }
"#;
    let (parsed, cases) = loaded(yaml);
    let report = run(&parsed, &environment(), &cases, &Options::default()).unwrap();
    let text = render(&report, &parsed.sources, false);
    for part in ["auth.subject = \"ann\"", "tenant = \"t-ann\"", "proof = #", " 0 ms  1  ", "20 ms  3  route"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("Basic ") && !text.contains("hunter22"), "{text}");
    let json = crate::policy::testing::to_json(&report, &parsed.sources);
    let steps = &json["failures"][0]["steps"];
    assert_eq!((&steps[1]["changed"]["tenant"], steps[2]["at_ms"].as_f64()), (&"\"t-ann\"".into(), Some(20.0)));
}

#[test]
fn a_service_whose_access_is_never_shown_to_deny_is_warned_of() {
    let warned = |expect: &str| {
        let yaml = format!(
            "users: people\nentries: {{}}\n---\nservice: one\nmatch: {{ path: /one }}\npolicy:\n  \
             - {{ name: who, authenticate_basic: people }}\n  - respond: 204\ntests:\n  \
             - {{ name: n, given: {{ users: {{ people: {{ ann: pw }} }} }}, request: {{}}, expect: {expect} }}\n"
        );
        let (parsed, cases) = loaded(&yaml);
        let mut diags = Diagnostics::new();
        let snapshot = compile(&parsed, &environment(), Some(cases[0].given()), None, &mut diags);
        let snapshot = snapshot.unwrap_or_else(|| panic!("{}", crate::source::render(&parsed.sources, &diags, false)));
        crate::policy::testing::check_access(&snapshot, &cases, &mut diags);
        diags.iter().map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(warned("{ status: 204 }"), ["policy.access_untested"]);
    assert_eq!(warned("{ status: 404, fault: limit_rate.exceeded }"), ["policy.access_untested"]);
    for shown in
        ["{ status: 401 }", "{ fault: authenticate_basic.missing }", "{ upstream: none, steps: { denied: who } }"]
    {
        assert_eq!(warned(shown), Vec::<&str>::new(), "{shown}");
    }
}

#[test]
fn an_assertion_that_is_tested_by_itself_is_covered_by_itself() {
    let yaml = r#"
assertion: inside_only
policy:
  - restrict_ip: [10.0.0.0/8]
tests:
  - { name: a, request: { client: { ip: 10.0.0.1 } }, expect: { verdict: passed } }
"#;
    let (coverage, untested, _) = coverage(yaml, None);
    assert_eq!((coverage.counts(), untested), ((1, 2), vec!["no case is denied by `restrict_ip`".to_owned()]));
}

#[test]
fn a_block_counts_by_its_composite_and_not_by_the_fragment_in_it() {
    let yaml = r#"
fragment: shared
policy:
  - respond: 204
---
service: one
match: { path: /one }
policy:
  - if: request.query.a == "1"
    then: [{ include: shared }]
    else: [{ include: shared }]
tests:
  - { name: a, request: { path: "/one?a=1" }, expect: { status: 204 } }
"#;
    assert_eq!(coverage(yaml, None).1, ["no case enters `else` of `if`"]);
}

#[test]
fn a_switch_without_a_default_has_to_deny_once() {
    let yaml = r#"
service: one
match: { path: /one }
policy:
  - switch: request.query.a ?? ''
    cases: { x: [{ respond: 204 }], y: [{ respond: 205 }] }
tests:
  - { name: x, request: { path: "/one?a=x" }, expect: { status: 204 } }
  - { name: y, request: { path: "/one?a=y" }, expect: { status: 205 } }
"#;
    assert_eq!(coverage(yaml, None).1, ["no case is denied by `switch`"]);
    let more = "  - { name: z, request: { path: /one }, expect: { status: 400 } }\n";
    assert_eq!(coverage(&format!("{yaml}{more}"), None).1, [""; 0]);
}

#[test]
fn a_trace_says_which_step_set_what_in_composites() {
    let yaml = r#"
service: one
match: { path: /one }
policy:
  - set: { word: outside }
  - for_each: { item: line, in: "split('a,b', ',')", limit: 9, collect: { all: "line + '!'" } }
    do:
      - log: "at ${line}"
  - any:
      - all: [{ set: { word: inside } }, { raise: { status: 403, code: trial.no } }]
      - log: second
  - switch: word
    cases: { outside: [{ respond: 204 }] }
tests:
  - { name: wrong, request: {}, expect: { status: 200 } }
"#;
    let (parsed, cases) = loaded(yaml);
    let report = run(&parsed, &environment(), &cases, &Options::default()).unwrap();
    let json = crate::policy::testing::to_json(&report, &parsed.sources);
    let steps = json["failures"][0]["steps"].as_array().unwrap();
    let line = |step: &serde_json::Value| {
        format!("{} {} {}", step["path"].as_str().unwrap(), step["verdict"].as_str().unwrap(), step["changed"])
    };
    let lines: Vec<String> = steps.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            r#"1 passed {"word":"\"outside\""}"#,
            r#"2 round {"line":"\"a\"","line_index":"0"}"#,
            "2.do.1 passed {}",
            r#"2 round {"line":"\"b\"","line_index":"1"}"#,
            "2.do.1 passed {}",
            r#"2 passed {"all":"[\"a!\",\"b!\"]"}"#,
            r#"3.1.1 passed {"word":"\"inside\""}"#,
            "3.1.2 denied trial.no {}",
            "3.2 passed {}",
            "4 entered {}",
            "4.cases.outside.1 ended (respond) {}",
        ]
    );
}

#[test]
fn children_of_parallel_count_one_by_one() {
    let service = r#"
service: one
match: { path: "/one" }
policy:
  - parallel:
      - { name: person, restrict_ip: { allow: [10.0.0.0/8] } }
      - { name: line, limit_concurrency: { max: 9 } }
      - { name: never, when: request.query.a == "1", set: { a: b } }
  - respond: 204
tests:
  - { name: ok, request: { client: { ip: 10.0.0.1 } }, expect: { status: 204, steps: { passed: [person, line, parallel] } } }
"#;
    let (coverage, untested, _) = coverage(service, None);
    assert_eq!(untested, ["no case is denied by `person`", "no case is denied by `line`", "no case gets past `never`"]);
    assert_eq!(coverage.counts(), (3, 6), "`parallel` itself does not count");
}
