//! What no example shows: types, several values, bounds, and what does not load.

use crate::assertions::trial::{Trial, refusals};

fn evaluating(params: &str) -> Trial {
    let steps = format!("  - evaluate_json_path: {{ {params} }}\n");
    let answer = "{ v: \"${json_path.value}\", all: \"${json_path.values}\", n: \"${json_path.count}\", found: \"${json_path.found}\" }";
    Trial::of(&format!("{steps}  - respond: {{ json: {answer} }}"))
}

fn fault(params: &str, body: &'static str) -> (u16, String) {
    let outcome = evaluating(params).send("POST", "/", &[], body);
    (outcome.status, outcome.fault.unwrap_or(outcome.body))
}

fn value(params: &str, body: &'static str) -> String {
    let outcome = evaluating(params).send("POST", "/", &[], body);
    let json: serde_json::Value = serde_json::from_str(&outcome.body).unwrap();
    json.get("v").unwrap_or(&json["code"]).to_string()
}

#[test]
fn outputs_are_what_was_selected() {
    let all = evaluating("path: \"$.a[*]\"").send("POST", "/", &[], r#"{"a":[1,null,"x"]}"#).body;
    assert_eq!(all, r#"{"v":1,"all":[1,null,"x"],"n":3,"found":true}"#);
    let none = evaluating("path: \"$.b\", default: { c: 1 }").send("POST", "/", &[], r#"{"a":[]}"#).body;
    assert_eq!(none, r#"{"v":{"c":1},"all":[],"n":0,"found":false}"#);
}

#[test]
fn types_are_not_converted() {
    let body = r#"{"s":"7","i":7,"f":1.5,"w":2.0,"b":false,"l":[1],"n":null}"#;
    for (name, ty, shown) in [
        ("s", "string", "\"7\""),
        ("i", "int", "7"),
        ("w", "int", "2"),
        ("i", "float", "7.0"),
        ("b", "bool", "false"),
        ("l", "list", "[1]"),
        ("l", "json", "[1]"),
        ("s", "int", "\"evaluate_json_path.type\""),
        ("f", "int", "\"evaluate_json_path.type\""),
        ("i", "string", "\"evaluate_json_path.type\""),
        ("i", "list", "\"evaluate_json_path.type\""),
        ("n", "json", "\"evaluate_json_path.no_match\""),
    ] {
        assert_eq!(value(&format!("path: $.{name}, type: {ty}"), body), shown, "{name} as {ty}");
    }
}

#[test]
fn several_values_are_what_the_step_says() {
    let body = r#"{"a":[1,2]}"#;
    assert_eq!(value("path: \"$.a[*]\"", body), "1");
    assert_eq!(value("path: \"$.a[*]\", many: all, type: int", body), "[1,2]");
    assert_eq!(value("path: \"$.a[*]\", type: list", body), "[1,2]");
    assert_eq!(value("path: \"$.a[0]\", many: refuse", body), "1");
    assert_eq!(fault("path: \"$.a[*]\", many: refuse", body), (400, "evaluate_json_path.many".into()));
    assert_eq!(fault("path: \"$.a[*]\", many: all, type: string", body), (400, "evaluate_json_path.type".into()));
    assert_eq!(fault("path: \"$.c[*]\", type: list", body), (400, "evaluate_json_path.no_match".into()));
    assert_eq!(value("path: \"$.c[*]\", type: list, default: []", body), "[]");
}

#[test]
fn a_bad_document_and_no_match_have_codes_of_their_own() {
    let invalid = (400, "evaluate_json_path.invalid_json".to_owned());
    for body in ["", "{", "{\"a\":1,\"a\":2}", "[1e999]"] {
        assert_eq!(fault("path: $.a", body), invalid, "{body}");
    }
    let deep: &'static str = format!("{}{}", "[".repeat(65), "]".repeat(65)).leak();
    assert_eq!(fault("path: $.a", deep), invalid);
    let wide: &'static str = format!("[{}1]", "1,".repeat(10_000)).leak();
    assert_eq!(fault("path: \"$[*]\"", wide), (400, "evaluate_json_path.many".into()));
    assert_eq!(fault("path: \"$..a..b\"", wide), invalid);
    assert_eq!(value("path: \"$[10000]\"", wide), "1");
    assert_eq!(fault("path: $.a, status: 422", "{}"), (422, "evaluate_json_path.no_match".into()));
    let outcome = evaluating("path: $.a").send("POST", "/", &[("content-encoding", "gzip")], "{}");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (415, Some("body.encoded")));
}

#[test]
fn a_variable_is_json_or_its_text() {
    let trial = |value: &str| evaluating(&format!("path: $.a, value: \"{value}\""));
    let sent = |value: &str| trial(value).send("POST", "/?q=%7B%22a%22:1%7D", &[], r#"{"b":{"a":2}}"#).body;
    assert!(sent("${request.query.q}").starts_with(r#"{"v":1,"#));
    assert!(sent("${request.json.b}").starts_with(r#"{"v":2,"#));
    assert!(sent("{\\\"a\\\": ${request.json.b.a ?? 0}}").starts_with(r#"{"v":2,"#));
    assert_eq!(trial("${request.query.q}").get("/").fault.as_deref(), Some("evaluate_json_path.absent"));
}

#[test]
fn a_default_may_be_made_of_values_and_has_the_type() {
    let trial = evaluating("path: $.a, type: int, default: \"${request.json.b}\"");
    assert!(trial.send("POST", "/", &[], r#"{"b":3}"#).body.starts_with(r#"{"v":3,"#));
    assert_eq!(trial.send("POST", "/", &[], r#"{"b":"x"}"#).fault.as_deref(), Some("evaluate_json_path.type"));
}

#[test]
fn what_cannot_work_does_not_load() {
    let wrong = [
        ("path: a", "policy.bad_json_path"),
        ("path: \"$[?match(@.a, $.b)]\"", "policy.bad_json_path"),
        ("path: $.a, paths: { b: $.b }", "policy.bad_value"),
        ("paths: {}", "policy.missing_parameter"),
        ("paths: { found: $.a }", "policy.reserved_name"),
        ("path: $.a, type: int, default: x", "policy.wrong_type"),
        ("path: $.a, value: a, message: request", "policy.bad_value"),
        ("path: $.a, status: 200", "policy.bad_value"),
        ("path: \"$.${request.path}\"", "policy.not_literal"),
    ];
    for (params, code) in wrong {
        let steps = format!("  - evaluate_json_path: {{ {params} }}\n  - respond: 204");
        assert_eq!(refusals(&steps), [code], "{params}");
    }
}

#[test]
fn a_message_can_be_named_and_several_paths_give_all_they_selected() {
    let steps = "  - route: http://127.0.0.1:9000
  - evaluate_json_path: { message: request, paths: { a: $.a, b: { path: \"$.b[*]\", many: all } } }
  - respond: { json: [\"${json_path.value}\", \"${json_path.values}\", \"${json_path.count}\", \"${json_path.a}\"] }";
    let steps = steps.replace(", many: all", ", type: list");
    let trial = Trial::of(&steps).answering(&[], "no json");
    assert_eq!(trial.send("POST", "/", &[], r#"{"a":1,"b":[2,3]}"#).body, "[1,[1,2,3],3,1]");
}

#[test]
fn faults_are_by_origin_and_the_depth_has_its_bound() {
    let steps = "  - route: http://127.0.0.1:9000\n  - evaluate_json_path: { path: $.a, type: int }";
    let fault = |body| {
        let outcome = Trial::of(steps).answering(&[], body).get("/");
        (outcome.status, outcome.fault.unwrap_or_default())
    };
    assert_eq!(fault("{}"), (502, "evaluate_json_path.no_match".into()));
    assert_eq!(fault(r#"{"a":"x"}"#), (502, "evaluate_json_path.type".into()));
    let deep: &'static str = format!("{}{}", "[".repeat(64), "]".repeat(64)).leak();
    assert_eq!(value("path: \"$[?@.a]\", default: none", deep), "\"none\"", "64 deep is not too deep");
}
