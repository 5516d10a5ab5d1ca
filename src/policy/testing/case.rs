//! From `tests:` in the files to cases that can run.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::compile::resources::Resources;
use crate::compile::scope::resolve_env;
use crate::engine::value::Text as Shared;
use crate::policy::build::{Environment, Parsed};
use crate::policy::document::{AssertionDoc, ServiceDoc};
use crate::policy::testing::collected::Collected;
use crate::policy::testing::expect::{Expect, ExpectDoc};
use crate::policy::testing::given::{GivenDoc, World, merged};
use crate::policy::testing::metrics::check_metrics;
use crate::policy::testing::request::{RequestDoc, TestRequest, Usual};
use crate::policy::testing::text::{CAPTURED_MAX, Names, TestText};
use crate::source::{
    Diagnostic, Diagnostics, DurationValue, Entries, Literal, Name, Node, NodeValue, ScalarOr, Span, Text,
    past_mistakes, read, suggest,
};

/// Exchanges of one case, repetitions counted.
const EXCHANGES_MAX: u32 = 100_000;
/// Exchanges that are sent at once.
const TOGETHER_MAX: u32 = 1000;

/// One case, ready to run.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The tested service or assertion.
    pub suite: Shared,
    /// What goes into a tested assertion; nothing for a service.
    pub(super) inputs: Option<Node>,
    /// Where its name stands.
    pub span: Span,
    pub(super) world: World,
    pub(super) exchanges: Vec<TestExchange>,
    /// Names of captured values in the order of their slots.
    pub(super) captured: Vec<String>,
}

impl Case {
    /// What it puts in the place of the documents' own values.
    pub fn given(&self) -> &crate::policy::resources::Given {
        &self.world.resources
    }
}

/// One request of a case and what is expected of it.
#[derive(Debug)]
pub(super) struct TestExchange {
    /// Index of the exchange whose request is sent, its own or an earlier one's.
    pub request: usize,
    pub made: Option<TestRequest>,
    pub expect: Expect,
    pub after: Duration,
    pub repeat: u32,
    /// How many are sent at once.
    pub copies: u32,
    /// It is sent at once with the exchange before it.
    pub joins: bool,
    pub capture: Vec<(String, TestText)>,
    pub span: Span,
}

/// A case.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CaseDoc {
    /// What it shows, in a few words.
    name: Text,
    /// What stands in for the world outside.
    #[serde(default)]
    #[schemars(with = "Option<GivenDoc>")]
    given: Option<Node>,
    /// What goes into a tested assertion.
    #[serde(default)]
    inputs: Option<Node>,
    #[serde(default)]
    #[schemars(with = "Option<RequestDoc>")]
    request: Option<Node>,
    #[serde(default)]
    #[schemars(with = "Option<ExpectDoc>")]
    expect: Option<Node>,
    /// Several requests on one state.
    #[serde(default)]
    #[schemars(with = "Option<Vec<ExchangeDoc>>")]
    exchanges: Option<Vec<Node>>,
}

/// One of several requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExchangeDoc {
    /// The request, or `again` for the one before.
    #[schemars(with = "ScalarOr<Again, RequestDoc>")]
    request: Node,
    #[serde(default)]
    #[schemars(with = "Option<ExpectDoc>")]
    expect: Option<Node>,
    /// The clock moves on by this first.
    #[serde(default)]
    after: Option<DurationValue>,
    /// How often it is sent; every answer must be as expected.
    #[serde(default)]
    repeat: Option<u32>,
    /// `true`: sent at once with the exchange before; a number: so many are sent at once.
    #[serde(default)]
    together: Option<Node>,
    /// Values for later texts.
    #[serde(default)]
    capture: Entries<Text>,
}

/// The request before, once more.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)] // only its schema is used
enum Again {
    Again,
}

/// The schema of a case, for editors.
pub fn case_schema() -> schemars::Schema {
    schemars::schema_for!(CaseDoc)
}

/// Cases that share a `given`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GroupDoc {
    #[serde(default)]
    given: Option<Node>,
    cases: Vec<Node>,
}

/// Collects all cases of a set of files; everything wrong with them is reported.
pub fn collect(parsed: &Parsed, diags: &mut Diagnostics) -> Vec<Case> {
    collect_for(parsed, |_| true, diags)
}

/// The same, only for some services and assertions.
pub fn collect_for(parsed: &Parsed, wanted: impl Fn(&Shared) -> bool, diags: &mut Diagnostics) -> Vec<Case> {
    let mut cases = Collected::default();
    let documents = &parsed.documents;
    let services = documents.services.iter().map(|(name, doc)| (name, Tested::Service(doc), &doc.tests));
    let assertions = documents.assertions.iter().map(|(name, doc)| (name, Tested::Assertion(doc), &doc.tests));
    for (name, tested, tests) in services.chain(assertions) {
        let Some(tests) = tests.as_ref().filter(|_| wanted(name)) else { continue };
        let suite = Suite { name, tested, parsed };
        if tests.as_list().is_some() {
            suite.cases(None, tests, &mut cases, diags);
        } else if let Some(group) = read::<GroupDoc>(tests, None, "`tests`", diags) {
            let list = Node::new(tests.span(), NodeValue::List(group.cases));
            suite.cases(group.given.as_ref(), &list, &mut cases, diags);
        }
    }
    for tests in &documents.tests {
        let name = tests.tests.name.as_str();
        let service = documents.services.get_key_value(name).map(|(name, doc)| (name, Tested::Service(doc)));
        let assertion = || documents.assertions.get_key_value(name).map(|(name, doc)| (name, Tested::Assertion(doc)));
        match service.or_else(assertion) {
            Some((name, _)) if !wanted(name) => {}
            Some((name, tested)) => {
                Suite { name, tested, parsed }.cases(tests.given.as_ref(), &tests.cases, &mut cases, diags);
            }
            None => unknown_suite(&tests.tests, parsed, diags),
        }
    }
    check_metrics(parsed, &cases.list, diags);
    diags.deduplicate();
    cases.list
}

fn unknown_suite(name: &Name, parsed: &Parsed, diags: &mut Diagnostics) {
    let documents = &parsed.documents;
    if documents.broken_services.iter().chain(&documents.broken_assertions).any(|broken| **broken == *name.name) {
        return;
    }
    let message = format!("there is no service and no assertion called `{}` to be tested", name.name);
    let known = documents.services.keys().chain(documents.assertions.keys());
    let help = match suggest(&name.name, known.map(AsRef::as_ref)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`tests:` names a service or an assertion".to_owned(),
    };
    diags.push(Diagnostic::error("policy.unknown_name", name.span, message).with_help(help));
}

/// What a suite tests.
#[derive(Clone, Copy)]
enum Tested<'s> {
    Service(&'s ServiceDoc),
    Assertion(&'s AssertionDoc),
}

struct Suite<'s> {
    name: &'s Shared,
    tested: Tested<'s>,
    parsed: &'s Parsed,
}

impl Suite<'_> {
    fn cases(&self, shared: Option<&Node>, list: &Node, cases: &mut Collected, diags: &mut Diagnostics) {
        let Some(items) = list.as_list() else {
            let message = format!("expected a list of cases, got {}", list.kind());
            diags.push(
                Diagnostic::error("policy.wrong_type", list.span(), message)
                    .with_help("write each case on a line of its own, beginning with `- `"),
            );
            return;
        };
        for node in items {
            cases.check_name(self.name, node, diags);
            let whole = [Some(node.span()), node.get("name").map(Node::span)];
            let follows = |one: &Diagnostic| whole.contains(&one.span);
            cases.list.extend(past_mistakes(node, diags, follows, |node, diags| self.case(shared, node, diags)));
        }
    }

    fn case(&self, shared: Option<&Node>, node: &Node, diags: &mut Diagnostics) -> Option<Case> {
        let mut doc: CaseDoc = read(node, None, "a case", diags)?;
        let inputs = self.inputs(&doc, diags)?;
        if inputs.is_some() && doc.request.is_none() && doc.exchanges.is_none() {
            doc.request = Some(Node::new(doc.name.span(), NodeValue::Map(Vec::new()))); // any request will do
        }
        let given = merged(shared, doc.given.as_ref());
        let world = World::read(given.as_ref(), doc.given.as_ref(), self.parsed, diags);
        let world = world?;
        let mut names = Names::with_tokens(&world.tokens);
        let exchanges = match (doc.request, doc.exchanges) {
            (Some(request), None) => {
                let alone = ExchangeDoc {
                    request,
                    expect: doc.expect,
                    after: None,
                    repeat: None,
                    together: None,
                    capture: Entries::default(),
                };
                let span = node.span();
                vec![self.exchange(alone, span, &world, &[], &mut names, diags)?]
            }
            (None, Some(nodes)) if doc.expect.is_none() => self.exchanges(&nodes, &world, &mut names, diags)?,
            _ => {
                let message = "a case has `request` and `expect`, or `exchanges`, each of which has both";
                diags.push(
                    Diagnostic::error("test.no_request", doc.name.span(), message)
                        .with_help("write `request: {}` for a request that is as the match rule says"),
                );
                return None;
            }
        };
        if !exchanges.iter().any(|exchange| exchange.expect.says_something()) {
            let (words, help) = match self.tested {
                Tested::Service(_) => ("", "say at least which status it ends with: `expect: { status: 200 }`"),
                Tested::Assertion(_) => {
                    (", `outputs`, `verdict`", "say at least how it ends: `expect: { verdict: passed }`")
                }
            };
            let message =
                format!("this case expects none of `status`, `fault`{words} and `upstream`: it could not fail");
            diags.push(Diagnostic::error("test.expects_nothing", doc.name.span(), message).with_help(help));
            return None;
        }
        names.settle();
        let (name, span) = (doc.name.as_str().to_owned(), doc.name.span());
        Some(Case { name, suite: self.name.clone(), inputs, span, world, exchanges, captured: names.captured })
    }

    fn exchanges(
        &self,
        nodes: &[Node],
        world: &World,
        names: &mut Names,
        diags: &mut Diagnostics,
    ) -> Option<Vec<TestExchange>> {
        let mut exchanges: Vec<TestExchange> = Vec::new();
        let mut sent = 0_u32;
        for node in nodes {
            let doc: ExchangeDoc = read(node, None, "an exchange", diags)?;
            let exchange = self.exchange(doc, node.span(), world, &exchanges, names, diags)?;
            sent = sent.saturating_add(exchange.repeat.saturating_mul(exchange.copies));
            exchanges.push(exchange);
            if sent > EXCHANGES_MAX {
                let message = format!("a case has at most {EXCHANGES_MAX} exchanges, repetitions counted");
                diags.push(
                    Diagnostic::error("policy.bad_value", node.span(), message)
                        .with_help("repeat it less often; a limit can be tested with a smaller one"),
                );
                return None;
            }
        }
        Some(exchanges)
    }

    #[allow(clippy::too_many_arguments)] // all of a case's parts meet here
    fn exchange(
        &self,
        doc: ExchangeDoc,
        span: Span,
        world: &World,
        before: &[TestExchange],
        names: &mut Names,
        diags: &mut Diagnostics,
    ) -> Option<TestExchange> {
        let timing = Timing::read(&doc, before.is_empty(), span, diags)?;
        if !timing.joins {
            names.settle();
        }
        let (request, made) = match (doc.request.as_text(), before.last()) {
            (Some("again"), Some(last)) => (last.request, None),
            (Some("again"), None) => {
                let message = "`again` sends the request before once more, and there is none";
                diags.push(
                    Diagnostic::error("policy.bad_value", doc.request.span(), message)
                        .with_help("write the first request out"),
                );
                return None;
            }
            _ => (before.len(), Some(TestRequest::read(&doc.request, world, self.needs_path(), names, diags)?)),
        };
        let expect = match &doc.expect {
            Some(node) => Expect::read(node, names, diags)?,
            None => Expect::default(),
        };
        for (name, _) in &expect.outputs {
            self.output(name, diags)?;
        }
        names.answered = true;
        let capture: Vec<_> = doc
            .capture
            .iter()
            .map(|(name, text)| Some((name.clone(), TestText::compile(&text.0, names, diags)?)))
            .collect();
        names.answered = false;
        let mut captured = Vec::new();
        for (name, text) in capture.into_iter().collect::<Option<Vec<_>>>()? {
            if names.captured.len() + names.pending.len() >= CAPTURED_MAX {
                let message = format!("a case captures at most {CAPTURED_MAX} values");
                diags.push(Diagnostic::error("policy.bad_value", name.span, message).with_help("split the case"));
                return None;
            }
            names.pending.push(name.name.clone());
            captured.push((name.name, text));
        }
        let after = doc.after.map_or(Duration::ZERO, |after| after.duration);
        let Timing { repeat, copies, joins } = timing;
        Some(TestExchange { request, made, expect, after, repeat, copies, joins, capture: captured, span })
    }

    /// What goes into a tested assertion; nothing for a service. The types are checked as at any use.
    fn inputs(&self, doc: &CaseDoc, diags: &mut Diagnostics) -> Option<Option<Node>> {
        let assertion = match (self.tested, &doc.inputs) {
            (Tested::Service(_), None) => return Some(None),
            (Tested::Service(_), Some(inputs)) => {
                let message = "`inputs` go into a tested assertion; this is a test of a service";
                let diagnostic = Diagnostic::error("policy.unknown_key", inputs.span(), message);
                diags.push(diagnostic.with_help("send what the service reads: `request: { ... }`"));
                return None;
            }
            (Tested::Assertion(assertion), _) => assertion,
        };
        let none = || Node::new(doc.name.span(), NodeValue::Map(Vec::new()));
        let inputs = doc.inputs.clone().unwrap_or_else(none);
        let mut whole = true;
        for entry in inputs.as_map().unwrap_or_default() {
            let known = || assertion.inputs.iter().map(|(name, _)| name.name.as_str());
            if !known().any(|name| name == entry.key) {
                let message = format!("`{}` has no input `{}`", self.name, entry.key);
                diags.push(unknown("policy.unknown_key", entry.key_span, message, &entry.key, known()));
                whole = false;
            }
        }
        whole.then_some(Some(inputs))
    }

    /// Whether an expected output can come out at all.
    fn output(&self, name: &Name, diags: &mut Diagnostics) -> Option<()> {
        let Tested::Assertion(assertion) = self.tested else {
            let message = "`outputs` come out of a tested assertion; this is a test of a service";
            let diagnostic = Diagnostic::error("policy.unknown_key", name.span, message);
            diags.push(diagnostic.with_help("expect `variables: { ... }`"));
            return None;
        };
        let known = || assertion.outputs.iter().map(|(known, _)| known.name.as_str());
        if known().any(|known| known == name.name) {
            return Some(());
        }
        let message = format!("`{}` declares no output `{}`", self.name, name.name);
        diags.push(unknown("policy.unknown_name", name.span, message, &name.name, known()));
        None
    }

    /// Whether the match path does not say what to request.
    fn needs_path(&self) -> bool {
        let Tested::Service(service) = self.tested else { return false };
        service.rule.path.as_str().replace("${", "").contains('{')
    }
}

fn unknown<'k>(
    code: &'static str,
    span: Span,
    message: String,
    name: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Diagnostic {
    let help = match suggest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has: {}", known.collect::<Vec<_>>().join(", ")),
    };
    Diagnostic::error(code, span, message).with_help(help)
}

/// How often and with whom an exchange is sent.
struct Timing {
    repeat: u32,
    copies: u32,
    joins: bool,
}

impl Timing {
    fn read(doc: &ExchangeDoc, is_first: bool, span: Span, diags: &mut Diagnostics) -> Option<Timing> {
        let mut refuse = |span: Span, message: &str, help: &str| {
            diags.push(Diagnostic::error("test.bad_sequence", span, message).with_help(help));
            None
        };
        let (copies, joins) = match doc.together.as_ref().map(|node| (node, node.to_json())) {
            None => (1, false),
            Some((_, Json::Bool(true))) => (1, true),
            Some((node, json)) => match json.as_u64().and_then(|copies| u32::try_from(copies).ok()) {
                Some(copies @ 2..=TOGETHER_MAX) => (copies, false),
                _ => {
                    let message = format!("`together` is `true` or a number from 2 to {TOGETHER_MAX}");
                    let help = "`true` sends it at once with the exchange before, a number sends so many at once";
                    return refuse(node.span(), &message, help);
                }
            },
        };
        if doc.repeat == Some(0) {
            return refuse(span, "`repeat: 0` sends nothing", "take the exchange out, or repeat it at least once");
        }
        if joins && is_first {
            return refuse(span, "there is no exchange before this one to be sent with", "take `together` out here");
        }
        if joins && (doc.after.is_some() || doc.repeat.is_some()) {
            let message = "`after` and `repeat` belong to the first of the exchanges that are sent at once";
            return refuse(span, message, "move them there");
        }
        if copies > 1 && !doc.capture.0.is_empty() {
            let message = format!("{copies} answers at once: `capture` cannot tell which of them it reads");
            return refuse(span, &message, "send one of them as an exchange of its own, with `together: true`");
        }
        Some(Timing { repeat: doc.repeat.unwrap_or(1), copies, joins })
    }
}

/// What the match rule says about a request that leaves it out. What is wrong with the rule is reported where
/// the service is compiled.
pub(super) fn usual(service: &ServiceDoc, environment: &Environment, world: &World) -> Usual {
    let mut env: BTreeMap<Shared, Shared> = environment.values.env.clone();
    env.extend(world.resources.env.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())));
    let resources = Resources { env: env.into(), ..Resources::default() };
    let text = |literal: &Literal| {
        resolve_env(&literal.0, &resources).map_or_else(|_| String::new(), |text| text.into_owned())
    };
    let rule = &service.rule;
    let path = Some(text(&rule.path)).filter(|path| !path.contains('{') && path.starts_with('/'));
    let method = rule.methods.iter().flat_map(|methods| methods.iter()).next();
    Usual {
        method: method.map_or_else(|| "GET".to_owned(), text),
        path,
        host: match rule.host.as_ref().map(text) {
            Some(host) => host.strip_prefix('*').map(|suffix| format!("any{suffix}")).unwrap_or(host),
            None => "localhost".to_owned(),
        },
        base: environment.values.base.clone(),
        listener: listener(service, environment),
    }
}

fn listener(service: &ServiceDoc, environment: &Environment) -> Shared {
    let named = service.listeners.iter().flat_map(|names| names.iter()).next();
    match (named, environment.listeners.first()) {
        (Some(name), _) => name.name.as_str().into(),
        (None, Some(first)) => first.clone(),
        (None, None) => "main".into(),
    }
}
