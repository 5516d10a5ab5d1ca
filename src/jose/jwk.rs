//! JSON Web Keys (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2) for verifying.
//!
//! Of a private key only the public half is taken. A key for something else than signatures (`use`, `key_ops`, `alg`)
//! is refused, so that a key made for one purpose is not turned to another (RFC 8725 §3.5).

use serde_json::{Map, Value as Json};

use super::algorithm::{Algorithm, Algorithms};
use super::decode_strict;
use super::public::{Curve, Public};
use super::set::VerifyKey;
use super::shown;

/// A key for verifying.
///
/// # Errors
/// Why it is none, in words that show nothing of a secret.
pub fn parse(jwk: &Json) -> Result<VerifyKey, String> {
    let Some(members) = jwk.as_object() else { return Err("a key is an object".to_owned()) };
    purpose(members)?;
    let kid = text(members, "kid")?.map(str::to_owned);
    let allowed = match text(members, "alg")? {
        None => Algorithms::all(),
        Some(word) => match Algorithm::of(word) {
            Some(algorithm) => [algorithm].as_slice().into(),
            None => return Err(format!("`alg` is `{}`, which signs nothing here", shown(word))),
        },
    };
    let needed = |name: &str| match text(members, name)? {
        Some(value) => decode_strict(name, value).map_err(|refusal| refusal.text.into_owned()),
        None => Err(format!("`{name}` is missing")),
    };
    let public = match (text(members, "kty")?, text(members, "crv")?) {
        (Some("oct"), _) => return VerifyKey::symmetric(kid, &zeroize::Zeroizing::new(needed("k")?), allowed),
        (Some("RSA"), _) => Public::rsa(&needed("n")?, &needed("e")?)?,
        (Some("EC"), Some(word)) => match Curve::of(word) {
            Some(curve) => Public::ec(curve, &needed("x")?, &needed("y")?)?,
            None => return Err(format!("the curve `{}` is not known", shown(word))),
        },
        (Some("OKP"), Some("Ed25519")) => {
            let x = needed("x")?;
            if x.len() != 32 {
                return Err(format!("an Ed25519 key has 32 bytes, this one {}", x.len()));
            }
            Public::Ed25519 { x }
        }
        (Some("OKP"), Some(word)) => return Err(format!("the curve `{}` is not known", shown(word))),
        (Some("EC" | "OKP"), None) => return Err("`crv` is missing".to_owned()),
        (Some(word), _) => return Err(format!("`kty` is `{}`: expected RSA, EC, OKP or oct", shown(word))),
        (None, _) => return Err("`kty` is missing".to_owned()),
    };
    VerifyKey::public(kid, public, allowed)
}

/// Whether the key is for signatures, as far as it says.
fn purpose(members: &Map<String, Json>) -> Result<(), String> {
    if let Some(word) = text(members, "use")?.filter(|word| *word != "sig") {
        return Err(format!("`use` is `{}`, not `sig`", shown(word)));
    }
    let Some(operations) = members.get("key_ops") else { return Ok(()) };
    let words = operations.as_array().ok_or("`key_ops` is no list")?;
    let signs = words.iter().any(|word| matches!(word.as_str(), Some("verify" | "sign")));
    if signs { Ok(()) } else { Err("`key_ops` has neither `verify` nor `sign`".to_owned()) }
}

fn text<'m>(members: &'m Map<String, Json>, name: &str) -> Result<Option<&'m str>, String> {
    match members.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is no string")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_for_something_else_are_refused_and_say_why() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037 §A.2
        let k = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let good = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        assert!(parse(&good).is_ok());
        let with = |name: &str, value: Json| {
            let mut key = good.clone();
            key[name] = value;
            key
        };
        let wrong = [
            (with("use", json!("enc")), "`use` is `enc`"),
            (with("key_ops", json!(["deriveKey"])), "`key_ops`"),
            (with("key_ops", json!("verify")), "`key_ops`"),
            (with("alg", json!("RSA-OAEP")), "`alg` is `RSA-OAEP`"),
            (with("alg", json!("ES256")), "does not go with"),
            (with("crv", json!("X25519")), "X25519"),
            (with("kid", json!(7)), "`kid`"),
            (with("x", json!("AAAA")), "32 bytes"),
            (with("x", json!("AAA=")), "base64url"),
            (with("kty", json!("AKP")), "`kty` is `AKP`"),
            (json!({ "kty": "oct", "k": "AAAA" }), "too short"),
            (json!({ "kty": "oct", "k": k, "alg": "HS512" }), "too short"),
            (json!({ "kty": "oct", "k": k, "alg": "RS256" }), "does not go with"),
            (json!({ "kty": "EC", "crv": "secp256k1", "x": k, "y": k }), "secp256k1"),
            (json!([]), "object"),
        ];
        for (key, why) in wrong {
            let error = parse(&key).map(|_| ()).unwrap_err();
            assert!(error.contains(why), "{key}: {error}");
        }
    }
}
