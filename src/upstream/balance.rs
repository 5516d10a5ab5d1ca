//! Targets behind one name: which one is next, and which ones are left alone for a while.
//!
//! All workers share what is known of targets. Nothing is sent here: checks are made elsewhere.

pub(super) mod weigh;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::weigh::{by_load, cycle, highest_bidder, spread};
use super::budget::RetryBudget;
use super::dns::Dns;
use super::health::Check;
use super::target::{Load, Target};
use super::{HostHeader, PoolLimits, Timeouts};

/// What the count of draws is moved on by: the golden ratio, so that its multiples spread evenly.
const DRAW_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How the next target is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, each as often as its weight says.
    RoundRobin,
    /// The first that is usable, in the order written.
    Failover,
    /// The one with the fewest calls for its weight.
    LeastRequests,
    /// Two are drawn, the less loaded of them is taken.
    Random,
    /// The same key to the same target, see [`Call::key`](super::Call::key); in turn without a key.
    Hash,
}

/// When a target is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eject {
    /// Consecutive failures: broken connections, timeouts, malformed answers, 502, 503, 504.
    pub failures: u32,
    pub for_: Duration,
    /// Share of the targets that may be ejected at a time, rounded down.
    pub at_most_percent: u32,
}

/// Targets at one moment, never none.
#[derive(Debug)]
pub struct Targets {
    list: Vec<Arc<Target>>,
    /// Indexes of targets in the order of one whole cycle.
    cycle: Box<[u16]>,
}

/// Targets behind one name, shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    pub name: Arc<str>,
    targets: ArcSwap<Targets>,
    pub balance: Balance,
    /// For whoever builds a call: the text whose value is the key of [`Balance::Hash`].
    pub hash_by: Option<Arc<str>>,
    pub eject: Option<Eject>,
    /// The name that its targets are the addresses of.
    pub dns: Option<Dns>,
    /// How its targets are checked, beside all calls.
    pub check: Option<Check>,
    /// For whoever builds a call: its timeouts start from these.
    pub timeouts: Timeouts,
    /// For whoever builds a call: its host starts from this.
    pub host: HostHeader,
    pub pool: PoolLimits,
    /// With no target usable, take the one whose failure is longest ago instead of none.
    pub when_none_try_any: bool,
    pub(super) budget: RetryBudget,
    cursor: AtomicUsize,
    draws: AtomicU64,
    ejecting: Mutex<()>,
}

impl Targets {
    /// Targets with their weights; the error says what is wrong with these.
    pub fn new(list: Vec<Arc<Target>>) -> Result<Targets, String> {
        let weights: Vec<u32> = list.iter().map(|target| target.weight).collect();
        Ok(Targets { cycle: cycle(&weights)?, list })
    }

    fn at_turn(&self, turn: usize) -> Option<&Arc<Target>> {
        self.list.get(usize::from(*self.cycle.get(turn.checked_rem(self.cycle.len())?)?))
    }

    /// The targets of a whole cycle, from this turn on.
    fn since_turn(&self, turn: usize) -> impl Iterator<Item = &Arc<Target>> {
        (0..self.cycle.len()).filter_map(move |step| self.at_turn(turn.wrapping_add(step)))
    }
}

impl Deref for Targets {
    type Target = [Arc<Target>];

    fn deref(&self) -> &[Arc<Target>] {
        &self.list
    }
}

impl Upstream {
    /// An upstream with the defaults; the settings can be changed before it is shared.
    pub fn new(name: &str, targets: Vec<Arc<Target>>) -> Result<Upstream, String> {
        let targets = Targets::new(targets).map_err(|why| format!("upstream {name}: {why}"))?;
        Ok(Upstream {
            name: Arc::from(name),
            targets: ArcSwap::from_pointee(targets),
            balance: Balance::RoundRobin,
            hash_by: None,
            eject: None,
            dns: None,
            check: None,
            timeouts: Timeouts::default(),
            host: HostHeader::Upstream,
            pool: PoolLimits::default(),
            when_none_try_any: false,
            budget: RetryBudget::default(),
            cursor: AtomicUsize::new(0),
            // Gateways beside each other must not draw the same.
            draws: AtomicU64::new(RandomState::new().build_hasher().finish()),
            ejecting: Mutex::new(()),
        })
    }

    /// Its targets at this moment.
    pub fn targets(&self) -> Arc<Targets> {
        self.targets.load_full()
    }

    /// Makes these its targets; calls under way keep theirs.
    pub(super) fn replace_targets(&self, targets: Vec<Arc<Target>>) -> Result<(), String> {
        self.targets.store(Arc::new(Targets::new(targets)?));
        Ok(())
    }

    /// The next target, if possible none of those that this call has tried.
    pub(super) fn choose(&self, now_ms: u64, tried: &[Arc<Target>], key: Option<u64>) -> Option<Arc<Target>> {
        let targets = self.targets.load();
        let usable = |target: &&Arc<Target>| target.is_usable(now_ms);
        let fresh = |target: &&Arc<Target>| usable(target) && !tried.iter().any(|tried| Arc::ptr_eq(tried, target));
        let next = self.pick(&targets, &fresh, key);
        let next = if next.is_none() && !tried.is_empty() { self.pick(&targets, &usable, key) } else { next };
        match next {
            Some(next) => Some(next.clone()),
            None if self.when_none_try_any => targets.iter().min_by_key(|target| target.failed_at_ms()).cloned(),
            None => None,
        }
    }

    fn pick<'t>(
        &self,
        targets: &'t Targets,
        fit: &impl Fn(&&'t Arc<Target>) -> bool,
        key: Option<u64>,
    ) -> Option<&'t Arc<Target>> {
        match (self.balance, key) {
            (Balance::Failover, _) => targets.iter().find(fit),
            (Balance::Hash, Some(key)) => highest_bidder(targets.iter().filter(fit), key),
            (Balance::RoundRobin | Balance::Hash, _) => self.in_turn(targets, fit),
            // The first of equals, from a turn on that moves: equals have their turns too.
            (Balance::LeastRequests, _) => {
                let turn = self.cursor.fetch_add(1, Relaxed);
                targets.since_turn(turn).filter(fit).min_by(|one, other| by_load(one, other))
            }
            (Balance::Random, _) => {
                let one = targets.since_turn(self.draw()).find(fit)?;
                let other = targets.since_turn(self.draw()).find(|other| !Arc::ptr_eq(one, other) && fit(other));
                Some(other.filter(|other| by_load(other, one).is_lt()).unwrap_or(one))
            }
        }
    }

    /// Skipping moves the shared cursor too: the turns stay exact among those that are left.
    fn in_turn<'t>(&self, targets: &'t Targets, fit: &impl Fn(&&'t Arc<Target>) -> bool) -> Option<&'t Arc<Target>> {
        (0..targets.cycle.len())
            .find_map(|_| targets.at_turn(self.cursor.fetch_add(1, Relaxed)).filter(|target| fit(target)))
            // Where other workers move it meanwhile, these turns need not have been those of all targets.
            .or_else(|| targets.since_turn(self.cursor.load(Relaxed)).find(fit))
    }

    fn draw(&self) -> usize {
        let drawn = spread(self.draws.fetch_add(DRAW_STEP, Relaxed));
        // Any 32 of the bits are as good as all.
        (drawn >> 32) as usize
    }

    /// Counts a call as load of its target, where the balance asks for that.
    pub(super) fn load(&self, target: &Arc<Target>) -> Option<Load> {
        matches!(self.balance, Balance::LeastRequests | Balance::Random).then(|| target.begin())
    }

    /// A call to this target failed in a way that speaks against it.
    pub(super) fn failed(&self, target: &Target, now_ms: u64) {
        let failures = target.failed(now_ms);
        let Some(eject) = &self.eject else { return };
        if failures < eject.failures {
            return;
        }
        // Workers that eject at the same moment must not together pass the bound.
        let _one = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if target.is_ejected(now_ms) {
            return;
        }
        let targets = self.targets.load();
        let ejected = targets.iter().filter(|target| target.is_ejected(now_ms)).count();
        if (ejected + 1).saturating_mul(100) > targets.len().saturating_mul(eject.at_most_percent as usize) {
            return;
        }
        target.eject(now_ms, eject.for_);
    }
}

#[cfg(test)]
mod tests;
