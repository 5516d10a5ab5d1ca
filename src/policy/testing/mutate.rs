//! Mutation: each step and each case of a `switch` taken out, each condition turned round, each shadow lifted, to see
//! which of these changes no test notices.
//!
//! A change is made in the tree of the document, and only the services that hold the step are compiled again. One
//! that no longer compiles counts as noticed. Values inside parameters are not changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::engine::program::StepMeta;
use crate::engine::snapshot::Snapshot;
use crate::engine::value::Text;
use crate::policy::build::{Environment, Parsed};
use crate::policy::document::Documents;
use crate::policy::testing::case::Case;
use crate::policy::testing::coverage::{can_deny, steps_within};
use crate::policy::testing::recompile::Base;
use crate::policy::testing::runner::Runner;
use crate::source::{Diagnostic, Diagnostics, Entry, Node, NodeValue, Sources, Span, render};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The step is not there.
    Removed,
    /// The condition is the other way round.
    Inverted,
    /// A case of a `switch` is not there.
    Uncased,
    /// A shadowed step denies.
    Unshadowed,
}

/// Which list of steps a change is made in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Service(Text, Part),
    Defaults(Text, Part),
    Fragment(Text),
    Assertion(Text),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Main,
    OnFault,
    Finally,
}

/// One change.
#[derive(Clone, Debug)]
struct Mutant {
    place: Place,
    /// Indexes of the list items and entries that lead to the node.
    path: Vec<usize>,
    change: Change,
    /// The place of the step's assertion.
    step: Span,
}

/// A change that no test notices.
#[derive(Clone, Debug, PartialEq)]
pub struct Survivor {
    pub span: Span,
    /// The step's `name:`, else its assertion.
    pub step: String,
    pub assertion: Text,
    /// `removed`, `inverted`, `uncased` or `unshadowed`.
    pub change: &'static str,
    pub message: String,
    pub help: &'static str,
}

/// What came of all changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mutation {
    pub tried: usize,
    /// In the order of the files.
    pub survivors: Vec<Survivor>,
    pub took: Duration,
}

/// What is known of a step by its place.
struct Known {
    meta: StepMeta,
    services: BTreeSet<Text>,
    /// The services, and the assertions that are tested by themselves.
    suites: BTreeSet<Text>,
}

type Steps = HashMap<Span, Known>;

/// Makes every change to the steps of the services that the cases test, or to all steps where `whole`, and runs the
/// tests that may notice it. All cases must pass as the files stand. Blocks; not to be called from inside a runtime.
///
/// # Errors
/// When the system gives no thread.
pub fn mutate(
    parsed: &Parsed,
    environment: &Environment,
    snapshot: &Snapshot,
    cases: &[&Case],
    whole: bool,
) -> std::io::Result<Mutation> {
    let begun = Instant::now();
    let mut runner = Runner::new(parsed, environment)?;
    let mut touched = Vec::new();
    for case in cases {
        runner.touched = Default::default();
        let _ = runner.run(case);
        touched.push(std::mem::take(&mut runner.touched));
    }
    let steps = steps_of(snapshot, &runner.rehearsed());
    drop(runner);
    let suites: BTreeSet<&Text> = cases.iter().map(|case| &case.suite).collect();
    let mut mutants = mutants(&parsed.documents, &steps);
    mutants.retain(|mutant| {
        let holds = |known: &Known| known.suites.iter().any(|suite| suites.contains(suite));
        let ran = || touched.iter().any(|touched| touched.has(mutant.step));
        whole || steps.get(&mutant.step).is_some_and(holds) || ran()
    });
    let relevant = |mutant: &Mutant| -> Vec<usize> {
        let own = |case: &Case| steps.get(&mutant.step).is_some_and(|known| known.suites.contains(&case.suite));
        let ran = |at: usize| touched.get(at).is_some_and(|touched| touched.has(mutant.step));
        let mut some: Vec<(bool, usize)> = Vec::new();
        some.extend(cases.iter().enumerate().filter(|(at, case)| ran(*at) || own(case)).map(|(at, _)| (!ran(at), at)));
        some.sort_unstable(); // those that run the step are the likeliest to notice
        some.into_iter().map(|(_, at)| at).collect()
    };
    let work: Vec<(Mutant, Vec<usize>)> = mutants
        .into_iter()
        .map(|one| {
            let cases = relevant(&one);
            (one, cases)
        })
        .collect();
    let lived = survivors(parsed, environment, &steps, cases, &work)?;
    let mut survivors: Vec<Survivor> = lived
        .into_iter()
        .filter_map(|at| work.get(at))
        .filter_map(|(mutant, cases)| Some(survivor(mutant, steps.get(&mutant.step)?, !cases.is_empty())))
        .collect();
    survivors.sort_by(|one, other| (one.span, one.change).cmp(&(other.span, other.change)));
    Ok(Mutation { tried: work.len(), survivors, took: begun.elapsed() })
}

/// Indexes of the changes that nobody noticed; the changes are shared among as many threads as there are cores.
fn survivors(
    parsed: &Parsed,
    environment: &Environment,
    steps: &Steps,
    cases: &[&Case],
    work: &[(Mutant, Vec<usize>)],
) -> std::io::Result<Vec<usize>> {
    let (next, lived) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(work.len());
    let labour = || -> std::io::Result<()> {
        let mut hand = Hand { runner: Runner::new(parsed, environment)?, base: Base::new(parsed, environment) };
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((mutant, relevant)) = work.get(at) else { return Ok(()) };
            let services = steps.get(&mutant.step).map(|known| &known.services);
            let relevant = relevant.iter().filter_map(|at| cases.get(*at).copied());
            if !hand.is_noticed(parsed, mutant, services.into_iter().flatten(), relevant) {
                lived.lock().unwrap_or_else(PoisonError::into_inner).push(at);
            }
        }
    };
    std::thread::scope(|scope| -> std::io::Result<()> {
        let hands: Vec<_> = (0..threads).map(|_| scope.spawn(labour)).collect();
        for hand in hands {
            hand.join().map_err(|_| std::io::Error::other("a thread of the tests panicked"))??;
        }
        Ok(())
    })?;
    Ok(lived.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What one thread works with.
struct Hand<'p> {
    runner: Runner<'p>,
    base: Base<'p>,
}

impl Hand<'_> {
    fn is_noticed<'c>(
        &mut self,
        parsed: &Parsed,
        mutant: &Mutant,
        services: impl Iterator<Item = &'c Text> + Clone,
        cases: impl Iterator<Item = &'c Case>,
    ) -> bool {
        let mut changed = parsed.documents.clone();
        if mutant.apply(&mut changed).is_none() {
            return true;
        }
        let mut compiled: Vec<(&crate::policy::resources::Given, Arc<Snapshot>)> = Vec::new();
        for case in cases {
            let given = case.given();
            let known = compiled.iter().find(|(known, _)| *known == given).filter(|_| case.inputs.is_none());
            let snapshot = match (known, &case.inputs) {
                (Some((_, snapshot)), _) => snapshot.clone(),
                (None, Some(inputs)) => match self.base.rehearsed(given, &changed, &case.suite, inputs) {
                    Some(snapshot) => snapshot,
                    None => return true,
                },
                (None, None) => match self.base.with(given, &changed, services.clone()) {
                    Some(snapshot) => {
                        compiled.push((given, snapshot.clone()));
                        snapshot
                    }
                    None => return true,
                },
            };
            if self.runner.run_on(case, snapshot).is_some() {
                return true;
            }
        }
        false
    }
}

fn steps_of(snapshot: &Snapshot, rehearsed: &[Arc<Snapshot>]) -> Steps {
    let mut steps = Steps::new();
    let mut add = |meta: &StepMeta, suite: Option<&Text>, is_service: bool| {
        let new = || Known { meta: meta.clone(), services: BTreeSet::new(), suites: BTreeSet::new() };
        let known = steps.entry(meta.span).or_insert_with(new);
        known.suites.extend(suite.cloned());
        known.services.extend(suite.filter(|_| is_service).cloned());
    };
    for service in snapshot.services.iter().map(AsRef::as_ref).chain(std::iter::once(&*snapshot.unmatched)) {
        service.steps.iter().for_each(|meta| add(meta, service.name.as_ref(), true));
    }
    for service in rehearsed.iter().flat_map(|set| &set.services) {
        steps_within(service).iter().for_each(|meta| add(meta, service.name.as_ref(), false));
    }
    steps
}

fn mutants(documents: &Documents, steps: &Steps) -> Vec<Mutant> {
    let mut found = Vec::new();
    let mut list = |place: Place, node: Option<&Node>| {
        let Some(node) = node else { return };
        visit(node, &mut Vec::new(), &mut |path: &[usize], change, step| {
            if steps.contains_key(&step) {
                found.push(Mutant { place: place.clone(), path: path.to_vec(), change, step });
            }
        });
    };
    for (name, doc) in &documents.services {
        list(Place::Service(name.clone(), Part::Main), Some(&doc.policy));
        list(Place::Service(name.clone(), Part::OnFault), doc.on_fault.as_ref());
        list(Place::Service(name.clone(), Part::Finally), doc.finally.as_ref());
    }
    for (name, doc) in &documents.defaults {
        list(Place::Defaults(name.clone(), Part::Main), doc.before.as_ref());
        list(Place::Defaults(name.clone(), Part::OnFault), doc.on_fault.as_ref());
        list(Place::Defaults(name.clone(), Part::Finally), doc.finally.as_ref());
    }
    for (name, fragment) in &documents.fragments {
        list(Place::Fragment(name.clone()), Some(&fragment.steps));
    }
    for (name, doc) in &documents.assertions {
        list(Place::Assertion(name.clone()), Some(&doc.policy));
    }
    found
}

/// Finds what may be a step or a condition; whether it is one the caller knows by its place.
fn visit(node: &Node, path: &mut Vec<usize>, found: &mut impl FnMut(&[usize], Change, Span)) {
    match node.value() {
        NodeValue::Null | NodeValue::Scalar(_) => {}
        NodeValue::List(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at);
                if item.as_scalar().is_some() {
                    found(path, Change::Removed, item.span());
                }
                for entry in item.as_map().unwrap_or_default() {
                    found(path, Change::Removed, entry.key_span);
                }
                visit(item, path, found);
                path.pop();
            }
        }
        NodeValue::Map(entries) => {
            for (at, entry) in entries.iter().enumerate() {
                path.push(at);
                match entry.key.as_str() {
                    "when" => entries.iter().for_each(|step| found(path, Change::Inverted, step.key_span)),
                    "if" => match entry.value.as_map() {
                        None => found(path, Change::Inverted, entry.key_span),
                        Some(parameters) => {
                            for (below, _) in parameters.iter().enumerate().filter(|(_, one)| one.key == "condition") {
                                path.push(below);
                                found(path, Change::Inverted, entry.key_span);
                                path.pop();
                            }
                        }
                    },
                    "shadow" if entry.value.as_text() == Some("true") => {
                        entries.iter().for_each(|step| found(path, Change::Unshadowed, step.key_span));
                    }
                    "cases" => {
                        // Without its only case a `switch` does not load.
                        let cases = entry.value.as_map().unwrap_or_default();
                        for below in (0..cases.len()).filter(|_| cases.len() > 1) {
                            path.push(below);
                            entries.iter().for_each(|step| found(path, Change::Uncased, step.key_span));
                            path.pop();
                        }
                    }
                    _ => {}
                }
                visit(&entry.value, path, found);
                path.pop();
            }
        }
    }
}

impl Mutant {
    /// Makes the change. `None` where the place is not there, which does not happen.
    fn apply(&self, documents: &mut Documents) -> Option<()> {
        let list = match &self.place {
            Place::Fragment(name) => Some(&mut documents.fragments.get_mut(name)?.steps),
            Place::Assertion(name) => Some(&mut Arc::make_mut(documents.assertions.get_mut(name)?).policy),
            Place::Service(name, part) => {
                let doc = Arc::make_mut(documents.services.get_mut(name)?);
                match part {
                    Part::Main => Some(&mut doc.policy),
                    Part::OnFault => doc.on_fault.as_mut(),
                    Part::Finally => doc.finally.as_mut(),
                }
            }
            Place::Defaults(name, part) => {
                let doc = Arc::make_mut(documents.defaults.get_mut(name)?);
                match part {
                    Part::Main => doc.before.as_mut(),
                    Part::OnFault => doc.on_fault.as_mut(),
                    Part::Finally => doc.finally.as_mut(),
                }
            }
        }?;
        *list = changed(list, &self.path, self.change)?;
        Some(())
    }
}

/// A tree with one change in it.
fn changed(node: &Node, path: &[usize], change: Change) -> Option<Node> {
    let Some((at, rest)) = path.split_first() else {
        return Some(match change {
            Change::Unshadowed => node.with_text("false"),
            _ => node.with_text(format!("!({})", node.as_text()?)),
        });
    };
    let value = match node.value() {
        // A block without steps does not load, and nobody would have noticed anything.
        NodeValue::List(items) if rest.is_empty() && change == Change::Removed && items.len() == 1 => {
            NodeValue::List(vec![nothing(items.first()?.span())])
        }
        NodeValue::List(items) if rest.is_empty() && change == Change::Removed => {
            let others = items.iter().enumerate().filter(|(index, _)| index != at);
            NodeValue::List(others.map(|(_, item)| item.clone()).collect())
        }
        NodeValue::List(items) => {
            let mut items = items.clone();
            let item = items.get_mut(*at)?;
            *item = changed(item, rest, change)?;
            NodeValue::List(items)
        }
        NodeValue::Map(entries) if rest.is_empty() && change == Change::Uncased => {
            let others = entries.iter().enumerate().filter(|(index, _)| index != at);
            NodeValue::Map(others.map(|(_, entry)| entry.clone()).collect())
        }
        NodeValue::Map(entries) => {
            let mut entries = entries.clone();
            let entry = entries.get_mut(*at)?;
            entry.value = changed(&entry.value, rest, change)?;
            NodeValue::Map(entries)
        }
        NodeValue::Null | NodeValue::Scalar(_) => return None,
    };
    Some(Node::new(node.span(), value))
}

/// A step that does nothing which anybody could see.
fn nothing(span: Span) -> Node {
    let map =
        |key: &str, value| Node::new(span, NodeValue::Map(vec![Entry { key: key.to_owned(), key_span: span, value }]));
    map("set", map("removed_step", Node::text(span, "")))
}

fn survivor(mutant: &Mutant, known: &Known, is_tested: bool) -> Survivor {
    let step = &known.meta.name;
    let (change, message, help) = match (mutant.change, is_tested) {
        (Change::Removed, false) => {
            ("removed", format!("no test runs the service that `{step}` stands in"), "give it `tests:`")
        }
        (Change::Removed, true) if can_deny(&known.meta) => {
            let message = format!("without `{step}` every test still passes");
            ("removed", message, "add a case that it denies")
        }
        (Change::Removed, true) => {
            let message = format!("without `{step}` every test still passes");
            ("removed", message, "add a case that expects what it does, or take the step out")
        }
        (Change::Inverted, _) => {
            let message = format!("with the condition of `{step}` turned round every test still passes");
            ("inverted", message, "add a case for each side of the condition")
        }
        (Change::Uncased, _) => {
            let message = format!("without one of the cases of `{step}` every test still passes");
            ("uncased", message, "add a test for each of its cases")
        }
        (Change::Unshadowed, _) => {
            let message = format!("where `{step}` denies and is not only shadowed every test still passes");
            ("unshadowed", message, "add a test that it would deny: `steps: { would_deny: ... }`")
        }
    };
    let (step, assertion) = (step.to_string(), known.meta.assertion.clone());
    Survivor { span: mutant.step, step, assertion, change, message, help }
}

impl Mutation {
    /// For people: each survivor underlined in its source, with its cure.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let mut diags = Diagnostics::new();
        for one in &self.survivors {
            diags.push(Diagnostic::warning("test.survivor", one.span, &one.message).with_help(one.help));
        }
        let mut text = render(sources, &diags, color);
        let (lived, took) = (self.survivors.len(), self.took.as_secs_f64());
        let noticed = self.tried - lived;
        text.push_str(&format!("mutation: {} changes, {noticed} noticed, {lived} not, in {took:.2} s\n", self.tried));
        text
    }

    /// For programs.
    pub fn to_json(&self, sources: &Sources) -> Json {
        let survivor = |one: &Survivor| {
            let place = sources.place(one.span);
            json!({
                "file": place.file,
                "line": place.line,
                "column": place.column,
                "step": one.step,
                "assertion": &*one.assertion,
                "change": one.change,
                "message": one.message,
                "help": one.help,
            })
        };
        json!({
            "tried": self.tried,
            "noticed": self.tried - self.survivors.len(),
            "survivors": self.survivors.iter().map(survivor).collect::<Vec<_>>(),
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
