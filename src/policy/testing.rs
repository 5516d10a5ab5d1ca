//! The policy test runner: cases that stand in the files, run on the engine as it serves.
//!
//! Same snapshot code, same limits, same engine; what differs is what is outside: a frozen clock, a seeded
//! random source, and stand-ins for upstreams and directories. No socket is opened and nothing really waits.
//! The format stands in `docs/testing.md`; tests of authorization servers come with later versions, and their keys say so.

mod access;
mod case;
mod client;
mod collected;
mod coverage;
mod expect;
mod faults;
mod given;
mod judge;
mod metrics;
mod mutate;
mod recompile;
mod report;
mod request;
mod runner;
mod seen;
mod stand_in;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod transport;
mod variables;
mod want;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use self::access::check_access;
pub use self::case::{Case, case_schema, collect, collect_for};
pub use self::coverage::{Coverage, FileCoverage, Touched, Untested};
pub use self::faults::check_faults;
pub use self::judge::TraceLine;
pub use self::mutate::{Mutation, Survivor, mutate};
use self::report::CaseResult;
pub use self::report::{Failure, Mismatch, Reached, Report, SuiteReport, render, render_brief, to_json};
use self::runner::Runner;
use crate::engine::select::Select;
use crate::engine::value::Text;
use crate::policy::build::{Environment, Parsed};
use crate::source::{Diagnostic, Diagnostics, Node, NodeValue};

/// Which cases run, and for how long.
#[derive(Clone, Default)]
pub struct Options {
    /// Only cases whose `SUITE: NAME` holds this text.
    pub filter: Option<String>,
    /// Only cases of these services.
    pub services: Option<BTreeSet<Text>>,
    /// Real time for all cases together; those that have not begun by then do not run.
    pub budget: Option<Duration>,
    /// Raised from outside: no further case begins.
    pub stop: Option<Arc<AtomicBool>>,
    /// The rules of the set as it is to serve, where they are known already.
    pub select: Option<Arc<Select>>,
}

impl Options {
    /// Whether a case is among them.
    pub fn wants(&self, case: &Case) -> bool {
        let of_service = self.services.as_ref().is_none_or(|services| services.contains(&case.suite));
        of_service
            && self.filter.as_ref().is_none_or(|filter| {
                let whole = format!("{}: {}", case.suite, case.name);
                whole.contains(filter)
            })
    }
}

/// Runs cases that [`collect`] gave for the same parsed set. Blocks; not to be called from inside a runtime.
///
/// # Errors
/// When the system gives no thread for password checks.
pub fn run(parsed: &Parsed, environment: &Environment, cases: &[Case], options: &Options) -> std::io::Result<Report> {
    let begun = Instant::now();
    let mut runner = Runner::new(parsed, environment)?;
    runner.select = options.select.clone();
    let mut report = Report::default();
    for case in cases.iter().filter(|case| options.wants(case)) {
        let stopped = options.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        if stopped || options.budget.is_some_and(|budget| begun.elapsed() > budget) {
            report.add(case, &parsed.sources, CaseResult::Skipped);
            continue;
        }
        let result = match runner.run(case) {
            None => CaseResult::Passed,
            Some(problem) => CaseResult::Failed(Box::new(problem)),
        };
        report.add(case, &parsed.sources, result);
    }
    runner.touched.rehearsed = runner.rehearsed();
    report.touched = runner.touched;
    report.reached = runner.reached;
    report.took = begun.elapsed();
    Ok(report)
}

/// Collects and runs in one go; `None` where the tests do not load, which was reported.
///
/// # Errors
/// As [`run`].
pub fn run_files(
    parsed: &Parsed,
    environment: &Environment,
    filter: Option<&str>,
    diags: &mut Diagnostics,
) -> std::io::Result<Option<Report>> {
    let cases = collect(parsed, diags);
    if diags.has_errors() {
        return Ok(None);
    }
    let options = Options { filter: filter.map(str::to_owned), ..Options::default() };
    run(parsed, environment, &cases, &options).map(Some)
}

/// A mapping without keys of the contract that this version does not serve; each is reported.
fn later(node: &Node, what: &str, words: &[&str], diags: &mut Diagnostics) -> Node {
    let Some(entries) = node.as_map() else { return node.clone() };
    let (later, now): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| words.contains(&entry.key.as_str()));
    if later.is_empty() {
        return node.clone();
    }
    for entry in later {
        let message = format!("`{}` in {what} comes with a later version", entry.key);
        let diagnostic = Diagnostic::error("policy.not_supported", entry.key_span, message);
        diags.push(diagnostic.with_help("take it out for now"));
    }
    Node::new(node.span(), NodeValue::Map(now.into_iter().cloned().collect()))
}
