//! A stream that notes what a connection has to know about its peer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::line::Line;
use crate::tls::Wire;

/// The stream below hyper.
pub(super) struct Socket {
    wire: Wire<TcpStream>,
    line: Rc<Line>,
}

impl Socket {
    pub(super) fn new(wire: Wire<TcpStream>, line: Rc<Line>) -> Socket {
        Socket { wire, line }
    }

    /// A peer that closed early may have answered before; the answer counts, so a failed write is
    /// taken for done and the reader finds out how the connection ended (RFC 9112 §9.5).
    fn written(&self, offered: usize, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(_)) => {
                self.line.spoil();
                Poll::Ready(Ok(offered))
            }
            other => {
                self.line.backlog.set(!matches!(&other, Poll::Ready(Ok(taken)) if *taken == offered));
                other
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.wire).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.line.hears();
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.wire).poll_write(cx, data);
        self.written(data.len(), result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = data.iter().map(|part| part.len()).sum();
        let result = Pin::new(&mut self.wire).poll_write_vectored(cx, data);
        self.written(offered, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.wire).poll_flush(cx);
        // TLS takes more than the socket does: what is left waits for the flush.
        if matches!(self.wire, Wire::Tls(_)) {
            self.line.backlog.set(result.is_pending());
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
