//! A compiled set with some of its services compiled anew from changed documents.

use std::sync::Arc;

use crate::compile::resources::Resources;
use crate::engine::snapshot::Snapshot;
use crate::engine::value::Text;
use crate::policy::assertion::Use;
use crate::policy::build::{Environment, Parsed, compile, recompile, rehearse};
use crate::policy::document::Documents;
use crate::policy::resources::{self, Given};
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
        let (changed, environment) = (self.changed(documents), self.environment);
        let Compiled { resources, snapshot } = self.base(given)?;
        recompile(snapshot, resources, &changed, environment, services).map(Arc::new)
    }

    fn changed(&self, documents: &Documents) -> Parsed {
        let Parsed { sources, version, .. } = self.parsed;
        Parsed { sources: sources.clone(), documents: documents.clone(), version: version.clone(), ..Parsed::default() }
    }

    /// The set that tests an assertion of other documents by itself. `None` where it does not compile.
    pub fn rehearsed(&self, given: &Given, documents: &Documents, name: &str, inputs: &Node) -> Option<Arc<Snapshot>> {
        rehearse(&self.changed(documents), self.environment, given, &Use { name, inputs }).ok().map(Arc::new)
    }

    fn base(&mut self, given: &Given) -> Option<&Compiled> {
        let at = match self.known.iter().position(|(known, _)| known == given) {
            Some(at) => at,
            None => {
                let mut diags = Diagnostics::new();
                let snapshot = compile(self.parsed, self.environment, Some(given), None, &mut diags);
                let (resources, _) = resources::build(self.parsed, self.environment, Some(given), None, &mut diags);
                let compiled = snapshot.map(|snapshot| Compiled { resources, snapshot: Arc::new(snapshot) });
                self.known.push((given.clone(), compiled));
                self.known.len() - 1
            }
        };
        self.known.get(at)?.1.as_ref()
    }
}
