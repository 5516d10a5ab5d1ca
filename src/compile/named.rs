//! Things by name that note who asked for them: what a document was compiled from is known afterwards, and
//! it is compiled again only when one of these things has become another.
//!
//! Asking is noted here and not where it is asked, so that no assertion can forget it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compile::outside::OutsideFile;
use crate::engine::value::Text;

/// Tells apart what was made at different times: equal stamps, same thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp(pub u64);

/// Things by name. A clone shares them and has noted nothing.
#[derive(Debug)]
pub struct Named<T> {
    all: Arc<BTreeMap<Text, (T, Stamp)>>,
    asked: RefCell<Vec<Text>>,
    /// Somebody wanted to know all names.
    listed: Cell<bool>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named { all: Arc::default(), asked: RefCell::default(), listed: Cell::default() }
    }
}

impl<T> Clone for Named<T> {
    fn clone(&self) -> Self {
        Named { all: self.all.clone(), ..Named::default() }
    }
}

impl<T> Named<T> {
    /// The thing of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        let found = self.all.get_key_value(name);
        let mut asked = self.asked.borrow_mut();
        if asked.iter().all(|known| **known != *name) {
            asked.push(found.map_or_else(|| name.into(), |(name, _)| name.clone()));
        }
        found.map(|(_, (thing, _))| thing)
    }

    /// Whether there is a thing of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All names, for messages.
    pub fn keys(&self) -> impl Iterator<Item = &Text> + Clone {
        self.listed.set(true);
        self.all.keys()
    }

    /// Everything, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &T)> + Clone {
        self.listed.set(true);
        self.all.iter().map(|(name, (thing, _))| (name, thing))
    }
}

impl<T: Clone> Named<T> {
    /// Puts a thing under a name, in the place of an older one.
    pub fn insert(&mut self, name: Text, thing: T) {
        self.insert_stamped(name, thing, Stamp::default());
    }

    /// The same, for a thing that is known by its stamp.
    pub fn insert_stamped(&mut self, name: Text, thing: T, stamp: Stamp) {
        Arc::make_mut(&mut self.all).insert(name, (thing, stamp));
    }

    /// Takes all things of another one, with one stamp for all.
    pub fn absorb(&mut self, other: &Named<T>, stamp: Stamp) {
        for (name, (thing, _)) in other.all.iter() {
            self.insert_stamped(name.clone(), thing.clone(), stamp);
        }
    }
}

impl<T: Clone> FromIterator<(Text, T, Stamp)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (Text, T, Stamp)>>(things: I) -> Self {
        let all = things.into_iter().map(|(name, thing, stamp)| (name, (thing, stamp))).collect();
        Named { all: Arc::new(all), ..Named::default() }
    }
}

/// Any [`Named`], whatever it holds.
pub trait Shelf {
    /// What was asked for since this was last called; `None` where somebody wanted to know all names.
    fn take_asked(&self) -> Option<Vec<Text>>;

    /// The stamp of the thing of this name. Not noted.
    fn stamp(&self, name: &str) -> Option<Stamp>;
}

impl<T> Shelf for Named<T> {
    fn take_asked(&self) -> Option<Vec<Text>> {
        let asked = self.asked.take();
        (!self.listed.take()).then_some(asked)
    }

    fn stamp(&self, name: &str) -> Option<Stamp> {
        self.all.get(name).map(|(_, stamp)| *stamp)
    }
}

/// What something was compiled from, beside its own text.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// By shelf and name; `None` for what was not there.
    named: Box<[(u8, Text, Option<Stamp>)]>,
    pub outside: Box<[OutsideFile]>,
    /// It depends on all names that there are, as messages about unknown ones do.
    all_names: bool,
}

impl Reads {
    /// What was asked of these shelves, and of the files of the machine.
    pub fn take<'s>(shelves: impl Iterator<Item = &'s dyn Shelf>, outside: Vec<OutsideFile>) -> Reads {
        let mut reads = Reads { outside: outside.into(), ..Reads::default() };
        let mut named = Vec::new();
        for (number, shelf) in (0..).zip(shelves) {
            match shelf.take_asked() {
                Some(asked) => {
                    named.extend(asked.into_iter().map(|name| (number, name.clone(), shelf.stamp(&name))));
                }
                None => reads.all_names = true,
            }
        }
        reads.named = named.into();
        reads
    }

    /// Whether compiling again would find the same.
    pub fn still_hold(&self, shelves: &[&dyn Shelf]) -> bool {
        let same = |(number, name, stamp): &(u8, Text, Option<Stamp>)| {
            shelves.get(usize::from(*number)).is_some_and(|shelf| shelf.stamp(name) == *stamp)
        };
        !self.all_names && self.named.iter().all(same) && self.outside.iter().all(OutsideFile::still_holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Named<u8>, Named<u8>) {
        let mut one = Named::default();
        one.insert_stamped("a".into(), 1, Stamp(7));
        (one, Named::default())
    }

    fn shelves(both: &(Named<u8>, Named<u8>)) -> [&dyn Shelf; 2] {
        [&both.0, &both.1]
    }

    #[test]
    fn what_was_asked_for_holds_until_it_changes_appears_or_goes() {
        let mut both = two();
        assert_eq!((both.0.get("a"), both.0.get("a"), both.1.get("b")), (Some(&1), Some(&1), None));
        let reads = Reads::take(shelves(&both).into_iter(), Vec::new());
        assert_eq!(reads.named.len(), 2);
        assert!(reads.still_hold(&shelves(&both)));
        both.0.insert_stamped("c".into(), 3, Stamp(8));
        assert!(reads.still_hold(&shelves(&both)), "nobody asked for it");
        both.1.insert_stamped("b".into(), 2, Stamp(9));
        assert!(!reads.still_hold(&shelves(&both)), "it has appeared");
        let mut both = two();
        both.0.insert_stamped("a".into(), 1, Stamp(8));
        assert!(!reads.still_hold(&shelves(&both)), "it was made anew");
        assert!(!reads.still_hold(&shelves(&(Named::default(), Named::default()))), "it has gone");
    }

    #[test]
    fn who_lists_all_names_depends_on_everything() {
        let both = two();
        assert_eq!(both.0.keys().count(), 1);
        let reads = Reads::take(shelves(&both).into_iter(), Vec::new());
        assert!(!reads.still_hold(&shelves(&both)));
        both.0.get("a");
        let fresh = (both.0.clone(), both.1.clone());
        assert!(Reads::take(shelves(&fresh).into_iter(), Vec::new()).named.is_empty(), "a clone has noted nothing");
    }
}
