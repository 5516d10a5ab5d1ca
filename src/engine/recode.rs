//! Giving the body of a message another form, and forgetting what described the old one.
//!
//! RFC 9110 §8.4. A step that reads the body of an answer sees it decoded; that of a request is decoded by a
//! `decompress` step only, which says how large it may become.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::body::{Body, BodyFault};
use crate::coding::{Coder, Format, InflateBounds, Inflater, code};
use crate::engine::exchange::Exchange;
use crate::engine::read::Side;

/// Fields that describe the bytes of a body in one coding (RFC 9110 §8.6, RFC 9530; §14.3 for ranges of it).
/// `Content-MD5` is no standard any more (RFC 7231 appendix B) and still sent.
const OF_ITS_BYTES: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// What an answer that a step reads may become for each of its bytes.
const READ_RATIO: u64 = 100;

impl Exchange {
    /// Undoes the coding of an answer that is held, where it is a known one and at most `max` bytes come out. Any
    /// other stays as it is, and whoever reads it is told.
    pub fn decode_held_answer(&mut self, max: u64) {
        let Some(format) = self.headers(Side::Response).and_then(known_coding) else { return };
        let Some(packed) = self.body(Side::Response).held().filter(|held| !held.is_empty()).cloned() else { return };
        let bounds = InflateBounds { output: max, ratio: READ_RATIO };
        let Ok(plain) = code(&mut Inflater::new(format, bounds), packed) else { return };
        self.replace_body(Side::Response, plain.into());
        if let Some(headers) = self.headers_mut(Side::Response) {
            headers.remove(header::CONTENT_ENCODING);
        }
    }

    /// Turns the body of a message into another coding, at once or while it streams. `coding` is what it says
    /// afterwards.
    pub fn recode(&mut self, side: Side, coder: Box<dyn Coder>, coding: Option<&'static str>) -> Result<(), BodyFault> {
        let mut body = self.state.body_mut(side).map(std::mem::take).ok_or(BodyFault::Gone)?;
        let recoded = body.recode(coder);
        self.set_body(side, body);
        recoded?;
        let Some(headers) = self.headers_mut(side) else { return Ok(()) };
        for name in OF_ITS_BYTES {
            headers.remove(name);
        }
        match coding {
            Some(coding) => drop(headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding))),
            None => drop(headers.remove(header::CONTENT_ENCODING)),
        }
        weaken(headers);
        Ok(())
    }
}

impl Exchange {
    /// Puts another body in the place of one, of the same type.
    pub fn replace_body(&mut self, side: Side, bytes: Bytes) {
        self.set_body(side, Body::Buffered(bytes));
        let Some(headers) = self.headers_mut(side) else { return };
        for name in OF_ITS_BYTES {
            headers.remove(name);
        }
        weaken(headers);
    }
}

/// Forgets what described a body in whose place another one comes: its coding, its part of a whole, its tag and its
/// digests (RFC 9110 §8.4, §14.4, §8.8.3, RFC 9530). What type the new one has is for the caller to say.
pub fn forget_body(headers: &mut HeaderMap) {
    const OF_ITS_FORM: [HeaderName; 3] = [header::CONTENT_ENCODING, header::CONTENT_RANGE, header::ETAG];
    for name in OF_ITS_FORM.into_iter().chain(OF_ITS_BYTES) {
        headers.remove(name);
    }
}

/// A strong tag is of the bytes, which are others now (RFC 9110 §8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).map(HeaderValue::as_bytes).filter(|tag| !tag.starts_with(b"W/")) else {
        return;
    };
    match HeaderValue::from_bytes(&[b"W/", tag].concat()) {
        Ok(weak) => drop(headers.insert(header::ETAG, weak)),
        Err(_) => drop(headers.remove(header::ETAG)),
    }
}

/// The codings of a body in their order, lower case; `identity` is none. Those that are no text count as one that
/// nobody knows.
pub fn content_codings(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(header::CONTENT_ENCODING).iter();
    let words = fields.flat_map(|field| field.to_str().unwrap_or("?").split(',').map(str::trim));
    words.map(str::to_ascii_lowercase).filter(|word| !word.is_empty() && word != "identity").collect()
}

/// The coding of a body that has exactly one, which the gateway knows.
fn known_coding(headers: &HeaderMap) -> Option<Format> {
    match content_codings(headers).as_slice() {
        [coding] if coding == "gzip" || coding == "x-gzip" => Some(Format::Gzip),
        [coding] if coding == "deflate" => Some(Format::Zlib),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_other_bytes_is_weak() {
        let weakened = |tag: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ETAG, HeaderValue::from_static(tag));
            weaken(&mut headers);
            headers[header::ETAG].to_str().unwrap().to_owned()
        };
        assert_eq!((weakened("\"a\"").as_str(), weakened("W/\"a\"").as_str()), ("W/\"a\"", "W/\"a\""));
    }

    #[test]
    fn codings_are_listed_over_all_fields() {
        let mut headers = HeaderMap::new();
        assert!(content_codings(&headers).is_empty());
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static("GZIP , br"));
        assert_eq!(content_codings(&headers), ["gzip", "br"]);
    }
}
