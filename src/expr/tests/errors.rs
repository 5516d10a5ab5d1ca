//! Sources that do not load: the code, the underlined text and the cure.

use super::errors;
use crate::expr::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX};

/// Source, code, and the text that is underlined.
const REFUSED: &[(&str, &str, &str)] = &[
    ("", "expr.empty", ""),
    ("request.method ==", "expr.syntax", ""),
    ("request.method == )", "expr.syntax", ")"),
    ("request.method 'a'", "expr.syntax", "'a'"),
    ("(flag", "expr.syntax", ""),
    ("request. == 1", "expr.syntax", "=="),
    ("request.method == 'a", "expr.bad_text", "'a"),
    ("request.method == 'a\\q'", "expr.bad_text", "\\q"),
    ("request.size > 10s", "expr.bad_number", "10s"),
    ("request.size > 99999999999999999999", "expr.bad_number", "99999999999999999999"),
    ("request.size > 9223372036854775808", "expr.bad_number", "9223372036854775808"),
    ("if flag { 1 } else { 2 }", "expr.not_bool", "if flag { 1 } else { 2 }"),
    ("let x = 1; x", "expr.unsupported", "let"),
    ("flag; true", "expr.unsupported", ";"),
    ("flag = true", "expr.unsupported", "="),
    ("auth.groups.contains(|g| g == 'a')", "expr.stray_closure", "|"),
    ("request?.method == 'a'", "expr.unsupported", "?."),
    ("flag ? 1 : 2", "expr.unsupported", "?"),
    ("switch flag { true => 1, _ => 2 }", "expr.not_bool", "switch flag { true => 1, _ => 2 }"),
    ("not flag", "expr.unsupported", "not"),
    ("flag and flag", "expr.unsupported", "and"),
    ("request.query.q == null", "expr.unsupported", "null"),
    ("${flag}", "expr.unsupported", "${"),
    ("request.size ** 2 == 4", "expr.unsupported", "**"),
    ("request.size === 2", "expr.unsupported", "==="),
    ("request.metod == 'a'", "unknown_variable", "metod"),
    ("secret('nowhere') == 'a'", "unknown_name", "'nowhere'"),
    ("list(note) == []", "expr.wrong_arguments", "note"),
    ("path.id == 7", "expr.type_mismatch", "path.id == 7"),
    ("request.size < 'a'", "expr.type_mismatch", "request.size < 'a'"),
    ("flag < true", "expr.type_mismatch", "flag < true"),
    ("request.body == 'a'", "expr.type_mismatch", "request.body == 'a'"),
    ("request.json.x == time", "expr.type_mismatch", "request.json.x == time"),
    ("1 in auth.groups", "expr.type_mismatch", "1"),
    ("path.id in [7, 8]", "expr.type_mismatch", "path.id"),
    ("'a' in request.size", "expr.type_mismatch", "request.size"),
    ("note && flag", "expr.type_mismatch", "note"),
    ("!note", "expr.type_mismatch", "note"),
    ("-note == 1", "expr.type_mismatch", "note"),
    ("note - 'a' == 'b'", "expr.type_mismatch", "note - 'a'"),
    ("note + 1 == 'b'", "expr.type_mismatch", "note + 1"),
    ("(request.query.q ?? 1) == 1", "expr.type_mismatch", "(request.query.q ?? 1)"),
    ("request.query.q > 'a'", "expr.may_be_absent", "request.query.q"),
    ("len(request.query.q) > 1", "expr.may_be_absent", "request.query.q"),
    ("request.query.q + 'a' == 'b'", "expr.may_be_absent", "request.query.q"),
    ("request.json.ok", "expr.may_be_absent", "request.json.ok"),
    ("request.json.ok && flag", "expr.may_be_absent", "request.json.ok"),
    ("[request.query.q] == []", "expr.may_be_absent", "request.query.q"),
    ("note.length == 1", "expr.no_member", "length"),
    ("auth.groups.first == 'a'", "expr.no_member", "first"),
    ("request.size[0] == 1", "expr.no_member", "0"),
    ("auth.groups[note] == 'a'", "expr.type_mismatch", "note"),
    ("secret('pepper') < 'a'", "expr.marked_order", "secret('pepper') < 'a'"),
    ("matches(secret('pepper'), 'a')", "expr.marked_order", "'a'"),
    ("lowr(note) == 'a'", "expr.unknown_function", "lowr"),
    ("note.to_upper() == 'a'", "expr.unknown_function", "to_upper"),
    ("note.len(1) == 1", "expr.wrong_arguments", "len(1)"),
    ("lower(1) == 'a'", "expr.wrong_arguments", "1"),
    ("random_hex(8) == ''", "expr.wrong_arguments", "8"),
    ("matches(note, path.id)", "expr.wrong_arguments", "path.id"),
    ("matches(note, '(')", "expr.bad_regex", "'('"),
    ("matches(note, '(a{999}){999}')", "expr.bad_regex", "'(a{999}){999}'"),
    ("in_cidr(note, '10.0.0.0/99')", "expr.bad_network", "'10.0.0.0/99'"),
    ("in_cidr(note, list('tiers'))", "expr.bad_network", "list('tiers')"),
    ("in_cidr(note, note)", "expr.wrong_arguments", "note"),
    ("1 / 0 == 1", "expr.never_works", "1 / 0"),
    ("bucket(note, 0) == 1 || int('x') == 1", "expr.never_works", "int('x')"),
    ("#{a: 1, a: 2} == #{}", "expr.duplicate_key", "a"),
    ("note", "expr.not_bool", "note"),
    (" 1 + 1 ", "expr.not_bool", "1 + 1"),
];

#[test]
fn errors_have_a_code_and_a_place() {
    for (source, code, underlined) in REFUSED.iter().copied() {
        let errors = errors(source);
        let first = &errors[0];
        let text = source.get(first.at.clone()).unwrap_or("out of range");
        assert_eq!((first.code, text), (code, underlined), "{source}: {first:?}");
        assert!(!first.message.is_empty() && (errors.len() == 1 || code == "expr.never_works"), "{source}: {errors:?}");
    }
}

#[test]
fn all_errors_of_an_expression_are_found() {
    let errors = errors("path.id == 7 && lowr(note, request.metod) == 'a' || request.query.q > 'a'");
    let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
    assert_eq!(codes, ["expr.type_mismatch", "expr.unknown_function", "unknown_variable", "expr.may_be_absent"]);
}

#[test]
fn cures_can_be_pasted_into_double_quoted_yaml() {
    for (source, cure) in [
        ("request.headers[\"x-a\"] > 'a'", "`request.headers['x-a'] ?? ''`"),
        ("'a' + request.query.q == 'b'", "`(request.query.q ?? '')`"),
        ("lower(request.query.q) == 'b'", "`request.query.q ?? ''`"),
        ("request.json.ok", "`request.json.ok ?? false`"),
        ("request.json.n > 1", "`request.json.n ?? 0`"),
        ("round(request.json.n) == 1", "`request.json.n ?? 0`"),
        ("lowr(note) == ''", "`lower`"),
        ("note.to_upper() == ''", "`upper`"),
        ("note == request.headers.x-b", "request.headers['x-a']"),
        ("flag = true", "`==`"),
        ("path.id == 7", "'7'"),
    ] {
        let errors = errors(source);
        let help = errors.last().and_then(|error| error.help.clone()).unwrap_or_default();
        assert!(help.contains(cure) && !help.contains('"'), "{source}: {errors:?}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep =
        |open: &str, close: &str| format!("{}true{}", open.repeat(5000), close.repeat(5000 / close.len().max(1)));
    for source in [
        format!("{}1{} == 1", "(".repeat(EXPRESSION_DEPTH_MAX), ")".repeat(EXPRESSION_DEPTH_MAX)),
        "!".repeat(EXPRESSION_DEPTH_MAX + 1) + "true",
        "[".repeat(3000),
        "true ".to_owned() + &"&& true ".repeat(EXPRESSION_DEPTH_MAX),
        "note".to_owned() + &".lower()".repeat(EXPRESSION_DEPTH_MAX),
    ] {
        assert_eq!(errors(&source)[0].code, "expr.too_deep", "{source}");
    }
    assert_eq!(errors(&deep("(", ")"))[0].code, "expr.too_long");
    assert_eq!(errors(&" ".repeat(EXPRESSION_BYTES_MAX + 1))[0].code, "expr.too_long");
}
