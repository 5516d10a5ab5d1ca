//! What stands in a list or mapping, one part after the other, as serde asks for it.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};

use super::super::error::{Error, Kind, possible};
use super::super::stand_in::StandIn;
use super::{Name, NodeDeserializer};
use crate::source::units::shown;
use crate::source::{Diagnostic, Entry, Node, suggest};

pub(super) struct Items<'a> {
    list: NodeDeserializer<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'a> Items<'a> {
    pub fn of(list: NodeDeserializer<'a>, items: &'a [Node]) -> Self {
        Items { list, items: items.iter() }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let run = self.list.run;
        let Some(node) = self.items.find(|node| !run.is_left_out(node)) else {
            return Ok(None);
        };
        let item = self.list.item(node);
        match seed.deserialize(item) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let error = item.record(error);
                run.leave_out(node);
                Err(error)
            }
        }
    }
}

pub(super) struct Entries<'a, 'e> {
    map: NodeDeserializer<'a>,
    entries: std::slice::Iter<'e, Entry>,
    /// The keys that are possible; any if absent.
    fields: Option<&'static [&'static str]>,
    /// What comes next.
    value: Option<Next<'e>>,
    /// Required keys without a value that counts.
    lacking: std::vec::IntoIter<&'static str>,
}

/// A value that comes next.
enum Next<'e> {
    /// With the key that it stands under.
    Written(&'e Entry, &'e str),
    /// Of the key that lacks one.
    StandIn(&'static str),
}

impl<'a, 'e> Entries<'a, 'e> {
    pub fn of(map: NodeDeserializer<'a>, entries: &'e [Entry], fields: Option<&'static [&'static str]>) -> Self {
        let mut all = Entries { map, entries: entries.iter(), fields, value: None, lacking: Vec::new().into_iter() };
        if let (Some(fields), Some(schema)) = (fields, map.schema) {
            let mut required = schema.required(fields);
            required.retain(|field| {
                let counts = |entry| all.key_of(entry) == Some(*field);
                !entries.iter().any(|entry| !map.run.is_left_out(&entry.value) && counts(entry))
            });
            all.lacking = required.into_iter();
        }
        all
    }

    /// The key that an entry stands under: its own, or the one that was probably meant and is not there.
    fn key_of(&self, entry: &'e Entry) -> Option<&'e str> {
        let fields = match self.fields {
            Some(fields) if !fields.contains(&entry.key.as_str()) => fields,
            _ => return Some(&entry.key),
        };
        let meant = |entry: &Entry| suggest(&entry.key, fields.iter().copied());
        let field = meant(entry)?;
        let all = self.map.node.as_map().unwrap_or_default();
        let same =
            |other: &Entry| other.key == field || (!fields.contains(&&*other.key) && meant(other) == Some(field));
        let first = all.iter().find(|other| same(other))?;
        std::ptr::eq(first, entry).then(|| fields.iter().copied().find(|known| *known == field)).flatten()
    }

    /// Whether an entry is handed to the visitor. An unknown key is reported, and passed over where nobody can tell
    /// what it means.
    fn is_wanted(&self, entry: &'e Entry) -> bool {
        if self.map.run.is_left_out(&entry.value) {
            return false;
        }
        let Some(fields) = self.fields.filter(|fields| !fields.contains(&entry.key.as_str())) else {
            return true;
        };
        let place = match self.map.name {
            Name::Whole(what) => what.to_owned(),
            _ => self.map.title(),
        };
        self.map.run.report(
            Diagnostic::error(
                Kind::UnknownKey.code(),
                entry.key_span,
                format!("unknown key {} in {place}", shown(&entry.key)),
            )
            .with_help(possible(&entry.key, fields)),
        );
        self.key_of(entry).is_some()
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.entries.clone().find(|&entry| self.is_wanted(entry)) else {
            let Some(field) = self.lacking.next() else { return Ok(None) };
            self.value = Some(Next::StandIn(field));
            let key: StrDeserializer<'_, Error> = field.into_deserializer();
            return seed.deserialize(key).map(Some);
        };
        while self.entries.next().is_some_and(|passed| !std::ptr::eq(passed, entry)) {}
        let written = self.key_of(entry).unwrap_or(&entry.key);
        self.value = Some(Next::Written(entry, written));
        if self.fields.is_some() {
            let key: StrDeserializer<'_, Error> = written.into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        let node = Node::text(entry.key_span, entry.key.as_str());
        let key = NodeDeserializer { node: &node, name: Name::Whole("the key"), schema: None, run: self.map.run };
        match seed.deserialize(key) {
            Ok(key) => Ok(Some(key)),
            Err(error) => {
                let error = key.record(error);
                self.map.run.leave_out(&entry.value);
                Err(error)
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (entry, key) = match self.value.take() {
            Some(Next::Written(entry, key)) => (entry, key),
            Some(Next::StandIn(field)) => {
                return seed.deserialize(StandIn::of(self.map.schema.and_then(|schema| schema.key(field))));
            }
            None => return Err(Error::bad_value("a value was asked for before its key")),
        };
        let value = self.map.of_key(key, &entry.value);
        seed.deserialize(value).map_err(|error| {
            let error = value.record(error);
            self.map.run.leave_out(&entry.value);
            error
        })
    }
}
