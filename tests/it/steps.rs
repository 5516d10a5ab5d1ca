//! Ten plain steps pass without one allocation.

#[path = "../../benches/ten_steps.rs"]
mod ten_steps;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use gatewright::engine::program::Verdict;
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
