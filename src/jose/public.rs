//! Public keys: their numbers, what they verify with, and how they are written as JWK (RFC 7518 §6, RFC 8037 §2).
//!
//! RSA of at least 2048 bits, the curves P-256, P-384 and P-521, and Ed25519. Points that are not on their curve are
//! refused when the key is made.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::algorithm::{Algorithm, Algorithms};

/// Bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of an RSA exponent: 33 bits are the most that is anywhere in use.
const RSA_EXPONENT_BYTES_MAX: usize = 5;
/// RFC 8410 §3.
const ED25519_OID: &str = "1.3.101.112";

/// A curve of RFC 7518 §6.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// The curve of a word.
    pub fn of(word: &str) -> Option<Curve> {
        [Curve::P256, Curve::P384, Curve::P521].into_iter().find(|curve| curve.word() == word)
    }

    /// The word of `crv`.
    pub fn word(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    /// Bytes of a coordinate.
    pub fn bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// The one algorithm of its keys.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Curve::P256 => Algorithm::Es256,
            Curve::P384 => Algorithm::Es384,
            Curve::P521 => Algorithm::Es512,
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Public {
    /// Modulus and exponent, big-endian and without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point (SEC 1 §2.3.3).
    Ec {
        curve: Curve,
        point: Vec<u8>,
    },
    Ed25519 {
        x: Vec<u8>,
    },
}

impl Public {
    /// An RSA key by its numbers.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Public, String> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(format!("an RSA key of {bits} bits, and {} to {} are taken", RSA_BITS.start(), RSA_BITS.end()));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if e.len() > RSA_EXPONENT_BYTES_MAX || e == [1] || !is_odd(e) || !is_odd(n) {
            return Err("numbers that no RSA key has".to_owned());
        }
        Ok(Public::Rsa { n: n.to_vec(), e: e.to_vec() })
    }

    /// A key on a curve by its coordinates.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Public, String> {
        // RFC 7518 §6.2.1.2: exactly so many bytes.
        if x.len() != curve.bytes() || y.len() != curve.bytes() {
            return Err(format!("coordinates of {} and {} bytes on {}", x.len(), y.len(), curve.word()));
        }
        let point = [&[4], x, y].concat();
        Ok(Public::Ec { curve, point })
    }

    /// A public key in DER: a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    /// What was expected.
    pub fn from_spki(der: &[u8]) -> Result<Public, String> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| "no public key in DER form".to_owned())?;
        if !rest.is_empty() {
            return Err("more behind the public key".to_owned());
        }
        if spki.algorithm.algorithm.to_id_string() == ED25519_OID {
            let x = spki.subject_public_key.data.to_vec();
            return if x.len() == 32 { Ok(Public::Ed25519 { x }) } else { Err("an Ed25519 key has 32 bytes".into()) };
        }
        match spki.parsed() {
            Ok(PublicKey::RSA(key)) => Public::rsa(key.modulus, key.exponent),
            Ok(PublicKey::EC(point)) => {
                let data = point.data();
                let curves = [Curve::P256, Curve::P384, Curve::P521];
                let curve = curves.into_iter().find(|curve| data.len() == 1 + 2 * curve.bytes());
                match (curve, data.first()) {
                    (Some(curve), Some(4)) => Ok(Public::Ec { curve, point: data.to_vec() }),
                    _ => Err("a curve that is not P-256, P-384 or P-521, or a compressed point".to_owned()),
                }
            }
            _ => Err("a key that is none of RSA, P-256, P-384, P-521 and Ed25519".to_owned()),
        }
    }

    /// An RSA key in DER: an RSAPublicKey (RFC 8017 §A.1.1).
    ///
    /// # Errors
    /// What was expected.
    pub fn from_pkcs1(der: &[u8]) -> Result<Public, String> {
        match RSAPublicKey::from_der(der) {
            Ok((&[], key)) => Public::rsa(key.modulus, key.exponent),
            _ => Err("no RSA public key in DER form".to_owned()),
        }
    }

    /// What it can verify.
    pub fn algorithms(&self) -> Algorithms {
        match self {
            Public::Rsa { .. } => Algorithms::RSA.into(),
            Public::Ec { curve, .. } => [curve.algorithm()].as_slice().into(),
            Public::Ed25519 { .. } => [Algorithm::EdDsa].as_slice().into(),
        }
    }

    /// The key made ready for one of its algorithms.
    ///
    /// # Errors
    /// The algorithm is not one of its own, or the key is none (a point beside its curve).
    pub fn ready(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, String> {
        if !self.algorithms().has(algorithm) {
            return Err(format!("this key does not go with {algorithm}"));
        }
        let parsed = match self {
            Public::Rsa { n, e } => {
                let parts = RsaPublicKeyComponents { n: n.as_slice(), e: e.as_slice() };
                parts.to_parsed_public_key(rsa_parameters(algorithm))
            }
            Public::Ec { curve, point } => ParsedPublicKey::new(ec_parameters(*curve), point),
            Public::Ed25519 { x } => ParsedPublicKey::new(&signature::ED25519, x),
        };
        parsed.map_err(|_| "no such key: its numbers do not fit together".to_owned())
    }

    /// The members that make it up, as JWK.
    pub fn to_jwk(&self) -> Json {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Public::Rsa { n, e } => json!({ "e": text(e), "kty": "RSA", "n": text(n) }),
            Public::Ec { curve, point } => {
                let (x, y) =
                    point.get(1..).unwrap_or_default().split_at(curve.bytes().min(point.len().saturating_sub(1)));
                json!({ "crv": curve.word(), "kty": "EC", "x": text(x), "y": text(y) })
            }
            Public::Ed25519 { x } => json!({ "crv": "Ed25519", "kty": "OKP", "x": text(x) }),
        }
    }

    /// The thumbprint of RFC 7638: SHA-256 over those members in the order of their names.
    pub fn thumbprint(&self) -> [u8; 32] {
        // `to_jwk` writes them in that order, and serde_json without white space.
        Sha256::digest(self.to_jwk().to_string()).into()
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn rsa_parameters(algorithm: Algorithm) -> &'static RsaParameters {
    match algorithm {
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}

fn ec_parameters(curve: Curve) -> &'static dyn VerificationAlgorithm {
    match curve {
        Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED,
        Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED,
        Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let n = BASE64URL_NOPAD.decode(n.as_bytes()).unwrap();
        let key = Public::rsa(&[&[0], n.as_slice()].concat(), &[1, 0, 1]).unwrap();
        let thumbprint = BASE64URL_NOPAD.encode(&key.thumbprint());
        assert_eq!(thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn weak_and_impossible_keys_are_refused() {
        let odd = |bytes: usize| [vec![0x80], vec![1; bytes - 1]].concat();
        assert!(Public::rsa(&odd(256), &[1, 0, 1]).is_ok());
        assert!(Public::rsa(&odd(128), &[1, 0, 1]).unwrap_err().contains("1024 bits"));
        assert!(Public::rsa(&odd(2048), &[1, 0, 1]).is_err());
        for e in [&[][..], &[1], &[2], &[1; 6], &[0, 0]] {
            assert!(Public::rsa(&odd(256), e).is_err(), "{e:?}");
        }
        assert!(Public::rsa(&[], &[3]).is_err());
        assert!(Public::ec(Curve::P256, &[1; 31], &[1; 32]).is_err());
        let beside = Public::ec(Curve::P256, &[1; 32], &[1; 32]).unwrap();
        assert!(beside.ready(Algorithm::Es256).is_err(), "the point is not on the curve");
        assert!(Public::Ed25519 { x: vec![1; 32] }.ready(Algorithm::Es256).is_err());
    }
}
