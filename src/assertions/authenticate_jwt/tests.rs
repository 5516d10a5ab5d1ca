//! What no policy test can write: load errors, real keys, and what goes upstream.

use serde_json::{Map, json};

use super::*;
use crate::assertions::trial::{Outcome, Trial, codes};
use crate::jose::{Algorithm, SigningKey};

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

/// The clock of a trial: 2026-03-01T12:00:00Z.
const NOW_S: i64 = 1_772_366_400;

fn good() -> Json {
    json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": 4_000_000_000_u64 })
}

#[test]
fn a_token_is_read_where_the_policy_says_and_goes_no_further() {
    let key = key();
    let token = token(&key, &good());
    let (cookie, query) = (format!("a=b; session={token}; c=d"), format!("/?a=b&access_token={token}&c=d"));
    let cases = [
        ("{ cookie: session }", "/", Some(("cookie", &*cookie))),
        ("{ query: access_token }", &*query, None),
        ("{ header: x-token }", "/", Some(("x-token", &*token))),
        ("{ value: \"${request.headers.x_assertion}\" }", "/", Some(("x-assertion", &*token))),
    ];
    for (from, path, field) in cases {
        let serve = |more: &str| {
            let step = format!("  - authenticate_jwt: {{ issuer: corp, from: {from}{more} }}");
            let trial = Trial::of_set(&set(&key, &format!("{step}\n  - route: http://127.0.0.1:9000")));
            (trial.send("GET", path, field.as_slice(), ""), trial)
        };
        let (outcome, trial) = serve("");
        assert_eq!(outcome.status, 200, "{from}: {outcome:?}");
        assert!(!format!("{outcome:?}").contains(&token), "{from}: it is neither forwarded nor recorded: {outcome:?}");
        let (kept, _) = serve(", keep_credential: true");
        assert!(format!("{:?}", kept.sent).contains(&token), "{from}: {kept:?}");
        assert!(!format!("{:?}", kept.record).contains(&token), "{from}: {kept:?}");
        // Nowhere else is looked.
        let elsewhere = send(&trial, &token).fault;
        assert!(
            elsewhere.as_deref().is_some_and(|code| code.ends_with(".missing") || code.ends_with(".absent")),
            "{from}: {elsewhere:?}"
        );
    }
}

#[test]
fn what_is_too_long_or_there_twice_is_no_token() {
    let key = key();
    let trial = Trial::of_set(&set(&key, "  - authenticate_jwt: corp\n  - respond: { status: 204 }"));
    let field = format!("Bearer {}", token(&key, &good()));
    let twice = trial.send("GET", "/", &[("authorization", &field), ("authorization", &field)], "");
    assert_eq!((twice.status, twice.fault.as_deref()), (400, Some("authenticate_jwt.ambiguous")));
    let long = send(&trial, &"a".repeat(16 * 1024 + 1));
    assert_eq!((long.status, long.fault.as_deref()), (400, Some("authenticate_jwt.ambiguous")));
    let challenge = long.header("www-authenticate");
    assert_eq!(challenge, Some("Bearer realm=\"trial\", error=\"invalid_request\""));
}

/// What a step says to a token with these claims in the place of good ones, from its signature and out of memory.
fn judged(more: &str, claims: &Json) -> Option<String> {
    let key = key();
    let mut all = good();
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let token = token(&key, &all);
    let judge = |more: &str| {
        let step = format!("  - authenticate_jwt: {{ issuer: corp{more} }}\n  - respond: {{ status: 204 }}");
        let trial = Trial::of_set(&set(&key, &step));
        let [first, second] = [0, 1].map(|_| send(&trial, &token));
        assert_eq!((first.status, &first.fault), (second.status, &second.fault), "{more} {claims}");
        let told = first.fault.is_none() || first.header("www-authenticate").is_some();
        assert!(told && matches!(first.status, 204 | 401), "{first:?}");
        first.fault.map(|code| code.strip_prefix("authenticate_jwt.").unwrap().to_owned())
    };
    let fault = judge(more);
    assert_eq!(judge(&format!("{more}, cache: false")), fault, "{more} {claims}");
    fault
}

#[test]
fn times_hold_to_the_second() {
    let cases = [
        ("", json!({ "exp": NOW_S - 59 }), None),
        ("", json!({ "exp": NOW_S - 60 }), Some("expired")),
        (", leeway: 0s", json!({ "exp": NOW_S + 1 }), None),
        (", leeway: 0s", json!({ "exp": NOW_S }), Some("expired")),
        (", leeway: 5m", json!({ "exp": NOW_S - 299 }), None),
        (", leeway: 5m", json!({ "exp": NOW_S - 300 }), Some("expired")),
        ("", json!({ "nbf": NOW_S + 60 }), None),
        ("", json!({ "nbf": NOW_S + 61 }), Some("not_yet_valid")),
        (", max_age: 10m, leeway: 0s", json!({ "iat": NOW_S - 600 }), None),
        (", max_age: 10m, leeway: 0s", json!({ "iat": NOW_S - 601 }), Some("expired")),
        (", max_age: 10m", json!({ "iat": NOW_S + 61 }), Some("not_yet_valid")),
        (", max_age: 10m", json!({}), Some("claim")),
    ];
    for (more, claims, flaw) in cases {
        assert_eq!(judged(more, &claims).as_deref(), flaw, "{more} {claims}");
    }
}

#[test]
fn claims_hold_with_their_types() {
    let cases = [
        ("", json!({ "exp": null }), Some("claim")),
        ("", json!({ "exp": "4000000000" }), Some("claim")),
        ("", json!({ "sub": null }), Some("claim")),
        ("", json!({ "sub": 7 }), Some("claim")),
        ("", json!({ "iss": "https://idp/" }), Some("issuer")),
        ("", json!({ "aud": ["items"] }), Some("audience")),
        ("", json!({ "aud": ["items", "orders"] }), None),
        (", audience: [items, others]", json!({ "aud": "others" }), None),
        (", audience: items", json!({}), Some("audience")),
        (", require: [tenant]", json!({ "tenant": null }), Some("claim")),
        (", require: [tenant]", json!({ "tenant": false }), None),
        (", require: [/a/b]", json!({ "a": { "b": 1 } }), None),
        (", require: [/a/b]", json!({ "a": { "c": 1 } }), Some("claim")),
        (", claims: { level: 2 }", json!({ "level": 2.0 }), None),
        (", claims: { level: 2 }", json!({ "level": "2" }), Some("claim")),
        (", claims: { level: [1, 2] }", json!({ "level": 2 }), None),
        (", claims: { level: [1, 2] }", json!({ "level": 3 }), Some("claim")),
        (", claims: { level: 2 }", json!({}), Some("claim")),
        (", type: jwt", json!({}), Some("type")),
        (", algorithms: ES384", json!({}), Some("algorithm")),
        (", bound: mtls", json!({}), Some("binding")),
        ("", json!({ "cnf": { "x5t#S256": "A".repeat(43) } }), Some("binding")),
    ];
    for (more, claims, flaw) in cases {
        assert_eq!(judged(more, &claims).as_deref(), flaw, "{more} {claims}");
    }
}

#[test]
fn all_that_is_set_can_be_read() {
    let key = key();
    let steps = "  - authenticate_jwt: { issuer: corp, require: [tenant], claims: { level: 2 } }
  - respond: { text: \"${auth.scheme} ${auth.subject} ${auth.groups} ${auth.scopes} ${auth.client ?? '-'} ${auth.claims.tenant} ${auth.claims.level} ${unix(auth.expires_at)} ${unix(jwt.expires_at)} ${jwt.claims.tenant} ${jwt.header.alg ?? '-'}\" }";
    let mut claims = good();
    for (name, value) in [
        ("tenant", json!("acme")),
        ("level", json!(2)),
        ("groups", json!(["g", "h"])),
        ("scope", json!("a b")),
        ("azp", json!("web")),
    ] {
        claims[name] = value;
    }
    let outcome = send(&Trial::of_set(&set(&key, steps)), &token(&key, &claims));
    assert_eq!(outcome.body, "jwt ann g, h a, b web acme 2 4000000000 4000000000 acme ES256", "{outcome:?}");
}

#[test]
fn a_key_that_a_token_brings_along_is_not_looked_at() {
    let (own, foreign) = (key(), key());
    let trial = Trial::of_set(&set(&own, "  - authenticate_jwt: corp\n  - respond: { status: 204 }"));
    let own_kid = own.to_public_jwk().unwrap()["kid"].clone();
    for (name, value) in [
        ("jwk", json!(foreign.to_public_jwk())),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = Map::from_iter([(name.to_owned(), value)]);
        let sign = |kid: Option<&Json>| {
            let mut header = header.clone();
            header.extend(kid.map(|kid| ("kid".to_owned(), kid.clone())));
            foreign.sign(Algorithm::Es256, header, good().to_string().as_bytes()).unwrap()
        };
        for token in [sign(None), sign(Some(&own_kid))] {
            let outcome = send(&trial, &token);
            let code = outcome.fault.unwrap_or_default();
            assert!(["authenticate_jwt.unknown_key", "authenticate_jwt.signature"].contains(&&*code), "{name}: {code}");
        }
        // Beside a right signature they do no harm.
        let right = own.sign(Algorithm::Es256, header.clone(), good().to_string().as_bytes()).unwrap();
        assert_eq!(send(&trial, &right).status, 204, "{name}");
    }
}

#[test]
fn what_a_text_of_the_step_reads_may_be_absent() {
    let key = key();
    let token = token(&key, &good());
    for (params, status, fault) in [
        ("audience: \"${request.headers.x_aud}\"", 400, "authenticate_jwt.absent"),
        ("claims: { sub: \"${request.headers.x_sub}\" }", 401, "authenticate_jwt.claim"),
    ] {
        let step = format!("  - authenticate_jwt: {{ issuer: corp, {params} }}\n  - respond: {{ status: 204 }}");
        let trial = Trial::of_set(&set(&key, &step));
        let outcome = send(&trial, &token);
        assert_eq!((outcome.status, outcome.fault.as_deref()), (status, Some(fault)), "{params}");
        let fields = [("authorization", &*format!("Bearer {token}")), ("x-aud", "orders"), ("x-sub", "ann")];
        assert_eq!(trial.send("GET", "/", &fields, "").status, 204, "{params}");
    }
}

#[test]
fn every_refusal_of_a_token_is_challenged_with_the_realm_that_is_written() {
    let key = key();
    let trial = Trial::of_set(&set(
        &key,
        "  - authenticate_jwt: { issuer: corp, realm: Orders }\n  - respond: { status: 204 }",
    ));
    assert_eq!(trial.get("/").header("www-authenticate"), Some("Bearer realm=\"Orders\""));
    for token in ["junk", &token(&key, &json!({})), &token(&self::key(), &good())] {
        assert_eq!(
            send(&trial, token).header("www-authenticate"),
            Some("Bearer realm=\"Orders\", error=\"invalid_token\"")
        );
    }
}

#[test]
fn algorithms_that_few_have_are_asked_for_and_shared_secrets_are_keys() {
    let key = SigningKey::generate(Algorithm::Es512).unwrap();
    let steps = "  - authenticate_jwt: corp\n  - respond: { status: 204 }\n";
    assert_eq!(codes(&set(&key, steps)), ["policy.bad_provider"], "ES512 is not among the usual ones");
    let asked = set(&key, steps).replace("audience: orders\n", "audience: orders\nalgorithms: [ES512]\n");
    let token = key.sign(Algorithm::Es512, Map::new(), good().to_string().as_bytes()).unwrap();
    assert_eq!(send(&Trial::of_set(&asked), &token).status, 204);
    let written = "keys: [{ kty: oct, k: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA }]";
    let secret = format!(
        "identity_provider: corp\nkind: jwt\nissuer: https://idp\nkeys: {{ inline: {{ {written} }} }}\naudience: orders\n---\n"
    );
    let secret = secret + set(&key, steps).split_once("---\n").unwrap().1;
    assert_eq!(codes(&secret), ["policy.bad_provider"], "a shared secret does not stand where others read it");
}

#[test]
fn a_claim_that_nothing_can_equal_does_not_load() {
    let step = |claims: &str| {
        codes(&set(&key(), &format!("  - authenticate_jwt: {{ issuer: corp, claims: {claims} }}\n  - respond: 204")))
    };
    assert!(step("{ tier: [gold, silver] }").is_empty());
    assert_eq!(step("{ tier: [] }"), ["policy.empty_list"]);
    assert_eq!(step("{ tier: gold, /a/b: [] }"), ["policy.empty_list"]);
}
