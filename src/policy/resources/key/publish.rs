//! Where public halves of keys are served: `publish: /.well-known/jwks.json`.

use std::sync::Arc;

use super::{KeyDoc, KeyKind, refuse};
use crate::compile::resources::{PrivateKey, Published, PublishedKeys, Resources, Signer};
use crate::jose::KeySet;
use crate::path::CanonicalPath;
use crate::policy::resources::Build;
use crate::source::{Diagnostic, Literal, Name};

/// Whether the key is of a kind that has no public half; it was reported then.
pub(super) fn is_refused(doc: &KeyDoc, build: &mut Build<'_>) -> bool {
    let Some(path) = doc.publish.as_ref().filter(|_| matches!(doc.kind, KeyKind::Symmetric | KeyKind::Certificates))
    else {
        return false;
    };
    let message = "only a public key, or the public half of a private one, is published";
    refuse::<()>(path.span(), message, "remove `publish`, or take a key of kind `private`", build).is_none()
}

/// Publishes keys that verify.
pub(super) fn public(
    name: &Name,
    doc: &KeyDoc,
    keys: Option<&Arc<KeySet>>,
    build: &mut Build<'_>,
    resources: &mut Resources,
) {
    if let (Some(path), Some(keys)) = (&doc.publish, keys) {
        put(name, path, PublishedKeys::Fixed(keys.clone()), build, resources);
    }
}

/// Publishes the half of a key that verifies.
pub(super) fn private(
    name: &Name,
    doc: &KeyDoc,
    key: Option<&PrivateKey>,
    build: &mut Build<'_>,
    resources: &mut Resources,
) {
    let (Some(path), Some(key)) = (&doc.publish, key) else { return };
    match &key.signing {
        Some(Signer::Own(own)) => put(name, path, PublishedKeys::Own(own.clone()), build, resources),
        Some(Signer::Fixed(signing)) => {
            if let Ok(verifying) = signing.verify_key() {
                let keys = PublishedKeys::Fixed(Arc::new(KeySet::of([verifying])));
                put(name, path, keys, build, resources);
            }
        }
        None => {
            let help = "take a key of RSA (2048 bits or more), P-256, P-384, P-521 or Ed25519, or remove `publish`";
            refuse::<()>(path.span(), "this key signs no tokens: nobody needs its public half", help, build)
                .unwrap_or_default();
        }
    }
}

fn put(name: &Name, path: &Literal, keys: PublishedKeys, build: &mut Build<'_>, resources: &mut Resources) {
    let Some(text) = build.context().literal(path) else { return };
    let is_plain = CanonicalPath::parse(&text).is_ok_and(|canonical| canonical.as_str() == text)
        && !text.contains(['{', '}', '*', ';', '?']);
    if !is_plain || text == "/" {
        let message = format!("`{text}` is no path that keys can be published on");
        let diagnostic = Diagnostic::error("policy.bad_path", path.span(), message);
        build.diags.push(diagnostic.with_help("write it as it is asked for: `publish: /.well-known/jwks.json`"));
        return;
    }
    resources.published.insert(name.name.as_str().into(), Published { path: text.into(), keys });
}
