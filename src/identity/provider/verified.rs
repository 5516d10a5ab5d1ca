//! Tokens that were verified a moment ago, so that their signature need not be verified again.
//!
//! Kept under a keyed hash of the whole token, never beyond its `exp`, and bounded. What it does not do: it does not
//! know whether the key still counts; the provider asks that at each hit.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Verified;
use crate::secret::keyed_u128;
use crate::store::recent::Recent;

/// Tokens remembered per provider, at most; then the least recently used goes.
const TOKENS_MAX: usize = 10_000;
/// How long one is remembered, in seconds.
const KEPT_S: i64 = 300;
/// Longest token that is remembered, in bytes: what the claims of so many take stays bounded.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Parts with a lock of their own.
const SHARDS: usize = 16;

struct Entry {
    verified: Arc<Verified>,
    ends_s: i64,
}

pub(super) struct VerifiedTokens {
    shards: [Mutex<Recent<Entry>>; SHARDS],
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        VerifiedTokens { shards: std::array::from_fn(|_| Mutex::new(Recent::new(TOKENS_MAX / SHARDS))) }
    }
}

impl VerifiedTokens {
    pub fn find(&self, token: &str, now_s: i64) -> Option<Arc<Verified>> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let key = key(token);
        let mut shard = self.shard(key)?;
        let entry = shard.touch(key)?;
        if now_s < entry.ends_s {
            return Some(entry.verified.clone());
        }
        shard.remove(key);
        None
    }

    /// Keeps a token until `end_s`, its `exp`, or less long.
    pub fn keep(&self, token: &str, verified: Arc<Verified>, end_s: i64, now_s: i64) {
        let ends_s = end_s.min(now_s.saturating_add(KEPT_S));
        if token.len() > TOKEN_BYTES_MAX || ends_s <= now_s {
            return;
        }
        let key = key(token);
        if let Some(mut shard) = self.shard(key) {
            shard.insert(key, Entry { verified, ends_s });
        }
    }

    fn shard(&self, key: u128) -> Option<MutexGuard<'_, Recent<Entry>>> {
        // Other bits than those that the map itself goes by.
        let at = (key >> 64) as usize % SHARDS;
        self.shards.get(at).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Under the process's random key, so that nobody can look for two tokens of one hash.
fn key(token: &str) -> u128 {
    keyed_u128("verified-token", &[token.as_bytes()])
}

impl fmt::Debug for VerifiedTokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("VerifiedTokens")
    }
}
