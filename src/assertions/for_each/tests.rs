//! Rounds, their bounds, and what stays after them.

use crate::assertions::trial::{Trial, refusals};

fn answer(steps: &str, text: &str, body: &'static str) -> (Option<String>, String) {
    let outcome = Trial::of(&format!("{steps}\n  - respond: {{ text: \"{text}\" }}")).send("POST", "/", &[], body);
    (outcome.fault, outcome.body)
}

const SUM: &str = "  - set: { total: { value: 0, type: int } }\n  - for_each: { in: \"request.json.n ?? []\", limit: 5 }\n    do:\n      \
                   - set: { total: { value: \"${total + int(item ?? 0)}\", type: int } }\n        when: item_index != 1";

#[test]
fn rounds_see_what_the_round_before_has_left() {
    assert_eq!(answer(SUM, "${total}", "{\"n\":[1,2,4]}").1, "5");
    assert_eq!(answer(SUM, "${total}", "{\"n\":[]}").1, "0");
    assert_eq!(answer(SUM, "${total}", "{}").1, "0");
    assert_eq!(answer(SUM, "${total}", "{\"n\":[1,1,1,1,1,1]}").0.as_deref(), Some("for_each.too_many"));
    assert_eq!(answer(SUM, "${total}", "{\"n\":{}}").0.as_deref(), Some("for_each.not_a_list"));
}

#[test]
fn loops_stand_in_loops_and_in_frames() {
    let steps = "  - any:\n      - for_each: { item: row, in: \"request.json.rows ?? []\", limit: 9, collect: { firsts: row_index } }\n        do:\n          \
                 - for_each: { item: cell, in: \"row ?? []\", limit: 9, collect: { cells: \"string(cell ?? '')\" } }\n            do:\n              \
                 - compare: { condition: \"cell != 'bad'\" }\n          - set: { seen: \"${join(cells, '-')}\" }\n      - set: { firsts: [], seen: undone }";
    let text = "${seen ?? 'none'} ${len(firsts)}";
    assert_eq!(answer(steps, text, "{\"rows\":[[\"a\"],[\"b\",\"c\"]]}").1, "b-c 2");
    assert_eq!(answer(steps, text, "{\"rows\":[[\"a\"],[\"bad\"]]}").1, "undone 0");
}

#[test]
fn a_round_may_catch_its_own_fault() {
    let steps = "  - for_each: { in: \"split('a,bad,c', ',')\", limit: 9, collect: { ok: passed } }\n    do:\n      - set: { passed: \"yes\" }\n      \
                 - try: { steps: [{ compare: \"item != 'bad'\" }], catches: [denied] }\n        catch: [{ set: { passed: \"no\" } }]";
    assert_eq!(answer(steps, "${join(ok, ' ')}", "").1, "yes no yes");
}

#[test]
fn many_rounds_let_others_run_and_end() {
    let steps = "  - set: { n: { value: 0, type: int } }\n  - for_each: { in: \"request.json\", limit: 10000 }\n    do:\n      - set: { n: { value: \"${n + 1}\", type: int } }";
    let body: &'static str = Box::leak(format!("[{}1]", "1,".repeat(9_999)).into_boxed_str());
    assert_eq!(answer(steps, "${n}", body).1, "10000");
}

#[test]
fn an_answer_inside_ends_the_pipeline() {
    let steps = "  - for_each: { in: \"split('a,b', ',')\", limit: 9 }\n    do:\n      - respond: { text: \"${item}\" }\n        when: item == 'b'";
    assert_eq!(answer(steps, "after", "").1, "b");
}

#[test]
fn what_only_rounds_set_may_be_absent_and_the_item_is_gone() {
    let load = |body: &str, text: &str| {
        refusals(&format!(
            "  - for_each: {{ in: \"split('a', ',')\", limit: 9, collect: {{ all: item }} }}\n    do: [{body}]\n  - respond: {{ text: \"t ${{{text}}}\" }}"
        ))
    };
    let set = "{ set: { a: \"${item}\" } }";
    assert!(load(set, "join(all, '')").is_empty() && load(set, "a ?? ''").is_empty());
    assert_eq!(load(set, "a"), ["expr.may_be_absent"]);
    assert_eq!(load(set, "item"), ["expr.unknown_variable"]);
    assert_eq!(load(set, "item_index"), ["expr.unknown_variable"]);
    // The second round sees what the first has left.
    assert!(load("{ log: \"t ${a ?? 'none'}\" }, { set: { a: b } }", "1").is_empty());
}

#[test]
fn a_secret_of_one_round_does_not_leak_in_the_next() {
    let steps = "  - set: { a: plain }\n  - for_each: { in: \"split('a,b', ',')\", limit: 9 }\n    do:\n      - log: \"${a}\"\n      - set: { a: \"${secret('s')}\" }\n  - respond: 204";
    let yaml = format!("secret: s\nfrom: {{ env: PARTNER_SECRET }}\n---\n{}", crate::assertions::trial::service(steps));
    assert_eq!(crate::assertions::trial::codes(&yaml), ["policy.secret_leak"]);
}

#[test]
fn mistakes_are_told_at_load() {
    let load = |params: &str, body: &str| {
        refusals(&format!("  - for_each: {{ {params} }}\n    do: [{body}]\n  - respond: 204"))
    };
    let list = "in: \"split('a', ',')\"";
    assert!(load(&format!("{list}, limit: 9"), "{ log: x }").is_empty());
    assert_eq!(load(&format!("{list}, limit: 0"), "{ log: x }"), ["policy.bad_value"]);
    assert_eq!(load(&format!("{list}, limit: 10001"), "{ log: x }"), ["policy.bad_value"]);
    assert_eq!(load(list, "{ log: x }"), ["policy.missing_parameter"]);
    assert_eq!(load(&format!("{list}, limit: 9, item: request"), "{ log: x }"), ["policy.reserved_name"]);
    assert_eq!(load("in: request.path, limit: 9", "{ log: x }"), ["policy.wrong_type"]);
    assert_eq!(load("in: request.query.a.all, limit: 9", "{ log: x }"), ["expr.may_be_absent"]);
    assert_eq!(load(&format!("{list}, limit: 9"), "{ route: http://127.0.0.1:9000 }"), ["policy.route_in_loop"]);
    assert_eq!(load(&format!("{list}, limit: 9"), ""), ["policy.empty_list"]);
    let twice = format!("{{ for_each: {{ {list}, limit: 9 }}, do: [{{ log: x }}] }}");
    assert_eq!(
        load(&format!("{list}, limit: 9"), &twice),
        ["policy.reserved_name"],
        "the inner item has the same name"
    );
}

#[test]
fn a_list_that_is_too_long_runs_no_round_and_faults_are_by_origin() {
    let steps = "  - route: http://127.0.0.1:9000\n  - for_each: { in: \"response.json.n ?? []\", limit: 2 }\n    do:\n      - audit: { fields: { seen: \"${item_index}\" } }";
    let sent = |body| {
        let outcome = Trial::of(steps).answering(&[], body).get("/");
        (outcome.status, outcome.fault.unwrap_or_default(), outcome.record.fields.len())
    };
    assert_eq!(sent("{\"n\":[1,2]}"), (200, String::new(), 1));
    assert_eq!(sent("{\"n\":[1,2,3]}"), (502, "for_each.too_many".into(), 0));
    assert_eq!(sent("{\"n\":7}"), (502, "for_each.not_a_list".into(), 0));
    let fault = "  - for_each: { in: \"split('a,b,c', ',')\", limit: 9 }\n    do:\n      - audit: { fields: { seen: \"${item}\" } }\n      - raise: { status: 422, code: trial.no }\n        when: item == 'b'\n  - respond: 204";
    let outcome = Trial::of(fault).get("/");
    assert_eq!((outcome.fault.as_deref(), &outcome.record.fields[0].1), (Some("trial.no"), &"b".into()));
}
