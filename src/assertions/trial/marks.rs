//! What steps have put into a message keeps its mark when it is read back.

use crate::assertions::trial::{Trial, codes, service};

const SECRET: &str = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";
const UPSTREAM: &str = "upstream: login\ntargets: [\"https://a.example\", \"https://b.example\"]\n---\n";
const FIELD: &str = "  - set_headers: { x-key: \"${secret('partner')}\" }\n";
const BODY: &str = "  - set_body: { json: { user: gw, key: \"${secret('partner')}\" } }\n";
const ROUTE: &str = "  - route: http://127.0.0.1:9000\n";
const NAMED: &str = "  - route: { to: \"https://a.example\", secrets_to: https://a.example }\n";
/// The value of `PARTNER_SECRET`.
const VALUE: &str = "test-value-0123456789";

fn with(steps: &str) -> Vec<&'static str> {
    codes(&format!("{SECRET}{UPSTREAM}{}", service(steps)))
}

#[test]
fn a_secret_in_a_field_of_the_request_is_one_when_it_is_read_back() {
    assert!(with(&format!("{FIELD}{ROUTE}")).is_empty());
    assert!(
        with(&format!("{FIELD}  - set_headers: {{ x-b: \"${{request.headers.x_key ?? ''}}\" }}\n{ROUTE}")).is_empty()
    );
    for leak in [
        "  - log: \"${request.headers.x_key ?? ''}\"\n",
        "  - log: \"${request.headers.x_key.all ?? []}\"\n",
        "  - log: \"${request.headers}\"\n",
        "  - set: { a: \"${request.headers['X-Key'] ?? ''}\" }\n  - log: \"${a}\"\n",
        "  - rewrite: { query: { set: { k: \"${request.headers.x_key ?? ''}\" } } }\n",
        "  - rewrite: { path: \"/${request.headers.x_key ?? ''}\" }\n",
    ] {
        assert_eq!(with(&format!("{FIELD}{leak}{ROUTE}")), ["policy.secret_leak"], "{leak}");
        if !leak.contains("all") {
            assert_ne!(with(&format!("{leak}{FIELD}{ROUTE}")), ["policy.secret_leak"], "nothing is there yet: {leak}");
        }
    }
    assert_eq!(
        with(&format!("{FIELD}  - respond: {{ text: \"${{request.headers.x_key ?? ''}}\" }}")),
        ["policy.secret_leak"]
    );
    let cookie = "  - set_headers: { cookie: \"s=${secret('partner')}\" }\n";
    assert_eq!(
        with(&format!("{cookie}  - respond: {{ text: \"${{request.cookies.s ?? ''}}\" }}")),
        ["policy.secret_leak"]
    );
}

#[test]
fn what_comes_after_a_way_that_may_have_put_it_there_counts() {
    let log = "  - log: \"${request.headers.x_key ?? ''}\"\n";
    let put = "set_headers: { x-key: \"${secret('partner')}\" }";
    for steps in [
        format!("  - {put}\n    when: request.method == 'GET'\n{log}"),
        format!("  - if: request.method == 'GET'\n    then: [{{ {put} }}]\n{log}"),
        format!("  - any:\n      - {put}\n      - restrict_ip: 10.0.0.0/8\n{log}"),
        format!(
            "  - for_each: {{ in: \"request.json.rows ?? []\", limit: 2 }}\n    do:\n      - log: \"${{request.headers.x_key ?? ''}}\"\n      - {put}\n"
        ),
    ] {
        assert_eq!(with(&format!("{steps}{ROUTE}")), ["policy.secret_leak"], "{steps}");
    }
    let service = service(&format!("  - {put}\n{ROUTE}"));
    for tail in ["on_fault", "finally"] {
        let set = format!("{SECRET}{service}{tail}:\n{log}");
        assert_eq!(codes(&set), ["policy.secret_leak"], "{tail}");
    }
    let over = "  - set_headers: { x-key: plain }\n";
    assert!(with(&format!("{FIELD}{over}{log}{ROUTE}")).is_empty(), "it is not there any more");
    let more = "  - set_headers: { x-key: { append: plain } }\n";
    assert_eq!(with(&format!("{FIELD}{more}{log}{ROUTE}")), ["policy.secret_leak"]);
}

#[test]
fn a_body_with_a_secret_goes_to_who_is_named_only() {
    let route = |params: &str| with(&format!("{BODY}  - route: {{ {params} }}\n"));
    assert_eq!(with(&format!("{BODY}{ROUTE}")), ["policy.secret_in_body"]);
    assert_eq!(route("to: \"https://a.example\""), ["policy.secret_in_body"]);
    assert!(route("to: \"https://a.example/login\", secrets_to: https://a.example").is_empty());
    assert_eq!(route("to: \"https://a.example\", secrets_to: https://a.example:444"), ["policy.secret_in_body"]);
    assert_eq!(route("to: \"http://a.example\", secrets_to: https://a.example"), ["policy.secret_in_body"]);
    assert_eq!(route("to: \"http://a.example\", secrets_to: http://a.example"), ["policy.bad_value"]);
    assert_eq!(route("upstream: login, secrets_to: https://a.example"), ["policy.secret_in_body"]);
    assert!(route("upstream: login, secrets_to: [https://a.example, https://b.example]").is_empty());
    let chosen = "to: \"https://${request.query.h ?? 'a'}.example\", allowed_hosts: \"*.example\"";
    assert_eq!(route(&format!("{chosen}, secrets_to: https://a.example")), ["policy.secret_in_body"]);
    // The next route has no such body, or has it too.
    assert_eq!(with(&format!("{BODY}{NAMED}{ROUTE}")), ["policy.secret_in_body"]);
    let plain = "  - set_body: { text: plain, message: request }\n";
    assert!(with(&format!("{BODY}{NAMED}{plain}{ROUTE}")).is_empty());
    let outcome = Trial::of_set(&format!("{SECRET}{}", service(&format!("{BODY}{NAMED}")))).send("POST", "/", &[], "x");
    assert_eq!(outcome.sent[0].body, format!("{{\"user\":\"gw\",\"key\":\"{VALUE}\"}}"));
}

#[test]
fn a_body_with_a_secret_is_read_back_by_nobody_who_shows_it() {
    let behind = |step: &str| with(&format!("{BODY}  - {step}\n{NAMED}"));
    for leak in [
        "log: \"${request.json.key}\"",
        "log: \"${request.text}\"",
        "log: \"${request.form.key ?? ''}\"",
        "audit: { save: [request_body] }",
        "count_metric: { name: a, labels: { a: \"${request.text}\" } }",
    ] {
        assert_eq!(behind(leak), ["policy.secret_leak"], "{leak}");
    }
    assert_eq!(behind("match_regex: { pattern: a }"), ["expr.marked_order"]);
    let path = "evaluate_json_path: $.key\n  - log: \"${json_path.value}\"";
    assert_eq!(behind(path), ["policy.secret_leak"]);
    let hash = "generate_security_hash: { algorithm: sha256 }\n  - log: \"${hash.value}\"";
    assert_eq!(behind(hash), ["policy.secret_leak"]);
    let after = format!("{BODY}{NAMED}  - set_body: {{ value: \"${{request.body}}\" }}\n");
    assert_eq!(with(&after), ["policy.secret_leak"]);
    assert!(with(&format!("  - audit: {{ save: [request_body] }}\n{BODY}{NAMED}")).is_empty());
}

#[test]
fn a_token_that_was_put_into_a_message_is_a_hash_in_records() {
    let steps = "  - set_headers: { x-caller: \"${request.headers.authorization ?? ''}\" }
  - audit: { message: \"of ${request.headers.x_caller ?? ''}\", save: [request_headers] }
  - respond: { headers: { x-back: \"${request.headers.x_caller ?? ''}\" } }";
    let set = format!(
        "{}finally:\n  - audit: {{ fields: {{ back: \"${{answer.headers.x_back ?? ''}}\" }} }}\n",
        service(steps)
    );
    let outcome = Trial::of_set(&set).send("GET", "/", &[("authorization", "Bearer zebra")], "");
    assert_eq!(outcome.header("x-back"), Some("Bearer zebra"));
    let mut line = String::new();
    outcome.record.write_line(&mut line);
    assert!(line.contains("of #") && line.contains("\"back\":\"#") && line.contains("\"x-caller\":\"#"), "{line}");
    assert!(!line.contains("zebra"), "{line}");
    let body = "  - set_body: { json: { t: \"${request.headers.authorization ?? ''}\" } }\n";
    assert_eq!(with(&format!("{body}  - audit: {{ save: request_body }}\n{ROUTE}")), ["policy.secret_leak"]);
}

#[test]
fn a_secret_is_no_part_of_a_url() {
    for params in [
        "\"https://a.example/${secret('partner')}\"",
        "\"https://a.example/x?k=${secret('partner')}\"",
        "\"https://${secret('partner')}.example\"",
        "{ upstream: login, path: \"/${secret('partner')}\" }",
        "{ upstream: login, query: \"k=${secret('partner')}\" }",
    ] {
        assert_eq!(with(&format!("  - route: {params}\n")), ["policy.secret_leak"], "{params}");
    }
    let query = "  - rewrite: { query: { add: { k: \"${secret('partner')}\" } } }\n";
    assert_eq!(with(&format!("{query}{ROUTE}")), ["policy.secret_leak"]);
}
