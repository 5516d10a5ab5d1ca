//! What the variables of a service are made of, as far as fields of the request: a credential that comes out of a
//! variable must be held back where it came in.
//!
//! Where nothing finer is known, a variable is made of everything that its step reads: rather too much is held back
//! than a credential forwarded. What came in with a body is not followed: bodies are forwarded whole or replaced.

use std::collections::BTreeSet;

use crate::compile::Compile;
use crate::engine::exchange::Withheld;
use crate::engine::program::StepId;
use crate::engine::read::{Builtin, Read, Side, Slot};

/// What one variable is made of.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Of all that these steps read.
    by: BTreeSet<StepId>,
    /// Of just these.
    of: Vec<Read>,
    /// Of what stood at these places.
    at: Vec<Withheld>,
}

/// A value is made of all fields: nobody can tell which one.
#[derive(Debug, PartialEq, Eq)]
pub struct OfAll;

impl Compile<'_> {
    /// Notes that the step at hand makes a variable, of whatever it reads.
    pub fn made_here(&mut self, slot: Slot) {
        self.made_by(slot, self.current());
    }

    /// Notes that a step makes a variable, of whatever it reads.
    pub fn made_by(&mut self, slot: Slot, step: StepId) {
        self.made.entry(slot).or_default().by.insert(step);
    }

    /// Notes that a variable is made of just these.
    pub fn made_of<'r>(&mut self, slot: Slot, reads: impl IntoIterator<Item = &'r Read>) {
        self.made.entry(slot).or_default().of.extend(reads.into_iter().cloned());
    }

    /// Notes that a variable holds what stood at these places.
    pub(super) fn made_at(&mut self, slot: Slot, places: &[Withheld]) {
        self.made.entry(slot).or_default().at.extend_from_slice(places);
    }

    /// Where in the request these came in, through variables too.
    ///
    /// # Errors
    /// One of them is made of all fields, all cookies or the whole query.
    pub(super) fn places_of<'r>(&self, reads: impl Iterator<Item = &'r Read>) -> Result<Vec<Withheld>, OfAll> {
        let mut places = Vec::new();
        let mut waiting: Vec<Read> = reads.cloned().collect();
        let mut seen = BTreeSet::new();
        while let Some(read) = waiting.pop() {
            let slot = match read {
                Read::Headers(Side::Request) | Read::QueryMap | Read::Cookies => return Err(OfAll),
                Read::Builtin(Builtin::OriginalQuery) => return Err(OfAll),
                Read::Header(Side::Request, name) | Read::HeaderAll(Side::Request, name) => {
                    places.push(Withheld::Header(name));
                    continue;
                }
                Read::Cookie(name) => {
                    places.push(Withheld::Cookie(name));
                    continue;
                }
                Read::Query(name) | Read::QueryAll(name) => {
                    places.push(Withheld::Query(name));
                    continue;
                }
                Read::Slot(slot) => slot,
                _ => continue,
            };
            let Some(made) = self.made.get(&slot).filter(|_| seen.insert(slot)) else { continue };
            places.extend_from_slice(&made.at);
            waiting.extend(made.of.iter().cloned());
            let steps = made.by.iter().filter_map(|step| self.steps.get(usize::from(*step)));
            waiting.extend(steps.flat_map(|step| step.reads.iter().cloned()));
        }
        Ok(places)
    }
}
