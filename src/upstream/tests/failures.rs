//! Upstreams that misbehave, clients that leave, and waits that take too long.

use super::*;

/// What one call meets when the server answers with `answer` and closes.
async fn failure(answer: &str) -> SendError {
    let server = server(vec![vec![Read(0), send(answer)]]).await;
    let pool = pool();
    let failure = pool.send(to(&server, Method::GET)).await.err().expect(answer);
    assert_eq!(server.connections.get(), 1, "{answer}");
    assert_eq!(pool.idle(), 0);
    failure
}

#[test]
fn malformed_answers_are_refused() {
    run(async {
        let many: String = (0..101).map(|index| format!("x-{index}: 1\r\n")).collect();
        for answer in [
            "",
            "HTTP/1.1 200",
            "garbage\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
            &format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
            &format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
            &format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(64 << 10)),
        ] {
            let error = failure(answer).await;
            assert!(matches!(error, SendError::BadAnswer(_)), "{error:?} for {:.60}", answer);
        }
    });
}

#[test]
fn an_answer_that_breaks_off_breaks_its_body() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n\r\n",
        ] {
            let server = server(vec![vec![Read(0), send(answer)]]).await;
            let pool = pool();
            let received = pool.send(to(&server, Method::GET)).await.unwrap();
            assert!(matches!(text(received).await, Err(BodyFault::Broken(_))), "{answer}");
            until(|| pool.idle() == 0).await;
        }
    });
}

#[test]
fn a_refused_connection_is_told_apart() {
    run(async {
        let closed = refusing_server();
        let error = pool().send(to(&closed, Method::GET)).await.err().unwrap();
        assert!(matches!(error, SendError::Connect(_)), "{error:?}");
    });
}

#[test]
fn private_addresses_are_refused_also_on_idle_connections() {
    run(async {
        let server = server(vec![vec![Read(0), send("HTTP/1.1 204 No Content\r\n\r\n"), AwaitClose]]).await;
        let pool = pool();
        let public = || Call { addresses: Addresses::Public(Arc::from([])), ..to(&server, Method::GET) };
        let refused = Some(SendError::AddressRefused("127.0.0.1".parse().unwrap()));
        assert_eq!(pool.send(public()).await.err(), refused);
        pool.send(to(&server, Method::GET)).await.unwrap();
        until(|| pool.idle() == 1).await;
        assert_eq!(pool.send(public()).await.err(), refused);
    });
}

#[test]
fn a_slow_head_meets_its_timeouts() {
    run(async {
        let seconds = Duration::from_secs;
        for (first_byte, total, expected) in
            [(seconds(1), seconds(60), SendError::TimeoutFirstByte), (seconds(60), seconds(1), SendError::TimeoutTotal)]
        {
            let server = server(vec![vec![Read(0), send("HTTP/1.1 200 OK\r\n"), AwaitClose]]).await;
            let pool = Rc::new(pool());
            let mut slow = to(&server, Method::GET);
            slow.timeouts = Timeouts { first_byte, total, ..Timeouts::default() };
            let sending = tokio::task::spawn_local({
                let pool = pool.clone();
                async move { pool.send(slow).await }
            });
            server.was_read.notified().await;
            turn(&pool.wheel, seconds(1));
            assert_eq!(sending.await.unwrap().err(), Some(expected));
            server.was_closed.notified().await;
        }
    });
}

#[test]
fn a_body_that_takes_too_long_in_all_is_broken_off() {
    run(async {
        let server = server(vec![vec![Read(0), send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"), AwaitClose]]);
        let server = server.await;
        let pool = pool();
        let mut slow = to(&server, Method::GET);
        slow.timeouts.total = Duration::from_secs(1);
        let answer = pool.send(slow).await.unwrap();
        turn(&pool.wheel, Duration::from_secs(1));
        assert!(matches!(text(answer).await, Err(BodyFault::Broken(_))));
        server.was_closed.notified().await;
    });
}

#[test]
fn silence_inside_a_body_is_bounded() {
    run(async {
        let server = server(vec![vec![Read(0), send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"), AwaitClose]]);
        let server = server.await;
        let pool = pool();
        let mut slow = to(&server, Method::GET);
        slow.timeouts.idle = Duration::from_secs(1);
        let reading = tokio::task::spawn_local({
            let answer = pool.send(slow).await.unwrap();
            text(answer)
        });
        for _ in 0..1000 {
            tokio::task::yield_now().await; // the body has to be waited for before its time runs
        }
        turn(&pool.wheel, Duration::from_secs(1));
        assert_eq!(reading.await.unwrap(), Err(BodyFault::Timeout));
        server.was_closed.notified().await;
    });
}

#[test]
fn a_call_that_is_dropped_closes_its_connection() {
    run(async {
        let server = server(vec![vec![Read(0), AwaitClose]]).await;
        let pool = Rc::new(pool());
        let sending = tokio::task::spawn_local({
            let (pool, call) = (pool.clone(), to(&server, Method::GET));
            async move { pool.send(call).await.map(|answer| answer.status) }
        });
        server.was_read.notified().await;
        sending.abort();
        server.was_closed.notified().await;
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn a_fault_of_the_request_body_is_not_the_upstreams() {
    run(async {
        let pool = pool();
        let source = server(vec![vec![Read(0), send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")]]).await;
        let body = pool.send(to(&source, Method::GET)).await.unwrap().body;
        let sink = server(vec![vec![Read(0), AwaitClose]]).await;
        let mut upstream = Upstream::new("one", vec![Arc::new(Target::new(sink.origin.clone(), 1))]).unwrap();
        upstream.eject = Some(Eject { failures: 1, for_: Duration::from_secs(1), at_most_percent: 100 });
        let upstream = Arc::new(upstream);
        let broken = Call { body, ..call(Destination::Upstream(upstream.clone()), Method::POST, "/") };
        let error = pool.send(broken).await.err().unwrap();
        assert!(matches!(error, SendError::RequestBody(BodyFault::Broken(_))), "{error:?}");
        assert!(!upstream.targets()[0].is_ejected(pool.clock.mono_ms()));
        sink.was_closed.notified().await;

        let gone = Call { body: Body::Gone, ..to(&sink, Method::POST) };
        assert!(matches!(pool.send(gone).await, Err(SendError::RequestBody(BodyFault::Gone) | SendError::Connect(_))));
    });
}

#[test]
fn the_pool_lets_go_of_origins_that_have_no_connection() {
    run(async {
        let server = server(vec![vec![Read(0), send("HTTP/1.1 200 OK\r\n\r\nx")]]).await;
        let pool = pool();
        text(pool.send(to(&server, Method::GET)).await.unwrap()).await.unwrap();
        until(|| pool.is_empty()).await;
    });
}
