//! The schema of steps: one part per assertion, chosen by the assertion's name, with its parameters in the
//! long and the short form, and what may stand beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::definitions::{Definitions, reference};
use super::own;
use crate::assertions::CATALOGUE;
use crate::compile::Kind;
use crate::engine::value::Text;
use crate::policy::document::AssertionDoc;

/// Lowest status of a verdict that is no denial.
const BROKEN: u16 = 500;

/// Operators' own assertions by name.
pub(super) type Own = BTreeMap<Text, Arc<AssertionDoc>>;

/// Puts `steps` and all it needs among the definitions.
pub(super) fn define(own: &Own, definitions: &mut Definitions) {
    definitions.put("name", json!({ "type": "string", "description": "Name of the step, for records and tests." }));
    definitions.put(
        "when",
        json!({
            "type": ["string", "number", "boolean"],
            "description": "The step runs only where this expression holds: bare, without `${}`.",
        }),
    );
    definitions.put(
        "as",
        json!({
            "type": "string",
            "pattern": "^[a-z][a-z0-9_]*$",
            "patternErrorMessage": "lower-case letters, digits and `_`, a letter first",
            "description": "Renames the root of what the step sets.",
        }),
    );
    definitions.put(
        "shadow",
        json!({
            "type": "boolean",
            "description": "The step is evaluated and what it would have done recorded; it never denies.",
        }),
    );
    let mut offered = beside_any();
    let (mut choices, mut named, mut bare) = (Vec::new(), Vec::new(), Vec::<&str>::new());
    for kind in CATALOGUE {
        let schema = parameters(kind, definitions);
        if takes_nothing(&schema) {
            bare.push(kind.name);
        }
        let value = definitions.put(kind.name, schema);
        offered.insert(kind.name.to_owned(), value);
        let step = definitions.put(&format!("{}_step", kind.name), step(kind));
        choices.push(json!({ "if": has(kind.name), "then": step }));
        named.push(json!({ "required": [kind.name] }));
    }
    for (name, doc) in own {
        let (value, step) = own::define(name, doc, definitions);
        offered.insert(name.to_string(), value);
        choices.push(json!({ "if": has(name), "then": step }));
        named.push(json!({ "required": [&**name] }));
        if own::takes_nothing(doc) {
            bare.push(name);
        }
    }
    choices.push(json!({
        "if": { "type": "object", "anyOf": named },
        "then": true,
        "else": { "type": "object", "properties": offered, "additionalProperties": false, "minProperties": 1 },
    }));
    definitions.put(
        "step",
        json!({
            "if": { "type": "string" },
            "then": { "enum": bare },
            "else": { "allOf": choices },
        }),
    );
    definitions.put("steps", json!({ "type": "array", "items": reference("step") }));
}

/// A mapping that has a key.
pub(super) fn has(key: &str) -> Json {
    json!({ "type": "object", "required": [key] })
}

pub(super) fn beside_any() -> Map<String, Json> {
    ["name", "when"].into_iter().map(|word| (word.to_owned(), reference(word))).collect()
}

fn step(kind: &Kind) -> Json {
    let mut properties = Map::from_iter([(kind.name.to_owned(), reference(kind.name))]);
    properties.extend(beside_any());
    if !kind.sets.is_empty() {
        properties.insert("as".into(), reference("as"));
    }
    if kind.faults.iter().any(|fault| fault.status < BROKEN) || holds_steps(kind) {
        properties.insert("shadow".into(), reference("shadow"));
    }
    for block in kind.blocks {
        let steps = match *block {
            "cases" => json!({ "type": "object", "additionalProperties": reference("steps") }),
            _ => reference("steps"),
        };
        properties.insert((*block).to_owned(), steps);
    }
    // What a composite is for stands in its first block.
    let required: Vec<&str> = std::iter::once(kind.name).chain(kind.blocks.first().copied()).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// Whether other steps stand in it, which may deny.
fn holds_steps(kind: &Kind) -> bool {
    let schema = (kind.schema)().to_value();
    !kind.blocks.is_empty() || kind.name == "include" || schema.pointer("/properties/steps").is_some()
}

/// What may stand behind the name of an assertion.
fn parameters(kind: &Kind, definitions: &mut Definitions) -> Json {
    let mut long = definitions.take(kind.name, (kind.schema)());
    if let Some(properties) = long.get_mut("properties").and_then(Json::as_object_mut)
        && let Some(steps) = properties.get_mut("steps")
    {
        *steps = reference("steps");
    }
    let required = long.get("required").and_then(Json::as_array).cloned().unwrap_or_default();
    let others_required = required.iter().any(|name| name.as_str() != kind.main);
    let main = kind.main.and_then(|main| long.get("properties")?.get(main));
    let short = main.filter(|_| !others_required).and_then(|main| without_mappings(main, definitions));
    let doc = doc(kind);
    if let Some(members) = long.as_object_mut() {
        members.remove("description");
        members.remove("title");
        if required.is_empty() && members.contains_key("type") {
            members.insert("type".into(), json!(["object", "null"]));
        }
    }
    let mut schema = match short {
        None => long,
        Some(short) => json!({ "if": { "type": ["object", "null"] }, "then": long, "else": short }),
    };
    if let Some(members) = schema.as_object_mut() {
        members.insert("description".into(), doc.into());
    }
    schema
}

fn doc(kind: &Kind) -> String {
    let mut doc = kind.summary.to_owned();
    if let Some(main) = kind.main {
        doc.push_str(&format!("\n\nMain parameter: `{main}`. Bodies: {}.", kind.bodies));
    }
    let sets: Vec<String> = kind.sets.iter().map(|set| format!("`{}`", set.name)).collect();
    if !sets.is_empty() {
        doc.push_str(&format!("\n\nSets {}.", sets.join(", ")));
    }
    doc
}

/// Whether the assertion can stand as a bare word.
fn takes_nothing(schema: &Json) -> bool {
    let long = schema.get("then").unwrap_or(schema);
    long.get("anyOf").is_none()
        && long.get("required").is_none()
        && !long.get("additionalProperties").is_some_and(Json::is_object)
}

/// What of a parameter can be written as a scalar or list: a mapping holds parameters.
fn without_mappings(main: &Json, definitions: &Definitions) -> Option<Json> {
    let is_mapping = |part: &Json| part.get("type").and_then(Json::as_str) == Some("object");
    let is_nothing = |part: &Json| part.get("type").and_then(Json::as_str) == Some("null");
    let whole = definitions.resolve(main);
    if is_mapping(whole) {
        return None;
    }
    let mut short = main.clone();
    for word in ["anyOf", "oneOf"] {
        let Some(parts) = main.get(word).and_then(Json::as_array) else { continue };
        let parts: Vec<Json> =
            parts.iter().filter(|part| !is_mapping(definitions.resolve(part)) && !is_nothing(part)).cloned().collect();
        if parts.is_empty() {
            return None;
        }
        short.as_object_mut()?.insert(word.to_owned(), parts.into());
    }
    if let Some(Json::Array(words)) = short.get_mut("type") {
        words.retain(|word| word != "null" && word != "object");
    }
    Some(short)
}
