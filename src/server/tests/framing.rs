//! Where messages begin and end: keep-alive, pipelining, bodies, and what is refused on the wire.

use super::*;

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let bench = bench(2, Limits::default());
    let mut client = bench.connect();
    for _ in 0..3 {
        client.send(&get("/"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        assert!(!answer.head.contains("connection: close"), "{}", answer.head);
    }
    assert_eq!(bench.running.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&[get("/"), get("/empty"), post("/echo", "Content-Length: 3\r\n", "abc"), get("/client")].concat());
    assert_eq!(client.answer().body, "hello");
    assert_eq!(client.answer().status, 204);
    assert_eq!(client.answer().body, "abc");
    assert_eq!(client.answer().body, "127.0.0.1 http");
}

#[test]
fn head_and_no_content_have_no_body() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 5\r\n"), "{head}");
    client.send(&get("/empty"));
    assert!(client.head().starts_with("http/1.1 204"), "nothing came between the heads");
    client.send(&get("/"));
    assert_eq!(client.answer().body, "hello");
}

#[test]
fn a_chunked_request_is_read_and_the_connection_goes_on() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&post("/echo", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n4;x=y\r\n\r\nde\r\n0\r\nX: y\r\n\r\n"));
    assert_eq!(client.answer().body, "abc\r\nde");
    client.send(&get("/"));
    assert_eq!(client.answer().body, "hello");
}

#[test]
fn the_client_is_told_to_continue_when_its_body_is_wanted() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&post("/echo", "Content-Length: 3\r\nExpect: 100-continue\r\n", ""));
    assert_eq!(client.head(), "http/1.1 100 continue\r\n\r\n");
    client.send("abc");
    assert_eq!(client.answer().body, "abc");
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let bench = bench(1, Limits::default());
    for version in ["1.0", "1.1"] {
        let mut client = bench.connect();
        client.send(&format!("GET /broken HTTP/{version}\r\nHost: a.test\r\n\r\n"));
        let end = client.tcp.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "HTTP/{version}");
    }
}

#[test]
fn an_early_answer_spares_the_client_its_body() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&post("/early", "Content-Length: 3\r\nExpect: 100-continue\r\n", ""));
    let answer = client.answer();
    assert_eq!(answer.status, 401);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(client.rest(), "");
}

#[test]
fn what_an_early_success_leaves_of_a_body_is_thrown_away() {
    let bench = bench(1, Limits::default());
    // Nobody has it any more.
    let mut client = bench.connect();
    client.send(&post("/", "Content-Length: 5\r\n", "ab"));
    let answer = client.answer();
    assert!(answer.status == 200 && !answer.head.contains("connection: close"), "{}", answer.head);
    client.send(&["cde", &get("/client")].concat());
    assert_eq!(client.answer().body, "127.0.0.1 http");
    // Somebody has it, and does not read.
    for size in [3, 300_000] {
        let mut client = bench.connect();
        let body = "x".repeat(size);
        client.send(&[post("/keep", &format!("Content-Length: {size}\r\n"), &body), get("/client")].concat());
        assert_eq!(client.answer().body, "kept");
        assert_eq!(client.answer().body, "127.0.0.1 http", "after {size} bytes");
    }
}

#[test]
fn a_connection_is_closed_where_too_much_of_a_body_is_left_or_comes_too_slowly() {
    let bench = bench(1, Limits { body_idle: Duration::from_millis(200), ..Limits::default() });
    let mut client = bench.connect();
    client.send(&post("/", "Content-Length: 5\r\n", "ab"));
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.rest(), "", "the rest never comes");
    let mut client = bench.connect();
    let size = 16 << 20;
    client.send(&post("/", &format!("Content-Length: {size}\r\n"), ""));
    let mut sending = client.tcp.try_clone().unwrap();
    let sent = std::thread::spawn(move || sending.write_all(&vec![b'x'; size]));
    assert_eq!(client.answer().status, 200);
    assert!(sent.join().unwrap().is_err(), "nobody reads so much in vain");
}

#[test]
fn an_early_success_leaves_no_chunked_body_behind() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&post("/", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"));
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    let mut client = bench.connect();
    client.send(&post("/echo", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"));
    let answer = client.answer();
    assert!(answer.status == 200 && !answer.head.contains("connection: close"), "{}", answer.head);
}

#[test]
fn a_body_that_was_given_up_half_read_is_gone() {
    let bench = bench(1, Limits::default());
    for (fields, body) in
        [("Transfer-Encoding: chunked\r\n", "6\r\nabcdef\r\n0\r\n\r\n"), ("Content-Length: 6\r\n", "abcdef")]
    {
        let mut client = bench.connect();
        client.send(&post("/twice", fields, body));
        assert_eq!(client.answer().body, "Err(TooLarge { limit: 4 }) Err(Gone)");
    }
}

#[test]
fn an_unread_body_is_never_taken_for_a_request() {
    let bench = bench(1, Limits { keep_alive: Duration::from_millis(100), ..Limits::default() });
    let smuggled = get("/smuggled");
    let length = smuggled.len();
    let chunk = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    let requests = [
        post("/early", &format!("Content-Length: {length}\r\n"), &smuggled),
        post("/early", &format!("Content-Length: {}\r\n", length + 9), &smuggled),
        post("/early", "Transfer-Encoding: chunked\r\n", &chunk),
        post("/panic", &format!("Content-Length: {}\r\n", length + 9), &smuggled),
        format!("GET /early HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
    ];
    for request in requests {
        let mut client = bench.connect();
        client.send(&request);
        let all = client.rest();
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{request:?} got {all:?}");
        assert_eq!(bench.next_start(), request.split(' ').nth(1).unwrap());
        assert!(bench.started.try_recv().is_err(), "{request:?} was taken for two requests");
    }
}

#[test]
fn a_large_unread_body_does_not_cost_the_client_its_answer() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&post("/early", "Content-Length: 60000\r\n", &"x".repeat(50_000)));
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (401, "early"));
    client.send(&"x".repeat(5_000));
}

#[test]
fn what_the_gate_refuses_gets_a_problem_and_never_reaches_the_handler() {
    let bench = bench(1, Limits { head: 8192, headers: 10, ..Limits::default() });
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(8192));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10));
    let table: &[(&str, &str, &str)] = &[
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400",
            "request.framing",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400", "request.framing"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400", "request.transfer_encoding"),
        ("GET / HTTP/1.1\nHost: a\n\n", "400", "request.line_end"),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", "400", "request.target"),
        ("GET /\r\n\r\n", "400", "request.line"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", "505", "request.version"),
        (&long, "431", "request.head_too_large"),
        (&many, "431", "request.too_many_headers"),
    ];
    for (request, status, code) in table {
        let all = bench.ask(request);
        assert!(all.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?} got {all:?}");
        assert!(all.contains("application/problem+json") && all.contains(&format!("\"code\":\"{code}\"")), "{all}");
        assert_eq!(bench.next_end(), *code);
    }
    assert!(bench.started.try_recv().is_err());
}

#[test]
fn what_hyper_refuses_is_reported() {
    let bench = bench(1, Limits::default());
    for request in [
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
    ] {
        let all = bench.ask(request);
        assert!(all.starts_with("HTTP/1.1 400 "), "{request:?} got {all:?}");
        assert_eq!(bench.next_end(), "request.malformed", "{request:?}");
    }
    assert!(bench.started.try_recv().is_err());
}

#[test]
fn what_a_service_can_see_is_refused_by_check_head() {
    let bench = bench(1, Limits { url: 100, ..Limits::default() });
    let long = get(&format!("/{}", "x".repeat(100)));
    let table: &[(&str, &str)] = &[
        ("GET / HTTP/1.1\r\n\r\n", "request.host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "request.host"),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "request.host"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "request.target"),
        ("GET /{x} HTTP/1.1\r\nHost: a\r\n\r\n", "request.target"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\n\r\n", "request.header_name"),
        ("CONNECT a:22 HTTP/1.1\r\nHost: a:22\r\n\r\n", "request.method"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "request.method"),
        (&long, "request.url_too_long"),
    ];
    for (request, code) in table {
        let all = bench.ask(request);
        assert!(all.starts_with("HTTP/1.1 4") && all.ends_with(code), "{request:?} got {all:?}");
    }
    assert!(bench.ask("GET / HTTP/1.0\r\n\r\n").ends_with("hello"), "HTTP/1.0 is served, and its connection closed");
}

#[test]
fn a_refused_head_waits_for_the_answers_before_it() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&[get("/wait"), "GET / HTTP/1.1\nHost: a\n\n".to_owned()].concat());
    assert_eq!(bench.next_start(), "/wait");
    bench.seen.go.add_permits(1);
    assert_eq!(client.answer().body, "waited");
    assert_eq!(client.answer().status, 400);
    assert_eq!(client.rest(), "");
}

#[test]
fn bad_chunks_are_the_bodys_fault() {
    let bench = bench(1, Limits::default());
    let mut client = bench.connect();
    client.send(&post("/echo", "Transfer-Encoding: chunked\r\n", "3 \r\nabc\r\n0\r\n\r\n"));
    let answer = client.answer();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("body broken off"), "{}", answer.body);
    assert_eq!(client.rest(), "");
}

#[test]
fn the_client_is_seen_through_trusted_proxies() {
    let bench = bench_behind(1, Limits::default(), &["127.0.0.0/8"], 0);
    let mut client = bench.connect();
    for (field, expected) in [("X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4 https"), ("", "127.0.0.1 https")] {
        client.send(&format!("GET /client HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        assert_eq!(client.answer().body, expected);
    }
}
