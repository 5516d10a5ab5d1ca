//! The keys of one name at one moment: the one that signs, the next, and those that signed before.

use std::sync::Arc;

use crate::jose::{KeySet, SigningKey, VerifyKey};

/// How long a key that signs no more is still published and taken, in seconds: no token of ours lives longer.
pub const PUBLISHED_S: i64 = 24 * 60 * 60;
/// How long a key is published before it signs, in seconds: whoever keeps the set as long as it may knows it by then.
pub const AHEAD_S: i64 = 60 * 60;
/// How long others may keep the published set, in seconds.
pub const MAX_AGE_S: i64 = 15 * 60;
/// How long a key may be told to sign, in seconds: 2 hours to 10 years.
pub const ROTATE_S: std::ops::RangeInclusive<i64> = 2 * 60 * 60..=3650 * 24 * 60 * 60;
/// Keys that signed before, at most: as many as the shortest time makes in a day, and some for clocks that jump.
pub(super) const FORMER_MAX: usize = 16;
/// Keys that one policy test can go through.
pub(super) const GIVEN_MAX: usize = 64;

/// A private key and since when: it signs, or, of the next, it is published.
#[derive(Clone)]
pub(super) struct Made {
    pub key: Arc<SigningKey>,
    pub since_s: i64,
}

/// What is left of a key that signed before: its public half.
#[derive(Clone)]
pub(super) struct Former {
    pub key: Arc<VerifyKey>,
    /// When it signed last.
    pub ended_s: i64,
}

pub(super) struct Ring {
    pub current: Made,
    pub next: Option<Made>,
    /// The youngest first.
    pub former: Vec<Former>,
    verifying: Arc<KeySet>,
}

impl Ring {
    /// A first key.
    pub fn first(key: SigningKey, now_s: i64) -> Result<Ring, String> {
        Ring::of(Made { key: Arc::new(key), since_s: now_s }, None, Vec::new())
    }

    /// A ring of these keys.
    pub fn of(current: Made, next: Option<Made>, former: Vec<Former>) -> Result<Ring, String> {
        let mut keys = vec![Arc::new(current.key.verify_key()?)];
        if let Some(next) = &next {
            keys.push(Arc::new(next.key.verify_key()?));
        }
        keys.extend(former.iter().map(|former| former.key.clone()));
        let verifying = Arc::new(KeySet::shared(keys));
        Ok(Ring { current, next, former, verifying })
    }

    pub fn signing(&self) -> &Arc<SigningKey> {
        &self.current.key
    }

    pub fn verifying(&self) -> &Arc<KeySet> {
        &self.verifying
    }

    pub fn since_s(&self) -> i64 {
        self.current.since_s
    }

    /// In so many seconds there is something to do, as far as the clock is to be believed.
    pub fn due_in_s(&self, now_s: i64, rotate_s: Option<i64>) -> Option<i64> {
        let ends = self.former.iter().map(|former| former.ended_s.saturating_add(PUBLISHED_S));
        let turn = rotate_s.map(|rotate_s| match &self.next {
            None => self.current.since_s.saturating_add(rotate_s).saturating_sub(AHEAD_S),
            Some(next) => next.since_s.saturating_add(AHEAD_S).max(self.current.since_s.saturating_add(rotate_s)),
        });
        ends.chain(turn).min().map(|at| at.saturating_sub(now_s).max(0))
    }

    pub fn is_due(&self, now_s: i64, rotate_s: Option<i64>) -> bool {
        self.due_in_s(now_s, rotate_s) == Some(0)
    }

    /// The ring as it has to be now, where it is another one. A clock that was set back makes every key younger than
    /// it is: nothing is forgotten or exchanged for it.
    pub fn advanced(
        &self,
        now_s: i64,
        rotate_s: Option<i64>,
        make: impl FnOnce() -> Result<SigningKey, String>,
    ) -> Result<Option<Arc<Ring>>, String> {
        if !self.is_due(now_s, rotate_s) {
            return Ok(None);
        }
        let (mut current, mut next, mut former) = (self.current.clone(), self.next.clone(), self.former.clone());
        former.retain(|former| now_s.saturating_sub(former.ended_s) < PUBLISHED_S);
        if let Some(rotate_s) = rotate_s {
            let age_s = now_s.saturating_sub(current.since_s);
            match next.take() {
                None if age_s >= rotate_s - AHEAD_S => {
                    next = Some(Made { key: Arc::new(make()?), since_s: now_s });
                }
                Some(waiting) if age_s >= rotate_s && now_s.saturating_sub(waiting.since_s) >= AHEAD_S => {
                    former.insert(0, Former { key: Arc::new(current.key.verify_key()?), ended_s: now_s });
                    current = Made { key: waiting.key, since_s: now_s };
                }
                waiting => next = waiting,
            }
        }
        former.truncate(FORMER_MAX);
        Ring::of(current, next, former).map(|ring| Some(Arc::new(ring)))
    }
}
