//! Alternatives: what is taken back, which fault is given, and what is known afterwards.

use crate::assertions::trial::{Trial, codes, refusals};

const PASS: &str =
    "  - respond: { json: { a: \"${a}\", path: \"${request.path}\", h: \"${request.headers.x_h ?? ''}\" } }";

#[test]
fn a_child_that_is_denied_leaves_nothing_behind() {
    let steps = format!(
        "  - set: {{ a: before }}\n  - any:\n      - all:\n          - set: {{ a: inside }}\n          - set_headers: {{ x-h: inside }}\n          \
         - rewrite: {{ path: /inside }}\n          - set_headers: {{ headers: {{ set: {{ x-left: inside }} }}, message: answer }}\n          \
         - raise: {{ status: 403, code: trial.no }}\n      - log: second\n{PASS}"
    );
    let steps = steps.replace(
        "- set_headers: { headers: { set: { x-left: inside } }, message: answer }",
        "- remove_headers: { names: [content-type], message: answer }",
    );
    let outcome = Trial::of(&steps).send("GET", "/x", &[("x-h", "client")], "");
    assert_eq!(outcome.body, "{\"a\":\"before\",\"path\":\"/x\",\"h\":\"client\"}");
    assert_eq!(outcome.header("content-type"), Some("application/json"), "the change of the answer is taken back");
}

#[test]
fn the_first_child_that_passes_wins_and_keeps_its_changes() {
    let steps = format!(
        "  - any:\n      - set: {{ a: one }}\n        when: request.query.n == '1'\n      - set: {{ a: two }}\n{PASS}"
    );
    let trial = Trial::of(&steps);
    assert!(trial.get("/?n=1").body.contains("\"a\":\"one\""));
    assert!(trial.get("/?n=2").body.contains("\"a\":\"two\""));
}

#[test]
fn children_that_failed_before_one_that_passed_are_recorded() {
    let steps = "  - any:\n      - raise: { status: 403, code: trial.a, detail: why }\n      - log: x\n        when: false == (1 == 1)\n      \
                 - raise: { status: 503, code: trial.b }\n      - log: second\n  - respond: 204";
    let outcome = Trial::of(steps).get("/");
    let caught: Vec<_> =
        outcome.record.caught.iter().map(|noted| (noted.code.as_str(), noted.detail.as_str())).collect();
    assert_eq!((outcome.status, caught), (204, vec![("trial.a", "why"), ("trial.b", "")]));
    let alone = Trial::of("  - any: [{ compare: request.method == 'GET' }, { log: second }]\n  - respond: 204");
    assert!(alone.get("/").record.caught.is_empty());
}

#[test]
fn a_child_whose_condition_does_not_hold_neither_wins_nor_fails() {
    let steps = "  - any:\n      - when: request.query.a == '1'\n        log: passed\n      - when: request.query.b == '1'\n        \
                 raise: { status: 422, code: trial.no }\n  - respond: 204";
    let trial = Trial::of(steps);
    let fault = |path: &str| trial.get(path).fault;
    assert_eq!(fault("/?a=1"), None);
    assert_eq!(fault("/?b=1").as_deref(), Some("trial.no"));
    assert_eq!(fault("/").as_deref(), Some("any.none"));
}

fn of_faults(faults: &[(u16, &str)]) -> (String, u16, String) {
    let children: String = faults
        .iter()
        .map(|(status, code)| format!("      - raise: {{ status: {status}, code: {code}, detail: about {code} }}\n"))
        .collect();
    let outcome = Trial::of(&format!("  - any:\n{children}")).get("/");
    (outcome.fault.unwrap(), outcome.status, outcome.record.detail.unwrap())
}

#[test]
fn what_could_not_be_answered_goes_before_a_refusal() {
    let (code, status, detail) = of_faults(&[(403, "trial.a"), (503, "trial.b"), (422, "trial.c")]);
    assert_eq!((code.as_str(), status), ("trial.b", 503));
    assert_eq!(detail, "about trial.b; also trial.a (about trial.a); also trial.c (about trial.c)");
    assert_eq!(of_faults(&[(403, "trial.a"), (422, "trial.c")]).0, "trial.c", "the last refusal");
}

#[test]
fn a_request_that_is_too_large_ends_it_at_once() {
    let steps = "  - any:\n      - limit_size: 2B\n      - log: second\n  - respond: 204";
    assert_eq!(Trial::of(steps).send("POST", "/", &[], "abc").fault.as_deref(), Some("limit_size.body"));
}

#[test]
fn a_status_of_the_policys_own_is_no_limit() {
    let steps = "  - any:\n      - raise: { status: 413, code: trial.large }\n      - log: second\n  - respond: 204";
    assert_eq!(Trial::of(steps).get("/").fault, None);
}

#[test]
fn a_body_that_is_no_json_is_a_reason_for_the_next_child() {
    let steps = "  - any:\n      - compare: (request.json.a ?? 1) == 1\n      - log: second\n  - respond: 204";
    assert_eq!(Trial::of(steps).send("POST", "/", &[("content-type", "application/json")], "{").fault, None);
    let large = "x".repeat(1024 * 1024 + 1);
    let outcome = Trial::of(steps).post_chunked("/", &large);
    assert_eq!((outcome.fault.as_deref(), outcome.header("connection")), (Some("body.too_large"), Some("close")));
}

#[test]
fn an_answer_that_cannot_be_read_is_a_reason_for_the_next_child() {
    let steps = "  - any:\n      - all: [{ route: http://127.0.0.1:9000 }, { limit_size: 2B }, { compare: response.text == 'x' }]\n      - respond: { text: second }\n";
    assert_eq!(Trial::of(steps).answering(&[], "large").get("/").body, "second");
}

#[test]
fn nested_alternatives_are_taken_back_to_where_each_began() {
    let no = "raise: { status: 403, code: trial.no }";
    let steps = format!(
        "  - set: {{ a: '0' }}\n  - any:\n      - all:\n          - set: {{ a: '1' }}\n          - any:\n              - all:\n                  \
         - set: {{ a: '2' }}\n                  - any:\n                      - all: [{{ set: {{ a: '3' }} }}, {{ {no} }}]\n                      \
         - set: {{ b: \"${{a}}\" }}\n                  - {no}\n              - set: {{ c: \"${{a}}\" }}\n          - compare: a == '1'\n          - {no}\n      \
         - set: {{ d: \"${{a}}\" }}\n  - respond: {{ text: \"${{a}} ${{d}}\" }}"
    );
    assert_eq!(Trial::of(&steps).get("/").body, "0 0");
}

#[test]
fn an_answer_inside_ends_the_pipeline() {
    let steps = "  - any:\n      - raise: { status: 403, code: trial.no }\n      - respond: { status: 202, text: inside }\n      - log: never\n  - respond: 500";
    let outcome = Trial::of(steps).get("/");
    assert_eq!((outcome.status, outcome.body.as_str()), (202, "inside"));
}

#[test]
fn what_every_winner_sets_is_there_and_the_rest_may_be_absent() {
    let any = |children: &str, text: &str| {
        refusals(&format!("  - any:\n{children}  - respond: {{ text: \"a ${{{text}}}\" }}"))
    };
    let both = "      - set: { a: one, b: two }\n        when: request.method == 'GET'\n      - set: { a: three }\n";
    assert!(any(both, "a").is_empty());
    assert_eq!(any(both, "b"), ["expr.may_be_absent"]);
    assert!(any(both, "b ?? ''").is_empty());
    let ended = "      - all:\n          - compare: request.method == 'GET'\n          - respond: 204\n      - set: { b: two }\n";
    assert!(any(ended, "b").is_empty(), "the child that answers does not get here");
}

#[test]
fn mistakes_are_told_at_load() {
    assert_eq!(refusals("  - any: []\n  - respond: 204"), ["policy.empty_list"]);
    let never = "  - any:\n      - log: always\n      - restrict_ip: [10.0.0.0/8]\n  - respond: 204";
    assert_eq!(refusals(never), ["policy.unreachable_step"]);
    let all_answer = "  - any:\n      - respond: 204\n      - respond: 205\n  - log: never";
    assert_eq!(refusals(all_answer), ["policy.unreachable_step"]);
}

const SENT: &str = "  - any:\n      - all: [{ route: http://127.0.0.1:9000 }, { compare: response.status == 500 }]\n      - route: http://127.0.0.1:9001\n";

#[test]
fn a_streamed_body_is_held_where_two_children_may_send_it() {
    let outcome = Trial::of(SENT).post_streamed("/", "abc");
    let sent: Vec<&str> = outcome.sent.iter().map(|sent| sent.body.as_str()).collect();
    assert_eq!((outcome.status, sent), (200, vec!["abc", "abc"]));
}

#[test]
fn a_body_too_large_to_be_held_is_sent_once() {
    let body = "x".repeat(1024 * 1024 + 1);
    let outcome = Trial::of(SENT).post_streamed("/", &body);
    assert_eq!((outcome.fault.as_deref(), outcome.sent.len()), (Some("body.not_replayable"), 1));
}

#[test]
fn two_sendings_are_worth_a_warning() {
    let warned = |yaml: &str| crate::assertions::trial::warnings(&crate::assertions::trial::service(yaml));
    assert_eq!(warned(SENT), ["policy.may_send_twice"]);
    assert!(codes(&crate::assertions::trial::service(SENT)).is_empty());
    let said = SENT.replace(
        "- route: http://127.0.0.1:9001",
        "- route: { to: http://127.0.0.1:9001, retry: { any_method: true } }",
    );
    assert!(warned(&said).is_empty());
    let once = "  - any:\n      - restrict_ip: [10.0.0.0/8]\n      - log: second\n  - route: http://127.0.0.1:9000";
    assert!(warned(once).is_empty());
}

#[test]
fn a_refusal_of_access_among_the_children_is_not_swallowed() {
    for order in
        [["restrict_ip: [10.0.0.0/8]", "compare: '1 == 2'"], ["compare: '1 == 2'", "restrict_ip: [10.0.0.0/8]"]]
    {
        let [one, two] = order;
        let any = format!("      - any:\n          - {one}\n          - {two}\n");
        let steps = format!(
            "  - try:\n      steps:\n{}      catches: [denied]\n    catch: [log: caught]\n  - respond: 204",
            any.replace("      - any", "        - any").replace("          - ", "            - ")
        );
        assert_eq!(Trial::of(&steps).get("/").status, 403, "{steps}");
    }
}

#[test]
fn effects_outside_stay_where_a_child_is_taken_back() {
    let steps = "  - any:\n      - all:\n          - limit_rate: { per: all, rate: 1/hour, headers: none }\n          - call_http: http://127.0.0.1:9100/asked\n          \
                 - audit: { message: noted }\n          - raise: { status: 403, code: trial.no }\n      - log: second\n  - respond: 204";
    let trial = Trial::of(steps);
    let first = trial.get("/");
    let caught = |outcome: &crate::assertions::trial::Outcome| outcome.record.caught[0].code.clone();
    assert_eq!((first.sent.len(), caught(&first).as_str()), (1, "trial.no"));
    assert_eq!(first.record.message.as_deref(), Some("noted"));
    assert_eq!(caught(&trial.get("/")), "limit_rate.exceeded", "the counter has kept what the child took");
}

#[test]
fn what_could_not_be_answered_goes_before_a_401_and_that_before_the_last_refusal() {
    let keys = "api_keys: partners\nentries: []\n---\n";
    let fault = |second: &str| {
        let steps =
            format!("  - any:\n      - authenticate_api_key: partners\n      - raise: {second}\n  - respond: 204");
        let outcome = Trial::of_set(&format!("{keys}{}", crate::assertions::trial::service(&steps))).get("/");
        (outcome.status, outcome.fault.unwrap_or_default())
    };
    assert_eq!(fault("{ status: 503, code: trial.down }"), (503, "trial.down".into()));
    assert_eq!(fault("{ status: 403, code: trial.no }"), (401, "authenticate_api_key.missing".into()));
}
