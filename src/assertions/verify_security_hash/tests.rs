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
