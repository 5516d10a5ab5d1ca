//! Digests and keyed digests with the algorithm chosen while the gateway runs.
//!
//! HMAC of RFC 2104, SHA-2 and SHA-1 of FIPS 180-4, MD5 of RFC 1321. Data is fed in pieces, so that nobody
//! has to put it together first. What it does not do: it judges no algorithm; MD5 and SHA-1 are here for old
//! partners, and who may use them is for the caller to decide.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use smallvec::SmallVec;

/// Longest digest, that of SHA-512, in bytes.
pub const DIGEST_BYTES_MAX: usize = 64;

/// The bytes of a digest.
pub type DigestBytes = SmallVec<[u8; DIGEST_BYTES_MAX]>;

/// An algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
    HmacSha1,
    Sha256,
    Sha384,
    Sha512,
    Sha1,
    Md5,
}

impl Algorithm {
    /// The word of policies.
    pub fn word(self) -> &'static str {
        match self {
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::HmacSha384 => "hmac-sha384",
            Algorithm::HmacSha512 => "hmac-sha512",
            Algorithm::HmacSha1 => "hmac-sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
            Algorithm::Sha1 => "sha1",
            Algorithm::Md5 => "md5",
        }
    }

    /// Whether it takes a key.
    pub fn is_keyed(self) -> bool {
        matches!(self, Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 | Algorithm::HmacSha1)
    }

    /// A hasher that has seen no data. Keyed algorithms do their key schedule here: keep the hasher and clone
    /// it for each message. The key of others is not looked at.
    pub fn hasher(self, key: &[u8]) -> Hasher {
        Hasher(match self {
            Algorithm::HmacSha256 => State::HmacSha256(keyed(key)),
            Algorithm::HmacSha384 => State::HmacSha384(keyed(key)),
            Algorithm::HmacSha512 => State::HmacSha512(keyed(key)),
            Algorithm::HmacSha1 => State::HmacSha1(keyed(key)),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha384 => State::Sha384(Sha384::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Md5 => State::Md5(Md5::new()),
        })
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 §3), so no input can reach this")]
fn keyed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// A digest in the making. It may hold a key: there is no `Debug`.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Hmac<Sha384>),
    HmacSha512(Hmac<Sha512>),
    HmacSha1(Hmac<Sha1>),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    Sha1(Sha1),
    Md5(Md5),
}

impl Hasher {
    /// Takes more data.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            State::HmacSha256(mac) => mac.update(data),
            State::HmacSha384(mac) => mac.update(data),
            State::HmacSha512(mac) => mac.update(data),
            State::HmacSha1(mac) => mac.update(data),
            State::Sha256(digest) => Digest::update(digest, data),
            State::Sha384(digest) => Digest::update(digest, data),
            State::Sha512(digest) => Digest::update(digest, data),
            State::Sha1(digest) => Digest::update(digest, data),
            State::Md5(digest) => Digest::update(digest, data),
        }
    }

    /// The digest.
    pub fn finish(self) -> DigestBytes {
        match self.0 {
            State::HmacSha256(mac) => DigestBytes::from_slice(&mac.finalize().into_bytes()),
            State::HmacSha384(mac) => DigestBytes::from_slice(&mac.finalize().into_bytes()),
            State::HmacSha512(mac) => DigestBytes::from_slice(&mac.finalize().into_bytes()),
            State::HmacSha1(mac) => DigestBytes::from_slice(&mac.finalize().into_bytes()),
            State::Sha256(digest) => DigestBytes::from_slice(&digest.finalize()),
            State::Sha384(digest) => DigestBytes::from_slice(&digest.finalize()),
            State::Sha512(digest) => DigestBytes::from_slice(&digest.finalize()),
            State::Sha1(digest) => DigestBytes::from_slice(&digest.finalize()),
            State::Md5(digest) => DigestBytes::from_slice(&digest.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, HEXLOWER};

    use super::*;

    fn digest(algorithm: Algorithm, key: &[u8], parts: &[&[u8]]) -> DigestBytes {
        let mut hasher = algorithm.hasher(key);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    fn hex(algorithm: Algorithm, key: &[u8], data: &[u8]) -> String {
        HEXLOWER.encode(&digest(algorithm, key, &[data]))
    }

    #[test]
    fn hmac_sha2_as_in_rfc_4231() {
        let (key, data) = (&[0x0b; 20][..], &b"Hi There"[..]);
        let one = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hex(Algorithm::HmacSha256, key, data), one);
        let one = "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6";
        assert_eq!(hex(Algorithm::HmacSha384, key, data), one);
        let two = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(Algorithm::HmacSha256, b"Jefe", b"what do ya want for nothing?"), two);
        let two = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        assert_eq!(hex(Algorithm::HmacSha512, b"Jefe", b"what do ya want for nothing?"), two);
        let long_key = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        let data = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex(Algorithm::HmacSha256, &[0xaa; 131], data), long_key);
    }

    #[test]
    fn hmac_sha1_as_in_rfc_2202() {
        assert_eq!(hex(Algorithm::HmacSha1, &[0x0b; 20], b"Hi There"), "b617318655057264e28bc0b6fb378c8ef146be00");
        assert_eq!(
            hex(Algorithm::HmacSha1, b"Jefe", b"what do ya want for nothing?"),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }

    #[test]
    fn plain_digests() {
        let base64 = |algorithm, data: &[u8]| BASE64.encode(&digest(algorithm, b"", &[data]));
        assert_eq!(base64(Algorithm::Md5, b"fred"), "VwqQv7+MfqtdxdTiaDLVsQ==");
        assert_eq!(base64(Algorithm::Sha1, b"helloworld"), "at+xg6SiyUovktq1redipHiJpaE=");
        // FIPS 180-4 by its examples: "abc"
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(Algorithm::Sha256, b"", b"abc"), abc);
        assert!(hex(Algorithm::Sha384, b"", b"abc").starts_with("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"));
        assert!(hex(Algorithm::Sha512, b"", b"abc").starts_with("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"));
    }

    #[test]
    fn pieces_and_a_kept_key_schedule_change_nothing() {
        let kept = Algorithm::HmacSha256.hasher(b"Jefe");
        for _ in 0..2 {
            let mut hasher = kept.clone();
            hasher.update(b"what do ya ");
            hasher.update(b"want for nothing?");
            let whole = digest(Algorithm::HmacSha256, b"Jefe", &[b"what do ya want for nothing?"]);
            assert_eq!(hasher.finish(), whole);
        }
    }
}
