//! Cases of `route` that no policy test can write.

use std::time::Duration;

use crate::assertions::trial::{Trial, refusals, service};

#[test]
fn a_field_that_is_listed_twice_goes_out_once() {
    let policy = "  - route: { to: \"http://127.0.0.1:9000\", forward_headers: [x-a, X-A, x-b] }";
    let outcome = Trial::of(policy).send("GET", "/", &[("x-a", "1"), ("x-b", "2")], "");
    assert_eq!(outcome.sent[0].headers.get_all("x-a").iter().count(), 1);
}

#[test]
fn only_the_upstreams_own_origin_is_rewritten_in_location() {
    let policy = "  - route: { to: \"http://127.0.0.1:9000\", rewrite_location: true }";
    for (location, rewritten) in [
        ("http://127.0.0.1:9000", "http://trial.example"),
        ("http://127.0.0.1:9000/a", "http://trial.example/a"),
        ("http://127.0.0.1:9000?a", "http://trial.example?a"),
        ("http://127.0.0.1:9000#a", "http://trial.example#a"),
        ("http://127.0.0.1:90001/a", "http://127.0.0.1:90001/a"),
        ("http://127.0.0.1:9000.other.example/", "http://127.0.0.1:9000.other.example/"),
        ("http://127.0.0.1:9000@other.example/", "http://127.0.0.1:9000@other.example/"),
    ] {
        let outcome = Trial::of(policy).answering(&[("location", location)], "").get("/");
        assert_eq!(outcome.header("location"), Some(rewritten));
    }
}

#[test]
fn the_host_survives_a_connection_field_that_names_it() {
    let policy = "  - route: { to: \"http://127.0.0.1:9000\", host: client }";
    let outcome = Trial::of(policy).send("GET", "/", &[("connection", "host")], "");
    assert_eq!(outcome.sent_header("x-forwarded-host"), Some("trial.example"));
    assert_eq!(outcome.record.host.as_deref(), Some("trial.example"));
}

#[test]
fn allowed_hosts_bind_the_port_too() {
    let to = "{ to: \"http://${request.query.to ?? 'a.test'}\", allow_private: true, allowed_hosts: [a.test, \"b.test:8080\",               \"*.c.test:9000\", 127.0.0.1, \"[::1]:81\"] }";
    let trial = Trial::of(&format!("  - route: {to}"));
    for (host, status) in [
        ("a.test", 200),
        ("A.test:80", 200),
        ("a.test:22", 400),
        ("b.test:8080", 200),
        ("b.test", 400),
        ("b.test:8081", 400),
        ("x.c.test:9000", 200),
        ("x.c.test", 400),
        ("127.0.0.1", 200),
        ("127.0.0.1:6379", 400),
        ("[::1]:81", 200),
        ("[::1]", 400),
    ] {
        assert_eq!(trial.get(&format!("/?to={host}")).status, status, "{host}");
    }
}

#[test]
fn a_port_that_is_none_does_not_load() {
    for host in ["a.test:", "a.test:http", "a.test:70000", "[::1]:x"] {
        let to = format!("{{ to: \"http://${{request.host}}\", allowed_hosts: [\"{host}\"] }}");
        assert!(refusals(&format!("  - route: {to}")).contains(&"policy.bad_host"), "{host}");
    }
}

#[test]
fn latency_counts_from_the_sending() {
    let trial = Trial::of("  - route: http://127.0.0.1:9000\n  - set: { ms: \"${route.latency_ms}\" }");
    trial.queued.set(Duration::from_secs(3));
    let outcome = trial.get("/");
    assert_eq!(outcome.record.upstream.unwrap().latency_ms, 0);
    assert_eq!(outcome.record.duration_us, 3_000_000);
}

#[test]
fn equal_texts_make_equal_keys() {
    let upstream = "upstream: many\ntargets: [\"http://127.0.0.1:9000\", \"http://127.0.0.1:9001\"]\n\
        balance: hash\nhash_by: \"${request.query.a ?? 'none'}\"";
    let trial = Trial::of_set(&format!("{upstream}\n---\n{}", service("  - route: many")));
    let key = |target: &str| trial.get(target).sent[0].key;
    assert!(key("/?a=1").is_some());
    assert_eq!(key("/?a=1"), key("/x?a=1&b=2"));
    assert_ne!(key("/?a=1"), key("/?a=2"));
}

#[test]
fn an_upstream_that_a_name_stands_for_is_rewritten_by_name_and_by_address() {
    let upstream = "upstream: orders\ndns: { name: orders.test, port: 9000 }";
    let policy = service("  - route: { upstream: orders, rewrite_location: true }");
    for (location, rewritten) in [
        ("http://orders.test:9000/a", "http://trial.example/a"),
        ("http://127.0.0.1:9000/a", "http://trial.example/a"),
        ("http://orders.test:90001/a", "http://orders.test:90001/a"),
    ] {
        let trial = Trial::of_set(&format!("{upstream}\n---\n{policy}")).answering(&[("location", location)], "");
        assert_eq!(trial.get("/").header("location"), Some(rewritten));
    }
}

/// A set with an upstream of this name before a service that routes to it.
fn to_upstream(more: &str, route: &str) -> Trial {
    let upstream = format!("upstream: orders\ntargets: [\"http://127.0.0.1:9000\"]\n{more}\n---\n");
    Trial::of_set(&format!("{upstream}{}", service(&format!("  - route: {route}"))))
}

#[test]
fn with_an_upstream_the_step_says_path_query_and_method() {
    let trial = to_upstream(
        "",
        "{ upstream: orders, path: \"/v2/${request.query.id ?? '0'}\", query: \"a=${request.query.id ?? '0'}\", method: PUT }",
    );
    let outcome = trial.send("POST", "/x?id=1%262", &[], "body");
    let sent = &outcome.sent[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str(), sent.body.as_str()), ("PUT", "/v2/1%262?a=1%262", "body"));
    let kept = to_upstream("", "orders").get("/a/b?c=d");
    assert_eq!((kept.sent[0].method.as_str(), kept.sent[0].target.as_str()), ("GET", "/a/b?c=d"));
    for wrong in ["{ to: http://127.0.0.1:9000, path: /a }", "{ to: http://127.0.0.1:9000, query: a }"] {
        assert_eq!(refusals(&format!("  - route: {wrong}")), ["policy.bad_value"], "{wrong}");
    }
}

#[test]
fn a_url_with_a_path_is_the_whole_path_and_keeps_the_query_unless_it_has_one() {
    let sent = |to: &str| Trial::of(&format!("  - route: {to}")).get("/x/y?a=b").sent[0].target.clone();
    assert_eq!(sent("http://127.0.0.1:9000"), "/x/y?a=b");
    assert_eq!(sent("http://127.0.0.1:9000/v2"), "/v2?a=b");
    assert_eq!(sent("http://127.0.0.1:9000/v2?c=d"), "/v2?c=d");
    assert_eq!(sent("\"http://127.0.0.1:9000/all/${path.rest}\""), "/all/x/y?a=b");
    assert_eq!(refusals("  - route: http://127.0.0.1:9000/"), ["policy.bad_url"]);
}

#[test]
fn fields_go_out_as_the_step_says() {
    let fields = |forward: &str| {
        let steps = format!(
            "  - set_headers: {{ x-ours: \"1\" }}\n  - route: {{ to: http://127.0.0.1:9000, forwarded: none, forward_headers: {forward} }}"
        );
        let outcome = Trial::of(&steps).send("GET", "/", &[("x-a", "1"), ("accept", "*/*")], "");
        let mut names: Vec<String> = outcome.sent[0].headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(fields("all"), ["accept", "x-a", "x-ours"]);
    assert_eq!(fields("none"), ["x-ours"]);
    assert_eq!(fields("[x-a]"), ["x-a", "x-ours"]);
}

#[test]
fn an_answer_that_a_step_reads_is_asked_for_without_a_coding() {
    let asked = |more: &str| {
        let trial = Trial::of(&format!("  - route: http://127.0.0.1:9000{more}"));
        let outcome = trial.send("GET", "/", &[("accept-encoding", "br, gzip")], "");
        outcome.sent_header("accept-encoding").map(str::to_owned)
    };
    assert_eq!(asked("").as_deref(), Some("br, gzip"));
    assert_eq!(asked("\n  - set: { a: \"${response.text}\" }").as_deref(), Some("identity"));
}

#[test]
fn time_limits_and_retries_have_the_values_of_the_reference() {
    use crate::compile::sending::TimeoutsDoc;
    use crate::upstream::{Retry, RetryOn, Timeouts};
    let seconds = Duration::from_secs;
    let usual = Timeouts { connect: seconds(3), first_byte: seconds(15), idle: seconds(30), total: seconds(60) };
    assert_eq!(TimeoutsDoc::default().or_default(), usual);
    let short = Timeouts { total: seconds(1), ..usual };
    assert_eq!(TimeoutsDoc::default().tighten(short), short);
    let retry = Retry::default();
    let on = RetryOn { connect: true, reset: true, bad_gateway: true, unavailable: true, gateway_timeout: true };
    assert_eq!((retry.attempts, retry.on, retry.any_method, retry.budget_percent), (1, on, false, 20));
    assert_eq!(retry.backoff, Duration::from_millis(50));
}

#[test]
fn a_route_that_streams_refuses_who_holds_a_body() {
    let with = |before: &str, more: &str, behind: &str| {
        refusals(&format!("{before}  - route: {{ to: \"http://127.0.0.1:9000\", stream: always{more} }}\n{behind}"))
    };
    assert!(with("  - compare: request.headers.x_a == 'b'\n", "", "  - set_headers: { x-b: c }").is_empty());
    let refused = ["policy.not_streamed"];
    assert_eq!(with("  - compare: request.json.a == 'b'\n", "", ""), refused);
    assert_eq!(with("", "", "  - compare: request.json.a == 'b'"), refused);
    assert_eq!(with("", "", "  - compare: response.json.a == 'b'"), refused);
    assert_eq!(with("", ", retry: { attempts: 2 }", ""), refused);
    let any = "  - any:\n      - route: { to: \"http://127.0.0.1:9000\", stream: always, success_when: answer.status < 400 }\n      \
               - route: http://127.0.0.1:9001";
    assert_eq!(refusals(any), refused);
    assert_eq!(with("  - compare: request.json.a == 'b'\n", "", "  - compare: response.json.a == 'b'").len(), 2);
    let named = format!(
        "{}on_fault:\n  - log: \"${{request.text}}\"\n",
        service("  - route: { to: \"http://a\", stream: always }")
    );
    assert_eq!(crate::assertions::trial::codes(&named), refused);
}

#[test]
fn a_body_is_read_whole_before_it_is_sent_where_only_the_answer_streams() {
    let of = |stream: &str| Trial::of(&format!("  - route: {{ to: \"http://127.0.0.1:9000\", stream: {stream} }}"));
    assert_eq!(of("answer").send("POST", "/", &[], "abc").sent[0].body, "abc");
    let large: &'static str = "x".repeat(1024 * 1024 + 1).leak();
    let outcome = of("answer").send("POST", "/", &[], large);
    assert_eq!((outcome.status, outcome.fault.as_deref(), outcome.sent.len()), (413, Some("body.too_large"), 0));
    assert_eq!(of("auto").send("POST", "/", &[], large).status, 200);
}
