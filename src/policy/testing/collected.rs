//! The cases of a set of files, each with a name of its own.

use std::collections::BTreeMap;

use crate::engine::value::Text as Shared;
use crate::policy::testing::case::Case;
use crate::source::{Diagnostic, Diagnostics, Node, Span};

/// The cases so far, and where each name of a suite stands.
#[derive(Default)]
pub(super) struct Collected {
    pub list: Vec<Case>,
    names: BTreeMap<(Shared, String), Span>,
}

impl Collected {
    /// A report names a case by its suite and its name: a second one could not be told from it.
    pub fn check_name(&mut self, suite: &Shared, node: &Node, diags: &mut Diagnostics) {
        let Some((name, span)) = node.get("name").and_then(|name| Some((name.as_text()?, name.span()))) else { return };
        if let Some(first) = self.names.insert((suite.clone(), name.to_owned()), span) {
            let message = format!("there is already a case called `{name}` of `{suite}`");
            let twice = Diagnostic::error("test.duplicate_name", span, message);
            diags.push(twice.with_note(first, "the first one stands here").with_help("say what is different about it"));
        }
    }
}
