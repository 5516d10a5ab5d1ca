//! What an operation of an interpreted text does: the lowered form that takes the place of Rhai's own.
//!
//! Rhai parses, keeps locals and walks statements; every operator, member and function is one of these, so that it
//! means the same as in native code and knows whose fault a wrong value is.

use std::sync::Arc;

use ipnet::IpNet;
use regex::Regex;
use rhai::{Dynamic, Position};

use crate::engine::read::Read;
use crate::engine::value::{Origin, Text};
use crate::expr::functions::Function;
use crate::expr::narrow::Member;
use crate::expr::node::Test;
use crate::expr::parse::Operator;

/// The key under which Rhai finds the evaluation of a plan; no text can spell it.
pub(super) const KEY: &str = "$";

/// One operation with all that is known of it at load.
pub(super) struct Plan {
    pub action: Action,
    pub origin: Origin,
    /// A secret or token takes part.
    pub marked: bool,
    pub at: Position,
}

/// How Rhai carries a plan.
#[derive(Clone)]
pub(super) struct Carried(pub Arc<Plan>);

pub(super) enum Action {
    And,
    Or,
    /// A condition: the value must be a bool.
    Truth,
    Not,
    Negate,
    Arithmetic(Operator),
    Compare(Test),
    In {
        not: bool,
    },
    /// A variable of the policy, by position.
    Input(usize),
    Const(Dynamic),
    /// Members of the first input.
    Chain(Box<[Link]>),
    Pure(&'static Function),
    Exists,
    Matches(Box<Regex>),
    InNetworks(Box<[IpNet]>),
    InNetworkList,
    Now,
    Uuid,
    Random,
    RandomHex,
    /// Text in backticks.
    Concat,
    Array,
    Map(Box<[Text]>),
    /// What `for` walks through.
    Elements,
    Range {
        inclusive: bool,
    },
    /// A value put into an array or map: it must not nest too deep.
    Stored,
    List(Method),
    Deny,
    Fail,
}

/// One step of a chain.
pub(super) enum Link {
    Member(Member),
    /// By the value of this input.
    Input(usize),
}

/// A method of lists that takes a closure, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    All,
    Filter,
    Map,
    Reduce,
    Some,
    Sort,
}

/// `push` changes its list in place and so is a function of Rhai's.
pub(super) const PUSH: &str = "push";

impl Method {
    pub const ALL: [Method; 6] = [Method::All, Method::Filter, Method::Map, Method::Reduce, Method::Some, Method::Sort];

    pub fn name(self) -> &'static str {
        match self {
            Method::All => "all",
            Method::Filter => "filter",
            Method::Map => "map",
            Method::Reduce => "reduce",
            Method::Some => "some",
            Method::Sort => "sort",
        }
    }

    /// How it is written.
    pub fn usage(self) -> &'static str {
        match self {
            Method::All => "list.all(|x| x > 0)",
            Method::Filter => "list.filter(|x| x > 0)",
            Method::Map => "list.map(|x| x + 1)",
            Method::Reduce => "list.reduce(|sum, x| sum + x, 0)",
            Method::Some => "list.some(|x| x > 0)",
            Method::Sort => "list.sort() or list.sort(|a, b| a - b)",
        }
    }

    /// Fewest and most arguments, the list among them.
    pub fn arguments(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Method::Sort => 1..=2,
            Method::Reduce => 3..=3,
            _ => 2..=2,
        }
    }

    /// Parameters that its closure takes.
    pub fn parameters(self) -> usize {
        if matches!(self, Method::Reduce | Method::Sort) { 2 } else { 1 }
    }

    pub fn named(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// A variable of the policy, and the members of its value that are read.
#[derive(Debug, PartialEq, Clone)]
pub(super) struct Input {
    pub read: Read,
    pub members: Box<[Member]>,
}
