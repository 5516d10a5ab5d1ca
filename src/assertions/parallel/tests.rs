//! What children may do, what is known after them, and what of them stays.

use serde_json::json;

use crate::assertions::trial::{Trial, codes, refusals, service, warnings};

/// Two children that can wait, and what follows them.
fn beside(first: &str, second: &str, rest: &str) -> String {
    format!("  - parallel:\n      - {first}\n      - {second}\n{rest}")
}

#[test]
fn what_every_child_surely_sets_is_set() {
    let steps = beside(
        "set: { a: one }",
        "all: [{ set: { b: two } }, { set: { c: \"${b}\" } }]",
        "  - respond: { text: \"${a} ${b} ${c}\" }",
    );
    assert_eq!(Trial::of(&steps).get("/").body, "one two two");
    let sometimes = beside(
        "{ when: request.query.x == '1', set: { a: one } }",
        "set: { b: two }",
        "  - respond: { text: \"${a ?? 'none'} ${b}\" }",
    );
    let trial = Trial::of(&sometimes);
    assert_eq!((trial.get("/?x=1").body.as_str(), trial.get("/").body.as_str()), ("one two", "none two"));
    assert_eq!(refusals(&sometimes.replace("a ?? 'none'", "a")), ["expr.may_be_absent"]);
}

#[test]
fn a_child_sees_what_was_before_and_nothing_of_the_others() {
    let steps = format!(
        "  - set: {{ a: before }}\n{}",
        beside("set: { a: inside }", "set: { b: \"${a}\" }", "  - respond: { text: \"${a} ${b}\" }")
    );
    assert_eq!(Trial::of(&steps).get("/").body, "inside before");
    let of_another = beside("set: { a: one }", "set: { b: \"${a}\" }", "  - respond: 204");
    assert_eq!(refusals(&of_another), ["expr.unknown_variable"]);
}

#[test]
fn what_is_proven_of_a_variable_ends_where_another_child_sets_it() {
    let steps = format!(
        "  - {{ when: request.query.a == '1', set: {{ a: one }} }}\n{}",
        beside(
            "compare: exists(a) && exists(request.query.b)",
            "script: { code: \"out.a = request.query.c;\", sets: { a: \"string?\" } }",
            "  - respond: { text: \"${request.query.b} ${a ?? 'none'}\" }",
        )
    );
    assert_eq!(Trial::of(&steps).get("/?a=1&b=2").body, "2 none");
    assert_eq!(refusals(&steps.replace("a ?? 'none'", "a")), ["expr.may_be_absent"]);
}

#[test]
fn children_write_neither_one_variable_nor_a_message_and_do_not_end_the_pipeline() {
    let of = |first: &str, second: &str| refusals(&beside(first, second, "  - respond: 204"));
    let twice = ["policy.parallel_writes"];
    assert_eq!(of("set: { a: one }", "set: { a: one }"), twice);
    assert_eq!(of("set: { a: one }", "any: [{ raise: { status: 403, code: t.no } }, { set: { a: 1 } }]"), twice);
    let limit = "limit_concurrency: { max: 1 }";
    assert_eq!(of(limit, limit), twice);
    assert_eq!(of(limit, &format!("{{ as: second, {limit} }}")), [""; 0]);
    let item = "{ for_each: { in: \"['a']\", limit: 1 }, do: [{ log: \"${item}\" }] }";
    assert_eq!(of(item, item), [""; 0], "each loop has its own item");
    assert_eq!(of("parallel: [{ set: { a: 1 } }, { log: b }]", "set: { a: 2 }"), twice);
    let message = ["policy.parallel_message"];
    for changes in [
        "set_headers: { x-a: b }",
        "remove_headers: [x-a]",
        "set_headers: { headers: { x-a: b }, message: answer }",
        "set_body: { text: a }",
        "rewrite: { path: /b }",
        "limit_size: 1KiB",
        "compress: gzip",
        "decompress: auto",
        "scrub: { rules: [pan], from: [request] }",
        "limit_rate: { per: all, rate: 1/second }",
        "{ try: [{ limit_size: 1KiB }], catch: [{ log: a }] }",
    ] {
        assert_eq!(of("log: a", changes), message, "{changes}");
    }
    assert_eq!(of("log: a", "limit_rate: { per: all, rate: 1/second, headers: none }"), [""; 0]);
    for ends in ["route: http://127.0.0.1:9000", "respond: 204", "redirect: { to: /a }", "stop", "all: [stop]"] {
        assert!(of("log: a", ends).contains(&"policy.parallel_ends"), "{ends}");
    }
}

#[test]
fn every_assertion_that_changes_a_message_says_so() {
    let setters = [
        ".headers_mut(",
        ".set_body(",
        ".replace_body(",
        ".recode(",
        ".tighten_body(",
        ".rewrite(",
        ".edit_answer(",
        ".retain_answer_edits(",
        ".own_header(",
        ".disown_removed_headers(",
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assertions");
    for file in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let routes = text.contains("Category::Routing"); // which no child may do at all
        let changes = setters.iter().any(|setter| text.contains(setter));
        assert!(!changes || routes || text.contains("cx.changes_message("), "{} changes one", file.display());
    }
}

#[test]
fn where_nothing_waits_nothing_is_gained() {
    let warned = |first: &str, second: &str| warnings(&service(&beside(first, second, "  - respond: 204")));
    let waits = "limit_concurrency: { max: 9 }";
    assert_eq!(warned("log: a", waits), ["policy.nothing_waits"]);
    assert_eq!(warned(&format!("{{ as: other, {waits} }}"), waits), [""; 0]);
}

#[test]
fn the_first_fault_is_that_of_the_child_and_takes_all_back() {
    let steps = format!(
        "  - set: {{ a: before }}\n  - try:\n{}    catch:\n      - respond: {{ text: \"${{a}} ${{fault.step ?? ''}} ${{fault.code}}\" }}",
        "      - parallel:\n          - set: { a: inside }\n          - name: breaks\n            raise: { status: 500, code: trial.no }\n          \
         - raise: { status: 500, code: trial.late }\n"
    );
    assert_eq!(Trial::of(&steps).get("/").body, "before breaks trial.no");
    let after =
        steps.replace("          - name: breaks\n            raise: { status: 500, code: trial.no }\n", "").replace(
            "          - raise: { status: 500, code: trial.late }\n",
            "          - set: { b: inside }\n      - name: behind\n        raise: { status: 500, code: trial.late }\n",
        );
    assert_eq!(Trial::of(&after).get("/").body, "before behind trial.late");
}

#[test]
fn nobody_swallows_the_authentication_of_a_child() {
    let steps = "  - try:\n      steps:\n        - parallel: [{ restrict_ip: [10.0.0.0/8] }, { log: a }]\n      catches: [denied]\n    \
                 catch: [{ log: caught }]\n  - respond: 204";
    let outcome = Trial::of(steps).get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (403, Some("restrict_ip.refused")));
}

#[test]
fn what_children_note_is_recorded_in_their_order_also_where_one_fails() {
    let steps = "  - audit: { message: zero, fields: { a: \"0\", z: \"0\" } }
  - parallel:
      - audit: { level: severe, message: one, fields: { a: \"1\" } }
      - all:
          - restrict_ip: [10.0.0.0/8]
            shadow: true
          - try: [{ raise: { status: 500, code: trial.caught } }]
            catch: [{ audit: { message: two, fields: { b: \"2\" } } }]
      - name: last
        when: exists(request.query.fail)
        raise: { status: 422, code: trial.no }
  - respond: 204";
    let trial = Trial::of(steps);
    for path in ["/", "/?fail"] {
        let record = trial.get(path).record;
        assert_eq!(record.message.as_deref(), Some("zero; one; two"), "{path}");
        assert_eq!(record.fields, [("z".into(), json!("0")), ("a".into(), json!("1")), ("b".into(), json!("2"))]);
        assert_eq!(record.level.word(), "severe");
        assert_eq!((record.would_deny.len(), record.caught.len()), (1, 1), "{path}");
        assert_eq!(record.step.as_deref(), path.contains("fail").then_some("last"));
    }
    assert!(trial.last_record().is_none(), "a fork has no record of its own");
}

#[test]
fn a_body_that_a_child_reads_is_held_and_can_be_sent_on() {
    let reads = beside(
        "set: { a: \"${request.json.a ?? 'none'}\" }",
        "set: { b: \"${request.size ?? 0}\" }",
        "  - route: http://127.0.0.1:9000\n  - respond: { text: \"${a} ${b}\" }",
    );
    let outcome = Trial::of(&reads.replace("request.json.a ?? 'none'", "request.text")).post_streamed("/", "abc");
    assert_eq!((outcome.body.as_str(), outcome.sent[0].body.as_str()), ("abc 3", "abc"));
    let sizes = reads.replace("request.json.a ?? 'none'", "request.size ?? 0");
    let outcome = Trial::of(&sizes).post_streamed("/", "abc");
    assert_eq!((outcome.body.as_str(), outcome.sent[0].body.as_str()), ("3 3", ""), "it streams past them");
}

#[test]
fn a_body_that_is_too_large_for_a_child_is_the_fault_of_that_child() {
    let steps = beside("log: a", "{ name: reads, set: { b: \"${request.text}\" } }", "  - respond: 204");
    let large = "x".repeat(usize::try_from(crate::limits::Limits::default().body_buffered).unwrap() + 1);
    let outcome = Trial::of(&steps).post_streamed("/", &large);
    assert_eq!((outcome.status, outcome.record.step.as_deref()), (413, Some("reads")));
    assert_eq!(outcome.header("connection"), Some("close"));
}

#[test]
fn slots_are_held_until_the_answer_has_left() {
    let steps = beside(
        "limit_concurrency: { max: 1 }",
        "{ as: second, limit_concurrency: { max: 1, name: other } }",
        "  - as: third\n    limit_concurrency: { max: 1, name: other }\n  - respond: 204",
    );
    let trial = Trial::of(&steps);
    for _ in 0..2 {
        assert_eq!(trial.get("/").fault.as_deref(), Some("limit_concurrency.full"), "the child still holds it");
    }
}

#[test]
fn it_stands_in_loops_fragments_assertions_shadows_and_itself() {
    let set = "fragment: both
policy:
  - parallel: [{ set: { a: one } }, { pair: { of: two } }]
---
assertion: pair
inputs: { of: { type: string, required: true } }
outputs: { both: string }
policy:
  - parallel: [{ set: { left: \"${input.of}\" } }, { all: [{ set: { right: \"${input.of}\" } }, { when: input.of == 'stops', log: no }] }]
  - set: { both: \"${left}${right}\" }
---
service: trial
match: { path: \"/{*rest}\" }
policy:
  - include: both
  - for_each: { item: n, in: \"['1', '2']\", limit: 2, collect: { seen: \"x + y\" } }
    do:
      - parallel: [{ set: { x: \"${n}\" } }, { parallel: [{ set: { y: \"${n}\" } }, { log: inner }] }]
  - parallel: [{ set: { lost: yes } }, { when: request.method == 'GET', raise: { status: 403, code: trial.shadowed } }]
    shadow: true
  - any:
      - parallel: [{ set: { lost: yes } }, { when: request.method == 'GET', raise: { status: 403, code: trial.no } }]
      - log: second
  - respond: { json: { a: \"${a}\", both: \"${pair.both}\", seen: \"${seen}\", lost: \"${lost ?? 'no'}\" } }
";
    let outcome = Trial::of_set(set).get("/");
    let body: serde_json::Value = serde_json::from_str(&outcome.body).unwrap();
    assert_eq!(body, json!({ "a": "one", "both": "twotwo", "seen": ["11", "22"], "lost": "no" }));
    assert_eq!(outcome.record.would_deny[0].code, "trial.shadowed");
    let deeper = set.replace("{ log: inner }", "{ parallel: [{ log: a }, { log: b }] }");
    assert_eq!(codes(&deeper), ["policy.bad_value"]);
    let leaves = set.replace("log: no", "all: [stop]");
    assert!(codes(&leaves).contains(&"policy.parallel_ends"));
    let in_finally = "  - respond: 204\nfinally:\n  - parallel: [{ log: a }, { log: b }]";
    assert_eq!(refusals(in_finally), ["policy.not_in_finally"]);
}

#[test]
fn a_fault_that_was_caught_can_be_read_in_children() {
    let steps = "  - try: [{ raise: { status: 500, code: trial.no } }]
    catch:
      - parallel: [{ set: { a: \"${fault.code}\" } }, { when: exists(request.query.again), raise: again }]
  - respond: { text: \"${a ?? 'none'}\" }
on_fault:
  - parallel: [{ set: { c: \"${fault.code}\" } }, { log: b }]
  - set_headers: { x-code: \"${c}\" }";
    let trial = Trial::of(steps);
    assert_eq!(trial.get("/").body, "trial.no");
    assert_eq!(trial.get("/?again").header("x-code"), Some("trial.no"));
}
