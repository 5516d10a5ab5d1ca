//! Stand-ins for upstreams.

use super::{fails, passes};

const SERVICES: &str = r#"
upstream: orders
targets: ["http://10.0.0.1:9000", "http://10.0.0.2:9000"]
timeouts: { total: 10s }
---
service: orders
match: { path: "/orders/{id}" }
policy:
  - route: { upstream: orders, retry: { attempts: 3 }, timeouts: { first_byte: 2s } }
  - respond: { keep: true, headers: { x-latency: "${route.latency_ms}", x-attempts: "${route.attempts}", x-target: "${route.target}" } }
"#;

#[test]
fn a_stand_in_takes_what_it_matches_and_answers() {
    passes(&format!(
        "{SERVICES}{}",
        r#"
tests:
  given:
    upstream:
      - { match: { method: POST, json: { n: 1 } }, answer: { status: 201, text: by json } }
      - { match: { headers: { x-a: { present: true } } }, answer: { text: by field } }
      - { match: { path: /orders/8 }, answer: { text: by path } }
      - { match: { path: "/orders/9?a=b" }, answer: { text: by query } }
      - { match: { host: "10.0.0.1:9000", upstream: orders, text: hello }, answer: { text: by host } }
      - { answer: { headers: { x-b: [one, two], connection: x-gone, x-gone: z }, json: { all: "${1 + 1}" }, delay: 20ms } }
  cases:
    - { name: json, request: { method: POST, path: /orders/1, json: { n: 1 } }, expect: { status: 201, text: by json } }
    - { name: field, request: { path: /orders/1, headers: { x-a: b } }, expect: { status: 200, text: by field } }
    - { name: path, request: { path: "/orders/8?x=y" }, expect: { status: 200, text: by path, upstream: [{ path: "/orders/8?x=y" }] } }
    - { name: query, request: { path: "/orders/9?a=b" }, expect: { status: 200, text: by query } }
    - { name: host, request: { path: /orders/1, text: hello }, expect: { status: 200, text: by host } }
    - name: all else
      request: { path: /orders/1, method: PUT, text: other }
      expect:
        status: 200
        json: { all: 2 }
        headers: { x-b: [one, two], x-gone: { absent: true }, x-latency: "20" }
        upstream: [{ method: PUT, text: other, host: "10.0.0.1:9000", headers: { content-length: "5", x-a: { absent: true } } }]
    - { name: a head has no body, request: { method: HEAD, path: /orders/8 }, expect: { status: 200, text: "" } }
    - name: the case's own takes its place
      given: { upstream: [{ answer: { status: 204 } }] }
      request: { path: /orders/8 }
      expect: { status: 204, upstream: one }
"#
    ));
}

#[test]
fn failures_retries_and_times_follow_the_frozen_clock() {
    passes(&format!(
        "{SERVICES}{}",
        r#"
tests:
  - name: the second attempt gets through
    given: { upstream: [{ answer: { status: 503 }, times: 1 }, { answer: { fail: refused }, times: 1 }, { answer: { text: ok } }] }
    request: { path: /orders/1 }
    expect: { status: 200, headers: { x-attempts: "3", x-target: "http://10.0.0.1:9000", x-latency: "150" }, upstream: [{}, { host: "10.0.0.2:9000" }, {}] }
  - name: a POST is not sent twice
    given: { upstream: [{ answer: { status: 503 }, times: 1 }] }
    request: { path: /orders/1, method: POST, text: x }
    expect: { status: 503, upstream: one }
  - name: but it is where nothing was sent
    given: { upstream: [{ answer: { fail: refused }, times: 3 }] }
    request: { path: /orders/1, method: POST, text: x }
    expect: { status: 502, fault: route.connect }
  - name: reset
    given: { upstream: [{ answer: { fail: reset }, times: 3 }] }
    request: { path: /orders/1 }
    expect: { status: 502, fault: route.bad_answer }
  - name: malformed
    given: { upstream: [{ answer: { fail: malformed }, times: 1 }] }
    request: { path: /orders/1 }
    expect: { status: 502, fault: route.bad_answer, steps: { passed: [], not_run: [respond] } }
  - name: timeout
    given: { upstream: [{ answer: { fail: timeout } }] }
    request: { path: /orders/1 }
    expect: { status: 504, fault: route.timeout_first_byte }
  - name: a long delay is a timeout
    given: { upstream: [{ answer: { delay: 2001ms } }] }
    request: { path: /orders/1 }
    expect: { status: 504, fault: route.timeout_first_byte }
  - name: a delay within the limit is none
    given: { upstream: [{ answer: { delay: 2s } }] }
    request: { path: /orders/1 }
    expect: { status: 200, headers: { x-latency: "2000" }, variables: { route.latency_ms: 2000, route.reused: false } }
  - name: nothing is needed
    given: { upstream: [{ times: 0 }] }
    request: { path: /other }
    expect: { status: 404, service: none, upstream: none }
"#
    ));
}

#[test]
fn unexpected_and_unused_are_failures() {
    let found = fails(&format!(
        "{SERVICES}{}",
        r#"
tests:
  - { name: unexpected, request: { path: /orders/1 }, expect: { status: 502, fault: route.connect } }
  - { name: one too many, given: { upstream: [{ times: 1 }] }, exchanges: [{ request: { path: /orders/1 }, repeat: 2, expect: { fault: none } }] }
  - { name: unused, given: { upstream: [{}] }, request: { path: /other }, expect: { status: 404, service: none } }
  - { name: too seldom, given: { upstream: [{ times: 2 }] }, request: { path: /orders/1 }, expect: { status: 200 } }
  - { name: used although never, given: { upstream: [{ times: 0 }] }, request: { path: /orders/1 }, expect: { status: 502 } }
  - { name: another request, given: { upstream: [{}] }, request: { path: /orders/1 }, expect: { upstream: [{ path: /orders/2, headers: { x-a: b } }] } }
  - { name: a text that cannot be made, given: { upstream: [{ answer: { text: "${int('x')}" } }] }, request: { path: /orders/1 }, expect: { status: 502 } }
"#
        .replace("${int('x')}", "${int(upper('x') + string(random()))}")
    ));
    let expected: [&[&str]; 7] = [
        &["upstream"],
        &["fault", "upstream"],
        &[""],
        &[""],
        &["upstream"],
        &["upstream[0].path", "upstream[0].headers.x-a"],
        &["given.upstream"],
    ];
    assert_eq!(found, expected);
}
