//! HTTP/2 with a client (RFC 9113): one connection, its streams, and the bounds on both.
//!
//! Streams become requests of the same form as those of HTTP/1, so that everything behind has one set of rules. Each
//! runs in a task of its own, which ends it where the client does not read its answer.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Handler;
use super::connection::{End, Wait, Watch, linger, told};
use super::exchange::{Client, IN_FLIGHT};
use super::frames::Frames;
use super::refusal::Refusal;
use super::shared::RequestPermit;
use super::socket::Socket;
use super::stream::ConnState;
use super::worker::Stage;
use crate::body::{Arriving, BodyFault, Outgoing};
use crate::clock::wheel::Timer;
use crate::limits::Limits;

/// Streams that were reset before they were served, at a time (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams that the client made the gateway reset (CVE-2025-8671).
const ERROR_RESETS: usize = 256;
/// Payload of a frame in either direction: the smallest that may be said.
const FRAME_BYTES: u32 = 16 * 1024;
/// Table of compressed fields.
const TABLE_BYTES: u32 = 4 * 1024;
/// Bytes of one answer that wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;
/// Pieces in which an answer is handed over: of more the client's window would not be asked first.
const PIECE_BYTES: usize = 16 * 1024;
/// What a field counts beside its name and value (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Room for a head that is too large, so that it is refused like one of HTTP/1.
const HEAD_SLACK: usize = 8 * 1024;
/// Largest window (RFC 9113 §6.9.1).
const WINDOW_MAX: usize = (1 << 31) - 1;
/// `GOAWAY` with ENHANCE_YOUR_CALM (RFC 9113 §6.8, §7), for what h2 itself would let pass.
const CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// What the tasks of one connection share.
struct Shared {
    state: Rc<ConnState>,
    frames: RefCell<Frames>,
    /// The stream whose task is started next.
    latest: RefCell<Option<Rc<Stream>>>,
    /// The connection's task, which has to look when the last stream has ended.
    waker: RefCell<Waker>,
    /// The client was told that nothing more is taken.
    left: Cell<bool>,
}

/// One stream, from its head to the end of its task.
struct Stream {
    shared: Rc<Shared>,
    /// Runs while the client has something to read.
    unread: Timer,
}

impl Shared {
    fn wait(&self) -> Wait {
        let (state, frames) = (&self.state, self.frames.borrow());
        if state.blocked.get() {
            Wait::Write(state.written.get())
        } else if frames.is_in_head() {
            Wait::Head(state.taken.get())
        } else if state.taken.get() != state.answered.get() {
            Wait::Busy
        } else if self.left.get() {
            Wait::Leaving
        } else if state.taken.get() == 0 {
            Wait::First
        } else {
            Wait::Idle(state.taken.get())
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = &self.shared.state;
        state.answered.set(state.answered.get() + 1);
        if state.answered.get() == state.taken.get() {
            self.shared.waker.borrow().wake_by_ref();
        }
    }
}

/// Starts the tasks of streams.
#[derive(Clone)]
struct Tasks(Rc<Shared>);

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let stream = self.0.latest.take();
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                if task.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let Some(stream) = &stream else { return Poll::Pending };
                // A stream that is dropped is reset.
                stream.unread.poll_expired(cx)
            })
            .await;
        });
    }
}

/// hyper's part, set up for these limits.
fn http(limits: &Limits, tasks: Tasks) -> http2::Builder<Tasks> {
    let window = |bytes: usize| u32::try_from(bytes.min(WINDOW_MAX)).unwrap_or(u32::MAX >> 1);
    let list = limits.head + limits.headers.saturating_mul(FIELD_OVERHEAD) + HEAD_SLACK;
    let mut builder = http2::Builder::new(tasks);
    builder
        .max_concurrent_streams(u32::try_from(limits.h2_streams).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .initial_stream_window_size(window(limits.h2_window))
        .initial_connection_window_size(window(limits.h2_connection_window))
        .max_frame_size(FRAME_BYTES)
        .header_table_size(TABLE_BYTES)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// Speaks HTTP/2 over a socket to its end. `read` came before, the preface included.
pub(super) async fn speak<H: Handler>(socket: Socket, read: Vec<u8>, client: Rc<Client<H>>, mut watch: Watch) {
    let worker = client.worker.clone();
    let shared = Rc::new(Shared {
        state: client.state.clone(),
        frames: RefCell::new(Frames::new()),
        latest: RefCell::new(None),
        waker: RefCell::new(Waker::noop().clone()),
        left: Cell::new(false),
    });
    let socket = Rc::new(RefCell::new(socket));
    let end = {
        let io = TokioIo::new(CountedStream { socket: socket.clone(), read: read.into(), shared: shared.clone() });
        let service = {
            let (client, shared) = (client.clone(), shared.clone());
            service_fn(move |request| {
                let unread = client.worker.wheel.timer();
                let stream = Rc::new(Stream { shared: shared.clone(), unread });
                shared.state.taken.set(shared.state.taken.get() + 1);
                shared.latest.replace(Some(stream.clone()));
                client.clone().answer_stream(stream, request)
            })
        };
        let mut http = pin!(http(&worker.limits, Tasks(shared.clone())).serve_connection(io, service));
        poll_fn(|cx| {
            shared.waker.borrow_mut().clone_from(cx.waker());
            loop {
                let stage = worker.stage.get();
                if stage == Stage::Cut {
                    return Poll::Ready(End::Cut);
                }
                let is_last =
                    stage == Stage::Draining || shared.state.taken.get() >= worker.limits.requests_per_connection;
                if is_last && !shared.left.replace(true) {
                    http.as_mut().graceful_shutdown();
                }
                if let Poll::Ready(outcome) = http.as_mut().poll(cx) {
                    return Poll::Ready(End::Http(outcome));
                }
                if let Some(refusal) = shared.frames.borrow().refusal() {
                    return Poll::Ready(End::Refused(refusal.clone()));
                }
                if !shared.left.get() && shared.state.taken.get() >= worker.limits.requests_per_connection {
                    continue; // tells the client now
                }
                let wait = shared.wait();
                match watch.is_over(wait, stage, &worker.limits, cx) {
                    false => return Poll::Pending,
                    true if matches!(wait, Wait::Idle(_)) => {
                        shared.left.set(true);
                        http.as_mut().graceful_shutdown();
                    }
                    true => return Poll::Ready(End::TimedOut(wait)),
                }
            }
        })
        .await
    };
    end_of(end, socket, &client, &shared, &watch).await;
}

/// Tells of the end, and closes the socket so that what was said last arrives.
async fn end_of<H: Handler>(end: End, socket: Rc<RefCell<Socket>>, client: &Client<H>, shared: &Shared, watch: &Watch) {
    let is_blocked = client.state.blocked.get();
    let is_busy = client.state.taken.get() != client.state.answered.get() || is_blocked;
    let refusal = match &end {
        End::Http(Err(error)) => protocol_error(error),
        end => told(end, &client.worker, is_busy),
    };
    if let Some(refusal) = refusal {
        client.handler.refused(&client.peer, Refusal { status: None, ..refusal });
    }
    // The tasks of streams hold no socket; hyper has let go of its own.
    let Ok(socket) = Rc::try_unwrap(socket) else { return };
    let mut socket = socket.into_inner();
    if matches!(end, End::Refused(_)) && !is_blocked && !shared.frames.borrow().is_in_head() {
        poll_fn(|cx| {
            // The client may have left; there is nobody else to tell.
            let _ = Pin::new(&mut socket).poll_write(cx, &CALM);
            let _ = Pin::new(&mut socket).poll_flush(cx);
            Poll::Ready(())
        })
        .await;
    }
    if !matches!(end, End::Cut | End::TimedOut(Wait::Write(_))) {
        linger(socket, watch.timer(), &client.worker).await;
    }
}

/// What h2 found wrong with what the client sent. Connections that merely broke are told of by their requests.
fn protocol_error(error: &hyper::Error) -> Option<Refusal> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(found) = source.downcast_ref::<h2::Error>() {
            let is_ours = found.is_library() && (found.is_go_away() || found.is_reset());
            return is_ours.then(|| Refusal { code: "request.http2", status: None, detail: found.to_string().into() });
        }
        cause = source.source();
    }
    None
}

impl<H: Handler> Client<H> {
    /// Answers the request of one stream.
    async fn answer_stream(
        self: Rc<Self>,
        stream: Rc<Stream>,
        request: Request<Incoming>,
    ) -> Result<Response<SentStream>, Infallible> {
        let (mut parts, incoming) = request.into_parts();
        settle(&mut parts);
        let request = Request::from_parts(parts, Arriving::from(incoming));
        let peer = self.peer_of(&request);
        let permit = self.worker.shared.begin();
        let response = match &permit {
            Some(_) => self.handle(peer, request).await,
            None => {
                self.handler.refused(&peer, IN_FLIGHT);
                IN_FLIGHT.response().map(Outgoing::new)
            }
        };
        let idle = self.worker.limits.body_idle;
        Ok(response.map(|body| SentStream { body, piece: Bytes::new(), stream, idle, _permit: permit }))
    }
}

/// Gives a head the form that it has in HTTP/1: the target a path, the authority in one Host field (RFC 9113
/// §8.3.1), one field for all cookies (§8.2.3). Where authority and Host differ both are left, and refused.
fn settle(parts: &mut Parts) {
    if parts.method != Method::CONNECT
        && let Some(authority) = parts.uri.authority().cloned()
    {
        let mut hosts = parts.headers.get_all(HOST).iter();
        let is_same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
        let is_said = matches!((hosts.next(), hosts.next()), (Some(host), None) if is_same(host));
        if !is_said && let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            parts.headers.append(HOST, host);
        }
        if let Some(target) = parts.uri.path_and_query() {
            parts.uri = Uri::from(target.clone());
        }
    }
    join_cookies(&mut parts.headers);
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut all = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        all.extend_from_slice(b"; ");
        all.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(all) = HeaderValue::from_bytes(&all) {
        headers.insert(COOKIE, all);
    }
}

/// The body of an answer; while it lives the request is in flight.
struct SentStream {
    body: Outgoing,
    /// Given by the body, and not yet handed over.
    piece: Bytes,
    stream: Rc<Stream>,
    idle: Duration,
    _permit: Option<RequestPermit>,
}

impl HttpBody for SentStream {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        // Whoever asks for more has got rid of what it had.
        this.stream.unread.clear();
        if this.piece.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.piece = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            }
        }
        this.stream.unread.set(this.idle);
        let piece = this.piece.split_to(this.piece.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before the first piece.
        self.body.size_hint()
    }
}

/// A client's socket as hyper sees it: every frame in is counted.
struct CountedStream {
    socket: Rc<RefCell<Socket>>,
    /// Came before.
    read: Bytes,
    shared: Rc<Shared>,
}

impl AsyncRead for CountedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut frames = this.shared.frames.borrow_mut();
        if frames.refusal().is_some() {
            return Poll::Pending; // the connection's own task ends it
        }
        let before = buf.filled().len();
        if this.read.is_empty() {
            ready!(Pin::new(&mut *this.socket.borrow_mut()).poll_read(cx, buf))?;
        } else {
            buf.put_slice(&this.read.split_to(this.read.len().min(buf.remaining())));
        }
        frames.read(buf.filled().get(before..).unwrap_or_default(), this.shared.state.written.get(), Instant::now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.socket.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.socket.borrow_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(uri: &str, fields: &[(&str, &str)]) -> (String, Vec<String>) {
        let mut builder = Request::builder().uri(uri).version(http::Version::HTTP_2);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let mut parts = builder.body(()).unwrap().into_parts().0;
        settle(&mut parts);
        let fields = parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        (parts.uri.to_string(), fields.collect())
    }

    #[test]
    fn a_head_has_the_form_of_http_1() {
        let host = |fields: &[(&str, &str)]| settled("https://a.test:8443/x?y=z", fields);
        let said = || vec!["host: a.test:8443".to_owned()];
        assert_eq!(host(&[]), ("/x?y=z".to_owned(), said()));
        assert_eq!(host(&[("host", "a.test:8443")]).1, said());
        assert_eq!(host(&[("host", "b.test")]).1, ["host: b.test", "host: a.test:8443"], "refused as two");
        assert_eq!(settled("/x", &[]).1, [""; 0], "refused as none");
        let (_, fields) = settled("/x", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")]);
        assert_eq!(fields, ["cookie: a=1; b=2; c=3; d=4"]);
    }
}
