//! `gatewright jsonpath`: JSONPath queries over documents, by the code that `evaluate_json_path` uses.
//!
//! One JSON object per line, `{"selector": "$.a", "document": {...}}`; one answer per line, with the words of the
//! JSONPath compliance suite: `result` and `result_paths`, or `invalid_selector`, or an `error`.

use serde_json::{Value, json};

use super::lines::each_line;
use crate::json_path::{Query, check_text, count_nodes};

#[derive(Debug, clap::Args)]
pub(super) struct JsonPathArguments {}

pub(super) fn jsonpath(_: &JsonPathArguments) -> u8 {
    each_line(|line| answer(line).to_string())
}

fn answer(line: &[u8]) -> Value {
    let error = |why: String| json!({ "error": why });
    if let Err(broken) = check_text(line) {
        return error(broken.to_string());
    }
    let input: Value = match serde_json::from_slice(line) {
        Ok(input) => input,
        Err(why) => return error(why.to_string()),
    };
    let (Some(selector), document) = (input.get("selector").and_then(Value::as_str), input.get("document")) else {
        return error("expected an object with `selector`, a string, and `document`".to_owned());
    };
    let query = match Query::parse(selector) {
        Ok(query) => query,
        Err(why) => return json!({ "invalid_selector": true, "error": why }),
    };
    let Some(document) = document else { return error("expected a `document` beside `selector`".to_owned()) };
    if count_nodes(document, query.nodes_max()) > query.nodes_max() {
        return error(format!("the document has more than {} values", query.nodes_max()));
    }
    match query.select_located(document) {
        Ok(selected) => {
            let (paths, values): (Vec<String>, Vec<&Value>) = selected.into_iter().unzip();
            json!({ "result": values, "result_paths": paths })
        }
        Err(why) => error(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_answer() {
        let said = |line: &str| answer(line.as_bytes()).to_string();
        assert_eq!(
            said(r#"{"selector":"$.a[*]","document":{"a":[1,"x"]}}"#),
            r#"{"result":[1,"x"],"result_paths":["$['a'][0]","$['a'][1]"]}"#
        );
        assert_eq!(said(r#"{"selector":"$.a","document":null}"#), r#"{"result":[],"result_paths":[]}"#);
        assert!(said(r#"{"selector":"a","document":1}"#).starts_with(r#"{"invalid_selector":true,"error":""#));
        for line in ["{", "[]", "{}", r#"{"selector":"$"}"#, r#"{"selector":"$","document":{"a":1,"a":2}}"#] {
            assert!(said(line).starts_with(r#"{"error":""#), "{line}");
        }
    }
}
