//! One HTTP/2 connection to an upstream, shared by calls (RFC 9113).
//!
//! Each call has a stream and two timers of its own; whoever drops it resets the stream and nothing else. The
//! connection closes when no call used it for a while, or when the upstream says that it takes no more.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HOST, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Parts, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::PoolLimits;
use super::line::{ANSWER_HEAD_BYTES, Carries, Expired, RequestBody, Unanswered};
use super::pool::{Lane, Place};
use crate::body::{Body, BodyFault};
use crate::clock::wheel::{Timer, Wheel};
use crate::tls::Wire;

/// Calls that share a connection at a time, where the upstream allows more.
const CALLS_MAX: usize = 100;
/// Bytes of one answer that may be on their way before somebody has read them, and of all answers together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of one request that wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that the upstream made the gateway reset (CVE-2025-8671 the other way round).
const ERROR_RESETS: usize = 256;

/// One connection, shared by its task, its lane and its calls.
pub(super) struct Trunk {
    sender: RefCell<Option<SendRequest<RequestBody<Stream>>>>,
    lane: Rc<Lane>,
    pub(super) peer: IpAddr,
    calls: Cell<usize>,
    /// Calls that it takes at a time.
    room: Cell<usize>,
    idle: Timer,
    idle_time: Cell<Duration>,
    /// How often something was read of it.
    heard: Rc<Cell<u64>>,
    wheel: Wheel,
}

/// One call's use of a connection, until its answer has come to its end.
pub(super) struct Stream {
    trunk: Rc<Trunk>,
    /// Until the head of the answer.
    phase: Timer,
    first_byte: Cell<Duration>,
    is_asked: Cell<bool>,
    pub(super) body_fault: RefCell<Option<BodyFault>>,
}

/// Starts hyper's tasks.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl Trunk {
    /// Starts HTTP/2 on a connected stream. `place` is what it occupies in its lane.
    pub(super) async fn start(
        wire: Wire<TcpStream>,
        peer: IpAddr,
        place: Place,
        wheel: &Wheel,
    ) -> Result<Rc<Trunk>, hyper::Error> {
        let mut builder = Builder::new(Tasks);
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(ANSWER_HEAD_BYTES).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .max_local_error_reset_streams(ERROR_RESETS);
        let heard = Rc::new(Cell::new(0));
        let (sender, connection) = builder.handshake(TokioIo::new(Listened { wire, heard: heard.clone() })).await?;
        let trunk = Rc::new(Trunk {
            sender: RefCell::new(Some(sender)),
            lane: place.lane().clone(),
            peer,
            calls: Cell::new(0),
            room: Cell::new(CALLS_MAX),
            idle: wheel.timer(),
            idle_time: Cell::new(Duration::ZERO),
            heard,
            wheel: wheel.clone(),
        });
        tokio::task::spawn_local(Driver { connection, trunk: trunk.clone(), _place: place });
        Ok(trunk)
    }

    /// Whether another call can use it.
    pub(super) fn has_room(&self) -> bool {
        self.calls.get() < self.room.get() && self.sender.borrow().as_ref().is_some_and(SendRequest::is_ready)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.calls.get() == 0
    }

    /// Takes part in it; to be asked whether it has room before.
    pub(super) fn stream(self: &Rc<Self>, limits: PoolLimits) -> Rc<Stream> {
        self.calls.set(self.calls.get() + 1);
        self.idle.clear();
        self.idle_time.set(limits.idle);
        Rc::new(Stream {
            trunk: self.clone(),
            phase: self.wheel.timer(),
            first_byte: Cell::new(Duration::ZERO),
            is_asked: Cell::new(false),
            body_fault: RefCell::new(None),
        })
    }

    /// Takes no more calls; those that it has come to their end.
    pub(super) fn close(&self) {
        self.sender.take();
    }
}

impl Stream {
    /// Gives it the request; `total` is armed already. Whoever drops the future resets the stream.
    pub(super) async fn ask(
        self: &Rc<Self>,
        request: Request<Body>,
        https: bool,
        first_byte: Duration,
        total: &Timer,
    ) -> Result<Response<Incoming>, Unanswered> {
        let request = of_stream(request, https);
        let heard = self.trunk.heard.get();
        self.is_asked.set(true);
        self.first_byte.set(first_byte);
        self.phase.set(first_byte);
        let sent = match self.trunk.sender.borrow_mut().as_mut() {
            Some(sender) => {
                let line = self.clone();
                Ok(sender.try_send_request(request.map(|body| RequestBody { body, line })))
            }
            None => Err(Unanswered::Unsent(Box::new(request))),
        };
        let mut answer = pin!(sent?);
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(outcome) = answer.as_mut().poll(cx) {
                return Poll::Ready(outcome.map_err(Unanswered::from));
            }
            if total.poll_expired(cx).is_ready() {
                return Poll::Ready(Err(Unanswered::Late(Expired::Total)));
            }
            self.phase.poll_expired(cx).map(|()| Err(Unanswered::Late(Expired::FirstByte)))
        })
        .await;
        self.is_asked.set(false);
        if matches!(outcome, Err(Unanswered::Late(_))) && self.trunk.heard.get() == heard {
            self.trunk.close(); // nobody may be there any more: later calls find out on another one
        }
        outcome
    }

    pub(super) fn trunk(&self) -> &Trunk {
        &self.trunk
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let trunk = &self.trunk;
        trunk.calls.set(trunk.calls.get().saturating_sub(1));
        if trunk.is_idle() {
            match trunk.lane.is_wanted() {
                true => trunk.idle.set(trunk.idle_time.get()),
                false => trunk.close(),
            }
        }
        trunk.lane.wake_one();
    }
}

impl Carries for Stream {
    const TRAILERS: bool = true;

    fn body_moved(&self, waits_for_client: bool) {
        if !self.is_asked.get() {
            return;
        }
        match waits_for_client {
            true => self.phase.clear(), // the body has its own bound on silence
            false => self.phase.set(self.first_byte.get()),
        }
    }

    fn body_sent(&self) {}

    fn body_failed(&self, fault: &BodyFault) {
        self.body_fault.replace(Some(fault.clone()));
    }
}

/// The form of HTTP/2: the authority in the target, no framing fields (RFC 9113 §8.2.2, §8.3.1), and a word that
/// trailers are taken, which gRPC asks for.
fn of_stream(mut request: Request<Body>, https: bool) -> Request<Body> {
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = Parts::default();
    parts.scheme = Some(if https { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = authority;
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(TRANSFER_ENCODING);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    *request.version_mut() = http::Version::HTTP_2;
    request
}

/// The stream below hyper, which notes that something came.
struct Listened {
    wire: Wire<TcpStream>,
    heard: Rc<Cell<u64>>,
}

impl AsyncRead for Listened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.wire).poll_read(cx, buffer);
        if result.is_ready() {
            self.heard.set(self.heard.get() + 1);
        }
        result
    }
}

impl AsyncWrite for Listened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// The task of one connection.
struct Driver {
    connection: Connection<TokioIo<Listened>, RequestBody<Stream>, Tasks>,
    trunk: Rc<Trunk>,
    _place: Place,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.connection).poll(cx).is_ready() {
            return Poll::Ready(()); // errors reached the calls already
        }
        self.trunk.room.set(self.connection.current_max_send_streams().min(CALLS_MAX));
        self.trunk.idle.poll_expired(cx) // armed only while no call uses it
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.trunk.close();
        self.trunk.lane.forget_trunk(&self.trunk);
    }
}
