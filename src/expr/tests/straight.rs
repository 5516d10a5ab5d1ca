//! Rhai as the oracle of straight texts: whatever runs without it ends as it does with it, and at the same place.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{NOTE, World, world};
use crate::engine::read::{Budget, Read, Reader, Side};
use crate::engine::value::Val;
use crate::expr::interpret::{Ended, Interpreted, expression, script};
use crate::fault::Fault;

const SETS: &[&str] = &["x", "y", "z"];

/// Names that a script has declared, with values of all kinds.
const NAMES: &[&str] = &["a", "b", "c"];

const LEAVES: &[&str] = &[
    "a",
    "a",
    "b",
    "b",
    "c",
    "c",
    "out.x",
    "out.y",
    "out.x.k",
    "out.y[0]",
    "a.k",
    "b[0]",
    "b[-1]",
    "a[b]",
    "a.name",
    "1",
    "0",
    "-3",
    "2.5",
    "true",
    "false",
    "'a'",
    "'7'",
    "'k'",
    "''",
    "()",
    "request.method",
    "request.size",
    "path.id",
    "request.query.q",
    "request.query.nothing",
    "request.json",
    "request.json.id",
    "request.json.name",
    "request.json.list",
    "request.json.list[1]",
    "request.json.list[-1].k",
    "request.json.user",
    "request.json.user.tags",
    "request.json[a]",
    "response.json.n",
    "auth.groups",
    "note",
    "note",
    "time",
    "flag",
    "any",
    "gone",
    "request.headers.authorization",
    "[1, 2.0, 'a']",
    "[]",
    "[a, [b]]",
    "#{a: 1, k: 'x'}",
    "#{k: a, z: #{k: b}}",
    "list('tiers')",
    "request.body",
    "now()",
    "uuid()",
    "random()",
];

const BINARY: &[&str] = &["||", "&&", "==", "!=", "in", "!in", "<", "<=", ">", ">=", "??", "+", "-", "*", "/", "%"];

const CALLS: &[&str] = &[
    "lower",
    "upper",
    "trim",
    "len",
    "int",
    "string",
    "json_text",
    "base64",
    "sha256",
    "keys",
    "values",
    "exists",
    "random_hex",
];

const CALLS_OF_TWO: &[&str] = &["split", "join", "contains", "starts_with", "ends_with", "min", "max", "left", "right"];

fn value() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            4 => (inner.clone(), proptest::sample::select(BINARY), inner.clone())
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            2 => (proptest::sample::select(CALLS), inner.clone()).prop_map(|(name, of)| format!("{name}({of})")),
            2 => (proptest::sample::select(CALLS_OF_TWO), inner.clone(), inner.clone())
                .prop_map(|(name, one, two)| format!("{name}({one}, {two})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("split(string({one}), {two})[1]")),
            1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} in split(string({two}), 'a'))")),
            1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} in split({two}, ''))")),
            1 => inner.clone().prop_map(|inner| format!("!{inner}")),
            1 => inner.clone().prop_map(|inner| format!("-({inner})")),
            1 => inner.clone().prop_map(|inner| format!("matches({inner}, '^[a-z]+$')")),
            1 => inner.clone().prop_map(|inner| format!("({inner} ?? 'x')")),
            2 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("`<${{{one}}}-${{{two}}}>`")),
            1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("[{one}, {two}]")),
            1 => inner.clone().prop_map(|inner| format!("#{{k: {inner}}}")),
            1 => inner.clone().prop_map(|inner| format!("({inner}).k")),
            1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one})[{two}]")),
            1 => (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(test, one, two)| format!("if {test} == 7 {{ {one} }} else {{ {two} }}")),
            1 => (inner.clone(), inner).prop_map(|(one, two)| format!("{{ let c = {one}; c ?? {two} }}")),
        ]
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(NAMES)
}

fn statement() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        3 => (name(), value()).prop_map(|(name, value)| format!("let {name} = {value};")),
        1 => (name(), value()).prop_map(|(name, value)| format!("const {name} = {value};")),
        3 => (name(), value()).prop_map(|(name, value)| format!("{name} = {value};")),
        2 => (name(), value()).prop_map(|(name, value)| format!("{name} += {value};")),
        4 => (proptest::sample::select(SETS), value()).prop_map(|(name, value)| format!("out.{name} = {value};")),
        1 => (proptest::sample::select(SETS), value()).prop_map(|(name, value)| format!("out.{name} += {value};")),
        1 => (name(), value()).prop_map(|(name, value)| format!("{name}.k = {value};")),
        1 => value().prop_map(|value| format!("{value};")),
        1 => value().prop_map(|value| format!("deny('shop.no', 403, {value});")),
        1 => value().prop_map(|value| format!("deny('shop.no', {value});")),
        1 => value().prop_map(|value| format!("fail('shop.no', {value});")),
        1 => value().prop_map(|value| format!("return {value};")),
    ];
    plain.prop_recursive(3, 12, 3, |inner| {
        let block = proptest::collection::vec(inner, 0..3).prop_map(|all| all.join(" "));
        prop_oneof![
            3 => (value(), block.clone()).prop_map(|(test, then)| format!("if {test} {{ {then} }}")),
            2 => (value(), block.clone(), block.clone())
                .prop_map(|(test, then, other)| format!("if exists({test}) {{ {then} }} else {{ {other} }}")),
            1 => (value(), value(), block.clone(), block.clone()).prop_map(|(one, two, then, other)| {
                format!("if {one} == {two} {{ {then} }} else if {two} {{ {other} }} else {{ }}")
            }),
            1 => block.prop_map(|inner| format!("{{ {inner} }}")),
        ]
    })
}

/// What the locals hold at first.
fn local() -> impl Strategy<Value = &'static str> {
    let alone: Vec<&'static str> = LEAVES.iter().copied().filter(|leaf| !errors("", &format!("{leaf};"))).collect();
    proptest::sample::select(alone)
}

/// A script of statements each of which loads.
fn text() -> impl Strategy<Value = String> {
    let locals = (local(), local(), local());
    (locals, proptest::collection::vec(statement(), 0..7), proptest::option::of(value())).prop_map(
        |((one, two, three), mut statements, last)| {
            let locals = format!("let a = {one};\nlet b = {two};\nlet c = {three};\n");
            statements.extend(last);
            statements.retain(|statement| !errors(&locals, statement));
            format!("{locals}{}", statements.join("\n  "))
        },
    )
}

fn errors(before: &str, statement: &str) -> bool {
    script(&format!("{before}{statement}"), SETS, &mut world()).is_err()
}

fn requests() -> impl Strategy<Value = Json> {
    proptest::sample::select(vec![
        world().json,
        json!({ "id": "a", "name": "k", "list": ["a", { "k": 1 }], "user": { "name": "ann", "tags": [] } }),
        json!({ "id": 7, "name": null, "list": { "k": "v" }, "user": ["name"] }),
        json!({ "k": { "k": [1, "a"] }, "a": true, "name": 2.5, "user": "name" }),
        json!(["k", "a", ["x"]]),
        json!("a text"),
        json!(null),
    ])
}

fn notes() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => Just("über/größe".to_owned()),
        4 => Just("a/b,a".to_owned()),
        1 => proptest::sample::select(vec![4097, 12_000, 200_000, 300_000, 600_000, 1024 * 1024, 1_500_000])
            .prop_map(|length| "a".repeat(length)),
    ]
}

/// The world of the language's tests, with another body and another text.
struct Turned {
    world: World,
    note: String,
}

impl Reader for Turned {
    fn read<'x>(&'x self, read: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        match read {
            Read::Slot(slot) if *slot == NOTE => Ok(Val::Text((&*self.note).into())),
            Read::Body(Side::Request) if self.note.len() > 4096 => {
                Err(Fault::denied(http::StatusCode::BAD_REQUEST, "body.gone", "nothing was sent"))
            }
            read => self.world.read(read),
        }
    }

    fn now(&self) -> Timestamp {
        self.world.now()
    }

    fn random(&self, into: &mut [u8]) {
        self.world.random(into);
    }
}

fn ended(text: &Interpreted, on: &Turned, operations: u64) -> String {
    let Ended { ending, at } = text.run_on(on, Budget { operations, time: Duration::from_secs(1) });
    let mut shown = format!("{ending:?} at {at:?}");
    if let crate::expr::interpret::Ending::Fault(fault) = &ending {
        shown.push_str(&format!(" {} {} {}", fault.status, fault.code, fault.detail));
    }
    shown
}

fn compare(straight: Interpreted, source: &str, on: &Turned) {
    let unbounded = Budget::default().operations;
    let ends: Vec<String> = [unbounded, 40].iter().map(|operations| ended(&straight, on, *operations)).collect();
    let interpreted = straight.interpreted();
    for (end, operations) in ends.iter().zip([unbounded, 40]) {
        let wanted = ended(&interpreted, on, operations);
        // Time is the one bound that no two runs meet at the same place.
        if !wanted.contains("too much time") && !end.contains("too much time") {
            assert_eq!(*end, wanted, "{source}\nover {} with a text of {}", on.world.json, on.note.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn straight_scripts_end_as_rhai_ends_them(source in text(), json in requests(), note in notes()) {
        let compiled = script(&source, SETS, &mut world());
        prop_assume!(compiled.as_ref().is_ok_and(Interpreted::is_straight));
        let on = Turned { world: World { json, ..world() }, note };
        compiled.map(|compiled| compare(compiled, &source, &on)).ok();
    }

    #[test]
    fn straight_expressions_end_as_rhai_ends_them(source in value(), json in requests(), note in notes()) {
        let source = format!("{{ let a = request.json.name; let b = [a, 'k']; let c = 1; {source} }}");
        let compiled = expression(&source, &mut world());
        prop_assume!(compiled.as_ref().is_ok_and(Interpreted::is_straight));
        let on = Turned { world: World { json, ..world() }, note };
        compiled.map(|compiled| compare(compiled, &source, &on)).ok();
    }
}

#[test]
fn what_repeats_or_changes_in_place_stays_with_rhai() {
    let straight = |source: &str| script(source, SETS, &mut world()).unwrap().is_straight();
    for source in [
        "",
        "true",
        "let a = 1; a += 1; out.x = a; a == 2",
        "let a = 1; { let a = 2; out.x = a; } out.y = a;",
        "if flag { deny('shop.no', 403); } else if path.id == '7' { return true; } request.method == 'GET'",
        "out.x = #{ a: [1] }; out.y = out.x.a[0];",
        "const a = uuid(); out.x = `${a}-${now()}`;",
    ] {
        assert!(straight(source), "{source}");
    }
    for source in [
        "for x in [1] { }",
        "while false { }",
        "loop { }",
        "let l = []; l.push(1);",
        "let m = #{}; m.a = 1;",
        "out.x = #{}; out.x.a = 1;",
        "fn f() { 1 } out.x = f();",
        "out.x = [1].map(|x| x);",
        "out.x = [2, 1].sort();",
        "switch request.method { 'GET' => true, _ => false }",
    ] {
        assert!(!straight(source), "{source}");
    }
    assert!(straight(&format!("let a = 1; {}", "a += 1; ".repeat(250))));
    assert!(!straight(&format!("let a = 1; {}", "a += 1; ".repeat(260))), "each value is kept");
    // What nests is bounded for both; deep chains of operators are no nesting to Rhai.
    assert!(script(&format!("'a'{} == 'a'", ".trim()".repeat(100)), SETS, &mut world()).is_err());
    let sum = script(&format!("1{} == 1", " + 1".repeat(1000)), SETS, &mut world());
    assert!(sum.map_or(true, |script| !script.is_straight()));
}

#[test]
fn lists_of_the_policy_are_shared_and_never_copied_into_lists_of_a_text() {
    let many = "a, ".repeat(9000);
    let on = Turned { world: World { json: json!(vec!["x".repeat(100); 1000]), ..world() }, note: String::new() };
    let compiled = script(&format!("let a = request.json; let l = [{many}]; out.x = len(l);"), SETS, &mut world());
    let end = ended(&compiled.unwrap(), &on, Budget::default().operations);
    assert!(end.starts_with("Value(Absent, [Some(Int(9000)), None, None])"), "{end}");
}

#[test]
fn texts_that_grow_end_where_rhai_ends_them() {
    let on = |length: usize| Turned { world: world(), note: "a".repeat(length) };
    for (source, length) in [
        ("out.x = note; out.y = note;", 600_000),
        ("out.x = note; out.x = note;", 600_000),
        ("let a = note + note; out.x = a;", 600_000),
        ("out.x = `${note}${note}`;", 600_000),
        ("note == 'a'", 1_500_000),
        ("upper(note) == 'a'", 300_000),
        ("len(split(note, '')) == 1", 12_000),
        ("split(note, '')[0] == 'a'", 12_000),
        ("split(note, '')[0] == 'a'", 100_000),
        ("'a' in split(note, 'a')", 12_000),
        ("out.x = split(note, 'a')[-1];", 9_999),
        ("out.x = split(note, 'a')[-1];", 10_000),
        ("let l = [note, note]; l == l", 600_000),
        ("let l = [note, note]; out.x = l;", 500_000),
        ("out.x = [note]; out.y = [note];", 600_000),
        ("let m = #{ a: note }; out.x = m.a; json_text(m) == ''", 200_000),
    ] {
        let compiled = script(source, SETS, &mut world()).unwrap();
        assert!(compiled.is_straight(), "{source}");
        compare(compiled, source, &on(length));
    }
}
