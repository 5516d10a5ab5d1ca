//! What is seen of an exchange, and what is made of a request.

use super::{fails, passes};

const SERVICE: &str = r#"
service: items
match: { host: "*.example.com", path: "/items/{id}", methods: [POST, GET] }
policy:
  - name: only posts
    when: request.method == "POST"
    respond:
      status: 201
      headers: { x-host: "${request.host}", x-two: [a, b] }
      json: { id: "${path.id}", ip: "${request.client.ip}", peer: "${request.client.peer_ip}", n: 2, list: [1, { a: b }] }
  - respond: { status: 200, text: plain }
"#;

#[test]
fn every_expectation_can_be_met() {
    passes(&format!(
        "{SERVICE}{}",
        r#"
tests:
  - name: everything at once
    request: { path: /items/7, json: { q: 1 }, client: { ip: 192.0.2.1, peer: 10.0.0.1 } }
    expect:
      service: items
      status: 201
      fault: none
      ended_by: respond
      headers: { x-host: any.example.com, x-two: [a, b], server: { absent: true }, content-type: { contains: json } }
      json: { id: "7", ip: 192.0.2.1, peer: 10.0.0.1, n: { above: 1 }, list: [1, { a: { type: string } }] }
      json_has: { n: { below: 3 }, id: { matches: "^[0-9]$" }, x: { absent: true } }
      text: { contains: '"n":2' }
      body_sha256: { matches: "^[0-9a-f]{64}$" }
      upstream: none
      steps: { passed: [only posts], not_run: ["2"] }
      audit: { level: info, contains_none: [hunter2] }
  - name: defaults and another way
    request: { method: GET, path: /items/7 }
    expect: { status: { one_of: [200, 204] }, text: plain, steps: { passed: "2", not_run: only posts }, headers: { x-host: { not: { present: true } } } }
  - name: another method is nobody's
    request: { method: DELETE, path: /items/7 }
    expect: { service: none, status: 405, fault: service.method, ended_by: fault }
"#
    ));
}

#[test]
fn every_false_expectation_is_noticed() {
    let table = [
        ("status: 200", "status"),
        ("status: { above: 201 }", "status"),
        ("fault: some.code", "fault"),
        ("status: 201, service: other", "service"),
        ("status: 201, ended_by: end", "ended_by"),
        ("status: 201, headers: { x-host: other }", "headers.x-host"),
        ("status: 201, headers: { x-two: [a] }", "headers.x-two"),
        ("status: 201, headers: { x-host: { absent: true } }", "headers.x-host"),
        ("status: 201, json_has: { n: 3 }", "json_has.n"),
        ("status: 201, json_has: { list: [1] }", "json_has.list"),
        ("status: 201, json: { id: '7', ip: 127.0.0.1, peer: 127.0.0.1, n: 2 }", "json.list"),
        ("status: 201, json: null", "json"),
        ("status: 201, text: ''", "text"),
        ("status: 201, body_sha256: 00", "body_sha256"),
        ("status: 201, upstream: one", "upstream"),
        ("status: 201, upstream: [{ method: GET }]", "upstream"),
        ("status: 201, steps: { passed: ['2'] }", "steps: 2"),
        ("status: 201, steps: { not_run: [only posts] }", "steps: only posts"),
        ("status: 201, steps: { denied: [only posts] }", "steps: only posts"),
        ("status: 201, steps: { not_run: [nobody] }", "steps.not_run"),
        ("status: 201, variables: { auth.subject: ann }", "variables.auth.subject"),
        ("status: 201, variables: { hash.value: { absent: true } }", "variables.hash.value"),
        ("status: 201, audit: { level: severe }", "audit.level"),
        ("status: 201, audit: { fields: { tenant: acme } }", "audit.fields.tenant"),
        ("status: 201, audit: { contains_none: [/items/7] }", "audit.contains_none"),
    ];
    let cases: String = table
        .iter()
        .enumerate()
        .map(|(at, (expect, _))| {
            format!("  - {{ name: n{at}, request: {{ path: /items/7 }}, expect: {{ {expect} }} }}\n")
        })
        .collect();
    let found = fails(&format!("{SERVICE}tests:\n{cases}"));
    assert_eq!(found.len(), table.len());
    for ((expect, at), found) in table.iter().zip(&found) {
        assert_eq!(found, &vec![(*at).to_owned()], "{expect}");
    }
}

#[test]
fn a_record_is_searched_as_it_reads_and_as_it_is_written() {
    const SERVICE: &str = r#"
service: items
match: { path: /items, methods: [POST] }
policy:
  - audit: { save: [request_body], message: "of ${request.headers.x_a ?? ''}", fields: { n: "${request.headers.x_a}" } }
  - respond: 204
tests:
"#;
    let request = r#"{ method: POST, path: /items, headers: { x-a: 'sec"ret' }, json: { note: 'my"pin' } }"#;
    let texts = ["'sec\"ret'", r#"'sec\"ret'"#, "'my\"pin'", "'\"note\"'"];
    let cases = texts.iter().enumerate().map(|(at, text)| {
        format!("  - {{ name: n{at}, request: {request}, expect: {{ status: 204, audit: {{ contains_none: [{text}] }} }} }}\n")
    });
    let cases: String = cases.collect();
    let found = fails(&format!("{SERVICE}{cases}"));
    assert_eq!(found, vec![vec!["audit.contains_none".to_owned()]; 4]);
}

/// A composite has no verdict but that of what comes out of it.
const COMPOSITES: &str = r#"
service: items
match: { path: /items, methods: [GET, POST] }
policy:
  - if: request.method == 'POST'
    then: [{ compare: request.query.a == '1' }]
  - switch: request.query.b ?? 'x'
    cases: { y: [{ raise: { status: 403, code: items.y } }] }
    default: [{ set_headers: { x-a: b } }]
  - try: { steps: [{ compare: (request.query.c ?? '') == '' }], catches: compare.no_match }
    catch: [{ set_headers: { x-c: "1" } }]
  - respond: 204
tests:
"#;

#[test]
fn a_composite_passes_where_no_fault_comes_out_of_it() {
    passes(&format!(
        "{COMPOSITES}{}",
        r#"
  - name: nothing is refused
    request: { method: POST, path: "/items?a=1" }
    expect: { status: 204, steps: { passed: [if, switch, try] } }
  - name: the condition refuses
    request: { method: POST, path: "/items?a=2" }
    expect: { status: 403, steps: { denied: if, not_run: switch } }
  - name: the case refuses
    request: { method: GET, path: "/items?b=y" }
    expect: { status: 403, fault: items.y, steps: { not_run: [if, try], denied: switch } }
  - name: what is caught stays inside
    request: { method: GET, path: "/items?c=1" }
    expect: { status: 204, steps: { passed: [switch, try], not_run: if } }
"#
    ));
    let wrong = |name: &str, request: &str, steps: &str| {
        format!(
            "  - {{ name: {name}, request: {{ {request} }}, expect: {{ steps: {steps}, status: {{ above: 100 }} }} }}\n"
        )
    };
    let cases = [
        wrong("refused", "method: POST, path: \"/items?a=2\"", "{ passed: if }"),
        wrong("passed", "method: POST, path: \"/items?a=1\"", "{ denied: if }"),
        wrong("refused later", "method: GET, path: \"/items?b=y\"", "{ denied: if }"),
        wrong("caught", "method: GET, path: \"/items?c=1\"", "{ denied: try }"),
    ];
    let found = fails(&format!("{COMPOSITES}{}", cases.concat()));
    assert_eq!(found, [["steps: if"], ["steps: if"], ["steps: if"], ["steps: try"]]);
}

#[test]
fn without_a_word_about_it_the_tested_service_answers() {
    let yaml = r#"
service: all
match: { path: "/{*rest}" }
policy: [{ respond: { status: 204 } }]
tests:
  - { name: the other one answers, request: { path: /one }, expect: { status: 204 } }
---
service: one
match: { path: /one }
policy: [{ respond: { status: 204 } }]
"#;
    assert_eq!(fails(yaml), [["service"]]);
    passes(&yaml.replace("status: 204 } }\n---", "status: 204, service: one } }\n---"));
}

#[test]
fn bodies_have_their_forms_and_limits_hold_as_in_life() {
    passes(
        r#"
service: echo
match: { path: /echo, methods: [POST] }
policy:
  - respond:
      headers: { x-type: "${request.content_type ?? 'none'}", x-size: "${request.size ?? 0}" }
      value: "${request.body}"
tests:
  - { name: text, request: { text: "a\nb" }, expect: { status: 200, text: "a\nb", headers: { x-type: text/plain, x-size: "3" } } }
  - { name: json, request: { json: { a: [1, null, "${1 + 1}"] } }, expect: { status: 200, json: { a: [1, null, 2] }, headers: { x-type: application/json } } }
  - { name: form, request: { form: { a: "x y", b: ["1", "2"] } }, expect: { status: 200, text: "a=x+y&b=1&b=2" } }
  - { name: base64, request: { body_base64: /+8= }, expect: { status: 200, body_sha256: b6e2c63144f1cd8b806ef4206dea177ec4e756614d9ee5b6521dac2136a67ba7 } }
  - { name: nothing, request: {}, expect: { status: 200, headers: { x-type: none, x-size: "0" } } }
  - { name: own type, request: { json: 1, headers: { content-type: text/x } }, expect: { status: 200, text: "1", headers: { x-type: text/x } } }
  - { name: too large, request: { size: 11MiB }, expect: { status: 413, fault: body.too_large, service: none, headers: { connection: close } } }
  - { name: too large to hold, request: { size: 2MiB }, expect: { status: 413, fault: body.too_large } }
  - { name: bad target, request: { path: "/echo?a=|" }, expect: { status: 400, fault: request.target, service: none } }
  - { name: bad host, request: { host: "a@b" }, expect: { status: 400, fault: request.host, service: none } }
"#,
    );
}

#[test]
fn exchanges_share_a_state_and_hand_values_on() {
    passes(
        r#"
service: jobs
match: { path: "/jobs/{*rest}" }
policy:
  - respond:
      headers: { location: "https://a.example/jobs/x?code=c%201&n=2", x-at: "${unix(request.received_at)}" }
      json: { id: "job-${path.rest}", seen: "${request.headers.x_seen ?? 'nothing'}" }
tests:
  - name: a sequence
    given: { clock: 2026-03-01T12:00:00Z }
    exchanges:
      - request: { path: /jobs/1 }
        expect: { status: 200, headers: { x-at: "1772366400" } }
        capture: { id: "${response.json.id}", code: "${redirect.query.code}", origin: "${redirect.origin}", status: "${response.status}" }
      - request: { path: "/jobs/${captured.id}", headers: { x-seen: "${captured.code} ${captured.origin} ${captured.status + 1}" } }
        expect: { json: { id: "job-${captured.id}", seen: "c 1 https://a.example 201" } }
      - { request: again, after: 90s, repeat: 3, expect: { headers: { x-at: "1772366490" } } }
  - name: signed texts
    request: { path: /jobs/1, headers: { x-seen: "${hmac_sha256('Jefe', 'what do ya want for nothing?')}" } }
    expect: { status: 200, json_has: { seen: 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843 } }
  - name: parts are joined by line feeds
    request: { path: /jobs/1, headers: { x-seen: "${hmac_sha256('k', ['a', 1, sha256('')])}" } }
    expect: { status: 200, json_has: { seen: "${hmac_sha256('k', join(['a', '1', sha256('')], '\\n'))}" } }
"#,
    );
    let missing = r#"
service: one
match: { path: /one }
policy: [{ respond: { status: 204 } }]
tests:
  - name: captures what is not there
    exchanges: [{ request: {}, expect: { status: 204 }, capture: { a: "${response.headers.x_a}" } }]
  - name: the second repetition fails like the first
    exchanges: [{ request: {}, repeat: 2, expect: { status: 200 } }]
"#;
    assert_eq!(fails(missing), [[""], ["status"]]);
}

#[test]
fn equal_seeds_give_equal_random_values() {
    passes(
        r#"
service: one
match: { path: /one }
policy: [{ respond: { text: "${uuid()}" } }]
tests:
  - { name: one, given: { random: 7 }, request: {}, expect: { status: 200, text: { matches: "^[0-9a-f-]{36}$", } } }
  - name: twice
    exchanges:
      - { request: {}, expect: { status: 200 }, capture: { first: "${response.text}" } }
      - { request: again, expect: { status: 200, text: { not: "${captured.first}" } } }
"#,
    );
}

#[test]
fn a_composite_has_run_where_anything_in_it_has() {
    let yaml = |word: &str| {
        format!(
            r#"
service: one
match: {{ path: /one }}
policy:
  - {{ name: choose, if: request.method == "GET", then: [{{ log: x }}], else: [{{ log: y }}] }}
  - {{ name: both, all: [{{ log: x }}, {{ restrict_ip: [10.0.0.0/8], shadow: true, name: trial }}] }}
  - {{ name: dark, raise: {{ status: 503, code: trial.down }}, shadow: true }}
  - respond: 204
tests:
  - {{ name: n, request: {{}}, expect: {{ status: 204, steps: {{ {word} }} }} }}
"#
        )
    };
    for word in ["not_run: choose", "not_run: both", "would_deny: dark", "would_break: trial", "not_run: trial"] {
        assert_eq!(fails(&yaml(word)).len(), 1, "{word}");
    }
    for word in ["would_break: dark", "would_deny: trial"] {
        passes(&yaml(word));
    }
}

#[test]
fn what_cannot_be_made_is_not_simply_different() {
    let yaml = r#"
service: one
match: { path: /one }
policy:
  - respond: { status: 200, text: a }
tests:
  - { name: n, request: {}, expect: { status: 200, text: { not: "${int(uuid())}" } } }
"#;
    assert_eq!(fails(yaml), [["text"]]);
}
