//! Rate counters in memory: the generic cell rate algorithm with one stored timestamp per key.
//!
//! ITU-T I.371 annex A, the virtual scheduling form: a key holds its theoretical arrival time (TAT), the moment at which
//! its whole burst is free again. In any span t at most `burst + t / period` weight passes, exactly and under any
//! concurrency, because test and advance happen under one lock and because the proof needs no order of the times that
//! callers bring. [`Counters::take`] on a known key allocates nothing.
//!
//! What it does not do: it shares nothing between processes. With more than [`LIVE_KEYS_MAX`] keys in use at once the
//! least recently used is forgotten, and that one starts again with a full burst; "least recently used" is judged per
//! part of the store, so it is approximate over the whole.

use super::SHARDS;
use super::Sharded;
use super::recent::Recent;

/// Most keys held at once over all parts.
pub const LIVE_KEYS_MAX: usize = 1_000_000;

/// Longest time that a burst may need to refill: 100 years, so that sums of times stay inside 64 bits.
pub const REFILL_NS_MAX: u64 = 100 * 366 * 24 * 60 * 60 * 1_000_000_000;

/// Idle entries looked at, from the oldest, whenever a new key comes: twice as many as come in.
const IDLE_STEPS: usize = 2;

/// A limit: how fast permits come back, and how many can be saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    period_ns: u64,
    burst: u64,
    refill_ns: u64,
}

impl Gcra {
    /// One permit per `period_ns` nanoseconds, `burst` at most at once.
    ///
    /// # Errors
    /// Text for the operator, when one of the two is 0 or the burst would need more than 100 years to refill.
    pub fn new(period_ns: u64, burst: u64) -> Result<Self, String> {
        if period_ns == 0 {
            return Err("expected at most 1 000 000 000 per second, came a higher rate; lower the rate".to_owned());
        }
        if burst == 0 {
            return Err("expected a burst of at least 1, came 0; leave burst out for the rate's count".to_owned());
        }
        match period_ns.checked_mul(burst) {
            Some(refill_ns) if refill_ns <= REFILL_NS_MAX => Ok(Self { period_ns, burst, refill_ns }),
            _ => Err(format!(
                "expected a burst that refills within 100 years, came {burst} at one per {period_ns} ns; lower the burst"
            )),
        }
    }

    /// `count` permits per `span_ns` nanoseconds. Where the period is not a whole number of nanoseconds it is rounded
    /// up, so the limit is never exceeded and missed by less than one part in `period_ns`.
    ///
    /// # Errors
    /// As [`Gcra::new`], and when `count` is 0.
    pub fn per(count: u64, span_ns: u64, burst: u64) -> Result<Self, String> {
        if count == 0 {
            return Err("expected a rate of at least 1, came 0; deny the request instead".to_owned());
        }
        if count > span_ns {
            return Self::new(0, burst);
        }
        Self::new(span_ns.div_ceil(count), burst)
    }

    /// Nanoseconds per permit.
    pub fn period_ns(self) -> u64 {
        self.period_ns
    }

    /// Most permits at once.
    pub fn burst(self) -> u64 {
        self.burst
    }

    /// The state after a take that changed nothing, seen from `tat_ns` which is not before `now_ns`.
    fn decision(self, allowed: bool, tat_ns: u64, now_ns: u64, retry_after_ns: Option<u64>) -> Decision {
        let owed_ns = tat_ns.saturating_sub(now_ns);
        Decision {
            allowed,
            limit: self.burst,
            remaining: self.refill_ns.saturating_sub(owed_ns) / self.period_ns,
            reset_ns: owed_ns,
            retry_after_ns,
        }
    }
}

/// What [`Counters::take`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the weight passed and was taken.
    pub allowed: bool,
    /// The burst: the most that can pass at once.
    pub limit: u64,
    /// What could pass now, after this call.
    pub remaining: u64,
    /// Nanoseconds until the whole burst is free again.
    pub reset_ns: u64,
    /// Nanoseconds until the same weight would pass; absent when it passed, or when it is above the burst and never will.
    pub retry_after_ns: Option<u64>,
}

/// The counters of one process.
#[derive(Debug)]
pub struct Counters {
    shards: Sharded<Shard>,
}

#[derive(Debug)]
struct Shard {
    tat_ns: Recent<u64>,
    /// The latest TAT among the entries dropped as idle. A key that is not held may have had a TAT up to this, so it is
    /// taken to have had it; for all times from then on this is the same as a full burst.
    dropped_ns: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self::with_capacity(LIVE_KEYS_MAX)
    }
}

impl Counters {
    /// Counters for at most `keys_max` keys, rounded up to a multiple of [`SHARDS`].
    pub fn with_capacity(keys_max: usize) -> Self {
        let shard_max = keys_max.div_ceil(SHARDS);
        Self { shards: Sharded::new(|| Shard { tat_ns: Recent::new(shard_max), dropped_ns: 0 }) }
    }

    /// Takes `weight` permits of `key` if they are free at `now_ns`, all or none.
    ///
    /// `key` is a keyed hash over the step and whom it counts; `now_ns` is monotonic and has one origin for all callers.
    /// Weight 0 passes free, also when nothing is left; a weight above the burst is denied and takes nothing.
    pub fn take(&self, gcra: Gcra, key: u128, weight: u64, now_ns: u64) -> Decision {
        let mut shard = self.shards.lock(key);
        let dropped_ns = shard.dropped_ns;
        if weight == 0 || weight > gcra.burst {
            let tat_ns = *shard.tat_ns.peek(key).unwrap_or(&dropped_ns);
            return gcra.decision(weight == 0, tat_ns.max(now_ns), now_ns, None);
        }
        let known = shard.tat_ns.touch(key);
        let before_ns = known.as_deref().copied().unwrap_or(dropped_ns).max(now_ns);
        // No overflow: weight is at most the burst, and the burst's time is bounded.
        let after_ns = before_ns.saturating_add(weight.saturating_mul(gcra.period_ns));
        let latest_ns = now_ns.saturating_add(gcra.refill_ns);
        if after_ns > latest_ns {
            return gcra.decision(false, before_ns, now_ns, Some(after_ns - latest_ns));
        }
        match known {
            Some(tat_ns) => *tat_ns = after_ns,
            None => shard.admit(key, after_ns, now_ns),
        }
        gcra.decision(true, after_ns, now_ns, None)
    }

    /// Number of keys held, idle ones included that have not been dropped yet.
    pub fn len(&self) -> usize {
        self.shards.each().map(|shard| shard.tat_ns.len()).sum()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops every key whose burst is full again at `now_ns`. New keys push old idle ones out by themselves; this is to
    /// be called now and then so that memory comes back after a burst.
    pub fn drop_idle(&self, now_ns: u64) {
        for mut shard in self.shards.each() {
            let mut dropped_ns = shard.dropped_ns;
            shard.tat_ns.retain(|tat_ns| {
                let live = *tat_ns > now_ns;
                if !live {
                    dropped_ns = dropped_ns.max(*tat_ns);
                }
                live
            });
            shard.dropped_ns = dropped_ns;
        }
    }
}

impl Shard {
    /// Puts a new key in, dropping idle ones from the oldest end first.
    fn admit(&mut self, key: u128, tat_ns: u64, now_ns: u64) {
        for _ in 0..IDLE_STEPS {
            match self.tat_ns.peek_oldest() {
                Some((oldest, tat_ns)) if *tat_ns <= now_ns => {
                    self.dropped_ns = self.dropped_ns.max(*tat_ns);
                    self.tat_ns.remove(oldest);
                }
                _ => break,
            }
        }
        self.tat_ns.insert(key, tat_ns);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_per_period() {
        let counters = Counters::default();
        let gcra = Gcra::new(100, 3).unwrap();
        let remaining: Vec<_> = (0..3).map(|_| counters.take(gcra, 1, 1, 1000).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let denied = counters.take(gcra, 1, 1, 1000);
        let want = Decision { allowed: false, limit: 3, remaining: 0, reset_ns: 300, retry_after_ns: Some(100) };
        assert_eq!(denied, want);
        assert!(!counters.take(gcra, 1, 1, 1099).allowed);
        let passed = counters.take(gcra, 1, 1, 1100);
        assert_eq!(passed, Decision { allowed: true, retry_after_ns: None, ..want });
        assert!(counters.take(gcra, 2, 1, 1000).allowed, "another key has its own burst");
    }

    #[test]
    fn weight_zero_is_free_and_a_weight_above_the_burst_takes_nothing() {
        let counters = Counters::default();
        let gcra = Gcra::new(100, 2).unwrap();
        let heavy = counters.take(gcra, 1, 3, 0);
        assert_eq!((heavy.allowed, heavy.remaining, heavy.retry_after_ns), (false, 2, None));
        assert!(counters.is_empty());
        assert!(counters.take(gcra, 1, 2, 0).allowed);
        let free = counters.take(gcra, 1, 0, 0);
        assert_eq!((free.allowed, free.remaining, free.reset_ns), (true, 0, 200));
        assert!(!counters.take(gcra, 1, u64::MAX, 0).allowed);
    }

    #[test]
    fn limits_out_of_range_are_refused() {
        assert_eq!(Gcra::per(3, 1_000_000_000, 3).unwrap().period_ns(), 333_333_334);
        assert!(Gcra::per(0, 1, 1).unwrap_err().contains("at least 1"));
        assert!(Gcra::per(2, 1, 1).unwrap_err().contains("lower the rate"));
        assert!(Gcra::new(1, 0).unwrap_err().contains("burst"));
        assert!(Gcra::new(u64::MAX, 2).unwrap_err().contains("100 years"));
        let longest = Gcra::new(REFILL_NS_MAX, 1).unwrap();
        assert!(Counters::default().take(longest, 1, 1, u64::MAX / 2).allowed);
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_idle_ones_go() {
        let counters = Counters::with_capacity(SHARDS * 4);
        let gcra = Gcra::new(10, 1).unwrap();
        for n in 0..10_000_u128 {
            counters.take(gcra, n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), 1, 0);
        }
        assert!(counters.len() > SHARDS && counters.len() <= SHARDS * 4);
        counters.drop_idle(9);
        assert!(!counters.is_empty());
        counters.drop_idle(10);
        assert!(counters.is_empty());
    }

    #[test]
    fn a_late_call_with_an_early_time_gains_nothing_from_an_idle_drop() {
        let counters = Counters::default();
        let gcra = Gcra::new(1, 9).unwrap();
        assert!(counters.take(gcra, 1, 9, 0).allowed);
        counters.drop_idle(10);
        assert!(counters.is_empty());
        assert_eq!(counters.take(gcra, 1, 0, 5).remaining, 5);
        assert!(!counters.take(gcra, 1, 6, 5).allowed);
        assert!(counters.take(gcra, 1, 5, 5).allowed);
    }

    proptest! {
        /// Same answers as a bucket that is refilled in whole nanoseconds, and in no window more than its bound.
        #[test]
        fn admits_what_a_token_bucket_admits(
            period in 1_u64..50,
            burst in 1_u64..10,
            calls in prop::collection::vec((0_u64..120, 0_u64..12, any::<bool>()), 1..120),
        ) {
            let counters = Counters::default();
            let gcra = Gcra::new(period, burst).unwrap();
            let (mut now, mut level) = (0, period * burst);
            let mut passed: Vec<(u64, u64)> = Vec::new();
            for (pause, weight, sweep) in calls {
                now += pause;
                level = (level + pause).min(period * burst);
                if sweep {
                    counters.drop_idle(now);
                }
                let want = weight * period <= level;
                let got = counters.take(gcra, 7, weight, now);
                prop_assert_eq!(got.allowed, want);
                if want {
                    level -= weight * period;
                    passed.push((now, weight));
                } else if let Some(wait) = got.retry_after_ns {
                    prop_assert_eq!(level + wait, weight * period);
                }
                prop_assert_eq!(got.remaining, level / period);
                prop_assert_eq!(got.reset_ns, period * burst - level);
            }
            for (from, (start, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (end, weight) in &passed[from..] {
                    sum += weight;
                    prop_assert!(sum <= burst + (end - start) / period);
                }
            }
        }

        /// Times that come out of order, as from several threads, never admit more than the bound of the window.
        #[test]
        fn times_out_of_order_admit_no_more(
            period in 1_u64..20,
            burst in 1_u64..6,
            calls in prop::collection::vec((0_u64..200, 1_u64..4, any::<bool>()), 1..80),
        ) {
            let counters = Counters::default();
            let gcra = Gcra::new(period, burst).unwrap();
            let mut passed: Vec<(u64, u64)> = Vec::new();
            for (now, weight, sweep) in calls {
                if counters.take(gcra, 7, weight, now).allowed {
                    passed.push((now, weight));
                }
                if sweep {
                    counters.drop_idle(now);
                }
            }
            passed.sort_unstable();
            for (from, (start, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (end, weight) in &passed[from..] {
                    sum += weight;
                    prop_assert!(sum <= burst + (end - start) / period);
                }
            }
        }
    }

    #[test]
    fn exact_under_threads() {
        let counters = Counters::default();
        let gcra = Gcra::new(50, 20).unwrap();
        let (clock, passed) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let now = clock.fetch_add(1, Ordering::Relaxed);
                        if counters.take(gcra, 7, 1, now).allowed {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let passed = passed.into_inner();
        // 20 000 calls, one per nanosecond: the burst and one per 50 ns. The lower bound is loose, since a thread may
        // bring a time that others have overtaken.
        assert!(passed <= 20 + 19_999 / 50, "{passed} passed");
        assert!(passed >= 20, "{passed} passed");
    }

    #[test]
    fn exactly_the_burst_passes_at_one_moment() {
        let counters = Counters::default();
        let gcra = Gcra::new(1_000, 777).unwrap();
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        passed.fetch_add(u64::from(counters.take(gcra, 7, 1, 5).allowed), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 777);
    }
}
