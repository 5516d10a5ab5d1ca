//! What came of a run, for people and for programs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::engine::value::Text;
use crate::policy::testing::case::Case;
use crate::policy::testing::coverage::Touched;
use crate::policy::testing::judge::{Problem, TraceLine};
use crate::secret::{CREDENTIAL_FIELDS, keyed_hash};
use crate::source::{Sources, Span};

/// Characters of a value that are shown.
const SHOWN_CHARS_MAX: usize = 2000;
/// What stands for a value that was given as a secret.
const REDACTED: &str = "[secret]";

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub passed: usize,
    pub failed: Vec<Failure>,
    /// Cases that did not begin, because time was over or somebody stopped the run.
    pub skipped: usize,
    /// In the order in which they ran.
    pub suites: Vec<SuiteReport>,
    /// Where each of them stands.
    places: HashMap<Text, usize>,
    pub took: Duration,
    /// What became of the steps.
    pub touched: Touched,
    pub reached: Reached,
}

/// For each suite the services that answered its requests, its own among them: what its tests depend on.
pub type Reached = BTreeMap<Text, BTreeSet<Text>>;

/// What came of one suite.
#[derive(Clone, Debug, PartialEq)]
pub struct SuiteReport {
    pub name: Text,
    pub file: String,
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

/// A case that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub suite: Text,
    pub case: String,
    /// Where the case stands.
    pub span: Span,
    /// Number of the exchange from 1, where the case has several.
    pub exchange: Option<usize>,
    /// How the exchange went, in one line.
    pub outcome: Option<String>,
    pub mismatches: Vec<Mismatch>,
    pub trace: Vec<TraceLine>,
}

/// One expectation that was not met.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Where the expectation stands.
    pub span: Span,
    /// What it speaks of: `json.items[0].id`; may be empty.
    pub at: String,
    pub expected: String,
    pub got: String,
}

impl Report {
    /// Whether nothing failed; cases that did not run count as not passed.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.skipped == 0
    }

    /// Whether cases were left out because time was over.
    pub fn out_of_time(&self) -> bool {
        self.skipped > 0
    }

    pub(super) fn add(&mut self, case: &Case, sources: &Sources, result: CaseResult) {
        let next = self.suites.len();
        let at = *self.places.entry(case.suite.clone()).or_insert(next);
        if at == next {
            let file = sources.name(case.span.file).to_owned();
            let name = case.suite.clone();
            self.suites.push(SuiteReport { name, file, passed: 0, failed: 0, skipped: 0 });
        }
        let Some(suite) = self.suites.get_mut(at) else { return };
        match result {
            CaseResult::Passed => {
                self.passed += 1;
                suite.passed += 1;
            }
            CaseResult::Skipped => {
                self.skipped += 1;
                suite.skipped += 1;
            }
            CaseResult::Failed(problem) => {
                suite.failed += 1;
                self.failed.push(failure(case, *problem));
            }
        }
    }
}

/// What came of one case.
pub(super) enum CaseResult {
    Passed,
    Failed(Box<Problem>),
    Skipped,
}

fn failure(case: &Case, problem: Problem) -> Failure {
    let clean = |text: String| cut(redacted(text, case));
    let mismatches = problem.misses.into_iter().map(|miss| Mismatch {
        span: miss.span,
        got: clean(concealed(&miss.at, miss.got)),
        expected: clean(miss.expected),
        at: miss.at,
    });
    Failure {
        suite: case.suite.clone(),
        case: case.name.clone(),
        span: case.span,
        exchange: problem.exchange,
        outcome: problem.outcome.map(clean),
        mismatches: mismatches.collect(),
        trace: problem.trace.into_iter().map(|line| line.with_values(clean)).collect(),
    }
}

/// Fields that carry credentials are shown as the short hash that records show.
fn concealed(at: &str, got: String) -> String {
    let field = at.rsplit_once("headers.").map(|(_, field)| field);
    match field {
        Some(field) if CREDENTIAL_FIELDS.contains(&field) && got != "absent" => keyed_hash(got.as_bytes()),
        _ => got,
    }
}

/// Values that were given as secrets stand in the test's file and nowhere else.
fn redacted(text: String, case: &Case) -> String {
    let secrets = case.world.secrets().filter(|secret| !secret.is_empty() && text.contains(*secret));
    let mut secrets: Vec<&str> = secrets.collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text, |text, secret| text.replace(secret, REDACTED))
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// The report for people.
pub fn render(report: &Report, sources: &Sources, color: bool) -> String {
    let paint = Paint(color);
    let mut out = String::new();
    for suite in &report.suites {
        let word = match (suite.failed, suite.skipped) {
            (0, 0) => paint.good("ok    "),
            (0, _) => paint.bad("SKIP  "),
            _ => paint.bad("FAILED"),
        };
        let all = suite.passed + suite.failed + suite.skipped;
        let _ = writeln!(out, "{word}  {}  {}/{all}  {}", suite.name, suite.passed, paint.dim(&suite.file));
    }
    write_rest(report, sources, paint, &mut out);
    out
}

/// The report without its list of suites.
pub fn render_brief(report: &Report, sources: &Sources, color: bool) -> String {
    let mut out = String::new();
    write_rest(report, sources, Paint(color), &mut out);
    out
}

fn write_rest(report: &Report, sources: &Sources, paint: Paint, out: &mut String) {
    for failure in &report.failed {
        write_failure(failure, sources, paint, out);
    }
    let mut counts = vec![format!("{} passed", report.passed), format!("{} failed", report.failed.len())];
    if report.skipped > 0 {
        counts.push(format!("{} not run", report.skipped));
    }
    let took = report.took.as_secs_f64();
    let _ = writeln!(out, "\n{} in {took:.2} s", counts.join(", "));
}

fn write_failure(failure: &Failure, sources: &Sources, paint: Paint, out: &mut String) {
    let exchange = failure.exchange.map(|number| format!(", exchange {number}")).unwrap_or_default();
    let title = format!("{}: {}{exchange}", failure.suite, failure.case);
    let _ = writeln!(out, "\n{} {}", paint.bad("FAILED"), paint.strong(&title));
    if let Some(outcome) = &failure.outcome {
        let _ = writeln!(out, "  answer: {outcome}");
    }
    for miss in &failure.mismatches {
        let at = if miss.at.is_empty() { String::new() } else { format!(": {}", paint.strong(&miss.at)) };
        let _ = writeln!(out, "  {}{at}", place(sources, miss.span));
        let _ = writeln!(out, "    expected  {}", indented(&paint.good(&miss.expected)));
        let _ = writeln!(out, "    got       {}", indented(&paint.bad(&miss.got)));
    }
    if failure.trace.is_empty() {
        return;
    }
    let _ = writeln!(out, "  steps:");
    let width = |of: fn(&TraceLine) -> usize| failure.trace.iter().map(of).max().unwrap_or(0);
    let time = width(|line| moment(line.at).len());
    let (path, name) = (width(|line| line.path.len()), width(|line| title_of(line).chars().count()));
    for line in &failure.trace {
        let verdict = if line.verdict.starts_with("passed") || line.verdict.starts_with("ended") {
            paint.good(&line.verdict)
        } else {
            paint.bad(&line.verdict)
        };
        let (at, title) = (&line.path, title_of(line));
        let when = format!("{:>time$}", moment(line.at));
        let _ = writeln!(out, "    {when}  {at:<path$}  {title:<name$}  {verdict}  {}", paint.dim(&line.place));
        for (name, value) in &line.changed {
            let _ = writeln!(out, "    {:time$}  {:path$}    {name} = {}", "", "", indented(value));
        }
    }
}

/// Virtual time since the case began.
fn moment(at: Duration) -> String {
    format!("{} ms", at.as_secs_f64() * 1e3)
}

fn title_of(line: &TraceLine) -> String {
    if line.name == line.assertion { line.name.clone() } else { format!("{} ({})", line.name, line.assertion) }
}

/// Further lines stand below the first.
fn indented(text: &str) -> String {
    text.replace('\n', "\n              ")
}

fn place(sources: &Sources, span: Span) -> String {
    let place = sources.place(span);
    format!("{}:{}:{}", place.file, place.line, place.column)
}

/// Colours, where the terminal has them.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// The report for programs.
pub fn to_json(report: &Report, sources: &Sources) -> Json {
    let at = |span: Span| {
        let place = sources.place(span);
        json!({ "file": place.file, "line": place.line, "column": place.column })
    };
    let mismatch =
        |miss: &Mismatch| json!({ "place": at(miss.span), "at": miss.at, "expected": miss.expected, "got": miss.got });
    let step = |line: &TraceLine| {
        json!({
            "path": line.path,
            "name": line.name,
            "assertion": line.assertion,
            "place": line.place,
            "verdict": line.verdict,
            "at_ms": line.at.as_secs_f64() * 1e3,
            "changed": line.changed.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        })
    };
    let failure = |failure: &Failure| {
        json!({
            "suite": &*failure.suite,
            "case": failure.case,
            "place": at(failure.span),
            "exchange": failure.exchange,
            "outcome": failure.outcome,
            "mismatches": failure.mismatches.iter().map(mismatch).collect::<Vec<_>>(),
            "steps": failure.trace.iter().map(step).collect::<Vec<_>>(),
        })
    };
    let suite = |suite: &SuiteReport| {
        json!({
            "name": &*suite.name,
            "file": suite.file,
            "passed": suite.passed,
            "failed": suite.failed,
            "not_run": suite.skipped,
        })
    };
    json!({
        "passed": report.passed,
        "failed": report.failed.len(),
        "not_run": report.skipped,
        "took_ms": u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        "suites": report.suites.iter().map(suite).collect::<Vec<_>>(),
        "failures": report.failed.iter().map(failure).collect::<Vec<_>>(),
    })
}
