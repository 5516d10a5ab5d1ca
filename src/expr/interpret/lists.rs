//! The methods of lists: `map filter reduce some all sort push`.
//!
//! A closure is called once per element; between two calls the run may be stopped. `push` is a function of Rhai's own,
//! because it changes its list where it stands.

use std::cmp::Ordering;

use rhai::{Array, Dynamic, EvalAltResult, FnPtr, NativeCallContext};

use crate::engine::value::Val;
use crate::expr::Kinds;
use crate::expr::compare;
use crate::expr::failure::Failure;
use crate::expr::interpret::nodes::{Outcome, Work};
use crate::expr::interpret::plan::{Method, Plan};
use crate::expr::interpret::run::{self, Stop};
use crate::expr::interpret::value::{Held, NESTING_MAX, Own, closure, nests_at_most, of_val};
use crate::expr::narrow::Member;

/// Most elements of a list, and entries of a map, that a script makes or walks through.
pub const LIST_MAX: usize = 10_000;

type Error = Box<EvalAltResult>;

/// The elements of a list of whatever make.
pub(super) fn elements(plan: &Plan, value: Dynamic) -> Result<Array, Error> {
    let wrong = |word| run::fail(Failure::Expected(Kinds::LIST, word), plan.origin, plan.at);
    match Own::of(value) {
        Own::Array(array) => Ok(array),
        Own::Held(held) => {
            let length = match held.view() {
                Val::List(list) => list.len(),
                Val::Json(json) if json.is_array() => json.as_array().map_or(0, Vec::len),
                other => return Err(wrong(other.type_word())),
            };
            if length > LIST_MAX {
                return Err(run::stop(Stop::Limit("a list has too many elements"), plan.at));
            }
            Ok(of_held(&held, length))
        }
        other => Err(wrong(other.word())),
    }
}

fn of_held(held: &Held, length: usize) -> Array {
    let position = |at: usize| Member::Position(i64::try_from(at).unwrap_or(i64::MAX));
    (0..length).map(|at| held.member(position(at))).collect()
}

pub(super) fn call(work: &mut Work<'_, '_, '_, '_, '_, '_, '_>, method: Method) -> Outcome {
    let list = work.value(0)?;
    let list = elements(work.plan, list)?;
    if method == Method::Sort && work.inputs() == 1 {
        return natural(work, list);
    }
    let Some(closure) = closure(work.value(1)?) else {
        return Err(work.failed(Failure::Expected(Kinds::ANY, "no closure")));
    };
    match method {
        Method::Map => {
            let mut results = Array::with_capacity(list.len());
            for element in list {
                results.push(apply(work, &closure, [element])?);
            }
            work.stored(Dynamic::from_array(results))
        }
        Method::Filter => {
            let mut kept = Array::new();
            for element in list {
                if judge(work, &closure, element.clone())? {
                    kept.push(element);
                }
            }
            Ok(Dynamic::from_array(kept))
        }
        Method::Some | Method::All => {
            let decides = method == Method::Some;
            for element in list {
                if judge(work, &closure, element)? == decides {
                    return Ok(Dynamic::from_bool(decides));
                }
            }
            Ok(Dynamic::from_bool(!decides))
        }
        Method::Reduce => {
            let mut result = work.value(2)?;
            for element in list {
                result = apply(work, &closure, [result, element])?;
            }
            Ok(result)
        }
        Method::Sort => by_closure(work, list, &closure),
    }
}

fn apply<const N: usize>(
    work: &mut Work<'_, '_, '_, '_, '_, '_, '_>,
    closure: &FnPtr,
    arguments: [Dynamic; N],
) -> Outcome {
    let mut values: smallvec::SmallVec<[Dynamic; 4]> = closure.curry().iter().cloned().collect();
    values.extend(arguments);
    let mut values: smallvec::SmallVec<[&mut Dynamic; 4]> = values.iter_mut().collect();
    work.context.call_fn_raw(closure.fn_name(), false, false, &mut values).map(Dynamic::flatten)
}

fn judge(work: &mut Work<'_, '_, '_, '_, '_, '_, '_>, closure: &FnPtr, element: Dynamic) -> Result<bool, Error> {
    let answer = apply(work, closure, [element])?;
    answer.as_bool().map_err(|_| work.failed(Failure::Expected(Kinds::BOOL, Own::of(answer).word())))
}

/// Numbers, texts or times in their order.
fn natural(work: &Work<'_, '_, '_, '_, '_, '_, '_>, list: Array) -> Outcome {
    if work.plan.marked {
        // The order of secrets tells of them, guess by guess.
        return Err(work.failed(Failure::Expected(Kinds::NUMBER, "secret or token")));
    }
    let owned: Vec<Own> = list.into_iter().map(Own::of).collect();
    let mut views = Vec::with_capacity(owned.len());
    for own in &owned {
        views.push(own.view().ok_or_else(|| work.failed(Failure::Expected(Kinds::TEXT, own.word())))?);
    }
    let mut failure = None;
    let mut failed = |left: &Val<'_>, right: &Val<'_>| {
        failure = Some(Failure::Types(left.type_word(), right.type_word()));
        Ordering::Equal
    };
    views.sort_by(|left, right| compare::order(left, right).unwrap_or_else(|| failed(left, right)));
    match failure {
        Some(failure) => Err(work.failed(failure)),
        None => Ok(Dynamic::from_array(views.into_iter().map(of_val).collect())),
    }
}

/// Sorted by what a closure says of two: a negative number, zero or a positive one. Merges from below, so that a
/// closure that contradicts itself gives some order and nothing worse, and a stop is seen at once.
fn by_closure(work: &mut Work<'_, '_, '_, '_, '_, '_, '_>, mut list: Array, closure: &FnPtr) -> Outcome {
    let mut width = 1;
    while width < list.len() {
        let mut merged = Array::with_capacity(list.len());
        let mut rest = list.into_iter();
        loop {
            let mut left = rest.by_ref().take(width).collect::<Vec<_>>().into_iter().peekable();
            let mut right = rest.by_ref().take(width).collect::<Vec<_>>().into_iter().peekable();
            if left.peek().is_none() {
                break;
            }
            while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
                let order = apply(work, closure, [one.clone(), other.clone()])?;
                let after = match (order.as_int(), order.as_float()) {
                    (Ok(int), _) => int > 0,
                    (_, Ok(float)) => float > 0.0,
                    _ => return Err(work.failed(Failure::Expected(Kinds::NUMBER, Own::of(order).word()))),
                };
                merged.extend(if after { right.next() } else { left.next() });
            }
            merged.extend(left);
            merged.extend(right);
        }
        list = merged;
        width *= 2;
    }
    Ok(Dynamic::from_array(list))
}

/// `list.push(x)`.
pub(super) fn push(context: NativeCallContext<'_>, arguments: &mut [&mut Dynamic]) -> Outcome {
    let at = context.call_position();
    let [list, element] = arguments else { return Ok(Dynamic::UNIT) };
    let element = std::mem::take(*element).flatten();
    if !nests_at_most(&element, NESTING_MAX) {
        return Err(run::stop(Stop::Limit("lists and maps nest too deep"), at));
    }
    if let Some(mut list) = list.write_lock::<Array>() {
        if list.len() >= LIST_MAX {
            return Err(run::stop(Stop::Limit("a list grows too large"), at));
        }
        list.push(element);
        return Ok(Dynamic::UNIT);
    }
    let word = Own::of(list.clone()).word();
    let failure = match word {
        "list" => Failure::Expected(Kinds::LIST, "list that the policy lends: copy it with list.map(|x| x) first"),
        other => Failure::Expected(Kinds::LIST, other),
    };
    Err(run::fail(failure, crate::engine::value::Origin::Policy, at))
}
