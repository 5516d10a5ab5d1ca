//! The examples of `authenticate_jwt`, which the suite runs.

pub(super) const PROVIDER: &str = r#"
identity_provider: corp
kind: jwt
issuer: https://idp.example.com
keys: { file: keys/corp.json }
audience: orders
---
service: example
match: { path: /orders }
policy:
  - authenticate_jwt: { issuer: corp, require: [tenant] }
  - respond: { json: { who: "${auth.subject}", groups: "${auth.groups}", tenant: "${auth.claims.tenant}" } }
tests:
  given:
    clock: 2026-03-01T12:00:00Z
    tokens:
      good: { issuer: corp, subject: ann, claims: { tenant: acme, groups: [managers] } }
      no_tenant: { issuer: corp, subject: ann }
      other_audience: { issuer: corp, audience: items, subject: ann, claims: { tenant: acme } }
      unsigned: { issuer: corp, subject: ann, break: algorithm_none }
      forged: { issuer: corp, subject: ann, break: signature }
      foreign: { issuer: corp, subject: ann, break: unknown_key }
      expired: { issuer: corp, subject: ann, break: expired }
      early: { issuer: corp, subject: ann, break: not_yet }
      text_exp: { issuer: corp, subject: ann, break: wrong_type_exp }
  cases:
    - name: a good token, until it has expired
      exchanges:
        - request: { headers: { authorization: "Bearer ${token.good}" } }
          expect: { status: 200, json: { who: ann, groups: [managers], tenant: acme } }
        - { request: again, after: 5m, expect: { status: 200 } }
        - { request: again, after: 1m, expect: { status: 401, fault: authenticate_jwt.expired } }
    - name: no token
      request: {}
      expect:
        status: 401
        fault: authenticate_jwt.missing
        headers: { www-authenticate: 'Bearer realm="example"' }
    - name: a token that nobody signed
      request: { headers: { authorization: "Bearer ${token.unsigned}" } }
      expect:
        status: 401
        fault: authenticate_jwt.algorithm
        headers: { www-authenticate: 'Bearer realm="example", error="invalid_token"' }
    - name: another signature
      request: { headers: { authorization: "Bearer ${token.forged}" } }
      expect: { status: 401, fault: authenticate_jwt.signature }
    - name: another's key
      request: { headers: { authorization: "Bearer ${token.foreign}" } }
      expect: { status: 401, fault: authenticate_jwt.unknown_key }
    - name: for somebody else
      request: { headers: { authorization: "Bearer ${token.other_audience}" } }
      expect: { status: 401, fault: authenticate_jwt.audience }
    - name: too late
      request: { headers: { authorization: "Bearer ${token.expired}" } }
      expect: { status: 401, fault: authenticate_jwt.expired }
    - name: too early
      request: { headers: { authorization: "Bearer ${token.early}" } }
      expect: { status: 401, fault: authenticate_jwt.not_yet_valid }
    - name: an end that is a text
      request: { headers: { authorization: "Bearer ${token.text_exp}" } }
      expect: { status: 401, fault: authenticate_jwt.claim }
    - name: without a claim that is needed
      request: { headers: { authorization: "Bearer ${token.no_tenant}" } }
      expect: { status: 401, fault: authenticate_jwt.claim }
    - name: no token at all
      request: { headers: { authorization: Bearer junk } }
      expect: { status: 401, fault: authenticate_jwt.malformed }
    - name: two of them
      request: { headers: { authorization: ["Bearer ${token.good}", "Bearer ${token.good}"] } }
      expect:
        status: 400
        fault: authenticate_jwt.ambiguous
        headers: { www-authenticate: 'Bearer realm="example", error="invalid_request"' }
"#;

pub(super) const SECRET: &str = r#"
secret: partner
from: { env: PARTNER_SECRET }
---
key: partner
kind: symmetric
from: { secret: partner }
algorithms: [HS256]
---
identity_provider: partner
kind: jwt
issuer: https://partner.example.com
keys: { key: partner }
claims: { groups: /realm/roles }
---
service: example
match: { path: "/tenants/{tenant}" }
policy:
  - authenticate_jwt:
      issuer: partner
      audience: [orders, items]
      claims: { tenant: "${path.tenant}", level: [1, 2] }
      type: at+jwt
      max_age: 10m
  - respond: { text: "${auth.subject} of ${jwt.claims.tenant}: ${auth.groups}" }
tests:
  given:
    secrets: { partner: test-value-0123456789-0123456789 }
    tokens:
      good:
        issuer: partner
        audience: items
        subject: ann
        type: at+jwt
        lifetime: 1h
        claims: { tenant: acme, level: 2, realm: { roles: [a, b] } }
      plain: { issuer: partner, audience: items, subject: ann, claims: { tenant: acme, level: 2 } }
      high: { issuer: partner, audience: items, subject: ann, type: at+jwt, claims: { tenant: acme, level: 3 } }
  cases:
    - name: of the tenant itself, as long as it is young
      exchanges:
        - request: { path: /tenants/acme, headers: { authorization: "bearer ${token.good}" } }
          expect: { status: 200, text: "ann of acme: a, b" }
        - { request: again, after: 12m, expect: { status: 401, fault: authenticate_jwt.expired } }
    - name: of another tenant
      request: { path: /tenants/globex, headers: { authorization: "Bearer ${token.good}" } }
      expect: { status: 401, fault: authenticate_jwt.claim }
    - name: no access token
      request: { path: /tenants/acme, headers: { authorization: "Bearer ${token.plain}" } }
      expect: { status: 401, fault: authenticate_jwt.type }
    - name: a level that is none of the list
      request: { path: /tenants/acme, headers: { authorization: "Bearer ${token.high}" } }
      expect: { status: 401, fault: authenticate_jwt.claim }
"#;

pub(super) const FETCHED: &str = r#"
identity_provider: sso
kind: oidc
issuer: https://sso.example.com
audience: orders
---
service: example
match: { path: /orders }
policy:
  - authenticate_jwt: sso
  - respond: { text: "${auth.subject}" }
tests:
  given:
    tokens: { good: { issuer: sso, subject: ann }, foreign: { issuer: sso, subject: ann, break: unknown_key } }
  cases:
    - name: with its keys
      request: { headers: { authorization: "Bearer ${token.good}" } }
      expect: { status: 200, text: ann }
    - name: a key that a fetch does not bring either
      request: { headers: { authorization: "Bearer ${token.foreign}" } }
      expect: { status: 401, fault: authenticate_jwt.unknown_key }
    - name: a key that is new is fetched
      given: { providers: { sso: { keys: rotated } } }
      request: { headers: { authorization: "Bearer ${token.good}" } }
      expect: { status: 200, text: ann }
    - name: without keys nobody is turned away, and nobody let in
      given: { providers: { sso: { keys: down } } }
      request: { headers: { authorization: "Bearer ${token.good}" } }
      expect: { status: 503, fault: authenticate_jwt.keys_unavailable, headers: { retry-after: { present: true } } }
"#;

pub(super) const BOUND: &str = r#"
identity_provider: corp
kind: jwt
issuer: https://idp.example.com
keys: { file: keys/corp.json }
audience: orders
---
service: example
match: { path: /orders }
policy:
  - authenticate_jwt: { issuer: corp, bound: mtls }
  - respond: { text: "${auth.subject}" }
tests:
  given:
    tokens:
      # The SHA-256 of the certificate, in base64url: 32 bytes of 0x01.
      mine: { issuer: corp, subject: ann, claims: { cnf: { "x5t#S256": AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE } } }
      anybodys: { issuer: corp, subject: ann }
      proof: { issuer: corp, subject: ann, claims: { cnf: { jkt: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE } } }
  cases:
    - name: with the certificate
      request:
        headers: { authorization: "Bearer ${token.mine}" }
        client: { certificate: { fingerprint_sha256: "0101010101010101010101010101010101010101010101010101010101010101" } }
      expect: { status: 200, text: ann }
    - name: with another's
      request:
        headers: { authorization: "Bearer ${token.mine}" }
        client: { certificate: { fingerprint_sha256: "0202020202020202020202020202020202020202020202020202020202020202" } }
      expect: { status: 401, fault: authenticate_jwt.binding }
    - name: with none
      request: { headers: { authorization: "Bearer ${token.mine}" }, client: { tls: true } }
      expect: { status: 401, fault: authenticate_jwt.binding }
    - name: a token that is anybody's
      request:
        headers: { authorization: "Bearer ${token.anybodys}" }
        client: { certificate: { fingerprint_sha256: "0101010101010101010101010101010101010101010101010101010101010101" } }
      expect: { status: 401, fault: authenticate_jwt.binding }
    - name: a token that is bound otherwise
      request:
        headers: { authorization: "Bearer ${token.proof}" }
        client: { certificate: { fingerprint_sha256: "0101010101010101010101010101010101010101010101010101010101010101" } }
      expect: { status: 401, fault: authenticate_jwt.binding }
"#;
