//! Keys as they are kept in files: PEM (RFC 7468), DER, JWK and JWK Sets.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::Value as Json;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::algorithm::Algorithms;
use super::public::Public;
use super::set::{KeySet, VerifyKey};
use super::sign::SigningKey;

/// Keys to verify with: a public key or a certificate in PEM or DER, under no name; a JWK or JWK Set, of which only
/// the key `kid` where that is given.
///
/// # Errors
/// What was expected.
pub fn public_keys(bytes: &[u8], kid: Option<&str>, allowed: Algorithms) -> Result<KeySet, String> {
    if is_json(bytes) {
        let set = KeySet::parse(bytes, false)?;
        let wanted: Vec<_> = set.keys().iter().filter(|key| kid.is_none() || key.kid() == kid).cloned().collect();
        return match wanted.is_empty() {
            true => Err(nothing(kid, set.ignored())),
            false => Ok(KeySet::shared(wanted)),
        };
    }
    let public = match SubjectPublicKeyInfoDer::from_pem_slice(bytes) {
        Ok(spki) => Public::from_spki(&spki)?,
        Err(_) => {
            let pem = CertificateDer::from_pem_slice(bytes);
            let der = pem.as_ref().map_or(bytes, |certificate| certificate.as_ref());
            match X509Certificate::from_der(der) {
                Ok((_, certificate)) => Public::from_spki(certificate.public_key().raw)?,
                Err(_) => Public::from_spki(bytes).map_err(|_| EXPECTED_PUBLIC.to_owned())?,
            }
        }
    };
    Ok(KeySet::of([VerifyKey::public(kid.map(str::to_owned), public, allowed)?]))
}

const EXPECTED_PUBLIC: &str = "a public key or a certificate in PEM form, or a JWK Set, was expected";

/// A key to sign with: PEM or DER, or a JWK, or that one of a JWK Set which `kid` names.
///
/// # Errors
/// What was expected; nothing of the key.
pub fn signing_key(bytes: &[u8], kid: Option<&str>) -> Result<SigningKey, String> {
    if !is_json(bytes) {
        return match PrivateKeyDer::from_pem_slice(bytes) {
            Ok(der) => SigningKey::from_der(der.secret_der()),
            Err(_) => SigningKey::from_der(bytes),
        };
    }
    let broken = || "its JSON is broken".to_owned(); // other words could quote it
    let json: Json = serde_json::from_slice(bytes).map_err(|_| broken())?;
    let named = |jwk: &&Json| kid.is_none() || jwk.get("kid").and_then(Json::as_str) == kid;
    match json.get("keys").and_then(Json::as_array) {
        None => SigningKey::from_jwk(&json),
        Some(keys) => {
            let mut wanted = keys.iter().filter(named);
            match (wanted.next(), wanted.next()) {
                (Some(jwk), None) => SigningKey::from_jwk(jwk),
                (Some(_), Some(_)) => Err("several keys: say with `kid` which of them signs".to_owned()),
                (None, _) => Err(nothing(kid, &[])),
            }
        }
    }
}

fn nothing(kid: Option<&str>, ignored: &[String]) -> String {
    let name = kid.map_or_else(String::new, |kid| format!(" called `{kid}`"));
    match ignored.first() {
        Some(first) => format!("no key{name} that can be used: {first}"),
        None => format!("no key{name}"),
    }
}

fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;
    use crate::jose::Algorithm;

    fn pem(label: &str, der: &[u8]) -> String {
        let body: Vec<String> =
            BASE64.encode(der).as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.join("\n"))
    }

    #[test]
    fn each_form_gives_the_same_key() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&pair).unwrap();
        let signing = signing_key(pair.serialize_pem().as_bytes(), None).unwrap();
        assert_eq!(signing_key(&pair.serialize_der(), None).unwrap().kid(), signing.kid());
        let jwk = signing.to_public_jwk().unwrap();
        let set = serde_json::json!({ "keys": [{ "kty": "x" }, jwk] }).to_string();
        let identity = *signing.verify_key().unwrap().identity();
        let (pem_key, pem_certificate) = (pair.public_key_pem(), certificate.pem());
        let forms: [&[u8]; 4] = [pem_key.as_bytes(), pem_certificate.as_bytes(), certificate.der(), set.as_bytes()];
        for form in forms {
            let keys = public_keys(form, None, Algorithms::all()).unwrap();
            assert_eq!(keys.keys()[0].identity(), &identity);
        }
        assert!(public_keys(set.as_bytes(), Some("other"), Algorithms::all()).unwrap_err().contains("`other`"));
        let only = [Algorithm::Rs256].as_slice().into();
        assert!(public_keys(pem_key.as_bytes(), None, only).unwrap_err().contains("does not go with"));
        for broken in ["", "x", "{", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(public_keys(broken.as_bytes(), None, Algorithms::all()).is_err(), "{broken}");
            assert!(signing_key(broken.as_bytes(), None).is_err(), "{broken}");
        }
        assert!(signing_key(pem("PRIVATE KEY", b"canary").as_bytes(), None).unwrap_err().contains("was expected"));
    }
}
