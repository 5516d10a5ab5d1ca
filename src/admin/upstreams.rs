//! Targets of upstreams, and those of them that get no calls, for `/readyz` and the numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::audit::metrics::Metrics;
use crate::engine::snapshot::Snapshot;
use crate::upstream::Upstream;

const TARGETS: &str = "gatewright_upstream_targets";
const TARGETS_HELP: &str = "Targets of upstreams by what is known of their health.";

/// By upstream, how many targets it has and how many of them get calls.
pub(super) fn counts(snapshot: &Snapshot, now_ms: u64) -> Json {
    let entry = |upstream: &Arc<Upstream>| {
        let targets = upstream.targets();
        let usable = targets.iter().filter(|target| !target.is_unhealthy() && !target.is_ejected(now_ms)).count();
        (upstream.name.to_string(), json!({ "targets": targets.len(), "usable": usable }))
    };
    Json::Object(snapshot.upstreams.iter().map(entry).collect())
}

/// By upstream and target, why it gets no calls.
pub(super) fn out(snapshot: &Snapshot, now_ms: u64) -> Json {
    let mut all = Map::new();
    for upstream in snapshot.upstreams.iter() {
        let mut out = Map::new();
        for target in upstream.targets().iter() {
            let why = match target.why_unhealthy() {
                Some(why) => format!("health check: {why}"),
                None if target.is_ejected(now_ms) => "ejected after failures".to_owned(),
                None => continue,
            };
            out.insert(target.origin.text().to_string(), why.into());
        }
        if !out.is_empty() {
            all.insert(upstream.name.to_string(), out.into());
        }
    }
    all.into()
}

/// Writes the numbers of what serves now; those of upstreams that are gone vanish.
pub(super) fn count(snapshot: &Snapshot, metrics: &Metrics, now_ms: u64) {
    let mut counts = BTreeMap::new();
    for upstream in snapshot.upstreams.iter() {
        for state in ["usable", "unhealthy", "ejected"] {
            counts.insert([upstream.name.to_string(), state.to_owned()], 0);
        }
        for target in upstream.targets().iter() {
            let state = match (target.is_unhealthy(), target.is_ejected(now_ms)) {
                (true, _) => "unhealthy",
                (false, true) => "ejected",
                (false, false) => "usable",
            };
            *counts.entry([upstream.name.to_string(), state.to_owned()]).or_default() += 1;
        }
    }
    metrics.set_all(TARGETS, TARGETS_HELP, ["upstream", "state"], counts);
}
