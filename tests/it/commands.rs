//! The commands that end by themselves: what they say and with which code they exit.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::harness::{Folder, command, gatewright, hello};

const BROKEN: &str = "service: broken\nmatch: { path: /broken }\npolicy:\n  - respnd: { text: x }\n";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_passes_what_ships() {
    let said = gatewright(repository(), &["check"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    assert!(said.out.contains("services, version "), "{}", said.out);
    let said = gatewright(repository(), &["test"]);
    assert_eq!(said.code, 0, "{}", said.out);
    for name in ["block_words", "json_envelope", "require_tenant", "sign_version_2", "write_window", "orders"] {
        assert!(said.out.contains(&format!("ok      {name}  ")), "no {name} in {}", said.out);
    }
}

#[test]
fn check_names_the_mistake_its_line_and_its_cure() {
    let folder = Folder::with(&[("policies/a.yaml", BROKEN), ("policies/b.yaml", &hello("b", "x"))]);
    let said = gatewright(&folder.0, &["check"]);
    assert_eq!(said.code, 3);
    for part in ["error[policy.unknown_assertion]", "policies/a.yaml:4:5", "did you mean `respond`", "1 error"] {
        assert!(said.out.contains(part), "no {part} in:\n{}", said.out);
    }
    let said = gatewright(&folder.0, &["check", "--json"]);
    assert_eq!(said.code, 3);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["errors"], 1);
    assert_eq!(json["diagnostics"][0]["code"], "policy.unknown_assertion");
    assert_eq!(json["diagnostics"][0]["line"], 4);
}

#[test]
fn check_takes_another_folder_and_explains_pipelines() {
    let reader = "service: reader\nmatch: { path: /r }\npolicy:\n  - respond: { text: \"${request.body}\" }\n\
                  on_fault:\n  - respond: { text: sorry }\n";
    let folder = Folder::with(&[("policies/a.yaml", BROKEN), ("other/b.yaml", reader)]);
    let said = gatewright(&folder.0, &["check", "other", "--explain"]);
    assert_eq!(said.code, 0, "{}", said.out);
    for part in [
        "service reader  /r  (other/b.yaml)",
        "respond  other/b.yaml:4",
        "on_fault.1",
        "request body: held in memory for step 1",
        "response body: streams",
    ] {
        assert!(said.out.contains(part), "no {part} in:\n{}", said.out);
    }
}

#[test]
fn check_explains_what_steps_depend_on() {
    let policy = "service: a\nmatch: { path: /a }\npolicy:\n  - when: request.method == 'PUT'\n    log: put\n  - if: request.query.v == '1'\n    \
                  then: [{ respond: 201 }]\n  - switch: request.host\n    cases: { a: [{ respond: 202 }] }\n    default: [{ respond: 203 }]\n";
    let folder = Folder::with(&[("policies/a.yaml", policy)]);
    let said = gatewright(&folder.0, &["check", "--explain"]);
    assert_eq!(said.code, 0, "{}", said.out);
    for part in ["  when request.method == 'PUT'\n", "  if request.query.v == '1'\n", "  switch request.host\n"] {
        assert!(said.out.contains(part), "no {part} in:\n{}", said.out);
    }
    let said = gatewright(&folder.0, &["check", "--explain", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let steps = &json["services"][0]["steps"];
    assert_eq!(
        (&steps[0]["when"], &steps[0]["decides"]),
        (&"request.method == 'PUT'".into(), &serde_json::Value::Null)
    );
    assert_eq!(steps[1]["decides"], "request.query.v == '1'");
}

#[test]
fn mistakes_of_the_configuration_hide_none_of_the_policies() {
    let config = "lisseners: []\nenv: HOME\nlimits: { haed: 1KiB }\n";
    let folder = Folder::with(&[("gateway.yaml", config), ("policies/a.yaml", BROKEN)]);
    let said = gatewright(&folder.0, &["check"]);
    assert_eq!(said.code, 3);
    for part in ["gateway.yaml:1:1", "did you mean `head`", "policies/a.yaml:4:5", "errors"] {
        assert!(said.out.contains(part), "no {part} in:\n{}", said.out);
    }
    // What may be wrong only because the configuration could not be read is not said.
    let reader =
        "service: a\nmatch: { path: /a }\nlisteners: [main]\npolicy:\n  - respond: { text: \"${env.HOME}\" }\n";
    let folder = Folder::with(&[("gateway.yaml", "listeners: {\n"), ("policies/a.yaml", reader)]);
    let said = gatewright(&folder.0, &["check"]);
    assert_eq!((said.code, said.out.matches("error[").count()), (3, 1), "{}", said.out);
}

#[test]
fn scrub_rules_of_the_house_hold_for_every_record() {
    let policy = "service: a\nmatch: { path: /a, methods: [POST] }\npolicy:\n  - audit: { fields: { note: \"${request.text}\" } }\n  \
                  - respond: 204\ntests:\n  - name: masked\n    request: { text: \"paid with 4111111111111111\" }\n    \
                  expect: { status: 204, audit: { fields: { note: \"paid with 411111******1111\" } } }\n";
    let folder = Folder::with(&[("gateway.yaml", "scrub: [pan]\n"), ("policies/a.yaml", policy)]);
    let said = gatewright(&folder.0, &["test"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let folder = Folder::with(&[("policies/a.yaml", policy)]);
    assert_eq!(gatewright(&folder.0, &["test"]).code, 4);
}

#[test]
fn explain_finds_the_codes_of_operators() {
    let policy = "service: a\nmatch: { path: /a }\npolicy:\n  - raise: { status: 422, code: orders.too_many }\n";
    let folder = Folder::with(&[("policies/a.yaml", policy)]);
    let said = gatewright(&folder.0, &["explain", "orders.too_many"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("policies/a.yaml:4"), "{}", said.out);
    let said = gatewright(&folder.0, &["explain", "orders.to_many"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("orders.too_many"), "{}", said.err);
    let said = gatewright(&folder.0, &["explain", "route.timeout"]);
    assert_eq!(said.code, 2);
    for near in ["route.timeout_total", "route.timeout_connect"] {
        assert!(said.err.contains(near), "no {near} in {}", said.err);
    }
}

#[test]
fn nothing_starts_on_broken_files() {
    let folder = Folder::with(&[("policies/a.yaml", BROKEN)]);
    let said = gatewright(&folder.0, &["run"]);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("policies/a.yaml:4:5"), "{}", said.err);

    let folder = Folder::with(&[("gateway.yaml", "lisseners: []\nworkers: 1\nlimits: { haed: 1KiB }\n")]);
    for word in ["run", "check"] {
        let said = gatewright(&folder.0, &[word]);
        assert_eq!(said.code, 3);
        let text = said.out + &said.err;
        assert!(text.contains("did you mean `listeners`") && text.contains("did you mean `head`"), "{text}");
        assert!(text.contains("gateway.yaml:1:1") && text.contains("gateway.yaml:3:11"), "{text}");
    }
}

#[test]
fn a_listener_that_cannot_be_bound_is_a_failed_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let policies = hello("a", "x");
    let config = format!("listeners: [{{ name: main, address: \"{address}\" }}]\nadmin: {{ address: 127.0.0.1:0 }}\n");
    let folder = Folder::with(&[("gateway.yaml", &config), ("policies/a.yaml", &policies)]);
    let said = gatewright(&folder.0, &["run"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains(&format!("listener \\\"main\\\" cannot listen on {address}")), "{}", said.err);

    let config = format!("listeners: [{{ name: main, address: 127.0.0.1:0 }}]\nadmin: {{ address: \"{address}\" }}\n");
    let folder = Folder::with(&[("gateway.yaml", &config), ("policies/a.yaml", &policies)]);
    let said = gatewright(&folder.0, &["run"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("the admin interface cannot listen on"), "{}", said.err);
}

#[test]
fn wrong_usage_is_two() {
    for arguments in [&["fly"][..], &["run", "--fast"], &["explain", "policy.unknwon_key"]] {
        assert_eq!(gatewright(repository(), arguments).code, 2, "{arguments:?}");
    }
    assert!(gatewright(repository(), &["explain", "policy.unknwon_key"]).err.contains("`policy.unknown_key`"));
}

#[test]
fn explain_has_a_page_for_every_code_it_lists() {
    let list = gatewright(repository(), &["explain"]).out;
    assert!(list.lines().count() > 100);
    let said = gatewright(repository(), &["explain", "route.connect"]);
    assert_eq!(said.code, 0);
    assert!(said.out.contains("status 502"), "{}", said.out);
}

#[test]
fn the_reference_is_written_where_it_is_asked_for() {
    let folder = Folder::new();
    let said = gatewright(&folder.0, &["docs", "--out", "pages"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let page = std::fs::read_to_string(folder.path("pages/reference.md")).unwrap();
    assert!(page.contains("#### route") && page.contains("### upstream") && !page.contains("Own assertions"));
    let config = repository().join("gateway.yaml");
    assert_eq!(gatewright(&folder.0, &["docs", "--out", "pages", "--config", config.to_str().unwrap()]).code, 0);
    let page = std::fs::read_to_string(folder.path("pages/reference.md")).unwrap();
    for part in
        ["### require_tenant", "| `claim` (required) | string | May be absent. |", "| `write_window.hour` | int |"]
    {
        assert!(page.contains(part), "no {part} in {page}");
    }
}

#[test]
fn a_password_becomes_a_hash_and_is_not_shown() {
    let mut child = command(repository())
        .args(["secret", "hash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let hash = String::from_utf8(output.stdout).unwrap();
    assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
    assert!(!hash.contains("horse") && output.stderr.is_empty());
    let parsed = gatewright::identity::password::PasswordHash::parse(hash.trim()).unwrap();
    assert!(parsed.verify(b"correct horse") && !parsed.verify(b"correct horse\n"));
}

#[test]
fn policy_tests_run_and_say_what_they_expected() {
    let said = gatewright(repository(), &["test"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let said = gatewright(repository(), &["test", "policies/hello.yaml", "--filter", "answers the world", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((report["passed"].as_u64(), said.code), (Some(1), 0), "{}", said.out);

    let wrong = format!(
        "{}tests:\n  - name: says y\n    request: {{ path: /a }}\n    expect: {{ status: 200, text: y }}\n",
        hello("a", "x")
    );
    let folder = Folder::with(&[("policies/a.yaml", &wrong)]);
    let said = gatewright(&folder.0, &["test"]);
    assert_eq!(said.code, 4);
    for part in ["a: says y", "policies/a.yaml:8:", "expected", "got", "0 passed, 1 failed"] {
        assert!(said.out.contains(part), "no {part} in:\n{}", said.out);
    }
    assert_eq!(gatewright(&folder.0, &["test", "policies/b.yaml"]).code, 2);
    let folder = Folder::with(&[("policies/a.yaml", BROKEN)]);
    assert_eq!(gatewright(&folder.0, &["test"]).code, 3);
}

#[test]
fn credentials_in_clear_text_are_refused_unless_somebody_says_so() {
    let policy = "api_keys: partners\nkeys: []\n---\nservice: a\nmatch: { path: /a }\npolicy:\n  \
                  - authenticate_api_key: { from: { header: x-api-key }, keys: partners }\n  - respond: 204\n";
    let config = |rest: &str| format!("listeners: [{{ name: main, address: \"0.0.0.0:0\"{rest} }}]\n");
    for (rest, wanted) in
        [("", true), (", behind_tls_proxy: true", false), (", allow_plaintext_credentials: true", false)]
    {
        let inside = policy.replace("- authenticate", "- if: request.method == 'PUT'\n    then:\n      - authenticate");
        for policy in [policy, &inside] {
            let folder = Folder::with(&[("gateway.yaml", &config(rest)), ("policies/a.yaml", policy)]);
            let said = gatewright(&folder.0, &["check"]);
            assert_eq!(said.out.contains("policy.plaintext_credentials"), wanted, "{rest}: {}", said.out);
        }
    }
}
