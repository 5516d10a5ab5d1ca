//! One server of an upstream, and what is known of its health: by calls, by checks.
//!
//! All workers of a process share it. It judges nothing but itself: how many targets may be out at a time is
//! the upstream's to say.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::balance::weigh::number_of;
use super::origin::Origin;

/// One server of an upstream.
#[derive(Debug)]
pub struct Target {
    pub origin: Arc<Origin>,
    /// Its share of the calls among the weights of all targets; at least 1.
    pub weight: u32,
    /// What it is known by where keys are spread over targets: the same in every process.
    pub(super) number: u64,
    /// Calls whose answer is not complete, where the upstream counts them.
    in_flight: AtomicU32,
    health: Health,
}

#[derive(Debug, Default)]
struct Health {
    /// Consecutive failures of calls.
    failures: AtomicU32,
    /// Monotonic milliseconds; in the past when it is not ejected.
    ejected_until_ms: AtomicU64,
    failed_at_ms: AtomicU64,
    /// Its checks say so.
    is_unhealthy: AtomicBool,
    checked: Mutex<Checked>,
}

/// What checks have found. Only whoever checks it writes here.
#[derive(Debug, Default)]
struct Checked {
    /// There was a check before.
    known: bool,
    /// Consecutive checks that speak against what it is held for.
    against: u32,
    /// Why it is held for unhealthy.
    why: Option<Arc<str>>,
}

/// How often checks have to agree before a target is held for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub healthy_after: u32,
    pub unhealthy_after: u32,
}

/// A call that counts as load until it is dropped.
pub(super) struct Load(Arc<Target>);

impl Target {
    /// A target that has not failed yet.
    pub fn new(origin: Arc<Origin>, weight: u32) -> Target {
        let number = number_of(origin.text());
        Target { origin, weight, number, in_flight: AtomicU32::new(0), health: Health::default() }
    }

    /// Whether it is left alone at this monotonic time, because calls to it failed.
    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.health.ejected_until_ms.load(Relaxed) > now_ms
    }

    /// Whether its checks fail.
    pub fn is_unhealthy(&self) -> bool {
        self.health.is_unhealthy.load(Relaxed)
    }

    /// Why its checks hold it for unhealthy.
    pub fn why_unhealthy(&self) -> Option<Arc<str>> {
        self.health.checked.lock().unwrap_or_else(PoisonError::into_inner).why.clone()
    }

    /// Whether calls may go there.
    pub(super) fn is_usable(&self, now_ms: u64) -> bool {
        !self.is_unhealthy() && !self.is_ejected(now_ms)
    }

    pub(super) fn failed_at_ms(&self) -> u64 {
        self.health.failed_at_ms.load(Relaxed)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Counts a call.
    pub(super) fn begin(self: &Arc<Target>) -> Load {
        self.in_flight.fetch_add(1, Relaxed);
        Load(self.clone())
    }

    /// A call went well.
    pub(super) fn succeeded(&self) {
        // Only read in the common case: a store would take the cache line from the other workers.
        if self.health.failures.load(Relaxed) != 0 {
            self.health.failures.store(0, Relaxed);
        }
    }

    /// A call failed; gives how many have in a row.
    pub(super) fn failed(&self, now_ms: u64) -> u32 {
        self.health.failed_at_ms.store(now_ms, Relaxed);
        self.health.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    pub(super) fn eject(&self, now_ms: u64, for_: Duration) {
        let for_ms = u64::try_from(for_.as_millis()).unwrap_or(u64::MAX);
        self.health.failures.store(0, Relaxed);
        self.health.ejected_until_ms.store(now_ms.saturating_add(for_ms), Relaxed);
    }

    /// Takes what a check has found; says whether the target is held for something else since. Its first check
    /// decides alone.
    pub(super) fn checked(&self, found: Result<(), String>, patience: Patience, now_ms: u64) -> bool {
        let mut checked = self.health.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_err() {
            self.health.failed_at_ms.store(now_ms, Relaxed);
        }
        if found.is_ok() != self.is_unhealthy() {
            (checked.known, checked.against) = (true, 0);
            return false;
        }
        checked.against = checked.against.saturating_add(1);
        let enough = if found.is_ok() { patience.healthy_after } else { patience.unhealthy_after };
        if checked.known && checked.against < enough {
            return false;
        }
        (checked.known, checked.against) = (true, 0);
        self.health.is_unhealthy.store(found.is_err(), Relaxed);
        checked.why = found.err().map(Arc::from);
        true
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::new(Arc::new(Origin::parse("http://10.0.0.1").unwrap()), 1)
    }

    const PATIENCE: Patience = Patience { healthy_after: 2, unhealthy_after: 3 };

    /// For each check, whether the target is held for healthy after it.
    fn held(target: &Target, found: &[bool]) -> Vec<bool> {
        let check = |fine: &bool| {
            target.checked(fine.then_some(()).ok_or_else(|| "down".to_owned()), PATIENCE, 0);
            !target.is_unhealthy()
        };
        found.iter().map(check).collect()
    }

    #[test]
    fn checks_have_to_agree_in_a_row() {
        let target = target();
        assert_eq!(held(&target, &[true, false, false, true]), [true, true, true, true]);
        assert_eq!(held(&target, &[false, false, false]), [true, true, false]);
        assert_eq!(target.why_unhealthy().as_deref(), Some("down"));
        assert_eq!(held(&target, &[true, false, true, true]), [false, false, false, true]);
        assert_eq!(target.why_unhealthy(), None);
    }

    #[test]
    fn the_first_check_decides_alone() {
        assert_eq!(held(&target(), &[false, true, true]), [false, false, true]);
    }

    #[test]
    fn a_call_counts_until_it_is_over() {
        let target = Arc::new(target());
        let (first, second) = (target.begin(), target.begin());
        assert_eq!(target.in_flight(), 2);
        drop((first, second));
        assert_eq!(target.in_flight(), 0);
    }
}
