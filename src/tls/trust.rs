//! Whom a policy trusts among those that a listener lets in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};

use super::client::ClientCertificate;
use super::provider;

/// Authorities of client certificates.
pub struct ClientTrust(Arc<dyn ClientCertVerifier>);

/// What is known of certificates that count no more.
#[derive(Clone, Debug, Default)]
pub struct Revocation {
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// A list past its time counts on.
    pub accepts_stale: bool,
}

/// Why a certificate is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It, or a certificate of its chain, has ended or not begun.
    Expired,
    /// It, or a certificate of its chain, is on a revocation list.
    Revoked,
    /// A revocation list is past its time: nobody knows.
    StaleList,
    Untrusted(String),
}

impl ClientTrust {
    /// `None` for no authorities at all, which only a policy test has: there no certificate can be verified.
    ///
    /// # Errors
    /// An authority cannot be used.
    pub fn new(
        authorities: &[CertificateDer<'static>],
        revocation: &Revocation,
    ) -> Result<Option<ClientTrust>, String> {
        if authorities.is_empty() {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(|error| format!("an authority cannot be used: {error}"))?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        if !revocation.lists.is_empty() {
            builder = builder.with_crls(revocation.lists.iter().cloned());
            if !revocation.accepts_stale {
                builder = builder.enforce_revocation_expiration();
            }
        }
        builder.build().map(|verifier| Some(ClientTrust(verifier))).map_err(|error| error.to_string())
    }

    /// Verifies a certificate and its chain as of a time, in Unix seconds (RFC 5280 §6).
    ///
    /// # Errors
    /// Why it is not trusted.
    pub fn verify(&self, certificate: &ClientCertificate, now_unix_s: i64) -> Result<(), Distrust> {
        let Some((leaf, chain)) = certificate.chain.split_first() else {
            return Err(Distrust::Untrusted("there is no certificate to verify".to_owned()));
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_unix_s).unwrap_or_default()));
        match self.0.verify_client_cert(leaf, chain, now) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => Err(Distrust::Expired),
            Err(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => Err(Distrust::Revoked),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. },
            )) => Err(Distrust::StaleList),
            Err(error) => Err(Distrust::Untrusted(error.to_string())),
        }
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ClientTrust")
    }
}
