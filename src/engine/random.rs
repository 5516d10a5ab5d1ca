//! Randomness as a seam: the system's source in life, a seeded sequence in policy tests.

use std::cell::Cell;

/// Where a worker takes random bytes from.
#[derive(Debug)]
pub enum Random {
    System,
    /// Reproducible and not secret: for tests only (SplitMix64).
    Seeded(Cell<u64>),
    /// A system that gives none.
    #[cfg(test)]
    Exhausted,
}

impl Random {
    /// A sequence that is the same for the same seed.
    pub fn seeded(seed: u64) -> Random {
        Random::Seeded(Cell::new(seed))
    }

    /// Fills `into`. The system's source does not fail once the system is up; if it does, the bytes stay
    /// zero and `false` is returned, so that nobody takes them for random.
    pub fn fill(&self, into: &mut [u8]) -> bool {
        match self {
            Random::System => getrandom::fill(into).is_ok(),
            Random::Seeded(state) => {
                for chunk in into.chunks_mut(8) {
                    let bytes = next(state).to_le_bytes();
                    chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                }
                true
            }
            #[cfg(test)]
            Random::Exhausted => false,
        }
    }

    /// A random number.
    pub fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

fn next(state: &Cell<u64>) -> u64 {
    state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
    scramble(state.get())
}

/// Spreads a counter over all bits; equal inputs give equal outputs, different inputs different ones.
pub fn scramble(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_sequence() {
        let (one, two) = (Random::seeded(7), Random::seeded(7));
        assert_eq!((one.number(), one.number()), (two.number(), two.number()));
        assert_ne!(Random::seeded(7).number(), Random::seeded(8).number());
        assert_ne!(Random::System.number(), Random::System.number());
    }
}
