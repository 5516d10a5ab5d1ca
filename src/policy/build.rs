//! The whole set: parse all files, build the resources, compile the services, check what holds between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::metrics::Metrics;
use crate::compile::context::Surroundings;
use crate::compile::kind::Kind;
use crate::compile::operator::Operator;
use crate::compile::outside::OutsideFile;
use crate::compile::resources::Resources;
use crate::engine::select::{Rule, Select};
use crate::engine::snapshot::{Service, Snapshot};
use crate::engine::value::Text;
use crate::limits::Limits;
use crate::policy::assertion::{self, Use};
use crate::policy::document::{Documents, ServiceDoc};
use crate::policy::elsewhere;
use crate::policy::files::{self, Files};
use crate::policy::resources::{self, Given, Values};
use crate::policy::service;
use crate::source::{Diagnostic, Diagnostics, Sources, parse};

/// What surrounds a set of files: gateway.yaml and the process.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub limits: Limits,
    /// Names of the listeners.
    pub listeners: Vec<Text>,
    /// Those of them on which a credential would cross a network in clear text.
    pub clear_listeners: Vec<Text>,
    pub values: Values,
}

/// A parsed set of files: compiled once to serve, and again for tests that bring their own values.
#[derive(Default)]
pub struct Parsed {
    pub sources: Sources,
    pub documents: Documents,
    pub version: Text,
}

/// Parses all files.
pub fn parse_files(files: &Files, diags: &mut Diagnostics) -> Parsed {
    let mut sources = Sources::new();
    let mut documents = Documents::default();
    for file in files::add_to(files, &mut sources, diags) {
        if std::path::Path::new(sources.name(file)).extension().is_some_and(|end| end == files::SCRIPT_SUFFIX) {
            continue;
        }
        for node in parse(&sources, file, diags) {
            documents.add(&node, diags);
        }
    }
    Parsed { sources, documents, version: files.version().into() }
}

/// A compiled set, and the files of the machine that went into it.
pub struct Compiled {
    pub snapshot: Snapshot,
    pub outside: Vec<OutsideFile>,
}

/// Compiles a parsed set. `None` when anything was wrong, which was reported.
pub fn compile(
    parsed: &Parsed,
    environment: &Environment,
    given: Option<&Given>,
    metrics: Option<&Metrics>,
    diags: &mut Diagnostics,
) -> Option<Snapshot> {
    compile_set(parsed, environment, given, metrics, diags).map(|compiled| compiled.snapshot)
}

/// The same, for whoever wants to know what went into it.
pub fn compile_set(
    parsed: &Parsed,
    environment: &Environment,
    given: Option<&Given>,
    metrics: Option<&Metrics>,
    diags: &mut Diagnostics,
) -> Option<Compiled> {
    let resources = resources::build(parsed, environment, given, diags);
    let none = BTreeMap::new();
    let around = surroundings(parsed, environment, &resources, &none);
    let operators = assertion::declare(&parsed.documents, around, diags);
    let around = Surroundings { operators: &operators, ..around };
    let mut select = Select::default();
    let mut services: Vec<Arc<Service>> = Vec::new();
    let mut included = assertion::check(around, diags);
    let mut rules: Vec<(&ServiceDoc, usize, Rule)> = Vec::new();
    for (name, doc) in &parsed.documents.services {
        let built = service::build(doc, &parsed.documents, around, environment, diags);
        included.extend(built.included.iter().cloned());
        let (rule, service) = built.finish(metrics);
        if let Some(rule) = &rule
            && let Err(equal) = select.insert(rule, services.len())
        {
            let other = services.get(equal).and_then(|service| service.name.clone()).unwrap_or_default();
            let first = parsed.documents.services.get(&other).map(|doc| doc.rule.path.0.span());
            let message = format!("`{name}` matches the same requests as `{other}`");
            let mut diagnostic = Diagnostic::error("policy.equal_match", doc.rule.path.0.span(), message)
                .with_help("give them different hosts, paths or methods");
            if let Some(first) = first {
                diagnostic = diagnostic.with_note(first, "the other one stands here");
            }
            diags.push(diagnostic);
        }
        rules.extend(rule.map(|rule| (doc, services.len(), rule)));
        services.push(service);
    }
    let built = rules.into_iter().filter_map(|(doc, index, rule)| {
        services.get(index).map(|service| elsewhere::Built { doc, rule, service, index })
    });
    if given.is_none() {
        elsewhere::check(parsed, &select, &built.collect::<Vec<_>>(), environment, diags);
    }
    let (mut unmatched, by_unmatched) = service::build_unmatched(&parsed.documents, around, diags);
    included.extend(by_unmatched);
    check_fragments(parsed, &included, diags);
    unmatched.metrics = metrics.map(|metrics| metrics.service(&"none".into()));
    diags.deduplicate();
    if diags.has_errors() {
        return None;
    }
    let snapshot = Snapshot { version: parsed.version.clone(), select, services, unmatched: Arc::new(unmatched) };
    Some(Compiled { snapshot, outside: resources.outside.take_read() })
}

/// Compiles a service that does nothing but use an assertion, for the assertion's own tests. The error says
/// what does not load.
pub fn rehearse(
    parsed: &Parsed,
    environment: &Environment,
    given: &Given,
    used: &Use<'_>,
) -> Result<Snapshot, Diagnostics> {
    let mut diags = Diagnostics::new();
    let resources = resources::build(parsed, environment, Some(given), &mut diags);
    let none = BTreeMap::new();
    let around = surroundings(parsed, environment, &resources, &none);
    let operators = assertion::declare(&parsed.documents, around, &mut diags);
    let around = Surroundings { operators: &operators, ..around };
    let Some(service) = assertion::rehearsal(used, around, &mut diags) else { return Err(diags) };
    let mut documents = parsed.documents.clone();
    documents.services = BTreeMap::from([(used.name.into(), service)]);
    documents.defaults.clear();
    let alone = Parsed { sources: parsed.sources.clone(), documents, version: parsed.version.clone() };
    // What it takes from the test is never sent over a listener.
    let environment = Environment { clear_listeners: Vec::new(), ..environment.clone() };
    compile(&alone, &environment, Some(given), None, &mut diags).ok_or(diags)
}

fn surroundings<'a>(
    parsed: &'a Parsed,
    environment: &'a Environment,
    resources: &'a Resources,
    operators: &'a BTreeMap<Text, Option<Operator>>,
) -> Surroundings<'a> {
    let catalogue: &'static [&'static Kind] = crate::assertions::CATALOGUE;
    let (sources, fragments, limits) = (&parsed.sources, &parsed.documents.fragments, &environment.limits);
    Surroundings { sources, resources, fragments, catalogue, operators, limits }
}

/// A fragment that nobody includes is never compiled: say so rather than let it rot.
fn check_fragments(parsed: &Parsed, included: &[Text], diags: &mut Diagnostics) {
    for (name, fragment) in &parsed.documents.fragments {
        if !included.contains(name) {
            let message = format!("no service includes `{name}`: its steps are not checked");
            let help = format!("put `- include: {name}` where it belongs, or remove it");
            diags.push(Diagnostic::warning("policy.unused_fragment", fragment.span, message).with_help(help));
        }
    }
}
