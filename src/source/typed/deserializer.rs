//! serde over a [`Node`]: scalars are read as what their place demands, and every error becomes a
//! diagnostic at the innermost node it belongs to.

mod parts;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use self::parts::{Entries, Items};
use super::error::{Error, Kind, listed};
use super::schema::Part;
use super::{scalars, values};
use crate::source::units::shown;
use crate::source::{Diagnostic, Entry, Node, NodeValue, suggest};

/// What one call of `read` gathers over its repetitions.
pub(super) struct Run<'a> {
    main: Option<&'a str>,
    schema: Option<Part<'a>>,
    found: RefCell<Vec<Diagnostic>>,
    /// Addresses of the nodes that are left out because they are wrong.
    left_out: RefCell<HashSet<usize>>,
    /// Whether this repetition has left something out, so that another one will see more.
    again: Cell<bool>,
    /// Something known to be wrong was passed over.
    lacked: Cell<bool>,
}

impl<'a> Run<'a> {
    pub(super) fn new(main: Option<&'a str>, schema: Option<&'a serde_json::Value>) -> Self {
        Run {
            main,
            schema: schema.map(Part::root),
            found: RefCell::default(),
            left_out: RefCell::default(),
            again: Cell::new(false),
            lacked: Cell::new(false),
        }
    }

    pub(super) fn found_nothing(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Whether the last repetition left something out; clears the mark for the next one.
    pub(super) fn left_something_out(&self) -> bool {
        self.again.replace(false)
    }

    pub(super) fn take_found(&self) -> Vec<Diagnostic> {
        self.found.take()
    }

    /// Whether a part was known to be wrong before, which explains why nothing could be read.
    pub(super) fn has_lacked(&self) -> bool {
        self.lacked.get()
    }

    fn report(&self, diagnostic: Diagnostic) {
        let mut found = self.found.borrow_mut();
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }

    fn is_left_out(&self, node: &Node) -> bool {
        if node.is_wrong() {
            self.lacked.set(true);
        }
        node.is_wrong() || self.left_out.borrow().contains(&node.address())
    }

    /// Leaves a node out of the next repetition, unless something inside it already is.
    fn leave_out(&self, node: &Node) {
        if !self.again.replace(true) {
            self.left_out.borrow_mut().insert(node.address());
        }
    }
}

/// How messages name a node.
#[derive(Clone, Copy)]
enum Name<'a> {
    Whole(&'a str),
    Key(&'a str),
    ItemOf(&'a str),
    ItemOfWhole(&'a str),
}

/// A node as serde sees it.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    pub(super) node: &'a Node,
    name: Name<'a>,
    schema: Option<Part<'a>>,
    run: &'a Run<'a>,
}

impl<'a> NodeDeserializer<'a> {
    pub(super) fn root(node: &'a Node, what: &'a str, run: &'a Run<'a>) -> Self {
        NodeDeserializer { node, name: Name::Whole(what), schema: run.schema, run }
    }

    pub(super) fn of_key<'b>(&self, key: &'b str, node: &'b Node) -> NodeDeserializer<'b>
    where
        'a: 'b,
    {
        let schema = self.schema.and_then(|schema| schema.key(key));
        NodeDeserializer { node, name: Name::Key(key), schema, run: self.run }
    }

    fn item(&self, node: &'a Node) -> Self {
        let name = match self.name {
            Name::Key(name) | Name::ItemOf(name) => Name::ItemOf(name),
            Name::Whole(name) | Name::ItemOfWhole(name) => Name::ItemOfWhole(name),
        };
        let schema = self.schema.and_then(Part::item);
        NodeDeserializer { node, name, schema, run: self.run }
    }

    fn title(&self) -> String {
        match self.name {
            Name::Whole(what) => what.to_owned(),
            Name::Key(key) => format!("`{key}`"),
            Name::ItemOf(key) => format!("an item of `{key}`"),
            Name::ItemOfWhole(what) => format!("an item of {what}"),
        }
    }

    /// Makes an error that has no place yet a diagnostic at this node, unless it only follows from
    /// something inside that was left out.
    pub(super) fn record(&self, error: Error) -> Error {
        let Error::Raised(raised) = error else {
            return Error::Recorded;
        };
        let message = match raised.kind {
            _ if self.lacks_a_part() => return Error::Recorded,
            Kind::WrongType => {
                format!("{} must be {}, found {}", self.title(), raised.message, found(self.node))
            }
            Kind::Missing(field) => return self.record_missing(field),
            Kind::UnknownKey | Kind::BadValue => raised.message,
        };
        let mut diagnostic = Diagnostic::error(raised.kind.code(), self.node.span(), message);
        diagnostic.help = raised.help;
        self.run.report(diagnostic);
        Error::Recorded
    }

    fn record_missing(&self, field: &str) -> Error {
        let near_miss = |entry: &Entry| suggest(&entry.key, std::iter::once(field)).is_some();
        let entries = self.node.as_map().unwrap_or_default();
        // A misspelt key is reported as such; that its right name is missing is the same mistake.
        if entries.iter().any(|entry| entry.key == field || near_miss(entry)) {
            return Error::Recorded;
        }
        let message = match self.name {
            Name::Whole(what) => format!("`{field}` is missing in {what}"),
            _ => format!("{} lacks `{field}`", self.title()),
        };
        let mut diagnostic = Diagnostic::error(Kind::Missing("").code(), self.node.span(), message)
            .with_label(format!("`{field}` is missing"));
        diagnostic.help =
            self.schema.and_then(|schema| schema.purpose(field)).map(|purpose| format!("`{field}`: {purpose}"));
        self.run.report(diagnostic);
        Error::Recorded
    }

    /// Whether something in this node (or the node itself, where it stands for its main parameter) is
    /// left out, so that what now seems wrong with it may only follow from that.
    fn lacks_a_part(&self) -> bool {
        match self.node.value() {
            _ if self.run.is_left_out(self.node) => true,
            NodeValue::List(items) => items.iter().any(|item| self.run.is_left_out(item)),
            NodeValue::Map(entries) => entries.iter().any(|entry| self.run.is_left_out(&entry.value)),
            _ => false,
        }
    }

    fn fail<T>(&self, error: Error) -> Result<T, Error> {
        Err(self.record(error))
    }

    /// Ends a visit: what the visitor raised belongs to this node.
    pub(super) fn settle<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        outcome.map_err(|error| self.record(error))
    }

    fn visit_items<'de, V: Visitor<'de>>(self, items: &'a [Node], visitor: V) -> Result<V::Value, Error> {
        self.settle(visitor.visit_seq(Items::of(self, items)))
    }

    fn visit_entries<'de, V: Visitor<'de>>(
        self,
        entries: &[Entry],
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let (Some(fields), Some(schema)) = (fields, self.schema) {
            for field in schema.required(fields) {
                if !entries.iter().any(|entry| entry.key == field) {
                    self.record_missing(field);
                }
            }
        }
        self.settle(visitor.visit_map(Entries::of(self, entries, fields)))
    }

    pub(super) fn visit_struct<'de, V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let is_whole = matches!(self.name, Name::Whole(_));
        if let Some(entries) = self.node.as_map() {
            return self.visit_entries(entries, Some(fields), visitor);
        }
        if is_whole && self.node.is_null() {
            return self.visit_entries(&[], Some(fields), visitor);
        }
        match self.run.main {
            Some(main) if is_whole => {
                let value = self.node.clone();
                let entry = Entry { key: main.to_owned(), key_span: value.span(), value };
                self.visit_entries(&[entry], Some(fields), visitor)
            }
            _ if fields.is_empty() => self.fail(Error::wrong_type("empty: nothing can be set here")),
            _ => self.fail(Error::wrong_type(format!("a mapping of {}", listed(fields)))),
        }
    }

    fn list(self) -> Result<&'a [Node], Error> {
        match self.node.as_list() {
            Some(items) => Ok(items),
            None => self.fail(Error::wrong_type("a list").with_help("write it as `[a, b]` or as lines of `- a`")),
        }
    }
}

/// What stands in a place, as messages show it.
fn found(node: &Node) -> String {
    match node.as_text() {
        Some(text) => format!("the text {}", shown(text)),
        None => node.kind().to_owned(),
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let (min, max) = (i128::from(<$type>::MIN), i128::from(<$type>::MAX));
            let number = self.settle(scalars::whole_number(self.node, min, max))?;
            match <$type>::try_from(number) {
                Ok(number) => self.settle(visitor.$visit(number)),
                Err(_) => self.fail(Error::wrong_type("a whole number")),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Error;

    whole_numbers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        use serde_json::Value;
        match self.node.value() {
            NodeValue::Null => self.settle(visitor.visit_unit()),
            NodeValue::List(items) => self.visit_items(items, visitor),
            NodeValue::Map(entries) => self.visit_entries(entries, None, visitor),
            NodeValue::Scalar(scalar) => self.settle(match self.node.to_json() {
                Value::Null => visitor.visit_unit(),
                Value::Bool(value) => visitor.visit_bool(value),
                Value::Number(number) => scalars::visit_number(&number, visitor),
                _ => visitor.visit_str(&scalar.text),
            }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.settle(scalars::truth(self.node))?;
        self.settle(visitor.visit_bool(value))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.settle(scalars::number(self.node))?;
        self.settle(visitor.visit_f64(value))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.settle(scalars::text(self.node))?;
        match (text.chars().next(), text.chars().count()) {
            (Some(single), 1) => self.settle(visitor.visit_char(single)),
            _ => self.fail(Error::wrong_type("a single character")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.settle(scalars::text(self.node))?;
        self.settle(visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() {
            return self.settle(visitor.visit_none());
        }
        self.settle(visitor.visit_some(self))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let empty = self.node.is_null() || self.node.as_map().is_some_and(<[_]>::is_empty);
        if empty { self.settle(visitor.visit_unit()) } else { self.fail(Error::wrong_type("empty")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match values::Wrapper::of(name) {
            None => self.settle(visitor.visit_newtype_struct(self)),
            Some(values::Wrapper::OneOrMany) => match self.node.as_list() {
                Some(items) => self.visit_items(items, visitor),
                None => self.settle(visitor.visit_newtype_struct(self)),
            },
            Some(values::Wrapper::Around) => {
                values::hand_over(self.node);
                self.settle(visitor.visit_newtype_struct(self))
            }
            Some(values::Wrapper::Leaf(check)) => {
                self.settle(check(self.node))?;
                values::hand_over(self.node);
                self.settle(visitor.visit_unit())
            }
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = self.list()?;
        self.visit_items(items, visitor)
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
        match self.node.as_map() {
            Some(entries) => self.visit_entries(entries, None, visitor),
            None if matches!(self.name, Name::Whole(_)) && self.node.is_null() => {
                self.visit_entries(&[], None, visitor)
            }
            None => self.fail(Error::wrong_type("a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit_struct(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let choice = self.settle(super::choice::Choice::of(self, variants))?;
        self.settle(visitor.visit_enum(choice))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { bytes byte_buf }
}
