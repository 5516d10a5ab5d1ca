//! TLS at the edges (RFC 8446, RFC 5246): what a listener presents, what a handshake came to, and how both follow
//! their files.
//!
//! It knows no sockets and no HTTP: the server wraps its connections with what is made here. TLS 1.2 and 1.3 by
//! rustls, cryptography by aws-lc; the choice of cipher suites and groups is theirs. Early data is never taken.

mod calling;
mod client;
mod dn;
mod listening;
mod material;
mod pem;
mod resolver;
mod session;
mod trust;
mod wire;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use calling::{Calling, CallingSettings, Offer};
pub use client::ClientCertificate;
pub use dn::Dn;
pub use listening::{Listening, Look};
pub use material::{ClientFiles, ListenerFiles, MinVersion, Pair};
pub use pem::{Problem, certificates_of, is_readable_by_others, private_key_of, revocation_lists_of};
pub use session::Session;
pub use trust::{ClientTrust, Distrust, Revocation};
pub use wire::Wire;

/// The one provider of cryptography of this process.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
