//! The request and the response of an exchange, with what is parsed of them at most once.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use serde_json::Value as Json;

use crate::body::Body;
use crate::engine::value::Text;
use crate::path::CanonicalPath;
use crate::server::split_host;

/// What the client asks.
pub struct Request {
    pub method: Method,
    pub scheme: &'static str,
    /// Lower case, without the port and the dot of the root.
    pub host: Text,
    pub port: u16,
    pub version: Version,
    /// The target as it was received.
    pub target: PathAndQuery,
    pub path: CanonicalPath,
    /// The query once a step changed it; else it is the target's.
    pub changed_query: Option<String>,
    pub headers: HeaderMap,
    pub body: Body,
    /// The protocol that the client would rather speak on this connection (RFC 9110 §7.8).
    pub upgrade: Option<HeaderValue>,
    json: OnceCell<Result<Arc<Json>, Unreadable>>,
}

/// What will be answered: from an upstream, a step, or a fault.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
    json: OnceCell<Result<Arc<Json>, Unreadable>>,
}

/// Why a body could not be read as what a policy asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Unreadable {
    /// Nobody buffered it, or it was streamed away.
    Gone,
    /// It has a content coding.
    Encoded,
    NotText,
    NotJson(String),
    TooDeep,
}

impl Request {
    /// A request whose head was checked and whose path is canonical.
    pub fn new(parts: http::request::Parts, path: CanonicalPath, scheme: &'static str, body: Body) -> Request {
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let upgrade = asked_upgrade(&parts);
        let named = named_host(&parts);
        let mut headers = parts.headers;
        let is_host = |field: &HeaderValue| field.to_str().ok().and_then(split_host).is_some();
        if !headers.get_all(header::HOST).iter().all(is_host) {
            // Refused, and a password may be in it.
            headers.remove(header::HOST);
        }
        let (host, port) = named.unwrap_or_default();
        let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        Request {
            upgrade,
            method: parts.method,
            scheme,
            host,
            port,
            version: parts.version,
            target,
            path,
            changed_query: None,
            headers,
            body,
            json: OnceCell::new(),
        }
    }

    /// The request for somebody who only looks at it.
    pub fn lend(&self) -> Request {
        Request {
            method: self.method.clone(),
            scheme: self.scheme,
            host: self.host.clone(),
            port: self.port,
            version: self.version,
            target: self.target.clone(),
            path: self.path.clone(),
            changed_query: self.changed_query.clone(),
            headers: self.headers.clone(),
            body: self.body.lend(),
            upgrade: None,
            json: self.json.clone(),
        }
    }

    /// The query as it stands, without the question mark.
    pub fn query(&self) -> Option<&str> {
        match &self.changed_query {
            Some(query) if query.is_empty() => None,
            Some(query) => Some(query),
            None => self.target.query(),
        }
    }

    /// Replaces the body; what was parsed of the old one is forgotten.
    pub fn set_body(&mut self, body: Body) {
        self.body = body;
        self.forget_parsed();
    }

    /// Forgets what was parsed of the body.
    pub fn forget_parsed(&mut self) {
        self.json = OnceCell::new();
    }

    /// The body as JSON, parsed once.
    pub fn json(&self, depth_max: usize) -> Result<&Arc<Json>, Unreadable> {
        self.json.get_or_init(|| parse_json(&self.headers, &self.body, depth_max)).as_ref().map_err(Clone::clone)
    }
}

impl Response {
    /// A response of any origin.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
        Response { status, headers, body, json: OnceCell::new() }
    }

    /// The response for somebody who only looks at it.
    pub fn lend(&self) -> Response {
        let (headers, json) = (self.headers.clone(), self.json.clone());
        Response { status: self.status, headers, body: self.body.lend(), json }
    }

    /// Replaces the body; what was parsed of the old one is forgotten.
    pub fn set_body(&mut self, body: Body) {
        self.body = body;
        self.forget_parsed();
    }

    /// Forgets what was parsed of the body.
    pub fn forget_parsed(&mut self) {
        self.json = OnceCell::new();
    }

    /// The body as JSON, parsed once.
    pub fn json(&self, depth_max: usize) -> Result<&Arc<Json>, Unreadable> {
        self.json.get_or_init(|| parse_json(&self.headers, &self.body, depth_max)).as_ref().map_err(Clone::clone)
    }
}

/// The host of a request as everything behind compares it, with its port where one is said.
fn named_host(parts: &http::request::Parts) -> Option<(Text, Option<u16>)> {
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(header::HOST)?.to_str().ok()?,
    };
    let (host, port) = split_host(authority)?;
    // The dot of the root (RFC 1034 §3.1) names the same host.
    let host = host.strip_suffix('.').unwrap_or(host);
    Some((host.to_ascii_lowercase().into(), port))
}

/// The one protocol that a request asks for, in HTTP/1.1 and with the word in Connection that it takes.
fn asked_upgrade(parts: &http::request::Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 {
        return None;
    }
    let mut asked = parts.headers.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (asked.next(), asked.next()) else { return None };
    let options = parts
        .headers
        .get_all(header::CONNECTION)
        .into_iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let is_meant = options.into_iter().any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    let is_one = !protocol.is_empty() && !protocol.as_bytes().contains(&b',');
    (is_meant && is_one).then(|| protocol.clone())
}

/// Host and port of an authority; IPv6 addresses keep their brackets.
pub fn split_authority(authority: &str, default_port: u16) -> (&str, u16) {
    let ipv6_end = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(ipv6_end..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => {
            let (host, port) = authority.split_at(ipv6_end + colon);
            (host, port.trim_start_matches(':').parse().unwrap_or(default_port))
        }
        None => (authority, default_port),
    }
}

/// The body as UTF-8 text.
pub fn body_text<'x>(headers: &HeaderMap, body: &'x Body) -> Result<&'x str, Unreadable> {
    let bytes = body.held().ok_or(Unreadable::Gone)?;
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Unreadable::Encoded);
    }
    std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

fn parse_json(headers: &HeaderMap, body: &Body, depth_max: usize) -> Result<Arc<Json>, Unreadable> {
    let text = body_text(headers, body)?;
    if depth(text) > depth_max {
        return Err(Unreadable::TooDeep);
    }
    serde_json::from_str(text).map(Arc::new).map_err(|error| Unreadable::NotJson(error.to_string()))
}

/// Deepest nesting of a JSON text, without building anything.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Name and value pairs of a query or a urlencoded body, decoded, in their order.
pub fn pairs(encoded: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    encoded.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(name), form_decode(value))
    })
}

/// Percent-decodes with `+` as a blank (WHATWG URL §5.1); what is not UTF-8 becomes U+FFFD.
pub fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let ahead = rest.clone();
                let (high, low) = (rest.next().and_then(hex), rest.next().and_then(hex));
                match (high, low) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => {
                        rest = ahead;
                        b'%'
                    }
                }
            }
            other => other,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Cookies of a request (RFC 6265 §5.4), in their order; quotes around a value are kept.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let fields = headers.get_all(header::COOKIE).into_iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_the_dot_of_the_root_is_the_same_host() {
        for (field, host) in
            [("Admin.Example.com.", "admin.example.com"), ("admin.example.com.:81", "admin.example.com"), ("a..", "a.")]
        {
            let parts = http::Request::get("/").header("host", field).body(()).unwrap().into_parts().0;
            assert_eq!(&*Request::new(parts, CanonicalPath::root(), "http", Body::Empty).host, host);
        }
    }

    #[test]
    fn what_is_no_host_is_kept_nowhere() {
        for (target, field) in [
            ("http://u:secret@a.test/", "a.test"),
            ("http://a.test/", "u:secret@a.test"),
            ("/", "u:secret@a.test"),
            ("http://u:secret@a.test/", "u:secret@a.test"),
        ] {
            let parts = http::Request::get(target).header("host", field).body(()).unwrap().into_parts().0;
            let request = Request::new(parts, CanonicalPath::root(), "http", Body::Empty);
            assert!(!request.host.contains("secret"), "{target} {field}");
            assert!(!format!("{:?}", request.headers).contains("secret"), "{target} {field}");
        }
    }

    #[test]
    fn authorities_are_split() {
        assert_eq!(split_authority("a.example:8443", 80), ("a.example", 8443));
        assert_eq!(split_authority("a.example", 80), ("a.example", 80));
        assert_eq!(split_authority("[::1]:81", 80), ("[::1]", 81));
        assert_eq!(split_authority("[::1]", 80), ("[::1]", 80));
    }

    #[test]
    fn pairs_are_decoded_and_broken_escapes_stay() {
        let all: Vec<_> = pairs("a=1&b=x+y%20z&c&d=%zz%4").collect();
        let all: Vec<_> = all.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        assert_eq!(all, [("a", "1"), ("b", "x y z"), ("c", ""), ("d", "%zz%4")]);
    }

    #[test]
    fn depth_ignores_brackets_in_strings() {
        assert_eq!(depth(r#"{"a":["[[[\"[", 1]}"#), 2);
        assert_eq!(depth(&"[".repeat(100)), 100);
    }

    #[test]
    fn json_with_a_content_coding_is_not_guessed_at() {
        let mut response = Response::new(StatusCode::OK, HeaderMap::new(), Body::Buffered("{}".into()));
        assert!(response.json(64).is_ok());
        response.headers.insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
        response.set_body(Body::Buffered("{}".into()));
        assert_eq!(response.json(64), Err(Unreadable::Encoded));
    }
}
