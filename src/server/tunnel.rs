//! A connection after a 101: bytes both ways between a client and an upstream, until one of them ends, both are
//! silent for too long, or the server is cut. Nothing of them is looked at.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Handler;
use super::connection::Watch;
use super::exchange::Client;
use super::socket::Socket;
use super::worker::Stage;
use crate::body::{Hold, Tunnel};

/// Bytes of one direction that may wait.
const BUFFER_BYTES: usize = 8 * 1024;

/// A tunnel that waits for the connection to be free, with what is told of its end.
pub(super) type Agreed = RefCell<Option<(Box<Tunnel>, Box<dyn Hold>)>>;

/// One direction.
struct Pipe {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    has_ended: bool,
    is_closed: bool,
    bytes: usize,
}

impl Pipe {
    fn new(read: &Bytes) -> Pipe {
        let mut buffer = read.to_vec();
        buffer.resize(buffer.len().max(BUFFER_BYTES), 0);
        Pipe { buffer, from: 0, to: read.len(), has_ended: false, is_closed: false, bytes: 0 }
    }

    /// Carries on; ready when the reader has ended and the writer was told so.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut reader: Pin<&mut (impl AsyncRead + ?Sized)>,
        mut writer: Pin<&mut (impl AsyncWrite + ?Sized)>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.from < self.to {
                let waiting = self.buffer.get(self.from..self.to).unwrap_or_default();
                let taken = ready!(writer.as_mut().poll_write(cx, waiting))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.from += taken;
                self.bytes += taken;
                continue;
            }
            if self.has_ended {
                if !self.is_closed {
                    ready!(writer.as_mut().poll_shutdown(cx))?;
                    self.is_closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut space = ReadBuf::new(&mut self.buffer);
            match reader.as_mut().poll_read(cx, &mut space) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => {
                    ready!(writer.as_mut().poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
            (self.from, self.to) = (0, space.filled().len());
            self.has_ended = self.to == 0;
        }
    }
}

/// Carries bytes to the end. `read` are the client's that hyper has read already.
pub(super) async fn carry<H: Handler>(
    mut socket: Socket,
    read: Bytes,
    (mut upstream, mut hold): (Box<Tunnel>, Box<dyn Hold>),
    client: &Client<H>,
    watch: &Watch,
) {
    let worker = &client.worker;
    let _counted = worker.shared.tunnel();
    let (mut up, mut down) = (Pipe::new(&read), Pipe::new(&upstream.read));
    let (idle, timer) = (worker.limits.tunnel_idle, watch.timer());
    timer.set(idle);
    let is_whole = poll_fn(|cx| {
        if worker.stage.get() == Stage::Cut {
            worker.shared.count_cut();
            return Poll::Ready(false);
        }
        let before = up.bytes + down.bytes;
        let sent = up.poll(cx, Pin::new(&mut socket), upstream.io.as_mut());
        let got = down.poll(cx, upstream.io.as_mut(), Pin::new(&mut socket));
        match (sent, got) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(true),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(false),
            _ => {}
        }
        if up.bytes + down.bytes > before {
            timer.set(idle);
        }
        timer.poll_expired(cx).map(|()| true) // silence is an end like another
    })
    .await;
    hold.sent(down.bytes);
    hold.received(up.bytes);
    if is_whole {
        hold.complete();
    }
}
