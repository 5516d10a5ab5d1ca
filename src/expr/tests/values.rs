//! Sources and the values they give.

use std::borrow::Cow;

use super::{compiled, errors, fault, value, world};
use crate::engine::read::{Builtin, Read};
use crate::engine::value::{Mark, Origin, Type, Val, Value};
use crate::expr::functions::FUNCTIONS;
use crate::expr::{compile, compile_condition};
use crate::fault::Kind;

fn same(source: &str, expected: &str) {
    let (left, right) = (value(source), value(expected));
    assert_eq!(left.view().to_json(), right.view().to_json(), "{source}");
    assert_eq!(left.view().type_word(), right.view().type_word(), "{source}");
}

fn yes(source: &str) {
    assert_eq!(value(source), Value::Bool(true), "{source}");
}

fn no(source: &str) {
    assert_eq!(value(source), Value::Bool(false), "{source}");
}

#[test]
fn every_example_of_a_function_holds() {
    for function in FUNCTIONS {
        let (example, expected) = function.example;
        let holds = match (value(example), value(expected)) {
            (Value::Float(left), Value::Float(right)) => (left - right).abs() < f64::EPSILON,
            (left, right) => left.view().to_json() == right.view().to_json(),
        };
        assert!(holds, "{}: {example} gives {:?}", function.name, value(example));
    }
}

#[test]
fn literals() {
    for (source, expected) in [
        ("1_000", Value::Int(1000)),
        ("-9223372036854775808", Value::Int(i64::MIN)),
        ("2.5", Value::Float(2.5)),
        ("1e3", Value::Float(1000.0)),
        ("1.5e-3", Value::Float(0.0015)),
        ("'a\\n\\t\\\\\\'\\\"\\u{e9}'", Value::text("a\n\t\\'\"é")),
        ("\"it's\"", Value::text("it's")),
        ("true", Value::Bool(true)),
    ] {
        assert_eq!(value(source), expected, "{source}");
    }
    same("[1, 'a', [true,],]", "[1, 'a', [true]]");
    assert_eq!(value("#{a: 1, 'b c': #{d: []}}").view().to_json().to_string(), r#"{"a":1,"b c":{"d":[]}}"#);
    assert_eq!(value("#{}").view().to_json().to_string(), "{}");
}

#[test]
fn precedence_is_that_of_rhai() {
    for (source, expected) in [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("7 - 2 - 1", "4"),
        ("8 / 2 / 2", "2"),
        ("7 % 4 * 2", "6"),
        ("-2 * -3", "6"),
        ("- (2 + 1)", "-3"),
        ("1 + 1 == 2 && 2 < 3", "true"),
        ("true || false && false", "true"),
        ("!false && true", "true"),
        ("1 < 2 == true", "true"),
        ("2 in [1, 2] == true", "true"),
        ("1 + 1 in [2]", "true"),
        ("3 !in [1, 2]", "true"),
        ("gone ?? 'a' + 'b'", "'ab'"),
        ("gone ?? 'a' == 'a'", "true"),
        ("'x' != gone ?? 'a'", "true"),
        ("gone ?? request.query.none ?? 'c'", "'c'"),
        ("[1, 2, 3][1] ?? 0", "2"),
        ("'a,b'.split(',')[1] ?? ''", "'b'"),
        ("' A '.trim().lower()", "'a'"),
    ] {
        same(source, expected);
    }
}

#[test]
fn paths_and_members() {
    for (source, expected) in [
        ("request.method", "'POST'"),
        ("request.headers[\"x-a\"] ?? ''", "'one'"),
        ("request.headers.x_a ?? ''", "'one'"),
        ("request.headers['x-' + 'a'] ?? ''", "'one'"),
        ("request.json.list[0]", "1"),
        ("request.json.list[-1].k", "'v'"),
        ("request.json.user.tags[1]", "'b'"),
        ("request.json['user']['name']", "'bob'"),
        ("request.json.name.deeper.still ?? 'none'", "'none'"),
        ("auth.groups[1] ?? ''", "'managers'"),
        ("auth.groups[9] ?? 'out'", "'out'"),
        ("(gone ?? 'x')", "'x'"),
        ("#{a: #{b: 2}}.a.b + 1", "3"),
    ] {
        same(source, expected);
    }
    assert_eq!(value("request.json.none"), Value::Absent);
}

#[test]
fn comparisons() {
    for source in [
        "request.method == 'POST'",
        "1 == 1.0",
        "2 > 1.5",
        "(request.json.big ?? 0) > 9007199254740992.0",
        "request.json.big == 9_007_199_254_740_993",
        "request.json.ratio == 1.5",
        "'a' < 'b'",
        "time < now()",
        "request.json.user.tags == ['a', 'b']",
        "['a', 'b'] == request.json.user.tags",
        "request.json.user == #{tags: ['a', 'b'], name: 'bob'}",
        "request.json.user != #{name: 'bob'}",
        "[1, 'a'] != ['a', 1]",
        "'managers' in auth.groups",
        "'x' !in auth.groups",
        "'OS' in request.method",
        "'name' in request.json.user",
        "request.json.id in [1, 7]",
        "request.method in ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'PATCH', 'POST']",
        "request.method !in ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']",
        "in_cidr(request.client.ip, '10.0.0.0/8')",
        "in_cidr(request.client.ip, list('networks'))",
        "in_cidr('10.0.0.1', ['10.0.0.1'])",
        "!in_cidr('::1', '10.0.0.0/8')",
        "request.headers.authorization == 'Bearer ' + secret('pepper')",
        "secret('pepper') in ['cold', 'hot']",
        "(request.headers.authorization ?? '').starts_with('Bearer ')",
        "(request.headers.authorization ?? '').contains('hot')",
        "secret('pepper') != 'hotter'",
        "env.STAGE == 'prod'",
        "(request.json.ok ?? false) && flag",
    ] {
        yes(source);
    }
    no("request.json.id in [1, 'a']");
}

#[test]
fn absent_equals_nothing() {
    for source in ["gone == gone", "gone == 'a'", "gone in ['a']", "'a' in request.json.none", "exists(gone)"] {
        no(source);
    }
    for source in [
        "gone != gone",
        "gone != 'a'",
        "gone !in ['a']",
        "gone !in ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']",
        "request.json.none != 1",
        "exists(request.json.id)",
        "!exists(request.json.none)",
    ] {
        yes(source);
    }
}

#[test]
fn what_a_condition_proved_is_there_to_its_right() {
    yes("exists(request.query.q) && request.query.q.len() == 5");
    yes("!exists(request.query.q) || request.query.q.len() == 5");
    yes("request.query.q == 'a b&c' && request.query.q.upper() == 'A B&C'");
    yes("exists(request.json.user.name) && exists(gone) == false && request.json.user.name.len() == 3");
    no("exists(gone) && gone.len() > 1");
    assert_eq!(errors("exists(request.query.q) || request.query.q.len() == 5")[0].code, "expr.may_be_absent");
    assert_eq!(errors("request.query.q.len() == 5 && exists(request.query.q)")[0].code, "expr.may_be_absent");
    let mut scope = world();
    scope.proven = true;
    assert!(compile("request.query.page + 'x'", &mut scope).is_ok());
}

#[test]
fn proofs_are_handed_out() {
    let read = |name: &str| Read::Query(name.into());
    for (source, expected) in [
        ("exists(request.query.a)", vec![read("a")]),
        ("request.query.a == 'x' && !(request.query.b != 'y')", vec![read("a"), read("b")]),
        ("request.query.a == 'x' || request.query.b == 'y'", vec![]),
        ("request.query.a == 'x' || request.query.a == 'y'", vec![read("a")]),
        ("!(request.query.a != 'x' || !exists(request.query.b))", vec![read("a"), read("b")]),
        ("request.query.a in ['x']", vec![read("a")]),
        ("request.query.a !in ['x']", vec![]),
        ("request.query.a != 'x'", vec![]),
        ("!exists(request.query.a)", vec![]),
        ("exists(request.json.a)", vec![]),
    ] {
        let compiled = compile_condition(source, &mut world()).unwrap();
        let whole = compiled.proves.iter().filter(|present| present.members.is_empty());
        assert_eq!(whole.map(|present| present.read.clone()).collect::<Vec<_>>(), expected, "{source}");
    }
    assert_eq!(compiled("exists(request.json.a[0])").proves[0].members.len(), 2);
}

#[test]
fn constants_are_known() {
    for (source, expected) in [
        ("true", Some(true)),
        ("1 < 2", Some(true)),
        ("request.method == 'a' && false", None),
        ("false && request.method == 'a'", Some(false)),
        ("true || flag", Some(true)),
        ("env.STAGE == 'prod'", None),
        ("len('abc') == 2", Some(false)),
        ("uuid() == 'x'", None),
    ] {
        assert_eq!(compiled(source).constant, expected, "{source}");
    }
    assert_eq!(compiled("env.STAGE + '-1'").known(), Some(&Value::text("prod-1")));
    assert_eq!(compiled("request.method").as_read(), Some(&Read::Builtin(Builtin::RequestMethod)));
    assert!(compiled("now()").known().is_none() && compiled("uuid()").known().is_none());
    assert_eq!(compiled("request.method == 'a' || request.method == 'b'").reads.len(), 1);
}

#[test]
fn faults_are_by_origin() {
    for (source, code, status) in [
        ("request.json.id == 'seven'", "expression.type", 400),
        ("response.json.status == 3", "expression.type", 502),
        ("response.json.status == request.json.id", "expression.type", 400),
        ("request.json.id in ['6', '7']", "expression.type", 400),
        ("request.json.name && true", "expression.type", 400),
        ("(request.json.name ?? 1) > 3", "expression.type", 400),
        ("(response.json.n ?? 1) + 'a'", "expression.type", 502),
        ("lower(response.json.n ?? '')", "expression.type", 502),
        ("int(request.method)", "expression.number", 400),
        ("int(note)", "expression.number", 500),
        ("float('1e400' + note)", "expression.number", 500),
        ("(request.json.max ?? 0) + 1", "expression.number", 400),
        ("1 / (request.size - 120)", "expression.number", 400),
        ("1.5 % (ratio - 2.5)", "expression.number", 500),
        ("in_cidr(request.host, '10.0.0.0/8')", "expression.address", 400),
        ("string(request.body)", "expression.not_text", 400),
        ("bucket(note, any - 5)", "expression.number", 400),
        ("random_hex(request.size - 119)", "expression.number", 400),
    ] {
        // Values that may be absent are proved to be there first, as an operator would do it.
        let source = match source {
            "request.json.name && true" => "exists(request.json.name) && request.json.name".to_owned(),
            other => other.to_owned(),
        };
        let fault = fault(&source);
        assert_eq!((&*fault.code, fault.status.as_u16()), (code, status), "{source}: {}", fault.detail);
        assert_eq!(fault.kind == Kind::Denied, status == 400, "{source}");
    }
}

#[test]
fn a_condition_that_is_no_bool_never_counts_as_false() {
    let world = world();
    let condition = compile_condition("any", &mut super::world()).unwrap();
    assert_eq!(condition.holds(&world).unwrap_err().code, "expression.type");
    let condition = compile_condition("exists(request.json.ok) && request.json.ok", &mut super::world()).unwrap();
    assert!(condition.holds(&world).unwrap());
}

#[test]
fn texts_and_lists_are_bounded() {
    let long = "a".repeat(1100);
    let path = "request.method.replace('P', ";
    for source in [
        format!("'{long}'.replace('a', '{long}' + request.method)"),
        format!("join(split(note + '{long}', ''), '{long}')"),
        format!("{path}'{long}').replace('a', '{long}').xml_escape() + '{long}'.replace('a', '{long}' + note)"),
    ] {
        assert_eq!(fault(&source).code, "expression.too_large", "{source}");
    }
    let commas = format!("split(replace('{}', 'a', '{},' + note), ',')", "a".repeat(60), ",".repeat(1100));
    assert_eq!(fault(&commas).code, "expression.too_large");
    let joined = format!("replace('{long}', 'a', '{}' + note)", "b".repeat(700));
    assert_eq!(fault(&format!("{joined} + {joined}")).code, "expression.too_large");
    assert_eq!(errors(&format!("'{long}'.replace('a', '{long}') == ''"))[0].code, "expr.never_works");
}

#[test]
fn facts_travel() {
    let facts = |source: &str| compiled(source).facts;
    assert_eq!(facts("secret('pepper') + 'x'").mark, Mark::Secret);
    assert_eq!(facts("sha256(secret('pepper'))").mark, Mark::Secret);
    assert_eq!(facts("request.headers.authorization ?? ''").mark, Mark::Token);
    assert_eq!(facts("[request.headers.authorization ?? '', secret('pepper')]").mark, Mark::Secret);
    for test in
        ["len(secret('pepper'))", "secret('pepper') == 'a'", "'a' in [secret('pepper')]", "exists(secret('pepper'))"]
    {
        assert_eq!(facts(test).mark, Mark::None, "{test}");
    }
    assert_eq!(facts("note + request.method").origin, Origin::Client);
    assert_eq!(facts("note").origin, Origin::Policy);
    assert_eq!(facts("(response.json.n ?? 1) == 1").origin, Origin::Upstream);
    assert_eq!((facts("request.query.q").absent, facts("request.query.q ?? 'a'").absent), (true, false));
    assert_eq!(facts("any + 1").ty, Type::Any);
    assert_eq!(facts("1 + 1.5").ty, Type::Float);
    assert_eq!(facts("min(1, ratio)").ty, Type::Float);
    assert_eq!(facts("request.json.user").ty, Type::Json);
}

#[test]
fn reads_are_borrowed_and_not_copied() {
    let world = world();
    for source in ["request.method", "note", "request.query.q ?? 'x'", "gone ?? 'x'", "trim(note)", "lower(path.id)"] {
        let compiled = compiled(source);
        assert!(matches!(compiled.eval(&world), Ok(Val::Text(Cow::Borrowed(_)))), "{source}");
    }
    let compiled = compiled("request.json.user");
    assert!(matches!(compiled.eval(&world), Ok(Val::Json(Cow::Borrowed(_)))));
}

#[test]
fn it_works_over_a_reader_behind_a_pointer() {
    let world = world();
    let reader: &dyn crate::engine::read::Reader = &world;
    assert!(compiled("request.method == 'POST'").holds(reader).unwrap());
}

#[test]
fn chance_has_its_form() {
    same("uuid()", "'abababab-abab-4bab-abab-abababababab'");
    same("random_hex(16)", "'abababababababababababababababab'");
    yes("random() >= 0 && random() < 1.0");
}
