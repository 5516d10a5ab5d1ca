//! Rules that hold for every assertion: messages, origins, marks, `on_fault` and `finally`.

use super::{Trial, codes, refusals, service};
use crate::coding::{Deflater, Format, code};

const ROUTE: &str = "  - route: http://127.0.0.1:9000";
const SECRET: &str = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";

fn packed(format: Format, data: &[u8]) -> &'static [u8] {
    code(&mut Deflater::new(format, 6, false), bytes::Bytes::copy_from_slice(data)).unwrap().leak()
}

#[test]
fn a_step_that_reads_an_answer_sees_it_decoded() {
    let steps =
        format!("{ROUTE}\n  - set_headers: {{ x-read: \"${{response.json.a ?? 0}} ${{response.size ?? 0}}\" }}");
    for (coding, format) in [("gzip", Format::Gzip), ("X-Gzip", Format::Gzip), ("deflate", Format::Zlib)] {
        let fields = [("content-encoding", coding), ("etag", "\"1\""), ("content-digest", "x")];
        let outcome = Trial::of(&steps).answering_bytes(&fields, packed(format, b"{\"a\":7}")).get("/");
        assert_eq!((outcome.header("x-read"), outcome.body.as_str()), (Some("7 7"), "{\"a\":7}"), "{coding}");
        let left = ["content-encoding", "content-digest"].map(|name| outcome.header(name));
        assert_eq!((left, outcome.header("etag")), ([None, None], Some("W/\"1\"")));
    }
    // What no step reads goes on as it came.
    let outcome = Trial::of(ROUTE).answering_bytes(&[("content-encoding", "gzip")], b"packed").get("/");
    assert_eq!((outcome.header("content-encoding"), outcome.body.as_str()), (Some("gzip"), "packed"));
}

#[test]
fn a_coding_that_cannot_be_undone_is_told() {
    let steps = format!("{ROUTE}\n  - set: {{ a: \"${{response.text}}\" }}");
    let bomb = packed(Format::Gzip, &vec![b' '; 1024 * 1024 + 1]);
    for (coding, body) in [("br", &b"x"[..]), ("gzip", b"no gzip"), ("gzip, gzip", b"x"), ("gzip", bomb)] {
        let outcome = Trial::of(&steps).answering_bytes(&[("content-encoding", coding)], body).get("/");
        assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("body.encoded")), "{coding}");
    }
    // A request is never inflated unasked: its sender would choose what that costs.
    let steps = "  - set: { a: \"${request.text}\" }\n  - respond: 204";
    let outcome = Trial::of(steps).send_bytes("POST", "/", &[("content-encoding", "gzip")], packed(Format::Gzip, b"x"));
    assert_eq!((outcome.status, outcome.fault.as_deref()), (415, Some("body.encoded")));
}

#[test]
fn a_message_is_the_request_before_the_route_and_the_response_behind_it() {
    let set = |when: &str, more: &str| format!("  - set_headers: {{ headers: {{ x-set: {when} }}{more} }}\n");
    let steps = [
        set("before", ""),
        format!("{ROUTE}\n"),
        set("behind", ""),
        "  - set_body: { text: again, message: request }\n".into(),
        ROUTE.into(),
        "\n  - set_headers: { x-last: \"${response.text}\" }".into(),
    ];
    let outcome = Trial::of(&steps.concat()).answering(&[], "up").send("POST", "/", &[], "first");
    let sent: Vec<&str> = outcome.sent.iter().map(|sent| sent.body.as_str()).collect();
    assert_eq!((sent, outcome.sent_header("x-set")), (vec!["first", "again"], Some("before")));
    assert_eq!((outcome.header("x-set"), outcome.header("x-last")), (None, Some("up")), "the second answer is another");
    let steps = "  - raise: { status: 403, code: trial.no }\non_fault:\n  - set_headers: { x-set: fault }\n  - set_body: { text: ours }";
    let outcome = Trial::of(steps).get("/");
    assert_eq!((outcome.status, outcome.header("x-set"), outcome.body.as_str()), (403, Some("fault"), "ours"));
}

#[test]
fn what_is_mixed_is_the_clients() {
    let set = |value: &str| {
        let steps = format!("{ROUTE}\n  - set: {{ n: {{ value: \"{value}\", type: int }} }}");
        let outcome = Trial::of(&steps).answering(&[], "up").get("/?a=b");
        (outcome.status, outcome.fault.unwrap_or_default())
    };
    assert_eq!(set("${response.text}${service.name}"), (502, "set.type".into()));
    assert_eq!(set("${response.text}${request.query.a ?? ''}"), (400, "set.type".into()));
    assert_eq!(set("x${service.name}"), (500, "set.type".into()));
}

#[test]
fn a_secret_goes_upstream_in_a_field_and_nowhere_else() {
    let with = |steps: &str| codes(&format!("{SECRET}{}", service(steps)));
    let secret = "${secret('partner')}";
    assert!(with(&format!("  - set_headers: {{ x-key: \"{secret}\" }}\n{ROUTE}")).is_empty());
    for leak in [
        format!("{ROUTE}\n  - set_headers: {{ x-key: \"{secret}\" }}"),
        format!("  - set_headers: {{ message: answer, headers: {{ x-key: \"{secret}\" }} }}\n{ROUTE}"),
        format!("{ROUTE}\n  - set_body: {{ text: \"{secret}\" }}"),
        format!("  - respond: {{ headers: {{ x-key: \"{secret}\" }} }}"),
        format!("  - redirect: \"/a?k={secret}\""),
        format!("  - raise: {{ status: 403, code: trial.no, text: \"{secret}\" }}"),
        format!("  - audit: {{ fields: {{ a: \"{secret}\" }} }}\n{ROUTE}"),
        format!("  - log: {{ message: a, fields: {{ a: \"{secret}\" }} }}\n{ROUTE}"),
        format!("  - count_metric: {{ name: a, labels: {{ a: \"{secret}\" }} }}\n{ROUTE}"),
        format!(
            "  - set: {{ a: \"{secret}\" }}\n  - {{ encode: {{ value: \"${{a}}\", encoding: hex }}, as: b }}\n  - respond: {{ text: \"${{b.value}}\" }}"
        ),
    ] {
        assert_eq!(with(&leak), ["policy.secret_leak"], "{leak}");
    }
}

#[test]
fn a_token_may_go_to_the_client_and_is_a_hash_in_every_record() {
    let steps = "  - audit: { message: \"of ${request.cookies.s ?? ''}\", fields: { a: \"${upper(request.headers.authorization ?? '')}\" } }
  - respond: { text: \"${request.headers.authorization ?? ''}\" }";
    let outcome = Trial::of(steps).send("GET", "/", &[("authorization", "Bearer zebra"), ("cookie", "s=zebra")], "");
    assert_eq!(outcome.body, "Bearer zebra");
    let mut line = String::new();
    outcome.record.write_line(&mut line);
    assert!(line.contains("of #") && !line.to_lowercase().contains("zebra"), "{line}");
}

#[test]
fn on_fault_shapes_the_answer_and_a_fault_in_it_yields_the_plain_one() {
    let steps = "  - set: { a: \"1\" }\n  - raise: { status: 422, code: trial.no, text: why }\non_fault:\n";
    let with = |more: &str| Trial::of(&format!("{steps}{more}")).get("/?x=y");
    let plain = with("  - log: seen");
    assert_eq!((plain.status, plain.header("content-type")), (422, Some("application/problem+json")));
    let shown = with(
        "  - respond: { status: 418, json: { was: \"${answer.status}\", code: \"${response.json.code}\", a: \"${a}\" } }",
    );
    assert_eq!((shown.status, shown.body.as_str()), (418, r#"{"was":422,"code":"trial.no","a":"1"}"#));
    let broken = with("  - set_headers: { x-first: \"1\" }\n  - raise: { status: 500, code: trial.again }");
    assert_eq!((broken.status, broken.header("x-first")), (422, None));
    assert!(broken.body.contains("\"trial.no\"") && broken.body.contains("why"), "{}", broken.body);
}

#[test]
fn behind_a_fault_nothing_that_a_step_sets_is_sure() {
    for tail in ["on_fault", "finally"] {
        let reads = |what: &str| format!("{tail}:\n  - audit: {{ message: \"of ${{{what}}}\" }}");
        let steps = "  - set: { a: \"1\" }\n  - respond: 204\n";
        assert_eq!(refusals(&format!("{steps}{}", reads("upper(a)"))), ["expr.may_be_absent"], "{tail}");
        assert!(refusals(&format!("{steps}{}", reads("a ?? ''"))).is_empty());
        let keys = "api_keys: partners\nentries: []\n---\n";
        let steps = "  - authenticate_api_key: partners\n  - respond: 204\n";
        let set = |what: &str| codes(&format!("{keys}{}", service(&format!("{steps}{}", reads(what)))));
        assert_eq!(set("upper(auth.subject)"), ["expr.may_be_absent"], "{tail}");
        assert!(set("auth.subject ?? 'nobody'").is_empty());
    }
}

#[test]
fn finally_changes_nothing_and_records_its_own_faults() {
    let steps = "  - respond: { status: 201, text: made }\nfinally:\n  - set: { n: { value: \"${request.query.n ?? 'x'}\", type: int } }\n  \
                 - audit: { message: \"${answer.status ?? 0} ${answer.size ?? 0} ${n ?? 0}\" }";
    let outcome = Trial::of(&steps.replace(" ${n ?? 0}", "")).get("/");
    assert_eq!((outcome.status, outcome.body.as_str(), outcome.fault), (201, "made", None));
    let outcome = Trial::of(steps).get("/?n=7");
    assert_eq!((outcome.record.message.as_deref(), outcome.record.caught.len()), (Some("201 4 7"), 0));
    let outcome = Trial::of(steps).get("/");
    let caught = &outcome.record.caught[0];
    assert_eq!(
        (caught.code.as_str(), caught.step.as_deref(), outcome.record.outcome),
        ("set.type", Some("set"), "sent")
    );
    // What comes behind the fault runs all the same, and a condition that breaks is one too.
    assert_eq!(outcome.record.message.as_deref(), Some("201 4 0"));
    let breaks = "  - respond: 204\nfinally:\n  - when: request.json.a == 1\n    audit: { message: seen }";
    let outcome = Trial::of(breaks).send("POST", "/", &[], "{\"a\":\"x\"}");
    assert_eq!((outcome.record.message, outcome.record.caught[0].code.as_str()), (None, "expression.type"));
}
