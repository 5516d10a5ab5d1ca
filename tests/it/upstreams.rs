//! Upstreams of a whole process: what checks find, what the admin interface says of it, and the time limits.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::Gateway;
use crate::misbehaving::{Then, good, serve};

fn unavailable() -> (Vec<u8>, Then) {
    (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec(), Then::Serve)
}

const ROUTE: &str = "service: many\nmatch: { path: /many }\npolicy:\n  - route: many\n";

fn upstream(targets: &[SocketAddr], settings: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("\"http://{target}\"")).collect();
    format!("upstream: many\ntargets: [{}]\n{settings}\n", targets.join(", "))
}

#[test]
fn targets_that_fail_their_checks_get_no_calls_until_they_pass_again() {
    let is_well = Arc::new(AtomicBool::new(true));
    let told = is_well.clone();
    let checked = serve(Arc::new(move |path, connection| match path {
        "/health" if !told.load(Ordering::Relaxed) => unavailable(),
        _ => (good(connection), Then::Serve),
    }));
    let settings = "health: { path: /health, every: 100ms, healthy_after: 1, unhealthy_after: 1 }";
    let gateway =
        Gateway::start(&[("policies/many.yaml", ROUTE), ("policies/upstream.yaml", &upstream(&[checked], settings))]);
    let out = |gateway: &Gateway| gateway.ask_admin("GET", "/readyz").json()["targets_out"].clone();
    assert_eq!(out(&gateway), serde_json::json!({}));
    assert_eq!(gateway.get("/many").body, "good");
    is_well.store(false, Ordering::Relaxed);
    gateway.logged("a target fails its health checks");
    let why = "health check: answered 503 to /health";
    assert_eq!(out(&gateway), serde_json::json!({ "many": { format!("http://{checked}"): why } }));
    let answer = gateway.get("/many");
    assert!(answer.status == 503 && answer.body.contains("route.no_target"), "{answer:?}");
    let metrics = gateway.ask_admin("GET", "/metrics").body;
    assert!(metrics.contains("gatewright_upstream_targets{upstream=\"many\",state=\"unhealthy\"} 1\n"), "{metrics}");
    is_well.store(true, Ordering::Relaxed);
    gateway.logged("a target passes its health checks");
    assert_eq!((gateway.get("/many").body.as_str(), out(&gateway)), ("good", serde_json::json!({})));
}

#[test]
fn what_is_known_of_targets_outlives_reloads_that_do_not_change_them() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let failing = serve(Arc::new(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        unavailable()
    }));
    let settings = "eject: { failures: 1, for: 1h, at_most: 100% }";
    let ejecting = upstream(&[failing], settings);
    let gateway = Gateway::start(&[("policies/many.yaml", ROUTE), ("policies/upstream.yaml", &ejecting)]);
    assert_eq!((gateway.get("/many").status, asked.load(Ordering::Relaxed)), (503, 1));
    let why = "ejected after failures";
    let out = gateway.ask_admin("GET", "/readyz").json()["targets_out"].clone();
    assert_eq!(out, serde_json::json!({ "many": { format!("http://{failing}"): why } }));
    gateway.folder.write("policies/many.yaml", &ROUTE.replace("/many", "/other"));
    assert_eq!(gateway.ask_admin("POST", "/api/reload").json()["result"], "swapped");
    assert!(gateway.get("/other").body.contains("route.no_target"));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Another document is another upstream, and begins anew.
    gateway.folder.write("policies/upstream.yaml", &upstream(&[failing], &settings.replace("1h", "2h")));
    assert_eq!(gateway.ask_admin("POST", "/api/reload").json()["result"], "swapped");
    assert_eq!((gateway.get("/other").status, asked.load(Ordering::Relaxed)), (503, 2));
}

/// A service for each phase whose time limit is the only short one.
fn phases(upstream: SocketAddr, secure: SocketAddr) -> String {
    let service = |name: &str, to: String, timeouts: &str, more: &str| {
        format!(
            "service: {name}\nmatch: {{ path: /{name} }}\npolicy:\n  - route: {{ to: \"{to}\", timeouts: {timeouts} }}\n{more}"
        )
    };
    let clear = format!("http://{upstream}");
    let held = "  - set: { body: \"${response.body}\" }\n";
    [
        service("connect", format!("https://{secure}"), "{ connect: 200ms }", ""),
        service("first_byte", clear.clone(), "{ first_byte: 200ms }", ""),
        service("idle", clear.clone(), "{ idle: 200ms }", held),
        service("total", clear, "{ total: 200ms }", ""),
    ]
    .join("---\n")
}

#[test]
fn each_phase_has_a_time_limit_and_a_code_of_its_own() {
    let hanging = serve(Arc::new(|path, _| match path {
        "/idle" => (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec(), Then::Hang),
        _ => (Vec::new(), Then::Hang),
    }));
    // Takes connections and says nothing: the handshake of TLS is part of connecting.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let phases = phases(hanging, mute.local_addr().unwrap());
    let gateway = Gateway::start(&[("policies/phases.yaml", &phases)]);
    for (phase, code) in [
        ("connect", "route.timeout_connect"),
        ("first_byte", "route.timeout_first_byte"),
        ("idle", "body.answer_timeout"),
        ("total", "route.timeout_total"),
    ] {
        let answer = gateway.get(&format!("/{phase}"));
        assert!(answer.status == 504 && answer.body.contains(code), "{phase}: {answer:?}");
        let record = gateway.record(&format!("/{phase}"));
        assert_eq!(record["fault"], code);
        let took = record["duration_us"].as_u64().unwrap();
        assert!((200_000..3_000_000).contains(&took), "{phase} took {took} microseconds");
    }
}
