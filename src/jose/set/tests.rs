//! Which key verifies which token: the examples of the standards, confusion of algorithms, and Wycheproof's vectors.

use aws_lc_rs::signature::{self, KeyPair, RsaKeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::json;

use super::*;

/// Token, key and payload of the examples in RFC 7515 §A.1 (HS256) and §A.3 (ES256), RFC 8037 §A.4 (EdDSA).
const EXAMPLES: [(&str, &str); 3] = [
    (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
    ),
    (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    ),
    (
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    ),
];

fn verify(token: &str, set: &KeySet, allowed: Algorithms) -> Result<(), Flaw> {
    let verified = Compact::parse(token).and_then(|token| set.verify(&token, allowed).map(|_| ()));
    verified.map_err(|refusal| refusal.flaw)
}

#[test]
fn examples_of_the_standards_verify_and_a_changed_byte_does_not() {
    for (token, key) in EXAMPLES {
        let set = KeySet::parse(key.as_bytes(), true).unwrap();
        assert_eq!(verify(token, &set, Algorithms::all()), Ok(()), "{token}");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        bytes[0] ^= 1;
        let changed = format!("{signed}.{}", BASE64URL_NOPAD.encode(&bytes));
        assert_eq!(verify(&changed, &set, Algorithms::all()), Err(Flaw::Signature));
        let none = Algorithms::all().iter().filter(|one| !set.keys()[0].algorithms().has(*one)).collect();
        assert_eq!(verify(token, &set, none), Err(Flaw::Algorithm));
    }
}

#[test]
fn es256_with_nothing_but_zeros_is_no_signature() {
    let set = KeySet::parse(EXAMPLES[1].1.as_bytes(), false).unwrap();
    let signed = EXAMPLES[1].0.rsplit_once('.').unwrap().0;
    for length in [0, 1, 63, 64, 65, 128] {
        let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&vec![0; length]));
        let expected = if length == 0 { Flaw::Malformed } else { Flaw::Signature };
        assert_eq!(verify(&token, &set, Algorithms::all()), Err(expected), "{length}");
    }
}

/// An attacker signs with what is public, as if it were the secret of an HMAC.
#[test]
fn a_public_key_is_never_the_secret_of_an_hmac() {
    let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let pkcs1 = pair.public_key().as_ref().to_vec();
    let public = Public::from_pkcs1(&pkcs1).unwrap();
    let Public::Rsa { n, .. } = public.clone() else { panic!("not RSA") };
    let jwk = public.to_jwk().to_string();
    let pem = format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", BASE64.encode(&pkcs1));
    let set = KeySet::of([VerifyKey::public(Some("k".into()), public, Algorithms::all()).unwrap()]);
    let payload = BASE64URL_NOPAD.encode(br#"{"sub":"admin"}"#);
    for secret in [pkcs1.as_slice(), pem.as_bytes(), pem.trim_end().as_bytes(), jwk.as_bytes(), n.as_slice(), b""] {
        for alg in ["HS256", "HS384", "HS512"] {
            for kid in [json!({ "alg": alg }), json!({ "alg": alg, "kid": "k" })] {
                let signed = format!("{}.{payload}", BASE64URL_NOPAD.encode(kid.to_string().as_bytes()));
                let key = hmac::Key::new(hash(Algorithm::of(alg).unwrap()), secret);
                let mac = hmac::sign(&key, signed.as_bytes());
                let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(mac.as_ref()));
                let flaw = verify(&token, &set, Algorithms::all()).unwrap_err();
                assert!(matches!(flaw, Flaw::Algorithm | Flaw::UnknownKey), "{flaw:?}");
            }
        }
    }
    // The same key does verify what it has signed, only with the algorithms that it is for.
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"RS256","kid":"k"}"#);
    let signed = format!("{header}.{payload}");
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&signature::RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
    let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature));
    assert_eq!(verify(&token, &set, Algorithms::PUBLIC.into()), Ok(()));
    assert_eq!(verify(&token, &set, [Algorithm::Ps256].as_slice().into()), Err(Flaw::Algorithm));
}

#[test]
fn names_select_keys_and_nothing_else() {
    let secret = |kid: Option<&str>, byte: u8| {
        VerifyKey::symmetric(kid.map(str::to_owned), &[byte; 32], Algorithms::all()).unwrap()
    };
    let token = |header: &str, byte: u8| {
        let signed = format!("{}.e30", BASE64URL_NOPAD.encode(header.as_bytes()));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]), signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(mac.as_ref()))
    };
    let all = Algorithms::all();
    let set = KeySet::of([secret(Some("a"), 1), secret(Some("b"), 2)]);
    assert_eq!(verify(&token(r#"{"alg":"HS256","kid":"b"}"#, 2), &set, all), Ok(()));
    assert_eq!(verify(&token(r#"{"alg":"HS256","kid":"a"}"#, 2), &set, all), Err(Flaw::Signature));
    assert_eq!(verify(&token(r#"{"alg":"HS256","kid":"c"}"#, 2), &set, all), Err(Flaw::UnknownKey));
    assert_eq!(verify(&token(r#"{"alg":"HS256"}"#, 2), &set, all), Ok(()), "each is tried");
    assert_eq!(verify(&token(r#"{"alg":"HS512","kid":"b"}"#, 2), &set, all), Err(Flaw::Algorithm), "too short");
    let nameless = KeySet::of([secret(None, 7)]);
    assert_eq!(verify(&token(r#"{"alg":"HS256","kid":"x"}"#, 7), &nameless, all), Ok(()));
    let many = KeySet::of((0..10).map(|byte| secret(None, byte)));
    assert_eq!(verify(&token(r#"{"alg":"HS256"}"#, 7), &many, all), Ok(()));
    assert_eq!(verify(&token(r#"{"alg":"HS256"}"#, 8), &many, all), Err(Flaw::Signature), "eight are tried");
    assert!(!format!("{set:?}").contains("[1, 1"));
}

#[test]
fn a_set_leaves_out_what_it_cannot_use() {
    let secret = r#"{"kty":"oct","kid":"s","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
    let set = format!(r#"{{"keys":[{},{secret},{{"kty":"XYZ","kid":"x"}},{{}}]}}"#, EXAMPLES[2].1);
    let read = KeySet::parse(set.as_bytes(), false).unwrap();
    assert_eq!((read.keys().len(), read.ignored().len()), (1, 3));
    assert!(read.ignored()[0].starts_with("key s: a shared secret"), "{:?}", read.ignored());
    assert!(read.ignored()[2].starts_with("key 4:"));
    assert_eq!(KeySet::parse(set.as_bytes(), true).unwrap().keys().len(), 2);
    let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; KEYS_MAX + 1].join(","));
    for broken in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, many.as_str()] {
        assert!(KeySet::parse(broken.as_bytes(), false).is_err(), "{broken}");
    }
}

/// Vectors that are judged otherwise here, and why.
const OTHERWISE: [(u64, &str); 8] = [
    (346, "the key is for PS256, the token says PS384: a key keeps to its algorithm (RFC 8725 §3.1)"),
    (347, "the key is for `ES521`, which is no algorithm (RFC 7518 §3.1 has ES512)"),
    (350, "as 346"),
    (351, "as 347"),
    (367, "byte for byte the token and the key of 357, which is valid"),
    (370, "as 367"),
    (372, "a `?` in the header: no character of base64url (RFC 7515 §2)"),
    (373, "a `?` in the payload"),
];

/// Wycheproof (C2SP, Apache-2.0), `json_web_signature_test.json`: `tests/vectors/wycheproof`.
#[test]
fn wycheproof_accepts_no_invalid_signature() {
    let text = include_str!("../../../tests/vectors/wycheproof/json_web_signature_test.json");
    let vectors: Json = serde_json::from_str(text).unwrap();
    let (mut valid, mut invalid, mut accepted, mut otherwise) = (0, 0, 0, Vec::new());
    let mut twins = Vec::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = group.get("public").filter(|key| !key.is_null()).unwrap_or(&group["private"]);
        let set = KeySet::parse(key.to_string().as_bytes(), true).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let number = test["tcId"].as_u64().unwrap();
            let verified = match test["jws"].as_str() {
                Some(token) => verify(token, &set, Algorithms::all()).is_ok(),
                None => false, // a JSON serialisation
            };
            let expected = test["result"] == "valid";
            if expected {
                valid += 1
            } else {
                invalid += 1
            }
            accepted += usize::from(verified);
            if verified != expected {
                otherwise.push(number);
            }
            if [357, 367, 370].contains(&number) {
                twins.push((test["jws"].clone(), key.clone()));
            }
        }
    }
    println!("Wycheproof JWS: {valid} valid, {invalid} invalid, {accepted} accepted, otherwise: {OTHERWISE:#?}");
    assert_eq!((valid, invalid, accepted), (46, 355, 42));
    assert_eq!(otherwise, OTHERWISE.map(|(number, _)| number));
    // The only "invalid" ones that are accepted are copies of a valid one.
    assert!(twins.len() == 3 && twins.iter().all(|twin| *twin == twins[0]));
}
