//! The throttle against guessing, shared by every step that checks a stored credential.
//!
//! It counts failures per (directory, claimed name) and per client address, so that neither many guesses at one name nor
//! many names from one address go on for long (OWASP ASVS 5.0 section 6.3, credential stuffing and brute force). A pause
//! always ends: no name is locked for ever. What it does not do: it decides nothing about a credential, it survives no
//! restart, and a success wipes out no failures, or else a busy client would keep resetting the count for whoever
//! guesses at its name.
//!
//! It must live as long as the process, beside the snapshots of the policy, or a reload would forgive every guess.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::secret::keyed_u128;
use crate::store::SHARDS;
use crate::store::Sharded;
use crate::store::recent::Recent;

/// Most names and addresses held; beyond it the one whose last failure is oldest goes (judged per part, so roughly).
pub const THROTTLE_KEYS_MAX: usize = 100_000;
/// Most failures that can be configured: their times are held.
pub const FAILURES_MAX: u32 = 1_000;
/// Longest pause that can be configured: a day.
pub const PAUSE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Settings of the throttle, `guessing:` in gateway.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guessing {
    /// So many failures start a pause.
    pub failures: u32,
    /// The span in which they fall, in milliseconds.
    pub within_ms: u64,
    /// The first pause, in milliseconds. Each further one is twice as long.
    pub pause_ms: u64,
    /// The longest pause, in milliseconds. After so long without a pause the next one is a first one again.
    pub pause_max_ms: u64,
}

impl Default for Guessing {
    fn default() -> Self {
        let minute_ms = 60 * 1000;
        Self { failures: 10, within_ms: 5 * minute_ms, pause_ms: 5 * minute_ms, pause_max_ms: 15 * minute_ms }
    }
}

impl Guessing {
    /// Whether the settings make sense.
    ///
    /// # Errors
    /// Text for the operator.
    pub fn check(self) -> Result<Self, String> {
        if !(1..=FAILURES_MAX).contains(&self.failures) {
            return Err(format!("expected 1 to {FAILURES_MAX} failures, came {}; choose one between", self.failures));
        }
        if self.within_ms == 0 || self.pause_ms == 0 {
            return Err("expected within and pause above 0, came 0; write for example 5m".to_owned());
        }
        if self.pause_max_ms < self.pause_ms || self.pause_max_ms > PAUSE_MS_MAX {
            let (least, came) = (self.pause_ms, self.pause_max_ms);
            return Err(format!(
                "expected pause_max from pause ({least} ms) to one day, came {came} ms; choose one between"
            ));
        }
        Ok(self)
    }
}

/// The throttle of one process. Times are milliseconds of one monotonic clock.
#[derive(Debug)]
pub struct Throttle {
    guessing: Guessing,
    shards: Sharded<Recent<Failures>>,
    /// No pause lasts beyond this, so while it is past nothing needs to be looked up.
    last_pause_ends_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Failures {
    /// Times of the failures of the current span, oldest first; fewer than `Guessing::failures`.
    at_ms: VecDeque<u64>,
    pause_ends_ms: u64,
    /// Pauses in a row so far.
    pauses: u32,
}

impl Throttle {
    /// A throttle that has seen nothing. `guessing` has passed [`Guessing::check`].
    pub fn new(guessing: Guessing) -> Self {
        Self {
            guessing,
            shards: Sharded::new(|| Recent::new(THROTTLE_KEYS_MAX / SHARDS)),
            last_pause_ends_ms: AtomicU64::new(0),
        }
    }

    /// Whether the name or the client is in a pause, and if so, the seconds until it ends (at least 1). To be asked
    /// before any look at the credential. `name` is absent where the credential claims none, as with an API key.
    /// While nobody is in a pause this is one atomic load.
    pub fn blocked(&self, directory: &str, name: Option<&str>, client: &str, now_ms: u64) -> Option<u64> {
        if now_ms >= self.last_pause_ends_ms.load(Ordering::Acquire) {
            return None;
        }
        let ends_ms = keys(directory, name, client)
            .filter_map(|key| self.shards.lock(key).peek(key).map(|failures| failures.pause_ends_ms))
            .max()?;
        let left_ms = ends_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)?;
        Some(left_ms.div_ceil(1000))
    }

    /// Whether nobody is in a pause: then there is nothing to ask [`Throttle::blocked`], and no address to write
    /// out for it. The time is looked at only once there has been a pause.
    pub fn is_quiet(&self, now_ms: impl FnOnce() -> u64) -> bool {
        match self.last_pause_ends_ms.load(Ordering::Acquire) {
            0 => true,
            ends_ms => now_ms() >= ends_ms,
        }
    }

    /// Counts a failure for the name and for the client.
    pub fn failed(&self, directory: &str, name: Option<&str>, client: &str, now_ms: u64) {
        for key in keys(directory, name, client) {
            let mut shard = self.shards.lock(key);
            let pause_ends_ms = match shard.touch(key) {
                Some(failures) => failures.count(&self.guessing, now_ms),
                None => {
                    let mut failures = Failures::default();
                    let pause_ends_ms = failures.count(&self.guessing, now_ms);
                    shard.insert(key, failures);
                    pause_ends_ms
                }
            };
            self.last_pause_ends_ms.fetch_max(pause_ends_ms, Ordering::AcqRel);
        }
    }

    /// The name has shown a right credential: its next pause is a first one again. Its failures stay counted, and so
    /// does all that the client did, since one right credential must not buy guesses at other names.
    pub fn succeeded(&self, directory: &str, name: &str) {
        let key = name_key(directory, name);
        if let Some(failures) = self.shards.lock(key).touch(key) {
            failures.pauses = 0;
        }
    }

    /// Drops what can have no effect any more; to be called now and then.
    pub fn drop_idle(&self, now_ms: u64) {
        let Guessing { within_ms, pause_max_ms, .. } = self.guessing;
        for mut shard in self.shards.each() {
            shard.retain(|failures| {
                let counted = failures.at_ms.back().is_some_and(|at_ms| at_ms.saturating_add(within_ms) > now_ms);
                counted || failures.pause_ends_ms.saturating_add(pause_max_ms) > now_ms && failures.pauses > 0
            });
        }
    }

    /// Number of names and addresses held.
    pub fn len(&self) -> usize {
        self.shards.each().map(|shard| shard.len()).sum()
    }

    /// Whether no failure is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Failures {
    /// Counts one failure and returns when the pause ends that is in force after it (0: none ever was).
    fn count(&mut self, guessing: &Guessing, now_ms: u64) -> u64 {
        // Checks that began before the pause add nothing: their answers are withheld.
        if now_ms < self.pause_ends_ms {
            return self.pause_ends_ms;
        }
        if now_ms >= self.pause_ends_ms.saturating_add(guessing.pause_max_ms) {
            self.pauses = 0;
        }
        while self.at_ms.front().is_some_and(|at_ms| at_ms.saturating_add(guessing.within_ms) <= now_ms) {
            self.at_ms.pop_front();
        }
        self.at_ms.push_back(now_ms);
        if self.at_ms.len() >= guessing.failures as usize {
            let doubled = guessing.pause_ms.saturating_mul(1_u64.checked_shl(self.pauses).unwrap_or(u64::MAX));
            self.pause_ends_ms = now_ms.saturating_add(doubled.min(guessing.pause_max_ms));
            self.pauses = self.pauses.saturating_add(1);
            self.at_ms = VecDeque::new();
        }
        self.pause_ends_ms
    }
}

/// The keys under which one attempt counts.
fn keys(directory: &str, name: Option<&str>, client: &str) -> impl Iterator<Item = u128> {
    let named = name.map(|name| name_key(directory, name));
    named.into_iter().chain([client_key(client)])
}

fn name_key(directory: &str, name: &str) -> u128 {
    keyed_u128("throttle-name", &[directory.as_bytes(), name.as_bytes()])
}

/// An IPv6 client counts by its /64, the least that a provider hands to one customer (RFC 6177); anyone who has one
/// could otherwise guess from a new address each time.
fn client_key(client: &str) -> u128 {
    match client.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let network = (address.to_bits() >> 64) as u64;
            keyed_u128("throttle-client-v6", &[&network.to_be_bytes()])
        }
        Ok(IpAddr::V4(address)) => keyed_u128("throttle-client-v4", &[&address.octets()]),
        Err(_) => keyed_u128("throttle-client", &[client.as_bytes()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    /// Failures at one name from clients that differ, until the throttle blocks.
    fn guess(throttle: &Throttle, name: &str, start_ms: u64) -> usize {
        (0..100)
            .position(|n| {
                let client = format!("192.0.2.{n}");
                throttle.failed("staff", Some(name), &client, start_ms);
                throttle.blocked("staff", Some(name), "198.51.100.1", start_ms).is_some()
            })
            .unwrap()
    }

    #[test]
    fn ten_failures_at_one_name_pause_it_for_five_minutes() {
        let throttle = Throttle::new(Guessing::default());
        assert!(throttle.is_quiet(|| 0));
        assert_eq!(guess(&throttle, "ann", 0), 9);
        assert!(!throttle.is_quiet(|| 0) && throttle.is_quiet(|| 5 * MINUTE_MS));
        assert_eq!(throttle.blocked("staff", Some("ann"), "203.0.113.1", 0), Some(300));
        assert_eq!(throttle.blocked("staff", Some("ann"), "203.0.113.1", 299_999), Some(1));
        assert_eq!(throttle.blocked("staff", Some("ann"), "203.0.113.1", 300_000), None);
        assert_eq!(throttle.blocked("staff", Some("bob"), "203.0.113.1", 0), None);
        assert_eq!(throttle.blocked("partners", Some("ann"), "203.0.113.1", 0), None);
    }

    #[test]
    fn ten_failures_from_one_client_pause_it_whatever_the_names() {
        let throttle = Throttle::new(Guessing::default());
        for n in 0..10 {
            assert_eq!(throttle.blocked("staff", Some("eve"), "203.0.113.1", n), None);
            throttle.failed("staff", Some(&format!("name-{n}")), "203.0.113.1", n);
        }
        assert_eq!(throttle.blocked("partners", None, "203.0.113.1", 10), Some(300));
        assert_eq!(throttle.blocked("partners", None, "::ffff:203.0.113.1", 10), Some(300));
        assert_eq!(throttle.blocked("staff", Some("name-1"), "203.0.113.2", 10), None);
    }

    #[test]
    fn an_ipv6_client_counts_by_its_network() {
        let throttle = Throttle::new(Guessing::default());
        for n in 0..10 {
            throttle.failed("partners", None, &format!("2001:db8:1:2::{n}"), 0);
        }
        assert_eq!(throttle.blocked("partners", None, "2001:db8:1:2:ffff::1", 0), Some(300));
        assert_eq!(throttle.blocked("partners", None, "2001:db8:1:3::1", 0), None);
    }

    #[test]
    fn failures_outside_the_span_do_not_count() {
        let throttle = Throttle::new(Guessing::default());
        for n in 0..40 {
            throttle.failed("staff", Some("ann"), "203.0.113.1", n * 34_000);
            assert_eq!(throttle.blocked("staff", Some("ann"), "203.0.113.1", n * 34_000), None);
        }
        throttle.failed("staff", Some("ann"), "203.0.113.1", 39 * 34_000);
        assert!(throttle.blocked("staff", Some("ann"), "203.0.113.1", 39 * 34_000).is_some());
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again_after_quiet() {
        let throttle = Throttle::new(Guessing::default());
        let mut now_ms = 0;
        for minutes in [5, 10, 15, 15, 15] {
            guess(&throttle, "ann", now_ms);
            let left_s = throttle.blocked("staff", Some("ann"), "198.51.100.1", now_ms);
            assert_eq!(left_s, Some(minutes * 60));
            now_ms += minutes * MINUTE_MS;
        }
        now_ms += 15 * MINUTE_MS;
        guess(&throttle, "ann", now_ms);
        assert_eq!(throttle.blocked("staff", Some("ann"), "198.51.100.1", now_ms), Some(300));
    }

    #[test]
    fn a_success_shortens_the_next_pause_but_forgives_no_failure() {
        let throttle = Throttle::new(Guessing::default());
        guess(&throttle, "ann", 0);
        throttle.succeeded("staff", "ann");
        let now_ms = 5 * MINUTE_MS;
        for _ in 0..9 {
            throttle.failed("staff", Some("ann"), "203.0.113.9", now_ms);
        }
        throttle.succeeded("staff", "ann");
        assert_eq!(throttle.blocked("staff", Some("ann"), "198.51.100.1", now_ms), None);
        throttle.failed("staff", Some("ann"), "203.0.113.9", now_ms);
        assert_eq!(throttle.blocked("staff", Some("ann"), "198.51.100.1", now_ms), Some(300));
        assert_eq!(throttle.blocked("staff", None, "203.0.113.9", now_ms), Some(300));
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_idle_ones_go() {
        let throttle = Throttle::new(Guessing { failures: 2, ..Guessing::default() });
        for n in 0..THROTTLE_KEYS_MAX + 5_000 {
            throttle.failed("staff", Some(&n.to_string()), "203.0.113.1", 0);
        }
        assert!(throttle.len() <= THROTTLE_KEYS_MAX);
        assert!(throttle.blocked("staff", None, "203.0.113.1", 0).is_some());
        throttle.drop_idle(5 * MINUTE_MS);
        assert_eq!(throttle.len(), 1);
        throttle.drop_idle(20 * MINUTE_MS);
        assert!(throttle.is_empty());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let default = Guessing::default();
        assert_eq!(default.check(), Ok(default));
        assert!(Guessing { failures: 0, ..default }.check().is_err());
        assert!(Guessing { failures: FAILURES_MAX + 1, ..default }.check().is_err());
        assert!(Guessing { within_ms: 0, ..default }.check().is_err());
        assert!(Guessing { pause_max_ms: 1, ..default }.check().is_err());
        assert!(Guessing { pause_max_ms: u64::MAX, ..default }.check().is_err());
    }
}
