//! Examples of `route` for the reference; each runs in the suite.

use crate::compile::Example;

pub(super) const EXAMPLES: &[Example] = &[
    Example {
        title: "To one upstream, with the path rebuilt",
        yaml: r#"
service: example
match: { path: "/orders/{id}" }
policy:
  - route: { to: "http://127.0.0.1:9000/v2/orders/${path.id}", timeouts: { total: 5s } }
tests:
  - name: the id is encoded for its place
    given: { upstream: [{ match: { path: /v2/orders/a%20b }, answer: { json: { ok: true } } }] }
    request: { path: "/orders/a%20b?expand=lines" }
    expect: { status: 200, json: { ok: true }, upstream: [{ method: GET, path: "/v2/orders/a%20b?expand=lines" }] }
  - name: the upstream is down
    given: { upstream: [{ answer: { fail: refused } }] }
    request: { path: /orders/7 }
    expect: { status: 502, fault: route.connect }
"#,
    },
    Example {
        title: "To a named upstream",
        yaml: r#"
upstream: orders
targets: ["http://127.0.0.1:9000", "http://127.0.0.1:9001"]
---
service: example
match: { path: "/{*rest}" }
policy:
  - route: orders
tests:
  - name: path and query are kept, hop-by-hop fields are not
    given: { upstream: [{ match: { upstream: orders }, answer: { status: 404, text: nothing } }] }
    request: { path: "/a/b?x=1", headers: { te: trailers, x-a: b } }
    expect:
      status: 404
      fault: none
      upstream: [{ path: "/a/b?x=1", headers: { te: { absent: true }, x-a: b } }]
"#,
    },
    Example {
        title: "What counts as success, and a second request",
        yaml: r#"
service: example
match: { path: "/{*rest}" }
policy:
  - route: { to: http://127.0.0.1:9000, success_when: "answer.status < 500 && answer.headers['x-a'] != 'bad'" }
  - when: response.status == 404
    route: http://127.0.0.1:9001
tests:
  - name: a redirect goes to the client as it is, and nobody follows it
    given: { upstream: [{ answer: { status: 302, headers: { location: "http://127.0.0.1:9000/other" } } }] }
    request: { path: / }
    expect: { status: 302, headers: { location: "http://127.0.0.1:9000/other" }, upstream: one }
  - name: an answer that is no success breaks the request
    given: { upstream: [{ answer: { headers: { x-a: bad } } }] }
    request: { path: / }
    expect: { status: 502, fault: route.unsuccessful }
  - name: the second answer takes the place of the first
    given:
      upstream:
        - { match: { host: "127.0.0.1:9000" }, answer: { status: 404, headers: { x-first: "1" }, text: none } }
        - { match: { host: "127.0.0.1:9001" }, answer: { text: found } }
    request: { path: / }
    expect: { status: 200, text: found, headers: { x-first: { absent: true } }, upstream: [{ path: / }, { path: / }] }
"#,
    },
    Example {
        title: "A login with the organisation's password, read whole before it is sent",
        yaml: r#"
secret: partner
from: { env: PARTNER_SECRET }
---
service: example
match: { path: /login, methods: [POST] }
policy:
  - set_body: { json: { for: "${request.json.for}", user: gateway, password: "${secret('partner')}" } }
  - route: { to: "https://login.example.com/v1/sessions", secrets_to: https://login.example.com, stream: answer }
tests:
  given:
    secrets: { partner: test-value-0123456789 }
    upstream: [{ match: { host: login.example.com }, answer: { json: { session: s-1 } } }]
  cases:
    - name: the secret goes to the origin that is named
      request: { json: { for: ann } }
      expect:
        status: 200
        upstream: [{ path: /v1/sessions, json: { for: ann, user: gateway, password: test-value-0123456789 } }]
    - name: what is no JSON is not sent
      given: { upstream: [] }
      request: { text: "{" }
      expect: { status: 400, fault: body.invalid_json, upstream: none }
"#,
    },
    Example {
        title: "A WebSocket, which the upstream may decline",
        yaml: r#"
service: example
match: { path: /chat, methods: [GET] }
policy:
  - route: { to: http://127.0.0.1:9000, upgrade: websocket }
tests:
  given: { upstream: [{ answer: { status: 400, text: no version 13 } }] }
  cases:
    - name: who asks for it is passed on
      request: { path: /chat, headers: { connection: Upgrade, upgrade: websocket } }
      expect: { status: 400, fault: none, text: no version 13, upstream: [{ method: GET, path: /chat }] }
    - name: another protocol is refused, and the upstream not asked
      request: { path: /chat, headers: { connection: Upgrade, upgrade: tls/1.0 } }
      expect: { status: 426, fault: route.upgrade_refused, headers: { upgrade: websocket }, upstream: none }
"#,
    },
];
