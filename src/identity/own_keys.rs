//! Keys of our own that sign: made when they are first needed, kept for the next start, exchanged by age.
//!
//! RFC 7517 §5 for what others see of them, RFC 7638 for their names. A key is published for an hour before it signs and
//! for a day after it has signed last, so that whoever holds an older set, or an older token, is never turned away. All
//! workers and all loads of a process share one key. What it does not do: nothing here watches the time. Somebody above
//! calls [`OwnKey::advance`]; in a policy test the time itself says which key signs.

mod kept;
mod ring;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwapOption;

use self::kept::Place;
use self::ring::Ring;
pub use self::ring::{AHEAD_S, MAX_AGE_S, PUBLISHED_S, ROTATE_S};
use crate::clock::Clock;
use crate::jose::{Algorithm, KeySet, SigningKey};

/// A key that was made here, under the name of its document.
pub struct OwnKey {
    name: Arc<str>,
    algorithm: Algorithm,
    keeping: Keeping,
    ring: ArcSwapOption<Ring>,
    state: Mutex<State>,
}

enum Keeping {
    /// In a file, for the next start.
    File(Place),
    /// Nowhere: whoever only looks at the files leaves nothing behind.
    Memory,
    /// In a policy test: all keys so far in their order, the first of which the test knows.
    Given(Mutex<Vec<Arc<SigningKey>>>),
}

#[derive(Debug, Default)]
struct State {
    last_error: Option<String>,
}

/// How a key stands, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub name: Arc<str>,
    pub algorithm: Algorithm,
    /// Name in tokens of the key that signs.
    pub kid: String,
    /// Since when it signs, Unix seconds.
    pub since_s: i64,
    /// Keys that are published, that one among them.
    pub published: usize,
    /// Why it could not be exchanged.
    pub last_error: Option<String>,
}

impl OwnKey {
    fn new(name: &str, algorithm: Algorithm, keeping: Keeping) -> OwnKey {
        OwnKey { name: name.into(), algorithm, keeping, ring: ArcSwapOption::empty(), state: Mutex::default() }
    }

    /// For a policy test: `first` signs from the beginning of each case, and after each `rotate_s` another.
    pub fn given(name: &str, algorithm: Algorithm, first: Arc<SigningKey>) -> OwnKey {
        OwnKey::new(name, algorithm, Keeping::Given(Mutex::new(vec![first])))
    }

    /// Name of its document.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key that signs now. `None` where the system gives no key.
    pub fn signing(&self, clock: &Clock, rotate_s: Option<i64>) -> Option<Arc<SigningKey>> {
        match &self.keeping {
            Keeping::Given(all) => self.given_at(all, generation(clock, rotate_s)),
            _ => self.ring(clock).map(|ring| ring.signing().clone()),
        }
    }

    /// All keys whose tokens count: the one that signs, those that did within the last day, and the next. In a test all
    /// that there have been.
    pub fn verifying(&self) -> Option<Arc<KeySet>> {
        match &self.keeping {
            Keeping::Given(all) => Some(Arc::new(public_halves(&unlocked(all)))),
            _ => self.ring(&Clock::system()).map(|ring| ring.verifying().clone()),
        }
    }

    /// Whether this very key is among those.
    pub fn has(&self, identity: &[u8; 32]) -> bool {
        match &self.keeping {
            Keeping::Given(_) => self.verifying().is_some_and(|keys| keys.has(identity)),
            _ => self.ring.load().as_ref().is_some_and(|ring| ring.verifying().has(identity)),
        }
    }

    /// The public halves that others should know now.
    pub fn published(&self, clock: &Clock, rotate_s: Option<i64>) -> Option<Arc<KeySet>> {
        let (Keeping::Given(all), Some(rotate_s)) = (&self.keeping, rotate_s) else { return self.verifying() };
        let now_s = elapsed_s(clock);
        let last = now_s.saturating_add(AHEAD_S) / rotate_s;
        let first = now_s.saturating_sub(PUBLISHED_S) / rotate_s;
        self.given_at(all, usize::try_from(last).ok()?)?;
        let all = unlocked(all);
        let known = all.get(usize::try_from(first.max(0)).ok()?..=usize::try_from(last).ok()?)?;
        Some(Arc::new(public_halves(known)))
    }

    /// Makes the next key, lets it sign, or forgets one that nobody needs any more, where it is time. Reads and writes
    /// its file, and so waits for the disk. Whether another key signs now.
    ///
    /// # Errors
    /// Why nothing was done, with the file and what to do; the key serves on as it is.
    pub fn advance(&self, now_s: i64, rotate_s: Option<i64>) -> Result<bool, String> {
        let (Keeping::File(place), Some(serving)) = (&self.keeping, self.ring.load_full()) else { return Ok(false) };
        let mut state = unlocked(&self.state);
        let outcome = match serving.is_due(now_s, rotate_s) {
            false => Ok(None),
            // Another process may have done it already: then its keys are taken.
            true => place.change(self, |kept| {
                let base = kept.unwrap_or_else(|| serving.clone());
                base.advanced(now_s, rotate_s, || SigningKey::generate(self.algorithm)).map(|next| next.or(Some(base)))
            }),
        };
        state.last_error = outcome.as_ref().err().cloned();
        let Some(ring) = outcome? else { return Ok(false) };
        let is_other = ring.signing().kid() != serving.signing().kid();
        self.ring.store(Some(ring));
        Ok(is_other)
    }

    /// In so many seconds there may be something to do; `None` where there never is.
    pub fn due_in_s(&self, now_s: i64, rotate_s: Option<i64>) -> Option<i64> {
        self.ring.load().as_ref()?.due_in_s(now_s, rotate_s)
    }

    /// How it stands; `None` where it was never needed.
    pub fn standing(&self) -> Option<Standing> {
        let ring = self.ring.load_full()?;
        Some(Standing {
            name: self.name.clone(),
            algorithm: self.algorithm,
            kid: ring.signing().kid().to_owned(),
            since_s: ring.since_s(),
            published: ring.verifying().keys().len(),
            last_error: unlocked(&self.state).last_error.clone(),
        })
    }

    /// The keys as they are; in memory they are made when somebody first asks.
    fn ring(&self, clock: &Clock) -> Option<Arc<Ring>> {
        if let Some(ring) = self.ring.load_full() {
            return Some(ring);
        }
        let _one_at_a_time = unlocked(&self.state);
        if let Some(ring) = self.ring.load_full() {
            return Some(ring);
        }
        let key = SigningKey::generate(self.algorithm).ok()?;
        let ring = Arc::new(Ring::first(key, clock.wall().as_second()).ok()?);
        self.ring.store(Some(ring.clone()));
        Some(ring)
    }

    /// Takes what is kept, or makes a key and keeps it.
    fn open(&self, place: &Place, now_s: i64) -> Result<(), String> {
        let ring = place.change(self, |kept| match kept {
            Some(ring) => Ok(Some(ring)),
            None => Ring::first(SigningKey::generate(self.algorithm)?, now_s).map(|ring| Some(Arc::new(ring))),
        })?;
        self.ring.store(ring);
        Ok(())
    }

    fn given_at(&self, all: &Mutex<Vec<Arc<SigningKey>>>, generation: usize) -> Option<Arc<SigningKey>> {
        let mut all = unlocked(all);
        while all.len() <= generation.min(ring::GIVEN_MAX) {
            all.push(Arc::new(SigningKey::generate(self.algorithm).ok()?));
        }
        all.get(generation.min(ring::GIVEN_MAX)).cloned()
    }
}

/// No key is ever shown.
impl std::fmt::Debug for OwnKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("OwnKey").field("name", &self.name).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Seconds since a test has begun.
fn elapsed_s(clock: &Clock) -> i64 {
    i64::try_from(clock.mono_ms() / 1000).unwrap_or(i64::MAX)
}

fn generation(clock: &Clock, rotate_s: Option<i64>) -> usize {
    rotate_s.map_or(0, |rotate_s| usize::try_from(elapsed_s(clock) / rotate_s.max(1)).unwrap_or(usize::MAX))
}

fn public_halves(keys: &[Arc<SigningKey>]) -> KeySet {
    KeySet::of(keys.iter().filter_map(|key| key.verify_key().ok()))
}

fn unlocked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key with the age at which another takes its place.
#[derive(Debug)]
pub struct Rotating {
    pub key: Arc<OwnKey>,
    /// Seconds that a key signs; for ever without it.
    pub rotate_s: Option<i64>,
}

/// All keys of our own of a process. Sets of files that are loaded side by side share them.
#[derive(Debug, Default)]
pub struct OwnKeys {
    /// Where they are kept; without it they live in memory.
    folder: OnceLock<PathBuf>,
    known: Mutex<HashMap<(String, &'static str), Weak<OwnKey>>>,
}

impl OwnKeys {
    /// Keeps keys below this folder from now on.
    pub fn keep_in(&self, folder: PathBuf) {
        // Who says it a second time says the same.
        let _ = self.folder.set(folder);
    }

    /// The key of a name and an algorithm: the one that is kept, or a new one.
    ///
    /// # Errors
    /// What is kept cannot be used, or nothing can be kept: with the file, and what to do.
    pub fn of(&self, name: &str, algorithm: Algorithm, now_s: i64) -> Result<Arc<OwnKey>, String> {
        let mut known = unlocked(&self.known);
        known.retain(|_, key| key.strong_count() > 0);
        let id = (name.to_owned(), algorithm.word());
        if let Some(key) = known.get(&id).and_then(Weak::upgrade) {
            return Ok(key);
        }
        let key = match self.folder.get() {
            None => OwnKey::new(name, algorithm, Keeping::Memory),
            Some(folder) => {
                let place = Place::of(folder, name, algorithm);
                let key = OwnKey::new(name, algorithm, Keeping::File(place.clone()));
                key.open(&place, now_s)?;
                key
            }
        };
        let key = Arc::new(key);
        known.insert(id, Arc::downgrade(&key));
        Ok(key)
    }
}

#[cfg(test)]
#[path = "own_keys/tests.rs"]
mod tests;
