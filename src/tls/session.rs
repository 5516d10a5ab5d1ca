//! What a handshake came to.

use rustls::{ProtocolVersion, ServerConnection};

use super::client::ClientCertificate;

/// One TLS connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// The name that the client asked for (RFC 6066 §3), in lower case.
    pub server_name: Option<String>,
    /// The protocol that was agreed on (RFC 7301).
    pub alpn: Option<String>,
    /// The certificate that the client has shown; it was verified.
    pub client: Option<ClientCertificate>,
}

impl Session {
    /// Reads a connection whose handshake is complete.
    ///
    /// # Errors
    /// The client's certificate was verified, but cannot be read.
    pub fn of(connection: &ServerConnection) -> Result<Session, String> {
        let client = match connection.peer_certificates() {
            Some(chain) => Some(ClientCertificate::of(chain)?),
            None => None,
        };
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        Ok(Session {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                _ => "1.2",
            },
            // rustls tells the suites of TLS 1.3 apart by their names, IANA does not.
            cipher: suite.replacen("TLS13_", "TLS_", 1),
            server_name: connection.server_name().map(str::to_ascii_lowercase),
            alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            client,
        })
    }
}
