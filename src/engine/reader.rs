//! Reading variables out of an exchange: where a resolved read meets the request at hand.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::body::Body;
use crate::engine::exchange::Exchange;
use crate::engine::message::{Unreadable, body_text, cookies, form_decode, pairs};
use crate::engine::read::{Budget, Builtin, IdentityMember, Read, Reader, Side};
use crate::engine::value::{Map, Text, Val, Value};
use crate::fault::Fault;

/// Pairs of one query, form or cookie map (`400 request.too_many_parameters`). One parameter alone is read
/// without a map and needs no bound but that of the request's size.
const PAIRS_MAX: usize = 1000;

impl Reader for Exchange {
    fn read<'x>(&'x self, read: &'x Read) -> Result<Val<'x>, Box<Fault>> {
        Ok(match read {
            Read::Slot(slot) => self.var(*slot).view(),
            Read::Header(side, name) => {
                self.headers(*side).and_then(|fields| fields.get(name)).map_or(Val::Absent, field)
            }
            Read::HeaderAll(side, name) => self.headers(*side).map_or(Val::Absent, |fields| all_fields(fields, name)),
            Read::Headers(side) => self.headers(*side).map_or(Val::Absent, field_map),
            Read::Query(name) => first(self.request.query(), name),
            Read::QueryAll(name) => all(self.request.query(), name),
            Read::QueryMap => pair_map(self.request.query())?,
            Read::Cookie(name) => cookies(&self.request.headers)
                .find(|(cookie, _)| **cookie == **name)
                .map_or(Val::Absent, |(_, value)| Val::Text(Cow::Borrowed(value))),
            Read::Cookies => text_map(cookies(&self.request.headers))?,
            Read::Form(name) => first(Some(self.form()?), name),
            Read::FormMap => pair_map(Some(self.form()?))?,
            Read::Path(index) => {
                self.params.get(usize::from(*index)).map_or(Val::Absent, |text| Val::Text(Cow::Borrowed(text)))
            }
            Read::Json(side) => self.json(*side)?,
            Read::Body(side) => {
                let held = self.body(*side).held().ok_or_else(|| unreadable(*side, Unreadable::Gone))?;
                Val::Bytes(Cow::Borrowed(held))
            }
            Read::BodyText(side) => Val::Text(Cow::Borrowed(self.body_as_text(*side)?)),
            Read::Identity(slot, member) => self.identity_member(*slot, *member),
            Read::Builtin(builtin) => self.builtin(*builtin),
        })
    }

    fn is_word(&self, read: &Read, word: &str) -> Option<bool> {
        let text = match read {
            Read::Builtin(Builtin::RequestMethod) => self.request.method.as_str(),
            Read::Builtin(Builtin::RequestPath) => self.request.path.as_str(),
            Read::Builtin(Builtin::RequestHost) => &self.request.host,
            Read::Path(index) => {
                let param = self.params.get(usize::from(*index));
                return Some(param.is_some_and(|param| **param == *word));
            }
            // A field that is not UTF-8 reads as replaced characters: only a word with one could equal it.
            Read::Header(side, name) if !word.contains(char::REPLACEMENT_CHARACTER) => {
                let value = self.headers(*side).and_then(|fields| fields.get(name));
                return Some(value.is_some_and(|value| value.as_bytes() == word.as_bytes()));
            }
            _ => return None,
        };
        Some(text == word)
    }

    fn shared(&self, read: &Read) -> Result<Option<Value>, Box<Fault>> {
        Ok(match read {
            Read::Slot(slot) => match self.var(*slot) {
                held @ (Value::List(_) | Value::Map(_) | Value::Json(_) | Value::Bytes(_)) => Some(held.clone()),
                _ => None,
            },
            Read::Json(side) => self.parsed(*side)?.cloned().map(Value::Json),
            Read::Identity(slot, IdentityMember::Claims) => {
                self.identity(*slot).and_then(|identity| identity.claims.clone()).map(Value::Json)
            }
            _ => None,
        })
    }

    fn budget(&self) -> Budget {
        let limits = &self.worker.shared.limits;
        Budget { operations: limits.script_operations, time: limits.script_time }
    }

    fn now(&self) -> Timestamp {
        self.worker.clock.wall()
    }

    fn random(&self, into: &mut [u8]) {
        self.worker.random.fill(into);
    }
}

impl Exchange {
    /// Fields of a message; none where there is no response yet.
    pub fn headers(&self, side: Side) -> Option<&HeaderMap> {
        match side {
            Side::Request => Some(&self.request.headers),
            // `finally` comes after the answer has left.
            Side::Response => match &self.response {
                Some(response) => Some(&response.headers),
                None => self.answer_headers.as_deref(),
            },
        }
    }

    /// Body of a message; gone where there is no response yet.
    pub fn body(&self, side: Side) -> &Body {
        match (side, &self.response) {
            (Side::Request, _) => &self.request.body,
            (Side::Response, Some(response)) => &response.body,
            (Side::Response, None) => &Body::Gone,
        }
    }

    /// Body of a message as text.
    pub fn body_as_text(&self, side: Side) -> Result<&str, Box<Fault>> {
        let none = HeaderMap::new;
        match self.headers(side) {
            Some(headers) => body_text(headers, self.body(side)).map_err(|why| unreadable(side, why)),
            None => body_text(&none(), &Body::Gone).map(|_| "").map_err(|why| unreadable(side, why)),
        }
    }

    fn form(&self) -> Result<&str, Box<Fault>> {
        let media = content_type(&self.request.headers).unwrap_or_default();
        if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Ok("");
        }
        self.body_as_text(Side::Request)
    }

    fn json(&self, side: Side) -> Result<Val<'_>, Box<Fault>> {
        Ok(self.parsed(side)?.map_or(Val::Absent, |json| Val::json(json)))
    }

    /// The parsed body of a message; nothing where there is none.
    fn parsed(&self, side: Side) -> Result<Option<&Arc<Json>>, Box<Fault>> {
        let depth_max = self.worker.shared.limits.json_depth;
        let json = match (side, &self.response) {
            // Nothing was sent: there is no JSON, and nothing is wrong with that.
            (Side::Request, _) if self.request.body.size() == Some(0) => return Ok(None),
            (Side::Request, _) => self.request.json(depth_max),
            // A 204, a 304 and an answer to HEAD have no body: there is no JSON, and nothing is wrong with that.
            (Side::Response, Some(response)) if response.body.size() == Some(0) => return Ok(None),
            (Side::Response, Some(response)) => response.json(depth_max),
            (Side::Response, None) => return Ok(None),
        };
        json.map(Some).map_err(|why| unreadable(side, why))
    }

    fn identity_member(&self, slot: crate::engine::read::Slot, member: IdentityMember) -> Val<'_> {
        let Some(identity) = self.identity(slot) else { return Val::Absent };
        let texts = |list: &[Text]| Val::List(Cow::Owned(list.iter().cloned().map(Value::Text).collect()));
        match member {
            IdentityMember::Scheme => Val::Text(Cow::Borrowed(identity.scheme)),
            IdentityMember::Subject => Val::Text(Cow::Borrowed(&identity.subject)),
            IdentityMember::Groups => texts(&identity.groups),
            IdentityMember::Scopes => texts(&identity.scopes),
            IdentityMember::Client => optional(identity.client.as_deref()),
            IdentityMember::Claims => identity.claims.as_deref().map_or(Val::Absent, Val::json),
            IdentityMember::Attributes => {
                let all = identity.attributes.iter();
                Val::Map(Cow::Owned(Map(all.map(|(name, value)| (name.clone(), Value::Text(value.clone()))).collect())))
            }
            IdentityMember::ExpiresAt => identity
                .expires_at_unix_s
                .and_then(|seconds| Timestamp::from_second(seconds).ok())
                .map_or(Val::Absent, Val::Time),
            IdentityMember::Credential => identity
                .credential
                .as_ref()
                .and_then(|credential| std::str::from_utf8(credential.expose()).ok())
                .map_or(Val::Absent, |text| Val::Text(Cow::Borrowed(text))),
        }
    }

    fn builtin(&self, builtin: Builtin) -> Val<'_> {
        let text = |text| Val::Text(Cow::Borrowed(text));
        let original = self.original.as_ref();
        match builtin {
            Builtin::RequestId => text(&self.id),
            Builtin::RequestTraceId => {
                self.span.as_ref().map_or(Val::Absent, |span| Val::Text(Cow::Owned(span.trace.to_string())))
            }
            Builtin::RequestMethod => text(self.request.method.as_str()),
            Builtin::RequestScheme => text(self.request.scheme),
            Builtin::RequestHost => text(&self.request.host),
            Builtin::RequestPort => Val::Int(i64::from(self.request.port)),
            Builtin::RequestPath => text(self.request.path.as_str()),
            Builtin::RequestRawPath => text(self.request.target.path()),
            Builtin::RequestSize => size(self.request.body.size()),
            Builtin::RequestContentType => optional(content_type(&self.request.headers)),
            Builtin::RequestReceivedAt => Val::Time(self.received),
            Builtin::RequestHttpVersion => text(match self.request.version {
                http::Version::HTTP_10 => "1.0",
                http::Version::HTTP_2 => "2",
                _ => "1.1",
            }),
            Builtin::TlsVersion => optional(self.client.tls.as_ref().map(|tls| tls.version)),
            Builtin::TlsCipher => optional(self.client.tls.as_ref().map(|tls| tls.cipher.as_str())),
            Builtin::TlsServerName => optional(self.client.tls.as_ref().and_then(|tls| tls.server_name.as_deref())),
            Builtin::TlsAlpn => optional(self.client.tls.as_ref().and_then(|tls| tls.alpn.as_deref())),
            Builtin::TlsClientCertificate => {
                Val::Bool(self.client.tls.as_ref().is_some_and(|tls| tls.client.is_some()))
            }
            Builtin::ClientIp => Val::Text(Cow::Owned(self.client.ip.to_string())),
            Builtin::ClientPeerIp => Val::Text(Cow::Owned(self.client.peer_ip.to_string())),
            Builtin::ClientPort => Val::Int(i64::from(self.client.port)),
            Builtin::OriginalPath => text(original.map_or(self.request.path.as_str(), |first| &first.path)),
            Builtin::OriginalQuery => optional(match original {
                Some(first) => first.query.as_deref(),
                None => self.request.query(),
            }),
            Builtin::OriginalMethod => text(original.map_or(&self.request.method, |first| &first.method).as_str()),
            Builtin::ServiceName => optional(self.compiled(&self.snapshot).name.as_deref()),
            Builtin::ServiceFile => text(&self.compiled(&self.snapshot).file),
            Builtin::ServiceSnapshot => text(&self.snapshot.version),
            other => self.answer_builtin(other),
        }
    }

    /// The rest of the built-ins: what there is once there is an answer or a fault.
    fn answer_builtin(&self, builtin: Builtin) -> Val<'_> {
        let status = |status: StatusCode| Val::Int(i64::from(status.as_u16()));
        let (response, fault) = (self.response.as_ref(), self.fault_at_hand());
        match builtin {
            Builtin::ResponseStatus => response.map_or(Val::Absent, |response| status(response.status)),
            Builtin::ResponseSize => size(response.and_then(|response| response.body.size())),
            Builtin::ResponseContentType => optional(response.and_then(|response| content_type(&response.headers))),
            // Before it leaves (`on_fault`), the answer is the response as it stands.
            Builtin::AnswerStatus => {
                let leaves = self.answer.map(|answer| answer.status);
                leaves.or(response.map(|response| response.status)).map_or(Val::Absent, status)
            }
            Builtin::AnswerSize => size(match self.answer {
                Some(answer) => answer.size,
                None => response.and_then(|response| response.body.size()),
            }),
            Builtin::FaultCode => optional(fault.map(|fault| fault.code.as_ref())),
            Builtin::FaultStatus => fault.map_or(Val::Absent, |fault| status(fault.status)),
            Builtin::FaultKind => optional(fault.map(|fault| fault.kind.word())),
            Builtin::FaultDetail => optional(fault.map(|fault| fault.detail.as_str())),
            Builtin::FaultText => optional(fault.and_then(|fault| fault.text.as_deref())),
            Builtin::FaultStep => {
                let step = fault.and_then(|fault| fault.step).map(usize::from);
                let steps = &self.compiled(&self.snapshot).steps;
                optional(step.and_then(|step| steps.get(step)).map(|step| step.name.as_ref()))
            }
            _ => Val::Absent,
        }
    }
}

/// Media type of a message without parameters, lower case only as the sender wrote it.
fn content_type(headers: &HeaderMap) -> Option<&str> {
    let field = headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    field.split(';').next().map(str::trim)
}

fn optional(text: Option<&str>) -> Val<'_> {
    text.map_or(Val::Absent, |text| Val::Text(Cow::Borrowed(text)))
}

fn size<'x>(size: Option<u64>) -> Val<'x> {
    size.and_then(|size| i64::try_from(size).ok()).map_or(Val::Absent, Val::Int)
}

/// A field as text; bytes beyond ASCII are read as UTF-8 where they are, else replaced.
fn field(value: &HeaderValue) -> Val<'_> {
    // The lossy reader takes bytes one by one; almost every field needs no loss.
    Val::Text(match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value.as_bytes()),
    })
}

fn all_fields<'x>(fields: &'x HeaderMap, name: &HeaderName) -> Val<'x> {
    let all: Vec<Value> = fields.get_all(name).iter().map(|value| field(value).into_value()).collect();
    if all.is_empty() { Val::Absent } else { Val::List(Cow::Owned(all)) }
}

/// All fields by name; of one that is there several times the first.
pub fn field_map(fields: &HeaderMap) -> Val<'_> {
    let names = fields.keys().filter_map(|name| Some((name.as_str(), fields.get(name)?)));
    let members = names.map(|(name, value)| (Text::from(name), field(value).into_value()));
    Val::Map(Cow::Owned(Map(members.collect())))
}

fn first<'x>(encoded: Option<&'x str>, wanted: &str) -> Val<'x> {
    let raw = encoded.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = raw.filter(|(name, _)| form_decode(name) == wanted).map(|(_, value)| value);
    values.next().map_or(Val::Absent, |value| Val::Text(form_decode(value)))
}

fn all<'x>(encoded: Option<&str>, wanted: &str) -> Val<'x> {
    let found = pairs(encoded.unwrap_or_default()).filter(|(name, _)| name == wanted);
    let values: Vec<Value> = found.map(|(_, value)| Value::text(value)).collect();
    if values.is_empty() { Val::Absent } else { Val::List(Cow::Owned(values)) }
}

fn pair_map<'x>(encoded: Option<&str>) -> Result<Val<'x>, Box<Fault>> {
    text_map(pairs(encoded.unwrap_or_default()))
}

/// A map of texts in which the first of several equal names counts.
fn text_map<'x>(pairs: impl Iterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> Result<Val<'x>, Box<Fault>> {
    let mut map = Map::default();
    let mut seen: HashSet<Text> = HashSet::new();
    for (count, (name, value)) in pairs.enumerate() {
        if count == PAIRS_MAX {
            let detail = format!("more than {PAIRS_MAX} parameters or cookies, and a step reads them all");
            return Err(Fault::denied(StatusCode::BAD_REQUEST, "request.too_many_parameters", detail));
        }
        let name = Text::from(name.as_ref());
        if seen.insert(name.clone()) {
            map.0.push((name, Value::text(value.as_ref())));
        }
    }
    Ok(Val::Map(Cow::Owned(map)))
}

/// A body that is not what the policy asked for: the client's fault in a request, the upstream's in a response.
pub fn unreadable(side: Side, why: Unreadable) -> Box<Fault> {
    let (code, status, detail) = match why {
        Unreadable::Gone => {
            let detail = format!("the {} body was not held for this step", side.word());
            return Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "body.gone", detail);
        }
        Unreadable::Encoded => {
            ("body.encoded", StatusCode::UNSUPPORTED_MEDIA_TYPE, "it has a content coding".to_owned())
        }
        Unreadable::NotText => ("body.not_text", StatusCode::BAD_REQUEST, "it is not UTF-8".to_owned()),
        Unreadable::NotJson(error) => ("body.invalid_json", StatusCode::BAD_REQUEST, error),
        Unreadable::TooDeep => ("body.too_deep", StatusCode::BAD_REQUEST, "its JSON is nested too deep".to_owned()),
    };
    let detail = format!("{} body: {detail}", side.word());
    match side {
        Side::Request => Fault::denied(status, code, detail),
        Side::Response => Fault::broken(StatusCode::BAD_GATEWAY, code, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: usize) -> String {
        (0..pairs).map(|number| format!("p{number}=1&")).collect()
    }

    #[test]
    fn the_first_of_equal_names_counts() {
        let Ok(Val::Map(map)) = pair_map(Some("a=1&b=2&a=3")) else { panic!("no map") };
        assert_eq!(map.0, [("a".into(), Value::text("1")), ("b".into(), Value::text("2"))]);
    }

    #[test]
    fn a_map_has_a_bound_and_the_client_hears_of_it() {
        assert!(pair_map(Some(&query(PAIRS_MAX))).is_ok());
        let fault = pair_map(Some(&query(PAIRS_MAX + 1))).unwrap_err();
        assert_eq!((&*fault.code, fault.status.as_u16()), ("request.too_many_parameters", 400));
        let repeated = "a=1&".repeat(PAIRS_MAX + 1);
        assert!(pair_map(Some(&repeated)).is_err(), "equal names are pairs too");
    }
}
