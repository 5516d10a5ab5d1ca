//! Calls over HTTP/2 against a server that answers by the path.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};

use super::*;

/// What a server over HTTP/2 has seen.
#[derive(Clone)]
struct Seen {
    origin: Arc<Origin>,
    connections: Rc<Cell<usize>>,
    requests: Rc<RefCell<Vec<String>>>,
    resets: Rc<Cell<usize>>,
    /// `/wait` goes on when this is told.
    release: Rc<Notify>,
}

/// A server in clear that has to be known to speak HTTP/2.
async fn http2_server() -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let origin = Origin::parse(&format!("http://{address}")).unwrap().speaking(Http2::Always);
    let seen = Seen {
        origin: Arc::new(origin),
        connections: Rc::default(),
        requests: Rc::default(),
        resets: Rc::default(),
        release: Rc::default(),
    };
    let serving = seen.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            serving.connections.set(serving.connections.get() + 1);
            let serving = serving.clone();
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let path = request.uri().path().to_owned();
                    let is_first = !serving.requests.borrow().iter().any(|known| known.contains(&path));
                    serving.requests.borrow_mut().push(format!("{request:?}"));
                    tokio::task::spawn_local(answer(serving.clone(), request, respond, is_first));
                    if path == "/leave" {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    seen
}

async fn answer(
    seen: Seen,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    is_first: bool,
) {
    let ok = Response::new(());
    match request.uri().path() {
        "/wait" => {
            tokio::select! {
                () = seen.release.notified() => drop(respond.send_response(ok, true).unwrap()),
                _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => seen.resets.set(seen.resets.get() + 1),
            }
        }
        "/silent-body" => {
            let mut body = respond.send_response(ok, false).unwrap();
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            std::future::poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
            seen.resets.set(seen.resets.get() + 1);
        }
        "/refused" if is_first => respond.send_reset(h2::Reason::REFUSED_STREAM),
        "/echo" => {
            let mut body = respond.send_response(ok, false).unwrap();
            let mut sent = request.into_body();
            while let Some(data) = sent.data().await {
                let data = data.unwrap();
                sent.flow_control().release_capacity(data.len()).unwrap();
                body.send_data(data, false).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("set-cookie", HeaderValue::from_static("a=b"));
            body.send_trailers(trailers).unwrap();
        }
        _ => {
            let mut body = respond.send_response(ok, false).unwrap();
            body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        }
    }
}

fn over(seen: &Seen, method: Method, target: &str) -> Call {
    call(Destination::Origin(seen.origin.clone()), method, target)
}

#[test]
fn calls_share_one_connection() {
    run(async {
        let seen = http2_server().await;
        let pool = Rc::new(pool());
        let asked = (0..20).map(|_| {
            let (pool, call) = (pool.clone(), over(&seen, Method::GET, "/a?b=c"));
            tokio::task::spawn_local(async move { text(pool.send(call).await.unwrap()).await.unwrap() })
        });
        for answer in asked.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap(), "hello");
        }
        assert_eq!((seen.connections.get(), pool.idle()), (1, 1));
        let requests = seen.requests.borrow().clone();
        let authority = seen.origin.authority().to_str().unwrap();
        assert_eq!(requests.len(), 20);
        assert!(requests[0].contains(&format!("http://{authority}/a?b=c")), "{}", requests[0]);
        assert!(requests[0].contains("\"te\": \"trailers\"") && !requests[0].contains("\"host\""), "{}", requests[0]);
        pool.close_idle();
        until(|| pool.is_empty()).await;
    });
}

#[test]
fn bodies_and_trailers_pass() {
    run(async {
        let seen = http2_server().await;
        let mut call = over(&seen, Method::POST, "/echo");
        call.body = Body::Buffered(Bytes::from(vec![b'x'; 300_000]));
        let answer = pool().send(call).await.unwrap();
        let mut body = answer.body.give_all().await;
        assert_eq!(body.pop().unwrap(), "trailers: grpc-status: 0");
        assert_eq!(body.iter().map(String::len).sum::<usize>(), 300_000);
    });
}

/// The frames of a body as texts.
trait GiveAll {
    async fn give_all(self) -> Vec<String>;
}

impl GiveAll for Body {
    async fn give_all(self) -> Vec<String> {
        let mut body = crate::body::Outgoing::new(self);
        let mut all = Vec::new();
        while let Some(frame) =
            std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
        {
            all.push(match frame.unwrap().into_data() {
                Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                Err(other) => {
                    let trailers = other.into_trailers().unwrap();
                    let fields = trailers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
                    format!("trailers: {}", fields.collect::<Vec<_>>().join(", "))
                }
            });
        }
        all
    }
}

#[test]
fn a_refused_stream_is_sent_again_where_that_is_safe() {
    run(async {
        let seen = http2_server().await;
        let pool = pool();
        text(pool.send(over(&seen, Method::GET, "/")).await.unwrap()).await.unwrap();
        assert_eq!(text(pool.send(over(&seen, Method::GET, "/refused")).await.unwrap()).await.unwrap(), "hello");
        seen.requests.borrow_mut().clear();
        let error = pool.send(over(&seen, Method::POST, "/refused")).await.err().unwrap();
        assert!(matches!(&error, SendError::BadAnswer(why) if why.contains("refused")), "{error}");
    });
}

#[test]
fn a_connection_that_says_goodbye_ends_what_it_has_and_the_next_call_opens_another() {
    run(async {
        let seen = http2_server().await;
        let pool = pool();
        for _ in 0..2 {
            assert_eq!(text(pool.send(over(&seen, Method::GET, "/leave")).await.unwrap()).await.unwrap(), "hello");
            until(|| pool.is_empty()).await;
        }
        assert_eq!(seen.connections.get(), 2);
    });
}

#[test]
fn each_call_has_its_own_time_and_resets_its_own_stream() {
    run(async {
        let seen = http2_server().await;
        let pool = Rc::new(pool());
        let mut late = over(&seen, Method::GET, "/wait");
        late.timeouts.first_byte = Duration::from_millis(200);
        let asking = pool.clone();
        let waiting = tokio::task::spawn_local(async move { asking.send(late).await.err() });
        until(|| seen.requests.borrow().len() == 1).await;
        // Another call shows that somebody is there.
        assert_eq!(text(pool.send(over(&seen, Method::GET, "/")).await.unwrap()).await.unwrap(), "hello");
        turn(&pool.wheel, Duration::from_millis(200));
        assert_eq!(waiting.await.unwrap(), Some(SendError::TimeoutFirstByte));
        until(|| seen.resets.get() == 1).await;

        let mut slow = over(&seen, Method::GET, "/silent-body");
        slow.timeouts.total = Duration::from_secs(5);
        let answer = pool.send(slow).await.unwrap();
        let reading = tokio::task::spawn_local(text(answer));
        let wheel = pool.wheel.clone();
        until(|| {
            wheel.turn();
            reading.is_finished()
        })
        .await;
        assert_eq!(reading.await.unwrap(), Err(BodyFault::Timeout));
        until(|| seen.resets.get() == 2).await;
        assert_eq!(text(pool.send(over(&seen, Method::GET, "/")).await.unwrap()).await.unwrap(), "hello");
        assert_eq!(seen.connections.get(), 1, "the others' connection lives");
    });
}

#[test]
fn a_connection_on_which_nothing_comes_is_not_used_again() {
    run(async {
        let seen = http2_server().await;
        let pool = Rc::new(pool());
        // Behind the second answer nothing of the beginning is on its way any more.
        for _ in 0..2 {
            text(pool.send(over(&seen, Method::GET, "/")).await.unwrap()).await.unwrap();
        }
        let asking = (pool.clone(), over(&seen, Method::GET, "/wait"));
        let waiting = tokio::task::spawn_local(async move { asking.0.send(asking.1).await.err() });
        until(|| seen.requests.borrow().len() == 3).await;
        turn(&pool.wheel, Timeouts::default().first_byte);
        assert_eq!(waiting.await.unwrap(), Some(SendError::TimeoutFirstByte));
        text(pool.send(over(&seen, Method::GET, "/")).await.unwrap()).await.unwrap();
        assert_eq!(seen.connections.get(), 2);
    });
}

#[test]
fn an_unused_connection_is_closed_in_time() {
    run(async {
        let seen = http2_server().await;
        let pool = pool();
        text(pool.send(over(&seen, Method::GET, "/")).await.unwrap()).await.unwrap();
        assert_eq!(pool.idle(), 1);
        turn(&pool.wheel, PoolLimits::default().idle);
        until(|| pool.is_empty()).await;
    });
}

#[test]
fn an_upstream_that_speaks_http_1_is_told_apart() {
    run(async {
        let plain = server(vec![vec![send("HTTP/1.1 400 Bad Request\r\n\r\n")]]).await;
        let origin = Origin::parse(plain.origin.text()).unwrap().speaking(Http2::Always);
        let error = pool().send(call(Destination::Origin(Arc::new(origin)), Method::POST, "/")).await.err().unwrap();
        assert!(matches!(error, SendError::BadAnswer(_) | SendError::Connect(_)), "{error}");
    });
}
