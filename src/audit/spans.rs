//! Spans of traces on their way out: what is recorded of a request, which requests are, and the queue to who sends them.
//!
//! The names are those of the OpenTelemetry semantic conventions for HTTP. The queue is bounded: a worker never waits for
//! it, and what does not fit is dropped and counted. Nothing is sent here.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::trace_context::{SpanId, TraceId};

/// Requests whose spans may wait to be sent.
pub const QUEUE_MAX: usize = 2048;
/// Spans of one request; further attempts to reach an upstream are not recorded.
pub const SPANS_MAX: usize = 32;
/// Longest text of an attribute, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Bits of a trace's name that the choice of traces looks at: all of a trace's gateways choose the same (W3C Trace
/// Context level 2 §3.2.2.3).
const RANDOM_BITS: u32 = 56;

/// Whose word about a trace counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// That of the listeners' `trusted_proxies`.
    TrustedProxies,
    Everyone,
    Nobody,
}

/// Which side of a call a span tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that was answered here.
    Server,
    /// An attempt to reach an upstream.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    Text(String),
    Whole(i64),
}

impl Attribute {
    /// A text, cut at [`TEXT_BYTES_MAX`].
    pub fn text(text: &str) -> Attribute {
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        Attribute::Text(text.get(..end.unwrap_or_default()).unwrap_or_default().to_owned())
    }
}

/// One part of a trace.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    /// What other systems have noted of the trace.
    pub state: Option<HeaderValue>,
    pub kind: SpanKind,
    pub name: String,
    /// Unix nanoseconds.
    pub begun_ns: u64,
    pub ended_ns: u64,
    pub attributes: Vec<(&'static str, Attribute)>,
    pub failed: bool,
    /// A trace that is not believed, and may be of the same matter.
    pub link: Option<(TraceId, SpanId)>,
}

/// The tracing of a process.
pub struct Tracing {
    pub trust: Trust,
    /// Traces are recorded whose chance is at least this.
    rejected_below: u64,
    queue: Sender<Vec<Span>>,
    dropped: AtomicU64,
}

impl Tracing {
    /// Records `share` (0 to 1) of the traces that begin here; spans come out at the other end.
    pub fn new(trust: Trust, share: f64) -> (Tracing, Receiver<Vec<Span>>) {
        let (queue, spans) = channel(QUEUE_MAX);
        let all = (1_u64 << RANDOM_BITS) as f64;
        let rejected_below = ((1.0 - share.clamp(0.0, 1.0)) * all) as u64;
        (Tracing { trust, rejected_below, queue, dropped: AtomicU64::new(0) }, spans)
    }

    /// Whether a trace that begins here is recorded.
    pub fn chooses(&self, trace: TraceId) -> bool {
        let chance = u128::from_be_bytes(trace.0) & ((1 << RANDOM_BITS) - 1);
        chance >= u128::from(self.rejected_below)
    }

    /// Hands the spans of a request over; never waits.
    pub fn offer(&self, spans: Vec<Span>) {
        let count = spans.len();
        if self.queue.try_send(spans).is_err() {
            self.lost(count);
        }
    }

    /// Counts spans that will not be sent.
    pub fn lost(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Spans that were not sent since the process began.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span {
            trace: TraceId([1; 16]),
            id: SpanId::of(1),
            parent: None,
            state: None,
            kind: SpanKind::Server,
            name: "GET".into(),
            begun_ns: 0,
            ended_ns: 0,
            attributes: Vec::new(),
            failed: false,
            link: None,
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (tracing, mut spans) = Tracing::new(Trust::Nobody, 1.0);
        for _ in 0..QUEUE_MAX {
            tracing.offer(vec![span()]);
        }
        assert_eq!(tracing.dropped(), 0);
        tracing.offer(vec![span(), span()]);
        assert_eq!(tracing.dropped(), 2);
        assert_eq!(spans.try_recv().unwrap().len(), 1);
        tracing.offer(vec![span()]);
        drop(spans);
        tracing.offer(vec![span()]);
        assert_eq!(tracing.dropped(), 3, "nobody is there to send them");
    }

    #[test]
    fn a_share_of_the_traces_is_chosen_and_everywhere_the_same() {
        let chosen = |share: f64| {
            let tracing = Tracing::new(Trust::Nobody, share).0;
            let trace = |number: u64| TraceId(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
            (0..10_000).filter(|number| tracing.chooses(trace(*number))).collect::<Vec<u64>>()
        };
        assert_eq!((chosen(0.0).len(), chosen(1.0).len()), (0, 10_000));
        let (tenth, half) = (chosen(0.1), chosen(0.5));
        assert!((950..1050).contains(&tenth.len()) && (4900..5100).contains(&half.len()), "{}", tenth.len());
        assert!(tenth.iter().all(|number| half.contains(number)), "who records less records the same ones");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let text = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(Attribute::text(&format!("a{text}")), Attribute::Text(format!("a{}", "é".repeat(511))));
    }
}
