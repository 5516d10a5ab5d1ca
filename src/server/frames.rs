//! The gate of HTTP/2: follows the frames of a connection before hyper does (RFC 9113 §4.1), and counts those
//! that make work and carry nothing (§10.5).
//!
//! Grammar, flow control, sizes of fields and streams that are reset before they are served are h2's to judge; what
//! it takes without a bound, however often it comes, is bounded here. Payloads are not looked at.

use std::time::{Duration, Instant};

use super::refusal::Refusal;

/// What a client that knows of HTTP/2 begins with (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before a frame's payload.
const HEAD: usize = 9;
/// Frames are counted anew after this time.
const SPAN: Duration = Duration::from_secs(10);
/// Frames in a span that carry nothing: pings, settings, priorities, window updates, empty data, continuations.
const EMPTY_MAX: u64 = 2_000;
/// Each stream may have some of them beside,
const EMPTY_PER_STREAM: u64 = 4;
/// and so may each piece of an answer of this many bytes, for the window updates that it needs.
const ANSWER_PIECE: u64 = 512;
/// Streams that a client may take back in a span, while they are more than half of what it opened (CVE-2023-44487).
const RESETS_MAX: u64 = 200;

const FLOOD: Refusal = Refusal::silent("request.http2_flood", "too many HTTP/2 frames that carry nothing");
const RESETS: Refusal = Refusal::silent("request.http2_flood", "too many HTTP/2 streams were opened and taken back");

// Types and flags, RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Follows one connection.
pub(super) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of `head` that have come.
    have: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
    /// A header block has begun and not ended.
    in_block: bool,
    began: Option<Instant>,
    streams: u64,
    resets: u64,
    empty: u64,
    /// Bytes that had been written when the span began.
    written: u64,
    refusal: Option<Refusal>,
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames {
            preface: PREFACE.len(),
            head: [0; HEAD],
            have: 0,
            payload: 0,
            in_block: false,
            began: None,
            streams: 0,
            resets: 0,
            empty: 0,
            written: 0,
            refusal: None,
        }
    }

    /// Whether some of a head has arrived, and not all of it: nothing else can come before the rest.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_block || self.have > 0
    }

    /// Why the connection is to end.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Reads on. `written` are the bytes that the client has been sent so far.
    pub(super) fn read(&mut self, mut bytes: &[u8], written: u64, now: impl Fn() -> Instant) {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() && self.refusal.is_none() {
            if self.payload > 0 {
                let taken = self.payload.min(bytes.len());
                self.payload -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else { return };
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *first;
                self.have += 1;
            }
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                self.frame(written, &now);
            }
        }
    }

    /// The head of a frame is complete.
    fn frame(&mut self, written: u64, now: &impl Fn() -> Instant) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let ends_block = flags & END_HEADERS != 0;
        match kind {
            HEADERS => {
                self.streams += 1;
                self.in_block = !ends_block;
            }
            CONTINUATION => {
                self.in_block &= !ends_block;
                self.empty += 1;
            }
            RST_STREAM => self.resets += 1,
            DATA if self.payload > 0 || flags & END_STREAM != 0 => {}
            _ => self.empty += 1,
        }
        let began = *self.began.get_or_insert_with(|| {
            self.written = written;
            now()
        });
        let allowed = EMPTY_MAX + self.streams * EMPTY_PER_STREAM + written.saturating_sub(self.written) / ANSWER_PIECE;
        let flood = match () {
            () if self.resets > RESETS_MAX && self.resets * 2 > self.streams => RESETS,
            () if self.empty > allowed => FLOOD,
            () => return,
        };
        // The time is asked for only here: a connection that keeps within its bounds costs nothing.
        let time = now();
        if time.saturating_duration_since(began) < SPAN {
            self.refusal = Some(flood);
            return;
        }
        self.began = Some(time);
        self.written = written;
        (self.streams, self.resets, self.empty) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(payload).unwrap(), kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD + payload, 0xee);
        bytes
    }

    fn opened() -> Frames {
        let mut frames = Frames::new();
        frames.read(PREFACE, 0, Instant::now);
        frames
    }

    /// How many of `frame` are taken before the connection is refused.
    fn taken(frames: &mut Frames, frame: &[u8], most: usize, written: u64, now: Instant) -> usize {
        (0..most)
            .find(|_| {
                frames.read(frame, written, || now);
                frames.refusal().is_some()
            })
            .unwrap_or(most)
    }

    #[test]
    fn heads_are_followed_however_they_arrive() {
        let mut stream = PREFACE.to_vec();
        stream.extend(frame(4, 0, 6));
        stream.extend(frame(HEADERS, END_STREAM, 40));
        let open = stream.len();
        stream.extend(frame(CONTINUATION, END_HEADERS, 3));
        stream.extend(frame(DATA, 0, 200));
        for piece in [1, 2, 5, 64, stream.len()] {
            let mut frames = Frames::new();
            let mut at = 0;
            for part in stream.chunks(piece) {
                frames.read(part, 0, Instant::now);
                at += part.len();
                assert!(frames.is_in_head() || at != open, "pieces of {piece}");
            }
            assert!(!frames.is_in_head() && frames.refusal().is_none(), "pieces of {piece}");
            assert_eq!((frames.streams, frames.empty), (1, 2), "pieces of {piece}");
        }
    }

    #[test]
    fn frames_that_carry_nothing_are_bounded_in_a_span() {
        let begun = Instant::now();
        let ping = frame(6, 0, 8);
        let most = usize::try_from(EMPTY_MAX).unwrap();
        for flood in [ping.clone(), frame(4, 0, 0), frame(2, 0, 5), frame(8, 0, 4), frame(DATA, 0, 0), frame(99, 0, 1)]
        {
            let mut frames = opened();
            assert_eq!(taken(&mut frames, &flood, 1_000_000, 0, begun), most, "{flood:?}");
            assert_eq!(frames.refusal().unwrap().code, "request.http2_flood");
        }
        let mut frames = opened();
        for span in 0..3 {
            let now = begun + SPAN * span;
            assert_eq!(taken(&mut frames, &ping, most, 0, now), most, "in span {span}");
        }
        // An answer of a mebibyte needs some window updates.
        let mut frames = opened();
        frames.read(&frame(8, 0, 4), 0, || begun);
        assert_eq!(taken(&mut frames, &frame(8, 0, 4), 1_000_000, 1 << 20, begun), most + (1 << 20) / 512 - 1);
    }

    #[test]
    fn whoever_takes_most_of_its_streams_back_is_refused() {
        let now = Instant::now();
        let (open, reset) = (frame(HEADERS, END_HEADERS | END_STREAM, 10), frame(RST_STREAM, 0, 4));
        let rapid = [open.clone(), reset.clone()].concat();
        assert_eq!(taken(&mut opened(), &rapid, 1_000_000, 0, now), usize::try_from(RESETS_MAX).unwrap());
        // One in three is a client that changes its mind.
        let fickle = [open.clone(), open.clone(), open, reset].concat();
        assert_eq!(taken(&mut opened(), &fickle, 100_000, 0, now), 100_000);
    }
}
