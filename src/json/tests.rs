//! The scan against a suite of texts, against the parser, and at each bound.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const WIDE: Bounds = Bounds {
    depth: 64,
    members: 1000,
    items: 10_000,
    name_length: 256,
    string_length: 65_536,
    number_length: 1000,
    nodes: 100_000,
    duplicates: true,
};

fn breach(text: &str, bounds: Bounds) -> Option<Breach> {
    scan(text.as_bytes(), &bounds).err().map(|broken| broken.breach)
}

/// nst/JSONTestSuite: `y_` is JSON, `n_` is not, and `i_` may be either.
#[test]
fn the_json_test_suite_agrees() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/jsontestsuite/test_parsing");
    let (mut counts, mut wrong) = ([0, 0, 0], Vec::new());
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read(entry.path()).unwrap();
        let is_json = scan(&text, &WIDE).is_ok();
        let kind = name.split('_').next().unwrap();
        let place = ["y", "n", "i"].iter().position(|known| *known == kind).unwrap();
        counts[place] += 1;
        if (kind == "y" && !is_json) || (kind == "n" && is_json) {
            wrong.push(name.clone());
        }
        // What the scan lets through, the parser reads, but for numbers beyond its range.
        if is_json && let Err(error) = serde_json::from_slice::<Value>(&text) {
            assert!(error.to_string().contains("number out of range"), "{name}: {error}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(counts, [95, 188, 35]);
}

#[test]
fn each_bound_is_the_last_that_passes() {
    let text = r#"{"ab":[1,22,{"é":"xüy"}]}"#;
    let exact = Bounds {
        depth: 3,
        members: 1,
        items: 3,
        name_length: 2,
        string_length: 3,
        number_length: 2,
        nodes: 6,
        duplicates: false,
    };
    assert_eq!(scan(text.as_bytes(), &exact), Ok(6));
    let tighter = [
        (Bounds { depth: 2, ..exact }, Breach::Depth),
        (Bounds { members: 0, ..exact }, Breach::Members),
        (Bounds { items: 2, ..exact }, Breach::Items),
        (Bounds { name_length: 1, ..exact }, Breach::NameLength),
        (Bounds { string_length: 2, ..exact }, Breach::StringLength),
        (Bounds { number_length: 1, ..exact }, Breach::NumberLength),
        (Bounds { nodes: 5, ..exact }, Breach::Nodes),
    ];
    for (bounds, expected) in tighter {
        assert_eq!(breach(text, bounds), Some(expected));
    }
}

#[test]
fn characters_are_counted_not_bytes_or_escapes() {
    let two = Bounds { string_length: 2, ..WIDE };
    for text in [r#""é€""#, r#""\u0041\n""#, r#""\ud83d\ude00x""#, r#""😀😀""#] {
        assert_eq!(breach(text, two), None, "{text}");
    }
    assert_eq!(breach(r#""\ud83d\ude00xy""#, two), Some(Breach::StringLength));
}

#[test]
fn a_name_is_one_in_every_spelling() {
    let strict = Bounds { duplicates: false, ..WIDE };
    for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"x":1,"y":2,"x":3}}]"#, r#"{"":1,"":2}"#] {
        assert_eq!(breach(text, strict), Some(Breach::DuplicateName), "{text}");
        assert_eq!(breach(text, WIDE), None);
    }
    assert_eq!(breach(r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#, strict), None);
    for (members, twice) in [(7, 0), (8, 3), (9, 8), (40, 2), (40, 39)] {
        let mut names: Vec<String> = (0..members).map(|number| format!("\"n{number}\":{number}")).collect();
        assert_eq!(breach(&format!("{{{}}}", names.join(",")), strict), None);
        names.push(format!("\"n{twice}\":0"));
        assert_eq!(breach(&format!("{{{}}}", names.join(",")), strict).is_some(), twice < members);
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = Bounds { depth: usize::MAX, nodes: usize::MAX, ..WIDE };
    let text = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(scan(text.as_bytes(), &deep), Ok(1_000_001));
    assert_eq!(breach(&text, WIDE), Some(Breach::Depth));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let said = |text: &str| scan(text.as_bytes(), &WIDE).unwrap_err().to_string();
    assert_eq!(said("[1,]"), "not JSON: expected a value, at byte 3");
    assert_eq!(said("{\"a\" 1}"), "not JSON: expected `:`, at byte 5");
    assert_eq!(said("1 2"), "not JSON: expected the end of the text, at byte 2");
    assert_eq!(said("\u{feff}1"), "not JSON: expected a value, at byte 0");
    assert_eq!(scan(b"\"\xff\"", &WIDE).unwrap_err().at, 1);
}

proptest! {
    /// The scan and the parser agree on texts that are nearly JSON.
    #[test]
    fn the_parser_agrees(text in r#"[\[\]{}:,"\\ a1e.\-0utrnlfse]{0,24}"#) {
        let parsed = serde_json::from_str::<Value>(&text);
        let out_of_range = parsed.as_ref().is_err_and(|error| error.to_string().contains("number out of range"));
        prop_assert_eq!(scan(text.as_bytes(), &WIDE).is_ok(), parsed.is_ok() || out_of_range);
    }
}
