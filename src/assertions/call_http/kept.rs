//! What tells one call from another, where answers are kept.

use std::fmt::Write as _;

use crate::secret::keyed_u128;
use crate::upstream::{Call, Destination};

/// A keyed hash over the step and all of the request.
pub(super) fn key(place: &str, call: &Call) -> u128 {
    let destination = match &call.destination {
        Destination::Origin(origin) => origin.text().to_string(),
        Destination::Upstream(upstream) => upstream.name.to_string(),
    };
    // A field's value has no line feed, so that no two lists of fields give one text.
    let mut head = format!("{} {}\n", call.method, call.target);
    for (name, value) in &call.headers {
        let _ = writeln!(head, "{name}: {}", value.as_bytes().escape_ascii());
    }
    let body = call.body.held().map(|bytes| &**bytes).unwrap_or_default();
    keyed_u128("call_http", &[place.as_bytes(), destination.as_bytes(), head.as_bytes(), body])
}
