//! `cargo bench --bench steps`: nanoseconds of ten plain steps, and of parts of them. Median of rounds; the
//! machine's noise shows in the spread.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests fail by panicking

mod ten_steps;

use std::future::Future;
use std::time::Instant;

use gatewright::engine::run::run;
use ten_steps::{TEN_PLAIN_STEPS, bench};

const ROUNDS: usize = 21;
const RUNS: u32 = 20_000;

fn measure(name: &str, steps: &str) {
    let mut bench = bench(steps);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            runtime.block_on(async {
                let begun = Instant::now();
                for _ in 0..RUNS {
                    let verdict = run(&bench.program, &mut bench.exchange).await;
                    std::hint::black_box(&verdict);
                }
                begun.elapsed().as_nanos() as f64 / f64::from(RUNS)
            })
        })
        .collect();
    let allocations = allocation_counter::measure(|| {
        let running = std::pin::pin!(run(&bench.program, &mut bench.exchange));
        std::hint::black_box(running.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready());
    });
    rounds.sort_by(f64::total_cmp);
    let (least, median, most) = (rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
    println!("{name:40} {median:8.1} ns  ({least:.1} .. {most:.1})  {} allocations", allocations.count_total);
}

fn main() {
    measure("nothing", "");
    measure("ten plain steps", TEN_PLAIN_STEPS);
    measure("one condition", "  - when: request.method == 'POST'\n    log: never\n");
    measure("one comparison of a header", "  - compare: request.headers.x_a == 'b'\n");
    measure("one address check", "  - restrict_ip: [127.0.0.0/8]\n");
    measure(
        "one rate limit",
        "  - limit_rate: { per: \"${request.client.ip}\", rate: 1000000/second, headers: none }\n",
    );
    let any =
        |first: &str| format!("  - any:\n      - all: [{{ set: {{ a: changed }} }}, {first}]\n      - log: second\n");
    measure("any whose first child writes and passes", &any("{ compare: request.method == 'GET' }"));
    measure("any whose first child writes and denies", &any("{ compare: request.method == 'POST' }"));
}
