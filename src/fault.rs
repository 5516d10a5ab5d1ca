//! Faults: why a request was denied or could not be answered.
//!
//! A fault is **denied** (the question was answered "no", 4xx) or **broken** (it could not be answered,
//! 5xx); the two are never mixed up. It carries a stable code for the client and the operator, and a
//! detail that only the audit sees.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Whether the question was answered "no" or could not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The caller's request was refused.
    Denied,
    /// The gateway, a policy or something behind it failed.
    Broken,
}

impl Kind {
    /// The word used in variables, records and logs.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Denied => "denied",
            Kind::Broken => "broken",
        }
    }
}

/// A denied or broken verdict on its way to becoming an answer.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `assertion.reason`, stable for ever.
    pub code: Cow<'static, str>,
    pub kind: Kind,
    pub status: StatusCode,
    /// What the client may read beside the code.
    pub text: Option<String>,
    /// For the audit only: may name resources and library errors, never secrets.
    pub detail: String,
    /// Step of the program that raised it, set by the engine.
    pub step: Option<u16>,
    /// Steps whose faults this one stands for as well, set where none of several alternatives has passed.
    pub missed: Vec<u16>,
    /// `WWW-Authenticate` values (RFC 9110 §11.6.1): every 401 carries at least one.
    pub challenges: Vec<HeaderValue>,
    /// `Retry-After` in seconds (RFC 9110 §10.2.3).
    pub retry_after_s: Option<u64>,
    /// Further header fields of the answer, such as `Allow`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The connection cannot be used for another request.
    pub close: bool,
    /// The request is larger than a limit allows: no alternative is tried.
    pub too_large: bool,
    /// What is left of the request's body cannot be read: no step that follows can do so either.
    pub unreadable: bool,
}

impl Fault {
    /// The request is refused with a 4xx status.
    pub fn denied(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Box<Fault> {
        Fault::new(Kind::Denied, status, code.into(), detail.into())
    }

    /// The request cannot be answered, a 5xx status.
    pub fn broken(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Box<Fault> {
        Fault::new(Kind::Broken, status, code.into(), detail.into())
    }

    fn new(kind: Kind, status: StatusCode, code: Cow<'static, str>, detail: String) -> Box<Fault> {
        Box::new(Fault {
            code,
            kind,
            status,
            text: None,
            detail,
            step: None,
            missed: Vec::new(),
            challenges: Vec::new(),
            retry_after_s: None,
            headers: Vec::new(),
            close: false,
            too_large: false,
            unreadable: false,
        })
    }

    /// The same fault under another code.
    pub fn with_code(mut self: Box<Self>, code: impl Into<Cow<'static, str>>) -> Box<Fault> {
        self.code = code.into();
        self
    }

    /// Marks it as that of a request which is too large.
    pub fn of_size(mut self: Box<Self>) -> Box<Fault> {
        self.too_large = true;
        self
    }

    /// Adds what the client may read.
    pub fn with_text(mut self: Box<Self>, text: impl Into<String>) -> Box<Fault> {
        self.text = Some(text.into());
        self
    }

    /// Adds a challenge.
    pub fn with_challenge(mut self: Box<Self>, challenge: HeaderValue) -> Box<Fault> {
        self.challenges.push(challenge);
        self
    }

    /// Adds a time after which a retry makes sense, in whole seconds.
    pub fn with_retry_after(mut self: Box<Self>, seconds: u64) -> Box<Fault> {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Adds a header field to the answer.
    pub fn with_header(mut self: Box<Self>, name: HeaderName, value: HeaderValue) -> Box<Fault> {
        self.headers.push((name, value));
        self
    }

    /// The one place that turns a fault into fields and body of a response: RFC 9457 with `code` and `request_id`, nothing
    /// else of what went on inside.
    pub fn answer(&self, request_id: &str) -> (HeaderMap, String) {
        let title = self.status.canonical_reason().unwrap_or("Fault");
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "code": self.code,
            "request_id": request_id,
        });
        if let (Some(text), Some(members)) = (&self.text, problem.as_object_mut()) {
            members.insert("detail".into(), text.as_str().into());
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for challenge in &self.challenges {
            headers.append(header::WWW_AUTHENTICATE, challenge.clone());
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        (headers, problem.to_string())
    }
}
