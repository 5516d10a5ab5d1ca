//! The compact form of a signed token (RFC 7515 §3.1, §5.2), taken apart strictly and within bounds.
//!
//! Base64url without padding, line breaks or bits behind the last byte (RFC 7515 §2); a header that is one JSON object
//! without a name twice (§4). Nothing is verified here.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value as Json;

use super::algorithm::Algorithm;
use super::{Flaw, Refusal, shown};
use crate::json::{Bounds, scan};

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest header, in bytes of its JSON text.
const HEADER_BYTES_MAX: usize = 4 * 1024;
/// Longest `kid`, in bytes.
const KID_BYTES_MAX: usize = 256;

/// What a header may hold.
const HEADER: Bounds = Bounds {
    depth: 8,
    members: 32,
    items: 32,
    name_length: 128,
    string_length: HEADER_BYTES_MAX,
    number_length: 32,
    nodes: 256,
    duplicates: false,
};

/// A protected header: what of it counts, and all of it for policies to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The word of `alg`, known or not.
    pub alg: String,
    /// A name for the key: an opaque text, only ever compared.
    pub kid: Option<String>,
    pub typ: Option<String>,
    /// The whole object.
    pub all: Json,
}

impl Header {
    /// The algorithm, where it is one.
    pub fn algorithm(&self) -> Result<Algorithm, Refusal> {
        Algorithm::of(&self.alg)
            .ok_or_else(|| Refusal::new(Flaw::Algorithm, format!("`alg` is `{}`", shown(&self.alg))))
    }
}

/// A token taken apart.
#[derive(Clone, Debug)]
pub struct Compact<'t> {
    pub header: Header,
    pub payload: Vec<u8>,
    /// Header and payload as they were signed.
    pub signed: &'t [u8],
    pub signature: Vec<u8>,
}

impl<'t> Compact<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Flaw::Malformed`], with what was expected.
    pub fn parse(token: &'t str) -> Result<Compact<'t>, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::malformed("longer than 16 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Refusal::malformed("expected three parts between dots"));
        };
        match parts.count() {
            0 => {}
            2 => return Err(Refusal::malformed("five parts between dots: an encrypted token, and those are not read")),
            _ => return Err(Refusal::malformed("expected three parts between dots")),
        }
        let signed = token.as_bytes().get(..header.len() + 1 + payload.len()).unwrap_or_default();
        let header = self::header(&decode_strict("the header", header)?)?;
        if signature.is_empty() {
            // An unsecured token (RFC 7515 §A.5) is told as what it is: one with the algorithm `none`.
            header.algorithm()?;
            return Err(Refusal::malformed("there is no signature"));
        }
        Ok(Compact {
            header,
            payload: decode_strict("the payload", payload)?,
            signed,
            signature: decode_strict("the signature", signature)?,
        })
    }
}

/// Base64url as RFC 7515 §2 has it: no padding, no white space, no bits behind the last byte.
///
/// # Errors
/// [`Flaw::Malformed`]; `what` names the text.
pub fn decode_strict(what: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    let decoded = BASE64URL_NOPAD.decode(text.as_bytes());
    decoded.map_err(|error| Refusal::malformed(format!("{what} is no base64url without padding: {error}")))
}

fn header(text: &[u8]) -> Result<Header, Refusal> {
    if text.len() > HEADER_BYTES_MAX {
        return Err(Refusal::malformed("the header is longer than 4 KiB"));
    }
    scan(text, &HEADER).map_err(|broken| Refusal::malformed(format!("the header: {broken}")))?;
    let all: Json = serde_json::from_slice(text).map_err(|why| Refusal::malformed(format!("the header: {why}")))?;
    let Some(members) = all.as_object() else { return Err(Refusal::malformed("the header is no object")) };
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::malformed(format!("`{name}` of the header is no string"))),
    };
    // RFC 7515 §4.1.11: what must be understood and is not makes the token invalid, and nothing is.
    if members.contains_key("crit") {
        return Err(Refusal::malformed("`crit` names extensions that are not understood"));
    }
    if members.get("b64").is_some_and(|value| *value != Json::Bool(true)) {
        return Err(Refusal::malformed("an unencoded payload (`b64`, RFC 7797) is not read"));
    }
    if let Some(name) = ["enc", "zip"].into_iter().find(|name| members.contains_key(*name)) {
        return Err(Refusal::malformed(format!("`{name}` belongs to encrypted tokens, and those are not read")));
    }
    let (alg, kid, typ) = (text("alg")?, text("kid")?, text("typ")?);
    let Some(alg) = alg else { return Err(Refusal::malformed("the header has no `alg`")) };
    if kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return Err(Refusal::malformed("`kid` is longer than 256 bytes"));
    }
    Ok(Header { alg, kid, typ, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        format!("{}.{}.AAAA", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(b"{}"))
    }

    fn flaw(token: &str) -> Flaw {
        Compact::parse(token).expect_err(token).flaw
    }

    #[test]
    fn a_token_comes_apart() {
        let token = token(r#"{"alg":"RS256","kid":"../../dev/null","typ":"JWT","jku":"http://169.254.169.254/"}"#);
        let parsed = Compact::parse(&token).unwrap();
        assert_eq!(parsed.header.algorithm(), Ok(Algorithm::Rs256));
        assert_eq!((parsed.header.kid.as_deref(), parsed.header.typ.as_deref()), (Some("../../dev/null"), Some("JWT")));
        assert_eq!((parsed.payload.as_slice(), parsed.signature.as_slice()), (&b"{}"[..], &[0, 0, 0][..]));
        assert_eq!(parsed.signed, token.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        let good = token(r#"{"alg":"RS256"}"#);
        let deep = format!(r#"{{"alg":"RS256","x":{}1{}}}"#, "[".repeat(9), "]".repeat(9));
        let wide = format!(r#"{{"alg":"RS256",{}"z":1}}"#, (0..40).map(|n| format!("\"m{n}\":1,")).collect::<String>());
        let headers = [
            r#"{"alg":"RS256","alg":"none"}"#,
            r#"{"alg":"RS256","\u0061lg":"none"}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["RS256"]}"#,
            r#"["RS256"]"#,
            r#"{"alg":"RS256"} "x""#,
            r#"{"alg":"RS256","kid":7}"#,
            r#"{"alg":"RS256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"RS256","crit":[]}"#,
            r#"{"alg":"RS256","b64":false}"#,
            r#"{"alg":"RS256","b64":"true"}"#,
            r#"{"alg":"RS256","zip":"DEF"}"#,
            r#"{"alg":"dir","enc":"A128GCM"}"#,
            "\u{feff}{\"alg\":\"RS256\"}",
            deep.as_str(),
            wide.as_str(),
        ];
        for header in headers {
            assert_eq!(flaw(&token(header)), Flaw::Malformed, "{header}");
        }
        let unsecured = token(r#"{"alg":"none"}"#);
        assert_eq!(flaw(unsecured.trim_end_matches("AAAA")), Flaw::Algorithm);
        let long = token(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257)));
        let large = token(&format!(r#"{{"alg":"RS256","x":"{}"}}"#, "k".repeat(5000)));
        let rest = good.split_once('.').unwrap().1;
        let texts = [
            String::new(),
            ".".into(),
            "..".into(),
            "a.b".into(),
            format!("{good}."),
            format!("{good}.AAAA"),
            format!("{good}.AAAA.AAAA"),
            good.trim_end_matches("AAAA").to_owned(),
            format!("{good}=="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{}B", &good[..good.len() - 2]), // AAB: two bits behind the last byte
            format!("é.{rest}"),
            format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)),
            long,
            large,
        ];
        for text in texts {
            assert_eq!(flaw(&text), Flaw::Malformed, "{text}");
        }
    }

    #[test]
    fn an_unknown_algorithm_is_told_apart_from_a_broken_token() {
        for alg in ["none", "nOnE", "", "RS1", "hs256"] {
            let token = token(&format!(r#"{{"alg":"{alg}"}}"#));
            let parsed = Compact::parse(&token).unwrap();
            assert_eq!(parsed.header.algorithm().unwrap_err().flaw, Flaw::Algorithm, "{alg}");
        }
    }
}
