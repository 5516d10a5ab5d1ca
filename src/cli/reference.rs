//! The reference as Markdown: assertions by category, resources, and gateway.yaml, each with its parameters.
//!
//! Nothing here is written by hand: names, docs, defaults and examples come from the catalogue and the
//! types' schemas, so that the page cannot say anything else than the program does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::assertions::CATALOGUE;
use crate::compile::{Category, Kind};
use crate::config;
use crate::policy::resources::{KINDS, ResourceKind};

/// References of a schema are followed this deep.
const DEPTH_MAX: usize = 4;
/// Mappings within mappings whose members have rows of their own.
const MEMBERS_DEPTH_MAX: usize = 3;

/// The whole page.
pub(super) fn markdown() -> String {
    let mut out = String::from(
        "# Reference\n\nWritten by `gatewright docs` from the program itself; do not edit.\n\n\
         A scalar or list in the place of the parameters sets the **main** parameter. Beside an assertion may stand\n\
         `name`, `when`, `as` and the blocks that it names.\n\n## Assertions\n",
    );
    let mut categories: BTreeMap<Category, Vec<&Kind>> = BTreeMap::new();
    for kind in CATALOGUE {
        categories.entry(kind.category).or_default().push(kind);
    }
    for (category, kinds) in categories {
        // Writing into a String does not fail.
        let _ = writeln!(out, "\n### {}\n", category.word());
        for kind in kinds {
            assertion(kind, &mut out);
        }
    }
    out.push_str("\n## Resources\n\nDocuments that policies refer to by name.\n\n");
    for kind in KINDS {
        resource(kind, &mut out);
    }
    out.push_str("\n## gateway.yaml\n\nThe configuration of the process: read at its start, from the file that `--config` names.\n\n");
    parameters(config::schema().as_value(), &[], &mut out);
    while out.ends_with('\n') {
        out.pop();
    }
    out.push('\n');
    out
}

fn assertion(kind: &Kind, out: &mut String) {
    let _ = writeln!(out, "#### {}\n\n{}\n", kind.name, kind.summary);
    if let Some(main) = kind.main {
        let _ = writeln!(out, "Main parameter: `{main}`. Bodies: {}.\n", kind.bodies);
    } else {
        let _ = writeln!(out, "Bodies: {}.\n", kind.bodies);
    }
    if !kind.blocks.is_empty() {
        let blocks: Vec<String> = kind.blocks.iter().map(|block| format!("`{block}`")).collect();
        let _ = writeln!(out, "Blocks beside it: {}.\n", blocks.join(", "));
    }
    parameters((kind.schema)().as_value(), &[], out);
    if !kind.sets.is_empty() {
        out.push_str("| sets | type | meaning |\n|---|---|---|\n");
        for set in kind.sets {
            let absent = if set.absent { ", may be absent" } else { "" };
            let _ = writeln!(out, "| `{}` | {}{absent} | {} |", set.name, set.ty.word(), cell(set.doc));
        }
        out.push('\n');
    }
    if !kind.faults.is_empty() {
        out.push_str("| fault | status | meaning |\n|---|---|---|\n");
        for fault in kind.faults {
            let _ = writeln!(out, "| `{}` | {} | {} |", fault.code, fault.status, cell(fault.doc));
        }
        out.push('\n');
    }
    for example in kind.examples {
        let _ = writeln!(out, "{}:\n\n```yaml\n{}\n```\n", example.title, example.yaml.trim());
    }
}

fn resource(kind: &ResourceKind, out: &mut String) {
    let _ = writeln!(out, "### {}\n\n{}\n", kind.word, kind.summary);
    parameters((kind.schema)().as_value(), &[kind.word], out);
}

fn parameters(schema: &Json, without: &[&str], out: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
    if properties.keys().all(|name| without.contains(&name.as_str())) {
        return;
    }
    out.push_str("| parameter | value | meaning |\n|---|---|---|\n");
    rows(schema, schema, "", without, MEMBERS_DEPTH_MAX, out);
    out.push('\n');
}

/// One row for each member of a mapping, and below it those of the mappings that may stand there.
fn rows(root: &Json, schema: &Json, above: &str, without: &[&str], depth: usize, out: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else { return };
    let required = schema.get("required").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    for (name, property) in properties.iter().filter(|(name, _)| !without.contains(&name.as_str())) {
        let mut meaning = property.get("description").and_then(Json::as_str).unwrap_or_default().to_owned();
        if let Some(default) = property.get("default").filter(|default| !is_nothing(default)) {
            let _ = write!(meaning, " Default: `{}`.", plain(default));
        }
        let mark = if required.iter().any(|one| one.as_str() == Some(name)) { " (required)" } else { "" };
        let value = value_word(root, property, DEPTH_MAX);
        let _ = writeln!(out, "| `{above}{name}`{mark} | {} | {} |", cell(&value), cell(&meaning));
        if let Some(depth) = depth.checked_sub(1) {
            mappings(root, property, DEPTH_MAX, &format!("{above}{name}"), &mut |mapping, above| {
                rows(root, mapping, &format!("{above}."), &[], depth, out);
            });
        }
    }
}

/// Shows every mapping with members of its own that may stand in a place, with the words for the place.
fn mappings(root: &Json, schema: &Json, depth: usize, place: &str, show: &mut dyn FnMut(&Json, &str)) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let target = schema.get("$ref").and_then(Json::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?));
    if let Some(target) = target {
        return mappings(root, target, depth, place, show);
    }
    for part in ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten() {
        mappings(root, part, depth, place, show);
    }
    if let Some(items) = schema.get("items") {
        mappings(root, items, depth, &format!("{place}[]"), show);
    }
    if let Some(named) = schema.get("additionalProperties") {
        mappings(root, named, depth, &format!("{place}.NAME"), show);
    }
    if schema.get("properties").is_some() {
        show(schema, place);
    }
}

fn is_nothing(default: &Json) -> bool {
    match default {
        Json::Null => true,
        Json::Array(list) => list.is_empty(),
        Json::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What may stand there, in a few words.
fn value_word(root: &Json, schema: &Json, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "value".to_owned() };
    if let Some(target) =
        schema.get("$ref").and_then(Json::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?))
    {
        return value_word(root, target, depth);
    }
    if let Some(word) = schema.get("const") {
        return format!("`{}`", plain(word));
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        let words: Vec<String> =
            words.iter().filter(|word| !word.is_null()).map(|word| format!("`{}`", plain(word))).collect();
        return words.join(", ");
    }
    let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array());
    if let Some(alternatives) = alternatives {
        let mut words: Vec<String> = Vec::new();
        for part in alternatives {
            let word = value_word(root, part, depth);
            if !words.contains(&word) && word != "null" {
                words.push(word);
            }
        }
        return words.join(" or ");
    }
    if let Some(examples) = schema.get("examples").and_then(Json::as_array) {
        let examples: Vec<String> = examples.iter().take(2).map(|one| format!("`{}`", plain(one))).collect();
        return examples.join(", ");
    }
    match schema.get("type") {
        Some(Json::String(word)) => typed(root, schema, word, depth),
        Some(Json::Array(words)) => {
            let words: Vec<&str> = words.iter().filter_map(Json::as_str).filter(|word| *word != "null").collect();
            match words.as_slice() {
                [word] => typed(root, schema, word, depth),
                // What takes any scalar takes text: bare numbers are text there.
                _ => "text".to_owned(),
            }
        }
        _ => "any value".to_owned(),
    }
}

fn typed(root: &Json, schema: &Json, word: &str, depth: usize) -> String {
    match word {
        "string" => "text".to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        "integer" | "number" => "number".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("list of {}", value_word(root, items, depth)),
            None => "list".to_owned(),
        },
        "object" => {
            let keys = schema.get("properties").and_then(Json::as_object);
            let keys: Vec<String> = keys.into_iter().flatten().map(|(name, _)| format!("`{name}`")).collect();
            if keys.is_empty() { "mapping".to_owned() } else { format!("mapping of {}", keys.join(", ")) }
        }
        other => other.to_owned(),
    }
}

/// Text inside a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_what_the_program_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(super::super::docs::FILE_NAME);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == markdown(), "docs/reference.md is stale: run `cargo run -- docs` and commit it");
    }
}
