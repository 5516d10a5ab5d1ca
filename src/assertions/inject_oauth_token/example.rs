//! The examples of `inject_oauth_token`.

use crate::compile::Example;

pub(super) const EXAMPLES: &[Example] = &[
    Example {
        title: "Salesforce with the organisation's token",
        yaml: r#"
secret: sf_secret
from: { env: SF_SECRET }
---
oauth_session: salesforce
kind: oauth2
profile: salesforce
grant: authorization_code
token_url: https://login.salesforce.com/services/oauth2/token
client: { id: sfclient, secret: { secret: sf_secret }, auth: post }
allowed_origins: ["https://*.my.salesforce.com"]
---
service: example
match: { path: "/sf/{*rest}" }
policy:
  - inject_oauth_token: salesforce
  - route: "${oauth_session.instance_url}/services/data/v60.0/${path.rest}"
tests:
  given:
    oauth_sessions:
      salesforce:
        access_token: t1
        expires_in: 600
        instance_url: https://acme.my.salesforce.com
        refresh: { access_token: t2 }
    upstream:
      - match: { host: acme.my.salesforce.com, headers: { authorization: Bearer t1 } }
        answer: { headers: { set-cookie: sid=1 }, json: { ok: true } }
      - match: { host: acme.my.salesforce.com, headers: { authorization: Bearer t2 } }
        answer: { json: { ok: 2 } }
  cases:
    - name: the upstream sees our token, and the caller nothing of it
      request: { path: "/sf/query?q=a", headers: { authorization: Bearer caller } }
      expect:
        status: 200
        json: { ok: true }
        headers: { set-cookie: { absent: true } }
        upstream: [{ path: "/services/data/v60.0/query?q=a" }]
    - name: a token that has ended is renewed first
      exchanges:
        - { after: 10m, request: { path: /sf/query }, expect: { status: 200, json: { ok: 2 } } }
    - name: one that is refused is renewed, and the call sent once more
      given:
        upstream:
          - { match: { headers: { authorization: Bearer t1 } }, answer: { status: 401 } }
          - { match: { headers: { authorization: Bearer t2 } }, answer: { json: { ok: 2 } } }
      request: { method: POST, path: /sf/sobjects, json: { a: 1 } }
      expect: { status: 200, json: { ok: 2 }, upstream: [{ json: { a: 1 } }, { json: { a: 1 } }] }
    - name: a fresh one that is refused too is not tried for ever
      given: { upstream: [{ answer: { status: 401, headers: { www-authenticate: Bearer } } }] }
      request: { path: /sf/query }
      expect:
        status: 502
        fault: inject_oauth_token.rejected
        headers: { www-authenticate: { absent: true } }
        upstream: [{ headers: { authorization: Bearer t1 } }, { headers: { authorization: Bearer t2 } }]
    - name: the provider is down
      given: { oauth_sessions: { salesforce: { refresh: fails } } }
      exchanges:
        - after: 10m
          request: { path: /sf/query }
          expect:
            { status: 503, fault: inject_oauth_token.refresh_failed, headers: { retry-after: "1" }, upstream: none }
    - name: the grant was revoked
      given: { oauth_sessions: { salesforce: { refresh: invalid_grant } } }
      exchanges:
        - after: 10m
          request: { path: /sf/query }
          expect: { status: 503, fault: inject_oauth_token.exhausted, upstream: none }
    - name: an answer leads elsewhere
      given: { oauth_sessions: { salesforce: { instance_url: "https://evil.example" } } }
      request: { path: /sf/query }
      expect: { status: 500, fault: inject_oauth_token.origin_refused, upstream: none }
---
tests: example
cases:
  - name: nobody has connected it
    request: { path: /sf/query }
    expect: { status: 503, fault: inject_oauth_token.no_session, upstream: none }
"#,
    },
    Example {
        title: "A side call with a token of our own",
        yaml: r#"
secret: crm_secret
from: { env: CRM_SECRET }
---
oauth_session: crm
kind: oauth2
grant: client_credentials
token_url: https://login.example.com/token
client: { id: gateway, secret: { secret: crm_secret } }
scopes: [customers.read]
allowed_origins: ["https://crm.example.com"]
---
service: example
match: { path: "/orders/{customer}" }
policy:
  - inject_oauth_token: { session: crm, for_call: true }
  - call_http: "https://crm.example.com/customers/${path.customer}"
    as: customer
  - set_headers: { x-segment: "${customer.json.segment ?? 'none'}" }
  - route: http://127.0.0.1:9000
tests:
  given:
    oauth_sessions: { crm: { access_token: t1 } }
    upstream:
      - { match: { host: crm.example.com }, answer: { json: { segment: gold } } }
      - { match: { host: "127.0.0.1:9000" }, answer: { status: 204 } }
  cases:
    - name: the token goes to the called service only
      request: { path: /orders/7, headers: { authorization: Bearer caller } }
      expect:
        status: 204
        upstream:
          - { path: /customers/7, headers: { authorization: Bearer t1 } }
          - { headers: { authorization: Bearer caller, x-segment: gold } }
"#,
    },
];
