//! Private keys and shared secrets that sign, out of PEM, DER or JWK, or newly made.
//!
//! PKCS#8 (RFC 5958), PKCS#1 (RFC 8017), SEC 1 (RFC 5915), JWK (RFC 7517). Signatures by aws-lc.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, KeySize};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use super::algorithm::{Algorithm, Algorithms};
use super::public::{Curve, Public};
use super::set::{VerifyKey, hash};
use super::{decode_strict, shown};

/// A key that signs. `Debug` shows no material.
pub struct SigningKey {
    kid: String,
    algorithms: Algorithms,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>, Public),
    Ec(Box<EcdsaKeyPair>, Public),
    Ed25519(Box<Ed25519KeyPair>, Public),
    Secret(Zeroizing<Vec<u8>>),
}

impl SigningKey {
    /// A private key in DER: PKCS#8, PKCS#1 or SEC 1. Its name is its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// What was expected; nothing of the key.
    pub fn from_der(der: &[u8]) -> Result<SigningKey, String> {
        let rsa = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
        if let Ok(pair) = rsa {
            return SigningKey::of(Pair::rsa(pair)?);
        }
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(ec_signing(curve), der) {
                return SigningKey::of(Pair::ec(pair, curve));
            }
        }
        match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Ok(pair) => SigningKey::of(Pair::ed25519(pair)),
            Err(_) => Err("a private key was expected: RSA, P-256, P-384, P-521 or Ed25519".to_owned()),
        }
    }

    /// A private key as JWK, under its own `kid` where it has one.
    ///
    /// # Errors
    /// What was expected; nothing of the key.
    pub fn from_jwk(jwk: &Json) -> Result<SigningKey, String> {
        let verify = super::jwk::parse(jwk)?;
        let text = |name: &str| jwk.get(name).and_then(Json::as_str);
        let part = |name: &str| match text(name) {
            Some(value) => decode_strict(name, value).map(Zeroizing::new).map_err(|refusal| refusal.text.into_owned()),
            None => Err(format!("`{name}` is missing: no private key")),
        };
        let rejected = |_| "the numbers of the private key do not fit together".to_owned();
        let pair = match verify.as_public() {
            None => Pair::Secret(part("k")?),
            Some(Public::Rsa { n, e }) => {
                let parts = KeyPairComponents {
                    public_key: RsaPublicKeyComponents { n: n.clone(), e: e.clone() },
                    d: part("d")?,
                    p: part("p")?,
                    q: part("q")?,
                    dP: part("dp")?,
                    dQ: part("dq")?,
                    qInv: part("qi")?,
                };
                Pair::rsa(RsaKeyPair::from_components(&parts).map_err(rejected)?)?
            }
            Some(Public::Ec { curve, point }) => {
                let pair = EcdsaKeyPair::from_private_key_and_public_key(ec_signing(*curve), &part("d")?, point);
                Pair::ec(pair.map_err(rejected)?, *curve)
            }
            Some(Public::Ed25519 { x }) => {
                Pair::ed25519(Ed25519KeyPair::from_seed_and_public_key(&part("d")?, x).map_err(rejected)?)
            }
        };
        let mut key = SigningKey::of(pair)?;
        key.algorithms = verify.algorithms();
        if let Some(kid) = verify.kid() {
            key.kid = kid.to_owned();
        }
        Ok(key)
    }

    /// A shared secret. It has no name until it is given one: a thumbprint would let a weak one be guessed.
    ///
    /// # Errors
    /// It is too short for each of these algorithms.
    pub fn from_secret(secret: &[u8], allowed: Algorithms) -> Result<SigningKey, String> {
        let algorithms = VerifyKey::symmetric(None, secret, allowed)?.algorithms();
        Ok(SigningKey { kid: String::new(), algorithms, pair: Pair::Secret(Zeroizing::new(secret.to_vec())) })
    }

    /// A new key.
    ///
    /// # Errors
    /// The algorithm is an HMAC, or the system gives no key.
    pub fn generate(algorithm: Algorithm) -> Result<SigningKey, String> {
        let failed = |_| "the system gives no key".to_owned();
        let ec = |curve| EcdsaKeyPair::generate(ec_signing(curve)).map(|pair| Pair::ec(pair, curve)).map_err(failed);
        let pair = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                return Err(format!("{algorithm} needs a shared secret"));
            }
            Algorithm::Es256 => ec(Curve::P256)?,
            Algorithm::Es384 => ec(Curve::P384)?,
            Algorithm::Es512 => ec(Curve::P521)?,
            Algorithm::EdDsa => Pair::ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            _ => Pair::rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?)?,
        };
        SigningKey::of(pair)?.only([algorithm].as_slice().into())
    }

    fn of(pair: Pair) -> Result<SigningKey, String> {
        let Some(public) = pair.public() else { return Err("a shared secret has no thumbprint".to_owned()) };
        let algorithms = public.algorithms();
        // A key that could not be verified with is refused now.
        for algorithm in algorithms.iter() {
            public.ready(algorithm)?;
        }
        Ok(SigningKey { kid: BASE64URL_NOPAD.encode(&public.thumbprint()), algorithms, pair })
    }

    /// The same key for these algorithms only.
    ///
    /// # Errors
    /// None of them goes with it.
    pub fn only(self, allowed: Algorithms) -> Result<SigningKey, String> {
        let algorithms = self.algorithms.and(allowed);
        match algorithms.is_empty() {
            true => Err(format!("the key goes with {}, not with {allowed}", self.algorithms)),
            false => Ok(SigningKey { algorithms, ..self }),
        }
    }

    /// The same key under another name.
    pub fn named(self, kid: &str) -> SigningKey {
        SigningKey { kid: shown(kid), ..self }
    }

    /// Its name; empty for a shared secret without one.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it may sign with.
    pub fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// The key in PKCS#8, to be kept; `None` for a shared secret.
    pub fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        match &self.pair {
            Pair::Rsa(pair, _) => pair.as_der().ok().map(|der| Zeroizing::new(der.as_ref().to_vec())),
            Pair::Ec(pair, _) => pair.to_pkcs8v1().ok().map(|der| Zeroizing::new(der.as_ref().to_vec())),
            Pair::Ed25519(pair, _) => pair.to_pkcs8().ok().map(|der| Zeroizing::new(der.as_ref().to_vec())),
            Pair::Secret(_) => None,
        }
    }

    /// The half that verifies, under the same name.
    ///
    /// # Errors
    /// Never for a key that could be made.
    pub fn verify_key(&self) -> Result<VerifyKey, String> {
        let kid = Some(self.kid.clone()).filter(|kid| !kid.is_empty());
        match &self.pair {
            Pair::Secret(secret) => VerifyKey::symmetric(kid, secret, self.algorithms),
            pair => match pair.public() {
                Some(public) => VerifyKey::public(kid, public.clone(), self.algorithms),
                None => Err("no public half".to_owned()),
            },
        }
    }

    /// The public half as JWK, for others to verify with; `None` for a shared secret.
    pub fn to_public_jwk(&self) -> Option<Json> {
        self.verify_key().ok()?.to_public_jwk()
    }

    /// A token in compact form (RFC 7515 §7.1). `alg`, and `kid` where the key has a name, are put into the header.
    ///
    /// # Errors
    /// The key does not go with the algorithm.
    pub fn sign(&self, algorithm: Algorithm, header: Map<String, Json>, payload: &[u8]) -> Result<String, String> {
        if !self.algorithms.has(algorithm) {
            return Err(format!("the key goes with {}, not with {algorithm}", self.algorithms));
        }
        let mut whole = Map::new();
        whole.insert("alg".into(), algorithm.word().into());
        if !self.kid.is_empty() {
            whole.insert("kid".into(), self.kid.as_str().into());
        }
        whole.extend(header);
        let mut token = BASE64URL_NOPAD.encode(Json::Object(whole).to_string().as_bytes());
        token.push('.');
        BASE64URL_NOPAD.encode_append(payload, &mut token);
        let signature = self.pair.sign(algorithm, token.as_bytes()).ok_or("the key does not sign")?;
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut token);
        Ok(token)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms = self.algorithms.to_string();
        out.debug_struct("SigningKey").field("kid", &self.kid).field("algorithms", &algorithms).finish_non_exhaustive()
    }
}

impl Pair {
    fn rsa(pair: RsaKeyPair) -> Result<Pair, String> {
        let public = Public::from_pkcs1(pair.public_key().as_ref())?;
        Ok(Pair::Rsa(Box::new(pair), public))
    }

    fn ec(pair: EcdsaKeyPair, curve: Curve) -> Pair {
        let point = pair.public_key().as_ref().to_vec();
        Pair::Ec(Box::new(pair), Public::Ec { curve, point })
    }

    fn ed25519(pair: Ed25519KeyPair) -> Pair {
        let x = pair.public_key().as_ref().to_vec();
        Pair::Ed25519(Box::new(pair), Public::Ed25519 { x })
    }

    fn public(&self) -> Option<&Public> {
        match self {
            Pair::Rsa(_, public) | Pair::Ec(_, public) | Pair::Ed25519(_, public) => Some(public),
            Pair::Secret(_) => None,
        }
    }

    fn sign(&self, algorithm: Algorithm, text: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Pair::Rsa(pair, _) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => return None,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, text, &mut out).ok().map(|()| out)
            }
            Pair::Ec(pair, _) => pair.sign(&random, text).ok().map(|signature| signature.as_ref().to_vec()),
            Pair::Ed25519(pair, _) => pair.try_sign(text).ok().map(|signature| signature.as_ref().to_vec()),
            Pair::Secret(secret) => Some(hmac::sign(&hmac::Key::new(hash(algorithm), secret), text).as_ref().to_vec()),
        }
    }
}

fn ec_signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::{Compact, KeySet};

    #[test]
    fn what_a_key_signs_its_other_half_verifies_also_after_it_was_kept() {
        let all = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa, Algorithm::Ps256];
        for algorithm in all {
            let key = SigningKey::generate(algorithm).unwrap();
            let kept = SigningKey::from_der(&key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(kept.kid(), key.kid());
            let token = kept.sign(algorithm, Map::new(), br#"{"sub":"ann"}"#).unwrap();
            let parsed = Compact::parse(&token).unwrap();
            assert_eq!(parsed.header.kid.as_deref(), Some(key.kid()));
            let jwks = serde_json::json!({ "keys": [key.to_public_jwk()] }).to_string();
            let set = KeySet::parse(jwks.as_bytes(), false).unwrap();
            assert!(set.verify(&parsed, Algorithms::all()).is_ok(), "{algorithm}");
            assert!(key.sign(Algorithm::Rs384, Map::new(), b"{}").is_err(), "{algorithm}");
        }
    }

    #[test]
    fn a_jwk_signs_and_a_secret_has_no_name_of_its_own() {
        let text = r#"{"kty":"OKP","crv":"Ed25519","kid":"k","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = SigningKey::from_jwk(&serde_json::from_str(text).unwrap()).unwrap();
        // RFC 8037 §A.3: the thumbprint of this key.
        let named = SigningKey::from_der(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!((key.kid(), named.kid()), ("k", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
        let secret = SigningKey::from_secret(&[7; 32], Algorithms::all()).unwrap();
        let token = secret.sign(Algorithm::Hs256, Map::new(), b"{}").unwrap();
        assert!(Compact::parse(&token).unwrap().header.kid.is_none());
        assert!(SigningKey::from_secret(&[7; 31], Algorithms::all()).is_err());
        assert!(SigningKey::from_der(b"no key").is_err());
        assert!(!format!("{key:?} {secret:?}").contains("nWGx"));
        assert!(secret.to_public_jwk().is_none() && secret.to_pkcs8().is_none());
    }
}
