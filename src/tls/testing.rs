//! Certificates for tests: an authority of one's own, and what it signs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::{ClientCertificate, ListenerFiles, Listening, MinVersion, Pair, provider};

/// Serial number of every client's certificate.
const SERIAL: u64 = 77;

/// A folder of one test, removed with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gatewright-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Certificate and key in PEM form, for these names.
    pub fn sign(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A client that shows a certificate for these names, with this subject's common name.
    pub fn client_as(&self, issuer: &Authority, common_name: &str, names: &[&str]) -> Arc<ClientConfig> {
        let (certificate, key) = issuer.sign_client(common_name, names);
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(builder.with_client_auth_cert(vec![certificate], key).unwrap())
    }

    /// What is known of a client that shows such a certificate.
    pub fn certificate(&self, common_name: &str, names: &[&str]) -> ClientCertificate {
        ClientCertificate::of(&[self.sign_client(common_name, names).0]).unwrap()
    }

    fn sign_client(
        &self,
        common_name: &str,
        names: &[&str],
    ) -> (CertificateDer<'static>, rustls::pki_types::PrivateKeyDer<'static>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SERIAL.into());
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// Its revocation list, in PEM form, with the certificates of its clients on it or none.
    pub fn revocation_list(&self, with_clients: bool) -> String {
        self.revocation_list_until(with_clients, 4000)
    }

    /// The same, which the list of a later year takes the place of.
    pub fn revocation_list_until(&self, with_clients: bool, until: i32) -> String {
        let year = |year| rcgen::date_time_ymd(year, 1, 1);
        let revoked = rcgen::RevokedCertParams {
            serial_number: SERIAL.into(),
            revocation_time: year(2020),
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: year(2020),
            next_update: year(until),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: if with_clients { vec![revoked] } else { Vec::new() },
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A client that trusts this authority and offers these protocols.
    pub fn client(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// The files of a listener with one pair for each list of names.
pub fn files(folder: &Path, authority: &Authority, certificates: &[&[&str]]) -> ListenerFiles {
    let pairs = certificates.iter().enumerate().map(|(number, names)| {
        let (certificate, key) = authority.sign(names);
        let pair =
            Pair { certificate: folder.join(format!("{number}.pem")), key: folder.join(format!("{number}.key")) };
        std::fs::write(&pair.certificate, certificate).unwrap();
        std::fs::write(&pair.key, key).unwrap();
        pair
    });
    ListenerFiles { pairs: pairs.collect(), min: MinVersion::Tls12, clients: None }
}

/// A listener's TLS over one certificate for these names.
pub fn listening(folder: &Path, authority: &Authority, names: &[&str]) -> Arc<Listening> {
    Arc::new(Listening::open(files(folder, authority, &[names])).unwrap())
}
