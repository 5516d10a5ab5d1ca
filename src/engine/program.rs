//! A compiled pipeline: a flat program of steps with relative jumps.
//!
//! Composites are flattened when a policy is compiled, so that running needs no recursion and no box
//! except where a step really waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::engine::exchange::Exchange;
use crate::engine::read::{Read, Side, Slot};
use crate::engine::value::{Text, Value};
use crate::fault::Fault;
use crate::source::Span;
use crate::upstream::{Answer, Call, SendError};

/// What a step answers.
#[derive(Debug)]
pub enum Verdict {
    Passed,
    /// The step gave the answer itself.
    Ended(EndedBy),
    /// Denied or broken.
    Fault(Box<Fault>),
}

/// How a pipeline ended without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// It ran to its last step.
    End,
    Respond,
    Redirect,
    Stop,
}

impl EndedBy {
    /// The word of policy tests and traces.
    pub fn word(self) -> &'static str {
        match self {
            EndedBy::End => "end",
            EndedBy::Respond => "respond",
            EndedBy::Redirect => "redirect",
            EndedBy::Stop => "stop",
        }
    }
}

impl From<Result<(), Box<Fault>>> for Verdict {
    fn from(result: Result<(), Box<Fault>>) -> Verdict {
        match result {
            Ok(()) => Verdict::Passed,
            Err(fault) => Verdict::Fault(fault),
        }
    }
}

/// A step that never waits.
pub trait Plain: Send + Sync {
    fn check(&self, x: &mut Exchange) -> Verdict;
}

/// A step that may wait.
pub trait Waits: Send + Sync {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a>;
}

/// The answer of a step that may wait; the box exists only where it really does.
pub enum Flow<'a> {
    Now(Verdict),
    Later(Pin<Box<dyn Future<Output = Verdict> + 'a>>),
}

/// The step that sends upstream. The engine awaits the call in place, so that it needs no box.
pub trait Routes: Send + Sync {
    fn prepare(&self, x: &mut Exchange) -> Result<Box<Call>, Box<Fault>>;
    fn finish(&self, x: &mut Exchange, result: Result<Answer, SendError>) -> Verdict;
}

/// A condition of `when` or `if`.
pub trait Condition: Send + Sync {
    /// Never counts a broken condition as false.
    fn holds(&self, x: &Exchange) -> Result<bool, Box<Fault>>;
}

/// Chooses one of several ways, counted from 0.
pub trait Branch: Send + Sync {
    fn choose(&self, x: &Exchange) -> Result<usize, Box<Fault>>;
}

/// Makes one fault of those of all children, in their order.
pub trait Exhausts: Send + Sync {
    fn choose(&self, faults: Vec<Fault>) -> Box<Fault>;
}

/// What a loop runs over and what it gathers.
pub trait Each: Send + Sync {
    /// A list, or JSON that is one; never longer than the loop's limit.
    fn items(&self, x: &Exchange) -> Result<Value, Box<Fault>>;
    /// How many values each round gives.
    fn gathers(&self) -> usize;
    /// One of them.
    fn gathered(&self, which: usize, x: &Exchange) -> Result<Value, Box<Fault>>;
}

/// Where a loop puts what it is at.
pub struct Round {
    pub step: StepId,
    pub item: Slot,
    pub index: Slot,
    /// Lists of what was gathered, set at the end.
    pub gathered: Vec<Slot>,
    /// Operations to skip after the last round.
    pub end: usize,
}

/// What happens to a fault inside a frame. In each case what was changed inside is taken back.
pub enum Frame {
    /// A child of `any`: the next one is tried.
    Child,
    /// The block of a `try`.
    Try(Box<Catches>),
    /// Recorded as what would have been; the walk goes on.
    Shadow,
}

/// Which faults a `try` takes.
#[derive(Debug, Default)]
pub struct Catches {
    pub broken: bool,
    /// Denials but those of `guards`.
    pub denied: bool,
    pub codes: Vec<Text>,
    /// First words of codes.
    pub families: Vec<Text>,
    /// Steps whose denials only their written code catches, so that nobody swallows an authentication.
    pub guards: Vec<StepId>,
}

/// Index of a step among those of its service.
pub type StepId = u16;

/// One operation. Jumps are relative to the next operation, so that programs can be put together.
pub enum Op {
    Plain(StepId, Box<dyn Plain>),
    Waits(StepId, Box<dyn Waits>),
    Route(StepId, Box<dyn Routes>),
    /// The beginning of an operator's assertion, noted only where it does not pass; with the length of what
    /// it begins.
    Enter(StepId, Box<dyn Plain>, usize),
    /// Reads a body whole for the step that needs it; does nothing the second time.
    Buffer(StepId, Side),
    /// Reads the request's body whole if it is not too large: what comes later may need it again.
    Hold(StepId),
    /// Opens a frame; a fault that it takes goes on so many operations later.
    Open(StepId, Frame, usize),
    /// Closes the frame, keeps its changes and goes on so many operations later.
    Close(usize),
    /// Closes the frame of a child that did not take part.
    Withdraw,
    /// No child has passed.
    Exhausted(StepId, Box<dyn Exhausts>),
    /// The fault at hand is dealt with.
    EndCatch,
    /// Goes on as many operations later as the chosen way says.
    Branch(StepId, Box<dyn Branch>, Vec<usize>),
    /// Begins a loop.
    Begin(StepId, Arc<dyn Each>),
    /// Begins the next round, or ends the loop.
    Next(Box<Round>),
    /// Ends the loop in the middle: a `stop` leaves it.
    EndLoop,
    /// Adds what the round gives.
    Gather(StepId, Arc<dyn Each>),
    /// Goes on so many operations before the next.
    Back(usize),
    /// Goes on so many operations later.
    Jump(usize),
    /// Goes on so many operations later where the condition does not hold: a `when`.
    Unless(StepId, Box<dyn Condition>, usize),
    /// The same for an `if`, which is a step of its own.
    If(StepId, Box<dyn Condition>, usize),
}

impl Op {
    /// The step that it belongs to, where it can fail.
    pub fn step(&self) -> Option<StepId> {
        match self {
            Op::Plain(step, _) | Op::Waits(step, _) | Op::Route(step, _) | Op::Buffer(step, _) | Op::Hold(step) => {
                Some(*step)
            }
            Op::Open(step, ..) | Op::Exhausted(step, _) | Op::Branch(step, ..) => Some(*step),
            Op::Unless(step, ..) | Op::If(step, ..) => Some(*step),
            Op::Next(round) => Some(round.step),
            Op::Begin(step, _) | Op::Gather(step, _) | Op::Enter(step, ..) => Some(*step),
            Op::Close(_) | Op::Withdraw | Op::EndCatch | Op::EndLoop | Op::Back(_) | Op::Jump(_) => None,
        }
    }
}

/// A program.
#[derive(Default)]
pub struct Program {
    pub ops: Vec<Op>,
}

/// What is known of a step for traces, records and messages.
#[derive(Clone, Debug, PartialEq)]
pub struct StepMeta {
    /// Its `name:`, else the assertion's.
    pub name: Arc<str>,
    /// The assertion that it uses.
    pub assertion: Arc<str>,
    /// Where it stands: `file:line`.
    pub place: Arc<str>,
    /// Where its assertion's name stands: the same for every use of a shared step.
    pub span: Span,
    /// Position among its siblings: `3.then.1`, counted from 1.
    pub path: Arc<str>,
    /// Variables that its texts and conditions read.
    pub reads: Vec<Read>,
    /// Codes of its own that it was told to raise, and where they are written.
    pub raises: Vec<(Arc<str>, Span)>,
    /// For `check --explain`.
    pub explained: Explained,
}

/// What the text of a step leaves to the reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explained {
    /// Whose step it is, where it is not the service's own.
    pub from: Option<PutInBy>,
    /// The message that it means: `request`, `response` or `answer`.
    pub message: Option<&'static str>,
    /// The parameters that are written.
    pub written: Vec<Arc<str>>,
    /// The condition beside it.
    pub when: Option<Arc<str>>,
    /// What it decides by: the condition of an `if`, the value of a `switch`.
    pub decides: Option<Arc<str>>,
}

/// What has put a step into a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutInBy {
    Defaults(Arc<str>),
    Fragment(Arc<str>),
    /// An assertion that an operator defines.
    Assertion(Arc<str>),
}
