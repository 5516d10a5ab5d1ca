//! Values of a straight run: those of the language, and the lists and maps that the text itself makes.
//!
//! The two are kept apart as Rhai keeps them: what a text makes is measured against the bounds, and a member of it that
//! cannot be is an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::engine::value::{Map, Val, Value};
use crate::expr::Kinds;
use crate::expr::compare::view;
use crate::expr::failure::Failure;
use crate::expr::interpret::engine::TEXT_MAX;
use crate::expr::interpret::lists::LIST_MAX;
use crate::expr::interpret::plan::Link;
use crate::expr::interpret::value::step;
use crate::expr::narrow::Member;

/// A value.
#[derive(Clone)]
pub(super) enum Got<'e> {
    Val(Val<'e>),
    Array(Rc<[Got<'e>]>),
    Map(Rc<BTreeMap<&'e str, Got<'e>>>),
}

/// What Rhai's bounds of sizes count: elements of arrays, entries of maps, bytes of texts.
#[derive(Clone, Copy, Default)]
pub(super) struct Sizes {
    elements: usize,
    entries: usize,
    bytes: usize,
}

impl Sizes {
    pub fn and(self, other: Sizes) -> Sizes {
        Sizes {
            elements: self.elements + other.elements,
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
        }
    }

    /// One entry of a map, and what it holds.
    pub fn as_entry(self) -> Sizes {
        Sizes { entries: self.entries + 1, ..self }
    }

    pub fn fit(self) -> bool {
        self.bytes <= TEXT_MAX && self.elements <= LIST_MAX && self.entries <= LIST_MAX
    }
}

impl<'e> Got<'e> {
    pub const ABSENT: Got<'static> = Got::Val(Val::Absent);

    pub fn bool(bool: bool) -> Got<'e> {
        Got::Val(Val::Bool(bool))
    }

    /// The same value once more, borrowed where it can be.
    pub fn lent(&'e self) -> Got<'e> {
        match self {
            Got::Val(val) => Got::Val(view(val)),
            made => made.clone(),
        }
    }

    /// In the language's own form.
    pub fn into_val(self) -> Val<'e> {
        match self {
            Got::Val(val) => val,
            Got::Array(array) => {
                Val::List(Cow::Owned(array.iter().map(|element| element.clone().into_value()).collect()))
            }
            Got::Map(map) => {
                let entries = map.iter().map(|(key, value)| ((*key).into(), value.clone().into_value()));
                Val::Map(Cow::Owned(Map(entries.collect())))
            }
        }
    }

    pub fn into_value(self) -> Value {
        self.into_val().into_value()
    }

    pub fn kinds(&self) -> Kinds {
        match self {
            Got::Val(val) => Kinds::of_val(val),
            Got::Array(_) => Kinds::LIST,
            Got::Map(_) => Kinds::MAP,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Got::Val(val) => val.type_word(),
            Got::Array(_) => "list",
            Got::Map(_) => "map",
        }
    }

    pub fn sizes(&self) -> Sizes {
        match self {
            Got::Val(Val::Text(text)) => Sizes { bytes: text.len(), ..Sizes::default() },
            Got::Val(_) => Sizes::default(),
            Got::Array(array) => array.iter().fold(Sizes::default(), |sum, element| {
                let sum = sum.and(element.sizes());
                Sizes { elements: sum.elements + 1, ..sum }
            }),
            Got::Map(map) => map.values().fold(Sizes::default(), |sum, value| sum.and(value.sizes().as_entry())),
        }
    }

    /// Whether it nests at most so deep.
    pub fn nests_at_most(&self, depth: usize) -> bool {
        match self {
            Got::Val(_) => true,
            Got::Array(array) => depth > 0 && array.iter().all(|element| element.nests_at_most(depth - 1)),
            Got::Map(map) => depth > 0 && map.values().all(|value| value.nests_at_most(depth - 1)),
        }
    }

    /// Whether all texts in it, the keys of maps among them, have at most so many bytes together.
    pub fn weighs_at_most(&self, bytes: usize) -> bool {
        fn rest(got: &Got<'_>, left: usize) -> Option<usize> {
            match got {
                Got::Val(Val::Text(text)) => left.checked_sub(text.len()),
                Got::Val(_) => Some(left),
                Got::Array(array) => array.iter().try_fold(left, |left, element| rest(element, left)),
                Got::Map(map) => {
                    map.iter().try_fold(left, |left, (key, value)| rest(value, left.checked_sub(key.len())?))
                }
            }
        }
        rest(self, bytes).is_some()
    }

    /// Walks down. A key that was computed must fit what it is asked of, and so must every one of what the text made.
    pub fn descend(self, links: &[Link], computed: &[Member]) -> Result<Got<'e>, Failure> {
        let (mut got, mut computed) = (self, computed.iter());
        for link in links {
            let (key, is_computed) = match link {
                Link::Member(key) => (key, false),
                Link::Input(_) => match computed.next() {
                    Some(key) => (key, true),
                    None => return Ok(got),
                },
            };
            got = match (got, key) {
                (Got::Array(array), Member::Position(at)) => {
                    let at = if *at < 0 { at.saturating_add_unsigned(array.len() as u64) } else { *at };
                    usize::try_from(at).ok().and_then(|at| array.get(at)).cloned().unwrap_or(Got::ABSENT)
                }
                (Got::Map(map), Member::Key(key)) => map.get(&**key).cloned().unwrap_or(Got::ABSENT),
                (Got::Array(_), Member::Key(_)) => return Err(Failure::Expected(Kinds::MAP, "list")),
                (Got::Map(_), Member::Position(_)) => return Err(Failure::Expected(Kinds::LIST, "map")),
                (Got::Val(Val::Absent), _) => return Ok(Got::ABSENT),
                (Got::Val(val), key) => {
                    let wanted = if matches!(key, Member::Key(_)) { Kinds::MAP } else { Kinds::LIST };
                    let fits = Kinds::of_val(&val).meets(wanted);
                    match fits || !is_computed {
                        true => Got::Val(step(val, key)),
                        false => return Err(Failure::Expected(wanted, val.type_word())),
                    }
                }
            };
        }
        Ok(got)
    }
}
