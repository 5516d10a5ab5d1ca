//! The interpreter as the oracle of the native form: whatever both take, they answer alike.

use proptest::prelude::*;

use super::world;
use crate::expr::compiled::compile_interpreted;
use crate::expr::{Compiled, compile};

/// Values that an expression is made of: of every type, present and absent, of every origin.
const LEAVES: &[&str] = &[
    "1",
    "0",
    "-3",
    "2.5",
    "0.0",
    "9223372036854775807",
    "true",
    "false",
    "'a'",
    "\"b-\\u{e4}\\n\"",
    "''",
    "'7'",
    "request.method",
    "request.size",
    "path.id",
    "request.query.q",
    "request.query.nothing",
    "request.json.id",
    "request.json.name",
    "request.json.none",
    "request.json.ratio",
    "request.json.big",
    "request.json.ok",
    "request.json.list",
    "request.json.list[1]",
    "request.json.list[-1].k",
    "request.json.user",
    "request.json.max",
    "request.json.user.tags",
    "request.json['user']['name']",
    "response.json.n",
    "auth.groups",
    "auth.client",
    "note",
    "time",
    "flag",
    "any",
    "ratio",
    "gone",
    "env.STAGE",
    "request.headers['x-a']",
    "request.headers.authorization",
    "[1, 2.0, 'a']",
    "[]",
    "['POST', 'GET']",
    "#{a: 1, b: 'x'}",
    "list('tiers')",
    "now()",
    "request.body",
    "request.query",
    "request.json.user[note]",
    "auth.groups[request.json.id - 7]",
];

const BINARY: &[&str] = &["||", "&&", "==", "!=", "in", "!in", "<", "<=", ">", ">=", "??", "+", "-", "*", "/", "%"];

const CALLS: &[&str] = &[
    "lower",
    "upper",
    "trim",
    "len",
    "int",
    "float",
    "string",
    "json_text",
    "base64",
    "base64url",
    "hex",
    "url_encode",
    "xml_escape",
    "sha256",
    "abs",
    "round",
    "keys",
    "values",
    "unix",
    "exists",
];

const CALLS_OF_TWO: &[&str] =
    &["split", "join", "contains", "starts_with", "ends_with", "min", "max", "bucket", "left", "right"];

fn expression() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            4 => (inner.clone(), proptest::sample::select(BINARY), inner.clone())
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            2 => (proptest::sample::select(CALLS), inner.clone()).prop_map(|(name, of)| format!("{name}({of})")),
            1 => (proptest::sample::select(CALLS_OF_TWO), inner.clone(), inner.clone())
                .prop_map(|(name, one, two)| format!("{name}({one}, {two})")),
            1 => inner.clone().prop_map(|inner| format!("!{inner}")),
            1 => inner.clone().prop_map(|inner| format!("-({inner})")),
            1 => inner.clone().prop_map(|inner| format!("matches({inner}, '^[a-z]+$')")),
            1 => inner.clone().prop_map(|inner| format!("({inner} ?? 'x')")),
            1 => inner.clone().prop_map(|inner| format!("({inner} ?? 7)")),
            1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("[{one}, {two}]")),
            1 => inner.clone().prop_map(|inner| format!("#{{k: {inner}}}.k")),
            1 => (inner.clone(), inner).prop_map(|(one, two)| format!("replace(string({one}), string({two}), '-')")),
        ]
    })
}

/// The value with its type, or the status and code of the fault.
fn answer(compiled: &Compiled) -> String {
    match compiled.eval(&world()) {
        Ok(val) => format!("{} {}", val.type_word(), val.to_json()),
        Err(fault) => format!("{} {}", fault.status.as_u16(), fault.code),
    }
}

fn agree(source: &str) -> Option<()> {
    let native = compile(source, &mut world()).ok()?;
    let interpreted = compile_interpreted(source, &mut world())
        .unwrap_or_else(|errors| panic!("only native takes {source}: {errors:?}"));
    assert_eq!(answer(&interpreted), answer(&native), "{source}");
    // What native code has folded to a constant has no mark of a run; the others keep all of their reads.
    if native.known().is_none() {
        let missing: Vec<_> = native.reads.iter().filter(|read| !interpreted.reads.contains(read)).collect();
        assert!(missing.is_empty(), "{source}: {missing:?}");
        assert!(interpreted.facts.mark >= native.facts.mark, "{source}");
    }
    Some(())
}

#[test]
fn every_leaf_and_every_pair_of_leaves_agrees() {
    let mut compared = 0;
    for left in LEAVES {
        compared += usize::from(agree(left).is_some());
        for sign in ["==", "in", "<", "??", "+", "/"] {
            for right in LEAVES {
                compared += usize::from(agree(&format!("{left} {sign} {right}")).is_some());
            }
        }
    }
    assert!(compared > 2000, "{compared} expressions were taken by both");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn native_and_interpreted_agree(source in expression()) {
        prop_assume!(compile(&source, &mut world()).is_ok());
        agree(&source);
    }
}
