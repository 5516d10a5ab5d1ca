//! What the admin interface says in JSON.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value as Json, json};

use std::sync::Arc;

use crate::broker::state as broker;
use crate::engine::snapshot::{Service, Snapshot};
use crate::identity::key_sets::Standing;
use crate::identity::own_keys;
use crate::reload::{Report, Status};

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &Json) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What serves, and how the last reload went. Names and places only: no parameter of a step, and so no secret.
pub(super) fn snapshot(snapshot: &Snapshot, status: &Status) -> Json {
    json!({
        "version": *snapshot.version,
        "loaded_at": status.loaded_at().to_string(),
        "services": snapshot.services.iter().map(|one| service(one)).collect::<Vec<_>>(),
        "last_reload": status.last().to_json(),
    })
}

fn service(service: &Service) -> Json {
    let steps = service.steps.iter().map(|step| {
        json!({
            "path": *step.path,
            "name": *step.name,
            "assertion": *step.assertion,
            "place": *step.place,
        })
    });
    json!({
        "name": service.name.as_deref(),
        "match": service.rule.as_deref(),
        "file": *service.file,
        "holds_request_body": service.plan.request.as_deref(),
        "holds_response_body": service.plan.response.as_deref(),
        "steps": steps.collect::<Vec<_>>(),
    })
}

/// How stored tokens stand, by session; never with a token.
pub(super) fn sessions(standings: &[(Arc<str>, broker::Standing)]) -> Json {
    let entry = |(name, session): &(Arc<str>, broker::Standing)| {
        let detail = json!({
            "state": session.word,
            "expires_at_unix_s": session.expires_at_s,
            "refreshed_at_unix_s": session.refreshed_at_s,
            "last_error": session.last_error,
            "refreshes": session.refreshes,
        });
        (name.to_string(), detail)
    };
    Json::Object(standings.iter().map(entry).collect())
}

/// How the sets of keys stand that are fetched, by their URLs.
pub(super) fn key_sets(standings: &[Standing], now_unix_s: i64) -> Json {
    let entry = |set: &Standing| {
        let detail = json!({
            "keys": set.keys,
            "fetched": set.fetched_at_s.is_some(),
            "fetched_at_unix_s": set.fetched_at_s,
            "age_s": set.fetched_at_s.map(|at| now_unix_s.saturating_sub(at).max(0)),
            "stale": set.stale,
            "last_error": set.last_error,
            "fetches": set.fetches,
        });
        (set.url.clone(), detail)
    };
    Json::Object(standings.iter().map(entry).collect())
}

/// When what serves was taken, how the last reload went, and the first mistake of the last one that was refused: that one
/// stays, so that whoever looks later finds it.
pub(super) fn reload(version: &str, status: &Status) -> Json {
    let last = status.last();
    let error = |report: Report| {
        let all = report.diagnostics.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut errors = all.iter().filter(|one| one.get("severity").is_none_or(|severity| severity == "error"));
        let first = errors.next();
        let member = |name: &str| first.and_then(|first| first.get(name)).cloned().unwrap_or_default();
        json!({
            "at": report.at.to_string(),
            "version": report.version,
            "errors": errors.count() + usize::from(first.is_some()),
            "code": member("code"),
            "file": member("file"),
            "line": member("line"),
            "message": member("message"),
        })
    };
    json!({
        "last": { "result": last.outcome.word(), "at": last.at.to_string() },
        "last_good": { "version": version, "at": status.loaded_at().to_string() },
        "last_error": status.last_refused().map(error),
    })
}

/// How the keys stand that were made here, by their names.
pub(super) fn own_keys(snapshot: &Snapshot) -> Json {
    let entry = |standing: own_keys::Standing| {
        let detail = json!({
            "algorithm": standing.algorithm.word(),
            "kid": standing.kid,
            "signs_since_unix_s": standing.since_s,
            "published": standing.published,
            "last_error": standing.last_error,
        });
        (standing.name.to_string(), detail)
    };
    Json::Object(snapshot.own_keys.iter().filter_map(|own| own.key.standing()).map(entry).collect())
}
