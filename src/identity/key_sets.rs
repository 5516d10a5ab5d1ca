//! Keys that are fetched from a URL: what of them is current, when the next fetch is due, and who waits for it.
//!
//! OpenID Connect Discovery §4, RFC 7517 §5, RFC 9111 for how long an answer is fresh. A set serves on while its URL
//! fails (RFC 5861 §4), for a day at most. What it does not do: no network. Somebody above fetches when told to and
//! hands the outcome in.

mod kept;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc, watch};

use crate::jose::KeySet;
use crate::tls::Calling;

/// How long an answer is fresh that does not say, in seconds.
const FRESH_S: u64 = 15 * 60;
/// The least and the most that an answer can say.
const FRESH_BOUNDS_S: std::ops::RangeInclusive<u64> = 60..=24 * 60 * 60;
/// The share of its time after which a set is renewed, in percent.
const RENEW_PERCENT: u64 = 80;
/// How long a set serves on while its URL fails, in seconds.
pub const STALE_S: i64 = 24 * 60 * 60;
/// For so long after a refetch that a request has asked for, requests cannot ask for another, in milliseconds.
pub const COOLDOWN_MS: u64 = 10_000;
/// Pause after a first failure; doubled with each further one.
const PAUSE_MS: u64 = 1000;
const PAUSE_MAX_MS: u64 = 60_000;

/// Where keys are fetched from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Of the keys, or with `discovery` of the provider's description.
    pub url: String,
    /// The description must name this issuer (OpenID Connect Discovery §4.3).
    pub discovery: Option<Arc<str>>,
    pub tls: Option<Arc<Calling>>,
    /// Networks beside the public ones that a URL out of a description may lead to.
    pub allow_private: Arc<[IpNet]>,
}

impl Source {
    /// Equal for equal sources.
    fn identity(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let networks: Vec<String> = self.allow_private.iter().map(ToString::to_string).collect();
        let parts = [self.url.as_str(), self.discovery.as_deref().unwrap_or_default(), &networks.join(",")];
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        if let Some(tls) = &self.tls {
            hasher.update(tls.identity());
        }
        hasher.finalize().into()
    }
}

/// Whether keys may be fetched from a URL: over TLS, or in clear from this machine itself. Keys that somebody on the way
/// can exchange prove nothing.
///
/// # Errors
/// What was expected.
pub fn check_url(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|_| format!("`{url}` is no URL"))?;
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_near = host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if is_near => Ok(()),
        Some("http") => Err(format!("`{url}` is not https: keys in clear prove nothing")),
        _ => Err(format!("`{url}` is no URL such as https://idp.example.com/jwks")),
    }
}

/// What a fetch came to.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The text of the set.
    pub text: Vec<u8>,
    /// `max-age` of its `Cache-Control`, where it has one.
    pub max_age_s: Option<u64>,
}

/// What a request hears that needs other keys than there are.
#[derive(Debug)]
pub enum Ask {
    /// A fetch is on its way: its end is awaited, and keys are looked for again.
    Wait(watch::Receiver<u64>),
    /// There was a refetch a moment ago: nothing new is to be had.
    Cooling,
    /// The URL fails; in so many seconds it may do no longer.
    Failing { retry_after_s: u64 },
    /// Others are there since the keys were looked at.
    Done,
}

/// Keys of one URL, shared by all who name it.
pub struct RemoteKeys {
    pub source: Source,
    id: [u8; 32],
    folder: Option<PathBuf>,
    current: ArcSwapOption<KeySet>,
    inner: Mutex<Inner>,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    /// Wakes whoever fetches.
    wake: Arc<Notify>,
    fetches: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    fetching: bool,
    /// A request has asked for a fetch.
    wanted: bool,
    cooldown_ends_ms: u64,
    failures: u32,
    last_error: Option<String>,
    /// When the current set came, Unix seconds.
    fetched_at_s: Option<i64>,
    /// It was kept from before the process began.
    from_disk: bool,
    due_ms: u64,
    /// In a policy test: what the next fetch gives.
    given: Option<Result<Arc<KeySet>, String>>,
}

/// How a set stands, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub url: String,
    pub keys: usize,
    pub fetched_at_s: Option<i64>,
    /// The last fetch failed, or there was none since the process began.
    pub stale: bool,
    pub last_error: Option<String>,
    pub fetches: u64,
}

impl RemoteKeys {
    fn new(source: Source, folder: Option<PathBuf>) -> RemoteKeys {
        let id = source.identity();
        RemoteKeys {
            source,
            id,
            folder,
            current: ArcSwapOption::empty(),
            inner: Mutex::default(),
            ended: watch::Sender::new(0),
            wake: Arc::default(),
            fetches: AtomicU64::new(0),
        }
    }

    /// For a policy test: keys that are there from the beginning, and what a fetch gives.
    pub fn given(first: Option<Arc<KeySet>>, next: Result<Arc<KeySet>, String>) -> RemoteKeys {
        let source = Source { url: String::new(), discovery: None, tls: None, allow_private: Arc::from([]) };
        let keys = RemoteKeys::new(source, None);
        keys.current.store(first);
        keys.inner().given = Some(next);
        keys
    }

    /// The keys that serve now.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Whether this very key is among those that serve now.
    pub fn has(&self, identity: &[u8; 32]) -> bool {
        self.current.load().as_ref().is_some_and(|current| current.has(identity))
    }

    /// How many fetches have ended: to be noted before the keys are looked at, for [`RemoteKeys::ask`].
    pub fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    /// Asks for other keys than there were when so many fetches had ended: one fetch for all who ask, and then none for a
    /// while. One that has ended meanwhile is what was asked for: another would only cost the pause.
    pub fn ask(&self, ended: u64, now_ms: u64) -> Ask {
        let mut inner = self.inner();
        if self.ended() != ended {
            return Ask::Done;
        }
        // The first fetch comes by itself: whoever waits for it has not asked for another.
        let is_coming = self.fetches.load(Ordering::Relaxed) == 0 && inner.given.is_none();
        if inner.fetching || inner.wanted || is_coming {
            return Ask::Wait(self.ended.subscribe());
        }
        if now_ms < inner.cooldown_ends_ms {
            let retry_after_s = inner.cooldown_ends_ms.saturating_sub(now_ms).div_ceil(1000).max(1);
            return if inner.failures > 0 { Ask::Failing { retry_after_s } } else { Ask::Cooling };
        }
        // Taken before the fetch: a slow one is not asked for again meanwhile.
        inner.cooldown_ends_ms = now_ms.saturating_add(COOLDOWN_MS);
        if let Some(given) = inner.given.clone() {
            match given {
                Ok(keys) => self.current.store(Some(keys)),
                Err(_) => inner.failures = inner.failures.saturating_add(1),
            }
            return Ask::Done;
        }
        inner.wanted = true;
        let waiting = self.ended.subscribe();
        drop(inner);
        self.wake.notify_one();
        Ask::Wait(waiting)
    }

    /// Whether the last fetch failed; seconds after which a request may try again.
    pub fn failing(&self, now_ms: u64) -> Option<u64> {
        let inner = self.inner();
        let ends_ms = inner.cooldown_ends_ms.max(inner.due_ms);
        (inner.failures > 0).then(|| ends_ms.saturating_sub(now_ms).div_ceil(1000).max(1))
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let inner = self.inner();
        Standing {
            url: self.source.url.clone(),
            keys: self.current().map_or(0, |keys| keys.keys().len()),
            fetched_at_s: inner.fetched_at_s,
            stale: inner.failures > 0 || inner.from_disk,
            last_error: inner.last_error.clone(),
            fetches: self.fetches.load(Ordering::Relaxed),
        }
    }

    /// For whoever fetches: what wakes it beside the time.
    pub fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// For whoever fetches: how long to wait until the next fetch is due, in milliseconds.
    pub fn due_in_ms(&self, now_ms: u64) -> u64 {
        let inner = self.inner();
        if inner.wanted { 0 } else { inner.due_ms.saturating_sub(now_ms) }
    }

    /// For whoever fetches: a fetch begins.
    pub fn begin(&self) {
        let mut inner = self.inner();
        inner.fetching = true;
        inner.wanted = false;
        self.fetches.fetch_add(1, Ordering::Relaxed);
    }

    /// For whoever fetches: the fetch has ended. An answer that is no set is a failure: keys that were good are not given
    /// up for it. A set without a key that can be used is one as well, and takes away what was there before: whoever
    /// has lost a key withdraws it so. Returns what the operator should hear.
    pub fn end(&self, outcome: Result<Fetched, String>, now_ms: u64, now_unix_s: i64) -> Result<Vec<String>, String> {
        let mut is_withdrawn = false;
        let read = outcome.and_then(|fetched| match KeySet::parse(&fetched.text, false) {
            Ok(keys) if keys.keys().is_empty() => {
                is_withdrawn = true;
                Err(match keys.ignored().first() {
                    Some(first) => format!("the set has no key that can be used: {first}"),
                    None => "the set has no key".to_owned(),
                })
            }
            Ok(keys) => Ok((keys, fetched)),
            Err(why) => Err(format!("the answer is no JWK Set: {why}")),
        });
        let mut inner = self.inner();
        inner.fetching = false;
        let taken = match read {
            Ok((keys, fetched)) => {
                let fresh_s = fetched.max_age_s.unwrap_or(FRESH_S);
                let fresh_s = fresh_s.clamp(*FRESH_BOUNDS_S.start(), *FRESH_BOUNDS_S.end());
                inner.due_ms = now_ms.saturating_add(fresh_s * 1000 * RENEW_PERCENT / 100);
                (inner.failures, inner.last_error, inner.from_disk) = (0, None, false);
                inner.fetched_at_s = Some(now_unix_s);
                let ignored = keys.ignored().to_vec();
                self.current.store(Some(Arc::new(keys)));
                Ok((ignored, fetched.text))
            }
            Err(why) => {
                inner.failures = inner.failures.saturating_add(1);
                let doubled = PAUSE_MS << (inner.failures - 1).min(6);
                inner.due_ms = now_ms.saturating_add(doubled.min(PAUSE_MAX_MS));
                inner.last_error = Some(why.clone());
                if is_withdrawn || inner.fetched_at_s.is_some_and(|at| now_unix_s.saturating_sub(at) >= STALE_S) {
                    self.current.store(None);
                }
                Err(why)
            }
        };
        // Before anybody can ask whether there was one.
        self.ended.send_modify(|ended| *ended += 1);
        drop(inner);
        // Requests that wait for the keys, or ask how they stand, do not wait for the disk.
        let taken = match is_withdrawn.then(|| self.forget()) {
            Some(Err(error)) => taken.map_err(|why| {
                format!(
                    "{why}; and the keys that were kept cannot be removed, so that a restart would take them: {error}"
                )
            }),
            _ => taken,
        };
        taken.map(|(mut ignored, text)| {
            if let Err(why) = self.keep(&text, now_unix_s) {
                ignored.push(format!("the keys cannot be kept for the next start: {why}"));
            }
            ignored
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever fetches learns that nobody needs the keys any more.
impl Drop for RemoteKeys {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl std::fmt::Debug for RemoteKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RemoteKeys").field("url", &self.source.url).finish_non_exhaustive()
    }
}

/// All URLs of a process. Sets of files that are loaded side by side share them.
#[derive(Debug, Default)]
pub struct KeySets {
    /// Where sets are kept for the next start.
    folder: OnceLock<PathBuf>,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    known: HashMap<[u8; 32], Weak<RemoteKeys>>,
    /// Whoever fetches; without it nothing is.
    fetcher: Option<mpsc::UnboundedSender<Weak<RemoteKeys>>>,
}

impl KeySets {
    /// Keeps sets below this folder from now on.
    pub fn keep_in(&self, folder: PathBuf) {
        // Who says it a second time says the same.
        let _ = self.folder.set(folder);
    }

    /// The keys of a source, with those that were kept of it. Never waits: they are fetched in the background.
    pub fn of(&self, source: &Source, now_unix_s: i64) -> Arc<RemoteKeys> {
        let mut all = self.all();
        all.known.retain(|_, keys| keys.strong_count() > 0);
        let id = source.identity();
        if let Some(known) = all.known.get(&id).and_then(Weak::upgrade) {
            return known;
        }
        let keys = RemoteKeys::new(source.clone(), self.folder.get().cloned());
        keys.take_kept(now_unix_s);
        let keys = Arc::new(keys);
        all.known.insert(id, Arc::downgrade(&keys));
        if let Some(fetcher) = &all.fetcher {
            // It ends with the process, and then nobody needs keys.
            let _ = fetcher.send(Arc::downgrade(&keys));
        }
        keys
    }

    /// From now on sets are handed to this one, those that there are already too.
    pub fn fetch_with(&self, fetcher: mpsc::UnboundedSender<Weak<RemoteKeys>>) {
        let mut all = self.all();
        for keys in all.known.values() {
            let _ = fetcher.send(keys.clone());
        }
        all.fetcher = Some(fetcher);
    }

    /// How all sets stand that somebody needs, in order of their URLs.
    pub fn standings(&self) -> Vec<Standing> {
        let all: Vec<_> = self.all().known.values().filter_map(Weak::upgrade).collect();
        let mut standings: Vec<Standing> = all.iter().map(|keys| keys.standing()).collect();
        standings.sort_by(|one, other| one.url.cmp(&other.url));
        standings
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "key_sets/tests.rs"]
mod tests;
