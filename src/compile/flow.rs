//! What is known at one place of a pipeline: which variables are set, whether there is a response, and
//! whether anything follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::broker::Session;
use crate::compile::marks::Carried;
use crate::compile::writers::Writers;
use crate::engine::program::StepId;
use crate::engine::read::{Read, Slot};
use crate::engine::value::{Facts, Text, Type};
use crate::expr::Present;

/// Whether something has happened on the ways that lead here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Never,
    OnSomeWays,
    Always,
}

impl Happened {
    fn join(self, other: Happened) -> Happened {
        if self == other { self } else { Happened::OnSomeWays }
    }
}

/// A variable root that steps have set.
#[derive(Clone, Debug, PartialEq)]
pub enum Root {
    /// One value under the name itself.
    Value(Slot, Facts),
    /// Members, each in its slot.
    Members(BTreeMap<Text, (Slot, Facts)>),
    /// Who the caller is.
    Identity(IdentityRoot),
}

/// What is known of an identity.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityRoot {
    pub slot: Slot,
    /// It may not be there at all.
    pub absent: bool,
    /// `client` is there after an API key.
    pub has_client: bool,
    /// The credential as presented, where one was.
    pub credential: Option<(Slot, Facts)>,
    /// The set of API keys that proved it, and the variable with the entry's id.
    pub key_of: Option<(Text, Slot)>,
}

/// The state of a pipeline between two steps.
#[derive(Clone, Debug)]
pub struct Flow {
    pub roots: BTreeMap<Text, Root>,
    /// Reads that a condition or a passed step has proved to be there.
    pub proven: Vec<Present>,
    pub routed: Happened,
    /// Nothing gets here: every way has answered.
    pub ended: bool,
    /// Routes of alternatives that may have been tried and undone on the ways here.
    pub undone: BTreeSet<StepId>,
    /// Which steps have written the roots on the ways here.
    pub writers: Writers,
    /// Sessions whose tokens go with routes, and with the next call beside the request.
    pub sealed: Sealed,
    /// Marks of what steps have put into the messages, on some way.
    pub carried: Carried,
}

/// Sessions whose tokens are sealed to what is sent, on some way.
#[derive(Clone, Debug, Default)]
pub struct Sealed {
    pub routes: Vec<Arc<Session>>,
    pub calls: Vec<Arc<Session>>,
}

impl Sealed {
    fn join(mut self, other: Sealed) -> Sealed {
        for (own, others) in [(&mut self.routes, other.routes), (&mut self.calls, other.calls)] {
            for session in others {
                if !own.iter().any(|known| Arc::ptr_eq(known, &session)) {
                    own.push(session);
                }
            }
        }
        self
    }
}

impl Default for Flow {
    fn default() -> Self {
        Flow {
            roots: BTreeMap::new(),
            proven: Vec::new(),
            routed: Happened::Never,
            ended: false,
            undone: BTreeSet::new(),
            writers: Writers::default(),
            sealed: Sealed::default(),
            carried: Carried::default(),
        }
    }
}

impl Flow {
    /// The state after two ways have met.
    pub fn join(self, other: Flow) -> Flow {
        match (self.ended, other.ended) {
            (true, false) => return other,
            (false, true) => return self,
            _ => {}
        }
        let mut roots = BTreeMap::new();
        for (name, root) in &self.roots {
            let joined = match other.roots.get(name) {
                Some(same) => root.clone().join(same.clone()),
                None => root.clone().maybe(),
            };
            roots.insert(name.clone(), joined);
        }
        for (name, root) in other.roots {
            roots.entry(name).or_insert_with(|| root.maybe());
        }
        let proven = self.proven.into_iter().filter(|read| other.proven.contains(read)).collect();
        let undone = self.undone.union(&other.undone).copied().collect();
        let writers = self.writers.join(other.writers);
        let routed = self.routed.join(other.routed);
        let (sealed, carried) = (self.sealed.join(other.sealed), self.carried.join(other.carried));
        Flow { roots, proven, routed, ended: self.ended && other.ended, undone, writers, sealed, carried }
    }

    /// The state where a child of `parallel` has passed too: it began with the same state, and what it has written
    /// no other has.
    pub fn beside(&mut self, child: Flow, has_written: impl Fn(&str) -> bool) {
        for (name, root) in child.roots {
            if has_written(&name) {
                self.writers.take_over(&name, &child.writers);
                self.roots.insert(name, root);
            }
        }
        // What was proven of a variable is not, where another child sets it.
        let of_message = |present: &Present| !matches!(present.read, Read::Slot(_) | Read::Identity(..));
        self.proven.retain(|present| of_message(present) || child.proven.contains(present));
        for present in child.proven.into_iter().filter(of_message) {
            if !self.proven.contains(&present) {
                self.proven.push(present);
            }
        }
        self.undone.extend(child.undone);
        self.sealed = std::mem::take(&mut self.sealed).join(child.sealed);
        self.ended |= child.ended;
    }

    /// Notes that a read is there.
    pub fn prove(&mut self, read: Read) {
        self.proven.push(Present { read, members: Vec::new() });
    }

    /// What was proven of a variable says nothing of its next value.
    pub fn forget_proofs(&mut self, slot: Slot) {
        self.proven.retain(|present| present.read != Read::Slot(slot));
    }

    /// Everything set so far may be absent: what `on_fault` and `finally` see.
    pub fn maybe_all(self) -> Flow {
        let roots = self.roots.into_iter().map(|(name, root)| (name, root.maybe())).collect();
        let writers = self.writers.before_tail();
        let (undone, sealed, carried) = (self.undone, self.sealed, self.carried);
        let (proven, routed) = (Vec::new(), Happened::OnSomeWays);
        Flow { roots, proven, routed, ended: false, undone, writers, sealed, carried }
    }

    /// The state after steps that were undone: everything is as it was before them. What only they set can be
    /// asked for, and is absent.
    pub fn after_undoing(&self, undone: &Flow) -> Flow {
        let mut flow = self.clone();
        for (name, root) in &undone.roots {
            match (flow.roots.get_mut(name), root) {
                (None, root) => {
                    flow.roots.insert(name.clone(), root.clone().maybe());
                }
                (Some(Root::Members(known)), Root::Members(new)) => {
                    for (name, (slot, facts)) in new {
                        known.entry(name.clone()).or_insert((*slot, facts.maybe()));
                    }
                }
                _ => {}
            }
        }
        flow.undone.extend(&undone.undone);
        flow
    }
}

impl Root {
    fn maybe(self) -> Root {
        match self {
            Root::Value(slot, facts) => Root::Value(slot, facts.maybe()),
            Root::Members(members) => {
                Root::Members(members.into_iter().map(|(name, (slot, facts))| (name, (slot, facts.maybe()))).collect())
            }
            Root::Identity(identity) => Root::Identity(IdentityRoot { absent: true, ..identity }),
        }
    }

    fn join(self, other: Root) -> Root {
        match (self, other) {
            (Root::Value(slot, one), Root::Value(_, two)) => Root::Value(slot, join_facts(one, two)),
            (Root::Members(one), Root::Members(mut two)) => {
                let mut members = BTreeMap::new();
                for (name, (slot, facts)) in one {
                    let facts = two.remove(&name).map_or(facts.maybe(), |(_, other)| join_facts(facts, other));
                    members.insert(name, (slot, facts));
                }
                members.extend(two.into_iter().map(|(name, (slot, facts))| (name, (slot, facts.maybe()))));
                Root::Members(members)
            }
            (Root::Identity(one), Root::Identity(two)) => Root::Identity(IdentityRoot {
                slot: one.slot,
                absent: one.absent || two.absent,
                has_client: one.has_client && two.has_client,
                credential: match (one.credential, two.credential) {
                    (Some((slot, one)), Some((_, two))) => Some((slot, join_facts(one, two))),
                    (one, two) => one.or(two).map(|(slot, facts)| (slot, facts.maybe())),
                },
                key_of: if one.key_of == two.key_of { one.key_of } else { None },
            }),
            (one, _) => one.maybe(),
        }
    }
}

fn join_facts(one: Facts, two: Facts) -> Facts {
    let ty = if one.ty == two.ty { one.ty } else { Type::Any };
    Facts { ty, absent: one.absent || two.absent, ..one.mixed(two) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, ty: Type) -> Flow {
        let mut flow = Flow::default();
        flow.roots.insert(name.into(), Root::Value(Slot(0), Facts::policy(ty)));
        flow
    }

    fn facts(flow: &Flow, name: &str) -> Facts {
        match &flow.roots[name] {
            Root::Value(_, facts) => *facts,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_only_one_way_sets_may_be_absent() {
        let joined = with("a", Type::Int).join(with("b", Type::Int));
        assert!(facts(&joined, "a").absent && facts(&joined, "b").absent);
        let joined = with("a", Type::Int).join(with("a", Type::Text));
        assert_eq!(facts(&joined, "a"), Facts::policy(Type::Any));
    }

    #[test]
    fn a_way_that_has_ended_says_nothing_of_what_follows() {
        let mut ended = with("a", Type::Int);
        ended.ended = true;
        let joined = ended.join(with("b", Type::Int));
        assert!(!joined.ended && !joined.roots.contains_key("a") && !facts(&joined, "b").absent);
    }
}
