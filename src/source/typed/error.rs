//! What goes wrong while one value is read: serde's calls, in our words, until a place is known.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::source::suggest;

/// An error on its way to the deserializer that knows the place.
#[derive(Debug)]
pub(in crate::source) enum Error {
    /// Already among the diagnostics.
    Recorded,
    /// Not yet.
    Raised(Box<Raised>),
}

/// An error without a place.
#[derive(Debug)]
pub(in crate::source) struct Raised {
    pub(super) kind: Kind,
    /// See [`Kind`].
    pub(super) message: String,
    pub(super) help: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::source) enum Kind {
    /// The message is the whole sentence.
    UnknownKey,
    /// The message is made where the place is known.
    Missing(&'static str),
    /// The message is a phrase that says what was expected.
    WrongType,
    /// The message is the whole sentence.
    BadValue,
}

impl Kind {
    pub(super) fn code(self) -> &'static str {
        match self {
            Kind::UnknownKey => "policy.unknown_key",
            Kind::Missing(_) => "policy.missing_parameter",
            Kind::WrongType => "policy.wrong_type",
            Kind::BadValue => "policy.bad_value",
        }
    }
}

impl Error {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error::Raised(Box::new(Raised { kind, message: message.into(), help: None }))
    }

    /// Another kind of value was needed: `expected` is a phrase such as "a list".
    pub(super) fn wrong_type(expected: impl Into<String>) -> Self {
        Self::new(Kind::WrongType, expected)
    }

    /// The kind is right, the value is not: a whole sentence.
    pub(super) fn bad_value(message: impl Into<String>) -> Self {
        Self::new(Kind::BadValue, message)
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        if let Error::Raised(raised) = &mut self {
            raised.help = Some(help.into());
        }
        self
    }
}

/// `did you mean` if something is near, else all that is possible.
pub(super) fn possible(name: &str, words: &[&str]) -> String {
    match suggest(name, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if words.is_empty() => "no keys are possible here".to_owned(),
        None => format!("possible are {}", listed(words)),
    }
}

/// `a`, `b` and `c`.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => quoted.join(""),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Recorded => f.write_str("already reported"),
            Error::Raised(raised) => f.write_str(&raised.message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error::bad_value(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Error::wrong_type(expected.to_string())
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Error::bad_value(format!("expected {expected}, found {unexpected}"))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Error::bad_value(format!("expected {expected}, found {length} items"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Error::bad_value(format!("`{variant}` is not possible here")).with_help(possible(variant, expected))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Error::new(Kind::UnknownKey, format!("unknown key `{field}`")).with_help(possible(field, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Error::new(Kind::Missing(field), format!("`{field}` is missing"))
    }
}
