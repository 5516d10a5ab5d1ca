//! `list:`, texts under a name, read in expressions as `list('NAME')`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::resources::Resources;
use crate::engine::value::Value;
use crate::policy::resources::{Build, ResourceKind};
use crate::source::{Diagnostic, Literal, Name, Node, OneOrMany, read};

pub const KIND: ResourceKind = ResourceKind {
    word: "list",
    summary: "Texts under a name, read as `list('NAME')`.",
    schema: || schemars::schema_for!(ListDoc),
    build,
};

/// Entries of one list, at most.
const ENTRIES_MAX: usize = 1_000_000;
/// Largest file of entries, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A list of texts. At least one of `entries` and `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListDoc {
    /// Its name.
    #[allow(dead_code)] // the declaring key: read before
    list: Name,
    /// The texts.
    #[serde(default)]
    entries: Option<OneOrMany<Literal>>,
    /// A file of texts, one per line, relative to gateway.yaml; `#` begins a comment line.
    #[serde(default)]
    file: Option<Literal>,
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let given = build.given.and_then(|given| given.lists.get(&name.name));
    let entries = match given {
        Some(given) => Some(given.iter().map(|entry| Value::text(entry.as_str())).collect()),
        None => entries(name, node, build),
    };
    resources.lists.insert(name.name.as_str().into(), entries.map(|entries: Vec<Value>| entries.into()));
}

fn entries(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<Vec<Value>> {
    let doc: ListDoc = read(node, None, "a list", build.diags)?;
    let mut entries = Vec::new();
    for entry in doc.entries.iter().flat_map(|entries| entries.iter()) {
        entries.push(build.context().literal(entry).map(Value::text));
    }
    if let Some(file) = &doc.file {
        let path = build.path_of(file)?;
        match build.around.resources.outside.read_text(&path, FILE_BYTES_MAX) {
            Ok(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                entries.extend(lines.map(|line| Some(Value::text(line))));
            }
            Err(why) => {
                let message = format!("the entries of `{}` cannot be read: {}: {why}", name.name, path.display());
                let help =
                    "put a text file there, one entry per line, or correct the path, which begins at gateway.yaml";
                build.diags.push(Diagnostic::error("policy.unreadable", file.0.span(), message).with_help(help));
                return None;
            }
        }
    }
    if doc.entries.is_none() && doc.file.is_none() {
        let diagnostic = Diagnostic::error("policy.missing_parameter", name.span, "a list needs `entries` or `file`");
        build.diags.push(diagnostic.with_help("write `entries: [one, two]`"));
        return None;
    }
    if entries.len() > ENTRIES_MAX {
        let message = format!("a list has at most {ENTRIES_MAX} entries, this one {}", entries.len());
        build.diags.push(Diagnostic::error("policy.bad_value", name.span, message));
        return None;
    }
    entries.into_iter().collect()
}
