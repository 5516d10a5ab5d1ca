//! What the steps of a request did: for policy tests, and live for whoever watches (`engine/watch.rs`).
//!
//! An exchange carries a trace only where somebody wants to see it. A live trace also keeps when a step began, the
//! variables that it read (as they were before it ran) and the steps whose condition did not hold. It is bounded;
//! bodies are never in it, and credentials only as the short keyed hash of records.

mod fork;
pub mod line;
mod show;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use self::show::Presented;
pub use self::show::name;
use crate::engine::exchange::Exchange;
use crate::engine::program::{EndedBy, StepId, Verdict};
use crate::engine::read::Slot;
use crate::engine::value::Value;
use crate::fault::{Fault, Kind};
use crate::identity::Identity;

/// Steps of one live trace; loops make many.
const STEPS_MAX: usize = 1024;
/// Bytes of the read values that one live trace keeps.
const READ_BYTES_MAX: usize = 64 * 1024;

/// What a step did.
#[derive(Clone, Debug)]
pub struct Traced {
    pub step: StepId,
    pub verdict: TracedVerdict,
    /// When it began, in monotonic nanoseconds; in traces of tests the same as `at_ns`.
    pub began_ns: u64,
    /// When it was done, in monotonic nanoseconds.
    pub at_ns: u64,
    /// What it read, as it may be shown, in the order of its step's `reads`; empty in traces of tests.
    pub read: Vec<Json>,
    /// Variables that have another value than at the line before.
    pub changed: Vec<(Slot, Value)>,
    /// Callers that are others than at the line before.
    pub identified: Identified,
}

/// Who is who from now on.
type Identified = Vec<(Slot, Option<Arc<Identity>>)>;

/// What a step answered.
#[derive(Clone, Debug, PartialEq)]
pub enum TracedVerdict {
    Passed,
    Ended(EndedBy),
    /// A composite or an operator's assertion: what stands in it follows.
    Entered,
    /// A loop begins its next round.
    Round,
    Denied(String),
    Broken(String),
    /// Shadowed: it would have denied, with this code.
    WouldDeny(String),
    /// Shadowed: it was broken, with this code.
    WouldBreak(String),
    /// Its condition did not hold; only in live traces.
    Skipped,
}

/// What the steps of a request did. It outlives the exchange, so that `finally` is seen too.
pub type Trace = Rc<RefCell<Traces>>;

/// The lines of a trace, and the state at the last of them.
#[derive(Default)]
pub struct Traces {
    pub lines: Vec<Traced>,
    vars: Vec<Value>,
    identities: Vec<Option<Arc<Identity>>>,
    live: Option<Box<Live>>,
}

/// What only a live trace keeps.
#[derive(Default)]
struct Live {
    /// The step that runs: which, since when, and what it read.
    begun: Option<(StepId, u64, Vec<Json>)>,
    /// Credentials that came with the request, before any step took them out.
    presented: Option<Presented>,
    read_bytes: usize,
    /// Something found no room.
    cut: bool,
}

impl Traces {
    /// A trace for whoever watches.
    pub fn live() -> Trace {
        Rc::new(RefCell::new(Traces { live: Some(Box::default()), ..Traces::default() }))
    }

    fn begin(&mut self, step: StepId, x: &Exchange) {
        let Some(live) = &mut self.live else { return };
        if self.lines.len() >= STEPS_MAX {
            return;
        }
        let presented = live.presented.get_or_insert_with(|| Presented::of(x));
        let service = x.compiled(&x.snapshot);
        let reads = service.steps.get(usize::from(step)).map_or(&[][..], |meta| &meta.reads);
        let mut read = Vec::with_capacity(reads.len());
        for one in reads {
            let (shown, bytes) = show::read(one, x, service, presented);
            live.read_bytes = live.read_bytes.saturating_add(bytes);
            if live.read_bytes > READ_BYTES_MAX {
                live.cut = true;
                break;
            }
            read.push(shown);
        }
        live.begun = Some((step, x.worker.clock.mono_ns(), read));
    }

    fn add(&mut self, step: StepId, verdict: TracedVerdict, x: &Exchange) {
        let at_ns = x.worker.clock.mono_ns();
        let (mut began_ns, mut read) = (at_ns, Vec::new());
        if let Some(live) = &mut self.live {
            if self.lines.len() >= STEPS_MAX {
                live.cut = true;
                return;
            }
            match live.begun.take() {
                Some((begun, since_ns, values)) if begun == step => (began_ns, read) = (since_ns, values),
                _ => {}
            }
        }
        let (changed, identified) = self.changes(x);
        self.lines.push(Traced { step, verdict, began_ns, at_ns, read, changed, identified });
    }

    /// What is other than at the line before.
    fn changes(&mut self, x: &Exchange) -> (Vec<(Slot, Value)>, Identified) {
        let slot = |at: usize| Slot(u16::try_from(at).unwrap_or(u16::MAX));
        self.vars.resize(x.vars.len(), Value::Absent);
        self.identities.resize(x.identities.len(), None);
        let mut changed = Vec::new();
        for (at, (before, now)) in self.vars.iter_mut().zip(&x.vars).enumerate() {
            if before != now {
                before.clone_from(now);
                changed.push((slot(at), now.clone()));
            }
        }
        let mut identified = Vec::new();
        for (at, (before, now)) in self.identities.iter_mut().zip(&x.identities).enumerate() {
            if before.as_ref().map(Arc::as_ptr) != now.as_ref().map(Arc::as_ptr) {
                before.clone_from(now);
                identified.push((slot(at), now.clone()));
            }
        }
        (changed, identified)
    }
}

impl Exchange {
    /// Whether somebody watches.
    pub(super) fn is_followed(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.borrow().live.is_some())
    }

    /// Notes that a step begins, where somebody watches.
    #[inline]
    pub(super) fn begin(&self, step: StepId) {
        if let Some(trace) = &self.trace {
            self.begin_in(trace, step);
        }
    }

    #[cold]
    fn begin_in(&self, trace: &Trace, step: StepId) {
        trace.borrow_mut().begin(step, self);
    }

    /// Notes what a step answered, where somebody wants to see it.
    #[inline]
    pub fn note(&self, step: StepId, verdict: &Verdict) {
        if let Some(trace) = &self.trace {
            self.note_in(trace, step, verdict);
        }
    }

    #[cold]
    fn note_in(&self, trace: &Trace, step: StepId, verdict: &Verdict) {
        let verdict = match verdict {
            Verdict::Passed => TracedVerdict::Passed,
            Verdict::Ended(by) => TracedVerdict::Ended(*by),
            Verdict::Fault(fault) if fault.kind == Kind::Denied => TracedVerdict::Denied(fault.code.to_string()),
            Verdict::Fault(fault) => TracedVerdict::Broken(fault.code.to_string()),
        };
        trace.borrow_mut().add(step, verdict, self);
    }

    /// Notes that the fault of a shadowed step was only recorded.
    pub(super) fn trace_shadowed(&self, step: StepId, fault: &Fault) {
        let Some(trace) = &self.trace else { return };
        let code = fault.code.to_string();
        let verdict = match fault.kind {
            Kind::Denied => TracedVerdict::WouldDeny(code),
            Kind::Broken => TracedVerdict::WouldBreak(code),
        };
        let mut trace = trace.borrow_mut();
        match trace.lines.last_mut() {
            Some(last) if last.step == step => last.verdict = verdict,
            _ => trace.add(step, verdict, self),
        }
    }

    /// Notes that what stands in a step follows, where somebody wants to see it.
    #[inline]
    pub(super) fn enter_step(&self, step: StepId) {
        if let Some(trace) = &self.trace {
            self.trace_in(trace, step, TracedVerdict::Entered);
        }
    }

    /// Notes that a loop begins a round.
    #[inline]
    pub(super) fn begin_round(&self, step: StepId) {
        if let Some(trace) = &self.trace {
            self.trace_in(trace, step, TracedVerdict::Round);
        }
    }

    #[cold]
    fn trace_in(&self, trace: &Trace, step: StepId, verdict: TracedVerdict) {
        trace.borrow_mut().add(step, verdict, self);
    }

    /// What was taken back is not what the step after it has set.
    pub(super) fn forget_undone(&self) {
        if let Some(trace) = &self.trace {
            trace.borrow_mut().changes(self);
        }
    }

    /// Notes that the condition of a step did not hold, where somebody watches.
    #[inline]
    pub(super) fn skip(&self, step: StepId) {
        if let Some(trace) = &self.trace {
            let mut trace = trace.borrow_mut();
            if trace.live.is_some() {
                trace.add(step, TracedVerdict::Skipped, self);
            }
        }
    }
}
