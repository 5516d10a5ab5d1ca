//! Who a token says it is of, and what is remembered of it.

use serde_json::{Map, json};

use super::*;
use crate::jose::{Algorithm, SigningKey};

const NOW: i64 = 1000;

fn provider(keys: &[&SigningKey]) -> Provider {
    Provider::new(Settings {
        name: "corp".into(),
        issuer: "https://idp".into(),
        keys: Keys::Fixed(Arc::new(KeySet::of(keys.iter().map(|key| key.verify_key().unwrap())))),
        algorithms: Algorithms::PUBLIC.into(),
        audiences: Arc::from([]),
        claims: ClaimNames { groups: "/realm_access/roles".into(), ..ClaimNames::default() },
    })
}

fn token(key: &SigningKey, claims: &Json) -> String {
    key.sign(Algorithm::EdDsa, Map::new(), claims.to_string().as_bytes()).unwrap()
}

fn flaw(provider: &Provider, token: &str) -> Flaw {
    match provider.verify(token, Algorithms::all(), true, NOW) {
        Err(Unverified::Refused(refusal)) => refusal.flaw,
        other => panic!("{token}: {other:?}"),
    }
}

#[test]
fn claims_become_an_identity() {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let claims = json!({ "iss": "https://idp", "sub": "ann", "exp": 1100, "scope": "a  b", "client_id": "web",
        "realm_access": { "roles": ["x", "y"] } });
    let verified = provider(&[&key]).verify(&token(&key, &claims), Algorithms::all(), true, NOW).unwrap();
    let identity = &verified.identity;
    assert_eq!((identity.scheme, &*identity.subject, identity.client.as_deref()), ("jwt", "ann", Some("web")));
    assert_eq!((identity.groups.join(" "), identity.scopes.join(" ")), ("x y".into(), "a b".into()));
    assert_eq!(identity.claims.as_deref(), Some(&claims));
    assert_eq!(identity.expires_at_unix_s, Some(1100));
}

#[test]
fn what_has_a_wrong_type_proves_nothing() {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let provider = provider(&[&key]);
    let good = json!({ "iss": "https://idp", "sub": "ann", "exp": 1100 });
    assert!(provider.verify(&token(&key, &good), Algorithms::all(), true, NOW).is_ok());
    let wrong = [
        ("sub", json!(7), Flaw::Claim),
        ("sub", json!(""), Flaw::Claim),
        ("sub", json!(null), Flaw::Claim),
        ("azp", json!(["web"]), Flaw::Claim),
        ("scope", json!({ "a": true }), Flaw::Claim),
        ("scope", json!(["a", 1]), Flaw::Claim),
        ("realm_access", json!({ "roles": [1] }), Flaw::Claim),
        ("exp", json!("1100"), Flaw::Claim),
        ("iss", json!("https://evil"), Flaw::Issuer),
    ];
    for (name, value, expected) in wrong {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(flaw(&provider, &token(&key, &claims)), expected, "{claims}");
    }
    assert_eq!(flaw(&provider, &key.sign(Algorithm::EdDsa, Map::new(), b"[]").unwrap()), Flaw::Malformed);
}

#[test]
fn a_token_is_remembered_no_longer_than_it_counts_and_its_key_is_there() {
    let (key, other) =
        (SigningKey::generate(Algorithm::EdDsa).unwrap(), SigningKey::generate(Algorithm::EdDsa).unwrap());
    let provider = provider(&[&key]);
    let short = token(&key, &json!({ "iss": "https://idp", "sub": "ann", "exp": 1100 }));
    let long = token(&key, &json!({ "iss": "https://idp", "sub": "ann", "exp": 99_999 }));
    let past = token(&key, &json!({ "iss": "https://idp", "sub": "ann", "exp": 1000 }));
    for token in [&short, &long, &past] {
        assert!(provider.remembered(token, NOW).is_none());
        provider.verify(token, Algorithms::all(), true, NOW).unwrap();
    }
    assert!(provider.remembered(&short, 1099).is_some() && provider.remembered(&short, 1100).is_none());
    assert!(provider.remembered(&long, 1299).is_some() && provider.remembered(&long, 1300).is_none());
    assert!(provider.remembered(&past, NOW).is_none(), "leeway never prolongs what is remembered");
    provider.verify(&long, Algorithms::all(), false, NOW).unwrap();
    assert!(provider.remembered(&long, NOW).is_none(), "not asked to");
    let foreign = token(&other, &json!({ "iss": "https://idp", "sub": "ann", "exp": 1100 }));
    assert_eq!(flaw(&provider, &foreign), Flaw::UnknownKey);
    assert!(provider.remembered(&foreign, NOW).is_none());
    // One changed character is another token, and no hit.
    provider.verify(&short, Algorithms::all(), true, NOW).unwrap();
    let changed = short.replacen('.', "A.", 1);
    assert!(provider.remembered(&changed, NOW).is_none());
}
