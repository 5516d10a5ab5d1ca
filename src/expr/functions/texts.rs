//! Functions of texts.

use std::borrow::Cow;
use std::ops::Range;

use crate::engine::value::{Val, Value};
use crate::expr::compare::has_edge;
use crate::expr::failure::Failure;
use crate::expr::functions::{Arguments, bounded, items};
use crate::expr::text::write_joined;
use crate::expr::{Kinds, LIST_ELEMENTS_MAX, Place, TEXT_BYTES_MAX, escape};

pub(super) fn lower(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [text, ..] = arguments.texts();
    // The common case of a header already in lower case copies nothing.
    let settled = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if settled { Ok(Val::Text(text)) } else { bounded(text.to_lowercase()) }
}

pub(super) fn upper(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [text, ..] = arguments.texts();
    bounded(if text.is_ascii() { text.to_ascii_uppercase() } else { text.to_uppercase() })
}

/// As many characters as the text has, at most; none for a number below zero.
pub(super) fn left(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let (text, wanted) = text_and_number(arguments);
    let end = text.char_indices().nth(wanted).map_or(text.len(), |(at, _)| at);
    Ok(Val::Text(part(text, 0..end)))
}

/// The same from the end.
pub(super) fn right(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let (text, wanted) = text_and_number(arguments);
    let start = match wanted.checked_sub(1) {
        Some(before) => text.char_indices().rev().nth(before).map_or(0, |(at, _)| at),
        None => text.len(),
    };
    let end = text.len();
    Ok(Val::Text(part(text, start..end)))
}

fn text_and_number(arguments: Arguments<'_>) -> (Cow<'_, str>, usize) {
    match arguments.values {
        [Val::Text(text), Val::Int(number), _] => (text, usize::try_from(number).unwrap_or_default()),
        _ => (Cow::Borrowed(""), 0),
    }
}

/// A part between characters.
fn part(text: Cow<'_, str>, range: Range<usize>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_owned()),
    }
}

pub(super) fn trim(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [text, ..] = arguments.texts();
    Ok(Val::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }))
}

pub(super) fn split(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [text, separator, _] = arguments.texts();
    let parts: Vec<Value> = if separator.is_empty() {
        let mut buffer = [0; 4];
        text.chars().take(LIST_ELEMENTS_MAX + 1).map(|char| Value::text(&*char.encode_utf8(&mut buffer))).collect()
    } else {
        text.split(&*separator).take(LIST_ELEMENTS_MAX + 1).map(Value::text).collect()
    };
    if parts.len() > LIST_ELEMENTS_MAX { Err(Failure::TooLarge) } else { Ok(Val::List(Cow::Owned(parts))) }
}

pub(super) fn join(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [list, separator, _] = arguments.values;
    let Val::Text(separator) = separator else { return Err(Failure::Expected(Kinds::TEXT, separator.type_word())) };
    let elements = items(&list)?;
    if elements.len().saturating_mul(separator.len()) > TEXT_BYTES_MAX {
        return Err(Failure::TooLarge);
    }
    let mut text = String::new();
    write_joined(elements, &separator, &mut text).map_err(Failure::NotText)?;
    bounded(text)
}

pub(super) fn replace(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [text, from, to] = arguments.texts();
    // An empty text to look for stands nowhere: nothing is replaced.
    if from.is_empty() || !text.contains(&*from) {
        return Ok(Val::Text(text));
    }
    // Measured first: a short text with a long replacement could grow without bound.
    let found = text.matches(&*from).count();
    let grown = (text.len() - found * from.len()).saturating_add(found.saturating_mul(to.len()));
    if grown > TEXT_BYTES_MAX { Err(Failure::TooLarge) } else { bounded(text.replace(&*from, &to)) }
}

pub(super) fn starts_with(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let marked = arguments.marked;
    let [text, edge, _] = arguments.texts();
    Ok(Val::Bool(has_edge(&text, &edge, false, marked)))
}

pub(super) fn ends_with(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let marked = arguments.marked;
    let [text, edge, _] = arguments.texts();
    Ok(Val::Bool(has_edge(&text, &edge, true, marked)))
}

pub(super) fn url_encode(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    escaped(Place::QueryValue, arguments)
}

pub(super) fn xml_escape(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    escaped(Place::Xml, arguments)
}

fn escaped(place: Place, arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [text, ..] = arguments.texts();
    if text.len() > TEXT_BYTES_MAX {
        return Err(Failure::TooLarge);
    }
    let mut out = String::with_capacity(text.len());
    escape(place, &text, &mut out);
    bounded(out)
}
