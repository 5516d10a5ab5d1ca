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
