//! What tokens hold, and everything that is refused.

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::*;
use crate::assertions::trial::{Outcome, Trial, codes};
use crate::jose::{Compact, VerifyKey};

/// The clock of a trial: 2026-03-01T12:00:00Z.
const NOW_S: i64 = 1_772_366_400;

/// A set with a key and these steps, before a route.
fn set(steps: &str) -> String {
    format!(
        "key: ours\nkind: private\nfrom: {{ generate: ES256 }}\npublish: /jwks\n---\n\
         service: trial\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n{steps}\n  - route: http://127.0.0.1:9000\n"
    )
}

fn issue(more: &str) -> String {
    let all = ["key: ours", "issuer: https://gw", "audience: orders", "subject: ann", more];
    let written = more.split(':').next().unwrap();
    let all = all.iter().enumerate().filter(|(at, one)| *at == 4 || one.split(':').next() != Some(written));
    let all: Vec<&str> = all.map(|(_, one)| *one).filter(|one| !one.is_empty()).collect();
    format!("  - issue_jwt: {{ {}, inject: {{ header: authorization, scheme: Bearer }} }}", all.join(", "))
}

fn token(outcome: &Outcome) -> String {
    outcome
        .sent_header("authorization")
        .unwrap_or_else(|| panic!("{outcome:?}"))
        .strip_prefix("Bearer ")
        .unwrap()
        .into()
}

fn claims(token: &str) -> Json {
    serde_json::from_slice(&Compact::parse(token).unwrap().payload).unwrap()
}

#[test]
fn a_token_says_what_the_parameters_say() {
    let trial = Trial::of_set(&set(&issue(
        "claims: { n: 1, text: \"01\", deep: { a: [true, null] }, who: \"${request.method}\" }",
    )));
    let first = token(&trial.get("/"));
    let header = Compact::parse(&first).unwrap().header.all;
    let keys: Json = serde_json::from_str(&trial.get("/jwks").body).unwrap();
    let key = &keys["keys"][0];
    assert_eq!(header, json!({ "alg": "ES256", "kid": key["kid"], "typ": "JWT" }));
    let verifying = crate::jose::parse_jwk(key).unwrap();
    let thumbprint = BASE64URL_NOPAD.encode(&verifying.as_public().unwrap().thumbprint());
    assert_eq!((key["kid"].as_str(), key.get("d")), (Some(&*thumbprint), None));
    let verifying = crate::jose::KeySet::of([verifying]);
    assert!(verifying.verify(&Compact::parse(&first).unwrap(), crate::jose::Algorithms::all()).is_ok());
    let mut said = claims(&first);
    let id = said["jti"].take();
    assert!(id.as_str().is_some_and(|id| id.len() == 2 * ID_BYTES), "{id}");
    let expected = json!({
        "iss": "https://gw", "aud": "orders", "sub": "ann", "iat": NOW_S, "exp": NOW_S + 300, "jti": null,
        "n": 1, "text": "01", "deep": { "a": [true, null] }, "who": "GET",
    });
    assert_eq!(said, expected);
    assert_ne!(claims(&token(&trial.get("/")))["jti"], id);
}

#[test]
fn the_rest_of_the_parameters_do_what_they_say() {
    let said = |more: &str| {
        let token = token(&Trial::of_set(&set(&issue(more))).get("/"));
        (Compact::parse(&token).unwrap().header.typ, claims(&token))
    };
    assert_eq!(said("audience: [orders, items]").1["aud"], json!(["orders", "items"]));
    assert_eq!(said("audience: [orders]").1["aud"], "orders");
    assert_eq!(said("id: false").1.get("jti"), None);
    assert_eq!(said("not_before: true").1["nbf"], NOW_S);
    assert_eq!(said("id: true").1.get("nbf"), None);
    assert_eq!(said("type: at+jwt").0.as_deref(), Some("at+jwt"));
    assert_eq!(said("algorithm: ES256").0.as_deref(), Some("JWT"));
    for (lifetime, seconds) in [("1s", 1), ("24h", 86_400)] {
        assert_eq!(said(&format!("lifetime: {lifetime}")).1["exp"], NOW_S + seconds);
    }
}

#[test]
fn what_would_make_wrong_tokens_does_not_load() {
    let load = |step: &str| codes(&set(step));
    assert!(load(&issue("")).is_empty(), "{:?}", load(&issue("")));
    for own in OWN {
        assert_eq!(load(&issue(&format!("claims: {{ {own}: x }}"))), ["policy.bad_value"], "{own}");
    }
    let wrong = [
        ("lifetime: 0s", "policy.bad_value"),
        ("lifetime: 500ms", "policy.bad_value"),
        ("lifetime: 86401s", "policy.bad_value"),
        ("audience: []", "policy.empty_list"),
        ("algorithm: none", "policy.bad_value"),
        ("algorithm: HS256", "policy.bad_value"),
        ("algorithm: RS256", "policy.bad_value"),
        ("algorithm: es256", "policy.bad_value"),
        ("type: jwt", "policy.bad_value"),
        ("key: nobodys", "policy.unknown_name"),
        ("subject: \"${auth.subject}\"", "policy.no_identity"),
    ];
    for (more, code) in wrong {
        assert_eq!(load(&issue(more)), [code], "{more}");
    }
    let bare = "  - issue_jwt: { key: ours, issuer: \"https://gw\", audience: orders }";
    assert_eq!(load(bare), ["policy.no_identity"], "there is no caller to speak of");
}

#[test]
fn a_key_of_several_algorithms_is_told_which() {
    let path = std::env::temp_dir().join(format!("gatewright-issue-{}.der", std::process::id()));
    std::fs::write(&path, &*SigningKey::generate(Algorithm::Rs256).unwrap().to_pkcs8().unwrap()).unwrap();
    let file = |more: &str| format!("from: {{ file: {} }}{more}", path.display());
    let with = |from: &str, step: &str| set(step).replace("from: { generate: ES256 }", from);
    assert_eq!(codes(&with(&file(""), &issue(""))), ["policy.missing_parameter"]);
    assert_eq!(codes(&with(&file(""), &issue("algorithm: ES256"))), ["policy.bad_value"]);
    assert_eq!(codes(&with(&file("\nalgorithms: [ES256]"), &issue(""))), ["policy.bad_key"]);
    for (from, step) in [(file(""), issue("algorithm: PS384")), (file("\nalgorithms: [PS384]\nkid: ours-1"), issue(""))]
    {
        let trial = Trial::of_set(&with(&from, &step));
        let header = Compact::parse(&token(&trial.get("/"))).unwrap().header;
        assert_eq!(header.alg, "PS384");
        let keys: Json = serde_json::from_str(&trial.get("/jwks").body).unwrap();
        assert_eq!(header.kid.as_deref(), keys["keys"][0]["kid"].as_str());
        assert_eq!(header.kid.as_deref() == Some("ours-1"), from.contains("kid"));
    }
    std::fs::remove_file(&path).unwrap();
}

/// A set in which a token of a provider comes first.
fn behind(key: &VerifyKey, more: &str) -> String {
    let jwks = json!({ "keys": [key.to_public_jwk()] });
    let provider = format!(
        "identity_provider: corp\nkind: jwt\nissuer: https://idp\nkeys: {{ inline: {jwks} }}\naudience: orders\n---\n"
    );
    provider + &set(&format!("  - authenticate_jwt: corp\n{}", issue(more)))
}

#[test]
fn no_token_outlives_its_callers() {
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let verifying = key.verify_key().unwrap();
    let send = |more: &str, exp: i64| {
        let claims = json!({ "iss": "https://idp", "aud": "orders", "sub": "ann", "exp": exp }).to_string();
        let token = key.sign(Algorithm::Es256, Map::new(), claims.as_bytes()).unwrap();
        let field = format!("Bearer {token}");
        Trial::of_set(&behind(&verifying, more)).send("GET", "/", &[("authorization", &field)], "")
    };
    assert_eq!(claims(&token(&send("", NOW_S + 100)))["exp"], NOW_S + 100);
    assert_eq!(claims(&token(&send("", NOW_S + 1000)))["exp"], NOW_S + 300);
    assert_eq!(claims(&token(&send("cap_to_caller: false", NOW_S + 100)))["exp"], NOW_S + 300);
    // The caller's has ended, and only the leeway for clocks that differ has let it in.
    let late = send("", NOW_S - 10);
    assert_eq!((late.status, late.fault.as_deref()), (403, Some("issue_jwt.caller_expired")));
    assert_eq!(claims(&token(&send("cap_to_caller: false", NOW_S - 10)))["exp"], NOW_S + 300);
}

#[test]
fn what_is_absent_is_the_fault_of_whom_it_comes_from() {
    let trial = Trial::of_set(&set(&issue("claims: { a: \"${request.headers.x_a}\" }")));
    let outcome = trial.get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("issue_jwt.claim")));
    assert_eq!(trial.send("GET", "/", &[("x-a", "b")], "").status, 200);
    for parameter in ["issuer", "audience", "subject"] {
        let trial = Trial::of_set(&set(&issue(&format!("{parameter}: \"${{request.headers.x_a}}\""))));
        let outcome = trial.get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("issue_jwt.absent")), "{parameter}");
    }
}

#[test]
fn the_clients_own_field_never_reaches_the_upstream() {
    let trial = Trial::of_set(&set(&issue("")));
    let outcome = trial.send("GET", "/", &[("authorization", "Bearer forged")], "");
    assert!(token(&outcome) != "forged" && outcome.status == 200);
}

#[test]
fn what_json_cannot_hold_is_no_claim() {
    let only = Trial::of_set(&set(&issue("claims: { a: \"${request.body}\" }")));
    let outcome = only.send_bytes("POST", "/", &[], b"\xff\xfe");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("issue_jwt.claim")));
    assert_eq!(claims(&token(&only.send("POST", "/", &[], "text")))["a"], "text");
}

#[test]
fn without_random_bytes_there_is_no_token() {
    let outcome = Trial::without_randomness(&set(&issue(""))).get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (503, Some("issue_jwt.key_unavailable")));
    assert!(outcome.sent.is_empty(), "nothing goes upstream");
    // What needs none is issued.
    assert_eq!(Trial::without_randomness(&set(&issue("id: false, algorithm: ES256"))).get("/").status, 200);
}

#[test]
fn what_was_issued_can_be_read_and_is_no_text_for_records() {
    let steps = format!(
        "{}\n  - set_headers: {{ x-id: \"${{issued.id}}\", x-end: \"${{unix(issued.expires_at)}}\", x-token: \"${{issued.token}}\" }}\n  - audit: {{ fields: {{ token: \"${{issued.token}}\" }} }}",
        issue("")
    );
    let outcome = Trial::of_set(&set(&steps)).get("/");
    let sent = token(&outcome);
    assert_eq!(outcome.sent_header("x-token"), Some(&*sent));
    assert_eq!(outcome.sent_header("x-id"), claims(&sent)["jti"].as_str());
    assert_eq!(outcome.sent_header("x-end"), Some((NOW_S + 300).to_string().as_str()));
    assert!(!format!("{:?}", outcome.record).contains(&sent), "{:?}", outcome.record);
}

#[test]
fn without_inject_only_the_variable_is_set() {
    let steps = "  - issue_jwt: { key: ours, issuer: https://gw, audience: orders, subject: ann }
  - set_headers: { x-parts: \"${len(split(issued.token, '.'))}\" }";
    let outcome = Trial::of_set(&set(steps)).get("/");
    assert_eq!((outcome.sent_header("x-parts"), outcome.sent_header("authorization")), (Some("3"), None));
}

#[test]
fn a_claim_out_of_an_answer_is_the_upstreams_fault() {
    let steps = format!("  - route: http://127.0.0.1:9000\n{}", issue("claims: { a: \"${response.headers.x_a}\" }"));
    let outcome = Trial::of_set(&set(&steps)).get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("issue_jwt.claim")));
}

#[test]
fn a_shared_secret_signs_too_and_a_short_one_does_not_load() {
    let with = |bytes: usize| {
        let path = std::env::temp_dir().join(format!("gatewright-issue-{bytes}-{}", std::process::id()));
        std::fs::write(&path, "s".repeat(bytes)).unwrap();
        let key = format!(
            "secret: s\nfrom: {{ file: {} }}\n---\nkey: ours\nkind: symmetric\nfrom: {{ secret: s }}",
            path.display()
        );
        let yaml = set(&issue("")).replace("key: ours\nkind: private\nfrom: { generate: ES256 }\npublish: /jwks", &key);
        let codes = codes(&yaml);
        (codes.is_empty().then(|| token(&Trial::of_set(&yaml).get("/"))), codes)
    };
    let (signed, _) = with(32);
    assert_eq!(Compact::parse(&signed.unwrap()).unwrap().header.alg, "HS256");
    assert_eq!(with(31).1, ["policy.weak_key"]);
}

#[test]
fn a_token_goes_where_the_policy_puts_it_and_the_clients_own_does_not() {
    let client = [("cookie", "a=b; sid=theirs"), ("x-jwt", "theirs")];
    let send = |steps: &str| Trial::of_set(&set(steps)).send("PUT", "/x?t=theirs&c=d", &client, "");
    let step = |target: &str| issue("").replace("{ header: authorization, scheme: Bearer }", target);
    let ours = |text: &str| assert_eq!(claims(text)["sub"], "ann");
    let outcome = send(&step("{ cookie: sid }"));
    let cookies = outcome.sent_header("cookie").unwrap().to_owned();
    ours(cookies.strip_prefix("a=b; sid=").unwrap_or_else(|| panic!("{cookies}")));
    let outcome = send(&step("{ query: t }"));
    let target = outcome.sent[0].target.clone();
    ours(target.strip_prefix("/x?c=d&t=").unwrap_or_else(|| panic!("{target}")));
    assert!(!format!("{:?}", outcome.record).contains("eyJ"), "{:?}", outcome.record);
    let outcome = send(&step("{ header: x-jwt }"));
    ours(outcome.sent_header("x-jwt").unwrap());
    // On ways on which none is issued there is none.
    for (target, field) in [("{ cookie: sid }", "cookie"), ("{ query: t }", "cookie"), ("{ header: x-jwt }", "x-jwt")] {
        let outcome = send(&step(target).replace("  - issue_jwt", "  - when: request.method == 'GET'\n    issue_jwt"));
        let left = (outcome.sent_header(field), &*outcome.sent[0].target);
        let wanted = match target {
            "{ cookie: sid }" => (Some("a=b"), "/x?t=theirs&c=d"),
            "{ query: t }" => (Some("a=b; sid=theirs"), "/x?c=d"),
            _ => (None, "/x?t=theirs&c=d"),
        };
        assert_eq!(left, wanted, "{target}");
    }
    for wrong in [
        "{}",
        "{ cookie: a, query: b }",
        "{ cookie: a, scheme: B }",
        "{ cookie: \"a b\" }",
        "{ query: \"\" }",
        "{ header: \"a b\" }",
    ] {
        assert_eq!(codes(&set(&step(wrong))), ["policy.bad_value"], "{wrong}");
    }
}
