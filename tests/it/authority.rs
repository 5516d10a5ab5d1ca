//! An authority of a test's own: certificates for gateways and their clients, and a client that trusts it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Folder, Gateway, PATIENCE};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        // openssl takes a certificate for one that has signed itself where both names are the same.
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes a new certificate and its key into a folder.
    pub fn renew(&self, folder: &Folder, names: &[&str]) {
        self.write(folder, "gw", CertificateParams::new(owned(names)).unwrap());
    }

    /// The same, of a certificate that ended long ago.
    pub fn renew_with_an_old_one(&self, folder: &Folder, names: &[&str]) {
        let mut params = CertificateParams::new(owned(names)).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.write(folder, "gw", params);
    }

    /// Writes a client's certificate and its key into a folder, as `client.pem` and `client.key`.
    pub fn admit(&self, folder: &Folder, names: &[&str]) {
        let mut params = CertificateParams::new(owned(names)).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.write(folder, "client", params);
    }

    fn write(&self, folder: &Folder, name: &str, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        folder.write(&format!("{name}.pem"), &certificate.pem());
        folder.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// One request on a connection of its own; the answer, and the certificate that was shown.
    pub fn ask(&self, gateway: &Gateway, host: &str, path: &str) -> (String, Vec<u8>) {
        let tcp = TcpStream::connect(gateway.main).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("a.test").unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(self.client(), name).unwrap(), tcp);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer, stream.conn.peer_certificates().unwrap()[0].to_vec())
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
