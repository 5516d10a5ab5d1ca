//! Which certificate a client is shown: by the name it asks for (RFC 6066 §3), exact names before wildcards
//! (RFC 9525 §6.3: one whole label, the leftmost).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

/// What is read of a certificate when it is loaded.
pub(super) struct LeafFacts {
    pub(super) dns_names: Vec<String>,
    /// Unix seconds.
    pub(super) not_after: i64,
}

/// Reads the names and the end of a certificate (RFC 5280 §4.1.2.5, §4.2.1.6).
pub(super) fn leaf_facts(certificate: &CertificateDer<'_>) -> Result<LeafFacts, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("its first certificate cannot be read: {error}"))?;
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|error| format!("the names of its first certificate cannot be read: {error}"))?;
    let dns_names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Ok(LeafFacts { dns_names: dns_names.collect(), not_after: parsed.validity().not_after.timestamp() })
}

/// Certificates by name. Several may have one name, of different kinds of keys.
type Named = HashMap<String, Vec<Arc<CertifiedKey>>>;

/// The certificates of a listener.
pub(super) struct ByName {
    exact: Named,
    /// By what follows `*.`.
    below: Named,
    /// Where no name fits, in the order of the configuration.
    others: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn new(keys: Vec<(Vec<String>, Arc<CertifiedKey>)>) -> ByName {
        let mut by_name = ByName { exact: Named::new(), below: Named::new(), others: Vec::new() };
        for (names, key) in keys {
            for name in names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut by_name.below, parent.to_owned()),
                    None => (&mut by_name.exact, name),
                };
                map.entry(name).or_default().push(key.clone());
            }
            by_name.others.push(key);
        }
        by_name
    }

    /// The certificates for a name, which rustls gives in lower case and without the dot of the root.
    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let below = || name.split_once('.').and_then(|(_, parent)| self.below.get(parent));
        self.exact.get(name).or_else(below).unwrap_or(&self.others)
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ByName").field("exact", &self.exact.keys()).field("below", &self.below.keys()).finish()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let fitting = name.as_deref().map_or(&*self.others, |name| self.named(name));
        let schemes = hello.signature_schemes();
        let usable = fitting.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        usable.or(fitting.first()).cloned()
    }
}
