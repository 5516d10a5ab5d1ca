//! The certificate that a client has proven to hold, in the words that policies use.

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;

use super::dn::Dn;

/// A client's certificate (RFC 5280), verified by the listener. Times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// As it was shown, the leaf first; empty in policy tests.
    pub chain: Vec<CertificateDer<'static>>,
    pub subject: Dn,
    pub issuer: Dn,
    /// Lower-case hexadecimal digits.
    pub serial: String,
    /// In lower case.
    pub san_dns: Vec<String>,
    pub san_uri: Vec<String>,
    pub san_email: Vec<String>,
    pub not_before: i64,
    pub not_after: i64,
    /// SHA-256 of the certificate, lower-case hexadecimal digits.
    pub fingerprint_sha256: String,
}

/// A number without the zero byte that only says that it is not negative.
fn without_sign(number: &[u8]) -> &[u8] {
    match number {
        [0, rest @ ..] if !rest.is_empty() => rest,
        whole => whole,
    }
}

impl ClientCertificate {
    /// Reads the first certificate of a chain.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<ClientCertificate, String> {
        let leaf = chain.first().ok_or("the chain is empty")?;
        let unreadable = |error: &dyn std::fmt::Display| format!("the client's certificate cannot be read: {error}");
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|error| unreadable(&error))?;
        let mut certificate = ClientCertificate {
            chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
            subject: Dn::of(parsed.subject()),
            issuer: Dn::of(parsed.issuer()),
            serial: HEXLOWER.encode(without_sign(parsed.raw_serial())),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            fingerprint_sha256: HEXLOWER.encode(&Sha256::digest(leaf)),
            ..ClientCertificate::default()
        };
        let names = parsed.subject_alternative_name().map_err(|error| unreadable(&error))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => certificate.san_dns.push(name.to_ascii_lowercase()),
                GeneralName::URI(uri) => certificate.san_uri.push((*uri).to_owned()),
                GeneralName::RFC822Name(email) => certificate.san_email.push((*email).to_owned()),
                _ => {}
            }
        }
        Ok(certificate)
    }
}
