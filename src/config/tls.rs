//! `tls:` of a listener: which files, and what is spoken. The files are read at once, so that `check` finds what is
//! wrong with them.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::{Diagnostic, Diagnostics, Literal, OneOrMany, Span, Spanned};
use crate::tls::{ClientFiles, ListenerFiles, Listening, MinVersion, Pair};

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
    /// Whether clients are asked for certificates.
    #[serde(default)]
    client_certificates: Option<Spanned<ClientsWord>>,
    /// PEM file: the authorities whose client certificates are taken.
    #[serde(default)]
    client_ca: Option<Literal>,
    /// PEM files: revocation lists of these authorities.
    #[serde(default)]
    crls: Option<OneOrMany<Literal>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ClientsWord {
    /// They are not.
    None,
    /// They may come without; one that is shown has to be good.
    Optional,
    /// Nobody comes in without.
    Required,
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
        let clients = doc.clients(base, diags);
        let files = ListenerFiles { pairs: doc.pairs(base, span, diags)?, min, clients: clients? };
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

    /// Whose certificates are asked for, if any are; `None` where that was not said rightly.
    fn clients(&self, base: &Path, diags: &mut Diagnostics) -> Option<Option<ClientFiles>> {
        let crls = self.crls.iter().flat_map(OneOrMany::iter);
        let help = "write `client_certificates: optional` or `required`, and `client_ca: FILE`";
        match (self.client_certificates.filter(|word| word.value != ClientsWord::None), &self.client_ca) {
            (Some(word), Some(ca)) => Some(Some(ClientFiles {
                ca: base.join(ca.as_str()),
                crls: crls.map(|file| base.join(file.as_str())).collect(),
                required: word.value == ClientsWord::Required,
            })),
            (Some(word), None) => {
                let message = "nobody says whose client certificates are taken";
                diags.push(Diagnostic::error("config.bad_tls", word.span, message).with_help(help));
                None
            }
            (None, None) if self.crls.is_none() => Some(None),
            (None, ca) => {
                let span = ca.as_ref().map(Literal::span).or(crls.map(Literal::span).next());
                let message = "clients are not asked for certificates";
                diags.push(Diagnostic::error("config.contradiction", span, message).with_help(help));
                None
            }
        }
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
