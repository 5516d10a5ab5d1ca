//! What of a certificate names the caller.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::compile::Compile;
use crate::compile::text::{Sink, TextParam};
use crate::engine::exchange::Exchange;
use crate::expr::Place;
use crate::fault::Fault;
use crate::source::{Text, suggest};
use crate::tls::ClientCertificate;

/// Each word with what it means.
const WORDS: [(&str, Subject, &str); 6] = [
    ("auto", Subject::Auto, "The first there is of: URI, DNS name, mail address, distinguished name."),
    ("san_uri", Subject::SanUri, "Its first URI."),
    ("san_dns", Subject::SanDns, "Its first DNS name."),
    ("san_email", Subject::SanEmail, "Its first mail address."),
    ("common_name", Subject::CommonName, "The common name of its subject."),
    ("dn", Subject::Dn, "Its whole subject."),
];

/// The parameter: a word, or a text.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct SubjectDoc(Text);

impl JsonSchema for SubjectDoc {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CertificateSubject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = WORDS.iter().map(|(word, _, doc)| json_schema!({ "const": word, "description": doc }));
        let mut all: Vec<Schema> = words.collect();
        let doc = "A text over `cert.*`, such as `${cert.issuer} ${cert.serial}`.";
        all.push(json_schema!({ "type": "string", "pattern": "\\$\\{", "description": doc }));
        json_schema!({ "oneOf": all })
    }
}

/// The same, ready to be asked.
#[derive(Debug, Default)]
pub(super) enum Subject {
    #[default]
    Auto,
    SanUri,
    SanDns,
    SanEmail,
    CommonName,
    Dn,
    Text(TextParam),
}

impl SubjectDoc {
    /// `cert.*` has to be declared already.
    pub(super) fn compile(&self, cx: &mut Compile<'_>) -> Option<Subject> {
        let written = self.0.as_str();
        if written.contains("${") {
            let text = cx.text_into(&self.0, Place::Plain, Sink::Record)?;
            if text.facts().mark.is_credential() {
                let message = "a credential would be the caller's name, which stands in every record";
                let help = "name the caller by its certificate: `${cert.serial}`";
                return cx.refuse("policy.secret_leak", self.0.span(), message, help);
            }
            return Some(Subject::Text(text));
        }
        WORDS.into_iter().find(|(word, ..)| *word == written).map(|(_, subject, _)| subject).or_else(|| {
            let words = WORDS.map(|(word, ..)| word);
            let help = match suggest(written, words.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it takes {}, or a text such as `${{cert.serial}}`", words.join(", ")),
            };
            let message = format!("`{written}` says nothing of a certificate");
            cx.refuse("policy.bad_value", self.0.span(), message, &help)
        })
    }
}

impl Subject {
    /// The caller's name; `None` where the certificate has no such one.
    pub(super) fn of(&self, certificate: &ClientCertificate, x: &Exchange) -> Result<Option<String>, Box<Fault>> {
        let name = match self {
            Subject::Text(text) => text.read_optional(x)?.map(|text| text.into_owned()),
            word => word.named(certificate),
        };
        Ok(name.filter(|name| !name.is_empty()))
    }

    fn named(&self, certificate: &ClientCertificate) -> Option<String> {
        let whole = || (!certificate.subject.is_empty()).then(|| certificate.subject.to_string());
        let (uri, dns, email) =
            (certificate.san_uri.first(), certificate.san_dns.first(), certificate.san_email.first());
        match self {
            Subject::Auto => uri.or(dns).or(email).cloned().or_else(whole),
            Subject::SanUri => uri.cloned(),
            Subject::SanDns => dns.cloned(),
            Subject::SanEmail => email.cloned(),
            Subject::CommonName => certificate.subject.common_name().map(str::to_owned),
            Subject::Dn => whole(),
            Subject::Text(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Dn;

    #[test]
    fn the_subject_is_what_was_asked_for_or_nothing() {
        let mut certificate = ClientCertificate {
            subject: Dn::parse("CN=app,O=Example").unwrap(),
            san_email: vec!["app@example.com".to_owned()],
            ..ClientCertificate::default()
        };
        for (word, expected) in [
            (Subject::Auto, Some("app@example.com")),
            (Subject::SanUri, None),
            (Subject::SanDns, None),
            (Subject::SanEmail, Some("app@example.com")),
            (Subject::CommonName, Some("app")),
            (Subject::Dn, Some("CN=app,O=Example")),
        ] {
            assert_eq!(word.named(&certificate).as_deref(), expected, "{word:?}");
        }
        assert_eq!(Subject::Auto.named(&ClientCertificate::default()), None);
        // Of all that there is: URI, DNS name, mail address, subject.
        certificate.san_dns = vec!["app.example.com".to_owned(), "b.internal.example".to_owned()];
        certificate.san_uri = vec!["spiffe://example/app".to_owned()];
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(Subject::Auto.named(&certificate).unwrap());
            let names = [&mut certificate.san_uri, &mut certificate.san_dns, &mut certificate.san_email];
            names.into_iter().find(|names| !names.is_empty()).map(Vec::clear);
        }
        assert_eq!(seen, ["spiffe://example/app", "app.example.com", "app@example.com", "CN=app,O=Example"]);
    }
}
