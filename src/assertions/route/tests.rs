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
