//! `authenticate_jwt`: verifies a signed JWT and its claims.
//!
//! RFC 7519 §7.2, RFC 7515 §5.2, RFC 8725, RFC 6750 for the challenges. The provider's keys carry their algorithms; the
//! header of a token only selects among them. A token that was verified a moment ago is not verified again, but its
//! times, audience, type and claims are checked for each request.

use std::borrow::Cow;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use self::asked::{Audience, allowed, audience};
use crate::compile::content::JsonTemplate;
use crate::compile::credential::{Credential, From};
use crate::compile::identity::Presented;
use crate::compile::text::Sink;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Flow, Verdict, Waits};
use crate::engine::read::{IdentityMember, Read, Slot};
use crate::engine::value::{Element, Type as ValueType, Value};
use crate::expr::{Member, Present};
use crate::fault::Fault;
use crate::identity::key_sets::Ask;
use crate::identity::provider::{Provider, Unverified, Verified, claim};
use crate::jose::{Algorithms, Binding, Claims, Flaw, Refusal, Type};
use crate::source::{DurationValue, Entries, Literal, Name, Node, OneOrMany, Spanned, Text};

mod asked;
mod example;
mod faults;

/// How long a request waits for keys that are being fetched; the fetch itself is bounded too.
const KEYS_TIME: std::time::Duration = std::time::Duration::from_secs(6);
/// When a request without keys may come again, in seconds.
const KEYS_RETRY_S: u64 = 1;
/// How far clocks may differ, at most, in seconds.
const LEEWAY_MAX_S: i64 = 300;

pub const KIND: Kind = Kind {
    main: Some("issuer"),
    sets: &[
        Output { name: "jwt.header", ty: ValueType::Map(Element::Json), absent: false, doc: "Header of the token." },
        Output { name: "jwt.claims", ty: ValueType::Map(Element::Json), absent: false, doc: "All its claims." },
        Output { name: "jwt.expires_at", ty: ValueType::Time, absent: false, doc: "Its `exp`." },
        Output { name: "auth.scheme", ty: ValueType::Text, absent: false, doc: "`jwt`" },
        Output { name: "auth.subject", ty: ValueType::Text, absent: false, doc: "Whom the token speaks of." },
        Output { name: "auth.groups", ty: ValueType::List(Element::Text), absent: false, doc: "Groups it names." },
        Output { name: "auth.scopes", ty: ValueType::List(Element::Text), absent: false, doc: "Scopes it names." },
        Output { name: "auth.client", ty: ValueType::Text, absent: true, doc: "The application it names." },
        Output { name: "auth.claims", ty: ValueType::Map(Element::Json), absent: false, doc: "All claims." },
        Output { name: "auth.expires_at", ty: ValueType::Time, absent: false, doc: "Its `exp`." },
        Output { name: "auth.credential", ty: ValueType::Text, absent: false, doc: "The token as presented." },
    ],
    faults: faults::FAULTS,
    examples: &[
        Example { title: "Callers of a provider", yaml: example::PROVIDER },
        Example { title: "Keys that a provider publishes", yaml: example::FETCHED },
        Example { title: "A partner with a shared secret, and claims that must hold", yaml: example::SECRET },
        Example { title: "Tokens that count only with their owner's certificate", yaml: example::BOUND },
    ],
    ..Kind::of::<AuthenticateJwt>("authenticate_jwt", "Verifies a signed JWT and its claims.", Category::Access)
};

/// Parameters of `authenticate_jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuthenticateJwt {
    /// Name of an `identity_provider`.
    issuer: Name,
    /// Whom `aud` must name: one of these. Without it the provider's `audience`.
    #[serde(default)]
    audience: Option<OneOrMany<Text>>,
    /// Where the token is read from.
    #[serde(default = "bearer")]
    from: From,
    /// Algorithms that count here; they narrow the provider's.
    #[serde(default)]
    algorithms: Option<Spanned<OneOrMany<Literal>>>,
    /// Claims by name, or by JSON pointer, with the value that they must have; of a list one.
    #[serde(default)]
    claims: Entries<Node>,
    /// Further claims that must be there.
    #[serde(default)]
    require: OneOrMany<Literal>,
    /// What the header's `typ` must be.
    #[serde(default, rename = "type")]
    token_type: TypeWord,
    /// How far clocks may differ; at most 5m.
    #[serde(default = "minute")]
    leeway: DurationValue,
    /// How long ago the token may have been issued (`iat`).
    #[serde(default)]
    max_age: Option<DurationValue>,
    /// Whether the token has to be bound to its caller. One that is bound (`cnf`) is always held to it.
    #[serde(default)]
    bound: Bound,
    /// Realm of the challenge; the service's name without it.
    #[serde(default)]
    realm: Option<Literal>,
    /// Lets `route` forward the token.
    #[serde(default)]
    keep_credential: bool,
    /// Remembers tokens that were verified, for 5 minutes at most and never beyond `exp`.
    #[serde(default = "yes")]
    cache: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
enum TypeWord {
    /// Whatever it is.
    #[default]
    #[serde(rename = "any")]
    Any,
    /// An access token (RFC 9068).
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// A plain JWT.
    #[serde(rename = "jwt")]
    Jwt,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    /// As the token says.
    #[default]
    Auto,
    /// To the client's TLS certificate (RFC 8705).
    Mtls,
}

fn bearer() -> From {
    From::authorization("Bearer")
}

fn minute() -> DurationValue {
    std::time::Duration::from_secs(60).into()
}

fn yes() -> bool {
    true
}

impl Assertion for AuthenticateJwt {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let provider = cx.resource("identity_provider", &self.issuer, |all| &all.providers);
        let credential = cx.credential(self.from, step.span);
        let mut challenge = |more| cx.challenge("Bearer", self.realm.as_ref(), more, step.span);
        // RFC 6750 §3: without a token there is no error to tell of.
        let missing = challenge("");
        let invalid = challenge(", error=\"invalid_token\"");
        let twice = challenge(", error=\"invalid_request\"");
        let leeway_s = i64::try_from(self.leeway.duration.as_secs()).unwrap_or(i64::MAX);
        if leeway_s > LEEWAY_MAX_S {
            let message = "a leeway of more than 5m lets tokens live on that have ended";
            return cx.refuse("policy.bad_value", self.leeway.span, message, "write at most `leeway: 5m`");
        }
        // What the provider says is compared with where there is one; what stands beside it is read all the same.
        let audience = audience(self.audience, provider.as_deref(), step, cx);
        let allowed = allowed(self.algorithms.as_ref(), provider.as_deref(), cx);
        let claims: Vec<_> = self
            .claims
            .into_iter()
            .map(|(name, node)| {
                if node.as_list().is_some_and(<[Node]>::is_empty) {
                    let message = format!("no value of `{}` is possible: nobody could pass", name.name);
                    let help = "name the values, or write `require: NAME` for any";
                    return cx.refuse("policy.empty_list", node.span(), message, help);
                }
                Some((name.name, cx.json(&node, Sink::Inside)?))
            })
            .collect::<Option<_>>()?;
        let require: Vec<String> =
            self.require.iter().map(|literal| cx.literal(literal)).collect::<Option<Vec<_>>>()?;
        let identity = cx.identify(step, false)?;
        let [header, shown, expires_at] = [0, 1, 2].map(|at| KIND.sets.get(at));
        let slots = [cx.out_below(header?, step), cx.out_below(shown?, step), cx.out_below(expires_at?, step)];
        let credential = credential?;
        let presented = cx.presented(step, &credential);
        if self.bound == Bound::Mtls {
            cx.wants_certificate.push(cx.current());
        }
        let named = claims.iter().map(|(name, _)| name).chain(&require);
        prove(identity, slots[1], named, cx);
        Compiled::waits(AuthenticateJwtStep {
            provider: provider?,
            audience: audience?,
            allowed: allowed?,
            claims,
            require,
            token_type: match self.token_type {
                TypeWord::Any => Type::Any,
                TypeWord::AccessToken => Type::AccessToken,
                TypeWord::Jwt => Type::Jwt,
            },
            leeway_s,
            bound: self.bound,
            max_age_s: self.max_age.map(|age| i64::try_from(age.duration.as_secs()).unwrap_or(i64::MAX)),
            credential,
            presented,
            challenges: Challenges { missing: missing?, invalid: invalid?, twice: twice? },
            identity,
            slots,
            keep_credential: self.keep_credential,
            cache: self.cache,
        })
    }
}

/// What is there after the step: all claims, and those that it has looked at.
fn prove<'n>(identity: Slot, claims: Slot, names: impl Iterator<Item = &'n String>, cx: &mut Compile<'_>) {
    let roots = [Read::Identity(identity, IdentityMember::Claims), Read::Slot(claims)];
    cx.flow.prove(Read::Identity(identity, IdentityMember::Claims));
    cx.flow.prove(Read::Identity(identity, IdentityMember::ExpiresAt));
    for name in names.filter(|name| !name.contains('~')) {
        let members: Vec<Member> = match name.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(|key| Member::Key(key.into())).collect(),
            None => vec![Member::Key(name.as_str().into())],
        };
        for read in &roots {
            let whole = (1..=members.len()).filter_map(|length| members.get(..length));
            let present = whole.map(|members| Present { read: read.clone(), members: members.to_vec() });
            cx.flow.proven.extend(present);
        }
    }
}

struct Challenges {
    missing: HeaderValue,
    invalid: HeaderValue,
    twice: HeaderValue,
}

struct AuthenticateJwtStep {
    provider: Arc<Provider>,
    audience: Audience,
    allowed: Algorithms,
    claims: Vec<(String, JsonTemplate)>,
    require: Vec<String>,
    token_type: Type,
    leeway_s: i64,
    bound: Bound,
    max_age_s: Option<i64>,
    credential: Credential,
    presented: Presented,
    challenges: Challenges,
    identity: Slot,
    /// Header, claims and end.
    slots: [Slot; 3],
    keep_credential: bool,
    cache: bool,
}

impl Waits for AuthenticateJwtStep {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        let token = match self.token(x) {
            Ok(token) => token,
            Err(fault) => return Flow::Now(Verdict::Fault(fault)),
        };
        let now_s = x.worker.clock.wall().as_second();
        let remembered = if self.cache { self.provider.remembered(&token, now_s) } else { None };
        let mut ended = 0;
        let verified = match remembered {
            Some(verified) => Ok(verified),
            None => {
                ended = self.provider.remote().map_or(0, |keys| keys.ended());
                self.provider.verify(&token, self.allowed, self.cache, now_s)
            }
        };
        let why = match verified {
            Ok(verified) => {
                let presented = self.presented.value(&token);
                drop(token);
                return Flow::Now(self.conclude(x, &verified, presented, now_s).into());
            }
            Err(why) => why,
        };
        let remote = self.provider.remote().filter(|_| why.wants_keys());
        let asked = remote.map(|keys| keys.ask(ended, x.worker.clock.mono_ms()));
        match asked {
            None | Some(Ask::Cooling) => Flow::Now(Verdict::Fault(self.unverified(why, None))),
            Some(Ask::Failing { retry_after_s }) => {
                Flow::Now(Verdict::Fault(self.unverified(why, Some(retry_after_s))))
            }
            Some(Ask::Done) => {
                let token = token.into_owned();
                Flow::Now(self.once_more(x, &token).into())
            }
            Some(Ask::Wait(mut fetched)) => {
                let token = token.into_owned();
                Flow::Later(Box::pin(async move {
                    let timer = x.worker.wheel.timer();
                    timer.set(KEYS_TIME);
                    tokio::select! {
                        _ = fetched.changed() => {}
                        () = timer.expired() => {}
                    }
                    self.once_more(x, &token).into()
                }))
            }
        }
    }
}

impl AuthenticateJwtStep {
    fn token<'x>(&'x self, x: &'x Exchange) -> Result<Cow<'x, str>, Box<Fault>> {
        let found = self.credential.find(x).map_err(|fault| fault.with_challenge(self.challenges.twice.clone()))?;
        found.ok_or_else(|| {
            let detail = "no token where `from` looks";
            let fault = Fault::denied(StatusCode::UNAUTHORIZED, "authenticate_jwt.missing", detail);
            fault.with_challenge(self.challenges.missing.clone())
        })
    }

    /// After the keys were fetched again.
    fn once_more(&self, x: &mut Exchange, token: &str) -> Result<(), Box<Fault>> {
        let now_s = x.worker.clock.wall().as_second();
        match self.provider.verify(token, self.allowed, self.cache, now_s) {
            Ok(verified) => {
                let presented = self.presented.value(token);
                self.conclude(x, &verified, presented, now_s)
            }
            Err(why) => {
                let now_ms = x.worker.clock.mono_ms();
                let retry_after_s = self.provider.remote().and_then(|keys| keys.failing(now_ms));
                Err(self.unverified(why, retry_after_s))
            }
        }
    }

    fn conclude(
        &self,
        x: &mut Exchange,
        verified: &Verified,
        presented: Option<Value>,
        now_s: i64,
    ) -> Result<(), Box<Fault>> {
        self.check_rules(x, verified, now_s)?;
        self.presented.keep(x, presented);
        self.set(x, verified);
        Ok(())
    }

    /// Who cannot be asked does not say no: where the keys' URL fails, an unknown key may be a new one.
    fn unverified(&self, why: Unverified, failing: Option<u64>) -> Box<Fault> {
        let unavailable = |detail: String, retry_after_s| {
            let code = "authenticate_jwt.keys_unavailable";
            Fault::broken(StatusCode::SERVICE_UNAVAILABLE, code, detail).with_retry_after(retry_after_s)
        };
        match (why, failing) {
            (Unverified::NoKeys, retry_after_s) => {
                let detail = format!("the keys of `{}` were never to be had", self.provider.name());
                unavailable(detail, retry_after_s.unwrap_or(KEYS_RETRY_S))
            }
            (Unverified::Refused(refusal), Some(retry_after_s)) if refusal.flaw == Flaw::UnknownKey => {
                unavailable(format!("{}, and their URL fails", refusal.text), retry_after_s)
            }
            (Unverified::Refused(refusal), _) => self.denied(&refusal),
        }
    }

    /// What this step asks of the token, whether or not it was verified before.
    fn check_rules(&self, x: &Exchange, verified: &Verified, now_s: i64) -> Result<(), Box<Fault>> {
        let claims = &verified.claims;
        // What is remembered was verified for the provider; a step may have narrowed the algorithms.
        let narrowed = match verified.header.algorithm() {
            Ok(algorithm) if self.allowed.has(algorithm) => Ok(()),
            _ => Err(Refusal::new(Flaw::Algorithm, format!("allowed are {}", self.allowed))),
        };
        let refuse = |refusal: Refusal| self.denied(&refusal);
        narrowed.and_then(|()| self.token_type.check(&verified.header)).map_err(refuse)?;
        match &self.audience {
            Audience::Provider => claims.check_audience(self.provider.audiences()),
            Audience::Own(texts) => {
                let mut wanted = Vec::with_capacity(texts.len());
                for text in texts {
                    wanted.push(text.read(x)?);
                }
                claims.check_audience(&wanted)
            }
        }
        .and_then(|()| claims.check_times(self.leeway_s, self.max_age_s, now_s))
        .map_err(refuse)?;
        self.check_binding(x, claims).map_err(refuse)?;
        for (name, template) in &self.claims {
            let wanted = template.build(x)?;
            if !claim(&claims.all, name).is_some_and(|value| is_wanted(value, &wanted)) {
                let refusal = Refusal::new(Flaw::Claim, format!("`{name}` is not what `claims` asks for"));
                return Err(self.denied(&refusal));
            }
        }
        for name in &self.require {
            if claim(&claims.all, name).is_none() {
                return Err(self.denied(&Refusal::new(Flaw::Claim, format!("there is no `{name}`"))));
            }
        }
        Ok(())
    }

    /// RFC 8705 §3: a token that is bound to a certificate counts only over a connection whose client has shown it.
    fn check_binding(&self, x: &Exchange, claims: &Claims) -> Result<(), Refusal> {
        let refuse = |text: &'static str| Err(Refusal::new(Flaw::Binding, text));
        let wanted = match claims.binding() {
            Binding::None if self.bound == Bound::Auto => return Ok(()),
            Binding::None => return refuse("the token is bound to no certificate, and `bound: mtls` asks for one"),
            Binding::Unknown => return refuse("`cnf` binds the token to a key that nothing here can prove"),
            Binding::Certificate(digest) => HEXLOWER.encode(&digest),
        };
        match x.client.tls.as_ref().and_then(|session| session.client.as_ref()) {
            Some(certificate) if certificate.fingerprint_sha256 == wanted => Ok(()),
            Some(_) => refuse("the token is bound to another certificate than the client has shown"),
            None => refuse("the token is bound to a certificate, and the client has shown none"),
        }
    }

    fn set(&self, x: &mut Exchange, verified: &Verified) {
        let [header, claims, expires_at] = self.slots;
        let end = verified.claims.expires_at_s.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        x.identify(self.identity, verified.identity.clone());
        x.set(header, Value::Json(verified.shown_header.clone()));
        x.set(claims, Value::Json(verified.claims.all.clone()));
        x.set(expires_at, end.map_or(Value::Absent, Value::Time));
        if !self.keep_credential {
            self.credential.withhold(x);
        }
    }

    fn denied(&self, refusal: &Refusal) -> Box<Fault> {
        let code = match refusal.flaw {
            Flaw::Malformed => "authenticate_jwt.malformed",
            Flaw::Algorithm => "authenticate_jwt.algorithm",
            Flaw::UnknownKey => "authenticate_jwt.unknown_key",
            Flaw::Signature => "authenticate_jwt.signature",
            Flaw::Expired => "authenticate_jwt.expired",
            Flaw::NotYetValid => "authenticate_jwt.not_yet_valid",
            Flaw::Issuer => "authenticate_jwt.issuer",
            Flaw::Audience => "authenticate_jwt.audience",
            Flaw::Claim => "authenticate_jwt.claim",
            Flaw::Type => "authenticate_jwt.type",
            Flaw::Binding => "authenticate_jwt.binding",
        };
        let fault = Fault::denied(StatusCode::UNAUTHORIZED, code, refusal.text.clone());
        fault.with_challenge(self.challenges.invalid.clone())
    }
}

/// Equal, or one of a list. Numbers are equal where their values are.
fn is_wanted(value: &Json, wanted: &Json) -> bool {
    let same = |one: &Json, other: &Json| match (one, other) {
        (Json::Number(one), Json::Number(other)) => one.as_f64() == other.as_f64(),
        (one, other) => one == other && !one.is_null(),
    };
    same(value, wanted) || wanted.as_array().is_some_and(|list| list.iter().any(|wanted| same(value, wanted)))
}

#[cfg(test)]
#[path = "authenticate_jwt/tests.rs"]
mod tests;
