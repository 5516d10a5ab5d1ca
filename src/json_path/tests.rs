//! The compliance suite of RFC 9535, and the bounds around it.

use serde_json::{Value, json};

use super::*;

#[test]
fn the_compliance_suite_passes() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/jsonpath/cts.json");
    let suite: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = suite["tests"].as_array().unwrap();
    let failed: Vec<&str> =
        cases.iter().filter(|case| !passes(case)).filter_map(|case| case["name"].as_str()).collect();
    assert!(failed.is_empty(), "{} of {} fail: {failed:#?}", failed.len(), cases.len());
    assert_eq!(cases.len(), 703);
}

fn passes(case: &Value) -> bool {
    let query = Query::parse(case["selector"].as_str().unwrap());
    if case["invalid_selector"] == json!(true) {
        return query.is_err();
    }
    let Ok(query) = query else { return false };
    let selected: Value = query.select(&case["document"]).unwrap().into_iter().cloned().collect();
    let located = query.select_located(&case["document"]).unwrap();
    let paths: Value = located.into_iter().map(|(path, _)| Value::from(path)).collect();
    match case.get("result") {
        Some(result) => *result == selected && case["result_paths"] == paths,
        None => {
            let among = |all: &Value, one: &Value| all.as_array().unwrap().contains(one);
            among(&case["results"], &selected) && among(&case["results_paths"], &paths)
        }
    }
}

#[test]
fn the_shape_of_a_query_is_seen() {
    let shape = |text: &str| {
        Query::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let shape = Shape::of(text);
        (shape.singular, shape.one_pass, shape.bounded)
    };
    assert_eq!(shape("$.a['b'][0]"), (true, true, true));
    assert_eq!(shape("$['a..b*?,:$']"), (true, true, true));
    assert_eq!(shape("$.a[*]"), (false, true, true));
    assert_eq!(shape("$[0, 1]"), (false, true, true));
    assert_eq!(shape("$[1:2]"), (false, true, true));
    assert_eq!(shape("$..a"), (false, true, true));
    assert_eq!(shape("$..a..b"), (false, false, true));
    assert_eq!(shape("$[?@.a == $.b]"), (false, false, true));
    assert_eq!(shape("$[?@.a == 'x\\'$..']"), (false, true, true));
    assert_eq!(shape("$[?match(@.a, 'b.*' )]"), (false, false, true));
    assert_eq!(shape("$[?search(@.a, \"b\\\"\") && length(@.b) == 2]"), (false, false, true));
    assert_eq!(shape("$[?match(@.a, @.b)]"), (false, false, false));
    assert_eq!(shape("$[?match(@.a, 'x') || search(@.a, @['b'])]"), (false, false, false));
}

#[test]
fn a_document_of_a_stranger_has_bounds() {
    assert!(check_text(b"{\"a\":1,\"a\":2}").is_err());
    assert!(check_text(format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)).as_bytes()).is_ok());
    assert!(check_text("[".repeat(DEPTH_MAX + 1).as_bytes()).is_err());
    let list: Value = (0..=SELECTED_MAX).collect();
    let all = Query::parse("$[*]").unwrap();
    assert_eq!(all.select(&list), Err(TooManySelected));
    assert_eq!(Query::parse("$[1:]").unwrap().select(&list).unwrap().len(), SELECTED_MAX);
    assert_eq!((count_nodes(&list, 5), count_nodes(&list, usize::MAX)), (6, SELECTED_MAX + 2));
    assert!(Query::parse(&format!("$['{}']", "a".repeat(QUERY_BYTES_MAX))).is_err());
}
