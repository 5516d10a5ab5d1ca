//! Bodies on their way out, and what is held until their last byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyFault, Tunnel};

/// What holds on until the last byte of a body has been handed to the connection, or it was given up.
pub trait Hold {
    /// `bytes` more were handed over.
    fn sent(&mut self, bytes: usize);
    /// `bytes` came from the receiver behind its request, through a tunnel.
    fn received(&mut self, _bytes: usize) {}
    /// The body ended as its framing promised. Not called when the receiver left or the sender broke off.
    fn complete(&mut self);
}

/// A body on its way out to an upstream or a client.
pub struct Outgoing {
    body: Body,
    hold: Option<Box<dyn Hold>>,
    tunnel: Option<Box<Tunnel>>,
}

impl Outgoing {
    /// A body that nobody waits for.
    pub fn new(body: Body) -> Outgoing {
        Outgoing { body, hold: None, tunnel: None }
    }

    /// A body that keeps `hold` until it has been sent or dropped.
    pub fn held_by(body: Body, hold: Box<dyn Hold>) -> Outgoing {
        let mut outgoing = Outgoing { body, hold: Some(hold), tunnel: None };
        // hyper never asks a body for frames that says from the start that it has none.
        if outgoing.is_end_stream() {
            outgoing.finished();
        }
        outgoing
    }

    /// No body: after the head the connection is a tunnel, and `hold` is kept until that has ended.
    pub fn tunnelled(tunnel: Box<Tunnel>, hold: Box<dyn Hold>) -> Outgoing {
        Outgoing { body: Body::Empty, hold: Some(hold), tunnel: Some(tunnel) }
    }

    /// Takes the tunnel, with what is kept until its end.
    pub fn take_tunnel(&mut self) -> Option<(Box<Tunnel>, Box<dyn Hold>)> {
        Some((self.tunnel.take()?, self.hold.take()?))
    }

    fn finished(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            hold.complete();
        }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        let frame = this.body.poll_next(cx);
        match &frame {
            Poll::Ready(None) => this.finished(),
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if let Some(hold) = &mut this.hold {
                    hold.sent(bytes);
                }
                // hyper asks no further once the declared length was handed over, or trailers.
                if this.is_end_stream() || frame.is_trailers() {
                    this.finished();
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
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
