//! Bounds: connections, requests in flight, time, and what survives a panic.

use super::*;

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_slow_head_is_answered_and_closed() {
    let bench = bench(1, Limits { head_time: SHORT, ..Limits::default() });
    let all = bench.ask("GET / HTTP/1.1\r\nHost: a");
    assert!(all.starts_with("HTTP/1.1 408 ") && all.contains("request.head_timeout"), "{all}");
    assert_eq!(bench.next_end(), "request.head_timeout");
    assert!(bench.started.try_recv().is_err());
}

#[test]
fn dripping_bytes_do_not_prolong_a_head() {
    let bench = bench(1, Limits { head_time: SHORT, ..Limits::default() });
    let mut client = bench.connect();
    let mut dripper = client.tcp.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && dripper.write_all(b"G").is_ok() {
            std::thread::sleep(Duration::from_millis(5)); // the client's pace, nothing waits for it
        }
    });
    assert!(client.head().starts_with("http/1.1 408"));
    drop(client);
    dripping.join().unwrap();
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let bench = bench(1, Limits { head_time: SHORT, ..Limits::default() });
    assert_eq!(bench.ask(""), "");
    assert_eq!(bench.next_end(), "request.none");
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let bench = bench(1, Limits { keep_alive: SHORT, ..Limits::default() });
    let mut client = bench.connect();
    client.send(&get("/"));
    assert_eq!(client.answer().body, "hello");
    assert_eq!(client.rest(), "");
    assert!(bench.ends.try_recv().is_err(), "that is no refusal");
}

#[test]
fn a_handler_may_take_longer_than_a_head() {
    let bench = bench(1, Limits { head_time: SHORT, keep_alive: SHORT, ..Limits::default() });
    let mut waiting = bench.connect();
    waiting.send(&get("/wait"));
    assert_eq!(bench.next_start(), "/wait");
    // By the time a later connection has timed out, the earlier one would have.
    assert_eq!(bench.ask(""), "");
    bench.seen.go.add_permits(1);
    assert_eq!(waiting.answer().body, "waited");
}

#[test]
fn a_client_that_does_not_read_is_left() {
    let bench = bench(1, Limits { body_idle: SHORT, ..Limits::default() });
    let mut client = bench.connect();
    client.send(&get("/large"));
    assert_eq!(bench.next_end(), "client.stalled");
}

#[test]
fn too_many_connections_are_told_so() {
    let bench = bench(1, Limits { connections: 2, ..Limits::default() });
    let mut held = [bench.connect(), bench.connect()];
    for client in &mut held {
        client.send(&get("/"));
        assert_eq!(client.answer().status, 200);
    }
    let all = bench.ask(&get("/"));
    assert!(all.starts_with("HTTP/1.1 503 ") && all.contains("retry-after: 1\r\n"), "{all}");
    assert!(all.contains("gateway.busy"), "{all}");
    assert_eq!(bench.next_end(), "gateway.busy");
    let [mut first, second] = held;
    first.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(first.rest().ends_with("hello"));
    while bench.running.connections() > 1 {
        std::thread::yield_now();
    }
    let mut next = bench.connect();
    next.send(&get("/"));
    assert_eq!(next.answer().status, 200);
    drop(second);
}

#[test]
fn one_client_cannot_take_all_connections_but_a_proxy_may() {
    let limits = Limits { connections_per_client: 1, ..Limits::default() };
    let plain = bench(1, limits.clone());
    let mut first = plain.connect();
    first.send(&get("/"));
    assert_eq!(first.answer().status, 200);
    assert!(plain.ask(&get("/")).starts_with("HTTP/1.1 503 "));

    let trusting = bench_behind(1, limits, &["127.0.0.1/32"], 0);
    let mut held = [trusting.connect(), trusting.connect()];
    for client in &mut held {
        client.send(&get("/"));
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn requests_above_the_limit_are_not_handled() {
    let bench = bench(2, Limits { in_flight: 1, ..Limits::default() });
    let mut waiting = bench.connect();
    waiting.send(&get("/wait"));
    assert_eq!(bench.next_start(), "/wait");
    let all = bench.ask(&get("/"));
    assert!(all.starts_with("HTTP/1.1 503 ") && all.contains("retry-after: 1\r\n"), "{all}");
    assert!(bench.started.try_recv().is_err());
    bench.seen.go.add_permits(1);
    assert_eq!(waiting.answer().body, "waited");
    waiting.send(&get("/"));
    assert_eq!(waiting.answer().body, "hello");
}

#[test]
fn a_connection_ends_after_its_number_of_requests() {
    let bench = bench(1, Limits { requests_per_connection: 2, ..Limits::default() });
    let mut client = bench.connect();
    client.send(&get("/"));
    assert!(!client.answer().head.contains("connection: close"));
    client.send(&get("/"));
    assert!(client.answer().head.contains("connection: close"));
    assert_eq!(client.rest(), "");
}

#[test]
fn a_panic_ends_one_connection_only() {
    let bench = bench(1, Limits::default());
    let mut neighbour = bench.connect();
    neighbour.send(&get("/wait"));
    assert_eq!(bench.next_start(), "/wait");
    let all = bench.ask(&get("/panic"));
    assert!(all.starts_with("HTTP/1.1 500 ") && all.contains("gateway.panic"), "{all}");
    bench.seen.go.add_permits(1);
    assert_eq!(neighbour.answer().body, "waited");
    assert_eq!(bench.running.workers_alive(), 1);
    assert_eq!(bench.running.shared().worker_restarts(), 0);
}

#[test]
fn a_worker_that_dies_starts_again_on_its_socket() {
    let bench = bench_behind(1, Limits::default(), &[], 2);
    let mut client = bench.connect();
    client.send(&get("/"));
    assert_eq!(client.answer().body, "hello");
    assert_eq!(bench.running.shared().worker_restarts(), 2);
    assert_eq!(bench.running.workers_alive(), 1);
}
