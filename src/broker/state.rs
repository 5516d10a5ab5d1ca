//! How a session stands: the tokens that serve, who renews them, and what the last failure was.
//!
//! A session that renews is renewed once, however many wait for it (single flight); a failure is told to whoever waits,
//! and to whoever comes within a second. It outlives snapshots of the policy: one per file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::Settings;
use super::grant::{Grant, same};
use crate::secret::{Secret, keyed_digest};

/// For so long a failure is told without another attempt, in milliseconds.
pub const FAILURE_MS: u64 = 1000;
/// Pause before nobody but the clock asks again; doubled with each further failure.
const PAUSE_MS: u64 = 1000;
const PAUSE_MAX_MS: u64 = 60_000;
/// Tokens that came so short a while ago, in seconds, are not renewed because an upstream refuses them: whoever can ask
/// for what is refused with any token could have them renewed with each request.
const FRESH_S: i64 = 30;
/// No serial of a grant.
const NONE: u64 = 0;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub unix_s: i64,
    pub mono_ms: u64,
}

/// Tokens that serve.
#[derive(Debug)]
pub struct Live {
    pub grant: Grant,
    /// Greater than that of all tokens before.
    pub serial: u64,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody has connected it yet.
    NoSession(String),
    /// The grant is dead.
    Exhausted(String),
    /// It may go better later.
    Refresh(String),
}

/// What a request hears.
#[derive(Debug)]
pub enum Look {
    Good(Arc<Live>),
    /// A refresh is on its way: its end is awaited, and looked again.
    Wait(watch::Receiver<u64>),
    Failed {
        why: Failure,
        retry_after_s: u64,
    },
    /// What an upstream has refused came just now: it is no better renewed.
    Fresh,
}

/// The state of one session file.
#[derive(Debug)]
pub struct State {
    pub path: PathBuf,
    current: ArcSwapOption<Live>,
    inner: Mutex<Inner>,
    /// Tokens of this serial were refused by an upstream.
    refused: AtomicU64,
    serials: AtomicU64,
    /// A request has asked for the tokens that serve.
    used: AtomicBool,
    /// How many refreshes have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    refreshing: bool,
    wanted: bool,
    failure: Option<Failure>,
    failed_at_ms: u64,
    failures: u32,
    /// What cannot refresh any more.
    dead: Option<[u8; 32]>,
    /// Tokens that could not be written yet: those on the disk are worth nothing any more.
    unwritten: Option<Grant>,
    refreshes: u64,
}

/// How it stands, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `connected`, `refreshing`, `expired`, `failed` or `exhausted`; `none` where nobody has connected it.
    pub word: &'static str,
    pub expires_at_s: Option<i64>,
    pub refreshed_at_s: Option<i64>,
    pub last_error: Option<String>,
    /// Refreshes since the process began, failed ones too.
    pub refreshes: u64,
}

impl State {
    /// With what there is in the file, or why it cannot be read.
    pub fn new(path: PathBuf, first: Result<Option<Grant>, String>) -> State {
        let state = State {
            path,
            current: ArcSwapOption::empty(),
            inner: Mutex::default(),
            refused: AtomicU64::new(NONE),
            serials: AtomicU64::new(NONE),
            used: AtomicBool::new(false),
            ended: watch::Sender::new(0),
        };
        if let Ok(Some(grant)) = first {
            state.take(grant);
        }
        state
    }

    /// The tokens that serve now.
    pub fn current(&self) -> Option<Arc<Live>> {
        self.current.load_full()
    }

    /// The second answer is whether somebody has to be woken.
    pub(super) fn look(&self, now: Moment, before: Duration) -> (Look, bool) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let Some(live) = self.current.load_full().filter(|live| !self.is_refused(live)) else {
            return self.ask(now);
        };
        match live.grant.left_s(now.unix_s) {
            Some(left_s) if left_s <= 0 => self.ask(now),
            Some(left_s) if left_s <= live.grant.margin_s(before) => {
                let asks = self.want_early(now);
                (Look::Good(live), asks)
            }
            _ => (Look::Good(live), false),
        }
    }

    /// An upstream has refused these tokens. Where others serve meanwhile, those are what is wanted.
    pub(super) fn refuse(&self, serial: u64, now: Moment) -> (Look, bool) {
        match self.current.load_full() {
            Some(live) if live.serial > serial => return (Look::Good(live), false),
            // While another one is on its way, the provider may have ended this one already.
            Some(live) if live.grant.is_younger(FRESH_S, now.unix_s) && !self.is_renewing() => {
                return (Look::Fresh, false);
            }
            _ => self.refused.fetch_max(serial, Ordering::AcqRel),
        };
        self.ask(now)
    }

    fn is_renewing(&self) -> bool {
        let inner = self.inner();
        inner.refreshing || inner.wanted
    }

    fn is_refused(&self, live: &Live) -> bool {
        self.refused.load(Ordering::Acquire) >= live.serial
    }

    fn ask(&self, now: Moment) -> (Look, bool) {
        let mut inner = self.inner();
        if inner.refreshing || inner.wanted {
            // Whoever was woken for it may be gone with an older document.
            return (Look::Wait(self.ended.subscribe()), !inner.refreshing);
        }
        if let Some(look) = inner.failed(now) {
            return (look, false);
        }
        inner.wanted = true;
        (Look::Wait(self.ended.subscribe()), true)
    }

    /// Tokens that end soon are renewed, unless that has failed a while ago.
    fn want_early(&self, now: Moment) -> bool {
        let mut inner = self.inner();
        if inner.refreshing || inner.wanted || now.mono_ms < inner.next_try_ms() {
            return false;
        }
        inner.wanted = true;
        true
    }

    /// What a request is told whose wait has not brought a token.
    pub fn failed(&self, now: Moment) -> Look {
        let why = Failure::Refresh("the refresh took too long".to_owned());
        self.inner().failed(now).unwrap_or(Look::Failed { why, retry_after_s: 1 })
    }

    /// For whoever renews: milliseconds until the next refresh is due.
    pub fn due_in_ms(&self, settings: &Settings, now: Moment) -> u64 {
        let inner = self.inner();
        if inner.wanted && !inner.refreshing {
            return 0;
        }
        let until_ms = |at_s: i64| u64::try_from(at_s.saturating_sub(now.unix_s)).unwrap_or(0).saturating_mul(1000);
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let far = u64::from(u32::MAX);
        let Some(live) = self.current.load_full().filter(|_| !inner.refreshing) else { return far };
        let is_used = self.used.load(Ordering::Relaxed);
        let ends = live.grant.expires_at_s.filter(|_| is_used);
        let early_ms = ends.map(|at_s| until_ms(at_s.saturating_sub(live.grant.margin_s(settings.before))));
        let renews = live.grant.refresh_token.is_some();
        let kept = live.grant.refreshed_at_s.filter(|_| renews);
        let kept_ms = kept.map(|at_s| until_ms(at_s.saturating_add(seconds(settings.keep_alive))));
        let Some(due_ms) = early_ms.into_iter().chain(kept_ms).min() else { return far };
        due_ms.max(inner.next_try_ms().saturating_sub(now.mono_ms)).min(far)
    }

    /// For whoever renews: a refresh begins, unless there is one already.
    pub fn begin(&self) -> bool {
        let mut inner = self.inner();
        inner.wanted = false;
        !std::mem::replace(&mut inner.refreshing, true)
    }

    /// For whoever renews: what is on the disk serves, if it is something else than what does. Whether that is enough.
    pub fn adopt(&self, on_disk: &Grant, now: Moment) -> bool {
        let current = self.current.load_full();
        if current.as_ref().is_none_or(|live| !live.grant.is_same(on_disk)) {
            self.take(on_disk.clone());
            let taken = self.current.load_full().filter(|live| !self.is_refused(live));
            return taken.is_some() && on_disk.left_s(now.unix_s).is_none_or(|left_s| left_s > 0);
        }
        false
    }

    /// For whoever renews: tokens that have to be on the disk before they serve.
    pub fn unwritten(&self) -> Option<Grant> {
        self.inner().unwritten.clone()
    }

    /// For whoever renews: these tokens have to get to the disk; those there are worth nothing.
    pub fn hold(&self, grant: &Grant) {
        self.inner().unwritten = Some(grant.clone());
    }

    /// For whoever renews: they are there, and serve.
    pub fn written(&self, grant: Grant) {
        self.inner().unwritten = None;
        self.take(grant);
        self.used.store(false, Ordering::Relaxed);
    }

    /// For whoever renews: whether it is known that these tokens refresh no more.
    pub fn is_dead(&self, refresh_token: Option<&Secret>) -> bool {
        let inner = self.inner();
        inner.dead.is_some() && inner.dead == refresh_token.map(digest)
    }

    /// For whoever renews: these tokens refresh no more.
    pub fn bury(&self, refresh_token: Option<&Secret>) {
        self.inner().dead = refresh_token.map(digest);
    }

    /// For whoever renews: the refresh has ended.
    pub fn end(&self, outcome: Result<(), Failure>, now: Moment) {
        let mut inner = self.inner();
        inner.refreshing = false;
        inner.refreshes += 1;
        match outcome {
            Ok(()) => (inner.failure, inner.failures) = (None, 0),
            Err(why) => {
                if matches!(why, Failure::NoSession(_)) {
                    self.current.store(None);
                }
                inner.failure = Some(why);
                inner.failed_at_ms = now.mono_ms;
                inner.failures = inner.failures.saturating_add(1);
            }
        }
        drop(inner);
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// How it stands.
    pub fn standing(&self, now_unix_s: i64) -> Standing {
        let live = self.current.load_full();
        let inner = self.inner();
        let word = match (&inner.failure, &live) {
            _ if inner.refreshing => "refreshing",
            (Some(Failure::Exhausted(_)), _) => "exhausted",
            (Some(Failure::Refresh(_)), _) => "failed",
            (_, None) => "none",
            (_, Some(live)) if live.grant.left_s(now_unix_s).is_some_and(|left_s| left_s <= 0) => "expired",
            _ => "connected",
        };
        let last_error = inner.failure.as_ref().map(|why| match why {
            Failure::NoSession(why) | Failure::Exhausted(why) | Failure::Refresh(why) => why.clone(),
        });
        Standing {
            word,
            expires_at_s: live.as_ref().and_then(|live| live.grant.expires_at_s),
            refreshed_at_s: live.as_ref().and_then(|live| live.grant.refreshed_at_s),
            last_error,
            refreshes: inner.refreshes,
        }
    }

    fn take(&self, grant: Grant) {
        let serial = self.serials.fetch_add(1, Ordering::AcqRel) + 1;
        // The same token under another serial is still the one that was refused.
        if let Some(before) = self.current.load_full().filter(|live| self.is_refused(live))
            && same(before.grant.access_token.as_ref(), grant.access_token.as_ref())
        {
            self.refused.fetch_max(serial, Ordering::AcqRel);
        }
        self.current.store(Some(Arc::new(Live { grant, serial })));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The failure, while it is told without another attempt.
    fn failed(&self, now: Moment) -> Option<Look> {
        let why = self.failure.clone()?;
        let again_ms = self.failed_at_ms.saturating_add(FAILURE_MS);
        let retry_after_s = again_ms.saturating_sub(now.mono_ms).div_ceil(1000).max(1);
        (now.mono_ms < again_ms).then_some(Look::Failed { why, retry_after_s })
    }

    /// When the clock alone may ask again, in monotonic milliseconds.
    fn next_try_ms(&self) -> u64 {
        match self.failures {
            0 => 0,
            failures => {
                let pause_ms = (PAUSE_MS << (failures - 1).min(6)).min(PAUSE_MAX_MS);
                self.failed_at_ms.saturating_add(pause_ms)
            }
        }
    }
}

fn digest(token: &Secret) -> [u8; 32] {
    keyed_digest("dead-grant", &[token.expose()])
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
