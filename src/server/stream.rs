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

use super::gate::Gate;
use super::socket::Socket;

/// What is known of a connection, shared by its stream, its requests and its timer.
pub(super) struct ConnState {
    pub(super) gate: RefCell<Gate>,
    /// Requests handed to the service.
    pub(super) taken: Cell<u64>,
    /// Requests whose answer has been handed to hyper to its end.
    pub(super) answered: Cell<u64>,
    /// The client has sent something.
    pub(super) heard: Cell<bool>,
    /// Bytes written.
    pub(super) written: Cell<u64>,
    /// The client does not read: bytes wait.
    pub(super) blocked: Cell<bool>,
    /// The next answer is the last one.
    pub(super) closing: Cell<bool>,
}

impl ConnState {
    pub(super) fn new(gate: Gate) -> ConnState {
        ConnState {
            gate: RefCell::new(gate),
            taken: Cell::new(0),
            answered: Cell::new(0),
            heard: Cell::new(false),
            written: Cell::new(0),
            blocked: Cell::new(false),
            closing: Cell::new(false),
        }
    }
}

/// A client's socket behind the gate.
pub(super) struct GatedStream {
    socket: Socket,
    state: Rc<ConnState>,
}

impl GatedStream {
    pub(super) fn new(socket: Socket, state: Rc<ConnState>) -> GatedStream {
        GatedStream { socket, state }
    }

    /// The bare socket, for what is said after hyper has ended.
    pub(super) fn into_inner(self) -> Socket {
        self.socket
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
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
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
