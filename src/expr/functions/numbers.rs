//! Functions of numbers and times.
//!
//! A text that is no number, or a number out of range, is a failure; nothing wraps or rounds silently.

use crate::engine::value::Val;
use crate::expr::Kinds;
use crate::expr::compare::order;
use crate::expr::failure::Failure;
use crate::expr::functions::{Arguments, wrong};

const RANGE: Failure = Failure::Number("the number is beyond what an int holds");
const NO_INT: Failure = Failure::Number("the text is not a whole number in decimal digits");
const NO_FLOAT: Failure = Failure::Number("the text is not a finite decimal number");

pub(super) fn abs(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    match arguments.first() {
        Val::Int(int) => int.checked_abs().map(Val::Int).ok_or(RANGE),
        Val::Float(float) => Ok(Val::Float(float.abs())),
        other => wrong(Kinds::NUMBER, &other),
    }
}

pub(super) fn min(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    pick(arguments, std::cmp::Ordering::Less)
}

pub(super) fn max(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    pick(arguments, std::cmp::Ordering::Greater)
}

/// Of two numbers the one in the wanted order; a float where they are mixed.
fn pick(arguments: Arguments<'_>, wanted: std::cmp::Ordering) -> Result<Val<'_>, Failure> {
    let [left, right, _] = arguments.values;
    let mixed = matches!((&left, &right), (Val::Int(_), Val::Float(_)) | (Val::Float(_), Val::Int(_)));
    let picked = if order(&left, &right) == Some(wanted) { left } else { right };
    Ok(match picked {
        Val::Int(int) if mixed => Val::Float(int as f64),
        other => other,
    })
}

pub(super) fn round(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    match arguments.first() {
        Val::Int(int) => Ok(Val::Int(int)),
        Val::Float(float) => whole(float.round()),
        other => wrong(Kinds::NUMBER, &other),
    }
}

pub(super) fn int(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    match arguments.first() {
        Val::Int(int) => Ok(Val::Int(int)),
        Val::Bool(bool) => Ok(Val::Int(bool.into())),
        Val::Float(float) => whole(float.trunc()),
        Val::Text(text) => text.parse().map(Val::Int).map_err(|_| NO_INT),
        other => wrong(Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOL), &other),
    }
}

pub(super) fn float(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    match arguments.first() {
        Val::Int(int) => Ok(Val::Float(int as f64)),
        Val::Float(float) => Ok(Val::Float(float)),
        Val::Bool(bool) => Ok(Val::Float(f64::from(u8::from(bool)))),
        Val::Text(text) => {
            // The standard parser also takes "inf" and "nan"; they are no decimal numbers.
            let float = text.parse::<f64>().ok().filter(|float| float.is_finite());
            float.map(Val::Float).ok_or(NO_FLOAT)
        }
        other => wrong(Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOL), &other),
    }
}

/// A float without fraction as an int.
fn whole<'x>(float: f64) -> Result<Val<'x>, Failure> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&float) { Ok(Val::Int(float as i64)) } else { Err(RANGE) }
}

pub(super) fn unix(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    match arguments.first() {
        Val::Time(time) => Ok(Val::Int(time.as_second())),
        other => wrong(Kinds::TIME, &other),
    }
}

pub(super) fn bucket(arguments: Arguments<'_>) -> Result<Val<'_>, Failure> {
    let [text, buckets, _] = arguments.values;
    let Val::Text(text) = text else { return wrong(Kinds::TEXT, &text) };
    let Val::Int(buckets) = buckets else { return wrong(Kinds::INT, &buckets) };
    let buckets = u64::try_from(buckets).ok().filter(|buckets| *buckets > 0);
    let buckets = buckets.ok_or(Failure::Number("the number of buckets must be at least 1"))?;
    // Less than an i64, so the cast keeps the value.
    Ok(Val::Int((fnv_1a(text.as_bytes()) % buckets) as i64))
}

/// FNV-1a with 64 bits: published constants, so that any other tool can compute the same buckets.
fn fnv_1a(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_gives_the_published_values() {
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
