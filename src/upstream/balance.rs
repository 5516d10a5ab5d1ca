//! Targets behind one name: which one is next, and which ones are left alone for a while.
//!
//! Health is judged passively, by what calls met; all workers share it. Nothing is probed here.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::budget::RetryBudget;
use super::origin::Origin;
use super::{HostHeader, PoolLimits, Timeouts};

/// Longest cycle of the weighted round robin, after common factors are divided out.
const CYCLE_MAX: u64 = 4096;

/// One server of an upstream.
#[derive(Debug)]
pub struct Target {
    pub origin: Arc<Origin>,
    /// Its share of the calls among the weights of all targets; at least 1.
    pub weight: u32,
    health: Health,
}

#[derive(Debug, Default)]
struct Health {
    /// Consecutive failures.
    failures: AtomicU32,
    /// Monotonic milliseconds; in the past when it is not ejected.
    ejected_until_ms: AtomicU64,
    failed_at_ms: AtomicU64,
}

impl Target {
    /// A target that has not failed yet.
    pub fn new(origin: Arc<Origin>, weight: u32) -> Target {
        Target { origin, weight, health: Health::default() }
    }

    /// Whether it is left alone at this monotonic time.
    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.health.ejected_until_ms.load(Relaxed) > now_ms
    }
}

/// How the next target is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, each as often as its weight says.
    RoundRobin,
    /// The first that is not ejected, in the order written.
    Failover,
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

/// Targets behind one name, shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    pub name: Arc<str>,
    pub targets: Vec<Arc<Target>>,
    pub balance: Balance,
    pub eject: Option<Eject>,
    /// For whoever builds a call: its timeouts start from these.
    pub timeouts: Timeouts,
    /// For whoever builds a call: its host starts from this.
    pub host: HostHeader,
    pub pool: PoolLimits,
    /// With all targets ejected, take the one whose failure is longest ago instead of none.
    pub when_none_try_any: bool,
    pub(super) budget: RetryBudget,
    /// Indexes of targets in the order of one whole cycle.
    cycle: Box<[u16]>,
    cursor: AtomicUsize,
    ejecting: Mutex<()>,
}

impl Upstream {
    /// An upstream with the defaults; the settings can be changed before it is shared.
    pub fn new(name: &str, targets: Vec<Arc<Target>>) -> Result<Upstream, String> {
        let weights: Vec<u32> = targets.iter().map(|target| target.weight).collect();
        let cycle = cycle(&weights).map_err(|why| format!("upstream {name}: {why}"))?;
        Ok(Upstream {
            name: Arc::from(name),
            targets,
            balance: Balance::RoundRobin,
            eject: None,
            timeouts: Timeouts::default(),
            host: HostHeader::Upstream,
            pool: PoolLimits::default(),
            when_none_try_any: false,
            budget: RetryBudget::default(),
            cycle,
            cursor: AtomicUsize::new(0),
            ejecting: Mutex::new(()),
        })
    }

    /// The next target, if possible none of those that this call has tried.
    pub(super) fn choose(&self, now_ms: u64, tried: &[usize]) -> Option<(usize, &Arc<Target>)> {
        let fit = |index: usize| self.targets.get(index).filter(|target| !target.is_ejected(now_ms));
        let fresh = |index: usize| fit(index).filter(|_| !tried.contains(&index));
        let next = match self.balance {
            Balance::RoundRobin => self.in_turn(&fresh).or_else(|| self.in_turn(&fit)),
            Balance::Failover => self.in_order(&fresh).or_else(|| self.in_order(&fit)),
        };
        next.or_else(|| if self.when_none_try_any { self.longest_at_peace() } else { None })
    }

    /// Skipping moves the shared cursor too: the turns stay exact among those that are left.
    fn in_turn<'a>(&self, fit: &impl Fn(usize) -> Option<&'a Arc<Target>>) -> Option<(usize, &'a Arc<Target>)> {
        (0..self.cycle.len()).find_map(|_| {
            let turn = self.cursor.fetch_add(1, Relaxed) % self.cycle.len();
            let index = usize::from(*self.cycle.get(turn)?);
            fit(index).map(|target| (index, target))
        })
    }

    fn in_order<'a>(&self, fit: &impl Fn(usize) -> Option<&'a Arc<Target>>) -> Option<(usize, &'a Arc<Target>)> {
        (0..self.targets.len()).find_map(|index| fit(index).map(|target| (index, target)))
    }

    fn longest_at_peace(&self) -> Option<(usize, &Arc<Target>)> {
        self.targets.iter().enumerate().min_by_key(|(_, target)| target.health.failed_at_ms.load(Relaxed))
    }

    /// A call to this target went well.
    pub(super) fn succeeded(&self, index: usize) {
        // Only read in the common case: a store would take the cache line from the other workers.
        if let Some(target) = self.targets.get(index)
            && target.health.failures.load(Relaxed) != 0
        {
            target.health.failures.store(0, Relaxed);
        }
    }

    /// A call to this target failed in a way that speaks against it.
    pub(super) fn failed(&self, index: usize, now_ms: u64) {
        let (Some(target), Some(eject)) = (self.targets.get(index), &self.eject) else { return };
        target.health.failed_at_ms.store(now_ms, Relaxed);
        if target.health.failures.fetch_add(1, Relaxed).saturating_add(1) < eject.failures {
            return;
        }
        // Workers that eject at the same moment must not together pass the bound.
        let _one = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if target.is_ejected(now_ms) {
            return;
        }
        let ejected = self.targets.iter().filter(|target| target.is_ejected(now_ms)).count();
        if (ejected + 1).saturating_mul(100) > self.targets.len().saturating_mul(eject.at_most_percent as usize) {
            return;
        }
        let for_ms = u64::try_from(eject.for_.as_millis()).unwrap_or(u64::MAX);
        target.health.failures.store(0, Relaxed);
        target.health.ejected_until_ms.store(now_ms.saturating_add(for_ms), Relaxed);
    }
}

/// One whole cycle in which every target stands as often as its weight, evenly spread.
fn cycle(weights: &[u32]) -> Result<Box<[u16]>, String> {
    if weights.is_empty() {
        return Err("expected at least one target".to_owned());
    }
    if weights.contains(&0) {
        return Err("expected weights of at least 1; remove a target that should get nothing".to_owned());
    }
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    if total.unsigned_abs() > CYCLE_MAX {
        return Err(format!("weights add up to {total} without common factors; use at most {CYCLE_MAX}"));
    }
    let mut credit = vec![0i64; weights.len()];
    let turns = (0..total).map(|_| {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        // The first of the richest, so that equal weights go in the order written.
        let richest = credit.iter().copied().max().unwrap_or(0);
        let index = credit.iter().position(|credit| *credit == richest).unwrap_or(0);
        if let Some(credit) = credit.get_mut(index) {
            *credit -= total;
        }
        u16::try_from(index).unwrap_or(0)
    });
    Ok(turns.collect())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(weights: &[u32]) -> Upstream {
        let target = |(index, weight): (usize, &u32)| {
            let origin = Origin::parse(&format!("http://10.0.0.{index}")).unwrap();
            Arc::new(Target::new(Arc::new(origin), *weight))
        };
        Upstream::new("orders", weights.iter().enumerate().map(target).collect()).unwrap()
    }

    fn turns(upstream: &Upstream, count: usize, now_ms: u64) -> Vec<usize> {
        (0..count).map(|_| upstream.choose(now_ms, &[]).unwrap().0).collect()
    }

    #[test]
    fn round_robin_is_exact_over_a_cycle_and_evenly_spread() {
        assert_eq!(turns(&upstream(&[1, 1, 1]), 6, 0), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&upstream(&[4, 2, 2]), 8, 0), [0, 1, 2, 0, 0, 1, 2, 0]);
    }

    #[test]
    fn round_robin_is_exact_across_threads() {
        let shared = Arc::new(upstream(&[1, 2, 3]));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || turns(&shared, 600, 0))
            })
            .collect();
        let all: Vec<usize> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        let counts = [0, 1, 2].map(|index| all.iter().filter(|taken| **taken == index).count());
        assert_eq!(counts, [400, 800, 1200]);
    }

    #[test]
    fn failover_goes_in_order_and_retries_prefer_another() {
        let mut upstream = upstream(&[1, 1, 1]);
        upstream.balance = Balance::Failover;
        assert_eq!(turns(&upstream, 2, 0), [0, 0]);
        assert_eq!(upstream.choose(0, &[0]).unwrap().0, 1);
        assert_eq!(upstream.choose(0, &[0, 1, 2]).unwrap().0, 0);
    }

    #[test]
    fn failing_targets_are_left_alone_but_never_too_many() {
        let mut upstream = upstream(&[1, 1, 1]);
        upstream.eject = Some(Eject { failures: 2, for_: Duration::from_millis(100), at_most_percent: 50 });
        upstream.failed(0, 10);
        upstream.succeeded(0);
        upstream.failed(0, 10);
        assert!(!upstream.targets[0].is_ejected(10), "not consecutive");
        upstream.failed(0, 10);
        assert!(upstream.targets[0].is_ejected(10));
        assert_eq!(turns(&upstream, 4, 10), [1, 2, 1, 2]);
        upstream.failed(1, 10);
        upstream.failed(1, 10);
        assert!(!upstream.targets[1].is_ejected(10), "two of three are more than half");
        assert!(!upstream.targets[0].is_ejected(110));
    }

    #[test]
    fn with_none_left_nothing_or_the_longest_at_peace() {
        let mut upstream = upstream(&[1, 1]);
        upstream.eject = Some(Eject { failures: 1, for_: Duration::from_secs(1), at_most_percent: 100 });
        upstream.failed(1, 10);
        upstream.failed(0, 20);
        assert!(upstream.choose(30, &[]).is_none());
        upstream.when_none_try_any = true;
        assert_eq!(upstream.choose(30, &[]).unwrap().0, 1);
    }

    #[test]
    fn weights_are_checked() {
        assert!(cycle(&[]).is_err());
        assert!(cycle(&[1, 0]).is_err());
        assert!(cycle(&[CYCLE_MAX as u32, 1]).is_err());
        assert_eq!(cycle(&[1000, 1000]).unwrap().len(), 2);
    }
}
