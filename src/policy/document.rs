//! The documents of a set of files: what each declares and under which name.
//!
//! A document's first key says what it declares and names it. Names are the only references.

mod merge;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::compile::fragment::Fragment;
use crate::engine::value::{Text, with_article};
use crate::policy::resources::{self, ResourceKind};
use crate::source::{
    Diagnostic, Diagnostics, Entries, Literal, Name, Node, OneOrMany, Span, Text as SourceText, read, read_remains,
    suggest,
};

/// A `service:` document.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceDoc {
    /// Name of the service.
    pub service: Name,
    /// Which requests belong to it.
    #[serde(rename = "match")]
    pub rule: MatchDoc,
    /// Names of listeners it stands on; without it on all.
    #[serde(default)]
    pub listeners: Option<OneOrMany<Name>>,
    /// The steps that every request walks from top to bottom.
    pub policy: Node,
    /// Steps that shape the answer to a denied or broken request.
    #[serde(default)]
    pub on_fault: Option<Node>,
    /// Steps that always run and never change the answer.
    #[serde(default)]
    pub finally: Option<Node>,
    /// Policy tests.
    #[serde(default)]
    pub tests: Option<Node>,
    /// Names of `defaults` that it opts out of.
    #[serde(default)]
    pub without: Option<OneOrMany<Name>>,
    /// Parts of it were wrong, which was reported: nothing serves it, but the other parts are checked.
    #[serde(skip)]
    pub is_mangled: bool,
}

/// A match rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchDoc {
    /// `api.example.com` or `*.example.com`; without it any host.
    #[serde(default)]
    pub host: Option<Literal>,
    /// `/orders/{id}` or `/files/{*rest}`.
    #[schemars(example = "/orders/{id}")]
    pub path: Literal,
    /// Methods; without it all. GET includes HEAD.
    #[serde(default)]
    pub methods: Option<OneOrMany<Literal>>,
}

impl MatchDoc {
    /// Whether what it matches may hang on a variable of the environment.
    pub fn names_environment(&self) -> bool {
        let methods = self.methods.iter().flat_map(|methods| methods.iter());
        let mut all = self.host.iter().chain([&self.path]).chain(methods);
        all.any(|literal| literal.as_str().contains("${"))
    }
}

/// A `defaults:` document.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultsDoc {
    /// Name of the defaults.
    pub defaults: Name,
    /// Patterns of service names (`orders*`); without it all services.
    #[serde(default)]
    pub services: Option<OneOrMany<String>>,
    /// Steps before each service's own.
    #[serde(default)]
    pub before: Option<Node>,
    /// Steps after each service's own `on_fault`.
    #[serde(default)]
    pub on_fault: Option<Node>,
    /// Steps after each service's own `finally`.
    #[serde(default)]
    pub finally: Option<Node>,
    /// Which services they are for could not be read, which was reported: they are checked by themselves.
    #[serde(skip)]
    pub lacks_services: bool,
}

/// A `fragment:` document.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FragmentDoc {
    /// Name of the fragment.
    fragment: Name,
    /// Its steps.
    policy: Node,
}

/// An `assertion:` document.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssertionDoc {
    /// Name of the assertion: what steps call it, and what its codes begin with.
    pub assertion: Name,
    /// What it does, in one line.
    #[serde(default)]
    pub summary: Option<SourceText>,
    /// What goes in, read as `input.NAME`.
    #[serde(default)]
    pub inputs: Entries<InputDoc>,
    /// What comes out, each with its type; `string?` may be absent.
    #[serde(default)]
    pub outputs: Entries<SourceText>,
    /// Its steps.
    pub policy: Node,
    /// Policy tests.
    #[serde(default)]
    pub tests: Option<Node>,
    /// Parts of it were wrong, which was reported: its steps are checked, and its uses are not.
    #[serde(skip)]
    pub is_mangled: bool,
    /// Some of the inputs are among those parts.
    #[serde(skip)]
    pub lacks_inputs: bool,
}

/// An input of an `assertion:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputDoc {
    /// `string`, `int`, `float`, `bool`, `bytes`, `time`, `list`, `list<string>`, `map` or `json`.
    #[serde(rename = "type")]
    pub ty: SourceText,
    /// A use must write it.
    #[serde(default)]
    pub required: bool,
    /// Stands where a use does not write it.
    #[serde(default)]
    pub default: Option<Node>,
    /// The only values that it can have.
    #[serde(default)]
    pub one_of: Vec<Node>,
    /// Whether what a use writes may be absent at run time.
    #[serde(default)]
    pub absent: AbsentDoc,
}

/// Whether an absent value may go in.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AbsentDoc {
    /// It is a fault `NAME.absent`, by origin.
    #[default]
    Refused,
    /// The assertion deals with it.
    Allowed,
}

/// A `tests:` document.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestsDoc {
    /// Name of the tested service or assertion.
    pub tests: Name,
    /// Stand-ins shared by all cases.
    #[serde(default)]
    pub given: Option<Node>,
    /// The cases.
    pub cases: Node,
}

/// The schemas of documents that are no resources, by their declaring keys.
pub fn schemas() -> [(&'static str, schemars::Schema); 5] {
    use schemars::schema_for;
    [
        ("service", schema_for!(ServiceDoc)),
        ("fragment", schema_for!(FragmentDoc)),
        ("defaults", schema_for!(DefaultsDoc)),
        ("assertion", schema_for!(AssertionDoc)),
        ("tests", schema_for!(TestsDoc)),
    ]
}

/// A resource document: read when its kind is built.
#[derive(Clone, Debug)]
pub struct ResourceDoc {
    pub kind: &'static ResourceKind,
    pub name: Name,
    pub node: Node,
}

/// All documents of a set of files.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    pub services: BTreeMap<Text, Arc<ServiceDoc>>,
    pub fragments: BTreeMap<Text, Fragment>,
    pub defaults: BTreeMap<Text, Arc<DefaultsDoc>>,
    pub assertions: BTreeMap<Text, Arc<AssertionDoc>>,
    pub tests: Vec<TestsDoc>,
    pub resources: Vec<ResourceDoc>,
    names: Names,
    /// Names of services whose document could not be read; who refers to them is not told they are missing.
    pub broken_services: Vec<Text>,
    /// The same for assertions.
    pub broken_assertions: Vec<Text>,
    /// Parts of fragments, defaults or assertions were wrong, which was reported: nothing is served with what remains.
    pub is_mangled: bool,
}

/// Kinds that stand in policy files beside the resources.
const KINDS: [&str; 5] = ["service", "fragment", "defaults", "assertion", "tests"];
/// Kinds of the contract that this version does not serve yet.
const LATER: [&str; 7] = ["ldap", "oauth_session", "authorization_server", "kerberos", "xacml", "token_store", "cache"];

impl Documents {
    /// Takes a parsed document in.
    pub fn add(&mut self, node: &Node, diags: &mut Diagnostics) {
        let Some(first) = node.as_map().and_then(<[_]>::first) else {
            let message = format!("expected a document, got {}", node.kind());
            let help = "a document begins with what it declares: `service: NAME`";
            diags.push(Diagnostic::error("policy.not_a_document", node.span(), message).with_help(help));
            return;
        };
        let kinds = || KINDS.into_iter().chain(resources::KINDS.iter().map(|kind| kind.word));
        let key = first.key.as_str();
        if !kinds().any(|kind| kind == key) {
            self.unknown_kind(node, key, first.key_span, kinds(), diags);
            return;
        }
        self.names.check(key, &first.value, diags);
        match key {
            "service" => self.add_service(node, first.value.as_text().unwrap_or_default(), diags),
            "fragment" => {
                if let Some(doc) = self.remains::<FragmentDoc>(node, "a fragment", diags) {
                    let fragment = Fragment { span: doc.fragment.span, steps: doc.policy };
                    self.fragments.entry(doc.fragment.name.into()).or_insert(fragment);
                }
            }
            "defaults" => {
                if let Some(mut doc) = self.remains::<DefaultsDoc>(node, "a defaults document", diags) {
                    doc.lacks_services = doc.services.is_none() && node.get("services").is_some();
                    self.defaults.entry(doc.defaults.name.as_str().into()).or_insert(Arc::new(doc));
                }
            }
            "assertion" => self.add_assertion(node, first.value.as_text().unwrap_or_default(), diags),
            "tests" => self.tests.extend(read::<TestsDoc>(node, None, "a tests document", diags)),
            _ => {
                let kind = resources::KINDS.iter().find(|kind| kind.word == key);
                let name = first.value.as_text().map(|name| Name { name: name.into(), span: first.value.span() });
                if let (Some(kind), Some(name)) = (kind, name) {
                    self.resources.push(ResourceDoc { kind, name, node: node.clone() });
                }
            }
        }
    }

    fn add_service(&mut self, node: &Node, name: &str, diags: &mut Diagnostics) {
        let mut found = Diagnostics::new();
        let doc = read_remains::<ServiceDoc>(node, None, "a service", &mut found);
        match doc.filter(|doc| doc.service.name == name) {
            Some(mut doc) => {
                doc.is_mangled = found.has_errors();
                self.services.entry(name.into()).or_insert(Arc::new(doc));
            }
            None => self.broken_services.push(name.into()),
        }
        diags.append(found);
    }

    fn add_assertion(&mut self, node: &Node, name: &str, diags: &mut Diagnostics) {
        let errors = diags.error_count();
        let doc = self.remains::<AssertionDoc>(node, "an assertion", diags);
        match doc.filter(|doc| doc.assertion.name == name) {
            Some(mut doc) => {
                doc.is_mangled = diags.error_count() > errors;
                let written = node.get("inputs").filter(|inputs| !inputs.is_null());
                let known = |inputs: &Node| inputs.as_map().is_some_and(|all| all.len() == doc.inputs.len());
                doc.lacks_inputs = written.is_some_and(|inputs| !known(inputs));
                self.assertions.entry(name.into()).or_insert(Arc::new(doc));
            }
            None => self.broken_assertions.push(name.into()),
        }
    }

    /// What of a document can be read; everything wrong with it is reported.
    fn remains<T: DeserializeOwned + JsonSchema>(
        &mut self,
        node: &Node,
        what: &str,
        diags: &mut Diagnostics,
    ) -> Option<T> {
        let mut found = Diagnostics::new();
        let remains = read_remains(node, None, what, &mut found);
        self.is_mangled |= found.has_errors();
        diags.append(found);
        remains
    }

    fn unknown_kind<'k>(
        &self,
        node: &Node,
        key: &str,
        span: Span,
        kinds: impl Iterator<Item = &'k str> + Clone,
        diags: &mut Diagnostics,
    ) {
        let declaring =
            node.as_map().unwrap_or_default().iter().find(|entry| kinds.clone().any(|kind| kind == entry.key));
        let diagnostic = if let Some(entry) = declaring {
            let message = format!("`{}` must be the first key of its document", entry.key);
            Diagnostic::error("policy.declaring_key_not_first", entry.key_span, message)
                .with_help(format!("move `{}: ...` above `{key}`", entry.key))
        } else if LATER.contains(&key) {
            let message = format!("`{key}` documents come with a later version");
            Diagnostic::error("policy.not_supported", span, message).with_help("take the document out for now")
        } else {
            let message = format!("`{key}` declares nothing that is known");
            let help = match suggest(key, kinds.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("a document begins with one of: {}", kinds.collect::<Vec<_>>().join(", ")),
            };
            Diagnostic::error("policy.unknown_document", span, message).with_help(help)
        };
        diags.push(diagnostic);
    }
}

/// Names taken so far: one of a kind only once. `tests` documents share the names of services.
#[derive(Clone, Debug, Default)]
struct Names(BTreeMap<(Text, Text), Span>);

impl Names {
    fn check(&mut self, kind: &str, name: &Node, diags: &mut Diagnostics) {
        let Some(text) = name.as_text().filter(|text| !text.is_empty()) else {
            let message = format!("`{kind}:` names the document, got {}", name.kind());
            let help = format!("write `{kind}: my_{kind}`");
            diags.push(Diagnostic::error("policy.bad_name", name.span(), message).with_help(help));
            return;
        };
        let legal = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
        if text.len() > NAME_BYTES_MAX || !text.chars().all(legal) {
            let message = format!("`{text}` is no name");
            let help = format!("letters, digits, `_`, `-` and `.`, at most {NAME_BYTES_MAX}");
            diags.push(Diagnostic::error("policy.bad_name", name.span(), message).with_help(help));
        }
        if kind == "tests" {
            return;
        }
        let key = (kind.into(), text.into());
        if let Some(first) = self.0.get(&key) {
            let message = format!("there is already {} called `{text}`", with_article(kind));
            let diagnostic = Diagnostic::error("policy.duplicate_name", name.span(), message)
                .with_note(*first, "the first one stands here")
                .with_help("rename or remove one of them");
            diags.push(diagnostic);
        } else {
            self.0.insert(key, name.span());
        }
    }
}

/// Longest name of a document.
pub const NAME_BYTES_MAX: usize = 128;
