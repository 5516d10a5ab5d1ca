//! What a hash is made of: the `data:`, `separator:`, `key:` and `encoding:` that the hash assertions share.

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::Compile;
use crate::compile::key::{Encoding, Key, KeyParam};
use crate::compile::text::TextParam;
use crate::digest::{Algorithm, Hasher};
use crate::engine::exchange::Exchange;
use crate::engine::message::Unreadable;
use crate::engine::read::{Read, Side};
use crate::engine::reader::unreadable;
use crate::engine::value::{Facts, Mark, Type, Val};
use crate::expr::{Place, fault_by, write_text};
use crate::fault::Fault;
use crate::source::{Diagnostic, Literal, Node, OneOrMany, Span, Text};

/// Text form of a hash.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum HashEncoding {
    /// RFC 4648 §4, padded.
    #[default]
    Base64,
    /// RFC 4648 §5; written without padding, read with or without.
    Base64url,
    /// RFC 4648 §8; written in lower case, read in any.
    Hex,
}

impl HashEncoding {
    /// Writes bytes as text.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            HashEncoding::Base64 => BASE64.encode(bytes),
            HashEncoding::Base64url => BASE64URL_NOPAD.encode(bytes),
            HashEncoding::Hex => HEXLOWER.encode(bytes),
        }
    }

    /// Reads text strictly; the error says what it is not.
    pub fn decode(self, text: &str) -> Result<Vec<u8>, String> {
        let encoding = match self {
            HashEncoding::Base64 => Encoding::Base64,
            HashEncoding::Base64url => Encoding::Base64url,
            HashEncoding::Hex => Encoding::Hex,
        };
        encoding.decode(text.as_bytes())
    }
}

/// What is hashed.
#[derive(Debug)]
pub enum Data {
    /// The raw bytes of a body, and the mark of what a step has put into it.
    Body(Side, Mark),
    Parts {
        parts: Vec<TextParam>,
        separator: String,
    },
}

/// Why data could not be fed.
#[derive(Debug)]
pub enum Unfed {
    /// A part that is one variable is absent.
    Absent(Box<Fault>),
    Broken(Box<Fault>),
}

impl Compile<'_> {
    /// Compiles `data:` and `separator:`; without data it is the body of `side`.
    pub fn hashed_data(
        &mut self,
        data: Option<&OneOrMany<Text>>,
        separator: Option<&Literal>,
        side: Side,
        step: Span,
    ) -> Option<Data> {
        let Some(data) = data else {
            if let Some(separator) = separator {
                let message = "`separator` stands between the parts of `data`";
                return self.refuse("policy.bad_value", separator.span(), message, "add `data`, or remove it");
            }
            self.need_body(side);
            return Some(Data::Body(side, self.flow.carried.body(side)));
        };
        if data.is_empty() {
            let help = "write what to hash, or leave `data` out for the body";
            return self.refuse("policy.empty_list", step, "`data` is empty", help);
        }
        let parts: Vec<Option<TextParam>> = data
            .iter()
            .map(|part| {
                self.warn_of_newline(part.node());
                self.text(part, Place::Plain)
            })
            .collect();
        let separator = match separator {
            Some(literal) => {
                self.warn_of_newline(literal.node());
                self.literal(literal)?
            }
            None => "\n".to_owned(),
        };
        Some(Data::Parts { parts: parts.into_iter().collect::<Option<_>>()?, separator })
    }

    /// `\n` is a line feed only between double quotes: elsewhere two characters would be hashed.
    fn warn_of_newline(&mut self, node: &Node) {
        if node.as_text().is_some_and(|text| text.contains("\\n")) {
            let message = "a backslash and an `n` stand here, not a line feed";
            let diagnostic = Diagnostic::warning("policy.literal_newline", node.span(), message);
            self.report(diagnostic.with_help("put the text between double quotes"));
        }
    }

    /// Compiles the key of an algorithm: required where it is keyed, refused where it is not.
    pub fn hash_key(&mut self, key: Option<KeyParam>, algorithm: Algorithm, step: Span) -> Option<HashKey> {
        match key {
            None if algorithm.is_keyed() => {
                let message = format!("`{}` needs a `key`", algorithm.word());
                self.refuse("policy.missing_parameter", step, message, "write `key: { secret: NAME }`")
            }
            None => Some(HashKey::Known(Box::new(algorithm.hasher(b"")))),
            Some(key) if !algorithm.is_keyed() => {
                let message = format!("`{}` takes no key: everyone can calculate it", algorithm.word());
                let help = format!("write `algorithm: hmac-{}`, or remove the key", algorithm.word());
                self.refuse("policy.bad_value", key.span, message, &help)
            }
            Some(key) => Some(match self.key_param(key)? {
                Key::Fixed(material) => HashKey::Known(Box::new(algorithm.hasher(material.expose()))),
                key => HashKey::Later(key, algorithm),
            }),
        }
    }
}

/// A key that has been scheduled, or will be while the request runs.
pub enum HashKey {
    Known(Box<Hasher>),
    Later(Key, Algorithm),
}

impl HashKey {
    /// A hasher under a key that is known or made of a text; `None` where that is empty or not in its encoding.
    pub fn hasher(&self, x: &Exchange) -> Result<Option<Hasher>, Box<Fault>> {
        Ok(match self {
            HashKey::Known(hasher) => Some(Hasher::clone(hasher)),
            HashKey::Later(Key::Fixed(material), algorithm) => Some(algorithm.hasher(material.expose())),
            HashKey::Later(Key::Text(text, encoding), algorithm) => {
                let key = text.read_optional(x)?.and_then(|text| encoding.decode(text.as_bytes()).ok());
                key.filter(|key| !key.is_empty()).map(|key| algorithm.hasher(&key))
            }
            HashKey::Later(Key::ApiKey { keys, id }, algorithm) => {
                let id = id.read_optional(x)?;
                let entry = id.and_then(|id| keys.find_by_id(&id, x.received.as_second()));
                entry.and_then(|entry| entry.signing_secret.as_ref()).map(|secret| algorithm.hasher(secret.expose()))
            }
        })
    }
}

impl Data {
    /// Type, origin and marks of everything in it.
    pub fn facts(&self) -> Facts {
        match self {
            Data::Body(Side::Request, mark) => Facts::client(Type::Bytes).marked(*mark),
            Data::Body(Side::Response, mark) => {
                let facts = Facts::policy(Type::Bytes).marked(*mark);
                Facts { origin: crate::engine::value::Origin::Upstream, ..facts }
            }
            Data::Parts { parts, .. } => {
                parts.iter().fold(Facts::policy(Type::Bytes), |facts, part| facts.mixed(part.facts()))
            }
        }
    }

    /// Whether a variable takes part in it, so that it cannot be changed without changing the hash. `written`
    /// is the text that reads it, `parts` are the texts of the data.
    pub fn covers(&self, read: &Read, written: &str, texts: &[&str]) -> bool {
        let Data::Parts { parts, .. } = self else {
            return matches!((self, body_of(read)), (Data::Body(side, _), Some(of)) if *side == of);
        };
        let reads = || parts.iter().flat_map(|part| part.template().reads());
        let whole = |side| reads().any(|read| *read == Read::Body(side) || *read == Read::BodyText(side));
        match body_of(read) {
            Some(side) => whole(side) || texts.iter().any(|text| text.contains(written)),
            None => reads().any(|other| other == read),
        }
    }

    /// Feeds it to all hashers at once, piece by piece.
    pub fn feed(&self, x: &Exchange, hashers: &mut [Hasher]) -> Result<(), Unfed> {
        let (parts, separator) = match self {
            Data::Body(side, _) => {
                let body = x.body(*side).held().ok_or_else(|| Unfed::Broken(unreadable(*side, Unreadable::Gone)))?;
                update(hashers, body);
                return Ok(());
            }
            Data::Parts { parts, separator } => (parts, separator),
        };
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                update(hashers, separator.as_bytes());
            }
            let bytes: Cow<'_, [u8]> = match part.value(x).map_err(Unfed::Broken)? {
                Val::Absent => return Err(Unfed::Absent(part.absence())),
                Val::Bytes(bytes) => bytes,
                Val::Text(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
                Val::Text(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
                other => {
                    let mut text = String::new();
                    let written = write_text(&other, &mut text);
                    written.map_err(|why| {
                        Unfed::Broken(fault_by(part.facts().origin, "expression.not_text", why.detail()))
                    })?;
                    Cow::Owned(text.into_bytes())
                }
            };
            update(hashers, &bytes);
        }
        Ok(())
    }
}

fn update(hashers: &mut [Hasher], data: &[u8]) {
    for hasher in hashers {
        hasher.update(data);
    }
}

/// The message whose body a variable is read from.
fn body_of(read: &Read) -> Option<Side> {
    match read {
        Read::Json(side) | Read::Body(side) | Read::BodyText(side) => Some(*side),
        Read::Form(_) | Read::FormMap => Some(Side::Request),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_what_rfc_4648_says() {
        let bytes = [0xff, 0xef, 0x4a];
        let written =
            [("/+9K", HashEncoding::Base64), ("_-9K", HashEncoding::Base64url), ("ffef4a", HashEncoding::Hex)];
        for (text, encoding) in written {
            assert_eq!(encoding.encode(&bytes), text);
            assert_eq!(encoding.decode(text).unwrap(), bytes);
            assert!(encoding.decode("?").is_err());
        }
        assert_eq!(HashEncoding::Hex.decode("FFEF4A").unwrap(), bytes);
    }
}
