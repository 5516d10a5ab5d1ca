//! What examples cannot show: load errors, faults and their places.

use crate::assertions::trial::{Trial, refusals};

fn ran(script: &str, sets: &str) -> crate::assertions::trial::Outcome {
    let code: String = script.lines().map(|line| format!("        {line}\n")).collect();
    let steps = format!("  - script:\n      code: |\n{code}      sets: {{ {sets} }}\n");
    let trial = Trial::of(&format!("{steps}  - respond: 204"));
    trial.send("POST", "/", &[("content-type", "application/json")], r#"{"a": 1, "list": [1, 2, 3], "t": "x"}"#)
}

fn code_of(script: &str) -> (u16, String) {
    let outcome = ran(script, "");
    (outcome.status, outcome.fault.unwrap_or_default())
}

#[test]
fn a_script_passes_denies_or_breaks() {
    let code = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code_of("true"), code(204, ""));
    assert_eq!(code_of("let a = 1;"), code(204, ""));
    assert_eq!(code_of("request.json.a == 2"), code(403, "script.refused"));
    assert_eq!(code_of("deny('shop.closed', 423, 'Closed');"), code(423, "shop.closed"));
    assert_eq!(code_of("fail('shop.lost', `no ${request.json.t}`);"), code(500, "shop.lost"));
    assert_eq!(code_of("let x = request.json.list; x"), code(500, "script.type"));
    assert_eq!(code_of("let x = request.json.t; x > 1"), code(400, "expression.type"));
    assert_eq!(code_of("let x = 'a'; x > 1"), code(500, "expression.type"));
    assert_eq!(code_of("loop { }"), code(500, "script.limit"));
}

#[test]
fn a_fault_names_line_and_column_of_the_policy_file() {
    let outcome = ran("let l = request.json.list;\nlet n = 0;\n\nfor x in l {\n  n = n + x / (x - 2);\n}", "");
    assert_eq!(outcome.fault.as_deref(), Some("expression.number"));
    let detail = outcome.record.detail.unwrap();
    let place = detail.split_once(": ").unwrap();
    assert_eq!(place.1, "division by zero");
    let mut parts = place.0.rsplit(':');
    let (column, line): (usize, usize) =
        (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap());
    // The division sign of the script's fifth line, below `- script:` and `code: |`.
    assert_eq!(column, 9 + "  n = n + x ".len());
    assert!(line > 5, "{detail}");
}

#[test]
fn results_have_the_types_that_are_declared() {
    let set = |script: &str, sets: &str| {
        let outcome = ran(script, sets);
        (outcome.status, outcome.fault.unwrap_or_default(), outcome.record.detail.unwrap_or_default())
    };
    assert_eq!(set("out.a = 1; out.b = 'x';", "a: int, b: string").0, 204);
    assert_eq!(set("out.a = [1, #{ b: request.json }]; out.b = 3;", "a: json, b: float").0, 204);
    assert_eq!(set("if false { out.a = 1; }", "a: \"int?\"").0, 204);
    assert_eq!(set("out.a = request.json.nothing;", "a: \"int?\"").0, 204);
    let (status, fault, detail) = set("let b = 'x'; out.a = b;", "a: int");
    assert_eq!(
        (status, fault.as_str(), detail.as_str()),
        (500, "script.type", "out.a is a string; `sets` declares int")
    );
    assert_eq!(set("let b = 1;", "a: int").2, "out.a is not set");
    assert_eq!(set("if request.json.a == 2 { out.a = 1; }", "a: int").0, 500);
}

#[test]
fn a_result_of_the_wrong_type_is_the_fault_of_whoever_sent_it() {
    let set = |script: &str| {
        let outcome = ran(script, "a: int");
        (outcome.status, outcome.fault.unwrap_or_default(), outcome.record.detail.unwrap_or_default())
    };
    let by = |status: u16, detail: &str| (status, "script.type".to_owned(), detail.to_owned());
    assert_eq!(set("out.a = request.json.t;"), by(400, "out.a is a string; `sets` declares int"));
    assert_eq!(set("out.a = 1; out.a += request.json.a / 2.0;"), by(400, "out.a is a float; `sets` declares int"));
    assert_eq!(set("out.a = request.json.nothing;"), by(400, "out.a is absent"));
    assert_eq!(set("let n = request.json.nothing; out.a = n;"), by(400, "out.a is absent"));
    assert_eq!(set("if request.json.a == 1 { out.a = 1.5 + 1; }"), by(500, "out.a is a float; `sets` declares int"));
}

#[test]
fn mistakes_are_found_at_load() {
    let refused = |code: &str| refusals(&format!("  - script: \"{code}\""));
    assert_eq!(refused("lowr('A') == nothing"), ["expr.unknown_function", "expr.unknown_variable"]);
    assert_eq!(refused("request.headers.x = 'a';"), ["expr.read_only"]);
    assert_eq!(refused("out.a = 1;"), ["expr.unknown_result"]);
    assert_eq!(refused("deny('route.connect', 403);"), ["policy.reserved_code"]);
    assert_eq!(refused("deny('Shop', 403);"), ["policy.bad_value"]);
    assert_eq!(refused("deny('shop.closed', 503);"), ["expr.wrong_arguments"]);
    assert_eq!(refused("'text'"), ["expr.not_bool"]);
    assert_eq!(refused("eval('1');"), ["expr.unsupported"]);
    assert_eq!(refused("let f = |x| x;"), ["expr.stray_closure"]);
    assert_eq!(refused("auth.subject == 'a'"), ["policy.no_identity"]);
    assert_eq!(refusals("  - script: { sets: { a: int } }"), ["policy.missing_parameter"]);
    assert_eq!(refusals("  - script: { code: \"true\", time_limit: 2s }"), ["policy.bad_value"]);
    assert_eq!(refusals("  - script: { code: \"true\", sets: { a: number } }"), ["policy.bad_value"]);
    assert_eq!(refusals("  - script: { file: other.rhai }"), ["policy.no_script_file"]);
    assert_eq!(refusals("  - script: { file: ../other.rhai }"), ["policy.bad_value"]);
}

#[test]
fn a_body_that_a_script_mentions_is_read_whole() {
    let outcome = ran("let n = request.text.len(); n > 10", "");
    assert_eq!((outcome.status, outcome.fault), (204, None));
}

#[test]
fn texts_that_a_container_shares_count_as_often_as_they_stand_there() {
    let script =
        "let s = 'x'; for i in 0..19 { s += s; }\nlet m = #{}; for i in 0..9 { m[string(i)] = s; }\nlen(m) == 9";
    assert_eq!(ran(script, "").record.detail.unwrap().rsplit(": ").next(), Some("a list or map holds too much text"));
}

#[test]
fn a_limit_says_where_it_was_met() {
    let detail = ran("let a = 1;\nloop { a += 1; }", "").record.detail.unwrap();
    assert!(detail.ends_with(": too much time") && detail.matches(':').count() == 3, "{detail}");
}

#[test]
fn a_switch_knows_what_it_switches_on() {
    let refused = |code: &str| refusals(&format!("  - script: \"{code}\""));
    assert_eq!(refused("switch request.json.a { 1 => true, _ => false }"), ["expr.type_mismatch"]);
    assert_eq!(refused("switch request.query.a { 'x' => true, _ => false }"), ["expr.type_mismatch"]);
    assert_eq!(code_of("switch int(request.json.a ?? 0) { 1 => true, _ => false }"), (204, String::new()));
}
