//! Replay memory: which one-time values have been used already.
//!
//! Put-if-absent with an expiry, for signatures and nonces that may pass once (RFC 9110 section 9.2.2 does not save a
//! replayed POST; only memory does). What it does not do: it does not judge whether a value is fresh enough; the caller
//! has done so and names the moment after which the value would be refused anyway.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;

use super::SHARDS;
use super::Sharded;
use super::recent::HashedKeys;

/// Most live values over all parts. Each part holds an equal share of it, so with keyed hashes the bound of one part is
/// met within a few percent of this number.
pub const SEEN_KEYS_MAX: usize = 1_000_000;

/// There is no room for a further live value. The caller must refuse the request (broken, `store.unavailable`): to let
/// it pass unremembered would let its replay pass as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The replay memory of one process.
#[derive(Debug)]
pub struct Seen {
    shards: Sharded<Shard>,
    shard_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    expiry_of: HashMap<[u8; 32], u64, HashedKeys>,
    by_expiry: BinaryHeap<Reverse<(u64, [u8; 32])>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self::with_capacity(SEEN_KEYS_MAX)
    }
}

impl Seen {
    /// A memory for at most about `keys_max` live values, rounded up to a multiple of [`SHARDS`].
    pub fn with_capacity(keys_max: usize) -> Self {
        Self { shards: Sharded::new(Shard::default), shard_max: keys_max.div_ceil(SHARDS).max(1) }
    }

    /// Remembers `key` (a keyed hash of the value and its scope) until `expires_at_ms` and says whether this was the
    /// first time. Of any number of concurrent calls with one key exactly one is told true.
    ///
    /// A value that has expired by `now_ms` is never new: false, and nothing is kept. Both times are milliseconds of the
    /// same clock; give the wall clock where the expiry comes from a stamp on the wire.
    ///
    /// # Errors
    /// [`Full`] when only live values are held.
    pub fn first_time(&self, key: [u8; 32], expires_at_ms: u64, now_ms: u64) -> Result<bool, Full> {
        if expires_at_ms <= now_ms {
            return Ok(false);
        }
        let mut shard = self.shards.lock(shard_key(&key));
        shard.forget_expired(now_ms);
        if shard.expiry_of.contains_key(&key) {
            return Ok(false);
        }
        if shard.expiry_of.len() >= self.shard_max {
            return Err(Full);
        }
        shard.expiry_of.insert(key, expires_at_ms);
        shard.by_expiry.push(Reverse((expires_at_ms, key)));
        Ok(true)
    }

    /// Number of values held, expired ones included that no call has met since.
    pub fn len(&self) -> usize {
        self.shards.each().map(|shard| shard.expiry_of.len()).sum()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops every expired value; to be called now and then so that a burst does not stay in memory.
    pub fn drop_expired(&self, now_ms: u64) {
        for mut shard in self.shards.each() {
            shard.forget_expired(now_ms);
            let live = shard.expiry_of.len();
            if live < shard.expiry_of.capacity() / 4 {
                shard.expiry_of.shrink_to(live * 2);
                shard.by_expiry.shrink_to(live * 2);
            }
        }
    }
}

impl Shard {
    fn forget_expired(&mut self, now_ms: u64) {
        while let Some(Reverse((expires_at_ms, key))) = self.by_expiry.peek() {
            if *expires_at_ms > now_ms {
                return;
            }
            self.expiry_of.remove(key);
            self.by_expiry.pop();
        }
    }
}

/// The last bytes choose the part, since the table inside uses the first ones.
fn shard_key(key: &[u8; 32]) -> u128 {
    key.last_chunk::<16>().map_or(0, |tail| u128::from_be_bytes(*tail))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::secret::keyed_digest;

    fn key(n: u64) -> [u8; 32] {
        keyed_digest("test", &[&n.to_be_bytes()])
    }

    #[test]
    fn a_value_passes_once_until_it_expires() {
        let seen = Seen::default();
        assert_eq!(seen.first_time(key(1), 100, 0), Ok(true));
        assert_eq!(seen.first_time(key(1), 100, 0), Ok(false));
        assert_eq!(seen.first_time(key(1), 900, 99), Ok(false));
        assert_eq!(seen.first_time(key(2), 100, 99), Ok(true));
        assert_eq!(seen.first_time(key(1), 200, 100), Ok(true));
    }

    #[test]
    fn what_has_expired_already_is_never_new() {
        let seen = Seen::default();
        assert_eq!(seen.first_time(key(1), 100, 100), Ok(false));
        assert!(seen.is_empty());
    }

    #[test]
    fn a_full_memory_refuses_and_keeps_what_it_knows() {
        let seen = Seen::with_capacity(1);
        let mut full = 0;
        for n in 0..1000 {
            full += usize::from(seen.first_time(key(n), 100, 0) == Err(Full));
        }
        assert!(full >= 1000 - SHARDS);
        assert!(seen.len() <= SHARDS);
        assert_eq!(seen.first_time(key(0), 100, 0), Ok(false));
        seen.drop_expired(100);
        assert!(seen.is_empty());
        assert_eq!(seen.first_time(key(0), 200, 100), Ok(true));
    }

    #[test]
    fn one_of_many_threads_is_first() {
        let seen = Seen::default();
        let firsts = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..500 {
                        if seen.first_time(key(n), 100, 0) == Ok(true) {
                            firsts.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(firsts.load(Ordering::Relaxed), 500);
    }
}
