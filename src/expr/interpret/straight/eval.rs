//! The walk through a straight text: the same operations in the same order as Rhai takes them, over borrowed values.
//!
//! Each ends in the same Rust code that the native form and the plans of Rhai's call, with the same bounds.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;

use jiff::Timestamp;
use rhai::Position;
use smallvec::SmallVec;

use crate::engine::read::{Read, Reader};
use crate::engine::value::{Origin, Val};
use crate::expr::compare;
use crate::expr::failure::Failure;
use crate::expr::functions::{ARGUMENTS_MAX, Arguments, Function, Run};
use crate::expr::interpret::engine::TEXT_MAX;
use crate::expr::interpret::lists::LIST_MAX;
use crate::expr::interpret::nodes::{CALL_BYTES_MAX, LARGE_BYTES, is_quick};
use crate::expr::interpret::plan::{Action, Input, Plan};
use crate::expr::interpret::run::{Draws, OPERATIONS_PER_CLOCK, Stop, Watch};
use crate::expr::interpret::straight::got::{Got, Sizes};
use crate::expr::interpret::straight::{Node, Statement};
use crate::expr::interpret::value::{NESTING_MAX, step};
use crate::expr::narrow::Member;
use crate::expr::{Kinds, arithmetic, fault_by, node, write_text};
use crate::fault::Fault;

/// Bytes that a text in backticks has room for at first.
const TEXT_BYTES_AT_FIRST: usize = 64;

const TOO_LATE: &str = "too much time";
const TOO_LARGE: &str = "a text, list or map grows too large";

/// One run: what it reads, and what it has made so far.
pub(super) struct Frame<'e> {
    pub on: &'e dyn Reader,
    pub cells: &'e [OnceCell<Got<'e>>],
    /// The cell of each local and one more; 0 where it holds nothing.
    pub locals: &'e [Cell<u16>],
    pub results: usize,
    pub now: Timestamp,
    pub draws: RefCell<Option<Draws>>,
    pub watch: RefCell<Watch>,
    pub ticks: Cell<u32>,
    pub returned: OnceCell<Got<'e>>,
}

/// Why a run does not go on.
pub(super) enum Halt {
    /// It has returned a value.
    Returned,
    /// What it is about to do is for Rhai: nothing has left the run yet, so that it can begin anew there.
    Rhai,
    Stopped(Box<(Stop, Position)>),
}

pub(super) type Outcome<T> = Result<T, Halt>;

fn stop(why: Stop, at: Position) -> Halt {
    Halt::Stopped(Box::new((why, at)))
}

fn limit(why: &'static str, at: Position) -> Halt {
    stop(Stop::Limit(why), at)
}

pub(super) fn failed(plan: &Plan, failure: Failure) -> Halt {
    stop(Stop::Fault(failure.fault(plan.origin)), plan.at)
}

impl<'e> Frame<'e> {
    /// What a local or result holds.
    pub fn held(&self, local: usize) -> Option<&'e Got<'e>> {
        let cell = self.locals.get(local)?.get().checked_sub(1)?;
        self.cells.get(usize::from(cell))?.get()
    }

    /// The value of the last statement.
    pub fn statements(&self, statements: &'e [Statement]) -> Outcome<Got<'e>> {
        let mut last = Got::ABSENT;
        for statement in statements {
            last = self.statement(statement)?;
        }
        Ok(last)
    }

    fn statement(&self, statement: &'e Statement) -> Outcome<Got<'e>> {
        match statement {
            Statement::Nothing => Ok(Got::ABSENT),
            Statement::Value(node) => self.eval(node),
            Statement::Put { local, cell, value, result } => {
                let value = self.eval(value)?;
                if let Some(place) = self.cells.get(usize::from(*cell)) {
                    // It is passed once in a run, so it is empty.
                    let _ = place.set(value);
                }
                if let Some(local) = self.locals.get(usize::from(*local)) {
                    local.set(cell + 1);
                }
                match result {
                    Some(at) if !self.results_fit() => Err(limit(TOO_LARGE, *at)),
                    _ => Ok(Got::ABSENT),
                }
            }
            Statement::If { test, then, other } => match self.eval(test)? {
                Got::Val(Val::Bool(true)) => self.statements(then),
                _ => self.statements(other),
            },
            Statement::Return(value) => {
                let value = value.as_ref().map_or(Ok(Got::ABSENT), |value| self.eval(value))?;
                // The run ends here, so there is no other.
                let _ = self.returned.set(value);
                Err(Halt::Returned)
            }
        }
    }

    /// All results together are one map of Rhai's.
    fn results_fit(&self) -> bool {
        let held = (0..self.results).filter_map(|result| self.held(result));
        held.fold(Sizes::default(), |sum, value| sum.and(value.sizes().as_entry())).fit()
    }

    fn eval(&self, node: &'e Node) -> Outcome<Got<'e>> {
        match node {
            Node::Const(value) => Ok(Got::Val(value.view())),
            Node::Local(local) => Ok(self.held(usize::from(*local)).map_or(Got::ABSENT, Got::lent)),
            Node::Block(statements) => self.statements(statements),
            Node::First(nodes) => {
                for node in nodes {
                    match self.eval(node)? {
                        Got::Val(Val::Absent) => {}
                        value => return Ok(value),
                    }
                }
                Ok(Got::ABSENT)
            }
            Node::Input { cell, input, at } => self.input(*cell, input, *at),
            Node::Chain { plan, skip, base, keys } => self.chain(plan, *skip, base, keys),
            Node::Part(split, position) => self.part(split, *position),
            Node::Among { plan, not, needle, split } => self.among(plan, *not, needle, split),
            Node::Work(plan, inputs) => {
                self.tick(plan.at)?;
                match &plan.action {
                    Action::And => self.decided(plan, inputs, false),
                    Action::Or => self.decided(plan, inputs, true),
                    Action::Truth => self.truth(plan, inputs.first()).map(Got::bool),
                    Action::Not => self.truth(plan, inputs.first()).map(|bool| Got::bool(!bool)),
                    Action::Compare(test) => {
                        let (left, right) = self.two(plan, inputs)?;
                        answered(plan, node::decide(*test, &left, &right, plan.marked))
                    }
                    Action::In { not } => {
                        let (needle, hay) = self.two(plan, inputs)?;
                        let found = compare::contains(&hay, &needle, plan.marked);
                        answered(plan, found.map(|found| found != *not))
                    }
                    _ => {
                        let made = self.made(plan, inputs)?;
                        if made.sizes().fit() { Ok(made) } else { Err(limit(TOO_LARGE, plan.at)) }
                    }
                }
            }
        }
    }

    /// Operations that make values.
    fn made(&self, plan: &'e Plan, inputs: &'e [Node]) -> Outcome<Got<'e>> {
        match &plan.action {
            Action::Negate => {
                let value = self.one(plan, inputs.first())?;
                settled(plan, arithmetic::negate(&value))
            }
            Action::Arithmetic(operator) => {
                let (left, right) = self.two(plan, inputs)?;
                settled(plan, arithmetic::apply(*operator, left, right))
            }
            Action::Pure(function) => self.called(plan, function, self.arguments(plan, function, inputs)?),
            Action::Exists => {
                self.own(plan, inputs.first()).map(|got| Got::bool(!matches!(got, Got::Val(Val::Absent))))
            }
            Action::Concat => self.concat(plan, inputs),
            Action::Array => {
                let all: Outcome<Vec<Got<'e>>> = inputs.iter().map(|input| self.element(input)).collect();
                stored(plan, Got::Array(all?.into()))
            }
            Action::Map(keys) => {
                let entry =
                    |(key, input): (&'e crate::engine::value::Text, &'e Node)| Ok((&**key, self.element(input)?));
                let all: Outcome<BTreeMap<&'e str, Got<'e>>> = keys.iter().zip(inputs).map(entry).collect();
                stored(plan, Got::Map(all?.into()))
            }
            Action::Stored => stored(plan, self.input_of(inputs.first())?),
            Action::Now => Ok(Got::Val(Val::Time(self.now))),
            Action::Uuid => Ok(Got::Val(Val::Text(node::uuid(&Chance(&self.draws)).into()))),
            Action::Random => Ok(Got::Val(Val::Float(node::random(&Chance(&self.draws))))),
            Action::RandomHex => {
                let bytes = self.one(plan, inputs.first())?;
                settled(plan, node::random_hex_of(&bytes, &Chance(&self.draws)))
            }
            Action::Matches(regex) => match self.one(plan, inputs.first())? {
                Val::Text(text) => {
                    small_enough(plan, text.len())?;
                    Ok(Got::bool(regex.is_match(&text)))
                }
                other => Err(failed(plan, Failure::Expected(Kinds::TEXT, other.type_word()))),
            },
            Action::InNetworks(networks) => {
                let address = node::address(&self.one(plan, inputs.first())?);
                answered(plan, address.map(|address| networks.iter().any(|network| network.contains(&address))))
            }
            Action::InNetworkList => {
                let (address, list) = self.two(plan, inputs)?;
                answered(plan, node::in_network_list(&address, &list))
            }
            Action::Deny => self.deny(plan, inputs),
            Action::Fail => {
                let (code, detail) = (self.text(plan, inputs.first())?, self.text(plan, inputs.get(1))?);
                Err(stop(Stop::Failed { code, detail }, plan.at))
            }
            // Taken before, or never translated: a new one is asked for here.
            Action::And | Action::Or | Action::Truth | Action::Not | Action::Compare(_) | Action::In { .. } => {
                Ok(Got::ABSENT)
            }
            Action::Input(_) | Action::Const(_) | Action::Chain(_) => Ok(Got::ABSENT),
            Action::List(_) | Action::Elements | Action::Range { .. } => Ok(Got::ABSENT),
        }
    }

    /// Now and then, whether there is time left.
    pub fn tick(&self, at: Position) -> Outcome<()> {
        let ticks = self.ticks.get() + 1;
        self.ticks.set(ticks);
        if ticks.is_multiple_of(OPERATIONS_PER_CLOCK) { self.still_in_time(at) } else { Ok(()) }
    }

    fn still_in_time(&self, at: Position) -> Outcome<()> {
        if self.watch.borrow_mut().is_late() { Err(limit(TOO_LATE, at)) } else { Ok(()) }
    }

    /// A variable of the policy, read once.
    fn input(&self, cell: u16, input: &'e Input, at: Position) -> Outcome<Got<'e>> {
        let Some(cell) = self.cells.get(usize::from(cell)) else { return Ok(Got::ABSENT) };
        if let Some(got) = cell.get() {
            return Ok(got.lent());
        }
        let val = self.on.read(&input.read).map_err(|fault| stop(Stop::Fault(fault), at))?;
        let val = input.members.iter().fold(val, step);
        if matches!(&val, Val::Text(text) if text.len() > TEXT_MAX) {
            return Err(limit(TOO_LARGE, at));
        }
        Ok(cell.get_or_init(|| Got::Val(val)).lent())
    }

    fn input_of(&self, node: Option<&'e Node>) -> Outcome<Got<'e>> {
        node.map_or(Ok(Got::ABSENT), |node| self.eval(node))
    }

    /// An input that is handed to a function or operator.
    pub fn own(&self, plan: &Plan, node: Option<&'e Node>) -> Outcome<Got<'e>> {
        let got = self.input_of(node)?;
        match got.weighs_at_most(TEXT_MAX) {
            true => Ok(got),
            false => Err(limit("a list or map holds too much text", plan.at)),
        }
    }

    /// What a list or map of the text's own holds. Lists and maps of the policy would be copied with it wherever it is
    /// used, as often as they stand in it; Rhai shares them.
    fn element(&self, node: &'e Node) -> Outcome<Got<'e>> {
        match self.eval(node)? {
            Got::Val(Val::List(_) | Val::Map(_) | Val::Json(_)) => Err(Halt::Rhai),
            got => Ok(got),
        }
    }

    /// What is large takes time that nobody counts.
    pub fn timely(&self, plan: &Plan, val: &Val<'_>) -> Outcome<()> {
        let large = match val {
            Val::Text(text) => text.len() > LARGE_BYTES,
            Val::Bytes(bytes) => bytes.len() > LARGE_BYTES,
            Val::List(_) | Val::Map(_) | Val::Json(_) => true,
            _ => false,
        };
        if large { self.still_in_time(plan.at) } else { Ok(()) }
    }

    fn one(&self, plan: &Plan, node: Option<&'e Node>) -> Outcome<Val<'e>> {
        let val = self.own(plan, node)?.into_val();
        self.timely(plan, &val)?;
        Ok(val)
    }

    fn two(&self, plan: &Plan, inputs: &'e [Node]) -> Outcome<(Val<'e>, Val<'e>)> {
        let left = self.own(plan, inputs.first())?.into_val();
        let right = self.own(plan, inputs.get(1))?.into_val();
        self.timely(plan, &left)?;
        self.timely(plan, &right)?;
        Ok((left, right))
    }

    fn truth(&self, plan: &Plan, node: Option<&'e Node>) -> Outcome<bool> {
        match self.input_of(node)? {
            Got::Val(Val::Bool(bool)) => Ok(bool),
            other => Err(failed(plan, Failure::Expected(Kinds::BOOL, other.word()))),
        }
    }

    /// `&&` and `||`: the first answer that decides.
    fn decided(&self, plan: &Plan, inputs: &'e [Node], decides: bool) -> Outcome<Got<'e>> {
        for input in inputs {
            if self.truth(plan, Some(input))? == decides {
                return Ok(Got::bool(decides));
            }
        }
        Ok(Got::bool(!decides))
    }

    fn text(&self, plan: &Plan, node: Option<&'e Node>) -> Outcome<String> {
        match self.own(plan, node)? {
            Got::Val(Val::Text(text)) => Ok(text.into_owned()),
            other => Err(failed(plan, Failure::Expected(Kinds::TEXT, other.word()))),
        }
    }

    fn deny(&self, plan: &Plan, inputs: &'e [Node]) -> Outcome<Got<'e>> {
        let code = self.text(plan, inputs.first())?;
        let status = match self.own(plan, inputs.get(1))? {
            Got::Val(Val::Int(status)) => {
                u16::try_from(status).ok().filter(|status| (400..500).contains(status) && *status != 401)
            }
            _ => None,
        };
        let Some(status) = status else {
            let fault = fault_by(Origin::Policy, "script.type", "deny takes a status of 400 to 499, and not 401");
            return Err(stop(Stop::Fault(fault), plan.at));
        };
        let text = match inputs.get(2) {
            Some(text) => Some(self.text(plan, Some(text))?),
            None => None,
        };
        Err(stop(Stop::Denied { code, status, text }, plan.at))
    }

    /// The arguments of a call, checked.
    pub fn arguments(&self, plan: &Plan, function: &Function, inputs: &'e [Node]) -> Outcome<[Val<'e>; ARGUMENTS_MAX]> {
        let mut values = [const { Val::Absent }; ARGUMENTS_MAX];
        let mut bytes = 0;
        for ((place, input), accepts) in values.iter_mut().zip(inputs).zip(function.accepts) {
            let got = self.own(plan, Some(input))?;
            if !accepts.meets(got.kinds()) {
                return Err(failed(plan, Failure::Expected(*accepts, got.word())));
            }
            *place = got.into_val();
            if let Val::Text(text) = place {
                bytes += text.len();
            }
        }
        if !is_quick(function) {
            small_enough(plan, bytes)?;
        }
        for val in &values {
            self.timely(plan, val)?;
        }
        Ok(values)
    }

    /// What a function makes of its arguments.
    pub fn called(&self, plan: &Plan, function: &Function, values: [Val<'e>; ARGUMENTS_MAX]) -> Outcome<Got<'e>> {
        let Run::Pure(pure) = function.run else { return Ok(Got::ABSENT) };
        let result = pure(Arguments { values, marked: plan.marked });
        match &result {
            Ok(Val::List(list)) if list.len() > LIST_MAX => Err(limit("a list grows too large", plan.at)),
            _ => settled(plan, result),
        }
    }

    fn concat(&self, plan: &Plan, inputs: &'e [Node]) -> Outcome<Got<'e>> {
        let mut text = String::with_capacity(TEXT_BYTES_AT_FIRST);
        for input in inputs {
            let val = self.one(plan, Some(input))?;
            write_text(&val, &mut text).map_err(|why| failed(plan, Failure::NotText(why)))?;
            if text.len() > TEXT_MAX {
                return Err(failed(plan, Failure::TooLarge));
            }
        }
        Ok(Got::Val(Val::Text(text.into())))
    }

    /// Members of a value; what is computed comes first.
    fn chain(&self, plan: &'e Plan, skip: usize, base: &'e Node, keys: &'e [Node]) -> Outcome<Got<'e>> {
        self.tick(plan.at)?;
        let mut computed: SmallVec<[Member; 2]> = SmallVec::new();
        for key in keys {
            computed.push(match self.own(plan, Some(key))? {
                Got::Val(Val::Text(key)) => Member::Key((&*key).into()),
                Got::Val(Val::Int(position)) => Member::Position(position),
                other => return Err(failed(plan, Failure::Expected(Kinds::TEXT.or(Kinds::INT), other.word()))),
            });
        }
        let base = self.eval(base)?;
        let Action::Chain(links) = &plan.action else { return Ok(base) };
        let found = base.descend(links.get(skip..).unwrap_or_default(), &computed);
        let found = found.map_err(|failure| failed(plan, failure))?;
        if found.sizes().fit() { Ok(found) } else { Err(limit(TOO_LARGE, plan.at)) }
    }
}

fn settled<'e>(plan: &Plan, result: Result<Val<'e>, Failure>) -> Outcome<Got<'e>> {
    result.map(Got::Val).map_err(|failure| failed(plan, failure))
}

pub(super) fn answered<'e>(plan: &Plan, result: Result<bool, Failure>) -> Outcome<Got<'e>> {
    result.map(Got::bool).map_err(|failure| failed(plan, failure))
}

fn stored<'e>(plan: &Plan, value: Got<'e>) -> Outcome<Got<'e>> {
    match value.nests_at_most(NESTING_MAX) {
        true => Ok(value),
        false => Err(limit("lists and maps nest too deep", plan.at)),
    }
}

fn small_enough(plan: &Plan, bytes: usize) -> Outcome<()> {
    match bytes > CALL_BYTES_MAX {
        true => Err(limit("a function is given a text that is too long", plan.at)),
        false => Ok(()),
    }
}

/// The chance of a run, for the functions that native code shares.
struct Chance<'f>(&'f RefCell<Option<Draws>>);

impl Reader for Chance<'_> {
    fn read<'x>(&'x self, _: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        Ok(Val::Absent)
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn random(&self, into: &mut [u8]) {
        if let Some(draws) = self.0.borrow_mut().as_mut() {
            draws.fill(into);
        }
    }
}
