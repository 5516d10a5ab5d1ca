//! The files of a listener, and the rustls configuration made of their bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::pem::{self, Problem};
use super::provider;
use super::resolver::{ByName, leaf_facts};

/// The protocols that a listener speaks over TLS, the preferred one first (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    Tls12,
    Tls13,
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What a listener's TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFiles {
    /// The first one serves clients that name no server, or one that no certificate has.
    pub pairs: Vec<Pair>,
    pub min: MinVersion,
    /// Clients are asked for certificates.
    pub clients: Option<ClientFiles>,
}

/// Whose client certificates are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Certificates of the authorities.
    pub ca: PathBuf,
    /// Revocation lists of these authorities; with one, every certificate has to be covered.
    pub crls: Vec<PathBuf>,
    /// A client without a certificate is not let in. One that shows a certificate has to show a good one either way.
    pub required: bool,
}

/// The contents of a file; overwritten when they are dropped.
type Contents = Zeroizing<Vec<u8>>;

/// The contents of all files at one moment.
pub(super) struct Material {
    /// Certificates and their keys.
    pairs: Vec<(Contents, Contents)>,
    /// The authorities of clients, and the revocation lists.
    clients: Option<(Contents, Vec<Contents>)>,
    /// Equal digests mean equal files.
    pub(super) digest: [u8; 32],
}

/// What a listener presents from now on.
pub(super) struct Made {
    pub(super) config: Arc<ServerConfig>,
    /// When the first of its certificates ends, Unix seconds.
    pub(super) not_after: i64,
}

impl ListenerFiles {
    /// The keys that everybody on this machine may read.
    pub(super) fn open_keys(&self) -> impl Iterator<Item = &Path> {
        self.pairs.iter().map(|pair| pair.key.as_path()).filter(|key| pem::is_readable_by_others(key))
    }

    /// Reads all files.
    pub(super) fn read(&self) -> Result<Material, Problem> {
        let mut hasher = Sha256::new();
        let mut take = |path: &Path| {
            let bytes = pem::read(path)?;
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
            Ok(bytes)
        };
        let pairs = self.pairs.iter().map(|pair| Ok((take(&pair.certificate)?, take(&pair.key)?)));
        let pairs = pairs.collect::<Result<_, Problem>>()?;
        let clients = match &self.clients {
            Some(files) => {
                Some((take(&files.ca)?, files.crls.iter().map(|path| take(path)).collect::<Result<_, Problem>>()?))
            }
            None => None,
        };
        Ok(Material { pairs, clients, digest: hasher.finalize().into() })
    }

    /// Makes what a handshake needs. Everything is made anew, the keys of session tickets too: a session that began
    /// under other files is not resumed.
    pub(super) fn make(&self, material: &Material) -> Result<Made, Problem> {
        let mut keys = Vec::with_capacity(self.pairs.len());
        let mut not_after = i64::MAX;
        for (pair, (certificate, key)) in self.pairs.iter().zip(&material.pairs) {
            let certified = certified(pair, certificate, key)?;
            let leaf =
                certified.end_entity_cert().map_err(|error| Problem::new(&pair.certificate, error.to_string()))?;
            let facts = leaf_facts(leaf).map_err(|text| Problem::new(&pair.certificate, text))?;
            not_after = not_after.min(facts.not_after);
            keys.push((facts.dns_names, Arc::new(certified)));
        }
        let failed = |error: rustls::Error| {
            let path = self.pairs.first().map(|pair| pair.certificate.as_path()).unwrap_or(Path::new(""));
            Problem::new(path, error.to_string())
        };
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(self.min.versions()).map_err(failed)?;
        let resolver = Arc::new(ByName::new(keys));
        let mut config = match (&self.clients, &material.clients) {
            (Some(files), Some((ca, crls))) => {
                builder.with_client_cert_verifier(files.verifier(ca, crls)?).with_cert_resolver(resolver)
            }
            _ => builder.with_no_client_auth().with_cert_resolver(resolver),
        };
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.clients.is_none() {
            // A resumed session would bring a certificate that nobody verifies again.
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(failed)?;
        }
        Ok(Made { config: Arc::new(config), not_after })
    }
}

impl ClientFiles {
    /// RFC 5280 §6, with the purpose of clients; a revocation list that is past its time refuses everybody.
    fn verifier(&self, ca: &[u8], crls: &[Contents]) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
        let mut roots = RootCertStore::empty();
        for authority in pem::certificates(&self.ca, ca)? {
            let failed = |error| Problem::new(&self.ca, format!("an authority cannot be used: {error}"));
            roots.add(authority).map_err(failed)?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        for (path, bytes) in self.crls.iter().zip(crls) {
            builder = builder.with_crls(pem::revocation_lists(path, bytes)?);
        }
        if !self.crls.is_empty() {
            builder = builder.enforce_revocation_expiration();
        }
        if !self.required {
            builder = builder.allow_unauthenticated();
        }
        let place = self.crls.first().unwrap_or(&self.ca);
        builder.build().map_err(|error| Problem::new(place, format!("it cannot be used: {error}")))
    }
}

impl MinVersion {
    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        static NEW: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            MinVersion::Tls12 => &BOTH,
            MinVersion::Tls13 => &NEW,
        }
    }
}

fn certified(pair: &Pair, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, Problem> {
    let chain = pem::certificates(&pair.certificate, certificate)?;
    let key = pem::private_key(&pair.key, key)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let other = pair.certificate.display();
            Problem::new(&pair.key, format!("it is not the key of the certificate in {other}"))
        }
        rustls::Error::InvalidCertificate(_) => {
            Problem::new(&pair.certificate, format!("its first certificate cannot be used: {error}"))
        }
        _ => Problem::new(&pair.key, format!("the key cannot be used: {error}")),
    })
}
