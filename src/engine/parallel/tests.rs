//! Children that really wait: both at once, given up, out of time, panicking, nested, and as a trace shows them.

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot::{Receiver, Sender, channel};

use super::*;
use crate::assertions::trial::{Trial, loads, service};
use crate::audit::record::Record;
use crate::clock::wheel::TICK;
use crate::engine::program::{Op, Plain};
use crate::engine::read::Slot;
use crate::engine::serve::answer;
use crate::engine::trace::{Trace, TracedVerdict};
use crate::engine::value::Value;

const STEPS: &str = "  - set: { a: none, b: none }
  - { name: together, log: x }
  - { name: first, log: x }
  - { name: second, log: x }
  - { name: third, log: x }
  - respond: { text: \"${a} ${b}\" }";
const TOGETHER: u16 = 1;
const FIRST: u16 = 2;
const SECOND: u16 = 3;
const THIRD: u16 = 4;

/// Sets a variable once the other one has begun, which happens only where both run at once.
struct Meets {
    ends: Mutex<Option<(Sender<()>, Receiver<()>)>>,
    slot: Slot,
    word: &'static str,
}

impl Waits for Meets {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        let (here, there) = self.ends.lock().unwrap().take().unwrap();
        here.send(()).unwrap();
        Flow::Later(Box::pin(async move {
            there.await.unwrap();
            x.set(self.slot, Value::text(self.word));
            Verdict::Passed
        }))
    }
}

fn meeting() -> [Box<dyn Waits>; 2] {
    let (one, two) = (channel(), channel());
    let ends = [((one.0, two.1), Slot(0), "one"), ((two.0, one.1), Slot(1), "two")];
    ends.map(|(ends, slot, word)| Box::new(Meets { ends: Mutex::new(Some(ends)), slot, word }) as _)
}

/// Waits for ever, and counts how often it was given up.
struct Hangs(Arc<AtomicUsize>);

struct GivenUp<'c>(&'c AtomicUsize);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Waits for Hangs {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        Flow::Later(Box::pin(async move {
            let _given_up = GivenUp(&self.0);
            x.set(Slot(0), Value::text("changed"));
            pending().await
        }))
    }
}

/// Lets the others run once, then does what it is told.
struct Then(fn() -> Verdict);

impl Waits for Then {
    fn check<'a>(&'a self, _: &'a mut Exchange) -> Flow<'a> {
        Flow::Later(Box::pin(async move {
            tokio::task::yield_now().await;
            (self.0)()
        }))
    }
}

/// Changes a message, which no assertion does there.
struct Changes;

impl Plain for Changes {
    fn check(&self, x: &mut Exchange) -> Verdict {
        x.headers_mut(crate::engine::read::Side::Request).unwrap().clear();
        Verdict::Passed
    }
}

fn denies() -> Verdict {
    Verdict::Fault(Fault::denied(StatusCode::FORBIDDEN, "trial.no", "no"))
}

/// The steps with children in place of those that have names.
fn trial(children: Vec<Op>, time_limit: Option<Duration>) -> Trial {
    let mut snapshot = loads(&service(STEPS));
    let service = Arc::get_mut(&mut snapshot.services[0]).unwrap();
    let programs = children.into_iter().map(|op| Program { ops: vec![op] }).collect();
    let parallel = Op::Waits(TOGETHER, Box::new(Parallel::new(programs, time_limit)));
    service.main.ops.splice(1..5, [parallel]);
    Trial::serving(Arc::new(snapshot), crate::engine::worker::Records::Kept(RefCell::default()))
}

fn waits(step: u16, waits: impl Waits + 'static) -> Op {
    Op::Waits(step, Box::new(waits))
}

#[test]
fn children_that_wait_for_each_other_are_done() {
    let [one, two] = meeting();
    let outcome = trial(vec![Op::Waits(FIRST, one), Op::Waits(SECOND, two)], None).get("/");
    assert_eq!((outcome.status, outcome.body.as_str()), (200, "one two"));
}

#[test]
fn so_are_those_inside_of_a_child() {
    let [one, two] = meeting();
    let inner = Parallel::new(vec![Program { ops: vec![Op::Waits(SECOND, two)] }], None);
    let outcome = trial(vec![Op::Waits(FIRST, one), waits(THIRD, inner)], None).get("/");
    assert_eq!((outcome.status, outcome.body.as_str()), (200, "one two"));
}

#[test]
fn the_first_fault_gives_the_others_up() {
    let count = Arc::new(AtomicUsize::new(0));
    let children =
        vec![waits(FIRST, Hangs(count.clone())), waits(SECOND, Then(denies)), waits(THIRD, Hangs(count.clone()))];
    let trial = trial(children, None);
    let outcome = trial.get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (403, Some("trial.no")));
    assert_eq!(outcome.record.step.as_deref(), Some("second"));
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert!(trial.last_record().is_none(), "forks are not recorded");
    assert!(trial.metrics().contains("trial.no"), "{}", trial.metrics());
}

#[test]
fn a_child_that_panics_breaks_its_request_alone() {
    let count = Arc::new(AtomicUsize::new(0));
    let panics = Then(|| panic!("a child of a test that panics"));
    let trial = trial(vec![waits(FIRST, Hangs(count.clone())), waits(SECOND, panics)], None);
    for times in 1..3 {
        let outcome = trial.get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (500, Some("step.panicked")));
        assert_eq!((outcome.record.step.as_deref(), count.load(Ordering::Relaxed)), (Some("second"), times));
    }
}

#[test]
fn what_no_child_may_do_is_not_lost_in_silence() {
    let outcome = trial(vec![Op::Plain(FIRST, Box::new(Changes))], None).get("/");
    assert_eq!((outcome.fault.as_deref(), outcome.record.step.as_deref()), (Some("parallel.unfit"), Some("together")));
    let ends = Then(|| Verdict::Ended(crate::engine::program::EndedBy::Stop));
    let outcome = trial(vec![waits(FIRST, ends)], None).get("/");
    assert_eq!(outcome.fault.as_deref(), Some("parallel.unfit"));
}

/// Polls an exchange until time is over, if it is.
fn timed(limit: Option<Duration>) -> (Option<String>, Option<Record>, usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let passes = Then(|| Verdict::Passed);
    let trial = trial(vec![waits(FIRST, Hangs(count.clone())), waits(SECOND, passes)], limit);
    let mut running = pin!(answer(trial.begin("/")));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(running.as_mut().poll(&mut cx).is_pending());
    }
    trial.pass(2 * TICK);
    assert!(running.as_mut().poll(&mut cx).is_pending(), "never early");
    trial.pass(3 * TICK);
    match running.poll(&mut cx) {
        Poll::Ready(x) => {
            let fault = x.fault.as_ref().map(|fault| fault.code.to_string());
            drop(x);
            (fault, trial.last_record(), count.load(Ordering::Relaxed))
        }
        Poll::Pending => (None, None, count.load(Ordering::Relaxed)),
    }
}

#[test]
fn time_is_over_for_all_of_them() {
    let (fault, record, given_up) = timed(Some(4 * TICK));
    assert_eq!((fault.as_deref(), given_up), (Some("parallel.timeout"), 1));
    assert_eq!(record.unwrap().step.as_deref(), Some("together"));
    assert_eq!(timed(None).0, None);
}

#[test]
fn lines_of_a_trace_stand_in_the_order_of_the_policy() {
    let [one, two] = meeting();
    let trial = trial(vec![Op::Waits(SECOND, one), Op::Waits(FIRST, two)], None);
    let mut x = trial.begin("/");
    let trace = Trace::default();
    x.trace = Some(Rc::clone(&trace));
    let mut running = pin!(answer(x));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(running.as_mut().poll(&mut cx).is_pending(), "the first child learns of the second one's turn later");
    let Poll::Ready(x) = running.as_mut().poll(&mut cx) else { panic!("still waits") };
    let traces = trace.borrow();
    let seen: Vec<(u16, usize)> = traces.lines.iter().map(|line| (line.step, line.changed.len())).collect();
    assert_eq!(seen, [(0, 2), (SECOND, 1), (FIRST, 1), (TOGETHER, 0), (5, 0)]);
    assert!(traces.lines[..4].iter().all(|line| line.verdict == TracedVerdict::Passed));
    drop(x);
}
