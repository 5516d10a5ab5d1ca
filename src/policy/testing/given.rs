//! `given:` of a test: what stands in for the world outside of the gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::broker::given::{GivenRefresh, Plan};
use crate::policy::build::Parsed;
use crate::policy::resources::{Given, GivenKey, GivenKeys, GivenUser};
use crate::policy::testing::later;
use crate::policy::testing::stand_in::{StandIn, StandInDoc};
use crate::policy::testing::text::Names;
use crate::policy::testing::token::{GivenToken, TokenDoc};
use crate::source::{
    Diagnostic, Diagnostics, Entries, Entry, Literal, Name, Node, NodeValue, OneOrMany, read, suggest,
};

/// The moment at which a test's clock stands unless it says otherwise: 2026-01-01T00:00:00Z.
const CLOCK_UNIX_S: i64 = 1_767_225_600;
/// The seed of a test's random source unless it says otherwise.
const SEED: u64 = 1;
/// Keys of the contract that this version does not know yet.
const LATER: [&str; 2] = ["clients", "kerberos"];

/// Everything that is given to one case.
#[derive(Debug)]
pub(super) struct World {
    pub resources: Given,
    pub clock: Timestamp,
    pub seed: u64,
    pub upstream: Arc<[StandIn]>,
    /// Tokens by name, read as `${token.NAME}`.
    pub tokens: Vec<(String, GivenToken)>,
}

/// What stands in for the world outside.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GivenDoc {
    /// Where the clock stands: an RFC 3339 time.
    clock: Option<Literal>,
    /// Seed of random values.
    random: Option<u64>,
    /// Variables of the environment.
    env: Entries<String>,
    /// Entries of `list` documents.
    lists: Entries<OneOrMany<String>>,
    /// Values of `secret` documents.
    secrets: Entries<String>,
    /// Users of `users` documents, by name of the document.
    #[schemars(with = "Entries<Entries<UserDoc>>")]
    users: Entries<Entries<Node>>,
    /// Keys of `api_keys` documents, by name of the document.
    #[schemars(with = "Entries<Entries<KeyDoc>>")]
    api_keys: Entries<Entries<Node>>,
    /// How the URLs of providers' keys behave, by name of the `identity_provider`.
    #[schemars(with = "Entries<ProviderDoc>")]
    providers: Entries<Node>,
    /// Stored tokens, by name of the `oauth_session`; one that is not given nobody has connected.
    #[schemars(with = "Entries<SessionDoc>")]
    oauth_sessions: Entries<Node>,
    /// Tokens that the runner signs with keys that their issuer then has, read as `${token.NAME}`.
    #[schemars(with = "Entries<TokenDoc>")]
    tokens: Entries<Node>,
    /// `ok`: nothing of this version has a store that could be down.
    store: Option<Literal>,
    /// `ok`: counters live in memory.
    counters: Option<Literal>,
    /// Stand-ins for upstreams, in the order in which they are tried.
    #[schemars(with = "Vec<StandInDoc>")]
    upstream: Vec<Node>,
}

/// A provider of a test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProviderDoc {
    /// What comes of fetching its keys.
    keys: KeysWord,
}

/// A stored session of a test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SessionDoc {
    /// Without it there is one after the first refresh.
    #[serde(default)]
    access_token: Option<String>,
    /// Seconds from the beginning of the case; without it nobody knows.
    #[serde(default)]
    expires_in: Option<i64>,
    #[serde(default)]
    instance_url: Option<String>,
    #[serde(default)]
    account: Option<String>,
    /// What a refresh brings: `fails`, `invalid_grant`, or the members of the token endpoint's answer.
    #[serde(default)]
    refresh: Option<Node>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum KeysWord {
    Ok,
    /// There was never an answer.
    Down,
    /// The keys that serve are the old ones; a fetch gives those that tokens are signed with.
    Rotated,
}

/// A user of a test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserDoc {
    /// The password in clear text.
    password: String,
    #[serde(default)]
    groups: OneOrMany<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    /// A disabled user is refused like an unknown one.
    #[serde(default)]
    disabled: bool,
}

/// An API key of a test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyDoc {
    /// The key in clear text.
    value: String,
    #[serde(default)]
    plan: Option<String>,
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    groups: OneOrMany<String>,
    #[serde(default)]
    scopes: OneOrMany<String>,
    #[serde(default)]
    signing_secret: Option<String>,
}

/// A case's own `given` over the one that it shares: mappings are merged key by key, all else is replaced.
pub(super) fn merged(shared: Option<&Node>, own: Option<&Node>) -> Option<Node> {
    match (shared, own) {
        (Some(shared), Some(own)) => Some(over(shared, own)),
        (one, other) => other.or(one).cloned(),
    }
}

fn over(shared: &Node, own: &Node) -> Node {
    let (Some(below), Some(above)) = (shared.as_map(), own.as_map()) else { return own.clone() };
    let mut entries: Vec<Entry> = Vec::with_capacity(below.len() + above.len());
    for entry in below {
        match above.iter().find(|own| own.key == entry.key) {
            Some(own) => entries.push(Entry { value: over(&entry.value, &own.value), ..own.clone() }),
            None => entries.push(entry.clone()),
        }
    }
    entries.extend(above.iter().filter(|own| shared.get(&own.key).is_none()).cloned());
    Node::new(own.span(), NodeValue::Map(entries))
}

impl World {
    /// Reads a merged `given`; `own` is the case's part of it. Everything wrong with it is reported.
    pub fn read(node: Option<&Node>, own: Option<&Node>, parsed: &Parsed, diags: &mut Diagnostics) -> Option<World> {
        let doc = match node {
            Some(node) => read::<GivenDoc>(&later(node, "given", &LATER, diags), None, "`given`", diags)?,
            None => GivenDoc::default(),
        };
        works("store", doc.store.as_ref(), diags)?;
        works("counters", doc.counters.as_ref(), diags)?;
        let mut resources = Given::default();
        resources.env.extend(doc.env.into_iter().map(|(name, value)| (name.name, value)));
        for (name, entries) in doc.lists {
            known("list", "lists", &name, parsed, diags)?;
            resources.lists.insert(name.name, entries.0);
        }
        for (name, value) in doc.secrets {
            known("secret", "secrets", &name, parsed, diags)?;
            resources.secrets.insert(name.name, value);
        }
        for (name, users) in doc.users {
            known("users", "users", &name, parsed, diags)?;
            let users: Vec<_> = users.into_iter().map(|(user, node)| user_of(user, &node, diags)).collect();
            resources.users.insert(name.name, users.into_iter().collect::<Option<_>>()?);
        }
        for (name, keys) in doc.api_keys {
            known("api_keys", "api_keys", &name, parsed, diags)?;
            let keys: Vec<_> = keys.into_iter().map(|(id, node)| Some((id.name, key(&node, diags)?))).collect();
            resources.api_keys.insert(name.name, keys.into_iter().collect::<Option<_>>()?);
        }
        let is_own = own.is_some_and(|own| own.get("upstream").is_some());
        for (name, node) in doc.providers {
            known("identity_provider", "providers", &name, parsed, diags)?;
            let doc: ProviderDoc = read(&node, None, "a provider of a test", diags)?;
            let keys = match doc.keys {
                KeysWord::Ok => GivenKeys::Ok,
                KeysWord::Down => GivenKeys::Down,
                KeysWord::Rotated => GivenKeys::Rotated,
            };
            resources.providers.insert(name.name, keys);
        }
        for (name, node) in doc.oauth_sessions {
            known("oauth_session", "oauth_sessions", &name, parsed, diags)?;
            resources.sessions.insert(name.name, session(&node, diags)?);
        }
        let tokens: Vec<_> = doc.tokens.into_iter().map(|(name, node)| token(name, &node, parsed, diags)).collect();
        let tokens = tokens.into_iter().collect::<Option<Vec<_>>>()?;
        let mut names = Names::with_tokens(&tokens);
        let upstream: Vec<_> =
            doc.upstream.iter().map(|node| StandIn::read(node, is_own, parsed, &mut names, diags)).collect();
        Some(World {
            resources,
            clock: clock(doc.clock.as_ref(), diags)?,
            seed: doc.random.unwrap_or(SEED),
            upstream: upstream.into_iter().collect::<Option<_>>()?,
            tokens,
        })
    }

    /// Values that may stand in the test's file only.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let given = &self.resources;
        let keys = given.api_keys.values().flat_map(BTreeMap::values);
        let keys = keys.flat_map(|key| std::iter::once(&key.value).chain(&key.signing_secret));
        let passwords = given.users.values().flat_map(BTreeMap::values).map(|user| &user.password);
        let stored = given.sessions.values().filter_map(|session| session.access_token.as_ref());
        given.secrets.values().chain(keys).chain(passwords).chain(stored).map(String::as_str)
    }
}

fn session(node: &Node, diags: &mut Diagnostics) -> Option<Plan> {
    let doc: SessionDoc = read(node, None, "a session of a test", diags)?;
    let refresh = match doc.refresh.as_ref().map(|node| (node, node.as_text())) {
        None | Some((_, Some("fails"))) => GivenRefresh::Fails,
        Some((_, Some("invalid_grant"))) => GivenRefresh::InvalidGrant,
        Some((node, None)) if node.as_map().is_some() => GivenRefresh::Answer(node.to_json()),
        Some((node, _)) => {
            let message = "`refresh` is `fails`, `invalid_grant` or what the token endpoint answers";
            let diagnostic = Diagnostic::error("policy.bad_value", node.span(), message);
            diags.push(diagnostic.with_help("write `refresh: { access_token: t2, expires_in: 3600 }`"));
            return None;
        }
    };
    let SessionDoc { access_token, expires_in, instance_url, account, refresh: _ } = doc;
    Some(Plan { is_connected: true, access_token, expires_in_s: expires_in, instance_url, account, refresh })
}

/// `ok` or `down`; nothing can be down yet.
fn works(key: &str, word: Option<&Literal>, diags: &mut Diagnostics) -> Option<()> {
    let Some(word) = word else { return Some(()) };
    let diagnostic = match word.as_str() {
        "ok" => return Some(()),
        "down" => {
            let message = format!("`{key}: down` comes with a later version: nothing of this one could notice it");
            Diagnostic::error("policy.not_supported", word.span(), message).with_help("take it out for now")
        }
        other => {
            let message = format!("`{key}` is `ok` or `down`, got `{other}`");
            Diagnostic::error("policy.bad_value", word.span(), message).with_help("write `ok`, or leave it out")
        }
    };
    diags.push(diagnostic);
    None
}

/// A stand-in for something that no document declares is a mistake, not a wish.
fn known(kind: &str, key: &str, name: &Name, parsed: &Parsed, diags: &mut Diagnostics) -> Option<()> {
    let declared = || parsed.documents.resources.iter().filter(|doc| doc.kind.word == kind).map(|doc| &doc.name.name);
    if declared().any(|declared| *declared == name.name) {
        return Some(());
    }
    let message = format!("`given: {key}` names `{}`, and there is no `{kind}: {}`", name.name, name.name);
    let help = match suggest(&name.name, declared().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare `{kind}: {}` in any file, or take it out here", name.name),
    };
    diags.push(Diagnostic::error("policy.unknown_name", name.span, message).with_help(help));
    None
}

fn token(name: Name, node: &Node, parsed: &Parsed, diags: &mut Diagnostics) -> Option<(String, GivenToken)> {
    let doc: TokenDoc = read(node, None, "a token of a test", diags)?;
    known("identity_provider", "tokens", &doc.issuer, parsed, diags)?;
    Some((name.name, doc.into()))
}

fn clock(literal: Option<&Literal>, diags: &mut Diagnostics) -> Option<Timestamp> {
    let Some(literal) = literal else {
        return Some(Timestamp::from_second(CLOCK_UNIX_S).unwrap_or_default());
    };
    match literal.as_str().parse() {
        Ok(clock) => Some(clock),
        Err(_) => {
            let message = format!("`{}` is no time", literal.as_str());
            let diagnostic = Diagnostic::error("policy.bad_value", literal.span(), message);
            diags.push(diagnostic.with_help("write `2026-03-01T12:00:00Z`"));
            None
        }
    }
}

fn user_of(name: Name, node: &Node, diags: &mut Diagnostics) -> Option<(String, GivenUser)> {
    if name.name == "down" && node.as_text() == Some("true") {
        let message = "a directory that is down comes with LDAP directories in a later version";
        let help = "a `users` document cannot be down: take it out for now";
        diags.push(Diagnostic::error("policy.not_supported", name.span, message).with_help(help));
        return None;
    }
    let user = match node.as_text() {
        Some(password) => GivenUser { password: password.to_owned(), ..GivenUser::default() },
        None => {
            let doc: UserDoc = read(node, None, "a user of a test", diags)?;
            let UserDoc { password, groups, attributes, disabled } = doc;
            GivenUser { password, groups: groups.0, attributes, disabled }
        }
    };
    Some((name.name, user))
}

fn key(node: &Node, diags: &mut Diagnostics) -> Option<GivenKey> {
    if let Some(value) = node.as_text() {
        return Some(GivenKey { value: value.to_owned(), ..GivenKey::default() });
    }
    let doc: KeyDoc = read(node, None, "an API key of a test", diags)?;
    Some(GivenKey {
        value: doc.value,
        plan: doc.plan,
        client: doc.client,
        subject: doc.subject,
        groups: doc.groups.0,
        scopes: doc.scopes.0,
        signing_secret: doc.signing_secret,
    })
}
