//! Each comparison, over the running engine.

use crate::assertions::trial::{Trial, refusals};

fn denies(step: &str, path: &str) -> Option<String> {
    Trial::of(&format!("  - compare: {step}\n  - respond: {{ status: 204 }}")).get(path).fault
}

#[test]
fn relations_hold_or_deny() {
    let table = [
        (r#"{ left: "${request.query.a}", op: eq, right: x }"#, "/?a=x", "/?a=y"),
        (r#"{ left: "${request.query.a}", op: ne, right: x }"#, "/?a=y", "/"),
        (r#"{ left: "${int(request.query.a ?? '0')}", op: ge, right: 10 }"#, "/?a=10", "/?a=9"),
        (r#"{ left: "${request.query.a}", op: starts_with, right: Ab, ignore_case: true }"#, "/?a=aBc", "/?a=bc"),
        (r#"{ left: "${request.query.a}", op: in, right: [x, y] }"#, "/?a=y", "/?a=z"),
        (r#"{ left: "${request.query.a.all}", op: eq, right: x }"#, "/?a=y&a=x", "/?a=y"),
        (r#"{ left: "${request.query.a.all}", op: eq, right: x, list: all }"#, "/?a=x&a=x", "/?a=x&a=y"),
        (r#"{ left: "${request.query.a.all}", op: contains, right: x }"#, "/?a=y&a=x", "/?a=y"),
        (r#"{ left: "${request.query.a}", op: is_empty }"#, "/", "/?a=x"),
        (r#"{ left: "${request.query.a}", op: exists }"#, "/?a=", "/"),
    ];
    for (step, passes, denied) in table {
        assert_eq!(denies(step, passes), None, "{step} {passes}");
        assert_eq!(denies(step, denied).as_deref(), Some("compare.no_match"), "{step} {denied}");
    }
}

#[test]
fn types_that_are_known_to_differ_do_not_load() {
    let wrong = [
        (r#"{ left: "${request.port}", op: eq, right: "80" }"#, "expr.type_mismatch"),
        (r#"{ left: "${request.method}", op: gt, right: 5 }"#, "expr.type_mismatch"),
        (r#"{ left: a, op: eq }"#, "policy.missing_parameter"),
        (r#"{ left: a, op: exists, right: b }"#, "policy.bad_value"),
        (r#"{ left: a, op: eq, right: b, status: 401 }"#, "policy.bad_value"),
        (r#"{ left: a, op: eq, right: b, code: "No Code" }"#, "policy.bad_value"),
        (r#"{ condition: "true == true", left: a }"#, "policy.bad_value"),
        ("{}", "policy.missing_parameter"),
    ];
    for (step, code) in wrong {
        let steps = format!("  - compare: {step}\n  - respond: {{ status: 204 }}");
        assert!(refusals(&steps).contains(&code), "{step}: {:?}", refusals(&steps));
    }
    assert_eq!(denies(r#"{ left: "${request.port}", op: eq, right: 80 }"#, "/"), None);
}

#[test]
fn each_other_relation_holds_or_denies() {
    let n = "${int(request.query.n ?? '5')}";
    let table = [
        (format!("{{ left: \"{n}\", op: lt, right: 5 }}"), "/?n=4", "/?n=5"),
        (format!("{{ left: \"{n}\", op: le, right: 5 }}"), "/?n=5", "/?n=6"),
        (format!("{{ left: \"{n}\", op: gt, right: 5 }}"), "/?n=6", "/?n=5"),
        (format!("{{ left: \"{n}\", op: eq, right: 5.0 }}"), "/?n=5", "/?n=6"),
        (r#"{ left: "${request.query.a}", op: ends_with, right: bc }"#.into(), "/?a=abc", "/?a=bcd"),
        (r#"{ left: "${request.query.a}", op: eq, right: "Äb", ignore_case: true }"#.into(), "/?a=%C3%A4B", "/?a=ab"),
        (r#"{ left: "${request.query.a}", op: lt, right: a }"#.into(), "/?a=Z", "/?a=b"),
        (r#"{ left: "${request.query.a}", op: contains, right: b }"#.into(), "/?a=abc", "/?a=ac"),
    ];
    for (step, passes, denied) in table {
        assert_eq!(denies(&step, passes), None, "{step} {passes}");
        assert_eq!(denies(&step, denied).as_deref(), Some("compare.no_match"), "{step} {denied}");
    }
}

#[test]
fn an_absent_side_denies_with_every_relation() {
    for op in ["eq", "ne", "lt", "le", "gt", "ge", "contains", "starts_with", "ends_with", "in"] {
        for (left, right) in [("request.query.a", "request.path"), ("request.path", "request.query.a")] {
            let step = format!("{{ left: \"${{{left}}}\", op: {op}, right: \"${{{right}}}\" }}");
            assert_eq!(denies(&step, "/").as_deref(), Some("compare.no_match"), "{step}");
        }
    }
}

#[test]
fn types_that_differ_when_the_request_comes_are_a_fault_by_origin() {
    let steps = "  - compare: { left: \"${SIDE.json.a}\", op: eq, right: 7 }\n  - respond: 204";
    let fault = |trial: Trial, body| {
        let outcome = trial.send("POST", "/", &[], body);
        (outcome.status, outcome.fault.unwrap_or_default())
    };
    let of_request = || Trial::of(&steps.replace("SIDE", "request"));
    assert_eq!(fault(of_request(), r#"{"a":7}"#), (204, String::new()));
    assert_eq!(fault(of_request(), r#"{"a":"7"}"#), (400, "compare.type".into()));
    let of_response = format!("  - route: http://127.0.0.1:9000\n{}", steps.replace("SIDE", "response"));
    assert_eq!(fault(Trial::of(&of_response).answering(&[], r#"{"a":"7"}"#), ""), (502, "compare.type".into()));
}
