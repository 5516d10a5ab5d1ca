//! Equality, order and membership of values.
//!
//! Where a marked value takes part, texts and bytes are compared in constant time: `==` on a stored key
//! must not tell a caller how much of a guess was right. Lengths are not hidden.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value as Json;
use subtle::ConstantTimeEq;

use crate::engine::value::{Val, Value};
use crate::expr::Kinds;
use crate::expr::failure::Failure;

/// Most bytes of work for a search of a marked text, which never ends early.
const MARKED_SEARCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A view of a value that borrows from it.
pub(super) fn view<'y>(val: &'y Val<'_>) -> Val<'y> {
    match val {
        Val::Absent => Val::Absent,
        Val::Bool(bool) => Val::Bool(*bool),
        Val::Int(int) => Val::Int(*int),
        Val::Float(float) => Val::Float(*float),
        Val::Text(text) => Val::Text(Cow::Borrowed(text)),
        Val::Bytes(bytes) => Val::Bytes(Cow::Borrowed(bytes)),
        Val::Time(time) => Val::Time(*time),
        Val::List(list) => Val::List(Cow::Borrowed(list)),
        Val::Map(map) => Val::Map(Cow::Borrowed(map)),
        Val::Json(json) => Val::Json(Cow::Borrowed(json)),
    }
}

/// `left == right`; an absent value equals nothing, not even another absent one.
pub(super) fn equal(left: &Val<'_>, right: &Val<'_>, marked: bool) -> Result<bool, Failure> {
    if left.is_absent() || right.is_absent() {
        return Ok(false);
    }
    same(left, right, marked).ok_or_else(|| Failure::Types(left.type_word(), right.type_word()))
}

/// Structural sameness; nothing where the types differ.
fn same(left: &Val<'_>, right: &Val<'_>, marked: bool) -> Option<bool> {
    Some(match (left, right) {
        (Val::Text(left), Val::Text(right)) => same_bytes(left.as_bytes(), right.as_bytes(), marked),
        (Val::Bytes(left), Val::Bytes(right)) => same_bytes(left, right, marked),
        (Val::Bool(left), Val::Bool(right)) => left == right,
        (Val::Time(left), Val::Time(right)) => left == right,
        (Val::Int(_) | Val::Float(_), Val::Int(_) | Val::Float(_)) => order(left, right) == Some(Ordering::Equal),
        _ => match (Items::of(left), Items::of(right)) {
            (Some(left), Some(right)) => same_items(left, right, marked),
            (None, None) => same_entries(&Entries::of(left)?, &Entries::of(right)?, marked),
            _ => return None,
        },
    })
}

fn same_bytes(left: &[u8], right: &[u8], marked: bool) -> bool {
    if marked { left.ct_eq(right).into() } else { left == right }
}

/// Inside of lists and maps a `null` is the same as a `null`, and other types are simply not the same.
fn same_inside(left: &Val<'_>, right: &Val<'_>, marked: bool) -> bool {
    (left.is_absent() && right.is_absent()) || same(left, right, marked).unwrap_or(false)
}

fn same_items(left: Items<'_>, right: Items<'_>, marked: bool) -> bool {
    let mut all = left.len() == right.len();
    for (left, right) in left.zip(right) {
        // Without `&&`: which element differs must not show in the time.
        all &= same_inside(&left, &right, marked);
        if !all && !marked {
            return false;
        }
    }
    all
}

fn same_entries(left: &Entries<'_>, right: &Entries<'_>, marked: bool) -> bool {
    let mut all = left.len() == right.len();
    for (key, value) in left.iter() {
        all &= right.at(key).is_some_and(|other| same_inside(&value, &other, marked));
        if !all && !marked {
            return false;
        }
    }
    all
}

/// The order of two numbers, texts or times; nothing for all else.
pub(super) fn order(left: &Val<'_>, right: &Val<'_>) -> Option<Ordering> {
    match (left, right) {
        (Val::Int(left), Val::Int(right)) => Some(left.cmp(right)),
        (Val::Float(left), Val::Float(right)) => left.partial_cmp(right),
        (Val::Int(left), Val::Float(right)) => int_with_float(*left, *right),
        (Val::Float(left), Val::Int(right)) => int_with_float(*right, *left).map(Ordering::reverse),
        (Val::Text(left), Val::Text(right)) => Some(left.cmp(right)),
        (Val::Time(left), Val::Time(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// Exact, where a cast to float would make neighbours of 2^53 equal.
fn int_with_float(int: i64, float: f64) -> Option<Ordering> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= LIMIT {
        return Some(Ordering::Less);
    }
    if float < -LIMIT {
        return Some(Ordering::Greater);
    }
    // Within the limits the whole part is an exact i64.
    let whole = float.trunc();
    Some(int.cmp(&(whole as i64)).then_with(|| 0.0f64.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal)))
}

/// `needle in hay`: an element of a list, a part of a text, a key of a map. Absent values are in nothing.
pub(super) fn contains(hay: &Val<'_>, needle: &Val<'_>, marked: bool) -> Result<bool, Failure> {
    if hay.is_absent() || needle.is_absent() {
        return Ok(false);
    }
    if let Some(items) = Items::of(hay) {
        return contains_element(items, needle, marked);
    }
    let Val::Text(needle) = needle else { return Err(Failure::Types(needle.type_word(), hay.type_word())) };
    if let Val::Text(hay) = hay {
        return if marked { contains_marked(hay, needle) } else { Ok(hay.contains(&**needle)) };
    }
    let entries = Entries::of(hay).ok_or_else(|| Failure::Types("string", hay.type_word()))?;
    if !marked {
        return Ok(entries.at(needle).is_some());
    }
    Ok(entries.iter().fold(false, |found, (key, _)| found | same_bytes(key.as_bytes(), needle.as_bytes(), marked)))
}

fn contains_element(items: Items<'_>, needle: &Val<'_>, marked: bool) -> Result<bool, Failure> {
    let (mut found, mut of_its_type, mut other) = (false, false, None);
    for item in items {
        match same(&item, needle, marked) {
            Some(equal) => (found, of_its_type) = (found | equal, true),
            None => other = Some(item.type_word()),
        }
        if found && !marked {
            return Ok(true);
        }
    }
    match other {
        // A list in which nothing has the type of the needle can only be a mistake: no silent false.
        Some(other) if !of_its_type => Err(Failure::Types(needle.type_word(), other)),
        _ => Ok(found),
    }
}

fn contains_marked(hay: &str, needle: &str) -> Result<bool, Failure> {
    if needle.is_empty() {
        return Ok(true);
    }
    if hay.len().saturating_mul(needle.len()) > MARKED_SEARCH_BYTES_MAX {
        return Err(Failure::TooLarge);
    }
    let windows = hay.as_bytes().windows(needle.len());
    Ok(windows.fold(false, |found, window| found | bool::from(window.ct_eq(needle.as_bytes()))))
}

/// Whether a text begins (or ends) with another.
pub(super) fn has_edge(text: &str, edge: &str, at_end: bool, marked: bool) -> bool {
    let part = match text.len().checked_sub(edge.len()) {
        Some(rest) if at_end => text.as_bytes().get(rest..),
        Some(_) => text.as_bytes().get(..edge.len()),
        None => None,
    };
    part.is_some_and(|part| same_bytes(part, edge.as_bytes(), marked))
}

/// The kinds of the elements of a list.
pub(super) fn element_kinds(list: &[Value]) -> impl Iterator<Item = Kinds> {
    list.iter().map(|element| Kinds::of_val(&element.view()))
}

/// The elements of a list, of whatever kind.
pub(super) enum Items<'x> {
    Values(std::slice::Iter<'x, Value>),
    Json(std::slice::Iter<'x, Json>),
}

impl<'x> Items<'x> {
    /// The elements, where it is a list.
    pub fn of(val: &'x Val<'_>) -> Option<Items<'x>> {
        match val {
            Val::List(list) => Some(Items::Values(list.iter())),
            Val::Json(json) => json.as_array().map(|list| Items::Json(list.iter())),
            _ => None,
        }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        match self {
            Items::Values(values) => values.len(),
            Items::Json(values) => values.len(),
        }
    }
}

impl<'x> Iterator for Items<'x> {
    type Item = Val<'x>;

    fn next(&mut self) -> Option<Val<'x>> {
        match self {
            Items::Values(values) => values.next().map(Value::view),
            Items::Json(values) => values.next().map(Val::json),
        }
    }
}

/// The entries of a map, of whatever kind.
pub(super) enum Entries<'x> {
    Map(&'x crate::engine::value::Map),
    Json(&'x serde_json::Map<String, Json>),
}

impl<'x> Entries<'x> {
    /// The entries, where it is a map.
    pub fn of(val: &'x Val<'_>) -> Option<Entries<'x>> {
        match val {
            Val::Map(map) => Some(Entries::Map(map)),
            Val::Json(json) => json.as_object().map(Entries::Json),
            _ => None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Entries::Map(map) => map.0.len(),
            Entries::Json(map) => map.len(),
        }
    }

    fn at(&self, key: &str) -> Option<Val<'x>> {
        match self {
            Entries::Map(map) => map.at(key).map(Value::view),
            Entries::Json(map) => map.get(key).map(Val::json),
        }
    }

    /// All of them, in their order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (&'x str, Val<'x>)> + 'x> {
        match self {
            Entries::Map(map) => Box::new(map.0.iter().map(|(key, value)| (&**key, value.view()))),
            Entries::Json(map) => Box::new(map.iter().map(|(key, value)| (key.as_str(), Val::json(value)))),
        }
    }
}
