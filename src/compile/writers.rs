//! Which steps have written a variable root on the ways that lead to a place: where two on one way have, a
//! name of the first is a name of the second, and whoever reads it may mean either.

use std::collections::BTreeMap;

use crate::engine::program::StepId;
use crate::engine::value::Text;

/// The writers of all roots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writers(BTreeMap<Text, Written>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Written {
    last: Option<StepId>,
    /// Two steps of one way, the first time that there were two.
    twice: Option<(StepId, StepId)>,
}

impl Writers {
    /// A step writes a root.
    pub fn write(&mut self, root: &str, step: StepId) {
        let written = self.0.entry(root.into()).or_default();
        if let Some(last) = written.last
            && last != step
        {
            written.twice.get_or_insert((last, step));
        }
        written.last = Some(step);
    }

    /// A variable takes the place of a root: it may be set again and again.
    pub fn forget(&mut self, root: &str) {
        self.0.remove(root);
    }

    /// Takes over what is known of one root.
    pub fn take_over(&mut self, root: &str, other: &Writers) {
        match other.0.get(root) {
            Some(written) => drop(self.0.insert(root.into(), written.clone())),
            None => self.forget(root),
        }
    }

    /// The two steps of one way that have written a root.
    pub fn twice(&self, root: &str) -> Option<(StepId, StepId)> {
        self.0.get(root)?.twice
    }

    /// Two ways have met: what stands on one of each has not followed the other.
    pub fn join(mut self, other: Writers) -> Writers {
        for (root, theirs) in other.0 {
            let ours = self.0.entry(root).or_default();
            ours.twice = ours.twice.or(theirs.twice);
            ours.last = ours.last.or(theirs.last);
        }
        self
    }

    /// What `on_fault` and `finally` begin with: they come after any step, so that none of the pipeline is the last.
    pub fn before_tail(mut self) -> Writers {
        for written in self.0.values_mut() {
            written.last = None;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(steps: &[StepId]) -> Writers {
        let mut writers = Writers::default();
        for step in steps {
            writers.write("hash", *step);
        }
        writers
    }

    #[test]
    fn two_on_one_way_are_told_and_one_on_each_of_two_ways_is_not() {
        assert_eq!(by(&[1, 2, 3]).twice("hash"), Some((1, 2)));
        assert_eq!(by(&[1, 1]).twice("hash"), None);
        let mut joined = by(&[1]).join(by(&[2]));
        assert_eq!(joined.twice("hash"), None);
        joined.write("hash", 3);
        assert_eq!(joined.twice("hash"), Some((1, 3)));
        assert_eq!(by(&[1]).join(by(&[2, 3])).twice("hash"), Some((2, 3)));
    }

    #[test]
    fn a_tail_starts_anew_and_keeps_what_was_ambiguous() {
        let mut tail = by(&[1]).before_tail();
        tail.write("hash", 2);
        assert_eq!(tail.twice("hash"), None);
        assert_eq!(by(&[1, 2]).before_tail().twice("hash"), Some((1, 2)));
    }
}
