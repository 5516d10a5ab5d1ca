//! Where stored tokens go, what takes them along, and what does not load.

use crate::assertions::trial::refusals_of;
use crate::policy::build::{Environment, parse_files};
use crate::policy::files::Files;
use crate::policy::testing::{Options, collect, render, run};
use crate::source::{Diagnostics, render as render_diagnostics};

fn with(session: &str, steps: &str) -> Vec<&'static str> {
    let documents = "secret: partner\nfrom: { env: PARTNER_SECRET }\n---\noauth_session: crm\nkind: oauth2\n\
                     token_url: https://login.example/token\nclient: { id: gw, secret: { secret: partner } }\n";
    let service = "---\nservice: trial\nmatch: { path: \"/{*rest}\" }\npolicy:\n";
    refusals_of(&format!("{documents}{session}{service}{steps}\n"))
}

const SESSION: &str =
    "grant: client_credentials\nallowed_origins: [\"https://api.example\", \"https://*.my.example\"]\n";

#[test]
fn a_written_target_is_one_that_the_token_is_for() {
    let to = |to: &str| with(SESSION, &format!("  - inject_oauth_token: crm\n  - route: {to}"));
    assert!(to("https://api.example").is_empty() && to("https://a.my.example/x").is_empty());
    for other in ["https://other.example", "http://api.example", "https://api.example:444", "https://my.example"] {
        assert_eq!(to(other), ["policy.origin_refused"], "{other}");
    }
    // What stands before it, or is a call beside it, has nothing to do with it.
    let before = "  - call_http: https://other.example\n  - inject_oauth_token: crm\n  - call_http: https://other.example/b\n    \
                  as: second\n  - route: https://api.example";
    assert!(with(SESSION, before).is_empty());
    let call = "  - inject_oauth_token: { session: crm, for_call: true }\n  - call_http: https://other.example\n  - respond: 204";
    assert_eq!(with(SESSION, call), ["policy.origin_refused"]);
    let some_way = "  - when: request.method == 'PUT'\n    inject_oauth_token: crm\n  - route: https://other.example";
    assert_eq!(with(SESSION, some_way), ["policy.origin_refused"]);
}

#[test]
fn who_may_send_a_body_again_holds_it() {
    let streams = |inject: &str| {
        let route = "  - route: { to: \"https://api.example\", stream: always }";
        with(SESSION, &format!("  - inject_oauth_token: {inject}\n{route}"))
    };
    assert_eq!(streams("crm"), ["policy.not_streamed"]);
    assert!(streams("{ session: crm, replay: false }").is_empty());
}

#[test]
fn a_chosen_host_needs_a_list_or_a_session() {
    let to = "  - route: \"https://${request.query.h ?? 'a'}.my.example\"";
    assert_eq!(with(SESSION, to), ["policy.open_host"]);
    assert!(with(SESSION, &format!("  - inject_oauth_token: crm\n{to}")).is_empty());
}

#[test]
fn no_variable_holds_the_token() {
    let read = |name: &str| {
        let steps = format!("  - inject_oauth_token: crm\n  - respond: {{ text: \"${{oauth_session.{name}}}\" }}");
        with(SESSION, &steps)
    };
    assert!(read("name").is_empty() && read("account").is_empty());
    assert_eq!(read("access_token"), ["expr.unknown_variable"]);
    assert_eq!(read("instance_url"), ["expr.unknown_variable"], "this profile has none");
}

#[test]
fn a_session_says_where_it_comes_from_and_where_it_may_go() {
    let used = "  - inject_oauth_token: crm\n  - respond: 204";
    let of = |session: &str| with(session, used);
    let grant = "grant: refresh_token\n";
    assert_eq!(of(&format!("{grant}allowed_origins: [\"https://*.example\"]\n")), ["policy.bad_session"]);
    assert_eq!(of(&format!("{grant}allowed_origins: [\"http://api.example\"]\n")), ["policy.bad_session"]);
    assert_eq!(of(&format!("{grant}allowed_origins: []\n")), ["policy.bad_session"]);
    assert_eq!(of(&format!("{SESSION}refresh: {{ timeout: 2m }}\n")), ["policy.bad_session"]);
    assert_eq!(
        of(&format!("{SESSION}expired_when: answer.json.expired == true\n")),
        ["policy.answer_body", "policy.bad_session"]
    );
    assert!(of(&format!("{SESSION}expired_when: answer.status == 403\n")).is_empty());
    assert_eq!(of("grant: password\nallowed_origins: [\"https://api.example\"]\n").len(), 1);
}

/// Runs the tests of a service with these steps; what is wrong is the text.
fn played(steps: &str, cases: &str) -> String {
    played_with("", steps, cases)
}

/// The same, with more in the session's document.
fn played_with(more: &str, steps: &str, cases: &str) -> String {
    let yaml = format!(
        "secret: partner\nfrom: {{ env: PARTNER_SECRET }}\n---\noauth_session: crm\nkind: oauth2\ngrant: refresh_token\n\
         token_url: https://login.example/token\nclient: {{ id: gw, secret: {{ secret: partner }} }}\n\
         allowed_origins: [\"http://127.0.0.1:9000\"]\n{more}---\nservice: trial\nmatch: {{ path: / }}\npolicy:\n\
         {steps}\ntests:\n  given: {{ oauth_sessions: {{ crm: {{ access_token: t1, refresh: {{ access_token: t2 }} }} }}, \
         upstream: [{{ answer: {{ json: {{}} }} }}] }}\n  cases:\n{cases}\n"
    );
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("trial.yaml", &yaml), &mut diags);
    let cases = collect(&parsed, &mut diags);
    let environment = Environment { listeners: vec!["main".into()], ..Environment::default() };
    let report = run(&parsed, &environment, &cases, &Options::default()).unwrap();
    let told = render_diagnostics(&parsed.sources, &diags, false);
    if report.is_good() && !cases.is_empty() { told } else { told + &render(&report, &parsed.sources, false) }
}

const PLAIN: &str =
    "    - { name: n, request: {}, expect: { status: 200, upstream: [{ headers: { authorization: AUTH } }] } }";

#[test]
fn what_was_undone_takes_its_token_along() {
    let any = "  - any:\n      - all: [{ inject_oauth_token: crm }, { compare: request.method == 'PUT' }]\n      - set: { a: b }\n\
               \x20 - route: http://127.0.0.1:9000";
    assert_eq!(played(any, &PLAIN.replace("AUTH", "{ absent: true }")), "");
    let kept = any.replace("PUT", "GET");
    assert_eq!(played(&kept, &PLAIN.replace("AUTH", "Bearer t1")), "");
}

#[test]
fn a_child_of_parallel_seals_for_what_follows() {
    let steps = "  - parallel:\n      - inject_oauth_token: crm\n      - call_http: http://127.0.0.1:9100/a\n\
                 \x20 - route: http://127.0.0.1:9000";
    let case = "    - { name: n, request: {}, expect: { status: 200, upstream: [{ path: /a, headers: { authorization: \
                { absent: true } } }, { headers: { authorization: Bearer t1 } }] } }";
    assert_eq!(played(steps, case), "");
}

#[test]
fn where_the_token_goes_and_what_counts_as_refused_can_be_said() {
    let steps = "  - inject_oauth_token: { session: crm, inject: { header: x-token, scheme: OAuth } }\n\
                 \x20 - route: http://127.0.0.1:9000";
    let case = "    - { name: n, request: { headers: { x-token: mine } }, expect: { status: 200, upstream: [{ headers: \
                { x-token: OAuth t1 } }] } }";
    assert_eq!(played(steps, case), "");
    let steps = "  - inject_oauth_token: { session: crm, replay: false }\n  - route: http://127.0.0.1:9000";
    let refused = "    - { name: n, given: { upstream: [{ answer: { status: 401 } }] }, request: {}, expect: { status: 503, \
                   fault: inject_oauth_token.not_replayable, headers: { retry-after: \"1\" }, upstream: [{ path: / }] } }";
    assert_eq!(played(steps, refused), "");
    let steps = "  - inject_oauth_token: { session: crm, keep_response_auth: true }\n  - route: http://127.0.0.1:9000";
    let kept = "    - { name: n, given: { upstream: [{ answer: { headers: { set-cookie: a=b } } }] }, request: {}, expect: \
                { status: 200, headers: { set-cookie: a=b } } }";
    assert_eq!(played(steps, kept), "");
}

#[test]
fn each_case_of_a_test_begins_with_the_tokens_it_was_given() {
    let steps = "  - inject_oauth_token: crm\n  - route: http://127.0.0.1:9000";
    let given = "given: { upstream: [{ match: { headers: { authorization: Bearer t2 } }, answer: {} }, { answer: { status: 401 } }] }";
    let sent = "upstream: [{ headers: { authorization: Bearer t1 } }, { headers: { authorization: Bearer t2 } }]";
    let case =
        |name: &str| format!("    - {{ name: {name}, {given}, request: {{}}, expect: {{ status: 200, {sent} }} }}\n");
    assert_eq!(played(steps, &(case("one") + &case("two"))), "");
}

#[test]
fn what_is_known_of_the_session_can_be_read_and_the_token_cannot() {
    let steps = "  - inject_oauth_token: crm\n  - set_headers: { x-known: \"${oauth_session.name} ${oauth_session.account} \
                 ${unix(oauth_session.expires_at ?? now())}\" }\n  - route: http://127.0.0.1:9000";
    let case = |given: &str, known: &str| {
        format!(
            "    - {{ name: n, given: {{ clock: 2026-03-01T12:00:00Z, oauth_sessions: {{ crm: {{ {given} }} }} }}, request: {{}}, \
             expect: {{ status: 200, upstream: [{{ headers: {{ x-known: {known} }} }}] }} }}"
        )
    };
    assert_eq!(played(steps, &case("account: acme, expires_in: 1000", "crm acme 1772367400")), "");
    assert_eq!(played(steps, &case("expires_in: 1000", "crm crm 1772367400")), "");
    let read = |member: &str| {
        with(SESSION, &format!("  - inject_oauth_token: crm\n  - respond: {{ text: \"${{oauth_session.{member}}}\" }}"))
    };
    for member in ["token", "access_token", "refresh_token"] {
        assert_eq!(read(member), ["expr.unknown_variable"], "{member}");
    }
    assert_eq!(read("instance_url"), ["expr.unknown_variable"], "only a profile that has one");
    let profiled = format!("profile: salesforce\n{SESSION}");
    let steps = "  - inject_oauth_token: crm\n  - respond: { text: \"${oauth_session.instance_url}\" }";
    assert!(with(&profiled, steps).is_empty());
}

#[test]
fn what_counts_as_refused_can_be_said() {
    let expired = "expired_when: answer.status == 403 || answer.headers.x_expired == 'yes'\n";
    let steps = "  - inject_oauth_token: crm\n  - route: http://127.0.0.1:9000";
    for refusal in ["{ status: 403 }", "{ status: 200, headers: { x-expired: \"yes\" } }", "{ status: 401 }"] {
        let case = format!(
            "    - {{ name: n, given: {{ upstream: [{{ match: {{ headers: {{ authorization: Bearer t1 }} }}, answer: {refusal} }}, \
             {{ answer: {{ status: 204 }} }}] }}, request: {{}}, expect: {{ status: 204, upstream: [{{ headers: {{ authorization: \
             Bearer t1 }} }}, {{ headers: {{ authorization: Bearer t2 }} }}] }} }}"
        );
        assert_eq!(played_with(expired, steps, &case), "", "{refusal}");
    }
    let kept = "    - { name: n, given: { upstream: [{ answer: { status: 403 } }] }, request: {}, expect: { status: 403, upstream: [{ path: / }] } }";
    assert_eq!(played(steps, kept), "", "a 403 is the upstream's own word unless the session says otherwise");
}

#[test]
fn a_token_is_put_into_a_cookie_or_the_query_and_renewed_there() {
    for (target, first, second) in [
        ("{ cookie: sid }", "headers: { cookie: \"a=b; sid=t1\" }", "headers: { cookie: \"a=b; sid=t2\" }"),
        ("{ query: t }", "path: \"/?c=d&t=t1\"", "path: \"/?c=d&t=t2\""),
    ] {
        let steps =
            format!("  - inject_oauth_token: {{ session: crm, inject: {target} }}\n  - route: http://127.0.0.1:9000");
        let case = format!(
            "    - {{ name: n, given: {{ upstream: [{{ answer: {{ status: 401 }} }}] }}, request: {{ path: \"/?t=theirs&c=d\", headers: \
             {{ cookie: \"a=b; sid=theirs\" }} }}, expect: {{ status: 502, fault: inject_oauth_token.rejected, upstream: \
             [{{ {first} }}, {{ {second} }}] }} }}"
        );
        assert_eq!(played(&steps, &case), "", "{target}");
    }
}
