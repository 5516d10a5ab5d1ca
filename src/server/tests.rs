//! Promises of the room over real sockets: raw bytes in, what the client got and what the handler saw.

mod closing;
mod framing;
mod http2;
mod load;
mod proxy;
mod tls;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::sync::Semaphore;

use super::*;
use crate::body::{Arriving, Body, BodyLimits, Inbound};
use crate::clock::wheel::Wheel;

/// Longer than anything here takes: a test that runs into it has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test and the handlers of its server share.
pub(super) struct Seen {
    /// Target of each request, when the handler begins.
    pub(super) started: mpsc::Sender<String>,
    /// Code of each refusal; `gone` for a request that was dropped.
    pub(super) ends: mpsc::Sender<&'static str>,
    /// `/wait` takes one of these.
    pub(super) go: Semaphore,
    /// `/block` holds its whole worker until this is dropped or sent to.
    pub(super) block: Mutex<mpsc::Receiver<()>>,
    pub(super) made: AtomicUsize,
}

struct Tiny {
    kept: RefCell<Vec<Arriving>>,
    seen: Arc<Seen>,
    wheel: Wheel,
    limits: Arc<Limits>,
}

struct Gone(Option<Arc<Seen>>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(seen) = self.0.take() {
            let _ = seen.ends.send("gone");
        }
    }
}

impl Tiny {
    async fn respond(&self, peer: &Peer, request: Request<Arriving>) -> Response<Body> {
        let (parts, incoming) = request.into_parts();
        let _ = self.seen.started.send(parts.uri.to_string());
        let answer = |status: u16, text: String| {
            let mut response = Response::new(Body::Buffered(Bytes::from(text)));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        if let Err(fault) = check_head(&parts, &self.limits) {
            let mut response = answer(fault.status.as_u16(), fault.code.to_string());
            response.headers_mut().insert("connection", "close".parse().unwrap());
            return response;
        }
        match parts.uri.path() {
            "/empty" => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            "/echo" => {
                let limits = BodyLimits { bytes: 1 << 20, idle: PATIENCE, rate: 0 };
                let mut body = Body::Stream(Box::new(Inbound::new(incoming, limits, &self.wheel)));
                match body.buffer(1 << 20).await {
                    Ok(()) => Response::new(body),
                    Err(fault) => answer(400, fault.to_string()),
                }
            }
            // Reads a body that is larger than it may be, and asks for it once more.
            "/twice" => {
                let limits = BodyLimits { bytes: 1 << 20, idle: PATIENCE, rate: 0 };
                let mut body = Body::Stream(Box::new(Inbound::new(incoming, limits, &self.wheel)));
                let (first, second) = (body.buffer(4).await, body.buffer(1 << 20).await);
                answer(400, format!("{first:?} {second:?}"))
            }
            "/early" => answer(401, "early".to_owned()),
            "/wait" => {
                self.seen.go.acquire().await.unwrap().forget();
                answer(200, "waited".to_owned())
            }
            "/block" => {
                let _ = self.seen.block.lock().unwrap().recv();
                answer(200, "blocked".to_owned())
            }
            "/panic" => panic!("a handler that panics"),
            // Answers, and keeps the body without reading it.
            "/keep" => {
                self.kept.borrow_mut().push(incoming);
                answer(200, "kept".to_owned())
            }
            // Begins and breaks off.
            "/broken" => Response::new(Body::Gone),
            "/large" => answer(200, "x".repeat(64 << 20)),
            "/client" => answer(200, format!("{} {}", peer.client_ip, peer.scheme)),
            _ => answer(200, "hello".to_owned()),
        }
    }
}

impl Handler for Tiny {
    async fn handle(self: Rc<Self>, peer: Rc<Peer>, request: Request<Arriving>) -> Response<Outgoing> {
        let mut gone = Gone(Some(self.seen.clone()));
        let response = self.respond(&peer, request).await;
        gone.0 = None;
        response.map(Outgoing::new)
    }

    fn refused(&self, _: &Peer, refusal: Refusal) {
        let _ = self.seen.ends.send(refusal.code);
    }
}

/// A server with the tiny handler, and the test's ends of what it shares with it.
pub(super) struct Bench {
    pub(super) running: Arc<Running>,
    pub(super) seen: Arc<Seen>,
    pub(super) started: mpsc::Receiver<String>,
    pub(super) ends: mpsc::Receiver<&'static str>,
    pub(super) unblock: mpsc::Sender<()>,
}

pub(super) fn bench(workers: usize, limits: Limits) -> Bench {
    bench_behind(workers, limits, &[], 0)
}

/// A server whose clients come in over TLS.
pub(super) fn bench_over(workers: usize, limits: Limits, tls: Arc<Listening>) -> Bench {
    start(workers, limits, &[], 0, Some(tls))
}

/// A server behind trusted proxies, whose first `failing` handlers cannot be made.
pub(super) fn bench_behind(workers: usize, limits: Limits, trusted: &[&str], failing: usize) -> Bench {
    start(workers, limits, trusted, failing, None)
}

fn start(workers: usize, limits: Limits, trusted: &[&str], failing: usize, tls: Option<Arc<Listening>>) -> Bench {
    start_listening(workers, limits, failing, |listener| {
        listener.trusted_proxies = trusted.iter().map(|net| net.parse().unwrap()).collect();
        listener.behind_tls_proxy = !trusted.is_empty();
        listener.tls = tls;
    })
}

/// A server whose listener is what `change` makes of an ordinary one.
pub(super) fn start_listening(
    workers: usize,
    limits: Limits,
    failing: usize,
    change: impl FnOnce(&mut ListenerConfig),
) -> Bench {
    let (started_in, started) = mpsc::channel();
    let (ends_in, ends) = mpsc::channel();
    let (unblock, block) = mpsc::channel();
    let seen = Arc::new(Seen {
        started: started_in,
        ends: ends_in,
        go: Semaphore::new(0),
        block: Mutex::new(block),
        made: AtomicUsize::new(0),
    });
    let limits = Arc::new(limits);
    let mut listener = ListenerConfig {
        name: "main".into(),
        address: Address::Tcp("127.0.0.1:0".parse().unwrap()),
        trusted_proxies: Arc::new([]),
        announcing_proxies: Arc::new([]),
        behind_tls_proxy: false,
        tls: None,
    };
    change(&mut listener);
    let config = ServerConfig {
        listeners: vec![listener],
        passed: Vec::new(),
        workers,
        limits: limits.clone(),
        clock_origin: Instant::now(),
    };
    let shared = seen.clone();
    let running = Server::start(config, move |seat| {
        let number = shared.made.fetch_add(1, Ordering::Relaxed);
        assert!(number >= failing, "a handler that cannot be made");
        Rc::new(Tiny { kept: RefCell::default(), seen: shared.clone(), wheel: seat.wheel, limits: limits.clone() })
    });
    Bench { running: Arc::new(running.unwrap()), seen, started, ends, unblock }
}

impl Bench {
    pub(super) fn address(&self) -> SocketAddr {
        match self.running.addresses()[0].1 {
            Address::Tcp(address) => address,
            ref other => panic!("{other} has no port"),
        }
    }

    pub(super) fn connect(&self) -> Client {
        let tcp = TcpStream::connect(self.address()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { tcp, held: Vec::new() }
    }

    /// The next request that a handler began.
    pub(super) fn next_start(&self) -> String {
        self.started.recv_timeout(PATIENCE).unwrap()
    }

    /// The next refusal.
    pub(super) fn next_end(&self) -> &'static str {
        self.ends.recv_timeout(PATIENCE).unwrap()
    }

    /// Everything a client gets that sends `bytes` and reads to the end.
    pub(super) fn ask(&self, bytes: &str) -> String {
        let mut client = self.connect();
        client.send(bytes);
        client.rest()
    }
}

/// A client that writes bytes as they are.
pub(super) struct Client {
    pub(super) tcp: TcpStream,
    held: Vec<u8>,
}

/// One answer, with a head in lower case.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Client {
    pub(super) fn send(&mut self, bytes: &str) {
        self.tcp.write_all(bytes.as_bytes()).unwrap();
    }

    fn more(&mut self) -> bool {
        let mut space = [0; 8192];
        match self.tcp.read(&mut space) {
            Ok(0) => false,
            Ok(size) => {
                self.held.extend_from_slice(&space[..size]);
                true
            }
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.held)),
        }
    }

    /// One head, up to its empty line.
    pub(super) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.held.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap().to_ascii_lowercase();
            }
            assert!(self.more(), "closed after {:?}", String::from_utf8_lossy(&self.held));
        }
    }

    /// One answer, whose body has a declared length or none.
    pub(super) fn answer(&mut self) -> Answer {
        let head = self.head();
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.held.len() < length {
            assert!(self.more(), "closed in a body");
        }
        let body = String::from_utf8(self.held.drain(..length).collect()).unwrap();
        Answer { status, head, body }
    }

    /// The same for what is no text.
    pub(super) fn rest_of_bytes(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.held)
    }

    /// What comes until the server closes.
    pub(super) fn rest(&mut self) -> String {
        while self.more() {}
        String::from_utf8(std::mem::take(&mut self.held)).unwrap()
    }
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

pub(super) fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}")
}
