//! `authenticate_mtls`: identifies the caller by the TLS client certificate of its connection.
//!
//! The listener has verified the certificate (RFC 5280 §6, with the purpose of clients, against its `client_ca` and
//! its revocation lists); this step looks at the time again, since connections live long, may narrow whom it trusts,
//! and says who it is. Names are compared as parsed parts (RFC 5280 §7.1), DNS names with one leading `*.` label
//! allowed in the policy. Behind a proxy that has ended TLS the certificate may come in a field (RFC 9440). A directory
//! adds groups and attributes, and decides nothing but that a disabled user is not let in.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::subject::{Subject, SubjectDoc};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::{Exchange, Withheld};
use crate::engine::program::{Plain, Verdict};
use crate::engine::read::Slot;
use crate::engine::value::{Element, Type, Value};
use crate::fault::Fault;
use crate::identity::Identity;
use crate::identity::users::{Listed, Users};
use crate::source::{Literal, Name, OneOrMany};
use crate::tls::{ClientCertificate, ClientTrust, Distrust, Dn};

mod from_header;
mod subject;

/// Hexadecimal digits of a SHA-256 fingerprint.
const FINGERPRINT_DIGITS: usize = 64;

pub const KIND: Kind = Kind {
    main: Some("trust"),
    sets: &[
        Output { name: "cert.subject", ty: Type::Text, absent: false, doc: "Its subject, as in RFC 4514." },
        Output { name: "cert.issuer", ty: Type::Text, absent: false, doc: "Its issuer, as in RFC 4514." },
        Output { name: "cert.serial", ty: Type::Text, absent: false, doc: "Its serial number, in hexadecimal digits." },
        Output { name: "cert.san_dns", ty: Type::List(Element::Text), absent: false, doc: "Its DNS names." },
        Output { name: "cert.san_uri", ty: Type::List(Element::Text), absent: false, doc: "Its URIs." },
        Output { name: "cert.san_email", ty: Type::List(Element::Text), absent: false, doc: "Its mail addresses." },
        Output { name: "cert.not_before", ty: Type::Time, absent: true, doc: "When it begins." },
        Output { name: "cert.not_after", ty: Type::Time, absent: true, doc: "When it ends." },
        Output {
            name: "cert.fingerprint_sha256",
            ty: Type::Text,
            absent: false,
            doc: "SHA-256 of it, in hexadecimal digits.",
        },
        Output { name: "auth.scheme", ty: Type::Text, absent: false, doc: "`mtls`" },
        Output { name: "auth.subject", ty: Type::Text, absent: false, doc: "What `subject` chooses." },
        Output {
            name: "auth.groups",
            ty: Type::List(Element::Text),
            absent: false,
            doc: "The groups that `directory` knows of the subject.",
        },
        Output {
            name: "auth.attributes",
            ty: Type::Map(Element::Text),
            absent: false,
            doc: "The attributes that `directory` knows of the subject.",
        },
    ],
    faults: &[
        FaultDoc { code: "authenticate_mtls.missing", status: 401, doc: "The client has shown no certificate." },
        FaultDoc {
            code: "authenticate_mtls.untrusted",
            status: 403,
            doc: "The certificate is not of an authority that `trust` names; the record's `detail` says why.",
        },
        FaultDoc {
            code: "authenticate_mtls.expired",
            status: 403,
            doc: "The certificate has ended since the connection was made, or has not begun.",
        },
        FaultDoc {
            code: "authenticate_mtls.revoked",
            status: 403,
            doc: "The certificate is on a revocation list (`crls`) of `trust`.",
        },
        FaultDoc {
            code: "authenticate_mtls.revocation_unavailable",
            status: 503,
            doc: "A revocation list of `trust` is past its time, and `stale_crl: accept` is not said.",
        },
        FaultDoc {
            code: "authenticate_mtls.not_allowed",
            status: 403,
            doc: "Nothing of `allow` fits the certificate, or it has no name of the kind that `subject` wants, or the user is disabled in `directory`.",
        },
    ],
    examples: &[
        Example {
            title: "Services by the names in their certificates",
            yaml: r#"
service: example
match: { path: /items }
policy:
  - authenticate_mtls:
      subject: san_dns
      allow: { san_dns: ["*.internal.example"], dn: "CN=batch,O=Example" }
  - respond: { json: { subject: "${auth.subject}", certificate: "${cert.subject}" } }
tests:
  - name: a name that is allowed
    request: { client: { certificate: { subject: "CN=orders,O=Example", san_dns: orders.internal.example } } }
    expect: { status: 200, json: { subject: orders.internal.example, certificate: "CN=orders,O=Example" } }
  - name: a subject that is allowed
    request: { client: { certificate: { subject: "CN=batch, O=Example", san_dns: batch.example } } }
    expect: { status: 200, json: { subject: batch.example, certificate: "CN=batch,O=Example" } }
  - name: another name
    request: { client: { certificate: { subject: "CN=other,O=Example", san_dns: a.b.internal.example } } }
    expect: { status: 403, fault: authenticate_mtls.not_allowed }
  - name: no certificate
    request: {}
    expect:
      status: 401
      fault: authenticate_mtls.missing
      headers: { www-authenticate: 'ClientCertificate realm="example"' }
"#,
        },
        Example {
            title: "People by their mail address, with the groups of a directory",
            yaml: r#"
users: staff
entries:
  ann@example.com:
    password: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
    groups: [managers]
    attributes: { site: north }
---
service: example
match: { path: /items }
policy:
  - authenticate_mtls: { subject: san_email, directory: staff }
  - authorize: managers
  - respond: { text: "${auth.subject} of ${auth.attributes.site ?? 'nowhere'}" }
tests:
  given:
    users:
      staff:
        ann@example.com: { password: pw, groups: [managers], attributes: { site: north } }
        dan@example.com: { password: pw, groups: [managers], disabled: true }
  cases:
    - name: somebody whom the directory knows
      request: { client: { certificate: { san_email: ann@example.com } } }
      expect: { status: 200, text: ann@example.com of north }
    - name: somebody whom it does not know has no groups
      request: { client: { certificate: { san_email: eve@example.com } } }
      expect: { status: 403, fault: authorize.group }
    - name: somebody who is disabled
      request: { client: { certificate: { san_email: dan@example.com } } }
      expect: { status: 403, fault: authenticate_mtls.not_allowed }
    - name: a certificate without an address
      request: { client: { certificate: { san_dns: ann.example.com } } }
      expect: { status: 403, fault: authenticate_mtls.not_allowed }
"#,
        },
        Example {
            title: "Devices by their issuer and their name",
            yaml: r#"
service: example
match: { path: /readings }
policy:
  - authenticate_mtls: { subject: "${lower(cert.issuer)} ${cert.san_dns[0] ?? 'no name'}" }
  - respond: { text: "${auth.subject}" }
tests:
  - name: a name of our own making
    request: { client: { certificate: { issuer: "CN=Devices", san_dns: d7.example.com } } }
    expect: { status: 200, text: cn=devices d7.example.com }
  - name: a part that is not there
    request: { client: { certificate: { issuer: "CN=Devices" } } }
    expect: { status: 200, text: cn=devices no name }
"#,
        },
    ],
    ..Kind::of::<AuthenticateMtls>(
        "authenticate_mtls",
        "Identifies the caller by its TLS client certificate.",
        Category::Access,
    )
};

/// Parameters of `authenticate_mtls`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuthenticateMtls {
    /// Name of a `key` of kind `certificates`: only these authorities, of those that the listener trusts.
    #[serde(default)]
    trust: Option<Name>,
    /// What of the certificate names the caller: `auto` (without it), `san_uri`, `san_dns`, `san_email`, `common_name`, `dn`,
    /// or a text over `cert.*`.
    #[serde(default)]
    subject: Option<SubjectDoc>,
    /// Whom to let in; one match suffices. Everybody with a trusted certificate without it.
    #[serde(default)]
    allow: Option<AllowDoc>,
    /// Name of a `users` document: the entry that is called like the subject adds its groups and attributes. Who is not
    /// in it has none, who is disabled there is not let in.
    #[serde(default)]
    directory: Option<Name>,
    /// `client_cert`: behind a trusted proxy of the listener the certificate is what the proxy passes on in `Client-Cert` and
    /// `Client-Cert-Chain` (RFC 9440). It needs `trust`: nobody here has seen the client prove anything. Neither field is
    /// forwarded then.
    #[serde(default)]
    from_header: FromHeader,
    /// Realm of the challenge; the service's name without it.
    #[serde(default)]
    realm: Option<Literal>,
}

/// Where the certificate comes from behind a trusted proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
enum FromHeader {
    /// The connection: it is the proxy's own.
    #[default]
    #[serde(rename = "false")]
    No,
    #[serde(rename = "client_cert")]
    ClientCert,
}

/// Certificates that are let in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AllowDoc {
    /// Subjects such as `CN=app,O=Example`.
    dn: Option<OneOrMany<Literal>>,
    /// DNS names; `*.example.com` stands for one label more.
    san_dns: Option<OneOrMany<Literal>>,
    /// URIs.
    san_uri: Option<OneOrMany<Literal>>,
    /// Mail addresses.
    san_email: Option<OneOrMany<Literal>>,
    /// SHA-256 of the whole certificate, in hexadecimal digits; colons are left out.
    fingerprint_sha256: Option<OneOrMany<Literal>>,
}

/// The same, ready to be compared.
#[derive(Default)]
struct Allow {
    dn: Vec<Dn>,
    san_dns: Vec<String>,
    san_uri: Vec<String>,
    san_email: Vec<String>,
    fingerprint_sha256: Vec<String>,
}

impl Assertion for AuthenticateMtls {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let slots = KIND.sets.iter().filter(|output| output.name.starts_with("cert."));
        let slots = slots.map(|output| cx.out_below(output, step)).collect();
        let subject = self.subject.as_ref().map_or(Some(Subject::Auto), |subject| subject.compile(cx));
        let challenge = cx.challenge("ClientCertificate", self.realm.as_ref(), "", step.span);
        let trust = match &self.trust {
            Some(name) => {
                let known = cx.resource("key of kind `certificates`", name, |all| &all.certificates)?;
                match ClientTrust::new(&known.list, &known.revocation) {
                    Ok(trust) => trust,
                    Err(why) => {
                        return cx.refuse("policy.bad_tls", name.span, &why, "name certificates of authorities");
                    }
                }
            }
            None => None,
        };
        let directory = match &self.directory {
            Some(name) => Some(cx.resource("users", name, |all| &all.users)?),
            None => None,
        };
        let allow = match self.allow {
            Some(doc) => Some(doc.compile(step, cx)?),
            None => None,
        };
        match (self.from_header, &self.trust) {
            (FromHeader::No, _) => cx.wants_certificate.push(cx.current()),
            (FromHeader::ClientCert, Some(_)) => {}
            (FromHeader::ClientCert, None) => {
                let message = "`from_header` needs `trust`: the listener has not verified what a proxy passes on";
                let help = "write `trust: NAME`, a `key` of kind `certificates` with the authorities of the clients";
                return cx.refuse("policy.missing_parameter", step.span, message, help);
            }
        }
        let identity = cx.identify(step, false);
        Compiled::plain(AuthenticateMtlsStep {
            trust,
            subject: subject?,
            allow,
            directory,
            from_header: self.from_header,
            challenge: challenge?,
            identity: identity?,
            slots,
        })
    }
}

impl AllowDoc {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Allow> {
        let mut allow = Allow::default();
        for literal in self.dn.iter().flat_map(OneOrMany::iter) {
            let text = cx.literal(literal)?;
            match Dn::parse(&text) {
                Ok(name) => allow.dn.push(name),
                Err(why) => return cx.refuse("policy.bad_value", literal.span(), &why, "write `CN=app,O=Example`"),
            }
        }
        for literal in self.fingerprint_sha256.iter().flat_map(OneOrMany::iter) {
            let digits = cx.literal(literal)?.replace(':', "").to_ascii_lowercase();
            if digits.len() != FINGERPRINT_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let message = format!("a SHA-256 fingerprint has {FINGERPRINT_DIGITS} hexadecimal digits");
                let help = "`openssl x509 -in FILE -noout -fingerprint -sha256` prints it";
                return cx.refuse("policy.bad_value", literal.span(), &message, help);
            }
            allow.fingerprint_sha256.push(digits);
        }
        let mut texts = |list: &Option<OneOrMany<Literal>>| {
            list.iter().flat_map(OneOrMany::iter).map(|literal| cx.literal(literal)).collect::<Option<Vec<_>>>()
        };
        allow.san_dns = texts(&self.san_dns)?.iter().map(|name| name.to_ascii_lowercase()).collect();
        allow.san_uri = texts(&self.san_uri)?;
        allow.san_email = texts(&self.san_email)?;
        let lists = [&allow.san_dns, &allow.san_uri, &allow.san_email, &allow.fingerprint_sha256];
        if allow.dn.is_empty() && lists.iter().all(|list| list.is_empty()) {
            let help = "name whom to let in, or leave `allow` out";
            return cx.refuse("policy.empty_list", step.span, "`allow` lets nobody in", help);
        }
        Some(allow)
    }
}

impl Allow {
    fn fits(&self, certificate: &ClientCertificate) -> bool {
        let any = |wanted: &[String], has: &[String]| has.iter().any(|name| wanted.contains(name));
        self.dn.contains(&certificate.subject)
            || certificate.san_dns.iter().any(|name| self.san_dns.iter().any(|wanted| dns_fits(wanted, name)))
            || any(&self.san_uri, &certificate.san_uri)
            || any(&self.san_email, &certificate.san_email)
            || self.fingerprint_sha256.contains(&certificate.fingerprint_sha256)
    }
}

/// Whether a DNS name is the wanted one, whose first label may be `*`: one label, whatever it is.
fn dns_fits(wanted: &str, name: &str) -> bool {
    match wanted.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => wanted == name,
    }
}

struct AuthenticateMtlsStep {
    /// `None` for whomever the listener trusts.
    trust: Option<ClientTrust>,
    subject: Subject,
    allow: Option<Allow>,
    directory: Option<Arc<Users>>,
    from_header: FromHeader,
    challenge: HeaderValue,
    identity: Slot,
    /// Of `cert.*`, in the order of the outputs.
    slots: Vec<Slot>,
}

impl Plain for AuthenticateMtlsStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.authenticate(x).into()
    }
}

impl AuthenticateMtlsStep {
    fn authenticate(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let session = x.client.tls.clone();
        let passed_on = match self.from_header {
            FromHeader::No => None,
            FromHeader::ClientCert => self.passed_on(x)?,
        };
        let own = || session.as_ref().and_then(|session| session.client.as_ref());
        let Some(certificate) = passed_on.as_ref().or_else(own) else {
            let detail = match session {
                Some(_) => "the client has shown no certificate",
                None => "the connection has no TLS",
            };
            return Err(self.missing(detail));
        };
        let now = x.received.as_second();
        if now < certificate.not_before || now > certificate.not_after {
            return Err(denied("authenticate_mtls.expired", "the certificate has ended, or has not begun"));
        }
        match self.trust.as_ref().map(|trust| trust.verify(certificate, now)) {
            None | Some(Ok(())) => {}
            Some(Err(Distrust::Expired)) => {
                return Err(denied("authenticate_mtls.expired", "a certificate of its chain has ended"));
            }
            Some(Err(Distrust::Revoked)) => {
                return Err(denied("authenticate_mtls.revoked", "a certificate of its chain is revoked"));
            }
            Some(Err(Distrust::StaleList)) => {
                let code = "authenticate_mtls.revocation_unavailable";
                let detail = "a revocation list is past its time";
                return Err(Fault::broken(StatusCode::SERVICE_UNAVAILABLE, code, detail));
            }
            Some(Err(Distrust::Untrusted(why))) => return Err(denied("authenticate_mtls.untrusted", &why)),
        }
        if self.allow.as_ref().is_some_and(|allow| !allow.fits(certificate)) {
            let detail = format!("nothing of `allow` fits `{}`", certificate.subject);
            return Err(denied("authenticate_mtls.not_allowed", &detail));
        }
        for (slot, value) in self.slots.iter().zip(values(certificate)) {
            x.set(*slot, value);
        }
        let Some(subject) = self.subject.of(certificate, x)? else {
            return Err(denied(
                "authenticate_mtls.not_allowed",
                "the certificate has no name of the kind that is wanted",
            ));
        };
        let mut identity = Identity::new("mtls", subject.as_str().into());
        match self.directory.as_ref().map(|directory| directory.listed(&subject)) {
            None | Some(Listed::Unknown) => {}
            Some(Listed::As(user)) => {
                identity.groups = user.groups.clone();
                identity.attributes = user.attributes.clone();
            }
            Some(Listed::Disabled) => {
                return Err(denied("authenticate_mtls.not_allowed", "the user is disabled in the directory"));
            }
        }
        x.identify(self.identity, Arc::new(identity));
        Ok(())
    }

    fn missing(&self, detail: &str) -> Box<Fault> {
        let fault = Fault::denied(StatusCode::UNAUTHORIZED, "authenticate_mtls.missing", detail);
        fault.with_challenge(self.challenge.clone())
    }

    /// What a trusted proxy passes on, `None` where the client has connected itself. The fields say something only between
    /// the proxy and this step, so they go no further (RFC 9440 §2.4).
    fn passed_on(&self, x: &mut Exchange) -> Result<Option<ClientCertificate>, Box<Fault>> {
        for name in [from_header::CLIENT_CERT, from_header::CLIENT_CERT_CHAIN] {
            x.withhold(Withheld::Header(name));
        }
        if !x.client.is_proxy {
            return Ok(None);
        }
        match from_header::certificate(&x.request.headers) {
            Ok(Some(certificate)) => Ok(Some(certificate)),
            Ok(None) => Err(self.missing("the proxy has passed on no certificate")),
            Err(why) => Err(denied("authenticate_mtls.untrusted", &why)),
        }
    }
}

fn denied(code: &'static str, detail: &str) -> Box<Fault> {
    Fault::denied(StatusCode::FORBIDDEN, code, detail)
}

/// Values of `cert.*`, in the order of the outputs.
fn values(certificate: &ClientCertificate) -> [Value; 9] {
    let texts = |list: &[String]| Value::List(list.iter().map(|text| Value::text(text.as_str())).collect());
    let time = |seconds| Timestamp::from_second(seconds).map_or(Value::Absent, Value::Time);
    [
        Value::text(certificate.subject.to_string()),
        Value::text(certificate.issuer.to_string()),
        Value::text(certificate.serial.as_str()),
        texts(&certificate.san_dns),
        texts(&certificate.san_uri),
        texts(&certificate.san_email),
        time(certificate.not_before),
        time(certificate.not_after),
        Value::text(certificate.fingerprint_sha256.as_str()),
    ]
}

#[cfg(test)]
#[path = "authenticate_mtls/tests.rs"]
mod tests;
