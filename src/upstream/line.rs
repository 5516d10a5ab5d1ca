//! One connection to an upstream, from handshake to close (RFC 9112 §9).
//!
//! hyper's connection runs in a task of its own; the same task gives the connection back to its lane
//! once both messages of an exchange are through, closes it when it was idle for too long, and ends
//! it when an exchange took too long. So a call arms timers that exist already, and nothing sweeps.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::PoolLimits;
use super::pool::{Lane, Place};
use super::socket::Socket;
use crate::body::{Body, BodyFault, Tunnel};
use crate::clock::wheel::{Timer, Wheel};
use crate::tls::Wire;

/// Status line and fields of an answer together, bytes; hyper allows 100 fields by itself.
pub(super) const ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A call is using it and has no answer yet.
    Asked,
    /// The head of the answer is here; bodies may still be on their way.
    Answered,
    Idle,
}

/// Which bound of an exchange was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    FirstByte,
    Total,
}

/// One connection, shared by its task, its lane while idle, and the call that uses it.
pub(super) struct Line {
    sender: RefCell<Option<SendRequest<RequestBody<Line>>>>,
    stage: Cell<Stage>,
    lane: Rc<Lane>,
    pub(super) peer: IpAddr,
    limits: Cell<PoolLimits>,
    /// Asked: until the first byte. Idle: until it is closed.
    phase: Timer,
    /// Until the last byte of the answer.
    total: Timer,
    first_byte: Cell<Duration>,
    body_sent: Cell<bool>,
    spoiled: Cell<bool>,
    /// Whether a byte arrived since the request was given to it.
    heard: Cell<bool>,
    /// Whether the socket took less than it was offered.
    pub(super) backlog: Cell<bool>,
    pub(super) expired: Cell<Option<Expired>>,
    /// It was asked to speak something else.
    is_upgrade: Cell<bool>,
    /// What is left of it when it does, once its task has ended.
    tunnel: RefCell<Option<Tunnel>>,
    has_ended: Notify,
}

impl Line {
    /// Starts HTTP/1.1 on a connected stream. `place` is what it occupies in its lane.
    pub(super) async fn start(
        wire: Wire<TcpStream>,
        peer: IpAddr,
        place: Place,
        wheel: &Wheel,
    ) -> Result<Rc<Line>, hyper::Error> {
        let line = Rc::new(Line {
            sender: RefCell::new(None),
            stage: Cell::new(Stage::Asked),
            lane: place.lane().clone(),
            peer,
            limits: Cell::new(PoolLimits::default()),
            phase: wheel.timer(),
            total: wheel.timer(),
            first_byte: Cell::new(Duration::ZERO),
            body_sent: Cell::new(false),
            spoiled: Cell::new(false),
            heard: Cell::new(false),
            backlog: Cell::new(false),
            expired: Cell::new(None),
            is_upgrade: Cell::new(false),
            tunnel: RefCell::new(None),
            has_ended: Notify::new(),
        });
        let io = TokioIo::new(Socket::new(wire, line.clone()));
        let (sender, connection) =
            Builder::new().max_header_size(ANSWER_HEAD_BYTES).max_buf_size(ANSWER_HEAD_BYTES).handshake(io).await?;
        line.sender.replace(Some(sender));
        let connection = Some((connection, place));
        tokio::task::spawn_local(Driver { connection, line: line.clone() });
        Ok(line)
    }

    /// Gives it a request. Whoever drops the future closes the connection.
    pub(super) fn ask(
        self: &Rc<Self>,
        request: Request<Body>,
        limits: PoolLimits,
        first_byte: Duration,
        total: Duration,
    ) -> Result<impl Future<Output = Result<Response<Incoming>, Refused>> + use<>, Unanswered> {
        self.stage.set(Stage::Asked);
        self.limits.set(limits);
        self.heard.set(false);
        self.backlog.set(false);
        self.first_byte.set(first_byte);
        self.phase.set(first_byte);
        self.total.set(total);
        self.body_sent.set(request.body().held().is_some());
        self.is_upgrade.set(request.headers().contains_key(UPGRADE));
        let line = self.clone();
        match self.sender.borrow_mut().as_mut() {
            Some(sender) => Ok(sender.try_send_request(request.map(|body| RequestBody { body, line }))),
            None => Err(Unanswered::Unsent(Box::new(request))),
        }
    }

    /// The connection that the upstream has upgraded, once nobody speaks HTTP over it any more.
    pub(super) async fn tunnel(&self) -> Option<Tunnel> {
        if self.tunnel.borrow().is_none() && self.sender.borrow().is_some() {
            self.has_ended.notified().await;
        }
        self.tunnel.take()
    }

    /// The head of the answer arrived.
    pub(super) fn answered(self: &Rc<Self>) {
        self.phase.clear();
        self.stage.set(Stage::Answered);
        self.settle();
    }

    /// A byte of the answer arrived.
    pub(super) fn hears(&self) {
        // An upstream that does not wait for the request may take its rest for another one. That an
        // unasked 1xx costs the connection too is a price worth paying.
        if !self.heard.replace(true) && (!self.body_sent.get() || self.backlog.get()) {
            self.spoil();
        }
    }

    /// Whether a byte of the answer arrived.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.get()
    }

    /// It carries no further exchange after this one.
    pub(super) fn spoil(&self) {
        self.spoiled.set(true);
    }

    /// Whether a request can be given to it.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.borrow().as_ref().is_some_and(SendRequest::is_ready)
    }

    /// Closes it as soon as its task runs; only while it is idle.
    pub(super) fn close(&self) {
        self.sender.take();
    }

    /// Gives it back once the exchange is through.
    fn settle(self: &Rc<Self>) {
        if self.stage.get() != Stage::Answered || !self.is_ready() {
            return;
        }
        self.stage.set(Stage::Idle);
        self.total.clear();
        let limits = self.limits.get();
        if self.spoiled.get() || !self.lane.give_back(self, limits.max_idle) {
            return self.close();
        }
        self.phase.set(limits.idle);
    }

    fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.total.poll_expired(cx).is_ready() {
            self.expired.set(Some(Expired::Total));
            return Poll::Ready(());
        }
        if self.phase.poll_expired(cx).is_ready() {
            self.expired.set(Some(Expired::FirstByte));
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// What a request body tells of its way out.
pub(super) trait Carries {
    /// Whether trailers go with it.
    const TRAILERS: bool;

    /// It moved on: from now the upstream is being waited for, or the client.
    fn body_moved(&self, waits_for_client: bool);
    /// Its last byte is on the way.
    fn body_sent(&self);
    fn body_failed(&self, fault: &BodyFault);
}

impl Carries for Line {
    // HTTP/1.1 would want them named in the head.
    const TRAILERS: bool = false;

    fn body_moved(&self, waits_for_client: bool) {
        if self.stage.get() != Stage::Asked {
            return;
        }
        if waits_for_client {
            self.phase.clear(); // the body has its own bound on silence
        } else {
            self.phase.set(self.first_byte.get());
        }
    }

    fn body_sent(&self) {
        self.body_sent.set(true);
    }

    // hyper hands it on as the cause of its own error.
    fn body_failed(&self, _: &BodyFault) {}
}

/// hyper's own word for it.
type Refused = TrySendError<Request<RequestBody<Line>>>;

/// No answer came.
pub(super) enum Unanswered {
    /// Not one byte of the request was sent: here it is again.
    Unsent(Box<Request<Body>>),
    Broken(hyper::Error),
    Late(Expired),
}

impl<L> From<TrySendError<Request<RequestBody<L>>>> for Unanswered {
    fn from(mut refused: TrySendError<Request<RequestBody<L>>>) -> Unanswered {
        match refused.take_message() {
            Some(request) => Unanswered::Unsent(Box::new(request.map(|body| body.body))),
            None => Unanswered::Broken(refused.into_error()),
        }
    }
}

type Http1 = Connection<TokioIo<Socket>, RequestBody<Line>>;

/// The task of one connection.
struct Driver {
    /// With what it occupies in its lane.
    connection: Option<(Http1, Place)>,
    line: Rc<Line>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some((connection, _)) = &mut this.connection else { return Poll::Ready(()) };
        loop {
            let was_behind = this.line.backlog.get();
            match Pin::new(&mut *connection).poll(cx) {
                Poll::Ready(Ok(())) if this.line.is_upgrade.get() => {
                    let Some((connection, place)) = this.connection.take() else { return Poll::Ready(()) };
                    let parts = connection.into_parts();
                    let io = Box::pin(parts.io.into_inner());
                    this.line.tunnel.replace(Some(Tunnel { io, read: parts.read_buf, held: Box::new(place) }));
                    return Poll::Ready(());
                }
                Poll::Ready(_) => return Poll::Ready(()), // errors reached the call or the body already
                Poll::Pending => {}
            }
            // After a flush that had to wait, hyper does not look by itself whether the exchange is through.
            if !was_behind || this.line.backlog.get() {
                break;
            }
        }
        this.line.settle();
        this.line.poll_expired(cx)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.line.lane.forget(&self.line);
        self.line.close();
        self.line.has_ended.notify_one();
    }
}

/// A request body on its way out, which tells its connection how far it came.
pub(super) struct RequestBody<L> {
    pub(super) body: Body,
    pub(super) line: Rc<L>,
}

impl<L: Carries> HttpBody for RequestBody<L> {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        let frame = this.body.poll_next(cx);
        this.line.body_moved(frame.is_pending());
        match &frame {
            Poll::Ready(None) => this.line.body_sent(),
            Poll::Ready(Some(Err(fault))) => this.line.body_failed(fault),
            Poll::Ready(Some(Ok(frame))) if !L::TRAILERS && frame.is_trailers() => {
                this.line.body_sent();
                return Poll::Ready(None);
            }
            _ if this.is_end_stream() => this.line.body_sent(),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.left()
    }
}
