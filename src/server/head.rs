//! Grammar and limits of a request head that hyper lets through but a service can see.
//!
//! RFC 9112 §3 (request line, Host), §6.1 (Transfer-Encoding), RFC 3986 §2 (characters of a target).
//! What hyper hides from a service, such as both framing fields or bare line feeds, is found on the bytes
//! by `gate.rs`. Ambiguities of the path alone belong to `path.rs`.

use http::header::{ALLOW, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, StatusCode, Uri, Version};

use super::Peer;
use crate::fault::Fault;
use crate::limits::Limits;

/// Methods named to a client that used one the gateway never takes.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// Longest method: those that are registered have at most 17 bytes, and each stands whole in its record.
pub const METHOD_MAX: usize = 64;
/// Bytes of a header field beside name and value: `: ` and the line end.
const FIELD_OVERHEAD: usize = 4;
/// Bytes of a request line beside method and target: two blanks, the version and the line end.
const LINE_OVERHEAD: usize = 12;

/// Refuses a head that is too large or that two servers could read differently.
///
/// Every fault is denied, has a `request.*` code and closes the connection.
pub fn check_head(parts: &Parts, limits: &Limits) -> Result<(), Box<Fault>> {
    check(parts, limits).map_err(|mut fault| {
        fault.close = true;
        fault
    })
}

/// Refuses a request for another host than the one that the connection was made for (RFC 9110 §15.5.20): the
/// certificate, and with it what the client was asked for, went with that name. A trusted proxy is not asked: it
/// carries the requests of many hosts over the connections that it has.
pub fn check_server_name(parts: &Parts, peer: &Peer) -> Result<(), Box<Fault>> {
    let Some(named) = peer.tls.as_ref().filter(|_| !peer.is_proxy).and_then(|tls| tls.server_name.as_deref()) else {
        return Ok(());
    };
    let field = parts.headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    let Some(asked) = parts.uri.authority().map(|authority| authority.as_str()).or(field) else { return Ok(()) };
    // What cannot be read is another host.
    let is_same = |host: &str| host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(named);
    if split_host(asked).is_some_and(|(host, _)| is_same(host)) {
        return Ok(());
    }
    let text = format!("this connection was made for \"{named}\", the request is for another host");
    Err(refuse(StatusCode::MISDIRECTED_REQUEST, "request.misdirected", text))
}

/// Writes the host of an absolute target in HTTP/1.0, which may do without the field, into a Host field: that is where
/// everybody looks for it.
pub(super) fn name_host<B>(request: &mut Request<B>) {
    if request.version() != Version::HTTP_10 || request.headers().contains_key(HOST) {
        return;
    }
    let named = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let Some(Ok(named)) = named {
        request.headers_mut().insert(HOST, named);
    }
}

fn check(parts: &Parts, limits: &Limits) -> Result<(), Box<Fault>> {
    check_sizes(parts, limits)?;
    check_method(&parts.method)?;
    check_target(&parts.method, &parts.uri)?;
    check_host(parts)?;
    check_framing(parts.version, &parts.headers)
}

fn refuse(status: StatusCode, code: &'static str, text: impl Into<String>) -> Box<Fault> {
    let text = text.into();
    Fault::denied(status, code, text.clone()).with_text(text)
}

fn check_sizes(parts: &Parts, limits: &Limits) -> Result<(), Box<Fault>> {
    let url = url_length(&parts.uri);
    if url > limits.url {
        let text = format!("a URL may have {} bytes, this one has {url}", limits.url);
        return Err(refuse(StatusCode::URI_TOO_LONG, "request.url_too_long", text));
    }
    let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    if parts.headers.len() > limits.headers {
        let text = format!("a request may have {} header fields, this one has {}", limits.headers, parts.headers.len());
        return Err(refuse(too_large, "request.too_many_headers", text));
    }
    let mut head = parts.method.as_str().len() + url + LINE_OVERHEAD;
    for (name, value) in &parts.headers {
        let size = name.as_str().len() + value.len();
        if size > limits.header {
            let text = format!("a header field may have {} bytes, \"{name}\" has {size}", limits.header);
            return Err(refuse(too_large, "request.header_too_large", text));
        }
        if name.as_str().as_bytes().contains(&b'_') {
            let text = format!("header names with \"_\" are refused, because some servers read \"{name}\" with \"-\"");
            return Err(refuse(StatusCode::BAD_REQUEST, "request.header_name", text));
        }
        head += size + FIELD_OVERHEAD;
    }
    if head > limits.head {
        let text = format!("a request head may have {} bytes, this one has {head}", limits.head);
        return Err(refuse(too_large, "request.head_too_large", text));
    }
    Ok(())
}

/// Bytes of the request target as it was sent.
fn url_length(uri: &Uri) -> usize {
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    scheme + authority + uri.path_and_query().map_or(0, |target| target.as_str().len())
}

fn check_method(method: &Method) -> Result<(), Box<Fault>> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let text = format!("the gateway does not take {method}");
        let fault = refuse(StatusCode::METHOD_NOT_ALLOWED, "request.method", text);
        return Err(fault.with_header(ALLOW, ALLOWED));
    }
    let length = method.as_str().len();
    if length > METHOD_MAX {
        let text = format!("a method may have {METHOD_MAX} bytes, this one has {length}");
        return Err(refuse(StatusCode::BAD_REQUEST, "request.method", text));
    }
    Ok(())
}

fn check_target(method: &Method, uri: &Uri) -> Result<(), Box<Fault>> {
    let bad = |text: String| Err(refuse(StatusCode::BAD_REQUEST, "request.target", text));
    let path = uri.path();
    if path == "*" {
        return match *method {
            Method::OPTIONS => Ok(()),
            _ => bad("the target \"*\" goes with OPTIONS only".to_owned()),
        };
    }
    if uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return bad("a target in absolute form must begin with http:// or https://".to_owned());
    }
    if uri.scheme().is_none() && uri.authority().is_some() || !path.starts_with('/') {
        return bad("a target must be a path that starts with \"/\", or an absolute URL".to_owned());
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    match first_bad(target.as_bytes()) {
        None => Ok(()),
        Some(b'%') => bad("\"%\" in a target must be followed by two hexadecimal digits".to_owned()),
        Some(byte) => bad(format!("byte 0x{byte:02x} must be escaped in a target")),
    }
}

/// The first byte that a target cannot carry: `%` for an escape that is none (RFC 3986 §2).
fn first_bad(target: &[u8]) -> Option<u8> {
    let mut rest = target;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            (b'%', _) => return Some(b'%'),
            (b'{' | b'}' | b'|' | b'\\' | b'^' | b'`' | b'"' | b'<' | b'>' | b'#', _) => return Some(*byte),
            (b'!'..=b'~', _) => tail,
            _ => return Some(*byte),
        };
    }
    None
}

fn check_host(parts: &Parts) -> Result<(), Box<Fault>> {
    let bad = |text: &str| Err(refuse(StatusCode::BAD_REQUEST, "request.host", text));
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if parts.version == Version::HTTP_10 && parts.uri.authority().is_none() => return Ok(()),
        (None, _) => return bad("a request must have a Host field"),
        (Some(_), Some(_)) => return bad("a request must have one Host field, this one has several"),
    };
    let Some(host) = host.to_str().ok().and_then(split_host) else {
        return bad("the Host field must be a name or an address, with a port or without");
    };
    let Some(authority) = parts.uri.authority() else { return Ok(()) };
    let Some(named) = split_host(authority.as_str()) else {
        return bad("the host of the target must be a name or an address, with a port or without");
    };
    // RFC 9112 §3.2.2 lets the target win; a client that means what it says sends the same in both.
    let default = if parts.uri.scheme_str() == Some("https") { 443 } else { 80 };
    let same_port = host.1.unwrap_or(default) == named.1.unwrap_or(default);
    if !host.0.eq_ignore_ascii_case(named.0) || !same_port {
        return bad("the Host field and the host of the target differ");
    }
    Ok(())
}

/// Host and port of an authority without user information (RFC 3986 §3.2).
pub fn split_host(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (text.get(..address.len() + 2)?, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if host.is_empty() || !(host.starts_with('[') || is_name(host)) {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(digits.parse().ok()?))),
        Some(_) => None,
    }
}

fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), Box<Fault>> {
    // In HTTP/1.1 the gate has refused them.
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        let text = "a request must have one Content-Length field, this one has several";
        return Err(refuse(StatusCode::BAD_REQUEST, "request.framing", text));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let bad = |text: &str| Err(refuse(StatusCode::BAD_REQUEST, "request.transfer_encoding", text));
    if version == Version::HTTP_10 {
        return bad("a request in HTTP/1.0 cannot have a Transfer-Encoding");
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return bad("the Transfer-Encoding of a request must be exactly \"chunked\"");
    }
    if headers.contains_key(CONTENT_LENGTH) {
        return bad("a request cannot have both Transfer-Encoding and Content-Length");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    fn parts(method: &str, target: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().method(method).uri(target).version(version);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn code(parts: &Parts, limits: &Limits) -> String {
        match check_head(parts, limits) {
            Ok(()) => "ok".to_owned(),
            Err(fault) => {
                assert!(fault.close && fault.kind == crate::fault::Kind::Denied, "{fault:?}");
                format!("{} {}", fault.status.as_u16(), fault.code)
            }
        }
    }

    /// Method, target, version, fields and what comes of them.
    type Row = (&'static str, &'static str, Version, Fields, &'static str);

    fn check_all(table: &[Row]) {
        for (method, target, version, fields, expected) in table {
            let found = code(&parts(method, target, *version, fields), &Limits::default());
            assert_eq!(found, *expected, "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn what_hyper_lets_through_is_refused() {
        let host: Fields = &[("host", "a.test")];
        let new = Version::HTTP_11;
        let old = Version::HTTP_10;
        let table: &[Row] = &[
            ("GET", "/a?b=c[]&d=%20", new, host, "ok"),
            ("GET", "/a", old, &[], "ok"),
            ("OPTIONS", "*", new, host, "ok"),
            ("GET", "*", new, host, "400 request.target"),
            ("GET", "a.test:80", new, host, "400 request.target"),
            ("GET", "ftp://a.test/", new, host, "400 request.target"),
            ("GET", "/%zz", new, host, "400 request.target"),
            ("GET", "/?q=%2", new, host, "400 request.target"),
            ("GET", "/a{b}", new, host, "400 request.target"),
            ("GET", "/a\"b\"", new, host, "400 request.target"),
            ("GET", "/a?b=c|d", new, host, "400 request.target"),
            ("GET", "/caf\u{e9}", new, host, "400 request.target"),
            ("CONNECT", "a.test:22", new, host, "405 request.method"),
            ("TRACE", "/", new, host, "405 request.method"),
            (
                "A-METHOD-OF-SIXTY-FOUR-BYTES-AND-ONE-MORE-IS-LONGER-THAN-ANYBODY-S",
                "/",
                new,
                host,
                "400 request.method",
            ),
            ("GET", "/", new, &[], "400 request.host"),
            ("GET", "/", new, &[("host", "a"), ("host", "a")], "400 request.host"),
            ("GET", "/", old, &[("host", "a"), ("host", "b")], "400 request.host"),
            ("GET", "/", new, &[("host", "")], "400 request.host"),
            ("GET", "/", new, &[("host", "a@b")], "400 request.host"),
            ("GET", "/", new, &[("host", "a:80:81")], "400 request.host"),
            ("GET", "/", new, &[("host", "a:")], "400 request.host"),
            ("GET", "/", new, &[("host", "a:99999")], "400 request.host"),
            ("GET", "/", new, &[("host", "a b")], "400 request.host"),
            ("GET", "/", new, &[("host", "[::1")], "400 request.host"),
            ("GET", "/", new, &[("host", "[zz]")], "400 request.host"),
            ("GET", "/", new, &[("host", "[::1]:80")], "ok"),
            ("GET", "http://a.test/", new, &[("host", "A.test:80")], "ok"),
            ("GET", "http://b.test/", new, host, "400 request.host"),
            ("GET", "http://a.test:81/", new, host, "400 request.host"),
            ("GET", "http://u@a.test/", new, host, "400 request.host"),
            ("GET", "http://a.test/", old, host, "ok"),
            ("GET", "http://b.test/", old, host, "400 request.host"),
            ("GET", "/", new, &[("host", "a"), ("x_y", "1")], "400 request.header_name"),
            ("GET", "/", new, &[("host", "a"), ("upgrade", "h2c"), ("http2-settings", "AA")], "ok"),
        ];
        check_all(table);
    }

    #[test]
    fn a_body_ends_in_one_place() {
        let (new, old) = (Version::HTTP_11, Version::HTTP_10);
        check_all(&[
            ("POST", "/", new, &[("host", "a"), ("transfer-encoding", "Chunked")], "ok"),
            (
                "POST",
                "/",
                new,
                &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
                "400 request.transfer_encoding",
            ),
            (
                "POST",
                "/",
                new,
                &[("host", "a"), ("transfer-encoding", "identity"), ("transfer-encoding", "chunked")],
                "400 request.transfer_encoding",
            ),
            ("POST", "/", old, &[("transfer-encoding", "chunked")], "400 request.transfer_encoding"),
            (
                "POST",
                "/",
                new,
                &[("host", "a"), ("transfer-encoding", "chunked"), ("content-length", "3")],
                "400 request.transfer_encoding",
            ),
            (
                "POST",
                "/",
                new,
                &[("host", "a"), ("content-length", "3"), ("content-length", "3")],
                "400 request.framing",
            ),
        ]);
    }

    #[test]
    fn the_host_of_a_target_in_http_1_0_is_held_to_the_rules_of_the_field() {
        for (target, expected) in [
            ("http://a.test:81/", "ok"),
            ("/", "ok"),
            ("http://u@a.test/", "400 request.host"),
            ("http://u:secret@a.test/", "400 request.host"),
            ("http://a.test:99999/", "400 request.host"),
            ("http://a.test:/", "400 request.host"),
        ] {
            let mut request = Request::from_parts(parts("GET", target, Version::HTTP_10, &[]), ());
            let unnamed = parts("GET", target, Version::HTTP_10, &[]);
            if unnamed.uri.authority().is_some() {
                assert_eq!(code(&unnamed, &Limits::default()), "400 request.host", "nobody has named {target}");
            }
            name_host(&mut request);
            assert_eq!(code(&request.into_parts().0, &Limits::default()), expected, "{target}");
        }
        let mut request = Request::from_parts(parts("GET", "http://a.test:81/", Version::HTTP_10, &[]), ());
        name_host(&mut request);
        assert_eq!(request.headers()[HOST], "a.test:81");
    }

    #[test]
    fn every_size_has_its_limit() {
        let limits = Limits { head: 200, url: 20, headers: 3, header: 60, ..Limits::default() };
        let sized =
            |target: &str, fields: &[(&str, &str)]| code(&parts("GET", target, Version::HTTP_11, fields), &limits);
        let value = "v".repeat(58);
        assert_eq!(sized("/", &[("host", "a"), ("x1", &value)]), "ok");
        assert_eq!(sized("/", &[("host", "a"), ("x12", &value)]), "431 request.header_too_large");
        assert_eq!(sized("/12345678901234567890", &[("host", "a")]), "414 request.url_too_long");
        assert_eq!(sized("http://a.test/1234567", &[("host", "a.test")]), "414 request.url_too_long");
        let many: &[(&str, &str)] = &[("host", "a"), ("x1", ""), ("x2", ""), ("x3", "")];
        assert_eq!(sized("/", many), "431 request.too_many_headers");
        let wide: &[(&str, &str)] = &[("x1", &value), ("x2", &value), ("x3", &value)];
        assert_eq!(sized("/", wide), "431 request.head_too_large");
    }

    #[test]
    fn a_refused_method_names_the_allowed_ones() {
        let fault =
            check_head(&parts("TRACE", "/", Version::HTTP_11, &[("host", "a")]), &Limits::default()).unwrap_err();
        assert_eq!(fault.headers.first().unwrap().0, ALLOW);
    }

    #[test]
    fn a_request_for_another_host_than_the_connections_is_misdirected() {
        let session = crate::tls::Session {
            version: "1.3",
            cipher: String::new(),
            server_name: Some("a.test".to_owned()),
            alpn: None,
            client: None,
        };
        let address = "192.0.2.1:5".parse().unwrap();
        let direct = Peer {
            listener: "main".into(),
            address,
            local: address,
            client_ip: address.ip(),
            scheme: "https",
            is_proxy: false,
            tls: Some(session.into()),
        };
        let of_proxy = Peer { is_proxy: true, ..direct.clone() };
        let in_clear = Peer { tls: None, ..direct.clone() };
        for (target, host, is_right) in [
            ("/", "a.test", true),
            ("/", "A.Test:8443", true),
            ("/", "a.test.", true),
            ("/", "b.test", false),
            ("/", "sub.a.test", false),
            ("https://b.test/", "b.test", false),
            ("https://u@a.test/", "a.test", false),
            ("https://a.test:99999/", "a.test", false),
            ("/", "a.test:", false),
        ] {
            let parts = parts("GET", target, Version::HTTP_11, &[("host", host)]);
            let fault = check_server_name(&parts, &direct).err().map(|fault| fault.code.to_string());
            let expected = (!is_right).then(|| "request.misdirected".to_owned());
            assert_eq!(fault, expected, "{target} of {host}");
            assert!(check_server_name(&parts, &of_proxy).is_ok() && check_server_name(&parts, &in_clear).is_ok());
        }
    }
}
