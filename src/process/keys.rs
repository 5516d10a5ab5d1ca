//! Fetches the keys of identity providers, in the background and with the upstream client.
//!
//! One thread with a runtime of its own; each set of keys has a task there that lives as long as somebody needs the
//! keys. Redirects are not followed, answers are bounded in time and size, certificates are always verified.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use crate::audit::metrics::Metrics;
use crate::body::{Body, BodyLimits};
use crate::clock::Clock;
use crate::clock::wheel::Wheel;
use crate::engine::worker::Shared;
use crate::identity::key_sets::{Fetched, KeySets, RemoteKeys, Source, check_url};
use crate::json_path::check_text;
use crate::upstream::{Addresses, Call, Destination, HostHeader, Origin, Pool, Retry, Timeouts};

/// The whole of one fetch, a description and the keys together.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

const FETCHES: &str = "gatewright_key_fetches_total";
const FETCHES_HELP: &str = "Fetches of identity providers' keys, by what came of them.";
const STALE: &str = "gatewright_key_sets_stale";
const STALE_HELP: &str = "Sets of keys whose URL fails, or has not been asked since the start.";

/// Fetches what these sets need, for ever.
pub(super) fn start(sets: Arc<KeySets>, shared: Arc<Shared>, clock_origin: Instant) -> io::Result<()> {
    let (sender, told) = mpsc::unbounded_channel();
    sets.fetch_with(sender);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        match runtime {
            Ok(runtime) => runtime.block_on(fetch_all(told, sets, shared, clock_origin)),
            Err(error) => tracing::error!(%error, "keys of identity providers cannot be fetched"),
        }
    })?;
    Ok(())
}

async fn fetch_all(
    mut told: mpsc::UnboundedReceiver<Weak<RemoteKeys>>,
    sets: Arc<KeySets>,
    shared: Arc<Shared>,
    clock_origin: Instant,
) {
    let (wheel, clock) = (Wheel::new(), Clock::System(clock_origin));
    let pool = Rc::new(Pool::new(wheel.clone(), clock.clone()));
    tokio::task::spawn_local(async move { wheel.run().await });
    while let Some(keys) = told.recv().await {
        let fetching =
            Fetching { pool: pool.clone(), clock: clock.clone(), shared: shared.clone(), sets: sets.clone() };
        tokio::task::spawn_local(async move { fetching.follow(keys).await });
    }
}

struct Fetching {
    pool: Rc<Pool>,
    clock: Clock,
    shared: Arc<Shared>,
    sets: Arc<KeySets>,
}

impl Fetching {
    /// Fetches whenever it is due or wanted, until nobody needs the keys.
    async fn follow(self, weak: Weak<RemoteKeys>) {
        while let Some(keys) = weak.upgrade() {
            let (wake, due_ms) = (keys.wake(), keys.due_in_ms(self.clock.mono_ms()));
            if due_ms > 0 {
                drop(keys);
                // What is left of the wait is seen at the next turn.
                let _ = tokio::time::timeout(Duration::from_millis(due_ms), wake.notified()).await;
                continue;
            }
            keys.begin();
            let outcome = tokio::time::timeout(FETCH_TIME, fetch(&self.pool, &keys.source)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIME.as_secs())));
            let now_s = self.clock.wall().as_second();
            let said = keys.end(outcome, self.clock.mono_ms(), now_s);
            tell(&keys, said, &self.shared.metrics);
            let stale = self.sets.standings().iter().filter(|set| set.stale).count();
            self.shared.metrics.set(STALE, "gauge", STALE_HELP, stale as u64);
        }
    }
}

fn tell(keys: &RemoteKeys, said: Result<Vec<String>, String>, metrics: &Metrics) {
    let url = &keys.source.url;
    let result = match said {
        Ok(ignored) => {
            for why in ignored {
                tracing::warn!(url, why, "fetched keys");
            }
            tracing::debug!(url, "fetched keys serve");
            "ok"
        }
        Err(why) => {
            match keys.current().is_some() {
                true => tracing::warn!(url, why, "keys cannot be fetched: what was good before serves on"),
                false => {
                    tracing::warn!(url, why, "keys cannot be fetched, and none serve: tokens are 503")
                }
            }
            "failed"
        }
    };
    metrics.add_labelled(FETCHES, FETCHES_HELP, ("result", result), 1);
}

async fn fetch(pool: &Pool, source: &Source) -> Result<Fetched, String> {
    let Some(issuer) = &source.discovery else {
        return get(pool, &source.url, source, Addresses::Any).await;
    };
    let described = get(pool, &source.url, source, Addresses::Any).await?;
    check_text(&described.text).map_err(|broken| format!("the description: {broken}"))?;
    let description: Json = serde_json::from_slice(&described.text).map_err(|error| error.to_string())?;
    // OpenID Connect Discovery §4.3: exactly the one that was asked for, or somebody else's keys would count.
    let named = description.get("issuer").and_then(Json::as_str).unwrap_or_default();
    if named != &**issuer {
        return Err(format!("the description is of the issuer `{named}`, expected `{issuer}`"));
    }
    let url = description.get("jwks_uri").and_then(Json::as_str).ok_or("the description has no `jwks_uri`")?;
    check_url(url)?;
    // Where the operator has written the origin out, any address will do; elsewhere a document chose the host.
    let addresses = match (split(url)?.0.text(), split(&source.url)?.0.text()) {
        (one, other) if one == other => Addresses::Any,
        _ => Addresses::Public(source.allow_private.clone()),
    };
    get(pool, url, source, addresses).await
}

async fn get(pool: &Pool, url: &str, source: &Source, addresses: Addresses) -> Result<Fetched, String> {
    let (mut origin, target) = split(url)?;
    if let Some(tls) = &source.tls {
        origin = origin.over(tls.clone());
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    let times = Timeouts { connect: FETCH_TIME, first_byte: FETCH_TIME, idle: FETCH_TIME, total: FETCH_TIME };
    let call = Call {
        destination: Destination::Origin(Arc::new(origin)),
        method: Method::GET,
        target,
        headers,
        body: Body::Empty,
        timeouts: times,
        retry: Retry::default(),
        host: HostHeader::Upstream,
        client_host: None,
        answer_limits: BodyLimits { bytes: ANSWER_BYTES_MAX, idle: FETCH_TIME, rate: 0 },
        answer_to_head: false,
        addresses,
        upgrade: None,
        key: None,
    };
    let mut answer = pool.send(call).await.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        let more = if answer.status.is_redirection() { ": redirects are not followed" } else { "" };
        return Err(format!("the answer is {}{more}", answer.status));
    }
    let max_age_s = max_age(&answer.headers);
    answer.body.buffer(ANSWER_BYTES_MAX).await.map_err(|fault| format!("the answer: {fault}"))?;
    let text = answer.body.held().map(|bytes| bytes.to_vec()).unwrap_or_default();
    Ok(Fetched { text, max_age_s })
}

/// Origin and target of a URL.
pub(super) fn split(url: &str) -> Result<(Origin, PathAndQuery), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(format!("{url}: expected a URL such as https://idp.example.com/jwks"));
    };
    let origin = Origin::parse(&format!("{scheme}://{authority}"))?;
    Ok((origin, parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"))))
}

/// RFC 9111 §5.2.2: how long the answer is fresh, where it says so. What must not be stored is not fresh at all.
fn max_age(headers: &HeaderMap) -> Option<u64> {
    let fields = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    let mut directives = fields.flat_map(|field| field.split(',')).map(str::trim);
    directives.find_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => Some(0),
            "max-age" => value.trim_matches('"').parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_read_from_cache_control() {
        let of = |value: &'static str| {
            max_age(&HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static(value))]))
        };
        assert_eq!(of("public, Max-Age=600, must-revalidate"), Some(600));
        assert_eq!(of("no-store"), Some(0));
        assert_eq!((of("max-age=soon"), of("public"), max_age(&HeaderMap::new())), (None, None, None));
    }

    #[test]
    fn urls_come_apart() {
        let (origin, target) = split("https://idp.example.com/a?b=c").unwrap();
        assert_eq!((&**origin.text(), target.as_str()), ("https://idp.example.com", "/a?b=c"));
        assert_eq!(split("http://127.0.0.1:1").unwrap().1.as_str(), "/");
        for wrong in ["/jwks", "idp.example.com/jwks", "https://a@b/jwks", "ftp://a/b", ""] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
