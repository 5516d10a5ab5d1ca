//! Where a credential is read from: the `from:` of every `authenticate_*` assertion.

use std::borrow::Cow;

use http::{HeaderName, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::Compile;
use crate::compile::made::OfAll;
use crate::compile::text::TextParam;
use crate::engine::exchange::{Exchange, Withheld};
use crate::engine::message::{cookies, form_decode, pairs};
use crate::engine::read::{Read, Side};
use crate::engine::value::{Mark, Text as SharedText};
use crate::expr::Place;
use crate::fault::Fault;
use crate::source::{Span, Text};

/// Longest credential, in bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;

/// A credential source. Exactly one of `header`, `cookie`, `query` and `value`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct From {
    /// Header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Authentication scheme in that field, compared without case (RFC 9110 §11.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Query parameter; it is cut from records and from what goes upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
}

impl From {
    /// `{ header: authorization, scheme: SCHEME }`
    pub fn authorization(scheme: &str) -> From {
        From { header: Some("authorization".into()), scheme: Some(scheme.into()), ..From::default() }
    }

    /// `{ header: NAME }`
    pub fn header(name: &str) -> From {
        From { header: Some(name.into()), ..From::default() }
    }
}

/// A resolved credential source.
#[derive(Debug)]
pub struct Credential {
    source: Source,
    ambiguous: String,
    /// Where in the request it stands, also behind variables.
    places: Vec<Withheld>,
}

#[derive(Debug)]
enum Source {
    Header { name: HeaderName, scheme: Option<String> },
    Cookie(SharedText),
    Query(SharedText),
    Value(TextParam, Span),
}

impl Compile<'_> {
    /// Resolves a credential source.
    pub fn credential(&mut self, from: From, span: Span) -> Option<Credential> {
        let assertion = self.assertion();
        let given = [from.header.is_some(), from.cookie.is_some(), from.query.is_some(), from.value.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "`from` takes exactly one of `header`, `cookie`, `query` and `value`";
            return self.refuse("policy.bad_value", span, message, "write `from: { header: x-api-key }`");
        }
        if from.scheme.is_some() && from.header.is_none() {
            let help = "write `from: { header: authorization, scheme: Bearer }`";
            return self.refuse("policy.bad_value", span, "`scheme` belongs to a `header`", help);
        }
        let source = if let Some(name) = from.header {
            let Ok(name) = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()) else {
                let message = format!("`{name}` is no field name (RFC 9110 §5.1)");
                return self.refuse("policy.bad_value", span, message, "letters, digits and `-`: `x-api-key`");
            };
            Source::Header { name, scheme: from.scheme }
        } else if let Some(value) = from.value {
            let value_span = value.0.span();
            Source::Value(self.text(&value, Place::Plain)?, value_span)
        } else if let Some(name) = from.cookie {
            Source::Cookie(name.into())
        } else {
            Source::Query(from.query.unwrap_or_default().into())
        };
        let places = match &source {
            Source::Header { name, .. } => vec![Withheld::Header(name.clone())],
            Source::Cookie(name) => vec![Withheld::Cookie(name.clone())],
            Source::Query(name) => vec![Withheld::Query(name.clone())],
            Source::Value(value, span) => match self.places_of(value.template().reads()) {
                Ok(places) => places,
                Err(OfAll) => {
                    let message = "a credential out of all fields: `route` could not tell which one to hold back";
                    let help = "name the one it stands in: `${request.headers.x_key}`";
                    return self.refuse("policy.bad_value", *span, message, help);
                }
            },
        };
        self.credentials.extend(places.iter().cloned());
        Some(Credential { source, ambiguous: format!("{assertion}.ambiguous"), places })
    }
}

impl Credential {
    /// The credential as presented, without its scheme word. `None` where there is none; a fault where it
    /// is repeated or too long.
    pub fn find<'x>(&'x self, x: &'x Exchange) -> Result<Option<Cow<'x, str>>, Box<Fault>> {
        let found = match &self.source {
            Source::Header { name, scheme } => self.field(x, name, scheme.as_deref())?.map(Cow::Borrowed),
            Source::Cookie(name) => {
                let mut same = cookies(&x.request.headers).filter(|(cookie, _)| **cookie == **name);
                let first = same.next().map(|(_, value)| Cow::Borrowed(value));
                if same.next().is_some() {
                    return Err(self.ambiguous("the cookie is repeated"));
                }
                first
            }
            Source::Query(name) => {
                let mut same = pairs(x.request.query().unwrap_or_default()).filter(|(key, _)| *key == **name);
                let first = same.next().map(|(_, value)| value);
                if same.next().is_some() {
                    return Err(self.ambiguous("the query parameter is repeated"));
                }
                first
            }
            Source::Value(value, _) => value.read_optional(x)?,
        };
        match found {
            Some(found) if found.len() > CREDENTIAL_BYTES_MAX => {
                let detail = format!("a credential of {} bytes, at most {CREDENTIAL_BYTES_MAX} are read", found.len());
                Err(Fault::denied(StatusCode::BAD_REQUEST, self.ambiguous.clone(), detail))
            }
            found => Ok(found),
        }
    }

    /// The mark of the text that it is taken from.
    pub fn mark(&self) -> Mark {
        match &self.source {
            Source::Value(value, _) => value.facts().mark,
            Source::Header { .. } | Source::Cookie(_) | Source::Query(_) => Mark::None,
        }
    }

    /// The plain variable that is surely there once the credential was found.
    pub fn proves(&self) -> Option<Read> {
        match &self.source {
            Source::Header { name, .. } => Some(Read::Header(Side::Request, name.clone())),
            Source::Cookie(name) => Some(Read::Cookie(name.clone())),
            Source::Query(name) => Some(Read::Query(name.clone())),
            Source::Value(value, _) => value.variable().cloned(),
        }
    }

    fn field<'x>(
        &self,
        x: &'x Exchange,
        name: &HeaderName,
        scheme: Option<&str>,
    ) -> Result<Option<&'x str>, Box<Fault>> {
        let mut fields = x.request.headers.get_all(name).iter();
        let Some(first) = fields.next() else { return Ok(None) };
        if fields.next().is_some() {
            return Err(self.ambiguous("the header field is repeated"));
        }
        let Ok(text) = first.to_str() else { return Ok(Some("\u{fffd}")) }; // present, but never right
        let Some(scheme) = scheme else { return Ok(Some(text.trim())) };
        let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        Ok(word.eq_ignore_ascii_case(scheme).then(|| rest.trim()))
    }

    fn ambiguous(&self, detail: &str) -> Box<Fault> {
        Fault::denied(StatusCode::BAD_REQUEST, self.ambiguous.clone(), detail)
    }

    /// Notes that `route` must not forward it; also not the fields that a text of variables read.
    pub fn withhold(&self, x: &mut Exchange) {
        self.places.iter().for_each(|place| x.withhold(place.clone()));
    }

    /// Where in the request it stands.
    pub fn places(&self) -> &[Withheld] {
        &self.places
    }
}

/// Cuts what must not be forwarded out of the fields and the query of a request.
pub fn cut_withheld(withheld: &[Withheld], headers: &mut http::HeaderMap, query: Option<&str>) -> Option<String> {
    let mut cut_cookies: Vec<&str> = Vec::new();
    let mut cut_query: Vec<&str> = Vec::new();
    for credential in withheld {
        match credential {
            Withheld::Header(name) => {
                headers.remove(name);
            }
            Withheld::Cookie(name) => cut_cookies.push(name),
            Withheld::Query(name) => cut_query.push(name),
        }
    }
    if !cut_cookies.is_empty() {
        let kept: Vec<String> = cookies(headers)
            .filter(|(name, _)| !cut_cookies.contains(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        headers.remove(header::COOKIE);
        if let Ok(value) = http::HeaderValue::from_str(&kept.join("; "))
            && !kept.is_empty()
        {
            headers.insert(header::COOKIE, value);
        }
    }
    if cut_query.is_empty() {
        return query.map(str::to_owned);
    }
    let named = |pair: &&str| {
        let name = form_decode(pair.split('=').next().unwrap_or_default());
        !cut_query.contains(&name.as_ref())
    };
    let kept: Vec<&str> = query.unwrap_or_default().split('&').filter(named).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withheld_credentials_are_cut_and_the_rest_stays() {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-api-key", http::HeaderValue::from_static("k"));
        headers.insert(header::COOKIE, http::HeaderValue::from_static("sid=1; theme=dark"));
        let withheld = [
            Withheld::Header(HeaderName::from_static("x-api-key")),
            Withheld::Cookie("sid".into()),
            Withheld::Query("key".into()),
        ];
        let query = cut_withheld(&withheld, &mut headers, Some("a=1&k%65y=s&b=2"));
        assert_eq!(query.as_deref(), Some("a=1&b=2"));
        assert_eq!(headers.get(header::COOKIE).unwrap(), "theme=dark");
        assert!(!headers.contains_key("x-api-key"));
        assert_eq!(cut_withheld(&withheld, &mut headers, Some("key=s")), None);
    }
}
