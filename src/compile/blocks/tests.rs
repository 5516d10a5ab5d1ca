//! Composites together: what undoing restores, shadows, and what the compiler knows of nested blocks.

use crate::assertions::trial::{Trial, refusals, refusals_of, service, warnings};

/// Steps that change the request, and some that change the answer that leaves.
const REQUEST_WRITES: [&str; 13] = [
    "set: { a: changed }",
    "set: { a: { value: 1, type: int } }",
    "set: { c: new }",
    "set_headers: { x-a: changed }",
    "set_headers: { authorization: changed }",
    "remove_headers: [x-b, x-c]",
    "rewrite: { path: /changed }",
    "rewrite: { query: { set: { q: changed } } }",
    "rewrite: { method: PUT }",
    "set_body: { text: changed, message: request }",
    "remove_headers: { names: [x-up], message: answer }",
    "limit_size: 512KiB",
    "{ authenticate_api_key: partners, as: WHO }",
];

const RESPONSE_WRITES: [&str; 6] = [
    "set: { a: changed }",
    "set_headers: { x-up: changed }",
    "remove_headers: [x-up]",
    "set_body: { text: changed }",
    "limit_size: 512KiB",
    "remove_headers: { names: [x-up], message: answer }",
];

const KEYS: &str = "api_keys: partners\nentries:\n  - { id: acme, client: acme, hash: \
                    \"sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b\" }\n---\n";

/// A generator of its own, so that a failing list is found again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// Random writes and blocks that end in a refusal, each list undone by its own frame.
    fn undone(&mut self, writes: &[&str], depth: usize, indent: usize) -> String {
        let blank = " ".repeat(indent);
        let mut steps = String::new();
        for round in 0..=self.roll(4) {
            if depth > 0 && self.roll(4) == 0 {
                steps.push_str(&self.block(writes, depth - 1, indent + 4));
            } else {
                let write =
                    writes[self.roll(writes.len())].replace("WHO", &format!("who_{depth}_{indent}_{round}_{}", self.0));
                steps.push_str(&format!("{blank}    - {write}\n"));
            }
        }
        steps
    }

    fn block(&mut self, writes: &[&str], depth: usize, indent: usize) -> String {
        let blank = " ".repeat(indent);
        let inside = self.undone(writes, depth, indent + 4);
        // One block deeper: every line two blanks further in.
        let nested: String = inside.lines().map(|line| format!("  {line}\n")).collect();
        match self.roll(3) {
            0 => format!(
                "{blank}- any:\n{blank}    - all:\n{nested}{blank}          - raise: {{ status: 403, code: trial.no }}\n{blank}    - log: next\n",
            ),
            1 => format!(
                "{blank}- try:\n{inside}{blank}        - raise: {{ status: 500, code: trial.no }}\n{blank}  catch:\n{blank}    - log: caught\n"
            ),
            _ => format!(
                "{blank}- all:\n{inside}{blank}        - raise: {{ status: 403, code: trial.no }}\n{blank}  shadow: true\n"
            ),
        }
    }
}

/// Fields that a policy sets anywhere are never the client's own: here they are that in every list.
const OWNED: &str = "  - set_headers: { x-a: never, authorization: never }\n    when: request.query.never == '1'\n";

fn dump(before_route: &str, after_route: &str) -> String {
    let shown = "{ a: \"${a}\", method: \"${request.method}\", path: \"${request.path}\", query: \"${request.query.q ?? ''}\", \
                 original: \"${request.original.path} ${request.original.method}\", up: \"${response.headers.x_up ?? ''}\", \
                 body: \"${response.text}\", text: \"${request.text}\" }";
    let steps = format!(
        "  - set: {{ a: first }}\n{OWNED}{before_route}  - route: http://127.0.0.1:9000\n{after_route}  - respond: {{ json: {shown}, headers: {{ x-up: own }} }}\n"
    );
    let trial = Trial::of_set(&format!("{KEYS}{}", service(&steps))).answering(&[("x-up", "1")], "answer");
    let fields = [("x-a", "1"), ("x-b", "2"), ("x-c", "3"), ("x-api-key", "k-1"), ("authorization", "Bearer t")];
    let outcome = trial.send("POST", "/x?q=1", &fields, "body");
    format!("{:?} {} {:?} {} {:?}", outcome.fault, outcome.status, outcome.headers, outcome.body, outcome.sent)
}

#[test]
fn undoing_restores_the_exchange_exactly() {
    let untouched = dump("", "");
    assert!(untouched.contains("answer") && untouched.contains("k-1"), "{untouched}");
    for seed in 0..120 {
        let mut dice = Dice(seed);
        let before = dice.block(&REQUEST_WRITES, 2, 2);
        let after = dice.block(&RESPONSE_WRITES, 2, 2);
        assert_eq!(dump(&before, &after), untouched, "seed {seed}:\n{before}...\n{after}");
    }
}

#[test]
fn what_passes_keeps_its_changes_through_all_frames() {
    let steps = "  - any:\n      - try:\n          - any:\n              - all:\n                  - set: { a: kept }\n                  - set_headers: { x-a: kept }\n        \
                 catch:\n          - raise: again\n  - respond: { text: \"${a ?? 'lost'} ${request.headers.x_a ?? 'lost'}\" }";
    assert_eq!(Trial::of(steps).get("/").body, "kept kept");
}

#[test]
fn a_shadowed_step_records_what_it_would_deny_and_passes() {
    let steps = "  - set: { a: before }\n  - all:\n      - set: { a: inside }\n      - restrict_ip: [10.0.0.0/8]\n    shadow: true\n    name: trial rule\n  - respond: { text: \"${a}\" }";
    let outcome = Trial::of(steps).get("/");
    assert_eq!((outcome.status, outcome.body.as_str()), (200, "before"));
    let noted = &outcome.record.would_deny[0];
    assert_eq!((noted.step.as_deref(), noted.code.as_str()), (Some("trial rule"), "restrict_ip.refused"));
    let mut line = String::new();
    outcome.record.write_line(&mut line);
    assert!(line.contains("\"would_deny\":[{\"step\":\"trial rule\",\"fault\":\"restrict_ip.refused\""), "{line}");
    let passes = steps.replace("10.0.0.0/8", "192.0.2.0/24");
    let outcome = Trial::of(&passes).get("/");
    assert_eq!((outcome.body.as_str(), outcome.record.would_deny.len()), ("inside", 0));
}

#[test]
fn a_shadow_stands_only_where_it_can_do_something() {
    let shadow = |step: &str| refusals(&format!("  - {step}\n    shadow: true\n  - respond: 204"));
    assert!(shadow("raise: { status: 403, code: trial.no }").is_empty());
    assert!(shadow("if: request.method == 'GET'\n    then: [{ restrict_ip: [10.0.0.0/8] }]").is_empty());
    assert_eq!(shadow("log: x"), ["policy.shadow"]);
    assert_eq!(shadow("audit: info"), ["policy.shadow"]);
    assert_eq!(shadow("all: [{ restrict_ip: [10.0.0.0/8] }, { route: http://127.0.0.1:9000 }]"), ["policy.shadow"]);
    let identity = format!(
        "{KEYS}{}",
        service("  - authenticate_api_key: partners\n    shadow: true\n  - respond: { text: \"for ${auth.subject}\" }")
    );
    assert_eq!(refusals_of(&identity), ["expr.may_be_absent"], "a shadowed step guarantees nothing");
}

#[test]
fn two_ways_to_say_who_one_is_set_one_identity() {
    let any = "  - any:\n      - authenticate_api_key: partners\n      - authenticate_api_key: { keys: partners, from: { header: x-other } }\n";
    let load = |rest: &str| {
        refusals_of(&format!(
            "{KEYS}{}",
            service(&format!("{any}{rest}  - respond: {{ text: \"${{auth.subject}}\" }}"))
        ))
    };
    assert!(load("").is_empty());
    assert_eq!(load("  - authenticate_api_key: partners\n"), ["policy.identity_twice"]);
}

#[test]
fn a_caller_of_a_child_that_failed_is_nobody() {
    let steps = "  - any:\n      - all:\n          - authenticate_api_key: partners\n          - raise: { status: 403, code: trial.no }\n            when: request.method == 'GET'\n      \
                 - log: nobody\n  - respond: { text: \"${auth.subject ?? 'nobody'}\" }";
    let outcome = Trial::of_set(&format!("{KEYS}{}", service(steps))).send("GET", "/", &[("x-api-key", "k-1")], "");
    assert_eq!((outcome.body.as_str(), outcome.record.subject), ("nobody", None));
}

#[test]
fn whether_there_is_a_response_is_known_behind_blocks() {
    let unclear = "  - any:\n      - route: http://127.0.0.1:9000\n      - set: { a: b }\n  - set_headers: { x-a: b }\n  - respond: 204";
    assert_eq!(refusals(unclear), ["policy.message_unclear"]);
    let no_answer = "  - try: [{ route: http://127.0.0.1:9000 }]\n    catch: [{ log: x }]";
    assert_eq!(refusals(no_answer), ["policy.no_answer"]);
    let answers =
        "  - any:\n      - route: http://127.0.0.1:9000\n      - all: [{ respond: 204 }]\n  - set_headers: { x-a: b }";
    assert!(refusals(answers).is_empty());
    assert_eq!(refusals("  - any: [{ log: x }]"), ["policy.no_answer"]);
    let stop = "  - route: http://127.0.0.1:9000\n  - try: [{ compare: response.status == 200 }]\n    catch: [stop]\n";
    assert!(refusals(stop).is_empty());
}

#[test]
fn a_stop_inside_keeps_the_response_as_it_stands() {
    let steps = "  - route: http://127.0.0.1:9000\n  - any:\n      - all:\n          - set_headers: { x-up: changed }\n          - stop\n      - log: x\n  - respond: 500";
    let outcome = Trial::of(steps).answering(&[("x-up", "1")], "answer").get("/");
    assert_eq!((outcome.status, outcome.header("x-up"), outcome.body.as_str()), (200, Some("changed"), "answer"));
}

#[test]
fn constant_choices_are_worth_a_warning() {
    for steps in [
        "  - if: \"1 == 1\"\n    then: [{ log: x }]\n  - respond: 204",
        "  - log: x\n    when: \"'a' == 'b'\"\n  - respond: 204",
    ] {
        assert_eq!(warnings(&service(steps)), ["policy.constant_condition"], "{steps}");
    }
}

#[test]
fn a_stop_in_an_assertion_leaves_all_frames_behind() {
    let assertion = "assertion: check\npolicy:\n  - any:\n      - for_each: { in: \"split('a,b', ',')\", limit: 9 }\n        do:\n          - try: [{ raise: { status: 500, code: check.no } }]\n            \
                     catch: [stop]\n      - log: never\n  - raise: { status: 500, code: check.too_far }\n---\n";
    let steps = "  - check\n  - raise: { status: 403, code: trial.after }\n    when: request.method == 'GET'\n  - respond: { text: \"x\" }";
    let outcome = Trial::of_set(&format!("{assertion}{}", service(steps))).get("/");
    assert_eq!(outcome.fault.as_deref(), Some("trial.after"), "no frame of the assertion is open any more");
}

#[test]
fn a_shadowed_size_limit_refuses_nothing() {
    let steps = "  - limit_size: 2B\n    shadow: true\n  - respond: 204";
    let outcome = Trial::of(steps).send("POST", "/", &[], "abc");
    assert_eq!((outcome.status, outcome.record.would_deny.len()), (204, 1));
}

#[test]
fn a_shadowed_size_limit_lets_a_body_of_unknown_length_through() {
    let steps =
        |limit: &str| format!("  - {limit}\n    shadow: true\n  - respond: {{ text: \"${{len(request.text)}}\" }}");
    for limit in ["limit_size: 2B", "all: [{ limit_size: 2B }, { compare: len(request.text) == 3 }]"] {
        let outcome = Trial::of(&steps(limit)).post_chunked("/", "abc");
        assert_eq!((outcome.status, outcome.body.as_str(), outcome.fault), (200, "3", None), "{limit}");
        let noted: Vec<_> = outcome.record.would_deny.iter().map(|noted| noted.code.as_str()).collect();
        assert_eq!(noted, ["limit_size.body"], "{limit}");
    }
    let outcome = Trial::of(&steps("limit_size: 3B")).post_chunked("/", "abc");
    assert_eq!((outcome.status, outcome.record.would_deny.len()), (200, 0));
    let undone =
        "all: [{ any: [{ all: [{ limit_size: 2B }, { raise: { status: 403, code: trial.no } }] }, { log: x }] }]";
    assert_eq!(Trial::of(&steps(undone)).post_chunked("/", "abc").record.would_deny, []);
    let real = "  - limit_size: 2B\n  - respond: { text: \"${len(request.text)}\" }";
    assert_eq!(Trial::of(real).post_chunked("/", "abc").fault.as_deref(), Some("limit_size.body"));
}

#[test]
fn a_shadowed_step_that_breaks_is_told_apart_from_one_that_denies() {
    let shadow = |raise: &str| format!("  - raise: {{ status: {raise} }}\n    shadow: true\n  - respond: 204");
    let outcome = Trial::of(&shadow("503, code: trial.down")).get("/");
    assert_eq!((outcome.status, outcome.record.would_deny.len()), (204, 0));
    assert_eq!(outcome.record.would_break[0].code, "trial.down");
    let mut line = String::new();
    outcome.record.write_line(&mut line);
    assert!(line.contains("\"would_break\":[{\"step\":\"raise\",\"fault\":\"trial.down\""), "{line}");
    let outcome = Trial::of(&shadow("403, code: trial.no")).get("/");
    assert_eq!((outcome.record.would_deny.len(), outcome.record.would_break.len()), (1, 0));
}

#[test]
fn a_shadow_takes_what_a_body_says_but_not_a_body_that_cannot_be_read() {
    let steps = "  - compare: (request.json.a ?? 1) == 1\n    shadow: true\n  - respond: 204";
    let outcome = Trial::of(steps).send("POST", "/", &[("content-type", "application/json")], "{");
    assert_eq!((outcome.status, outcome.record.would_deny[0].code.as_str()), (204, "body.invalid_json"));
    let large = "x".repeat(1024 * 1024 + 1);
    assert_eq!(Trial::of(steps).post_chunked("/", &large).fault.as_deref(), Some("body.too_large"));
}

#[test]
fn what_was_proven_of_a_variable_says_nothing_of_its_next_value() {
    let steps = "  - when: request.query.a == '1'\n    set: { a: one }\n  - compare: exists(a)\n  \
                 - script: { code: \"out.a = request.query.c;\", sets: { a: \"string?\" } }\n  - respond: { text: \"a: ${a}\" }";
    assert_eq!(refusals(steps), ["expr.may_be_absent"]);
    assert_eq!(
        refusals(&steps.replace("  - script", "  - when: request.method == 'POST'\n    script")),
        ["expr.may_be_absent"]
    );
}
