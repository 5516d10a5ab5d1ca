//! A compiled pipeline: a flat program of steps with relative jumps.
//!
//! Composites are flattened when a policy is compiled, so that running needs no recursion and no box
//! except where a step really waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::engine::exchange::Exchange;
use crate::engine::read::{Read, Side};
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
    fn prepare(&self, x: &mut Exchange) -> Result<Call, Box<Fault>>;
    fn finish(&self, x: &mut Exchange, result: Result<Answer, SendError>) -> Verdict;
}

/// A condition of `when` or `if`.
pub trait Condition: Send + Sync {
    /// Never counts a broken condition as false.
    fn holds(&self, x: &Exchange) -> Result<bool, Box<Fault>>;
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
    /// Goes on so many operations later.
    Jump(usize),
    /// Goes on so many operations later where the condition does not hold.
    Unless(StepId, Box<dyn Condition>, usize),
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
}
