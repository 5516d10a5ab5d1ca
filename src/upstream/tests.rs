//! Calls over real loopback sockets against servers that follow a script to the byte.

mod answers;
mod balancing;
mod failures;
mod health;
mod http2;
mod names;
mod retries;
mod tls;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::clock::Clock;
use crate::clock::wheel::{TICK, Wheel};

/// What a scripted server does next on a connection. After the last step it closes.
enum Step {
    /// Reads a request head, and a body of that many bytes.
    Read(usize),
    Send(String),
    /// Goes on only when the client has closed.
    AwaitClose,
    /// Goes on only when [`Server::release`] was called.
    Hold,
    /// Closes at once so that the client sees a reset.
    Reset,
}

use Step::{AwaitClose, Hold, Read, Reset, Send};

fn send(text: &str) -> Step {
    Send(text.to_owned())
}

#[derive(Clone)]
struct Server {
    origin: Arc<Origin>,
    seen: Rc<RefCell<Vec<String>>>,
    connections: Rc<Cell<usize>>,
    was_read: Rc<Notify>,
    was_closed: Rc<Notify>,
    release: Rc<Notify>,
    /// Keeps the port of a server that refuses connections from being given to another one.
    _refusing: Option<Rc<TcpSocket>>,
}

impl Server {
    fn at(address: SocketAddr) -> Server {
        Server {
            origin: Arc::new(Origin::parse(&format!("http://{address}")).unwrap()),
            seen: Rc::default(),
            connections: Rc::default(),
            was_read: Rc::default(),
            was_closed: Rc::default(),
            release: Rc::default(),
            _refusing: None,
        }
    }
}

/// A server that refuses connections.
fn refusing_server() -> Server {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    Server { _refusing: Some(Rc::new(socket)), ..Server::at(address) }
}

/// Plays one script for each connection, in the order in which they come.
async fn server(scripts: Vec<Vec<Step>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::at(listener.local_addr().unwrap());
    let serving = server.clone();
    tokio::task::spawn_local(async move {
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            serving.connections.set(serving.connections.get() + 1);
            tokio::task::spawn_local(play(serving.clone(), stream, script));
        }
        std::future::pending::<()>().await; // keeps the listener, and so the port
    });
    server
}

async fn play(server: Server, mut stream: TcpStream, script: Vec<Step>) {
    for step in script {
        match step {
            Read(body) => {
                let mut text = Vec::new();
                while !text.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    text.push(byte);
                }
                let head = text.len();
                text.resize(head + body, 0);
                stream.read_exact(&mut text[head..]).await.unwrap();
                server.seen.borrow_mut().push(String::from_utf8(text).unwrap());
                server.was_read.notify_one();
            }
            Send(text) => {
                // The client may be gone already: that is what some tests are about.
                let _ = stream.write_all(text.as_bytes()).await;
            }
            AwaitClose => {
                let mut rest = vec![0; 64 << 10];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                server.was_closed.notify_one();
            }
            Hold => server.release.notified().await,
            Reset => stream.set_zero_linger().unwrap(),
        }
    }
}

/// A test that waits longer than this waits for something that does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on a current-thread runtime with local tasks.
fn run(test: impl Future<Output = ()> + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new()
        .block_on(&runtime, async { tokio::time::timeout(PATIENCE, test).await })
        .expect("the test waits for something that does not come");
}

fn pool() -> Pool {
    Pool::new(Wheel::new(), Clock::system())
}

fn call(destination: Destination, method: Method, target: &str) -> Call {
    Call {
        destination,
        method,
        target: target.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Body::Empty,
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        host: HostHeader::Upstream,
        client_host: None,
        answer_limits: BodyLimits { bytes: 1 << 20, idle: Duration::from_secs(30), rate: 0 },
        answer_to_head: false,
        addresses: Addresses::Any,
        upgrade: None,
        key: None,
    }
}

fn to(server: &Server, method: Method) -> Call {
    call(Destination::Origin(server.origin.clone()), method, "/a?b=c")
}

async fn text(mut answer: Answer) -> Result<String, BodyFault> {
    answer.body.buffer(1 << 20).await?;
    Ok(String::from_utf8(answer.body.held().unwrap().to_vec()).unwrap())
}

/// Lets other tasks run until `done`; every test runs on sockets that make progress by themselves.
async fn until(done: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never happened");
}

fn turn(wheel: &Wheel, time: Duration) {
    for _ in 0..(time.as_millis() / TICK.as_millis() + 2) {
        wheel.turn();
    }
}
