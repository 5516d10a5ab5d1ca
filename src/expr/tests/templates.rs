//! Texts with `${...}`.

use super::world;
use crate::engine::value::{Mark, Origin, Type, Val, Value};
use crate::expr::{Place, Template, template};

fn made(text: &str, place: Place) -> Template {
    template(text, place, &mut world()).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

fn written(text: &str, place: Place) -> String {
    let mut out = String::from("> ");
    made(text, place).render(&world(), &mut out).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    out.split_off(2)
}

#[test]
fn texts_are_cut_and_joined() {
    for (text, expected) in [
        ("", ""),
        ("plain $ and } and { $x", "plain $ and } and { $x"),
        ("$${request.method}", "${request.method}"),
        ("$$${x}", "$${x}"),
        ("a$${b}${request.method}$", "a${b}POST$"),
        ("${request.method}", "POST"),
        ("/v2/${path.id}?m=${ request.method }", "/v2/7?m=POST"),
        ("${#{a: '}'}.a ?? '{'}", "}"),
        ("<${request.query.none ?? \"it's }\"}>", "<it's }>"),
        ("${'\\'}'}", "'}"),
        ("${request.size} ${ratio} ${flag} ${time}", "120 2.5 true 2023-11-14T22:13:20Z"),
        ("${auth.groups}; ${request.json.user ?? ''}", r#"staff, managers; {"name":"bob","tags":["a","b"]}"#),
        ("${[1, [2, 'x'], 'y']}.", r#"1, [2,"x"], y."#),
    ] {
        assert_eq!(written(text, Place::Plain), expected, "{text}");
    }
}

#[test]
fn places_escape_values_and_not_the_text() {
    for (place, text, expected) in [
        (Place::PathSegment, "/a b/${note}", "/a b/%C3%BCber%2Fgr%C3%B6%C3%9Fe"),
        (Place::PathRest, "/${note}", "/%C3%BCber/gr%C3%B6%C3%9Fe"),
        (Place::QueryValue, "?a=${request.query.q ?? ''}&b", "?a=a%20b%26c&b"),
        (Place::FormValue, "a=${request.query.q ?? ''}&b", "a=a+b%26c&b"),
        (
            Place::JsonString,
            r#"{"a": "${request.json.user ?? ''}"}"#,
            r#"{"a": "{\"name\":\"bob\",\"tags\":[\"a\",\"b\"]}"}"#,
        ),
        (Place::Xml, "<a>${'<' + note + '>'}</a>", "<a>&lt;über/größe&gt;</a>"),
        // Nothing can be escaped in a header field: the assertion that sets it refuses such a value.
        (Place::HeaderValue, "a ${'x\\r\\ny'}", "a x\r\ny"),
    ] {
        assert_eq!(written(text, place), expected, "{text}");
    }
}

#[test]
fn a_value_cannot_climb_out_of_a_path() {
    let world = world();
    for text in ["/a/${request.query.dots ?? ''}/b", "${request.query.dots ?? ''}", "/a/.${'.' + trim(' ')}"] {
        for place in [Place::PathSegment, Place::PathRest] {
            let fault = made(text, place).render(&world, &mut String::new()).unwrap_err();
            assert_eq!(fault.code, "expression.path", "{text}");
        }
    }
    assert_eq!(written("/a/${request.query.dots ?? ''}x", Place::PathSegment), "/a/..x");
}

#[test]
fn one_expression_keeps_its_type_and_may_be_absent() {
    let world = world();
    let single = made("${request.query.none}", Place::Plain);
    assert!(single.single().is_some() && single.facts().absent);
    assert!(single.value(&world).unwrap().is_absent());
    let fault = single.render(&world, &mut String::new()).unwrap_err();
    assert_eq!((&*fault.code, fault.status.as_u16()), ("expression.absent", 400));
    assert!(matches!(made("${request.size}", Place::Plain).value(&world), Ok(Val::Int(120))));
    assert!(matches!(made("${request.size} ", Place::Plain).value(&world), Ok(Val::Text(_))));
    let mut out = Vec::new();
    made("${request.body}", Place::Plain).render_bytes(&world, &mut out).unwrap();
    made(" ${note}", Place::Plain).render_bytes(&world, &mut out).unwrap();
    assert_eq!(
        out,
        "\0 über/größe".bytes().fold(vec![0xFF], |mut all, byte| {
            all.push(byte);
            all
        })
    );
    let fault = made("x${request.body}", Place::Plain).render(&world, &mut String::new()).unwrap_err();
    assert_eq!(fault.code, "expression.not_text");
}

#[test]
fn facts_and_literals() {
    let mixed = made("a ${secret('pepper')} ${request.method}", Place::Plain);
    assert_eq!((mixed.facts().ty, mixed.facts().mark), (Type::Text, Mark::Secret));
    assert_eq!((mixed.facts().origin, mixed.reads().count(), mixed.holes().count()), (Origin::Client, 1, 2));
    assert!(!format!("{mixed:?} {:?}", mixed.holes().next()).contains("hot"));
    assert_eq!(made("a $${b}", Place::Plain).is_literal(), Some("a ${b}"));
    assert_eq!(made("", Place::Plain).is_literal(), Some(""));
    assert_eq!(mixed.is_literal(), None);
    assert_eq!(made("s-${env.STAGE}", Place::Plain).known(), Some(Value::text("s-prod")));
    assert_eq!(made("${request.method}", Place::Plain).known(), None);
}

#[test]
fn errors_are_placed_in_the_whole_text() {
    for (text, code, underlined) in [
        ("ab ${request.metod}", "unknown_variable", "metod"),
        ("ab ${request.method", "expr.unclosed", "${"),
        ("ab ${'}", "expr.unclosed", "${"),
        ("ab ${}", "expr.empty", ""),
        ("ab ${ request.query.q }", "expr.may_be_absent", "request.query.q"),
        ("é${path.id == 7}", "expr.type_mismatch", "path.id == 7"),
        ("ab ${let x}", "expr.unsupported", "let"),
    ] {
        let errors = template(text, Place::Plain, &mut world()).unwrap_err();
        assert_eq!((errors[0].code, &text[errors[0].at.clone()]), (code, underlined), "{text}");
        assert_eq!(errors.len(), 1, "{text}");
    }
    let errors = template("${request.query.a}${nowhere}${path.id == 7}", Place::Plain, &mut world()).unwrap_err();
    assert_eq!(errors.len(), 3);
    assert!(errors[0].help.as_ref().unwrap().contains("request.query.a ?? ''"));
}

#[test]
fn a_made_text_is_bounded() {
    let text = "${replace('aaaaaaaaaa', 'a', note)}".repeat(20_000);
    let fault = made(&text, Place::Plain).render(&world(), &mut String::new()).unwrap_err();
    assert_eq!(fault.code, "expression.too_large");
}
