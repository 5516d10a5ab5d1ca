//! `issue_jwt`: mints a signed JWT, to tell the upstream or the client who the caller is.
//!
//! RFC 7519 §4.1, RFC 7515, RFC 7518 §3, RFC 9068 for access tokens. The claims that say who issued what for whom are
//! the parameters' own: no further claim can take their place.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::compile::content::JsonTemplate;
use crate::compile::inject::{Inject, Target};
use crate::compile::resources::Signer;
use crate::compile::text::{Sink, TextParam};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::value::{Facts, Mark, Origin, Type, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::jose::{Algorithm, Algorithms, SigningKey};
use crate::source::{DurationValue, Entries, Literal, Name, Node, OneOrMany, Spanned, Text};

mod example;

/// Bounds of a lifetime, in seconds.
const LIFETIME_S: std::ops::RangeInclusive<i64> = 1..=24 * 60 * 60;
/// Random bytes of a `jti`.
const ID_BYTES: usize = 16;
/// Claims that only the parameters set.
const OWN: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

pub const KIND: Kind = Kind {
    sets: &[
        Output { name: "issued.token", ty: Type::Text, absent: false, doc: "The token, marked as one." },
        Output { name: "issued.id", ty: Type::Text, absent: true, doc: "Its `jti`." },
        Output { name: "issued.expires_at", ty: Type::Time, absent: false, doc: "Its `exp`." },
    ],
    faults: &[
        FaultDoc {
            code: "issue_jwt.claim",
            status: 400,
            doc: "A claim is absent, or cannot stand in JSON. By origin of the value: 400, 502 or 500.",
        },
        FaultDoc {
            code: "issue_jwt.absent",
            status: 400,
            doc: "`issuer`, `audience` or `subject` is absent. By origin of the value: 400, 502 or 500.",
        },
        FaultDoc {
            code: "issue_jwt.caller_expired",
            status: 403,
            doc: "The caller's own credential has ended: no token outlives it (`cap_to_caller`).",
        },
        FaultDoc { code: "issue_jwt.key_unavailable", status: 503, doc: "The key does not sign." },
    ],
    examples: &[
        Example { title: "Tell the upstream who calls", yaml: example::CALLER },
        Example { title: "A key that the gateway makes, exchanges and publishes", yaml: example::OWN_KEY },
    ],
    ..Kind::of::<IssueJwt>("issue_jwt", "Mints a signed JWT that says who the caller is.", Category::Tokens)
};

/// Parameters of `issue_jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IssueJwt {
    /// Name of a `key` of kind `private`, or `symmetric`.
    key: Name,
    /// `iss`
    issuer: Text,
    /// `aud`
    audience: OneOrMany<Text>,
    /// `sub`; the caller without it.
    #[serde(default)]
    subject: Option<Text>,
    /// How long it counts, 1s to 24h.
    #[serde(default = "five_minutes")]
    lifetime: DurationValue,
    /// Further claims: texts or structures, whose types are kept.
    #[serde(default)]
    claims: Entries<Node>,
    /// `typ` of the header.
    #[serde(default, rename = "type")]
    token_type: TypeWord,
    /// Which of the key's algorithms, where it goes with several.
    #[serde(default)]
    algorithm: Option<Literal>,
    /// A random `jti`.
    #[serde(default = "yes")]
    id: bool,
    /// An `nbf` of now.
    #[serde(default)]
    not_before: bool,
    /// It ends no later than the caller's own credential.
    #[serde(default = "yes")]
    cap_to_caller: bool,
    /// Where the token goes; without it only the variable is set.
    #[serde(default)]
    inject: Option<Spanned<Inject>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
enum TypeWord {
    #[default]
    #[serde(rename = "JWT")]
    Jwt,
    /// An access token (RFC 9068).
    #[serde(rename = "at+jwt")]
    AccessToken,
}

fn five_minutes() -> DurationValue {
    std::time::Duration::from_secs(300).into()
}

fn yes() -> bool {
    true
}

impl Assertion for IssueJwt {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        // The key is asked for first and given up last: what stands beside a wrong one is read all the same.
        let key = signing_key(&self.key, cx);
        let algorithm = algorithm(self.algorithm.as_ref(), key.as_ref(), &self.key, cx);
        let lifetime_s = i64::try_from(self.lifetime.duration.as_secs()).unwrap_or(i64::MAX);
        if !LIFETIME_S.contains(&lifetime_s) {
            let help = "a short one limits what a stolen token is good for: `lifetime: 5m`";
            return cx.refuse("policy.bad_value", self.lifetime.span, "a lifetime is 1s to 24h", help);
        }
        let issuer = cx.text_into(&self.issuer, Place::Plain, Sink::Client);
        let audience: Vec<_> =
            self.audience.iter().map(|text| cx.text_into(text, Place::Plain, Sink::Client)).collect();
        let audience = audience.into_iter().collect::<Option<Vec<_>>>()?;
        if audience.is_empty() {
            let help = "name the one that the token is for: `audience: orders`";
            return cx.refuse("policy.empty_list", step.span, "the token would be for nobody", help);
        }
        let subject = self.subject.unwrap_or_else(|| Text::from("${auth.subject}"));
        let subject = cx.text_into(&subject, Place::Plain, Sink::Client)?;
        let mut claims = Vec::new();
        for (name, node) in &self.claims {
            if OWN.contains(&name.name.as_str()) {
                let message = format!("`{}` is set by a parameter, not among `claims`", name.name);
                let help = "write `issuer`, `audience`, `subject`, `lifetime`, `id` or `not_before`";
                return cx.refuse("policy.bad_value", name.span, message, help);
            }
            claims.push((name.name.clone(), cx.json(node, Sink::Client)?));
        }
        let caller = match cx.flow.roots.get("auth") {
            Some(crate::compile::flow::Root::Identity(identity)) if self.cap_to_caller => Some(identity.slot),
            _ => None,
        };
        let inject = match &self.inject {
            Some(inject) => Some(cx.inject(inject)?),
            None => None,
        };
        if let Some(name) = inject.as_ref().and_then(Target::header) {
            cx.changes_message(step.span);
            cx.flow.carried.put_field(Side::Request, name.as_str(), (Mark::Token, step.span), true);
        }
        let origin = |facts: Facts| facts.origin;
        let facts = |ty| Facts { origin: Origin::Policy, ..Facts::policy(ty) };
        let token = cx.out_with("issued.token", step.renamed(), facts(Type::Text).marked(Mark::Token));
        let id_facts = if self.id { facts(Type::Text) } else { facts(Type::Text).maybe() };
        let id = cx.out_with("issued.id", step.renamed(), id_facts);
        let expires_at = cx.out_with("issued.expires_at", step.renamed(), facts(Type::Time));
        let claims_origin = origin(claims.iter().fold(facts(Type::Any), |all, (_, claim)| claim.mixed_into(all)));
        Compiled::plain(IssueJwtStep {
            key: key?,
            algorithm: algorithm?,
            issuer: issuer?,
            audience,
            subject,
            lifetime_s,
            claims,
            claims_origin,
            token_type: match self.token_type {
                TypeWord::Jwt => "JWT",
                TypeWord::AccessToken => "at+jwt",
            },
            has_id: self.id,
            not_before: self.not_before,
            caller,
            inject,
            slots: [token, id, expires_at],
        })
    }
}

fn signing_key(name: &Name, cx: &mut Compile<'_>) -> Option<Signer> {
    let resources = cx.around.resources;
    if let Some(key) = resources.private_keys.get(name.name.as_str()) {
        return match &key.as_ref()?.signing {
            Some(signing) => Some(signing.clone()),
            None => {
                let message = format!("key `{}` signs no tokens", name.name);
                let help = "take a key of RSA (2048 bits or more), P-256, P-384, P-521 or Ed25519";
                cx.refuse("policy.bad_key", name.span, message, help)
            }
        };
    }
    if let Some(key) = resources.keys.get(name.name.as_str()) {
        let key = key.as_ref()?;
        let words = key.algorithms.iter().filter_map(|word| Algorithm::of(word));
        let allowed = if key.algorithms.is_empty() { crate::jose::Algorithms::all() } else { words.collect() };
        return match SigningKey::from_secret(key.material.expose(), allowed) {
            Ok(signing) => Some(Signer::Fixed(Arc::new(match &key.kid {
                Some(kid) => signing.named(kid),
                None => signing,
            }))),
            Err(why) => {
                let help = "take 32 random bytes: `openssl rand -base64 32`";
                cx.refuse("policy.weak_key", name.span, format!("key `{}`: {why}", name.name), help)
            }
        };
    }
    cx.unknown_name("key", name, resources.private_keys.keys())
}

/// The algorithm that is named, or else the only one.
fn algorithm(word: Option<&Literal>, key: Option<&Signer>, name: &Name, cx: &mut Compile<'_>) -> Option<Algorithm> {
    let known = key.map_or(Algorithms::all(), Signer::algorithms);
    if let Some(literal) = word {
        let text = cx.literal(literal)?;
        return match Algorithm::of(&text).filter(|algorithm| known.has(*algorithm)) {
            Some(algorithm) => Some(algorithm),
            None => {
                let message = format!("key `{}` does not go with `{text}`", name.name);
                cx.refuse("policy.bad_value", literal.span(), message, &format!("it goes with {known}"))
            }
        };
    }
    key?;
    let mut all = known.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only),
        _ => {
            let message = format!("key `{}` goes with several algorithms: {known}", name.name);
            let help = "say which: `algorithm: RS256` here, or `algorithms: [RS256]` at the key";
            cx.refuse("policy.missing_parameter", name.span, message, help)
        }
    }
}

struct IssueJwtStep {
    key: Signer,
    algorithm: Algorithm,
    issuer: TextParam,
    audience: Vec<TextParam>,
    subject: TextParam,
    lifetime_s: i64,
    claims: Vec<(String, JsonTemplate)>,
    claims_origin: Origin,
    token_type: &'static str,
    has_id: bool,
    not_before: bool,
    /// Whose end is the token's at the latest.
    caller: Option<Slot>,
    inject: Option<Target>,
    /// Token, id and end.
    slots: [Slot; 3],
}

impl Plain for IssueJwtStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.issue(x).into()
    }
}

impl IssueJwtStep {
    fn issue(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let now_s = x.worker.clock.wall().as_second();
        let caller_ends = self.caller.and_then(|slot| x.identity(slot)).and_then(|caller| caller.expires_at_unix_s);
        let end_s = now_s.saturating_add(self.lifetime_s).min(caller_ends.unwrap_or(i64::MAX));
        if end_s <= now_s {
            let detail = "the caller's credential has ended";
            return Err(Fault::denied(StatusCode::FORBIDDEN, "issue_jwt.caller_expired", detail));
        }
        let mut id = [0; ID_BYTES];
        let id = (self.has_id && x.worker.random.fill(&mut id)).then(|| HEXLOWER.encode(&id));
        if self.has_id && id.is_none() {
            return Err(unavailable("the system gives no random bytes"));
        }
        let claims = self.claims(x, now_s, end_s, id.as_deref())?;
        let Some(key) = self.key.now(&x.worker.clock) else { return Err(unavailable("the system gives no key")) };
        let mut header = Map::new();
        header.insert("typ".into(), self.token_type.into());
        let payload = Json::Object(claims).to_string();
        let token = key.sign(self.algorithm, header, payload.as_bytes()).map_err(unavailable)?;
        if let Some(target) = &self.inject
            && !target.put(x, &token)
        {
            return Err(unavailable("the token cannot stand in a field"));
        }
        let [token_slot, id_slot, end_slot] = self.slots;
        x.set(token_slot, Value::text(token));
        x.set(id_slot, id.map_or(Value::Absent, Value::text));
        x.set(end_slot, Timestamp::from_second(end_s).map_or(Value::Absent, Value::Time));
        Ok(())
    }

    fn claims(&self, x: &Exchange, now_s: i64, end_s: i64, id: Option<&str>) -> Result<Map<String, Json>, Box<Fault>> {
        let mut claims = Map::new();
        claims.insert("iss".into(), self.issuer.read(x)?.into());
        claims.insert("sub".into(), self.subject.read(x)?.into());
        let audience: Vec<Json> =
            self.audience.iter().map(|text| text.read(x).map(Json::from)).collect::<Result<_, _>>()?;
        let audience = match audience.as_slice() {
            [one] => one.clone(),
            _ => audience.into(),
        };
        claims.insert("aud".into(), audience);
        claims.insert("iat".into(), now_s.into());
        claims.insert("exp".into(), end_s.into());
        if self.not_before {
            claims.insert("nbf".into(), now_s.into());
        }
        if let Some(id) = id {
            claims.insert("jti".into(), id.into());
        }
        for (name, template) in &self.claims {
            let value = template.build(x).map_err(|fault| fault.with_code("issue_jwt.claim"))?;
            if value.is_null() {
                let detail = format!("`{name}` is absent");
                return Err(fault_by(self.claims_origin, "expression.absent", detail).with_code("issue_jwt.claim"));
            }
            claims.insert(name.clone(), value);
        }
        Ok(claims)
    }
}

fn unavailable(detail: impl Into<String>) -> Box<Fault> {
    Fault::broken(StatusCode::SERVICE_UNAVAILABLE, "issue_jwt.key_unavailable", detail)
}

#[cfg(test)]
#[path = "issue_jwt/tests.rs"]
mod tests;
