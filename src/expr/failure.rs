//! What goes wrong while an expression is evaluated, and the fault that it becomes.
//!
//! Details name types and reasons, never values: a value may be a secret.

use crate::engine::value::Origin;
use crate::expr::{Kinds, LIST_ELEMENTS_MAX, NotText, TEXT_BYTES_MAX, fault_by};
use crate::fault::Fault;

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Two values of different types, left and right.
    Types(&'static str, &'static str),
    /// A value of another type than expected.
    Expected(Kinds, &'static str),
    /// Not a number, out of range, or divided by zero.
    Number(&'static str),
    TooLarge,
    NotText(NotText),
    /// Not an IP address or network.
    Address(&'static str),
}

impl Failure {
    /// The fault, by the origin of the values that took part.
    pub fn fault(self, origin: Origin) -> Box<Fault> {
        match self {
            Failure::Types(left, right) => {
                fault_by(origin, "expression.type", format!("values of different types: {left} and {right}"))
            }
            Failure::Expected(kinds, got) => {
                fault_by(origin, "expression.type", format!("expected {}, got {got}", kinds.words()))
            }
            Failure::Number(detail) => fault_by(origin, "expression.number", detail),
            Failure::TooLarge => fault_by(
                origin,
                "expression.too_large",
                format!("an expression makes texts of at most {TEXT_BYTES_MAX} bytes and lists of {LIST_ELEMENTS_MAX}"),
            ),
            Failure::NotText(why) => fault_by(origin, "expression.not_text", why.detail()),
            Failure::Address(detail) => fault_by(origin, "expression.address", detail),
        }
    }
}
