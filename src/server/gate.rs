//! The gate: reads the bytes of a connection before hyper does and stops what is ambiguous.
//!
//! hyper hides from a service what two servers could read differently: both framing fields at once,
//! repeated Content-Length, bare line feeds, a fragment in the target, blanks in a chunk size. The gate
//! follows RFC 9112 §2.2 (lines), §3 (request line), §6 (framing) and §7.1 (chunks) closely enough to know
//! where each head starts and ends, and refuses everything on which it could disagree with hyper. It does
//! not check names, values or the target: hyper refuses what is malformed, `head.rs` what is visible.
//!
//! The final line end of a refused head is never passed on, so hyper never sees a complete request in it.

use http::StatusCode;
use memchr::memchr;

use super::head::METHOD_MAX;
use super::refusal::Refusal;
use crate::limits::Limits;

/// Bytes of one chunk-size line with its extensions (RFC 9112 §7.1.1), which are never forwarded.
const CHUNK_LINE: usize = 4 * 1024;
/// Bytes of a method of which the end comes too late.
const METHOD_TOO_LONG: usize = METHOD_MAX + 1;
/// Digits of a chunk size: as many as 64 bits hold.
const CHUNK_DIGITS: usize = 16;

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const LARGE: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
const LINE_END: Refusal = Refusal::new("request.line_end", BAD, "a line must end with CR LF");
const LINE: Refusal = Refusal::new("request.line", BAD, "a request line is method, target, version");
const METHOD: Refusal = Refusal::new("request.method", BAD, "no method has so long a name");
const FRAGMENT: Refusal = Refusal::new("request.target", BAD, "a target cannot have a fragment");
const VERSION: Refusal =
    Refusal::new("request.version", StatusCode::HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 and HTTP/1.0 are taken");
const BOTH: Refusal = Refusal::new("request.framing", BAD, "Content-Length and Transfer-Encoding exclude each other");
const LENGTH: Refusal = Refusal::new("request.framing", BAD, "Content-Length must be given once, in digits");
const CODING: Refusal =
    Refusal::new("request.transfer_encoding", BAD, "Transfer-Encoding must be exactly chunked, in HTTP/1.1");
const CHUNK: Refusal = Refusal::new("request.chunk", BAD, "a chunk was framed wrongly");
const HEAD_SIZE: Refusal = Refusal::new("request.head_too_large", LARGE, "the request head is too large");
const HEAD_COUNT: Refusal = Refusal::new("request.too_many_headers", LARGE, "too many header fields");

/// Where in the stream of messages the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before a request; empty lines are skipped (RFC 9112 §2.2).
    Start,
    Fields,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

/// Follows one connection.
pub(super) struct Gate {
    place: Place,
    /// A line of which only the beginning has arrived.
    line: Vec<u8>,
    /// Bytes and fields of the head or the trailers so far.
    size: usize,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    old_version: bool,
    heads: u64,
    /// Bytes that have passed.
    passed: u64,
    refusal: Option<Refusal>,
    max_size: usize,
    max_fields: usize,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Gate {
        Gate {
            place: Place::Start,
            line: Vec::new(),
            size: 0,
            fields: 0,
            length: None,
            chunked: false,
            old_version: false,
            heads: 0,
            passed: 0,
            refusal: None,
            max_size: limits.head,
            max_fields: limits.headers,
        }
    }

    /// Complete heads that have passed.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Bytes that have passed: of a body whose reader stands still come no more.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether some of a head has arrived, and not all of it.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.place, Place::Fields) || (self.place == Place::Start && !self.line.is_empty())
    }

    /// Whether some of a body is still to come.
    pub(super) fn is_in_body(&self) -> bool {
        !matches!(self.place, Place::Start | Place::Fields)
    }

    /// Whether some of a chunked body is still to come: nobody knows how much.
    pub(super) fn is_in_chunks(&self) -> bool {
        matches!(self.place, Place::ChunkSize | Place::Chunk(_) | Place::ChunkEnd | Place::Trailers)
    }

    /// Why the bytes stopped.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Reads on and says how many of `bytes` may be passed on: all, unless something was refused.
    pub(super) fn read(&mut self, bytes: &[u8]) -> usize {
        let passed = self.pass(bytes);
        self.passed += passed as u64;
        passed
    }

    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.refusal.is_some() {
                return at;
            }
            match self.step(rest) {
                Ok(taken) => at += taken,
                Err(refusal) => self.refusal = Some(refusal),
            }
        }
        at
    }

    fn step(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        match self.place {
            Place::Body(left) => {
                let (taken, left) = take(rest, left);
                self.place = if left == 0 { Place::Start } else { Place::Body(left) };
                Ok(taken)
            }
            Place::Chunk(left) => {
                let (taken, left) = take(rest, left);
                self.place = if left == 0 { Place::ChunkEnd } else { Place::Chunk(left) };
                Ok(taken)
            }
            _ => self.read_line(rest),
        }
    }

    fn read_line(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        let Some(end) = memchr(b'\n', rest) else {
            self.check_size(self.line.len() + rest.len())?;
            self.line.extend_from_slice(rest);
            return Ok(rest.len());
        };
        let taken = end + 1;
        let fresh = rest.get(..taken).unwrap_or_default();
        if self.line.is_empty() {
            self.whole_line(fresh)?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(fresh);
            self.whole_line(&line)?;
        }
        Ok(taken)
    }

    /// `pending` bytes of an unfinished or just finished line must fit beside what came before.
    fn check_size(&self, pending: usize) -> Result<(), Refusal> {
        match self.place {
            Place::ChunkSize | Place::ChunkEnd if pending > CHUNK_LINE => Err(CHUNK),
            Place::Start | Place::Fields if self.size + pending > self.max_size => Err(HEAD_SIZE),
            Place::Trailers if self.size + pending > self.max_size => Err(CHUNK),
            _ => Ok(()),
        }
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(text) = line.strip_suffix(b"\r\n") else { return Err(LINE_END) };
        self.check_size(line.len())?;
        match self.place {
            Place::Start if text.is_empty() => Ok(()),
            Place::Start => {
                self.size = line.len();
                self.request_line(text)
            }
            Place::Fields if text.is_empty() => self.end_head(),
            Place::Fields => {
                self.size += line.len();
                self.field(text)
            }
            Place::ChunkSize => self.chunk_size(text),
            Place::ChunkEnd if text.is_empty() => {
                self.place = Place::ChunkSize;
                Ok(())
            }
            Place::Trailers if text.is_empty() => {
                self.place = Place::Start;
                Ok(())
            }
            Place::Trailers => {
                self.size += line.len();
                Ok(())
            }
            Place::ChunkEnd | Place::Body(_) | Place::Chunk(_) => Err(CHUNK),
        }
    }

    fn request_line(&mut self, text: &[u8]) -> Result<(), Refusal> {
        self.place = Place::Fields;
        self.fields = 0;
        self.length = None;
        self.chunked = false;
        self.old_version = text.ends_with(b" HTTP/1.0");
        if !self.old_version && !text.ends_with(b" HTTP/1.1") {
            return Err(match text.rsplit(|&byte| byte == b' ').next() {
                Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) if is_digits(&[*major, *minor]) => VERSION,
                _ => LINE,
            });
        }
        match (memchr(b' ', text), memchr(b'#', text)) {
            (Some(METHOD_TOO_LONG..) | None, _) => Err(METHOD),
            (_, Some(_)) => Err(FRAGMENT),
            (_, None) => Ok(()),
        }
    }

    fn field(&mut self, text: &[u8]) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > self.max_fields {
            return Err(HEAD_COUNT);
        }
        match text.first() {
            Some(b'c' | b'C') => match value_of(text, b"content-length:") {
                Some(value) => self.content_length(value),
                None => Ok(()),
            },
            Some(b't' | b'T') => match value_of(text, b"transfer-encoding:") {
                Some(value) if !self.chunked && value.eq_ignore_ascii_case(b"chunked") => {
                    self.chunked = true;
                    Ok(())
                }
                Some(_) => Err(CODING),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() || value.is_empty() || !is_digits(value) {
            return Err(LENGTH);
        }
        let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        self.length = Some(length.ok_or(LENGTH)?);
        Ok(())
    }

    fn end_head(&mut self) -> Result<(), Refusal> {
        self.place = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(BOTH),
            (true, None) if self.old_version => return Err(CODING),
            (true, None) => Place::ChunkSize,
            (false, None | Some(0)) => Place::Start,
            (false, Some(length)) => Place::Body(length),
        };
        self.size = 0;
        self.heads += 1;
        Ok(())
    }

    fn chunk_size(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let digits = match memchr(b';', text) {
            Some(end) => text.get(..end).unwrap_or_default(),
            None => text,
        };
        if digits.is_empty() || digits.len() > CHUNK_DIGITS || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(CHUNK);
        }
        let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        self.place = match size.ok_or(CHUNK)? {
            0 => Place::Trailers,
            size => Place::Chunk(size),
        };
        self.size = 0;
        Ok(())
    }
}

/// How many bytes of a body of which `left` are to come lie in `rest`, and how many are left then.
fn take(rest: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
    (taken, left - taken as u64)
}

fn is_digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

/// The value of a field without surrounding blanks, when its name is `name` (with the colon, lower case).
fn value_of<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, value) = text.split_at_checked(name.len())?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    found.eq_ignore_ascii_case(name).then(|| value.get(start..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gate() -> Gate {
        Gate::new(&Limits { head: 512, headers: 5, ..Limits::default() })
    }

    /// Feeds `bytes` in pieces of `piece` bytes: heads passed, bytes passed, code of the refusal.
    fn feed(bytes: &[u8], piece: usize) -> (u64, usize, Option<&'static str>) {
        let mut gate = gate();
        let mut passed = 0;
        for part in bytes.chunks(piece) {
            passed += gate.read(part);
            if gate.refusal().is_some() {
                break;
            }
        }
        (gate.heads(), passed, gate.refusal().map(|refusal| refusal.code))
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n";

    #[test]
    fn heads_and_bodies_are_told_apart_however_they_arrive() {
        let stream = format!(
            "{GET}\r\n\r\nPOST / HTTP/1.1\r\nContent-Length:  3 \r\n\r\nGET{GET}\r\n\
             POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n5;a=b\r\n\r\n\r\nX\r\n0\r\nx: y\r\n\r\n{GET}\r\n"
        );
        for piece in [1, 2, 3, 7, 64, stream.len()] {
            assert_eq!(feed(stream.as_bytes(), piece), (5, stream.len(), None), "pieces of {piece}");
        }
    }

    #[test]
    fn what_could_be_read_differently_is_stopped() {
        let long = format!("{GET}x: {}\r\n\r\n", "y".repeat(512));
        let method = format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(METHOD_MAX + 1));
        assert_eq!(feed(method.get(1..).unwrap().as_bytes(), 100), (1, method.len() - 1, None));
        let table: &[(&str, u64, &str)] = &[
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "request.framing"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 3\r\n\r\n", 0, "request.framing"),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 0, "request.framing"),
            ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", 0, "request.framing"),
            ("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", 0, "request.framing"),
            ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 0, "request.framing"),
            ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551621\r\n\r\n", 0, "request.framing"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 0, "request.transfer_encoding"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", 0, "request.transfer_encoding"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 0, "request.transfer_encoding"),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                0,
                "request.transfer_encoding",
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "request.transfer_encoding"),
            ("GET / HTTP/1.1\nhost: a\r\n\r\n", 0, "request.line_end"),
            ("GET / HTTP/1.1\r\nhost: a\n\r\n", 0, "request.line_end"),
            ("GET / HTTP/1.1\r\nhost: a\r\n\n", 0, "request.line_end"),
            ("\nGET / HTTP/1.1\r\n\r\n", 0, "request.line_end"),
            ("GET /x#frag HTTP/1.1\r\n\r\n", 0, "request.target"),
            ("GET /\r\n\r\n", 0, "request.line"),
            ("GET / HTTP/1.1a\r\n\r\n", 0, "request.line"),
            ("GET /\tHTTP/1.1\r\n\r\n", 0, "request.line"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, "request.version"),
            (&long, 0, "request.head_too_large"),
            (&method, 0, "request.method"),
            ("GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\n\r\n", 0, "request.too_many_headers"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 1, "request.chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 1, "request.chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\n", 1, "request.chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 1, "request.line_end"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", 1, "request.chunk"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", 1, "request.chunk"),
        ];
        for (stream, heads, code) in table {
            for piece in [1, 5, stream.len()] {
                let (seen, passed, refused) = feed(stream.as_bytes(), piece);
                assert_eq!((seen, refused), (*heads, Some(*code)), "{stream:?} in pieces of {piece}");
                assert!(passed < stream.len(), "the last line end was kept back: {stream:?}");
            }
        }
    }

    #[test]
    fn a_long_chunk_extension_and_endless_lines_are_stopped() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let extended = format!("{head}5;{}\r\nhello", "x".repeat(CHUNK_LINE));
        assert_eq!(feed(extended.as_bytes(), 100).2, Some("request.chunk"));
        let trailers = format!("{head}0\r\n{}", "x: y\r\n".repeat(100));
        assert_eq!(feed(trailers.as_bytes(), 100).2, Some("request.chunk"));
        assert_eq!(feed("x".repeat(1000).as_bytes(), 100).2, Some("request.head_too_large"));
    }

    #[test]
    fn an_unfinished_head_is_told_from_silence_and_from_a_body() {
        let mut gate = gate();
        gate.read(b"\r\n");
        assert!(!gate.is_in_head() && !gate.is_in_body());
        gate.read(b"G");
        assert!(gate.is_in_head());
        gate.read(b"ET / HTTP/1.1\r\n");
        assert!(gate.is_in_head());
        gate.read(b"Content-Length: 2\r\n\r\n");
        assert!(!gate.is_in_head() && gate.is_in_body());
        gate.read(b"ab");
        assert!(!gate.is_in_head() && !gate.is_in_body());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(stream in "(GET / HTTP/1.1\r\n|POST /a HTTP/1.0\r\n|content-length: [0-9]\r\n|\
                transfer-encoding: chunked\r\n|x: y\r\n|\r\n|\n|[0-9a-f]{1,2}\r\n|[a-z]{0,4}){0,12}", piece in 1usize..40) {
            let whole = feed(stream.as_bytes(), stream.len().max(1));
            let pieces = feed(stream.as_bytes(), piece);
            prop_assert_eq!((whole.0, whole.2), (pieces.0, pieces.2));
        }
    }
}
