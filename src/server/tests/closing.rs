//! Leaving: clients that go, servers that drain.

use super::*;

#[test]
fn a_half_closed_client_counts_as_gone() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&get("/wait"));
    assert_eq!(bench.next_start(), "/wait");
    client.tcp.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(bench.next_end(), "gone", "its request is dropped");
    assert_eq!(client.rest(), "");
    while bench.running.shared().in_flight() > 0 {
        std::thread::yield_now();
    }
}

/// Drains in a thread of its own, and returns once the workers can know of it.
fn begin_drain(bench: &Bench, timeout: Duration) -> std::thread::JoinHandle<DrainReport> {
    let mut stage = bench.running.stage.subscribe();
    let running = bench.running.clone();
    let draining = std::thread::spawn(move || running.drain(timeout));
    while *stage.borrow_and_update() == Stage::Serving {
        std::thread::yield_now();
    }
    draining
}

#[test]
fn a_drain_loses_no_request_in_flight() {
    let bench = bench(2, Limits::default());
    let mut idle = bench.connect();
    idle.send(&get("/"));
    assert_eq!(idle.answer().body, "hello");
    assert_eq!(bench.next_start(), "/");
    let mut clients: Vec<Client> = (0..16).map(|_| bench.connect()).collect();
    for client in &mut clients {
        client.send(&get("/wait"));
    }
    for _ in &clients {
        assert_eq!(bench.next_start(), "/wait");
    }
    let draining = begin_drain(&bench, PATIENCE);
    assert_eq!(idle.rest(), "", "an idle connection closes at once");
    bench.seen.go.add_permits(clients.len());
    for mut client in clients {
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.as_str()), (200, "waited"));
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
        assert_eq!(client.rest(), "");
    }
    assert_eq!(draining.join().unwrap().cut, 0);
    assert_eq!((bench.running.connections(), bench.running.workers_alive()), (0, 0));
    assert!(TcpStream::connect(bench.address()).is_err(), "nobody listens any more");
}

#[test]
fn a_drain_serves_what_waits_in_the_accept_queue() {
    let bench = bench(1, Limits::default());
    let mut blocking = bench.connect();
    blocking.send(&get("/block"));
    assert_eq!(bench.next_start(), "/block");
    // The only worker is held: these are accepted by the kernel alone.
    let mut queued: Vec<Client> = (0..50).map(|_| bench.connect()).collect();
    for client in &mut queued {
        client.send(&get("/"));
    }
    let draining = begin_drain(&bench, PATIENCE);
    bench.unblock.send(()).unwrap();
    assert_eq!(blocking.answer().body, "blocked");
    for mut client in queued {
        let answer = client.answer();
        assert_eq!(answer.body, "hello");
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
    assert_eq!(draining.join().unwrap().cut, 0);
}

#[test]
fn a_drain_serves_a_request_that_has_reached_an_idle_connection() {
    let bench = bench(1, Limits::default());
    let mut kept = bench.connect();
    kept.send(&get("/"));
    assert_eq!(kept.answer().body, "hello");
    assert_eq!(bench.next_start(), "/");
    let mut blocking = bench.connect();
    blocking.send(&get("/block"));
    assert_eq!(bench.next_start(), "/block");
    kept.send(&get("/client"));
    let draining = begin_drain(&bench, PATIENCE);
    bench.unblock.send(()).unwrap();
    assert_eq!(kept.answer().body, "127.0.0.1 http");
    assert_eq!(draining.join().unwrap().cut, 0);
}

#[test]
fn a_drain_cuts_what_outlasts_its_time() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&get("/wait"));
    assert_eq!(bench.next_start(), "/wait");
    let report = bench.running.drain(Duration::from_millis(50));
    assert_eq!(report.cut, 1);
    assert_eq!(bench.next_end(), "gone");
    assert_eq!(client.rest(), "");
    assert_eq!(bench.running.drain(Duration::ZERO).cut, 1, "a second drain finds nothing more");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = ListenerConfig {
        name: "main".into(),
        address: Address::Tcp(taken.local_addr().unwrap()),
        trusted_proxies: [].into(),
        announcing_proxies: Arc::new([]),
        behind_tls_proxy: false,
        tls: None,
    };
    let config = ServerConfig {
        listeners: vec![listener],
        passed: Vec::new(),
        workers: 1,
        limits: Arc::new(Limits::default()),
        clock_origin: Instant::now(),
    };
    let error = Server::start(config, |_| -> Rc<Tiny> { unreachable!() }).err().unwrap();
    assert!(error.to_string().starts_with("listener \"main\" cannot listen on 127.0.0.1:"), "{error}");
}
