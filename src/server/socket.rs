//! The socket of one client connection, in clear or under TLS, with what its timer has to know.
//!
//! What is noted is noted on the bare socket: under TLS a write is taken long before its bytes have left.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bare::Bare;
use super::stream::ConnState;
use crate::tls::Wire;

/// A bare socket whose writes are noted.
pub(super) struct Noted {
    bare: Bare,
    state: Rc<ConnState>,
}

/// What HTTP is spoken over.
pub(super) type Socket = Wire<Noted>;

impl Socket {
    /// Whoever drops it resets the connection, and does not say that nothing follows.
    pub(super) fn reset_at_close(&self) {
        match self {
            Wire::Clear(noted) => noted.bare.reset_at_close(),
            Wire::Tls(tls) => tls.get_ref().0.bare.reset_at_close(),
        }
    }
}

impl Noted {
    pub(super) fn new(bare: Bare, state: Rc<ConnState>) -> Noted {
        Noted { bare, state }
    }

    fn note_write(&self, outcome: &Poll<io::Result<usize>>) {
        self.state.blocked.set(outcome.is_pending());
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.state.written.set(self.state.written.get() + *bytes as u64);
        }
    }
}

impl AsyncRead for Noted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.bare).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.state.heard.set(true);
        }
        outcome
    }
}

impl AsyncWrite for Noted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.bare).poll_write(cx, bytes);
        this.note_write(&outcome);
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.bare).poll_write_vectored(cx, slices);
        this.note_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.bare.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().bare).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().bare).poll_shutdown(cx)
    }
}
