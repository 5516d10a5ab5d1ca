//! The leaves of parameters: types that keep the place they were read from.
//!
//! They are read by [`read`](super::read) only; from other serde formats they are refused, because those
//! have no places.

mod containers;

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;
use super::scalars;
use crate::source::{Node, Span, units};

pub use containers::{Entries, OneOrMany, ScalarOr, Spanned};

/// How the deserializer treats a type whose serde name says that it is one of these.
pub(super) enum Wrapper {
    /// The node is checked and handed over.
    Leaf(fn(&Node) -> Result<(), Error>),
    /// The node is handed over and its content is read as another type.
    Around,
    /// A list is read as such, all else as its only item.
    OneOrMany,
}

const NODE: &str = "$source::Node";
const TEXT: &str = "$source::Text";
const EXPRESSION: &str = "$source::Expression";
const NAME: &str = "$source::Name";
const DURATION: &str = "$source::DurationValue";
const SIZE: &str = "$source::Size";
const RATE: &str = "$source::Rate";
const AROUND: &str = "$source::Spanned";
const ONE_OR_MANY: &str = "$source::OneOrMany";

impl Wrapper {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            NODE => Wrapper::Leaf(scalars::is_anything),
            TEXT => Wrapper::Leaf(scalars::is_text),
            EXPRESSION => Wrapper::Leaf(scalars::is_expression),
            NAME => Wrapper::Leaf(scalars::is_name),
            DURATION => Wrapper::Leaf(scalars::is_duration),
            SIZE => Wrapper::Leaf(scalars::is_size),
            RATE => Wrapper::Leaf(scalars::is_rate),
            AROUND => Wrapper::Around,
            ONE_OR_MANY => Wrapper::OneOrMany,
            _ => return None,
        })
    }
}

thread_local! {
    /// The node on its way from the deserializer, through serde's visitor, into one of these types.
    static HANDED_OVER: RefCell<Option<Node>> = const { RefCell::new(None) };
}

pub(super) fn hand_over(node: &Node) {
    HANDED_OVER.set(Some(node.clone()));
}

fn take<E: serde::de::Error>() -> Result<Node, E> {
    HANDED_OVER.take().ok_or_else(|| E::custom("this value can only be read from a policy file"))
}

fn leaf<'de, D: Deserializer<'de>>(deserializer: D, name: &'static str) -> Result<Node, D::Error> {
    struct Leaf;
    impl Visitor<'_> for Leaf {
        type Value = Node;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value of a policy file")
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
            take()
        }
    }
    deserializer.deserialize_newtype_struct(name, Leaf)
}

/// The parts of an implementation that differ only in names: reading from a node, and the schema.
macro_rules! leaf_type {
    ($type:ident, $serde_name:ident, |$node:ident| $make:expr, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let $node = leaf(deserializer, $serde_name)?;
                $make
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

leaf_type!(Node, NODE, |node| Ok(node), true);

macro_rules! text_type {
    ($(#[$doc:meta])* $type:ident, $serde_name:ident, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $type(pub Node);

        impl $type {
            /// The text as written.
            pub fn as_str(&self) -> &str {
                self.0.as_text().unwrap_or("")
            }

            /// Where it stands.
            pub fn span(&self) -> Span {
                self.0.span()
            }

            /// The scalar, for positions inside the text.
            pub fn node(&self) -> &Node {
                &self.0
            }
        }

        impl From<&str> for $type {
            /// A text that nobody wrote, such as a default.
            fn from(text: &str) -> Self {
                $type(Node::text(Span::NOWHERE, text))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        leaf_type!($type, $serde_name, |node| Ok($type(node)), $schema);
    };
}

text_type!(
    /// A text that may hold `${...}`. Bare numbers and truth values are taken as text.
    Text, TEXT, { "type": ["string", "number", "boolean"] }
);
text_type!(
    /// A text without `${...}`, save `${env.NAME}`; that is checked where it is resolved.
    Literal, TEXT, { "type": ["string", "number", "boolean"] }
);
text_type!(
    /// An expression without `${}` around it.
    Expression, EXPRESSION, {
        "type": ["string", "number", "boolean"],
        "examples": ["request.method != \"GET\""]
    }
);

/// The name of a resource, or a key of a free mapping.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Name {
    /// As written.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

impl From<&str> for Name {
    /// A name that nobody wrote, such as a default.
    fn from(name: &str) -> Self {
        Name { name: name.to_owned(), span: Span::NOWHERE }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

leaf_type!(Name, NAME, |node| Ok(Name { name: node.as_text().unwrap_or("").to_owned(), span: node.span() }), {
    "type": "string",
    "minLength": 1
});

/// A duration: `250ms`, `30s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug)]
pub struct DurationValue {
    /// The duration, at most [`units::DURATION_MAX`].
    pub duration: Duration,
    /// Where it stands.
    pub span: Span,
}

impl From<Duration> for DurationValue {
    /// A duration that nobody wrote, such as a default.
    fn from(duration: Duration) -> Self {
        DurationValue { duration, span: Span::NOWHERE }
    }
}

impl Serialize for DurationValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&units::write_duration(self.duration))
    }
}

leaf_type!(DurationValue, DURATION, |node| {
    let duration = units::parse_duration(node.as_text().unwrap_or("")).map_err(D::Error::custom)?;
    Ok(DurationValue { duration, span: node.span() })
}, {
    "type": "string",
    "pattern": "^((0|[1-9][0-9]*)(ms|s|m|h|d)|\\$\\{env\\..+\\})$",
    "examples": ["250ms", "30s", "5m", "1h", "7d"]
});

/// A size: `512B`, `64KiB`, `10MiB`.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The size in bytes.
    pub bytes: u64,
    /// Where it stands.
    pub span: Span,
}

impl From<u64> for Size {
    /// A size in bytes that nobody wrote, such as a default.
    fn from(bytes: u64) -> Self {
        Size { bytes, span: Span::NOWHERE }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&units::write_size(self.bytes))
    }
}

leaf_type!(Size, SIZE, |node| {
    let bytes = units::parse_size(node.as_text().unwrap_or("")).map_err(D::Error::custom)?;
    Ok(Size { bytes, span: node.span() })
}, {
    "type": "string",
    "pattern": "^((0|[1-9][0-9]*)(B|KiB|MiB|GiB|TiB)|\\$\\{env\\..+\\})$",
    "examples": ["512B", "64KiB", "10MiB", "1GiB"]
});

/// A rate: `100/minute`.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// How many; above zero.
    pub count: u64,
    /// In which time.
    pub period: Duration,
    /// Where it stands.
    pub span: Span,
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&units::write_rate(self.count, self.period))
    }
}

leaf_type!(Rate, RATE, |node| {
    let (count, period) = units::parse_rate(node.as_text().unwrap_or("")).map_err(D::Error::custom)?;
    Ok(Rate { count, period, span: node.span() })
}, {
    "type": "string",
    "pattern": "^([1-9][0-9]*/(second|minute|hour|day)|\\$\\{env\\..+\\})$",
    "examples": ["10/second", "100/minute", "1000/hour", "5000/day"]
});
