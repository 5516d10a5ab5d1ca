//! What one exchange of a test did: its answer, what was sent upstream, its steps, variables and record.

use std::cell::OnceCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::Value as Json;

use crate::audit::record::Record;
use crate::engine::trace::Traced;
use crate::engine::value::Value;
use crate::engine::worker::Live;
use crate::policy::testing::want::shown;
use crate::secret::keyed_hash;

/// Everything that expectations look at.
pub(super) struct Seen {
    pub snapshot: Rc<Live>,
    /// Index in the snapshot.
    pub service: Option<usize>,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Code and detail.
    pub fault: Option<(String, String)>,
    /// The word of `ended_by`.
    pub ended_by: &'static str,
    /// `passed`, `ended`, `denied` or `broken`.
    pub verdict: &'static str,
    pub calls: Vec<SentCall>,
    pub trace: Vec<Traced>,
    /// Values of the variables and then the outputs that the expectations name, in their order: absent without a value, and
    /// `None` for a name that no step sets.
    pub variables: Vec<Option<Option<Json>>>,
    pub record: Option<Record>,
    /// All numbers of the process in Prometheus' text format.
    pub metrics: String,
    json: OnceCell<Option<Json>>,
}

/// A request that was sent upstream.
#[derive(Clone, Debug)]
pub(super) struct SentCall {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// With the Host field that goes out.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// No stand-in took it.
    pub unexpected: bool,
}

/// The parts of [`Seen`] that come from the answer alone.
pub(super) struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// An answer, with nothing known of how it came about yet.
    pub fn new(snapshot: Rc<Live>, answered: Answered) -> Seen {
        let Answered { status, headers, body } = answered;
        Seen {
            snapshot,
            service: None,
            status,
            headers,
            body,
            fault: None,
            ended_by: "end",
            verdict: "passed",
            calls: Vec::new(),
            trace: Vec::new(),
            variables: Vec::new(),
            record: None,
            metrics: String::new(),
            json: OnceCell::new(),
        }
    }

    /// The body as JSON, where it is.
    pub fn json(&self) -> Option<&Json> {
        self.json.get_or_init(|| serde_json::from_slice(&self.body).ok()).as_ref()
    }

    /// The compiled service.
    pub fn compiled(&self) -> &crate::engine::snapshot::Service {
        match self.service.and_then(|index| self.snapshot.at(index)) {
            Some(service) => service,
            None => &self.snapshot.unmatched,
        }
    }

    /// Whether a variable holds a credential on some way.
    pub fn is_marked(&self, name: &str) -> bool {
        let names = &self.compiled().names;
        let root = names.variables.iter().find(|(known, _)| name == &**known || is_below(name, known));
        name.ends_with(".credential") || root.is_some_and(|(_, slot)| names.marked.contains(slot))
    }

    /// What a step changed: names and values for people.
    pub fn changed(&self, traced: &Traced) -> Vec<(String, String)> {
        let names = &self.compiled().names;
        let mut changed = Vec::new();
        for (slot, identity) in &traced.identified {
            let name = names.identities.iter().find(|(_, known)| known == slot).map_or("?", |(name, _)| name);
            let subject = identity.as_ref().map(|identity| Json::from(&*identity.subject));
            changed.push((format!("{name}.subject"), shown(subject.as_ref())));
        }
        for (slot, value) in &traced.changed {
            let name = names.variables.iter().find(|(_, known)| known == slot).map_or("?", |(name, _)| name);
            let json = (*value != Value::Absent).then(|| value.view().to_json());
            let value = match (&json, names.marked.contains(slot)) {
                (Some(json), true) => keyed_hash(json.to_string().as_bytes()),
                (json, _) => shown(json.as_ref()),
            };
            changed.push((name.to_owned(), value));
        }
        changed
    }

    /// Its name, `none` without one.
    pub fn service_name(&self) -> &str {
        self.compiled().name.as_deref().unwrap_or("none")
    }
}

fn is_below(name: &str, root: &str) -> bool {
    name.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'))
}

/// All values of a field: one as a text, several as a list.
pub(super) fn field(headers: &HeaderMap, name: &str) -> Option<Json> {
    let text = |value: &HeaderValue| Json::String(String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut values: Vec<Json> = headers.get_all(name).iter().map(text).collect();
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(Json::Array(values)),
    }
}

/// Documents within texts of documents that are looked into.
const TEXTS_DEPTH_MAX: usize = 4;

/// All that can be read in a record: its line, and its names and texts as they were before they were escaped for it.
pub(super) fn texts_of(record: &Record) -> Vec<String> {
    let mut line = String::new();
    record.write_line(&mut line);
    let mut texts = Vec::new();
    add_text(line, TEXTS_DEPTH_MAX, &mut texts);
    texts
}

/// A saved body is a text that may be a document itself.
fn add_text(text: String, depth: usize, texts: &mut Vec<String>) {
    let json = text.starts_with(['{', '[', '"']).then(|| serde_json::from_str::<Json>(&text).ok()).flatten();
    texts.push(text);
    if let Some(json) = json.filter(|_| depth > 0) {
        add_texts(&json, depth - 1, texts);
    }
}

fn add_texts(json: &Json, depth: usize, texts: &mut Vec<String>) {
    match json {
        Json::String(text) => add_text(text.clone(), depth, texts),
        Json::Array(items) => items.iter().for_each(|item| add_texts(item, depth, texts)),
        Json::Object(members) => {
            for (name, member) in members {
                texts.push(name.clone());
                add_texts(member, depth, texts);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}
