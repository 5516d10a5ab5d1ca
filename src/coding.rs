//! Compressing and decompressing as bytes arrive: gzip (RFC 1952), zlib (RFC 1950) and raw deflate (RFC 1951).
//!
//! Output is counted while it comes into being and stops at its bound; nothing is allocated from sizes that a
//! sender declares. A coder knows no messages: whose fault bad data is, is for whoever uses it.

mod whole;

use std::cell::RefCell;

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::whole::compress;

/// Bytes that come out at once, at most.
const PIECE_BYTES: usize = 32 * 1024;
/// Output below this is never too much for its input.
const RATIO_FREE_BYTES: u64 = 64 * 1024;
/// States for compressing that a thread keeps.
const SPARES_MAX: usize = 4;
/// The largest window of deflate, in bits.
const WINDOW_BITS: u8 = 15;

/// A compressed form.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; HTTP's coding `deflate` (RFC 9110 §8.4.1.2).
    Zlib,
    /// RFC 1951, without a frame.
    Deflate,
}

/// Why data was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Bad data, a bad checksum, an early end, or bytes behind the end.
    Invalid(&'static str),
    /// More output than allowed.
    TooLarge { limit: u64 },
    /// More output for its input than allowed.
    Ratio { limit: u64 },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Invalid(why) => write!(out, "compressed data: {why}"),
            Refused::TooLarge { limit } => write!(out, "decompresses to more than {limit} bytes"),
            Refused::Ratio { limit } => write!(out, "decompresses to more than {limit} times its size"),
        }
    }
}

/// What a coder has.
#[derive(Debug, PartialEq)]
pub enum Pull {
    Data(Bytes),
    /// It needs more input, or to hear that there is none.
    Starved,
    /// Everything is out.
    Done,
}

/// Turns bytes into others as they arrive.
pub trait Coder {
    /// Hands input over; only after [`Pull::Starved`].
    fn push(&mut self, data: Bytes);
    /// Says that no further input comes.
    fn end(&mut self);
    /// Takes the next output.
    fn pull(&mut self) -> Result<Pull, Refused>;
}

/// What decompressing may cost.
#[derive(Clone, Copy, Debug)]
pub struct InflateBounds {
    /// Bytes of output.
    pub output: u64,
    /// Output for each byte of input, judged after 64 KiB of output.
    pub ratio: u64,
}

/// Decompresses.
pub struct Inflater {
    format: Format,
    stream: Decompress,
    input: Bytes,
    ended: bool,
    /// The stream has ended; for gzip a further one may follow (RFC 1952 §2.2).
    complete: bool,
    bounds: InflateBounds,
    read: u64,
    written: u64,
}

impl Inflater {
    /// Begins.
    pub fn new(format: Format, bounds: InflateBounds) -> Inflater {
        let stream = inflate(format);
        Inflater { format, stream, input: Bytes::new(), ended: false, complete: false, bounds, read: 0, written: 0 }
    }

    fn count(&mut self, read: u64, written: u64) -> Result<(), Refused> {
        self.read += read;
        self.written += written;
        let InflateBounds { output, ratio } = self.bounds;
        if self.written > output {
            return Err(Refused::TooLarge { limit: output });
        }
        if self.written > RATIO_FREE_BYTES && self.written > self.read.saturating_mul(ratio) {
            return Err(Refused::Ratio { limit: ratio });
        }
        Ok(())
    }
}

fn inflate(format: Format) -> Decompress {
    match format {
        Format::Gzip => Decompress::new_gzip(WINDOW_BITS),
        Format::Zlib => Decompress::new(true),
        Format::Deflate => Decompress::new(false),
    }
}

impl Coder for Inflater {
    fn push(&mut self, data: Bytes) {
        self.input = data;
    }

    fn end(&mut self) {
        self.ended = true;
    }

    fn pull(&mut self) -> Result<Pull, Refused> {
        loop {
            if self.complete {
                match (self.input.is_empty(), self.ended) {
                    (true, true) => return Ok(Pull::Done),
                    (true, false) => return Ok(Pull::Starved),
                    (false, _) if self.format != Format::Gzip => return Err(Refused::Invalid("bytes behind its end")),
                    (false, _) => {
                        self.stream = inflate(self.format);
                        self.complete = false;
                    }
                }
            }
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress_vec(&self.input, &mut piece, FlushDecompress::None);
            let status = status.map_err(|_| Refused::Invalid("bad data or a bad checksum"))?;
            let (read, written) = (self.stream.total_in() - in_before, self.stream.total_out() - out_before);
            self.input.advance(usize::try_from(read).unwrap_or(usize::MAX).min(self.input.len()));
            self.complete = status == Status::StreamEnd;
            self.count(read, written)?;
            if written > 0 {
                return Ok(Pull::Data(piece.into()));
            }
            match (self.complete, self.input.is_empty()) {
                (true, _) => {}
                (false, true) if self.ended => return Err(Refused::Invalid("it ends too early")),
                (false, true) => return Ok(Pull::Starved),
                (false, false) if read == 0 => return Err(Refused::Invalid("bad data")),
                (false, false) => {}
            }
        }
    }
}

thread_local! {
    /// States of streams that have ended: one takes a quarter of a megabyte, and to make it takes as long as to
    /// compress some thousand bytes.
    static SPARES: RefCell<Vec<(Format, u32, Compress)>> = const { RefCell::new(Vec::new()) };
}

/// Compresses.
pub struct Deflater {
    format: Format,
    level: u32,
    /// Taken out when it is dropped.
    stream: Option<Compress>,
    input: Bytes,
    /// Everything handed over comes out at once, at the price of size: for streams of events.
    eager: bool,
    flushed: bool,
    ended: bool,
    complete: bool,
}

impl Deflater {
    /// Begins; `level` from 1 to 9.
    pub fn new(format: Format, level: u32, eager: bool) -> Deflater {
        let level = level.clamp(1, 9);
        let spare = SPARES.with_borrow_mut(|spares| {
            let at = spares.iter().position(|(of, at_level, _)| (*of, *at_level) == (format, level))?;
            Some(spares.swap_remove(at).2)
        });
        let stream = spare.unwrap_or_else(|| {
            let level = Compression::new(level);
            match format {
                Format::Gzip => Compress::new_gzip(level, WINDOW_BITS),
                Format::Zlib => Compress::new(level, true),
                Format::Deflate => Compress::new(level, false),
            }
        });
        Deflater {
            format,
            level,
            stream: Some(stream),
            input: Bytes::new(),
            eager,
            flushed: true,
            ended: false,
            complete: false,
        }
    }
}

impl Drop for Deflater {
    /// Keeps the state for the next stream.
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        // A thread that ends keeps nothing.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARES_MAX {
                stream.reset();
                spares.push((self.format, self.level, stream));
            }
        });
    }
}

impl Coder for Deflater {
    fn push(&mut self, data: Bytes) {
        self.input = data;
        self.flushed = false;
    }

    fn end(&mut self) {
        self.ended = true;
    }

    fn pull(&mut self) -> Result<Pull, Refused> {
        let Some(stream) = &mut self.stream else { return Ok(Pull::Done) }; // only while it is dropped
        loop {
            if self.complete {
                return Ok(Pull::Done);
            }
            if self.input.is_empty() && !self.ended && (self.flushed || !self.eager) {
                return Ok(Pull::Starved);
            }
            let flush = match (self.input.is_empty(), self.ended) {
                (true, true) => FlushCompress::Finish,
                (true, false) => FlushCompress::Sync,
                (false, _) => FlushCompress::None,
            };
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let in_before = stream.total_in();
            let status = stream.compress_vec(&self.input, &mut piece, flush);
            let status = status.map_err(|_| Refused::Invalid("it cannot be compressed"))?;
            let read = stream.total_in() - in_before;
            self.input.advance(usize::try_from(read).unwrap_or(usize::MAX).min(self.input.len()));
            self.complete = status == Status::StreamEnd;
            // A flush is over once it leaves room.
            self.flushed |= flush == FlushCompress::Sync && piece.len() < piece.capacity();
            if !piece.is_empty() {
                return Ok(Pull::Data(piece.into()));
            }
        }
    }
}

/// One coder behind another.
pub struct Chain {
    pub first: Box<dyn Coder>,
    pub second: Box<dyn Coder>,
}

impl Coder for Chain {
    fn push(&mut self, data: Bytes) {
        self.first.push(data);
    }

    fn end(&mut self) {
        self.first.end();
    }

    fn pull(&mut self) -> Result<Pull, Refused> {
        loop {
            match self.second.pull()? {
                Pull::Starved => {}
                other => return Ok(other),
            }
            match self.first.pull()? {
                Pull::Data(data) => self.second.push(data),
                Pull::Starved => return Ok(Pull::Starved),
                Pull::Done => self.second.end(),
            }
        }
    }
}

/// Runs a coder over bytes that are all there.
pub fn code(coder: &mut dyn Coder, data: Bytes) -> Result<Vec<u8>, Refused> {
    coder.push(data);
    coder.end();
    // All input is there: it never starves.
    let Pull::Data(first) = coder.pull()? else { return Ok(Vec::new()) };
    // Mostly one piece is all, and taken as it is.
    let mut out = Vec::from(first);
    while let Pull::Data(piece) = coder.pull()? {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
