//! `key:`, key material under a name with its algorithm fixed: shared secrets, certificates of authorities, keys that
//! verify, and keys that sign or that the gateway shows its own certificate with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::resources::{Certificates, PrivateKey, Resources, Signer, SymmetricKey};
use crate::engine::value::Text;
use crate::jose::{self, Algorithm, Algorithms, KeySet, SigningKey};
use crate::policy::resources::{Build, ResourceKind};
use crate::policy::stand_in_keys;
use crate::source::{Diagnostic, DurationValue, Literal, Name, Node, OneOrMany, Span, Spanned, read, suggest};
use crate::tls::{self, Revocation};

mod generate;
mod publish;

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
    from: Spanned<From>,
    /// Algorithms it may be used with, such as `RS256`; without it any that fits.
    #[serde(default)]
    algorithms: Option<Spanned<OneOrMany<Literal>>>,
    /// Its name in tokens: of a private key `auto`, its thumbprint (RFC 7638), or a text. A public key in PEM form has
    /// none unless it is written here, and then verifies tokens whatever key they name.
    #[serde(default)]
    kid: Option<Literal>,
    /// A path on which the public half is served as a JWK Set, on every listener and for every host. Keys that name the
    /// same path are one set.
    #[serde(default)]
    publish: Option<Literal>,
    /// Of certificates: PEM files of revocation lists for the certificates that they have signed.
    #[serde(default)]
    crls: Option<Spanned<OneOrMany<Literal>>>,
    /// Whether a list past its time counts on; otherwise nobody passes until there is a new one.
    #[serde(default)]
    stale_crl: StaleWord,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum StaleWord {
    #[default]
    Refuse,
    Accept,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum KeyKind {
    /// A shared secret for HMAC, from a `secret`.
    Symmetric,
    /// Certificates of authorities that are trusted, from a PEM file.
    Certificates,
    /// A key that verifies tokens: a public key or a certificate in PEM form, a JWK or a JWK Set.
    Public,
    /// A key that signs, in PEM form or as JWK, or made by the gateway; with its certificate and chain in the same PEM file also what the
    /// gateway shows to upstreams.
    Private,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct From {
    /// A `secret` document.
    #[serde(default)]
    secret: Option<Name>,
    /// A PEM file, or a JWK or JWK Set.
    #[serde(default)]
    file: Option<Literal>,
    /// A JWK Set in a file.
    #[serde(default)]
    jwks_file: Option<Literal>,
    /// Which key of the set.
    #[serde(default)]
    kid: Option<Literal>,
    /// The gateway makes the key itself, for this algorithm, and keeps it below `state:`.
    #[serde(default)]
    generate: Option<Literal>,
    /// The age at which another such key takes its place, 2h to 3650d; without it none does.
    #[serde(default)]
    rotate: Option<DurationValue>,
}

/// Least bytes of a key that is to sign with HS256 (RFC 7518 §3.2).
const HS256_BYTES_MIN: usize = 32;

/// Largest PEM file, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let Some(doc) = read::<KeyDoc>(node, None, "a key", build.diags) else {
        return forget(name, resources);
    };
    if generate::is_refused(&doc, build) || publish::is_refused(&doc, build) || are_crls_refused(&doc, build) {
        return forget(name, resources);
    }
    let own: Text = name.name.as_str().into();
    match doc.kind {
        KeyKind::Symmetric => {
            let key = symmetric(name, &doc, build).map(Arc::new);
            resources.keys.insert(own, key);
        }
        KeyKind::Certificates => {
            let certificates = certificates(name, &doc, build).map(Arc::new);
            resources.certificates.insert(own, certificates);
        }
        KeyKind::Public => {
            let keys = public(name, &doc, build).map(Arc::new);
            publish::public(name, &doc, keys.as_ref(), build, resources);
            resources.public_keys.insert(own, keys);
        }
        KeyKind::Private => {
            let key = private(name, &doc, build).map(Arc::new);
            publish::private(name, &doc, key.as_deref(), build, resources);
            resources.private_keys.insert(own, key);
        }
    }
}

/// Of which kind it was meant to be is not known: nobody is told that it does not exist.
fn forget(name: &Name, resources: &mut Resources) {
    let own: Text = name.name.as_str().into();
    resources.keys.insert(own.clone(), None);
    resources.certificates.insert(own.clone(), None);
    resources.public_keys.insert(own.clone(), None);
    resources.private_keys.insert(own, None);
}

fn symmetric(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<SymmetricKey> {
    let from = &doc.from.value;
    let has_file = from.file.is_some() || from.jwks_file.is_some();
    let material = match from.secret.as_ref().filter(|_| !has_file) {
        Some(secret) => secret_of(secret, build),
        None => {
            let help = "write `from: { secret: NAME }`";
            refuse(doc.from.span, "a symmetric key is kept in a `secret`", help, build)
        }
    };
    let kid = match &doc.kid {
        Some(kid) => build.context().literal(kid).map(Some),
        None => Some(None),
    };
    let allowed = algorithms(doc, build)?;
    let words: Vec<String> = doc.algorithms.iter().flat_map(|_| allowed.iter()).map(|one| one.to_string()).collect();
    if let Some(written) = doc.algorithms.as_ref().filter(|_| allowed.and(Algorithms::SYMMETRIC.into()) != allowed) {
        let help = "a shared secret goes with HS256, HS384 and HS512; for others take `kind: public` or `private`";
        return refuse(written.span, "these algorithms do not go with a shared secret", help, build);
    }
    let material = material?;
    let signs_tokens = doc.algorithms.is_some();
    if signs_tokens && material.expose().len() < HS256_BYTES_MIN && build.given.is_none() {
        let message = format!("a key for HS256 has at least {HS256_BYTES_MIN} bytes (RFC 7518 §3.2)");
        build.diags.push(Diagnostic::error("policy.weak_key", name.span, message));
        return None;
    }
    Some(SymmetricKey { name: name.name.as_str().into(), material, algorithms: words, kid: kid? })
}

fn secret_of(secret: &Name, build: &mut Build<'_>) -> Option<crate::secret::Secret> {
    let known = &build.around.resources.secrets;
    match known.get(secret.name.as_str()) {
        Some(secret) => secret.clone(),
        None => build.context().unknown_name("secret", secret, known.keys()),
    }
}

/// The algorithms that the document names; all where it names none.
fn algorithms(doc: &KeyDoc, build: &mut Build<'_>) -> Option<Algorithms> {
    match &doc.algorithms {
        None => Some(Algorithms::all()),
        Some(words) => algorithms_of(&words.value, build),
    }
}

/// Words such as `RS256` as a set; a word that is none is reported.
pub(super) fn algorithms_of(words: &OneOrMany<Literal>, build: &mut Build<'_>) -> Option<Algorithms> {
    let mut all = Vec::new();
    for literal in words {
        let word = build.context().literal(literal)?;
        match Algorithm::of(&word) {
            Some(algorithm) => all.push(algorithm),
            None => {
                let message = format!("`{word}` is no algorithm of signatures");
                let help = match suggest(&word, Algorithm::ALL.into_iter().map(Algorithm::word)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known are {}", Algorithms::all()),
                };
                build.diags.push(Diagnostic::error("policy.bad_key", literal.span(), message).with_help(help));
                return None;
            }
        }
    }
    Some(all.into_iter().collect())
}

fn certificates(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<Certificates> {
    let (path, at) = file_of(doc, build)?;
    if build.given.is_some() {
        return Some(Certificates { list: Vec::new(), revocation: Revocation::default() });
    }
    let bytes = match build.around.resources.outside.read(&path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(why) => return no_file(name, at, &path, &why, build),
    };
    let list = match tls::certificates_of(&bytes) {
        Ok(list) => list,
        Err(why) => return bad_file(name, at, &path, &why, build),
    };
    let mut revocation = Revocation { lists: Vec::new(), accepts_stale: doc.stale_crl == StaleWord::Accept };
    for file in doc.crls.iter().flat_map(|crls| crls.value.iter()) {
        let path = build.path_of(file)?;
        let bytes = match build.around.resources.outside.read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(why) => return no_file(name, file.span(), &path, &why, build),
        };
        match tls::revocation_lists_of(&bytes) {
            Ok(lists) => revocation.lists.extend(lists),
            Err(why) => return bad_file(name, file.span(), &path, &why, build),
        }
    }
    Some(Certificates { list, revocation })
}

/// Whether revocation lists are given to something else than certificates; it was reported then.
fn are_crls_refused(doc: &KeyDoc, build: &mut Build<'_>) -> bool {
    let Some(crls) = doc.crls.as_ref().filter(|_| !matches!(doc.kind, KeyKind::Certificates)) else { return false };
    let help = "remove `crls`, or give it to the key of the authorities";
    refuse::<()>(crls.span, "revocation lists go with certificates of authorities", help, build).is_none()
}

fn public(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<KeySet> {
    let source = source_of(doc, build);
    let allowed = algorithms(doc, build)?;
    let (path, at, kid) = source?;
    if build.given.is_some() {
        let key = stand_in_keys::algorithm(allowed).and_then(stand_in_keys::signing)?;
        return key.verify_key().ok().map(|key| KeySet::of([key]));
    }
    let bytes = match build.around.resources.outside.read(&path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(why) => return no_file(name, at, &path, &why, build),
    };
    match jose::public_keys(&bytes, kid.as_deref(), allowed) {
        Ok(keys) => Some(keys),
        Err(why) => bad_file(name, at, &path, &why, build),
    }
}

fn private(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<PrivateKey> {
    if let Some(word) = &doc.from.value.generate {
        let signing = Some(Signer::Own(generate::key(name, word, doc, build)?));
        return Some(PrivateKey { certified: None, signing, is_stand_in: build.given.is_some() });
    }
    let allowed = algorithms(doc, build);
    if build.given.is_some() {
        let allowed = allowed?;
        let signing = stand_in_keys::algorithm(allowed).and_then(stand_in_keys::signing).map(Signer::Fixed);
        return Some(PrivateKey { certified: None, signing, is_stand_in: true });
    }
    let (bytes, kid, place) = private_bytes(name, doc, build)?;
    let allowed = allowed?;
    // A TLS key need not be one that tokens are signed with, unless algorithms say so.
    let certified = tls::certificates_of(&bytes).and_then(|chain| Ok((chain, tls::private_key_of(&bytes)?))).ok();
    let signing = match (signing(&bytes, kid.as_deref(), allowed), doc.algorithms.is_some()) {
        (Ok(key), _) => Some(Signer::Fixed(Arc::new(key))),
        (Err(_), false) if certified.is_some() => None,
        (Err(why), _) => return bad_file(name, doc.from.span, &place, &why, build),
    };
    Some(PrivateKey { certified, signing, is_stand_in: false })
}

fn signing(bytes: &[u8], kid: Option<&str>, allowed: Algorithms) -> Result<SigningKey, String> {
    let key = jose::signing_key(bytes, kid)?.only(allowed)?;
    Ok(match kid {
        Some(kid) => key.named(kid),
        None => key,
    })
}

/// The bytes of a private key, its name in tokens, and where it was found.
fn private_bytes(name: &Name, doc: &KeyDoc, build: &mut Build<'_>) -> Option<(Bytes, Option<String>, PathBuf)> {
    let from = &doc.from.value;
    if let (Some(secret), None, None) = (&from.secret, &from.file, &from.jwks_file) {
        let kid = kid_of(doc, build)?;
        let secret_name = PathBuf::from(format!("secret {}", secret.name));
        let bytes = Bytes::copy_from_slice(secret_of(secret, build)?.expose());
        return Some((bytes, kid, secret_name));
    }
    let (path, at, kid) = source_of(doc, build)?;
    let bytes = match build.around.resources.outside.read_secret(&path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(why) => return no_file(name, at, &path, &why, build),
    };
    if tls::is_readable_by_others(&path) {
        let message = format!("{}: everybody on this machine may read this key", path.display());
        let help = "let only the gateway's user and its group read it: `chmod 640`";
        build.diags.push(Diagnostic::warning("policy.open_key", name.span, message).with_help(help));
    }
    Some((bytes, kid, path))
}

/// The file of a key and where it is written, and the name that the key has in tokens.
fn source_of(doc: &KeyDoc, build: &mut Build<'_>) -> Option<(PathBuf, Span, Option<String>)> {
    let kid = kid_of(doc, build);
    let from = &doc.from.value;
    match (&from.file, &from.jwks_file, &from.secret) {
        (Some(file), None, None) | (None, Some(file), None) => Some((build.path_of(file)?, file.span(), kid?)),
        _ => {
            let help = "write `from: { file: keys/NAME.pem }`";
            refuse(doc.from.span, "a key of this kind is kept in a file", help, build)
        }
    }
}

fn kid_of(doc: &KeyDoc, build: &mut Build<'_>) -> Option<Option<String>> {
    let Some(kid) = doc.from.value.kid.as_ref().or(doc.kid.as_ref()) else { return Some(None) };
    let kid = build.context().literal(kid)?;
    Some(Some(kid).filter(|kid| kid != "auto"))
}

/// The file of certificates, and where it is written.
fn file_of(doc: &KeyDoc, build: &mut Build<'_>) -> Option<(PathBuf, Span)> {
    let algorithms = doc.algorithms.as_ref().map(|algorithms| algorithms.span);
    if let Some(at) = algorithms.or(doc.kid.as_ref().map(Literal::span)) {
        return refuse(at, "`algorithms` and `kid` go with keys, not with certificates", "remove them", build);
    }
    let from = &doc.from.value;
    match (&from.file, &from.secret, &from.jwks_file) {
        (Some(file), None, None) => Some((build.path_of(file)?, file.span())),
        _ => {
            let help = "write `from: { file: keys/NAME.pem }`";
            refuse(doc.from.span, "a key of this kind is kept in a PEM file", help, build)
        }
    }
}

fn refuse<T>(at: Span, message: &str, help: &str, build: &mut Build<'_>) -> Option<T> {
    build.diags.push(Diagnostic::error("policy.bad_key", at, message).with_help(help));
    None
}

/// A file that is not there, or that cannot be read.
fn no_file<T>(name: &Name, at: Span, path: &Path, why: &str, build: &mut Build<'_>) -> Option<T> {
    let message = format!("key `{}` cannot be read: {}: {why}", name.name, path.display());
    let help = "put the file there, readable for the gateway's user, or correct the path, which begins at gateway.yaml";
    refuse(at, &message, help, build)
}

/// A file that holds something else.
fn bad_file<T>(name: &Name, at: Span, path: &Path, why: &str, build: &mut Build<'_>) -> Option<T> {
    let message = format!("key `{}`: {}: {why}", name.name, path.display());
    let help =
        "PEM text: certificates, a public key, or a private key; for `public` and `private` also a JWK or JWK Set";
    refuse(at, &message, help, build)
}

#[cfg(test)]
#[path = "key/tests.rs"]
mod tests;
