//! Tokens of a test: signed by the runner with keys that their issuer has in the test and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::engine::value::Value;
use crate::identity::provider::Provider;
use crate::jose::Algorithm;
use crate::policy::build::{Environment, Parsed};
use crate::policy::resources::{self, Given};
use crate::policy::stand_in_keys;
use crate::policy::testing::case::Case;
use crate::policy::testing::given::World;
use crate::policy::testing::judge::Problem;
use crate::source::{Diagnostics, DurationValue, Name, Node, OneOrMany};

/// How long a token counts unless it says otherwise.
const LIFETIME: Duration = Duration::from_secs(300);
/// How far beyond any leeway a token lies that has expired or does not count yet, in seconds.
const BEYOND_S: i64 = 3600;

/// A token of a test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenDoc {
    /// Name of the `identity_provider` that issues it.
    pub issuer: Name,
    /// What `aud` says; the first of the provider's audiences without it.
    #[serde(default)]
    audience: Option<OneOrMany<String>>,
    /// Whom it speaks of; without it the claim is missing.
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    scopes: OneOrMany<String>,
    #[serde(default)]
    client: Option<String>,
    /// Further claims; they also replace those that the runner makes. `null` takes one out.
    #[serde(default)]
    claims: Option<Node>,
    /// How long it counts from the beginning of the case; 5m without it.
    #[serde(default)]
    lifetime: Option<DurationValue>,
    /// What `typ` of its header says; `JWT` without it.
    #[serde(default, rename = "type")]
    token_type: Option<String>,
    /// What is wrong with it.
    #[serde(default, rename = "break")]
    broken: Option<Break>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Break {
    /// The signature is that of another text.
    Signature,
    /// It is not signed, and says so.
    AlgorithmNone,
    /// Signed with a key that the provider does not have.
    UnknownKey,
    /// Its `exp` is an hour ago.
    Expired,
    /// Its `nbf` is in an hour.
    NotYet,
    /// Its `exp` is a text.
    WrongTypeExp,
}

/// A token of a test, ready to be made.
#[derive(Debug)]
pub(super) struct GivenToken {
    issuer: String,
    audience: Option<Vec<String>>,
    subject: Option<String>,
    scopes: Vec<String>,
    client: Option<String>,
    claims: Map<String, Json>,
    lifetime: Duration,
    token_type: String,
    broken: Option<Break>,
}

impl From<TokenDoc> for GivenToken {
    fn from(doc: TokenDoc) -> Self {
        let claims = doc.claims.map(|node| node.to_json());
        GivenToken {
            issuer: doc.issuer.name,
            audience: doc.audience.map(|list| list.0),
            subject: doc.subject,
            scopes: doc.scopes.0,
            client: doc.client,
            claims: claims.and_then(|claims| claims.as_object().cloned()).unwrap_or_default(),
            lifetime: doc.lifetime.map_or(LIFETIME, |lifetime| lifetime.duration),
            token_type: doc.token_type.unwrap_or_else(|| "JWT".to_owned()),
            broken: doc.broken,
        }
    }
}

/// Signs the tokens of cases, with the providers as each case has them.
#[derive(Default)]
pub(super) struct Mint {
    known: Vec<(Given, Vec<Arc<Provider>>)>,
}

impl Mint {
    /// The tokens of a case in their order.
    pub fn tokens(
        &mut self,
        parsed: &Parsed,
        environment: &Environment,
        case: &Case,
    ) -> Result<Vec<Value>, Box<Problem>> {
        let made = self.made(parsed, environment, &case.world);
        made.map_err(|why| Box::new(Problem::of_case(case.span, "tokens that can be signed", why)))
    }

    /// The error says which of them cannot be made.
    fn made(&mut self, parsed: &Parsed, environment: &Environment, world: &World) -> Result<Vec<Value>, String> {
        if world.tokens.is_empty() {
            return Ok(Vec::new());
        }
        let providers = self.providers(parsed, environment, &world.resources);
        let now_s = world.clock.as_second();
        let made = world.tokens.iter().map(|(name, token)| {
            let provider = providers.iter().find(|provider| provider.name() == token.issuer);
            let provider = provider.ok_or_else(|| format!("`{}` does not load", token.issuer))?;
            token
                .sign(provider, now_s)
                .map(Value::text)
                .ok_or_else(|| format!("token `{name}`: the tests have no key that `{}` verifies with", token.issuer))
        });
        made.collect()
    }

    fn providers(&mut self, parsed: &Parsed, environment: &Environment, given: &Given) -> Vec<Arc<Provider>> {
        if let Some((_, known)) = self.known.iter().find(|(known, _)| known == given) {
            return known.clone();
        }
        // What does not load is told where the services are compiled.
        let (resources, _) = resources::build(parsed, environment, Some(given), None, &mut Diagnostics::new());
        let providers: Vec<_> = resources.providers.iter().filter_map(|(_, provider)| provider.clone()).collect();
        self.known.push((given.clone(), providers.clone()));
        providers
    }
}

impl GivenToken {
    fn sign(&self, provider: &Provider, now_s: i64) -> Option<String> {
        let payload = Json::Object(self.payload(provider, now_s)).to_string();
        let mut header = Map::new();
        header.insert("typ".into(), self.token_type.as_str().into());
        if self.broken == Some(Break::AlgorithmNone) {
            header.insert("alg".into(), "none".into());
            let text = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
            return Some(format!("{}.{}.", text(&Json::Object(header).to_string()), text(&payload)));
        }
        let token = self.sign_with_own(provider, &header, &payload)?;
        if self.broken != Some(Break::Signature) {
            return Some(token);
        }
        let other = self.sign_with_own(provider, &header, &format!("{payload} "))?;
        let (signed, _) = token.rsplit_once('.')?;
        Some(format!("{signed}.{}", other.rsplit_once('.')?.1))
    }

    fn sign_with_own(&self, provider: &Provider, header: &Map<String, Json>, payload: &str) -> Option<String> {
        let keys = provider.keys();
        for key in keys.iter().flat_map(|keys| keys.keys()) {
            for algorithm in key.algorithms().and(provider.algorithms()).iter() {
                if key.is_symmetric() {
                    let broken = self.broken == Some(Break::UnknownKey);
                    let kid = if broken { Some("unknown") } else { key.kid() };
                    return with_secret(|text| key.mac(algorithm, text), algorithm, kid, header, payload);
                }
                let own = stand_in_keys::signing(algorithm)?;
                if own.verify_key().is_ok_and(|own| own.identity() == key.identity()) {
                    let unknown = self.broken == Some(Break::UnknownKey);
                    let signing = if unknown { stand_in_keys::foreign(algorithm)? } else { own };
                    return signing.sign(algorithm, header.clone(), payload.as_bytes()).ok();
                }
            }
        }
        // Keys that no fetch has brought yet.
        provider.remote()?;
        let algorithm = stand_in_keys::algorithm(provider.algorithms())?;
        let unknown = self.broken == Some(Break::UnknownKey);
        let signing = if unknown { stand_in_keys::foreign(algorithm)? } else { stand_in_keys::signing(algorithm)? };
        signing.sign(algorithm, header.clone(), payload.as_bytes()).ok()
    }

    fn payload(&self, provider: &Provider, now_s: i64) -> Map<String, Json> {
        let names = provider.claim_names();
        let (issued_s, lifetime_s) = match self.broken {
            Some(Break::Expired) => (now_s - 2 * BEYOND_S, BEYOND_S),
            _ => (now_s, i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX)),
        };
        let mut claims = Map::new();
        claims.insert("iss".into(), provider.issuer().into());
        match &self.audience {
            Some(list) if list.len() == 1 => claims.insert("aud".into(), list.first().cloned().into()),
            Some(list) => claims.insert("aud".into(), list.clone().into()),
            None => provider.audiences().first().and_then(|first| claims.insert("aud".into(), (&**first).into())),
        };
        claims.insert("iat".into(), issued_s.into());
        let end_s = issued_s.saturating_add(lifetime_s);
        let end = if self.broken == Some(Break::WrongTypeExp) { json!(end_s.to_string()) } else { json!(end_s) };
        claims.insert("exp".into(), end);
        if self.broken == Some(Break::NotYet) {
            claims.insert("nbf".into(), (now_s + BEYOND_S).into());
        }
        if let Some(subject) = &self.subject {
            put(&mut claims, &names.subject, subject.as_str().into());
        }
        if !self.scopes.is_empty() {
            put(&mut claims, &names.scopes, self.scopes.join(" ").into());
        }
        if let (Some(client), Some(name)) = (&self.client, names.client.first()) {
            put(&mut claims, name, client.as_str().into());
        }
        for (name, value) in &self.claims {
            match value {
                Json::Null => drop(claims.remove(name)),
                value => drop(claims.insert(name.clone(), value.clone())),
            }
        }
        claims
    }
}

/// Puts a claim where its name or pointer says.
fn put(claims: &mut Map<String, Json>, name: &str, value: Json) {
    let Some(pointer) = name.strip_prefix('/') else {
        claims.insert(name.to_owned(), value);
        return;
    };
    match pointer.split_once('/') {
        None => drop(claims.insert(pointer.to_owned(), value)),
        Some((first, rest)) => {
            let inner = claims.entry(first.to_owned()).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                put(inner, &format!("/{rest}"), value);
            }
        }
    }
}

/// A token under an HMAC.
fn with_secret(
    mac: impl Fn(&[u8]) -> Option<Vec<u8>>,
    algorithm: Algorithm,
    kid: Option<&str>,
    header: &Map<String, Json>,
    payload: &str,
) -> Option<String> {
    let mut whole = header.clone();
    whole.insert("alg".into(), algorithm.word().into());
    if let Some(kid) = kid {
        whole.insert("kid".into(), kid.into());
    }
    let text = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let signed = format!("{}.{}", text(&Json::Object(whole).to_string()), text(payload));
    let mac = mac(signed.as_bytes())?;
    Some(format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac)))
}
