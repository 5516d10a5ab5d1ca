//! Challenges: what a 401 asks for in `WWW-Authenticate` (RFC 9110 §11.6.1).

use http::HeaderValue;

use crate::compile::Compile;
use crate::source::{Literal, Span};

impl Compile<'_> {
    /// The challenge `SCHEME realm="..."`; the realm is the service's name unless it is written. `more` is
    /// appended as it stands, such as `, charset="UTF-8"`.
    pub fn challenge(&mut self, scheme: &str, realm: Option<&Literal>, more: &str, step: Span) -> Option<HeaderValue> {
        let (realm, span) = match realm {
            Some(literal) => (self.literal(literal)?, literal.span()),
            None => (self.service.to_string(), step),
        };
        let value = format!("{scheme} realm={}{more}", quoted(&realm));
        match HeaderValue::from_str(&value) {
            Ok(value) if realm.is_ascii() => Some(value),
            _ => {
                let message = format!("`{}` cannot stand in a challenge", realm.escape_debug());
                let help = "write `realm:` in visible ASCII characters (RFC 9110 §5.6.4)";
                self.refuse("policy.bad_value", span, message, help)
            }
        }
    }

    /// The challenge of a scheme that the policy names.
    pub fn challenge_of(&mut self, scheme: &Literal, step: Span) -> Option<HeaderValue> {
        let word = self.literal(scheme)?;
        // RFC 9110 §5.6.2: a scheme is a token.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if word.is_empty() || !word.bytes().all(is_token) {
            let message = format!("`{word}` is no authentication scheme");
            return self.refuse("policy.bad_value", scheme.span(), message, "write one word, such as `HMAC`");
        }
        self.challenge(&word, None, "", step)
    }
}

/// A quoted string (RFC 9110 §5.6.4).
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_a_realm_are_escaped() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }
}
