//! Several requests at once, and what is expected of lists, paths and numbers.

use super::{environment, fails, loaded, passes, run};
use crate::policy::testing::Options;

const SERVICE: &str = r#"
service: one
match: { path: "/one/{id}" }
policy:
  - limit_rate: { per: all, rate: 3/minute }
  - route: { to: "http://10.0.0.1:9000/${path.id}" }
  - respond: { keep: true, headers: { x-at: "${unix(now())}", x-latency: "${route.latency_ms}" } }
"#;

#[test]
fn exchanges_at_once_share_the_clock_and_have_calls_of_their_own() {
    passes(&format!(
        "{SERVICE}{}",
        r#"tests:
  given: { clock: 2026-03-01T12:00:00Z, upstream: [{ match: { path: /slow }, answer: { delay: 10s } }, { answer: { delay: 5s } }] }
  cases:
    - name: the quick one does not wait for the slow one
      exchanges:
        - { request: { path: /one/slow }, expect: { status: 200, headers: { x-latency: "10000", x-at: "1772366410" }, upstream: [{ path: /slow }] }, capture: { slow: "${response.headers.x_at}" } }
        - { request: { path: /one/quick }, together: true, expect: { status: 200, headers: { x-latency: "5000", x-at: "1772366405" }, upstream: [{ path: /quick }] } }
        - { request: { path: "/one/${captured.slow}" }, expect: { status: 200, headers: { x-at: "1772366415" }, upstream: [{ path: "/1772366410" }] } }
    - name: so many at once
      exchanges:
        - { request: { path: /one/a }, together: 3, expect: { status: 200, headers: { x-latency: "5000" }, upstream: one } }
        - { request: again, expect: { status: 429, upstream: none } }
        - { request: again, after: 1m, together: 2, expect: { status: 200 } }
    - name: one of those at once is refused
      exchanges:
        - { request: { path: /one/a }, together: 3, expect: { status: 200 } }
        - { request: again, together: true, expect: { status: 429 } }
"#
    ));
}

#[test]
fn each_of_those_at_once_is_judged() {
    let found = fails(&format!(
        "{SERVICE}{}",
        r#"tests:
  - { name: a, given: { upstream: [{}] }, exchanges: [{ request: { path: /one/a }, together: 4, expect: { status: 200 } }] }
  - { name: b, given: { upstream: [{}] }, exchanges: [{ request: { path: /one/a }, expect: { status: 200 } }, { request: again, together: true, expect: { status: 204 } }] }
"#
    ));
    assert_eq!(found, [["status"], ["status"]]);
}

#[test]
fn paths_into_json_and_numbers_of_the_process() {
    const ANSWERS: &str = r#"
service: one
match: { path: /one }
policy:
  - if: request.query.no == "1"
    then: [{ raise: { status: 403, code: trial.no } }]
  - if: request.query.no == "2"
    then: [{ count_metric: seen }]
  - count_metric: seen_by_all
  - respond: { json: { ok: true, items: [{ id: 1 }, { id: 2 }], "a,b": 3 } }
tests:
"#;
    passes(&format!(
        "{ANSWERS}{}",
        r#"
  - name: paths
    request: {}
    expect:
      status: 200
      json_path: { "$.ok": true, "$.items[1].id": { above: 1 }, "$.items[*].id": [1, 2], "$.items[?@.id > 1]": [{ id: 2 }], "$['a,b']": 3, "$.none": { absent: true }, "$..none": [] }
  - name: numbers
    exchanges:
      - { request: { path: "/one?no=1" }, repeat: 2, expect: { status: 403 } }
      - request: {}
        expect:
          status: 200
          metrics: { gatewright_faults_total: 2, gatewright_custom_seen: { absent: true }, gatewright_custom_seen_by_all: 1 }
      - { request: again, expect: { status: 200, metrics: { gatewright_faults_total: { value: { above: 1 }, labels: { code: trial.no, service: one } } } } }
      - { request: again, expect: { status: 200, metrics: { gatewright_faults_total: { value: { absent: true }, labels: { code: trial.yes } } } } }
"#
    ));
    let found = fails(&format!(
        "{ANSWERS}{}",
        r#"
  - { name: a, request: {}, expect: { status: 200, json_path: { "$.ok": false, "$.none": 1 } } }
  - { name: b, request: {}, expect: { status: 200, metrics: { gatewright_faults_total: 1 } } }
"#
    ));
    assert_eq!(found[0], ["json_path $.ok", "json_path $.none"]);
    assert_eq!(found[1], ["metrics.gatewright_faults_total"]);
}

#[test]
fn calls_may_come_in_any_order() {
    const CALLS: &str = r#"
service: one
match: { path: /one }
policy:
  - route: http://10.0.0.1/a
  - route: http://10.0.0.1/b
tests:
"#;
    let case = |expected: &str| {
        let given = "given: { upstream: [{}] }, request: {}";
        format!("{CALLS}  - {{ name: n, {given}, expect: {{ upstream_any_order: [{expected}] }} }}\n")
    };
    passes(&case("{ path: /b }, { path: /a }"));
    // The first wish fits both: it has to leave the one that the second needs.
    passes(&case("{ method: GET }, { path: /a }"));
    assert_eq!(fails(&case("{ path: /a }, { path: /a }")), [["upstream_any_order[1]"]]);
    assert_eq!(fails(&case("{ path: /a }")), [["upstream_any_order"]]);
}

#[test]
fn a_body_comes_from_a_file_below_the_folder() {
    let folder = std::env::temp_dir().join(format!("gatewright-body-file-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("in")).unwrap();
    std::fs::write(folder.join("in/body.json"), "{\"a\":1}").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("in/out")).unwrap();
    let yaml = r#"
service: one
match: { path: /one, methods: [POST] }
policy:
  - respond: { value: "${request.body}", headers: { content-type: text/plain } }
tests:
  - { name: there, request: { body_file: in/body.json }, expect: { status: 200, text: '{"a":1}' } }
  - { name: missing, request: { body_file: in/other.json }, expect: { status: 200 } }
  - { name: outside, request: { body_file: in/out }, expect: { status: 200 } }
"#;
    let (parsed, cases) = loaded(yaml);
    let mut environment = environment();
    environment.values.base = folder.clone();
    let report = run(&parsed, &environment, &cases, &Options::default()).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!((report.passed, report.failed.len()), (1, 2));
    let got = |at: usize| &report.failed[at].mismatches[0].got;
    assert!(got(0).contains("No such file") && got(1).contains("leads out of"), "{report:?}");
}
