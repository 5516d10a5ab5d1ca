//! `gatewright sign`: signatures at the terminal, by the code that `generate_security_hash` uses.
//!
//! A line is the text to sign, or a JSON object: `{"data": "..."}` or `{"data": [..]}`, whose parts are joined by
//! line feeds, with `key`, `algorithm` and `encoding` where they differ from the arguments. One answer per line:
//! `{"value": ...}` or `{"error": ...}`. The key of the arguments comes out of the environment or a file, so that no
//! list of processes shows it.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::lines::each_line;
use super::{FAILED, WRONG_USAGE};
use crate::compile::hashed::HashEncoding;
use crate::compile::key::Encoding;
use crate::digest::Algorithm;
use crate::json_path::check_text;

/// Largest file with a key, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// What a line can sign with.
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::HmacSha256, Algorithm::HmacSha384, Algorithm::HmacSha512, Algorithm::HmacSha1];

#[derive(Debug, clap::Args)]
pub(super) struct SignArguments {
    #[command(subcommand)]
    command: SignCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SignCommand {
    /// HMAC of each line (RFC 2104).
    Hmac(HmacArguments),
}

#[derive(Debug, clap::Args)]
struct HmacArguments {
    /// Variable of the environment with the key.
    #[arg(long, value_name = "NAME", conflicts_with = "key_file")]
    key_env: Option<String>,
    /// File with the key; a line feed at its end does not count.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// How the key is written: utf8, hex, base64 or base64url.
    #[arg(long, value_name = "FORM", default_value = "utf8")]
    key_encoding: String,
    /// hmac-sha256, hmac-sha384, hmac-sha512 or hmac-sha1.
    #[arg(long, default_value = "hmac-sha256")]
    algorithm: String,
    /// How the signature is written: base64, base64url or hex.
    #[arg(long, value_name = "FORM", default_value = "base64")]
    encoding: String,
}

/// A line that is an object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    data: Value,
    key: Option<String>,
    key_encoding: Option<String>,
    algorithm: Option<String>,
    encoding: Option<String>,
}

/// What holds where a line says nothing else.
struct Signing {
    key: Option<Zeroizing<Vec<u8>>>,
    key_encoding: Encoding,
    algorithm: Algorithm,
    encoding: HashEncoding,
}

pub(super) fn sign(arguments: &SignArguments) -> u8 {
    let SignCommand::Hmac(arguments) = &arguments.command;
    let words = (
        word::<Encoding>(&arguments.key_encoding),
        algorithm(&arguments.algorithm),
        word::<HashEncoding>(&arguments.encoding),
    );
    let (key_encoding, algorithm, encoding) = match words {
        (Ok(key_encoding), Ok(algorithm), Ok(encoding)) => (key_encoding, algorithm, encoding),
        (Err(why), ..) | (_, Err(why), _) | (_, _, Err(why)) => {
            eprintln!("{why}");
            return WRONG_USAGE;
        }
    };
    let key = match key(arguments, key_encoding) {
        Ok(key) => key,
        Err(why) => {
            eprintln!("{why}");
            return FAILED;
        }
    };
    let signing = Signing { key, key_encoding, algorithm, encoding };
    each_line(|line| signing.answer(line).to_string())
}

fn key(arguments: &HmacArguments, encoding: Encoding) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let text = match (&arguments.key_env, &arguments.key_file) {
        (Some(name), _) => {
            let value = std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?;
            Zeroizing::new(value.into_bytes())
        }
        (None, Some(path)) => {
            let problem = |why: String| format!("{}: {why}", path.display());
            let size = std::fs::metadata(path).map_err(|error| problem(error.to_string()))?.len();
            if size > KEY_BYTES_MAX {
                return Err(problem(format!("larger than {KEY_BYTES_MAX} bytes")));
            }
            Zeroizing::new(std::fs::read(path).map_err(|error| problem(error.to_string()))?)
        }
        (None, None) => return Ok(None),
    };
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    if text.is_empty() {
        return Err("the key is empty".to_owned());
    }
    Ok(Some(Zeroizing::new(encoding.decode(text)?)))
}

/// A word of policies.
fn word<T: for<'de> Deserialize<'de>>(word: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(word)).map_err(|error| error.to_string())
}

fn algorithm(word: &str) -> Result<Algorithm, String> {
    ALGORITHMS.into_iter().find(|algorithm| algorithm.word() == word).ok_or_else(|| {
        let known: Vec<&str> = ALGORITHMS.iter().map(|algorithm| algorithm.word()).collect();
        format!("`{word}` is no HMAC: expected one of {}", known.join(", "))
    })
}

impl Signing {
    fn answer(&self, line: &[u8]) -> Value {
        match self.value(line) {
            Ok(value) => json!({ "value": value }),
            Err(why) => json!({ "error": why }),
        }
    }

    fn value(&self, line: &[u8]) -> Result<String, String> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if !line.starts_with(b"{") {
            let key = self.key.as_ref().ok_or("no key: --key-env NAME, --key-file FILE, or `key` in the line")?;
            return Ok(mac(self.algorithm, key, &[line], self.encoding));
        }
        check_text(line).map_err(|broken| broken.to_string())?;
        let asked: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let parts: Vec<&str> = match &asked.data {
            Value::String(text) => vec![text],
            Value::Array(list) => {
                list.iter().map(Value::as_str).collect::<Option<_>>().ok_or("`data` is a text or a list of texts")?
            }
            _ => return Err("`data` is a text or a list of texts".to_owned()),
        };
        let key_encoding = asked.key_encoding.as_deref().map_or(Ok(self.key_encoding), word)?;
        let own = asked.key.map(Zeroizing::new).map(|key| key_encoding.decode(key.as_bytes())).transpose()?;
        let own = own.map(Zeroizing::new);
        let key = own.as_ref().or(self.key.as_ref()).filter(|key| !key.is_empty()).ok_or("no key, or an empty one")?;
        let algorithm = asked.algorithm.as_deref().map_or(Ok(self.algorithm), algorithm)?;
        let encoding = asked.encoding.as_deref().map_or(Ok(self.encoding), word)?;
        let parts: Vec<&[u8]> = parts.into_iter().map(str::as_bytes).collect();
        Ok(mac(algorithm, key, &parts, encoding))
    }
}

fn mac(algorithm: Algorithm, key: &[u8], parts: &[&[u8]], encoding: HashEncoding) -> String {
    let mut hasher = algorithm.hasher(key);
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            hasher.update(b"\n");
        }
        hasher.update(part);
    }
    encoding.encode(&hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_answer() {
        let key = Some(Zeroizing::new(b"Jefe".to_vec()));
        let signing = Signing {
            key,
            key_encoding: Encoding::Utf8,
            algorithm: Algorithm::HmacSha256,
            encoding: HashEncoding::Hex,
        };
        let said = |line: &str| signing.answer(line.as_bytes());
        // RFC 4231 §4.3 and §4.2.
        let jefe = json!({ "value": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" });
        assert_eq!(said("what do ya want for nothing?\n"), jefe);
        assert_eq!(said(r#"{"data":"what do ya want for nothing?"}"#), jefe);
        let hi = json!({ "value": "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" });
        let own = r#"{"data":"Hi There","key":"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b","key_encoding":"hex"}"#;
        assert_eq!(said(own), hi);
        assert_eq!(said(r#"{"data":["a","b"]}"#), said(r#"{"data":"a\nb"}"#));
        assert_ne!(said(r#"{"data":"a","encoding":"base64"}"#), said(r#"{"data":"a"}"#));
        for line in [r#"{"data":1}"#, r#"{"data":"a","algorithm":"md5"}"#, r#"{"data":"a","key":""}"#, "{"] {
            assert!(said(line)["error"].is_string(), "{line}");
        }
    }
}
