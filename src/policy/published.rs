//! The paths on which public keys are served (RFC 7517 §5), and that no service stands in their way.
//!
//! Such a path belongs to the gateway whole: on every listener, for every host, before any match rule. So a service whose
//! rule is that very path could never be reached, and is a load error.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value as Json, json};

use crate::audit::metrics::Metrics;
use crate::body::Body;
use crate::compile::resources::{PublishedKeys, Resources, Signer};
use crate::engine::exchange::Exchange;
use crate::engine::message::Response;
use crate::engine::program::{EndedBy, Explained, Op, Plain, Program, StepMeta, Verdict};
use crate::engine::select::{Rule, Segment};
use crate::engine::snapshot::{PublishedPath, Service};
use crate::engine::value::Text;
use crate::identity::own_keys::{MAX_AGE_S, Rotating};
use crate::policy::build::Parsed;
use crate::policy::document::ServiceDoc;
use crate::source::{Diagnostic, Diagnostics, Span};

/// RFC 7517 §8.5.2.
const MEDIA_TYPE: &str = "application/jwk-set+json";

/// Each path with what answers on it, in order of path.
pub fn paths(resources: &Resources, parsed: &Parsed, metrics: Option<&Metrics>) -> Arc<[PublishedPath]> {
    let mut by_path: BTreeMap<Text, (Text, Vec<PublishedKeys>)> = BTreeMap::new();
    for (name, published) in resources.published.iter() {
        let (_, all) = by_path.entry(published.path.clone()).or_insert_with(|| (name.clone(), Vec::new()));
        all.push(published.keys.clone());
    }
    let all = by_path.into_iter().filter_map(|(path, (key, keys))| {
        let service = Arc::new(service(&path, declared(&key, parsed)?, keys, parsed, metrics));
        Some(PublishedPath { path, service })
    });
    all.collect()
}

/// Keys that are exchanged by their age, in order of name.
pub fn own_keys(resources: &Resources) -> Arc<[Arc<Rotating>]> {
    let signing = resources.private_keys.iter().filter_map(|(_, key)| key.as_ref()?.signing.as_ref());
    let own = signing.filter_map(|signer| match signer {
        Signer::Own(own) => Some(own.clone()),
        Signer::Fixed(_) => None,
    });
    own.collect()
}

/// Reports a service that stands where keys are published.
pub fn check(rule: Option<&Rule>, doc: &ServiceDoc, resources: &Resources, parsed: &Parsed, diags: &mut Diagnostics) {
    let Some(rule) = rule else { return };
    let Some((key, published)) = resources.published.iter().find(|(_, published)| is_path(rule, &published.path))
    else {
        return;
    };
    let message =
        format!("key `{key}` is published on `{}`: no request comes to `{}`", published.path, doc.service.name);
    let mut diagnostic = Diagnostic::error("policy.published_path", doc.rule.path.0.span(), message)
        .with_help("give the service another path, or the key another `publish`");
    if let Some(span) = declared(key, parsed) {
        diagnostic = diagnostic.with_note(span, "the key stands here");
    }
    diags.push(diagnostic);
}

/// Whether a rule is this very path: one with parameters is less specific and stands behind it.
fn is_path(rule: &Rule, path: &str) -> bool {
    let mut segments = path.split('/').skip(1);
    let same =
        |segment: &Segment| matches!((segment, segments.next()), (Segment::Literal(text), Some(one)) if **text == *one);
    let all = rule.path.iter().all(same);
    all && segments.next().is_none()
}

/// Where a key stands.
fn declared(key: &str, parsed: &Parsed) -> Option<Span> {
    let mut docs = parsed.documents.resources.iter();
    docs.find(|doc| doc.kind.word == "key" && doc.name.name == key).map(|doc| doc.name.span)
}

fn service(path: &Text, span: Span, keys: Vec<PublishedKeys>, parsed: &Parsed, metrics: Option<&Metrics>) -> Service {
    let place = parsed.sources.place(span);
    let step = StepMeta {
        name: "publish".into(),
        assertion: "key".into(),
        place: format!("{}:{}", place.file, place.line).into(),
        span,
        path: "1".into(),
        reads: Vec::new(),
        raises: Vec::new(),
        explained: Explained::default(),
    };
    Service {
        // No document can have this name.
        name: Some(path.clone()),
        file: place.file.into(),
        rule: Some(path.clone()),
        main: Program { ops: vec![Op::Plain(0, Box::new(PublishStep { keys }))] },
        steps: vec![step],
        metrics: metrics.map(|metrics| metrics.service(path)),
        ..Service::default()
    }
}

struct PublishStep {
    keys: Vec<PublishedKeys>,
}

impl Plain for PublishStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        let set = self.set(x).to_string();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        let fresh = format!("public, max-age={MAX_AGE_S}");
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::try_from(fresh).unwrap_or(HeaderValue::from_static("no-cache")),
        );
        x.set_response(Response::new(StatusCode::OK, headers, Body::Buffered(set.into())));
        Verdict::Ended(EndedBy::Respond)
    }
}

impl PublishStep {
    /// The set as it is now, no key twice.
    fn set(&self, x: &Exchange) -> Json {
        let sets: Vec<_> = self.keys.iter().filter_map(|keys| keys.now(&x.worker.clock)).collect();
        let mut seen = Vec::new();
        let mut all = Vec::new();
        for key in sets.iter().flat_map(|set| set.keys()) {
            if !seen.contains(&key.identity()) {
                seen.push(key.identity());
                all.extend(key.to_public_jwk());
            }
        }
        json!({ "keys": all })
    }
}
