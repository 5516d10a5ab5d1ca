//! The ways to pick one of several targets: a weighted cycle, the least loaded, the better of two, and the
//! highest bidder for a key.
//!
//! Keys are spread by rendezvous hashing (Thaler and Ravishankar, 1998) with weights: each target bids for the key
//! with a number of its own, so that a target that leaves gives away what it had and moves nothing else. There is no
//! ring to build, and every gateway with the same targets comes to the same.

use std::cmp::Ordering;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::upstream::target::Target;

/// Longest cycle of the weighted round robin, after common factors are divided out.
pub(super) const CYCLE_MAX: u64 = 4096;

/// The number that a text is known by: the same in every process and version.
pub fn number_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
pub(super) fn spread(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Which of two targets has more calls for its weight.
pub(super) fn by_load(one: &Target, other: &Target) -> Ordering {
    // With the call to come, so that weights count among idle targets too.
    let load = |target: &Target| u64::from(target.in_flight()) + 1;
    let weigh = |target: &Target, by: &Target| load(target).saturating_mul(u64::from(by.weight));
    weigh(one, other).cmp(&weigh(other, one))
}

/// The target that bids most for a key.
pub(super) fn highest_bidder<'t>(targets: impl Iterator<Item = &'t Arc<Target>>, key: u64) -> Option<&'t Arc<Target>> {
    targets.max_by(|one, other| bid(one, key).total_cmp(&bid(other, key)))
}

/// Logarithms of equally spread numbers, divided by weights, win in the proportion of the weights.
fn bid(target: &Target, key: u64) -> f64 {
    let drawn = spread(spread(key) ^ target.number);
    // 53 bits and a half, so that neither 0 nor 1 is drawn.
    let share = ((drawn >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    share.ln() / f64::from(target.weight)
}

/// One whole cycle in which every target stands as often as its weight, evenly spread.
pub(super) fn cycle(weights: &[u32]) -> Result<Box<[u16]>, String> {
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
    use crate::upstream::Origin;

    fn targets(weights: &[u32]) -> Vec<Arc<Target>> {
        let target = |(index, weight): (usize, &u32)| {
            let origin = Origin::parse(&format!("http://10.0.0.{index}")).unwrap();
            Arc::new(Target::new(Arc::new(origin), *weight))
        };
        weights.iter().enumerate().map(target).collect()
    }

    fn winner(targets: &[Arc<Target>], key: usize) -> &str {
        highest_bidder(targets.iter(), number_of(&key.to_string())).unwrap().origin.text()
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let targets = targets(&[1, 1, 2]);
        let mut counts = std::collections::BTreeMap::<&str, u32>::new();
        for key in 0..4000 {
            *counts.entry(winner(&targets, key)).or_default() += 1;
        }
        let counts: Vec<u32> = counts.into_values().collect();
        for (count, expected) in counts.iter().zip([1000u32, 1000, 2000]) {
            assert!(count.abs_diff(expected) < 120, "{counts:?}");
        }
    }

    #[test]
    fn a_target_that_leaves_moves_only_its_own_share() {
        let all = targets(&[1, 3, 1, 2]);
        let mut fewer = all.clone();
        let gone = fewer.remove(1);
        for key in 0..2000 {
            let before = winner(&all, key);
            if before != &**gone.origin.text() {
                assert_eq!(winner(&fewer, key), before);
            }
        }
    }

    #[test]
    fn the_order_of_targets_does_not_matter() {
        let all = targets(&[1, 3, 1, 2]);
        let mut turned = all.clone();
        turned.reverse();
        assert!((0..500).all(|key| winner(&all, key) == winner(&turned, key)));
    }

    #[test]
    fn weights_are_checked() {
        assert!(cycle(&[]).is_err());
        assert!(cycle(&[1, 0]).is_err());
        assert!(cycle(&[CYCLE_MAX as u32, 1]).is_err());
        assert_eq!(cycle(&[1000, 1000]).unwrap().len(), 2);
    }
}
