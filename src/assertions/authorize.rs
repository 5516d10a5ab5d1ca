//! `authorize`: allows only callers with the stated properties.
//!
//! An absent property never matches, and the answer does not tell which groups would do. For bearer schemes
//! a missing scope is challenged with `insufficient_scope` (RFC 6750 §3.1).

use http::{HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::challenge::quoted;
use crate::compile::text::Test;
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Condition, Plain, Verdict};
use crate::engine::read::{IdentityMember, Read, Slot};
use crate::engine::value::Text;
use crate::expr::{Member, Present};
use crate::fault::Fault;
use crate::identity::Identity;
use crate::source::{Entries, Expression, Literal, Name, OneOrMany, Span};

/// Schemes whose credential is a bearer token.
const BEARER_SCHEMES: [&str; 2] = ["jwt", "oauth"];

pub const KIND: Kind = Kind {
    main: Some("groups"),
    faults: &[
        FaultDoc { code: "authorize.group", status: 403, doc: "The caller is in none, or not in all, of the groups." },
        FaultDoc { code: "authorize.user", status: 403, doc: "The caller is none of `users`." },
        FaultDoc { code: "authorize.client", status: 403, doc: "The application is none of `clients`." },
        FaultDoc {
            code: "authorize.scope",
            status: 403,
            doc: "A scope is missing, or `by_method` has no entry for the method.",
        },
        FaultDoc { code: "authorize.attribute", status: 403, doc: "An attribute is absent or has another value." },
        FaultDoc { code: "authorize.condition", status: 403, doc: "The condition is false." },
        FaultDoc {
            code: "authorize.condition_failed",
            status: 500,
            doc: "The condition could not be evaluated; the record's `detail` says why.",
        },
    ],
    examples: &[
        Example {
            title: "Managers write, every employee reads",
            yaml: r#"
users: staff
entries:
  ann: { password: "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", groups: [managers] }
---
service: example
match: { path: "/orders/{id}", methods: [GET, POST] }
policy:
  - authenticate_basic: staff
  - authorize: { groups: [staff, managers], attributes: { site: [north, south] } }
  - when: request.method == "POST"
    authorize: { all_groups: managers, condition: "path.id != 'closed'" }
  - respond: { text: "${auth.attributes.site}" }
tests:
  given:
    users:
      staff:
        ann: { password: pw, groups: [managers], attributes: { site: north } }
        bob: { password: pw, groups: [staff], attributes: { site: south } }
        eve: { password: pw, groups: [guests], attributes: { site: south } }
        kim: { password: pw, groups: [staff] }
  cases:
    - name: a manager writes
      request: { method: POST, path: /orders/7, basic: { ann: pw } }
      expect: { status: 200, text: north }
    - name: an employee reads
      request: { path: /orders/7, basic: { bob: pw } }
      expect: { status: 200, text: south }
    - name: an employee does not write
      request: { method: POST, path: /orders/7, basic: { bob: pw } }
      expect: { status: 403, fault: authorize.group, headers: { www-authenticate: { absent: true } } }
    - name: a guest does not read
      request: { path: /orders/7, basic: { eve: pw } }
      expect: { status: 403, fault: authorize.group }
    - name: an absent attribute never matches
      request: { path: /orders/7, basic: { kim: pw } }
      expect: { status: 403, fault: authorize.attribute }
    - name: the condition does not hold
      request: { method: POST, path: /orders/closed, basic: { ann: pw } }
      expect: { status: 403, fault: authorize.condition }
"#,
        },
        Example {
            title: "Scopes by method",
            yaml: r#"
api_keys: partners
entries:
  - { id: acme, hash: "sha256:7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b", scopes: [orders.read] }
---
service: example
match: { path: /orders }
policy:
  - authenticate_api_key: partners
  - authorize: { by_method: { GET: orders.read, POST: [orders.read, orders.write] } }
  - respond: { status: 204 }
tests:
  - name: reading
    request: { headers: { x-api-key: k-1 } }
    expect: { status: 204 }
  - name: HEAD counts as GET
    request: { method: HEAD, headers: { x-api-key: k-1 } }
    expect: { status: 204 }
  - name: writing needs both scopes
    request: { method: POST, headers: { x-api-key: k-1 } }
    expect: { status: 403, fault: authorize.scope }
  - name: a method without an entry
    request: { method: DELETE, headers: { x-api-key: k-1 } }
    expect: { status: 403, fault: authorize.scope }
"#,
        },
    ],
    ..Kind::of::<Authorize>("authorize", "Allows only callers with the stated properties.", Category::Access)
};

/// Parameters of `authorize`. Every one that is given must hold; at least one is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Authorize {
    /// The caller is in one of these groups.
    #[serde(default)]
    groups: Option<OneOrMany<Literal>>,
    /// The caller is in all of these groups.
    #[serde(default)]
    all_groups: Option<OneOrMany<Literal>>,
    /// The caller's subject is one of these.
    #[serde(default)]
    users: Option<OneOrMany<Literal>>,
    /// The calling application is one of these.
    #[serde(default)]
    clients: Option<OneOrMany<Literal>>,
    /// The credential has all of these scopes.
    #[serde(default)]
    scopes: Option<OneOrMany<Literal>>,
    /// The credential has one of these scopes.
    #[serde(default)]
    any_scopes: Option<OneOrMany<Literal>>,
    /// Scopes by method, all of each list; `"*"` holds for the rest. HEAD counts as GET. A method without an
    /// entry is denied.
    #[serde(default)]
    by_method: Option<Entries<OneOrMany<Literal>>>,
    /// Attributes, each with one of its values.
    #[serde(default)]
    attributes: Option<Entries<OneOrMany<Literal>>>,
    /// A condition.
    #[serde(default)]
    condition: Option<Expression>,
    /// Whose properties: `auth`, or the `as:` of a second authentication.
    #[serde(default = "auth")]
    identity: Name,
    /// Groups, users and attributes compare without case, for directories that fold it.
    #[serde(default)]
    ignore_case: bool,
}

fn auth() -> Name {
    "auth".into()
}

impl Assertion for Authorize {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let name = Name {
            span: if self.identity.span == Span::NOWHERE { step.span } else { self.identity.span },
            ..self.identity
        };
        let identity = cx.identity(&name.name, name.span);
        let fold = self.ignore_case;
        let groups = words(cx, &self.groups, fold);
        let all_groups = words(cx, &self.all_groups, fold);
        let users = words(cx, &self.users, fold);
        let clients = words(cx, &self.clients, false);
        let scopes = scopes(cx, &self.scopes);
        let any_scopes = self::scopes(cx, &self.any_scopes);
        let by_method = self.by_method.as_ref().map(|entries| by_method(cx, entries));
        let attributes = self.attributes.as_ref().map(|entries| attributes(cx, entries, fold));
        let condition = self.condition.as_ref().map(|condition| cx.condition(&condition.0));
        let step_is_empty =
            [&self.groups, &self.all_groups, &self.users, &self.clients, &self.scopes, &self.any_scopes]
                .into_iter()
                .all(Option::is_none)
                && (by_method.is_none() && attributes.is_none() && condition.is_none());
        if step_is_empty {
            let help = "write who may pass, such as `authorize: { groups: [managers] }`";
            return cx.refuse("policy.missing_parameter", step.span, "an empty `authorize` lets everyone pass", help);
        }
        let compiled = AuthorizeStep {
            identity: identity?,
            groups: groups?,
            all_groups: all_groups?,
            users: users?,
            clients: clients?,
            scopes: scopes?,
            any_scopes: any_scopes?,
            by_method: by_method.map_or(Some(Vec::new()), |entries| entries)?,
            is_by_method: self.by_method.is_some(),
            attributes: attributes.map_or(Some(Vec::new()), |entries| entries)?,
            condition: match condition {
                None => None,
                Some(condition) => Some(Test(condition?)),
            },
            ignore_case: fold,
        };
        compiled.prove(cx);
        Compiled::plain(compiled)
    }
}

type Words = Vec<Text>;

/// The words of a list; a list that is given and empty could never match.
fn words(cx: &mut Compile<'_>, list: &Option<OneOrMany<Literal>>, fold: bool) -> Option<Option<Words>> {
    let Some(list) = list else { return Some(None) };
    Some(Some(some_words(cx, list, fold)?))
}

fn some_words(cx: &mut Compile<'_>, list: &OneOrMany<Literal>, fold: bool) -> Option<Words> {
    if list.is_empty() {
        let step = cx.step_span();
        return cx.refuse("policy.empty_list", step, "an empty list never matches", "name one, or leave it out");
    }
    list.iter().map(|literal| cx.literal(literal).map(|word| folded(&word, fold))).collect()
}

fn folded(word: &str, fold: bool) -> Text {
    if fold { word.to_lowercase().into() } else { word.into() }
}

/// Scopes with the challenge that names them.
#[derive(Debug)]
struct Scopes {
    scopes: Words,
    challenge: HeaderValue,
}

fn scopes(cx: &mut Compile<'_>, list: &Option<OneOrMany<Literal>>) -> Option<Option<Scopes>> {
    let Some(list) = list else { return Some(None) };
    let scopes = some_words(cx, list, false)?;
    Some(Some(with_challenge(cx, scopes, list)?))
}

fn with_challenge(cx: &mut Compile<'_>, scopes: Words, list: &OneOrMany<Literal>) -> Option<Scopes> {
    for (scope, literal) in scopes.iter().zip(list.iter()) {
        // RFC 6749 §3.3: a scope is one word.
        if scope.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
            let help = "write several scopes as a list: `[orders.read, orders.write]`";
            return cx.refuse("policy.bad_value", literal.span(), format!("`{scope}` is no scope"), help);
        }
    }
    let mut challenge = "Bearer error=\"insufficient_scope\"".to_owned();
    if !scopes.is_empty() {
        challenge.push_str(", scope=");
        challenge.push_str(&quoted(&scopes.join(" ")));
    }
    Some(Scopes { scopes, challenge: HeaderValue::from_str(&challenge).ok()? })
}

/// `None` stands for the rest.
type MethodScopes = (Option<Method>, Scopes);

fn by_method(cx: &mut Compile<'_>, entries: &Entries<OneOrMany<Literal>>) -> Option<Vec<MethodScopes>> {
    let mut compiled = Vec::new();
    for (name, list) in entries {
        let method = match name.name.as_str() {
            "*" => None,
            "HEAD" => {
                return cx.refuse("policy.bad_method", name.span, "HEAD counts as GET here", "write `GET` only");
            }
            word => match Method::from_bytes(word.as_bytes()) {
                Ok(method) if word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') => Some(method),
                _ => {
                    let message = format!("`{word}` is no method");
                    let help = "methods are written in capitals; `\"*\"` holds for the rest";
                    return cx.refuse("policy.bad_method", name.span, message, help);
                }
            },
        };
        // Here an empty list means something: the method needs no scope.
        let scopes = list.iter().map(|literal| cx.literal(literal).map(Text::from)).collect::<Option<Words>>()?;
        compiled.push((method, with_challenge(cx, scopes, list)?));
    }
    compiled.sort_by_key(|(method, _)| method.is_none()); // the rest last
    Some(compiled)
}

fn attributes(cx: &mut Compile<'_>, entries: &Entries<OneOrMany<Literal>>, fold: bool) -> Option<Vec<(Text, Words)>> {
    if entries.is_empty() {
        let step = cx.step_span();
        return cx.refuse("policy.empty_list", step, "`attributes` names none", "name one, or leave it out");
    }
    entries.iter().map(|(name, values)| Some((name.name.as_str().into(), some_words(cx, values, fold)?))).collect()
}

#[derive(Debug)]
struct AuthorizeStep {
    identity: Slot,
    groups: Option<Words>,
    all_groups: Option<Words>,
    users: Option<Words>,
    clients: Option<Words>,
    scopes: Option<Scopes>,
    any_scopes: Option<Scopes>,
    by_method: Vec<MethodScopes>,
    is_by_method: bool,
    attributes: Vec<(Text, Words)>,
    condition: Option<Test>,
    ignore_case: bool,
}

impl Plain for AuthorizeStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        let Some(identity) = x.identity(self.identity) else {
            let detail = "nobody said who the caller is";
            return Verdict::Fault(Fault::broken(
                StatusCode::INTERNAL_SERVER_ERROR,
                "authorize.condition_failed",
                detail,
            ));
        };
        match self.refusal(identity, &x.request.method) {
            Some(fault) => Verdict::Fault(fault),
            None => self.holds(x).into(),
        }
    }
}

impl AuthorizeStep {
    /// What is there after it has passed.
    fn prove(&self, cx: &mut Compile<'_>) {
        if self.clients.is_some() {
            cx.flow.prove(Read::Identity(self.identity, IdentityMember::Client));
        }
        for (name, _) in &self.attributes {
            let read = Read::Identity(self.identity, IdentityMember::Attributes);
            cx.flow.proven.push(Present { read, members: vec![Member::Key(name.clone())] });
        }
        if let Some(Test(condition)) = &self.condition {
            cx.flow.proven.extend(condition.proves.iter().cloned());
        }
    }

    fn refusal(&self, identity: &Identity, method: &Method) -> Option<Box<Fault>> {
        let has_group = |wanted: &Text| identity.groups.iter().any(|group| self.same(group, wanted));
        let has_scope = |wanted: &Text| identity.scopes.contains(wanted);
        if self.groups.as_ref().is_some_and(|groups| !groups.iter().any(has_group))
            || self.all_groups.as_ref().is_some_and(|groups| !groups.iter().all(has_group))
        {
            return Some(denied("authorize.group", "not in the groups"));
        }
        if self.users.as_ref().is_some_and(|users| !users.iter().any(|user| self.same(&identity.subject, user))) {
            return Some(denied("authorize.user", "the subject is none of them"));
        }
        if let Some(clients) = &self.clients
            && !identity.client.as_ref().is_some_and(|client| clients.contains(client))
        {
            return Some(denied("authorize.client", "the client is none of them"));
        }
        let missing = self.scopes.as_ref().filter(|all| !all.scopes.iter().all(has_scope));
        let missing = missing.or(self.any_scopes.as_ref().filter(|any| !any.scopes.iter().any(has_scope)));
        if let Some(missing) = missing {
            return Some(scope_fault(identity, Some(&missing.challenge), "a scope is missing"));
        }
        if self.is_by_method {
            let method = if method == Method::HEAD { &Method::GET } else { method };
            let entry = self.by_method.iter().find(|(named, _)| named.as_ref().is_none_or(|named| named == method));
            match entry {
                None => return Some(scope_fault(identity, None, "no entry for the method")),
                Some((_, scopes)) if !scopes.scopes.iter().all(has_scope) => {
                    return Some(scope_fault(identity, Some(&scopes.challenge), "a scope of the method is missing"));
                }
                Some(_) => {}
            }
        }
        let has_attribute = |(name, values): &(Text, Words)| {
            identity.attributes.get(name).is_some_and(|have| values.iter().any(|value| self.same(have, value)))
        };
        let missing = self.attributes.iter().find(|attribute| !has_attribute(attribute))?;
        Some(denied("authorize.attribute", format!("attribute `{}` is absent or has another value", missing.0)))
    }

    /// `wanted` was folded when the policy was compiled.
    fn same(&self, have: &str, wanted: &str) -> bool {
        if self.ignore_case { have.to_lowercase() == wanted } else { have == wanted }
    }

    fn holds(&self, x: &Exchange) -> Result<(), Box<Fault>> {
        let Some(condition) = &self.condition else { return Ok(()) };
        match condition.holds(x) {
            Ok(true) => Ok(()),
            Ok(false) => Err(denied("authorize.condition", "the condition is false")),
            // What the expression itself raised; a body that could not be read stays what it is.
            Err(fault) if fault.code.starts_with("expression.") => {
                let detail = format!("{}: {}", fault.code, fault.detail);
                Err(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "authorize.condition_failed", detail))
            }
            Err(fault) => Err(fault),
        }
    }
}

fn denied(code: &'static str, detail: impl Into<String>) -> Box<Fault> {
    Fault::denied(StatusCode::FORBIDDEN, code, detail)
}

fn scope_fault(identity: &Identity, challenge: Option<&HeaderValue>, detail: &'static str) -> Box<Fault> {
    let fault = denied("authorize.scope", detail);
    if !BEARER_SCHEMES.contains(&identity.scheme) {
        return fault;
    }
    fault.with_challenge(challenge.cloned().unwrap_or(HeaderValue::from_static("Bearer error=\"insufficient_scope\"")))
}

#[cfg(test)]
mod tests;
