//! Plain steps: ten of them pass without one allocation, and one that panics breaks its request alone.

#[path = "../../benches/ten_steps.rs"]
mod ten_steps;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use gatewright::engine::exchange::Exchange;
use gatewright::engine::program::{Op, Plain, Verdict};
use gatewright::engine::run::run;
use ten_steps::{TEN_PLAIN_STEPS, bench};

/// No step waits, so that one poll is enough.
fn passes_at_once(bench: &mut ten_steps::Bench) -> bool {
    let running = pin!(run(&bench.program, &mut bench.exchange));
    matches!(running.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Verdict::Passed))
}

#[test]
fn ten_plain_steps_allocate_nothing() {
    let mut bench = bench(TEN_PLAIN_STEPS);
    // The first run fills what is made once.
    assert!(passes_at_once(&mut bench));
    let allocations = allocation_counter::measure(|| assert!(passes_at_once(&mut bench)));
    assert_eq!(allocations.count_total, 0);
}

struct Passes;

struct Panics;

impl Plain for Passes {
    fn check(&self, _: &mut Exchange) -> Verdict {
        Verdict::Passed
    }
}

impl Plain for Panics {
    fn check(&self, _: &mut Exchange) -> Verdict {
        panic!("a step of a test that panics")
    }
}

#[test]
fn a_step_that_panics_is_a_fault_of_that_step() {
    let mut bench = bench("");
    bench.program.ops =
        vec![Op::Plain(3, Box::new(Passes)), Op::Plain(4, Box::new(Panics)), Op::Plain(5, Box::new(Panics))];
    let running = pin!(run(&bench.program, &mut bench.exchange));
    let Poll::Ready(Verdict::Fault(fault)) = running.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("no fault")
    };
    assert_eq!((&*fault.code, fault.step), ("step.panicked", Some(4)));
}
