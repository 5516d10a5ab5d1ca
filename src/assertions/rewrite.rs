//! `rewrite`: changes method, path or query before `route`.
//!
//! RFC 3986 §6.2.2: the result passes the same canonical-path type as a client's path did. Service selection
//! is not run again; the first values stay readable as `request.original`.

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::compile::context::Part;
use crate::compile::flow::Happened;
use crate::compile::text::{Sink, TextParam};
use crate::compile::url::{PathText, outside};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::message::form_decode;
use crate::engine::program::{Plain, Verdict};
use crate::engine::value::Mark;
use crate::expr::{Place, escape};
use crate::fault::Fault;
use crate::path::CanonicalPath;
use crate::source::{Entries, Literal, OneOrMany, Span, Text};

const INVALID_PATH: &str = "rewrite.invalid_path";

pub const KIND: Kind = Kind {
    main: Some("path"),
    bodies: "only what it reads",
    faults: &[
        FaultDoc {
            code: INVALID_PATH,
            status: 400,
            doc: "The new path has no safe spelling: a dot segment, an encoded slash, a control character. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "rewrite.absent",
            status: 400,
            doc: "What the path or a parameter reads is absent. Give it a default: `${x ?? ''}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "Another path, another method, and a parameter more",
            yaml: r#"
service: example
match: { path: "/orders/{id}" }
policy:
  - rewrite: { path: "/v2/order/${path.id}", method: PUT, query: { set: { from: gateway }, remove: [debug] } }
  - route: http://127.0.0.1:9000
  - set_headers: { x-original: "${request.original.method} ${request.original.path}" }
tests:
  - name: each value keeps to its segment
    given: { upstream: [{ answer: { status: 204 } }] }
    request: { path: "/orders/a%20b?debug=1&x=y" }
    expect:
      status: 204
      headers: { x-original: "GET /orders/a%20b" }
      upstream: [{ method: PUT, path: "/v2/order/a%20b?x=y&from=gateway" }]
"#,
        },
        Example {
            title: "Without the public prefix",
            yaml: r#"
service: example
match: { path: "/public/{*rest}" }
policy:
  - rewrite: { strip_prefix: /public, add_prefix: /internal, query: { keep: [page] } }
  - route: http://127.0.0.1:9000
tests:
  - name: one prefix for another
    given: { upstream: [{ answer: { status: 204 } }] }
    request: { path: "/public/a/b?page=2&token=x" }
    expect: { status: 204, upstream: [{ path: "/internal/a/b?page=2" }] }
"#,
        },
    ],
    ..Kind::of::<Rewrite>("rewrite", "Changes method, path or query before `route`.", Category::Messages)
};

/// Parameters of `rewrite`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rewrite {
    /// The new path; each `${}` stays one segment, `{*rest}` values keep their slashes.
    #[serde(default)]
    path: Option<Text>,
    /// Cut from the front of the path, in whole segments; a path that does not begin so stays.
    #[serde(default)]
    strip_prefix: Option<Literal>,
    /// Put in front of the path, after `strip_prefix`.
    #[serde(default)]
    add_prefix: Option<Literal>,
    /// Changes of the query.
    #[serde(default)]
    query: Option<QueryDoc>,
    /// The new method.
    #[serde(default)]
    method: Option<Literal>,
}

/// Changes of the query, in this order: `keep`, `remove`, `set`, `add`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct QueryDoc {
    /// Parameters with their one new value.
    set: Entries<Text>,
    /// Parameters that get one value, or several, more.
    add: Entries<OneOrMany<Text>>,
    /// Parameters to remove.
    remove: OneOrMany<Literal>,
    /// Removes all parameters but these.
    keep: Option<OneOrMany<Literal>>,
}

impl Assertion for Rewrite {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if cx.part != Part::Main || cx.flow.routed == Happened::Always {
            let help = "move it before the `route`; to change the answer use `set_headers` or `set_body`";
            return cx.refuse("policy.too_late", step.span, "the request has been sent: nothing reads this", help);
        }
        cx.changes_message(step.span);
        let path = self.path.as_ref().map(|text| path(text, cx));
        if path.is_some() && (self.strip_prefix.is_some() || self.add_prefix.is_some()) {
            let message = "`path` replaces the whole path: prefixes have no effect";
            return cx.refuse("policy.bad_value", step.span, message, "keep one of the two");
        }
        let strip = self.strip_prefix.as_ref().map(|literal| prefix(literal, cx));
        let add = self.add_prefix.as_ref().map(|literal| prefix(literal, cx));
        let method = self.method.as_ref().map(|literal| cx.method_to_send(literal));
        let query = self.query.map(|doc| query(doc, cx));
        if path.is_none() && strip.is_none() && add.is_none() && method.is_none() && query.is_none() {
            let help = "write `rewrite: { path: /v2/orders }`, or `strip_prefix`, `add_prefix`, `query`, `method`";
            return cx.refuse("policy.missing_parameter", step.span, "`rewrite` changes nothing", help);
        }
        let (path, query) = (whole(path)?, whole(query)?);
        note_marks(path.as_ref(), query.as_ref(), step.span, cx);
        Compiled::plain(RewriteStep { path, strip: whole(strip)?, add: whole(add)?, method: whole(method)?, query })
    }
}

/// Whoever reads the path or the query behind this step reads what it has put there.
fn note_marks(path: Option<&PathText>, query: Option<&Query>, span: Span, cx: &mut Compile<'_>) {
    if let Some(path) = path {
        let mark = path.segments().iter().fold(Mark::None, |all, text| all.joined(text.facts().mark));
        cx.flow.carried.put_path((mark, span));
    }
    let Some(query) = query else { return };
    cx.flow.carried.retain_query(|name| query.keeps(name));
    for (texts, replaces) in [(&query.set, true), (&query.add, false)] {
        for (name, text) in texts {
            cx.flow.carried.put_query(name, (text.facts().mark, span), replaces);
        }
    }
}

/// What was not written is fine, what was written and wrong is not.
fn whole<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    match given {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn path(text: &Text, cx: &mut Compile<'_>) -> Option<PathText> {
    let (node, written) = (text.node(), text.as_str());
    let Some(rest) = written.strip_prefix('/') else {
        return cx.refuse("policy.bad_path", node.span(), "a path begins with `/`", "write `/v2/orders`");
    };
    if outside(written).iter().any(|(_, mark)| matches!(mark, '?' | '#')) {
        let help = "write it as `query: { set: { name: value } }`";
        return cx.refuse("policy.bad_path", node.span(), "a path has no query", help);
    }
    let compiled = cx.path_text(node, rest, Sink::Url)?;
    if compiled.is_literal()
        && let Err(why) = CanonicalPath::parse(written)
    {
        return cx.refuse(
            "policy.bad_path",
            node.span(),
            format!("no request can have this path: {why}"),
            "write `/v2/orders`",
        );
    }
    Some(compiled)
}

/// A prefix in whole segments, without a last slash.
fn prefix(literal: &Literal, cx: &mut Compile<'_>) -> Option<String> {
    let written = cx.literal(literal)?;
    match CanonicalPath::parse(&written) {
        Ok(path) if path.as_str() == written && written.len() > 1 => Some(written.trim_end_matches('/').to_owned()),
        Ok(path) => {
            let message = format!("`{written}` is not how paths are compared");
            let help = format!("its canonical form is `{}`; it needs a segment", path.as_str());
            cx.refuse("policy.bad_path", literal.span(), message, &help)
        }
        Err(why) => {
            cx.refuse("policy.bad_path", literal.span(), format!("`{written}` is no path: {why}"), "write `/v2`")
        }
    }
}

/// Changes of the query, names as they are when decoded.
#[derive(Debug)]
struct Query {
    keep: Option<Vec<String>>,
    remove: Vec<String>,
    set: Vec<(String, TextParam)>,
    add: Vec<(String, TextParam)>,
}

fn query(doc: QueryDoc, cx: &mut Compile<'_>) -> Option<Query> {
    let names = |list: &OneOrMany<Literal>, cx: &mut Compile<'_>| -> Option<Vec<String>> {
        list.iter().map(|name| cx.literal(name)).collect()
    };
    let mut pairs = |texts: Vec<(&str, &Text)>| -> Option<Vec<(String, TextParam)>> {
        let compiled =
            texts.into_iter().map(|(name, text)| Some((name.to_owned(), cx.text_into(text, Place::Plain, Sink::Url)?)));
        compiled.collect()
    };
    let set = pairs(doc.set.iter().map(|(name, text)| (name.name.as_str(), text)).collect())?;
    let add = doc.add.iter().flat_map(|(name, texts)| texts.iter().map(|text| (name.name.as_str(), text)));
    let add = pairs(add.collect())?;
    let keep = match &doc.keep {
        Some(list) => Some(names(list, cx)?),
        None => None,
    };
    Some(Query { keep, remove: names(&doc.remove, cx)?, set, add })
}

impl Query {
    /// The changed query; what is not touched keeps its spelling and place.
    fn change(&self, x: &Exchange) -> Result<String, Box<Fault>> {
        let mut out = String::new();
        for pair in x.request.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if self.keeps(&form_decode(pair.split('=').next().unwrap_or_default())) {
                separate(&mut out);
                out.push_str(pair);
            }
        }
        for (name, value) in self.set.iter().chain(&self.add) {
            separate(&mut out);
            escape(Place::QueryValue, name, &mut out);
            out.push('=');
            // What is written out is a value too, and no piece of a query.
            let mut plain = String::new();
            value.render(x, &mut plain)?;
            escape(Place::QueryValue, &plain, &mut out);
        }
        Ok(out)
    }

    fn keeps(&self, name: &str) -> bool {
        let is = |other: &String| other == name;
        self.keep.as_ref().is_none_or(|keep| keep.iter().any(is))
            && !self.remove.iter().any(is)
            && !self.set.iter().any(|(set, _)| is(set))
    }
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push('&');
    }
}

struct RewriteStep {
    path: Option<PathText>,
    strip: Option<String>,
    add: Option<String>,
    method: Option<Method>,
    query: Option<Query>,
}

impl Plain for RewriteStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        self.rewrite(x).into()
    }
}

impl RewriteStep {
    fn rewrite(&self, x: &mut Exchange) -> Result<(), Box<Fault>> {
        let path = self.new_path(x)?;
        let query = self.query.as_ref().map(|query| query.change(x)).transpose()?;
        x.rewrite(path, query, self.method.clone());
        Ok(())
    }

    fn new_path(&self, x: &Exchange) -> Result<Option<CanonicalPath>, Box<Fault>> {
        let mut made = String::new();
        match &self.path {
            Some(path) => path.render(x, INVALID_PATH, &mut made)?,
            None if self.strip.is_none() && self.add.is_none() => return Ok(None),
            None => {
                made.push_str(self.add.as_deref().unwrap_or_default());
                made.push_str(without(x.request.path.as_str(), self.strip.as_deref()));
            }
        }
        let parsed = CanonicalPath::parse(&made);
        let parsed = parsed.map_err(|why| Fault::denied(StatusCode::BAD_REQUEST, INVALID_PATH, why.to_string()))?;
        Ok(Some(parsed))
    }
}

/// A path without a prefix of whole segments; `/` where nothing else is left.
fn without<'p>(path: &'p str, prefix: Option<&str>) -> &'p str {
    match prefix.and_then(|prefix| path.strip_prefix(prefix)) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions::trial::{Trial, refusals};

    const ROUTE: &str = "  - route: http://127.0.0.1:9000";

    fn sent(rewrite: &str, target: &str) -> String {
        let outcome = Trial::of(&format!("  - rewrite: {rewrite}\n{ROUTE}")).get(target);
        match outcome.sent.first() {
            Some(sent) => format!("{} {}", sent.method, sent.target),
            None => outcome.fault.unwrap(),
        }
    }

    #[test]
    fn prefixes_go_in_whole_segments() {
        assert_eq!(without("/public/a", Some("/public")), "/a");
        assert_eq!(without("/publicity", Some("/public")), "/publicity");
        assert_eq!(without("/public", Some("/public")), "/");
        assert_eq!(without("/a", None), "/a");
    }

    #[test]
    fn values_cannot_leave_their_place() {
        let path = "{ path: \"/v2/${request.query.a ?? ''}/x\" }";
        assert_eq!(sent(path, "/?a=b"), "GET /v2/b/x?a=b");
        assert_eq!(sent(path, "/?a=.."), INVALID_PATH);
        assert_eq!(sent(path, "/?a=b%2Fc"), INVALID_PATH);
        assert_eq!(sent(path, "/?a=b%00"), INVALID_PATH);
        let query = "{ query: { set: { a: \"${request.query.a ?? ''}\", c: x y }, add: { a: [\"1\", \"2\"] } } }";
        assert_eq!(sent(query, "/?z=%41&a=1%26b=2"), "GET /?z=%41&a=1%26b%3D2&c=x%20y&a=1&a=2");
        assert_eq!(
            sent("{ query: { set: { a: \"x&y ${request.query.a ?? ''}\" } } }", "/?a=1%26b"),
            "GET /?a=x%26y%201%26b"
        );
        assert_eq!(sent("{ query: { keep: [] } }", "/p?a=1"), "GET /p");
        assert_eq!(sent("\"/all/${path.rest}\"", "/a/b/c"), "GET /all/a/b/c");
    }

    #[test]
    fn what_changes_nothing_or_comes_too_late_does_not_load() {
        let rewrite = |params: &str| refusals(&format!("  - rewrite: {params}\n{ROUTE}"));
        assert_eq!(rewrite("{}"), ["policy.missing_parameter"]);
        assert_eq!(rewrite("v2"), ["policy.bad_path"]);
        assert_eq!(rewrite("\"/a?b=c\""), ["policy.bad_path"]);
        assert_eq!(rewrite("/a%2Fb"), ["policy.bad_path"]);
        assert_eq!(rewrite("{ strip_prefix: /a//b }"), ["policy.bad_path"]);
        assert_eq!(rewrite("{ method: TRACE }"), ["policy.bad_method"]);
        assert_eq!(rewrite("{ path: /a, add_prefix: /b }"), ["policy.bad_value"]);
        assert_eq!(refusals(&format!("{ROUTE}\n  - rewrite: /a")), ["policy.too_late"]);
    }

    #[test]
    fn the_new_values_are_read_and_the_first_ones_stay_in_original() {
        let shown = "${request.method} ${request.path} ${request.query.a ?? 'none'} was ${request.original.method} \
                     ${request.original.path} ${request.original.query ?? ''}";
        let steps = format!(
            "  - rewrite: {{ path: /first, method: PUT, query: {{ remove: a }} }}\n  - rewrite: /second\n  - respond: {{ text: \"{shown}\" }}"
        );
        assert_eq!(Trial::of(&steps).get("/x?a=1&b=2").body, "PUT /second none was GET /x a=1&b=2");
    }

    #[test]
    fn the_service_that_was_selected_stays() {
        let other = "service: other\nmatch: { path: /other }\npolicy:\n  - respond: { text: other }\n---\n";
        let service =
            crate::assertions::trial::service("  - rewrite: /other\n  - respond: { text: \"${service.name}\" }");
        assert_eq!(Trial::of_set(&format!("{other}{service}")).get("/").body, "trial");
    }
}
