//! The steps that operators' own assertions can be used as: one part each, made of what their documents declare.

use serde_json::{Map, Value as Json, json};

use super::definitions::Definitions;
use super::steps::beside_any;
use crate::engine::value::Text;
use crate::policy::document::{AbsentDoc, AssertionDoc, InputDoc};

/// Puts the parameters and the step of an assertion among the definitions; gives the parameters.
pub(super) fn define(name: &Text, doc: &AssertionDoc, definitions: &mut Definitions) -> (Json, Json) {
    let value = definitions.put(name, parameters(doc));
    let mut properties = Map::from_iter([(name.to_string(), value.clone())]);
    properties.extend(beside_any());
    if !doc.outputs.is_empty() {
        properties.insert("as".into(), super::definitions::reference("as"));
    }
    let step = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    (value, definitions.put(&format!("{name}_step"), step))
}

/// Whether the assertion can stand as a bare word.
pub(super) fn takes_nothing(doc: &AssertionDoc) -> bool {
    required(doc).is_empty()
}

fn required(doc: &AssertionDoc) -> Vec<&str> {
    doc.inputs.iter().filter(|(_, input)| input.required).map(|(name, _)| name.name.as_str()).collect()
}

fn parameters(doc: &AssertionDoc) -> Json {
    let properties: Map<String, Json> = doc.inputs.iter().map(|(name, doc)| (name.name.clone(), input(doc))).collect();
    let required = required(doc);
    let types = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    let long = json!({
        "type": types,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let mut schema = match required.as_slice() {
        // A bare value stands for the one input that is required.
        [_] => json!({ "if": { "type": ["object", "null"] }, "then": long, "else": true }),
        _ => long,
    };
    if let (Some(members), Some(summary)) = (schema.as_object_mut(), &doc.summary) {
        members.insert("description".into(), summary.as_str().into());
    }
    schema
}

fn input(doc: &InputDoc) -> Json {
    let mut text = format!("Type: `{}`.", doc.ty.as_str());
    if doc.absent == AbsentDoc::Allowed {
        text.push_str(" It may be absent.");
    }
    let mut schema = json!({ "description": text });
    if let Some(members) = schema.as_object_mut() {
        if let Some(default) = &doc.default {
            members.insert("default".into(), default.to_json());
        }
        if !doc.one_of.is_empty() {
            // An expression may stand there too.
            let words: Vec<Json> = doc.one_of.iter().map(crate::source::Node::to_json).collect();
            members.insert("anyOf".into(), json!([{ "enum": words }, { "type": "string", "pattern": "[$][{]" }]));
        }
    }
    schema
}
