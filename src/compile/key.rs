//! Where a key comes from: the `key:` of assertions that sign or verify.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::Compile;
use crate::compile::text::TextParam;
use crate::engine::value::Origin;
use crate::expr::Place;
use crate::identity::api_keys::ApiKeys;
use crate::secret::Secret;
use crate::source::{Diagnostic, Name, Node, ScalarOr, Span, Spanned, Text, read};

/// Shorter HMAC keys are a load warning (RFC 2104 §3 recommends at least the hash's length).
pub const KEY_BYTES_WARN: usize = 16;

/// Text form of bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The text's own bytes.
    #[default]
    Utf8,
    /// RFC 4648 §8, any case.
    Hex,
    /// RFC 4648 §4, padded.
    Base64,
    /// RFC 4648 §5, with or without padding.
    Base64url,
}

impl Encoding {
    /// Decodes strictly; the error says what it is not.
    pub fn decode(self, text: &[u8]) -> Result<Vec<u8>, String> {
        let decoded = match self {
            Encoding::Utf8 => return Ok(text.to_vec()),
            Encoding::Hex => HEXLOWER_PERMISSIVE.decode(text),
            Encoding::Base64 => BASE64.decode(text),
            Encoding::Base64url => {
                let unpadded = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
                BASE64URL_NOPAD.decode(text.get(..unpadded).unwrap_or_default())
            }
        };
        decoded.map_err(|error| format!("not {self:?}: {error}").to_lowercase())
    }
}

/// A key source written as a mapping.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// A `secret` document.
    #[serde(default)]
    pub secret: Option<Name>,
    /// A text, never made of what a client sent.
    #[serde(default)]
    pub value: Option<Text>,
    /// How `secret` or `value` is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// An `api_keys` document: the signing secret of the entry under `id`.
    #[serde(default)]
    pub api_keys: Option<Name>,
    /// Which entry.
    #[serde(default)]
    pub id: Option<Text>,
}

/// A `key:` parameter: the name of a `key` document, or a key source.
pub type KeyParam = Spanned<ScalarOr<Name, KeySource>>;

/// A resolved key source.
#[derive(Debug)]
pub enum Key {
    /// Known at load.
    Fixed(Secret),
    /// Made while the request runs, from what is not the client's.
    Text(TextParam, Encoding),
    /// The signing secret of an API key.
    ApiKey { keys: Arc<ApiKeys>, id: TextParam },
}

impl Compile<'_> {
    /// Resolves a `key:` parameter: the name of a `key` document or a mapping.
    pub fn key(&mut self, node: &Node) -> Option<Key> {
        let value = match node.as_text() {
            Some(name) => ScalarOr::Scalar(Name { name: name.into(), span: node.span() }),
            None => ScalarOr::Larger(read(node, None, "the key source", self.diags)?),
        };
        self.key_param(Spanned { value, span: node.span() })
    }

    /// The same for a parameter that has been read.
    pub fn key_param(&mut self, param: KeyParam) -> Option<Key> {
        let span = param.span;
        let source = match param.value {
            ScalarOr::Larger(source) => source,
            ScalarOr::Scalar(name) => {
                let key = self.resource("key", &name, |all| &all.keys)?;
                return self.fixed(key.material.clone(), span);
            }
        };
        match (source.secret, source.value, source.api_keys) {
            (Some(name), None, None) => {
                let known = &self.around.resources.secrets;
                let Some(found) = known.get(name.name.as_str()) else {
                    return self.unknown_name("secret", &name, known.keys());
                };
                let secret = found.clone()?;
                let bytes = match source.encoding.decode(secret.expose()) {
                    Ok(bytes) => Secret::new(bytes),
                    Err(why) => {
                        let message = format!("the value of secret `{}` is {why}", name.name);
                        return self.refuse("policy.bad_value", name.span, message, "correct `encoding:`");
                    }
                };
                self.fixed(bytes, name.span)
            }
            (None, Some(value), None) => self.key_text(&value, source.encoding),
            (None, None, Some(name)) => {
                let Some(id) = source.id else {
                    let help = "write `id: \"${api_key.id}\"` behind `authenticate_api_key`";
                    return self.refuse("policy.missing_parameter", span, "`api_keys` needs an `id`", help);
                };
                let keys = self.resource("api_keys", &name, |all| &all.api_keys)?;
                let id = self.text(&id, Place::Plain)?;
                Some(Key::ApiKey { keys, id })
            }
            _ => {
                let message = "a key source is exactly one of `secret`, `value` and `api_keys`";
                self.refuse("policy.bad_value", span, message, "write `key: { secret: NAME }`")
            }
        }
    }

    fn key_text(&mut self, value: &Text, encoding: Encoding) -> Option<Key> {
        let span = value.0.span();
        let text = self.text(value, Place::Plain)?;
        if let Some(literal) = text.literal() {
            let message = "a key stands here in clear text";
            let help = "declare `secret: NAME` with `from: { env: NAME }` and write `key: { secret: NAME }`";
            if !literal.is_empty() {
                return self.refuse("policy.secret_in_clear", span, message, help);
            }
            return self.refuse("policy.empty_key", span, "the key is empty", help);
        }
        if text.facts().origin == Origin::Client {
            let message = "this key is made of what the client sent: whoever knows that can sign";
            return self.refuse("policy.key_from_client", span, message, "use `{ secret: NAME }` or a `key` document");
        }
        Some(Key::Text(text, encoding))
    }

    fn fixed(&mut self, material: Secret, span: Span) -> Option<Key> {
        let length = material.expose().len();
        if length == 0 {
            return self.refuse("policy.empty_key", span, "the key is empty", "give the secret a value");
        }
        if length < KEY_BYTES_WARN {
            let message = format!("this key has {length} bytes; below {KEY_BYTES_WARN} it can be guessed");
            let help = "take one of 32 random bytes: `openssl rand -base64 32`";
            self.report(Diagnostic::warning("policy.weak_key", span, message).with_help(help));
        }
        Some(Key::Fixed(material))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_strict_and_base64url_takes_both_paddings() {
        assert_eq!(Encoding::Hex.decode(b"4a4B").unwrap(), b"JK");
        assert_eq!(Encoding::Base64url.decode(b"_-8=").unwrap(), [0xff, 0xef]);
        assert_eq!(Encoding::Base64url.decode(b"_-8").unwrap(), [0xff, 0xef]);
        assert!(Encoding::Base64.decode(b"_-8=").is_err());
        assert!(Encoding::Hex.decode(b"4a4").is_err());
    }
}
