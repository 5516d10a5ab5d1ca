//! What outlives one request and one snapshot of the policy: counters and replay memory, held in this process.
//!
//! The keys are hashes that the caller has made (see `secret::keyed_u128`), so no name, address or credential is kept
//! here. What it does not do: nothing is shared between processes and nothing survives a restart. The pieces are plain
//! structs, so that an engine over the network can take the place of one of them.

pub mod answers;
pub mod counters;
pub mod recent;
pub mod seen;
pub mod slots;

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Number of independently locked parts of a store. A power of two, well above the number of cores.
pub const SHARDS: usize = 64;

/// A fixed set of locked parts, chosen by the top bits of a key. The maps inside use the low bits, so that the keys of
/// one part still spread over its table.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: [Mutex<T>; SHARDS],
}

impl<T> Sharded<T> {
    /// Builds every part with `make`.
    pub fn new(mut make: impl FnMut() -> T) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(make())) }
    }

    /// Locks the part that holds `key`. A part whose holder panicked is used on: each change to one is complete
    /// before the next call that could panic.
    pub fn lock(&self, key: u128) -> MutexGuard<'_, T> {
        let at = (key >> (u128::BITS - SHARDS.ilog2())) as usize;
        let [first, ..] = &self.shards;
        let shard = self.shards.get(at).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks one part after the other.
    pub fn each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
