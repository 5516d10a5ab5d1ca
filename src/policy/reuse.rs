//! What earlier loads of a process have made, and when it may serve again.
//!
//! A file is parsed again when its contents have changed; a resource is built again when its document, a
//! file that it names or something it refers to has; a service when its file has, or anything that it was
//! compiled from: defaults, fragments, resources, files, names that were not there. A cold load goes the
//! same way with nothing to reuse, so that both come to the same.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::compile::named::{Reads, Shelf, Stamp};
use crate::compile::resources::Resources;
use crate::engine::select::Rule;
use crate::engine::snapshot::Service;
use crate::engine::value::Text;
use crate::policy::build::Parsed;
use crate::policy::document::Documents;
use crate::policy::elsewhere::Access;
use crate::policy::files::{self, Files, PolicyFile};
use crate::policy::parallel::in_parts;
use crate::policy::resources;
use crate::policy::testing::Reached;
use crate::source::{Diagnostic, Diagnostics, FileId, Literal, Node, NodeValue, Sources, Span, parse};

/// Kinds of documents whose use is noted by name. Every service depends on all documents of any other kind.
const NOTED: [&str; 5] = ["service", "fragment", "defaults", "assertion", "tests"];

/// What can be used again: of one process, that is of one environment and one set of numbers.
#[derive(Default)]
pub struct Reuse {
    last_stamp: u64,
    sources: Sources,
    files: HashMap<Arc<str>, FileEntry>,
    /// Ids of files that are gone.
    free: Vec<FileId>,
    resources: HashMap<(&'static str, Text), ResourceEntry>,
    services: HashMap<Text, Arc<ServiceEntry>>,
    tested: HashMap<Text, Tested>,
    /// What assertions are compiled from: changes with any of it.
    shared: [u8; 32],
}

/// A file that was parsed.
struct FileEntry {
    id: FileId,
    digest: [u8; 32],
    stamp: Stamp,
    documents: Documents,
    diags: Diagnostics,
    /// It holds documents whose use is not noted.
    for_all: bool,
}

/// A resource that was built without anything to say about it.
pub(super) struct ResourceEntry {
    pub file: Stamp,
    pub fingerprint: [u8; 32],
    pub reads: Reads,
    pub made: Resources,
    pub stamp: Stamp,
}

/// A service that was compiled without errors.
pub(super) struct ServiceEntry {
    pub stamp: Stamp,
    pub key: ServiceKey,
    pub reads: Reads,
    pub rule: Option<Rule>,
    pub service: Arc<Service>,
    pub access: Access,
    pub included: Box<[Text]>,
    /// Its warnings, said again whenever it is used again.
    pub diags: Diagnostics,
}

/// What a service is compiled from, as far as it is known beforehand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServiceKey {
    pub file: Stamp,
    /// Files that every service depends on.
    pub for_all: Arc<[Stamp]>,
    pub defaults: Box<[(Text, Stamp)]>,
}

/// The tests that a service, or an assertion of an operator, has passed.
#[derive(Clone, Debug, PartialEq)]
struct Tested {
    service: Option<Stamp>,
    /// Of an assertion: everything that it may be compiled from.
    shared: Option<[u8; 32]>,
    documents: Vec<Stamp>,
    names: [u8; 32],
    /// Services that their requests came to: a case with `exchanges` may go through several.
    reached: Vec<(Text, Option<Stamp>)>,
    /// They did run, and were not only read.
    ran: bool,
}

impl Reuse {
    pub(super) fn stamp(&mut self) -> Stamp {
        self.last_stamp += 1;
        Stamp(self.last_stamp)
    }

    /// Parses what has changed and puts all documents together.
    pub(super) fn parse(&mut self, files: &Files, diags: &mut Diagnostics) -> Parsed {
        self.forget_gone(files);
        let mut todo = Vec::new();
        for file in &files.list {
            if self.files.get(&file.name).is_none_or(|known| known.digest != file.digest) {
                todo.push(self.take_text(file));
            }
        }
        let sources = &self.sources;
        let parsed = in_parts(&todo, |part| part.iter().map(|changed| changed.parse(sources)).collect());
        for (changed, (documents, diags, for_all)) in todo.into_iter().zip(parsed) {
            let stamp = self.stamp();
            let Changed { name, id, digest, .. } = changed;
            self.files.insert(name, FileEntry { id, digest, stamp, documents, diags, for_all });
        }
        let entries: Vec<&FileEntry> = files.list.iter().filter_map(|file| self.files.get(&file.name)).collect();
        self.sources.order(entries.iter().map(|entry| entry.id));
        let mut parsed = Parsed { version: files.version().into(), ..Parsed::default() };
        for entry in &entries {
            diags.append(entry.diags.clone());
            parsed.documents.absorb(&entry.documents, diags);
            parsed.stamps.insert(entry.id, entry.stamp);
        }
        parsed.for_all = entries.iter().filter(|entry| entry.for_all).map(|entry| entry.stamp).collect();
        parsed.sources = self.sources.clone();
        parsed
    }

    fn forget_gone(&mut self, files: &Files) {
        let here: HashSet<&Arc<str>> = files.list.iter().map(|file| &file.name).collect();
        let gone: Vec<Arc<str>> = self.files.keys().filter(|name| !here.contains(name)).cloned().collect();
        for name in gone {
            if let Some(entry) = self.files.remove(&name) {
                self.sources.forget(entry.id);
                self.free.push(entry.id);
            }
        }
    }

    /// Puts the text of a file among the sources, under the number that it had.
    fn take_text(&mut self, file: &PolicyFile) -> Changed {
        let mut diags = Diagnostics::new();
        let known = self.files.get(&file.name).map(|known| known.id).or_else(|| self.free.pop());
        let (id, is_text) = self.sources.put_bytes(known, file.name.clone(), &file.bytes, &mut diags);
        Changed { name: file.name.clone(), id, digest: file.digest, is_text, diags }
    }

    /// The resource of this document, if it can be used again.
    pub(super) fn resource(
        &self,
        key: &(&'static str, Text),
        file: Stamp,
        node: &Node,
        shelves: &[&dyn Shelf],
    ) -> Option<&ResourceEntry> {
        let known = self.resources.get(key)?;
        let same = known.file == file || known.fingerprint == fingerprint(node);
        (same && known.reads.still_hold(shelves)).then_some(known)
    }

    pub(super) fn keep_resource(&mut self, key: (&'static str, Text), entry: ResourceEntry) {
        self.resources.insert(key, entry);
    }

    /// The compiled service, if it can be used again.
    pub(super) fn service(&self, name: &str, key: &ServiceKey, shelves: &[&dyn Shelf]) -> Option<Arc<ServiceEntry>> {
        let known = self.services.get(name)?;
        (known.key == *key && known.reads.still_hold(shelves)).then(|| known.clone())
    }

    pub(super) fn keep_service(&mut self, name: Text, entry: Arc<ServiceEntry>) {
        self.services.insert(name, entry);
    }

    /// Forgets what is not part of a set any more.
    pub(super) fn forget_except(&mut self, documents: &Documents) {
        self.services.retain(|name, _| documents.services.contains_key(name));
        self.tested.retain(|name, _| is_tested(documents, name));
        if self.resources.len() > documents.resources.len() {
            let here: BTreeSet<(&str, &str)> =
                documents.resources.iter().map(|doc| (doc.kind.word, doc.name.name.as_str())).collect();
            self.resources.retain(|(kind, name), _| here.contains(&(*kind, name)));
        }
    }

    /// Notes what assertions are compiled from: every file with more than services, and every resource.
    pub(super) fn note_shared(&mut self, parsed: &Parsed) {
        let documents = &parsed.documents;
        let fragments = documents.fragments.values().map(|fragment| fragment.span.file);
        let assertions = documents.assertions.values().map(|doc| doc.assertion.span.file);
        let files = fragments.chain(assertions).map(|file| parsed.stamp(file).0);
        let resources = documents.resources.iter().map(|doc| {
            self.resources.get(&(doc.kind.word, doc.name.name.as_str().into())).map_or(0, |entry| entry.stamp.0)
        });
        let mut hasher = Sha256::new();
        for stamp in files.chain(parsed.for_all.iter().map(|stamp| stamp.0)).chain(resources) {
            hasher.update(stamp.to_le_bytes());
        }
        self.shared = hasher.finalize().into();
    }

    /// Names of the services and assertions whose tests have to be read, and run where `run` says so: those
    /// that have changed since, or whose tests have.
    pub fn untested(&self, parsed: &Parsed, run: bool) -> BTreeSet<Text> {
        let documents = documents_of_tests(parsed);
        let names = names_of_resources(parsed);
        let has_passed = |name: &Text| {
            let Some(known) = self.tested.get(name) else { return false };
            let reached = self.stamped(known.reached.iter().map(|(name, _)| name));
            let now = self.tested_now(name, parsed, &documents, names, reached);
            (known.ran || !run) && now.is_some_and(|now| now == Tested { ran: true, ..known.clone() })
        };
        let all = parsed.documents.services.keys().chain(parsed.documents.assertions.keys());
        all.filter(|name| !has_passed(name)).cloned().collect()
    }

    /// Remembers that nothing was wrong with the tests of these services; `ran` that they did run, and which services
    /// they came to.
    pub fn passed<'n>(
        &mut self,
        parsed: &Parsed,
        services: impl Iterator<Item = &'n Text>,
        ran: bool,
        reached: &Reached,
    ) {
        let documents = documents_of_tests(parsed);
        let names = names_of_resources(parsed);
        for name in services {
            let reached = self.stamped(reached.get(name).into_iter().flatten());
            if let Some(tested) = self.tested_now(name, parsed, &documents, names, reached) {
                self.tested.insert(name.clone(), Tested { ran, ..tested });
            }
        }
    }

    fn stamped<'n>(&self, names: impl Iterator<Item = &'n Text>) -> Vec<(Text, Option<Stamp>)> {
        names.map(|name| (name.clone(), self.services.get(name).map(|entry| entry.stamp))).collect()
    }

    fn tested_now(
        &self,
        name: &Text,
        parsed: &Parsed,
        documents: &HashMap<&str, Vec<Stamp>>,
        names: [u8; 32],
        reached: Vec<(Text, Option<Stamp>)>,
    ) -> Option<Tested> {
        let service = self.services.get(name).map(|entry| entry.stamp);
        if service.is_none() && parsed.documents.services.contains_key(name) {
            return None; // it has errors
        }
        let shared = parsed.documents.assertions.contains_key(name).then_some(self.shared);
        let documents = documents.get(&**name).cloned().unwrap_or_default();
        Some(Tested { service, shared, documents, names, reached, ran: true })
    }
}

fn is_tested(documents: &Documents, name: &Text) -> bool {
    documents.services.contains_key(name) || documents.assertions.contains_key(name)
}

/// For each service the files in which `tests:` documents of it stand.
fn documents_of_tests(parsed: &Parsed) -> HashMap<&str, Vec<Stamp>> {
    let mut documents: HashMap<&str, Vec<Stamp>> = HashMap::new();
    for doc in &parsed.documents.tests {
        documents.entry(doc.tests.name.as_str()).or_default().push(parsed.stamp(doc.tests.span.file));
    }
    documents
}

/// Digest of the names that `given:` of a test may speak of, and of what decides which service answers a request: a
/// test may send to any.
fn names_of_resources(parsed: &Parsed) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut add = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for doc in &parsed.documents.resources {
        add(doc.kind.word);
        add(doc.name.name.as_str());
    }
    for (name, doc) in &parsed.documents.services {
        let methods = doc.rule.methods.iter().flat_map(|methods| methods.iter().map(Literal::as_str));
        let listeners = doc.listeners.iter().flat_map(|names| names.iter().map(|listener| listener.name.as_str()));
        let host = doc.rule.host.as_ref().map(Literal::as_str);
        // Each list behind its length, so that no two sets of rules read alike.
        for list in
            [vec![&**name, doc.rule.path.as_str()], host.into_iter().collect(), methods.collect(), listeners.collect()]
        {
            add(&list.len().to_string());
            list.into_iter().for_each(&mut add);
        }
    }
    hasher.finalize().into()
}

/// A file whose text is another one now.
struct Changed {
    name: Arc<str>,
    id: FileId,
    digest: [u8; 32],
    is_text: bool,
    diags: Diagnostics,
}

impl Changed {
    fn parse(&self, sources: &Sources) -> (Documents, Diagnostics, bool) {
        let (mut documents, mut diags) = (Documents::default(), self.diags.clone());
        // Which services a script goes into is not noted.
        let is_script = files::is_script(&self.name);
        let mut for_all = is_script;
        if self.is_text && !is_script && sources.text(self.id).trim_ascii().is_empty() {
            diags.push(empty(self.id));
        } else if self.is_text && !is_script {
            for node in parse(sources, self.id, &mut diags) {
                let kind = node.as_map().and_then(<[_]>::first).map_or("", |first| first.key.as_str());
                let is_noted = NOTED.contains(&kind) || resources::KINDS.iter().any(|known| known.word == kind);
                for_all |= !is_noted;
                documents.add(&node, &mut diags);
            }
        }
        (documents, diags, for_all)
    }
}

/// Whoever saves in place empties a file before writing to it: what it held shall not vanish for that moment, however
/// long it lasts.
fn empty(file: FileId) -> Diagnostic {
    let help = "if somebody is still writing it, it is read again then; remove the file if its documents are to go";
    Diagnostic::error("policy.empty_file", Span { file, start: 0, end: 0 }, "the file is empty").with_help(help)
}

/// Digest of what a document says, wherever it stands and whatever comments stand around it.
pub(super) fn fingerprint(node: &Node) -> [u8; 32] {
    fn add(node: &Node, hasher: &mut Sha256) {
        let text = |hasher: &mut Sha256, tag: u8, text: &str| {
            hasher.update([tag]);
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        match node.value() {
            NodeValue::Null => hasher.update([0]),
            NodeValue::Scalar(scalar) => text(hasher, 1 + scalar.style as u8, &scalar.text),
            NodeValue::List(items) => {
                hasher.update([10]);
                hasher.update((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| add(item, hasher));
            }
            NodeValue::Map(entries) => {
                hasher.update([11]);
                hasher.update((entries.len() as u64).to_le_bytes());
                for entry in entries {
                    text(hasher, 12, &entry.key);
                    add(&entry.value, hasher);
                }
            }
        }
    }
    let mut hasher = Sha256::new();
    add(node, &mut hasher);
    hasher.finalize().into()
}
