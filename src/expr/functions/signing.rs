//! The function that signs, for policy tests.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::engine::value::Val;
use crate::expr::failure::Failure;
use crate::expr::functions::{Arguments, items, wrong};
use crate::expr::{Kinds, write_text};

/// What stands between the parts of a list.
const SEPARATOR: &[u8] = b"\n";

pub(super) fn hmac_sha256(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [key, data, _] = arguments.values;
    let mut mac = match &key {
        Val::Text(text) => Hmac::<Sha256>::new_from_slice(text.as_bytes()),
        Val::Bytes(bytes) => Hmac::<Sha256>::new_from_slice(bytes),
        other => return wrong(Kinds::TEXT.or(Kinds::BYTES), other),
    }
    .map_err(|_| Failure::TooLarge)?; // not reached: HMAC takes keys of any length
    match &data {
        Val::Text(text) => mac.update(text.as_bytes()),
        Val::Bytes(bytes) => mac.update(bytes),
        list => {
            for (at, part) in items(list)?.enumerate() {
                if at > 0 {
                    mac.update(SEPARATOR);
                }
                update(&mut mac, &part)?;
            }
        }
    }
    let digest = data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes());
    Ok(Val::Text(Cow::Owned(digest)))
}

fn update(mac: &mut Hmac<Sha256>, part: &Val<'_>) -> Result<(), Failure> {
    match part {
        Val::Bytes(bytes) => mac.update(bytes),
        part => {
            let mut text = String::new();
            write_text(part, &mut text).map_err(Failure::NotText)?;
            mac.update(text.as_bytes());
        }
    }
    Ok(())
}
