//! What only the interpreter takes, over the small world of the language's tests.

use super::{errors, fault, value};

fn json(source: &str) -> String {
    value(source).view().to_json().to_string()
}

fn failed(source: &str) -> String {
    let fault = fault(source);
    format!("{} {}", fault.status.as_u16(), fault.code)
}

/// Each error as its code, the word it underlines, and its help.
fn load_error(source: &str) -> Vec<String> {
    let line = |error: &crate::expr::Error| {
        format!("{} {}: {}", error.code, &source[error.at.clone()], error.help.as_deref().unwrap_or_default())
    };
    errors(source).iter().map(line).collect()
}

#[test]
fn closures_walk_lists() {
    for (source, wanted) in [
        ("request.json.list.map(|x| string(x)).len()", "3"),
        ("[3, 1, 2].sort()", "[1,2,3]"),
        ("[3, 1, 2].sort(|a, b| b - a)", "[3,2,1]"),
        ("[1, 2, 3].filter(|x| x > 1).map(|x| x * 2)", "[4,6]"),
        ("[1, 2, 3].reduce(|sum, x| sum + x, 0)", "6"),
        ("[1, 2].some(|x| x == 2) && ![1, 2].all(|x| x == 2)", "true"),
        ("request.json.user.tags.map(|tag| upper(tag) + request.method)", r#"["APOST","BPOST"]"#),
        ("{ let sum = 0; for x in [1, 2, 3] { sum += x; } sum }", "6"),
        ("if request.method == 'POST' { 'read' } else { \"write\" }", r#""read""#),
        ("switch request.method { 'GET' | 'POST' => 'r', _ => 'w' }", r#""r""#),
        ("`${request.method} ${request.json.id + 1} ${'it-s'.len()}`", r#""POST 8 4""#),
        ("{ let l = []; for i in 0..3 { l.push(i * i); } l[2] + l[-1] }", "8"),
        ("{ let m = #{ a: 1 }; m.b = 2; m.a + m.b + (m.c ?? 5) }", "8"),
        ("{ let key = 'name'; request.json.user[key] }", r#""bob""#),
        ("{ let n = 0; while n < 10 { n += 3; if n == 6 { break; } } n }", "6"),
        ("[[1, 2], [3]].map(|l| l.reduce(|a, b| a + b, 0))", "[3,3]"),
        ("{ let rate = 2; [1, 2].map(|x| x * rate) }", "[2,4]"),
        ("request.json.list[2].k + `!`", r#""v!""#),
        ("(request.json.nothing.deeper ?? 'none') + `.`", r#""none.""#),
        ("{ let x = request.json.user; x.nothing.deeper ?? x.name }", r#""bob""#),
        ("{ let c = '\\u{1F600}'; c.len() }", "1"),
    ] {
        assert_eq!(json(source), wanted, "{source}");
    }
}

#[test]
fn nothing_is_silently_false() {
    for (source, code) in [
        ("{ let x = request.json.id; x == '7' }", "400 expression.type"),
        ("{ let x = request.json.name; x < 7 }", "400 expression.type"),
        ("{ let x = request.json.none; x + 1 }", "400 expression.type"),
        ("if request.json.id { 1 } else { 2 }", "400 expression.type"),
        ("{ let x = 1; x && true }", "500 expression.type"),
        ("request.json.list.map(|x| x + 1)", "400 expression.type"),
        ("{ let x = response.json.status; int(x) }", "502 expression.number"),
        ("{ let x = 1; x / 0 }", "500 expression.number"),
        ("{ let x = 9223372036854775807; x + 1 }", "500 expression.number"),
        ("`a${request.json.none}`", "400 expression.not_text"),
        ("{ let n = 0; loop { n += 1; } }", "500 expression.limit"),
        ("{ let l = [1]; l[5] = 2; l }", "500 expression.type"),
    ] {
        assert_eq!(failed(source), code, "{source}");
    }
}

#[test]
fn absent_values_are_values() {
    for (source, wanted) in [
        ("{ let x = request.json.none; x == x }", "false"),
        ("{ let x = request.json.none; x != 1 }", "true"),
        ("{ let x = request.json.none; exists(x) }", "false"),
        ("{ let x = request.json.none; x in ['a'] }", "false"),
        ("{ let x = request.json.id; x == 7.0 }", "true"),
        ("{ let x = request.json.none; x.a.b[3] ?? 'd' }", r#""d""#),
    ] {
        assert_eq!(json(source), wanted, "{source}");
    }
}

#[test]
fn names_are_known_at_load_all_at_once() {
    assert_eq!(
        load_error("{ let total = 1; totl + lowr('A') + requst.method }"),
        [
            "unknown_variable totl: did you mean `total`?",
            "expr.unknown_function lowr: did you mean `lower`?",
            "unknown_variable requst: ",
        ]
    );
    assert_eq!(load_error("[1].map(|x| y + 1)"), ["unknown_variable y: "]);
    assert_eq!(load_error("[1].mp(|x| x)"), ["expr.unknown_function mp: did you mean `map`?"]);
    assert_eq!(load_error("{ request.method = 'PUT'; 1 }").len(), 1);
    assert_eq!(load_error("{ let note = 1; note }")[0], "expr.shadows note: give the local another name");
    assert_eq!(load_error("[1].map(|note| note)")[0], "expr.shadows note: give the local another name");
    assert_eq!(load_error("{ let f = |x| x; f }").len(), 1);
    assert!(load_error("{ path.id == 7 }")[0].starts_with("expr.type_mismatch"));
    assert!(load_error("{ let x = eval('1'); x }")[0].starts_with("expr.unsupported eval"));
    assert!(load_error("{ print(1); 1 }")[0].starts_with("expr.unsupported print"));
    assert!(load_error("{ import 'x' as y; 1 }")[0].starts_with("expr.unsupported import"));
    assert!(load_error("{ let x = 1; x.(2) }")[0].starts_with("expr.syntax"));
}
