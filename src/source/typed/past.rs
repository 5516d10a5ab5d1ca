//! Judging a document past its mistakes: whoever judges may stop at the first one and is asked again, each time
//! without the values that are known to be wrong, until nothing new comes out.

use crate::source::{Diagnostic, Diagnostics, Node, Severity, Span};

/// After this many attempts the rest of the mistakes waits for the next check.
const ATTEMPTS_MAX: usize = 64;

/// Calls `attempt` with the node, and while it reports errors again with a node that lacks the values at fault. Gives
/// what the first attempt gave; `diags` gets the errors of all.
///
/// `follows` says of an error of a later attempt whether it may only follow from what was taken out, such as one about
/// the document as a whole.
pub fn past_mistakes<T>(
    node: &Node,
    diags: &mut Diagnostics,
    follows: impl Fn(&Diagnostic) -> bool,
    mut attempt: impl FnMut(&Node, &mut Diagnostics) -> T,
) -> T {
    let mut found = Diagnostics::new();
    let outcome = attempt(node, &mut found);
    let mut taken = places(&found);
    let mut rest = node.without(&taken);
    for _ in 1..ATTEMPTS_MAX {
        let Some(less) = rest.filter(|_| found.dropped() == 0) else { break };
        let mut more = Diagnostics::new();
        attempt(&less, &mut more);
        let wrong = places(&more);
        rest = less.without(&wrong);
        let keys = less.lacking();
        let is_left = |span: Span| {
            // What is said around something that was taken out, or of its key, may only follow from that.
            !taken.iter().any(|taken| span.contains(*taken)) && !keys.contains(&span)
        };
        more.retain(|one| one.severity == Severity::Error && one.span.is_some_and(is_left) && !follows(one));
        taken.extend(wrong);
        found.append_new(more);
    }
    diags.append(found);
    outcome
}

/// Where values are wrong.
fn places(found: &Diagnostics) -> Vec<Span> {
    found.iter().filter(|one| one.severity == Severity::Error).filter_map(|one| one.span).collect()
}
