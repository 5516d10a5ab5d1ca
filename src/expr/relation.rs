//! Relations of two values by name, for steps that compare without the text of an expression.
//!
//! The same rules as the operators: numbers by value, texts by code point, no silent conversion, marked
//! values in constant time.

use std::cmp::Ordering;

use crate::engine::value::{Origin, Val};
use crate::expr::compare::{Items, contains, equal, has_edge, order};
use crate::expr::failure::Failure;
use crate::fault::Fault;

/// How two values stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The left one contains the right one: an element, a part of a text, a key.
    Contains,
    StartsWith,
    EndsWith,
    /// The right one contains the left one.
    In,
}

impl Relation {
    /// Whether it looks for order and so takes numbers, texts and times only.
    pub fn orders(self) -> bool {
        matches!(self, Relation::Less | Relation::LessOrEqual | Relation::Greater | Relation::GreaterOrEqual)
    }

    /// Whether it holds; false where a side is absent, for `Unequal` too. Values of different types are a fault
    /// `expression.type`, by `origin`.
    pub fn holds(self, left: &Val<'_>, right: &Val<'_>, marked: bool, origin: Origin) -> Result<bool, Box<Fault>> {
        if left.is_absent() || right.is_absent() {
            return Ok(false);
        }
        self.judge(left, right, marked).map_err(|failure| failure.fault(origin))
    }

    fn judge(self, left: &Val<'_>, right: &Val<'_>, marked: bool) -> Result<bool, Failure> {
        let types = || Failure::Types(left.type_word(), right.type_word());
        let ordered = || order(left, right).ok_or_else(types);
        match self {
            Relation::Equal => equal(left, right, marked),
            Relation::Unequal => equal(left, right, marked).map(|equal| !equal),
            Relation::Less => Ok(ordered()? == Ordering::Less),
            Relation::LessOrEqual => Ok(ordered()? != Ordering::Greater),
            Relation::Greater => Ok(ordered()? == Ordering::Greater),
            Relation::GreaterOrEqual => Ok(ordered()? != Ordering::Less),
            Relation::Contains => contains(left, right, marked),
            Relation::In => contains(right, left, marked),
            Relation::StartsWith | Relation::EndsWith => match (left, right) {
                (Val::Text(text), Val::Text(edge)) => Ok(has_edge(text, edge, self == Relation::EndsWith, marked)),
                _ => Err(types()),
            },
        }
    }
}

/// The elements of a list or JSON array; nothing for all else.
pub fn elements<'v>(val: &'v Val<'_>) -> Option<impl Iterator<Item = Val<'v>>> {
    Items::of(val)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(relation: Relation, left: Val<'_>, right: Val<'_>) -> Result<bool, String> {
        relation.holds(&left, &right, false, Origin::Policy).map_err(|fault| fault.code.to_string())
    }

    fn text(text: &str) -> Val<'_> {
        Val::Text(text.into())
    }

    #[test]
    fn numbers_by_value_texts_by_code_point_and_types_never_mix() {
        assert_eq!(holds(Relation::Equal, Val::Int(1), Val::Float(1.0)), Ok(true));
        assert_eq!(holds(Relation::Less, Val::Int(10), Val::Int(9)), Ok(false));
        assert_eq!(holds(Relation::Less, text("10"), text("9")), Ok(true));
        assert_eq!(holds(Relation::Greater, text("ä"), text("z")), Ok(true));
        assert_eq!(holds(Relation::Equal, text("1"), Val::Int(1)), Err("expression.type".into()));
        assert_eq!(holds(Relation::Less, Val::Bool(false), Val::Bool(true)), Err("expression.type".into()));
        assert_eq!(holds(Relation::StartsWith, text("abc"), text("ab")), Ok(true));
        assert_eq!(holds(Relation::EndsWith, text("abc"), text("ab")), Ok(false));
        assert_eq!(holds(Relation::In, text("b"), text("abc")), Ok(true));
    }

    #[test]
    fn an_absent_side_never_holds() {
        for relation in [Relation::Equal, Relation::Unequal, Relation::Less, Relation::Contains, Relation::In] {
            assert_eq!(holds(relation, Val::Absent, text("a")), Ok(false));
            assert_eq!(holds(relation, text("a"), Val::Absent), Ok(false));
        }
    }
}
