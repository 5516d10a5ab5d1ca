//! Plans at work: the operators, members and functions of the language over Rhai's values.
//!
//! Each ends in the same Rust code that the native form calls. What is absent or of the wrong type ends the run with
//! the fault that native code gives; nothing is false because it could not be answered.

use rhai::{Dynamic, EvalAltResult, EvalContext, Expression, ImmutableString};

use smallvec::SmallVec;

use crate::engine::read::Reader;
use crate::engine::value::{Origin, Val};
use crate::expr::compare;
use crate::expr::failure::Failure;
use crate::expr::functions::{ARGUMENTS_MAX, Arguments, Function, Run};
use crate::expr::interpret::engine::{Body, TEXT_MAX};
use crate::expr::interpret::lists;
use crate::expr::interpret::plan::{Action, Carried, Link, Plan};
use crate::expr::interpret::run::{self, Stop};
use crate::expr::interpret::value::{Held, NESTING_MAX, Own, nests_at_most, of_val, weighs_at_most};
use crate::expr::narrow::Member;
use crate::expr::{Kinds, LIST_ELEMENTS_MAX, arithmetic, fault_by, node, write_text};

pub(super) type Outcome = Result<Dynamic, Box<EvalAltResult>>;

/// Most bytes that one call of a function looks through: beyond it a single call could take longer than a script may.
pub const CALL_BYTES_MAX: usize = 256 * 1024;

/// From this size on a text or bytes may take a while.
pub(super) const LARGE_BYTES: usize = 4096;

/// Lengths, edges and digests are quick however long a text is.
pub(super) fn is_quick(function: &Function) -> bool {
    function.tests || matches!(function.name, "sha256" | "base64" | "base64url" | "hex" | "trim")
}

/// What Rhai calls for every plan.
pub(super) fn evaluate(
    context: &mut EvalContext<'_, '_, '_, '_, '_, '_>,
    inputs: &[Expression<'_>],
    state: &Dynamic,
) -> Outcome {
    match state.read_lock::<Carried>() {
        Some(carried) => Work { plan: &carried.0, context, inputs }.outcome(),
        None => Ok(Dynamic::UNIT),
    }
}

/// What Rhai calls for the body of a function of the text's own.
pub(super) fn body(
    context: &mut EvalContext<'_, '_, '_, '_, '_, '_>,
    _: &[Expression<'_>],
    state: &Dynamic,
) -> Outcome {
    match state.read_lock::<Body>() {
        Some(body) => context.eval_expression_tree(&(&*body.0).into()),
        None => Ok(Dynamic::UNIT),
    }
}

/// One plan over its inputs.
pub(super) struct Work<'w, 'a, 's, 'ps, 'g, 'k, 't> {
    pub plan: &'w Plan,
    pub context: &'w mut EvalContext<'a, 's, 'ps, 'g, 'k, 't>,
    inputs: &'w [Expression<'w>],
}

impl Work<'_, '_, '_, '_, '_, '_, '_> {
    fn outcome(&mut self) -> Outcome {
        match &self.plan.action {
            Action::And => self.all(false),
            Action::Or => self.all(true),
            Action::Truth => self.truth(0).map(Dynamic::from_bool),
            Action::Not => self.truth(0).map(|bool| Dynamic::from_bool(!bool)),
            Action::Negate => {
                let own = self.own(0)?;
                let negated = arithmetic::negate(&self.view(&own)?);
                self.settled(negated)
            }
            Action::Arithmetic(operator) => {
                let (left, right) = (self.own(0)?, self.own(1)?);
                let result = arithmetic::apply(*operator, self.view(&left)?, self.view(&right)?);
                self.settled(result)
            }
            Action::Compare(test) => {
                let (left, right) = (self.own(0)?, self.own(1)?);
                let result = node::decide(*test, &self.view(&left)?, &self.view(&right)?, self.plan.marked);
                self.answered(result)
            }
            Action::In { not } => {
                let (needle, hay) = (self.own(0)?, self.own(1)?);
                let found = compare::contains(&self.view(&hay)?, &self.view(&needle)?, self.plan.marked);
                self.answered(found.map(|found| found != *not))
            }
            Action::Input(index) => run::input(*index, self.plan.at),
            Action::Const(value) => Ok(value.clone()),
            Action::Chain(links) => self.chain(links),
            Action::Pure(function) => self.pure(function),
            Action::Exists => self.own(0).map(|own| Dynamic::from_bool(!matches!(own, Own::Absent))),
            Action::Concat => self.concat(),
            Action::Array => self.array(),
            Action::Map(keys) => {
                let mut map = rhai::Map::new();
                for (place, key) in keys.iter().enumerate() {
                    map.insert((&**key).into(), self.value(place)?);
                }
                self.stored(Dynamic::from_map(map))
            }
            Action::Elements => {
                let value = self.value(0)?;
                if value.is::<std::ops::Range<i64>>() || value.is::<std::ops::RangeInclusive<i64>>() {
                    return Ok(value);
                }
                lists::elements(self.plan, value).map(Dynamic::from_array)
            }
            Action::Range { inclusive } => self.range(*inclusive),
            Action::Stored => {
                let value = self.value(0)?;
                self.stored(value)
            }
            Action::List(method) => lists::call(self, *method),
            other => self.special(other),
        }
    }

    /// Functions that are more than their arguments.
    fn special(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Now => Ok(Dynamic::from(run::now())),
            Action::Uuid => Ok(node::uuid(&Chance).into()),
            Action::Random => Ok(Dynamic::from_float(node::random(&Chance))),
            Action::RandomHex => {
                let own = self.own(0)?;
                let result = node::random_hex_of(&self.view(&own)?, &Chance);
                self.settled(result)
            }
            Action::Matches(regex) => {
                let own = self.own(0)?;
                match self.view(&own)? {
                    Val::Text(text) => {
                        self.small_enough(text.len())?;
                        Ok(Dynamic::from_bool(regex.is_match(&text)))
                    }
                    other => Err(self.failed(Failure::Expected(Kinds::TEXT, other.type_word()))),
                }
            }
            Action::InNetworks(networks) => {
                let own = self.own(0)?;
                let address = node::address(&self.view(&own)?);
                self.answered(address.map(|address| networks.iter().any(|network| network.contains(&address))))
            }
            Action::InNetworkList => {
                let (address, list) = (self.own(0)?, self.own(1)?);
                let result = node::in_network_list(&self.view(&address)?, &self.view(&list)?);
                self.answered(result)
            }
            Action::Deny => self.deny(),
            Action::Fail => {
                let (code, detail) = (self.text(0)?, self.text(1)?);
                Err(run::stop(Stop::Failed { code: code.into(), detail: detail.into() }, self.plan.at))
            }
            _ => Ok(Dynamic::UNIT),
        }
    }

    /// The value of an input.
    pub fn value(&mut self, place: usize) -> Outcome {
        match self.inputs.get(place) {
            Some(input) => self.context.eval_expression_tree(input).map(Dynamic::flatten),
            None => Ok(Dynamic::UNIT),
        }
    }

    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn own(&mut self, place: usize) -> Result<Own, Box<EvalAltResult>> {
        let value = self.value(place)?;
        match weighs_at_most(&value, TEXT_MAX) {
            true => Ok(Own::of(value)),
            false => Err(run::stop(Stop::Limit("a list or map holds too much text"), self.plan.at)),
        }
    }

    /// The value of an input in the language's own form. What is large takes time that Rhai does not count.
    fn view<'o>(&self, own: &'o Own) -> Result<Val<'o>, Box<EvalAltResult>> {
        let large = match own {
            Own::Text(text) => text.len() > LARGE_BYTES,
            Own::Bytes(bytes) => bytes.len() > LARGE_BYTES,
            Own::Held(_) | Own::Array(_) | Own::Map(_) => true,
            _ => false,
        };
        if large {
            run::still_in_time(self.plan.at)?;
        }
        own.view().ok_or_else(|| self.failed(Failure::Expected(Kinds::ANY, own.word())))
    }

    pub fn failed(&self, failure: Failure) -> Box<EvalAltResult> {
        run::fail(failure, self.plan.origin, self.plan.at)
    }

    fn settled(&self, result: Result<Val<'_>, Failure>) -> Outcome {
        result.map(of_val).map_err(|failure| self.failed(failure))
    }

    fn answered(&self, result: Result<bool, Failure>) -> Outcome {
        result.map(Dynamic::from_bool).map_err(|failure| self.failed(failure))
    }

    fn truth(&mut self, place: usize) -> Result<bool, Box<EvalAltResult>> {
        let value = self.value(place)?;
        value.as_bool().map_err(|_| self.failed(Failure::Expected(Kinds::BOOL, Own::of(value).word())))
    }

    /// `&&` and `||`: the first answer that decides.
    fn all(&mut self, decides: bool) -> Outcome {
        for place in 0..self.inputs.len() {
            if self.truth(place)? == decides {
                return Ok(Dynamic::from_bool(decides));
            }
        }
        Ok(Dynamic::from_bool(!decides))
    }

    fn text(&mut self, place: usize) -> Result<ImmutableString, Box<EvalAltResult>> {
        match self.own(place)? {
            Own::Text(text) => Ok(text),
            other => Err(self.failed(Failure::Expected(Kinds::TEXT, other.word()))),
        }
    }

    fn deny(&mut self) -> Outcome {
        let code = self.text(0)?.into();
        let status = match self.own(1)? {
            Own::Int(status) => {
                u16::try_from(status).ok().filter(|status| (400..500).contains(status) && *status != 401)
            }
            _ => None,
        };
        let Some(status) = status else {
            let fault = fault_by(Origin::Policy, "script.type", "deny takes a status of 400 to 499, and not 401");
            return Err(run::stop(Stop::Fault(fault), self.plan.at));
        };
        let text = match self.inputs.len() {
            3 => Some(self.text(2)?.into()),
            _ => None,
        };
        Err(run::stop(Stop::Denied { code, status, text }, self.plan.at))
    }

    fn small_enough(&self, bytes: usize) -> Result<(), Box<EvalAltResult>> {
        match bytes > CALL_BYTES_MAX {
            true => Err(run::stop(Stop::Limit("a function is given a text that is too long"), self.plan.at)),
            false => Ok(()),
        }
    }

    fn pure(&mut self, function: &'static Function) -> Outcome {
        let Run::Pure(pure) = function.run else { return Ok(Dynamic::UNIT) };
        let mut owned = [const { Own::Absent }; ARGUMENTS_MAX];
        let mut bytes = 0;
        for (place, (own, accepts)) in owned.iter_mut().zip(function.accepts).enumerate() {
            *own = self.own(place)?;
            let kinds = own.view().map(|val| Kinds::of_val(&val));
            if !kinds.is_some_and(|kinds| accepts.meets(kinds)) {
                return Err(self.failed(Failure::Expected(*accepts, own.word())));
            }
            bytes += match own {
                Own::Text(text) => text.len(),
                _ => 0,
            };
        }
        if !is_quick(function) {
            self.small_enough(bytes)?;
        }
        let [first, second, third] = &owned;
        let values = [self.view(first)?, self.view(second)?, self.view(third)?];
        let result = pure(Arguments { values, marked: self.plan.marked });
        if let Ok(Val::List(list)) = &result
            && list.len() > lists::LIST_MAX
        {
            return Err(run::stop(Stop::Limit("a list grows too large"), self.plan.at));
        }
        self.settled(result)
    }

    fn concat(&mut self) -> Outcome {
        let mut text = String::new();
        for place in 0..self.inputs.len() {
            let own = self.own(place)?;
            write_text(&self.view(&own)?, &mut text).map_err(|why| self.failed(Failure::NotText(why)))?;
            if text.len() > TEXT_MAX {
                return Err(self.failed(Failure::TooLarge));
            }
        }
        Ok(text.into())
    }

    fn array(&mut self) -> Outcome {
        let mut array = rhai::Array::with_capacity(self.inputs.len());
        for place in 0..self.inputs.len() {
            array.push(self.value(place)?);
        }
        self.stored(Dynamic::from_array(array))
    }

    pub fn stored(&self, value: Dynamic) -> Outcome {
        match nests_at_most(&value, NESTING_MAX) {
            true => Ok(value),
            false => Err(run::stop(Stop::Limit("lists and maps nest too deep"), self.plan.at)),
        }
    }

    fn range(&mut self, inclusive: bool) -> Outcome {
        let (from, to) = (self.own(0)?, self.own(1)?);
        match (from, to) {
            (Own::Int(from), Own::Int(to)) if inclusive => Ok(Dynamic::from(from..=to)),
            (Own::Int(from), Own::Int(to)) => Ok(Dynamic::from(from..to)),
            (Own::Int(_), other) | (other, _) => Err(self.failed(Failure::Expected(Kinds::INT, other.word()))),
        }
    }

    /// Members of a value. A local of the script is looked into where it stands: copying a list for each of its
    /// elements would make every loop quadratic.
    fn chain(&mut self, links: &[Link]) -> Outcome {
        let mut computed: SmallVec<[Member; 2]> = SmallVec::new();
        for link in links {
            if let Link::Input(place) = link {
                computed.push(match self.own(*place)? {
                    Own::Text(key) => Member::Key((&*key).into()),
                    Own::Int(position) => Member::Position(position),
                    other => return Err(self.failed(Failure::Expected(Kinds::TEXT.or(Kinds::INT), other.word()))),
                });
            }
        }
        let inputs = self.inputs;
        let local = inputs.first().and_then(Expression::get_string_value);
        if let Some(value) = local.and_then(|name| self.context.scope().get(name)) {
            return descend(value, links, &computed).map_err(|failure| self.failed(failure));
        }
        let value = self.value(0)?;
        descend(&value, links, &computed).map_err(|failure| self.failed(failure))
    }
}

/// Walks down. A key that was computed must fit what it is asked of; a constant one of JSON of another shape is
/// absent, as natively.
fn descend(value: &Dynamic, links: &[Link], computed: &[Member]) -> Result<Dynamic, Failure> {
    let (key, is_computed, rest, left) = match (links.split_first(), computed.split_first()) {
        (Some((Link::Member(key), rest)), _) => (key, false, rest, computed),
        (Some((Link::Input(_), rest)), Some((key, left))) => (key, true, rest, left),
        _ => return Ok(value.clone().flatten()),
    };
    let wanted = if matches!(key, Member::Key(_)) { Kinds::MAP } else { Kinds::LIST };
    if let Some(array) = value.read_lock::<rhai::Array>() {
        let Member::Position(at) = key else { return Err(Failure::Expected(wanted, "list")) };
        let at = if *at < 0 { at.saturating_add_unsigned(array.len() as u64) } else { *at };
        let element = usize::try_from(at).ok().and_then(|at| array.get(at));
        return descend(element.unwrap_or(&Dynamic::UNIT), rest, left);
    }
    if let Some(map) = value.read_lock::<rhai::Map>() {
        let Member::Key(key) = key else { return Err(Failure::Expected(wanted, "map")) };
        return descend(map.get(&**key).unwrap_or(&Dynamic::UNIT), rest, left);
    }
    if let Some(held) = value.read_lock::<Held>() {
        if is_computed {
            let kinds = Kinds::of_val(&held.view());
            if !kinds.meets(wanted) {
                return Err(Failure::Expected(wanted, if kinds == Kinds::MAP { "map" } else { "list" }));
            }
        }
        return descend(&held.member(key.clone()), rest, left);
    }
    match value.is_unit() || !is_computed {
        true => Ok(Dynamic::UNIT),
        false => Err(Failure::Expected(wanted, Own::of(value.clone()).word())),
    }
}

/// The chance of a run, for the functions that native code shares.
struct Chance;

impl Reader for Chance {
    fn read<'x>(&'x self, _: &'x crate::engine::read::Read) -> Result<Val<'x>, Box<crate::fault::Fault>> {
        Ok(Val::Absent)
    }

    fn now(&self) -> jiff::Timestamp {
        run::now()
    }

    fn random(&self, into: &mut [u8]) {
        run::random(into);
    }
}

const _: () = assert!(lists::LIST_MAX <= LIST_ELEMENTS_MAX);
