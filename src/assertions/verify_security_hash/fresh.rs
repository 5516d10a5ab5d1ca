//! The timestamp of a signed message: how it is written, and that it is signed itself.

use jiff::Timestamp;

use crate::compile::Compile;
use crate::compile::hashed::Data;
use crate::compile::text::TextParam;
use crate::expr::Place;
use crate::source::{DurationValue, OneOrMany, Text};

/// Tolerance of a timestamp where none is written, in milliseconds.
const TOLERANCE_MS: u64 = 5 * 60 * 1000;
/// Epoch numbers from here on are milliseconds: in seconds this is the year 5138.
const EPOCH_MS_FROM: i64 = 100_000_000_000;

#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) timestamp: TextParam,
    /// How far from now, either way.
    pub(super) tolerance_ms: u64,
}

/// Compiles `timestamp`, which must be part of the data.
pub(super) fn fresh(
    cx: &mut Compile<'_>,
    written: &Text,
    tolerance: Option<DurationValue>,
    data: &Data,
    texts: Option<&OneOrMany<Text>>,
) -> Option<Fresh> {
    let timestamp = cx.text(written, Place::Plain)?;
    let texts: Vec<&str> = texts.iter().flat_map(|texts| texts.iter()).map(Text::as_str).collect();
    let inside = written.as_str().trim().trim_start_matches("${").trim_end_matches('}').trim();
    let is_variable = timestamp.template().reads().next().is_some();
    if !is_variable || !timestamp.template().reads().all(|read| data.covers(read, inside, &texts)) {
        let message = "the timestamp is not part of `data`: whoever has an old message could renew it";
        let help = format!("add `\"{}\"` to `data`, on the sender's side too", written.as_str());
        return cx.refuse("policy.unsigned_timestamp", written.span(), message, &help);
    }
    let tolerance_ms = match tolerance {
        Some(given) => u64::try_from(given.duration.as_millis()).unwrap_or(u64::MAX),
        None => TOLERANCE_MS,
    };
    Some(Fresh { timestamp, tolerance_ms })
}

/// Epoch seconds, epoch milliseconds or RFC 3339.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let number: i64 = text.parse().ok()?;
    match number < EPOCH_MS_FROM {
        true => Timestamp::from_second(number).ok(),
        false => Timestamp::from_millisecond(number).ok(),
    }
}
