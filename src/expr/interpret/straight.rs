//! Straight-line texts, run without Rhai: statements that come after each other, `if`, locals and results.
//!
//! The lowered tree is translated once more, into one that is walked by our own code: its operations are the same
//! plans (`plan.rs`), its locals are numbered, and its values borrow from the exchange. A text that repeats, calls
//! closures or functions of its own, or changes a member of a value stays with Rhai as a whole. What a text means does
//! not depend on which of the two runs it; the tests compare them.

mod eval;
mod got;
mod split;
mod translate;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use jiff::Timestamp;
use rhai::Position;
use smallvec::SmallVec;

use self::eval::{Frame, Halt};
use self::got::Got;
use self::split::Split;
use crate::engine::read::{Budget, Read, Reader};
use crate::engine::value::{Val, Value};
use crate::expr::compare::view;
use crate::expr::interpret::plan::{Input, Plan};
use crate::expr::interpret::run::{Draws, Watch};
use crate::expr::interpret::{Ended, Ending, stopped_at};
use crate::fault::Fault;

/// Values of a run that need no memory of their own beside the stack; longer texts allocate once.
const CELLS_ON_STACK: usize = 24;

/// A translated text.
pub(super) struct Straight {
    body: Box<[Statement]>,
    /// Places of values: one for each variable that is read, and one for each place that sets a local or a result. As
    /// nothing is repeated, each is filled at most once, and values may borrow from each other.
    cells: usize,
    /// Results first, in the order in which they are declared.
    locals: usize,
    results: usize,
    /// Rhai counts at most so many operations in any run of it.
    pub operations: u64,
    /// Whether it asks for the time of day.
    clock: bool,
}

enum Statement {
    Nothing,
    Value(Node),
    Put {
        local: u16,
        cell: u16,
        value: Node,
        /// Of a result: where it is set.
        result: Option<Position>,
    },
    If {
        test: Node,
        then: Box<[Statement]>,
        other: Box<[Statement]>,
    },
    Return(Option<Node>),
}

enum Node {
    Const(Value),
    Local(u16),
    Block(Box<[Statement]>),
    /// `a ?? b`: the first that is there.
    First(Box<[Node]>),
    /// A variable of the policy.
    Input {
        cell: u16,
        input: Input,
        at: Position,
    },
    Chain {
        plan: Arc<Plan>,
        /// Links that stand for the base already.
        skip: usize,
        base: Box<Node>,
        keys: Box<[Node]>,
    },
    /// An element of what `split` gives.
    Part(Split, i64),
    /// `needle in split(...)`.
    Among {
        plan: Arc<Plan>,
        not: bool,
        needle: Box<Node>,
        split: Split,
    },
    Work(Arc<Plan>, Box<[Node]>),
}

impl Straight {
    /// Runs it over variables, the same that it was translated with; `draws` is there where it asks for chance. Nothing
    /// where it turns out that Rhai is to run it.
    pub fn run<R: Reader + ?Sized>(
        &self,
        on: &R,
        inputs: &[Input],
        budget: Budget,
        draws: Option<Draws>,
    ) -> Option<Ended> {
        let lens = Lens(on);
        let (few, many): ([OnceCell<Got<'_>>; CELLS_ON_STACK], Vec<OnceCell<Got<'_>>>);
        let cells = if self.cells <= CELLS_ON_STACK {
            few = [const { OnceCell::new() }; CELLS_ON_STACK];
            &few[..]
        } else {
            many = (0..self.cells).map(|_| OnceCell::new()).collect();
            &many[..]
        };
        let locals: SmallVec<[Cell<u16>; CELLS_ON_STACK]> = (0..self.locals).map(|_| Cell::new(0)).collect();
        let frame = Frame {
            on: &lens,
            cells,
            locals: &locals,
            results: self.results,
            now: if self.clock { on.now() } else { Timestamp::UNIX_EPOCH },
            draws: RefCell::new(draws),
            watch: RefCell::new(Watch::new(budget.time)),
            ticks: Cell::new(0),
            returned: OnceCell::new(),
        };
        let value = match frame.statements(&self.body) {
            Ok(value) => value,
            Err(Halt::Returned) => frame.returned.get().cloned().unwrap_or(Got::ABSENT),
            Err(Halt::Stopped(stopped)) => return Some(stopped_at(*stopped)),
            Err(Halt::Rhai) => return None,
        };
        let results = (0..self.results).map(|local| frame.held(local).map(|got| kept(got, on, inputs))).collect();
        Some(Ended { ending: Ending::Value(value.into_value(), results), at: None })
    }
}

/// A result, to be kept. A whole list, map or JSON value of the policy stays shared.
fn kept<R: Reader + ?Sized>(got: &Got<'_>, on: &R, inputs: &[Input]) -> Value {
    if let Got::Val(val @ (Val::List(Cow::Borrowed(_)) | Val::Map(Cow::Borrowed(_)) | Val::Json(Cow::Borrowed(_)))) =
        got
    {
        let whole = inputs.iter().filter(|input| input.members.is_empty());
        let mut shared = whole.filter_map(|input| on.shared(&input.read).ok().flatten());
        if let Some(same) = shared.find(|value| is_same(val, value)) {
            return same;
        }
    }
    match got {
        Got::Val(val) => view(val).into_value(),
        made => made.clone().into_value(),
    }
}

/// Whether a borrowed value is this one, and not only equal to it.
fn is_same(val: &Val<'_>, value: &Value) -> bool {
    match (val, value) {
        (Val::List(Cow::Borrowed(one)), Value::List(other)) => std::ptr::eq(*one, &**other),
        (Val::Map(Cow::Borrowed(one)), Value::Map(other)) => std::ptr::eq(*one, &**other),
        (Val::Json(Cow::Borrowed(one)), Value::Json(other)) => std::ptr::eq(*one, &**other),
        _ => false,
    }
}

/// A reader as a thin one, so that the evaluation is compiled once.
struct Lens<'r, R: ?Sized>(&'r R);

impl<R: Reader + ?Sized> Reader for Lens<'_, R> {
    fn read<'x>(&'x self, read: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        self.0.read(read)
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn random(&self, into: &mut [u8]) {
        self.0.random(into);
    }
}
