//! A body that a policy makes: the forms that `set_body` and `respond` share.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value as Json;

use crate::compile::Compile;
use crate::compile::text::{Sink, TextParam};
use crate::engine::exchange::Exchange;
use crate::engine::value::{Facts, Map, Type, Val, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Diagnostic, Entries, Literal, Node, NodeValue, Span, Text};

/// Largest body read from a file at load, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How the first line of a private key ends (RFC 7468 §10 and §11, RFC 5915 §4, and older forms).
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
/// A shorter value may stand in a file by chance.
const SECRET_BYTES_MIN: usize = 8;

/// The forms as they stand in parameters; at most one is given.
#[derive(Debug, Default)]
pub struct ContentForms {
    pub json: Option<Node>,
    pub text: Option<Text>,
    pub xml: Option<Text>,
    pub form: Option<Entries<Text>>,
    pub value: Option<Text>,
    pub file: Option<Literal>,
    pub content_type: Option<Literal>,
}

/// Something was wrong and has been reported.
#[derive(Clone, Copy, Debug)]
pub struct Refused;

/// A compiled body.
#[derive(Debug)]
pub struct Content {
    form: Form,
    media: HeaderValue,
}

#[derive(Debug)]
enum Form {
    Fixed(Bytes),
    Json(JsonTemplate),
    Text(TextParam),
    Fields(Vec<(String, TextParam)>),
    Value(TextParam),
}

/// A JSON structure with values in it: client text can never change its shape.
#[derive(Debug)]
pub enum JsonTemplate {
    Fixed(Json),
    Value(TextParam),
    List(Vec<JsonTemplate>),
    Map(Vec<(String, JsonTemplate)>),
}

impl Compile<'_> {
    /// Compiles the one form that is given; `Ok(None)` when none is.
    pub fn content(&mut self, forms: ContentForms, sink: Sink, span: Span) -> Result<Option<Content>, Refused> {
        let given = [
            ("json", forms.json.is_some()),
            ("text", forms.text.is_some()),
            ("xml", forms.xml.is_some()),
            ("form", forms.form.is_some()),
            ("value", forms.value.is_some()),
            ("file", forms.file.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(word, _)| word).collect();
        if given.len() > 1 {
            let message = format!("a body has one form, here are {}", given.join(" and "));
            self.refuse::<()>("policy.bad_value", span, message, "keep one of them");
            return Err(Refused);
        }
        let media = match &forms.content_type {
            Some(literal) => Some(self.media(literal).ok_or(Refused)?),
            None => None,
        };
        if given.is_empty() {
            return match media {
                None => Ok(None),
                Some(_) => {
                    let message = "`content_type` belongs to a body";
                    self.refuse::<()>("policy.bad_value", span, message, "add `text`, `json` or another form");
                    Err(Refused)
                }
            };
        }
        let (form, default) = self.form(forms, sink, media.as_ref()).ok_or(Refused)?;
        Ok(Some(Content { form, media: media.unwrap_or(HeaderValue::from_static(default)) }))
    }

    fn media(&mut self, literal: &Literal) -> Option<HeaderValue> {
        let text = self.literal(literal)?;
        match HeaderValue::from_str(&text) {
            Ok(value) if text.contains('/') => Some(value),
            _ => {
                let message = format!("`{text}` is no media type");
                self.refuse("policy.bad_value", literal.0.span(), message, "write `application/json`")
            }
        }
    }

    fn form(&mut self, forms: ContentForms, sink: Sink, media: Option<&HeaderValue>) -> Option<(Form, &'static str)> {
        if let Some(node) = &forms.json {
            let form = match self.json(node, sink)? {
                JsonTemplate::Fixed(json) => Form::Fixed(json.to_string().into()),
                template => Form::Json(template),
            };
            return Some((form, "application/json"));
        }
        if let Some(text) = &forms.text {
            let compiled = self.text_into(text, Place::Plain, sink)?;
            let is_json = media.and_then(|media| media.to_str().ok()).is_some_and(|media| media.contains("json"));
            if is_json && compiled.literal().is_none() {
                let message = "a client's text could change the structure of this JSON";
                let diagnostic = Diagnostic::warning("policy.json_as_text", text.0.span(), message);
                self.report(diagnostic.with_help("use `json:`: it keeps the structure whatever the values are"));
            }
            return Some((Form::Text(compiled), "text/plain; charset=utf-8"));
        }
        if let Some(xml) = &forms.xml {
            return Some((Form::Text(self.text_into(xml, Place::Xml, sink)?), "application/xml"));
        }
        if let Some(value) = &forms.value {
            return Some((Form::Value(self.text_into(value, Place::Plain, sink)?), "application/octet-stream"));
        }
        if let Some(fields) = &forms.form {
            let compiled: Vec<Option<_>> = fields
                .iter()
                .map(|(name, value)| Some((name.name.clone(), self.text_into(value, Place::Plain, sink)?)))
                .collect();
            let compiled = compiled.into_iter().collect::<Option<Vec<_>>>()?;
            return Some((Form::Fields(compiled), "application/x-www-form-urlencoded"));
        }
        let file = forms.file.as_ref()?;
        Some((Form::Fixed(self.file(file)?), "application/octet-stream"))
    }

    /// A file below the folder of gateway.yaml, read at load.
    fn file(&mut self, literal: &Literal) -> Option<Bytes> {
        let name = self.literal(literal)?;
        let span = literal.0.span();
        let outside = &self.around.resources.outside;
        let base = outside.base();
        let path = base.join(&name);
        // A gateway.yaml without a folder before its name has an empty one, which is no path to the system.
        let folder = if base.as_os_str().is_empty() { Path::new(".") } else { base };
        let inside = match (path.canonicalize(), folder.canonicalize()) {
            (Ok(path), Ok(folder)) => path.starts_with(folder),
            (Ok(_), Err(_)) => false,
            (Err(_), _) => true, // reading it says why
        };
        if !inside {
            let message = format!("`{name}` leads out of the folder of gateway.yaml");
            return self.refuse("policy.unreadable", span, message, "copy the file below that folder");
        }
        match outside.read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => match self.secret_in(&bytes) {
                None => Some(bytes),
                Some(what) => {
                    let message = format!("`{name}` holds {what}");
                    let help =
                        "a body that everybody may read is a file of its own; a secret goes by `${secret('NAME')}`";
                    self.refuse("policy.secret_leak", span, message, help)
                }
            },
            Err(why) => self.refuse(
                "policy.unreadable",
                span,
                format!("{}: {why}", path.display()),
                "name a file below the folder of gateway.yaml",
            ),
        }
    }

    /// What nobody should see in a file, where it holds such a thing.
    fn secret_in(&self, bytes: &[u8]) -> Option<String> {
        let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        if holds(PRIVATE_KEY.as_bytes()) || serde_json::from_slice(bytes).is_ok_and(|json| is_private_jwk(&json)) {
            return Some("a private key".to_owned());
        }
        let all = self.around.resources.secrets.iter();
        let mut known = all.filter_map(|(name, secret)| Some((name, secret.as_ref()?.expose().trim_ascii())));
        let found = known.find(|(_, value)| value.len() >= SECRET_BYTES_MIN && holds(value))?;
        Some(format!("the value of the secret `{}`", found.0))
    }

    /// A JSON structure with `${...}` in its texts.
    pub fn json(&mut self, node: &Node, sink: Sink) -> Option<JsonTemplate> {
        match node.value() {
            NodeValue::Null => Some(JsonTemplate::Fixed(Json::Null)),
            NodeValue::Scalar(scalar) if scalar.text.contains("${") => {
                let text = self.text_of(node, Place::Plain, sink)?;
                Some(match text.literal() {
                    Some(literal) => JsonTemplate::Fixed(literal.into()),
                    None => JsonTemplate::Value(text),
                })
            }
            NodeValue::Scalar(_) => {
                self.warn_of_ambiguity(node);
                Some(JsonTemplate::Fixed(node.to_json()))
            }
            NodeValue::List(items) => {
                let items: Vec<Option<JsonTemplate>> = items.iter().map(|item| self.json(item, sink)).collect();
                let items = items.into_iter().collect::<Option<Vec<_>>>()?;
                Some(match items.iter().all(JsonTemplate::is_fixed) {
                    true => JsonTemplate::Fixed(node.to_json()),
                    false => JsonTemplate::List(items),
                })
            }
            NodeValue::Map(entries) => {
                let entries: Vec<Option<_>> =
                    entries.iter().map(|entry| Some((entry.key.clone(), self.json(&entry.value, sink)?))).collect();
                let entries = entries.into_iter().collect::<Option<Vec<_>>>()?;
                Some(match entries.iter().all(|(_, value)| value.is_fixed()) {
                    true => JsonTemplate::Fixed(node.to_json()),
                    false => JsonTemplate::Map(entries),
                })
            }
        }
    }
}

/// Whether this is a key with its private part, or a set with such a one (RFC 7517 §4 and §5, RFC 7518 §6).
fn is_private_jwk(json: &Json) -> bool {
    let is_private = |key: &Json| key.get("kty").is_some() && (key.get("d").is_some() || key.get("k").is_some());
    let keys = json.get("keys").and_then(Json::as_array);
    is_private(json) || keys.is_some_and(|keys| keys.iter().any(is_private))
}

/// A list or mapping as a variable: its texts and numbers are read without a detour over JSON.
pub fn structure(json: &Json) -> Value {
    match json {
        Json::Array(items) => Value::List(items.iter().map(structure).collect()),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| (Arc::from(name.as_str()), structure(value)));
            Value::Map(Arc::new(Map(members.collect())))
        }
        scalar => Value::from_json(scalar.clone()),
    }
}

impl JsonTemplate {
    fn is_fixed(&self) -> bool {
        matches!(self, JsonTemplate::Fixed(_))
    }

    /// What is known of the values in it, mixed into `facts`.
    pub fn mixed_into(&self, facts: Facts) -> Facts {
        match self {
            JsonTemplate::Fixed(_) => facts,
            JsonTemplate::Value(text) => facts.mixed(text.facts()),
            JsonTemplate::List(items) => items.iter().fold(facts, |facts, item| item.mixed_into(facts)),
            JsonTemplate::Map(entries) => entries.iter().fold(facts, |facts, (_, item)| item.mixed_into(facts)),
        }
    }

    /// The structure with its values; an absent one is `null`.
    pub fn build(&self, x: &Exchange) -> Result<Json, Box<Fault>> {
        Ok(match self {
            JsonTemplate::Fixed(json) => json.clone(),
            JsonTemplate::Value(text) => match text.value(x)? {
                Val::Absent => Json::Null,
                Val::Bytes(bytes) if std::str::from_utf8(&bytes).is_err() => {
                    let detail = "bytes that are no UTF-8 cannot stand in JSON";
                    return Err(fault_by(text.facts().origin, "expression.not_text", detail));
                }
                value => value.to_json(),
            },
            JsonTemplate::List(items) => Json::Array(items.iter().map(|item| item.build(x)).collect::<Result<_, _>>()?),
            JsonTemplate::Map(entries) => {
                let members = entries.iter().map(|(name, value)| Ok((name.clone(), value.build(x)?)));
                Json::Object(members.collect::<Result<_, Box<Fault>>>()?)
            }
        })
    }
}

impl Content {
    /// Whose values and which marks are in it.
    pub fn facts(&self) -> Facts {
        let facts = Facts::policy(Type::Bytes);
        match &self.form {
            Form::Fixed(_) => facts,
            Form::Json(template) => template.mixed_into(facts),
            Form::Text(text) | Form::Value(text) => facts.mixed(text.facts()),
            Form::Fields(fields) => fields.iter().fold(facts, |facts, (_, text)| facts.mixed(text.facts())),
        }
    }

    /// The body and its media type.
    pub fn render(&self, x: &Exchange) -> Result<(Bytes, HeaderValue), Box<Fault>> {
        let bytes = match &self.form {
            Form::Fixed(bytes) => bytes.clone(),
            Form::Json(template) => template.build(x)?.to_string().into(),
            Form::Text(text) => {
                let mut out = String::new();
                text.render(x, &mut out)?;
                out.into()
            }
            Form::Fields(fields) => {
                let mut out = String::new();
                for (name, value) in fields {
                    if !out.is_empty() {
                        out.push('&');
                    }
                    crate::expr::escape(Place::FormValue, name, &mut out);
                    out.push('=');
                    // What is written out is a value too, and no piece of a form.
                    let mut plain = String::new();
                    value.render(x, &mut plain)?;
                    crate::expr::escape(Place::FormValue, &plain, &mut out);
                }
                out.into()
            }
            Form::Value(text) => match text.value(x)? {
                Val::Absent => return Err(text.absence()),
                Val::Bytes(bytes) => bytes.into_owned().into(),
                _ => {
                    let mut out = String::new();
                    text.render(x, &mut out)?;
                    out.into()
                }
            },
        };
        Ok((bytes, self.media.clone()))
    }
}
