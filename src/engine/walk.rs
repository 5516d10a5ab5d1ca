//! Operations that steer: frames, choices and rounds.
//!
//! None of them waits. What a fault does is decided here too: the innermost frame that takes it goes back to what
//! was before it, and says where the walk goes on.

use std::sync::Arc;

use crate::audit::record::Noted;
use crate::body::BodyFault;
use crate::engine::exchange::Exchange;
use crate::engine::journal::Watched;
use crate::engine::program::{Catches, Each, Frame, Op, Program, Round, StepId, Verdict};
use crate::engine::run::body_fault;
use crate::engine::value::{Val, Value};
use crate::fault::{Fault, Kind};

/// Rounds of loops after which other requests of the worker, and this one's deadline, get their turn.
const ROUNDS_AT_ONCE: u32 = 1024;
/// Caught faults, and would-be denials, that a record keeps of one request.
pub(super) const NOTED_MAX: usize = 16;

/// Where a walk stands beside its position.
#[derive(Default)]
pub struct Walk {
    pub loops: Vec<Looping>,
    /// Faults whose `catch` is running, the innermost last.
    pub caught: Vec<Fault>,
    /// Faults of the children of an `any` that have not passed, on their way to the next child.
    missed: Vec<Fault>,
    rounds: u32,
}

/// A loop that is running.
pub struct Looping {
    items: Value,
    next: i64,
    gathered: Vec<Vec<Value>>,
}

impl Walk {
    /// The walk of a child of `parallel`, which begins with its steps.
    pub(super) fn fork(&self) -> Walk {
        Walk { caught: self.caught.clone(), ..Walk::default() }
    }

    pub(super) fn end(&mut self) {
        self.loops.clear();
        self.caught.clear();
        self.missed.clear();
    }

    /// Whether it is time to let others run; asking begins anew.
    pub(super) fn has_run_long(&mut self) -> bool {
        let long = self.rounds >= ROUNDS_AT_ONCE;
        if long {
            self.rounds = 0;
        }
        long
    }
}

/// A step that steers did not succeed.
type Broken = (StepId, Box<Fault>);

/// Carries out a steering operation; `at` already stands behind it.
pub(super) fn steer(op: &Op, at: &mut usize, x: &mut Exchange) -> Result<(), Broken> {
    match op {
        Op::Jump(by) => *at += by,
        Op::Back(by) => *at = at.saturating_sub(*by),
        Op::If(step, condition, by) => {
            x.begin(*step);
            if condition.holds(x).map_err(|fault| (*step, fault))? {
                x.enter_step(*step);
            } else {
                x.skip(*step);
                *at += by;
            }
        }
        Op::Branch(step, branch, ways) => {
            x.begin(*step);
            let way = branch.choose(x).map_err(|fault| (*step, fault))?;
            x.enter_step(*step);
            *at += ways.get(way).copied().unwrap_or_default();
        }
        Op::Open(step, frame, _) => {
            let faults = std::mem::take(&mut x.walk.missed);
            x.open_frame(at.saturating_sub(1), matches!(frame, Frame::Shadow).then_some(*step), faults);
        }
        Op::Close(by) => {
            // A child of an `any` has passed: that others before it have not is worth knowing.
            for fault in x.keep_frame().map(|frame| frame.faults).unwrap_or_default() {
                x.note_caught(&fault);
            }
            *at += by;
        }
        Op::Withdraw => {
            if let Some(frame) = x.keep_frame() {
                x.walk.missed = frame.faults;
            }
        }
        Op::Exhausted(step, chooses) => {
            let missed = std::mem::take(&mut x.walk.missed);
            return Err((*step, chooses.choose(missed)));
        }
        Op::EndCatch => {
            x.walk.caught.pop();
        }
        Op::Begin(step, each) => {
            x.begin(*step);
            begin(each, x).map_err(|fault| (*step, fault))?;
        }
        Op::Next(round) => next(round, at, x),
        Op::Gather(step, each) => gather(each, x).map_err(|fault| (*step, fault))?,
        Op::EndLoop => {
            x.walk.loops.pop();
        }
        Op::Plain(..)
        | Op::Unless(..)
        | Op::Enter(..)
        | Op::Waits(..)
        | Op::Route(..)
        | Op::Buffer(..)
        | Op::Hold(_) => {}
    }
    Ok(())
}

fn begin(each: &Arc<dyn Each>, x: &mut Exchange) -> Result<(), Box<Fault>> {
    let items = each.items(x)?;
    x.walk.loops.push(Looping { items, next: 0, gathered: vec![Vec::new(); each.gathers()] });
    Ok(())
}

fn next(round: &Round, at: &mut usize, x: &mut Exchange) {
    let Some(running) = x.walk.loops.last_mut() else { return };
    let index = running.next;
    let length = match running.items.view() {
        Val::List(list) => list.len(),
        Val::Json(json) => json.as_array().map_or(0, Vec::len),
        _ => 0,
    };
    if usize::try_from(index).is_ok_and(|index| index < length) {
        let item = running.items.view().element(index).into_value();
        running.next += 1;
        x.walk.rounds += 1;
        x.set(round.item, item);
        x.set(round.index, Value::Int(index));
        x.begin_round(round.step);
        return;
    }
    let gathered = x.walk.loops.pop().map(|running| running.gathered).unwrap_or_default();
    for (slot, values) in round.gathered.iter().zip(gathered) {
        x.set(*slot, Value::List(values.into()));
    }
    x.note(round.step, &Verdict::Passed);
    *at += round.end;
}

fn gather(each: &Arc<dyn Each>, x: &mut Exchange) -> Result<(), Box<Fault>> {
    for which in 0..each.gathers() {
        let value = each.gathered(which, x)?;
        if let Some(values) = x.walk.loops.last_mut().and_then(|running| running.gathered.get_mut(which)) {
            values.push(value);
        }
    }
    Ok(())
}

/// Gives a fault to the open frames, innermost first. The one that takes it says where to go on; without one the
/// fault is the program's.
pub(super) fn catch(program: &Program, fault: Box<Fault>, x: &mut Exchange) -> Result<usize, Box<Fault>> {
    while let Some(open) = x.undo_frame() {
        let Some(Op::Open(step, frame, by)) = program.ops.get(open.opened_at) else { continue };
        let handler = open.opened_at + 1 + by;
        match frame {
            // A request that is too large, or cannot be read on, is not a matter of alternatives.
            Frame::Child if !fault.too_large && !fault.unreadable => {
                x.walk.missed = open.faults;
                x.walk.missed.push(*fault);
                return Ok(handler);
            }
            Frame::Shadow if !fault.unreadable => {
                x.note_shadowed(*step, &fault);
                return Ok(handler);
            }
            Frame::Try(catches) if catches.takes(&fault) => {
                x.close_after |= fault.close;
                x.note_caught(&fault);
                x.walk.caught.push(*fault);
                return Ok(handler);
            }
            _ => {}
        }
    }
    x.walk.end();
    Err(fault)
}

impl Catches {
    /// Whether a fault is among those that are caught.
    pub fn takes(&self, fault: &Fault) -> bool {
        let code = &*fault.code;
        let named = self.codes.iter().any(|known| **known == *code)
            || self
                .families
                .iter()
                .any(|family| code.strip_prefix(&**family).is_some_and(|reason| reason.starts_with('.')));
        if named {
            return true;
        }
        match fault.kind {
            Kind::Broken => self.broken,
            Kind::Denied => {
                // A fault of alternatives stands for all of them: one guard among them is enough.
                let guard = fault.step.iter().chain(&fault.missed).any(|step| self.guards.contains(step));
                self.denied && !guard && !fault.close
            }
        }
    }
}

impl Exchange {
    /// The fault that `fault.*` means: the one whose `catch` is running, else the pipeline's own.
    pub(super) fn fault_at_hand(&self) -> Option<&Fault> {
        self.walk.caught.last().or(self.fault.as_deref())
    }

    /// The fault whose `catch` is running.
    pub fn caught(&self) -> Option<&Fault> {
        self.walk.caught.last()
    }

    fn noted(&self, step: Option<StepId>, fault: &Fault) -> Noted {
        let steps = &self.compiled(&self.snapshot).steps;
        let step = step.and_then(|step| steps.get(usize::from(step))).map(|step| step.name.clone());
        Noted { step, code: fault.code.to_string(), detail: fault.detail.clone() }
    }

    /// Records a fault that did not decide about the request.
    pub fn note_caught(&mut self, fault: &Fault) {
        if self.record.caught.len() < NOTED_MAX {
            let noted = self.noted(fault.step, fault);
            self.record.caught.push(noted);
        }
    }

    /// Records what a shadowed step would have done.
    fn note_shadowed(&mut self, step: StepId, fault: &Fault) {
        let noted = self.noted(Some(step), fault);
        let list = match fault.kind {
            Kind::Denied => &mut self.record.would_deny,
            Kind::Broken => &mut self.record.would_break,
        };
        if list.len() < NOTED_MAX {
            list.push(noted);
        }
        self.trace_shadowed(step, fault);
    }

    /// Records bodies that turned out larger than a shadowed limit, which has refused nothing.
    pub(super) fn note_watched(&mut self) {
        for Watched { step, side, bytes } in std::mem::take(&mut self.journal.watched) {
            if self.bytes_of(side).is_some_and(|read| read > bytes) && self.record.would_deny.len() < NOTED_MAX {
                let fault = body_fault(side, BodyFault::Restricted { limit: bytes });
                let noted = self.noted(Some(step), &fault);
                self.record.would_deny.push(noted);
            }
        }
    }
}
