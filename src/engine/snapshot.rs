//! Everything compiled from one consistent set of files: immutable, swapped in whole.

use std::sync::Arc;

use http::HeaderName;

use crate::audit::metrics::ServiceMetrics;
use crate::engine::exchange::Withheld;
use crate::engine::program::{Program, StepMeta};
use crate::engine::read::{Read, Slot};
use crate::engine::scrubbing::RecordRules;
use crate::engine::select::Select;
use crate::engine::value::Text;
use crate::identity::own_keys::Rotating;
use crate::upstream::Upstream;

/// A compiled set of policies.
#[derive(Clone)]
pub struct Snapshot {
    /// Hash of its files.
    pub version: Text,
    pub select: Arc<Select>,
    pub services: Vec<Arc<Service>>,
    /// What happens to a request that no service wants: `on_fault` and `finally` of the defaults for all.
    pub unmatched: Arc<Service>,
    /// Every upstream that has a document, in order of name.
    pub upstreams: Arc<[Arc<Upstream>]>,
    /// What keys are published on, in order of path: served whatever the host, before any service.
    pub published: Arc<[PublishedPath]>,
    /// Keys that were made here and are exchanged by their age.
    pub own_keys: Arc<[Arc<Rotating>]>,
}

/// A path on which public keys are served.
#[derive(Clone)]
pub struct PublishedPath {
    pub path: Text,
    pub service: Arc<Service>,
}

impl Snapshot {
    /// What answers at this place: the services are counted first, then the paths that keys are published on.
    pub fn at(&self, place: usize) -> Option<&Service> {
        match self.services.get(place) {
            Some(service) => Some(service),
            None => self.published.get(place - self.services.len()).map(|published| &*published.service),
        }
    }

    /// Where a path stands that keys are published on.
    pub fn published_at(&self, path: &str) -> Option<usize> {
        let at = self.published.iter().position(|published| *published.path == *path)?;
        Some(self.services.len() + at)
    }
}

/// A compiled service.
#[derive(Default)]
pub struct Service {
    /// Absent for requests that no service wants.
    pub name: Option<Text>,
    pub file: Text,
    /// Its match rule as people read it.
    pub rule: Option<Text>,
    pub main: Program,
    pub on_fault: Program,
    pub finally: Program,
    pub steps: Vec<StepMeta>,
    /// Variables to make room for.
    pub slots: usize,
    pub identities: usize,
    /// Fields that the policy sets for the upstream: a client's own are removed first.
    pub owned_headers: Vec<HeaderName>,
    /// Cookies and query parameters that are never the client's own.
    pub owned_places: Vec<Withheld>,
    pub plan: BodyPlan,
    /// Where authenticate steps find credentials: traces show only a hash of what stands there.
    pub credentials: Vec<Withheld>,
    /// `finally` reads fields of the answer.
    pub keeps_answer_headers: bool,
    pub metrics: Option<Arc<ServiceMetrics>>,
    pub names: Names,
    /// What is scrubbed from whatever is written down.
    pub scrubs: Vec<RecordRules>,
}

/// Names of what steps set, for policy tests: nothing else looks a variable up by its name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `root.member`, or `root` for a variable of its own.
    pub variables: Vec<(Text, Slot)>,
    /// `auth` and what a further authentication was renamed to.
    pub identities: Vec<(Text, Slot)>,
    /// Variables that hold a credential on some way.
    pub marked: Vec<Slot>,
    /// Reads of messages that give back a credential which a step has put there.
    pub put_back: Vec<Read>,
    /// Parameters of the match rule's path, in their order.
    pub path: Vec<Text>,
}

/// Which bodies a service holds in memory, and the step that makes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BodyPlan {
    /// Path of the step that needs the request's body whole; `None` streams.
    pub request: Option<Text>,
    /// The same for the response.
    pub response: Option<Text>,
}
