//! `verify_security_hash`: checks an HMAC or digest that came with the message.
//!
//! RFC 2104, FIPS 180-4. Decoded bytes are compared in constant time; an unknown key does the same work and
//! answers like a wrong hash. It judges no freshness by itself: `timestamp` and `one_time` do, and a
//! timestamp that is not part of the data is refused when the policy loads, because anyone could renew it.

mod fresh;
mod keys;

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use self::fresh::{Fresh, fresh, parse_timestamp};
use self::keys::{Caller, Keys, keys};
use crate::compile::hashed::{Data, HashEncoding, Unfed};
use crate::compile::key::KeyParam;
use crate::compile::text::TextParam;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::digest::{Algorithm, DigestBytes, Hasher};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::value::{Element, Type, Value};
use crate::expr::Place;
use crate::fault::Fault;
use crate::identity::Identity;
use crate::identity::api_keys::ApiKey;
use crate::secret::keyed_digest;
use crate::source::{DurationValue, Literal, OneOrMany, Text};
use crate::store::seen::Full;

/// Remembered beyond twice the tolerance, so that a message is never forgotten in the millisecond in which its
/// timestamp is still good.
const REPLAY_MARGIN_MS: u64 = 1000;
/// Keys the hasher of an entry that does not exist: what it makes is never compared with success.
const NO_KEY: [u8; 32] = [0; 32];

pub const KIND: Kind = Kind {
    bodies: "buffer, where `data` reads a body or is left out",
    sets: &[
        Output { name: "hash.verified", ty: Type::Bool, absent: false, doc: "True: it passed." },
        Output { name: "auth.scheme", ty: Type::Text, absent: true, doc: "`hmac`, with a key of `api_keys`." },
        Output { name: "auth.subject", ty: Type::Text, absent: true, doc: "With a key of `api_keys`." },
        Output { name: "auth.client", ty: Type::Text, absent: true, doc: "With a key of `api_keys`." },
        Output { name: "auth.groups", ty: Type::List(Element::Text), absent: true, doc: "With a key of `api_keys`." },
        Output { name: "auth.scopes", ty: Type::List(Element::Text), absent: true, doc: "With a key of `api_keys`." },
        Output {
            name: "auth.attributes",
            ty: Type::Map(Element::Text),
            absent: true,
            doc: "With a key of `api_keys`.",
        },
        Output { name: "api_key.id", ty: Type::Text, absent: true, doc: "With a key of `api_keys`." },
        Output { name: "api_key.plan", ty: Type::Text, absent: true, doc: "With a key of `api_keys`." },
        Output { name: "api_key.expires_at", ty: Type::Time, absent: true, doc: "With a key of `api_keys`." },
    ],
    faults: &[
        FaultDoc {
            code: "verify_security_hash.missing",
            status: 401,
            doc: "`value`, `timestamp` or a part of `data` is absent. 400 for a plain digest.",
        },
        FaultDoc {
            code: "verify_security_hash.malformed",
            status: 401,
            doc: "The value lacks its prefix or is not in `encoding`, or the timestamp is none.",
        },
        FaultDoc {
            code: "verify_security_hash.mismatch",
            status: 401,
            doc: "The hash is another, or the key is unknown; the record's `detail` says which. Are data, separator and key the same on both sides? 400 for a plain digest.",
        },
        FaultDoc {
            code: "verify_security_hash.stale",
            status: 401,
            doc: "The timestamp is further from now than `tolerance`. Is the sender's clock right?",
        },
        FaultDoc { code: "verify_security_hash.replayed", status: 401, doc: "The same hash came before." },
        FaultDoc {
            code: "verify_security_hash.key_unavailable",
            status: 503,
            doc: "The text that `key: { value: ... }` reads is absent, empty or not in its encoding.",
        },
    ],
    examples: &[
        Example {
            title: "A webhook that signs its body",
            yaml: r#"
secret: partner
from: { env: PARTNER_SECRET }
---
service: example
match: { path: /hook, methods: [POST] }
policy:
  - verify_security_hash:
      value: "${request.headers.x_signature}"
      prefix: "sha256="
      encoding: hex
      key: { secret: partner }
  - respond: { text: "${request.headers.x_signature}" }
tests:
  given: { secrets: { partner: test-value-0123456789 } }
  cases:
    - name: a signed body
      request:
        method: POST
        text: hello
        headers: { x-signature: "sha256=${hmac_sha256('test-value-0123456789', 'hello')}" }
      expect: { status: 200 }
    - name: another body
      request:
        method: POST
        text: hello!
        headers: { x-signature: "sha256=${hmac_sha256('test-value-0123456789', 'hello')}" }
      expect:
        status: 401
        fault: verify_security_hash.mismatch
        headers: { www-authenticate: 'HMAC realm="example"' }
    - name: none
      request: { method: POST, text: hello }
      expect: { status: 401, fault: verify_security_hash.missing }
    - name: without its prefix
      request:
        method: POST
        text: hello
        headers: { x-signature: "${hmac_sha256('test-value-0123456789', 'hello')}" }
      expect: { status: 401, fault: verify_security_hash.malformed }
"#,
        },
        Example {
            title: "Signed requests of API clients, each good once",
            yaml: r#"
secret: acme_signing
from: { env: ACME_SIGNING }
---
api_keys: partners
entries:
  - id: acme
    hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b"
    signing_secret: { secret: acme_signing }
---
service: example
match: { path: "/partner/{id}" }
policy:
  - verify_security_hash:
      value: "${request.headers.x_signature}"
      key: { api_keys: partners, id: "${request.headers.x_key_id}" }
      encoding: hex
      data: ["${request.method}", "${request.raw_path}", "${request.headers.x_timestamp}"]
      timestamp: "${request.headers.x_timestamp}"
      one_time: true
  - respond: { json: { key: "${api_key.id}", scheme: "${auth.scheme}" } }
tests:
  given:
    clock: 2026-03-01T12:00:00Z
    api_keys: { partners: { acme: { value: k-1, signing_secret: test-value-0123456789 } } }
  cases:
    - name: a signed request passes once
      exchanges:
        - request:
            path: /partner/1
            headers:
              x-key-id: acme
              x-timestamp: "1772366400"
              x-signature: "${hmac_sha256('test-value-0123456789', ['GET', '/partner/1', '1772366400'])}"
          expect: { status: 200, json: { key: acme, scheme: hmac } }
        - { request: again, expect: { status: 401, fault: verify_security_hash.replayed } }
    - name: too old
      request:
        path: /partner/1
        headers:
          x-key-id: acme
          x-timestamp: "1772366099"
          x-signature: "${hmac_sha256('test-value-0123456789', ['GET', '/partner/1', '1772366099'])}"
      expect: { status: 401, fault: verify_security_hash.stale }
    - name: an unknown key answers like a wrong hash
      request:
        path: /partner/1
        headers:
          x-key-id: nobody
          x-timestamp: "1772366400"
          x-signature: "${hmac_sha256('test-value-0123456789', ['GET', '/partner/1', '1772366400'])}"
      expect: { status: 401, fault: verify_security_hash.mismatch }
"#,
        },
    ],
    ..Kind::of::<VerifySecurityHash>(
        "verify_security_hash",
        "Checks an HMAC (or digest) that came with the message.",
        Category::Access,
    )
};

/// Parameters of `verify_security_hash`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifySecurityHash {
    /// The received hash; absent is denied `.missing`.
    value: Text,
    /// Cut from the value, such as `sha256=`.
    #[serde(default)]
    prefix: Option<Literal>,
    /// A text, or a list of parts; one that is exactly `${...}` of bytes is hashed as it is. Without it, the
    /// request's body as received.
    #[serde(default)]
    data: Option<OneOrMany<Text>>,
    /// Stands between the parts; a line feed without it.
    #[serde(default)]
    separator: Option<Literal>,
    /// What to calculate. `hmac-sha1` is for old partners only.
    #[serde(default)]
    algorithm: Word,
    /// Needed for `hmac-*`, refused otherwise. A list of two while a key is changed.
    #[serde(default)]
    key: Option<OneOrMany<KeyParam>>,
    /// How the value is written.
    #[serde(default)]
    encoding: HashEncoding,
    /// When it was signed: epoch seconds, milliseconds or RFC 3339. It must be part of the data.
    #[serde(default)]
    timestamp: Option<Text>,
    /// How far `timestamp` may be from now; `5m` without it.
    #[serde(default)]
    tolerance: Option<DurationValue>,
    /// The same hash passes once. Needs `timestamp`.
    #[serde(default)]
    one_time: bool,
    /// What `one_time` does where there is no room to remember: `deny` is broken `store.unavailable` 503.
    #[serde(default)]
    on_store_error: OnStoreError,
    /// Scheme of the challenge.
    #[serde(default = "hmac")]
    challenge: Literal,
}

fn hmac() -> Literal {
    "HMAC".into()
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    #[default]
    HmacSha256,
    HmacSha384,
    HmacSha512,
    HmacSha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Word {
    fn algorithm(self) -> Algorithm {
        match self {
            Word::HmacSha256 => Algorithm::HmacSha256,
            Word::HmacSha384 => Algorithm::HmacSha384,
            Word::HmacSha512 => Algorithm::HmacSha512,
            Word::HmacSha1 => Algorithm::HmacSha1,
            Word::Sha256 => Algorithm::Sha256,
            Word::Sha384 => Algorithm::Sha384,
            Word::Sha512 => Algorithm::Sha512,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum OnStoreError {
    /// Broken, 503.
    #[default]
    Deny,
    /// It passes, and may pass again.
    Allow,
}

impl Assertion for VerifySecurityHash {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let algorithm = self.algorithm.algorithm();
        let value = cx.text(&self.value, Place::Plain);
        let data = cx.hashed_data(self.data.as_ref(), self.separator.as_ref(), Side::Request, step.span);
        let prefix = match &self.prefix {
            Some(prefix) => Some(cx.literal(prefix)?),
            None => None,
        };
        let challenge = cx.challenge_of(&self.challenge, step.span);
        let keys = keys(cx, self.key, algorithm, step.span);
        let (value, data) = (value?, data?);
        let fresh = match &self.timestamp {
            Some(timestamp) => Some(fresh(cx, timestamp, self.tolerance, &data, self.data.as_ref())?),
            None if self.one_time || self.tolerance.is_some() => {
                let message = "`one_time` and `tolerance` need a `timestamp`: nothing is remembered for ever";
                let help = "add the sender's timestamp, and put it into `data`";
                return cx.refuse("policy.missing_parameter", step.span, message, help);
            }
            None => None,
        };
        let keys = keys?;
        let caller = match &keys {
            Keys::Client { keys, .. } => Some(Caller::declare(step, cx, keys)?),
            Keys::Own(_) => None,
        };
        let read = [Some(&value), fresh.as_ref().map(|fresh| &fresh.timestamp)];
        let parts = if let Data::Parts { parts, .. } = &data { parts.as_slice() } else { &[] };
        for text in read.into_iter().flatten().chain(parts) {
            if let Some(read) = text.variable() {
                cx.flow.prove(read.clone());
            }
        }
        // Beside an identity of the same name the variable stands below it.
        let verified = match caller.as_ref().is_some_and(|caller| caller.identity.is_some()) {
            true => cx.out_below(KIND.sets.first()?, step),
            false => cx.out(KIND.sets.first()?, step.renamed()),
        };
        Compiled::plain(VerifySecurityHashStep {
            value,
            prefix,
            encoding: self.encoding,
            data,
            keys,
            fresh,
            one_time: self.one_time,
            on_store_error: self.on_store_error,
            scope: cx.service.to_string(),
            challenge: algorithm.is_keyed().then_some(challenge?),
            caller,
            verified,
        })
    }
}

struct VerifySecurityHashStep {
    value: TextParam,
    prefix: Option<String>,
    encoding: HashEncoding,
    data: Data,
    keys: Keys,
    fresh: Option<Fresh>,
    one_time: bool,
    on_store_error: OnStoreError,
    /// What keeps the hashes of services apart.
    scope: String,
    /// Of a keyed hash; a plain digest proves nobody and is answered 400.
    challenge: Option<HeaderValue>,
    caller: Option<Caller>,
    verified: Slot,
}

impl Plain for VerifySecurityHashStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.verify(x).into()
    }
}

impl VerifySecurityHashStep {
    fn verify(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let presented = self.presented(x)?;
        let signed_at = self.signed_at(x)?;
        let (mut hashers, key) = self.hashers(x)?;
        self.data.feed(x, &mut hashers).map_err(|unfed| match unfed {
            Unfed::Absent(_) => self.denied("verify_security_hash.missing", "a part of `data` is absent"),
            Unfed::Broken(fault) => fault,
        })?;
        // Every key is tried, and all of each hash is looked at.
        let hashes: Vec<DigestBytes> = hashers.into_iter().map(Hasher::finish).collect();
        let fits = hashes.iter().fold(false, |fits, hash| fits | bool::from(hash.as_slice().ct_eq(&presented)));
        let known = match &key {
            Some(Err(why)) => Err(*why),
            Some(Ok(key)) => self.same_entry(x, key),
            None => Ok(()),
        };
        if !fits || known.is_err() {
            let detail = known.err().unwrap_or("the hash is another");
            return Err(self.denied("verify_security_hash.mismatch", detail));
        }
        self.check_fresh(x, signed_at, &presented)?;
        x.set(self.verified, Value::Bool(true));
        if let (Some(Ok(key)), Some(Caller { identity: Some((slot, slots)), .. })) = (&key, &self.caller) {
            // One small allocation: the entry's own identity says `api_key`.
            x.identify(*slot, Arc::new(Identity { scheme: "hmac", ..(*key.identity).clone() }));
            slots.set(x, key);
        }
        Ok(())
    }

    /// The received hash, decoded.
    fn presented(&self, x: &Exchange) -> Result<Vec<u8>, Box<Fault>> {
        let Some(value) = self.value.read_optional(x)? else {
            return Err(self.denied("verify_security_hash.missing", "`value` is absent"));
        };
        let bare = match &self.prefix {
            Some(prefix) => {
                value.strip_prefix(prefix.as_str()).ok_or("`value` does not begin with `prefix`".to_owned())
            }
            None => Ok(&*value),
        };
        bare.and_then(|bare| self.encoding.decode(bare)).map_err(|why| self.malformed(why))
    }

    fn signed_at(&self, x: &Exchange) -> Result<Option<Timestamp>, Box<Fault>> {
        let Some(fresh) = &self.fresh else { return Ok(None) };
        let Some(text) = fresh.timestamp.read_optional(x)? else {
            return Err(self.denied("verify_security_hash.missing", "`timestamp` is absent"));
        };
        match parse_timestamp(&text) {
            Some(time) => Ok(Some(time)),
            None => Err(self.malformed("`timestamp` is no time".to_owned())),
        }
    }

    /// Hashers under all keys, and the entry whose key it is or why there is none.
    #[expect(clippy::type_complexity, reason = "the two belong together and are taken apart at once")]
    fn hashers(&self, x: &Exchange) -> Result<(Vec<Hasher>, Option<Result<Arc<ApiKey>, &'static str>>), Box<Fault>> {
        match &self.keys {
            Keys::Own(keys) => {
                let mut hashers = Vec::with_capacity(keys.len());
                for key in keys {
                    hashers.extend(key.hasher(x)?);
                }
                if hashers.is_empty() {
                    let code = "verify_security_hash.key_unavailable";
                    let detail = "the key is absent, empty or not in its encoding";
                    return Err(Fault::broken(StatusCode::SERVICE_UNAVAILABLE, code, detail));
                }
                Ok((hashers, None))
            }
            Keys::Client { keys, id, algorithm } => {
                let Some(id) = id.read_optional(x)? else {
                    return Err(self.denied("verify_security_hash.missing", "the key's `id` is absent"));
                };
                let entry = keys.find_by_id(&id, x.received.as_second());
                let found = match entry.map(|entry| (entry, &entry.signing_secret)) {
                    None => Err("unknown or unusable key id"),
                    Some((_, None)) => Err("the entry has no signing secret"),
                    Some((entry, Some(secret))) => Ok((entry, secret)),
                };
                let key = found.as_ref().map_or(&NO_KEY[..], |(_, secret)| secret.expose());
                let hasher = algorithm.hasher(key);
                Ok((vec![hasher], Some(found.map(|(entry, _)| entry.clone()))))
            }
        }
    }

    /// Behind `authenticate_api_key` of the same set the entries must be one.
    fn same_entry(&self, x: &Exchange, key: &ApiKey) -> Result<(), &'static str> {
        let known = self.caller.as_ref().and_then(|caller| caller.known).map(|slot| x.var(slot));
        match known {
            Some(Value::Text(id)) if **id != *key.id => Err("signed by another entry than that of the API key"),
            _ => Ok(()),
        }
    }

    fn check_fresh(&self, x: &Exchange, signed_at: Option<Timestamp>, hash: &[u8]) -> Result<(), Box<Fault>> {
        let (Some(fresh), Some(signed_at)) = (&self.fresh, signed_at) else { return Ok(()) };
        let away_ms = x.worker.clock.wall().as_millisecond().abs_diff(signed_at.as_millisecond());
        if away_ms > fresh.tolerance_ms {
            let detail = format!("signed {away_ms} ms away from now, at most {} are allowed", fresh.tolerance_ms);
            return Err(self.denied("verify_security_hash.stale", detail));
        }
        if !self.one_time {
            return Ok(());
        }
        let key = keyed_digest("verify-once", &[self.scope.as_bytes(), hash]);
        let now_ms = x.worker.clock.mono_ms();
        let keep_ms = fresh.tolerance_ms.saturating_mul(2).saturating_add(REPLAY_MARGIN_MS);
        match x.worker.shared.seen.first_time(key, now_ms.saturating_add(keep_ms), now_ms) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.denied("verify_security_hash.replayed", "the same hash came before")),
            Err(Full) if self.on_store_error == OnStoreError::Allow => Ok(()),
            Err(Full) => {
                let detail = "no room to remember a further hash";
                Err(Fault::broken(StatusCode::SERVICE_UNAVAILABLE, "store.unavailable", detail))
            }
        }
    }

    /// A plain digest knows only `.missing` and `.mismatch`.
    fn malformed(&self, why: String) -> Box<Fault> {
        let code = match &self.challenge {
            Some(_) => "verify_security_hash.malformed",
            None => "verify_security_hash.mismatch",
        };
        self.denied(code, why)
    }

    fn denied(&self, code: &'static str, detail: impl Into<String>) -> Box<Fault> {
        match &self.challenge {
            Some(challenge) => Fault::denied(StatusCode::UNAUTHORIZED, code, detail).with_challenge(challenge.clone()),
            None => Fault::denied(StatusCode::BAD_REQUEST, code, detail),
        }
    }
}

#[cfg(test)]
mod tests;
