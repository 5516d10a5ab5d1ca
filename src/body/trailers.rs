//! Fields behind a body: which of them go on (RFC 9110 §6.5).

use http::{HeaderMap, HeaderName};

/// What becomes of the fields behind a body (RFC 9110 §6.5). Where it is turned into something else they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    Dropped,
    /// A client's: only fields that say what was sent; any other could pass for one that a policy has set or checked.
    OfRequest,
    /// An upstream's: all that may stand there, so that gRPC passes.
    OfAnswer,
}

/// Trailers of a request that are forwarded (RFC 9530 §2, §3).
const REQUEST_TRAILERS: [&str; 2] = ["content-digest", "repr-digest"];
/// Fields that mean nothing, or too much, behind an answer (RFC 9110 §6.5.1).
const NO_TRAILERS: [&str; 35] = [
    "age",
    "allow",
    "authentication-info",
    "authorization",
    "cache-control",
    "clear-site-data",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
];

impl Trailers {
    /// Those that go on, if any do.
    pub(super) fn pick(self, trailers: HeaderMap) -> Option<HeaderMap> {
        let goes_on = |name: &HeaderName| match self {
            Trailers::Dropped => false,
            Trailers::OfRequest => REQUEST_TRAILERS.contains(&name.as_str()),
            Trailers::OfAnswer => {
                !NO_TRAILERS.contains(&name.as_str()) && !name.as_str().starts_with("access-control-")
            }
        };
        let mut kept = HeaderMap::new();
        for (name, value) in trailers.iter().filter(|(name, _)| goes_on(name)) {
            kept.append(name, value.clone());
        }
        (!kept.is_empty()).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_go_on_by_side() {
        let names =
            ["grpc-status", "content-digest", "x-user", "content-length", "set-cookie", "access-control-allow-origin"];
        let all: HeaderMap = names.iter().map(|name| (HeaderName::from_static(name), "1".parse().unwrap())).collect();
        let kept = |side: Trailers| {
            let kept = side.pick(all.clone()).unwrap_or_default();
            let mut names: Vec<String> = kept.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(kept(Trailers::Dropped), [""; 0]);
        assert_eq!(kept(Trailers::OfRequest), ["content-digest"]);
        assert_eq!(kept(Trailers::OfAnswer), ["content-digest", "grpc-status", "x-user"]);
    }
}
