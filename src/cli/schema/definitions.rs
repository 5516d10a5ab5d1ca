//! The named parts of a schema, gathered from the schemas of many types into one namespace.

use serde_json::{Map, Value as Json, json};

use super::refine::refine;

/// Where schemars keeps the parts of a type.
const PARTS: &str = "$defs";

#[derive(Debug, Default)]
pub(super) struct Definitions(Map<String, Json>);

impl Definitions {
    /// Takes a type's schema: its parts come here, and what is left refers to them.
    pub fn take(&mut self, owner: &str, schema: schemars::Schema) -> Json {
        let mut root = schema.to_value();
        let parts = root.as_object_mut().and_then(|root| root.remove(PARTS));
        let parts = match parts {
            Some(Json::Object(parts)) => parts,
            _ => Map::new(),
        };
        // Editors show these names: `Timeouts` reads better than `TimeoutsDoc`.
        let spoken = |name: &str| name.strip_suffix("Doc").unwrap_or(name).to_owned();
        // Equal parts of several types are one; different parts of one name get their owner's before it.
        let mut names: Map<_, _> = parts.keys().map(|name| (name.clone(), spoken(name).into())).collect();
        for (name, part) in &parts {
            let spoken = spoken(name);
            if self.0.get(&spoken).is_some_and(|known| *known != renamed(part, &names)) {
                names.insert(name.clone(), format!("{owner}.{spoken}").into());
            }
        }
        for (name, part) in parts {
            let chosen = names.get(&name).and_then(Json::as_str).unwrap_or(&name).to_owned();
            self.0.insert(chosen, renamed(&part, &names));
        }
        renamed(&root, &names)
    }

    /// Puts a part under a name, and refers to it.
    pub fn put(&mut self, name: &str, part: Json) -> Json {
        self.0.insert(name.to_owned(), part);
        reference(name)
    }

    /// The part that a schema refers to, or the schema itself.
    pub fn resolve<'s>(&'s self, schema: &'s Json) -> &'s Json {
        let name = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/definitions/"));
        name.and_then(|name| self.0.get(name)).unwrap_or(schema)
    }

    /// A schema with all its parts below it, as editors show it best.
    pub fn complete(mut self, root: Json) -> Map<String, Json> {
        self.0.sort_keys();
        let mut whole = match refine(root, &self.0) {
            Json::Object(members) => members,
            _ => Map::new(),
        };
        let parts: Map<_, _> =
            self.0.iter().map(|(name, part)| (name.clone(), refine(part.clone(), &self.0))).collect();
        whole.insert("definitions".into(), parts.into());
        whole
    }
}

/// A reference to a part.
pub(super) fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// A schema with its references pointing into the common namespace.
fn renamed(schema: &Json, names: &Map<String, Json>) -> Json {
    match schema {
        Json::Object(members) => {
            let member = |(key, value): (&String, &Json)| {
                let name = value.as_str().and_then(|path| path.strip_prefix("#/$defs/"));
                let value = match name {
                    Some(name) if key == "$ref" => {
                        let chosen = names.get(name).and_then(Json::as_str).unwrap_or(name);
                        format!("#/definitions/{chosen}").into()
                    }
                    _ => renamed(value, names),
                };
                (key.clone(), value)
            };
            members.iter().map(member).collect()
        }
        Json::Array(items) => items.iter().map(|item| renamed(item, names)).collect(),
        other => other.clone(),
    }
}
