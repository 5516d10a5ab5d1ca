//! What a trace may show of a value: short, no bodies, and of credentials only the keyed hash of records.
//!
//! Three things keep a credential out. Marks, which are known when a policy is compiled. Names: fields that
//! authenticate steps take credentials from, cookies, `authorization`. And last the credentials of the request at
//! hand: a text that holds one of them is hashed, wherever it came from.

use std::borrow::Cow;
use std::sync::Arc;

use data_encoding::BASE64;
use http::{HeaderName, header};
use serde_json::{Value as Json, json};

use crate::engine::exchange::{Exchange, Withheld};
use crate::engine::message::{cookies, pairs};
use crate::engine::read::{Builtin, IdentityMember, Read, Reader, Side, Slot};
use crate::engine::scrubbing::UNSCANNABLE;
use crate::engine::snapshot::{Names, Service};
use crate::engine::value::{Text, Val, Value};
use crate::identity::Identity;
use crate::scrub::{Rules, What, With};
use crate::secret::{CREDENTIAL_FIELDS, keyed_hash};

/// Bytes that are shown of one value.
pub(super) const VALUE_BYTES_MAX: usize = 256;
/// Shorter credentials hide a text only where they are all of it: one letter would hide everything.
const PRESENTED_BYTES_MIN: usize = 6;
/// Credentials of one request that are looked for.
const PRESENTED_MAX: usize = 64;
/// A longer text is not searched for what a service scrubs, and not shown.
const SCRUBBED_BYTES_MAX: usize = 64 * 1024;

/// The credentials that came with a request.
#[derive(Clone, Default)]
pub(super) struct Presented {
    texts: Vec<String>,
    /// What the service scrubs from traces.
    rules: Vec<Arc<Rules>>,
}

impl Presented {
    pub(super) fn of(x: &Exchange) -> Presented {
        let mut presented = Presented { texts: Vec::new(), rules: x.trace_rules() };
        let headers = &x.request.headers;
        for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION] {
            headers.get_all(name).iter().for_each(|value| presented.field(&String::from_utf8_lossy(value.as_bytes())));
        }
        cookies(headers).for_each(|(_, value)| presented.add(value));
        let query = match &x.original {
            Some(first) => first.query.as_deref(),
            None => x.request.query(),
        };
        for credential in &x.compiled(&x.snapshot).credentials {
            match credential {
                Withheld::Header(name) => {
                    let fields = headers.get_all(name).iter();
                    fields.for_each(|value| presented.field(&String::from_utf8_lossy(value.as_bytes())));
                }
                Withheld::Query(name) => {
                    let same = pairs(query.unwrap_or_default()).filter(|(key, _)| *key == **name);
                    same.for_each(|(_, value)| presented.add(&value));
                }
                Withheld::Cookie(_) => {}
            }
        }
        presented.scrubbed_fields(x, query);
        presented
    }

    /// What a rule takes out of one place must not stand in another.
    fn scrubbed_fields(&mut self, x: &Exchange, query: Option<&str>) {
        for (what, _) in self.rules.clone().iter().flat_map(|rules| &rules.0) {
            match what {
                What::Header(name) => {
                    let fields = x.request.headers.get_all(name).iter();
                    fields.for_each(|value| self.add(&String::from_utf8_lossy(value.as_bytes())));
                }
                What::Query(name) => {
                    let same = pairs(query.unwrap_or_default()).filter(|(key, _)| **key == **name);
                    same.for_each(|(_, value)| self.add(&value));
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, text: &str) {
        let text = text.trim();
        if !text.is_empty() && self.texts.len() < PRESENTED_MAX {
            self.texts.push(text.to_owned());
        }
    }

    /// A field: all of it, what stands behind its scheme, and of Basic what that encodes (RFC 7617 §2).
    fn field(&mut self, text: &str) {
        self.add(text);
        let Some((_, rest)) = text.trim().split_once(' ') else { return };
        self.add(rest);
        let decoded = BASE64.decode(rest.trim().as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            self.add(password);
        }
    }

    fn is_in(&self, text: &str) -> bool {
        self.texts
            .iter()
            .any(|known| text == known || (known.len() >= PRESENTED_BYTES_MIN && text.contains(known.as_str())))
    }

    /// A text, cut; hashed where it holds a credential.
    pub(super) fn text(&self, text: &str) -> Json {
        if self.is_in(text) {
            return Json::String(keyed_hash(text.as_bytes()));
        }
        if self.rules.is_empty() {
            return Json::String(cut(text).into_owned());
        }
        // Before it is cut: of a number that is cut off nobody sees any more what it is.
        if text.len() > SCRUBBED_BYTES_MAX {
            return Json::from(UNSCANNABLE);
        }
        let mut text = text.to_owned();
        self.scrub(&mut text);
        Json::String(cut(&text).into_owned())
    }

    fn scrub(&self, text: &mut String) {
        for rules in &self.rules {
            rules.recorded_text(text);
        }
    }

    /// A number, which may be that of a card.
    fn number(&self, number: Json) -> Json {
        let (before, mut now) = (number.to_string(), number.to_string());
        self.scrub(&mut now);
        if before == now { number } else { Json::String(now) }
    }

    /// How a rule has a field or parameter shown that it names.
    fn named(&self, read: &Read) -> Option<With> {
        let mut rules = self.rules.iter().flat_map(|rules| &rules.0);
        let names = |what: &What| match (what, read) {
            (What::Header(wanted), Read::Header(_, name) | Read::HeaderAll(_, name)) => wanted == name,
            (What::Query(wanted), Read::Query(name) | Read::QueryAll(name)) => **wanted == **name,
            _ => false,
        };
        rules.find(|(what, _)| names(what)).map(|(_, with)| *with)
    }

    fn value(&self, value: &Val<'_>) -> Json {
        if self.rules.iter().any(|rules| rules.read_json())
            && matches!(value, Val::List(_) | Val::Map(_) | Val::Json(_))
        {
            let mut json = value.to_json();
            return match self.rules.iter().all(|rules| rules.places(&mut json).is_ok()) {
                true => self.any(&Val::json(&json)),
                false => Json::from(UNSCANNABLE),
            };
        }
        self.any(value)
    }

    fn any(&self, value: &Val<'_>) -> Json {
        match value {
            Val::Text(text) => self.text(text),
            Val::Bytes(bytes) => Json::String(format!("({} bytes)", bytes.len())),
            Val::List(_) | Val::Map(_) | Val::Json(_) => self.beginning(value, &mut VALUE_BYTES_MAX.clone()),
            simple => match simple.to_json() {
                number @ Json::Number(_) if !self.rules.is_empty() => self.number(number),
                other => other,
            },
        }
    }

    /// As much of a list or map as there is room for; a large one is not walked in vain.
    fn beginning(&self, value: &Val<'_>, room: &mut usize) -> Json {
        let takes = |room: &mut usize, bytes: usize| {
            let fits = *room > 0;
            *room = room.saturating_sub(bytes + 4);
            fits
        };
        let mut elements = |list: &mut dyn Iterator<Item = Val<'_>>| {
            let mut shown = Vec::new();
            for element in list {
                if !takes(room, 0) {
                    shown.push(Json::from("…"));
                    break;
                }
                shown.push(self.beginning(&element, room));
            }
            Json::Array(shown)
        };
        let members = |map: &mut dyn Iterator<Item = (&str, Val<'_>)>, room: &mut usize| {
            let mut shown = serde_json::Map::new();
            for (name, member) in map {
                if !takes(room, name.len()) {
                    shown.insert("…".into(), Json::from("…"));
                    break;
                }
                let member = self.beginning(&member, room);
                let mut name = name.to_owned();
                self.scrub(&mut name);
                shown.insert(cut(&name).into_owned(), member);
            }
            Json::Object(shown)
        };
        match value {
            Val::List(list) => elements(&mut list.iter().map(Value::view)),
            Val::Map(map) => members(&mut map.0.iter().map(|(name, value)| (&**name, value.view())), room),
            Val::Json(json) => match json.as_ref() {
                Json::Array(list) => elements(&mut list.iter().map(Val::json)),
                Json::Object(map) => {
                    members(&mut map.iter().map(|(name, value)| (name.as_str(), Val::json(value))), room)
                }
                scalar => self.any(&Val::json(scalar)),
            },
            simple => {
                let shown = self.any(simple);
                takes(room, shown.as_str().map_or(8, str::len));
                shown
            }
        }
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(VALUE_BYTES_MAX);
    Cow::Owned(format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()))
}

/// How a variable is shown.
#[derive(Debug, PartialEq)]
enum Way {
    Plain,
    Hashed,
    /// That it was read, and nothing of its value: bodies, and collections in which a credential may be.
    Named,
}

fn way(read: &Read, service: &Service) -> Way {
    let taken = |credential: Withheld| service.credentials.contains(&credential);
    match read {
        Read::Slot(slot) if service.names.marked.contains(slot) => Way::Hashed,
        Read::Header(_, name) | Read::HeaderAll(_, name)
            if CREDENTIAL_FIELDS.contains(&name.as_str()) || taken(Withheld::Header(name.clone())) =>
        {
            Way::Hashed
        }
        Read::Query(name) | Read::QueryAll(name) if taken(Withheld::Query(name.clone())) => Way::Hashed,
        Read::Cookie(_) | Read::Identity(_, IdentityMember::Credential) => Way::Hashed,
        Read::Headers(_) | Read::QueryMap | Read::Cookies | Read::Form(_) | Read::FormMap => Way::Named,
        Read::Json(_) | Read::Body(_) | Read::BodyText(_) | Read::Builtin(Builtin::OriginalQuery) => Way::Named,
        read if service.names.put_back.contains(read) => Way::Hashed,
        _ => Way::Plain,
    }
}

/// A variable as it may be shown, and about how many bytes that takes.
pub(super) fn read(read: &Read, x: &Exchange, service: &Service, presented: &Presented) -> (Json, usize) {
    let way = way(read, service);
    if way == Way::Named {
        return (json!({ "value": "not shown" }), 0);
    }
    let Ok(value) = x.read(read) else { return (Json::Null, 0) };
    let shown = match (way, presented.named(read), &value) {
        (Way::Hashed, ..) => hashed(&value),
        (_, Some(with), Val::Text(text)) => Json::String(with.of(text)),
        (_, Some(with), value) if !matches!(value, Val::Absent) => Json::String(with.of(&value.to_json().to_string())),
        _ => presented.value(&value),
    };
    let bytes = shown.as_str().map_or(VALUE_BYTES_MAX, str::len);
    (shown, bytes)
}

/// A variable that a step has set.
pub(super) fn value(value: &Val<'_>, marked: bool, presented: &Presented) -> Json {
    if marked { hashed(value) } else { presented.value(value) }
}

fn hashed(value: &Val<'_>) -> Json {
    match value {
        Val::Absent => Json::Null,
        Val::Text(text) => Json::String(keyed_hash(text.as_bytes())),
        Val::Bytes(bytes) => Json::String(keyed_hash(bytes)),
        other => Json::String(keyed_hash(other.to_json().to_string().as_bytes())),
    }
}

/// Who the caller is.
pub(super) fn identity(identity: Option<&Identity>, presented: &Presented) -> Json {
    let Some(identity) = identity else { return Json::Null };
    let mut shown = json!({ "scheme": identity.scheme, "subject": presented.text(&identity.subject) });
    if let (Some(client), Some(members)) = (&identity.client, shown.as_object_mut()) {
        members.insert("client".into(), presented.text(client));
    }
    shown
}

/// The name of a variable, as policies write it.
pub fn name(read: &Read, names: &Names) -> String {
    let of_slot = |list: &[(Text, Slot)], slot| {
        list.iter().find(|(_, known)| *known == slot).map_or_else(|| "?".to_owned(), |(name, _)| name.to_string())
    };
    let field = |side: &Side, name: &HeaderName| format!("{}.headers.{}", side.word(), name.as_str().replace('-', "_"));
    match read {
        Read::Slot(slot) => of_slot(&names.variables, *slot),
        Read::Header(side, name) => field(side, name),
        Read::HeaderAll(side, name) => format!("{}.all", field(side, name)),
        Read::Headers(side) => format!("{}.headers", side.word()),
        Read::Query(name) => format!("request.query.{name}"),
        Read::QueryAll(name) => format!("request.query.{name}.all"),
        Read::QueryMap => "request.query".into(),
        Read::Cookie(name) => format!("request.cookies.{name}"),
        Read::Cookies => "request.cookies".into(),
        Read::Form(name) => format!("request.form.{name}"),
        Read::FormMap => "request.form".into(),
        Read::Path(index) => {
            format!("path.{}", names.path.get(usize::from(*index)).map_or("?", |name| name))
        }
        Read::Json(side) => format!("{}.json", side.word()),
        Read::Body(side) => format!("{}.body", side.word()),
        Read::BodyText(side) => format!("{}.text", side.word()),
        Read::Identity(slot, member) => format!("{}.{}", of_slot(&names.identities, *slot), member.word()),
        Read::Builtin(builtin) => builtin.path().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_credential_is_hashed_and_what_is_long_is_cut() {
        let mut presented = Presented::default();
        presented.field("Basic YWRhOmx1ZG9pY2UtMg==");
        presented.add("x");
        for text in ["YWRhOmx1ZG9pY2UtMg==", "ludoice-2", "before ludoice-2 after", "x"] {
            let shown = presented.text(text);
            assert!(shown.as_str().unwrap().starts_with('#'), "{text}: {shown}");
        }
        assert_eq!(presented.text("xylophone"), "xylophone", "one letter does not hide everything");
        let long = presented.text(&"ä".repeat(1000));
        assert!(long.as_str().unwrap().ends_with("ä… (2000 bytes)"), "{long}");
        assert!(long.as_str().unwrap().len() < VALUE_BYTES_MAX + 32);
    }

    #[test]
    fn names_and_what_is_encoded_are_scrubbed() {
        let presented = Presented { texts: Vec::new(), rules: vec![Arc::new(Rules(vec![(What::Pan, With::Mask)]))] };
        let json = json!({ "4111111111111111": "/a/4111%201111%201111%201111" });
        assert_eq!(presented.value(&Val::json(&json)), json!({ "411111******1111": "/a/4111%2011**%20****%201111" }));
    }

    #[test]
    fn large_values_are_cut_and_bodies_are_not_shown() {
        let presented = Presented::default();
        let json = json!({ "a": "x".repeat(5000), "b": 1, "c": vec![0; 1000] });
        let shown = presented.value(&Val::json(&json));
        assert!(shown.to_string().len() < VALUE_BYTES_MAX * 2, "{shown}");
        assert_eq!(shown["…"], "…");
        let list = json!(vec![7; 1000]);
        assert!(presented.value(&Val::json(&list)).as_array().unwrap().len() < VALUE_BYTES_MAX);
        let small = json!({ "a": [1, 2] });
        assert_eq!(presented.value(&Val::json(&small)), small);
        assert_eq!(presented.value(&Val::Bytes(Cow::Borrowed(b"abc"))), "(3 bytes)");
        let service = Service::default();
        assert_eq!(way(&Read::BodyText(Side::Request), &service), Way::Named);
        assert_eq!(way(&Read::Header(Side::Request, header::AUTHORIZATION), &service), Way::Hashed);
    }
}
