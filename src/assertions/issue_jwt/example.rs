//! The examples of `issue_jwt`, which the suite runs.

pub(super) const CALLER: &str = r#"
api_keys: partners
entries:
  - { id: acme, hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b", client: acme, groups: [gold] }
---
key: gateway_signing
kind: private
from: { file: keys/sign.pem }
algorithms: [ES256]
---
identity_provider: ourselves
kind: jwt
issuer: https://gw.example.com
keys: { key: gateway_signing }
---
service: example
match: { path: /items }
policy:
  - authenticate_api_key: partners
  - issue_jwt:
      key: gateway_signing
      issuer: https://gw.example.com
      audience: orders
      claims: { groups: "${auth.groups}" }
      inject: { header: authorization, scheme: Bearer }
  - route: http://127.0.0.1:9000
---
service: behind
match: { path: /behind }
policy:
  - authenticate_jwt: { issuer: ourselves, audience: orders }
  - respond: { text: "${auth.subject} of ${auth.groups} until ${unix(auth.expires_at)}" }
---
tests: example
given:
  clock: 2026-03-01T12:00:00Z
  api_keys: { partners: { acme: { value: k-1, groups: [gold] } } }
  upstream: [{ answer: { status: 200 } }]
cases:
  - name: the upstream gets a token and not the key
    request: { api_key: acme, headers: { authorization: forged } }
    expect:
      status: 200
      upstream:
        - headers:
            authorization: { matches: "^Bearer [A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$" }
            x-api-key: { absent: true }
      variables: { issued.expires_at: "2026-03-01T12:05:00Z" }
---
tests: behind
given:
  clock: 2026-03-01T12:00:00Z
  tokens:
    ours: { issuer: ourselves, audience: orders, subject: acme, claims: { groups: [gold] } }
cases:
  - name: what we signed we take
    request: { headers: { authorization: "Bearer ${token.ours}" } }
    expect: { status: 200, text: "acme of gold until 1772366700" }
  - name: without it nobody passes
    request: {}
    expect: { status: 401, fault: authenticate_jwt.missing }
"#;

pub(super) const OWN_KEY: &str = r#"
key: ours
kind: private
from: { generate: ES256, rotate: 90d }
publish: /.well-known/jwks.json
---
identity_provider: ourselves
kind: jwt
issuer: https://gw.example.com
keys: { key: ours }
audience: orders
---
service: example
match: { path: /token }
policy:
  - issue_jwt: { key: ours, issuer: "https://gw.example.com", audience: orders, subject: ann, lifetime: 24h }
  - respond: { text: "${issued.token}" }
---
service: orders
match: { path: /orders }
policy:
  - authenticate_jwt: ourselves
  - respond: { text: "${auth.subject}" }
---
tests: example
given: { clock: 2026-03-01T12:00:00Z }
cases:
  - name: a token outlives the exchange of its key
    exchanges:
      - { after: 2159h, request: {}, expect: { status: 200 }, capture: { early: "${response.text}" } }
      - { after: 1h, request: {}, expect: { status: 200 }, capture: { late: "${response.text}" } }
      - { request: { path: /orders, headers: { authorization: "Bearer ${captured.early}" } }, expect: { service: orders, text: ann } }
      - { request: { path: /orders, headers: { authorization: "Bearer ${captured.late}" } }, expect: { service: orders, text: ann } }
  - name: the next key is published an hour before it signs, and the last for a day after
    exchanges:
      - request: { path: /.well-known/jwks.json }
        expect:
          service: /.well-known/jwks.json
          status: 200
          headers: { content-type: application/jwk-set+json, cache-control: "public, max-age=900" }
          json_path: { "$.keys[*].alg": [ES256], "$.keys[*].use": [sig], "$.keys[*].d": [] }
      - after: 2159h
        request: again
        expect: { service: /.well-known/jwks.json, json_path: { "$.keys[*].alg": [ES256, ES256] } }
      - after: 25h
        request: again
        expect: { service: /.well-known/jwks.json, json_path: { "$.keys[*].alg": [ES256] } }
  - name: nothing can be written there
    request: { method: POST, path: /.well-known/jwks.json }
    expect: { service: none, status: 405, fault: service.method, headers: { allow: "GET, HEAD" } }
---
tests: orders
given: { tokens: { good: { issuer: ourselves, subject: ann } } }
cases:
  - name: tokens of a test are signed with its key
    request: { headers: { authorization: "Bearer ${token.good}" } }
    expect: { status: 200, text: ann }
  - name: nobody passes without one
    request: {}
    expect: { status: 401, fault: authenticate_jwt.missing }
"#;
