//! A compiled set with some of its services compiled anew from changed documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::assertions::CATALOGUE;
use crate::compile::context::Surroundings;
use crate::compile::resources::Resources;
use crate::engine::snapshot::Snapshot;
use crate::engine::value::Text;
use crate::policy::assertion::{self, Use};
use crate::policy::build::{Environment, Parsed, compile, rehearse};
use crate::policy::document::Documents;
use crate::policy::resources::{self, Given};
use crate::policy::service;
use crate::source::{Diagnostics, Node};

/// The set as it stands, for each `given` that was asked for.
pub(super) struct Base<'p> {
    parsed: &'p Parsed,
    environment: &'p Environment,
    known: Vec<(Given, Option<Compiled>)>,
}

/// The set with one `given`.
struct Compiled {
    resources: Resources,
    snapshot: Arc<Snapshot>,
}

impl<'p> Base<'p> {
    /// Nothing compiled yet.
    pub fn new(parsed: &'p Parsed, environment: &'p Environment) -> Base<'p> {
        Base { parsed, environment, known: Vec::new() }
    }

    /// The set in which these services come from other documents. `None` where they do not compile.
    pub fn with<'t>(
        &mut self,
        given: &Given,
        documents: &Documents,
        services: impl Iterator<Item = &'t Text>,
    ) -> Option<Arc<Snapshot>> {
        let (parsed, environment) = (self.parsed, self.environment);
        let Compiled { resources, snapshot: base } = self.base(given)?;
        let undeclared = BTreeMap::new();
        let around = Surroundings {
            sources: &parsed.sources,
            resources,
            fragments: &documents.fragments,
            catalogue: CATALOGUE,
            limits: &environment.limits,
            operators: &undeclared,
        };
        let mut diags = Diagnostics::new();
        let operators = assertion::declare(documents, around, &mut diags);
        let around = Surroundings { operators: &operators, ..around };
        assertion::check(around, &mut diags);
        let mut compiled = base.services.clone();
        for name in services {
            let doc = documents.services.get(name)?;
            let (_, service) = service::build(doc, documents, around, environment, &mut diags).finish(None);
            let place = compiled.iter_mut().find(|known| known.name.as_ref() == Some(name))?;
            *place = service;
        }
        let (unmatched, _) = service::build_unmatched(documents, around, &mut diags);
        let snapshot = Snapshot {
            version: base.version.clone(),
            select: base.select.clone(),
            services: compiled,
            unmatched: Arc::new(unmatched),
        };
        (!diags.has_errors()).then(|| Arc::new(snapshot))
    }

    /// The set that tests an assertion of other documents by itself. `None` where it does not compile.
    pub fn rehearsed(&self, given: &Given, documents: &Documents, name: &str, inputs: &Node) -> Option<Arc<Snapshot>> {
        let Parsed { sources, version, .. } = self.parsed;
        let changed = Parsed { sources: sources.clone(), documents: documents.clone(), version: version.clone() };
        rehearse(&changed, self.environment, given, &Use { name, inputs }).ok().map(Arc::new)
    }

    fn base(&mut self, given: &Given) -> Option<&Compiled> {
        let at = match self.known.iter().position(|(known, _)| known == given) {
            Some(at) => at,
            None => {
                let mut diags = Diagnostics::new();
                let snapshot = compile(self.parsed, self.environment, Some(given), None, &mut diags);
                let resources = resources::build(self.parsed, self.environment, Some(given), &mut diags);
                let compiled = snapshot.map(|snapshot| Compiled { resources, snapshot: Arc::new(snapshot) });
                self.known.push((given.clone(), compiled));
                self.known.len() - 1
            }
        };
        self.known.get(at)?.1.as_ref()
    }
}
