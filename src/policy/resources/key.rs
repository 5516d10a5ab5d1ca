//! `key:`, key material under a name with its algorithm fixed: symmetric keys, certificates of authorities, and a
//! private key with its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::resources::{Certificates, PrivateKey, Resources, SymmetricKey};
use crate::engine::value::Text;
use crate::policy::resources::{Build, ResourceKind};
use crate::source::{Diagnostic, Literal, Name, Node, OneOrMany, read};
use crate::tls;

pub const KIND: ResourceKind = ResourceKind {
    word: "key",
    summary: "Key material under a name, with its algorithm fixed.",
    schema: || schemars::schema_for!(KeyDoc),
    build,
};

/// A key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyDoc {
    /// Its name.
    #[allow(dead_code)] // the declaring key: read before
    key: Name,
    /// What kind of key it is.
    kind: KeyKind,
    /// Where its material is kept.
    from: From,
    /// Algorithms it may be used with; without it any that fits.
    #[serde(default)]
    algorithms: Option<OneOrMany<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum KeyKind {
    /// A shared secret for HMAC, from a `secret`.
    Symmetric,
    /// Certificates of authorities that are trusted, from a PEM file.
    Certificates,
    /// A private key with its certificate and chain, from one PEM file.
    Private,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct From {
    /// A `secret` document.
    #[serde(default)]
    secret: Option<Name>,
    /// A PEM file.
    #[serde(default)]
    file: Option<Literal>,
}

/// Least bytes of a key that is to sign with HS256 (RFC 7518 §3.2).
const HS256_BYTES_MIN: usize = 32;

/// Largest PEM file, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let Some(doc) = read::<KeyDoc>(node, None, "a key", build.diags) else {
        // Of which kind it was meant to be is not known: nobody is told that it does not exist.
        let own: Text = name.name.as_str().into();
        resources.keys.insert(own.clone(), None);
        resources.certificates.insert(own.clone(), None);
        resources.private_keys.insert(own, None);
        return;
    };
    let own = name.name.as_str().into();
    match doc.kind {
        KeyKind::Symmetric => {
            let key = symmetric(name, &doc, build).map(Arc::new);
            resources.keys.insert(own, key);
        }
        KeyKind::Certificates => {
            let certificates = certificates(name, &doc, build).map(Arc::new);
            resources.certificates.insert(own, certificates);
        }
        KeyKind::Private => {
            let key = private(name, &doc, build).map(Arc::new);
            resources.private_keys.insert(own, key);
        }
    }
}

fn symmetric(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<SymmetricKey> {
    let known = &build.around.resources.secrets;
    let Some(secret) = doc.from.secret.as_ref().filter(|_| doc.from.file.is_none()) else {
        return refuse(name, "a symmetric key is kept in a `secret`", "write `from: { secret: NAME }`", build);
    };
    let material = match known.get(secret.name.as_str()) {
        Some(secret) => secret.clone()?,
        None => return build.context().unknown_name("secret", secret, known.keys()),
    };
    let algorithms: Vec<String> = doc.algorithms.iter().flat_map(|words| words.iter()).cloned().collect();
    let signs_tokens = algorithms.iter().any(|algorithm| algorithm.starts_with("HS"));
    if signs_tokens && material.expose().len() < HS256_BYTES_MIN && build.given.is_none() {
        let message = format!("a key for HS256 has at least {HS256_BYTES_MIN} bytes (RFC 7518 §3.2)");
        build.diags.push(Diagnostic::error("policy.weak_key", name.span, message));
        return None;
    }
    Some(SymmetricKey { name: name.name.as_str().into(), material, algorithms })
}

fn certificates(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<Certificates> {
    let path = file_of(name, doc, build)?;
    if build.given.is_some() {
        return Some(Certificates { list: Vec::new() });
    }
    let bytes = build.around.resources.outside.read(&path, FILE_BYTES_MAX);
    match bytes.and_then(|bytes| tls::certificates_of(&bytes)) {
        Ok(list) => Some(Certificates { list }),
        Err(why) => bad_file(name, &path, &why, build),
    }
}

fn private(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<PrivateKey> {
    let path = file_of(name, doc, build)?;
    if build.given.is_some() {
        return Some(PrivateKey { certified: None });
    }
    let bytes = build.around.resources.outside.read_secret(&path, FILE_BYTES_MAX);
    let both = bytes.and_then(|bytes| Ok((tls::certificates_of(&bytes)?, tls::private_key_of(&bytes)?)));
    if tls::is_readable_by_others(&path) {
        let message = format!("{}: everybody on this machine may read this key", path.display());
        let help = "let only the gateway's user and its group read it: `chmod 640`";
        build.diags.push(Diagnostic::warning("policy.open_key", name.span, message).with_help(help));
    }
    match both {
        Ok(certified) => Some(PrivateKey { certified: Some(certified) }),
        Err(why) => bad_file(name, &path, &why, build),
    }
}

/// The file of a key that is not symmetric.
fn file_of(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<PathBuf> {
    if doc.algorithms.is_some() {
        return refuse(name, "`algorithms` goes with symmetric keys", "remove it", build);
    }
    match (&doc.from.file, &doc.from.secret) {
        (Some(file), None) => build.path_of(file),
        _ => refuse(name, "a key of this kind is kept in a PEM file", "write `from: { file: keys/NAME.pem }`", build),
    }
}

fn refuse<T>(name: &Name, message: &str, help: &str, build: &mut Build<'_>) -> Option<T> {
    build.diags.push(Diagnostic::error("policy.bad_key", name.span, message).with_help(help));
    None
}

fn bad_file<T>(name: &Name, path: &Path, why: &str, build: &mut Build<'_>) -> Option<T> {
    let message = format!("key `{}`: {}: {why}", name.name, path.display());
    refuse(name, &message, "the file is PEM text: certificates, and for `kind: private` the key with them", build)
}
