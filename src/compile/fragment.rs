//! Named step lists that services put in with `include`.

use crate::source::{Node, Span};

/// A `fragment:` document.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Where its name stands.
    pub span: Span,
    /// Its `policy:`.
    pub steps: Node,
}
