//! Identities, counters and records: what steps with a state show to a test.

use super::{fails, passes};

const SERVICE: &str = r#"
users: people
entries: {}
---
api_keys: partners
entries: []
---
secret: pepper
from: { env: PEPPER }
---
service: one
match: { path: /one }
policy:
  - authenticate_basic: people
  - limit_rate: { per: "${auth.subject}", rate: 2/minute }
  - name: managers only
    when: request.query.admin == "yes"
    authorize: { groups: [managers] }
  - set: { tenant: { id: "t-${auth.subject}", tags: [a, b] } }
  - route: http://127.0.0.1:9000
finally:
  - audit: { level: warning, message: done, fields: { tenant: "${tenant.id ?? 'none'}" } }
---
service: signed
match: { path: /signed }
policy:
  - authenticate_api_key: partners
  - generate_security_hash: { algorithm: hmac-sha256, key: { secret: pepper }, data: [a, b], encoding: hex }
  - respond: { text: "${hash.value}" }
"#;

#[test]
fn identities_variables_and_records_are_seen() {
    passes(&format!(
        "{SERVICE}{}",
        r#"
---
tests: one
given:
  users: { people: { ann: { password: pw-1, groups: [managers], attributes: { mail: a@x } }, bob: pw-2, eve: { password: pw-3, disabled: true } } }
  upstream: [{ answer: { text: ok } }]
cases:
  - name: a manager
    request: { path: "/one?admin=yes", basic: { ann: pw-1 } }
    expect:
      status: 200
      steps: { passed: [managers only, authenticate_basic, audit], denied: [] }
      variables: { auth.subject: ann, auth.groups: [managers], auth.attributes.mail: a@x, auth.client: { absent: true }, tenant.id: t-ann, tenant.tags.1: b }
      audit: { level: warning, fields: { tenant: t-ann }, contains_none: [pw-1] }
      upstream: [{ path: "/one?admin=yes", headers: { authorization: { absent: true } } }]
  - name: not a manager
    request: { path: "/one?admin=yes", basic: { bob: pw-2 } }
    expect: { status: 403, fault: authorize.group, upstream: none, steps: { denied: [managers only], not_run: [set, route] }, variables: { tenant: { absent: true } } }
  - { name: disabled, request: { basic: { eve: pw-3 } }, expect: { status: 401, fault: authenticate_basic.invalid, headers: { www-authenticate: { contains: Basic } } } }
  - { name: wrong, request: { basic: { ann: other } }, expect: { status: 401, fault: authenticate_basic.invalid } }
  - name: the third call in a minute is refused
    exchanges:
      - { request: { basic: { bob: pw-2 } }, repeat: 2, expect: { status: 200 } }
      - { request: again, expect: { status: 429, headers: { retry-after: { matches: "^[0-9]+$" } } } }
      - { request: again, after: 2m, expect: { status: 200 } }
  - { name: counts are a case's own, request: { basic: { bob: pw-2 } }, expect: { status: 200 } }
---
tests: signed
given: { users: { people: { ann: pw-1 } }, secrets: { pepper: value-of-pepper-0123 }, api_keys: { partners: { acme: { value: key-1, plan: gold } } } }
cases:
  - name: signed
    request: { api_key: acme }
    expect: { status: 200, text: "${hmac_sha256('value-of-pepper-0123', ['a', 'b'])}", variables: { api_key.plan: gold, auth.client: acme, hash.value: { present: true } } }
  - { name: unknown key, request: { headers: { x-api-key: other } }, expect: { status: 401, fault: authenticate_api_key.invalid } }
"#
    ));
}

#[test]
fn misses_about_them_are_noticed() {
    let found = fails(&format!(
        "{SERVICE}{}",
        r#"
---
tests: one
given: { users: { people: { ann: pw-1 } }, upstream: [{}] }
cases:
  - { name: a, request: { basic: { ann: pw-1 } }, expect: { status: 200, variables: { auth.subject: bob, auth.subjekt: ann, tenant.id: { absent: true } } } }
  - { name: b, request: { basic: { ann: pw-1 } }, expect: { status: 200, audit: { level: info, fields: { tenant: x } }, steps: { denied: [authorize] } } }
"#
    ));
    assert_eq!(found[0], ["variables.auth.subject", "variables.auth.subjekt", "variables.tenant.id"]);
    assert_eq!(found[1], ["steps: authorize", "audit.level", "audit.fields.tenant"]);
}

#[test]
fn given_users_are_compared_as_their_document_says() {
    passes(
        r#"
users: people
ignore_case: true
entries: {}
---
service: one
match: { path: /one }
policy:
  - authenticate_basic: people
  - respond: 204
tests:
  - name: in capitals
    given: { users: { people: { ann: pw-1 } } }
    request: { basic: { ANN: pw-1 } }
    expect: { status: 204 }
"#,
    );
}
