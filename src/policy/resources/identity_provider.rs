//! `identity_provider:`, somebody else's identities: who issues tokens, with which keys, and what their claims mean.

use std::sync::Arc;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Clock;
use crate::compile::calling::CallingDoc;
use crate::compile::resources::{Resources, Signer};
use crate::engine::value::Text;
use crate::identity::key_sets::{RemoteKeys, Source, check_url};
use crate::identity::own_keys::OwnKey;
use crate::identity::provider::{ClaimNames, Keys, Provider, Settings};
use crate::jose::{self, Algorithms, KeySet, VerifyKey};
use crate::policy::resources::key::algorithms_of;
use crate::policy::resources::{Build, GivenKeys, ResourceKind};
use crate::policy::stand_in_keys;
use crate::source::{Diagnostic, Literal, Name, Node, OneOrMany, Span, Spanned, read};

pub const KIND: ResourceKind = ResourceKind {
    word: "identity_provider",
    summary: "Who issues tokens, with which keys, and what their claims mean.",
    schema: || schemars::schema_for!(ProviderDoc),
    build,
};

const EXACTLY_ONE: &str = "`keys` takes exactly one of `url`, `key`, `file` and `inline`";

/// Largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// An identity provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProviderDoc {
    /// Its name.
    #[allow(dead_code)] // the declaring key: read before
    identity_provider: Name,
    /// What it speaks.
    kind: ProviderKind,
    /// Compared with `iss` letter for letter.
    #[schemars(example = "https://idp.example.com")]
    issuer: Literal,
    /// The keys that its tokens are verified with. Without it, of `oidc`, those that the issuer's description names
    /// (OpenID Connect Discovery §4).
    #[serde(default)]
    keys: Option<Spanned<KeysDoc>>,
    /// Algorithms that count. Without it RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA; with a shared secret
    /// HS256 HS384 HS512.
    #[serde(default)]
    algorithms: Option<Spanned<OneOrMany<Literal>>>,
    /// Where the parts of an identity stand: names of claims, or JSON pointers such as `/realm_access/roles`.
    #[serde(default)]
    claims: ClaimsDoc,
    /// What tokens for us name in `aud`: one must match. A step may say its own.
    #[serde(default)]
    audience: Option<OneOrMany<Literal>>,
    /// TLS of its URLs.
    #[serde(default)]
    tls: Option<Spanned<CallingDoc>>,
    /// Its URLs may lead to private addresses, also where its description names them: `true`, or networks.
    #[serde(default)]
    allow_private: Option<OneOrMany<Literal>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum ProviderKind {
    /// OpenID Connect.
    Oidc,
    /// Whoever signs JWTs.
    Jwt,
}

/// Exactly one of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeysDoc {
    /// Where they are fetched from, in the background and again before they are old: `https://`, or `http://` on this
    /// machine.
    #[serde(default)]
    url: Option<Literal>,
    /// A `key` of kind `public`, `symmetric` or `private` (its public half).
    #[serde(default)]
    key: Option<Name>,
    /// A JWK Set in a file.
    #[serde(default)]
    file: Option<Literal>,
    /// A JWK Set, or one JWK, written out. Public keys only.
    #[serde(default)]
    inline: Option<Node>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ClaimsDoc {
    /// Whom the token speaks of; `sub` without it.
    subject: Option<Literal>,
    /// A list of texts; `groups` without it.
    groups: Option<Literal>,
    /// Words between spaces, or a list; `scope` without it.
    scopes: Option<Literal>,
    /// The application; `azp`, or else `client_id`, without it.
    client: Option<Literal>,
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let provider = provider(name, node, build).map(Arc::new);
    resources.providers.insert(name.name.as_str().into(), provider);
}

fn provider(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<Provider> {
    let doc: ProviderDoc = read(node, None, "an identity provider", build.diags)?;
    let issuer = issuer(&doc.issuer, build);
    let claims = claim_names(&doc.claims, build);
    let audiences: Option<Vec<Text>> = match &doc.audience {
        None => Some(Vec::new()),
        Some(list) => {
            let mut context = build.context();
            list.iter().map(|literal| context.literal(literal).map(Text::from)).collect()
        }
    };
    let wanted = match &doc.algorithms {
        Some(words) => algorithms_of(&words.value, build).map(Some),
        None => Some(None),
    };
    let tls = match &doc.tls {
        Some(tls) => CallingDoc::calling(tls, &mut build.context()).map(Some),
        None => Some(None),
    };
    let allow_private = networks(&doc.allow_private, build);
    let url = remote(name, &doc, issuer.as_deref().unwrap_or_default(), build);
    let (issuer, wanted) = (issuer?, wanted?);
    let (keys, algorithms) = match url {
        Ok(None) => fixed(&doc, wanted, build)?,
        Ok(Some((url, discovery))) => {
            let source = Source { url, discovery, tls: tls?, allow_private: allow_private? };
            let algorithms = wanted.unwrap_or_else(|| Algorithms::PUBLIC.into());
            if !algorithms.and(Algorithms::SYMMETRIC.into()).is_empty() {
                let span = doc.algorithms.as_ref().map_or(name.span, |words| words.span);
                let message = "a shared secret is never fetched: HS256, HS384 and HS512 need a `key`";
                return refuse(span, message, "write `keys: { key: NAME }`, or take them out", build);
            }
            (fetched(name, &source, algorithms, build)?, algorithms)
        }
        Err(Refused) => return None,
    };
    Some(Provider::new(Settings {
        name: name.name.as_str().into(),
        issuer: issuer.into(),
        keys,
        algorithms,
        audiences: audiences?.into(),
        claims: claims?,
    }))
}

fn issuer(literal: &Literal, build: &mut Build<'_>) -> Option<String> {
    let issuer = build.context().literal(literal)?;
    if issuer.is_empty() {
        let message = "an identity provider has an issuer: what `iss` of its tokens says";
        return refuse(literal.span(), message, "write `issuer: https://idp.example.com`", build);
    }
    Some(issuer)
}

/// Something was wrong and has been reported.
struct Refused;

/// A URL, and the issuer that its answer has to name where it is a description.
type Address = (String, Option<Text>);

/// Where the keys are fetched from; `None` where they stand in files.
fn remote(name: &Name, doc: &ProviderDoc, issuer: &str, build: &mut Build<'_>) -> Result<Option<Address>, Refused> {
    let url = doc.keys.as_ref().and_then(|keys| keys.value.url.as_ref());
    if let (Some(keys), Some(_)) = (&doc.keys, url) {
        let KeysDoc { key, file, inline, url: _ } = &keys.value;
        if key.is_some() || file.is_some() || inline.is_some() {
            refuse::<()>(keys.span, EXACTLY_ONE, "keep one of them", build);
            return Err(Refused);
        }
    }
    let (url, span, discovery) = match (url, &doc.keys, doc.kind) {
        (Some(url), ..) => (build.context().literal(url).ok_or(Refused)?, url.span(), None),
        (None, Some(_), _) => return Ok(None),
        (None, None, ProviderKind::Oidc) => {
            let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            (url, doc.issuer.span(), Some(Text::from(issuer)))
        }
        (None, None, ProviderKind::Jwt) => {
            let help = "write `keys: { url: https://idp.example.com/jwks }`, `{ file: ... }`, `{ key: ... }` or `{ inline: ... }`";
            refuse::<()>(name.span, "nothing says which keys its tokens are verified with", help, build);
            return Err(Refused);
        }
    };
    if let Err(why) = check_url(&url) {
        refuse::<()>(span, &why, "keys are fetched over `https://`, or over `http://` on this machine", build);
        return Err(Refused);
    }
    Ok(Some((url, discovery)))
}

/// `true` is every network.
pub(super) fn networks(list: &Option<OneOrMany<Literal>>, build: &mut Build<'_>) -> Option<Arc<[IpNet]>> {
    let mut networks = Vec::new();
    for literal in list.iter().flat_map(|list| list.iter()) {
        let text = build.context().literal(literal)?;
        match (text.as_str(), text.parse::<IpNet>()) {
            ("true", _) => networks.extend(["0.0.0.0/0", "::/0"].iter().filter_map(|all| all.parse::<IpNet>().ok())),
            ("false", _) => {}
            (_, Ok(network)) => networks.push(network),
            _ => {
                let message = format!("`{text}` is no network");
                return refuse(literal.span(), &message, "write `10.0.0.0/8`, or `true`", build);
            }
        }
    }
    Some(networks.into())
}

/// Keys that are fetched in the background; in a test, those of the runner.
fn fetched(name: &Name, source: &Source, algorithms: Algorithms, build: &mut Build<'_>) -> Option<Keys> {
    let Some(given) = build.given else {
        let now_s = Clock::system().wall().as_second();
        return Some(Keys::Remote(build.values.key_sets.of(source, now_s)));
    };
    let own = Arc::new(stand_in(Some(algorithms))?);
    let old = || {
        let algorithm = stand_in_keys::algorithm(algorithms)?;
        Some(Arc::new(KeySet::of([stand_in_keys::foreign(algorithm)?.verify_key().ok()?])))
    };
    let keys = match given.providers.get(&name.name).copied().unwrap_or_default() {
        GivenKeys::Ok => RemoteKeys::given(Some(own.clone()), Ok(own)),
        GivenKeys::Down => RemoteKeys::given(None, Err("down in this test".to_owned())),
        GivenKeys::Rotated => RemoteKeys::given(old(), Ok(own)),
    };
    Some(Keys::Remote(Arc::new(keys)))
}

/// Keys that stand in files, and the algorithms that count with them.
fn fixed(doc: &ProviderDoc, wanted: Option<Algorithms>, build: &mut Build<'_>) -> Option<(Keys, Algorithms)> {
    let from = doc.keys.as_ref()?;
    if let Some(own) = own(from, build) {
        let algorithms = wanted.unwrap_or_else(|| std::iter::once(own.algorithm()).collect());
        if !algorithms.has(own.algorithm()) {
            return no_key_goes_with(algorithms, doc, from.span, build);
        }
        return Some((Keys::Own(own), algorithms));
    }
    let keys = keys(from, wanted, build)?;
    let is_shared = keys.keys().iter().any(|key| key.is_symmetric());
    let usual: &[_] = if is_shared { Algorithms::SYMMETRIC } else { Algorithms::PUBLIC };
    let algorithms = wanted.unwrap_or_else(|| usual.into());
    let go_together = keys.keys().iter().any(|key| !key.algorithms().and(algorithms).is_empty());
    if !go_together {
        return no_key_goes_with(algorithms, doc, from.span, build);
    }
    Some((Keys::Fixed(Arc::new(keys)), algorithms))
}

fn no_key_goes_with<T>(algorithms: Algorithms, doc: &ProviderDoc, span: Span, build: &mut Build<'_>) -> Option<T> {
    let span = doc.algorithms.as_ref().map_or(span, |words| words.span);
    let message = format!("none of these keys goes with {algorithms}: no token could be verified");
    refuse(span, &message, "name algorithms that go with the keys: `algorithms: [RS256]`", build)
}

/// The key that is named, where the gateway makes it itself and exchanges it.
fn own(doc: &Spanned<KeysDoc>, build: &Build<'_>) -> Option<Arc<OwnKey>> {
    let KeysDoc { key: Some(name), file: None, inline: None, url: None } = &doc.value else { return None };
    match &build.around.resources.private_keys.get(&name.name)?.as_ref()?.signing {
        Some(Signer::Own(own)) => Some(own.key.clone()),
        _ => None,
    }
}

fn claim_names(doc: &ClaimsDoc, build: &mut Build<'_>) -> Option<ClaimNames> {
    let usual = ClaimNames::default();
    let mut text = |literal: &Option<Literal>, usual: String| match literal {
        Some(literal) => build.context().literal(literal),
        None => Some(usual),
    };
    Some(ClaimNames {
        subject: text(&doc.subject, usual.subject)?,
        groups: text(&doc.groups, usual.groups)?,
        scopes: text(&doc.scopes, usual.scopes)?,
        client: match &doc.client {
            Some(_) => vec![text(&doc.client, String::new())?],
            None => usual.client,
        },
    })
}

fn keys(doc: &Spanned<KeysDoc>, wanted: Option<Algorithms>, build: &mut Build<'_>) -> Option<KeySet> {
    match (&doc.value.key, &doc.value.file, &doc.value.inline) {
        (Some(name), None, None) => of_key(name, build),
        (None, Some(file), None) => {
            let path = build.path_of(file)?;
            if build.given.is_some() {
                return stand_in(wanted);
            }
            let bytes = match build.around.resources.outside.read(&path, FILE_BYTES_MAX) {
                Ok(bytes) => bytes,
                Err(why) => {
                    let message = format!("the keys cannot be read: {}: {why}", path.display());
                    let help = "put the file there, readable for the gateway's user, or correct the path, which begins \
                                at gateway.yaml";
                    return refuse(file.span(), &message, help, build);
                }
            };
            match KeySet::parse(&bytes, false) {
                Ok(keys) => usable(keys, file.span(), build),
                Err(why) => {
                    let message = format!("{}: {why}", path.display());
                    refuse(file.span(), &message, "the file is a JWK Set: `{\"keys\": [...]}` (RFC 7517)", build)
                }
            }
        }
        (None, None, Some(node)) => match KeySet::parse(node.to_json().to_string().as_bytes(), false) {
            Ok(keys) => {
                let keys = usable(keys, node.span(), build)?;
                // What stands in the file itself stays; tests have a key of their own beside it.
                match build.given {
                    Some(_) => Some(stand_in(wanted).map_or(keys.clone(), |own| keys.with(&own))),
                    None => Some(keys),
                }
            }
            Err(why) => refuse(node.span(), &why, "write a JWK Set: `inline: { keys: [{ kty: EC, ... }] }`", build),
        },
        _ => refuse(doc.span, EXACTLY_ONE, "write `keys: { file: keys/idp.json }`", build),
    }
}

fn stand_in(wanted: Option<Algorithms>) -> Option<KeySet> {
    let algorithm = stand_in_keys::algorithm(wanted.unwrap_or_else(|| Algorithms::PUBLIC.into()))?;
    Some(KeySet::of([stand_in_keys::signing(algorithm)?.verify_key().ok()?]))
}

/// A `key` document's keys.
fn of_key(name: &Name, build: &mut Build<'_>) -> Option<KeySet> {
    let known = build.around.resources;
    let by_name = name.name.as_str();
    if let Some(keys) = known.public_keys.get(by_name) {
        return keys.as_deref().cloned();
    }
    if let Some(key) = known.private_keys.get(by_name) {
        let Some(Signer::Fixed(signing)) = &key.as_ref()?.signing else {
            let message = format!("key `{by_name}` signs no tokens");
            return refuse(name.span, &message, "name a key of kind `public`", build);
        };
        return signing.verify_key().ok().map(|key| KeySet::of([key]));
    }
    if let Some(key) = known.keys.get(by_name) {
        let key = key.as_ref()?;
        let allowed: Algorithms = match key.algorithms.is_empty() {
            true => Algorithms::SYMMETRIC.into(),
            false => key.algorithms.iter().filter_map(|word| jose::Algorithm::of(word)).collect(),
        };
        return match VerifyKey::symmetric(key.kid.clone(), key.material.expose(), allowed) {
            Ok(key) => Some(KeySet::of([key])),
            Err(why) => {
                let message = format!("key `{by_name}`: {why}");
                let help = "take 32 random bytes: `openssl rand -base64 32`; in a test, a `given` secret of 32 letters";
                refuse(name.span, &message, help, build)
            }
        };
    }
    let all: Vec<Text> =
        [known.public_keys.keys().cloned().collect::<Vec<_>>(), known.keys.keys().cloned().collect()].concat();
    build.context().unknown_name("key", name, all.iter())
}

/// A set with at least one key; what was left out of it is a warning.
fn usable(keys: KeySet, span: Span, build: &mut Build<'_>) -> Option<KeySet> {
    for why in keys.ignored() {
        let diagnostic = Diagnostic::warning("policy.ignored_key", span, format!("{why}: it is left out"));
        build.diags.push(diagnostic.with_help("take the key out of the set, or mend it"));
    }
    if keys.keys().is_empty() {
        return refuse(span, "there is no key that tokens could be verified with", "add one", build);
    }
    Some(keys)
}

fn refuse<T>(span: Span, message: &str, help: &str, build: &mut Build<'_>) -> Option<T> {
    build.diags.push(Diagnostic::error("policy.bad_provider", span, message).with_help(help));
    None
}
