//! Values that must not be read by accident: stored credentials and keys, tokens as presented, and the short keyed
//! hash that stands for them in records.
//!
//! HMAC-SHA-256 as in RFC 2104 and FIPS 180-4, under one random key per process. What it does not do: it encrypts
//! nothing, it does not lock pages into memory, and a keyed hash means nothing to another process or after a restart.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of the keyed hash that are shown in a record (twice as many hex digits).
const RECORD_HASH_BYTES: usize = 6;

/// Bytes of the per-process random key: the block that SHA-256 digests to, as RFC 2104 section 3 advises.
const PROCESS_KEY_BYTES: usize = 32;

/// Owned secret bytes: a vault value, a signing key, a stored credential.
///
/// Overwritten when the last clone is dropped. There is no `Display` and no serialisation; `Debug` prints `[secret]`.
#[derive(Clone)]
pub struct Secret {
    bytes: Arc<Zeroizing<Vec<u8>>>,
}

impl Secret {
    /// Takes over the bytes; the given vector becomes the one that is overwritten later.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(Zeroizing::new(bytes)) }
    }

    /// The bytes themselves. Every call is a place where the secret can leak.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// Compares without telling by its time where the two differ. Both sides are hashed under the process key first,
    /// so what is compared has always the same length and cannot be chosen by whoever guesses.
    pub fn eq_constant_time(&self, other: &[u8]) -> bool {
        let own = keyed_digest("secret-eq", &[self.expose()]);
        let theirs = keyed_digest("secret-eq", &[other]);
        own.ct_eq(&theirs).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

/// A credential as presented by a client or minted for one. It may go back to the client or on to the upstream, but a
/// record sees only its keyed hash, which is also what `Debug` prints.
#[derive(Clone)]
pub struct Token(Secret);

impl Token {
    /// Takes over the bytes of the credential, without its scheme word.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Secret::new(bytes))
    }

    /// The credential itself.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// See [`Secret::eq_constant_time`].
    pub fn eq_constant_time(&self, other: &[u8]) -> bool {
        self.0.eq_constant_time(other)
    }

    /// What stands for this credential in a record, see [`keyed_hash`].
    pub fn record(&self) -> String {
        keyed_hash(self.expose())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.record())
    }
}

/// Header fields that carry credentials, in lower case: tokens by name.
pub const CREDENTIAL_FIELDS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];

/// The short text that stands for a token in records: `#` and 12 hex digits. Equal tokens give equal texts within one
/// process, so lines can be joined; without the process key nobody can test a guess against it.
pub fn keyed_hash(token: &[u8]) -> String {
    let digest = keyed_digest("record", &[token]);
    let shown = digest.get(..RECORD_HASH_BYTES).unwrap_or(&digest);
    let mut text = String::with_capacity(1 + 2 * RECORD_HASH_BYTES);
    text.push('#');
    HEXLOWER.encode_append(shown, &mut text);
    text
}

/// HMAC-SHA-256 under the process key over a list of parts. Each part is preceded by its length, so no two lists give
/// the same input; `domain` keeps the uses apart from each other. Allocates nothing.
pub fn keyed_digest(domain: &'static str, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = process_mac().clone();
    for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The first 16 bytes of [`keyed_digest`] as a number: the form in which the stores take their keys.
pub fn keyed_u128(domain: &'static str, parts: &[&[u8]]) -> u128 {
    let digest = keyed_digest(domain, parts);
    digest.first_chunk::<16>().map_or(0, |head| u128::from_be_bytes(*head))
}

/// The keyed state, made once: cloning it saves the two blocks that keying costs.
fn process_mac() -> &'static Hmac<Sha256> {
    static MAC: OnceLock<Hmac<Sha256>> = OnceLock::new();
    MAC.get_or_init(|| {
        let mut key = Zeroizing::new([0_u8; PROCESS_KEY_BYTES]);
        #[expect(
            clippy::expect_used,
            reason = "without a random source no keyed hash is safe, and no input can reach this"
        )]
        {
            getrandom::fill(key.as_mut_slice()).expect("the system must give random bytes");
            Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_prints_the_value() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(format!("{:?}", Some(secret.clone())), "Some([secret])");
        let token = Token::new(b"hunter2".to_vec());
        assert_eq!(format!("{token:?}"), keyed_hash(b"hunter2"));
        assert_eq!(secret.expose(), b"hunter2");
    }

    #[test]
    fn equality_looks_at_every_byte_and_the_length() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert!(secret.eq_constant_time(b"hunter2"));
        assert!(!secret.eq_constant_time(b"hunter3"));
        assert!(!secret.eq_constant_time(b"hunter"));
        assert!(!secret.eq_constant_time(b"hunter22"));
        assert!(!secret.eq_constant_time(b""));
        assert!(Secret::new(Vec::new()).eq_constant_time(b""));
    }

    #[test]
    fn keyed_hash_is_short_stable_and_not_the_plain_hash() {
        let text = keyed_hash(b"abc");
        assert_eq!(text.len(), 13);
        assert!(text.starts_with('#'));
        assert!(text[1..].bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(text, keyed_hash(b"abc"));
        assert_ne!(text, keyed_hash(b"abd"));
        assert_ne!(&text[1..], "ba7816bf8f01", "the hash must be keyed");
    }

    #[test]
    fn parts_and_domains_do_not_run_together() {
        let split = keyed_digest("a", &[b"ab", b"c"]);
        assert_ne!(split, keyed_digest("a", &[b"a", b"bc"]));
        assert_ne!(split, keyed_digest("a", &[b"abc"]));
        assert_ne!(split, keyed_digest("b", &[b"ab", b"c"]));
        assert_eq!(split, keyed_digest("a", &[b"ab", b"c"]));
    }
}
