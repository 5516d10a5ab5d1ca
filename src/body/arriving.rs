//! What hyper receives for whoever reads it, so that the connection can take it back from a reader who stands still.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

/// A body of hyper's, the reader's own or one that can be taken back.
pub enum Arriving {
    Own(Incoming),
    Shared(Rest),
}

/// What nobody has read of a body yet.
#[derive(Clone)]
pub struct Rest(Rc<RefCell<Option<Incoming>>>);

impl From<Incoming> for Arriving {
    fn from(incoming: Incoming) -> Arriving {
        Arriving::Own(incoming)
    }
}

impl Arriving {
    /// A body that can be taken back, with what takes it; one that is empty has nothing to take.
    pub fn shared(incoming: Incoming) -> (Arriving, Option<Rest>) {
        if incoming.is_end_stream() {
            return (Arriving::Own(incoming), None);
        }
        let rest = Rest(Rc::new(RefCell::new(Some(incoming))));
        (Arriving::Shared(rest.clone()), Some(rest))
    }

    /// The next frame, or why there is none.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        let frame = match self {
            Arriving::Own(incoming) => Pin::new(incoming).poll_frame(cx),
            Arriving::Shared(rest) => match rest.0.borrow_mut().as_mut() {
                Some(incoming) => Pin::new(incoming).poll_frame(cx),
                None => return Poll::Ready(Some(Err("the exchange was over".to_owned()))),
            },
        };
        frame.map_err(|error| error.to_string())
    }

    /// Whether all of it was read, as far as that is known without reading.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Arriving::Own(incoming) => incoming.is_end_stream(),
            Arriving::Shared(rest) => rest.0.borrow().as_ref().is_some_and(HttpBody::is_end_stream),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Arriving::Own(incoming) => incoming.size_hint(),
            Arriving::Shared(rest) => rest.0.borrow().as_ref().map_or_else(SizeHint::new, HttpBody::size_hint),
        }
    }
}

impl Rest {
    /// Whether somebody may still read it.
    pub fn has_reader(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// Whether there is no more of it, as far as that is known without reading.
    pub fn is_at_end(&self) -> bool {
        self.0.borrow().as_ref().is_none_or(HttpBody::is_end_stream)
    }

    /// Takes it from its reader, for whom it is broken then.
    pub fn take(&self) -> Rest {
        Rest(Rc::new(RefCell::new(self.0.borrow_mut().take())))
    }

    /// Reads on and throws away: how many bytes, or `None` at its end.
    pub fn poll_skip(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let mut rest = self.0.borrow_mut();
        let Some(incoming) = rest.as_mut() else { return Poll::Ready(None) };
        Poll::Ready(match ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => Some(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) | None => None,
        })
    }
}
