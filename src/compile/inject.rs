//! Where a credential is put: the `inject:` of assertions that make one, the mirror of `from:`.
//!
//! A cookie or a query parameter is written when the call is sent and never stands in the request itself, so that no
//! record and no text of the policy shows it.

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::Compile;
use crate::compile::credential::cut_withheld;
use crate::engine::exchange::{Exchange, Withheld};
use crate::engine::read::Side;
use crate::engine::seal::{Renewing, Seal, Unopened};
use crate::engine::value::Text;
use crate::fault::Fault;
use crate::secret::Secret;
use crate::source::{Literal, Spanned};
use crate::upstream::{Answer, Origin};

/// A credential target: where in the request that goes upstream it stands. Exactly one of `header`, `cookie` and `query`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inject {
    /// Header field; the client's of that name is removed.
    header: Option<Literal>,
    /// The word before the credential in the field, and one space.
    scheme: Option<Literal>,
    /// Cookie; the client's of that name is removed.
    cookie: Option<Literal>,
    /// Query parameter; the client's of that name is removed. URLs are written into logs: take a field where you can.
    query: Option<Literal>,
}

/// A resolved credential target.
#[derive(Clone, Debug)]
pub struct Target(Place);

#[derive(Clone, Debug)]
enum Place {
    /// The scheme with its space.
    Header {
        name: HeaderName,
        scheme: String,
    },
    Cookie(Text),
    Query(Text),
}

impl Compile<'_> {
    /// Resolves a credential target.
    pub fn inject(&mut self, inject: &Spanned<Inject>) -> Option<Target> {
        // Each is read before anything is given up: no mistake hides another.
        let Inject { header, scheme, cookie, query } = &inject.value;
        let field = header.as_ref().map(|literal| self.target_field(literal));
        let word = scheme.as_ref().map(|literal| self.literal(literal));
        let crumb = cookie.as_ref().map(|literal| self.cookie_name(literal));
        let parameter = query.as_ref().map(|literal| self.parameter_name(literal));
        if matches!(field, Some(None)) || [&word, &crumb, &parameter].into_iter().any(|read| matches!(read, Some(None)))
        {
            return None;
        }
        if [header, cookie, query].into_iter().flatten().count() != 1 {
            let message = "`inject` takes exactly one of `header`, `cookie` and `query`";
            return self.refuse("policy.bad_value", inject.span, message, "write `inject: { header: x-assertion }`");
        }
        if let (Some(scheme), None) = (scheme, header) {
            let help = "write `inject: { header: authorization, scheme: Bearer }`";
            return self.refuse("policy.bad_value", scheme.span(), "`scheme` belongs to a `header`", help);
        }
        // Set on some ways only, it is not the client's on the others.
        if let Some(name) = crumb.flatten() {
            let name: Text = name.into();
            self.owned_places.push(Withheld::Cookie(name.clone()));
            return Some(Target(Place::Cookie(name)));
        }
        if let Some(name) = parameter.flatten() {
            let name: Text = name.into();
            self.owned_places.push(Withheld::Query(name.clone()));
            return Some(Target(Place::Query(name)));
        }
        let name = field.flatten()?;
        let scheme = word.flatten().map_or_else(String::new, |word| format!("{word} "));
        if HeaderValue::from_str(&scheme).is_err() {
            let help = "write one word: `scheme: Bearer`";
            return self.refuse("policy.bad_value", inject.span, "this scheme cannot stand in a field", help);
        }
        self.owned_headers.push(name.clone());
        Some(Target(Place::Header { name, scheme }))
    }

    fn target_field(&mut self, literal: &Literal) -> Option<HeaderName> {
        let name = self.literal(literal)?;
        if let Ok(name) = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()) {
            return Some(name);
        }
        let message = format!("`{name}` is no field name (RFC 9110 §5.1)");
        let help = "letters, digits and `-`: `inject: { header: x-assertion }`";
        self.refuse("policy.bad_value", literal.span(), message, help)
    }

    fn cookie_name(&mut self, literal: &Literal) -> Option<String> {
        let name = self.literal(literal)?;
        if is_token(&name) {
            return Some(name);
        }
        let message = format!("`{name}` is no name of a cookie (RFC 6265 §4.1.1)");
        self.refuse("policy.bad_value", literal.span(), message, "letters, digits, `-` and `_`")
    }

    fn parameter_name(&mut self, literal: &Literal) -> Option<String> {
        let name = self.literal(literal)?;
        if !name.is_empty() {
            return Some(name);
        }
        let help = "write `inject: { query: access_token }`";
        self.refuse("policy.bad_value", literal.span(), "the parameter has no name", help)
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl Target {
    /// `Authorization: Bearer`.
    pub fn bearer() -> Target {
        Target(Place::Header { name: AUTHORIZATION, scheme: "Bearer ".to_owned() })
    }

    /// The field, where it is one.
    pub fn header(&self) -> Option<&HeaderName> {
        match &self.0 {
            Place::Header { name, .. } => Some(name),
            Place::Cookie(_) | Place::Query(_) => None,
        }
    }

    /// Writes the credential into what is sent, in the place of any other of that name; `false` where it cannot stand
    /// there. No `Debug` shows a field that it has written.
    pub fn write(&self, credential: &[u8], headers: &mut HeaderMap, target: &mut PathAndQuery) -> bool {
        match &self.0 {
            Place::Header { name, scheme } => {
                let value = sensitive([scheme.as_bytes(), credential].concat());
                value.map(|value| headers.insert(name, value)).is_some()
            }
            Place::Cookie(name) => {
                if !credential.iter().all(|byte| is_cookie_octet(*byte)) {
                    return false;
                }
                cut_withheld(&[Withheld::Cookie(name.clone())], headers, None);
                let mut all = headers.remove(COOKIE).map(|others| others.as_bytes().to_vec()).unwrap_or_default();
                if !all.is_empty() {
                    all.extend(b"; ");
                }
                all.extend([name.as_bytes(), b"=", credential].concat());
                sensitive(all).map(|value| headers.insert(COOKIE, value)).is_some()
            }
            Place::Query(name) => {
                let others = cut_withheld(&[Withheld::Query(name.clone())], headers, target.query());
                let others = others.filter(|others| !others.is_empty()).map(|others| others + "&").unwrap_or_default();
                let mut whole = format!("{}?{others}", target.path());
                encode(name.as_bytes(), &mut whole);
                whole.push('=');
                encode(credential, &mut whole);
                PathAndQuery::try_from(whole).map(|written| *target = written).is_ok()
            }
        }
    }

    /// Puts the credential into the request; `false` where it cannot stand there.
    pub fn put(&self, x: &mut Exchange, credential: &str) -> bool {
        let Place::Header { name, scheme } = &self.0 else {
            let (mut headers, mut target) = (HeaderMap::new(), PathAndQuery::from_static("/"));
            let fits = self.write(credential.as_bytes(), &mut headers, &mut target);
            if fits {
                x.seal(
                    Arc::new(Placed { target: self.clone(), credential: Secret::from(credential.to_owned()) }),
                    false,
                );
            }
            return fits;
        };
        let Ok(value) = HeaderValue::from_str(&format!("{scheme}{credential}")) else { return false };
        if let Some(headers) = x.headers_mut(Side::Request) {
            headers.insert(name, value);
        }
        x.own_header(name);
        true
    }
}

fn sensitive(bytes: Vec<u8>) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 6265 §4.1.1.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
fn encode(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(*byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

/// A credential of one request, for wherever that is routed.
struct Placed {
    target: Target,
    credential: Secret,
}

impl Seal for Placed {
    fn admits(&self, _: &Origin) -> bool {
        true
    }

    fn open(&self, _: &Exchange, headers: &mut HeaderMap, target: &mut PathAndQuery) -> Result<u64, Box<Fault>> {
        match self.target.write(self.credential.expose(), headers, target) {
            true => Ok(0),
            false => Err(self.fault(Unopened::NotReplayable)),
        }
    }

    fn is_refused(&self, _: &mut Exchange, _: &Answer) -> Result<bool, Box<Fault>> {
        Ok(false)
    }

    fn renew<'a>(&'a self, _: &'a Exchange, _: u64) -> Renewing<'a> {
        Box::pin(async { Ok(()) })
    }

    fn replays(&self) -> bool {
        false
    }

    fn clean(&self, _: &mut HeaderMap) {}

    /// It was found to fit when it was put, admits every origin and is never refused: there is no way here.
    fn fault(&self, _: Unopened) -> Box<Fault> {
        Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "step.panicked", "a credential could not be written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(place: Place, credential: &str, target: &'static str) -> Option<(String, String)> {
        let (mut headers, mut target) = (HeaderMap::new(), PathAndQuery::from_static(target));
        headers.insert(COOKIE, HeaderValue::from_static("a=1; sid=theirs; b=2"));
        let fits = Target(place).write(credential.as_bytes(), &mut headers, &mut target);
        fits.then(|| (headers[COOKIE].to_str().unwrap().to_owned(), target.to_string()))
    }

    #[test]
    fn it_takes_the_place_of_any_other_of_its_name_and_nothing_else() {
        let (cookies, target) = written(Place::Cookie("sid".into()), "ours", "/x?a=b").unwrap();
        assert_eq!((&*cookies, &*target), ("a=1; b=2; sid=ours", "/x?a=b"));
        for (before, after) in [
            ("/x", "/x?t=a%20%26b"),
            ("/x?", "/x?t=a%20%26b"),
            ("/x?t=theirs", "/x?t=a%20%26b"),
            ("/x?a=b&%74=theirs&t&c=d", "/x?a=b&c=d&t=a%20%26b"),
        ] {
            let (cookies, target) = written(Place::Query("t".into()), "a &b", before).unwrap();
            assert_eq!((&*cookies, &*target), ("a=1; sid=theirs; b=2", after), "{before}");
        }
    }

    #[test]
    fn what_would_be_another_cookie_is_not_written() {
        for credential in ["a;b", "a b", "a,b", "a\"", "a\\", "a\r\nx: y", "\u{e9}"] {
            assert!(written(Place::Cookie("sid".into()), credential, "/").is_none(), "{credential}");
        }
    }
}
