//! `key:`, key material under a name with its algorithm fixed. This version knows symmetric keys.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::resources::{Resources, SymmetricKey};
use crate::policy::resources::{Build, ResourceKind};
use crate::source::{Diagnostic, Name, Node, OneOrMany, read};

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
    /// A shared secret for HMAC.
    Symmetric,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct From {
    /// A `secret` document.
    secret: Name,
}

/// Least bytes of a key that is to sign with HS256 (RFC 7518 §3.2).
const HS256_BYTES_MIN: usize = 32;

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let key = key(name, node, build).map(std::sync::Arc::new);
    resources.keys.insert(name.name.as_str().into(), key);
}

fn key(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<SymmetricKey> {
    let doc: KeyDoc = read(node, None, "a key", build.diags)?;
    let KeyKind::Symmetric = doc.kind;
    let known = &build.around.resources.secrets;
    let material = match known.get(doc.from.secret.name.as_str()) {
        Some(secret) => secret.clone()?,
        None => return build.context().unknown_name("secret", &doc.from.secret, known.keys()),
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
