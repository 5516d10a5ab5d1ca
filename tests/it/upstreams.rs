//! Upstreams of a whole process: what checks find, what the admin interface says of it, and the time limits.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{ANY_PORT, Gateway};
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

#[test]
fn a_private_address_is_the_fault_of_whoever_has_chosen_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let private = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\nx-host: {private}\r\ncontent-length: 0\r\n\r\n");
    let first = serve(Arc::new(move |_, _| (answer.clone().into_bytes(), Then::Serve)));
    let service = |name: &str, steps: String| {
        format!("service: {name}\nmatch: {{ path: /{name} }}\npolicy:\n{steps}  - respond: 204\n")
    };
    let call = |step: &str, host: &str| {
        format!("  - {step}: {{ to: \"http://${{{host} ?? 'none'}}/\", allowed_hosts: \"{private}\" }}\n")
    };
    let route = format!("  - route: http://{first}\n");
    let set = [
        service("asked", call("call_http", "request.query.h")),
        service("answered", format!("{route}{}", call("call_http", "response.headers.x_host"))),
        service("routed", format!("{route}{}", call("route", "response.headers.x_host").replace("}/\"", "}/x\""))),
    ];
    let gateway = Gateway::start(&[("policies/all.yaml", &set.join("---\n"))]);
    for (path, status, code) in [
        (format!("/asked?h={private}"), 400, "call_http.bad_host"),
        ("/answered".into(), 502, "call_http.bad_host"),
        ("/routed".into(), 502, "route.bad_host"),
    ] {
        let answer = gateway.get(&path);
        assert!(answer.status == status && answer.body.contains(code), "{path}: {answer:?}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody was connected to");
}

#[test]
fn a_step_knows_whether_its_connection_had_served_before() {
    let upstream = serve(Arc::new(|_, connection| (good(connection), Then::Serve)));
    let service = format!(
        "service: one\nmatch: {{ path: /one }}\npolicy:\n  - route: http://{upstream}\n  \
         - set_headers: {{ x-of: \"${{route.reused}} ${{route.attempts}} ${{route.target}}\" }}\n"
    );
    let gateway = Gateway::start(&[
        ("gateway.yaml", &ANY_PORT.replace("workers: 2", "workers: 1")),
        ("policies/one.yaml", &service),
    ]);
    for reused in [false, true] {
        let answer = gateway.get("/one");
        assert_eq!(answer.header("x-of"), Some(format!("{reused} 1 http://{upstream}").as_str()));
    }
}
