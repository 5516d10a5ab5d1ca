//! The certificate that a trusted proxy passes on: `Client-Cert` with the certificate itself, `Client-Cert-Chain` with
//! what the client has sent behind it (RFC 9440 §2.2, §2.3).
//!
//! Both are structured fields of byte sequences (RFC 9651 §3.3.5). Parameters have no meaning there and are refused. Nothing
//! is verified here.

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName};
use rustls::pki_types::CertificateDer;

use crate::tls::ClientCertificate;

pub(super) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
pub(super) const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// Certificates of a chain, at most, with the client's own.
const CHAIN_MAX: usize = 8;

/// What the proxy has passed on; `None` where the client has shown no certificate.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn certificate(headers: &HeaderMap) -> Result<Option<ClientCertificate>, String> {
    let mut lines = headers.get_all(CLIENT_CERT).iter();
    let Some(leaf) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err("there is more than one `Client-Cert`".to_owned());
    }
    let mut chain = vec![byte_sequence(leaf.as_bytes())?];
    let further =
        headers.get_all(CLIENT_CERT_CHAIN).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    for item in further {
        if chain.len() == CHAIN_MAX {
            return Err(format!("there are more than {CHAIN_MAX} certificates"));
        }
        chain.push(byte_sequence(item)?);
    }
    ClientCertificate::of(&chain).map(Some)
}

fn byte_sequence(item: &[u8]) -> Result<CertificateDer<'static>, String> {
    let inside = item.trim_ascii().strip_prefix(b":").and_then(|rest| rest.strip_suffix(b":"));
    let bytes = inside.and_then(|base64| BASE64.decode(base64).ok()).filter(|bytes| !bytes.is_empty());
    bytes.map(CertificateDer::from).ok_or_else(|| "a certificate is no byte sequence such as `:MIIB...:`".to_owned())
}
