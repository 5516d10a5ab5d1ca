//! What upstreams learn of who asked.

use super::{Outcome, Trial};

const ROUTE: &str = "  - route: http://127.0.0.1:9000";

fn route(forwarded: &str) -> String {
    format!("  - route: {{ to: \"http://127.0.0.1:9000\", forwarded: {forwarded} }}")
}

fn behind_proxy(policy: &str, headers: &[(&str, &str)]) -> Outcome {
    let trial = Trial::of(policy);
    trial.client.set("1.2.3.4".parse().unwrap());
    trial.send("GET", "/", headers, "")
}

#[test]
fn every_line_of_the_chain_goes_on() {
    let lines = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "1.2.3.4")];
    let outcome = behind_proxy(ROUTE, &lines);
    assert_eq!(outcome.sent_header("x-forwarded-for"), Some("9.9.9.9, 1.2.3.4, 192.0.2.7"));
    let lines = [("forwarded", "for=9.9.9.9"), ("forwarded", "for=1.2.3.4;proto=https")];
    let outcome = behind_proxy(&route("rfc7239"), &lines);
    let chain = "for=9.9.9.9, for=1.2.3.4;proto=https, for=192.0.2.7;proto=http;host=\"trial.example\"";
    assert_eq!(outcome.sent_header("forwarded"), Some(chain));
}

#[test]
fn a_chain_that_the_proxy_did_not_write_does_not_go_on() {
    let both = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=10.0.0.9")];
    let outcome = behind_proxy(&route("both"), &both);
    assert_eq!(outcome.sent_header("x-forwarded-for"), Some("1.2.3.4, 192.0.2.7"));
    let chain = "for=1.2.3.4, for=192.0.2.7;proto=http;host=\"trial.example\"";
    assert_eq!(outcome.sent_header("forwarded"), Some(chain));
    let outcome = behind_proxy(ROUTE, &[("forwarded", "for=1.2.3.4")]);
    assert_eq!(outcome.sent_header("x-forwarded-for"), Some("1.2.3.4, 192.0.2.7"));
}

#[test]
fn what_a_client_claims_about_itself_is_removed() {
    let claims = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "admin.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "/admin"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-other", "stays"),
    ];
    let outcome = Trial::of(ROUTE).send("GET", "/", &claims, "");
    assert_eq!(outcome.sent_header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(outcome.sent_header("x-forwarded-proto"), Some("http"));
    assert_eq!(outcome.sent_header("x-forwarded-host"), Some("trial.example"));
    assert_eq!(outcome.sent_header("x-other"), Some("stays"));
    for name in ["x-forwarded-port", "x-forwarded-prefix", "x-real-ip", "forwarded"] {
        assert_eq!(outcome.sent_header(name), None, "{name}");
    }
    let outcome = behind_proxy(&route("none"), &claims);
    assert_eq!(outcome.sent[0].headers.len(), 1, "{:?}", outcome.sent[0].headers);
    assert_eq!(behind_proxy(ROUTE, &claims).sent_header("x-real-ip"), Some("127.0.0.1"));
}

#[test]
fn what_a_step_sets_stays() {
    for mode in ["x_forwarded", "none"] {
        let set = "  - set_headers: { x-real-ip: \"${request.client.ip}\", x-forwarded-prefix: /api }\n";
        let outcome = Trial::of(&format!("{set}{}", route(mode))).send("GET", "/", &[("x-real-ip", "::1")], "");
        assert_eq!(outcome.sent_header("x-real-ip"), Some("192.0.2.7"));
        assert_eq!(outcome.sent_header("x-forwarded-prefix"), Some("/api"));
    }
}
