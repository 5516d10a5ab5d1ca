//! What `call_http` sends, what it takes, and what does not load.

use crate::assertions::trial::{Trial, refusals, refusals_of, warnings};

const CALL: &str = "  - call_http: http://127.0.0.1:9100/a";
const ROUTE: &str = "  - route: http://127.0.0.1:9000";
const SECRET: &str = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\n";

/// A service of one call with these parameters.
fn calling(params: &str) -> String {
    format!("  - call_http: {{ to: \"http://127.0.0.1:9100/a\", {params} }}\n  - respond: 204")
}

fn with_secret(params: &str) -> Vec<&'static str> {
    let service = "service: trial\nmatch: { path: / }\npolicy:\n";
    refusals_of(&format!("{SECRET}{service}  - call_http: {{ {params} }}\n  - respond: 204\n"))
}

#[test]
fn nothing_of_the_clients_request_is_sent_unless_it_is_written() {
    let trial = Trial::of(&format!("{CALL}\n{ROUTE}"));
    let fields = [("authorization", "Bearer t"), ("cookie", "a=b"), ("x-a", "b"), ("content-type", "text/plain")];
    let outcome = trial.send("POST", "/x?y=1", &fields, "body");
    let sent = &outcome.sent[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str(), sent.body.as_str()), ("GET", "/a", ""));
    let names: Vec<&str> = sent.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["accept-encoding"]);
    assert_eq!((outcome.sent[1].target.as_str(), outcome.sent[1].body.as_str()), ("/x?y=1", "body"));
}

#[test]
fn an_origin_without_a_path_is_asked_for_its_root() {
    for to in ["http://127.0.0.1:9100", "http://127.0.0.1:9100/"] {
        let outcome = Trial::of(&format!("  - call_http: {to}\n{ROUTE}")).get("/x?y=1");
        assert_eq!(outcome.sent[0].target, "/", "{to}");
    }
}

#[test]
fn body_and_fields_are_made_from_the_request() {
    let call = "method: PUT, json: { a: \"${request.query.a}\" }, headers: { x-a: \"${request.query.a}\" }";
    let outcome = Trial::of(&calling(call)).get("/?a=1%22");
    assert_eq!(outcome.sent[0].body, r#"{"a":"1\""}"#);
    assert_eq!(outcome.sent_header("content-type"), Some("application/json"));
    assert_eq!(outcome.sent_header("x-a"), Some("1\""));
    let outcome = Trial::of(&calling("headers: { x-a: \"${request.query.a}\" }")).get("/?a=1%0d%0ax-b:%20c");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("call_http.bad_value")));
    assert!(outcome.sent.is_empty());
    let path = "  - call_http: \"http://127.0.0.1:9100/${request.query.a}/b\"\n  - respond: 204";
    let outcome = Trial::of(path).get("/?a=..");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("call_http.bad_path")));
    let outcome = Trial::of(path).get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("call_http.absent")));
}

#[test]
fn the_answer_is_there_with_its_types() {
    let show = "  - respond: { json: { status: \"${called.status}\", type: \"${called.headers['content-type']}\", \
                body: \"${called.body}\", a: \"${called.json.a}\" } }";
    let trial = Trial::of(&format!("{CALL}\n{show}"));
    let trial = trial.answering(&[("content-type", "application/json")], r#"{"a":[1]}"#);
    let shown = r#"{"status":200,"type":"application/json","body":"{\"a\":[1]}","a":[1]}"#;
    assert_eq!(trial.get("/").body, shown);
}

#[test]
fn a_body_that_is_no_json_has_none() {
    let steps = format!("{CALL}\n  - respond: {{ json: {{ a: \"${{called.json}}\" }} }}");
    for (headers, body) in [(vec![], "{"), (vec![], ""), (vec![("content-encoding", "br")], "{}")] {
        assert_eq!(Trial::of(&steps).answering(&headers, body).get("/").body, r#"{"a":null}"#, "{body}");
    }
}

#[test]
fn what_counts_as_success_is_the_policys_to_say() {
    let trial = || Trial::of(&calling("success_when: \"answer.json.active == true && answer.headers['x-a'] == 'b'\""));
    assert_eq!(trial().answering(&[("x-a", "b")], r#"{"active":true}"#).get("/").status, 204);
    let outcome = trial().answering(&[("x-a", "b")], r#"{"active":"yes"}"#).get("/");
    assert_ne!(outcome.status, 204);
    let outcome = trial().answering(&[("x-a", "c")], r#"{"active":true}"#).get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("call_http.unsuccessful")));
    assert_eq!(refusals(&calling("success_when: response.status == 200")), ["policy.no_response"]);
    assert_eq!(refusals(&calling("success_when: answer.target == 'a'")), ["expr.unknown_variable"]);
}

#[test]
fn the_response_stays_what_it_is() {
    let steps = format!("{ROUTE}\n{CALL}\n  - set_headers: {{ x-called: \"${{called.status}}\" }}");
    let outcome = Trial::of(&steps).answering(&[("x-up", "1")], "up").get("/");
    assert_eq!((outcome.status, outcome.body.as_str()), (200, "up"));
    assert_eq!((outcome.header("x-up"), outcome.header("x-called")), (Some("1"), Some("200")));
}

#[test]
fn an_answer_is_bounded() {
    let outcome = Trial::of(&calling("max_answer: 3B")).answering(&[], "abcd").get("/");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (502, Some("call_http.answer_too_large")));
    assert_eq!(Trial::of(&calling("max_answer: 4B")).answering(&[], "abcd").get("/").status, 204);
    assert_eq!(refusals(&calling("max_answer: 65MiB")), ["policy.bad_value"]);
    let large: &'static str = "x".repeat((1 << 20) + 1).leak();
    let fault = |body| Trial::of(&calling("method: GET")).answering(&[], body).get("/").fault;
    assert_eq!((fault(&large[1..]), fault(large).as_deref()), (None, Some("call_http.answer_too_large")));
}

#[test]
fn a_broken_call_that_is_optional_is_recorded() {
    let call = "  - call_http: { to: \"http://127.0.0.1:9100/a\", max_answer: 3B, optional: true }";
    let show = "  - respond: { json: { there: \"${exists(called.status)}\" } }";
    let outcome = Trial::of(&format!("{call}\n{show}")).answering(&[], "abcd").get("/");
    assert_eq!((outcome.status, outcome.body.as_str()), (200, r#"{"there":false}"#));
    let caught = &outcome.record.caught[0];
    assert_eq!((caught.code.as_str(), caught.step.as_deref()), ("call_http.answer_too_large", Some("call_http")));
    // What the client is to blame for is not a broken call.
    let call = "  - call_http: { to: \"http://127.0.0.1:9100/${request.query.a}\", optional: true }";
    let trial = Trial::of(&format!("{call}\n  - respond: 204"));
    assert_eq!(trial.get("/").fault.as_deref(), Some("call_http.absent"));
    let sum = "  - respond: { json: { a: \"${called.status + 1}\" } }";
    assert_eq!(refusals(&format!("{call}\n{sum}")), ["expr.may_be_absent"]);
}

#[test]
fn a_kept_answer_serves_equal_calls_only() {
    let steps = "  - call_http: { to: \"http://127.0.0.1:9100/${request.query.a ?? 'a'}\", cache: 10s, \
                 headers: { x-user: \"${request.headers.x_user ?? ''}\" } }\n  - respond: { value: \"${called.body}\" }";
    let trial = Trial::of(steps).answering(&[], "one");
    assert_eq!(trial.get("/").sent.len(), 1);
    let again = trial.get("/");
    assert_eq!((again.sent.len(), again.body.as_str()), (0, "one"));
    assert_eq!(trial.get("/?a=b").sent.len(), 1);
    assert_eq!(trial.send("GET", "/", &[("x-user", "ann")], "").sent.len(), 1);
    trial.pass(std::time::Duration::from_secs(10));
    assert_eq!(trial.get("/").sent.len(), 1);
    let steps = "  - call_http: { to: \"http://127.0.0.1:9100\", cache: 10s, success_when: answer.status == 201 }";
    let trial = Trial::of(&format!("{steps}\n  - respond: 204"));
    assert_eq!((trial.get("/").sent.len(), trial.get("/").sent.len()), (1, 1));
}

#[test]
fn secrets_go_to_who_is_named_and_never_into_the_url() {
    let body = "to: \"https://a.example/x\", method: POST, text: \"${secret('partner')}\"";
    assert_eq!(with_secret(body), ["policy.secret_in_body"]);
    assert_eq!(with_secret(&format!("{body}, secrets_to: https://b.example")), ["policy.secret_in_body"]);
    assert_eq!(with_secret(&format!("{body}, secrets_to: https://a.example:444")), ["policy.secret_in_body"]);
    assert_eq!(with_secret(&format!("{body}, secrets_to: http://a.example")), ["policy.bad_value"]);
    assert!(with_secret(&format!("{body}, secrets_to: https://a.example")).is_empty());
    assert!(with_secret("to: \"https://a.example\", headers: { x-key: \"${secret('partner')}\" }").is_empty());
    assert_eq!(with_secret("to: \"https://a.example/${secret('partner')}\""), ["policy.secret_leak"]);
    assert_eq!(with_secret("to: \"https://a.example/?k=${secret('partner')}\""), ["policy.secret_leak"]);
    let chosen = "to: \"https://${request.query.h ?? 'a'}.example\", allowed_hosts: \"*.example\", method: POST, \
                  text: \"${secret('partner')}\", secrets_to: https://a.example";
    assert_eq!(with_secret(chosen), ["policy.secret_in_body"]);
}

#[test]
fn hosts_that_a_variable_chooses_are_listed() {
    let to = "to: \"http://${request.query.h ?? 'a'}/x\"";
    let steps = |more: &str| format!("  - call_http: {{ {to}{more} }}\n  - respond: 204");
    assert_eq!(refusals(&steps("")), ["policy.open_host"]);
    let trial = Trial::of(&steps(", allowed_hosts: [\"*.example.com\"]"));
    assert_eq!(trial.get("/?h=a.example.com").status, 204);
    let outcome = trial.get("/?h=a.example.com.evil.test");
    assert_eq!((outcome.status, outcome.fault.as_deref()), (400, Some("call_http.bad_host")));
    assert!(outcome.sent.is_empty());
}

#[test]
fn a_call_that_changes_something_is_not_made_twice_unseen() {
    let twice = |method: &str, more: &str| {
        let call =
            |port: u32| format!("      - call_http: {{ to: \"http://127.0.0.1:{port}/a\", method: {method}{more} }}\n");
        let steps = format!("  - any:\n{}{}  - respond: 204", call(9100), call(9101));
        warnings(&crate::assertions::trial::service(&steps))
    };
    assert_eq!(twice("POST", ""), ["policy.may_send_twice"]);
    assert!(twice("GET", "").is_empty());
    assert!(twice("POST", ", retry: { any_method: true }").is_empty());
    // The request itself is another one.
    let post = "call_http: { to: \"http://127.0.0.1:9100/a\", method: POST }";
    let steps = format!("  - try:\n      - {post}\n    catch:\n      - set: {{ a: b }}\n{ROUTE}");
    assert!(warnings(&crate::assertions::trial::service(&steps)).is_empty());
}

#[test]
fn faults_can_be_caught_by_family() {
    let steps = "  - try: { steps: [{ call_http: { to: \"http://127.0.0.1:9100\", max_answer: 1B } }], catches: \
                 [\"call_http.*\"] }\n    catch: [{ respond: { status: 203, text: \"${fault.code}\" } }]\n  - respond: 204";
    let outcome = Trial::of(steps).answering(&[], "ab").get("/");
    assert_eq!((outcome.status, outcome.body.as_str()), (203, "call_http.answer_too_large"));
}

#[test]
fn one_place_says_where_it_goes() {
    let refuse = |params: &str| refusals(&format!("  - call_http: {params}\n  - respond: 204"));
    assert_eq!(refuse("{ method: POST }"), ["policy.missing_parameter"]);
    assert_eq!(refuse("nobody"), ["policy.unknown_name"]);
    assert_eq!(refuse("{ to: \"http://a.example\", method: CONNECT }"), ["policy.bad_method"]);
    assert_eq!(refuse("{ to: \"http://a.example\", headers: { host: b } }"), ["policy.bad_header"]);
    let twice = "{ to: \"http://a.example\", headers: { Accept: a/b, accept: c/d } }";
    assert_eq!(refuse(twice), ["policy.duplicate_header"]);
    assert_eq!(refuse("{ to: \"http://a.example\", json: 1, text: a }"), ["policy.bad_value"]);
}
