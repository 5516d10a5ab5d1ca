//! Signed tokens: JSON Web Signature (RFC 7515) in its compact form, JSON Web Key (RFC 7517), JSON Web Algorithms
//! (RFC 7518, RFC 8037), JSON Web Token (RFC 7519), with the advice of RFC 8725.
//!
//! A key knows the algorithms that it may be used with; what a token's header says only selects among them. So
//! `none`, and a public key taken for the secret of an HMAC, cannot be expressed. Keys that a header brings or points
//! to (`jwk`, `jku`, `x5u`, `x5c`) are never looked at. What it does not do: no encrypted tokens (RFC 7516), no
//! detached or unencoded payload (RFC 7797), no JSON serialisation, no network. Cryptography by aws-lc.

mod algorithm;
mod claims;
mod compact;
mod jwk;
mod material;
mod public;
mod set;
mod sign;

use std::borrow::Cow;
use std::fmt;

pub use algorithm::{Algorithm, Algorithms};
pub use claims::{Binding, Claims, Rules, Type};
pub use compact::{Compact, Header, TOKEN_BYTES_MAX, decode_strict};
pub use jwk::parse as parse_jwk;
pub use material::{public_keys, signing_key};
pub use public::Public;
pub use set::{KEYS_MAX, KeySet, VerifyKey};
pub use sign::SigningKey;

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    Malformed,
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    Claim,
    Type,
    Binding,
}

impl Flaw {
    /// The word of fault codes.
    pub fn word(self) -> &'static str {
        match self {
            Flaw::Malformed => "malformed",
            Flaw::Algorithm => "algorithm",
            Flaw::UnknownKey => "unknown_key",
            Flaw::Signature => "signature",
            Flaw::Expired => "expired",
            Flaw::NotYetValid => "not_yet_valid",
            Flaw::Issuer => "issuer",
            Flaw::Audience => "audience",
            Flaw::Claim => "claim",
            Flaw::Type => "type",
            Flaw::Binding => "binding",
        }
    }
}

/// Why a token is refused. The text is for records: it may quote the token's header and claims, never its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub flaw: Flaw,
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with what was expected and what came.
    pub fn new(flaw: Flaw, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { flaw, text: text.into() }
    }

    fn malformed(text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(Flaw::Malformed, text)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.flaw.word(), self.text)
    }
}

/// Characters of a foreign text that a message shows.
const SHOWN_MAX: usize = 60;

/// A foreign text as messages show it: cut, and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}
