//! What no policy test can write: load errors, real keys, and what goes upstream.

use serde_json::{Map, json};

use super::*;
use crate::assertions::trial::{Outcome, Trial, codes};
use crate::jose::SigningKey;

/// A set whose provider has the public half of a key.
fn set(key: &SigningKey, steps: &str) -> String {
    let jwks = json!({ "keys": [key.to_public_jwk()] });
    format!(
        "identity_provider: corp\nkind: jwt\nissuer: https://idp\nkeys: {{ inline: {jwks} }}\naudience: orders\n---\n\
         service: trial\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n{steps}"
    )
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::Es256).unwrap()
}

fn token(key: &SigningKey, claims: &Json) -> String {
    key.sign(Algorithm::Es256, Map::new(), claims.to_string().as_bytes()).unwrap()
}

fn send(trial: &Trial, token: &str) -> Outcome {
    trial.send("GET", "/", &[("authorization", &format!("Bearer {token}"))], "")
}

#[test]
fn a_token_identifies_and_is_not_forwarded() {
    let key = key();
    let steps = "  - authenticate_jwt: corp
  - set_headers: { x-who: \"${auth.subject} ${jwt.header.alg ?? '-'} ${auth.claims.aud ?? '-'}\" }
  - route: http://127.0.0.1:9000";
    let trial = Trial::of_set(&set(&key, steps));
    let good = token(&key, &json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 }));
    for _ in 0..2 {
        let outcome = send(&trial, &good); // the second time out of memory
        assert_eq!((outcome.status, outcome.sent_header("x-who")), (200, Some("ann ES256 orders")), "{outcome:?}");
        assert_eq!(outcome.sent_header("authorization"), None);
    }
    assert_eq!(trial.get("/").fault.as_deref(), Some("authenticate_jwt.missing"));
}

#[test]
fn a_remembered_token_is_held_to_what_each_step_asks() {
    let key = key();
    let steps = "  - if: request.path == '/strict'
    then:
      - authenticate_jwt: { issuer: corp, audience: other }
    else:
      - authenticate_jwt: corp
  - respond: { status: 204 }";
    let trial = Trial::of_set(&set(&key, steps));
    let good = token(&key, &json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 }));
    let field = format!("Bearer {good}");
    assert_eq!(send(&trial, &good).status, 204);
    let strict = trial.send("GET", "/strict", &[("authorization", &field)], "");
    assert_eq!(strict.fault.as_deref(), Some("authenticate_jwt.audience"));
}

#[test]
fn a_token_bound_to_a_key_is_refused_where_none_is_proved() {
    let key = key();
    let trial = Trial::of_set(&set(&key, "  - authenticate_jwt: corp\n  - respond: { status: 204 }"));
    let mut claims = json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 });
    for cnf in [json!({ "x5t#S256": "x" }), json!({ "jkt": "x" }), json!({ "kid": "x" }), json!({})] {
        claims["cnf"] = cnf;
        assert_eq!(send(&trial, &token(&key, &claims)).fault.as_deref(), Some("authenticate_jwt.binding"));
    }
}

#[test]
fn what_could_let_wrong_tokens_in_does_not_load() {
    let key = key();
    let load = |steps: &str| codes(&set(&key, &format!("{steps}\n  - respond: {{ status: 204 }}\n")));
    let wrong = [
        ("  - authenticate_jwt: other", "policy.unknown_name"),
        ("  - authenticate_jwt: { issuer: corp, algorithms: [HS256] }", "policy.bad_value"),
        ("  - authenticate_jwt: { issuer: corp, algorithms: [none] }", "policy.bad_value"),
        ("  - authenticate_jwt: { issuer: corp, algorithms: [] }", "policy.empty_list"),
        ("  - authenticate_jwt: { issuer: corp, leeway: 6m }", "policy.bad_value"),
        ("  - authenticate_jwt: corp\n  - authenticate_jwt: corp", "policy.identity_twice"),
    ];
    for (steps, code) in wrong {
        assert_eq!(load(steps), [code], "{steps}");
    }
    assert!(load("  - authenticate_jwt: { issuer: corp, algorithms: ES256 }").is_empty());
    let bare =
        set(&key, "  - authenticate_jwt: corp\n  - respond: { status: 204 }\n").replace("audience: orders\n", "");
    assert_eq!(codes(&bare), ["policy.no_audience"], "for whom must tokens be?");
    let rsa = set(&key, "  - authenticate_jwt: corp\n  - respond: { status: 204 }\n")
        .replace("audience: orders\n", "audience: orders\nalgorithms: [RS256]\n");
    assert_eq!(codes(&rsa), ["policy.bad_provider"]);
}
