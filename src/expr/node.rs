//! The compiled tree and its evaluation.
//!
//! Everything is resolved: a node holds its reads, constants, compiled patterns and the origin that decides
//! whose fault a wrong value is. A comparison of a read with a constant allocates nothing.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::Regex;

use crate::engine::read::{Read, Reader};
use crate::engine::value::{Map, Origin, Text, Val, Value};
use crate::expr::arithmetic;
use crate::expr::compare::{self, Items};
use crate::expr::failure::Failure;
use crate::expr::functions::{ARGUMENTS_MAX, Arguments, Pure, RANDOM_BYTES_MAX, RANDOM_BYTES_MIN};
use crate::expr::interpret::Interpreted;
use crate::expr::parse::Operator;
use crate::expr::{Kinds, fault_by};
use crate::fault::Fault;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    /// Whether it asks for an order and not only for sameness.
    pub fn orders(self) -> bool {
        !matches!(self, Test::Equal | Test::Unequal)
    }
}

/// One compiled operation.
pub(super) enum Node {
    Const(Value),
    Read(Read),
    Member(Box<Node>, Text),
    Element(Box<Node>, i64),
    Index {
        base: Box<Node>,
        key: Box<Node>,
        origin: Origin,
    },
    List(Box<[Node]>),
    Map(Box<[(Text, Node)]>),
    Not(Box<Node>, Origin),
    Negate(Box<Node>, Origin),
    And(Box<Node>, Box<Node>, Origin),
    Or(Box<Node>, Box<Node>, Origin),
    Default(Box<Node>, Box<Node>),
    Compare {
        test: Test,
        left: Box<Node>,
        right: Box<Node>,
        origin: Origin,
        marked: bool,
    },
    In {
        not: bool,
        needle: Box<Node>,
        hay: Box<Node>,
        origin: Origin,
        marked: bool,
    },
    /// `in` a long list of texts that is known at load.
    InSet {
        not: bool,
        needle: Box<Node>,
        set: HashSet<Text>,
        origin: Origin,
    },
    Arithmetic {
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
        origin: Origin,
    },
    Exists(Box<Node>),
    Call {
        pure: Pure,
        accepts: &'static [Kinds],
        arguments: Box<[Node]>,
        origin: Origin,
        marked: bool,
    },
    Matches(Box<Node>, Box<Regex>, Origin),
    InNetworks(Box<Node>, Box<[IpNet]>, Origin),
    InNetworkList(Box<Node>, Box<Node>, Origin),
    Now,
    Uuid,
    Random,
    RandomHex(Box<Node>, Origin),
    /// What only Rhai can run.
    Interpreted(Box<Interpreted>),
}

impl Node {
    /// The value over an exchange.
    pub fn eval<'x, R: Reader + ?Sized>(&'x self, on: &'x R) -> Result<Val<'x>, Box<Fault>> {
        Ok(match self {
            Node::Const(value) => value.view(),
            Node::Read(read) => on.read(read)?,
            Node::Member(base, key) => base.eval(on)?.member(key),
            Node::Element(base, position) => base.eval(on)?.element(*position),
            Node::Index { base, key, origin } => index(base.eval(on)?, key.eval(on)?, *origin)?,
            Node::Default(left, right) => match left.eval(on)? {
                Val::Absent => right.eval(on)?,
                val => val,
            },
            Node::Arithmetic { operator, left, right, origin } => {
                arithmetic::apply(*operator, left.eval(on)?, right.eval(on)?).map_err(|why| why.fault(*origin))?
            }
            Node::Negate(inner, origin) => arithmetic::negate(&inner.eval(on)?).map_err(|why| why.fault(*origin))?,
            Node::Call { pure, accepts, arguments, origin, marked } => {
                call(*pure, accepts, arguments, *marked, on).map_err(|why| why.settle(*origin))?
            }
            Node::List(elements) => Val::List(Cow::Owned(list(elements, on)?)),
            Node::Map(entries) => Val::Map(Cow::Owned(map(entries, on)?)),
            Node::Now => Val::Time(on.now()),
            Node::Uuid => Val::Text(Cow::Owned(uuid(on))),
            Node::Random => Val::Float(random(on)),
            Node::RandomHex(bytes, origin) => random_hex_of(&bytes.eval(on)?, on).map_err(|why| why.fault(*origin))?,
            Node::Interpreted(text) => text.eval(on)?,
            test => Val::Bool(test.test(on)?),
        })
    }

    /// The answer of a node that only ever answers yes or no.
    fn test<R: Reader + ?Sized>(&self, on: &R) -> Result<bool, Box<Fault>> {
        match self {
            Node::Not(inner, origin) => Ok(!inner.holds(on, *origin)?),
            Node::And(left, right, origin) => Ok(left.holds(on, *origin)? && right.holds(on, *origin)?),
            Node::Or(left, right, origin) => Ok(left.holds(on, *origin)? || right.holds(on, *origin)?),
            Node::Exists(inner) => Ok(!inner.eval(on)?.is_absent()),
            Node::Compare { test, left, right, origin, marked } => {
                // Most conditions ask whether a variable is a word: no value is made for that.
                if let (Node::Read(read), Node::Const(Value::Text(word)), false) = (&**left, &**right, *marked)
                    && !test.orders()
                {
                    let same = match on.is_word(read, word) {
                        Some(same) => same,
                        None => is_word(on.read(read)?, word, *origin)?,
                    };
                    return Ok(same == (*test == Test::Equal));
                }
                decide(*test, &left.eval(on)?, &right.eval(on)?, *marked).map_err(|why| why.fault(*origin))
            }
            Node::In { not, needle, hay, origin, marked } => {
                let found = compare::contains(&hay.eval(on)?, &needle.eval(on)?, *marked);
                Ok(found.map_err(|why| why.fault(*origin))? != *not)
            }
            Node::InSet { not, needle, set, origin } => match needle.eval(on)? {
                Val::Text(needle) => Ok(set.contains(&*needle) != *not),
                Val::Absent => Ok(*not),
                other => Err(Failure::Types(other.type_word(), "string").fault(*origin)),
            },
            Node::Matches(inner, regex, origin) => match inner.eval(on)? {
                Val::Text(text) => Ok(regex.is_match(&text)),
                other => Err(Failure::Expected(Kinds::TEXT, other.type_word()).fault(*origin)),
            },
            Node::InNetworks(inner, networks, origin) => {
                let address = address(&inner.eval(on)?).map_err(|why| why.fault(*origin))?;
                Ok(networks.iter().any(|network| network.contains(&address)))
            }
            Node::InNetworkList(inner, list, origin) => {
                in_network_list(&inner.eval(on)?, &list.eval(on)?).map_err(|why| why.fault(*origin))
            }
            other => other.holds(on, Origin::Policy),
        }
    }

    /// The answer of a condition; a value that is no bool is a fault by `origin`, never false.
    pub fn holds<R: Reader + ?Sized>(&self, on: &R, origin: Origin) -> Result<bool, Box<Fault>> {
        if self.is_test() {
            return self.test(on);
        }
        match self.eval(on)? {
            Val::Bool(bool) => Ok(bool),
            other => Err(Failure::Expected(Kinds::BOOL, other.type_word()).fault(origin)),
        }
    }

    /// Whether it only ever answers yes or no.
    fn is_test(&self) -> bool {
        matches!(
            self,
            Node::Compare { .. }
                | Node::And(..)
                | Node::Or(..)
                | Node::Not(..)
                | Node::Exists(_)
                | Node::In { .. }
                | Node::InSet { .. }
                | Node::Matches(..)
                | Node::InNetworks(..)
                | Node::InNetworkList(..)
        )
    }

    /// Visits the nodes directly below.
    pub fn children(&self, visit: &mut dyn FnMut(&Node)) {
        match self {
            Node::Const(_) | Node::Read(_) | Node::Now | Node::Uuid | Node::Random | Node::Interpreted(_) => {}
            Node::Member(base, _) | Node::Element(base, _) => visit(base),
            Node::Not(inner, _) | Node::Negate(inner, _) | Node::Exists(inner) => visit(inner),
            Node::Matches(inner, ..) | Node::InNetworks(inner, ..) | Node::RandomHex(inner, _) => visit(inner),
            Node::InSet { needle, .. } => visit(needle),
            Node::Index { base: left, key: right, .. }
            | Node::And(left, right, _)
            | Node::Or(left, right, _)
            | Node::Default(left, right)
            | Node::Compare { left, right, .. }
            | Node::In { needle: left, hay: right, .. }
            | Node::InNetworkList(left, right, _)
            | Node::Arithmetic { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Node::List(nodes) | Node::Call { arguments: nodes, .. } => nodes.iter().for_each(visit),
            Node::Map(entries) => entries.iter().for_each(|(_, node)| visit(node)),
        }
    }

    /// All reads, each once.
    pub fn reads(&self, into: &mut Vec<Read>) {
        if let Node::Read(read) = self
            && !into.contains(read)
        {
            into.push(read.clone());
        }
        if let Node::Interpreted(text) = self {
            for read in text.reads() {
                if !into.contains(read) {
                    into.push(read.clone());
                }
            }
        }
        self.children(&mut |child| child.reads(into));
    }

    /// Whether its value is the same at every time: no reads, no clock, no chance.
    pub fn is_fixed(&self) -> bool {
        let mut fixed = !matches!(
            self,
            Node::Read(_) | Node::Now | Node::Uuid | Node::Random | Node::RandomHex(..) | Node::Interpreted(_)
        );
        self.children(&mut |child| fixed = fixed && child.is_fixed());
        fixed
    }
}

/// Whether a value is this word; an absent one is no word.
fn is_word(val: Val<'_>, word: &str, origin: Origin) -> Result<bool, Box<Fault>> {
    match val {
        Val::Text(text) => Ok(*text == *word),
        Val::Absent => Ok(false),
        other => Err(Failure::Types(other.type_word(), "string").fault(origin)),
    }
}

fn index<'x>(base: Val<'x>, key: Val<'x>, origin: Origin) -> Result<Val<'x>, Box<Fault>> {
    let kinds = Kinds::of_val(&base);
    match key {
        _ if base.is_absent() => Ok(Val::Absent),
        Val::Int(position) if kinds == Kinds::LIST => Ok(base.element(position)),
        Val::Text(key) if kinds == Kinds::MAP => Ok(base.member(&key)),
        key => Err(fault_by(
            origin,
            "expression.type",
            format!("a {} has no member by {}", base.type_word(), key.type_word()),
        )),
    }
}

pub(super) fn decide(test: Test, left: &Val<'_>, right: &Val<'_>, marked: bool) -> Result<bool, Failure> {
    match test {
        Test::Equal => compare::equal(left, right, marked),
        Test::Unequal => compare::equal(left, right, marked).map(|equal| !equal),
        _ => {
            let order =
                compare::order(left, right).ok_or_else(|| Failure::Types(left.type_word(), right.type_word()))?;
            Ok(match test {
                Test::Less => order == Ordering::Less,
                Test::LessOrEqual => order != Ordering::Greater,
                Test::Greater => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
    }
}

/// A fault of an argument itself, or a failure of the function over its arguments.
enum Broken {
    Fault(Box<Fault>),
    Failure(Failure),
}

impl Broken {
    fn settle(self, origin: Origin) -> Box<Fault> {
        match self {
            Broken::Fault(fault) => fault,
            Broken::Failure(failure) => failure.fault(origin),
        }
    }
}

fn call<'x, R: Reader + ?Sized>(
    pure: Pure,
    accepts: &[Kinds],
    nodes: &'x [Node],
    marked: bool,
    on: &'x R,
) -> Result<Val<'x>, Broken> {
    let mut values = [const { Val::Absent }; ARGUMENTS_MAX];
    for ((place, node), kinds) in values.iter_mut().zip(nodes).zip(accepts) {
        let val = node.eval(on).map_err(Broken::Fault)?;
        if !kinds.meets(Kinds::of_val(&val)) {
            return Err(Broken::Failure(Failure::Expected(*kinds, val.type_word())));
        }
        *place = val;
    }
    pure(Arguments { values, marked }).map_err(Broken::Failure)
}

fn list<R: Reader + ?Sized>(nodes: &[Node], on: &R) -> Result<Vec<Value>, Box<Fault>> {
    nodes.iter().map(|node| node.eval(on).map(Val::into_value)).collect()
}

fn map<R: Reader + ?Sized>(entries: &[(Text, Node)], on: &R) -> Result<Map, Box<Fault>> {
    let value = |(key, node): &(Text, Node)| Ok((key.clone(), node.eval(on)?.into_value()));
    entries.iter().map(value).collect::<Result<_, _>>().map(Map)
}

/// An address; IPv4 written as IPv6 counts as IPv4, so that it cannot slip past a rule.
pub(super) fn address(val: &Val<'_>) -> Result<IpAddr, Failure> {
    let Val::Text(text) = val else { return Err(Failure::Expected(Kinds::TEXT, val.type_word())) };
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => Err(Failure::Address("the value is not an IP address")),
    }
}

/// A network in CIDR notation, or a single address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

pub(super) fn in_network_list(val: &Val<'_>, list: &Val<'_>) -> Result<bool, Failure> {
    let address = address(val)?;
    let items = Items::of(list).ok_or_else(|| Failure::Expected(Kinds::LIST, list.type_word()))?;
    let mut found = false;
    for item in items {
        let Some(network) = item.as_text().and_then(network) else {
            return Err(Failure::Address("an element of the list is not a network such as 10.0.0.0/8"));
        };
        found |= network.contains(&address);
    }
    Ok(found)
}

/// A random UUID (RFC 9562 §5.4).
pub(super) fn uuid<R: Reader + ?Sized>(on: &R) -> String {
    let mut bytes = [0; 16];
    on.random(&mut bytes);
    let number = u128::from_be_bytes(bytes) & !(0xF << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{number:032x}");
    let mut text = String::with_capacity(36);
    for (place, digit) in hex.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// A float in [0, 1) with all of its 53 bits random.
pub(super) fn random<R: Reader + ?Sized>(on: &R) -> f64 {
    const BITS: u32 = 53;
    let mut bytes = [0; 8];
    on.random(&mut bytes);
    (u64::from_be_bytes(bytes) >> (u64::BITS - BITS)) as f64 / (1u64 << BITS) as f64
}

/// That many random bytes in hexadecimal.
pub(super) fn random_hex_of<'x, R: Reader + ?Sized>(bytes: &Val<'_>, on: &R) -> Result<Val<'x>, Failure> {
    let length = match bytes {
        Val::Int(length) => usize::try_from(*length).unwrap_or(0),
        other => return Err(Failure::Expected(Kinds::INT, other.type_word())),
    };
    if !(RANDOM_BYTES_MIN..=RANDOM_BYTES_MAX).contains(&length) {
        return Err(Failure::Number("random_hex makes 16 to 1024 bytes"));
    }
    let mut random = vec![0; length];
    on.random(&mut random);
    Ok(Val::Text(Cow::Owned(data_encoding::HEXLOWER.encode(&random))))
}
