//! Where an upstream listens: scheme, host and port, written out in full (RFC 6454 §4, RFC 3986 §3.2).
//!
//! Parsing is stricter than a browser's: user information, paths and the old ways to write an IPv4
//! address are refused, because a resolver and a policy would disagree about what they mean.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::HeaderValue;

use crate::tls::{Calling, Offer};

/// Longest DNS name (RFC 1035 §2.3.4), in bytes.
const NAME_BYTES: usize = 253;
/// Longest label of a DNS name (RFC 1035 §2.3.4), in bytes.
const LABEL_BYTES: usize = 63;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// A host: an address needs no lookup, a name (lower case) does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Ip(IpAddr),
    Name(Box<str>),
}

/// Whether HTTP/2 is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Http2 {
    /// Over TLS where the upstream wants it, else never.
    #[default]
    Auto,
    /// In clear too, where the upstream has to know of it (RFC 9113 §3.3).
    Always,
    Never,
}

impl Http2 {
    /// What is offered in a handshake.
    pub(super) fn offer(self) -> Offer {
        match self {
            Http2::Auto => Offer::Both,
            Http2::Always => Offer::Http2,
            Http2::Never => Offer::Http1,
        }
    }
}

/// Scheme, host and port, the TLS and the HTTP they are spoken to with. Equal origins share connections.
#[derive(Clone, Debug)]
pub struct Origin {
    pub https: bool,
    /// What `https` is spoken with.
    pub tls: Option<Arc<Calling>>,
    pub http2: Http2,
    pub host: Host,
    pub port: u16,
    /// The one of its name's addresses that is meant.
    address: Option<IpAddr>,
    /// As it stands in a Host field: without the scheme's default port.
    authority: HeaderValue,
    text: Arc<str>,
}

impl Origin {
    /// Reads `http://host[:port]` or `https://host[:port]`. Nothing may follow the port.
    pub fn parse(text: &str) -> Result<Origin, String> {
        let expected = || format!("expected an origin such as http://10.0.0.5:9000, found {text:?}");
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return Err(expected());
        }
        let (scheme, own_port) = if https { ("https", HTTPS_PORT) } else { ("http", HTTP_PORT) };
        if let Some(odd) = rest.chars().find(|c| "/?#@\\".contains(*c) || c.is_whitespace() || c.is_control()) {
            return Err(format!("{}; {odd:?} has no place in an origin", expected()));
        }
        let (host, port) = split_port(rest).ok_or_else(expected)?;
        let port = match port {
            None => own_port,
            Some(digits) => port_number(digits)
                .ok_or_else(|| format!("expected a port between 1 and 65535 in {text:?}, found {digits:?}"))?,
        };
        let host = parse_host(host).ok_or_else(|| format!("{}; {host:?} is no host name or address", expected()))?;
        let mut authority = host.to_string();
        if port != own_port {
            authority = format!("{authority}:{port}");
        }
        let text = Arc::from(format!("{scheme}://{authority}"));
        let authority = HeaderValue::try_from(authority).map_err(|_| expected())?;
        let tls = if https { Some(Calling::usual()?) } else { None };
        Ok(Origin { https, tls, http2: Http2::default(), host, port, address: None, authority, text })
    }

    /// The same over this TLS; one in clear stays in clear.
    pub fn over(mut self, tls: Arc<Calling>) -> Origin {
        self.tls = self.tls.map(|_| tls);
        self
    }

    /// The same over this HTTP.
    pub fn speaking(self, http2: Http2) -> Origin {
        Origin { http2, ..self }
    }

    /// The same at one address of its name. Host and TLS are of the name, records tell the address.
    pub fn at(&self, address: IpAddr) -> Origin {
        let scheme = if self.https { "https" } else { "http" };
        let text = format!("{scheme}://{}", SocketAddr::new(address, self.port));
        Origin { address: Some(address), text: text.into(), ..self.clone() }
    }

    /// The address that is meant, where it is one of a name's.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether TLS asks for another name than its host.
    pub fn has_other_name(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.names_another(&self.host.to_string()))
    }

    /// The value of a Host field that names this origin.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// As text, such as `http://10.0.0.5:9000`, for records.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

fn split_port(rest: &str) -> Option<(&str, Option<&str>)> {
    if rest.starts_with('[') {
        let end = rest.find(']')?;
        let (host, after) = rest.split_at_checked(end + 1)?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    Some(match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    })
}

fn port_number(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}

fn parse_host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(Host::Ip(IpAddr::V6(address)));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(Host::Ip(IpAddr::V4(address)));
    }
    let sound = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if text.len() > NAME_BYTES || !text.split('.').all(sound) {
        return None;
    }
    let name = text.to_ascii_lowercase();
    // Resolvers read `127.1`, `0x7f.1` and `2130706433` as addresses; nobody writes them in good faith.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Host::Name(name.into_boxed_str()))
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(address)) => write!(out, "{address}"),
            Host::Ip(IpAddr::V6(address)) => write!(out, "[{address}]"),
            Host::Name(name) => out.write_str(name),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Origin) -> bool {
        self.port == other.port
            && self.http2 == other.http2
            && self.tls == other.tls
            && self.host == other.host
            && self.address == other.address
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tls.as_ref().map(|tls| tls.identity()).hash(state);
        self.http2.hash(state);
        self.host.hash(state);
        self.port.hash(state);
        self.address.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_and_written_in_one_form() {
        for (text, form, port) in [
            ("http://10.0.0.5:9000", "http://10.0.0.5:9000", 9000),
            ("HTTP://Orders.Local", "http://orders.local", 80),
            ("http://orders.local:80", "http://orders.local", 80),
            ("http://[::1]:8080", "http://[::1]:8080", 8080),
            ("http://[2001:DB8::1]", "http://[2001:db8::1]", 80),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!(&**origin.text(), form);
            assert_eq!(origin.port, port);
            assert_eq!(origin.authority().to_str().unwrap(), form.strip_prefix("http://").unwrap());
        }
        assert_eq!(Origin::parse("http://a").unwrap(), Origin::parse("http://A:80").unwrap());
    }

    #[test]
    fn https_has_its_own_port_and_tls_is_part_of_the_origin() {
        for (text, form, port) in [
            ("https://orders.local", "https://orders.local", 443),
            ("HTTPS://orders.local:443", "https://orders.local", 443),
            ("https://orders.local:80", "https://orders.local:80", 80),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!((&**origin.text(), origin.port), (form, port));
        }
        let usual = || Origin::parse("https://a").unwrap();
        let named = |name: &str| {
            let settings = crate::tls::CallingSettings { server_name: Some(name.to_owned()), ..Default::default() };
            usual().over(Arc::new(Calling::new(settings).unwrap()))
        };
        assert_eq!(named("b.test"), named("b.test"));
        assert!(named("b.test") != usual() && named("b.test") != named("c.test"));
        assert_ne!(usual(), Origin::parse("http://a:443").unwrap());
        let in_clear = Origin::parse("http://a").unwrap();
        assert_eq!(in_clear.clone().over(Calling::usual().unwrap()), in_clear);
    }

    #[test]
    fn what_a_resolver_could_read_otherwise_is_refused() {
        for text in [
            "orders.local",
            "ftp://a",
            "http://",
            "http://a/",
            "http://a?x",
            "http://a#x",
            "http://good@evil",
            "http://a\\b",
            "http://a b",
            "http://a:0",
            "http://a:65536",
            "http://a:+80",
            "http://a:",
            "http://a:1:2",
            "http://127.1",
            "http://0x7f.1",
            "http://0x7f000001",
            "http://2130706433",
            "http://010.0.0.1",
            "http://[::1%lo]",
            "http://[::1]x",
            "http://a..b",
            "http://a.",
            "http://\u{e4}.example",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
