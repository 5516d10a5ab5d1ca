//! Keys that verify, alone and in sets (RFC 7517 §5), and the one place where a signature is verified.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::algorithm::{Algorithm, Algorithms};
use super::compact::Compact;
use super::public::Public;
use super::{Flaw, Refusal, jwk, shown};
use crate::json::{Bounds, scan};

/// Keys of one set, at most.
pub const KEYS_MAX: usize = 100;
/// Keys that are tried for a token without `kid`, at most.
const TRIED_MAX: usize = 8;

/// What the text of a set may hold.
const SET: Bounds = Bounds {
    depth: 8,
    members: 64,
    items: 256,
    name_length: 128,
    string_length: 64 * 1024,
    number_length: 32,
    nodes: 16 * 1024,
    duplicates: false,
};

/// A key that verifies, with the algorithms that it may be used with. It may be a secret: `Debug` shows no material.
pub struct VerifyKey {
    kid: Option<String>,
    material: Material,
    identity: [u8; 32],
}

enum Material {
    Public { public: Public, ready: Vec<(Algorithm, ParsedPublicKey)> },
    Symmetric(Vec<(Algorithm, hmac::Key)>),
}

impl VerifyKey {
    /// A public key, for those of these algorithms that go with it.
    ///
    /// # Errors
    /// None of them does, or the key is none.
    pub fn public(kid: Option<String>, public: Public, allowed: Algorithms) -> Result<VerifyKey, String> {
        let fitting = public.algorithms().and(allowed);
        if fitting.is_empty() {
            return Err(format!("the key does not go with {allowed}"));
        }
        let ready: Result<Vec<_>, String> =
            fitting.iter().map(|algorithm| Ok((algorithm, public.ready(algorithm)?))).collect();
        let identity = public.thumbprint();
        Ok(VerifyKey { kid, material: Material::Public { public, ready: ready? }, identity })
    }

    /// A shared secret, for those of these algorithms that go with its length (RFC 7518 §3.2).
    ///
    /// # Errors
    /// None of them does.
    pub fn symmetric(kid: Option<String>, secret: &[u8], allowed: Algorithms) -> Result<VerifyKey, String> {
        let hmacs = allowed.and(Algorithms::SYMMETRIC.into());
        if hmacs.is_empty() {
            return Err(format!("a shared secret does not go with {allowed}"));
        }
        let fits = |algorithm: &Algorithm| algorithm.hmac_bytes().is_some_and(|bytes| secret.len() >= bytes);
        let ready: Vec<_> =
            hmacs.iter().filter(fits).map(|algorithm| (algorithm, hmac::Key::new(hash(algorithm), secret))).collect();
        if ready.is_empty() {
            return Err(format!("a secret of {} bytes is too short for {hmacs} (RFC 7518 §3.2)", secret.len()));
        }
        let identity = Sha256::new().chain_update(b"oct").chain_update(secret).finalize().into();
        Ok(VerifyKey { kid, material: Material::Symmetric(ready), identity })
    }

    /// The same key under another name.
    pub fn named(self, kid: Option<String>) -> VerifyKey {
        VerifyKey { kid, ..self }
    }

    /// Its name.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Equal for equal keys, whatever their names. Never shown: it would be a guess's proof of a weak secret.
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    /// Whether it is a shared secret.
    pub fn is_symmetric(&self) -> bool {
        matches!(self.material, Material::Symmetric(_))
    }

    /// The public key, where it is one.
    pub fn as_public(&self) -> Option<&Public> {
        match &self.material {
            Material::Public { public, .. } => Some(public),
            Material::Symmetric(_) => None,
        }
    }

    /// The key as JWK, for others to verify with; `None` for a shared secret.
    pub fn to_public_jwk(&self) -> Option<Json> {
        let mut jwk = self.as_public()?.to_jwk();
        let members = jwk.as_object_mut()?;
        members.insert("use".into(), "sig".into());
        if let Some(kid) = &self.kid {
            members.insert("kid".into(), kid.as_str().into());
        }
        let mut all = self.algorithms().iter();
        if let (Some(only), None) = (all.next(), all.next()) {
            members.insert("alg".into(), only.word().into());
        }
        Some(jwk)
    }

    /// What it may be used with.
    pub fn algorithms(&self) -> Algorithms {
        match &self.material {
            Material::Public { ready, .. } => ready.iter().map(|(algorithm, _)| *algorithm).collect(),
            Material::Symmetric(ready) => ready.iter().map(|(algorithm, _)| *algorithm).collect(),
        }
    }

    /// The HMAC over a text, where it is a shared secret that goes with the algorithm.
    pub fn mac(&self, algorithm: Algorithm, text: &[u8]) -> Option<Vec<u8>> {
        let Material::Symmetric(ready) = &self.material else { return None };
        let (_, key) = ready.iter().find(|(known, _)| *known == algorithm)?;
        Some(hmac::sign(key, text).as_ref().to_vec())
    }

    /// Whether this is its signature over the text.
    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Public { ready, .. } => {
                let key = ready.iter().find(|(known, _)| *known == algorithm);
                key.is_some_and(|(_, key)| key.verify_sig(signed, signature).is_ok())
            }
            Material::Symmetric(ready) => {
                let key = ready.iter().find(|(known, _)| *known == algorithm);
                key.is_some_and(|(_, key)| hmac::verify(key, signed, signature).is_ok())
            }
        }
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms = self.algorithms().to_string();
        out.debug_struct("VerifyKey").field("kid", &self.kid).field("algorithms", &algorithms).finish_non_exhaustive()
    }
}

pub(super) fn hash(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA256,
    }
}

/// Keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<VerifyKey>>,
    /// Why keys of its text were left out.
    ignored: Vec<String>,
}

impl KeySet {
    /// A set of these keys.
    pub fn of(keys: impl IntoIterator<Item = VerifyKey>) -> KeySet {
        KeySet { keys: keys.into_iter().map(Arc::new).collect(), ignored: Vec::new() }
    }

    /// A set of keys that others hold too.
    pub fn shared(keys: Vec<Arc<VerifyKey>>) -> KeySet {
        KeySet { keys, ignored: Vec::new() }
    }

    /// Reads a JWK Set, or one JWK. A key that cannot be used is left out (RFC 7517 §5), and so are shared secrets
    /// unless `secrets` says that the text is kept like one.
    ///
    /// # Errors
    /// It is no set, or has too many keys.
    pub fn parse(text: &[u8], secrets: bool) -> Result<KeySet, String> {
        scan(text, &SET).map_err(|broken| broken.to_string())?;
        let set: Json = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let one = [set.clone()];
        let jwks = match set.get("keys") {
            Some(keys) => keys.as_array().ok_or("`keys` is no list")?.as_slice(),
            None if set.get("kty").is_some() => one.as_slice(),
            None => return Err("no JWK Set: expected an object with `keys`".to_owned()),
        };
        if jwks.len() > KEYS_MAX {
            return Err(format!("{} keys, and at most {KEYS_MAX} are taken", jwks.len()));
        }
        let mut read = KeySet::default();
        for (number, jwk) in jwks.iter().enumerate() {
            let why = match jwk::parse(jwk) {
                Ok(key) if key.is_symmetric() && !secrets => "a shared secret in a set that others can read".to_owned(),
                Ok(key) => {
                    read.keys.push(Arc::new(key));
                    continue;
                }
                Err(why) => why,
            };
            let name = jwk.get("kid").and_then(Json::as_str).map_or_else(|| (number + 1).to_string(), shown);
            read.ignored.push(format!("key {name}: {why}"));
        }
        Ok(read)
    }

    /// The same set with another's keys behind its own.
    pub fn with(mut self, other: &KeySet) -> KeySet {
        self.keys.extend(other.keys.iter().cloned());
        self.ignored.extend(other.ignored.iter().cloned());
        self
    }

    /// Its keys.
    pub fn keys(&self) -> &[Arc<VerifyKey>] {
        &self.keys
    }

    /// Why keys were left out, for the operator.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Whether it has this very key.
    pub fn has(&self, identity: &[u8; 32]) -> bool {
        self.keys.iter().any(|key| key.identity == *identity)
    }

    /// Verifies a token with the key that its header names, or with each that fits where it names none. Returns the
    /// key. The header selects among the set's keys and these algorithms, and nothing else.
    ///
    /// # Errors
    /// [`Flaw::Algorithm`], [`Flaw::UnknownKey`] or [`Flaw::Signature`].
    pub fn verify(&self, token: &Compact<'_>, allowed: Algorithms) -> Result<&Arc<VerifyKey>, Refusal> {
        let algorithm = token.header.algorithm()?;
        if !allowed.has(algorithm) {
            return Err(Refusal::new(Flaw::Algorithm, format!("`alg` is {algorithm}, and allowed are {allowed}")));
        }
        let wanted = token.header.kid.as_deref();
        // A key without a name may have any; one with a name is asked for by it.
        let named = |key: &&Arc<VerifyKey>| match (wanted, key.kid()) {
            (Some(wanted), Some(kid)) => wanted == kid,
            _ => true,
        };
        let mut candidates = self.keys.iter().filter(named).peekable();
        if candidates.peek().is_none() {
            let kid = shown(wanted.unwrap_or_default());
            let text = format!("no key `{kid}` among {}", self.keys.len());
            return Err(Refusal::new(Flaw::UnknownKey, text));
        }
        let mut fitting = candidates.filter(|key| key.algorithms().has(algorithm)).take(TRIED_MAX).peekable();
        if fitting.peek().is_none() {
            // Without a name there is none to be wrong: another key may come that fits.
            let flaw = if wanted.is_some() { Flaw::Algorithm } else { Flaw::UnknownKey };
            return Err(Refusal::new(flaw, format!("no key of this name goes with {algorithm}")));
        }
        fitting
            .find(|key| key.verifies(algorithm, token.signed, &token.signature))
            .ok_or_else(|| Refusal::new(Flaw::Signature, "the signature is not that of the key"))
    }
}

#[cfg(test)]
#[path = "set/tests.rs"]
mod tests;
