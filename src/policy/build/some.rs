//! A set of which only some services are compiled, for policy tests that bring values of their own.
//!
//! Every service is there with its match rule, so that requests are selected as in life; one that is not
//! compiled has no steps, and whoever finds that a request came to it compiles it and sends again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Environment, Parsed, Set, Shelves, equal_match};
use crate::compile::named::Named;
use crate::compile::resources::Resources;
use crate::engine::select::Select;
use crate::engine::snapshot::{Service, Snapshot};
use crate::engine::value::Text;
use crate::policy::assertion;
use crate::policy::published;
use crate::policy::resources::{self, Given};
use crate::policy::service;
use crate::source::Diagnostics;

/// What does not depend on which services are compiled: the rules of all, for one environment.
pub struct Outline {
    select: Arc<Select>,
    /// Where each service stands.
    places: HashMap<Text, usize>,
}

/// Services compiled with what a test gives.
pub struct SomeServices<'s> {
    set: Set<'s>,
    shelves: Shelves,
    snapshot: Arc<Snapshot>,
    compiled: HashSet<usize>,
}

impl Outline {
    /// The rules of all services, with these variables of the environment in the place of the process's. `known`
    /// are those of the process; they are the same where no rule names the environment.
    /// `None` when anything was wrong, which was reported.
    pub fn new(
        parsed: &Parsed,
        environment: &Environment,
        env: &BTreeMap<String, String>,
        known: Option<&Arc<Select>>,
        diags: &mut Diagnostics,
    ) -> Option<Outline> {
        let services = &parsed.documents.services;
        let known = known.filter(|_| services.values().all(|doc| !doc.rule.names_environment()));
        let select = match known {
            Some(select) => select.clone(),
            None => Arc::new(rules(parsed, environment, env, diags)),
        };
        let places = services.keys().enumerate().map(|(place, name)| (name.clone(), place)).collect();
        (!diags.has_errors()).then_some(Outline { select, places })
    }

    /// The set with these values, and no service compiled yet. `None` when anything was wrong, which was
    /// reported.
    pub fn with<'s>(
        &self,
        parsed: &'s Parsed,
        environment: &'s Environment,
        given: &Given,
        diags: &mut Diagnostics,
    ) -> Option<SomeServices<'s>> {
        let set = Set { parsed, environment, metrics: None };
        let (resources, _) = resources::build(parsed, environment, Some(given), None, diags);
        let shelves = Shelves::of(set, resources, diags);
        let (unmatched, _) = service::build_unmatched(&parsed.documents, set.around(&shelves), environment, diags);
        let empty = Arc::new(Service::default());
        let snapshot = Arc::new(Snapshot {
            version: parsed.version.clone(),
            select: self.select.clone(),
            services: vec![empty; self.places.len()],
            unmatched: Arc::new(unmatched),
            upstreams: Arc::default(),
            published: published::paths(&shelves.resources, parsed, None),
            own_keys: Arc::default(),
        });
        (!diags.has_errors()).then(|| SomeServices { set, shelves, snapshot, compiled: HashSet::new() })
    }

    /// Where a service stands in the snapshot.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }
}

/// Reads the rules of all services anew.
fn rules(
    parsed: &Parsed,
    environment: &Environment,
    env: &BTreeMap<String, String>,
    diags: &mut Diagnostics,
) -> Select {
    let set = Set { parsed, environment, metrics: None };
    let given = Given { env: env.clone(), ..Given::default() };
    // Rules need no more of the resources than the environment.
    let resources = resources::environment(environment, Some(&given));
    let shelves = Shelves { resources, fragments: Named::default(), operators: Named::default() };
    let mut select = Select::default();
    let docs: Vec<_> = parsed.documents.services.values().collect();
    for (place, doc) in docs.iter().enumerate() {
        if let Some(rule) = service::rule(doc, set.around(&shelves), &environment.listeners, diags)
            && let Err(equal) = select.insert(&rule, place)
        {
            equal_match(doc, docs.get(equal).copied(), diags);
        }
    }
    select
}

impl SomeServices<'_> {
    /// The snapshot with all services that were asked for.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    /// Whether the service at this place is compiled.
    pub fn has(&self, place: usize) -> bool {
        self.compiled.contains(&place) || place >= self.snapshot.services.len()
    }

    /// Compiles the service at this place; what is wrong with it is reported.
    pub fn compile(&mut self, place: usize, diags: &mut Diagnostics) {
        let Some(doc) = self.set.parsed.documents.services.values().nth(place) else { return };
        let around = self.set.around(&self.shelves);
        let mut said = Diagnostics::new();
        let built = service::build(doc, &self.set.parsed.documents, around, self.set.environment, &mut said);
        let is_broken = said.has_errors();
        diags.append(said);
        if is_broken {
            return; // whoever asks for it again is told again
        }
        let (_, service) = built.finish(None);
        self.compiled.insert(place);
        // Nobody else has it between two cases: it is not copied then.
        if let Some(old) = Arc::make_mut(&mut self.snapshot).services.get_mut(place) {
            *old = service;
        }
    }
}

/// A compiled set in which these services come from documents that have changed since. `None` where they do not
/// compile.
pub fn recompile<'t>(
    base: &Snapshot,
    resources: &Resources,
    changed: &Parsed,
    environment: &Environment,
    services: impl Iterator<Item = &'t Text>,
) -> Option<Snapshot> {
    let set = Set { parsed: changed, environment, metrics: None };
    let mut diags = Diagnostics::new();
    let shelves = Shelves::of(set, resources.clone(), &mut diags);
    let around = set.around(&shelves);
    assertion::check(around, &mut diags);
    let mut compiled = base.services.clone();
    for name in services {
        let doc = changed.documents.services.get(name)?;
        let (_, service) = service::build(doc, &changed.documents, around, environment, &mut diags).finish(None);
        let place = compiled.iter_mut().find(|known| known.name.as_ref() == Some(name))?;
        *place = service;
    }
    let (unmatched, _) = service::build_unmatched(&changed.documents, around, environment, &mut diags);
    let (version, select, unmatched) = (base.version.clone(), base.select.clone(), Arc::new(unmatched));
    (!diags.has_errors()).then(|| Snapshot { version, select, services: compiled, unmatched, ..base.clone() })
}
