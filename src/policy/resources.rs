//! Resources: the named things that policies refer to. One file per kind.

pub mod api_keys;
pub mod identity_provider;
pub mod key;
pub mod list;
pub mod oauth_session;
pub mod secret;
pub mod upstream;
pub mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::broker::given::Plan;
use crate::broker::sessions::Sessions;
use crate::compile::Compile;
use crate::compile::context::Surroundings;
use crate::compile::named::{Named, Reads};
use crate::compile::outside::{Kept, Outside, OutsideFile};
use crate::compile::resources::Resources;
use crate::engine::value::Text;
use crate::identity::key_sets::KeySets;
use crate::identity::own_keys::OwnKeys;
use crate::policy::build::{Environment, Parsed};
use crate::policy::reuse::{ResourceEntry, Reuse, fingerprint};
use crate::source::{Diagnostic, Diagnostics, Literal, Name, Node, past_mistakes};

/// A kind of resource document.
#[derive(Debug)]
pub struct ResourceKind {
    /// Its declaring key.
    pub word: &'static str,
    pub summary: &'static str,
    pub schema: fn() -> schemars::Schema,
    build: fn(&Name, &Node, &mut Build<'_>, &mut Resources),
}

/// All kinds, in the order in which they are built: what a kind refers to stands before it.
pub const KINDS: [&ResourceKind; 8] = [
    &secret::KIND,
    &list::KIND,
    &key::KIND,
    &api_keys::KIND,
    &users::KIND,
    &identity_provider::KIND,
    &upstream::KIND,
    &oauth_session::KIND,
];

/// What the process gives to a set of files. Its environment holds secrets: no value of it is ever printed.
#[derive(Clone, Default)]
pub struct Values {
    /// Names that gateway.yaml lists.
    pub env_listed: Vec<Text>,
    /// Those of them that are set.
    pub env: BTreeMap<Text, Text>,
    /// Every variable of the process, for `secret: from: { env: NAME }`.
    pub process_env: BTreeMap<String, String>,
    /// What relative file names start from.
    pub base: PathBuf,
    /// Contents of files that a kept set brings with it.
    pub kept: Kept,
    /// Keys that are fetched, shared by all sets of files of the process.
    pub key_sets: Arc<KeySets>,
    /// Stored tokens, shared in the same way.
    pub sessions: Arc<Sessions>,
    /// Keys that were made here, shared in the same way.
    pub own_keys: Arc<OwnKeys>,
}

impl fmt::Debug for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Values")
            .field("env_listed", &self.env_listed)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// What a policy test puts in the place of the real values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    pub env: BTreeMap<String, String>,
    pub lists: BTreeMap<String, Vec<String>>,
    pub secrets: BTreeMap<String, String>,
    pub users: BTreeMap<String, BTreeMap<String, GivenUser>>,
    pub api_keys: BTreeMap<String, BTreeMap<String, GivenKey>>,
    pub providers: BTreeMap<String, GivenKeys>,
    pub sessions: BTreeMap<String, Plan>,
}

/// How the URL of a provider's keys behaves in a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GivenKeys {
    #[default]
    Ok,
    /// There was never an answer.
    Down,
    /// The keys that serve are the old ones; a fetch gives the new ones.
    Rotated,
}

/// A user of a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GivenUser {
    pub password: String,
    pub groups: Vec<String>,
    pub attributes: BTreeMap<String, String>,
    pub disabled: bool,
}

/// An API key of a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GivenKey {
    pub value: String,
    pub plan: Option<String>,
    pub client: Option<String>,
    pub subject: Option<String>,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    pub signing_secret: Option<String>,
}

/// Building the resources of one set of files.
pub struct Build<'b> {
    pub around: Surroundings<'b>,
    pub values: &'b Values,
    /// Present in tests: then nothing of the machine is read.
    pub given: Option<&'b Given>,
    pub diags: &'b mut Diagnostics,
}

impl Build<'_> {
    /// A context for texts and names of the resource.
    pub fn context(&mut self) -> Compile<'_> {
        Compile::new(self.around, self.diags, "".into(), Vec::new())
    }

    /// The path of a file that the document names.
    pub fn path_of(&mut self, file: &Literal) -> Option<PathBuf> {
        let name = self.context().literal(file)?;
        Some(self.around.resources.outside.base().join(name))
    }
}

/// The process's values, with those that a test gives in their place.
fn values(environment: &Environment, given: Option<&Given>) -> Values {
    let mut values = environment.values.clone();
    for (name, value) in given.iter().flat_map(|given| &given.env) {
        values.env.insert(name.as_str().into(), value.as_str().into());
        values.env_listed.push(name.as_str().into());
    }
    values
}

fn empty(values: &Values) -> Resources {
    Resources {
        env: Arc::new(values.env.clone()),
        env_listed: values.env_listed.clone().into(),
        outside: Outside::new(values.base.clone(), values.kept.clone()),
        ..Resources::default()
    }
}

/// The environment alone, without any resource.
pub(super) fn environment(environment: &Environment, given: Option<&Given>) -> Resources {
    empty(&values(environment, given))
}

/// Builds all resources, kind by kind, each only where an earlier one cannot be used again. A broken one is
/// reported and stands as declared. Beside them stand the files of the machine that went into them.
pub(super) fn build(
    parsed: &Parsed,
    environment: &Environment,
    given: Option<&Given>,
    mut reuse: Option<&mut Reuse>,
    diags: &mut Diagnostics,
) -> (Resources, Vec<OutsideFile>) {
    let values = values(environment, given);
    let mut resources = empty(&values);
    let (fragments, operators) = (Named::default(), Named::default());
    let mut outside = Vec::new();
    // For documents that are broken: nothing that only stands in for a URL is ever fetched.
    let spare = Values { key_sets: Arc::default(), ..values.clone() };
    for kind in KINDS {
        for doc in parsed.documents.resources.iter().filter(|doc| doc.kind.word == kind.word) {
            let key = (kind.word, Text::from(doc.name.name.as_str()));
            let file = parsed.stamp(doc.name.span.file);
            let known = reuse.as_ref().and_then(|reuse| reuse.resource(&key, file, &doc.node, &resources.shelves()));
            if let Some(known) = known {
                outside.extend(known.reads.outside.iter().cloned());
                resources.absorb(&known.made, known.stamp);
                continue;
            }
            let around = Surroundings {
                sources: &parsed.sources,
                resources: &resources,
                fragments: &fragments,
                catalogue: &[],
                operators: &operators,
                limits: &environment.limits,
            };
            let (mut said, mut is_again) = (Diagnostics::new(), false);
            let whole = [doc.name.span, doc.node.span()];
            let follows = |one: &Diagnostic| one.span.is_some_and(|span| whole.contains(&span));
            let made = past_mistakes(&doc.node, &mut said, follows, |node, diags| {
                let values = if std::mem::replace(&mut is_again, true) { &spare } else { &values };
                let mut made = Resources::default();
                (kind.build)(&doc.name, node, &mut Build { around, values, given, diags }, &mut made);
                made
            });
            let reads = Reads::take(resources.shelves().into_iter(), resources.outside.take_read());
            outside.extend(reads.outside.iter().cloned());
            let stamp = reuse.as_mut().map(|reuse| reuse.stamp()).unwrap_or_default();
            resources.absorb(&made, stamp);
            let is_clean = said.is_empty();
            diags.append(said);
            if let (true, Some(reuse)) = (is_clean, &mut reuse) {
                let fingerprint = fingerprint(&doc.node);
                reuse.keep_resource(key, ResourceEntry { file, fingerprint, reads, made, stamp });
            }
        }
    }
    (resources, outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_the_environment_can_be_printed() {
        let mut environment = Environment::default();
        environment.values.process_env.insert("PARTNER_KEY".into(), "canary-1".into());
        environment.values.env.insert("REGION".into(), "canary-2".into());
        assert!(!format!("{environment:?}").contains("canary"));
    }
}
