//! Which client sent a request, seen through the proxies that the operator trusts.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239 §5.2) are lists to which every proxy appends at the right.
//! Only what a trusted proxy wrote counts, so the list is walked from the right and the walk ends at the
//! first address that is not trusted. `X-Forwarded-For` is what proxies write; `Forwarded` is read only where
//! it is missing, because a proxy that writes the one passes on the other as the client sent it. It does not
//! look at `X-Real-IP` and the like: they have no order.

use std::net::{IpAddr, SocketAddr};

use http::header::{AsHeaderName, FORWARDED, HeaderMap};
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client that sent a request which arrived from `peer`.
///
/// IPv4-mapped IPv6 addresses are given as IPv4. An entry that is no address stops the walk.
pub fn client_ip(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let seen = match headers.contains_key(X_FORWARDED_FOR) {
        true => walk(headers, X_FORWARDED_FOR, plain_entries, peer, trusted),
        false => walk(headers, FORWARDED, forwarded_entries, peer, trusted),
    };
    seen.unwrap_or(peer)
}

/// Whether an address belongs to a trusted proxy.
pub(super) fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&ip))
}

/// The entries of one field value, the last one first; `None` for one that is no address.
type Entries = fn(&str) -> Vec<Option<IpAddr>>;

fn walk(
    headers: &HeaderMap,
    name: impl AsHeaderName,
    entries: Entries,
    peer: IpAddr,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let mut current = None;
    for value in headers.get_all(name).iter().rev() {
        let last = current.unwrap_or(peer);
        let Ok(text) = value.to_str() else { return Some(last) };
        current = Some(last);
        for entry in entries(text) {
            let Some(ip) = entry else { return current };
            current = Some(ip);
            if !is_trusted(ip, trusted) {
                return current;
            }
        }
    }
    current
}

fn plain_entries(text: &str) -> Vec<Option<IpAddr>> {
    text.rsplit(',').map(|entry| address(entry.trim())).collect()
}

fn forwarded_entries(text: &str) -> Vec<Option<IpAddr>> {
    let mut entries: Vec<_> = split_unquoted(text, b',').map(forwarded_for).collect();
    entries.reverse();
    entries
}

/// The `for` parameter of one element, if it is there once and names an address.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_unquoted(element, b';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") && found.replace(value.trim()).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix('"') {
        Some(rest) => address(rest.strip_suffix('"')?),
        None => address(value),
    }
}

/// Splits at `separator` outside quoted strings (RFC 9110 §5.6.4).
fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |character: char| {
        if escaped {
            escaped = false;
            return false;
        }
        match character {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return !quoted && character == char::from(separator),
        }
        false
    })
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const XFF: &str = X_FORWARDED_FOR;
    const FWD: &str = "forwarded";

    type Fields = &'static [(&'static str, &'static str)];

    fn seen(peer: &str, fields: Fields) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        client_ip(&headers, peer.parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        let table: &[(&str, Fields, &str)] = &[
            ("203.0.113.9", &[], "203.0.113.9"),
            ("203.0.113.9", &[(XFF, "1.2.3.4")], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "1.2.3.4")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "9.9.9.9, 1.2.3.4")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "9.9.9.9, 1.2.3.4, 10.0.0.2")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "9.9.9.9"), (XFF, "1.2.3.4, 10.0.0.2")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "10.0.0.3,10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[(XFF, "1.2.3.4, nonsense, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[(XFF, "nonsense")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "1.2.3.4, , 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[(XFF, "1.2.3.4:5678")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]:443")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "2001:db8::1")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "::ffff:1.2.3.4")], "1.2.3.4"),
            ("::ffff:10.0.0.1", &[(XFF, "1.2.3.4")], "1.2.3.4"),
            ("::ffff:203.0.113.9", &[(XFF, "1.2.3.4")], "203.0.113.9"),
            ("fd00::1", &[(XFF, "1.2.3.4")], "1.2.3.4"),
            ("10.0.0.1", &[(FWD, "for=1.2.3.4")], "1.2.3.4"),
            ("10.0.0.1", &[(FWD, "for=9.9.9.9, For=\"1.2.3.4:99\";proto=https;by=10.0.0.1")], "1.2.3.4"),
            ("10.0.0.1", &[(FWD, "for=\"[2001:db8::1]:4711\", for=10.0.0.2")], "2001:db8::1"),
            ("10.0.0.1", &[(FWD, "host=\"a,b;for=9.9.9.9\";for=1.2.3.4")], "1.2.3.4"),
            ("10.0.0.1", &[(FWD, "for=1.2.3.4, for=unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(FWD, "for=1.2.3.4, for=_hidden, for=10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[(FWD, "for=1.2.3.4;for=9.9.9.9")], "10.0.0.1"),
            ("10.0.0.1", &[(FWD, "proto=https")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "1.2.3.4"), (FWD, "for=1.2.3.4")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "1.2.3.4"), (FWD, "for=9.9.9.9")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "1.2.3.4, 10.0.0.2"), (FWD, "for=10.9.9.9")], "1.2.3.4"),
            ("10.0.0.1", &[(XFF, "nonsense"), (FWD, "for=9.9.9.9")], "10.0.0.1"),
        ];
        for (peer, fields, expected) in table {
            assert_eq!(seen(peer, fields), *expected, "{peer} {fields:?}");
        }
    }
}
