//! One set of files, from its bytes to a snapshot that may serve: at the start and at every reload.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::audit::metrics::Metrics;
use crate::compile::outside::OutsideFile;
use crate::engine::snapshot::Snapshot;
use crate::policy::build::{Environment, Parsed, compile_again, parse_again};
use crate::policy::files::Files;
use crate::policy::reuse::Reuse;
use crate::policy::testing::{self, Case, Options, Reached};
use crate::source::{Diagnostic, Diagnostics, Sources, render, to_json};

/// A set of files that may serve.
pub struct Set {
    pub snapshot: Arc<Snapshot>,
    pub documents: Vec<Document>,
    /// Names of its files.
    pub files: HashSet<Arc<str>>,
    /// Files that its documents name.
    pub outside: Vec<OutsideFile>,
    /// Warnings, for people.
    pub warnings: String,
    /// Warnings, for programs.
    pub diagnostics: Json,
}

/// A document that was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub kind: &'static str,
    pub name: String,
    pub file: Arc<str>,
}

/// A set that may not serve.
pub struct Refused {
    pub sources: Sources,
    pub diags: Diagnostics,
    pub errors: usize,
    /// All diagnostics, for people.
    pub text: String,
    /// All diagnostics, for programs.
    pub diagnostics: Json,
}

impl Refused {
    fn new(sources: Sources, diags: Diagnostics) -> Refused {
        let (text, diagnostics) = (render(&sources, &diags, false), to_json(&sources, &diags));
        Refused { errors: diags.error_count(), text, diagnostics, sources, diags }
    }

    /// Refused for a reason that stands in no file.
    pub(super) fn inside(text: String) -> Refused {
        let diagnostics = serde_json::json!([{ "code": "reload.failed", "severity": "error", "message": text }]);
        Refused { sources: Sources::new(), diags: Diagnostics::new(), errors: 1, text, diagnostics }
    }

    /// Where so many services serve, or would: a mount that is lost looks the same, and half a deployment.
    pub(super) fn emptied(services: usize) -> Refused {
        let message = format!("the folders of the policies hold no service any more, where there were {services}");
        let help = "bring the files back; or, should there be none from now on, stop the gateway, remove \
                    `last-good-set` from its `state:` and start it again";
        let mut diags = Diagnostics::new();
        diags.push(Diagnostic::error("reload.emptied", None, message).with_help(help));
        Refused::new(Sources::new(), diags)
    }
}

impl Set {
    /// Writes its warnings to the log.
    pub fn warn(&self) {
        if !self.warnings.is_empty() {
            tracing::warn!(diagnostics = self.warnings, "the files load with warnings");
        }
    }
}

/// What happens to the tests of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tests {
    /// They run, for so long at most.
    Run(Duration),
    /// They are only read.
    Skip,
}

/// Parses, checks and compiles what has changed in a set of files, and runs the tests of it. All that is
/// wrong with the set is reported.
pub fn load(
    files: &Files,
    environment: &Environment,
    metrics: Option<&Metrics>,
    tests: Tests,
    reuse: &mut Reuse,
) -> Result<Set, Box<Refused>> {
    let mut diags = Diagnostics::new();
    let parsed = parse_again(files, reuse, &mut diags);
    let compiled = compile_again(&parsed, environment, metrics, reuse, &mut diags);
    let untested = reuse.untested(&parsed, tests != Tests::Skip);
    let mut said = Diagnostics::new();
    let cases = testing::collect_for(&parsed, |suite| untested.contains(suite), &mut said);
    let is_clean = said.is_empty();
    diags.append(said);
    diags.deduplicate();
    let mut reached = Reached::new();
    if let (Tests::Run(budget), false) = (tests, diags.has_errors()) {
        let select = compiled.as_ref().map(|compiled| compiled.snapshot.select.clone());
        let options = Options { budget: Some(budget), select, ..Options::default() };
        reached = run_tests(&parsed, environment, &cases, &options, &mut diags);
    }
    if is_clean && !diags.has_errors() {
        reuse.passed(&parsed, untested.iter(), tests != Tests::Skip, &reached);
    }
    let Some(compiled) = compiled.filter(|_| !diags.has_errors()) else {
        return Err(Box::new(Refused::new(parsed.sources, diags)));
    };
    Ok(Set {
        snapshot: Arc::new(compiled.snapshot),
        outside: compiled.outside,
        documents: documents(&parsed),
        files: files.list.iter().map(|file| file.name.clone()).collect(),
        warnings: render(&parsed.sources, &diags, false),
        diagnostics: to_json(&parsed.sources, &diags),
    })
}

/// Each expectation that was not met is a mistake at its place, and so is a lack of time. Gives which services the tests
/// have come to.
fn run_tests(
    parsed: &Parsed,
    environment: &Environment,
    cases: &[Case],
    options: &Options,
    diags: &mut Diagnostics,
) -> Reached {
    let report = match testing::run(parsed, environment, cases, options) {
        Ok(report) => report,
        Err(error) => {
            diags.push(Diagnostic::error("test.not_run", None, format!("the policies' tests cannot run: {error}")));
            return Reached::new();
        }
    };
    for failure in &report.failed {
        for miss in &failure.mismatches {
            let at = if miss.at.is_empty() { String::new() } else { format!("{}: ", miss.at) };
            let message =
                format!("{}: {}: {at}expected {}, got {}", failure.suite, failure.case, miss.expected, miss.got);
            diags.push(Diagnostic::error("test.failed", miss.span, message));
        }
        if failure.mismatches.is_empty() {
            let message = format!("{}: {} failed", failure.suite, failure.case);
            diags.push(Diagnostic::error("test.failed", failure.span, message));
        }
    }
    if report.out_of_time() {
        let ran = report.passed + report.failed.len();
        let (all, budget) = (ran + report.skipped, options.budget.unwrap_or_default());
        let message = format!("only {ran} of the policies' {all} tests ran within {budget:?}");
        let help = "raise `tests: budget` in gateway.yaml, or make them fewer";
        diags.push(Diagnostic::error("test.not_run", None, message).with_help(help));
    }
    report.reached
}

fn documents(parsed: &Parsed) -> Vec<Document> {
    let document = |kind, name: &str, span: crate::source::Span| Document {
        kind,
        name: name.to_owned(),
        file: parsed.sources.shared_name(span.file),
    };
    let all = &parsed.documents;
    let services = all.services.values().map(|doc| document("service", &doc.service.name, doc.service.span));
    let fragments = all.fragments.iter().map(|(name, fragment)| document("fragment", name, fragment.span));
    let defaults = all.defaults.values().map(|doc| document("defaults", &doc.defaults.name, doc.defaults.span));
    let resources = all.resources.iter().map(|doc| document(doc.kind.word, &doc.name.name, doc.name.span));
    let assertions = all.assertions.values().map(|doc| document("assertion", &doc.assertion.name, doc.assertion.span));
    services.chain(fragments).chain(defaults).chain(assertions).chain(resources).collect()
}
