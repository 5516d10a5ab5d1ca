//! `tls:` of routes and upstreams: whom to trust, who to be, and which name the certificate has to have.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::Compile;
use crate::source::{Literal, Name, Spanned};
use crate::tls::{Calling, CallingSettings, MinVersion};

/// TLS with an upstream. The certificate is always verified; nothing turns that off.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallingDoc {
    /// Name of a `key` of kind `certificates`: the authorities that are trusted, in the place of the public web's.
    #[serde(default)]
    ca: Option<Name>,
    /// Name of a `key` of kind `private` that brings its certificate: what the gateway shows.
    #[serde(default)]
    certificate: Option<Name>,
    /// The name that is asked for and verified, in the place of the target's host.
    #[serde(default)]
    server_name: Option<Literal>,
    /// The oldest version that is spoken: `"1.2"` or `"1.3"`.
    #[serde(default)]
    min: Option<Literal>,
}

impl CallingDoc {
    /// What handshakes are made with; what is wrong is reported.
    pub fn calling(doc: &Spanned<CallingDoc>, cx: &mut Compile<'_>) -> Option<Arc<Calling>> {
        let (doc, span) = (&doc.value, doc.span);
        let mut settings = CallingSettings::default();
        if let Some(name) = &doc.ca {
            let known = cx.resource("key of kind `certificates`", name, |all| &all.certificates)?;
            if !known.revocation.lists.is_empty() {
                let message = format!("the revocation lists of `{}` are for certificates of clients", name.name);
                let help = "name a key of kind `certificates` without `crls`";
                return cx.refuse("policy.bad_tls", name.span, message, help);
            }
            settings.authorities = Some(known.list.clone());
        }
        if let Some(name) = &doc.certificate {
            let own = cx.resource("key of kind `private`", name, |all| &all.private_keys)?;
            if own.certified.is_none() && !own.is_stand_in {
                let message = format!("key `{}` has no certificate beside it: a handshake needs both", name.name);
                let help = "put the certificate and its chain into the key's PEM file";
                return cx.refuse("policy.bad_tls", name.span, message, help);
            }
            // In a policy test nothing of the machine is read, and no handshake is made either.
            settings.own = own.certified.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
        }
        settings.server_name = match &doc.server_name {
            Some(name) => Some(cx.literal(name)?),
            None => None,
        };
        settings.min = match &doc.min {
            Some(word) => Some(min_version(word, cx)?),
            None => None,
        };
        match Calling::new(settings) {
            Ok(calling) => Some(Arc::new(calling)),
            Err(why) => cx.refuse("policy.bad_tls", span, &why, "see `gatewright explain policy.bad_tls`"),
        }
    }
}

fn min_version(word: &Literal, cx: &mut Compile<'_>) -> Option<MinVersion> {
    let text = cx.literal(word)?;
    match text.as_str() {
        "1.2" => Some(MinVersion::Tls12),
        "1.3" => Some(MinVersion::Tls13),
        _ => {
            let message = format!("`{text}` is no version of TLS that is spoken here");
            cx.refuse("policy.bad_tls", word.span(), &message, "write `min: \"1.2\"` or `min: \"1.3\"`")
        }
    }
}
