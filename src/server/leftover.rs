//! What is left of a request's body when its answer has ended: the reader may go on, and once he stands still, or is
//! gone, the rest is read and thrown away, so that the next request on the connection is reached (RFC 9112 §9.3).

use std::task::{Context, Poll};
use std::time::Duration;

use crate::body::Rest;

/// How long a reader may stand still while the answer has ended.
pub(super) const READER_TIME: Duration = Duration::from_secs(1);
/// How many bytes are thrown away; a connection with more to come is closed.
const SKIP_BYTES: usize = 1024 * 1024;

/// The rest of one body.
pub(super) struct Leftover {
    rest: Rest,
    left: usize,
}

/// How it stands with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// It may go on by itself, or more has to come.
    Waiting,
    /// There is no more of it, or no more of it is read.
    Over,
}

impl Leftover {
    pub(super) fn new(rest: Rest) -> Leftover {
        Leftover { rest, left: SKIP_BYTES }
    }

    /// Whether somebody reads it still.
    pub(super) fn has_reader(&self) -> bool {
        self.rest.has_reader()
    }

    /// The reader has stood still for too long.
    pub(super) fn take(&mut self) {
        self.rest = self.rest.take();
    }

    /// Throws away what has come. Whoever drops one that is not at its end makes hyper close the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Skipped {
        if self.rest.is_at_end() {
            return Skipped::Over;
        }
        if self.has_reader() {
            return Skipped::Waiting;
        }
        loop {
            match self.rest.poll_skip(cx) {
                Poll::Pending => return Skipped::Waiting,
                Poll::Ready(Some(bytes)) if bytes < self.left => self.left -= bytes,
                Poll::Ready(_) => return Skipped::Over,
            }
        }
    }
}
