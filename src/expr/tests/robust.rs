//! Arbitrary input: compiling never panics, errors lie inside of the text, and what is printed reads back.

use proptest::prelude::*;

use super::world;
use crate::engine::value::Value;
use crate::expr::{Place, compile, template};

/// Fragments that get further into the language than random characters do.
fn source() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "request.method",
        "request.json",
        "request.query.q",
        "auth.groups",
        "gone",
        "any",
        "note",
        "flag",
        "1",
        "-2",
        "2.5",
        "'a'",
        "\"b\"",
        "true",
        "(",
        ")",
        "[",
        "]",
        "#{",
        "}",
        "a:",
        ",",
        ".",
        "x",
        "len",
        "lower(",
        "exists(",
        "contains(",
        "in_cidr(",
        "==",
        "!=",
        "<",
        ">=",
        "in",
        "!in",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "??",
        "${",
        "$${",
        "'",
        "\\",
        "if",
        "=",
        "é",
        " ",
    ]);
    prop::collection::vec(words, 0..12).prop_map(|words| words.join(" "))
}

fn literal() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("literals are finite", |float| float.is_finite()).prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::text),
    ]
}

fn printed(value: &Value) -> String {
    match value {
        Value::Int(int) => int.to_string(),
        Value::Float(float) => format!("{float:?}"),
        Value::Text(text) => {
            let escaped = text.chars().map(|char| match char {
                '\'' | '\\' => format!("\\{char}"),
                char if char.is_control() => format!("\\u{{{:x}}}", u32::from(char)),
                char => char.to_string(),
            });
            format!("'{}'", escaped.collect::<String>())
        }
        Value::Bool(bool) => bool.to_string(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn compiling_never_panics(text in prop_oneof![any::<String>(), source()]) {
        if let Err(errors) = compile(&text, &mut world()) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(text.get(error.at.clone()).is_some(), "{:?} in {:?}", error, text);
            }
        } else if let Ok(compiled) = compile(&text, &mut world()) {
            // What compiled gives a value or a fault.
            let _ = compiled.eval(&world()).map(crate::engine::value::Val::into_value);
        }
    }

    #[test]
    fn templates_never_panic(text in prop_oneof![any::<String>(), source().prop_map(|text| format!("a${{{text}}}b"))]) {
        match template(&text, Place::PathRest, &mut world()) {
            Ok(template) => { let _ = template.render(&world(), &mut String::new()); }
            Err(errors) => for error in errors {
                prop_assert!(text.get(error.at.clone()).is_some(), "{:?} in {:?}", error, text);
            },
        }
    }

    #[test]
    fn literals_read_back(value in literal()) {
        let text = printed(&value);
        let compiled = compile(&text, &mut world()).map_err(|errors| TestCaseError::fail(format!("{text}: {errors:?}")))?;
        prop_assert_eq!(compiled.known(), Some(&value), "{}", text);
    }

    #[test]
    fn text_around_holes_is_kept(before in "[^$]{0,8}", after in "[^$]{0,8}") {
        let text = format!("{before}${{request.method}}{after}");
        let mut out = String::new();
        if let Ok(template) = template(&text, Place::Plain, &mut world()) {
            prop_assert!(template.render(&world(), &mut out).is_ok());
        }
        prop_assert_eq!(out, format!("{before}POST{after}"));
    }
}
