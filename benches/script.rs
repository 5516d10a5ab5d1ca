//! `cargo bench --bench script`: what conditions and scripts cost. Median of rounds; the machine's noise shows in the
//! spread. `cargo bench --bench script -- TEXT` measures only what has this text in its name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests fail by panicking

mod ten_steps;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gatewright::body::Body;
use gatewright::engine::program::Verdict;
use gatewright::engine::read::Side;
use gatewright::engine::run::run;
use ten_steps::{Bench, TEN_PLAIN_STEPS, bench, bench_at};

const ROUNDS: usize = 21;
const RUNS: u32 = 5_000;

/// No step waits, so that one poll is enough.
fn once(bench: &mut Bench) -> Verdict {
    let running = pin!(run(&bench.program, &mut bench.exchange));
    match running.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => verdict,
        Poll::Pending => panic!("a step waits"),
    }
}

fn is_wanted(name: &str) -> bool {
    std::env::args().skip(1).find(|argument| !argument.starts_with("--")).is_none_or(|text| name.contains(&text))
}

fn measure(name: &str, bench: &mut Bench) {
    if !is_wanted(name) {
        return;
    }
    let verdict = once(bench);
    assert!(matches!(verdict, Verdict::Passed), "{name}: {verdict:?}");
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..RUNS {
                std::hint::black_box(&once(bench));
            }
            begun.elapsed().as_nanos() as f64 / f64::from(RUNS)
        })
        .collect();
    let allocations = allocation_counter::measure(|| drop(once(bench)));
    rounds.sort_by(f64::total_cmp);
    let (least, median, most) = (rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
    println!("{name:44} {median:8.1} ns  ({least:.1} .. {most:.1})  {} allocations", allocations.count_total);
}

/// Ten operations over claims, path and body; the claims stand in a variable, as an authentication would leave them.
const TEN_OPERATIONS: &str = r#"
  - set:
      claims: { sub: ann, iss: "https://idp.example", scope: "orders:read orders:write" }
  - script:
      code: |
        let order = request.json;
        if request.method != 'POST' || !starts_with(request.path, '/api/') { deny('bench.refused', 403); }
        if !('orders:write' in split(claims.scope, ' ')) { deny('bench.scope', 403); }
        let segment = split(request.path, '/')[2];
        out.tenant = `${claims.sub}@${segment}`;
        out.tier = if order.amount > 1000 { 'gold' } else { 'basic' };
        out.key = `${request.method}:${segment}:${order.order_id}`;
        if ends_with(claims.iss, '.example') { out.origin = upper(claims.iss); }
        out.mask = `****${right(order.card, 4)}`;
      sets: { tenant: string, tier: string, key: string, origin: "string?", mask: string }
"#;

fn ten_operations() -> Bench {
    let mut bench = bench_at("/{*rest}", "/api/orders/7", TEN_OPERATIONS);
    let body = br#"{"order_id": "o-7", "amount": 1200, "card": "4111111111111111", "lines": [{"sku": "a", "qty": 2}]}"#;
    bench.exchange.rewrite(None, None, Some(http::Method::POST));
    bench.exchange.set_body(Side::Request, Body::Buffered(body.as_slice().into()));
    assert!(matches!(once(&mut bench), Verdict::Passed));
    // The variable is set now and stays: what is left is the script.
    bench.program.ops.drain(..bench.program.ops.len() - 1);
    bench
}

/// Scripts that use up what they may, and how long they were let.
fn hostile() {
    for (name, script) in [
        ("an endless loop", "loop { }"),
        ("a list that doubles", "let l = ['x']; loop { l = [l, l]; }"),
        ("sorting by a closure", "let l = []; for i in 0..9999 { l.push(i); } loop { l = l.sort(|a, b| 1); }"),
        ("replacing by more", "let t = 'aaaaaaaa'; for i in 0..9 { t = replace(t, 'a', 'aaaa'); } t == ''"),
        ("a search in a long text", "let t = 'a'; for i in 0..18 { t += t; } loop { matches(t, '(a|aa|aaa)*b'); }"),
        ("upper case of a long text", "let t = '\u{df}'; for i in 0..17 { t += t; } loop { upper(t); }"),
        (
            "JSON of what nests",
            "let m = #{ a: [1, 2, 3] }; for i in 0..9 { m = #{ a: m, b: m }; } loop { json_text(m); }",
        ),
        ("comparing long lists", "let l = []; for i in 0..3000 { l.push('abc'); } loop { l == l; }"),
    ]
    .into_iter()
    .filter(|(name, _)| is_wanted(name))
    {
        let mut bench = bench(&format!("  - script: {}\n", serde_json::Value::from(script)));
        let longest = (0..20).map(|_| {
            let begun = Instant::now();
            assert!(matches!(once(&mut bench), Verdict::Fault(_)), "{name}");
            begun.elapsed()
        });
        println!("{name:44} {:8.1?} at most", longest.max().unwrap_or(Duration::ZERO));
    }
}

fn main() {
    measure("ten plain steps, to compare", &mut bench(TEN_PLAIN_STEPS));
    measure("native condition", &mut bench("  - when: request.method == 'POST' && path.id != '8'\n    log: never\n"));
    let straight = "  - when: \"if request.method == 'POST' { path.id != '8' } else { false }\"\n    log: never\n";
    measure("native condition with statements", &mut bench(straight));
    let interpreted = "  - when: \"switch request.method { 'POST' => path.id != '8', _ => false }\"\n    log: never\n";
    measure("interpreted condition", &mut bench(interpreted));
    let closure = "  - when: \"['a', 'b', 'c'].some(|x| x == path.id)\"\n    log: never\n";
    measure("interpreted condition with a closure", &mut bench(closure));
    measure("script `true`", &mut bench("  - script: \"true\"\n"));
    measure("script of ten operations, five results", &mut ten_operations());
    hostile();
}
