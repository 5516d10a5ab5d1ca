//! Sets of types: what an operand may be, and what an operator or function accepts.
//!
//! A type known only at run time is simply a large set, so one test serves both times.

use crate::engine::value::{Element, Type, Val};

/// A set of kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub const BOOL: Kinds = Kinds(1);
    pub const INT: Kinds = Kinds(1 << 1);
    pub const FLOAT: Kinds = Kinds(1 << 2);
    pub const TEXT: Kinds = Kinds(1 << 3);
    pub const BYTES: Kinds = Kinds(1 << 4);
    pub const TIME: Kinds = Kinds(1 << 5);
    pub const LIST: Kinds = Kinds(1 << 6);
    pub const MAP: Kinds = Kinds(1 << 7);
    pub const NUMBER: Kinds = Kinds::INT.or(Kinds::FLOAT);
    pub const ANY: Kinds = Kinds(u8::MAX);

    const NAMES: [(Kinds, &'static str); 8] = [
        (Kinds::BOOL, "bool"),
        (Kinds::INT, "int"),
        (Kinds::FLOAT, "float"),
        (Kinds::TEXT, "string"),
        (Kinds::BYTES, "bytes"),
        (Kinds::TIME, "time"),
        (Kinds::LIST, "list"),
        (Kinds::MAP, "map"),
    ];

    /// Both sets together.
    pub const fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    /// What a value of this type can turn out to be.
    pub fn of(ty: Type) -> Kinds {
        match ty {
            Type::Any => Kinds::ANY,
            Type::Bool => Kinds::BOOL,
            Type::Int => Kinds::INT,
            Type::Float => Kinds::FLOAT,
            Type::Text => Kinds::TEXT,
            Type::Bytes => Kinds::BYTES,
            Type::Time => Kinds::TIME,
            Type::List(_) => Kinds::LIST,
            Type::Map(_) => Kinds::MAP,
            Type::Json => Kinds(!Kinds::BYTES.or(Kinds::TIME).0),
        }
    }

    /// What a value is; nothing for an absent one.
    pub fn of_val(val: &Val<'_>) -> Kinds {
        match val {
            Val::Absent => Kinds(0),
            Val::Bool(_) => Kinds::BOOL,
            Val::Int(_) => Kinds::INT,
            Val::Float(_) => Kinds::FLOAT,
            Val::Text(_) => Kinds::TEXT,
            Val::Bytes(_) => Kinds::BYTES,
            Val::Time(_) => Kinds::TIME,
            Val::List(_) => Kinds::LIST,
            Val::Map(_) => Kinds::MAP,
            Val::Json(json) if json.is_array() => Kinds::LIST,
            Val::Json(_) => Kinds::MAP,
        }
    }

    /// Whether some kind is in both.
    pub fn meets(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a value of one may be compared with a value of the other: int and float are one.
    pub fn comparable(self, other: Kinds) -> bool {
        let widened = if self.meets(Kinds::NUMBER) { self.or(Kinds::NUMBER) } else { self };
        widened.meets(other)
    }

    /// A type of the set, for cures.
    pub(super) fn example(self) -> Type {
        match self {
            _ if self.meets(Kinds::TEXT) => Type::Text,
            _ if self.meets(Kinds::INT) => Type::Int,
            _ if self.meets(Kinds::LIST) => Type::List(Element::Any),
            _ if self.meets(Kinds::MAP) => Type::Map(Element::Any),
            _ if self.meets(Kinds::TIME) => Type::Time,
            _ => Type::Any,
        }
    }

    /// As words: `string or bytes`.
    pub fn words(self) -> String {
        if self == Kinds::ANY {
            return "any value".to_owned();
        }
        let names: Vec<_> = Kinds::NAMES.iter().filter(|(kind, _)| self.meets(*kind)).map(|(_, name)| *name).collect();
        names.join(" or ")
    }
}
