//! A client's connection as hyper sees it: every byte in passes the gate. What is known of the connection.
//!
//! hyper's own head timeout costs a system call per request (it arms a runtime timer), so what the
//! connection's one timer has to know is noted here and judged in `connection.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::PREFACE;
use super::gate::Gate;
use super::leftover::Leftover;
use super::socket::Socket;
use super::tunnel::Agreed;

/// What is known of a connection, shared by its stream, its requests and its timer.
pub(super) struct ConnState {
    pub(super) gate: RefCell<Gate>,
    /// Requests handed to the service.
    pub(super) taken: Cell<u64>,
    /// Requests whose answer has been handed to hyper to its end.
    pub(super) answered: Cell<u64>,
    /// An answer is being handed to hyper.
    pub(super) sending: Cell<bool>,
    /// The client has sent something.
    pub(super) heard: Cell<bool>,
    /// Bytes written.
    pub(super) written: Cell<u64>,
    /// The client does not read: bytes wait.
    pub(super) blocked: Cell<bool>,
    /// The next answer is the last one.
    pub(super) closing: Cell<bool>,
    /// The client begins with the preface of HTTP/2.
    pub(super) prefaced: Cell<bool>,
    /// What is left of the body whose answer has ended.
    pub(super) leftover: RefCell<Option<Leftover>>,
    /// What follows the answer that is being written.
    pub(super) agreed: Agreed,
}

impl ConnState {
    pub(super) fn new(gate: Gate) -> ConnState {
        ConnState {
            gate: RefCell::new(gate),
            taken: Cell::new(0),
            answered: Cell::new(0),
            sending: Cell::new(false),
            heard: Cell::new(false),
            written: Cell::new(0),
            blocked: Cell::new(false),
            closing: Cell::new(false),
            prefaced: Cell::new(false),
            leftover: RefCell::default(),
            agreed: Agreed::default(),
        }
    }
}

/// What a connection begins with.
pub(super) enum Opening {
    /// Nobody knows yet: these bytes may become the preface of HTTP/2, or are it.
    Read(Vec<u8>),
    /// HTTP/1.
    Known,
}

/// A client's socket behind the gate.
pub(super) struct GatedStream {
    socket: Socket,
    state: Rc<ConnState>,
    opening: Opening,
}

impl GatedStream {
    pub(super) fn new(socket: Socket, state: Rc<ConnState>, opening: Opening) -> GatedStream {
        GatedStream { socket, state, opening }
    }

    /// The bare socket, for what is said after hyper has ended, and what was read of it that hyper has not seen.
    pub(super) fn into_inner(self) -> (Socket, Vec<u8>) {
        match self.opening {
            Opening::Read(read) => (self.socket, read),
            Opening::Known => (self.socket, Vec::new()),
        }
    }

    /// Reads until the first bytes tell HTTP/1 from HTTP/2; those of HTTP/1 go on in `buf`.
    fn poll_opening(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let Opening::Read(read) = &mut self.opening else { return Poll::Ready(Ok(())) };
            if self.state.prefaced.get() {
                return Poll::Pending; // the connection's own task takes over
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
            let fresh = buf.filled().get(before..).unwrap_or_default();
            let is_end = fresh.is_empty();
            if read.is_empty() && fresh.first() != PREFACE.first() {
                self.opening = Opening::Known;
                return Poll::Ready(Ok(()));
            }
            read.extend_from_slice(fresh);
            buf.set_filled(before);
            if read.starts_with(PREFACE) {
                self.state.prefaced.set(true);
                return Poll::Pending;
            }
            // Less than the preface was held before, so that it and what came now have room.
            if is_end || !PREFACE.starts_with(read) {
                buf.put_slice(read);
                self.opening = Opening::Known;
            }
        }
    }
}

/// What hyper is told after a refusal. In a head it waits, and the connection's own task, which looks at the
/// gate after every poll, answers once earlier requests have had theirs; in a body the reader has to know.
fn refused(gate: &Gate) -> Poll<io::Result<()>> {
    match gate.refusal() {
        Some(refusal) if gate.is_in_body() => {
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal.detail.as_ref())))
        }
        _ => Poll::Pending,
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut gate = this.state.gate.borrow_mut();
        if gate.refusal().is_some() {
            return refused(&gate);
        }
        let before = buf.filled().len();
        match this.opening {
            Opening::Known => ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?,
            Opening::Read(_) => {
                drop(gate);
                ready!(this.poll_opening(cx, buf))?;
                gate = this.state.gate.borrow_mut();
            }
        }
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let passed = gate.read(fresh);
        if passed < fresh.len() {
            buf.set_filled(before + passed);
            if passed == 0 {
                return refused(&gate);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
