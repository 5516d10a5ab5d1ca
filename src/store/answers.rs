//! Answers of called services that are kept for a while, for steps that say so.
//!
//! Keyed by a hash over all of the request and the step that makes it, so that nobody is given what another one has
//! asked for. Bounded in number and size; the least recently used goes first. What it does not do: it reads no
//! `Cache-Control` (RFC 9111): how long an answer is good is the policy's to say.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::recent::Recent;
use super::{SHARDS, Sharded};

/// Answers that are kept, over all parts.
const ANSWERS_MAX: usize = 1024;
/// Largest body that is kept, in bytes: all of them together stay below 64 MiB.
pub const KEPT_BYTES_MAX: usize = 64 * 1024;

/// An answer.
#[derive(Clone, Debug)]
pub struct Kept {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The answers of one process.
#[derive(Debug)]
pub struct Answers {
    shards: Sharded<Recent<(u64, Kept)>>,
}

impl Default for Answers {
    fn default() -> Self {
        Answers { shards: Sharded::new(|| Recent::new(ANSWERS_MAX / SHARDS)) }
    }
}

impl Answers {
    /// The answer under a key, unless it is too old at this monotonic time.
    pub fn find(&self, key: u128, now_ms: u64) -> Option<Kept> {
        let mut shard = self.shards.lock(key);
        let (until_ms, kept) = shard.touch(key)?;
        if *until_ms > now_ms {
            return Some(kept.clone());
        }
        shard.remove(key);
        None
    }

    /// Keeps an answer until a monotonic time; one that is too large is not kept.
    pub fn keep(&self, key: u128, until_ms: u64, kept: Kept) {
        if kept.body.len() <= KEPT_BYTES_MAX {
            self.shards.lock(key).insert(key, (until_ms, kept));
        }
    }

    /// Gives back the memory of answers that are too old.
    pub fn drop_old(&self, now_ms: u64) {
        for mut shard in self.shards.each() {
            shard.retain(|(until_ms, _)| *until_ms > now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: usize) -> Kept {
        Kept { status: StatusCode::OK, headers: HeaderMap::new(), body: vec![b'x'; bytes].into() }
    }

    #[test]
    fn an_answer_is_given_until_its_time_is_over() {
        let answers = Answers::default();
        answers.keep(7, 100, kept(3));
        assert_eq!(answers.find(7, 99).map(|kept| kept.body.len()), Some(3));
        assert!(answers.find(8, 99).is_none());
        assert!(answers.find(7, 100).is_none() && answers.find(7, 99).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let answers = Answers::default();
        answers.keep(1, 100, kept(KEPT_BYTES_MAX + 1));
        assert!(answers.find(1, 0).is_none());
        (0..10 * ANSWERS_MAX as u128).for_each(|key| answers.keep(key, 100, kept(0)));
        assert!(answers.shards.each().map(|shard| shard.len()).sum::<usize>() <= ANSWERS_MAX);
        answers.drop_old(100);
        assert!(answers.shards.each().all(|shard| shard.is_empty()));
    }
}
