//! Operators' assertions: what goes in, what comes out, what stays inside.

use super::{Trial, codes, service};

/// A set of an assertion (its document without the first line) and a service that uses it.
fn set(assertion: &str, steps: &str) -> String {
    format!("assertion: own\n{assertion}\n---\n{}", service(steps))
}

#[test]
fn an_assertion_reads_its_inputs_and_gives_its_outputs() {
    let own = "inputs: { a: { type: string, required: true }, n: { type: int, default: 2 } }\noutputs: { sum: int }\n\
               policy:\n  - set: { sum: \"${input.n + len(input.a)}\" }";
    let steps = "  - own: { a: \"${request.query.a ?? 'none'}\" }\n  - { own: { a: x, n: 40 }, as: second }\n  \
                 - respond: { text: \"${own.sum} ${second.sum}\" }";
    let trial = Trial::of_set(&set(own, steps));
    assert_eq!(trial.get("/?a=abc").body, "5 41");
    assert_eq!(trial.get("/").body, "6 41");
}

#[test]
fn two_ways_that_use_it_set_the_same_variable() {
    let own = "inputs: { a: { type: string, required: true } }\noutputs: { b: string }\n\
               policy: [set: { b: \"<${input.a}>\" }]";
    let steps = "  - if: request.method == 'GET'\n    then: [own: read]\n    else: [own: \"${request.method}\"]\n  \
                 - respond: { text: \"${own.b}\" }";
    let trial = Trial::of_set(&set(own, steps));
    assert_eq!(trial.get("/").body, "<read>");
    assert_eq!(trial.send("PUT", "/", &[], "").body, "<PUT>");
}

#[test]
fn what_it_sets_stays_inside_and_what_the_caller_set_stays_outside() {
    let own = "inputs: { a: { type: string, required: true } }\noutputs: { b: string }\n\
               policy: [set: { tries: \"${input.a}\", b: \"${tries}\" }]";
    let steps = "  - set: { tries: mine }\n  - own: theirs\n  - respond: { text: \"${tries} ${own.b}\" }";
    assert_eq!(Trial::of_set(&set(own, steps)).get("/").body, "mine theirs");
    assert_eq!(codes(&set(own, "  - own: x\n  - respond: { text: \"${tries}\" }")), ["expr.unknown_variable"]);
    let reads = "policy: [log: \"${tries}\"]";
    assert_eq!(codes(&set(reads, "  - set: { tries: a }\n  - own\n  - respond: 204")), ["expr.unknown_variable"]);
    let reads = "policy: [log: \"${path.rest}\"]";
    assert_eq!(codes(&set(reads, "  - own\n  - respond: 204")), ["expr.unknown_variable"]);
    let tail = "policy:\n  - own: x\n  - respond: 204\non_fault:\n  - log: \"${tries ?? ''}\"";
    let whole = format!("assertion: own\n{own}\n---\nservice: a\nmatch: {{ path: /a }}\n{tail}");
    assert_eq!(codes(&whole), ["expr.unknown_variable"]);
}

#[test]
fn an_identity_inside_does_not_become_the_callers() {
    let keys = "api_keys: partners\nentries: []\n---\n";
    let own = "outputs: { who: string }\npolicy:\n  - authenticate_api_key: partners\n  \
               - set: { who: \"${auth.subject}\" }";
    let reads =
        |what: &str| codes(&format!("{keys}{}", set(own, &format!("  - own\n  - respond: {{ text: \"{what}\" }}"))));
    assert!(reads("${own.who}").is_empty());
    assert_eq!(reads("${auth.subject}"), ["policy.no_identity"]);
}

#[test]
fn absent_and_wrong_values_are_faults_of_who_sent_them() {
    let own = "inputs:\n  a: { type: string, required: true }\n  mode: { type: string, one_of: [x, y], default: x }\n  \
               n: { type: int, absent: allowed }\noutputs: { n: int? }\n\
               policy:\n  - when: exists(input.n)\n    set: { n: \"${(input.n ?? 0) + 1}\" }";
    let steps = "  - own: { a: \"${request.query.a}\", mode: \"${request.query.mode ?? 'x'}\", n: \"${request.json.n}\" }\n  \
                 - respond: { text: \"${own.n ?? 0}\" }";
    let trial = Trial::of_set(&set(own, steps));
    let post = |path: &str, body: &'static str| {
        let outcome = trial.send("POST", path, &[("content-type", "application/json")], body);
        (outcome.status, outcome.fault.unwrap_or(outcome.body))
    };
    assert_eq!(post("/?a=1", "{}"), (200, "0".into()));
    assert_eq!(post("/?a=1", "{\"n\": 4}"), (200, "5".into()));
    assert_eq!(post("/?a=1", "{\"n\": \"4\"}"), (400, "own.input".into()));
    assert_eq!(post("/?a=1&mode=z", "{}"), (400, "own.input".into()));
    assert_eq!(post("/", "{}"), (400, "own.absent".into()));
}

#[test]
fn lists_and_mappings_go_in_with_values_in_them() {
    let own = "inputs:\n  texts: { type: list<string>, required: true }\n  all: { type: list, default: [1, true] }\n  \
               tree: { type: map, default: { a: b } }\n  any: { type: json, default: 1 }\noutputs: { out: json }\n\
               policy:\n  - set: { out: { texts: \"${input.texts}\", all: \"${input.all}\", tree: \"${input.tree}\", any: \"${input.any}\" } }";
    let own = own.replace("outputs: { out: json }", "outputs: { out: map }");
    let steps = "  - own: { texts: [no, \"${request.method}\"], all: [1, \"${request.port}\"], tree: { m: \"${request.method}\" } }\n  \
                 - { own: [0123], as: second }\n  - respond: { json: [\"${own.out}\", \"${second.out}\"] }";
    let outcome = Trial::of_set(&set(&own, steps)).get("/");
    let json: serde_json::Value = serde_json::from_str(&outcome.body).unwrap();
    assert_eq!(json[0]["texts"], serde_json::json!(["no", "GET"]), "{outcome:?}");
    assert_eq!((&json[0]["all"][0], &json[0]["tree"]["m"], &json[0]["any"]), (&1.into(), &"GET".into(), &1.into()));
    assert_eq!(json[1]["texts"], serde_json::json!(["0123"]));
    assert_eq!(json[1]["all"], serde_json::json!([1, true]));
}

#[test]
fn stop_leaves_the_assertion_and_not_the_pipeline() {
    let own = "inputs: { a: { type: string, required: true } }\noutputs: { how: string }\npolicy:\n  \
               - set: { how: early }\n  - when: input.a == 'stop'\n    stop:\n  \
               - if: input.a == 'deep'\n    then:\n      - set: { how: deep }\n      - stop\n  \
               - set: { how: late }";
    let steps = "  - own: \"${request.query.a ?? ''}\"\n  - respond: { text: \"${own.how}\" }";
    let trial = Trial::of_set(&set(own, steps));
    assert_eq!(trial.get("/?a=stop").body, "early");
    assert_eq!(trial.get("/?a=deep").body, "deep");
    assert_eq!(trial.get("/").body, "late");
    let unset = own.replace("- set: { how: early }\n", "- set: { other: early }\n");
    assert_eq!(codes(&set(&unset, steps)), ["policy.output_unset"]);
}

#[test]
fn marks_of_a_value_travel_in_and_out() {
    let secret = "secret: s\nfrom: { env: PARTNER_SECRET }\n---\n";
    let codes = |own: &str, steps: &str| codes(&format!("{secret}{}", set(own, steps)));
    let shows = "inputs: { a: { type: string, required: true } }\npolicy: [log: \"${input.a}\"]";
    assert_eq!(codes(shows, "  - own: \"${secret('s')}\"\n  - respond: 204"), ["policy.secret_leak"]);
    assert!(codes(shows, "  - own: \"${request.method}\"\n  - respond: 204").is_empty());
    let passes = "inputs: { a: { type: string, required: true } }\noutputs: { b: string }\n\
                  policy: [set: { b: \"<${input.a}>\" }]";
    assert_eq!(
        codes(passes, "  - own: \"${secret('s')}\"\n  - respond: { text: \"${own.b}\" }"),
        ["policy.secret_leak"]
    );
    let mixed = "  - set: { x: \"${secret('s')} of ${request.method}\" }\n  - own: \"${x}\"\n  - respond: { text: \"${own.b}\" }";
    assert_eq!(codes(passes, mixed), ["policy.secret_leak"]);
}

#[test]
fn codes_begin_with_the_name_inside_and_nowhere_else() {
    let raise = |code: &str| format!("policy: [raise: {{ status: 403, code: {code} }}]");
    assert!(codes(&set(&raise("own.no"), "  - own")).is_empty());
    assert_eq!(codes(&set(&raise("other.no"), "  - own")), ["policy.reserved_code"]);
    let outside = "  - own\n  - raise: { status: 403, code: own.no }";
    assert_eq!(codes(&set("policy: [log: a]", outside)), ["policy.reserved_code"]);
}

#[test]
fn assertions_use_assertions_but_never_themselves() {
    let inner = "assertion: inner\ninputs: { a: { type: string, required: true } }\noutputs: { b: string }\n\
                 policy: [set: { b: \"[${input.a}]\" }]\n---\n";
    let own = "inputs: { a: { type: string, required: true } }\noutputs: { b: string }\n\
               policy:\n  - inner: \"${input.a}1\"\n  - { inner: \"${inner.b}2\", as: twice }\n  - set: { b: \"${twice.b}\" }";
    let steps = "  - own: \"${request.method}\"\n  - respond: { text: \"${own.b}\" }";
    assert_eq!(Trial::of_set(&format!("{inner}{}", set(own, steps))).get("/").body, "[[GET1]2]");
    assert_eq!(codes(&set("policy: [own]", "  - respond: 204")), ["policy.assertion_cycle"]);
    let two = format!("assertion: other\npolicy: [own]\n---\n{}", set("policy: [other]", "  - own\n  - respond: 204"));
    assert_eq!(codes(&two), ["policy.assertion_cycle"; 2]);
    let chain: String = (0..40).map(|n| format!("assertion: a{n}\npolicy: [a{}]\n---\n", n + 1)).collect();
    let chain = format!("{chain}assertion: a40\npolicy: [log: end]\n---\n{}", service("  - respond: 204"));
    assert!(codes(&chain).iter().all(|code| *code == "policy.nested_too_deep"), "{:?}", codes(&chain));
}

#[test]
fn what_reads_the_response_stands_behind_a_route() {
    let own = "policy:\n  - when: response.status == 200\n    set_headers: { message: response, headers: { x-good: \"yes\" } }";
    let before = "  - own\n  - route: http://127.0.0.1:9000";
    assert_eq!(codes(&set(own, before)), ["policy.no_response"]);
    let behind = "  - route: http://127.0.0.1:9000\n  - own";
    assert_eq!(Trial::of_set(&set(own, behind)).get("/").header("x-good"), Some("yes"));
}

#[test]
fn a_broken_declaration_is_reported_once() {
    let own = "inputs: { a: { type: strng } }\npolicy: [log: \"${input.a ?? ''}\"]";
    assert_eq!(codes(&set(own, "  - own: { a: 1 }\n  - own\n  - respond: 204")), ["policy.bad_value"]);
    assert_eq!(codes(&set("polcy: []", "  - own")), ["policy.unknown_key"]);
    let inside = "policy: [log: \"${request.methd}\"]";
    assert_eq!(codes(&set(inside, "  - own\n  - own\n  - respond: 204")), ["expr.unknown_variable"]);
}

#[test]
fn it_records_in_finally_where_its_values_are_there() {
    let own = "inputs: { a: { type: string, required: true } }\npolicy:\n  - audit: { fields: { a: \"${input.a}\" } }";
    let whole = format!(
        "assertion: own\n{own}\n---\n{}finally:\n  - own: \"${{request.query.a}}\"\n  - audit: {{ fields: {{ b: end }} }}\n",
        service("  - respond: 204")
    );
    let trial = Trial::of_set(&whole);
    let fields =
        |path: &str| trial.get(path).record.fields.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(fields("/?a=1"), ["a", "b"]);
    assert_eq!(fields("/"), ["b"], "an absent input leaves its steps out");
}

#[test]
fn variables_of_many_uses_never_share_a_place() {
    let sets: String = (0..40).map(|n| format!("v{n}: a, ")).collect();
    let own = format!("policy: [set: {{ {} }}]", sets.trim_end_matches(", "));
    assert_eq!(
        codes(&set(&own, &format!("{}  - respond: 204", "  - own\n".repeat(1600)))),
        ["policy.too_many_variables"]
    );
}

#[test]
fn a_comparison_inside_denies_with_a_code_of_the_assertion() {
    let own = "inputs: { a: { type: string, required: true } }\n\
               policy: [compare: { left: \"${input.a}\", op: eq, right: x, code: CODE }]";
    let steps = "  - own: \"${request.query.a ?? ''}\"\n  - respond: 204";
    let trial = Trial::of_set(&set(&own.replace("CODE", "own.other"), steps));
    assert_eq!(trial.get("/?a=y").fault.as_deref(), Some("own.other"));
    assert_eq!(trial.get("/?a=x").status, 204);
    assert_eq!(codes(&set(&own.replace("CODE", "orders.other"), steps)), ["policy.reserved_code"]);
}
