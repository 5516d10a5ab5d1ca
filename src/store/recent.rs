//! A bounded map that forgets the least recently used entry first.
//!
//! The order is a doubly linked list through the slots of one vector, so touching a known key allocates nothing and
//! costs one lookup. What it does not do: it has no lock and knows no time; whoever owns it decides what is stale.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;

/// No slot. Capacities stay below it.
const NONE: u32 = u32::MAX;

/// Most entries that one map can be asked to hold.
pub const CAPACITY_MAX: usize = 1 << 30;

/// Takes 64 bits of a key that already is a keyed hash, instead of hashing it a second time.
///
/// Only for keys that a client cannot choose, or for maps into which a client cannot insert.
#[derive(Debug, Default, Clone, Copy)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    // The length that arrays and slices write before their bytes says nothing about the key.
    fn write_usize(&mut self, _length: usize) {}
}

/// Hasher state for maps whose keys are hashes.
pub type HashedKeys = BuildHasherDefault<AlreadyHashed>;

#[derive(Debug)]
struct Slot<V> {
    key: u128,
    newer: u32,
    older: u32,
    value: V,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Recent<V> {
    at: HashMap<u128, u32, HashedKeys>,
    slots: Vec<Slot<V>>,
    newest: u32,
    oldest: u32,
    capacity: usize,
}

impl<V> Recent<V> {
    /// An empty map for at most `capacity` entries (at least one). Memory is taken as entries come.
    pub fn new(capacity: usize) -> Self {
        Self {
            at: HashMap::default(),
            slots: Vec::new(),
            newest: NONE,
            oldest: NONE,
            capacity: capacity.clamp(1, CAPACITY_MAX),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The entry of `key`, which becomes the most recently used. Allocates nothing.
    pub fn touch(&mut self, key: u128) -> Option<&mut V> {
        let at = *self.at.get(&key)?;
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
        self.value_mut(at)
    }

    /// The entry of `key`, without changing the order.
    pub fn peek(&self, key: u128) -> Option<&V> {
        let at = *self.at.get(&key)?;
        self.slots.get(at as usize).map(|slot| &slot.value)
    }

    /// The least recently used entry.
    pub fn peek_oldest(&self) -> Option<(u128, &V)> {
        let slot = self.slots.get(self.oldest as usize)?;
        Some((slot.key, &slot.value))
    }

    /// Puts the value as the most recently used and returns what had to go for it: the former value of this key, or
    /// the least recently used entry when the map was full.
    pub fn insert(&mut self, key: u128, value: V) -> Option<V> {
        if let Some(known) = self.touch(key) {
            return Some(std::mem::replace(known, value));
        }
        let evicted = if self.slots.len() >= self.capacity { self.remove_at(self.oldest) } else { None };
        let at = self.slots.len() as u32;
        self.slots.push(Slot { key, newer: NONE, older: NONE, value });
        self.at.insert(key, at);
        self.link_newest(at);
        evicted
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: u128) -> Option<V> {
        let at = *self.at.get(&key)?;
        self.remove_at(at)
    }

    /// Keeps the entries for which `keep` is true and gives memory back that is far from used.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        let mut at = 0_u32;
        while let Some(slot) = self.slots.get(at as usize) {
            if keep(&slot.value) {
                at += 1;
            } else {
                // The last slot moves to this place and is looked at next.
                self.remove_at(at);
            }
        }
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
            self.at.shrink_to(self.at.len() * 2);
        }
    }

    fn value_mut(&mut self, at: u32) -> Option<&mut V> {
        self.slots.get_mut(at as usize).map(|slot| &mut slot.value)
    }

    fn remove_at(&mut self, at: u32) -> Option<V> {
        if at as usize >= self.slots.len() {
            return None;
        }
        self.unlink(at);
        let gone = self.slots.swap_remove(at as usize);
        self.at.remove(&gone.key);
        // The slot that was last now stands at `at`: its neighbours and the table must learn that.
        if let Some(moved) = self.slots.get(at as usize) {
            let (key, newer, older) = (moved.key, moved.newer, moved.older);
            self.at.insert(key, at);
            self.set_older_of(newer, at);
            self.set_newer_of(older, at);
        }
        Some(gone.value)
    }

    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slots.get(at as usize) else {
            return;
        };
        let (newer, older) = (slot.newer, slot.older);
        self.set_older_of(newer, older);
        self.set_newer_of(older, newer);
    }

    fn link_newest(&mut self, at: u32) {
        let older = self.newest;
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.newer = NONE;
            slot.older = older;
        }
        self.set_newer_of(older, at);
        self.newest = at;
    }

    /// The link towards older of slot `at`, or the head of the list when there is none.
    fn set_older_of(&mut self, at: u32, older: u32) {
        match self.slots.get_mut(at as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    /// The link towards newer of slot `at`, or the tail of the list when there is none.
    fn set_newer_of(&mut self, at: u32, newer: u32) {
        match self.slots.get_mut(at as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Keys from the oldest to the newest.
    fn order<V>(map: &Recent<V>) -> Vec<u128> {
        let mut keys = Vec::new();
        let mut at = map.oldest;
        while let Some(slot) = map.slots.get(at as usize) {
            keys.push(slot.key);
            at = slot.newer;
        }
        keys
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut map = Recent::new(2);
        assert_eq!(map.insert(1, "a"), None);
        assert_eq!(map.insert(2, "b"), None);
        assert_eq!(map.touch(1), Some(&mut "a"));
        assert_eq!(map.insert(3, "c"), Some("b"));
        assert_eq!(map.peek(2), None);
        assert_eq!(map.peek_oldest(), Some((1, &"a")));
        assert_eq!(map.len(), 2);
    }

    proptest! {
        /// The linked slots behave like a queue that is searched from one end.
        #[test]
        fn behaves_like_a_plain_queue(steps in prop::collection::vec((0_u8..5, 0_u128..12, any::<u8>()), 0..200)) {
            let capacity = 5;
            let mut map = Recent::new(capacity);
            let mut model: VecDeque<(u128, u8)> = VecDeque::new();
            for (step, key, value) in steps {
                let found = model.iter().position(|(k, _)| *k == key);
                match step {
                    0 | 1 => {
                        let gone = match found {
                            Some(at) => model.remove(at).map(|(_, v)| v),
                            None if model.len() == capacity => model.pop_front().map(|(_, v)| v),
                            None => None,
                        };
                        model.push_back((key, value));
                        prop_assert_eq!(map.insert(key, value), gone);
                    }
                    2 => {
                        let want = found.and_then(|at| model.remove(at));
                        if let Some(entry) = want {
                            model.push_back(entry);
                        }
                        prop_assert_eq!(map.touch(key).map(|v| *v), want.map(|(_, v)| v));
                    }
                    3 => {
                        let want = found.and_then(|at| model.remove(at)).map(|(_, v)| v);
                        prop_assert_eq!(map.remove(key), want);
                    }
                    _ => {
                        model.retain(|(_, v)| *v % 2 == 0);
                        map.retain(|v| *v % 2 == 0);
                    }
                }
                prop_assert_eq!(order(&map), model.iter().map(|(k, _)| *k).collect::<Vec<_>>());
                prop_assert_eq!(map.len(), model.len());
            }
        }
    }
}
