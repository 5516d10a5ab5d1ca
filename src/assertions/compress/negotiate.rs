//! Whether a client takes a coding (RFC 9110 §12.5.3).

use http::{HeaderMap, header};

/// The weight of what is wanted most, and of what has none, in thousandths.
const WEIGHT_MAX: u16 = 1000;

/// Whether `Accept-Encoding` admits this coding and does not rather have none. Without the field nobody asked for
/// a coding.
pub(super) fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let (mut named, mut any, mut plain) = (None, None, None);
    let fields = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
    for entry in fields.flat_map(|field| field.split(',')) {
        let mut parts = entry.split(';').map(str::trim);
        let word = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // What is no weight asks for nothing.
        let weight = weight.map_or(WEIGHT_MAX, |weight| thousandths(weight).unwrap_or(0));
        if word == "*" {
            any = Some(weight);
        } else if word.eq_ignore_ascii_case("identity") {
            plain = Some(weight);
        } else if word.eq_ignore_ascii_case(coding) || (coding == "gzip" && word.eq_ignore_ascii_case("x-gzip")) {
            named = Some(weight);
        }
    }
    let wanted = named.or(any).unwrap_or(0);
    wanted > 0 && plain.is_none_or(|plain| wanted >= plain)
}

/// A weight in thousandths (RFC 9110 §12.4.2): from `0` to `1`, with at most three decimals.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let legal = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let decimals: u16 = format!("{decimals:0<3}").parse().ok().filter(|_| legal)?;
    match (whole, decimals) {
        ("0", _) => Some(decimals),
        ("1", 0) => Some(WEIGHT_MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn weights_decide() {
        let takes = |field: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(field));
            accepts(&headers, "gzip")
        };
        for field in ["gzip", "br, GZIP;q=0.5", "*", "x-gzip", "identity;q=0.5, gzip", "deflate, *;q=0.1", "gzip ; q=1"]
        {
            assert!(takes(field), "{field}");
        }
        for field in ["gzip;q=1.000", "gzip;q=1.", "gzip;q=0.001", "gzip;q=.5, *", "identity;q=2, gzip;q=0.1"] {
            assert_eq!(takes(field), !field.contains("=.5"), "{field}");
        }
        for field in ["", "br", "gzip;q=0", "*, gzip;q=0", "identity, gzip;q=0.5", "*;q=0", "gzip;q=x"] {
            assert!(!takes(field), "{field}");
        }
        for field in ["gzip;q=2", "gzip;q=1.1", "gzip;q=inf", "gzip;q=NaN", "gzip;q=1e-1", "gzip;q=+1", "gzip;q=0.1234"]
        {
            assert!(!takes(field), "{field}");
        }
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }
}
