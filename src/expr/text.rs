//! Values as text: what `${...}` and `string(x)` write.
//!
//! Only conversions that lose nothing: bytes that are not UTF-8 and absent values have no text.

use std::fmt::Write;

use crate::engine::value::Val;
use crate::expr::compare::Items;

/// Why a value has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotText {
    Absent,
    /// Bytes that are not UTF-8.
    Bytes,
}

impl NotText {
    /// For the audit.
    pub fn detail(self) -> &'static str {
        match self {
            NotText::Absent => "an absent value has no text",
            NotText::Bytes => "bytes that are not UTF-8 have no text; write them as base64(x) or hex(x)",
        }
    }
}

/// Appends a value as text: strings and numbers as they are, times as RFC 3339 in UTC, lists joined with
/// `, `, maps and JSON values as compact JSON.
pub fn write_text(val: &Val<'_>, out: &mut String) -> Result<(), NotText> {
    match val {
        Val::Absent => return Err(NotText::Absent),
        Val::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Val::Int(int) => out.push_str(itoa::Buffer::new().format(*int)),
        Val::Float(float) => write_float(*float, out),
        Val::Text(text) => out.push_str(text),
        Val::Bytes(bytes) => out.push_str(std::str::from_utf8(bytes).map_err(|_| NotText::Bytes)?),
        Val::Time(time) => write_display(time, out),
        Val::List(_) => {
            if let Some(items) = Items::of(val) {
                write_joined(items, ", ", out)?;
            }
        }
        Val::Map(_) => write_display(&val.to_json(), out),
        Val::Json(json) => write_display(json.as_ref(), out),
    }
    Ok(())
}

/// Appends elements with a separator; lists inside of the list as JSON, so that their ends stay visible.
pub(super) fn write_joined(items: Items<'_>, separator: &str, out: &mut String) -> Result<(), NotText> {
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push_str(separator);
        }
        match item {
            Val::Absent => out.push_str("null"),
            Val::List(_) => write_display(&item.to_json(), out),
            item => write_text(&item, out)?,
        }
    }
    Ok(())
}

/// The shortest text that reads back as the same float, always with a point or exponent.
fn write_float(float: f64, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{float:?}");
}

fn write_display(value: &impl std::fmt::Display, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
}
