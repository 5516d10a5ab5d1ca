//! What is sent, what answers are understood, and when a connection is used again.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};

use super::*;

/// More than the kernel takes off a sender's hands, bytes.
const BEYOND_SOCKET_BUFFERS: usize = 64 << 20;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn the_request_says_what_it_must_and_no_more() {
    run(async {
        let server = server(vec![vec![Read(0), send(OK), Read(0), send(OK), Read(3), send(OK), AwaitClose]]).await;
        let pool = pool();
        let mut get = to(&server, Method::GET);
        get.headers.insert("x-one", HeaderValue::from_static("1"));
        get.headers.insert("expect", HeaderValue::from_static("100-continue"));
        get.headers.insert("content-length", HeaderValue::from_static("9"));
        assert_eq!(text(pool.send(get).await.unwrap()).await.unwrap(), "ok");
        until(|| pool.idle() == 1).await;
        let mut post = to(&server, Method::POST);
        post.host = HostHeader::Client;
        post.client_host = Some(HeaderValue::from_static("api.example"));
        assert_eq!(text(pool.send(post).await.unwrap()).await.unwrap(), "ok");
        until(|| pool.idle() == 1).await;
        let mut put = to(&server, Method::PUT);
        put.host = HostHeader::Literal(HeaderValue::from_static("x.example"));
        put.body = Body::Buffered(Bytes::from_static(b"abc"));
        assert_eq!(text(pool.send(put).await.unwrap()).await.unwrap(), "ok");
        let authority = server.origin.authority().to_str().unwrap();
        assert_eq!(
            *server.seen.borrow(),
            [
                format!("GET /a?b=c HTTP/1.1\r\nx-one: 1\r\nhost: {authority}\r\n\r\n"),
                "POST /a?b=c HTTP/1.1\r\ncontent-length: 0\r\nhost: api.example\r\n\r\n".to_owned(),
                "PUT /a?b=c HTTP/1.1\r\nhost: x.example\r\ncontent-length: 3\r\n\r\nabc".to_owned(),
            ]
        );
        assert_eq!(server.connections.get(), 1);
    });
}

/// Sends one call and returns the text of its answer and whether its connection was kept.
async fn outcome(method: Method, answer: &str) -> (Answer, Pool) {
    let server = server(vec![vec![Read(0), send(answer), AwaitClose]]).await;
    let pool = pool();
    let answer = pool.send(to(&server, method)).await.unwrap();
    (answer, pool)
}

#[test]
fn delimited_answers_leave_the_connection_usable() {
    run(async {
        for (method, answer, body) in [
            (Method::GET, OK, "ok"),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
                "abcd",
            ),
            (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", ""),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", ""),
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
            (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", ""),
            (
                Method::GET,
                "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                "ok",
            ),
        ] {
            let (received, pool) = outcome(method, answer).await;
            assert!(!received.headers.contains_key("transfer-encoding") && !received.headers.contains_key("link"));
            assert_eq!(text(received).await.unwrap(), body, "{answer}");
            until(|| pool.idle() == 1).await;
        }
    });
}

#[test]
fn a_head_answer_keeps_its_length() {
    run(async {
        let (answer, _pool) = outcome(Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
        assert_eq!(answer.headers[CONTENT_LENGTH], "5");
        assert!(matches!(answer.body, Body::Empty));
    });
}

#[test]
fn connections_that_end_with_the_answer_are_not_kept() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        ] {
            let server = server(vec![vec![Read(0), send(answer), AwaitClose]]).await;
            let pool = pool();
            let received = pool.send(to(&server, Method::GET)).await.unwrap();
            assert!(!received.headers.contains_key("connection"));
            assert_eq!(text(received).await.unwrap(), "ok");
            server.was_closed.notified().await;
            assert_eq!(pool.idle(), 0);
        }
    });
}

#[test]
fn a_close_delimited_answer_ends_with_its_connection() {
    run(async {
        let server = server(vec![vec![Read(0), send("HTTP/1.1 200 OK\r\n\r\nall of it")]]).await;
        let pool = pool();
        let answer = pool.send(to(&server, Method::GET)).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "all of it");
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn bytes_after_an_answer_cost_the_connection() {
    run(async {
        let extra = format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
        let server = server(vec![vec![Read(0), send(&extra), AwaitClose], vec![Read(0), send(OK)]]).await;
        let pool = pool();
        let first = pool.send(to(&server, Method::GET)).await.unwrap();
        assert_eq!(text(first).await.unwrap(), "ok");
        server.was_closed.notified().await;
        let second = pool.send(to(&server, Method::GET)).await.unwrap();
        assert!(!second.reused);
        assert_eq!(text(second).await.unwrap(), "ok");
    });
}

#[test]
fn an_unread_body_costs_the_connection() {
    run(async {
        let server =
            server(vec![vec![Read(0), send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"), AwaitClose]]).await;
        let pool = pool();
        drop(pool.send(to(&server, Method::GET)).await.unwrap());
        server.was_closed.notified().await;
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn the_body_of_an_answer_to_head_is_not_passed_on() {
    run(async {
        let (answer, _pool) = {
            let server = server(vec![vec![Read(0), send(OK), AwaitClose]]).await;
            let pool = pool();
            let mut get = to(&server, Method::GET);
            get.answer_to_head = true;
            (pool.send(get).await.unwrap(), pool)
        };
        assert!(matches!(answer.body, Body::Empty));
        assert_eq!(answer.headers[CONTENT_LENGTH], "2");
    });
}

/// A body that streams: the answer of another server. It ends when that server is released.
async fn streaming_body(pool: &Pool, head: &str, rest: &str) -> (Server, Body) {
    let source = server(vec![vec![Read(0), send(head), Hold, send(rest)]]).await;
    let answer = pool.send(to(&source, Method::GET)).await.unwrap();
    (source, answer.body)
}

#[test]
fn bodies_stream_through_with_their_framing() {
    run(async {
        let pool = pool();
        let sink = server(vec![vec![Read(4), send(OK), Read(16), send(OK), AwaitClose]]).await;
        let (source, body) = streaming_body(&pool, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", "cd").await;
        source.release.notify_one();
        let sized = Call { body, ..to(&sink, Method::POST) };
        assert_eq!(text(pool.send(sized).await.unwrap()).await.unwrap(), "ok");
        until(|| pool.idle() == 1).await;
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n";
        let (source, body) = streaming_body(&pool, chunked, "").await;
        source.release.notify_one();
        let unsized_get = Call { body, ..to(&sink, Method::GET) };
        assert_eq!(text(pool.send(unsized_get).await.unwrap()).await.unwrap(), "ok");
        let seen = sink.seen.borrow();
        assert!(seen[0].contains("content-length: 4\r\n") && seen[0].ends_with("\r\n\r\nabcd"), "{}", seen[0]);
        let framed = "\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n";
        assert!(seen[1].contains("transfer-encoding: chunked\r\n") && seen[1].ends_with(framed), "{}", seen[1]);
    });
}

#[test]
fn an_answer_before_the_request_was_sent_costs_the_connection() {
    run(async {
        let pool = pool();
        let early = server(vec![vec![Read(2), send(OK), Read(0), AwaitClose]]).await;
        let (source, body) = streaming_body(&pool, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nab", "\r\n\r\n").await;
        let answer = pool.send(Call { body, ..to(&early, Method::POST) }).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
        source.release.notify_one(); // now the rest of the request is sent
        early.was_closed.notified().await;
        assert_eq!(early.seen.borrow().len(), 2);
        until(|| pool.idle() == 0).await;
        assert_eq!(early.connections.get(), 1);
    });
}

#[test]
fn an_answer_before_a_held_body_was_taken_costs_the_connection() {
    run(async {
        let server = server(vec![vec![Read(0), send(OK), Hold, AwaitClose]]).await;
        let pool = pool();
        let body = Body::Buffered(Bytes::from(vec![0; BEYOND_SOCKET_BUFFERS]));
        let answer = pool.send(Call { body, ..to(&server, Method::POST) }).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
        server.release.notify_one(); // only now it takes the rest
        server.was_closed.notified().await;
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn an_early_answer_survives_that_its_sender_closes() {
    run(async {
        let pool = pool();
        let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
        let server = server(vec![vec![Read(0), send(refusal)]]).await;
        let body = Body::Buffered(Bytes::from(vec![0; BEYOND_SOCKET_BUFFERS]));
        let answer = pool.send(Call { body, ..to(&server, Method::POST) }).await.unwrap();
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text(answer).await.unwrap(), "big");
    });
}

#[test]
fn idle_connections_are_closed_in_time_and_on_demand() {
    run(async {
        let kept = || vec![Read(0), send(OK), AwaitClose];
        let server = server(vec![kept(), kept()]).await;
        let pool = pool();
        for _ in 0..2 {
            text(pool.send(to(&server, Method::GET)).await.unwrap()).await.unwrap();
            until(|| pool.idle() == 1).await;
            if server.connections.get() == 1 {
                turn(&pool.wheel, PoolLimits::default().idle);
            } else {
                pool.close_idle();
            }
            server.was_closed.notified().await;
            until(|| pool.idle() == 0).await;
        }
        assert_eq!(server.connections.get(), 2);
    });
}

#[test]
fn the_bounds_of_an_exchange_end_with_their_phase() {
    run(async {
        let head = send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no");
        let server = server(vec![vec![Read(0), head, Hold, send("k"), AwaitClose]]).await;
        let pool = pool();
        let mut get = to(&server, Method::GET);
        get.timeouts.first_byte = Duration::from_secs(1);
        get.timeouts.total = Duration::from_secs(10);
        let answer = pool.send(get).await.unwrap();
        turn(&pool.wheel, Duration::from_secs(5));
        server.release.notify_one();
        assert_eq!(text(answer).await.unwrap(), "ok");
        until(|| pool.idle() == 1).await;
        turn(&pool.wheel, Duration::from_secs(10));
        for _ in 0..100 {
            tokio::task::yield_now().await; // its task would have run by now
        }
        assert_eq!(pool.idle(), 1);
    });
}

#[test]
fn calls_above_the_bound_wait_for_a_connection() {
    run(async {
        let server = server(vec![vec![Read(0), Hold, send(OK), Read(0), send(OK), AwaitClose]]).await;
        let mut upstream = Upstream::new("one", vec![Arc::new(Target::new(server.origin.clone(), 1))]).unwrap();
        upstream.pool.max = 1;
        let destination = Destination::Upstream(Arc::new(upstream));
        let pool = Rc::new(pool());
        let ask = || {
            let (pool, call) = (pool.clone(), call(destination.clone(), Method::GET, "/"));
            tokio::task::spawn_local(async move { text(pool.send(call).await?).await.map_err(SendError::RequestBody) })
        };
        let first = ask();
        server.was_read.notified().await;
        let second = ask();
        tokio::task::yield_now().await;
        server.release.notify_one();
        assert_eq!(first.await.unwrap().unwrap(), "ok");
        assert_eq!(second.await.unwrap().unwrap(), "ok");
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn a_name_is_looked_up() {
    run(async {
        let server = server(vec![vec![Read(0), send(OK)]]).await;
        let origin = Origin::parse(&format!("http://localhost:{}", server.origin.port)).unwrap();
        let pool = pool();
        let answer = pool.send(call(Destination::Origin(Arc::new(origin)), Method::GET, "/")).await.unwrap();
        assert_eq!(&*answer.target, format!("http://localhost:{}", server.origin.port));
        assert!(server.seen.borrow()[0].contains(&format!("{HOST}: localhost:{}\r\n", server.origin.port)));
    });
}

#[test]
fn bytes_are_counted_as_they_come() {
    run(async {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        for (sent, bytes) in [(OK, 2), (chunked, 4)] {
            let (answer, _pool) = outcome(Method::GET, sent).await;
            let Body::Stream(inbound) = &answer.body else { panic!("not streamed") };
            let ending = inbound.ending();
            assert_eq!(ending.bytes(), 0);
            text(answer).await.unwrap();
            assert_eq!(ending.bytes(), bytes);
        }
    });
}
