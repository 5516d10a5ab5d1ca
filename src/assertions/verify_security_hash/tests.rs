//! Signatures that fit and those that do not, over the running engine.

use super::*;
use crate::assertions::trial::{Trial, codes, service};

#[test]
fn timestamps_of_three_kinds() {
    for text in ["1772366400", "1772366400000", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00"] {
        let time = parse_timestamp(text).unwrap();
        assert_eq!(time.to_string(), "2026-03-01T12:00:00Z", "{text}");
    }
    for text in ["", "-5", "1e9", "2026-03-01", "99999999999999999999", "now", "1772366400.5", " 1772366400"] {
        assert!(parse_timestamp(text).is_none(), "{text}");
    }
}

const KEY: &[u8] = b"test-value-0123456789";
const SECRET: &str = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";
const KEYS: &str = r#"
secret: partner
from: { env: PARTNER_SECRET }
---
api_keys: partners
entries:
  - id: acme
    hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b"
    signing_secret: { secret: partner }
  - id: other
    hash: "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    signing_secret: { secret: partner }
---
"#;

fn sign(data: &str) -> String {
    let mut hasher = Algorithm::HmacSha256.hasher(KEY);
    hasher.update(data.as_bytes());
    data_encoding::HEXLOWER.encode(&hasher.finish())
}

fn set(documents: &str, steps: &str) -> String {
    format!("{documents}{}", service(steps))
}

#[test]
fn a_body_is_verified_as_received_and_what_was_read_is_there() {
    let steps = "  - verify_security_hash: { value: \"${request.headers.x_s}\", prefix: \"v1=\", encoding: hex, key: { secret: partner } }
  - respond: { text: \"${request.headers.x_s} ${hash.verified}\" }";
    let trial = Trial::of_set(&set(SECRET, steps));
    let right = format!("v1={}", sign("hello"));
    let upper = format!("v1={}", sign("hello").to_uppercase());
    assert_eq!(trial.send("POST", "/", &[("x-s", &right)], "hello").body, format!("{right} true"));
    assert_eq!(trial.send("POST", "/", &[("x-s", &upper)], "hello").status, 200);
    let code = |value: &str, body| trial.send("POST", "/", &[("x-s", value)], body).fault.unwrap();
    assert_eq!(code(&right, "hello!"), "verify_security_hash.mismatch");
    assert_eq!(code(&right[..right.len() - 2], "hello"), "verify_security_hash.mismatch");
    assert_eq!(code(&right[..right.len() - 1], "hello"), "verify_security_hash.malformed");
    assert_eq!(code(&sign("hello"), "hello"), "verify_security_hash.malformed");
    let missing = trial.send("POST", "/", &[], "hello");
    assert_eq!(missing.fault.as_deref(), Some("verify_security_hash.missing"));
    assert_eq!(missing.header("www-authenticate"), Some("HMAC realm=\"trial\""));
}

#[test]
fn a_clients_own_key_says_who_it_is_and_a_hash_is_good_once() {
    let steps = "  - verify_security_hash:
      value: \"${request.headers.x_s}\"
      key: { api_keys: partners, id: \"${request.headers.x_id}\" }
      encoding: hex
      data: [\"${request.method}\", \"${request.headers.x_t}\"]
      timestamp: \"${request.headers.x_t}\"
      one_time: true
  - respond: { text: \"${auth.scheme} ${auth.client} ${api_key.id} ${request.headers.x_t}\" }";
    let trial = Trial::of_set(&set(KEYS, steps));
    let send = |id: &str, time: &str, signed: &str| {
        let signature = sign(&format!("GET\n{signed}"));
        trial.send("GET", "/", &[("x-id", id), ("x-t", time), ("x-s", &signature)], "")
    };
    let first = send("acme", "1772366400", "1772366400");
    assert_eq!(first.body, "hmac acme acme 1772366400", "{first:?}");
    assert_eq!(send("acme", "1772366400", "1772366400").fault.as_deref(), Some("verify_security_hash.replayed"));
    assert_eq!(send("acme", "1772366100", "1772366100").status, 200);
    assert_eq!(send("acme", "1772366099", "1772366099").fault.as_deref(), Some("verify_security_hash.stale"));
    assert_eq!(send("acme", "1772366401", "1772366400").fault.as_deref(), Some("verify_security_hash.mismatch"));
    assert_eq!(send("nobody", "1772366402", "1772366402").fault.as_deref(), Some("verify_security_hash.mismatch"));
    // A stamp from the future is remembered for as long as it stays good.
    assert_eq!(send("acme", "1772366700", "1772366700").status, 200);
    trial.clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(send("acme", "1772366700", "1772366700").fault.as_deref(), Some("verify_security_hash.replayed"));
}

#[test]
fn behind_the_api_key_the_entry_must_be_the_same() {
    let steps = "  - authenticate_api_key: partners
  - verify_security_hash:
      value: \"${request.headers.x_s}\"
      key: { api_keys: partners, id: \"${request.query.id ?? api_key.id}\" }
      encoding: hex
      data: \"${request.method}\"
  - respond: { text: \"${auth.scheme} ${api_key.id}\" }";
    let trial = Trial::of_set(&set(KEYS, steps));
    let send = |path| trial.send("GET", path, &[("x-api-key", "k-1"), ("x-s", &sign("GET"))], "");
    assert_eq!(send("/").body, "api_key acme");
    assert_eq!(send("/?id=other").fault.as_deref(), Some("verify_security_hash.mismatch"));
}

#[test]
fn what_proves_nothing_does_not_load() {
    let base = "value: \"${request.headers.x_s}\", key: { secret: partner }";
    let wrong = [
        (
            format!("{base}, data: \"${{request.path}}\", timestamp: \"${{request.headers.x_t}}\""),
            "policy.unsigned_timestamp",
        ),
        (format!("{base}, timestamp: \"${{request.headers.x_t}}\""), "policy.unsigned_timestamp"),
        (format!("{base}, one_time: true"), "policy.missing_parameter"),
        (format!("{base}, algorithm: sha256"), "policy.bad_value"),
        (format!("{base}, algorithm: md5"), "policy.bad_value"),
        (format!("{base}, separator: x"), "policy.bad_value"),
        ("value: \"${request.headers.x_s}\"".to_owned(), "policy.missing_parameter"),
    ];
    for (params, code) in wrong {
        let steps = format!("  - verify_security_hash: {{ {params} }}\n  - respond: {{ status: 204 }}");
        assert_eq!(codes(&set(SECRET, &steps)), [code], "{params}");
    }
    let signed = format!("{base}, timestamp: \"${{request.json.t}}\"");
    let steps = format!("  - verify_security_hash: {{ {signed} }}\n  - respond: {{ status: 204 }}");
    assert!(codes(&set(SECRET, &steps)).is_empty());
}

#[test]
fn while_a_key_is_changed_both_are_good_and_a_plain_digest_proves_nobody() {
    let documents =
        "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\nsecret: next\nfrom: { env: NEXT_SECRET }\n---\n";
    let steps = "  - verify_security_hash: { value: \"${request.headers.x_s}\", encoding: hex, key: [{ secret: next }, { secret: partner }] }
  - respond: { status: 204 }";
    let trial = Trial::of_set(&set(documents, steps));
    assert_eq!(trial.send("POST", "/", &[("x-s", &sign("a"))], "a").status, 204);
    let plain = "  - verify_security_hash: { value: \"${request.headers.x_s}\", encoding: hex, algorithm: sha256 }
  - respond: { status: 204 }";
    let trial = Trial::of_set(&set("", plain));
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(trial.send("POST", "/", &[("x-s", abc)], "abc").status, 204);
    let denied = trial.send("POST", "/", &[("x-s", "zz")], "abc");
    assert_eq!((denied.status, denied.fault.as_deref()), (400, Some("verify_security_hash.mismatch")));
    assert_eq!(denied.header("www-authenticate"), None);
}

/// Each algorithm with the key and the text of RFC 4231 §4.3, in hexadecimal digits.
const JEFE: [(&str, &str); 4] = [
    ("hmac-sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ("hmac-sha384", "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"),
    (
        "hmac-sha512",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ),
    ("hmac-sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"), // RFC 2202 §3, the same key and text
];

#[test]
fn each_algorithm_is_the_one_of_its_name() {
    let path = std::env::temp_dir().join(format!("gatewright-jefe-{}", std::process::id()));
    std::fs::write(&path, "Jefe").unwrap();
    let secret = format!("secret: jefe\nfrom: {{ file: {} }}\n---\n", path.display());
    let trial = |algorithm: &str, more: &str| {
        let params = format!("value: \"${{request.headers.x_s}}\", encoding: hex, algorithm: {algorithm}{more}");
        let steps = format!("  - verify_security_hash: {{ {params} }}\n  - respond: {{ status: 204 }}");
        Trial::of_set(&set(&secret, &steps))
    };
    for (algorithm, hash) in JEFE {
        let trial = trial(algorithm, ", key: { secret: jefe }");
        let of = |value: &str| trial.send("POST", "/", &[("x-s", value)], "what do ya want for nothing?").status;
        assert_eq!((of(hash), of(&hash.replacen('a', "b", 1))), (204, 401), "{algorithm}");
    }
    // FIPS 180-4, of `abc`.
    for (algorithm, begin) in [("sha256", "ba7816bf"), ("sha384", "cb00753f"), ("sha512", "ddaf35a1")] {
        let trial = trial(algorithm, "");
        let mut hasher = serde_json::from_value::<Word>(algorithm.into()).unwrap().algorithm().hasher(b"");
        hasher.update(b"abc");
        let hash = data_encoding::HEXLOWER.encode(&hasher.finish());
        assert!(hash.starts_with(begin), "{algorithm}: {hash}");
        assert_eq!(trial.send("POST", "/", &[("x-s", &hash)], "abc").status, 204, "{algorithm}");
        assert_eq!(trial.send("POST", "/", &[("x-s", &hash)], "abd").status, 400, "{algorithm}");
        let missing = trial.send("POST", "/", &[], "abc");
        assert_eq!((missing.status, missing.fault.as_deref()), (400, Some("verify_security_hash.missing")));
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_value_is_base64_unless_the_policy_says_otherwise() {
    let mut hasher = Algorithm::HmacSha256.hasher(KEY);
    hasher.update(b"hello");
    let hash = hasher.finish();
    let url = data_encoding::BASE64URL.encode(&hash);
    for (more, value) in [
        ("", data_encoding::BASE64.encode(&hash)),
        (", encoding: base64url", url.clone()),
        (", encoding: base64url", url.trim_end_matches('=').to_owned()),
        (", encoding: hex", data_encoding::HEXUPPER.encode(&hash)),
    ] {
        let steps = format!(
            "  - verify_security_hash: {{ value: \"${{request.headers.x_s}}\", key: {{ secret: partner }}{more} }}\n  - respond: {{ status: 204 }}"
        );
        let trial = Trial::of_set(&set(SECRET, &steps));
        assert_eq!(trial.send("POST", "/", &[("x-s", &value)], "hello").status, 204, "{more} {value}");
        assert_eq!(
            trial.send("POST", "/", &[("x-s", "?")], "hello").fault.as_deref(),
            Some("verify_security_hash.malformed")
        );
    }
}

#[test]
fn what_is_signed_is_joined_as_the_policy_says_and_must_be_there() {
    let steps = "  - verify_security_hash: { value: \"${request.headers.x_s}\", encoding: hex, key: { secret: partner }, separator: \"|\", data: [\"${request.method}\", \"${request.headers.x_a}\"], timestamp: \"${request.headers.x_a}\", tolerance: 1m, challenge: Partner }
  - respond: { text: \"${request.headers.x_a}\" }";
    let trial = Trial::of_set(&set(SECRET, steps));
    let send = |time: &str| trial.send("GET", "/", &[("x-s", &sign(&format!("GET|{time}"))), ("x-a", time)], "");
    assert_eq!(send("1772366340").body, "1772366340");
    assert_eq!(send("1772366339").fault.as_deref(), Some("verify_security_hash.stale"));
    assert_eq!(send("1772366461").fault.as_deref(), Some("verify_security_hash.stale"));
    assert_eq!(send("soon").fault.as_deref(), Some("verify_security_hash.malformed"));
    let missing = trial.send("GET", "/", &[("x-s", "00")], "");
    assert_eq!((missing.status, missing.fault.as_deref()), (401, Some("verify_security_hash.missing")));
    assert_eq!(missing.header("www-authenticate"), Some("Partner realm=\"trial\""));
}

#[test]
fn a_key_that_is_not_there_is_not_the_callers_fault() {
    let steps = "  - route: http://127.0.0.1:9000
  - verify_security_hash: { value: \"${request.headers.x_s}\", encoding: hex, key: { value: \"${response.headers.x_key}\", encoding: hex }, data: a }";
    let send =
        |headers: &[(&str, &str)]| Trial::of(steps).answering(headers, "").send("GET", "/", &[("x-s", &sign("a"))], "");
    let key = data_encoding::HEXLOWER.encode(KEY);
    assert_eq!(send(&[("x-key", &key)]).status, 200);
    for headers in [&[][..], &[("x-key", "")], &[("x-key", "zz")]] {
        let outcome = send(headers);
        assert_eq!((outcome.status, outcome.fault.as_deref()), (503, Some("verify_security_hash.key_unavailable")));
        assert_eq!(outcome.header("www-authenticate"), None);
    }
}

#[test]
fn keys_are_one_or_two_and_nothing_weaker_is_offered() {
    let base = "value: \"${request.headers.x_s}\"";
    let own = "{ secret: partner }";
    let wrong = [
        (format!("{base}, key: [{own}, {own}, {own}]"), "policy.bad_value"),
        (format!("{base}, key: [{own}, {{ api_keys: partners, id: a }}]"), "policy.bad_value"),
        (format!("{base}, key: {own}, algorithm: sha1"), "policy.bad_value"),
        (format!("{base}, key: {own}, challenge: \"a b\""), "policy.bad_value"),
        (format!("{base}, key: {own}, tolerance: 1m"), "policy.missing_parameter"),
        (format!("{base}, key: {{ api_keys: partners }}"), "policy.missing_parameter"),
        (format!("{base}, key: {{ value: \"${{request.path}}\" }}"), "policy.key_from_client"),
    ];
    for (params, code) in wrong {
        let steps = format!("  - verify_security_hash: {{ {params} }}\n  - respond: {{ status: 204 }}");
        assert_eq!(codes(&set(KEYS, &steps)), [code], "{params}");
    }
}

#[test]
fn where_nothing_can_be_remembered_the_policy_says_what_that_means() {
    for (more, status, fault) in [
        ("", 503, Some("store.unavailable")),
        (", on_store_error: deny", 503, Some("store.unavailable")),
        (", on_store_error: allow", 204, None),
    ] {
        let steps = format!(
            "  - verify_security_hash: {{ value: \"${{request.headers.x_s}}\", encoding: hex, key: {{ secret: partner }}, data: \"${{request.headers.x_t}}\", timestamp: \"${{request.headers.x_t}}\", one_time: true{more} }}\n  - respond: {{ status: 204 }}"
        );
        let trial = Trial::with_full_memory(&set(SECRET, &steps));
        let outcome = trial.send("GET", "/", &[("x-s", &sign("1772366400")), ("x-t", "1772366400")], "");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (status, fault), "{more}");
    }
}

#[test]
fn all_that_a_clients_key_sets_can_be_read() {
    let keys = KEYS.replacen(
        "    signing_secret",
        "    client: app\n    subject: ann\n    groups: [g]\n    scopes: [s]\n    plan: gold\n    attributes: { site: north }\n    expires: 2026-03-02\n    signing_secret",
        1,
    );
    let steps = "  - verify_security_hash: { value: \"${request.headers.x_s}\", encoding: hex, key: { api_keys: partners, id: acme }, data: a }
  - respond: { text: \"${hash.verified} ${auth.scheme} ${auth.subject} ${auth.client} ${auth.groups} ${auth.scopes} ${auth.attributes.site ?? '-'} ${api_key.id} ${api_key.plan ?? '-'} ${unix(api_key.expires_at ?? now())}\" }";
    let outcome = Trial::of_set(&set(&keys, steps)).send("GET", "/", &[("x-s", &sign("a"))], "");
    assert_eq!(outcome.body, "true hmac ann app g s north acme gold 1772409600", "{outcome:?}");
}
