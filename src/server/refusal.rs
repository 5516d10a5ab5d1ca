//! What never became a request: why, and the answer written without a handler.
//!
//! These answers are written by hand because hyper either would not write one or would write one without
//! a body. Their form is that of every other refusal: `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::body::Body;

/// Seconds after which a client that found the gateway busy may come again.
pub const BUSY_RETRY_S: u64 = 1;

/// Bytes, a connection or a request that no handler answered; for records and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `request.reason` or `gateway.reason`, stable for ever.
    pub code: &'static str,
    /// What the client was told; `None` when the connection was only closed.
    pub status: Option<StatusCode>,
    /// For the operator.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    pub(super) const fn new(code: &'static str, status: StatusCode, detail: &'static str) -> Refusal {
        Refusal { code, status: Some(status), detail: Cow::Borrowed(detail) }
    }

    pub(super) const fn silent(code: &'static str, detail: &'static str) -> Refusal {
        Refusal { code, status: None, detail: Cow::Borrowed(detail) }
    }

    /// More work than the gateway may hold.
    pub(super) const fn busy(detail: &'static str) -> Refusal {
        Refusal::new("gateway.busy", StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// The answer as hyper takes it; the connection is closed after it.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::Buffered(Bytes::from(self.problem())));
        *response.status_mut() = self.status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(BUSY_RETRY_S));
        }
        response
    }

    /// The same answer as bytes, for a connection that hyper no longer serves.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let status = self.status?;
        let problem = self.problem();
        let retry = match status {
            StatusCode::SERVICE_UNAVAILABLE => format!("retry-after: {BUSY_RETRY_S}\r\n"),
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            problem.len(),
        );
        Some([head, problem].concat().into_bytes())
    }

    /// Codes and reasons are literals of this program: nothing in them needs escaping.
    fn problem(&self) -> String {
        let status = self.status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let title = status.canonical_reason().unwrap_or_default();
        format!("{{\"title\":\"{title}\",\"status\":{},\"code\":\"{}\"}}", status.as_u16(), self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_answer_carry_the_same_problem() {
        let refusal = Refusal::busy("test");
        let text = String::from_utf8(refusal.bytes().unwrap()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\nretry-after: 1\r\n", body.len())), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], "gateway.busy");
        let response = refusal.response();
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.body().held().unwrap(), body);
    }
}
