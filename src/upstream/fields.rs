//! Fields that belong to one connection and not to the message, and the framing of both directions
//! (RFC 9110 §7.6.1, §8.6; RFC 9112 §6).
//!
//! Forwarding fields (`X-Forwarded-For`, `Via`) are not set here.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::body::Body;

/// Removes the fields that end at this hop: `Connection`, what it names, and those that always do.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut named: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for value in headers.get_all(CONNECTION) {
        let options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // These two name no field, or one that goes anyway.
        let is_word =
            |option: &[u8]| option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close");
        named
            .extend(options.filter(|option| !is_word(option)).filter_map(|option| HeaderName::from_bytes(option).ok()));
    }
    // Whose the message is and where it ends is no option of a connection (RFC 9110 §7.6.1).
    for name in named.iter().filter(|name| **name != HOST && **name != CONTENT_LENGTH) {
        headers.remove(name);
    }
    remove_where(headers, |name| {
        matches!(
            name.as_str(),
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
        )
    });
}

/// Removes the fields whose names are unwanted. One look at each field there is costs less than a search for each
/// name there could be.
pub fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in &names {
        headers.remove(name);
    }
}

/// Makes the framing fields of a request agree with its body, and nothing else.
pub(super) fn frame_request(method: &Method, headers: &mut HeaderMap, body: &Body) {
    // What a policy wrote must not cost keep-alive, nor ask for what is not done.
    remove_where(headers, |name| {
        matches!(name.as_str(), "connection" | "upgrade" | "expect" | "content-length" | "transfer-encoding")
    });
    match body.size() {
        // RFC 9110 §8.6: where content is expected, its absence is said.
        Some(0) if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Some(_) => {}
        // hyper would silently drop an unsized body of GET.
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Refuses an answer whose end could be read in two ways, then makes its fields fit for forwarding.
pub(super) fn clean_answer(status: StatusCode, headers: &mut HeaderMap) -> Result<(), &'static str> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("switched protocols although no upgrade was asked for");
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err("sent more than one Content-Length");
    }
    if length.is_some_and(|length| length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Err("sent a Content-Length that is not a number");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if length.is_some() {
            return Err("sent both Content-Length and Transfer-Encoding");
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err("sent a Transfer-Encoding other than chunked");
        }
    }
    remove_hop_by_hop(headers);
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH); // RFC 9110 §8.6
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn hop_by_hop_fields_and_those_that_connection_names_go() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret ,, bad name"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
            ("authorization", "Bearer t"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "x-kept"]);
    }

    #[test]
    fn connection_cannot_name_the_host_or_the_length() {
        let kept = [("host", "a.test"), ("content-length", "3")];
        let mut headers = fields(&kept);
        headers.insert(CONNECTION, HeaderValue::from_static("Host, content-length"));
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers, fields(&kept));
    }

    #[test]
    fn framing_follows_the_body() {
        let stale = [("content-length", "7"), ("expect", "100-continue"), ("connection", "close")];
        let mut headers = fields(&stale);
        frame_request(&Method::GET, &mut headers, &Body::Empty);
        assert!(headers.is_empty());

        let mut headers = fields(&stale);
        frame_request(&Method::POST, &mut headers, &Body::Buffered(Bytes::new()));
        assert_eq!(headers, fields(&[("content-length", "0")]));

        let mut headers = fields(&stale);
        frame_request(&Method::GET, &mut headers, &Body::Gone);
        assert_eq!(headers, fields(&[("transfer-encoding", "chunked")]));
    }

    #[test]
    fn an_answer_whose_end_is_unclear_is_refused() {
        for lines in [
            &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "5, 5")],
            &[("content-length", "-1")],
            &[("content-length", "")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
        ] {
            assert!(clean_answer(StatusCode::OK, &mut fields(lines)).is_err(), "{lines:?}");
        }
        assert!(clean_answer(StatusCode::SWITCHING_PROTOCOLS, &mut HeaderMap::new()).is_err());
        let mut twice = fields(&[("content-length", "5")]);
        twice.append(CONTENT_LENGTH, HeaderValue::from_static("5"));
        assert!(clean_answer(StatusCode::OK, &mut twice).is_err());
        assert!(clean_answer(StatusCode::OK, &mut fields(&[("transfer-encoding", "Chunked")])).is_ok());
    }

    #[test]
    fn no_content_has_no_length() {
        let mut headers = fields(&[("content-length", "5")]);
        clean_answer(StatusCode::NO_CONTENT, &mut headers).unwrap();
        assert!(headers.is_empty());
        let mut headers = fields(&[("content-length", "5")]);
        clean_answer(StatusCode::NOT_MODIFIED, &mut headers).unwrap();
        assert_eq!(headers.len(), 1);
    }
}
