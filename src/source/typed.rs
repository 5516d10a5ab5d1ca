//! Nodes to typed values, with **all** mistakes of a mapping reported at their places.
//!
//! Parameters are ordinary `#[derive(Deserialize, JsonSchema)]` structs; the wrappers of [`values`] are
//! their leaves. Every struct is read strictly, whatever its serde attributes say: an unknown key is an
//! error. What serde buffers loses its positions, so `flatten`, `untagged`, internally tagged enums and
//! `alias` are not for these types; [`ScalarOr`](values::ScalarOr) and [`Entries`](values::Entries)
//! serve instead.
//!
//! serde ends at the first error. So the read is repeated: each time the value at fault is left out, or
//! something [stands in](stand_in) for it where it is required, and what follows only from its absence is not
//! reported. [`past_mistakes`] does the same with what judges the values afterwards.

mod choice;
mod deserializer;
mod error;
mod past;
mod scalars;
mod schema;
mod stand_in;
pub mod values;

pub use past::past_mistakes;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use self::deserializer::{NodeDeserializer, Run};
use super::{Diagnostic, Diagnostics, Node};

/// After this many repetitions the rest of the mistakes waits for the next check.
const READS_MAX: usize = 100;

/// Reads a node as a `T`, or reports everything that is wrong with it: `policy.unknown_key`,
/// `policy.missing_parameter`, `policy.wrong_type`, `policy.bad_value`.
///
/// `what` names the node in messages ("the parameters of `limit_rate`"). Where `T` is a struct, a node
/// that holds nothing is an empty mapping, and a scalar or list stands for `{main: node}`.
pub fn read<T>(node: &Node, main: Option<&str>, what: &str, diags: &mut Diagnostics) -> Option<T>
where
    T: DeserializeOwned + JsonSchema,
{
    let errors = diags.error_count();
    read_remains(node, main, what, diags).filter(|_| diags.error_count() == errors)
}

/// The same, and with mistakes still what remains without the parts that are wrong, where that makes a `T`: so
/// that one mistake does not hide those beside it. A key that is nearly right counts as the right one. In the place of
/// what is required stands something nowhere: what is said about that afterwards is not to be reported.
pub fn read_remains<T>(node: &Node, main: Option<&str>, what: &str, diags: &mut Diagnostics) -> Option<T>
where
    T: DeserializeOwned + JsonSchema,
{
    let run = Run::new(main, None);
    let quick = T::deserialize(NodeDeserializer::root(node, what, &run));
    if let Ok(value) = quick
        && run.found_nothing()
    {
        return Some(value);
    }
    let schema = schemars::generate::SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    let run = Run::new(main, Some(&schema));
    let mut remains = None;
    for _ in 0..READS_MAX {
        let outcome = T::deserialize(NodeDeserializer::root(node, what, &run));
        let deserializer = NodeDeserializer::root(node, what, &run);
        remains = outcome.map_err(|error| deserializer.record(error)).ok();
        if !run.left_something_out() {
            break;
        }
    }
    let found = run.take_found();
    if found.is_empty() && remains.is_none() && !run.has_lacked() {
        diags.push(Diagnostic::error("policy.bad_value", node.span(), format!("{what} cannot be read")));
    }
    for diagnostic in found {
        diags.push(diagnostic);
    }
    remains
}

#[cfg(test)]
mod tests;
