//! TLS towards upstreams: whom to trust, who to be, and which name the certificate has to have (RFC 9525).
//!
//! The certificate is always verified; nothing here turns that off. Equal settings make equal values, so that
//! connections made under the one may be used under the other.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};

use super::material::MinVersion;
use super::provider;

/// The protocols that are offered to an upstream (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2, else HTTP/1.1.
    Both,
    Http2,
    Http1,
}

impl Offer {
    const ALL: [Offer; 3] = [Offer::Both, Offer::Http2, Offer::Http1];

    fn names(self) -> Vec<Vec<u8>> {
        match self {
            Offer::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Offer::Http2 => vec![b"h2".to_vec()],
            Offer::Http1 => vec![b"http/1.1".to_vec()],
        }
    }
}

/// What a call says of its TLS; left out, the authorities of the public web are trusted.
#[derive(Default)]
pub struct CallingSettings {
    /// Trusted authorities, in the place of those of the public web.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// The certificate that the gateway shows, with its chain, and its key.
    pub own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// The name that is asked for and verified, in the place of the target's host.
    pub server_name: Option<String>,
    pub min: Option<MinVersion>,
}

/// TLS of calls to an upstream.
pub struct Calling {
    /// By what is offered.
    configs: [Arc<ClientConfig>; 3],
    server_name: Option<ServerName<'static>>,
    identity: [u8; 32],
}

impl Calling {
    /// What `https://` means by itself.
    pub fn usual() -> Result<Arc<Calling>, String> {
        static USUAL: OnceLock<Result<Arc<Calling>, String>> = OnceLock::new();
        USUAL.get_or_init(|| Calling::new(CallingSettings::default()).map(Arc::new)).clone()
    }

    /// Makes what handshakes need of settings, once for all calls.
    pub fn new(settings: CallingSettings) -> Result<Calling, String> {
        let identity = identity(&settings);
        let mut roots = RootCertStore::empty();
        match settings.authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(authorities) => {
                for authority in authorities {
                    roots.add(authority).map_err(|error| format!("an authority cannot be used: {error}"))?;
                }
            }
        }
        let server_name = match settings.server_name {
            Some(name) => Some(ServerName::try_from(name).map_err(|_| "the server name is no name".to_owned())?),
            None => None,
        };
        let builder = ClientConfig::builder_with_provider(provider());
        let versions = settings.min.unwrap_or(MinVersion::Tls12).versions();
        let builder = builder.with_protocol_versions(versions).map_err(|error| error.to_string())?;
        let builder = builder.with_root_certificates(roots);
        let config = match settings.own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("the gateway's own certificate cannot be used: {error}"))?,
        };
        let configs = Offer::ALL.map(|offer| {
            let mut config = config.clone();
            config.alpn_protocols = offer.names();
            Arc::new(config)
        });
        Ok(Calling { configs, server_name, identity })
    }

    /// What a handshake is made with that offers this.
    pub fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        let [both, http2, http1] = &self.configs;
        match offer {
            Offer::Both => both.clone(),
            Offer::Http2 => http2.clone(),
            Offer::Http1 => http1.clone(),
        }
    }

    /// Whether it asks for another name than this host's.
    pub fn names_another(&self, host: &str) -> bool {
        self.server_name.as_ref().is_some_and(|name| name.to_str() != host)
    }

    /// The name that the certificate of `host` has to have.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => {
                let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                ServerName::try_from(bare).map_err(|_| format!("no certificate can be for {host:?}"))
            }
        }
    }

    /// Equal for equal settings.
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }
}

/// Every part of the settings, each behind its length.
fn identity(settings: &CallingSettings) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let authorities = settings.authorities.as_deref();
    part(&[u8::from(authorities.is_some())]);
    part(&(authorities.map_or(0, <[_]>::len) as u64).to_le_bytes());
    authorities.into_iter().flatten().for_each(|authority| part(authority));
    part(settings.server_name.as_deref().unwrap_or_default().as_bytes());
    part(&[u8::from(settings.min == Some(MinVersion::Tls13))]);
    if let Some((chain, key)) = &settings.own {
        chain.iter().for_each(|certificate| part(certificate));
        part(key.secret_der());
    }
    hasher.finalize().into()
}

impl PartialEq for Calling {
    fn eq(&self, other: &Calling) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Calling {}

impl fmt::Debug for Calling {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Calling").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
