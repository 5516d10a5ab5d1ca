//! What a condition proves: the reads that are surely there where it is true.
//!
//! `exists(x)`, `x == 'a'` and `x in [..]` are true only of a value that is there, because an absent one equals
//! nothing; `&&`, `||` and `!` carry that on.

use crate::engine::read::Read;
use crate::engine::value::Text;
use crate::expr::node::{Node, Test};

/// A step from a value to one inside of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Member {
    Key(Text),
    Position(i64),
}

/// A read, or a member of its value, that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    pub read: Read,
    /// Empty for the whole value.
    pub members: Vec<Member>,
}

impl Present {
    /// What a node reads, if it is a plain path.
    pub(super) fn of(node: &Node) -> Option<Present> {
        match node {
            Node::Read(read) => Some(Present { read: read.clone(), members: Vec::new() }),
            Node::Member(base, key) => Some(Present::of(base)?.and(Member::Key(key.clone()))),
            Node::Element(base, position) => Some(Present::of(base)?.and(Member::Position(*position))),
            _ => None,
        }
    }

    fn and(mut self, member: Member) -> Present {
        self.members.push(member);
        self
    }

    /// Whether this being there means that the other is: the value that holds it, or the same.
    pub fn implies(&self, read: &Read, members: &[Member]) -> bool {
        self.read == *read && self.members.starts_with(members)
    }
}

/// What is there if the node's answer is `answer`.
pub(super) fn proves(node: &Node, answer: bool, found: &mut Vec<Present>) {
    match node {
        Node::Not(inner, _) => proves(inner, !answer, found),
        Node::Exists(inner) if answer => found.extend(Present::of(inner)),
        Node::Compare { test, left, right, .. } => {
            let equal = (*test == Test::Equal && answer) || (*test == Test::Unequal && !answer);
            if equal || test.orders() {
                found.extend(Present::of(left));
                found.extend(Present::of(right));
            }
        }
        Node::In { not, needle, hay, .. } if *not != answer => {
            found.extend(Present::of(needle));
            found.extend(Present::of(hay));
        }
        Node::InSet { not, needle, .. } if *not != answer => found.extend(Present::of(needle)),
        Node::And(left, right, _) => two(left, right, answer, answer, found),
        Node::Or(left, right, _) => two(left, right, answer, !answer, found),
        _ => {}
    }
}

/// Both sides have the answer, or it is not known which of them: then only what either proves is there.
fn two(left: &Node, right: &Node, answer: bool, both: bool, found: &mut Vec<Present>) {
    if both {
        proves(left, answer, found);
        proves(right, answer, found);
        return;
    }
    let (mut from_left, mut from_right) = (Vec::new(), Vec::new());
    proves(left, answer, &mut from_left);
    proves(right, answer, &mut from_right);
    let by_either = |present: &Present| from_right.iter().any(|other| other.implies(&present.read, &present.members));
    found.extend(from_left.into_iter().filter(by_either));
}
