//! Reads: variable paths, resolved while a policy is compiled.
//!
//! Nothing is looked up by name at request time: a read says which slot, field or built-in to take.

use std::time::Duration;

use http::HeaderName;

use crate::engine::value::{Text, Val, Value};
use crate::fault::Fault;
use crate::limits::{SCRIPT_OPERATIONS, SCRIPT_TIME};

/// Which message a read or a step means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Request,
    Response,
}

impl Side {
    /// The word of the documentation.
    pub fn word(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Response => "response",
        }
    }
}

/// Index of a variable among those of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// A resolved variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// A variable that a step set.
    Slot(Slot),
    /// A header field of a message, its first value; `authorization` and others by name.
    Header(Side, HeaderName),
    /// All values of a header field, as a list.
    HeaderAll(Side, HeaderName),
    /// All header fields, as a map of first values.
    Headers(Side),
    /// The first value of a query parameter.
    Query(Text),
    /// All values of a query parameter, as a list.
    QueryAll(Text),
    /// All query parameters, as a map of first values.
    QueryMap,
    /// A cookie of the request.
    Cookie(Text),
    /// All cookies, as a map.
    Cookies,
    /// A field of a urlencoded request body.
    Form(Text),
    /// All fields of a urlencoded request body.
    FormMap,
    /// A parameter of the match rule's path, by position.
    Path(u8),
    /// The parsed JSON body of a message.
    Json(Side),
    /// The raw body of a message.
    Body(Side),
    /// The body of a message as UTF-8 text.
    BodyText(Side),
    /// Who the caller is.
    Identity(Slot, IdentityMember),
    /// Something of the exchange itself.
    Builtin(Builtin),
}

/// Members of `auth` (or of the root that a second authentication was given).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityMember {
    Scheme,
    Subject,
    Groups,
    Scopes,
    Client,
    Claims,
    Attributes,
    ExpiresAt,
    Credential,
}

impl IdentityMember {
    /// The word of the documentation.
    pub fn word(self) -> &'static str {
        match self {
            IdentityMember::Scheme => "scheme",
            IdentityMember::Subject => "subject",
            IdentityMember::Groups => "groups",
            IdentityMember::Scopes => "scopes",
            IdentityMember::Client => "client",
            IdentityMember::Claims => "claims",
            IdentityMember::Attributes => "attributes",
            IdentityMember::ExpiresAt => "expires_at",
            IdentityMember::Credential => "credential",
        }
    }
}

/// Facts of the exchange that need no parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    RequestId,
    RequestTraceId,
    RequestMethod,
    RequestScheme,
    RequestHost,
    RequestPort,
    RequestPath,
    RequestRawPath,
    RequestSize,
    RequestContentType,
    RequestReceivedAt,
    RequestHttpVersion,
    TlsVersion,
    TlsCipher,
    TlsServerName,
    TlsAlpn,
    TlsClientCertificate,
    ClientIp,
    ClientPeerIp,
    ClientPort,
    OriginalPath,
    OriginalQuery,
    OriginalMethod,
    ResponseStatus,
    ResponseSize,
    ResponseContentType,
    AnswerStatus,
    AnswerSize,
    FaultCode,
    FaultStatus,
    FaultKind,
    FaultDetail,
    FaultStep,
    FaultText,
    ServiceName,
    ServiceFile,
    ServiceSnapshot,
}

impl Builtin {
    /// How policies write it.
    pub fn path(self) -> &'static str {
        match self {
            Builtin::RequestId => "request.id",
            Builtin::RequestTraceId => "request.trace_id",
            Builtin::RequestMethod => "request.method",
            Builtin::RequestScheme => "request.scheme",
            Builtin::RequestHost => "request.host",
            Builtin::RequestPort => "request.port",
            Builtin::RequestPath => "request.path",
            Builtin::RequestRawPath => "request.raw_path",
            Builtin::RequestSize => "request.size",
            Builtin::RequestContentType => "request.content_type",
            Builtin::RequestReceivedAt => "request.received_at",
            Builtin::RequestHttpVersion => "request.http_version",
            Builtin::ClientIp => "request.client.ip",
            Builtin::ClientPeerIp => "request.client.peer_ip",
            Builtin::ClientPort => "request.client.port",
            Builtin::TlsVersion => "request.tls.version",
            Builtin::TlsCipher => "request.tls.cipher",
            Builtin::TlsServerName => "request.tls.server_name",
            Builtin::TlsAlpn => "request.tls.alpn",
            Builtin::TlsClientCertificate => "request.tls.client_certificate",
            Builtin::OriginalPath => "request.original.path",
            Builtin::OriginalQuery => "request.original.query",
            Builtin::OriginalMethod => "request.original.method",
            Builtin::ResponseStatus => "response.status",
            Builtin::ResponseSize => "response.size",
            Builtin::ResponseContentType => "response.content_type",
            Builtin::AnswerStatus => "answer.status",
            Builtin::AnswerSize => "answer.size",
            Builtin::FaultCode => "fault.code",
            Builtin::FaultStatus => "fault.status",
            Builtin::FaultKind => "fault.kind",
            Builtin::FaultDetail => "fault.detail",
            Builtin::FaultStep => "fault.step",
            Builtin::FaultText => "fault.text",
            Builtin::ServiceName => "service.name",
            Builtin::ServiceFile => "service.file",
            Builtin::ServiceSnapshot => "service.snapshot",
        }
    }
}

/// What one run of a script or interpreted expression may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub operations: u64,
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { operations: SCRIPT_OPERATIONS, time: SCRIPT_TIME }
    }
}

/// What an expression is evaluated over. The exchange is one; tests of the language bring their own.
pub trait Reader {
    /// The value of a variable; a fault where it cannot be made (a body that is no JSON, by origin).
    fn read<'x>(&'x self, read: &'x Read) -> Result<Val<'x>, Box<Fault>>;
    /// Whether a variable is this word, without making a value of it: what most conditions ask. An absent one
    /// is no word. `None` where only [`Reader::read`] can tell.
    fn is_word(&self, _read: &Read, _word: &str) -> Option<bool> {
        None
    }
    /// The value of a variable without copying it, where it is kept in a form that can be shared.
    fn shared(&self, _read: &Read) -> Result<Option<Value>, Box<Fault>> {
        Ok(None)
    }
    /// What an interpreted expression may take.
    fn budget(&self) -> Budget {
        Budget::default()
    }
    /// The wall clock.
    fn now(&self) -> jiff::Timestamp;
    /// Random bytes from the system, or seeded in a test.
    fn random(&self, into: &mut [u8]);
}
