//! Values on their way between the language and Rhai.
//!
//! JSON, lists and maps are lent to a script as they are: a [`Held`] is a reference and a path, and only what a
//! script reads is made a value of Rhai's. What a script makes itself are Rhai's own arrays and maps.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rhai::{Array, Dynamic, FnPtr, ImmutableString};
use serde_json::Value as Json;
use smallvec::SmallVec;

use crate::engine::value::{Map, Val, Value};
use crate::expr::narrow::Member;

/// Deepest nesting of arrays and maps that a script makes: dropping and measuring them recurses.
pub(super) const NESTING_MAX: usize = 64;

/// A list or map that a script did not make.
#[derive(Clone)]
pub(super) enum Held {
    /// An object or array inside of a JSON value.
    Json { root: Arc<Json>, path: SmallVec<[Member; 2]> },
    /// `Value::List` or `Value::Map`.
    Value(Value),
}

impl Held {
    /// The list or map.
    pub fn view(&self) -> Val<'_> {
        match self {
            Held::Value(value) => value.view(),
            Held::Json { root, path } => path.iter().fold(Val::json(root), |val, member| step(val, member)),
        }
    }

    /// One step further down; nothing is copied but what is at its end.
    pub fn member(&self, member: Member) -> Dynamic {
        match self {
            Held::Value(value) => match step(value.view(), &member) {
                Val::List(Cow::Borrowed(_)) | Val::Map(Cow::Borrowed(_)) | Val::Json(Cow::Borrowed(_)) => {
                    of_value(&below(value, &member))
                }
                val => of_val(val),
            },
            Held::Json { root, path } => match step(self.view(), &member) {
                Val::Json(_) => {
                    let mut path = path.clone();
                    path.push(member);
                    Dynamic::from(Held::Json { root: root.clone(), path })
                }
                val => of_val(val),
            },
        }
    }
}

/// A member of a value, by a key or a position.
pub(super) fn step<'x>(val: Val<'x>, member: &Member) -> Val<'x> {
    match member {
        Member::Key(key) => val.member(key),
        Member::Position(at) => val.element(*at),
    }
}

fn below(value: &Value, member: &Member) -> Value {
    match (value, member) {
        (Value::Map(map), Member::Key(key)) => map.at(key).cloned().unwrap_or_default(),
        (Value::List(list), Member::Position(at)) => {
            let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
            let at = if *at < 0 { at.saturating_add(length) } else { *at };
            usize::try_from(at).ok().and_then(|at| list.get(at)).cloned().unwrap_or_default()
        }
        _ => Value::Absent,
    }
}

/// A value as Rhai holds it; shared ones stay shared.
pub(super) fn of_value(value: &Value) -> Dynamic {
    match value {
        Value::List(_) | Value::Map(_) => Dynamic::from(Held::Value(value.clone())),
        Value::Json(json) => of_json(json.clone(), &[]),
        Value::Bytes(bytes) => Dynamic::from(bytes.clone()),
        scalar => of_val(scalar.view()),
    }
}

/// What stands at a path of a JSON value.
pub(super) fn of_json(root: Arc<Json>, path: &[Member]) -> Dynamic {
    match path.iter().fold(Val::json(&root), step) {
        Val::Json(_) => Dynamic::from(Held::Json { root: root.clone(), path: path.into() }),
        val => of_val(val),
    }
}

/// A value as Rhai holds it.
pub(super) fn of_val(val: Val<'_>) -> Dynamic {
    match val {
        Val::Absent => Dynamic::UNIT,
        Val::Bool(bool) => Dynamic::from_bool(bool),
        Val::Int(int) => Dynamic::from_int(int),
        Val::Float(float) => Dynamic::from_float(float),
        Val::Text(Cow::Borrowed(text)) => Dynamic::from(ImmutableString::from(text)),
        Val::Text(Cow::Owned(text)) => Dynamic::from(ImmutableString::from(text)),
        Val::Time(time) => Dynamic::from(time),
        Val::Bytes(bytes) => Dynamic::from(Bytes::from(bytes.into_owned())),
        other => of_value(&other.into_value()),
    }
}

/// A value of Rhai's, taken out of it.
pub(super) enum Own {
    Absent,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(ImmutableString),
    Bytes(Bytes),
    Time(Timestamp),
    Held(Held),
    Array(Array),
    Map(rhai::Map),
    /// A closure, a range: nothing that a value of the language can be.
    Other,
}

impl Own {
    /// Takes a value out of Rhai's hands.
    pub fn of(dynamic: Dynamic) -> Own {
        let dynamic = if dynamic.is_shared() { dynamic.flatten() } else { dynamic };
        if dynamic.is_string() {
            return dynamic.into_immutable_string().map_or(Own::Other, Own::Text);
        }
        if let Ok(int) = dynamic.as_int() {
            return Own::Int(int);
        }
        if dynamic.is_unit() {
            return Own::Absent;
        }
        if let Ok(bool) = dynamic.as_bool() {
            return Own::Bool(bool);
        }
        if let Ok(float) = dynamic.as_float() {
            return Own::Float(float);
        }
        let dynamic = match dynamic.try_cast_result::<Held>() {
            Ok(held) => return Own::Held(held),
            Err(other) => other,
        };
        if dynamic.is_array() {
            return dynamic.into_array().map_or(Own::Other, Own::Array);
        }
        if dynamic.is_map() {
            return dynamic.try_cast::<rhai::Map>().map_or(Own::Other, Own::Map);
        }
        if let Ok(char) = dynamic.as_char() {
            return Own::Text(std::iter::once(char).collect());
        }
        let dynamic = match dynamic.try_cast_result::<Bytes>() {
            Ok(bytes) => return Own::Bytes(bytes),
            Err(other) => other,
        };
        dynamic.try_cast::<Timestamp>().map_or(Own::Other, Own::Time)
    }

    /// The value in the language's own form; nothing where it has none.
    pub fn view(&self) -> Option<Val<'_>> {
        Some(match self {
            Own::Absent => Val::Absent,
            Own::Bool(bool) => Val::Bool(*bool),
            Own::Int(int) => Val::Int(*int),
            Own::Float(float) => Val::Float(*float),
            Own::Text(text) => Val::Text(Cow::Borrowed(text)),
            Own::Bytes(bytes) => Val::Bytes(Cow::Borrowed(bytes)),
            Own::Time(time) => Val::Time(*time),
            Own::Held(held) => held.view(),
            Own::Array(array) => Val::List(Cow::Owned(values(array)?)),
            Own::Map(map) => Val::Map(Cow::Owned(entries(map)?)),
            Own::Other => return None,
        })
    }

    /// The value, kept; nothing where the language has no such value.
    pub fn into_value(self) -> Option<Value> {
        Some(match self {
            Own::Held(Held::Value(value)) => value,
            Own::Held(Held::Json { root, path }) if path.is_empty() => Value::Json(root),
            Own::Bytes(bytes) => Value::Bytes(bytes),
            other => other.view()?.into_value(),
        })
    }

    /// The word of the documentation for its type.
    pub fn word(&self) -> &'static str {
        self.view().map_or("closure", |val| val.type_word())
    }
}

fn values(array: &Array) -> Option<Vec<Value>> {
    array.iter().map(|element| Own::of(element.clone()).into_value()).collect()
}

fn entries(map: &rhai::Map) -> Option<Map> {
    let entry =
        |(key, value): (&rhai::Identifier, &Dynamic)| Some((key.as_str().into(), Own::of(value.clone()).into_value()?));
    map.iter().map(entry).collect::<Option<_>>().map(Map)
}

/// Whether a value nests at most so deep.
pub(super) fn nests_at_most(dynamic: &Dynamic, depth: usize) -> bool {
    if let Some(array) = dynamic.read_lock::<Array>() {
        return depth > 0 && array.iter().all(|element| nests_at_most(element, depth - 1));
    }
    if let Some(map) = dynamic.read_lock::<rhai::Map>() {
        return depth > 0 && map.values().all(|value| nests_at_most(value, depth - 1));
    }
    true
}

/// Whether all texts in a value, each counted as often as it stands there, have at most so many bytes together: what
/// the interpreter shares is copied for the functions of the language.
pub(super) fn weighs_at_most(dynamic: &Dynamic, bytes: usize) -> bool {
    fn rest(dynamic: &Dynamic, left: usize) -> Option<usize> {
        if let Some(array) = dynamic.read_lock::<Array>() {
            return array.iter().try_fold(left, |left, element| rest(element, left));
        }
        if let Some(map) = dynamic.read_lock::<rhai::Map>() {
            return map.iter().try_fold(left, |left, (key, value)| rest(value, left.checked_sub(key.len())?));
        }
        match dynamic.read_lock::<rhai::ImmutableString>() {
            Some(text) => left.checked_sub(text.len()),
            None => Some(left),
        }
    }
    rest(dynamic, bytes).is_some()
}

/// The closure, where it is one.
pub(super) fn closure(dynamic: Dynamic) -> Option<FnPtr> {
    dynamic.try_cast::<FnPtr>()
}
