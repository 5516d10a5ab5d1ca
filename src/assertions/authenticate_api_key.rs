//! `authenticate_api_key`: recognises the calling application by a key.
//!
//! Keys are found by their SHA-256, so that no byte of a key is ever compared. Unknown, revoked, expired,
//! suspended and not yet valid keys answer alike; the record's detail tells them apart. The scheme of the
//! challenge is not registered: RFC 9110 §11.6.1 requires one, and none is standard for API keys.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::credential::{Credential, From};
use crate::compile::identity::Presented;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Slot;
use crate::engine::value::{Element, Type, Value};
use crate::fault::Fault;
use crate::identity::api_keys::{ApiKey, ApiKeys};
use crate::source::{Literal, Name};

pub const KIND: Kind = Kind {
    main: Some("keys"),
    sets: &[
        Output { name: "api_key.id", ty: Type::Text, absent: false, doc: "Name of the entry." },
        Output { name: "api_key.plan", ty: Type::Text, absent: true, doc: "Its plan, for quotas." },
        Output { name: "api_key.expires_at", ty: Type::Time, absent: true, doc: "When it ends." },
        Output { name: "auth.scheme", ty: Type::Text, absent: false, doc: "`api_key`" },
        Output { name: "auth.subject", ty: Type::Text, absent: false, doc: "Whom the application acts as." },
        Output { name: "auth.client", ty: Type::Text, absent: false, doc: "The application." },
        Output { name: "auth.groups", ty: Type::List(Element::Text), absent: false, doc: "Groups of the entry." },
        Output { name: "auth.scopes", ty: Type::List(Element::Text), absent: false, doc: "Scopes of the entry." },
        Output { name: "auth.attributes", ty: Type::Map(Element::Text), absent: false, doc: "Its attributes." },
        Output { name: "auth.expires_at", ty: Type::Time, absent: true, doc: "When the key ends." },
        Output { name: "auth.credential", ty: Type::Text, absent: false, doc: "The key as presented, a token." },
    ],
    faults: &[
        FaultDoc { code: "authenticate_api_key.missing", status: 401, doc: "No key came where `from` looks." },
        FaultDoc {
            code: "authenticate_api_key.invalid",
            status: 401,
            doc: "Unknown, revoked, expired, suspended or not yet valid; the record's `detail` says which.",
        },
        FaultDoc {
            code: "authenticate_api_key.ambiguous",
            status: 400,
            doc: "The key came twice, or is longer than 16 KiB.",
        },
        FaultDoc {
            code: "authenticate_api_key.too_many_failures",
            status: 429,
            doc: "Too many wrong keys from this address: see `guessing` in gateway.yaml. `Retry-After` tells how long.",
        },
    ],
    examples: &[Example {
        title: "Applications by their key",
        yaml: r#"
api_keys: partners
entries:
  - { id: acme, hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b", client: acme, plan: gold }
---
service: example
match: { path: /items }
policy:
  - authenticate_api_key: partners
  - respond: { json: { client: "${auth.client}", key: "${api_key.id}", plan: "${api_key.plan ?? 'none'}" } }
tests:
  given: { api_keys: { partners: { acme: { value: k-1, plan: gold } } } }
  cases:
    - name: the key's application is known
      request: { api_key: acme }
      expect: { status: 200, json: { client: acme, key: acme, plan: gold } }
    - name: no key
      request: {}
      expect:
        status: 401
        fault: authenticate_api_key.missing
        headers: { www-authenticate: 'ApiKey realm="example"' }
    - name: a wrong key
      request: { headers: { x-api-key: k-2 } }
      expect: { status: 401, fault: authenticate_api_key.invalid }
    - name: guessing is stopped, for a right key too
      exchanges:
        - { request: { headers: { x-api-key: k-2 } }, repeat: 10, expect: { status: 401 } }
        - request: { api_key: acme }
          expect:
            status: 429
            fault: authenticate_api_key.too_many_failures
            headers: { retry-after: "300" }
"#,
    }],
    ..Kind::of::<AuthenticateApiKey>(
        "authenticate_api_key",
        "Recognises the calling application by a key.",
        Category::Access,
    )
};

/// Parameters of `authenticate_api_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuthenticateApiKey {
    /// Name of an `api_keys` document.
    keys: Name,
    /// Where the key is read from.
    #[serde(default = "x_api_key")]
    from: From,
    /// Realm of the challenge; the service's name without it.
    #[serde(default)]
    realm: Option<Literal>,
    /// Lets `route` forward the key.
    #[serde(default)]
    keep_credential: bool,
}

fn x_api_key() -> From {
    From::header("x-api-key")
}

impl Assertion for AuthenticateApiKey {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let keys = cx.resource("api_keys", &self.keys, |all| &all.api_keys);
        let credential = cx.credential(self.from, step.span);
        let challenge = cx.challenge("ApiKey", self.realm.as_ref(), "", step.span);
        let identity = cx.identify(step, true);
        let slots = KeySlots::declare(step, cx)?;
        cx.proved_by_key(step, &self.keys.name, slots.id);
        let credential = credential?;
        let presented = cx.presented(step, &credential);
        Compiled::plain(AuthenticateApiKeyStep {
            keys: keys?,
            credential,
            presented,
            challenge: challenge?,
            identity: identity?,
            slots,
            keep_credential: self.keep_credential,
        })
    }
}

/// The variables of an API key, `api_key.*`.
#[derive(Debug)]
pub(super) struct KeySlots {
    pub(super) id: Slot,
    plan: Slot,
    expires_at: Slot,
}

impl KeySlots {
    /// Declares them for the step at hand.
    pub(super) fn declare(step: &Step<'_>, cx: &mut Compile<'_>) -> Option<KeySlots> {
        let [id, plan, expires_at] = [0, 1, 2].map(|at| KIND.sets.get(at));
        Some(KeySlots {
            id: cx.out_below(id?, step),
            plan: cx.out_below(plan?, step),
            expires_at: cx.out_below(expires_at?, step),
        })
    }

    /// Sets them; texts are shared with the entry.
    pub(super) fn set(&self, x: &mut Exchange, key: &ApiKey) {
        let end = key.expires_at_unix_s.and_then(|seconds| Timestamp::from_second(seconds).ok());
        x.set(self.id, Value::Text(key.id.clone()));
        x.set(self.plan, key.plan.clone().map_or(Value::Absent, Value::Text));
        x.set(self.expires_at, end.map_or(Value::Absent, Value::Time));
    }
}

struct AuthenticateApiKeyStep {
    keys: Arc<ApiKeys>,
    credential: Credential,
    presented: Presented,
    challenge: HeaderValue,
    identity: Slot,
    slots: KeySlots,
    keep_credential: bool,
}

impl Plain for AuthenticateApiKeyStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.authenticate(x).into()
    }
}

impl AuthenticateApiKeyStep {
    fn authenticate(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let Some(credential) = self.credential.find(x)? else {
            return Err(self.denied("authenticate_api_key.missing", "no key where `from` looks"));
        };
        let throttle = &x.worker.shared.throttle;
        let now_ms = || x.worker.clock.mono_ms();
        if !throttle.is_quiet(now_ms)
            && let Some(seconds) = throttle.blocked(self.keys.name(), None, &x.client.ip.to_string(), now_ms())
        {
            let code = "authenticate_api_key.too_many_failures";
            let fault = Fault::denied(StatusCode::TOO_MANY_REQUESTS, code, "too many wrong keys from this address");
            return Err(fault.with_retry_after(seconds));
        }
        // A key counts as of the moment the request arrived: one clock reading less.
        let at = x.received.as_second();
        let Some(key) = self.keys.find(credential.as_bytes(), at) else {
            throttle.failed(self.keys.name(), None, &x.client.ip.to_string(), now_ms());
            return Err(self.denied("authenticate_api_key.invalid", self.keys.refusal(credential.as_bytes(), at)));
        };
        let presented = self.presented.value(&credential);
        self.presented.keep(x, presented);
        x.identify(self.identity, key.identity.clone());
        self.slots.set(x, key);
        if !self.keep_credential {
            self.credential.withhold(x);
        }
        Ok(())
    }

    fn denied(&self, code: &'static str, detail: &'static str) -> Box<Fault> {
        Fault::denied(StatusCode::UNAUTHORIZED, code, detail).with_challenge(self.challenge.clone())
    }
}

#[cfg(test)]
#[path = "authenticate_api_key/tests.rs"]
mod tests;
