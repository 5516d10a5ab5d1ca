//! `authenticate_basic`: checks user name and password of HTTP Basic against directories.
//!
//! RFC 7617 §2: strict base64 of UTF-8 text, the first colon splits, control characters are refused. An
//! empty name or password is refused before any lookup (RFC 4513 §5.1.2 tells what happens otherwise).
//! Unknown users cost the same hash work as wrong passwords. Only `users` documents are directories yet.

use std::sync::Arc;

use data_encoding::BASE64;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::compile::credential::{Credential, From};
use crate::compile::identity::Presented;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Flow, Verdict, Waits};
use crate::engine::read::Slot;
use crate::engine::value::{Element, Type, Value};
use crate::fault::Fault;
use crate::identity::hash_pool::Busy;
use crate::identity::users::{Answer, Check, Users};
use crate::source::{Literal, Name, OneOrMany};

/// Seconds after which a check refused for want of room may be tried again.
const BUSY_RETRY_S: u64 = 1;

pub const KIND: Kind = Kind {
    main: Some("directory"),
    sets: &[
        Output { name: "auth.scheme", ty: Type::Text, absent: false, doc: "`basic`" },
        Output { name: "auth.subject", ty: Type::Text, absent: false, doc: "The user's name." },
        Output { name: "auth.groups", ty: Type::List(Element::Text), absent: false, doc: "Groups of the user." },
        Output { name: "auth.attributes", ty: Type::Map(Element::Text), absent: false, doc: "Attributes of the user." },
        Output {
            name: "auth.credential",
            ty: Type::Text,
            absent: false,
            doc: "Name and password as presented (base64), a token.",
        },
    ],
    faults: &[
        FaultDoc { code: "authenticate_basic.missing", status: 401, doc: "No Basic credentials came." },
        FaultDoc {
            code: "authenticate_basic.malformed",
            status: 401,
            doc: "Not base64 of `name:password` in UTF-8, an empty name or password, or a control character.",
        },
        FaultDoc {
            code: "authenticate_basic.invalid",
            status: 401,
            doc: "Unknown or disabled user, or a wrong password; the record's `detail` says which.",
        },
        FaultDoc { code: "authenticate_basic.ambiguous", status: 400, doc: "The credentials came twice." },
        FaultDoc {
            code: "authenticate_basic.too_many_failures",
            status: 429,
            doc: "Too many failures of this name or address: see `guessing` in gateway.yaml.",
        },
        FaultDoc {
            code: "authenticate_basic.busy",
            status: 503,
            doc: "More password checks wait than the machine can do soon. Are the hashes too costly for its load?",
        },
        FaultDoc {
            code: "authenticate_basic.directory_unavailable",
            status: 503,
            doc: "The directory gave no answer.",
        },
    ],
    examples: &[Example {
        title: "Staff by name and password",
        yaml: r#"
users: staff
entries:
  ann: { password: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", groups: [managers] }
---
service: example
match: { path: /items }
policy:
  - authenticate_basic: { directory: staff, realm: Items }
  - respond: { json: { user: "${auth.subject}", groups: "${auth.groups}" } }
tests:
  given: { users: { staff: { ann: { password: pw, groups: [managers] } } } }
  cases:
    - name: the right password
      request: { basic: { ann: pw } }
      expect: { status: 200, json: { user: ann, groups: [managers] } }
    - name: none
      request: {}
      expect:
        status: 401
        fault: authenticate_basic.missing
        headers: { www-authenticate: 'Basic realm="Items", charset="UTF-8"' }
    - name: a wrong password
      request: { basic: { ann: other } }
      expect: { status: 401, fault: authenticate_basic.invalid }
    - name: an unknown user hears the same
      request: { basic: { eve: pw } }
      expect: { status: 401, fault: authenticate_basic.invalid }
    - name: an empty password is never looked up
      request: { headers: { authorization: "Basic ${base64('ann:')}" } }
      expect: { status: 401, fault: authenticate_basic.malformed }
    - name: no base64
      request: { headers: { authorization: "Basic ann:pw" } }
      expect: { status: 401, fault: authenticate_basic.malformed }
    - name: guessing is stopped
      exchanges:
        - { request: { basic: { ann: guess } }, repeat: 10, expect: { status: 401 } }
        - request: { basic: { ann: pw } }
          expect: { status: 429, fault: authenticate_basic.too_many_failures, headers: { retry-after: "300" } }
"#,
    }],
    ..Kind::of::<AuthenticateBasic>(
        "authenticate_basic",
        "Checks user name and password of HTTP Basic against a directory.",
        Category::Access,
    )
};

/// Parameters of `authenticate_basic`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuthenticateBasic {
    /// Name of a `users` document. Of a list the first that knows the name decides.
    directory: OneOrMany<Name>,
    /// Realm of the challenge; the service's name without it.
    #[serde(default)]
    realm: Option<Literal>,
    /// Where the credentials are read from.
    #[serde(default = "authorization")]
    from: From,
    /// Lets `route` forward the credentials.
    #[serde(default)]
    keep_credential: bool,
}

fn authorization() -> From {
    From::authorization("Basic")
}

impl Assertion for AuthenticateBasic {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if self.directory.is_empty() {
            let help = "write the name of a `users` document";
            return cx.refuse("policy.empty_list", step.span, "no directory is named: nobody could pass", help);
        }
        let directories: Vec<Option<Arc<Users>>> =
            self.directory.iter().map(|name| cx.resource("users", name, |all| &all.users)).collect();
        let credential = cx.credential(self.from, step.span);
        let challenge = cx.challenge("Basic", self.realm.as_ref(), ", charset=\"UTF-8\"", step.span);
        let identity = cx.identify(step, false);
        let credential = credential?;
        let presented = cx.presented(step, &credential);
        Compiled::waits(AuthenticateBasicStep {
            directories: directories.into_iter().collect::<Option<_>>()?,
            credential,
            presented,
            challenge: challenge?,
            identity: identity?,
            keep_credential: self.keep_credential,
        })
    }
}

struct AuthenticateBasicStep {
    directories: Vec<Arc<Users>>,
    credential: Credential,
    presented: Presented,
    challenge: HeaderValue,
    identity: Slot,
    keep_credential: bool,
}

/// A check that has begun.
struct Begun {
    directory: Arc<Users>,
    check: Check,
    presented: Option<Value>,
}

impl Waits for AuthenticateBasicStep {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        let Begun { directory, check, presented } = match self.begin(x) {
            Ok(begun) => begun,
            Err(fault) => return Flow::Now(Verdict::Fault(fault)),
        };
        let job = match check {
            Check::Answer(answer) => return Flow::Now(self.conclude(x, answer, presented)),
            Check::Work(job) => job,
        };
        let receiver = match x.worker.shared.hashes.try_submit(move || job.run()) {
            Ok(receiver) => receiver,
            Err(Busy) => {
                let code = "authenticate_basic.busy";
                let fault = Fault::broken(StatusCode::SERVICE_UNAVAILABLE, code, "too many password checks wait");
                return Flow::Now(Verdict::Fault(fault.with_retry_after(BUSY_RETRY_S)));
            }
        };
        Flow::Later(Box::pin(async move {
            let Ok(outcome) = receiver.await else {
                let code = "authenticate_basic.directory_unavailable";
                let detail = format!("the password check of `{}` ended without an answer", directory.name());
                return Verdict::Fault(Fault::broken(StatusCode::SERVICE_UNAVAILABLE, code, detail));
            };
            let answer = directory.finish(&x.worker.shared.throttle, outcome, x.worker.clock.mono_ms());
            self.conclude(x, answer, presented)
        }))
    }
}

impl AuthenticateBasicStep {
    fn begin(&self, x: &Exchange) -> Result<Begun, Box<Fault>> {
        let Some(credential) = self.credential.find(x)? else {
            return Err(self.denied("authenticate_basic.missing", "no Basic credentials where `from` looks"));
        };
        let decoded = decode(&credential).map_err(|why| self.denied("authenticate_basic.malformed", why))?;
        let Some((name, password)) = decoded.split_once(':') else {
            return Err(self.denied("authenticate_basic.malformed", "no colon between name and password"));
        };
        // Where no directory knows the name the last one is asked all the same: the work must be done.
        let known = self.directories.iter().find(|directory| directory.knows(name));
        let Some(directory) = known.or(self.directories.last()) else {
            return Err(self.denied("authenticate_basic.invalid", "no directory"));
        };
        let (client, now_ms) = (x.client.ip.to_string(), x.worker.clock.mono_ms());
        let check = directory.begin(&x.worker.shared.throttle, name, password, &client, now_ms);
        Ok(Begun { directory: directory.clone(), check, presented: self.presented.value(&credential) })
    }

    fn conclude(&self, x: &mut Exchange, answer: Answer, presented: Option<Value>) -> Verdict {
        let fault = match answer {
            Answer::Known(identity) => {
                self.presented.keep(x, presented);
                x.identify(self.identity, identity);
                if !self.keep_credential {
                    self.credential.withhold(x);
                }
                return Verdict::Passed;
            }
            Answer::Denied(denial) if denial.is_malformed() => {
                self.denied("authenticate_basic.malformed", denial.to_string())
            }
            Answer::Denied(denial) => self.denied("authenticate_basic.invalid", denial.to_string()),
            Answer::TooManyFailures { retry_after_s } => {
                let code = "authenticate_basic.too_many_failures";
                let detail = "too many failures of this name or address";
                Fault::denied(StatusCode::TOO_MANY_REQUESTS, code, detail).with_retry_after(retry_after_s)
            }
        };
        Verdict::Fault(fault)
    }

    fn denied(&self, code: &'static str, detail: impl Into<String>) -> Box<Fault> {
        Fault::denied(StatusCode::UNAUTHORIZED, code, detail).with_challenge(self.challenge.clone())
    }
}

/// `name:password` out of the credentials (RFC 7617 §2). Overwritten after use: it holds a password.
fn decode(credential: &str) -> Result<Zeroizing<String>, &'static str> {
    let bytes = BASE64.decode(credential.as_bytes()).map_err(|_| "not base64 (RFC 4648 §4, with padding)")?;
    let text = String::from_utf8(bytes).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        "not UTF-8"
    })?;
    Ok(Zeroizing::new(text))
}

#[cfg(test)]
#[path = "authenticate_basic/tests.rs"]
mod tests;
