//! Marks of what steps have put into the messages, and where a body with a secret in it may go.
//!
//! What is read back from a message is as secret as what went in: a field that was set to a stored key is no field of the
//! client's any more. Kept along the ways of a pipeline as the rest of [`Flow`](super::flow::Flow). Not here: the marks of
//! variables, which stand with their types.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, COOKIE};

use crate::compile::Compile;
use crate::compile::target::Way;
use crate::engine::exchange::Withheld;
use crate::engine::read::{Builtin, Read, Side};
use crate::engine::value::{Mark, Text};
use crate::expr::Resolved;
use crate::source::{Diagnostic, Literal, OneOrMany, Span};
use crate::upstream::{HostHeader, Origin};

/// What steps have put into both messages, on some way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    request: Message,
    response: Message,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Message {
    /// Names in lower case; fields without a mark are left out.
    fields: BTreeMap<Text, Put>,
    body: Option<Put>,
    path: Option<Put>,
    /// Query parameters, as the fields.
    query: BTreeMap<Text, Put>,
}

/// A mark, and the step that has put it there.
type Put = (Mark, Span);

impl Carried {
    /// What is in it after two ways have met.
    pub fn join(self, other: Carried) -> Carried {
        Carried { request: self.request.join(other.request), response: self.response.join(other.response) }
    }

    /// A field has this value now, or one more.
    pub fn put_field(&mut self, side: Side, name: &str, put: Put, replaces: bool) {
        put_into(&mut self.message_mut(side).fields, name, put, replaces);
    }

    /// A field is gone.
    pub fn remove_field(&mut self, side: Side, name: &str) {
        self.message_mut(side).fields.remove(name);
    }

    /// The request has this path now.
    pub fn put_path(&mut self, put: Put) {
        self.request.path = is_marked(put);
    }

    /// A query parameter of the request has this value now, or one more.
    pub fn put_query(&mut self, name: &str, put: Put, replaces: bool) {
        put_into(&mut self.request.query, name, put, replaces);
    }

    /// A step has made this body.
    pub fn put_body(&mut self, side: Side, put: Put) {
        self.message_mut(side).body = is_marked(put);
    }

    /// Other query parameters of the request are gone.
    pub fn retain_query(&mut self, keeps: impl Fn(&str) -> bool) {
        self.request.query.retain(|name, _| keeps(name));
    }

    /// An upstream has answered: nothing of this response is ours.
    pub fn answered(&mut self) {
        self.response = Message::default();
    }

    /// The mark of a body.
    pub fn body(&self, side: Side) -> Mark {
        self.message(side).body.map_or(Mark::None, |(mark, _)| mark)
    }

    /// Names of the fields that hold credentials, in lower case.
    pub fn credentials(&self, side: Side) -> impl Iterator<Item = &Text> {
        self.message(side).fields.iter().filter(|(_, (mark, _))| mark.is_credential()).map(|(name, _)| name)
    }

    /// The mark of what is read back.
    pub fn mark_of(&self, read: &Read) -> Mark {
        self.put_of(read).map_or(Mark::None, |(mark, _)| mark)
    }

    /// The same with the step that has put it there.
    pub fn put_of(&self, read: &Read) -> Option<Put> {
        let field = |side, name: &str| self.message(side).fields.get(name).copied();
        match read {
            Read::Header(side, name) | Read::HeaderAll(side, name) => field(*side, name.as_str()),
            Read::Headers(side) => self.message(*side).fields.values().fold(None, |all, put| joined(all, Some(*put))),
            Read::Builtin(Builtin::RequestContentType) => field(Side::Request, CONTENT_TYPE.as_str()),
            Read::Builtin(Builtin::ResponseContentType) => field(Side::Response, CONTENT_TYPE.as_str()),
            Read::Builtin(Builtin::RequestPath | Builtin::RequestRawPath) => self.request.path,
            Read::Query(name) | Read::QueryAll(name) => self.request.query.get(name).copied(),
            Read::QueryMap => self.request.query.values().fold(None, |all, put| joined(all, Some(*put))),
            Read::Cookie(_) | Read::Cookies => field(Side::Request, COOKIE.as_str()),
            Read::Json(side) | Read::Body(side) | Read::BodyText(side) => self.message(*side).body,
            Read::Form(_) | Read::FormMap => self.message(Side::Request).body,
            _ => None,
        }
    }

    fn message(&self, side: Side) -> &Message {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    fn message_mut(&mut self, side: Side) -> &mut Message {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }
}

impl Message {
    fn join(mut self, other: Message) -> Message {
        for (own, others) in [(&mut self.fields, other.fields), (&mut self.query, other.query)] {
            for (name, put) in others {
                let known = own.remove(&name);
                own.extend(joined(known, Some(put)).map(|put| (name, put)));
            }
        }
        self.body = joined(self.body, other.body);
        self.path = joined(self.path, other.path);
        self
    }
}

fn put_into(all: &mut BTreeMap<Text, Put>, name: &str, put: Put, replaces: bool) {
    let before = all.remove(name).filter(|_| !replaces);
    if let Some(put) = joined(before, is_marked(put)) {
        all.insert(name.into(), put);
    }
}

fn is_marked(put: Put) -> Option<Put> {
    Some(put).filter(|(mark, _)| *mark != Mark::None)
}

/// Both marks in one, at the place of the greater.
fn joined(one: Option<Put>, other: Option<Put>) -> Option<Put> {
    match (one, other) {
        (Some((one, at)), Some((other, other_at))) => {
            Some((one.joined(other), if one >= other { at } else { other_at }))
        }
        (one, other) => one.or(other),
    }
}

impl Compile<'_> {
    /// What a name means, as marked as what steps have put there, and as what callers present there.
    pub fn put_back(&self, resolved: Resolved) -> Resolved {
        match resolved {
            Resolved::Read { read, facts, used } => {
                let presented = if self.is_presented(&read) { Mark::Token } else { Mark::None };
                let facts = facts.marked(self.flow.carried.mark_of(&read)).marked(presented);
                Resolved::Read { read, facts, used }
            }
            other => other,
        }
    }

    /// Whether an authenticate step of this service, wherever it stands, takes credentials from there.
    fn is_presented(&self, read: &Read) -> bool {
        let mut known = self.presented.iter();
        match read {
            Read::Header(Side::Request, name) | Read::HeaderAll(Side::Request, name) => {
                known.any(|place| matches!(place, Withheld::Header(known) if known == name))
            }
            Read::Query(name) | Read::QueryAll(name) => {
                known.any(|place| matches!(place, Withheld::Query(known) if known == name))
            }
            Read::QueryMap | Read::Builtin(Builtin::OriginalQuery) => {
                known.any(|place| matches!(place, Withheld::Query(_)))
            }
            _ => false,
        }
    }

    /// The origins of `secrets_to`: written out, and https.
    pub fn secrets_to(&mut self, list: Option<&OneOrMany<Literal>>) -> Option<Vec<Arc<str>>> {
        let mut named = Vec::new();
        for literal in list.iter().flat_map(|list| list.iter()) {
            let text = self.literal(literal)?;
            match Origin::parse(&text) {
                Ok(origin) if origin.https => named.push(origin.text().clone()),
                other => {
                    let message = other.map_or_else(|why| why, |_| format!("`{text}` is no https origin"));
                    let help = "write `secrets_to: https://login.example.com`";
                    return self.refuse("policy.bad_value", literal.0.span(), message, help);
                }
            }
        }
        Some(named)
    }

    /// Refuses the body of the request where a secret is in it that may not go there; see
    /// [`check_secret_body`](Compile::check_secret_body).
    pub fn check_request_body(&mut self, way: &Way, host: &HostHeader, named: &[Arc<str>], span: Span) -> Option<()> {
        match self.flow.carried.request.body {
            Some((Mark::Secret, put_at)) => self.check_secret_body(way, host, named, span, Some(put_at)),
            _ => Some(()),
        }
    }

    /// Refuses a body with a secret in it that does not go to who is named alone, under the name that is written out;
    /// `put_at` is where another step has made it.
    pub fn check_secret_body(
        &mut self,
        way: &Way,
        host: &HostHeader,
        named: &[Arc<str>],
        span: Span,
        put_at: Option<Span>,
    ) -> Option<()> {
        let origins = way.origins().unwrap_or_default();
        let is_named = !origins.is_empty() && origins.iter().all(|origin| named.contains(origin.text()));
        let is_own = |origin: &Arc<Origin>| match host {
            HostHeader::Upstream => !origin.has_other_name(),
            HostHeader::Client => false,
            HostHeader::Literal(host) => !origin.has_other_name() && origin.authority() == host,
        };
        let (message, help) = match (is_named, origins.iter().all(is_own)) {
            (true, true) => return Some(()),
            (true, false) => (
                "a body with a secret would go to another name than that of `secrets_to`",
                "leave `host` and `tls: { server_name }` out: who is named gets it under its own name",
            ),
            (false, _) => (
                "a secret stands in this body, and nothing says that it may go there",
                "name where it goes, written out and https: `secrets_to: https://login.example.com`; with an \
                 `upstream` all of its targets",
            ),
        };
        let diagnostic = Diagnostic::error("policy.secret_in_body", span, message).with_help(help);
        self.report(match put_at {
            Some(put_at) => diagnostic.with_note(put_at, "this step puts it there"),
            None => diagnostic,
        });
        None
    }
}
