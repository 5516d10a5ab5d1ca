//! Functions that give a value another form, and those of maps.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::engine::value::{Val, Value};
use crate::expr::compare::view;
use crate::expr::failure::Failure;
use crate::expr::functions::{Arguments, bounded, entries, items, wrong};
use crate::expr::{Kinds, TEXT_BYTES_MAX, write_text};

pub(super) fn string(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    match arguments.first() {
        Val::Text(text) => Ok(Val::Text(text)),
        other => {
            let mut text = String::new();
            write_text(&other, &mut text).map_err(Failure::NotText)?;
            bounded(text)
        }
    }
}

pub(super) fn json_text(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    bounded(arguments.first().to_json().to_string())
}

pub(super) fn base64(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    encoded(arguments, &data_encoding::BASE64)
}

pub(super) fn base64url(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    encoded(arguments, &data_encoding::BASE64URL_NOPAD)
}

pub(super) fn hex(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    encoded(arguments, &data_encoding::HEXLOWER)
}

fn encoded<'x>(arguments: Arguments<'x>, encoding: &data_encoding::Encoding) -> Result<Val<'x>, Failure> {
    let bytes = bytes(arguments)?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Failure::TooLarge);
    }
    bounded(encoding.encode(&bytes))
}

pub(super) fn sha256(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let digest = Sha256::digest(bytes(arguments)?);
    Ok(Val::Text(Cow::Owned(data_encoding::HEXLOWER.encode(&digest))))
}

fn bytes(arguments: Arguments<'_>) -> Result<Cow<'_, [u8]>, Failure> {
    match arguments.first() {
        Val::Bytes(bytes) => Ok(bytes),
        Val::Text(Cow::Borrowed(text)) => Ok(Cow::Borrowed(text.as_bytes())),
        Val::Text(Cow::Owned(text)) => Ok(Cow::Owned(text.into_bytes())),
        other => Err(Failure::Expected(Kinds::BYTES.or(Kinds::TEXT), other.type_word())),
    }
}

pub(super) fn len(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let val = arguments.first();
    let length = match &val {
        Val::Text(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::Absent | Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Time(_) => return wrong(Kinds::LIST, &val),
        _ => match entries(&val) {
            Ok(entries) => entries.len(),
            Err(_) => items(&val)?.len(),
        },
    };
    i64::try_from(length).map(Val::Int).map_err(|_| Failure::TooLarge)
}

pub(super) fn keys(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let map = arguments.first();
    let keys = entries(&map)?.iter().map(|(key, _)| Value::text(key)).collect();
    Ok(Val::List(Cow::Owned(keys)))
}

pub(super) fn values(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let map = arguments.first();
    let values = entries(&map)?.iter().map(|(_, value)| view(&value).into_value()).collect();
    Ok(Val::List(Cow::Owned(values)))
}
