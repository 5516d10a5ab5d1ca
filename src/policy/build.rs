//! The whole set: parse all files, build the resources, compile the services, check what holds between them.

mod some;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::audit::metrics::Metrics;
use crate::compile::context::Surroundings;
use crate::compile::fragment::Fragment;
use crate::compile::named::{Named, Reads, Shelf, Stamp};
use crate::compile::operator::Operator;
use crate::compile::outside::OutsideFile;
use crate::compile::resources::Resources;
use crate::engine::scrubbing::RecordRules;
use crate::engine::select::Select;
use crate::engine::snapshot::Snapshot;
use crate::engine::value::Text;
use crate::limits::Limits;
use crate::policy::assertion::{self, Use};
use crate::policy::document::{Documents, ServiceDoc};
use crate::policy::elsewhere;
use crate::policy::files::{self, Files};
use crate::policy::parallel::in_parts;
use crate::policy::published;
use crate::policy::resources::{self, Given, Values};
use crate::policy::reuse::{Reuse, ServiceEntry, ServiceKey};
use crate::policy::service;
use crate::source::{Diagnostic, Diagnostics, FileId, Sources};

pub use self::some::{Outline, SomeServices, recompile};

/// What surrounds a set of files: gateway.yaml and the process.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub limits: Limits,
    /// Names of the listeners.
    pub listeners: Vec<Text>,
    /// Those of them on which a credential would cross a network in clear text.
    pub clear_listeners: Vec<Text>,
    /// Those of them that do not ask clients for certificates.
    pub unasking_listeners: Vec<Text>,
    /// What gateway.yaml takes out of every record.
    pub scrub: Option<RecordRules>,
    pub values: Values,
}

/// A parsed set of files: compiled once to serve, and again for tests that bring their own values.
#[derive(Default)]
pub struct Parsed {
    pub sources: Sources,
    pub documents: Documents,
    pub version: Text,
    /// Tells the contents of files apart from what they held before.
    pub(super) stamps: HashMap<FileId, Stamp>,
    /// Stamps of the files that every service depends on.
    pub(super) for_all: Arc<[Stamp]>,
}

impl Parsed {
    pub(super) fn stamp(&self, file: FileId) -> Stamp {
        self.stamps.get(&file).copied().unwrap_or_default()
    }
}

/// Parses all files.
pub fn parse_files(files: &Files, diags: &mut Diagnostics) -> Parsed {
    parse_again(files, &mut Reuse::default(), diags)
}

/// The same, for a process that has loaded before: only what has changed is parsed.
pub fn parse_again(files: &Files, reuse: &mut Reuse, diags: &mut Diagnostics) -> Parsed {
    files::report(files, diags);
    reuse.parse(files, diags)
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
    let set = Set { parsed, environment, metrics };
    set.compile(given, None, diags).map(|compiled| compiled.snapshot)
}

/// The same, for a process that has loaded before: only what has changed, or depends on something that has,
/// is compiled. `reuse` is of this environment and these numbers, and has parsed the set.
pub fn compile_again(
    parsed: &Parsed,
    environment: &Environment,
    metrics: Option<&Metrics>,
    reuse: &mut Reuse,
    diags: &mut Diagnostics,
) -> Option<Compiled> {
    Set { parsed, environment, metrics }.compile(None, Some(reuse), diags)
}

/// What is compiled, and for whom.
#[derive(Clone, Copy)]
struct Set<'s> {
    parsed: &'s Parsed,
    environment: &'s Environment,
    metrics: Option<&'s Metrics>,
}

/// A service that has to be compiled.
struct Todo<'s> {
    at: usize,
    name: &'s Text,
    doc: &'s ServiceDoc,
    key: ServiceKey,
}

impl Set<'_> {
    fn compile(
        self,
        given: Option<&Given>,
        mut reuse: Option<&mut Reuse>,
        diags: &mut Diagnostics,
    ) -> Option<Compiled> {
        let parsed = self.parsed;
        let (resources, mut outside) = resources::build(parsed, self.environment, given, reuse.as_deref_mut(), diags);
        let shelves = Shelves::of(self, resources, diags);
        let by_assertions = assertion::check(self.around(&shelves), diags);
        let entries = self.services(&shelves, reuse, diags);
        let mut select = Select::default();
        let mut included: HashSet<&Text> = by_assertions.iter().collect();
        let mut services = Vec::with_capacity(entries.len());
        let docs: Vec<&Arc<ServiceDoc>> = parsed.documents.services.values().collect();
        for (entry, doc) in entries.iter().zip(&docs) {
            outside.extend(entry.reads.outside.iter().cloned());
            included.extend(&entry.included);
            if let Some(rule) = &entry.rule
                && let Err(equal) = select.insert(rule, services.len())
            {
                equal_match(doc, docs.get(equal).copied(), diags);
            }
            published::check(entry.rule.as_ref(), doc, &shelves.resources, parsed, diags);
            services.push(entry.service.clone());
        }
        if given.is_none() {
            self.look_elsewhere(&select, &entries, diags);
        }
        let (mut unmatched, by_unmatched) =
            service::build_unmatched(&parsed.documents, self.around(&shelves), self.environment, diags);
        let by_defaults = service::check_defaults(&parsed.documents, self.around(&shelves), diags);
        included.extend(by_unmatched.iter().chain(&by_defaults));
        check_fragments(parsed, &included, diags);
        unmatched.metrics = self.metrics.map(|metrics| metrics.service(&"none".into()));
        outside.extend(shelves.resources.outside.take_read());
        diags.deduplicate();
        if diags.has_errors() || parsed.documents.is_mangled || docs.iter().any(|doc| doc.is_mangled) {
            return None;
        }
        let (version, select, unmatched) = (parsed.version.clone(), Arc::new(select), Arc::new(unmatched));
        let upstreams = shelves.resources.upstreams.iter().filter_map(|(_, upstream)| upstream.clone()).collect();
        let published = published::paths(&shelves.resources, parsed, self.metrics);
        let own_keys = published::own_keys(&shelves.resources);
        let snapshot = Snapshot { version, select, services, unmatched, upstreams, published, own_keys };
        Some(Compiled { snapshot, outside })
    }

    fn around<'a>(&'a self, shelves: &'a Shelves) -> Surroundings<'a> {
        Surroundings {
            sources: &self.parsed.sources,
            resources: &shelves.resources,
            fragments: &shelves.fragments,
            catalogue: crate::assertions::CATALOGUE,
            operators: &shelves.operators,
            limits: &self.environment.limits,
        }
    }

    /// All services in order of name, compiled where that is needed.
    fn services(
        &self,
        shelves: &Shelves,
        mut reuse: Option<&mut Reuse>,
        diags: &mut Diagnostics,
    ) -> Vec<Arc<ServiceEntry>> {
        let documents = &self.parsed.documents;
        let all = shelves.all();
        let mut entries: Vec<Option<Arc<ServiceEntry>>> = Vec::with_capacity(documents.services.len());
        let mut todo = Vec::new();
        for (at, (name, doc)) in documents.services.iter().enumerate() {
            let key = self.key(doc);
            let known = reuse.as_ref().and_then(|reuse| reuse.service(name, &key, &all));
            if known.is_none() {
                todo.push(Todo { at, name, doc, key });
            }
            entries.push(known);
        }
        let copies = Mutex::new(shelves.clone());
        let built = in_parts(&todo, |part| {
            // Each thread has notes of its own about what was asked for.
            let shelves = copies.lock().unwrap_or_else(PoisonError::into_inner).clone();
            part.iter().map(|todo| self.build(todo, &shelves)).collect()
        });
        for (todo, (mut entry, is_clean)) in todo.into_iter().zip(built) {
            entry.key = todo.key;
            let mut entry = Arc::new(entry);
            if let Some(reuse) = reuse.as_deref_mut().filter(|_| is_clean) {
                if let Some(entry) = Arc::get_mut(&mut entry) {
                    entry.stamp = reuse.stamp();
                }
                reuse.keep_service(todo.name.clone(), entry.clone());
            }
            if let Some(place) = entries.get_mut(todo.at) {
                *place = Some(entry);
            }
        }
        if let Some(reuse) = reuse {
            reuse.forget_except(documents);
            reuse.note_shared(self.parsed);
        }
        let entries: Vec<Arc<ServiceEntry>> = entries.into_iter().flatten().collect();
        for entry in &entries {
            diags.append(entry.diags.clone());
        }
        entries
    }

    fn key(&self, doc: &ServiceDoc) -> ServiceKey {
        let parsed = self.parsed;
        let defaults = service::applied(doc, &parsed.documents);
        let defaults = defaults.map(|doc| (doc.defaults.name.as_str().into(), parsed.stamp(doc.defaults.span.file)));
        // Names in `without` are looked up among all: what is missing or appears changes what is said.
        let names = parsed.documents.defaults.keys().filter(|_| doc.without.is_some());
        let defaults = defaults.chain(names.map(|name| (name.clone(), Stamp::default()))).collect();
        ServiceKey { file: parsed.stamp(doc.service.span.file), for_all: parsed.for_all.clone(), defaults }
    }

    /// Compiles one service; says beside it whether it is without errors.
    fn build(&self, todo: &Todo<'_>, shelves: &Shelves) -> (ServiceEntry, bool) {
        let mut diags = Diagnostics::new();
        let around = self.around(shelves);
        let built = service::build(todo.doc, &self.parsed.documents, around, self.environment, &mut diags);
        let reads = Reads::take(shelves.all().into_iter(), shelves.resources.outside.take_read());
        let included = built.included.clone().into();
        let (rule, service) = built.finish(self.metrics);
        let access = elsewhere::Access::of(todo.doc, &service, self.parsed);
        let is_clean = !diags.has_errors() && !todo.doc.is_mangled;
        if todo.doc.is_mangled {
            diags.retain(|one| one.span.is_some()); // the others are about what stands in for something
        }
        let (stamp, key) = (Stamp::default(), ServiceKey::default());
        (ServiceEntry { stamp, key, reads, rule, service, access, included, diags }, is_clean)
    }

    /// Warns of requests that one service guards and another lets through.
    fn look_elsewhere(&self, select: &Select, entries: &[Arc<ServiceEntry>], diags: &mut Diagnostics) {
        let built = entries.iter().zip(self.parsed.documents.services.values()).map(|(entry, doc)| {
            let rule = entry.rule.as_ref().filter(|_| !doc.is_mangled)?;
            Some(elsewhere::Built { doc, rule, access: &entry.access })
        });
        elsewhere::check(select, &built.collect::<Vec<_>>(), self.environment, diags);
    }
}

fn equal_match(doc: &ServiceDoc, other: Option<&Arc<ServiceDoc>>, diags: &mut Diagnostics) {
    let Some(other) = other.filter(|other| !other.is_mangled && !doc.is_mangled) else { return };
    let message = format!("`{}` matches the same requests as `{}`", doc.service.name, other.service.name);
    let diagnostic = Diagnostic::error("policy.equal_match", doc.rule.path.0.span(), message)
        .with_help("give them different hosts, paths or methods")
        .with_note(other.rule.path.0.span(), "the other one stands here");
    diags.push(diagnostic);
}

/// Everything that a service can ask for by name.
#[derive(Clone)]
struct Shelves {
    resources: Resources,
    fragments: Named<Fragment>,
    operators: Named<Option<Operator>>,
}

impl Shelves {
    /// With the assertions that operators declare; everything wrong with the declarations is reported.
    fn of(set: Set<'_>, resources: Resources, diags: &mut Diagnostics) -> Shelves {
        let parsed = set.parsed;
        let stamp = |fragment: &Fragment| parsed.stamp(fragment.span.file);
        let fragments = parsed.documents.fragments.iter();
        let fragments = fragments.map(|(name, fragment)| (name.clone(), fragment.clone(), stamp(fragment))).collect();
        let mut shelves = Shelves { resources, fragments, operators: Named::default() };
        let declared = assertion::declare(&parsed.documents, set.around(&shelves), diags);
        let stamp = |name: &Text| {
            parsed.documents.assertions.get(name).map(|doc| parsed.stamp(doc.assertion.span.file)).unwrap_or_default()
        };
        shelves.operators =
            declared.into_iter().map(|(name, operator)| (name.clone(), operator, stamp(&name))).collect();
        shelves
    }

    /// Always in this order.
    fn all(&self) -> Vec<&dyn Shelf> {
        let mut all: Vec<&dyn Shelf> = vec![&self.fragments, &self.operators];
        all.extend(self.resources.shelves());
        all
    }
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
    let set = Set { parsed, environment, metrics: None };
    let (resources, _) = resources::build(parsed, environment, Some(given), None, &mut diags);
    let shelves = Shelves::of(set, resources, &mut diags);
    let Some(service) = assertion::rehearsal(used, set.around(&shelves), &mut diags) else { return Err(diags) };
    let mut documents = parsed.documents.clone();
    documents.services = BTreeMap::from([(used.name.into(), Arc::new(service))]);
    documents.defaults.clear();
    let (sources, version) = (parsed.sources.clone(), parsed.version.clone());
    let alone = Parsed { sources, documents, version, ..Parsed::default() };
    // What it takes from the test is never sent over a listener.
    let environment =
        Environment { clear_listeners: Vec::new(), unasking_listeners: Vec::new(), ..environment.clone() };
    compile(&alone, &environment, Some(given), None, &mut diags).ok_or(diags)
}

/// A fragment that nobody includes is never compiled: say so rather than let it rot.
fn check_fragments(parsed: &Parsed, included: &HashSet<&Text>, diags: &mut Diagnostics) {
    for (name, fragment) in &parsed.documents.fragments {
        if !included.contains(name) {
            let message = format!("no service includes `{name}`: its steps are not checked");
            let help = format!("put `- include: {name}` where it belongs, or remove it");
            diags.push(Diagnostic::warning("policy.unused_fragment", fragment.span, message).with_help(help));
        }
    }
}
