//! Where keys are read, what they prove, and everything that is refused.

use crate::assertions::trial::{Trial, codes};

const SET: &str = r#"
api_keys: partners
entries:
  - { id: acme, hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b", client: app, plan: gold }
---
service: trial
match: { path: "/{*rest}" }
policy:
"#;

fn trial(steps: &str) -> Trial {
    Trial::of_set(&format!("{SET}{steps}"))
}

#[test]
fn a_key_identifies_and_is_not_forwarded() {
    let steps = "  - authenticate_api_key: partners
  - set_headers: { x-who: \"${auth.client} ${api_key.id} ${api_key.plan ?? '-'} ${auth.credential}\" }
  - route: http://127.0.0.1:9000";
    let outcome = trial(steps).send("GET", "/", &[("x-api-key", "k-1")], "");
    assert_eq!((outcome.status, outcome.sent_header("x-who")), (200, Some("app acme gold k-1")));
    assert_eq!(outcome.sent_header("x-api-key"), None);
}

#[test]
fn what_is_renamed_stands_below_the_new_name() {
    let steps = "  - authenticate_api_key: { keys: partners, keep_credential: true }
  - as: second
    authenticate_api_key: { keys: partners, from: { query: key } }
  - respond: { text: \"${second.client} ${second.api_key.id} ${auth.client} ${second.credential}\" }";
    let outcome = trial(steps).send("GET", "/?key=k-1", &[("x-api-key", "k-1")], "");
    assert_eq!(outcome.body, "app acme app k-1");
}

#[test]
fn a_key_out_of_a_list_is_not_forwarded_either() {
    let steps = "  - authenticate_api_key: { keys: partners, from: { value: \"${join(request.headers.x_key.all ?? [], '')}\" } }
  - route: http://127.0.0.1:9000";
    let outcome = trial(steps).send("GET", "/", &[("x-key", "k-1")], "");
    assert_eq!((outcome.status, outcome.sent_header("x-key")), (200, None));
}

#[test]
fn a_key_cannot_come_out_of_a_whole_map() {
    for map in [
        "json_text(request.headers)",
        "json_text(request.query)",
        "json_text(request.cookies)",
        "request.original.query ?? ''",
    ] {
        let value = format!("${{{map}}}");
        let steps = format!(
            "{SET}  - authenticate_api_key: {{ keys: partners, from: {{ value: \"{value}\" }} }}\n  - respond: {{ status: 204 }}\n"
        );
        assert_eq!(codes(&steps), ["policy.bad_value"], "{map}");
    }
}

#[test]
fn a_second_identity_needs_a_name() {
    let codes = codes(&format!(
        "{SET}  - authenticate_api_key: partners\n  - authenticate_api_key: partners\n  - respond: {{ status: 204 }}\n"
    ));
    assert_eq!(codes, ["policy.identity_twice"]);
}

#[test]
fn denials_are_challenged_and_guessing_pauses() {
    let trial = trial("  - authenticate_api_key: { keys: partners, realm: 'a \"b\"' }\n  - respond: { status: 204 }");
    let missing = trial.get("/");
    assert_eq!((missing.status, missing.fault.as_deref()), (401, Some("authenticate_api_key.missing")));
    assert_eq!(missing.header("www-authenticate"), Some(r#"ApiKey realm="a \"b\"""#));
    let twice = trial.send("GET", "/", &[("x-api-key", "k-1"), ("x-api-key", "k-1")], "");
    assert_eq!(twice.fault.as_deref(), Some("authenticate_api_key.ambiguous"));
    for _ in 0..10 {
        let wrong = trial.send("GET", "/", &[("x-api-key", "k-2")], "");
        assert_eq!((wrong.status, wrong.fault.as_deref()), (401, Some("authenticate_api_key.invalid")));
    }
    let paused = trial.send("GET", "/", &[("x-api-key", "k-1")], "");
    assert_eq!((paused.status, paused.header("retry-after")), (429, Some("300")));
    trial.clock.advance(std::time::Duration::from_secs(300));
    assert_eq!(trial.send("GET", "/", &[("x-api-key", "k-1")], "").status, 204);
}

#[test]
fn a_key_behind_a_variable_is_held_back_too() {
    let through = [
        "  - set: { key: \"${request.headers.x_key}\", other: \"${request.headers.x_other ?? ''}\" }",
        "  - set: { first: \"${request.headers.x_key}\" }\n  - set: { key: { value: \"${first}\", type: string } }",
        "  - match_regex: { value: \"${request.headers.x_key}\", pattern: '^(?P<key>.+)$' }\n  - set: { key: \"${match.key}\" }",
    ];
    for steps in through {
        let steps = format!(
            "{steps}\n  - authenticate_api_key: {{ keys: partners, from: {{ value: \"${{key}}\" }} }}\n  - route: http://127.0.0.1:9000"
        );
        let outcome = trial(&steps).send("GET", "/", &[("x-key", "k-1"), ("x-other", "o")], "");
        assert_eq!((outcome.status, outcome.sent_header("x-key")), (200, None), "{steps}");
        assert_eq!(outcome.sent_header("x-other"), Some("o"), "{steps}");
    }
    let all = format!(
        "{SET}  - set: {{ all: \"${{request.headers}}\" }}\n  - authenticate_api_key: {{ keys: partners, from: {{ value: \"${{all.x_key}}\" }} }}\n  - respond: {{ status: 204 }}\n"
    );
    assert_eq!(codes(&all), ["policy.bad_value"]);
}

#[test]
fn a_second_look_at_a_credential_holds_the_same_field_back() {
    let steps = "  - authenticate_api_key: { keys: partners, keep_credential: true }
  - as: second
    authenticate_api_key: { keys: partners, from: { value: \"${auth.credential}\" } }
  - route: http://127.0.0.1:9000";
    let outcome = trial(steps).send("GET", "/", &[("x-api-key", "k-1")], "");
    assert_eq!((outcome.status, outcome.sent_header("x-api-key")), (200, None));
}

#[test]
fn a_query_is_looked_at_where_it_is_written_and_scrubbed() {
    let route = "\n  - route: http://127.0.0.1:9000";
    let usual = trial(&format!("  - authenticate_api_key: partners{route}"));
    let missing = usual.send("GET", "/?x-api-key=k-1&key=k-1", &[("cookie", "x-api-key=k-1")], "");
    assert_eq!(missing.fault.as_deref(), Some("authenticate_api_key.missing"));
    let asked = trial(&format!("  - authenticate_api_key: {{ keys: partners, from: {{ query: key }} }}{route}"));
    let outcome = asked.send("GET", "/items?a=b&key=k-1&c=d", &[], "");
    assert_eq!((outcome.status, &*outcome.sent[0].target), (200, "/items?a=b&c=d"));
    assert!(!format!("{:?}", outcome.record).contains("k-1"), "{:?}", outcome.record);
    let twice = asked.send("GET", "/items?key=k-1&key=k-1", &[], "");
    assert_eq!((twice.status, twice.fault.as_deref()), (400, Some("authenticate_api_key.ambiguous")));
    let cookie = trial(&format!("  - authenticate_api_key: {{ keys: partners, from: {{ cookie: key }} }}{route}"));
    assert_eq!(cookie.send("GET", "/", &[("cookie", "key=k-1")], "").status, 200);
    let twice = cookie.send("GET", "/", &[("cookie", "key=k-1; key=k-1")], "");
    assert_eq!((twice.status, twice.fault.as_deref()), (400, Some("authenticate_api_key.ambiguous")));
}

#[test]
fn a_source_is_one_place() {
    for from in ["{ header: a, query: b }", "{}", "{ cookie: a, scheme: B }", "{ header: \"a b\" }"] {
        let steps = format!("{SET}  - authenticate_api_key: {{ keys: partners, from: {from} }}\n  - respond: 204\n");
        assert_eq!(codes(&steps), ["policy.bad_value"], "{from}");
    }
}

#[test]
fn all_that_is_set_can_be_read() {
    let entry = "client: app, plan: gold, subject: ann, groups: [g], scopes: [a, b], attributes: { site: north }, not_before: 2026-03-01, expires: 2026-03-02T00:00:00Z";
    let steps = "  - authenticate_api_key: partners
  - respond: { text: \"${auth.scheme} ${auth.subject} ${auth.client} ${auth.groups} ${auth.scopes} ${auth.attributes.site ?? '-'} ${auth.credential} ${api_key.id} ${api_key.plan ?? '-'} ${unix(api_key.expires_at ?? now())}\" }";
    let set = format!("{SET}{steps}").replace("client: app, plan: gold", entry);
    let outcome = Trial::of_set(&set).send("GET", "/", &[("x-api-key", "k-1")], "");
    assert_eq!(outcome.body, "api_key ann app g a, b north k-1 acme gold 1772409600");
}

#[test]
fn keys_that_do_not_count_are_told_alike() {
    let mut told = Vec::new();
    for (more, detail) in [
        ("status: revoked", "revoked key"),
        ("status: suspended", "suspended key"),
        ("expires: 2026-03-01", "expired key"),
        ("not_before: 2026-03-01T12:00:01Z", "key not yet valid"),
    ] {
        let set = format!("{SET}  - authenticate_api_key: partners\n  - respond: {{ status: 204 }}\n");
        let trial = Trial::of_set(&set.replace("plan: gold", more));
        for (key, detail) in [("k-1", detail), ("k-2", "unknown key")] {
            let outcome = trial.send("GET", "/", &[("x-api-key", key)], "");
            assert_eq!(outcome.record.detail.as_deref(), Some(detail));
            let mut body: serde_json::Value = serde_json::from_str(&outcome.body).unwrap();
            body["request_id"].take();
            told.push((outcome.status, body, outcome.header("www-authenticate").map(str::to_owned)));
        }
    }
    told.dedup();
    assert!(told.len() == 1 && told[0].0 == 401 && told[0].2.is_some(), "{told:?}");
}

#[test]
fn a_key_is_forwarded_only_where_the_policy_says_so() {
    let steps = "  - authenticate_api_key: { keys: partners, keep_credential: true }\n  - route: http://127.0.0.1:9000";
    let outcome = trial(steps).send("GET", "/", &[("x-api-key", "k-1")], "");
    assert_eq!(outcome.sent_header("x-api-key"), Some("k-1"));
}
