//! HTTP/2 over real sockets: a client that keeps to the rules, and bytes of one that does not.

use http::HeaderMap;
use tokio::task::JoinHandle;

use super::*;
use crate::tls::testing::{Authority, Folder, listening};

/// A client that keeps to the rules.
struct Http2 {
    sender: h2::client::SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

fn block<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await }).expect("it waits for what does not come")
}

impl Http2 {
    async fn connect(bench: &Bench) -> Http2 {
        Http2::with(bench, &mut h2::client::Builder::new()).await
    }

    async fn with(bench: &Bench, builder: &mut h2::client::Builder) -> Http2 {
        let tcp = tokio::net::TcpStream::connect(bench.address()).await.unwrap();
        let (sender, connection) = builder.handshake(tcp).await.unwrap();
        Http2 { sender, connection: tokio::spawn(connection) }
    }

    /// Begins a request; the answer comes when it is awaited.
    async fn begin(&self, request: Request<()>, body: &'static str) -> h2::client::ResponseFuture {
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (answer, mut stream) = sender.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
        }
        answer
    }

    async fn ask(&self, request: Request<()>, body: &'static str) -> Got {
        let answer = self.begin(request, body).await.await.unwrap();
        read(answer).await.unwrap()
    }
}

async fn read(answer: Response<h2::RecvStream>) -> Result<Got, h2::Error> {
    let (parts, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(Got { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8(body).unwrap() })
}

fn get2(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).body(()).unwrap()
}

#[test]
fn requests_share_a_connection_and_do_not_wait_for_each_other() {
    let bench = bench(1, Limits::default());
    block(async {
        let client = Http2::connect(&bench).await;
        let waiting = client.begin(get2("/wait"), "").await;
        let post = Request::post("http://a.test/echo").body(()).unwrap();
        assert_eq!(client.ask(post, "some text").await.body, "some text");
        assert_eq!(client.ask(get2("/client"), "").await.body, "127.0.0.1 http");
        let empty = client.ask(get2("/empty"), "").await;
        assert_eq!((empty.status, empty.body.as_str(), empty.headers.contains_key("connection")), (204, "", false));
        bench.seen.go.add_permits(1);
        assert_eq!(read(waiting.await.unwrap()).await.unwrap().body, "waited");
        assert_eq!(client.ask(get2("/large"), "").await.body.len(), 64 << 20);
    });
}

#[test]
fn http_2_is_agreed_on_over_tls() {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let bench = bench_over(1, Limits::default(), listening(&folder.0, &authority, &["a.test"]));
    block(async {
        let tcp = tokio::net::TcpStream::connect(bench.address()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
        let connector = tokio_rustls::TlsConnector::from(authority.client(&[b"h2", b"http/1.1"]));
        let tls = connector.connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = h2::client::handshake(tls).await.unwrap();
        let client = Http2 { sender, connection: tokio::spawn(connection) };
        let request = Request::get("https://a.test/client").body(()).unwrap();
        assert_eq!(client.ask(request, "").await.body, "127.0.0.1 https");
    });
}

#[test]
fn heads_are_held_to_the_rules_of_http_1() {
    let bench = bench(1, Limits { headers: 10, ..Limits::default() });
    let with = |name: &str, value: &str| Request::get("http://a.test/").header(name, value).body(()).unwrap();
    let many = (0..11).fold(Request::get("http://a.test/"), |all, index| all.header(format!("x-{index}"), "y"));
    let mut two_lengths = with("content-length", "0");
    two_lengths.headers_mut().append("content-length", http::HeaderValue::from_static("0"));
    let table = [
        (with("host", "a.test"), 200, "hello"),
        (with("host", "b.test"), 400, "request.host"),
        (with("x_y", "1"), 400, "request.header_name"),
        (with("x", &"y".repeat(9000)), 431, "request.header_too_large"),
        (Request::get("http://u@a.test/").body(()).unwrap(), 400, "request.host"),
        (Request::get("http://a.test/%zz").body(()).unwrap(), 400, "request.target"),
        (Request::get("http://a.test/a|b").body(()).unwrap(), 400, "request.target"),
        (Request::trace("http://a.test/").body(()).unwrap(), 405, "request.method"),
        (Request::connect("a.test:22").body(()).unwrap(), 405, "request.method"),
        (many.body(()).unwrap(), 431, "request.too_many_headers"),
        (Request::builder().method(&*"M".repeat(65)).uri("http://a.test/").body(()).unwrap(), 400, "request.method"),
        (two_lengths, 400, "request.framing"),
    ];
    block(async {
        let client = Http2::connect(&bench).await;
        for (request, status, body) in table {
            let said = format!("{request:?}");
            let got = client.ask(request, "").await;
            assert_eq!((got.status, got.body.as_str()), (status, body), "{said}");
        }
        assert_eq!(client.ask(get2("/"), "").await.body, "hello", "no stream ends the connection");
    });
}

#[test]
fn a_request_that_its_client_takes_back_ends() {
    let bench = bench(1, Limits::default());
    block(async {
        let client = Http2::connect(&bench).await;
        drop(client.begin(get2("/wait"), "").await);
        assert_eq!(client.ask(get2("/"), "").await.body, "hello");
    });
    assert_eq!(bench.next_end(), "gone");
}

#[test]
fn an_answer_that_nobody_reads_ends_and_its_connection_does_not() {
    let limits = Limits { body_idle: Duration::from_millis(200), ..Limits::default() };
    let bench = bench(1, limits);
    block(async {
        // The window of the connection has room for more than that of one stream.
        let client = Http2::with(&bench, h2::client::Builder::new().initial_connection_window_size(1 << 20)).await;
        let unread = client.begin(get2("/large"), "").await.await.unwrap();
        let (_, mut stream) = unread.into_parts();
        // The window fills up and is never given back.
        let error = loop {
            match stream.data().await.expect("the answer ended as if it were whole") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert_eq!(client.ask(get2("/"), "").await.body, "hello");
    });
    assert_eq!(bench.running.shared().in_flight(), 0);
}

#[test]
fn a_drain_says_goodbye_and_lets_requests_end() {
    let bench = bench(1, Limits::default());
    block(async {
        let client = Http2::connect(&bench).await;
        assert_eq!(client.ask(get2("/"), "").await.body, "hello", "the connection is taken");
        let waiting = client.begin(get2("/wait"), "").await;
        let running = bench.running.clone();
        let draining = tokio::task::spawn_blocking(move || running.drain(PATIENCE));
        let refused = async {
            // The first thing that a client sees of a drain is that it can begin no more.
            loop {
                match client.sender.clone().ready().await {
                    Ok(mut sender) => match sender.send_request(get2("/empty"), true) {
                        Ok((answer, _)) => drop(answer.await),
                        Err(error) => break error,
                    },
                    Err(error) => break error,
                }
            }
        };
        // It hears of the drain itself, or is told by its own side that has heard of it.
        let refused: h2::Error = refused.await;
        assert!(!refused.is_io() && !refused.is_reset(), "{refused}");
        bench.seen.go.add_permits(1);
        assert_eq!(read(waiting.await.unwrap()).await.unwrap().body, "waited");
        assert!(client.connection.await.unwrap().is_ok());
        assert_eq!(draining.await.unwrap().cut, 0);
    });
}

#[test]
fn a_connection_has_its_number_of_requests_and_its_time() {
    let bench = bench(1, Limits { requests_per_connection: 3, ..Limits::default() });
    block(async {
        let client = Http2::connect(&bench).await;
        for _ in 0..3 {
            assert_eq!(client.ask(get2("/"), "").await.body, "hello");
        }
        assert!(client.connection.await.unwrap().is_ok(), "told that it ends");
    });
    let bench = super::bench(1, Limits { keep_alive: Duration::from_millis(100), ..Limits::default() });
    block(async {
        let client = Http2::connect(&bench).await;
        assert_eq!(client.ask(get2("/"), "").await.body, "hello");
        assert!(client.connection.await.unwrap().is_ok(), "told that it ends");
    });
}

#[test]
fn streams_above_the_limit_wait_their_turn() {
    let bench = bench(1, Limits { h2_streams: 2, ..Limits::default() });
    block(async {
        let client = Http2::connect(&bench).await;
        assert_eq!(client.ask(get2("/"), "").await.body, "hello"); // the settings have arrived
        assert_eq!(client.sender.current_max_send_streams(), 2);
    });
}

/// The beginning of a connection: preface and settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of `GET /` to `a.test` (RFC 7541 §6).
const FIELDS: &[u8] = b"\x82\x86\x84\x01\x06a.test";

/// Sends bytes until the server closes, or all are sent; what it said.
fn pour(bench: &Bench, bytes: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut client = bench.connect();
    client.tcp.write_all(HELLO).unwrap();
    for piece in bytes {
        if client.tcp.write_all(&piece).is_err() {
            break;
        }
    }
    let mut said = Vec::new();
    // Bytes that nobody read may reset the connection.
    let _ = client.tcp.read_to_end(&mut said);
    said
}

#[test]
fn floods_end_their_connection() {
    let bench = bench(1, Limits::default());
    let open = frame(1, 4, 1, FIELDS);
    let times = |piece: Vec<u8>| std::iter::repeat_n(piece.repeat(100), 10_000);
    let floods = [
        ("ping", frame(6, 0, 0, &[0; 8])),
        ("settings", frame(4, 0, 0, &[])),
        ("priority", frame(2, 0, 3, &[0, 0, 0, 0, 1])),
        ("window updates", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("an unknown type", frame(0xee, 0, 0, &[])),
    ];
    for (what, flood) in floods {
        let said = pour(&bench, times(flood));
        assert!(said.len() < 1 << 16, "{what}: {} bytes were sent", said.len());
        assert_eq!(bench.next_end(), "request.http2_flood", "{what}");
    }
    for (what, begin, flood) in [
        ("empty data", open.clone(), frame(0, 0, 1, &[])),
        ("continuations", frame(1, 0, 1, FIELDS), frame(9, 0, 1, &[])),
    ] {
        pour(&bench, std::iter::once(begin).chain(times(flood)));
        let code = std::iter::repeat_with(|| bench.next_end()).find(|code| *code != "gone").unwrap();
        assert!(code.starts_with("request.http2"), "{what}: {code}");
    }
    let mut other = bench.connect();
    other.send(&get("/"));
    assert_eq!(other.answer().status, 200, "others are served");
}

#[test]
fn streams_that_are_taken_back_at_once_reach_few_handlers() {
    const STREAMS: u32 = 20_000;
    let bench = bench(1, Limits::default());
    let rapid = (0..STREAMS).map(|index| {
        let stream = index * 2 + 1;
        [frame(1, 5, stream, FIELDS), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    });
    pour(&bench, rapid);
    let code = std::iter::repeat_with(|| bench.next_end()).find(|code| *code != "gone").unwrap();
    assert!(code.starts_with("request.http2"), "{code}");
    let begun = bench.started.try_iter().count();
    assert!(begun <= STREAMS as usize / 100, "{begun} handlers began");
}

#[test]
fn what_is_no_http_2_ends_its_connection_and_is_recorded() {
    let bench = bench(1, Limits::default());
    for (what, bytes) in [
        ("data of no stream", frame(0, 0, 1, b"x")),
        ("a header block that cannot be read", frame(1, 5, 1, &[0xff; 20])),
        ("an even stream", frame(1, 5, 2, FIELDS)),
        ("a frame that is too large", frame(0, 0, 1, &vec![0; 20_000])),
    ] {
        let said = pour(&bench, std::iter::once(bytes));
        assert!(said.windows(5).any(|window| window == [0, 0, 8, 7, 0]), "{what}: no GOAWAY in {said:?}");
        assert_eq!(bench.next_end(), "request.http2", "{what}");
    }
}

#[test]
fn malformed_heads_reset_their_stream() {
    let bench = bench(1, Limits::default());
    let literal = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("x", "a\r\nb: c"),
        ("x", "a\0b"),
        ("X-Upper", "1"),
        (":path", "/second"),
        (":protocol", "websocket"),
        ("content-length", "+5"),
    ] {
        let fields = [FIELDS, &literal(name, value)].concat();
        let ping = frame(6, 0, 0, &[0; 8]);
        let mut client = bench.connect();
        client.tcp.write_all(&[HELLO, &frame(1, 4, 1, &fields), &ping].concat()).unwrap();
        let reset = frame(3, 0, 1, &[0, 0, 0, 1]);
        let has = |said: &[u8], part: &[u8]| said.windows(part.len()).any(|window| window == part);
        // Read until it has come: a client that had closed its side is owed nothing.
        while !has(&client.held, &reset) && !has(&client.held, &[0, 0, 8, 7, 0]) {
            assert!(client.more(), "{name}: {value:?}: {:?}", client.held);
        }
    }
    assert!(bench.started.try_recv().is_err(), "one reached a handler");
}

#[test]
fn half_a_head_has_the_time_of_a_head() {
    let bench = bench(1, Limits { head_time: Duration::from_millis(200), ..Limits::default() });
    pour(&bench, std::iter::once(frame(1, 0, 1, FIELDS)));
    assert_eq!(bench.next_end(), "request.head_timeout");
    pour(&bench, std::iter::empty());
    assert_eq!(bench.next_end(), "request.none");
}
