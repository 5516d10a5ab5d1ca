//! From what the types say to what editors show well: words as one `enum`, alternatives told apart by the
//! type of the value, docs as Markdown.

use serde_json::{Map, Value as Json, json};

/// The parts that references name.
pub(super) type Parts = Map<String, Json>;

/// A schema and all below it.
pub(super) fn refine(schema: Json, parts: &Parts) -> Json {
    match schema {
        Json::Object(members) => object(members, parts),
        other => other,
    }
}

fn object(mut members: Map<String, Json>, parts: &Parts) -> Json {
    for word in ["$schema", "title", "format"] {
        members.remove(word);
    }
    if members.get("default").is_some_and(says_nothing) {
        members.remove("default");
    }
    // Every mapping is read strictly, whatever its type says.
    if members.contains_key("properties") && !members.contains_key("additionalProperties") {
        members.insert("additionalProperties".into(), false.into());
    }
    for word in ["properties", "patternProperties", "definitions", "dependencies"] {
        if let Some(Json::Object(below)) = members.remove(word) {
            let below = below.into_iter().filter(|(_, part)| !comes_later(part));
            let below: Map<_, _> = below.map(|(name, part)| (name, refine(part, parts))).collect();
            members.insert(word.to_owned(), below.into());
        }
    }
    for word in ["items", "additionalProperties", "not", "if", "then", "else", "propertyNames"] {
        if let Some(part) = members.remove(word) {
            members.insert(word.to_owned(), refine(part, parts));
        }
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        if let Some(Json::Array(list)) = members.remove(word) {
            members.insert(word.to_owned(), list.into_iter().map(|part| refine(part, parts)).collect());
        }
    }
    words(&mut members);
    numbers(&mut members);
    by_type(&mut members, parts);
    docs(&mut members);
    Json::Object(members)
}

fn says_nothing(default: &Json) -> bool {
    match default {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.values().all(says_nothing),
        _ => false,
    }
}

/// A key of the contract that the program refuses: an editor should not offer it.
fn comes_later(part: &Json) -> bool {
    let Some(members) = part.as_object() else { return false };
    let description = members.get("description").and_then(Json::as_str).unwrap_or_default();
    description.starts_with("Comes with a later version")
        && members.keys().all(|key| key == "description" || key == "default")
}

/// `oneOf` of words becomes one `enum`, so that an editor lists all of them.
fn words(members: &mut Map<String, Json>) {
    let Some(parts) = members.get("oneOf").and_then(Json::as_array) else { return };
    let (mut values, mut docs) = (Vec::new(), Vec::new());
    for part in parts {
        let doc = part.get("description").cloned().unwrap_or_else(|| "".into());
        if let Some(word) = part.get("const") {
            values.push(word.clone());
            docs.push(doc);
        } else if let Some(list) = part.get("enum").and_then(Json::as_array) {
            values.extend(list.iter().cloned());
            docs.extend(list.iter().map(|_| doc.clone()));
        } else {
            return;
        }
    }
    members.remove("oneOf");
    members.insert("type".into(), "string".into());
    members.insert("enum".into(), values.into());
    if docs.iter().any(|doc| doc.as_str() != Some("")) {
        members.insert("enumDescriptions".into(), docs.into());
    }
}

/// Whole numbers may stand in quotes.
fn numbers(members: &mut Map<String, Json>) {
    let wider = match members.get("type") {
        Some(Json::String(word)) if word == "integer" => json!(["integer", "string"]),
        Some(Json::Array(words))
            if words.len() == 2 && words.contains(&json!("integer")) && words.contains(&json!("null")) =>
        {
            json!(["integer", "string", "null"])
        }
        _ => return,
    };
    members.insert("type".into(), wider);
    members.insert("pattern".into(), "^[-+]?[0-9]+$".into());
    members.insert("patternErrorMessage".into(), "expected a whole number".into());
}

/// Alternatives of different types become a chain of conditions: what is wrong is then told of the one
/// alternative that was meant.
fn by_type(members: &mut Map<String, Json>, parts: &Parts) {
    let Some(alternatives) = members.get("anyOf").and_then(Json::as_array) else { return };
    let mut known: Vec<(Vec<String>, Json)> = Vec::new();
    for part in alternatives {
        let types = types(part, parts);
        if types.is_empty() || known.iter().any(|(others, _)| others.iter().any(|one| types.contains(one))) {
            return;
        }
        known.push((types, part.clone()));
    }
    // What an editor completes from is the last branch, which also takes the value that is not yet there.
    known.sort_by_key(|(types, _)| types.iter().any(|word| word == "object"));
    let Some((_, last)) = known.pop() else { return };
    let chain = known
        .into_iter()
        .rev()
        .fold(last, |other, (types, part)| json!({ "if": { "type": types }, "then": part, "else": other }));
    members.remove("anyOf");
    if let Json::Object(chain) = chain {
        for (key, value) in chain {
            members.entry(key).or_insert(value);
        }
    }
}

/// The types of the values that an alternative may take; none where that is not plain to see.
fn types(part: &Json, parts: &Parts) -> Vec<String> {
    let name = part.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/definitions/"));
    if let Some(part) = name.and_then(|name| parts.get(name)) {
        return types(part, &Parts::new());
    }
    match part.get("type") {
        Some(Json::String(word)) => vec![word.clone()],
        Some(Json::Array(words)) => words.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        // Words, one `const` each.
        None if part.get("oneOf").is_some() => vec!["string".to_owned()],
        _ => Vec::new(),
    }
}

/// Docs on one line, and as Markdown where they are.
fn docs(members: &mut Map<String, Json>) {
    let Some(text) = members.get("description").and_then(Json::as_str) else { return };
    let paragraphs: Vec<String> =
        text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let text = paragraphs.join("\n\n");
    if text.contains('`') {
        members.insert("markdownDescription".into(), text.clone().into());
    }
    members.insert("description".into(), text.into());
}
