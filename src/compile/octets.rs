//! A text parameter as bytes, and the text forms of bytes that parameters take.

use std::borrow::Cow;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::text::TextParam;
use crate::encoding::Encoding;
use crate::engine::exchange::Exchange;
use crate::engine::value::{Origin, Val};
use crate::expr::fault_by;
use crate::fault::Fault;

/// The `encoding:` beside a value that is bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TextForm {
    /// The bytes themselves.
    #[default]
    None,
    /// UTF-8.
    Utf8,
    /// RFC 4648 §8.
    Hex,
    /// RFC 4648 §4.
    Base64,
    /// RFC 4648 §5.
    Base64url,
    /// RFC 4648 §6.
    Base32,
}

impl TextForm {
    /// The encoding, where the value is no bytes of its own.
    pub fn encoding(self) -> Option<Encoding> {
        match self {
            TextForm::None | TextForm::Utf8 => None,
            TextForm::Hex => Some(Encoding::Hex),
            TextForm::Base64 => Some(Encoding::Base64),
            TextForm::Base64url => Some(Encoding::Base64url),
            TextForm::Base32 => Some(Encoding::Base32),
        }
    }
}

impl TextParam {
    /// The bytes of a parameter, all but bytes as its text; `None` where its one `${}` is absent.
    pub fn octets<'x>(&'x self, x: &'x Exchange) -> Result<Option<Cow<'x, [u8]>>, Box<Fault>> {
        let bytes = match self.value(x)? {
            Val::Absent => return Ok(None),
            Val::Bytes(bytes) => bytes,
            Val::Text(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Val::Text(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            _ => {
                let mut text = String::new();
                self.render(x, &mut text)?;
                Cow::Owned(text.into_bytes())
            }
        };
        Ok(Some(bytes))
    }
}

/// A fault by origin that is not a 400 where it is the client's.
pub fn fault_with(origin: Origin, status: StatusCode, code: &'static str, detail: impl Into<String>) -> Box<Fault> {
    match origin {
        Origin::Client => Fault::denied(status, code, detail),
        _ => fault_by(origin, code, detail),
    }
}
