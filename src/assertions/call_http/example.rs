//! The examples of `call_http`.

use crate::compile::Example;

pub(super) const EXAMPLES: &[Example] = &[
    Example {
        title: "A customer looked up beside the way",
        yaml: r#"
upstream: crm
targets: ["http://127.0.0.1:9100"]
---
service: example
match: { path: "/orders/{customer}" }
policy:
  - call_http: { upstream: crm, path: "/customers/${path.customer}" }
    as: customer
  - if: customer.json.blocked == true
    then:
      - raise: { status: 403, code: customer.blocked }
  - route: http://127.0.0.1:9000
tests:
  given:
    upstream:
      - { match: { upstream: crm, path: /customers/7 }, answer: { json: { blocked: false } } }
      - { match: { upstream: crm, path: /customers/8 }, answer: { json: { blocked: true } } }
      - { match: { upstream: crm }, answer: { status: 404 } }
      - { match: { host: "127.0.0.1:9000" }, answer: { json: { ok: true } } }
  cases:
    - name: nothing of the client's request goes to the called service
      request: { path: "/orders/7?x=1", headers: { authorization: Bearer t } }
      expect:
        status: 200
        upstream:
          - { method: GET, path: /customers/7, headers: { authorization: { absent: true } } }
          - { path: "/orders/7?x=1" }
    - name: the answer decides
      request: { path: /orders/8 }
      expect: { status: 403, fault: customer.blocked }
    - name: an answer that is no success breaks the request
      request: { path: /orders/9 }
      expect: { status: 502, fault: call_http.unsuccessful }
    - name: the called service is down
      given: { upstream: [{ answer: { fail: refused } }] }
      request: { path: /orders/7 }
      expect: { status: 502, fault: call_http.connect }
    - name: it takes longer than the five seconds that a call has
      given: { upstream: [{ match: { upstream: crm }, answer: { delay: 5100ms } }] }
      request: { path: /orders/7 }
      expect: { status: 504, fault: call_http.timeout_total }
    - name: it takes nearly as long
      given: { upstream: [{ match: { upstream: crm }, answer: { delay: 4900ms, json: {} } }, { answer: { text: ok } }] }
      request: { path: /orders/7 }
      expect: { status: 200, text: ok }
"#,
    },
    Example {
        title: "Two optional calls at once, one of them kept for a minute",
        yaml: r#"
service: example
match: { path: "/shop/{id}" }
policy:
  - parallel:
      - call_http: { to: "http://127.0.0.1:9100/prices/${path.id}", timeouts: { total: 500ms }, optional: true }
        as: price
      - call_http: { to: "http://127.0.0.1:9200/rates", cache: 1m, optional: true }
        as: rates
  - respond: { json: { price: "${price.json.amount}", rate: "${rates.json.eur}" } }
tests:
  given:
    upstream:
      - { match: { path: /prices/7 }, answer: { json: { amount: 12 } } }
      - { match: { path: /prices/8 }, answer: { fail: timeout } }
      - { match: { path: /rates }, answer: { json: { eur: 1.1 } } }
  cases:
    - name: the second request asks for the price alone
      exchanges:
        - request: { path: /shop/7 }
          expect: { json: { price: 12, rate: 1.1 }, upstream_any_order: [{ path: /prices/7 }, { path: /rates }] }
        - { request: { path: /shop/7 }, expect: { json: { price: 12, rate: 1.1 }, upstream: [{ path: /prices/7 }] } }
        - after: 1m
          request: { path: /shop/7 }
          expect: { status: 200, upstream_any_order: [{ path: /prices/7 }, { path: /rates }] }
    - name: what does not come is absent
      request: { path: /shop/8 }
      expect: { status: 200, json: { price: null, rate: 1.1 } }
"#,
    },
    Example {
        title: "A call that is made again, where nothing can have happened yet",
        yaml: r#"
service: example
match: { path: /price }
policy:
  - call_http: { to: "http://127.0.0.1:9100/price", retry: { attempts: 2 } }
  - { call_http: { to: "http://127.0.0.1:9200/count", method: POST, retry: { attempts: 2 } }, as: counted }
  - respond: { json: { price: "${called.json.price}", status: "${counted.status}" } }
tests:
  - name: a GET is asked again
    given:
      upstream:
        - { match: { path: /price }, answer: { status: 503 }, times: 1 }
        - { match: { path: /price }, answer: { json: { price: 3 } }, times: 1 }
        - { match: { path: /count }, answer: { fail: refused }, times: 1 }
        - { match: { path: /count }, answer: { status: 201 }, times: 1 }
    request: {}
    expect: { status: 200, json: { price: 3, status: 201 } }
  - name: a POST that was sent is not
    given:
      upstream:
        - { match: { path: /price }, answer: { json: {} } }
        - { match: { path: /count }, answer: { status: 503 }, times: 1 }
    request: {}
    expect: { status: 502, fault: call_http.unsuccessful }
"#,
    },
    Example {
        title: "A login with a stored password",
        yaml: r#"
secret: legacy_password
from: { env: LEGACY_PASSWORD }
---
service: example
match: { path: "/{*rest}" }
policy:
  - call_http:
      to: https://login.example.com/session
      method: POST
      json: { user: gateway, password: "${secret('legacy_password')}" }
      secrets_to: https://login.example.com
      success_when: answer.status == 200 && exists(answer.json.session)
    as: login
  - set_headers: { x-session: "${login.json.session}" }
  - route: http://127.0.0.1:9000
tests:
  given:
    secrets: { legacy_password: test-value-0123456789 }
    upstream:
      - match: { host: login.example.com, method: POST, json: { user: gateway, password: test-value-0123456789 } }
        answer: { json: { session: s-1 } }
      - { match: { host: "127.0.0.1:9000" }, answer: { status: 204 } }
  cases:
    - name: the upstream sees the session
      request: { path: / }
      expect: { status: 204, upstream: [{ path: /session }, { headers: { x-session: s-1 } }] }
    - name: a login without a session is none
      given: { upstream: [{ answer: { json: {} } }] }
      request: { path: / }
      expect: { status: 502, fault: call_http.unsuccessful }
"#,
    },
];
