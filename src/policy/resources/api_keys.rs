//! `api_keys:`, applications and their keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::resources::Resources;
use crate::engine::value::Text;
use crate::identity::api_keys::{ApiKeys, Entry, KeyHash, Status};
use crate::policy::resources::{Build, GivenKey, ResourceKind};
use crate::secret::Secret;
use crate::source::{Diagnostic, Literal, Name, Node, OneOrMany, Span, read};

pub const KIND: ResourceKind = ResourceKind {
    word: "api_keys",
    summary: "Applications and the hashes of their keys.",
    schema: || schemars::schema_for!(ApiKeysDoc),
    build,
};

/// A set of API keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApiKeysDoc {
    /// Its name.
    #[allow(dead_code)] // the declaring key: read before
    api_keys: Name,
    /// The keys. Several may share a client, which is how keys are rotated.
    #[schemars(with = "Vec<EntryDoc>")]
    entries: Vec<Node>,
}

/// One key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntryDoc {
    /// Name of the key, unique in the set.
    id: Literal,
    /// `sha256:` and the hex SHA-256 of the key. The key itself never stands in a file.
    hash: Literal,
    /// The application.
    #[serde(default)]
    client: Option<Literal>,
    /// Whom it acts for; the client without it.
    #[serde(default)]
    subject: Option<Literal>,
    /// Read as `auth.groups`.
    #[serde(default)]
    groups: Option<OneOrMany<Literal>>,
    /// Read as `auth.scopes`.
    #[serde(default)]
    scopes: Option<OneOrMany<Literal>>,
    /// A word for limits and prices, read as `api_key.plan`.
    #[serde(default)]
    plan: Option<Literal>,
    /// Further texts, read as `auth.attributes.NAME`.
    #[serde(default)]
    attributes: BTreeMap<String, Literal>,
    /// First moment it is good for: a date or RFC 3339 time.
    #[serde(default)]
    not_before: Option<Literal>,
    /// First moment it is no longer good for.
    #[serde(default)]
    expires: Option<Literal>,
    /// Only an active one is taken.
    #[serde(default)]
    status: StatusWord,
    /// Key for `verify_security_hash`.
    #[serde(default)]
    signing_secret: Option<SigningSecret>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum StatusWord {
    #[default]
    Active,
    Suspended,
    Revoked,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SigningSecret {
    /// A `secret` document.
    secret: Name,
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let keys = keys(name, node, build).map(Arc::new);
    resources.api_keys.insert(name.name.as_str().into(), keys);
}

fn keys(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<ApiKeys> {
    let given = build.given.and_then(|given| given.api_keys.get(&name.name));
    let entries = match given {
        Some(given) => given.iter().map(|(id, key)| given_entry(id, key)).collect(),
        None => {
            let doc: ApiKeysDoc = read(node, None, "a set of API keys", build.diags)?;
            let entries: Vec<Option<Entry>> = doc.entries.iter().map(|node| entry(node, build)).collect();
            entries.into_iter().collect::<Option<Vec<_>>>()?
        }
    };
    match ApiKeys::new(&name.name, entries) {
        Ok(keys) => Some(keys),
        Err(why) => {
            build.diags.push(Diagnostic::error("policy.bad_value", name.span, why));
            None
        }
    }
}

fn given_entry(id: &str, key: &GivenKey) -> Entry {
    let texts = |list: &[String]| list.iter().map(|text| Text::from(text.as_str())).collect();
    let client = key.client.as_deref().unwrap_or(id);
    Entry {
        id: id.into(),
        hash: KeyHash::of(key.value.as_bytes()),
        client: client.into(),
        subject: key.subject.as_deref().unwrap_or(client).into(),
        groups: texts(&key.groups),
        scopes: texts(&key.scopes),
        plan: key.plan.as_deref().map(Text::from),
        attributes: BTreeMap::new(),
        not_before_unix_s: None,
        expires_at_unix_s: None,
        status: Status::Active,
        signing_secret: key.signing_secret.clone().map(Secret::from),
    }
}

fn entry(node: &Node, build: &mut Build<'_>) -> Option<Entry> {
    let doc: EntryDoc = read(node, None, "an API key", build.diags)?;
    // All of it is read before anything is given up: no mistake hides another.
    let hash = hash(&doc.hash, build);
    let id = build.context().literal(&doc.id);
    let (client, subject) = (optional(&doc.client, build), optional(&doc.subject, build));
    let signing_secret = match &doc.signing_secret {
        None => Some(None),
        Some(SigningSecret { secret }) => {
            let known = &build.around.resources.secrets;
            match known.get(secret.name.as_str()) {
                Some(value) => value.clone().map(Some),
                None => build.context().unknown_name("secret", secret, known.keys()),
            }
        }
    };
    let mut cx = build.context();
    let attributes = doc.attributes.iter().map(|(name, value)| (name.as_str().into(), cx.literal(value)));
    let attributes: Vec<(Text, Option<String>)> = attributes.collect();
    let attributes = attributes.into_iter().map(|(name, value)| Some((name, value?.into())));
    let attributes: Option<BTreeMap<Text, Text>> = attributes.collect();
    let (groups, scopes, plan) = (texts(&doc.groups, build), texts(&doc.scopes, build), optional(&doc.plan, build));
    let (not_before, expires) = (time(&doc.not_before, build), time(&doc.expires, build));
    let id = id?;
    let client = client?.unwrap_or_else(|| id.as_str().into());
    Some(Entry {
        id: id.into(),
        hash: hash?,
        subject: subject?.unwrap_or_else(|| client.clone()),
        client,
        groups: groups?,
        scopes: scopes?,
        plan: plan?,
        attributes: attributes?,
        not_before_unix_s: not_before?,
        expires_at_unix_s: expires?,
        status: match doc.status {
            StatusWord::Active => Status::Active,
            StatusWord::Suspended => Status::Suspended,
            StatusWord::Revoked => Status::Revoked,
        },
        signing_secret: signing_secret?,
    })
}

fn hash(literal: &Literal, build: &mut Build<'_>) -> Option<KeyHash> {
    let text = build.context().literal(literal)?;
    if !text.starts_with("sha256:") {
        let diagnostic =
            Diagnostic::error("policy.key_in_clear", literal.0.span(), "a key never stands in a file in clear text")
                .with_help("write `hash: \"sha256:HEX\"`: printf %s KEY | sha256sum");
        build.diags.push(diagnostic);
        return None;
    }
    match KeyHash::parse(&text) {
        Ok(hash) => Some(hash),
        Err(why) => refuse(literal.0.span(), why, build),
    }
}

fn optional(literal: &Option<Literal>, build: &mut Build<'_>) -> Option<Option<Text>> {
    match literal {
        None => Some(None),
        Some(literal) => build.context().literal(literal).map(|text| Some(text.into())),
    }
}

fn texts(list: &Option<OneOrMany<Literal>>, build: &mut Build<'_>) -> Option<Vec<Text>> {
    let mut context = build.context();
    let texts = list.iter().flat_map(|list| list.iter()).map(|literal| context.literal(literal).map(Text::from));
    let texts: Vec<_> = texts.collect();
    texts.into_iter().collect()
}

/// A date (its first moment, UTC) or an RFC 3339 time, as Unix seconds.
fn time(literal: &Option<Literal>, build: &mut Build<'_>) -> Option<Option<i64>> {
    let Some(literal) = literal else { return Some(None) };
    let text = build.context().literal(literal)?;
    let whole = if text.len() == "2026-01-01".len() { format!("{text}T00:00:00Z") } else { text.clone() };
    match whole.parse::<Timestamp>() {
        Ok(time) => Some(Some(time.as_second())),
        Err(_) => {
            let message = format!("`{text}` is no date: write `2027-01-01` or `2027-01-01T12:00:00Z`");
            refuse(literal.0.span(), message, build)
        }
    }
}

fn refuse<T>(span: Span, message: String, build: &mut Build<'_>) -> Option<T> {
    build.diags.push(Diagnostic::error("policy.bad_value", span, message));
    None
}
