//! Trees, positions and diagnostics of the room as its users see them.

use proptest::prelude::*;

use super::*;

fn load(text: &str) -> (Sources, Vec<Node>, Diagnostics) {
    let mut sources = Sources::new();
    let mut diags = Diagnostics::new();
    let file = sources.add("policies/a.yaml", text);
    let documents = parse(&sources, file, &mut diags);
    (sources, documents, diags)
}

fn one(text: &str) -> (Sources, Node) {
    let (sources, mut documents, diags) = load(text);
    assert!(diags.is_empty(), "{}", render(&sources, &diags, false));
    assert_eq!(documents.len(), 1);
    (sources, documents.remove(0))
}

/// `line:column code` of each diagnostic.
fn found(sources: &Sources, diags: &Diagnostics) -> Vec<String> {
    let place = |diagnostic: &Diagnostic| sources.place(diagnostic.span.unwrap());
    diags
        .iter()
        .map(|d| (place(d), d.code))
        .map(|(place, code)| format!("{}:{} {code}", place.line, place.column))
        .collect()
}

#[test]
fn keeps_text_style_and_place_of_everything() {
    let (sources, node) =
        one("# comment\na: 1.10\n\"b\": 'it''s'\nc: {d: [no, 0123]}\ne: |\n  one\n  two\n\nf:\n- x\n- ~\n200:\n");
    let at = |node: &Node| {
        let (start, end) = (sources.place(node.span()), sources.end_place(node.span()));
        format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column)
    };
    let get = |key: &str| node.get(key).unwrap();
    assert_eq!(at(&node), "2:1-12:4");
    assert_eq!((get("a").as_text(), at(get("a"))), (Some("1.10"), "2:4-2:8".into()));
    assert_eq!((get("b").as_text(), at(get("b"))), (Some("it's"), "3:6-3:13".into()));
    assert_eq!(get("b").as_scalar().unwrap().style, ScalarStyle::SingleQuoted);
    assert_eq!(sources.slice(node.entry("b").unwrap().key_span), "\"b\"");
    assert_eq!(sources.slice(get("c").span()), "{d: [no, 0123]}");
    let list = get("c").get("d").unwrap();
    assert_eq!(sources.slice(list.span()), "[no, 0123]");
    assert_eq!(list.as_list().unwrap()[1].as_text(), Some("0123"));
    assert_eq!((get("e").as_text(), at(get("e"))), (Some("one\ntwo\n"), "6:3-7:6".into()));
    assert_eq!(get("e").as_scalar().unwrap().style, ScalarStyle::Block);
    assert_eq!(at(get("f")), "10:1-11:4");
    assert_eq!((get("f").kind(), get("200").kind()), ("a list", "nothing"));
    assert!(get("f").as_list().unwrap()[1].is_null());
}

#[test]
fn splits_documents_and_skips_empty_ones() {
    let (_, documents, diags) = load("---\n---\na: 1\n...\n%YAML 1.2\n---\nb\n---\n# nothing\n");
    assert!(diags.is_empty());
    let kinds: Vec<_> = documents.iter().map(Node::kind).collect();
    assert_eq!(kinds, ["a mapping", "text"]);
}

#[test]
fn reads_places_without_a_type_by_the_core_schema() {
    for (text, json) in [
        ("[true, False, ~, null, NULL]", "[true, false, null, null, null]"),
        ("[1, -2, +3, 0x1F, 0o17, 0123]", "[1, -2, 3, 31, 15, 123]"),
        ("[1.5, .5, 1e3, -1.5E-2, 1.]", "[1.5, 0.5, 1000.0, -0.015, 1.0]"),
        (
            "[no, yes, on, 1_000, 1.2.3, .inf, .nan, 0x, e1, +, ., 1 2]",
            "[\"no\", \"yes\", \"on\", \"1_000\", \"1.2.3\", \".inf\", \".nan\", \"0x\", \"e1\", \"+\", \".\", \"1 2\"]",
        ),
        ("['1', \"true\", 'null']", "[\"1\", \"true\", \"null\"]"),
        ("{b: {c: }, a: 1}", "{\"b\": {\"c\": null}, \"a\": 1}"),
    ] {
        let (_, node) = one(text);
        let expected: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(node.to_json(), expected, "{text}");
        assert_eq!(node.to_json().to_string(), expected.to_string(), "order of {text}");
    }
}

#[test]
fn maps_decoded_text_back_to_the_source() {
    for text in [
        "a: before ${x} after",
        "a: 'it''s ${x} after'",
        "a: \"q \\\"z\\\" \\u00e4 \\n ${x} after\"",
        "a: \"one\n  two ${x} three\"",
        "a: one\n  two ${x} three",
        "a: |\n  one\n    two ${x}\n\n  three\n",
        "a: >-\n  one\n  two\n\n  ${x} three\n",
        "a: |+\n\n  \u{e4}\u{20ac} ${x}\n\n",
        "a: \"one \\\n   ${x}\"",
        "a: \"\\ttab ${x}\"",
        "a: |\n  \u{feff} ${x}\n",
        "a: |\n  ${x}",
    ] {
        let (sources, node) = one(text);
        let value = node.get("a").unwrap();
        let start = value.as_text().unwrap().find("${x}").unwrap();
        let span = value.position_of(start, start + "${x}".len());
        assert_eq!(sources.slice(span), "${x}", "{text}");
    }
    let (_, node) = one("a: \"\\ud83d\\ude00 ${x}\"");
    let value = node.get("a").unwrap();
    assert_eq!(value.position_of(5, 9), value.span());
    assert_eq!(value.position_of(5, 900), value.span());
    let list = one("[a]").1;
    assert_eq!(list.position_of(0, 1), list.span());
}

#[test]
fn reports_each_mistake_at_its_place_with_a_cure() {
    for (text, place, cure) in [
        ("a: &x [1]\nb: *x\n", vec!["1:4 yaml.anchor", "2:4 yaml.alias"], "fragment:"),
        ("a: *.example.com", vec!["1:4 yaml.alias"], "`\"*.example.com\"`"),
        ("a: !request.x", vec!["1:4 yaml.tag"], "`\"!request.x\"`"),
        ("a: !!str 1", vec!["1:4 yaml.tag"], "types follow from the place"),
        ("a: !x!y 1", vec!["1:4 yaml.tag"], "must stand in quotes"),
        ("a: 1\n<<: {b: 1}\n", vec!["2:1 yaml.merge_key"], "`include:`"),
        ("a: 1\nb: 2\na: 3\n'a': 4\n", vec!["3:1 yaml.duplicate_key", "4:1 yaml.duplicate_key"], "keep one"),
        ("%YAML 1.1\n---\na: 1", vec!["1:1 yaml.directive"], "YAML 1.2"),
        ("%TAG ! x:\n---\na: 1", vec!["1:1 yaml.directive"], "remove the line"),
        ("{a: 1}: 2\n: 3\n", vec!["1:1 yaml.key", "2:1 yaml.key"], "must stand in quotes"),
        ("a:\n\tb: 1\n", vec!["2:1 yaml.tab"], "spaces"),
        ("a: |\n\tb\n", vec!["2:1 yaml.tab"], "spaces"),
        ("a: \u{7}", vec!["1:4 yaml.control_character"], "\\u0007"),
        ("a: x\0y", vec!["1:5 yaml.control_character"], "\\u0000"),
        ("a: {b: ${x}}", vec!["1:9 yaml.syntax"], "`\"${x}\"`"),
        ("- [a, http://h/${x}/y, c]", vec!["1:17 yaml.syntax"], "`\"http://h/${x}/y\"`"),
        ("a: {to: /b/{id}/c}", vec!["1:12 yaml.syntax"], "`\"/b/{id}/c\"`"),
        ("a: {id}/x", vec!["1:8 yaml.syntax"], "`\"{id}/x\"`"),
        ("- a: b: c # d", vec!["1:7 yaml.syntax"], "`\"b: c\"`"),
        ("a: @x", vec!["1:4 yaml.syntax"], "`\"@x\"`"),
        ("a: `x`", vec!["1:4 yaml.syntax"], "backtick"),
        ("a: %x", vec!["1:4 yaml.syntax"], "`\"%x\"`"),
        ("a: *\n", vec!["1:4 yaml.syntax"], "`\"*\"`"),
        ("a: [*]\n", vec!["1:5 yaml.syntax"], "must stand in quotes"),
        ("a: [b]x", vec!["1:7 yaml.syntax"], "`\"[b]x\"`"),
        ("a: 'x", vec!["1:4 yaml.syntax"], "closing quote"),
        ("a: 'x'y'", vec!["1:7 yaml.syntax"], "written twice"),
        ("a: \"\\d\"", vec!["1:4 yaml.syntax"], "single quotes"),
        ("a: \"x \\uD800: \"", vec!["1:4 yaml.syntax"], "pair"),
        ("a: \"\\uDC00\"", vec!["1:4 yaml.syntax"], "pair"),
        ("a: \"\\uD800\\u0041\"", vec!["1:4 yaml.syntax"], "pair"),
        ("a: \"\\uD8\"", vec!["1:4 yaml.syntax"], "four hexadecimal digits"),
        ("a: \"\\U00110000\"", vec!["1:4 yaml.syntax"], "10FFFF"),
        ("a: \"${x ?? \"1\"}\"", vec!["1:13 yaml.syntax"], "`\"${x ?? '1'}\"`"),
        ("when: \"a\" == b", vec!["1:11 yaml.syntax"], "`'\"a\" == b'`"),
        ("a: [1, 2\nb: 3", vec!["2:2 yaml.syntax"], "may not be closed"),
        ("a: {b: 1\n", vec!["1:4 yaml.syntax"], "closing bracket"),
        ("a:\n  b: 1\n c: 2", vec!["3:2 yaml.syntax"], "same column"),
        ("- a\nb: 1", vec!["2:1 yaml.syntax"], "same column"),
        ("a: 1\nb:2\n", vec!["2:1 yaml.syntax"], "space behind the colon"),
        ("a: x\nb\nc: 1", vec!["2:1 yaml.syntax"], "`|`"),
        ("a: - b", vec!["1:4 yaml.syntax"], "its own line"),
        ("a: x\n  b: 1", vec!["2:4 yaml.syntax"], "check the indentation"),
    ] {
        let (sources, _, diags) = load(text);
        assert_eq!(found(&sources, &diags), place, "{text:?}");
        let help = diags.iter().next().unwrap().help.clone().unwrap_or_default();
        assert!(help.contains(cure), "{text:?}: {help}");
    }
}

#[test]
fn goes_on_after_what_it_refuses() {
    let (sources, documents, diags) = load("a: 1\na: 2\nb: {c: !x 1, c: 2}\nd: [*y]\n");
    assert_eq!(found(&sources, &diags).len(), 4);
    assert_eq!(documents[0].to_json().to_string(), r#"{"a":1,"b":{"c":1},"d":[null]}"#);

    let (_, documents, diags) = load("a: 1\n---\nb: [\n");
    assert_eq!((documents.len(), diags.error_count()), (1, 1));
}

#[test]
fn finds_duplicates_among_many_keys() {
    let keys: String = (0..100).map(|n| format!("k{n}: 1\n")).collect();
    let (sources, _, diags) = load(&format!("{keys}k3: 1\nk99: 2\n"));
    let expected = ["101:1 yaml.duplicate_key", "102:1 yaml.duplicate_key"];
    assert_eq!(found(&sources, &diags), expected);
    let notes: Vec<_> = diags.iter().map(|d| sources.place(d.notes[0].0).line).collect();
    assert_eq!(notes, [4, 100]);
}

#[test]
fn hostile_files_end_early() {
    let nested_block: String = (0..500).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let anchors: String =
        (1..9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    for (text, code) in [
        ("[".repeat(100_000), "yaml.depth"),
        ("{a: ".repeat(100_000), "yaml.depth"),
        ("- ".repeat(100_000), "yaml.depth"),
        (nested_block, "yaml.depth"),
        (format!("a0: &a0 x\n{anchors}"), "yaml.anchor"),
        ("- &a 1\n".repeat(200_000), "yaml.anchor"),
        (format!("[{}]", "a,".repeat(NODES_MAX + 1)), "yaml.too_many_nodes"),
        ("#".repeat(FILE_BYTES_MAX + 1), "yaml.too_large"),
    ] {
        let (sources, _, diags) = load(&text);
        assert_eq!(diags.iter().next().unwrap().code, code);
        assert!(render(&sources, &diags, false).len() < 500_000);
    }
}

#[test]
fn depth_is_counted_over_block_and_flow_together() {
    let nested = |depth: usize| format!("a:\n - {}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(load(&nested(DEPTH_MAX - 2)).2.is_empty());
    let (_, _, diags) = load(&nested(DEPTH_MAX - 1));
    assert_eq!(diags.iter().next().unwrap().code, "yaml.depth");
}

#[test]
fn bytes_must_be_utf_8_and_may_begin_with_a_mark() {
    let mut sources = Sources::new();
    let mut diags = Diagnostics::new();
    let marked = sources.add_bytes("m", "\u{feff}a: \u{e4}".as_bytes(), &mut diags).unwrap();
    assert_eq!(parse(&sources, marked, &mut diags).len(), 1);
    assert!(diags.is_empty());

    assert!(sources.add_bytes("b", b"a: 1\nb: \xff\xfe", &mut diags).is_none());
    assert_eq!(found(&sources, &diags), ["2:4 yaml.not_utf8"]);

    let mut diags = Diagnostics::new();
    assert!(sources.add_bytes("u", b"\xff\xfea\0", &mut diags).is_none());
    assert!(diags.iter().next().unwrap().message.contains("UTF-16"));

    let mut diags = Diagnostics::new();
    let large = vec![b'#'; FILE_BYTES_MAX + 1];
    assert!(sources.add_bytes("l", &large, &mut diags).is_none());
    assert_eq!(found(&sources, &diags), ["1:1 yaml.too_large"]);
}

#[test]
fn renders_for_people() {
    let (sources, _, mut diags) = load("a: 1\nb: 2\na: 3\n");
    diags.push(Diagnostic::warning("policy.no_file", None, "nothing is served"));
    let expected = "\
error[yaml.duplicate_key]: the key `a` stands twice in this mapping
 --> policies/a.yaml:3:1
  |
1 | a: 1
  | - first here
2 | b: 2
3 | a: 3
  | ^ again here
  |
  = help: keep one of the two; if both were meant, make it one value or a list

warning[policy.no_file]: nothing is served

1 error, 1 warning
";
    assert_eq!(render(&sources, &diags, false), expected);
    assert!(render(&sources, &diags, true).contains("\u{1b}["));
    assert_eq!(render(&sources, &Diagnostics::new(), true), "");
}

#[test]
fn renders_notes_that_are_far_away_and_long_lines() {
    let text = format!("a: 1\n{}a: 2\n", "# filler\n".repeat(500));
    let (sources, _, diags) = load(&text);
    let shown = render(&sources, &diags, false);
    assert!(shown.contains("policies/a.yaml:502:1") && shown.contains("policies/a.yaml:1:1"));
    assert!(shown.lines().count() < 20, "{shown}");

    let text = format!("a: {}\nb: {}, @x\n", "y".repeat(3000), "[1, ".repeat(900));
    let (sources, _, diags) = load(&text);
    let shown = render(&sources, &diags, false);
    assert!(shown.contains("policies/a.yaml:2:") && shown.len() < 2000, "{shown}");
}

#[test]
fn tells_programs_the_same() {
    let (sources, _, diags) = load("\u{e4}: 1\nb: &x 2\n");
    let json = to_json(&sources, &diags);
    let first = &json[0];
    assert_eq!(first["file"], "policies/a.yaml");
    assert_eq!((&first["line"], &first["column"]), (&2.into(), &4.into()));
    assert_eq!((&first["end_line"], &first["end_column"]), (&2.into(), &6.into()));
    assert_eq!((&first["code"], &first["severity"]), (&"yaml.anchor".into(), &"error".into()));
}

#[test]
fn nowhere_and_forgotten_files_have_harmless_places() {
    let (mut sources, documents, _) = load("a:\n  b: 1\n");
    let span = documents[0].get("a").unwrap().span();
    assert_eq!(sources.place(Span::NOWHERE).line, 0);
    sources.forget(span.file);
    let mut diags = Diagnostics::new();
    diags.push(Diagnostic::error("a.b", span, "m"));
    assert!(render(&sources, &diags, false).contains("policies/a.yaml"));
}

#[test]
fn trees_and_sources_go_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Sources>();
    shared::<Node>();
    shared::<Diagnostics>();
}

proptest! {
    #[test]
    fn never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut sources = Sources::new();
        let mut diags = Diagnostics::new();
        if let Some(file) = sources.add_bytes("f", &bytes, &mut diags) {
            parse(&sources, file, &mut diags);
        }
        render(&sources, &diags, false);
        to_json(&sources, &diags);
    }

    #[test]
    fn never_panics_on_text_like_yaml(text in "([ \t\n\r\\-:,?&*!|>'\"%@`#{}\\[\\]$\\\\a-c1~<\u{e4}\u{feff}]){0,60}") {
        let (sources, documents, diags) = load(&text);
        render(&sources, &diags, false);
        for node in documents {
            node.to_json();
            let length = node.as_text().map_or(0, str::len);
            let span = node.position_of(0, length);
            prop_assert!(sources.text(span.file).get(span.start as usize..span.end as usize).is_some());
            prop_assert!(span.start <= span.end && span.end as usize <= text.len());
        }
    }
}
