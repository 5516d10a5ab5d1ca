//! `upgrade` of `route`: which protocols a client may have its connection upgraded to (RFC 9110 §7.8).

use http::header::{HeaderValue, UPGRADE};
use http::{Method, StatusCode};

use crate::body::Body;
use crate::compile::Compile;
use crate::engine::message::Request;
use crate::fault::Fault;
use crate::source::{Literal, OneOrMany};

/// Names of protocols in lower case.
pub(super) struct Upgrades(Vec<String>);

impl Upgrades {
    pub(super) fn compile(list: &Option<OneOrMany<Literal>>, cx: &mut Compile<'_>) -> Option<Upgrades> {
        let mut names = Vec::new();
        for literal in list.iter().flat_map(|list| list.iter()) {
            let name = cx.literal(literal)?.to_ascii_lowercase();
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
            // HTTP/2 in a tunnel would be requests that no policy sees.
            if name.is_empty() || !name.bytes().all(is_token) || name.starts_with("h2c") || name.starts_with("http/") {
                let message = format!("connections cannot be upgraded to `{name}`");
                let help = "write `websocket`, or the name of another protocol; HTTP/2 needs no upgrade";
                return cx.refuse("policy.bad_value", literal.0.span(), &message, help);
            }
            names.push(name);
        }
        Some(Upgrades(names))
    }

    /// The protocol to ask the upstream for. Without `upgrade` nobody is asked: the request goes as it is.
    pub(super) fn asked(&self, request: &Request) -> Result<Option<HeaderValue>, Box<Fault>> {
        let Some(asked) = request.upgrade.as_ref().filter(|_| !self.0.is_empty()) else { return Ok(None) };
        let is_listed = self.0.iter().any(|name| asked.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
        if is_listed && request.method == Method::GET && matches!(request.body, Body::Empty) {
            return Ok(Some(asked.clone()));
        }
        let detail =
            format!("it asks for {asked:?} with {}; GET without a body may have {}", request.method, self.0.join(", "));
        let fault = Fault::denied(StatusCode::UPGRADE_REQUIRED, "route.upgrade_refused", detail);
        let names = HeaderValue::from_str(&self.0.join(", ")).unwrap_or(HeaderValue::from_static("websocket"));
        Err(fault.with_header(UPGRADE, names))
    }
}
