//! One scalar as the type that its place demands. Nothing is guessed from how the text looks.

use serde::de::Visitor;

use super::error::Error;
use crate::source::node::core_int;
use crate::source::units::{self, shown};
use crate::source::{Node, ScalarStyle};

/// Any scalar, as written.
pub(super) fn text(node: &Node) -> Result<&str, Error> {
    node.as_text().ok_or_else(|| {
        let error = Error::wrong_type("text");
        match node.as_map() {
            Some([entry]) if entry.value.is_null() => {
                error.with_help(format!("text that begins with `{{` must stand in quotes: `\"{{{}}}\"`", entry.key))
            }
            None if node.is_null() => error.with_help("an empty text is written `\"\"`"),
            _ => error,
        }
    })
}

/// The text of a scalar that is no text for this place.
fn written<'a>(node: &'a Node, expected: &str) -> Result<&'a str, Error> {
    let text = node.as_text().filter(|_| !node.is_null()).ok_or_else(|| Error::wrong_type(expected))?;
    if text.contains("${") {
        return Err(Error::wrong_type(expected)
            .with_help("this is fixed when the files are loaded and can hold no `${...}` but `${env.NAME}`"));
    }
    Ok(text)
}

/// `true` or `false` without quotes.
pub(super) fn truth(node: &Node) -> Result<bool, Error> {
    const EXPECTED: &str = "`true` or `false`";
    let text = written(node, EXPECTED)?;
    let is_plain = node.as_scalar().is_some_and(|scalar| scalar.style == ScalarStyle::Plain);
    let lower = text.to_ascii_lowercase();
    let error = Error::wrong_type(EXPECTED);
    match (text, lower.as_str()) {
        ("true", _) if is_plain => Ok(true),
        ("false", _) if is_plain => Ok(false),
        (_, "true" | "false") if !is_plain => Err(error.with_help(format!("write `{lower}` without quotes"))),
        (_, "true" | "yes" | "on" | "y") => {
            Err(error.with_help("write `true`; in YAML 1.2 yes, no, on and off are texts"))
        }
        (_, "false" | "no" | "off" | "n") => {
            Err(error.with_help("write `false`; in YAML 1.2 yes, no, on and off are texts"))
        }
        _ => Err(error),
    }
}

/// A whole number of the core schema within bounds, in quotes or not. A leading zero is refused: some
/// read it as octal, some do not.
pub(super) fn whole_number(node: &Node, min: i128, max: i128) -> Result<i128, Error> {
    const EXPECTED: &str = "a whole number";
    let text = written(node, EXPECTED)?;
    let number = core_int(text).ok_or_else(|| Error::wrong_type(EXPECTED))?;
    let digits = text.trim_start_matches(['+', '-']);
    if units::has_leading_zero(digits) {
        return Err(Error::bad_value(format!("{} begins with a zero, which may mean octal", shown(text)))
            .with_help(format!("write `{number}`, or `0o{}` for octal", digits.trim_start_matches('0'))));
    }
    if number < min || number > max {
        return Err(Error::bad_value(format!("{} is out of range", shown(text)))
            .with_help(format!("write a whole number from {min} to {max}")));
    }
    Ok(number)
}

/// A decimal number, in quotes or not; finite.
pub(super) fn number(node: &Node) -> Result<f64, Error> {
    const EXPECTED: &str = "a number";
    let text = written(node, EXPECTED)?;
    let digits = text.trim_start_matches(['+', '-']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(Error::wrong_type(EXPECTED));
    }
    if units::has_leading_zero(digits) {
        return Err(Error::bad_value(format!("{} begins with a zero, which may mean octal", shown(text)))
            .with_help("write it without that zero"));
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| Error::wrong_type(EXPECTED))
}

pub(super) fn visit_number<'de, V: Visitor<'de>>(number: &serde_json::Number, visitor: V) -> Result<V::Value, Error> {
    if let Some(number) = number.as_u64() {
        return visitor.visit_u64(number);
    }
    if let Some(number) = number.as_i64() {
        return visitor.visit_i64(number);
    }
    match number.as_f64() {
        Some(number) => visitor.visit_f64(number),
        None => visitor.visit_str(&number.to_string()),
    }
}

pub(super) fn is_anything(_: &Node) -> Result<(), Error> {
    Ok(())
}

pub(super) fn is_text(node: &Node) -> Result<(), Error> {
    text(node).map(|_| ())
}

pub(super) fn is_expression(node: &Node) -> Result<(), Error> {
    match node.as_text() {
        Some(text) if text.trim().is_empty() => Err(Error::bad_value("an expression cannot be empty")),
        Some(_) => Ok(()),
        None => Err(Error::wrong_type("an expression")
            .with_help("an expression that begins with `[`, `{`, `!`, `#` or a quote must stand in quotes as a whole")),
    }
}

pub(super) fn is_name(node: &Node) -> Result<(), Error> {
    match text(node)?.trim() {
        "" => Err(Error::bad_value("a name cannot be empty")),
        _ => Ok(()),
    }
}

pub(super) fn is_duration(node: &Node) -> Result<(), Error> {
    unit(node, "a duration", units::parse_duration)
}

pub(super) fn is_size(node: &Node) -> Result<(), Error> {
    unit(node, "a size", units::parse_size)
}

pub(super) fn is_rate(node: &Node) -> Result<(), Error> {
    unit(node, "a rate", units::parse_rate)
}

fn unit<T>(node: &Node, expected: &str, parse: fn(&str) -> Result<T, units::UnitError>) -> Result<(), Error> {
    match parse(written(node, expected)?) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::bad_value(error.message).with_help(error.help)),
    }
}
