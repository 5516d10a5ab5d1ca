//! The shape of an operator's own assertion (`assertions/*.yaml`).

use schemars::JsonSchema;

use crate::source::{Entries, Name, Node, Text};

/// An operator's assertion: steps under a name, with declared ends.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // only its schema is used
pub(super) struct AssertionDoc {
    /// Name of the assertion, used as a step.
    assertion: Name,
    /// One line.
    summary: Option<Text>,
    /// What goes in, read as `input.NAME`.
    #[schemars(default)]
    inputs: Entries<InputDoc>,
    /// What comes out, and of which type.
    #[schemars(default)]
    outputs: Entries<ValueType>,
    /// Its steps; without them NAME.rhai beside the file.
    policy: Option<Node>,
    /// Policy tests.
    tests: Option<Vec<OwnCase>>,
}

/// An input.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // only its schema is used
struct InputDoc {
    #[schemars(rename = "type")]
    ty: Option<ValueType>,
    /// It must be given.
    required: Option<bool>,
    /// What it is where it is not given.
    default: Option<Node>,
    /// The values that it may have.
    one_of: Option<Vec<Node>>,
    /// `allowed`: it takes absent values.
    absent: Option<Absent>,
    /// What it is for.
    doc: Option<Text>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)] // only its schema is used
enum Absent {
    Allowed,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)] // only its schema is used
enum ValueType {
    String,
    Int,
    Float,
    Bool,
    Bytes,
    Time,
    Url,
    List,
    Map,
    Json,
}

/// A case.
#[derive(Debug, JsonSchema)]
#[allow(dead_code)] // only its schema is used
struct OwnCase {
    /// What it shows, in a few words.
    name: Text,
    /// What stands in for the world outside.
    given: Option<Node>,
    /// Values of the inputs.
    #[schemars(default)]
    inputs: Entries<Node>,
    request: Option<Node>,
    expect: Option<Node>,
    exchanges: Option<Vec<Node>>,
}
