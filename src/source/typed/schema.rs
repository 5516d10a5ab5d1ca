//! What the reading of values needs to know from a type's JSON Schema: which keys are required and what
//! they are for. The schema of a part is found by walking along with the node.

use serde_json::Value;

/// References and alternatives are followed this deep, which bounds recursive schemas.
const DEPTH_MAX: usize = 16;

/// A part of a schema.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    root: &'a Value,
    part: &'a Value,
}

impl<'a> Part<'a> {
    pub(super) fn root(root: &'a Value) -> Self {
        Part { root, part: root }
    }

    /// The schema of a key's value.
    pub(super) fn key(self, key: &str) -> Option<Self> {
        self.search(|part| part.get("properties")?.get(key))
            .or_else(|| self.search(|part| part.get("additionalProperties")))
    }

    /// The schema of a list's items.
    pub(super) fn item(self) -> Option<Self> {
        self.search(|part| part.get("items"))
    }

    /// The required keys of the struct that has these fields.
    pub(super) fn required(self, fields: &[&'static str]) -> Vec<&'static str> {
        let has_these = |part: &'a Value| {
            let properties = part.get("properties")?.as_object()?;
            let all = properties.keys().all(|key| fields.contains(&key.as_str()));
            all.then(|| part.get("required"))?
        };
        let Some(required) = self.search(has_these) else {
            return Vec::new();
        };
        let names: Vec<&str> = required.part.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        fields.iter().copied().filter(|field| names.contains(field)).collect()
    }

    /// The first paragraph of what a key is for.
    pub(super) fn purpose(self, key: &str) -> Option<String> {
        let property = self.search(|part| part.get("properties")?.get(key))?;
        let text = property.part.get("description")?.as_str()?;
        Some(text.split("\n\n").next()?.replace('\n', " "))
    }

    /// A value that serves as well as any.
    pub(super) fn example(self) -> Option<&'a Value> {
        self.search(|part| part.get("examples")?.as_array()?.first()).map(|example| example.part)
    }

    /// The first answer of `pick` among this part and its alternatives.
    fn search(self, pick: impl Fn(&'a Value) -> Option<&'a Value> + Copy) -> Option<Self> {
        self.search_below(pick, DEPTH_MAX).map(|part| Part { part, ..self })
    }

    fn search_below(self, pick: impl Fn(&'a Value) -> Option<&'a Value> + Copy, depth: usize) -> Option<&'a Value> {
        let depth = depth.checked_sub(1)?;
        if let Some(found) = pick(self.part) {
            return Some(found);
        }
        if let Some(reference) = self.part.get("$ref").and_then(Value::as_str) {
            let part = self.root.pointer(reference.strip_prefix('#')?)?;
            return Part { part, ..self }.search_below(pick, depth);
        }
        ["anyOf", "oneOf", "allOf"]
            .iter()
            .filter_map(|word| self.part.get(word)?.as_array())
            .flatten()
            .find_map(|part| Part { part, ..self }.search_below(pick, depth))
    }
}
