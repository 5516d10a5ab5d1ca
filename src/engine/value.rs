//! Values of variables, and what the compiler knows about them.
//!
//! [`Value`] is owned and cheap to clone; [`Val`] is what reading gives: it borrows from the exchange, so
//! that a comparison of a header with a word allocates nothing. Absence is a value of its own.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value as Json;

/// A text that is shared, not copied.
pub type Text = Arc<str>;

/// A map that keeps its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Text, Value)>);

impl Map {
    /// The value under a key.
    pub fn at(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| **name == *key).map(|(_, value)| value)
    }
}

/// An owned value: what a variable holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Absent,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Text),
    Bytes(Bytes),
    Time(Timestamp),
    List(Arc<[Value]>),
    Map(Arc<Map>),
    /// An object or array of a JSON text; scalars are unwrapped when they are read, `null` is absent.
    Json(Arc<Json>),
}

/// A value as it is read: borrowed from the exchange where that is possible.
#[derive(Clone, Debug)]
pub enum Val<'x> {
    Absent,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'x, str>),
    Bytes(Cow<'x, [u8]>),
    Time(Timestamp),
    List(Cow<'x, [Value]>),
    Map(Cow<'x, Map>),
    /// Always an object or an array.
    Json(Cow<'x, Json>),
}

impl Value {
    /// A text value.
    pub fn text(text: impl Into<Text>) -> Value {
        Value::Text(text.into())
    }

    /// Reads it without copying.
    pub fn view(&self) -> Val<'_> {
        match self {
            Value::Absent => Val::Absent,
            Value::Bool(bool) => Val::Bool(*bool),
            Value::Int(int) => Val::Int(*int),
            Value::Float(float) => Val::Float(*float),
            Value::Text(text) => Val::Text(Cow::Borrowed(text)),
            Value::Bytes(bytes) => Val::Bytes(Cow::Borrowed(bytes)),
            Value::Time(time) => Val::Time(*time),
            Value::List(list) => Val::List(Cow::Borrowed(list)),
            Value::Map(map) => Val::Map(Cow::Borrowed(map)),
            Value::Json(json) => Val::json(json),
        }
    }

    /// A JSON value: scalars unwrapped, `null` absent.
    pub fn from_json(json: Json) -> Value {
        Val::json_owned(json).into_value()
    }
}

impl<'x> Val<'x> {
    /// Reads a JSON value: scalars unwrapped, `null` absent. Integers beyond i64 become floats.
    pub fn json(json: &'x Json) -> Val<'x> {
        match json {
            Json::String(text) => Val::Text(Cow::Borrowed(text)),
            Json::Array(_) | Json::Object(_) => Val::Json(Cow::Borrowed(json)),
            scalar => Val::scalar(scalar),
        }
    }

    fn json_owned(json: Json) -> Val<'static> {
        match json {
            Json::String(text) => Val::Text(Cow::Owned(text)),
            Json::Array(_) | Json::Object(_) => Val::Json(Cow::Owned(json)),
            scalar => Val::scalar(&scalar),
        }
    }

    fn scalar<'y>(json: &Json) -> Val<'y> {
        match json {
            Json::Bool(bool) => Val::Bool(*bool),
            Json::Number(number) => match number.as_i64() {
                Some(int) => Val::Int(int),
                None => number.as_f64().map_or(Val::Absent, Val::Float),
            },
            _ => Val::Absent,
        }
    }

    /// Whether there is nothing.
    pub fn is_absent(&self) -> bool {
        matches!(self, Val::Absent)
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Val::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Keeps it beyond the exchange.
    pub fn into_value(self) -> Value {
        match self {
            Val::Absent => Value::Absent,
            Val::Bool(bool) => Value::Bool(bool),
            Val::Int(int) => Value::Int(int),
            Val::Float(float) => Value::Float(float),
            Val::Text(text) => Value::Text(text.into()),
            Val::Bytes(bytes) => Value::Bytes(Bytes::from(bytes.into_owned())),
            Val::Time(time) => Value::Time(time),
            Val::List(list) => Value::List(list.into_owned().into()),
            Val::Map(map) => Value::Map(Arc::new(map.into_owned())),
            Val::Json(json) => Value::Json(Arc::new(json.into_owned())),
        }
    }

    /// A member of a map or JSON object; absent through anything absent or missing.
    pub fn member(self, key: &str) -> Val<'x> {
        match self {
            Val::Map(Cow::Borrowed(map)) => map.at(key).map_or(Val::Absent, Value::view),
            Val::Map(Cow::Owned(map)) => {
                map.0.into_iter().find(|(name, _)| **name == *key).map_or(Val::Absent, |(_, value)| value.into_val())
            }
            Val::Json(Cow::Borrowed(json)) => json.get(key).map_or(Val::Absent, Val::json),
            Val::Json(Cow::Owned(Json::Object(mut members))) => {
                members.shift_remove(key).map_or(Val::Absent, Val::json_owned)
            }
            _ => Val::Absent,
        }
    }

    /// An element of a list or JSON array, counted from 0, from the end when negative; else absent.
    pub fn element(self, index: i64) -> Val<'x> {
        let place = |length: usize| {
            let index = if index < 0 { index.checked_add(i64::try_from(length).ok()?)? } else { index };
            usize::try_from(index).ok().filter(|index| *index < length)
        };
        match self {
            Val::List(Cow::Borrowed(list)) => {
                place(list.len()).and_then(|at| list.get(at)).map_or(Val::Absent, Value::view)
            }
            Val::List(Cow::Owned(list)) => {
                place(list.len()).and_then(|at| list.into_iter().nth(at)).map_or(Val::Absent, Value::into_val)
            }
            Val::Json(Cow::Borrowed(Json::Array(list))) => {
                place(list.len()).and_then(|at| list.get(at)).map_or(Val::Absent, Val::json)
            }
            Val::Json(Cow::Owned(Json::Array(list))) => {
                place(list.len()).and_then(|at| list.into_iter().nth(at)).map_or(Val::Absent, Val::json_owned)
            }
            _ => Val::Absent,
        }
    }

    /// The same as JSON. Bytes that are not UTF-8 become base64; absent becomes `null`.
    pub fn to_json(&self) -> Json {
        match self {
            Val::Absent => Json::Null,
            Val::Bool(bool) => Json::Bool(*bool),
            Val::Int(int) => Json::from(*int),
            Val::Float(float) => Json::from(*float),
            Val::Text(text) => Json::String(text.to_string()),
            Val::Bytes(bytes) => Json::String(match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => data_encoding::BASE64.encode(bytes),
            }),
            Val::Time(time) => Json::String(time.to_string()),
            Val::List(list) => Json::Array(list.iter().map(|value| value.view().to_json()).collect()),
            Val::Map(map) => {
                Json::Object(map.0.iter().map(|(key, value)| (key.to_string(), value.view().to_json())).collect())
            }
            Val::Json(json) => json.as_ref().clone(),
        }
    }

    /// What kind of value it is, in the words of the documentation.
    pub fn type_word(&self) -> &'static str {
        match self {
            Val::Absent => "absent",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Float(_) => "float",
            Val::Text(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::Time(_) => "time",
            Val::List(_) => "list",
            Val::Map(_) => "map",
            Val::Json(json) if json.is_array() => "list",
            Val::Json(_) => "map",
        }
    }
}

impl Value {
    /// The same, as an owned view.
    pub fn into_val<'y>(self) -> Val<'y> {
        match self {
            Value::Absent => Val::Absent,
            Value::Bool(bool) => Val::Bool(bool),
            Value::Int(int) => Val::Int(int),
            Value::Float(float) => Val::Float(float),
            Value::Text(text) => Val::Text(Cow::Owned(text.to_string())),
            Value::Bytes(bytes) => Val::Bytes(Cow::Owned(bytes.to_vec())),
            Value::Time(time) => Val::Time(time),
            Value::List(list) => Val::List(Cow::Owned(list.to_vec())),
            Value::Map(map) => Val::Map(Cow::Owned(Arc::unwrap_or_clone(map))),
            Value::Json(json) => Val::json_owned(Arc::unwrap_or_clone(json)),
        }
    }
}

/// What is known of a value before it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Known only at run time.
    Any,
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Time,
    List(Element),
    Map(Element),
    /// Any JSON value: its type shows at run time.
    Json,
}

/// What a list or map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Any,
    Text,
    Json,
}

impl Element {
    /// The type of one element.
    pub fn ty(self) -> Type {
        match self {
            Element::Any => Type::Any,
            Element::Text => Type::Text,
            Element::Json => Type::Json,
        }
    }
}

/// A word with its article: `a list`, `an int`.
pub fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {word}")
}

impl Type {
    /// The word of the documentation.
    pub fn word(self) -> &'static str {
        match self {
            Type::Any => "any",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Float => "float",
            Type::Text => "string",
            Type::Bytes => "bytes",
            Type::Time => "time",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Json => "json",
        }
    }

    /// Whether the type shows only at run time.
    pub fn is_open(self) -> bool {
        matches!(self, Type::Any | Type::Json)
    }
}

/// Where a value comes from: decides whose fault it is when it is wrong. Mixed values take the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Policy, vault or store: 500.
    Policy,
    /// An upstream or called service: 502.
    Upstream,
    /// The client: 400.
    Client,
}

/// What must not happen to a value. Mixed values take [`Mark::joined`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    None,
    /// For the operator alone (`fault.detail`): never to a client; a record shows it as it is.
    Internal,
    /// A presented or minted credential: may leave, but is a short keyed hash in every record.
    Token,
    /// A stored credential: never to a client, never into a record.
    Secret,
}

impl Mark {
    /// Whether it is a credential, which is compared in constant time and hashed in records.
    pub fn is_credential(self) -> bool {
        self >= Mark::Token
    }

    /// The mark of a value made of two: the greater. What is the operator's and a credential as well may
    /// neither leave nor stand in a record, as a secret.
    pub fn joined(self, other: Mark) -> Mark {
        match (self, other) {
            (Mark::Internal, Mark::Token) | (Mark::Token, Mark::Internal) => Mark::Secret,
            (one, two) => one.max(two),
        }
    }
}

/// Everything the compiler knows about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub ty: Type,
    /// It may be absent at run time ("?" in the documentation).
    pub absent: bool,
    pub origin: Origin,
    pub mark: Mark,
}

impl Facts {
    /// A value of the policy itself, always there.
    pub fn policy(ty: Type) -> Facts {
        Facts { ty, absent: false, origin: Origin::Policy, mark: Mark::None }
    }

    /// A value that the client sent.
    pub fn client(ty: Type) -> Facts {
        Facts { ty, absent: false, origin: Origin::Client, mark: Mark::None }
    }

    /// The same, but it may be absent.
    pub fn maybe(self) -> Facts {
        Facts { absent: true, ..self }
    }

    /// The same with a mark.
    pub fn marked(self, mark: Mark) -> Facts {
        Facts { mark: self.mark.joined(mark), ..self }
    }

    /// Origin and mark of a value made of two.
    pub fn mixed(self, other: Facts) -> Facts {
        Facts { origin: self.origin.max(other.origin), mark: self.mark.joined(other.mark), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_only_grow_when_values_are_mixed() {
        use Mark::{Internal, None, Secret, Token};
        for (one, two, both) in
            [(None, Internal, Internal), (None, Token, Token), (Internal, Token, Secret), (Internal, Secret, Secret)]
        {
            assert_eq!((one.joined(two), two.joined(one), one.joined(one)), (both, both, one));
        }
        assert!(Token.is_credential() && Secret.is_credential() && !Internal.is_credential());
    }

    #[test]
    fn json_scalars_are_unwrapped_and_null_is_absent() {
        let json = serde_json::json!({ "a": null, "b": [1, "x", 2.5], "c": { "d": true } });
        assert!(Val::json(&json).member("a").is_absent());
        assert!(Val::json(&json).member("nowhere").member("deeper").is_absent());
        assert!(matches!(Val::json(&json).member("b").element(0), Val::Int(1)));
        assert_eq!(Val::json(&json).member("b").element(-2).as_text(), Some("x"));
        assert!(Val::json(&json).member("b").element(3).is_absent());
        assert!(matches!(Val::json(&json).member("c").member("d"), Val::Bool(true)));
        assert!(matches!(Value::from_json(json).into_val().member("b").element(1), Val::Text(_)));
    }
}
