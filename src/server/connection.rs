//! One client connection from accept to close: HTTP/1 by hyper, one timer, and what is said when hyper cannot.
//!
//! The timer hangs on the worker's wheel and covers the waits that belong to the connection: for a head,
//! between requests, for a client that does not read. Bodies have timers of their own (`body.rs`), and a
//! request in flight has the handler's deadline.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bare::Bare;
use super::client_ip::is_trusted;
use super::exchange::Client;
use super::gate::Gate;
use super::handshake::shake_hands;
use super::http2;
use super::leftover::{Leftover, READER_TIME, Skipped};
use super::proxy;
use super::refusal::Refusal;
use super::shared::ConnectionPermit;
use super::socket::{Noted, Socket};
use super::stream::{ConnState, GatedStream, Opening};
use super::tunnel;
use super::worker::{CLIENT_FULL, Stage, Worker};
use super::{Handler, ListenerConfig, Peer};
use crate::clock::wheel::{Timer, Wheel};
use crate::limits::Limits;

/// How long a connection that is being closed may still send, so that its answer is not lost to a reset.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// How many bytes of it are read and thrown away.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_BUFFER: usize = 4 * 1024;
/// A draining server waits this long for a request that is already on its way on an idle connection.
const DRAIN_IDLE: Duration = Duration::from_millis(100);
/// And this long for the first request of a new connection, which is sure to come.
const DRAIN_FIRST: Duration = Duration::from_secs(1);
/// What hyper's buffer holds beyond the largest head, so that the gate judges its size before hyper does.
/// It is also the smallest buffer that hyper takes.
const BUFFER_SLACK: usize = 8 * 1024;
/// hyper's own number of header fields, for which it needs no allocation; fewer are judged by the gate.
const HYPER_HEADERS: usize = 100;

const HEAD_TIME: Refusal =
    Refusal::new("request.head_timeout", StatusCode::REQUEST_TIMEOUT, "the request head came too slowly");
const SILENT: Refusal = Refusal::silent("request.none", "a new connection sent nothing");
const NOT_READ: Refusal = Refusal::silent("client.stalled", "the client did not read its answer");

/// What a connection is waiting for; the numbers tell one wait from the next of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The first byte of a new connection.
    First,
    /// The rest of a head.
    Head(u64),
    /// The next request.
    Idle(u64),
    /// The end of a connection whose client was told that nothing more is taken.
    Leaving,
    /// The client, to read; by bytes written so far.
    Write(u64),
    /// The reader of a body whose answer has ended; by bytes that have come so far.
    Reader(u64),
    /// The rest of such a body, which is thrown away.
    Rest(u64),
    /// The handler or a body.
    Busy,
}

pub(super) enum End {
    /// hyper has ended it.
    Http(hyper::Result<()>),
    /// It begins like HTTP/2.
    Preface,
    /// The gate refused a head and nothing else is owed.
    Refused(Refusal),
    TimedOut(Wait),
    Cut,
}

impl Wait {
    /// Nothing is under way. A beginning that comes to nothing does not end such a wait.
    fn is_rest(self) -> bool {
        matches!(self, Wait::First | Wait::Idle(_) | Wait::Leaving)
    }
}

/// Deadline of the current wait.
pub(super) struct Watch {
    timer: Timer,
    wait: Option<(Wait, Stage)>,
    /// Runs on while a head has begun: half a line, half of it again and no request would last for ever otherwise.
    rest: Timer,
    rested: Option<(Wait, Stage)>,
}

impl Watch {
    pub(super) fn new(wheel: &Wheel) -> Watch {
        Watch { timer: wheel.timer(), wait: None, rest: wheel.timer(), rested: None }
    }

    /// For what comes after the wait that was watched.
    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Follows the connection to its current wait; whether that has lasted too long.
    pub(super) fn is_over(&mut self, wait: Wait, stage: Stage, limits: &Limits, cx: &mut Context<'_>) -> bool {
        let now = Some((wait, stage));
        let is_new = std::mem::replace(&mut self.wait, now) != now;
        let (timer, is_new) = match wait.is_rest() {
            true => (&self.rest, std::mem::replace(&mut self.rested, now) != now),
            false => (&self.timer, is_new),
        };
        if is_new {
            match allowed(wait, stage, limits) {
                Some(time) => timer.set(time),
                None => timer.clear(),
            }
        }
        wait != Wait::Busy && timer.poll_expired(cx).is_ready()
    }
}

fn allowed(wait: Wait, stage: Stage, limits: &Limits) -> Option<Duration> {
    let serving = stage == Stage::Serving;
    match wait {
        Wait::First if serving => Some(limits.head_time),
        Wait::First => Some(limits.head_time.min(DRAIN_FIRST)),
        Wait::Head(_) => Some(limits.head_time),
        Wait::Idle(_) if serving => Some(limits.keep_alive),
        Wait::Idle(_) => Some(limits.keep_alive.min(DRAIN_IDLE)),
        Wait::Leaving => Some(LINGER_TIME),
        Wait::Write(_) | Wait::Rest(_) => Some(limits.body_idle),
        Wait::Reader(_) => Some(READER_TIME),
        Wait::Busy => None,
    }
}

impl ConnState {
    fn wait(&self) -> Wait {
        let gate = self.gate.borrow();
        if self.blocked.get() {
            Wait::Write(self.written.get())
        } else if let Some(leftover) = self.leftover.borrow().as_ref() {
            match leftover.has_reader() {
                true => Wait::Reader(gate.passed()),
                false => Wait::Rest(self.answered.get()),
            }
        } else if gate.heads() != self.answered.get() {
            Wait::Busy
        } else if gate.is_in_head() {
            Wait::Head(gate.heads())
        } else if gate.heads() == 0 {
            Wait::First
        } else {
            Wait::Idle(gate.heads())
        }
    }

    /// Throws away what is left of a body; whether there is nothing more to be thrown away.
    fn poll_leftover(&self, cx: &mut Context<'_>) -> bool {
        let mut leftover = self.leftover.borrow_mut();
        let is_over = leftover.as_mut().is_some_and(|leftover| leftover.poll(cx) == Skipped::Over);
        if is_over {
            *leftover = None;
        }
        is_over
    }

    /// Why the gate refused a head, once every request before it has had its whole answer.
    fn refusal(&self) -> Option<Refusal> {
        let gate = self.gate.borrow();
        let settled = gate.heads() == self.answered.get() && !self.blocked.get();
        gate.refusal().filter(|_| settled && !gate.is_in_body()).cloned()
    }
}

/// hyper's part, set up for these limits.
pub(super) fn http(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // A client that closes its write side counts as gone, so that work for it ends.
        .half_close(false)
        .keep_alive(true)
        .header_read_timeout(None)
        .max_buf_size(limits.head.saturating_add(BUFFER_SLACK));
    if limits.headers > HYPER_HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
}

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(
    bare: Bare,
    listener: Rc<ListenerConfig>,
    mut peer: Peer,
    handler: Rc<H>,
    worker: Rc<Worker>,
    permit: &mut ConnectionPermit,
) {
    let state = Rc::new(ConnState::new(Gate::new(&worker.limits)));
    let mut watch = Watch::new(&worker.wheel);
    let mut bare = Noted::new(bare, state.clone());
    if is_trusted(peer.address.ip().to_canonical(), &listener.announcing_proxies) {
        match proxy::read(&mut bare, &mut watch, &worker).await {
            Ok(None) => {}
            Ok(Some((address, local))) => {
                peer = Peer::new(&listener, address, local);
                if !peer.is_proxy && permit.count_for(peer.client_ip).is_err() {
                    return handler.refused(&peer, Refusal { status: None, ..CLIENT_FULL });
                }
            }
            Err(refusal) => return refusal.into_iter().for_each(|refusal| handler.refused(&peer, refusal)),
        }
    }
    let socket = match &listener.tls {
        None => Socket::Clear(bare),
        Some(tls) => match shake_hands(bare, &state, tls, &mut watch, &worker).await {
            Ok((stream, session)) => {
                peer.tls = Some(Arc::new(session));
                Socket::Tls(Box::new(stream.into()))
            }
            Err(refusal) => return refusal.into_iter().for_each(|refusal| handler.refused(&peer, refusal)),
        },
    };
    // Over TLS the handshake has said what is spoken, in clear the first bytes say it.
    let agreed = peer.tls.clone();
    let client = Rc::new(Client { handler, worker, listener, peer: Rc::new(peer), state });
    match agreed {
        Some(tls) if tls.alpn.as_deref() == Some("h2") => http2::speak(socket, Vec::new(), client, watch).await,
        Some(_) => speak(socket, Opening::Known, client, watch).await,
        None => speak(socket, Opening::Read(Vec::new()), client, watch).await,
    }
}

/// Speaks HTTP/1 over a socket to its end, unless its first bytes are those of HTTP/2.
async fn speak<H: Handler>(socket: Socket, opening: Opening, client: Rc<Client<H>>, mut watch: Watch) {
    let worker = &client.worker;
    let io = TokioIo::new(GatedStream::new(socket, client.state.clone(), opening));
    let service = {
        let client = client.clone();
        service_fn(move |request| client.clone().answer(request))
    };
    let mut http = worker.http.serve_connection(io, service);
    let end = poll_fn(|cx| {
        let state = &client.state;
        let stage = worker.stage.get();
        if stage == Stage::Cut {
            return Poll::Ready(End::Cut);
        }
        if stage == Stage::Draining && !state.closing.replace(true) && state.wait() == Wait::Busy {
            // Only with a request in flight: otherwise hyper would close at once, and a request that is
            // already in the socket's buffer would be lost. Such a one is answered and says `close`.
            Pin::new(&mut http).graceful_shutdown();
        }
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut http).poll(cx) {
                return Poll::Ready(End::Http(outcome));
            }
            if state.prefaced.get() {
                return Poll::Ready(End::Preface);
            }
            if let Some(refusal) = state.refusal() {
                return Poll::Ready(End::Refused(refusal));
            }
            if state.poll_leftover(cx) {
                continue; // hyper goes on to the next request, or ends
            }
            let wait = state.wait();
            match watch.is_over(wait, stage, &worker.limits, cx) {
                false => return Poll::Pending,
                true if matches!(wait, Wait::Reader(_)) => {
                    state.leftover.borrow_mut().iter_mut().for_each(Leftover::take);
                }
                true => return Poll::Ready(End::TimedOut(wait)),
            }
        }
    })
    .await;
    let left = Left::at(&end, &client.state);
    let parts = http.into_parts();
    finish(end, left, parts.io.into_inner().into_inner(), parts.read_buf, client, watch).await;
}

/// In what state a connection was when it ended.
struct Left {
    busy: bool,
    /// Something of a request has come, and nobody has read it.
    unread: bool,
    cut_off: bool,
}

impl Left {
    fn at(end: &End, state: &ConnState) -> Left {
        let wait = state.wait();
        Left {
            busy: wait == Wait::Busy || state.blocked.get(),
            unread: !matches!(wait, Wait::First | Wait::Idle(_)) || state.gate.borrow().is_in_body(),
            cut_off: is_cut_off(end, state),
        }
    }
}

/// Goes on after hyper: as HTTP/2, as a tunnel, or to the close. `read` came before hyper, `read_buf` was left by it.
async fn finish<H: Handler>(
    end: End,
    left: Left,
    (mut socket, read): (Socket, Vec<u8>),
    read_buf: Bytes,
    client: Rc<Client<H>>,
    watch: Watch,
) {
    let worker = &client.worker;
    if matches!(end, End::Preface) {
        return http2::speak(socket, read, client, watch).await;
    }
    // Bytes that the gate has kept back are lost: what follows them would be something else.
    let agreed = client.state.agreed.take().filter(|_| client.state.gate.borrow().refusal().is_none());
    if let (End::Http(Ok(())), Some(tunnel)) = (&end, agreed) {
        return tunnel::carry(socket, read_buf, tunnel, &client, &watch).await;
    }
    if left.cut_off {
        socket.reset_at_close();
    }
    match told(&end, worker, left.busy) {
        Some(refusal) => {
            client.handler.refused(&client.peer, refusal.clone());
            if matches!(end, End::Refused(_) | End::TimedOut(_)) {
                say(&mut socket, &refusal).await;
            }
        }
        None if left.cut_off => {}
        None if !left.unread => return close(&mut socket).await,
        None => {}
    }
    if !left.cut_off && !matches!(end, End::Cut) {
        linger(socket, watch.timer(), worker).await;
    }
}

/// Whether the client has some of an answer and never gets the rest. Where only the end of the connection ends an answer
/// (HTTP/1.0), an orderly end would make it look whole (RFC 9112 §8).
fn is_cut_off(end: &End, state: &ConnState) -> bool {
    match end {
        End::Http(Err(error)) => error.is_user(),
        End::TimedOut(Wait::Write(_)) => true,
        End::Cut => state.sending.get() || state.blocked.get(),
        _ => false,
    }
}

/// What the end of a connection is recorded as, if it was no ordinary one.
pub(super) fn told(end: &End, worker: &Worker, busy: bool) -> Option<Refusal> {
    match end {
        End::Refused(refusal) => Some(refusal.clone()),
        End::Http(Err(error)) if error.is_parse() => Some(malformed(error)),
        // Other errors ended a request: its own record says so.
        End::Http(_) | End::Preface => None,
        End::TimedOut(Wait::Head(_)) => Some(HEAD_TIME),
        // A drain closes silent connections on purpose.
        End::TimedOut(Wait::First) if worker.stage.get() == Stage::Serving => Some(SILENT),
        End::TimedOut(Wait::Write(_)) => Some(NOT_READ),
        End::TimedOut(_) => None,
        End::Cut => {
            if busy {
                worker.shared.count_cut();
            }
            None
        }
    }
}

/// hyper has answered these itself, with a status and no body.
fn malformed(error: &hyper::Error) -> Refusal {
    let status = match error.is_parse_too_large() {
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    };
    Refusal { code: "request.malformed", status: Some(status), detail: error.to_string().into() }
}

/// Writes an answer as far as the socket takes it at once: a client that is being refused is not waited for.
async fn say<S: AsyncWrite + Unpin>(socket: &mut S, refusal: &Refusal) {
    let Some(bytes) = refusal.bytes() else { return };
    poll_fn(|cx| {
        // The client may have left; there is nobody else to tell.
        let _ = Pin::new(&mut *socket).poll_write(cx, &bytes);
        let _ = Pin::new(&mut *socket).poll_flush(cx);
        Poll::Ready(())
    })
    .await;
}

/// Answers a connection that is not taken. Over TLS it is closed without a word: a handshake is work too.
pub(super) async fn refuse(mut bare: Bare, over_tls: bool, refusal: Refusal, worker: Rc<Worker>) {
    if !over_tls {
        say(&mut bare, &refusal).await;
    }
    linger(bare, &worker.wheel.timer(), &worker).await;
}

/// Says over TLS that nothing follows, as far as the socket takes it at once: without that a client cannot tell the
/// end from an answer that somebody cut (RFC 8446 §6.1).
async fn close(socket: &mut Socket) {
    if let Socket::Tls(tls) = socket {
        poll_fn(|cx| {
            let _ = Pin::new(&mut *tls).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }
}

/// Closes the write side and throws away what still comes: closing with unread bytes would reset the
/// connection, and the client could lose the answer that it has not read yet (RFC 9112 §9.6).
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, timer: &Timer, worker: &Worker) {
    let mut space = vec![0; LINGER_BUFFER];
    let mut left = LINGER_BYTES;
    let mut is_closed = false;
    timer.set(LINGER_TIME);
    poll_fn(|cx| {
        loop {
            if worker.stage.get() == Stage::Cut || timer.poll_expired(cx).is_ready() {
                return Poll::Ready(());
            }
            if !is_closed {
                match Pin::new(&mut socket).poll_shutdown(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => is_closed = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                }
            }
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if (1..left).contains(&buffer.filled().len()) => left -= buffer.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::clock::wheel::TICK;

    /// Waits one after the other, over and over, a tick each: ticks until one has lasted too long, at most 1000.
    fn lasts(waits: &[Wait]) -> Option<usize> {
        let limits = Limits { head_time: TICK * 20, keep_alive: TICK * 100, body_idle: TICK * 20, ..Limits::default() };
        let wheel = Wheel::new();
        let mut watch = Watch::new(&wheel);
        let mut cx = Context::from_waker(Waker::noop());
        waits.iter().cycle().take(1000).position(|wait| {
            wheel.turn();
            watch.is_over(*wait, Stage::Serving, &limits, &mut cx)
        })
    }

    #[test]
    fn beginnings_that_come_to_nothing_do_not_make_a_wait_longer() {
        use Wait::{Busy, First, Head, Idle, Leaving, Write};
        assert!(lasts(&[First, Head(0)]).is_some_and(|ticks| ticks < 25));
        assert!(lasts(&[Idle(1), Head(1)]).is_some_and(|ticks| (100..105).contains(&ticks)));
        assert!(lasts(&[Idle(1), Head(1), Write(5)]).is_some_and(|ticks| ticks < 105));
        assert!(lasts(&[Leaving, Head(1)]).is_some_and(|ticks| ticks < 25));
        assert!(lasts(&[Head(1)]).is_some_and(|ticks| (20..25).contains(&ticks)));
        // A request does.
        assert_eq!(lasts(&[Idle(1), Head(1), Busy, Idle(2), Head(2), Busy]), None);
        assert_eq!(lasts(&[Write(1), Write(2)]), None);
        assert_eq!(lasts(&[Busy]), None);
    }
}
