//! The tokens of a session, and the form in which they stand in its file.
//!
//! JSON with the names of RFC 6749 §5.1, so that an answer of a token endpoint can be put there as it is. Nothing of it
//! can be printed by accident.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A token that ends within this many seconds has ended: it still has to get there.
const SKEW_S: i64 = 5;
/// Longest token, in bytes: it has to stand in a header field.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The tokens of a session.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    pub access_token: Option<Secret>,
    pub refresh_token: Option<Secret>,
    /// Unix seconds; without it nobody knows.
    pub expires_at_s: Option<i64>,
    /// Where the account lives.
    pub instance_url: Option<Arc<str>>,
    /// Whose grant it is, in words of the operator.
    pub account: Option<Arc<str>>,
    /// When the tokens came, Unix seconds.
    pub refreshed_at_s: Option<i64>,
}

impl Grant {
    /// Reads the file of a session. Numbers may stand in quotes, as some providers write them.
    ///
    /// # Errors
    /// What was expected; nothing of the text is repeated.
    pub fn read(text: &[u8]) -> Result<Grant, String> {
        // The library's own message could repeat a part of the text.
        let json: Json = serde_json::from_slice(text).map_err(|error| format!("no JSON at line {}", error.line()))?;
        let Json::Object(members) = &json else { return Err("expected a JSON object".to_owned()) };
        let grant = Grant {
            access_token: token(members, "access_token")?,
            refresh_token: token(members, "refresh_token")?,
            expires_at_s: number(members, "expires_at")?,
            instance_url: text_of(members, "instance_url")?.map(Arc::from),
            account: text_of(members, "account")?.map(Arc::from),
            refreshed_at_s: number(members, "refreshed_at")?,
        };
        match (&grant.access_token, &grant.refresh_token) {
            (None, None) => Err("expected `access_token`, `refresh_token` or both".to_owned()),
            _ => Ok(grant),
        }
    }

    /// The text of its file.
    pub fn write(&self) -> Zeroizing<String> {
        let mut members = Map::new();
        let text = |secret: &Secret| Json::String(String::from_utf8_lossy(secret.expose()).into_owned());
        let entries = [
            ("access_token", self.access_token.as_ref().map(text)),
            ("refresh_token", self.refresh_token.as_ref().map(text)),
            ("expires_at", self.expires_at_s.map(Json::from)),
            ("instance_url", self.instance_url.as_deref().map(Json::from)),
            ("account", self.account.as_deref().map(Json::from)),
            ("refreshed_at", self.refreshed_at_s.map(Json::from)),
        ];
        members.extend(entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Zeroizing::new(format!("{:#}\n", Json::Object(members)))
    }

    /// Seconds that the access token serves for; none or less where it has ended. `None` where its end is not known.
    pub fn left_s(&self, now_s: i64) -> Option<i64> {
        match (&self.access_token, self.expires_at_s) {
            (None, _) => Some(0),
            (Some(_), None) => None,
            (Some(_), Some(expires_at_s)) => Some(expires_at_s.saturating_sub(now_s).saturating_sub(SKEW_S)),
        }
    }

    /// Whether the tokens came less than so many seconds ago, as far as that is known.
    pub fn is_younger(&self, than_s: i64, now_s: i64) -> bool {
        self.refreshed_at_s.is_some_and(|came_s| (0..than_s).contains(&now_s.saturating_sub(came_s)))
    }

    /// So long before its end the access token is renewed: not more than half of its life, or one that lives short would
    /// be renewed without end.
    pub fn margin_s(&self, before: Duration) -> i64 {
        let before_s = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
        match (self.expires_at_s, self.refreshed_at_s) {
            (Some(expires_at_s), Some(refreshed_at_s)) => {
                before_s.min(expires_at_s.saturating_sub(refreshed_at_s).max(0) / 2)
            }
            _ => before_s,
        }
    }

    /// Whether both hold the same tokens.
    pub fn is_same(&self, other: &Grant) -> bool {
        same(self.access_token.as_ref(), other.access_token.as_ref())
            && same(self.refresh_token.as_ref(), other.refresh_token.as_ref())
    }
}

/// Whether two tokens are the same, or neither is there.
pub fn same(one: Option<&Secret>, other: Option<&Secret>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_constant_time(other.expose()),
        (None, None) => true,
        _ => false,
    }
}

/// A token: visible characters only, since it stands in header fields (RFC 6749 §A.12 and §A.17).
pub(super) fn token(members: &Map<String, Json>, name: &str) -> Result<Option<Secret>, String> {
    let Some(text) = text_of(members, name)? else { return Ok(None) };
    let is_visible = text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    match text.len() {
        0 => Err(format!("`{name}` is empty")),
        _ if !is_visible => Err(format!("`{name}` holds blanks or other characters that no token has")),
        bytes if bytes > TOKEN_BYTES_MAX => Err(format!("`{name}` has {bytes} bytes, at most {TOKEN_BYTES_MAX}")),
        _ => Ok(Some(Secret::new(text.as_bytes().to_vec()))),
    }
}

pub(super) fn text_of<'m>(members: &'m Map<String, Json>, name: &str) -> Result<Option<&'m str>, String> {
    match members.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is no text")),
    }
}

/// A whole number of at least 0, also one in quotes.
fn number(members: &Map<String, Json>, name: &str) -> Result<Option<i64>, String> {
    let read = match members.get(name) {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Number(number)) => number.as_i64(),
        Some(Json::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    read.filter(|number| *number >= 0).map(Some).ok_or_else(|| format!("`{name}` is no whole number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let text =
            br#"{"access_token":"a","refresh_token":"r","expires_at":"100","instance_url":"https://x","account":"b"}"#;
        let grant = Grant::read(text).unwrap();
        let again = Grant::read(grant.write().as_bytes()).unwrap();
        assert!(again.is_same(&grant));
        assert_eq!((again.expires_at_s, again.instance_url.as_deref()), (Some(100), Some("https://x")));
        assert_eq!((again.account.as_deref(), again.refreshed_at_s), (Some("b"), None));
    }

    #[test]
    fn what_is_no_session_is_refused_and_not_repeated() {
        for text in [
            "",
            "canary",
            "[\"canary\"]",
            "{\"token\":\"canary\"}",
            "{\"access_token\":\"\"}",
            "{\"access_token\":\"canary x\"}",
            "{\"access_token\":\"canary\\n\"}",
            "{\"access_token\":[\"canary\"]}",
            "{\"access_token\":\"canary\",\"expires_at\":\"soon\"}",
            "{\"access_token\":\"canary\",\"expires_at\":-1}",
            "{\"access_token\":\"canary\"",
        ] {
            let why = Grant::read(text.as_bytes()).unwrap_err();
            assert!(!why.contains("canary"), "{text}: {why}");
        }
        assert!(!format!("{:?}", Grant::read(br#"{"access_token":"canary"}"#)).contains("canary"));
    }

    #[test]
    fn a_token_that_lives_short_is_not_renewed_all_the_time() {
        let grant = |text: &str| Grant::read(text.as_bytes()).unwrap();
        let before = Duration::from_secs(300);
        assert_eq!(grant(r#"{"access_token":"a","expires_at":3600,"refreshed_at":0}"#).margin_s(before), 300);
        assert_eq!(grant(r#"{"access_token":"a","expires_at":60,"refreshed_at":0}"#).margin_s(before), 30);
        assert_eq!(grant(r#"{"access_token":"a","expires_at":60}"#).margin_s(before), 300);
    }

    #[test]
    fn a_token_ends_a_little_early() {
        let grant = |text: &str| Grant::read(text.as_bytes()).unwrap();
        let ends = grant(r#"{"access_token":"a","expires_at":100}"#);
        assert_eq!((ends.left_s(90), ends.left_s(95), ends.left_s(200)), (Some(5), Some(0), Some(-105)));
        assert_eq!(grant(r#"{"access_token":"a"}"#).left_s(90), None);
        assert_eq!(grant(r#"{"refresh_token":"r"}"#).left_s(90), Some(0));
    }
}
