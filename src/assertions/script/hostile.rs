//! Scripts that mean harm, or are only wrong: each ends within its budget and takes only its own request with it.

use std::time::{Duration, Instant};

use crate::assertions::trial::{Trial, refusals};

/// Runs that the suite bears on a busy machine and without optimisation; the release numbers stand in docs/scripts.md.
const BEARABLE: Duration = Duration::from_millis(400);

/// Time of the processor that one request may take with its script, however busy the machine is: this is what others on
/// the same worker wait for.
const PROCESSOR: Duration = Duration::from_millis(if cfg!(debug_assertions) { 60 } else { 15 });

fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

/// Name and script. A text that grows too large may be seen as such or may first run out of time.
const ENDS: [&str; 2] = ["script.limit", "expression.too_large"];

const HOSTILE: &[(&str, &str)] = &[
    ("an endless loop", "loop { }"),
    ("an endless loop that computes", "let n = 0; loop { n = (n + 1) % 7; }"),
    ("loops inside of loops", "for a in 0..10000 { for b in 0..10000 { for c in 0..10000 { } } }"),
    ("a range without end", "for a in 0..9223372036854775807 { let b = a; }"),
    ("recursion", "fn f(n) { f(n + 1) } f(0) == 1"),
    ("two functions that call each other", "fn f(n) { g(n) + 1 } fn g(n) { f(n) + 1 } f(0) == 1"),
    ("recursion that branches", "fn f(n) { if n == 0 { 1 } else { f(n - 1) + f(n - 1) } } f(25) == 1"),
    ("recursion in closures", "fn f(n) { [1, 2].map(|x| f(n + 1)) } f(0) == 1"),
    ("a text that doubles", "let t = 'x'; loop { t += t; }"),
    ("text in backticks that doubles", "let t = 'x'; loop { t = `${t}${t}`; }"),
    ("a list that grows", "let l = []; loop { l.push(1); }"),
    ("a list that nests", "let l = []; loop { l = [l]; }"),
    ("a list that nests by push", "let l = []; loop { let m = []; m.push(l); l = m; }"),
    ("a map that nests", "let m = #{}; loop { m.a = m; }"),
    ("a list that doubles", "let l = ['x']; loop { l = [l, l]; }"),
    ("a map that grows", "let m = #{}; let n = 0; loop { n += 1; m[string(n)] = n; }"),
    ("a sort that never agrees", "let l = []; for i in 0..9999 { l.push(i); } loop { l = l.sort(|a, b| 1); }"),
    ("sorting again and again", "let l = split('a,b,c,d,e,f,g,h', ','); loop { l = l.sort(); }"),
    ("closures over long lists", "let l = []; for i in 0..3000 { l.push(i); } loop { l.map(|x| x + 1); }"),
    ("splitting a long text", "let t = 'a,'; for i in 0..17 { t += t; } loop { split(t, ','); }"),
    ("replacing by more", "let t = 'aaaaaaaa'; for i in 0..9 { t = replace(t, 'a', 'aaaa'); } t == ''"),
    ("a long text upper-cased again and again", "let t = 'ß'; for i in 0..16 { t += t; } loop { upper(t); }"),
    ("digests of a long text", "let t = 'a'; for i in 0..20 { t += t; } loop { sha256(t); }"),
    ("a search in a long text", "let t = 'a'; for i in 0..20 { t += t; } matches(t, '(a|aa|aaa)*b')"),
    ("a search again and again", "let t = 'a'; for i in 0..17 { t += t; } loop { matches(t, '(a*)*b'); }"),
    ("comparing long lists", "let l = []; for i in 0..3000 { l.push('abc'); } loop { l == l; }"),
    ("joining long lists", "let l = []; for i in 0..3000 { l.push('abc'); } loop { join(l, ''); }"),
    ("JSON of what nests", "let m = #{ a: [1, 2, 3] }; for i in 0..9 { m = #{ a: m, b: m }; } loop { json_text(m); }"),
    ("random bytes", "loop { random_hex(1024); }"),
];

fn indented(script: &str) -> String {
    format!("  - script: {}\n  - respond: 204", serde_json::Value::from(script))
}

#[test]
fn every_hostile_script_ends_in_time_and_alone() {
    let mut longest = (Duration::ZERO, "");
    for (name, script) in HOSTILE {
        let trial = Trial::of(&indented(script));
        let (before, processor_before) = (Instant::now(), processor());
        let outcome = trial.get("/");
        let (took, computed) = (before.elapsed(), processor() - processor_before);
        let fault = outcome.fault.as_deref().unwrap_or_default();
        assert!(ENDS.contains(&fault), "{name}: {fault} {:?}", outcome.record.detail);
        assert_eq!(outcome.status, 500, "{name}");
        assert!(took < BEARABLE, "{name} took {took:?}");
        println!("{took:>10.1?} of which {computed:>10.1?} of the processor: {name}");
        longest = longest.max((computed, *name));
    }
    println!("the longest, with its request, by the processor: {longest:?}");
    assert!(longest.0 < PROCESSOR, "{longest:?}");
}

#[test]
fn what_is_hostile_at_load_is_refused_at_load() {
    let deep = |open: &str, close: &str| format!("{}1{} == 1", open.repeat(5000), close.repeat(5000));
    for (name, script, code) in [
        ("parentheses", deep("(", ")"), "expr.too_deep"),
        ("lists", deep("[", "]"), "expr.too_deep"),
        ("blocks", deep("{", "}"), "expr.too_deep"),
        ("negations", format!("{}true", "!".repeat(5000)), "expr.too_deep"),
        ("interpolations", format!("{}1{} == ''", "`${".repeat(500), "}`".repeat(500)), "expr.too_deep"),
        ("a megabyte", format!("'{}' == ''", "x".repeat(1024 * 1024)), "expr.too_long"),
        ("ten thousand functions", (0..10_000).map(|n| format!("fn f{n}() {{}}")).collect(), "expr.too_long"),
        ("eval", "eval('1') == 1".into(), "expr.unsupported"),
        ("import", "import 'x' as y;".into(), "expr.unsupported"),
        ("print", "print('x');".into(), "expr.unsupported"),
        ("debug", "debug('x');".into(), "expr.unsupported"),
        ("a function by its name", "Fn('len').call('x') == 1".into(), "expr.unsupported"),
        ("blob", "blob(1000000000) == 1".into(), "expr.unknown_function"),
        ("pad", "pad('x', 1000000000, 'y') == ''".into(), "expr.unknown_function"),
        ("a clock", "timestamp() == 1".into(), "expr.unknown_function"),
        ("sleep", "sleep(1);".into(), "expr.unknown_function"),
        ("catching", "try { loop { } } catch { }".into(), "expr.unsupported"),
        ("a closure that could hold itself", "let f = |x| x;".into(), "expr.stray_closure"),
        ("this", "this == 1".into(), "expr.unsupported"),
        ("the body of a function", "__body__ == 1".into(), "expr.unknown_variable"),
        ("the key of plans", "$ == 1".into(), "expr.unknown_variable"),
    ] {
        let before = Instant::now();
        let found = refusals(&indented(&script));
        assert!(found.contains(&code), "{name}: {found:?}");
        assert!(before.elapsed() < Duration::from_secs(2), "{name} took {:?}", before.elapsed());
    }
}

#[test]
fn the_deepest_stack_that_is_allowed_fits_a_thread() {
    // Every level of calls with expressions as deep as a function may have them.
    let inner = |call: &str, deep: usize| (0..deep).fold(call.to_owned(), |inner, _| format!("(1 + {inner})"));
    let script = format!("fn f(n) {{ if n == 0 {{ 0 }} else {{ {} }} }} f(30) > 0", inner("f(n - 1)", 6));
    let closures = format!("fn f(n) {{ [n].map(|x| {})[0] }} f(0) > 0", inner("f(x + 1)", 3));
    for (script, fault) in [(script, None), (closures, Some("script.limit"))] {
        let outcome = Trial::of(&indented(&script)).get("/");
        assert_eq!(outcome.fault.as_deref(), fault, "{:?}", outcome.record.detail);
    }
}

#[test]
fn a_long_script_runs_beside_the_worker() {
    let steps = "  - script: { code: \"let n = 0; while n < 20000 { n += 1; }\", time_limit: 1s }\n  - respond: 204";
    let outcome = Trial::of(steps).get("/");
    assert_eq!((outcome.status, outcome.fault), (204, None));
    let steps = "  - script: { code: \"loop { }\", time_limit: 20ms }\n  - respond: 204";
    assert_eq!(Trial::of(steps).get("/").fault.as_deref(), Some("script.limit"));
}
