//! `generate_security_hash`: calculates an HMAC or a digest over data.
//!
//! RFC 2104 (HMAC), FIPS 180-4 (SHA), RFC 4648 (encodings). Text is hashed as UTF-8, line ends are never
//! rewritten. SHA-1 and MD5 are for old partners who ask for them; they protect no key and no password.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::hashed::{Data, HashEncoding, HashKey, Unfed};
use crate::compile::key::KeyParam;
use crate::compile::message::Message;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::digest::Algorithm;
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::value::{Facts, Text as SharedText, Type, Value};
use crate::fault::Fault;
use crate::source::{Diagnostic, Literal, OneOrMany, Spanned, Text};

pub const KIND: Kind = Kind {
    main: Some("data"),
    bodies: "buffer, where `data` reads a body or is left out",
    sets: &[
        Output { name: "hash.value", ty: Type::Text, absent: false, doc: "The hash as text, in `encoding`." },
        Output { name: "hash.bytes", ty: Type::Bytes, absent: false, doc: "The hash itself." },
        Output { name: "hash.algorithm", ty: Type::Text, absent: false, doc: "What it was made with." },
    ],
    faults: &[
        FaultDoc {
            code: "generate_security_hash.key_unavailable",
            status: 503,
            doc: "The key is not there: an unknown or unusable API key, one without a signing secret, or an empty text.",
        },
        FaultDoc {
            code: "generate_security_hash.absent",
            status: 400,
            doc: "A part of `data` is absent. By origin of the value: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "Sign a request for a partner",
            yaml: r#"
secret: partner
from: { env: PARTNER_SECRET }
---
service: example
match: { path: "/orders/{id}", methods: [GET, POST] }
policy:
  - generate_security_hash:
      data: ["${request.method}", "${request.path}", "${request.headers.date ?? ''}"]
      key: { secret: partner }
      encoding: hex
  - respond: { text: "${hash.algorithm} ${hash.value}" }
tests:
  given: { secrets: { partner: test-value-0123456789 } }
  cases:
    - name: parts are joined by line feeds
      request: { path: /orders/7, headers: { date: today } }
      expect:
        status: 200
        text: "hmac-sha256 ${hmac_sha256('test-value-0123456789', ['GET', '/orders/7', 'today'])}"
    - name: an absent field is what the policy says
      request: { method: POST, path: /orders/7 }
      expect: { status: 200, text: "hmac-sha256 ${hmac_sha256('test-value-0123456789', ['POST', '/orders/7', ''])}" }
"#,
        },
        Example {
            title: "A digest of the body",
            yaml: r#"
service: example
match: { path: /digest, methods: [POST] }
policy:
  - generate_security_hash: { algorithm: sha256 }
  - respond: { status: 204, headers: { repr-digest: "sha-256=:${hash.value}:" } }
tests:
  - name: of abc
    request: { method: POST, text: abc }
    expect: { status: 204, headers: { repr-digest: "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:" } }
"#,
        },
    ],
    ..Kind::of::<GenerateSecurityHash>(
        "generate_security_hash",
        "Calculates an HMAC or digest over data.",
        Category::Tokens,
    )
};

/// Parameters of `generate_security_hash`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GenerateSecurityHash {
    /// A text, or a list of parts; one that is exactly `${...}` of bytes is hashed as it is. Without it, the
    /// raw body of `message`.
    #[serde(default)]
    data: Option<OneOrMany<Text>>,
    /// Stands between the parts; a line feed without it.
    #[serde(default)]
    separator: Option<Literal>,
    /// Whose body, where `data` is left out.
    #[serde(default)]
    message: Option<Spanned<Message>>,
    /// What to calculate. `hmac-sha1`, `sha1` and `md5` are for old partners only.
    #[serde(default)]
    algorithm: Word,
    /// Needed for `hmac-*`, refused otherwise.
    #[serde(default)]
    key: Option<KeyParam>,
    /// How `hash.value` is written.
    #[serde(default)]
    encoding: HashEncoding,
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
    Sha1,
    Md5,
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
            Word::Sha1 => Algorithm::Sha1,
            Word::Md5 => Algorithm::Md5,
        }
    }
}

impl Assertion for GenerateSecurityHash {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let algorithm = self.algorithm.algorithm();
        if matches!(algorithm, Algorithm::HmacSha1 | Algorithm::Sha1 | Algorithm::Md5) {
            let message = format!("`{}` is broken or weak: only for partners who ask for it", algorithm.word());
            let help = "use `hmac-sha256` or `sha256` where you may choose";
            cx.report(Diagnostic::warning("policy.weak_algorithm", step.span, message).with_help(help));
        }
        let side = match (&self.data, &self.message) {
            (Some(_), Some(message)) => {
                let help = "remove one of them";
                return cx.refuse("policy.bad_value", message.span, "`message` is for the body, `data` is given", help);
            }
            (Some(_), None) => Some(Side::Request),
            (None, message) => {
                let span = message.as_ref().map_or(step.span, |message| message.span);
                cx.side(message.as_ref().map(|message| message.value), span)
            }
        };
        let key = cx.hash_key(self.key, algorithm, step.span);
        let data = cx.hashed_data(self.data.as_ref(), self.separator.as_ref(), side?, step.span)?;
        // A keyed hash cannot be chosen by whoever sends the data; a plain one is as good as the data.
        let of_data = data.facts();
        let origin = if algorithm.is_keyed() { Facts::policy(Type::Any).origin } else { of_data.origin };
        let facts = |ty| Facts { origin, ..Facts::policy(ty).marked(of_data.mark) };
        let value = cx.out_with("hash.value", step.renamed(), facts(Type::Text));
        let bytes = cx.out_with("hash.bytes", step.renamed(), facts(Type::Bytes));
        let algorithm_slot = cx.out_with("hash.algorithm", step.renamed(), Facts::policy(Type::Text));
        Compiled::plain(GenerateSecurityHashStep {
            data,
            key: key?,
            encoding: self.encoding,
            word: algorithm.word().into(),
            value,
            bytes,
            algorithm: algorithm_slot,
        })
    }
}

struct GenerateSecurityHashStep {
    data: Data,
    key: HashKey,
    encoding: HashEncoding,
    word: SharedText,
    value: Slot,
    bytes: Slot,
    algorithm: Slot,
}

impl Plain for GenerateSecurityHashStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.generate(x).into()
    }
}

impl GenerateSecurityHashStep {
    fn generate(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let Some(hasher) = self.key.hasher(x)? else {
            let code = "generate_security_hash.key_unavailable";
            let detail = "no such key, or an empty one";
            return Err(Fault::broken(StatusCode::SERVICE_UNAVAILABLE, code, detail));
        };
        let mut hashers = [hasher];
        self.data.feed(x, &mut hashers).map_err(|unfed| match unfed {
            Unfed::Absent(fault) | Unfed::Broken(fault) => fault,
        })?;
        let [hasher] = hashers;
        let hash = hasher.finish();
        x.set(self.value, Value::text(self.encoding.encode(&hash)));
        x.set(self.bytes, Value::Bytes(Bytes::copy_from_slice(&hash)));
        x.set(self.algorithm, Value::Text(Arc::clone(&self.word)));
        Ok(())
    }
}

#[cfg(test)]
#[path = "generate_security_hash/tests.rs"]
mod tests;
