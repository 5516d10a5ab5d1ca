//! Enums: a bare word is a variant without content, `{ word: content }` one with it.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::deserializer::NodeDeserializer;
use super::error::{Error, Kind, listed, possible};
use crate::source::units::shown;

/// The variant that a node names, and its content if there is any.
pub(super) struct Choice<'a> {
    whole: NodeDeserializer<'a>,
    variant: &'a str,
    content: Option<NodeDeserializer<'a>>,
}

impl<'a> Choice<'a> {
    pub(super) fn of(whole: NodeDeserializer<'a>, variants: &[&str]) -> Result<Self, Error> {
        let node = whole.node;
        let (variant, content) = match (node.as_text(), node.as_map()) {
            (Some(word), _) => (word, None),
            (_, Some([entry])) => (entry.key.as_str(), Some(whole.of_key(&entry.key, &entry.value))),
            _ => return Err(Error::wrong_type(format!("one of {}", listed(variants)))),
        };
        if variants.contains(&variant) {
            return Ok(Choice { whole, variant, content });
        }
        let all = format!("possible are {}", listed(variants));
        let help = possible(variant, variants);
        let help = if help == all { all } else { format!("{help} {all}") };
        let error = match content {
            None => Error::bad_value(format!("{} is not possible here", shown(variant))),
            Some(_) => Error::new(Kind::UnknownKey, format!("unknown key {}", shown(variant))),
        };
        Err(error.with_help(help))
    }

    fn content(&self) -> Result<NodeDeserializer<'a>, Error> {
        self.content.ok_or_else(|| {
            Error::wrong_type(format!("a mapping `{}: ...`", self.variant))
                .with_help(format!("`{}` needs a value of its own", self.variant))
        })
    }
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            Some(content) if !content.node.is_null() => {
                Err(self.whole.record(Error::wrong_type(format!("the bare word `{}`", self.variant))))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let content = self.content()?;
        content.settle(seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.content()?.visit_struct(fields, visitor)
    }
}
