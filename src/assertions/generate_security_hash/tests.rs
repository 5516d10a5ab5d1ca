//! Known hashes, keys that are not there, and whose fault it is.

use super::*;
use crate::assertions::trial::{Trial, refusals, service, warnings};

#[test]
fn parts_are_joined_and_bytes_are_taken_as_they_are() {
    let secret = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";
    let steps = "  - generate_security_hash: { data: [\"${request.method}\", \"${request.body}\", 7], separator: \"|\", key: { secret: partner }, encoding: base64url }
  - respond: { text: \"${hash.algorithm} ${hash.value} ${hex(hash.bytes)}\" }";
    let outcome = Trial::of_set(&format!("{secret}{}", service(steps))).send("POST", "/", &[], "abc");
    let mut hasher = Algorithm::HmacSha256.hasher(b"test-value-0123456789");
    hasher.update(b"POST|abc|7");
    let hash = hasher.finish();
    let (value, hex) = (data_encoding::BASE64URL_NOPAD.encode(&hash), data_encoding::HEXLOWER.encode(&hash));
    assert_eq!(outcome.body, format!("hmac-sha256 {value} {hex}"));
}

#[test]
fn keys_belong_to_hmac_and_plain_digests_of_client_data_are_no_keys() {
    let wrong = [
        ("{ data: a }", "policy.missing_parameter"),
        ("{ data: a, algorithm: md5, key: k }", "policy.bad_value"),
        ("{ data: [], algorithm: md5 }", "policy.empty_list"),
        ("{ data: a, algorithm: md5, message: request }", "policy.bad_value"),
    ];
    for (params, code) in wrong {
        let steps = format!("  - generate_security_hash: {params}\n  - respond: {{ status: 204 }}");
        assert_eq!(refusals(&steps), [code], "{params}");
    }
    let steps = "  - generate_security_hash: { data: \"${request.path}\", algorithm: sha256 }
  - as: signed
    generate_security_hash: { data: a, key: { value: \"${hash.value}\" } }
  - respond: { status: 204 }";
    assert_eq!(refusals(steps), ["policy.key_from_client"]);
}

/// What is hashed of a body, in base64.
fn of_body(params: &str, body: &'static str) -> (u16, String) {
    let steps = format!(
        "  - generate_security_hash: {{ {params} }}\n  - respond: {{ text: \"${{hash.algorithm}} ${{hash.value}}\" }}"
    );
    let outcome = Trial::of_set(&service(&steps)).send("POST", "/", &[], body);
    (outcome.status, outcome.body)
}

#[test]
fn each_algorithm_is_the_one_of_its_name() {
    // MD5 of `fred` and SHA-1 of `helloworld` as partners have published them; the others FIPS 180-4.
    for (algorithm, body, hash) in [
        ("md5", "fred", "VwqQv7+MfqtdxdTiaDLVsQ=="),
        ("sha1", "helloworld", "at+xg6SiyUovktq1redipHiJpaE="),
        ("sha256", "abc", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
        ("sha384", "abc", "ywB1P0WjXou1oD1pmsZQBycsMqsO3tFjGotgWkP/W+2AhgcroefMI1i67KE0yCWn"),
        ("sha512", "abc", "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=="),
    ] {
        assert_eq!(of_body(&format!("algorithm: {algorithm}"), body), (200, format!("{algorithm} {hash}")));
    }
}

#[test]
fn hmacs_are_those_of_rfc_4231() {
    let path = std::env::temp_dir().join(format!("gatewright-hash-jefe-{}", std::process::id()));
    std::fs::write(&path, "Jefe").unwrap();
    for (algorithm, begin) in [
        ("hmac-sha256", "5bdcc146bf60754e"),
        ("hmac-sha384", "af45d2e376484031"),
        ("hmac-sha512", "164b7a7bfcf819e2"),
        ("hmac-sha1", "effcdf6ae5eb2fa2"), // RFC 2202 §3
    ] {
        let steps = format!(
            "  - generate_security_hash: {{ algorithm: {algorithm}, encoding: hex, key: {{ secret: jefe }} }}\n  - respond: {{ text: \"${{hash.value}}\" }}"
        );
        let set = format!("secret: jefe\nfrom: {{ file: {} }}\n---\n{}", path.display(), service(&steps));
        let outcome = Trial::of_set(&set).send("POST", "/", &[], "what do ya want for nothing?");
        assert!(outcome.body.starts_with(begin), "{algorithm}: {outcome:?}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn line_ends_and_parts_are_hashed_as_they_stand() {
    let (lf, crlf) = (of_body("algorithm: sha256", "a\nb"), of_body("algorithm: sha256", "a\r\nb"));
    assert_eq!(of_body("algorithm: sha256, data: [a, b]", "").1, lf.1, "parts are joined by a line feed");
    assert_eq!(of_body("algorithm: sha256, data: \"a\\r\\nb\"", "").1, crlf.1);
    assert_ne!(lf.1, crlf.1);
}

#[test]
fn behind_a_route_it_is_the_response_that_is_hashed() {
    let steps = "  - route: http://127.0.0.1:9000\n  - generate_security_hash: { algorithm: md5 PARAM }
  - set_headers: { x-hash: \"${hash.value}\" }";
    for (param, hash) in [("", "VwqQv7+MfqtdxdTiaDLVsQ=="), (", message: request", "kAFQmDzST7DWlj99KOF/cg==")] {
        let trial = Trial::of(&steps.replace(" PARAM", param)).answering(&[], "fred");
        assert_eq!(trial.send("POST", "/", &[], "abc").header("x-hash"), Some(hash), "{param}");
    }
}

#[test]
fn what_is_absent_is_the_fault_of_whom_it_comes_from() {
    let outcome =
        Trial::of("  - generate_security_hash: { algorithm: md5, data: \"${request.headers.x_a}\" }\n  - respond: 204")
            .get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("generate_security_hash.absent")));
    let steps = "  - route: http://127.0.0.1:9000\n  - generate_security_hash: { algorithm: md5, data: \"${response.headers.x_a}\" }";
    let outcome = Trial::of(steps).get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("generate_security_hash.absent")));
}

#[test]
fn a_key_that_is_not_there_breaks_the_step() {
    let keys = "api_keys: partners\nentries:\n  - { id: acme, hash: \"sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b\" }\n---\n";
    for key in ["{ api_keys: partners, id: acme }", "{ api_keys: partners, id: nobody }"] {
        let steps = format!("  - generate_security_hash: {{ data: a, key: {key} }}\n  - respond: 204");
        let outcome = Trial::of_set(&format!("{keys}{}", service(&steps))).get("/");
        assert_eq!(
            (outcome.status, outcome.fault.as_deref()),
            (503, Some("generate_security_hash.key_unavailable")),
            "{key}"
        );
    }
}

#[test]
fn weak_algorithms_are_warned_of() {
    for algorithm in ["sha1", "md5"] {
        let steps = format!("  - generate_security_hash: {{ data: a, algorithm: {algorithm} }}\n  - respond: 204");
        assert_eq!(warnings(&service(&steps)), ["policy.weak_algorithm"]);
    }
    let secret = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";
    for (algorithm, warned) in [("hmac-sha1", &["policy.weak_algorithm"][..]), ("hmac-sha256", &[])] {
        let steps = format!(
            "  - generate_security_hash: {{ data: a, algorithm: {algorithm}, key: {{ secret: partner }} }}\n  - respond: 204"
        );
        assert_eq!(warnings(&format!("{secret}{}", service(&steps))), warned, "{algorithm}");
    }
}
