//! `gatewright jose`: signed tokens at the terminal, by the code that `authenticate_jwt` uses.
//!
//! A line is a token, or a JSON object with it: `{"jws": "...", "jwk": {...}}`. `decode` shows what stands in a token
//! and verifies nothing; `verify` says whether a key has signed it and, where an issuer or an audience is named,
//! whether its claims hold. One answer per line: `{"valid": true, "header": ..., "payload": ...}`, or `"valid": false`
//! with the `reason` (the end of the fault's code) and an `error` for people.

use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::lines::each_line;
use super::{FAILED, WRONG_USAGE};
use crate::clock::Clock;
use crate::jose::{Algorithm, Algorithms, Claims, Compact, KeySet, Refusal, Rules};
use crate::json_path::check_text;

/// Largest file of keys, in bytes.
const KEYS_BYTES_MAX: u64 = 1024 * 1024;
/// How far clocks may differ, in seconds.
const LEEWAY_S: i64 = 60;

#[derive(Debug, clap::Args)]
pub(super) struct JoseArguments {
    #[command(subcommand)]
    command: JoseCommand,
}

#[derive(Debug, clap::Subcommand)]
enum JoseCommand {
    /// Verifies each token; a line is a token, or an object with `jws` and `jwk` or `jwks`.
    Verify(VerifyArguments),
    /// Shows header and payload of each token. Nothing is verified.
    Decode,
}

#[derive(Debug, clap::Args)]
struct VerifyArguments {
    /// A JWK Set, or one JWK, for lines that bring no key.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Algorithms that count, such as RS256; all that fit the key without it.
    #[arg(long, value_name = "ALG", value_delimiter = ',')]
    algorithms: Vec<String>,
    /// What `iss` must be; with it the claims are checked too.
    #[arg(long)]
    issuer: Option<String>,
    /// What `aud` must name; with it the claims are checked too.
    #[arg(long)]
    audience: Option<String>,
}

/// How tokens are verified.
struct Verifying {
    keys: Option<KeySet>,
    allowed: Algorithms,
    issuer: Option<String>,
    audience: Option<Arc<str>>,
    now_s: i64,
}

pub(super) fn jose(arguments: &JoseArguments) -> u8 {
    let arguments = match &arguments.command {
        JoseCommand::Decode => return each_line(|line| decode(line).to_string()),
        JoseCommand::Verify(arguments) => arguments,
    };
    let mut allowed = Vec::new();
    for word in &arguments.algorithms {
        let Some(algorithm) = Algorithm::of(word) else {
            eprintln!("`{word}` is no algorithm: expected some of {}", Algorithms::all());
            return WRONG_USAGE;
        };
        allowed.push(algorithm);
    }
    let keys = match arguments.keys.as_ref().map(|path| (path, keys_of(path))) {
        None => None,
        Some((_, Ok(keys))) => Some(keys),
        Some((path, Err(why))) => {
            eprintln!("{}: {why}", path.display());
            return FAILED;
        }
    };
    let verifying = Verifying {
        keys,
        allowed: if allowed.is_empty() { Algorithms::all() } else { allowed.into_iter().collect() },
        issuer: arguments.issuer.clone(),
        audience: arguments.audience.as_deref().map(Arc::from),
        now_s: Clock::system().wall().as_second(),
    };
    each_line(|line| verifying.answer(line).to_string())
}

fn keys_of(path: &PathBuf) -> Result<KeySet, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > KEYS_BYTES_MAX {
        return Err(format!("larger than {KEYS_BYTES_MAX} bytes"));
    }
    KeySet::parse(&std::fs::read(path).map_err(|error| error.to_string())?, true)
}

/// What a line asks.
struct Question {
    token: String,
    keys: Option<Value>,
}

fn question(line: &[u8]) -> Result<Question, String> {
    let line = line.trim_ascii();
    if !line.starts_with(b"{") {
        let token = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?.to_owned();
        return Ok(Question { token, keys: None });
    }
    check_text(line).map_err(|broken| broken.to_string())?;
    let input: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Some(token) = input.get("jws").and_then(Value::as_str) else {
        return Err("expected a token, or an object with `jws`, a string".to_owned());
    };
    let keys = input.get("jwks").or_else(|| input.get("jwk")).cloned();
    Ok(Question { token: token.to_owned(), keys })
}

fn decode(line: &[u8]) -> Value {
    let question = match question(line) {
        Ok(question) => question,
        Err(why) => return json!({ "error": why }),
    };
    match Compact::parse(&question.token) {
        Ok(token) => shown(&token),
        Err(refusal) => json!({ "reason": refusal.flaw.word(), "error": refusal.text }),
    }
}

/// Header and payload; a payload that is no JSON in base64url.
fn shown(token: &Compact<'_>) -> Value {
    let header = &token.header.all;
    match serde_json::from_slice::<Value>(&token.payload).ok().filter(|_| check_text(&token.payload).is_ok()) {
        Some(payload) => json!({ "header": header, "payload": payload }),
        None => json!({ "header": header, "payload_base64url": BASE64URL_NOPAD.encode(&token.payload) }),
    }
}

/// An object with one more member.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.insert(name.to_owned(), value);
    }
    object
}

impl Verifying {
    fn answer(&self, line: &[u8]) -> Value {
        let question = match question(line) {
            Ok(question) => question,
            Err(why) => return json!({ "error": why }),
        };
        let own = question.keys.map(|keys| KeySet::parse(keys.to_string().as_bytes(), true)).transpose();
        let keys = match (own, &self.keys) {
            (Err(why), _) => return json!({ "error": format!("the key: {why}") }),
            (Ok(Some(own)), _) => own,
            (Ok(None), Some(keys)) => keys.clone(),
            (Ok(None), None) => return json!({ "error": "no key: write `jwk` beside `jws`, or --keys FILE" }),
        };
        match self.verify(&question.token, &keys) {
            Ok(answer) => with(answer, "valid", true.into()),
            Err(refusal) => {
                let answer = json!({ "valid": false, "reason": refusal.flaw.word(), "error": refusal.text });
                match keys.ignored() {
                    [] => answer,
                    ignored => with(answer, "ignored_keys", ignored.into()),
                }
            }
        }
    }

    fn verify(&self, token: &str, keys: &KeySet) -> Result<Value, Refusal> {
        let token = Compact::parse(token)?;
        let key = keys.verify(&token, self.allowed)?;
        if self.issuer.is_some() || self.audience.is_some() {
            let claims = Claims::parse(&token.payload)?;
            let audiences: Vec<Arc<str>> = self.audience.iter().cloned().collect();
            let audiences = if audiences.is_empty() { claims.audiences.clone() } else { audiences };
            let issuer = self.issuer.as_deref().or(claims.issuer.as_deref()).unwrap_or_default();
            let rules = Rules { issuer, audiences: &audiences, leeway_s: LEEWAY_S, max_age_s: None };
            claims.check(&rules, self.now_s)?;
        }
        Ok(with(shown(&token), "kid", key.kid().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8037 §A.4.
    const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn verifying(issuer: Option<&str>) -> Verifying {
        let keys = KeySet::parse(KEY.as_bytes(), true).ok();
        Verifying { keys, allowed: Algorithms::all(), issuer: issuer.map(str::to_owned), audience: None, now_s: 0 }
    }

    #[test]
    fn each_line_has_its_answer() {
        let decoded = decode(format!("{TOKEN}\n").as_bytes());
        let payload = "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        assert_eq!(decoded, json!({ "header": { "alg": "EdDSA" }, "payload_base64url": payload }));
        assert_eq!(decode(b"a.b")["reason"], "malformed");
        let valid = verifying(None).answer(TOKEN.as_bytes());
        assert_eq!(
            valid,
            json!({ "header": { "alg": "EdDSA" }, "payload_base64url": payload, "kid": null, "valid": true })
        );
        let own = format!(r#"{{"jws":"{TOKEN}","jwk":{KEY}}}"#);
        assert_eq!(Verifying { keys: None, ..verifying(None) }.answer(own.as_bytes())["valid"], true);
        let enc = format!(r#"{{"jws":"{TOKEN}","jwk":{{"use":"enc",{}}}"#, &KEY[1..]);
        let refused = verifying(None).answer(enc.as_bytes());
        assert_eq!((&refused["valid"], &refused["reason"]), (&json!(false), &json!("unknown_key")));
        assert!(refused["ignored_keys"][0].as_str().unwrap().contains("`use` is `enc`"));
        assert_eq!(verifying(Some("https://a")).answer(TOKEN.as_bytes())["reason"], "malformed", "it has no claims");
        for line in [r#"{"jws":1}"#, "{", r#"{"jws":"a","jws":"b"}"#] {
            assert!(verifying(None).answer(line.as_bytes())["error"].is_string(), "{line}");
        }
    }
}
