//! `tls:` of a listener: which files, and what is spoken. The files are read at once, so that `check` finds what is
//! wrong with them.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::not_supported;
use crate::source::{Diagnostic, Diagnostics, Literal, Node, Span, Spanned};
use crate::tls::{ListenerFiles, Listening, MinVersion, Pair};

/// TLS of a listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsDoc {
    /// PEM file: the certificate, then its chain.
    #[serde(default)]
    certificate: Option<Literal>,
    /// PEM file: the key of the certificate.
    #[serde(default)]
    key: Option<Literal>,
    /// Several certificates, chosen by the name that a client asks for.
    #[serde(default)]
    certificates: Option<Vec<PairDoc>>,
    /// The oldest version that is spoken: `"1.2"` or `"1.3"`.
    #[serde(default)]
    min: Option<Literal>,
    /// Comes with a later version.
    #[serde(default)]
    client_certificates: Option<Node>,
    /// Comes with a later version.
    #[serde(default)]
    client_ca: Option<Node>,
    /// Comes with a later version.
    #[serde(default)]
    crls: Option<Node>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PairDoc {
    /// PEM file: the certificate, then its chain.
    certificate: Literal,
    /// PEM file: its key.
    key: Literal,
}

impl PairDoc {
    fn pair(&self, base: &Path) -> Pair {
        Pair { certificate: base.join(self.certificate.as_str()), key: base.join(self.key.as_str()) }
    }
}

impl TlsDoc {
    /// What the listener presents; what is wrong is reported at `tls`.
    pub(super) fn listening(doc: Spanned<TlsDoc>, base: &Path, diags: &mut Diagnostics) -> Option<Arc<Listening>> {
        let (doc, span) = (doc.value, doc.span);
        let client = [("tls: client_certificates", &doc.client_certificates), ("tls: client_ca", &doc.client_ca)];
        for (key, node) in client.into_iter().chain([("tls: crls", &doc.crls)]) {
            if let Some(node) = node {
                not_supported(key, node.span(), diags);
            }
        }
        let min = match doc.min.as_ref().map(|min| (min, min.as_str())) {
            None | Some((_, "1.2")) => MinVersion::Tls12,
            Some((_, "1.3")) => MinVersion::Tls13,
            Some((min, word)) => {
                let message = format!("`{word}` is no version of TLS that is spoken here");
                let help = "write `\"1.2\"` or `\"1.3\"`";
                diags.push(Diagnostic::error("config.bad_tls", min.span(), message).with_help(help));
                MinVersion::Tls12
            }
        };
        let files = ListenerFiles { pairs: doc.pairs(base, span, diags)?, min };
        let listening = match Listening::open(files) {
            Ok(listening) => listening,
            Err(problem) => {
                let help = "name a PEM file with the certificate and its chain, and one with its key, both readable for \
                            the gateway's user";
                diags.push(Diagnostic::error("config.bad_certificate", span, problem.to_string()).with_help(help));
                return None;
            }
        };
        for key in listening.open_keys() {
            let message = format!("{}: everybody on this machine may read this key", key.display());
            let help = "let only the gateway's user and its group read it: `chmod 640`";
            diags.push(Diagnostic::warning("config.open_key", span, message).with_help(help));
        }
        Some(Arc::new(listening))
    }

    /// The certificates of either form, at least one.
    fn pairs(&self, base: &Path, span: Span, diags: &mut Diagnostics) -> Option<Vec<Pair>> {
        let one = "write `certificate: FILE` and `key: FILE`, or `certificates:` with a list of such pairs";
        match (&self.certificate, &self.key, &self.certificates) {
            (Some(certificate), Some(key), None) => {
                Some(vec![PairDoc { certificate: certificate.clone(), key: key.clone() }.pair(base)])
            }
            (None, None, Some(list)) if !list.is_empty() => Some(list.iter().map(|pair| pair.pair(base)).collect()),
            (Some(word), _, Some(_)) | (None, Some(word), Some(_)) => {
                let message = "certificates stand in one place: `certificate` and `key`, or `certificates`";
                diags.push(Diagnostic::error("config.contradiction", word.span(), message).with_help(one));
                None
            }
            _ => {
                let message = "a listener with TLS needs a certificate and its key";
                diags.push(Diagnostic::error("config.bad_tls", span, message).with_help(one));
                None
            }
        }
    }
}
