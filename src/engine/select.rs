//! Which service a request belongs to: host, then path, then method, the most specific first.
//!
//! Exact host over wildcard over none; literal segment over `{name}` over `{*rest}`. Once a path pattern
//! was found its methods decide: another method is 405, never a less specific pattern, so that a guarded
//! path cannot be reached through an open catch-all by choosing an odd method. Many servers cut parameters
//! (`;v=1`, RFC 3986 §3.3) off segments before they look; a path that another pattern would fit then is
//! ambiguous, so that `/admin;x/users` does not reach what `/admin/{*rest}` guards.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

use crate::engine::value::Text;

/// Segments of a path, at most; a longer one matches nothing.
pub const SEGMENTS_MAX: usize = 128;

/// Where a path parameter stands in the path, in bytes, escapes undecoded.
pub type Param = (u32, u32);

/// One segment of a match rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Literal(Text),
    /// `{name}`: one segment, not empty.
    One(Text),
    /// `{*rest}`: what remains, may be empty.
    Rest(Text),
}

/// A match rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub host: HostRule,
    pub path: Vec<Segment>,
    /// Empty: all methods.
    pub methods: Vec<Method>,
    /// Empty: all listeners.
    pub listeners: Vec<Text>,
}

/// The host of a match rule, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostRule {
    Exact(Text),
    /// `*.example.com` without the star: `.example.com`.
    Suffix(Text),
    Any,
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.methods.iter().enumerate() {
            write!(out, "{}{method}", if index > 0 { "," } else { "" })?;
        }
        if !self.methods.is_empty() {
            out.write_str(" ")?;
        }
        match &self.host {
            HostRule::Exact(host) => out.write_str(host)?,
            HostRule::Suffix(suffix) => write!(out, "*{suffix}")?,
            HostRule::Any => {}
        }
        for segment in &self.path {
            match segment {
                Segment::Literal(text) => write!(out, "/{text}")?,
                Segment::One(name) => write!(out, "/{{{name}}}")?,
                Segment::Rest(name) => write!(out, "/{{*{name}}}")?,
            }
        }
        if self.path.is_empty() {
            out.write_str("/")?;
        }
        if !self.listeners.is_empty() {
            write!(out, " on {}", self.listeners.join(", "))?;
        }
        Ok(())
    }
}

/// The answer.
#[derive(Debug, PartialEq)]
pub enum Found {
    Service(usize, SmallVec<[Param; 4]>),
    /// The path is known, the method is not; what is allowed, sorted.
    OtherMethod(Vec<Method>),
    /// Without the parameters of its segments the path belongs to another rule.
    Ambiguous,
    Nothing,
}

/// All match rules of a snapshot.
#[derive(Clone, Default)]
pub struct Select {
    exact: HashMap<Text, Node>,
    suffixes: HashMap<Text, Node>,
    any: Node,
}

#[derive(Clone, Default)]
struct Node {
    literals: HashMap<Text, Node>,
    one: Option<Box<Node>>,
    rest: Vec<Entry>,
    here: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    service: usize,
    methods: Vec<Method>,
    listeners: Vec<Text>,
}

impl Select {
    /// Adds a rule; the error is the service whose rule is equal.
    pub fn insert(&mut self, rule: &Rule, service: usize) -> Result<(), usize> {
        let mut node = match &rule.host {
            HostRule::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostRule::Suffix(suffix) => self.suffixes.entry(suffix.clone()).or_default(),
            HostRule::Any => &mut self.any,
        };
        let mut at_rest = false;
        for segment in &rule.path {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::One(_) => node = node.one.get_or_insert_default(),
                Segment::Rest(_) => at_rest = true,
            }
        }
        let entries = if at_rest { &mut node.rest } else { &mut node.here };
        let entry = Entry { service, methods: with_head(&rule.methods), listeners: rule.listeners.clone() };
        if let Some(equal) = entries.iter().find(|other| other.equals(&entry)) {
            return Err(equal.service);
        }
        entries.push(entry);
        Ok(())
    }

    /// Finds the service of a request. `path` is canonical, `host` lower case without port.
    pub fn find(&self, listener: &str, host: &str, path: &str, method: &Method) -> Found {
        let (found, params) = self.walk(listener, host, path);
        if path.contains(';') && !spelt_out(found, &params, path) {
            let (other, _) = self.walk(listener, host, &without_parameters(path));
            if other.is_some_and(|other| found.is_none_or(|found| !std::ptr::eq(found, other))) {
                return Found::Ambiguous;
            }
        }
        match found {
            Some(entries) => choose(entries, listener, method, params),
            None => Found::Nothing,
        }
    }

    /// The rules of the most specific pattern that fits.
    fn walk(&self, listener: &str, host: &str, path: &str) -> (Option<&[Entry]>, SmallVec<[Param; 4]>) {
        let exact = self.exact.get(host).into_iter();
        let dots = host.match_indices('.').map(|(at, _)| at);
        let suffixes = dots.filter_map(|at| self.suffixes.get(host.get(at..)?));
        for tree in exact.chain(suffixes).chain(std::iter::once(&self.any)) {
            let mut walk = Walk { path, listener, params: SmallVec::new() };
            if let Some(entries) = walk.find(tree, 1, 0) {
                return (Some(entries), walk.params);
            }
        }
        (None, SmallVec::new())
    }
}

/// Whether the pattern that was found holds the parameters of all segments itself.
fn spelt_out(found: Option<&[Entry]>, params: &[Param], path: &str) -> bool {
    let taken = |(from, to): &Param| path.get(*from as usize..*to as usize).is_none_or(|taken| taken.contains(';'));
    found.is_some() && !params.iter().any(taken)
}

/// The path as servers see it that cut the parameters off its segments and merge slashes.
fn without_parameters(path: &str) -> String {
    let mut cut = String::with_capacity(path.len());
    let mut last = "";
    for segment in path.split('/').skip(1) {
        last = segment.split(';').next().unwrap_or_default();
        if !last.is_empty() {
            cut.push('/');
            cut.push_str(last);
        }
    }
    if last.is_empty() {
        cut.push('/');
    }
    cut
}

/// GET includes HEAD.
fn with_head(methods: &[Method]) -> Vec<Method> {
    let mut all = methods.to_vec();
    if all.contains(&Method::GET) && !all.contains(&Method::HEAD) {
        all.push(Method::HEAD);
    }
    all
}

impl Entry {
    fn equals(&self, other: &Entry) -> bool {
        let both_all = self.methods.is_empty() && other.methods.is_empty();
        let share_method = both_all || self.methods.iter().any(|method| other.methods.contains(method));
        let both_everywhere = self.listeners.is_empty() && other.listeners.is_empty();
        let share_listener =
            both_everywhere || self.listeners.iter().any(|listener| other.listeners.contains(listener));
        share_method && share_listener
    }

    fn stands_on(&self, listener: &str) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|name| **name == *listener)
    }
}

fn choose(entries: &[Entry], listener: &str, method: &Method, params: SmallVec<[Param; 4]>) -> Found {
    let standing = || entries.iter().filter(|entry| entry.stands_on(listener));
    // A rule that names the listener is more specific than one that stands on all; so is one that names the method.
    let fits = standing().filter(|entry| entry.methods.is_empty() || entry.methods.contains(method));
    let best = fits.max_by_key(|entry| (!entry.listeners.is_empty(), !entry.methods.is_empty()));
    match best {
        Some(entry) => Found::Service(entry.service, params),
        None => {
            let mut allowed: Vec<Method> = standing().flat_map(|entry| entry.methods.clone()).collect();
            allowed.sort_by(|one, other| one.as_str().cmp(other.as_str()));
            allowed.dedup();
            Found::OtherMethod(allowed)
        }
    }
}

struct Walk<'p> {
    path: &'p str,
    listener: &'p str,
    params: SmallVec<[Param; 4]>,
}

impl Walk<'_> {
    /// `at` is where the next segment begins. Goes back where a more specific branch leads nowhere; a
    /// branch is entered at most once per node, so the work is bounded by the rules, not by the path.
    fn find<'n>(&mut self, node: &'n Node, at: usize, depth: usize) -> Option<&'n [Entry]> {
        if depth > SEGMENTS_MAX {
            return None;
        }
        if at > self.path.len() {
            return self.standing(&node.here).or_else(|| self.rest(node, self.path.len()));
        }
        let rest = self.path.get(at..)?;
        let end = at + rest.find('/').unwrap_or(rest.len());
        let segment = self.path.get(at..end)?;
        if let Some(child) = node.literals.get(segment)
            && let Some(found) = self.find(child, end + 1, depth + 1)
        {
            return Some(found);
        }
        if let Some(child) = &node.one
            && !segment.is_empty()
        {
            self.params.push(range(at, end));
            if let Some(found) = self.find(child, end + 1, depth + 1) {
                return Some(found);
            }
            self.params.pop();
        }
        if segment.is_empty() && end == self.path.len() && depth == 0 {
            // The path `/` is the empty list of segments.
            if let Some(found) = self.standing(&node.here) {
                return Some(found);
            }
        }
        self.rest(node, at)
    }

    fn rest<'n>(&mut self, node: &'n Node, at: usize) -> Option<&'n [Entry]> {
        let found = self.standing(&node.rest)?;
        self.params.push(range(at, self.path.len()));
        Some(found)
    }

    fn standing<'n>(&self, entries: &'n [Entry]) -> Option<&'n [Entry]> {
        entries.iter().any(|entry| entry.stands_on(self.listener)).then_some(entries)
    }
}

fn range(from: usize, to: usize) -> Param {
    (u32::try_from(from).unwrap_or(u32::MAX), u32::try_from(to).unwrap_or(u32::MAX))
}

/// Reads `/orders/{id}/{*rest}`. The error says what is wrong with it.
pub fn parse_path(pattern: &str) -> Result<Vec<Segment>, String> {
    let Some(inner) = pattern.strip_prefix('/') else {
        return Err(format!("a path begins with `/`: `/{pattern}`"));
    };
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments: Vec<Segment> = Vec::new();
    for segment in inner.split('/') {
        if segments.iter().any(|segment| matches!(segment, Segment::Rest(_))) {
            return Err("`{*rest}` must be the last segment".into());
        }
        segments.push(parse_segment(segment)?);
    }
    let names: Vec<&Text> = segments.iter().filter_map(Segment::name).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name))
    {
        return Err(format!("two parameters are called `{}`", twice.1));
    }
    if segments.len() > SEGMENTS_MAX {
        return Err(format!("more than {SEGMENTS_MAX} segments"));
    }
    Ok(segments)
}

impl Segment {
    /// The parameter's name, if it is one.
    pub fn name(&self) -> Option<&Text> {
        match self {
            Segment::Literal(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(name),
        }
    }
}

fn parse_segment(segment: &str) -> Result<Segment, String> {
    let Some(inner) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
        if segment.contains(['{', '}', '*']) {
            return Err(format!("a parameter is a whole segment, `{{name}}` or `{{*name}}`: `{segment}` is not"));
        }
        return Ok(Segment::Literal(Arc::from(segment)));
    };
    let (rest, name) = match inner.strip_prefix('*') {
        Some(name) => (true, name),
        None => (false, inner),
    };
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.bytes().all(legal) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(format!("`{name}` is no parameter name: lower-case letters, digits and `_`, a letter first"));
    }
    let name = Arc::from(name);
    Ok(if rest { Segment::Rest(name) } else { Segment::One(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: &str, path: &str, methods: &[Method]) -> Rule {
        let host = match host.strip_prefix('*') {
            _ if host.is_empty() => HostRule::Any,
            Some(suffix) => HostRule::Suffix(suffix.into()),
            None => HostRule::Exact(host.into()),
        };
        Rule { host, path: parse_path(path).unwrap(), methods: methods.to_vec(), listeners: Vec::new() }
    }

    fn select(rules: &[(&str, &str, &[Method])]) -> Select {
        let mut select = Select::default();
        for (index, (host, path, methods)) in rules.iter().enumerate() {
            select.insert(&rule(host, path, methods), index).unwrap();
        }
        select
    }

    fn found(select: &Select, host: &str, path: &str, method: Method) -> (Option<usize>, Vec<String>) {
        match select.find("main", host, path, &method) {
            Found::Service(index, params) => {
                let params = params.iter().map(|(from, to)| path[*from as usize..*to as usize].to_owned());
                (Some(index), params.collect())
            }
            _ => (None, Vec::new()),
        }
    }

    #[test]
    fn the_most_specific_rule_wins() {
        let select = select(&[
            ("", "/{*rest}", &[]),
            ("", "/orders/{id}", &[]),
            ("", "/orders/new", &[]),
            ("", "/orders/{id}/lines/{*rest}", &[]),
            ("*.example.com", "/orders/{id}", &[]),
            ("api.example.com", "/orders/{id}", &[]),
            ("", "/", &[]),
        ]);
        let get = |host, path| found(&select, host, path, Method::GET);
        assert_eq!(get("x", "/"), (Some(6), vec![]));
        assert_eq!(get("x", "/orders/new"), (Some(2), vec![]));
        assert_eq!(get("x", "/orders/7"), (Some(1), vec!["7".into()]));
        assert_eq!(get("x", "/orders/7/lines"), (Some(3), vec!["7".into(), String::new()]));
        assert_eq!(get("x", "/orders/7/lines/1/2"), (Some(3), vec!["7".into(), "1/2".into()]));
        assert_eq!(get("x", "/orders/7/other"), (Some(0), vec!["orders/7/other".into()]));
        assert_eq!(get("x", "/orders/"), (Some(0), vec!["orders/".into()]));
        assert_eq!(get("b.example.com", "/orders/7").0, Some(4));
        assert_eq!(get("api.example.com", "/orders/7").0, Some(5));
        assert_eq!(get("api.example.com", "/elsewhere").0, Some(0));
    }

    #[test]
    fn a_branch_that_leads_nowhere_is_left_again() {
        let select = select(&[("", "/a/b/c", &[]), ("", "/{x}/b/d", &[])]);
        assert_eq!(found(&select, "", "/a/b/d", Method::GET), (Some(1), vec!["a".into()]));
    }

    #[test]
    fn parameters_of_a_segment_do_not_lead_past_a_rule() {
        let select = select(&[
            ("", "/{*rest}", &[]),
            ("", "/admin/{*rest}", &[]),
            ("", "/orders/new", &[]),
            ("", "/orders/{id}", &[]),
            ("a.example.com", "/b/c", &[]),
        ]);
        let find = |host, path| select.find("main", host, path, &Method::GET);
        for path in ["/admin;x/users", "/admin;/", "/admin;x", "/orders/new;v=1", "/orders;x/7"] {
            assert_eq!(find("x", path), Found::Ambiguous, "{path}");
        }
        assert_eq!(find("a.example.com", "/b;x/c"), Found::Ambiguous);
        let get = |host, path| found(&select, host, path, Method::GET).0;
        assert_eq!(get("x", "/orders/7;v=1"), Some(3));
        assert_eq!(get("x", "/admin/users;v=1"), Some(1));
        assert_eq!(get("x", "/other;v=1"), Some(0));
        assert_eq!(get("x", "/b;x/c"), Some(0));
    }

    #[test]
    fn a_rule_that_holds_parameters_itself_is_found() {
        let select = select(&[("", "/a", &[]), ("", "/a;v=1", &[])]);
        assert_eq!(found(&select, "", "/a;v=1", Method::GET).0, Some(1));
        assert_eq!(select.find("main", "", "/a;v=2", &Method::GET), Found::Ambiguous);
    }

    #[test]
    fn another_method_is_not_found_elsewhere() {
        let select = select(&[("", "/orders", &[Method::GET, Method::POST]), ("", "/{*rest}", &[])]);
        assert_eq!(found(&select, "", "/orders", Method::HEAD).0, Some(0));
        let allowed = vec![Method::GET, Method::HEAD, Method::POST];
        assert_eq!(select.find("main", "", "/orders", &Method::DELETE), Found::OtherMethod(allowed));
    }

    #[test]
    fn equal_rules_are_refused_and_disjoint_methods_are_not() {
        let mut select = select(&[("", "/a/{x}", &[Method::GET])]);
        assert_eq!(select.insert(&rule("", "/a/{y}", &[Method::GET, Method::PUT]), 1), Err(0));
        assert_eq!(select.insert(&rule("", "/a/{y}", &[Method::POST]), 2), Ok(()));
        assert_eq!(select.insert(&rule("", "/a/{y}", &[]), 3), Ok(()));
        assert_eq!(select.insert(&rule("", "/a/{z}", &[]), 4), Err(3));
    }

    #[test]
    fn broken_patterns_are_explained() {
        for (pattern, part) in [
            ("orders", "begins with"),
            ("/a/{*rest}/b", "last segment"),
            ("/a/x{id}", "whole segment"),
            ("/a/{Id}", "no parameter name"),
            ("/{a}/{a}", "two parameters"),
        ] {
            assert!(parse_path(pattern).unwrap_err().contains(part), "{pattern}");
        }
    }
}
