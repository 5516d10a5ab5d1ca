//! One run of an interpreted text: what it is lent, how long it may take, and how it ends.
//!
//! Rhai calls back into plain functions, so what belongs to a run stands in a variable of the thread: values are
//! moved in before the run and taken out after it, also when it panics. Nothing of a run survives it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rhai::{Dynamic, EvalAltResult, Position};
use sha2::{Digest, Sha256};

use crate::engine::read::Budget;
use crate::engine::value::Origin;
use crate::expr::failure::Failure;
use crate::expr::fault_by;
use crate::fault::Fault;
use crate::limits::SCRIPT_TIME_MAX;

/// The clock is asked once in so many operations.
pub(super) const OPERATIONS_PER_CLOCK: u32 = 64;
/// Most runs are shorter and never ask for the processor's time.
const SHORT: Duration = Duration::from_micros(500);

/// How a run ends before its end.
#[derive(Debug)]
pub(super) enum Stop {
    Fault(Box<Fault>),
    /// A bound was reached.
    Limit(&'static str),
    Denied {
        code: String,
        status: u16,
        text: Option<String>,
    },
    Failed {
        code: String,
        detail: String,
    },
}

/// What is lent to a run.
pub(super) struct Lent {
    pub inputs: Vec<Result<Dynamic, Box<Fault>>>,
    pub now: Timestamp,
    /// Seeds all random values of the run; drawn only where the text asks for one.
    pub seed: Option<[u8; 32]>,
    pub budget: Budget,
}

/// The random bytes of a run: SHA-256 of its seed and a counter, so that a seeded test sees the same again.
pub(super) struct Draws {
    seed: [u8; 32],
    drawn: u64,
}

impl Draws {
    pub fn of(seed: [u8; 32]) -> Draws {
        Draws { seed, drawn: 0 }
    }

    /// Draws as many as there is room for.
    pub fn fill(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(32) {
            let block = Sha256::new().chain_update(self.seed).chain_update(self.drawn.to_le_bytes()).finalize();
            self.drawn += 1;
            for (byte, random) in chunk.iter_mut().zip(block) {
                *byte = random;
            }
        }
    }
}

struct Run {
    inputs: Vec<Result<Dynamic, Box<Fault>>>,
    now: Timestamp,
    operations: u64,
    draws: Option<Draws>,
    watch: Watch,
    ticks: u32,
    stop: Option<(Stop, Position)>,
}

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// Takes the run away when it ends, however it ends.
struct Ends;

/// How long a run has taken.
pub(super) struct Watch {
    time: Duration,
    deadline: Instant,
    begun: Instant,
    /// Time of the processor that the thread had taken when the run was no longer a short one.
    cpu_begun: Option<Duration>,
}

impl Watch {
    /// Begins now; a run may take so long.
    pub fn new(time: Duration) -> Watch {
        let begun = Instant::now();
        Watch { time, deadline: begun + time.min(SCRIPT_TIME_MAX), begun, cpu_begun: None }
    }

    /// Whether its time is over. What counts is time of the processor: a thread that had to wait for one, on a busy
    /// machine, has taken nothing from anyone. The processor's clock is a system call, so it is asked only where the
    /// wall clock says that it matters.
    pub fn is_late(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.begun) < SHORT {
            return false;
        }
        let begun = *self.cpu_begun.get_or_insert_with(cpu_time);
        if now <= self.deadline {
            return false;
        }
        let left = self.time.saturating_sub(cpu_time().saturating_sub(begun));
        self.deadline = now + left;
        left.is_zero()
    }
}

/// Time of the processor that this thread has taken.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Drop for Ends {
    fn drop(&mut self) {
        let run = RUN.with(|run| run.try_borrow_mut().ok().and_then(|mut run| run.take()));
        drop(run);
    }
}

/// Runs `work` with what it is lent.
pub(super) fn with<T>(lent: Lent, work: impl FnOnce() -> Result<T, Box<EvalAltResult>>) -> Result<T, (Stop, Position)> {
    let Lent { inputs, now, seed, budget } = lent;
    let (operations, watch, draws) = (budget.operations, Watch::new(budget.time), seed.map(Draws::of));
    RUN.with(|run| run.replace(Some(Run { inputs, now, operations, draws, watch, ticks: 0, stop: None })));
    let _ends = Ends;
    work().map_err(|error| {
        let stop = RUN.with(|run| run.borrow_mut().as_mut().and_then(|run| run.stop.take()));
        match stop {
            // Who counts operations is not told where they stand; the error is.
            Some((stop, at)) if at.is_none() => (stop, of_error(*error).1),
            Some(stop) => stop,
            None => of_error(*error),
        }
    })
}

fn running<T>(look: impl FnOnce(&mut Run) -> T) -> Option<T> {
    RUN.with(|run| run.borrow_mut().as_mut().map(look))
}

/// Ends the run; the error carries nothing, because Rhai's own could be wrapped and lose its type.
pub(super) fn stop(why: Stop, at: Position) -> Box<EvalAltResult> {
    running(|run| run.stop.get_or_insert((why, at)).1);
    Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, at))
}

/// Ends the run with a failure of the language, which is the fault of `origin`.
pub(super) fn fail(failure: Failure, origin: Origin, at: Position) -> Box<EvalAltResult> {
    stop(Stop::Fault(failure.fault(origin)), at)
}

/// Called by Rhai for each operation: says whether to stop.
pub(super) fn progress(operations: u64) -> Option<Dynamic> {
    running(|run| {
        run.ticks = run.ticks.wrapping_add(1);
        if run.stop.is_some() {
            return Some(Dynamic::UNIT);
        }
        let why = if operations > run.operations {
            "too many operations"
        } else if run.ticks.is_multiple_of(OPERATIONS_PER_CLOCK) && run.watch.is_late() {
            "too much time"
        } else {
            return None;
        };
        run.stop = Some((Stop::Limit(why), Position::NONE));
        Some(Dynamic::UNIT)
    })
    .flatten()
}

/// The same for work that Rhai does not count, inside of one function.
pub(super) fn still_in_time(at: Position) -> Result<(), Box<EvalAltResult>> {
    let late = running(|run| run.watch.is_late()).unwrap_or(false);
    if late { Err(stop(Stop::Limit("too much time"), at)) } else { Ok(()) }
}

/// A variable of the policy.
pub(super) fn input(index: usize, at: Position) -> Result<Dynamic, Box<EvalAltResult>> {
    let lent = running(|run| run.inputs.get(index).cloned()).flatten();
    lent.unwrap_or(Ok(Dynamic::UNIT)).map_err(|fault| stop(Stop::Fault(fault), at))
}

/// The time of day when the run began.
pub(super) fn now() -> Timestamp {
    running(|run| run.now).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Random bytes.
pub(super) fn random(into: &mut [u8]) {
    running(|run| {
        if let Some(draws) = &mut run.draws {
            draws.fill(into);
        }
    });
}

/// What an error of Rhai's own means.
fn of_error(error: EvalAltResult) -> (Stop, Position) {
    use EvalAltResult as E;
    let at = error.position();
    let limit = |why| (Stop::Limit(why), at);
    let policy = |code, detail: String| (Stop::Fault(fault_by(Origin::Policy, code, detail)), at);
    match error {
        E::ErrorInFunctionCall(_, _, inner, call) => {
            let (stop, inner) = of_error(*inner);
            (stop, if inner.is_none() { call } else { inner })
        }
        E::ErrorTooManyOperations(_) => limit("too many operations"),
        E::ErrorStackOverflow(_) => limit("calls nest too deep"),
        E::ErrorDataTooLarge(..) => limit("a text, list or map grows too large"),
        E::ErrorTooManyVariables(_) => limit("too many variables"),
        E::ErrorTerminated(..) => limit("too much time"),
        E::ErrorMismatchDataType(wanted, got, _) => {
            policy("expression.type", format!("expected {}, got {}", word(&wanted), word(&got)))
        }
        E::ErrorIndexingType(what, _) | E::ErrorDotExpr(what, _) => {
            policy("expression.type", format!("no member can be set here: {what}"))
        }
        E::ErrorArrayBounds(length, position, _) => {
            policy("expression.type", format!("a list of {length} has no position {position} to set"))
        }
        other => policy("expression.error", other.unwrap_inner().to_string()),
    }
}

/// The word of the documentation for a type of Rhai's.
fn word(name: &str) -> &str {
    match name {
        "()" => "absent",
        "i64" => "int",
        "f64" => "float",
        "array" => "list",
        other => other,
    }
}
