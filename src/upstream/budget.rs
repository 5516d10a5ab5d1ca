//! Keeps retries from doubling the load of an upstream that is already in trouble.
//!
//! Windows do not slide and workers do not lock: the bound may be missed by the calls of one moment.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Length of a window, milliseconds.
const WINDOW_MS: u64 = 10_000;
/// Retries that a window always allows, so that a quiet upstream has any.
const FLOOR: u32 = 10;

/// Calls and retries of the present window, shared by all workers.
#[derive(Debug, Default)]
pub struct RetryBudget {
    window: AtomicU64,
    calls: AtomicU32,
    retries: AtomicU32,
}

impl RetryBudget {
    /// Counts a call that is about to be made for the first time.
    pub fn count_call(&self, now_ms: u64) {
        self.roll(now_ms);
        self.calls.fetch_add(1, Relaxed);
    }

    /// Takes one retry out of the budget, `percent` of the window's calls; false if none is left.
    pub fn take(&self, now_ms: u64, percent: u32) -> bool {
        if percent == 0 {
            return false;
        }
        self.roll(now_ms);
        let share = u64::from(self.calls.load(Relaxed)) * u64::from(percent) / 100;
        let allowed = u32::try_from(share).unwrap_or(u32::MAX).max(FLOOR);
        self.retries.try_update(Relaxed, Relaxed, |retries| (retries < allowed).then_some(retries + 1)).is_ok()
    }

    fn roll(&self, now_ms: u64) {
        let window = now_ms / WINDOW_MS;
        if self.window.load(Relaxed) != window && self.window.swap(window, Relaxed) != window {
            self.calls.store(0, Relaxed);
            self.retries.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &RetryBudget, now_ms: u64, percent: u32) -> usize {
        (0..1000).take_while(|_| budget.take(now_ms, percent)).count()
    }

    #[test]
    fn retries_are_a_share_of_the_calls_of_a_window() {
        let budget = RetryBudget::default();
        for _ in 0..200 {
            budget.count_call(5);
        }
        assert_eq!(granted(&budget, 9_999, 20), 40);
        assert_eq!(granted(&budget, 10_000, 20), FLOOR as usize);
    }

    #[test]
    fn no_budget_is_no_retry() {
        assert_eq!(granted(&RetryBudget::default(), 0, 0), 0);
    }
}
