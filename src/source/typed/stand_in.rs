//! What stands in the place of a required value that is missing or wrong, so that what stands beside it is read and
//! judged all the same.
//!
//! It has no place in any file: what is said about it afterwards is said of nothing, and is not reported. Where a
//! value is judged beyond its type, an `example` in its schema is what stands here.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::Error;
use super::schema::Part;
use super::values::{self, Wrapper};
use crate::source::{Node, Span};

/// Required parts of required parts are made this deep, which bounds types that hold themselves.
const DEPTH_MAX: usize = 8;
/// A text where no example is known.
const TEXT: &str = "x";

#[derive(Clone, Copy)]
pub(super) struct StandIn<'a> {
    schema: Option<Part<'a>>,
    depth: usize,
}

impl<'a> StandIn<'a> {
    /// For a value of this schema.
    pub fn of(schema: Option<Part<'a>>) -> Self {
        StandIn { schema, depth: DEPTH_MAX }
    }

    fn below(self, schema: Option<Part<'a>>) -> Result<Self, Error> {
        let depth = self.depth.checked_sub(1).ok_or(Error::Recorded)?;
        Ok(StandIn { schema, depth })
    }

    fn example(self) -> Option<&'a serde_json::Value> {
        self.schema.and_then(Part::example)
    }

    fn text(self) -> &'a str {
        self.example().and_then(serde_json::Value::as_str).unwrap_or(TEXT)
    }

    /// A node nowhere, for types that keep theirs.
    fn node(self) -> Node {
        match self.example() {
            Some(serde_json::Value::String(text)) => Node::text(Span::NOWHERE, text.as_str()),
            Some(other) => Node::text(Span::NOWHERE, TEXT).with_text(other.to_string()),
            None => Node::text(Span::NOWHERE, TEXT),
        }
    }

    fn whole_number(self) -> u64 {
        self.example().and_then(serde_json::Value::as_u64).unwrap_or(1)
    }

    fn fields<'de, V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let required = self.schema.map(|schema| schema.required(fields)).unwrap_or_default();
        visitor.visit_map(Fields { whole: self, required: required.into_iter(), next: None })
    }
}

macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_u64(self.whole_number())
        }
    )*};
}

impl<'de> Deserializer<'de> for StandIn<'_> {
    type Error = Error;

    whole_numbers!(
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.example().and_then(serde_json::Value::as_f64).unwrap_or(1.0))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match Wrapper::of(name) {
            None | Some(Wrapper::OneOrMany) => visitor.visit_newtype_struct(self),
            Some(Wrapper::Around) => {
                values::hand_over(&self.node());
                visitor.visit_newtype_struct(self)
            }
            Some(Wrapper::Leaf(_)) => {
                values::hand_over(&self.node());
                visitor.visit_unit()
            }
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(OnlyItem(Some(self.below(self.schema.and_then(Part::item))?)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.fields(&[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let wanted = self.text();
        let variant = variants.iter().find(|variant| **variant == wanted).or_else(|| variants.first());
        visitor.visit_enum(Variant { whole: self, name: variant.copied().unwrap_or_default() })
    }

    forward_to_deserialize_any! { char str string bytes byte_buf identifier ignored_any }
}

struct OnlyItem<'a>(Option<StandIn<'a>>);

impl<'de> SeqAccess<'de> for OnlyItem<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|item| seed.deserialize(item)).transpose()
    }
}

/// The required fields of a struct.
struct Fields<'a> {
    whole: StandIn<'a>,
    required: std::vec::IntoIter<&'static str>,
    next: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.required.next();
        let Some(name) = self.next else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let name = self.next.take().ok_or(Error::Recorded)?;
        let schema = self.whole.schema.and_then(|schema| schema.key(name));
        seed.deserialize(self.whole.below(schema)?)
    }
}

struct Variant<'a> {
    whole: StandIn<'a>,
    name: &'static str,
}

impl<'a> Variant<'a> {
    fn content(self) -> Result<StandIn<'a>, Error> {
        self.whole.below(self.whole.schema.and_then(|schema| schema.key(self.name)))
    }
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.content()?.fields(fields, visitor)
    }
}
