//! Message bodies: empty, held in memory, or streaming with their limits enforced on the run.
//!
//! A streamed body counts its bytes, its silences and its rate while it is read, and remembers what
//! ended it: the one who forwards it learns from [`Ending`] whether the sender was at fault.

mod arriving;
mod outgoing;
mod trailers;
mod tunnel;

use std::any::Any;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

pub use arriving::{Arriving, Rest};
pub use outgoing::{Hold, Outgoing};
pub use trailers::Trailers;
pub use tunnel::{Duplex, Tunnel};

use crate::clock::wheel::{Timer, Wheel};
use crate::coding::{Chain, Coder, Pull, Refused, code};
use crate::limits::BODY_RATE_GRACE;

/// The body of a request or a response.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    /// Whole, in memory; can be read and sent any number of times.
    Buffered(Bytes),
    /// Still arriving; can be read or sent once.
    Stream(Box<Inbound>),
    /// Still arriving for somebody else; only its size is known here, where the sender has declared it.
    Lent(Option<u64>),
    /// Streamed away: a later read is `body.gone`.
    Gone,
}

/// Why a streamed body ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// More bytes than the limit allows.
    TooLarge { limit: u64 },
    /// More bytes than a policy allows.
    Restricted { limit: u64 },
    /// Silent for too long, or slower than the lowest rate.
    Timeout,
    /// The sender broke off or framed it wrongly.
    Broken(String),
    /// It cannot be decompressed within its bounds.
    Coding(Refused),
    /// It had been sent away before.
    Gone,
}

impl std::fmt::Display for BodyFault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BodyFault::TooLarge { limit } | BodyFault::Restricted { limit } => {
                write!(out, "body larger than {limit} bytes")
            }
            BodyFault::Timeout => write!(out, "body arrived too slowly"),
            BodyFault::Coding(why) => write!(out, "{why}"),
            BodyFault::Broken(why) => write!(out, "body broken off: {why}"),
            BodyFault::Gone => write!(out, "body was already sent away"),
        }
    }
}

impl std::error::Error for BodyFault {}

/// How much of a streamed body came and how it ended, shared with whoever forwarded it.
#[derive(Clone, Default)]
pub struct Ending(Rc<Progress>);

#[derive(Default)]
struct Progress {
    fault: Cell<Option<BodyFault>>,
    bytes: Cell<u64>,
}

impl Ending {
    /// The fault of the sender, if there was one.
    pub fn fault(&self) -> Option<BodyFault> {
        let fault = self.0.fault.take();
        self.0.fault.set(fault.clone());
        fault
    }

    /// Bytes that the sender has delivered so far; what it declared and nobody read does not count.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }
}

/// What a streamed body may cost.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    pub bytes: u64,
    pub idle: Duration,
    /// Bytes per second below which it is given up; 0 for none.
    pub rate: u64,
}

/// A body on its way in from a client or an upstream.
pub struct Inbound {
    incoming: Arriving,
    limits: BodyLimits,
    /// The limit of bytes is a policy's.
    restricted: bool,
    timer: Timer,
    armed: bool,
    started: Option<std::time::Instant>,
    ending: Ending,
    /// Already read and counted, but not given on.
    read_before: Option<Bytes>,
    /// Turns what arrives into something else; limits are of what arrives.
    coder: Option<Box<dyn Coder>>,
    trailers: Trailers,
    /// When it has to be over, and what is held until then.
    until: Option<(Timer, Rc<dyn Any>)>,
    /// What lasts until nobody reads it any more.
    kept: Option<Box<dyn Any>>,
}

impl Inbound {
    /// Takes a body that hyper is receiving.
    pub fn new(incoming: impl Into<Arriving>, limits: BodyLimits, wheel: &Wheel) -> Inbound {
        let (timer, ending) = (wheel.timer(), Ending::default());
        let (read_before, coder) = (None, None);
        let (trailers, until, kept) = (Trailers::Dropped, None, None);
        let (started, restricted) = (None, false);
        Inbound {
            incoming: incoming.into(),
            limits,
            restricted,
            timer,
            armed: false,
            started,
            ending,
            read_before,
            coder,
            trailers,
            until,
            kept,
        }
    }

    /// Lets these trailers pass.
    pub fn with_trailers(self, trailers: Trailers) -> Inbound {
        Inbound { trailers, ..self }
    }

    /// Ends it as too slow when the timer expires. `held` is dropped with it.
    pub fn until(self, timer: Timer, held: Rc<dyn Any>) -> Inbound {
        Inbound { until: Some((timer, held)), ..self }
    }

    /// How it ends, readable after it was given away.
    pub fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// Keeps something until it has come to its end and is given up.
    pub fn keep(&mut self, kept: Box<dyn Any>) {
        self.kept = Some(kept);
    }

    /// Tightens the limit of bytes; it can never be widened.
    fn tighten(&mut self, bytes: u64) {
        if bytes < self.limits.bytes {
            (self.limits.bytes, self.restricted) = (bytes, false);
        }
    }

    /// The same for a policy.
    pub fn restrict(&mut self, bytes: u64) {
        if bytes <= self.limits.bytes {
            (self.limits.bytes, self.restricted) = (bytes, true);
        }
    }

    /// Bytes that it may have, and whether a policy says so.
    pub fn limit(&self) -> (u64, bool) {
        (self.limits.bytes, self.restricted)
    }

    /// Takes back what [`Inbound::restrict`] did.
    pub fn restore_limit(&mut self, limit: (u64, bool)) {
        (self.limits.bytes, self.restricted) = limit;
    }

    /// Bytes it says it has, when the sender declared them and they stay what they are.
    pub fn declared(&self) -> Option<u64> {
        if self.coder.is_some() { None } else { self.size_hint().exact() }
    }

    /// Turns it into something else on the way, behind what is done to it already.
    fn recode(&mut self, mut second: Box<dyn Coder>) {
        // What was held before is through the first coder already.
        if let Some(read) = self.read_before.take() {
            second.push(read);
        }
        self.coder = Some(match self.coder.take() {
            Some(first) => Box::new(Chain { first, second }),
            None => second,
        });
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.ending.0.fault.set(Some(fault.clone()));
        Poll::Ready(Some(Err(fault)))
    }

    fn too_slow(&self) -> bool {
        let Some(started) = self.started else { return false };
        let elapsed = started.elapsed();
        elapsed > BODY_RATE_GRACE && self.ending.bytes() < self.limits.rate.saturating_mul(elapsed.as_secs())
    }
}

impl HttpBody for Inbound {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if let Some(data) = this.read_before.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        loop {
            match this.coder.as_mut().map(|coder| coder.pull()) {
                Some(Ok(Pull::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Pull::Done)) => return Poll::Ready(None),
                Some(Err(refused)) => return this.fail(BodyFault::Coding(refused)),
                Some(Ok(Pull::Starved)) | None => {}
            }
            match this.incoming.poll_frame(cx) {
                Poll::Ready(None) => match &mut this.coder {
                    Some(coder) => coder.end(),
                    None => return Poll::Ready(None),
                },
                Poll::Ready(Some(Err(error))) => return this.fail(BodyFault::Broken(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    let data = match frame.into_data() {
                        Ok(data) => data,
                        Err(other) => match other.into_trailers() {
                            Ok(trailers) if this.coder.is_none() => match this.trailers.pick(trailers) {
                                Some(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                                None => continue,
                            },
                            Ok(_) | Err(_) => continue,
                        },
                    };
                    this.armed = false;
                    let read = this.ending.bytes() + data.len() as u64;
                    this.ending.0.bytes.set(read);
                    if read > this.limits.bytes {
                        let limit = this.limits.bytes;
                        return this.fail(match this.restricted {
                            true => BodyFault::Restricted { limit },
                            false => BodyFault::TooLarge { limit },
                        });
                    }
                    match &mut this.coder {
                        Some(coder) => coder.push(data),
                        None => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    }
                }
                Poll::Pending => {
                    if !this.armed {
                        this.armed = true;
                        this.started.get_or_insert_with(std::time::Instant::now);
                        this.timer.set(this.limits.idle);
                    }
                    let is_over = this.until.as_ref().is_some_and(|(timer, _)| timer.poll_expired(cx).is_ready());
                    if is_over || this.timer.poll_expired(cx).is_ready() || this.too_slow() {
                        return this.fail(BodyFault::Timeout);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read_before.is_none() && self.coder.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.coder.is_some() {
            return SizeHint::default();
        }
        let rest = self.incoming.size_hint();
        let Some(read) = &self.read_before else { return rest };
        let mut all = SizeHint::new();
        all.set_lower(rest.lower().saturating_add(read.len() as u64));
        if let Some(upper) = rest.upper() {
            all.set_upper(upper.saturating_add(read.len() as u64));
        }
        all
    }
}

impl Body {
    /// The next frame, for whoever sends the body on.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self {
            Body::Empty => Poll::Ready(None),
            Body::Gone | Body::Lent(_) => Poll::Ready(Some(Err(BodyFault::Gone))),
            Body::Buffered(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Buffered(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Stream(inbound) => Pin::new(&mut **inbound).poll_frame(cx),
        }
    }

    /// Whether all of it was read, as far as that is known without reading.
    pub(crate) fn is_at_end(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Buffered(bytes) => bytes.is_empty(),
            Body::Stream(inbound) => inbound.is_end_stream(),
            Body::Gone | Body::Lent(_) => false,
        }
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Buffered(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(inbound) => inbound.size_hint(),
            Body::Gone | Body::Lent(_) => SizeHint::default(),
        }
    }

    /// Bytes in memory, if it is held or empty.
    pub fn held(&self) -> Option<&Bytes> {
        static NOTHING: Bytes = Bytes::new();
        match self {
            Body::Empty => Some(&NOTHING),
            Body::Buffered(bytes) => Some(bytes),
            Body::Stream(_) | Body::Lent(_) | Body::Gone => None,
        }
    }

    /// Size where it is known: held, or declared by the sender.
    pub fn size(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Buffered(bytes) => Some(bytes.len() as u64),
            Body::Stream(inbound) => inbound.declared(),
            Body::Lent(size) => *size,
            Body::Gone => None,
        }
    }

    /// Reads a streamed body to its end, at most `limit` bytes, and holds it. Where that fails or is given
    /// up on the way the body is gone: nobody may take the rest of it for the whole.
    pub async fn buffer(&mut self, limit: u64) -> Result<(), BodyFault> {
        match self {
            Body::Empty => return Ok(()),
            Body::Buffered(bytes) if bytes.len() as u64 <= limit => return Ok(()),
            Body::Buffered(_) => return Err(BodyFault::TooLarge { limit }),
            Body::Gone | Body::Lent(_) | Body::Stream(_) => {}
        }
        let Body::Stream(mut inbound) = std::mem::replace(self, Body::Gone) else { return Err(BodyFault::Gone) };
        if inbound.declared().is_some_and(|size| size > limit) {
            return Err(BodyFault::TooLarge { limit });
        }
        inbound.tighten(limit);
        // What comes out of a coder may be more than what came, and what was held before in vain stands here too.
        let (read, whole) = gather(&mut inbound, limit).await?;
        if !whole {
            return Err(BodyFault::TooLarge { limit });
        }
        *self = Body::Buffered(read);
        Ok(())
    }

    /// Reads a streamed body to its end and holds it, unless it is larger than `limit` bytes: then it streams on,
    /// with what was read before the rest.
    pub async fn hold(&mut self, limit: u64) -> Result<(), BodyFault> {
        if !matches!(self, Body::Stream(inbound) if inbound.declared().is_none_or(|size| size <= limit)) {
            return Ok(());
        }
        let Body::Stream(mut inbound) = std::mem::replace(self, Body::Gone) else { return Ok(()) };
        let (read, whole) = gather(&mut inbound, limit).await?;
        *self = match whole {
            true => Body::Buffered(read),
            false => {
                inbound.read_before = Some(read);
                Body::Stream(inbound)
            }
        };
        Ok(())
    }

    /// Turns it into something else: at once where it is held, on the way where it streams.
    pub fn recode(&mut self, mut coder: Box<dyn Coder>) -> Result<(), BodyFault> {
        match self {
            Body::Stream(inbound) => inbound.recode(coder),
            Body::Gone | Body::Lent(_) => return Err(BodyFault::Gone),
            Body::Empty => {}
            Body::Buffered(bytes) => {
                let coded = code(&mut *coder, std::mem::take(bytes)).map_err(BodyFault::Coding)?;
                *bytes = coded.into();
            }
        }
        Ok(())
    }

    /// Gives the body to be sent. A held body can be given again; a streamed one is gone afterwards.
    pub fn give(&mut self) -> Result<Body, BodyFault> {
        match self {
            Body::Empty => Ok(Body::Empty),
            Body::Buffered(bytes) => Ok(Body::Buffered(bytes.clone())),
            Body::Gone | Body::Lent(_) => Err(BodyFault::Gone),
            Body::Stream(_) => Ok(std::mem::replace(self, Body::Gone)),
        }
    }

    /// The body for somebody who only looks at it: one that streams cannot be read there.
    pub fn lend(&self) -> Body {
        match self {
            Body::Empty => Body::Empty,
            Body::Buffered(bytes) => Body::Buffered(bytes.clone()),
            Body::Stream(_) | Body::Lent(_) => Body::Lent(self.size()),
            Body::Gone => Body::Gone,
        }
    }
}

/// Reads on until the end, or until more than `enough` bytes are there; says whether it was the end.
async fn gather(inbound: &mut Inbound, enough: u64) -> Result<(Bytes, bool), BodyFault> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut whole = true;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *inbound).poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        if first.len().max(rest.len()) as u64 > enough {
            whole = false;
            break;
        }
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, whole))
}

#[cfg(test)]
mod tests;
