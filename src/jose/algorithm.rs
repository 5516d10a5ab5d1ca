//! The signature algorithms of RFC 7518 §3.1 and RFC 8037 §3.1, without `none`.

use std::fmt;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 13] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
    ];

    /// The word of `alg`.
    pub fn word(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of a word, letter for letter (RFC 7515 §4.1.1: case-sensitive).
    pub fn of(word: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.word() == word)
    }

    /// Bytes of its hash, where it is an HMAC: the least length of a key (RFC 7518 §3.2).
    pub fn hmac_bytes(self) -> Option<usize> {
        match self {
            Algorithm::Hs256 => Some(32),
            Algorithm::Hs384 => Some(48),
            Algorithm::Hs512 => Some(64),
            _ => None,
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// A set of algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithms(u16);

impl Algorithms {
    /// What tokens of an issuer with public keys may be signed with unless its document says otherwise. ES512 has to
    /// be asked for: few have it.
    pub const PUBLIC: &'static [Algorithm] = &[
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];
    /// The same for an issuer with whom a secret is shared.
    pub const SYMMETRIC: &'static [Algorithm] = &[Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512];
    /// Those of an RSA key.
    pub const RSA: &'static [Algorithm] =
        &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

    /// All there are.
    pub fn all() -> Algorithms {
        Algorithm::ALL.into_iter().collect()
    }

    /// Whether it is one of them.
    pub fn has(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Those that are in both sets.
    pub fn and(self, other: Algorithms) -> Algorithms {
        Algorithms(self.0 & other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |algorithm| self.has(*algorithm))
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(all: I) -> Self {
        Algorithms(all.into_iter().fold(0, |bits, algorithm| bits | algorithm.bit()))
    }
}

impl From<&[Algorithm]> for Algorithms {
    fn from(all: &[Algorithm]) -> Self {
        all.iter().copied().collect()
    }
}

impl fmt::Display for Algorithms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Algorithm::word).collect();
        out.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_letter_for_letter_and_none_is_none_of_them() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::of(algorithm.word()), Some(algorithm));
        }
        for word in ["none", "None", "nOnE", "NONE", "", "hs256", "RS1", "HS256 ", "eddsa"] {
            assert_eq!(Algorithm::of(word), None, "{word}");
        }
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = Algorithms::from(Algorithms::PUBLIC);
        assert!(set.has(Algorithm::EdDsa) && !set.has(Algorithm::Hs256) && !set.has(Algorithm::Es512));
        assert!(set.and(Algorithms::SYMMETRIC.into()).is_empty());
        assert_eq!(Algorithms::from(Algorithms::SYMMETRIC).to_string(), "HS256, HS384, HS512");
        assert_eq!(Algorithms::all().iter().count(), 13);
    }
}
