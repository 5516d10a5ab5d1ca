//! Numbers and the joining of texts: `+ - * / %` and the sign.
//!
//! Integers never wrap and floats never become infinite: a number that does not fit is a fault.

use crate::engine::value::Val;
use crate::expr::failure::Failure;
use crate::expr::parse::Operator;
use crate::expr::{Kinds, TEXT_BYTES_MAX};

const OVERFLOW: &str = "the result is beyond what an int or float holds";
const ZERO: &str = "division by zero";

/// Applies one of `+ - * / %`.
pub(super) fn apply<'x>(operator: Operator, left: Val<'x>, right: Val<'x>) -> Result<Val<'x>, Failure> {
    match (left, right) {
        (Val::Int(left), Val::Int(right)) => ints(operator, left, right),
        (Val::Float(left), Val::Float(right)) => floats(operator, left, right),
        // As Rhai does: an int beside a float becomes one.
        (Val::Int(left), Val::Float(right)) => floats(operator, left as f64, right),
        (Val::Float(left), Val::Int(right)) => floats(operator, left, right as f64),
        (Val::Text(left), Val::Text(right)) if operator == Operator::Add => {
            if left.len() + right.len() > TEXT_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            Ok(Val::Text(left + right))
        }
        (left, right) => Err(Failure::Types(left.type_word(), right.type_word())),
    }
}

fn ints<'x>(operator: Operator, left: i64, right: i64) -> Result<Val<'x>, Failure> {
    let result = match operator {
        Operator::Divide | Operator::Remainder if right == 0 => return Err(Failure::Number(ZERO)),
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => left.checked_div(right),
        Operator::Remainder => left.checked_rem(right),
        _ => return Err(Failure::Types("int", "int")),
    };
    result.map(Val::Int).ok_or(Failure::Number(OVERFLOW))
}

fn floats<'x>(operator: Operator, left: f64, right: f64) -> Result<Val<'x>, Failure> {
    let result = match operator {
        Operator::Divide | Operator::Remainder if right == 0.0 => return Err(Failure::Number(ZERO)),
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::Remainder => left % right,
        _ => return Err(Failure::Types("float", "float")),
    };
    if result.is_finite() { Ok(Val::Float(result)) } else { Err(Failure::Number(OVERFLOW)) }
}

/// `-x`.
pub(super) fn negate<'x>(val: &Val<'_>) -> Result<Val<'x>, Failure> {
    match val {
        Val::Int(int) => int.checked_neg().map(Val::Int).ok_or(Failure::Number(OVERFLOW)),
        Val::Float(float) => Ok(Val::Float(-float)),
        other => Err(Failure::Expected(Kinds::NUMBER, other.type_word())),
    }
}
