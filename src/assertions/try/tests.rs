//! What is caught and what is not, what is taken back, and what is known afterwards.

use crate::assertions::trial::{Outcome, Trial, refusals, service, warnings};

fn attempt(block: &str, catches: &str, catch: &str) -> Outcome {
    let steps = format!(
        "  - set: {{ a: before }}\n  - try: {{ steps: [{block}], catches: {catches} }}\n    catch: [{catch}]\n  - respond: {{ text: \"${{a}}\" }}"
    );
    Trial::of(&steps).send("GET", "/", &[("x-a", "1")], "")
}

const DENY: &str = "{ raise: { status: 422, code: trial.denied } }";
const BREAK: &str = "{ raise: { status: 503, code: trial.broken.deep, detail: the cause } }";

#[test]
fn what_is_caught_is_what_is_written() {
    let fault = |block: &str, catches: &str| attempt(block, catches, "{ log: x }").fault;
    assert_eq!(fault(BREAK, "broken"), None);
    assert_eq!(fault(DENY, "broken").as_deref(), Some("trial.denied"));
    assert_eq!(fault(DENY, "[denied]"), None);
    assert_eq!(fault(BREAK, "[denied, trial.denied]").as_deref(), Some("trial.broken.deep"));
    assert_eq!(fault(BREAK, "[trial.*]"), None);
    assert_eq!(fault(DENY, "trial.denied"), None);
}

#[test]
fn nobody_swallows_an_authentication_by_accident() {
    let block = "{ restrict_ip: [10.0.0.0/8] }";
    assert_eq!(attempt(block, "[denied, broken]", "{ log: x }").fault.as_deref(), Some("restrict_ip.refused"));
    assert_eq!(attempt(block, "[restrict_ip.refused]", "{ log: x }").fault, None);
    let nested = format!("{{ try: {{ steps: [{block}], catches: restrict_ip.* }}, catch: [{{ raise: again }}] }}");
    assert_eq!(attempt(&nested, "[denied]", "{ log: x }").fault.as_deref(), Some("restrict_ip.refused"));
}

#[test]
fn the_block_leaves_nothing_behind_and_the_fault_can_be_read() {
    let block = format!("{{ set: {{ a: inside }} }}, {BREAK}");
    let catch = "{ set: { a: \"${a} ${fault.code} ${fault.status} ${fault.kind} ${fault.step ?? ''}\" } }";
    let outcome = attempt(&block, "broken", catch);
    assert_eq!(outcome.body, "before trial.broken.deep 503 broken raise");
    let mut line = String::new();
    outcome.record.write_line(&mut line);
    assert!(
        line.contains("\"caught\":[{\"step\":\"raise\",\"fault\":\"trial.broken.deep\",\"detail\":\"the cause\"}]"),
        "{line}"
    );
    assert_eq!(outcome.record.outcome, "sent");
}

#[test]
fn again_raises_what_was_caught() {
    let outcome = attempt(BREAK, "broken", "{ log: x }, { raise: again, when: request.method == 'GET' }");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (503, Some("trial.broken.deep")));
    assert_eq!(outcome.record.detail.as_deref(), Some("the cause"));
    assert_eq!(refusals("  - raise: again"), ["policy.not_in_catch"]);
}

#[test]
fn a_catch_inside_of_a_catch_gives_the_outer_fault_back() {
    let inner = format!("{{ try: [{DENY}, {BREAK}], catch: [{{ log: x }}] }}");
    let inner = inner.replace(&format!("{DENY}, "), "");
    let catch = format!("{inner}, {{ set: {{ a: \"${{fault.code}}\" }} }}");
    assert_eq!(attempt("{ raise: { status: 500, code: trial.outer } }", "broken", &catch).body, "trial.outer");
}

#[test]
fn in_on_fault_too() {
    let steps = format!(
        "  - raise: {{ status: 500, code: trial.outer }}\non_fault:\n  - try: [{BREAK}]\n    catch: [{{ set_headers: {{ x-inner: \"${{fault.code}}\" }} }}]\n  - set_headers: {{ x-outer: \"${{fault.code}}\" }}"
    );
    let outcome = Trial::of(&steps).get("/");
    assert_eq!(
        (outcome.header("x-inner"), outcome.header("x-outer")),
        (Some("trial.broken.deep"), Some("trial.outer"))
    );
}

#[test]
fn an_answer_inside_ends_the_pipeline() {
    let outcome =
        attempt("{ respond: { status: 202, text: inside }, when: request.method == 'GET' }", "broken", "{ log: x }");
    assert_eq!((outcome.status, outcome.body.as_str()), (202, "inside"));
    let outcome = attempt(BREAK, "broken", "{ respond: { status: 203, text: caught }, when: request.method == 'GET' }");
    assert_eq!((outcome.status, outcome.body.as_str()), (203, "caught"));
}

#[test]
fn a_request_that_is_too_large_is_caught_only_by_its_code() {
    let steps = |catches: &str| {
        format!(
            "  - try: {{ steps: [{{ limit_size: 2B }}], catches: {catches} }}\n    catch: [{{ log: x }}]\n  - respond: 204"
        )
    };
    let sent = |catches: &str| Trial::of(&steps(catches)).post_streamed("/", "abc");
    assert_eq!(sent("[denied]").fault.as_deref(), Some("limit_size.body"));
    let caught = sent("[limit_size.body]");
    assert_eq!((caught.status, caught.header("connection")), (204, Some("close")));
}

#[test]
fn what_not_all_ways_set_may_be_absent() {
    let load = |catch: &str, text: &str| {
        refusals(&format!(
            "  - try: [{{ set: {{ a: x, b: y }} }}]\n    catch: [{catch}]\n  - respond: {{ text: \"t ${{{text}}}\" }}"
        ))
    };
    assert!(load("{ set: { a: z } }", "a").is_empty());
    assert_eq!(load("{ set: { a: z } }", "b"), ["expr.may_be_absent"]);
    assert_eq!(load("{ log: \"t ${b}\" }", "a ?? ''"), ["expr.may_be_absent"], "inside of `catch` it may be absent");
    assert!(load("{ raise: again }", "b").is_empty(), "only the block gets here");
}

#[test]
fn mistakes_are_told_at_load() {
    assert_eq!(refusals("  - try: [{ log: x }]\n  - respond: 204"), ["policy.missing_parameter"]);
    assert_eq!(refusals("  - try: []\n    catch: [{ log: x }]\n  - respond: 204"), ["policy.empty_list"]);
    let catches = |catches: &str| {
        refusals(&format!(
            "  - try: {{ steps: [{{ log: x }}], catches: [{catches}] }}\n    catch: [{{ log: x }}]\n  - respond: 204"
        ))
    };
    assert!(catches("route.*, orders.mine").is_empty());
    assert_eq!(catches("everything"), ["policy.bad_value"]);
    assert_eq!(catches("route.conect"), ["policy.bad_value"]);
    assert_eq!(refusals("  - log: \"${fault.code}\"\n  - respond: 204"), ["expr.unknown_variable"]);
}

const TWICE: &str = "  - try: [{ route: http://127.0.0.1:9000 }, { raise: { status: 500, code: trial.no } }]\n    catch: [{ route: http://127.0.0.1:9001 }]\n";

#[test]
fn the_catch_may_send_the_same_body() {
    let outcome = Trial::of(TWICE).post_streamed("/", "abc");
    let sent: Vec<&str> = outcome.sent.iter().map(|sent| sent.body.as_str()).collect();
    assert_eq!((outcome.status, sent), (200, vec!["abc", "abc"]));
    assert_eq!(warnings(&service(TWICE)), ["policy.may_send_twice"]);
}

#[test]
fn a_response_of_the_block_is_taken_back() {
    let steps = TWICE.replace("{ route: http://127.0.0.1:9001 }", "{ respond: { text: \"x\" } }");
    assert_eq!(Trial::of(&steps).answering(&[], "from upstream").get("/").body, "x");
    let stop = TWICE.replace("{ route: http://127.0.0.1:9001 }", "stop");
    assert_eq!(refusals(&stop), ["policy.no_response"]);
}

#[test]
fn without_a_word_about_it_only_what_is_broken_is_caught() {
    let fault = |block: &str| {
        let steps = format!(
            "  - try: [{block}]\n    catch: [{{ audit: {{ message: \"${{fault.detail}}\" }} }}]\n  - respond: 204"
        );
        let outcome = Trial::of(&steps).get("/");
        (outcome.fault, outcome.record.message)
    };
    assert_eq!(fault(BREAK), (None, Some("the cause".into())), "and the pipeline goes on");
    assert_eq!(fault(DENY), (Some("trial.denied".into()), None));
}
