//! Tests of the runner: what must pass passes, and whatever is expected falsely is noticed.

mod assertions;
mod coverage;
mod expectations;
mod loading;
mod mutation;
mod sequences;
mod state;
mod upstreams;

use super::*;
use crate::policy::build::parse_files;
use crate::policy::files::Files;
use crate::source;

fn environment() -> Environment {
    Environment { listeners: vec!["main".into()], ..Environment::default() }
}

/// Parses documents and collects their cases, which must load.
fn loaded(yaml: &str) -> (Parsed, Vec<Case>) {
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("test.yaml", yaml), &mut diags);
    let cases = collect(&parsed, &mut diags);
    assert!(diags.is_empty(), "{}", source::render(&parsed.sources, &diags, false));
    (parsed, cases)
}

fn report(yaml: &str) -> (Report, String) {
    let (parsed, cases) = loaded(yaml);
    let report = run(&parsed, &environment(), &cases, &Options::default()).unwrap();
    let text = render(&report, &parsed.sources, false);
    (report, text)
}

/// All cases pass.
fn passes(yaml: &str) {
    let (report, text) = report(yaml);
    assert!(report.is_good() && report.passed > 0, "{text}");
}

/// Every case fails; what the mismatches of each speak of.
fn fails(yaml: &str) -> Vec<Vec<String>> {
    let (report, text) = report(yaml);
    assert_eq!(report.passed, 0, "{text}");
    let at = |failure: &Failure| failure.mismatches.iter().map(|miss| miss.at.clone()).collect();
    report.failed.iter().map(at).collect()
}

/// Codes of what is wrong with the tests of some documents.
fn codes(yaml: &str) -> Vec<&'static str> {
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("test.yaml", yaml), &mut diags);
    collect(&parsed, &mut diags);
    diags.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn only_wanted_cases_run_and_none_begins_after_the_time() {
    let (parsed, cases) = loaded(
        r#"
service: one
match: { path: /one }
policy: [{ respond: { status: 204 } }]
tests:
  - { name: first, request: {}, expect: { status: 204 } }
  - { name: second, request: {}, expect: { status: 204 } }
"#,
    );
    let ran = |options: Options| run(&parsed, &environment(), &cases, &options).unwrap();
    let filtered = ran(Options { filter: Some("one: sec".into()), ..Options::default() });
    assert_eq!((filtered.passed, filtered.skipped), (1, 0));
    let of = |name: &str| Options { services: Some([name.into()].into()), ..Options::default() };
    assert_eq!((ran(of("one")).passed, ran(of("other")).passed), (2, 0));
    let stop = Arc::new(AtomicBool::new(true));
    let stopped = ran(Options { stop: Some(stop), ..Options::default() });
    assert_eq!((stopped.passed, stopped.skipped, stopped.is_good()), (0, 2, false));
    let late = ran(Options { budget: Some(Duration::ZERO), ..Options::default() });
    assert!(late.out_of_time());
}

#[test]
fn a_report_names_the_place_and_both_values() {
    let yaml = r#"service: one
match: { path: "/one/{id}" }
policy:
  - if: path.id == "7"
    then: [{ name: seven, respond: { json: { a: { b: [1, 2] } } } }]
    else: [{ respond: { status: 404 } }]
tests:
  - name: wrong
    request: { path: /one/7 }
    expect: { status: 200, json: { a: { b: [1, 3] }, c: { absent: true } } }
"#;
    let (parsed, cases) = loaded(yaml);
    let report = run(&parsed, &environment(), &cases, &Options::default()).unwrap();
    let text = render(&report, &parsed.sources, false);
    for part in [
        "FAILED  one  0/1",
        "FAILED one: wrong",
        "answer: 200 by one, ended by respond",
        "test.yaml:10:48: json.a.b[1]",
        "expected  3",
        "got       2",
        "1.then.1  seven (respond)  ended (respond)",
        "test.yaml:5",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let json = to_json(&report, &parsed.sources);
    assert_eq!(json["failures"][0]["mismatches"][0]["place"]["column"], 48);
    let verdicts = [0, 1].map(|at| json["failures"][0]["steps"][at]["verdict"].as_str().unwrap_or_default());
    assert_eq!(verdicts, ["entered", "ended (respond)"]);
    assert_eq!((&json["passed"], &json["failed"]), (&0.into(), &1.into()));
    assert!(render(&report, &parsed.sources, true).contains("\u{1b}[31m"));
}

#[test]
fn what_was_given_as_a_secret_is_never_shown() {
    let yaml = r#"
api_keys: partners
entries: []
---
users: people
entries: {}
---
service: one
match: { path: /one }
policy:
  - respond: { headers: { x-echo: "${request.headers.authorization ?? ''}" }, text: "${request.headers.x_api_key ?? ''}" }
tests:
  given: { api_keys: { partners: { acme: { value: key-7700 } } }, users: { people: { ann: hunter22 } } }
  cases:
    - name: leaks
      request: { api_key: acme, basic: { ann: hunter22 } }
      expect: { status: 200, text: other, json: { a: hunter22 }, headers: { x-echo: no } }
"#;
    let (report, text) = report(yaml);
    assert_eq!(report.failed[0].mismatches.len(), 3, "{text}");
    assert!(text.contains("[secret]"), "{text}");
    assert!(!text.contains("key-7700") && !text.contains("hunter22"), "{text}");
}
