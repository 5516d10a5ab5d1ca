//! Who sends the request of a test: its addresses, and the TLS that it comes over.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::request::address;
use crate::source::{Diagnostic, Diagnostics, Literal, OneOrMany};
use crate::tls::{ClientCertificate, Dn, Session};

/// The address that clients of a test have unless it says otherwise.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// What is negotiated with a client that comes over TLS.
const CIPHER: &str = "TLS_AES_256_GCM_SHA384";
/// Certificates of tests end here: the last second of the year 9999 (RFC 5280 §4.1.2.5).
const END_OF_TIME: i64 = 253_402_300_799;

/// Who sends it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClientDoc {
    /// The address that policies see.
    ip: Option<Literal>,
    /// The other end of the connection; the client's address without it.
    peer: Option<Literal>,
    /// It comes over TLS; so does one that shows a certificate.
    tls: bool,
    /// The certificate that it shows, verified by the listener.
    certificate: Option<CertificateDoc>,
}

/// A client certificate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct CertificateDoc {
    /// Its subject, such as `CN=app,O=Example`.
    subject: Option<Literal>,
    /// Its issuer.
    issuer: Option<Literal>,
    /// Its serial number, in hexadecimal digits.
    serial: Option<Literal>,
    /// Its DNS names.
    san_dns: Option<OneOrMany<Literal>>,
    /// Its URIs.
    san_uri: Option<OneOrMany<Literal>>,
    /// Its mail addresses.
    san_email: Option<OneOrMany<Literal>>,
    /// SHA-256 of it, in hexadecimal digits.
    fingerprint_sha256: Option<Literal>,
}

/// The same, as the engine takes it.
#[derive(Clone, Debug)]
pub(super) struct TestClient {
    pub ip: IpAddr,
    pub peer: IpAddr,
    pub tls: Option<Arc<Session>>,
}

impl ClientDoc {
    pub(super) fn client(&self, diags: &mut Diagnostics) -> Option<TestClient> {
        let ip = address(self.ip.as_ref(), diags)?;
        let peer = address(self.peer.as_ref(), diags)?.or(ip).unwrap_or(CLIENT);
        let client = match &self.certificate {
            Some(doc) => Some(doc.certificate(diags)?),
            None => None,
        };
        let session = (self.tls || client.is_some()).then(|| {
            Arc::new(Session { version: "1.3", cipher: CIPHER.to_owned(), server_name: None, alpn: None, client })
        });
        Some(TestClient { ip: ip.unwrap_or(peer), peer, tls: session })
    }
}

impl CertificateDoc {
    fn certificate(&self, diags: &mut Diagnostics) -> Option<ClientCertificate> {
        let texts = |list: &Option<OneOrMany<Literal>>| {
            list.iter().flat_map(OneOrMany::iter).map(|text| text.as_str().to_owned()).collect::<Vec<_>>()
        };
        let text = |text: &Option<Literal>| text.as_ref().map_or_else(String::new, |text| text.as_str().to_owned());
        Some(ClientCertificate {
            chain: Vec::new(),
            subject: name(self.subject.as_ref(), diags)?,
            issuer: name(self.issuer.as_ref(), diags)?,
            serial: text(&self.serial),
            san_dns: texts(&self.san_dns).iter().map(|name| name.to_ascii_lowercase()).collect(),
            san_uri: texts(&self.san_uri),
            san_email: texts(&self.san_email),
            not_before: i64::MIN,
            not_after: END_OF_TIME,
            fingerprint_sha256: text(&self.fingerprint_sha256).to_ascii_lowercase(),
        })
    }
}

fn name(text: Option<&Literal>, diags: &mut Diagnostics) -> Option<Dn> {
    let Some(text) = text else { return Some(Dn::default()) };
    match Dn::parse(text.as_str()) {
        Ok(name) => Some(name),
        Err(why) => {
            let diagnostic = Diagnostic::error("policy.bad_value", text.span(), why);
            diags.push(diagnostic.with_help("write `CN=app,O=Example`"));
            None
        }
    }
}
