//! The schema of policy files: each document by its first key.

use serde_json::{Map, Value as Json, json};

use super::definitions::{Definitions, reference};
use super::{steps, whole};
use crate::policy::document;
use crate::policy::resources::KINDS;
use crate::policy::testing;

/// Keys of documents that hold steps.
const STEPS: [&str; 4] = ["policy", "before", "on_fault", "finally"];

/// A kind of document.
struct Kind {
    word: &'static str,
    summary: &'static str,
    schema: Json,
}

/// The schema of a policy file's documents.
pub(super) fn policy(own: &steps::Own) -> Json {
    let mut definitions = Definitions::default();
    steps::define(own, &mut definitions);
    let case = definitions.take("tests", testing::case_schema());
    definitions.put("case", case);
    let kinds = kinds(&mut definitions);
    let mut choices = Vec::new();
    let mut offered = Map::new();
    for kind in &kinds {
        let part = definitions.put(&format!("{}_document", kind.word), kind.schema.clone());
        choices.push(json!({ "if": declares(kind, &kinds), "then": part }));
        offered.insert(kind.word.to_owned(), json!({ "type": "string", "description": kind.summary }));
    }
    let named: Vec<Json> = kinds.iter().map(|kind| json!({ "required": [kind.word] })).collect();
    choices.push(json!({
        "if": { "type": "object", "anyOf": named },
        "then": true,
        "else": { "type": "object", "properties": offered, "additionalProperties": false, "minProperties": 1 },
    }));
    whole("Gatewright: policies and assertions", json!({ "allOf": choices }), definitions)
}

fn kinds(definitions: &mut Definitions) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (word, schema) in document::schemas() {
        let schema = definitions.take(word, schema);
        kinds.push(Kind { word, summary: summary(word), schema });
    }
    for resource in KINDS {
        let schema = definitions.take(resource.word, (resource.schema)());
        kinds.push(Kind { word: resource.word, summary: resource.summary, schema });
    }
    for kind in &mut kinds {
        fill(&mut kind.schema, kind.word);
    }
    kinds
}

fn summary(word: &str) -> &'static str {
    match word {
        "service" => "A service: a match rule and a pipeline.",
        "fragment" => "Steps that several services include.",
        "assertion" => "An operator's own assertion: steps with typed ends.",
        "defaults" => "Steps that services have without writing them.",
        _ => "Policy tests of a service.",
    }
}

/// Gives the keys that hold steps and cases their schemas.
fn fill(schema: &mut Json, word: &str) {
    let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) else { return };
    for (name, property) in properties {
        let part = match name.as_str() {
            name if STEPS.contains(&name) => reference("steps"),
            "tests" if word != "tests" => json!({
                "if": { "type": "object" },
                "then": testing_group(),
                "else": { "type": "array", "items": reference("case") },
            }),
            "cases" => json!({ "type": "array", "items": reference("case") }),
            "given" => reference("Given"),
            _ => continue,
        };
        let doc = property.get("description").cloned();
        *property = part;
        if let (Some(members), Some(doc)) = (property.as_object_mut(), doc) {
            members.insert("description".into(), doc);
        }
    }
}

fn testing_group() -> Json {
    json!({
        "type": "object",
        "properties": { "given": reference("Given"), "cases": { "type": "array", "items": reference("case") } },
        "required": ["cases"],
        "additionalProperties": false,
    })
}

/// A document declares a kind by that kind's key, where the key is no ordinary one of another kind.
fn declares(kind: &Kind, all: &[Kind]) -> Json {
    let has_it = |other: &&Kind| {
        other.word != kind.word && other.schema.get("properties").is_some_and(|keys| keys.get(kind.word).is_some())
    };
    let others: Vec<Json> = all.iter().filter(has_it).map(|other| json!({ "required": [other.word] })).collect();
    let mut rule = steps::has(kind.word);
    if let (false, Some(members)) = (others.is_empty(), rule.as_object_mut()) {
        members.insert("not".into(), json!({ "anyOf": others }));
    }
    rule
}
