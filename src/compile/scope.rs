//! What the names of expressions mean at a place of a policy (`docs/variables.md`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use http::HeaderName;

use crate::compile::Compile;
use crate::compile::context::Part;
use crate::compile::flow::{Happened, Root};
use crate::compile::identity::identity_member;
use crate::compile::resources::Resources;
use crate::engine::read::{Builtin, Read, Side, Slot};
use crate::engine::value::{Element, Facts, Mark, Origin, Text, Type, Value};
use crate::expr::{Constant, Member, Resolved, Scope, Segment, Unresolved};
use crate::secret::{CREDENTIAL_FIELDS, Secret};
use crate::source::{Diagnostic, Node, suggest};

/// Roots that no step can set.
pub const RESERVED: [&str; 12] =
    ["request", "response", "answer", "path", "auth", "service", "fault", "env", "input", "grant", "kept", "secret"];

impl Scope for Compile<'_> {
    fn resolve(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let name = path.first().map_or("", |segment| segment.name);
        if let Some(unresolved) = self.of_the_caller(name) {
            return Err(unresolved);
        }
        let resolved = match name {
            "input" => self.input(path),
            "request" => self.request(path),
            "response" => self.response(path),
            "path" => self.path_parameter(path),
            "service" => self.service_member(path),
            "fault" => self.fault_member(path),
            "answer" => self.answer_member(path),
            "env" => self.env(path),
            _ => self.set_by_steps(name, path),
        };
        resolved.map(|resolved| self.put_back(resolved))
    }

    fn constant(&mut self, function: &str, name: &str) -> Result<Constant, Unresolved> {
        let resources = self.around.resources;
        let found = match function {
            "secret" => resources.secrets.get(name).map(|secret| secret_constant(secret.as_ref())),
            _ => resources.lists.get(name).map(|list| Constant {
                value: Value::List(list.clone().unwrap_or_else(|| Vec::new().into())),
                facts: Facts::policy(Type::List(Element::Text)),
            }),
        };
        found.ok_or_else(|| {
            let near = match function {
                "secret" => suggest(name, resources.secrets.keys().map(AsRef::as_ref)),
                _ => suggest(name, resources.lists.keys().map(AsRef::as_ref)),
            };
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it in any file under the policies folder: `{function}: {name}`"),
            };
            unresolved(
                "policy.unknown_name",
                format!("there is no {function} called `{name}`"),
                "not declared",
                Some(help),
                0,
            )
        })
    }

    fn proven(&self, read: &Read, members: &[Member]) -> bool {
        self.flow.proven.iter().any(|present| present.read == *read && present.members == members)
    }
}

/// A secret's value: text where it is UTF-8, else bytes. One that is broken, which its own document
/// reports, is known by its type alone.
fn secret_constant(secret: Option<&Secret>) -> Constant {
    let bytes = secret.map_or(&b"?"[..], |secret| secret.expose());
    let (value, ty) = match std::str::from_utf8(bytes) {
        Ok(text) => (Value::text(text), Type::Text),
        Err(_) => (Value::Bytes(bytes.to_vec().into()), Type::Bytes),
    };
    Constant { value, facts: Facts::policy(ty).marked(Mark::Secret) }
}

fn unresolved(code: &'static str, message: String, label: &str, help: Option<String>, at_segment: usize) -> Unresolved {
    Unresolved { code, message, label: label.into(), help, at_segment }
}

pub(super) fn read(read: Read, facts: Facts, used: usize) -> Result<Resolved, Unresolved> {
    Ok(Resolved::Read { read, facts, used })
}

/// An unknown member, with what there is.
pub(super) fn no_member(root: &str, at: usize, name: &str, known: &[&str]) -> Unresolved {
    let message = if name.is_empty() {
        format!("`{root}` is not a value: read one of its members")
    } else {
        format!("`{root}` has no member `{name}`")
    };
    let help = match suggest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{root}.{near}`?"),
        None => format!("it has: {}", known.join(", ")),
    };
    unresolved("expr.unknown_variable", message, "unknown", Some(help), at)
}

pub(super) fn segment<'p>(path: &'p [Segment<'_>], at: usize) -> &'p str {
    path.get(at).map_or("", |segment| segment.name)
}

const REQUEST_MEMBERS: [&str; 22] = [
    "id",
    "trace_id",
    "method",
    "scheme",
    "host",
    "port",
    "path",
    "raw_path",
    "query",
    "headers",
    "cookies",
    "body",
    "text",
    "json",
    "form",
    "size",
    "content_type",
    "received_at",
    "http_version",
    "client",
    "tls",
    "original",
];
const RESPONSE_MEMBERS: [&str; 7] = ["status", "headers", "body", "text", "json", "size", "content_type"];

impl Compile<'_> {
    fn request(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let builtin = |builtin, ty| read(Read::Builtin(builtin), Facts::client(ty), 2);
        let maybe = |builtin, ty| read(Read::Builtin(builtin), Facts::client(ty).maybe(), 2);
        match segment(path, 1) {
            "id" => read(Read::Builtin(Builtin::RequestId), Facts::policy(Type::Text), 2),
            // Where a caller is believed it is the caller's.
            "trace_id" => maybe(Builtin::RequestTraceId, Type::Text),
            "method" => builtin(Builtin::RequestMethod, Type::Text),
            "scheme" => builtin(Builtin::RequestScheme, Type::Text),
            "host" => builtin(Builtin::RequestHost, Type::Text),
            "port" => builtin(Builtin::RequestPort, Type::Int),
            "path" => builtin(Builtin::RequestPath, Type::Text),
            "raw_path" => builtin(Builtin::RequestRawPath, Type::Text),
            "received_at" => read(Read::Builtin(Builtin::RequestReceivedAt), Facts::policy(Type::Time), 2),
            "http_version" => builtin(Builtin::RequestHttpVersion, Type::Text),
            "size" => maybe(Builtin::RequestSize, Type::Int),
            "content_type" => maybe(Builtin::RequestContentType, Type::Text),
            "headers" => self.headers(Side::Request, path, Origin::Client),
            "query" => named(path, Read::QueryMap, Read::Query, Read::QueryAll),
            "form" => named(path, Read::FormMap, Read::Form, Read::Form),
            "cookies" => cookie(path),
            "body" => read(Read::Body(Side::Request), Facts::client(Type::Bytes), 2),
            "text" => read(Read::BodyText(Side::Request), Facts::client(Type::Text), 2),
            "json" => read(Read::Json(Side::Request), Facts::client(Type::Json), 2),
            "client" => match segment(path, 2) {
                "ip" => read(Read::Builtin(Builtin::ClientIp), Facts::client(Type::Text), 3),
                "peer_ip" => read(Read::Builtin(Builtin::ClientPeerIp), Facts::client(Type::Text), 3),
                "port" => read(Read::Builtin(Builtin::ClientPort), Facts::client(Type::Int), 3),
                other => Err(no_member("request.client", 2, other, &["ip", "peer_ip", "port"])),
            },
            "original" => match segment(path, 2) {
                "path" => read(Read::Builtin(Builtin::OriginalPath), Facts::client(Type::Text), 3),
                "query" => read(Read::Builtin(Builtin::OriginalQuery), Facts::client(Type::Text).maybe(), 3),
                "method" => read(Read::Builtin(Builtin::OriginalMethod), Facts::client(Type::Text), 3),
                other => Err(no_member("request.original", 2, other, &["path", "query", "method"])),
            },
            "tls" => tls(path),
            other => Err(no_member("request", 1, other, &REQUEST_MEMBERS)),
        }
    }

    fn response(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        if self.part == Part::Main && self.flow.routed == Happened::Never {
            let message = "there is no response here: no `route` stands before this step".to_owned();
            let help = "move the step behind the `route`".to_owned();
            return Err(unresolved("policy.no_response", message, "not yet", Some(help), 0));
        }
        let absent = self.part == Part::Finally || (self.part == Part::Main && self.flow.routed != Happened::Always);
        let facts = |ty| Facts { ty, absent, origin: Origin::Upstream, mark: Mark::None };
        match segment(path, 1) {
            "status" => read(Read::Builtin(Builtin::ResponseStatus), facts(Type::Int), 2),
            "size" => read(Read::Builtin(Builtin::ResponseSize), facts(Type::Int).maybe(), 2),
            "content_type" => read(Read::Builtin(Builtin::ResponseContentType), facts(Type::Text).maybe(), 2),
            "headers" => self.headers(Side::Response, path, Origin::Upstream),
            "body" => read(Read::Body(Side::Response), facts(Type::Bytes), 2),
            "text" => read(Read::BodyText(Side::Response), facts(Type::Text), 2),
            "json" => read(Read::Json(Side::Response), facts(Type::Json), 2),
            other => Err(no_member("response", 1, other, &RESPONSE_MEMBERS)),
        }
    }

    fn headers(&mut self, side: Side, path: &[Segment<'_>], origin: Origin) -> Result<Resolved, Unresolved> {
        let facts = |ty, mark| Facts { ty, absent: true, origin, mark };
        self.answer_headers_read |= side == Side::Response && self.part == Part::Finally;
        let Some(key) = path.get(2) else {
            // All fields together may hold a credential.
            let whole = Facts { absent: false, ..facts(Type::Map(Element::Text), Mark::Token) };
            return read(Read::Headers(side), whole, 2);
        };
        // `headers.x_api_key` is `headers["x-api-key"]`: no field name that gets this far holds a `_`.
        let written = key.name.to_ascii_lowercase().replace('_', "-");
        let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
            let message = format!("`{}` is no field name (RFC 9110 §5.1)", key.name);
            return Err(unresolved("expr.unknown_variable", message, "not a field name", None, 2));
        };
        let mark = if CREDENTIAL_FIELDS.contains(&name.as_str()) { Mark::Token } else { Mark::None };
        if segment(path, 3) == "all" {
            return read(Read::HeaderAll(side, name), facts(Type::List(Element::Text), mark), 4);
        }
        read(Read::Header(side, name), facts(Type::Text, mark), 3)
    }

    fn path_parameter(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let name = segment(path, 1);
        match self.path_params.iter().position(|known| **known == *name) {
            Some(at) => read(Read::Path(u8::try_from(at).unwrap_or(u8::MAX)), Facts::client(Type::Text), 2),
            None if self.knows_little => read(Read::Slot(Slot(0)), Facts::policy(Type::Any), path.len()),
            None if self.path_params.is_empty() => {
                let message = "the match rule of this service has no path parameters".to_owned();
                let help = "write one into `match: path:`, such as `/orders/{id}`".to_owned();
                Err(unresolved("expr.unknown_variable", message, "unknown", Some(help), 1))
            }
            None => {
                let known: Vec<&str> = self.path_params.iter().map(AsRef::as_ref).collect();
                Err(no_member("path", 1, name, &known))
            }
        }
    }

    fn service_member(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let name = Facts::policy(Type::Text);
        let name = if self.service.is_empty() { name.maybe() } else { name };
        match segment(path, 1) {
            "name" => read(Read::Builtin(Builtin::ServiceName), name, 2),
            "file" => read(Read::Builtin(Builtin::ServiceFile), name, 2),
            "snapshot" => read(Read::Builtin(Builtin::ServiceSnapshot), Facts::policy(Type::Text), 2),
            other => Err(no_member("service", 1, other, &["name", "file", "snapshot"])),
        }
    }

    fn fault_member(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let absent = match self.part {
            _ if self.is_catching() => false,
            Part::Main => return Err(only_later("fault", "`catch`, `on_fault` or `finally`")),
            Part::OnFault => false,
            Part::Finally => true,
        };
        let facts = |ty| Facts { absent, ..Facts::policy(ty) };
        match segment(path, 1) {
            "code" => read(Read::Builtin(Builtin::FaultCode), facts(Type::Text), 2),
            "status" => read(Read::Builtin(Builtin::FaultStatus), facts(Type::Int), 2),
            "kind" => read(Read::Builtin(Builtin::FaultKind), facts(Type::Text), 2),
            // For the operator only: the mark keeps it out of answers.
            "detail" => read(Read::Builtin(Builtin::FaultDetail), facts(Type::Text).marked(Mark::Internal), 2),
            "step" => read(Read::Builtin(Builtin::FaultStep), facts(Type::Text).maybe(), 2),
            "text" => {
                read(Read::Builtin(Builtin::FaultText), facts(Type::Text).maybe().marked(self.fault_text_mark()), 2)
            }
            other => Err(no_member("fault", 1, other, &["code", "status", "kind", "detail", "step", "text"])),
        }
    }

    fn answer_member(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        if let Some(members) = &self.answer_members {
            return member("answer", members, path, 1);
        }
        if self.answer_is_response {
            return self.response(path);
        }
        if self.part == Part::Main {
            return Err(only_later("answer", "`on_fault` or `finally`"));
        }
        match segment(path, 1) {
            "status" => read(Read::Builtin(Builtin::AnswerStatus), Facts::policy(Type::Int).maybe(), 2),
            "size" => read(Read::Builtin(Builtin::AnswerSize), Facts::policy(Type::Int).maybe(), 2),
            "headers" => self.headers(Side::Response, path, Origin::Upstream),
            other => Err(no_member("answer", 1, other, &["status", "headers", "size"])),
        }
    }

    fn env(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let name = segment(path, 1);
        match env_value(name, self.around.resources) {
            Ok(value) if self.is_secret(&value) => {
                let message = format!("`env.{name}` is the value of a secret");
                let help = "write `secret('NAME')`: it is kept out of records and answers".to_owned();
                Err(unresolved("policy.secret_leak", message, "a secret", Some(help), 1))
            }
            Ok(value) => {
                Ok(Resolved::Constant { value: Value::Text(value), facts: Facts::policy(Type::Text), used: 2 })
            }
            Err((message, help)) => Err(unresolved("policy.env_missing", message, "unknown here", Some(help), 1)),
        }
    }

    /// Whether this is what a `secret` document holds.
    fn is_secret(&self, value: &str) -> bool {
        let mut all = self.around.resources.secrets.iter().filter_map(|(_, secret)| secret.as_ref());
        all.any(|secret| secret.eq_constant_time(value.as_bytes()))
    }

    fn set_by_steps(&mut self, name: &str, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        if let Some((first, second)) = self.flow.writers.twice(name) {
            let place = |step| self.steps.get(usize::from(step)).map_or("?", |step| &step.place);
            let message = format!("two steps set `{name}`: one at {} and one at {}", place(first), place(second));
            let help =
                format!("name what one of them sets: `as: second` beside it, read as `second` instead of `{name}`");
            return Err(unresolved("policy.root_written_twice", message, "which of them?", Some(help), 0));
        }
        match self.flow.roots.get(name) {
            Some(Root::Value(slot, facts)) => read(Read::Slot(*slot), *facts, 1),
            Some(Root::Members(members)) => member(name, members, path, 1),
            Some(Root::Identity(identity)) => {
                // What else a renamed step sets stands below its identity: `second.api_key.id`.
                let below = format!("{name}.{}", segment(path, 1));
                if let Some(Root::Members(members)) = self.flow.roots.get(below.as_str()) {
                    return member(&below, members, path, 2);
                }
                if segment(path, 1) == "credential" && identity.credential.is_some() {
                    self.credential_read.store(true, Ordering::Relaxed);
                }
                identity_member(name, identity, path)
            }
            // A step before this one is wrong, and might have set it: nothing can be said about it.
            None if self.is_unsettled(name) => read(Read::Slot(Slot(0)), Facts::policy(Type::Any), path.len()),
            None => Err(self.not_set(name)),
        }
    }

    fn not_set(&self, name: &str) -> Unresolved {
        if name == "auth" {
            let message = "no step before this one says who the caller is".to_owned();
            let help = "put an `authenticate_*` step before it".to_owned();
            return unresolved("policy.no_identity", message, "not set here", Some(help), 0);
        }
        let root = |output: &str| output.split('.').next().unwrap_or_default().to_owned();
        let setter = self.around.catalogue.iter().find(|kind| kind.sets.iter().any(|set| root(set.name) == name));
        let help = match setter {
            Some(kind) => Some(format!("`{name}.*` is set by a `{}` step: put one before this step", kind.name)),
            None => {
                let known = self.flow.roots.keys().map(AsRef::as_ref).chain(RESERVED.iter().copied());
                Some(match suggest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("set it before: `- set: {{ {name}: ... }}`; a text stands in quotes: `'{name}'`"),
                })
            }
        };
        let message = format!("no step before this one sets `{name}`");
        unresolved("expr.unknown_variable", message, "not set here", help, 0)
    }
}

fn only_later(root: &str, places: &str) -> Unresolved {
    let message = format!("`{root}` exists in {places} only");
    let help = format!("move what reads it into {places}");
    unresolved("expr.unknown_variable", message, "not here", Some(help), 0)
}

fn tls(path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
    // Over a connection in clear there is no session to tell of.
    let text = |builtin| read(Read::Builtin(builtin), Facts::client(Type::Text).maybe(), 3);
    match segment(path, 2) {
        "version" => text(Builtin::TlsVersion),
        "cipher" => text(Builtin::TlsCipher),
        "server_name" => text(Builtin::TlsServerName),
        "alpn" => text(Builtin::TlsAlpn),
        "client_certificate" => read(Read::Builtin(Builtin::TlsClientCertificate), Facts::client(Type::Bool), 3),
        other => {
            let known = ["version", "cipher", "server_name", "alpn", "client_certificate"];
            Err(no_member("request.tls", 2, other, &known))
        }
    }
}

fn named(
    path: &[Segment<'_>],
    whole: Read,
    one: impl Fn(Text) -> Read,
    all: impl Fn(Text) -> Read,
) -> Result<Resolved, Unresolved> {
    let Some(key) = path.get(2) else {
        return read(whole, Facts::client(Type::Map(Element::Text)), 2);
    };
    if segment(path, 3) == "all" {
        return read(all(key.name.into()), Facts::client(Type::List(Element::Text)).maybe(), 4);
    }
    read(one(key.name.into()), Facts::client(Type::Text).maybe(), 3)
}

fn cookie(path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
    match path.get(2) {
        None => read(Read::Cookies, Facts::client(Type::Map(Element::Text)).marked(Mark::Token), 2),
        Some(name) => read(Read::Cookie(name.name.into()), Facts::client(Type::Text).maybe().marked(Mark::Token), 3),
    }
}

/// Whether the path goes on to a field that is no token by its name.
fn is_plain_field(path: &[Segment<'_>], at: usize) -> bool {
    path.get(at).is_some_and(|field| !CREDENTIAL_FIELDS.contains(&field.name.to_ascii_lowercase().as_str()))
}

/// Whether a member is the fields of a message that a step has received.
fn is_fields(name: &str, facts: Facts) -> bool {
    name == "headers"
        && facts.mark == Mark::Token
        && facts.origin == Origin::Upstream
        && facts.ty == Type::Map(Element::Text)
}

fn member(
    root: &str,
    members: &BTreeMap<Text, (Slot, Facts)>,
    path: &[Segment<'_>],
    at: usize,
) -> Result<Resolved, Unresolved> {
    let name = segment(path, at);
    match members.get(name) {
        // Only some fields of a message hold a credential, all of them together may.
        Some((slot, facts)) if is_fields(name, *facts) && is_plain_field(path, at + 1) => {
            read(Read::Slot(*slot), Facts { mark: Mark::None, ..*facts }, at + 1)
        }
        Some((slot, facts)) => read(Read::Slot(*slot), *facts, at + 1),
        None => {
            let known: Vec<&str> = members.keys().map(AsRef::as_ref).collect();
            Err(no_member(root, at, name, &known))
        }
    }
}

/// A variable of the process's environment; the error is message and help.
fn env_value(name: &str, resources: &Resources) -> Result<Text, (String, String)> {
    if let Some(value) = resources.env.get(name) {
        return Ok(value.clone());
    }
    if resources.env_listed.iter().any(|listed| **listed == *name) {
        let help = format!("start the gateway with `{name}=...` in its environment");
        return Err((format!("the environment variable `{name}` is not set"), help));
    }
    let help = format!("list it in gateway.yaml: `env: [{name}]`");
    Err((format!("policies may not read the environment variable `{name}`"), help))
}

/// Puts the values of `${env.NAME}` into a text; any other `${...}` is an error.
pub fn resolve_env<'n>(node: &'n Node, resources: &Resources) -> Result<Cow<'n, str>, Box<Diagnostic>> {
    let text = node.as_text().unwrap_or_default();
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let (mut out, mut at) = (String::new(), 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find("${")) {
        let start = at + found;
        if text.get(..start).is_some_and(|before| before.ends_with('$')) {
            out.push_str(text.get(at..start).unwrap_or_default());
            out.push('{');
            at = start + 2;
            continue;
        }
        out.push_str(text.get(at..start).unwrap_or_default());
        let end = text.get(start..).and_then(|rest| rest.find('}')).map(|length| start + length);
        let Some(end) = end else {
            let span = node.position_of(start, text.len());
            return Err(Box::new(Diagnostic::error("expr.unclosed", span, "`${` without its `}`")));
        };
        let inner = text.get(start + 2..end).unwrap_or_default().trim();
        let span = node.position_of(start, end + 1);
        let Some(name) = inner.strip_prefix("env.") else {
            let message = "only `${env.NAME}` may stand here: this is settled when the files are loaded";
            let diagnostic = Diagnostic::error("policy.not_literal", span, message);
            return Err(Box::new(diagnostic.with_help("write the text itself; `$${` is a literal `${`")));
        };
        match env_value(name, resources) {
            Ok(value) => out.push_str(&value),
            Err((message, help)) => {
                return Err(Box::new(Diagnostic::error("policy.env_missing", span, message).with_help(help)));
            }
        }
        at = end + 1;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Ok(Cow::Owned(out))
}
