//! Coverage: which outcomes of which steps the cases of a run have brought about.
//!
//! A step is known by its place in the source, so that one of a fragment or of defaults counts once, wherever it is
//! used. Every step must pass (or end the pipeline) once, every step that can deny must deny once, and every block of
//! a composite (`then`, `else`, a case) must be entered once. Lines of a script are not counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::assertions::CATALOGUE;
use crate::compile::kind::Ends;
use crate::compile::{FaultDoc, Kind};
use crate::engine::program::{StepId, StepMeta};
use crate::engine::snapshot::{Service, Snapshot};
use crate::engine::trace::{Traced, TracedVerdict};
use crate::engine::value::Text;
use crate::source::{Diagnostic, Diagnostics, Sources, Span, render};

/// What cases made of the steps that they ran.
#[derive(Clone, Default)]
pub struct Touched {
    steps: HashMap<Span, Outcomes>,
    /// Blocks that were entered: the place of the composite, and the block. The place of a step in it would not do:
    /// the same fragment may stand in two blocks.
    blocks: BTreeSet<(Span, String)>,
    /// Sets in which operators' assertions were tested by themselves.
    pub(super) rehearsed: Vec<Arc<Snapshot>>,
}

/// What became of one step, over all cases.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    passed: bool,
    denied: bool,
}

impl fmt::Debug for Touched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Touched").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Touched {
    /// Whether a step ran at all.
    pub(super) fn has(&self, step: Span) -> bool {
        self.steps.contains_key(&step)
    }

    /// Adds the trace of one exchange.
    pub(super) fn add(&mut self, trace: &[Traced], steps: &[StepMeta]) {
        let mut seen: BTreeSet<StepId> = BTreeSet::new();
        for line in trace.iter().filter(|line| line.verdict != TracedVerdict::Skipped) {
            let Some(step) = steps.get(usize::from(line.step)) else { continue };
            seen.insert(line.step);
            let outcomes = self.steps.entry(step.span).or_default();
            match &line.verdict {
                TracedVerdict::Passed | TracedVerdict::Ended(_) => outcomes.passed = true,
                // A step that always ends may do so with a fault that it was told to raise.
                TracedVerdict::Denied(code) | TracedVerdict::Broken(code) if is_told(step, code) => {
                    outcomes.passed = true;
                }
                TracedVerdict::Denied(_) | TracedVerdict::WouldDeny(_) => outcomes.denied = true,
                TracedVerdict::Broken(_) | TracedVerdict::WouldBreak(_) | TracedVerdict::Skipped => {}
                TracedVerdict::Entered | TracedVerdict::Round => {}
            }
        }
        self.enter(seen.iter().filter_map(|step| steps.get(usize::from(*step))), steps);
    }

    /// Adds the blocks that steps which ran stand in.
    fn enter<'s>(&mut self, ran: impl Iterator<Item = &'s StepMeta>, steps: &[StepMeta]) {
        let mut inside = ran.filter(|step| step.path.contains('.')).peekable();
        if inside.peek().is_none() {
            return;
        }
        let by_path: HashMap<&str, &StepMeta> = steps.iter().map(|step| (&*step.path, step)).collect();
        for step in inside {
            let mut path = &*step.path;
            while let Some((above, block)) = enclosing(path, &by_path) {
                if let Some(outer) = by_path.get(above).filter(|_| !block.is_empty()) {
                    self.blocks.insert((outer.span, block.to_owned()));
                }
                path = above;
            }
        }
    }
}

fn kind(step: &StepMeta) -> Option<&'static Kind> {
    CATALOGUE.iter().copied().find(|kind| *kind.name == *step.assertion)
}

fn is_told(step: &StepMeta, code: &str) -> bool {
    kind(step).is_some_and(|kind| kind.ends == Ends::Always && !kind.faults.iter().any(|fault| fault.code == code))
}

/// Whether a step exists to deny. What every assertion answers to a value that is absent or unfit does not count:
/// most policies cannot be brought to it.
pub(super) fn can_deny(step: &StepMeta) -> bool {
    let by_origin =
        |fault: &FaultDoc| fault.status == 400 && (fault.code.ends_with(".absent") || fault.doc.contains("rigin"));
    // Only a step that allows upgrades refuses some.
    let upgrades = step.explained.written.iter().any(|parameter| **parameter == *"upgrade");
    let counts = |fault: &FaultDoc| match fault.status {
        426 => upgrades,
        status => (400..500).contains(&status) && !by_origin(fault),
    };
    kind(step).is_some_and(|kind| kind.faults.iter().any(counts))
}

/// Something that a case should bring about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Passed,
    Denied,
    /// A block of a composite, such as `then`.
    Entered(String),
}

/// An outcome that no case brings about.
#[derive(Clone, Debug, PartialEq)]
pub struct Untested {
    /// Where the step's assertion stands; the first step of a block.
    pub span: Span,
    /// The step's `name:`, else its assertion.
    pub step: String,
    /// `passed`, `denied`, or the block that is never entered.
    pub outcome: String,
    /// In one sentence.
    pub message: String,
}

/// How much of a file is tested.
#[derive(Clone, Debug, PartialEq)]
pub struct FileCoverage {
    pub file: String,
    pub covered: usize,
    pub total: usize,
    pub untested: Vec<Untested>,
}

/// How much of a set is tested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    pub files: Vec<FileCoverage>,
}

impl Coverage {
    /// What the cases of a run left untested of these services, of all where none is named.
    pub fn of(snapshot: &Snapshot, services: Option<&[Text]>, touched: &Touched, sources: &Sources) -> Coverage {
        let wanted = |service: &&Service| match (services, &service.name) {
            (Some(wanted), Some(name)) => wanted.contains(name),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let all = snapshot.services.iter().map(AsRef::as_ref).chain(std::iter::once(&*snapshot.unmatched));
        let mut items: BTreeMap<(Span, Outcome), (bool, String)> = BTreeMap::new();
        let used = all.filter(wanted).map(|service| service.steps.clone());
        let alone = touched.rehearsed.iter().flat_map(|set| &set.services).map(|service| steps_within(service));
        for steps in used.chain(alone) {
            for (span, outcome, step, covered) in items_of(&steps, touched) {
                items.entry((span, outcome)).or_insert((covered, step)).0 |= covered;
            }
        }
        let mut files: BTreeMap<String, FileCoverage> = BTreeMap::new();
        for ((span, outcome), (covered, step)) in items {
            let file = sources.name(span.file).to_owned();
            let new = FileCoverage { file: file.clone(), covered: 0, total: 0, untested: Vec::new() };
            let entry = files.entry(file).or_insert(new);
            entry.total += 1;
            entry.covered += usize::from(covered);
            if !covered {
                entry.untested.push(untested(span, &outcome, step));
            }
        }
        Coverage { files: files.into_values().collect() }
    }

    /// Outcomes that are tested and all there are.
    pub fn counts(&self) -> (usize, usize) {
        self.files.iter().fold((0, 0), |(covered, total), file| (covered + file.covered, total + file.total))
    }

    /// Whole percent, rounded down: 100 only where nothing is missing.
    pub fn percent(&self) -> u8 {
        let (covered, total) = self.counts();
        percent(covered, total)
    }

    /// For people: percent per file, and the untested steps underlined in their source.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let mut text = String::new();
        for file in &self.files {
            let percent = percent(file.covered, file.total);
            text.push_str(&format!("{percent:>3} %  {}  {}/{}\n", file.file, file.covered, file.total));
        }
        let mut diags = Diagnostics::new();
        for untested in self.files.iter().flat_map(|file| &file.untested) {
            let help = "add a case that brings it about";
            diags.push(Diagnostic::warning("test.untested", untested.span, &untested.message).with_help(help));
        }
        if !diags.is_empty() {
            text.push('\n');
            text.push_str(&render(sources, &diags, color));
        }
        let (covered, total) = self.counts();
        text.push_str(&format!("\ncoverage {} % ({covered} of {total} outcomes)\n", self.percent()));
        text
    }

    /// For programs.
    pub fn to_json(&self, sources: &Sources) -> Json {
        let untested = |one: &Untested| {
            let place = sources.place(one.span);
            json!({ "line": place.line, "column": place.column, "step": one.step, "outcome": one.outcome, "message": one.message })
        };
        let file = |file: &FileCoverage| {
            json!({
                "file": file.file,
                "percent": percent(file.covered, file.total),
                "covered": file.covered,
                "total": file.total,
                "untested": file.untested.iter().map(untested).collect::<Vec<_>>(),
            })
        };
        let (covered, total) = self.counts();
        json!({
            "percent": self.percent(),
            "covered": covered,
            "total": total,
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
        })
    }
}

/// The steps of an assertion in the service that was made to test it: the others stand in no file.
pub(super) fn steps_within(service: &Service) -> Vec<StepMeta> {
    service.steps.iter().filter(|step| step.path.contains('.')).cloned().collect()
}

fn percent(covered: usize, total: usize) -> u8 {
    (covered * 100).checked_div(total).and_then(|percent| u8::try_from(percent).ok()).unwrap_or(100)
}

fn untested(span: Span, outcome: &Outcome, step: String) -> Untested {
    let (word, message) = match outcome {
        Outcome::Passed => ("passed".to_owned(), format!("no case gets past `{step}`")),
        Outcome::Denied => ("denied".to_owned(), format!("no case is denied by `{step}`")),
        Outcome::Entered(block) => (block.clone(), format!("no case enters `{block}` of `{step}`")),
    };
    Untested { span, step, outcome: word, message }
}

/// All that should come about in a service, and whether it did.
fn items_of(steps: &[StepMeta], touched: &Touched) -> Vec<(Span, Outcome, String, bool)> {
    let by_path: HashMap<&str, &StepMeta> = steps.iter().map(|step| (&*step.path, step)).collect();
    // Steps by the composites and blocks that they stand in, at whatever depth.
    let mut parents: BTreeSet<&str> = BTreeSet::new();
    let mut blocks: BTreeMap<(&str, &str), Span> = BTreeMap::new();
    for step in steps {
        let mut path = &*step.path;
        while let Some((above, block)) = enclosing(path, &by_path) {
            parents.insert(above);
            if !block.is_empty() {
                blocks.entry((above, block)).or_insert(step.span);
            }
            path = above;
        }
    }
    let mut items = Vec::new();
    for step in steps.iter().filter(|step| !parents.contains(&*step.path)) {
        let outcomes = touched.steps.get(&step.span).copied().unwrap_or_default();
        items.push((step.span, Outcome::Passed, step.name.to_string(), outcomes.passed));
        if can_deny(step) {
            items.push((step.span, Outcome::Denied, step.name.to_string(), outcomes.denied));
        }
    }
    // Without a `default` it says no to whatever has no case.
    let chooses = |step: &&StepMeta| &*step.assertion == "switch" && !blocks.contains_key(&(&*step.path, "default"));
    for step in steps.iter().filter(chooses) {
        let denied = touched.steps.get(&step.span).is_some_and(|outcomes| outcomes.denied);
        items.push((step.span, Outcome::Denied, step.name.to_string(), denied));
    }
    for ((above, block), span) in blocks {
        let Some(outer) = by_path.get(above) else { continue };
        let entered = touched.blocks.contains(&(outer.span, block.to_owned()));
        items.push((span, Outcome::Entered(block.to_owned()), outer.name.to_string(), entered));
    }
    items
}

/// The composite that a step stands in, and the block: `3` and `then` for `3.then.1`.
fn enclosing<'p>(path: &'p str, by_path: &HashMap<&str, &StepMeta>) -> Option<(&'p str, &'p str)> {
    let siblings = path.rsplit_once('.')?.0;
    let mut above = siblings;
    while !by_path.contains_key(above) {
        above = above.rsplit_once('.')?.0;
    }
    let block = siblings.get(above.len()..).unwrap_or_default().trim_start_matches('.');
    Some((above, block))
}
