//! No mistake hides another one: of every document kind, every section of gateway.yaml and every parameter of every
//! assertion two members are broken at once, and what is said of each alone has to be said of both together.

use std::collections::BTreeSet;
use std::path::Path;

use gatewright::assertions::CATALOGUE;
use gatewright::config;
use gatewright::policy::build::{Environment, compile, parse_files};
use gatewright::policy::document;
use gatewright::policy::files::Files;
use gatewright::policy::resources::KINDS;
use gatewright::policy::testing;
use gatewright::source::{Diagnostics, Node, Severity, Sources, Span, parse};
use serde_json::{Value, json};

/// Values of which at least one is wrong nearly anywhere, the deepest mistakes first.
fn poisons() -> [Value; 9] {
    [
        json!("${nope.nope}"),
        json!("no such thing ("),
        json!(""),
        json!(0),
        json!(-1),
        json!("9999d"),
        json!(["${nope.nope}"]),
        json!({ "nope": 1 }),
        json!([[1]]),
    ]
}

/// Poisons that are tried of one member: of different mistakes.
const OF_A_MEMBER: usize = 2;
/// Members of members of members are broken too, but no deeper ones.
const DEPTH: usize = 3;

/// Where a member stands: keys, and numbers of items.
type Way = Vec<String>;
/// Codes of what is said.
type Said = BTreeSet<String>;

/// Some documents, and among them what is broken.
struct Subject {
    title: String,
    documents: Vec<Value>,
    root: Way,
    schema: Value,
    check: fn(&str) -> (Sources, Diagnostics),
}

/// A member with a wrong value, and what is said of that alone.
struct Broken {
    way: Way,
    /// Which of the member's poisons it is: those of one number meet.
    number: usize,
    poison: Value,
    said: Said,
    /// Of that what is said right there.
    here: Said,
}

fn text_of(documents: &[Value]) -> String {
    documents.iter().map(|one| format!("{one:#}\n")).collect::<Vec<_>>().join("---\n")
}

fn errors(diags: &Diagnostics) -> impl Iterator<Item = (String, Option<Span>)> {
    let errors = diags.iter().filter(|one| one.severity == Severity::Error);
    errors.map(|one| (one.code.to_owned(), one.span))
}

fn check_policies(text: &str) -> (Sources, Diagnostics) {
    let mut environment = Environment { listeners: vec!["main".into()], ..Environment::default() };
    environment.values.process_env.insert("KEY".into(), "0123456789abcdef0123456789abcdef".into());
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("subject", text), &mut diags);
    let cases = testing::collect(&parsed, &mut diags);
    let given = cases.first().map(testing::Case::given);
    compile(&parsed, &environment, given, None, &mut diags);
    (parsed.sources, diags)
}

/// As they are loaded: nothing of a test stands in for resources.
fn check_resources(text: &str) -> (Sources, Diagnostics) {
    let mut environment = Environment { listeners: vec!["main".into()], ..Environment::default() };
    environment.values.process_env.insert("KEY".into(), "0123456789abcdef0123456789abcdef".into());
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("subject", text), &mut diags);
    compile(&parsed, &environment, None, None, &mut diags);
    (parsed.sources, diags)
}

fn check_gateway(text: &str) -> (Sources, Diagnostics) {
    let loaded = config::from_bytes(Path::new("subject"), text.as_bytes());
    (loaded.sources, loaded.diags)
}

/// The value at the end of a way, made where it is not there.
fn place<'v>(documents: &'v mut [Value], way: &[String]) -> Option<&'v mut Value> {
    let (first, rest) = way.split_first()?;
    let mut at = documents.get_mut(first.parse::<usize>().ok()?)?;
    for key in rest {
        if at.is_array() && key.parse::<usize>().is_err() {
            *at = json!({});
        }
        at = match at {
            Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?)?,
            Value::Object(entries) => entries.entry(key.clone()).or_insert(Value::Null),
            other => {
                *other = json!({});
                other.as_object_mut()?.entry(key.clone()).or_insert(Value::Null)
            }
        };
    }
    Some(at)
}

fn node_at(documents: &[Node], way: &[String]) -> Option<Node> {
    let (first, rest) = way.split_first()?;
    let mut at = documents.get(first.parse::<usize>().ok()?)?;
    for key in rest {
        at = match at.as_list() {
            Some(items) => items.get(key.parse::<usize>().ok()?)?,
            None => at.get(key)?,
        };
    }
    Some(at.clone())
}

/// The parts of a schema that may describe a value, references followed.
fn alternatives<'s>(root: &'s Value, part: &'s Value, depth: usize, found: &mut Vec<&'s Value>) {
    if depth == 0 {
        return;
    }
    found.push(part);
    if let Some(reference) = part["$ref"].as_str() {
        alternatives(root, root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null), depth - 1, found);
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        for other in part[word].as_array().into_iter().flatten() {
            alternatives(root, other, depth - 1, found);
        }
    }
}

/// The ways to all members that the schema knows.
/// Keys of the author's own choice are known from the document itself.
fn members(root: &Value, part: &Value, base: Option<&Value>, way: &Way, depth: usize, found: &mut Vec<Way>) {
    let mut parts = Vec::new();
    alternatives(root, part, 6, &mut parts);
    for part in parts {
        for (key, inner) in part["properties"].as_object().into_iter().flatten() {
            let way: Way = way.iter().chain([key]).cloned().collect();
            if !found.contains(&way) {
                found.push(way.clone());
            }
            if depth > 1 {
                members(root, inner, base.and_then(|base| base.get(key)), &way, depth - 1, found);
            }
        }
        let of_document = matches!(way.get(1).map(String::as_str), Some("inputs" | "outputs"));
        let entries = base.and_then(Value::as_object).filter(|_| of_document);
        if let (Some(entries), true) = (entries, part["additionalProperties"].is_object()) {
            for (key, inner) in entries.iter().filter(|(key, _)| part["properties"][key].is_null()) {
                let way: Way = way.iter().chain([key]).cloned().collect();
                if !found.contains(&way) {
                    found.push(way.clone());
                }
                if depth > 1 {
                    members(root, &part["additionalProperties"], Some(inner), &way, depth - 1, found);
                }
            }
        }
        let items = base.and_then(Value::as_array);
        if let (Some([first, ..]), true, false) = (items.map(Vec::as_slice), depth > 1, part["items"].is_null()) {
            let way: Way = way.iter().cloned().chain(["0".to_owned()]).collect();
            members(root, &part["items"], Some(first), &way, depth - 1, found);
        }
    }
}

impl Subject {
    /// What is said where some members hold wrong values, and of that what is said at each of them.
    fn said(&self, broken: &[(&Way, &Value)]) -> (Said, Vec<Said>) {
        let mut documents = self.documents.clone();
        for (way, poison) in broken {
            *place(&mut documents, way).unwrap() = (*poison).clone();
        }
        let text = text_of(&documents);
        let (_, diags) = (self.check)(&text);
        let (mut sources, mut none) = (Sources::new(), Diagnostics::new());
        let file = sources.add("subject", text.as_str());
        let nodes = parse(&sources, file, &mut none);
        let inside = |way: &Way| {
            let span = node_at(&nodes, way).map_or(Span::NOWHERE, |node| node.span());
            let holds = |place: Option<Span>| place.is_some_and(|at| at.start >= span.start && at.end <= span.end);
            errors(&diags).filter(|(_, at)| holds(*at)).map(|(said, _)| said).collect()
        };
        (errors(&diags).map(|(said, _)| said).collect(), broken.iter().map(|(way, _)| inside(way)).collect())
    }

    fn broken(&self, way: &Way, before: &Said) -> Vec<Broken> {
        let mut found: Vec<Broken> = Vec::new();
        for poison in poisons() {
            let (said, here) = self.said(&[(way, &poison)]);
            let here: Said = here.into_iter().flatten().filter(|code| !before.contains(code)).collect();
            if !here.is_empty() && found.iter().all(|known| known.here != here) {
                found.push(Broken { way: way.clone(), number: found.len(), poison, said, here });
            }
            if found.len() == OF_A_MEMBER {
                break;
            }
        }
        found
    }

    /// What is hidden or made up where two members are broken, and the members that no poison broke.
    fn try_all(&self, wrong: &mut Vec<String>) -> Vec<String> {
        let (before, _) = self.said(&[]);
        let mut ways = Vec::new();
        let mut documents = self.documents.clone();
        let base = place(&mut documents, &self.root).cloned();
        members(&self.schema, &self.schema, base.as_ref(), &self.root, DEPTH, &mut ways);
        // What a document declares is judged by itself: src/policy/document.rs.
        let declares = |way: &Way| way.len() == 2 && base.as_ref().is_some_and(|base| first_key(base) == way.last());
        ways.retain(|way| !declares(way) && !is_apart(&self.title, way));
        let each: Vec<(Way, Vec<Broken>)> = ways.iter().map(|way| (way.clone(), self.broken(way, &before))).collect();
        let all: Vec<&Broken> = each.iter().flat_map(|(_, broken)| broken).collect();
        for (at, one) in all.iter().enumerate() {
            for other in all.iter().skip(at + 1) {
                if one.number != other.number || one.way.starts_with(&other.way) || other.way.starts_with(&one.way) {
                    continue;
                }
                let (said, here) = self.said(&[(&one.way, &one.poison), (&other.way, &other.poison)]);
                let pair = format!("{}={} with {}={}", name(&one.way), one.poison, name(&other.way), other.poison);
                for (broken, here) in [one, other].into_iter().zip(&here) {
                    for code in broken.here.difference(here) {
                        wrong.push(format!("{}: {pair}: hidden: {code} of {}", self.title, name(&broken.way)));
                    }
                }
                let known = |code: &&String| one.said.contains(*code) || other.said.contains(*code);
                for code in said.iter().filter(|code| !known(code)) {
                    wrong.push(format!("{}: {pair}: made up: {code}", self.title));
                }
            }
        }
        each.iter()
            .filter(|(_, broken)| broken.is_empty())
            .map(|(way, _)| format!("{}: {}", self.title, name(way)))
            .collect()
    }
}

fn first_key(base: &Value) -> Option<&String> {
    base.as_object()?.keys().next()
}

/// Members that decide what the others mean, or exclude them: nothing can be said of both.
const APART: [(&str, &str); 18] = [
    ("key document", "kind"),
    ("gateway.yaml", "scrub/"),
    ("scrub", "policy/2/scrub/rules/"),
    ("call_http", "policy/0/call_http/upstream"), // or `to`; the next two go with it
    ("call_http", "policy/0/call_http/path"),
    ("call_http", "policy/0/call_http/query"),
    ("call_http", "policy/0/call_http/text"), // or `json`, or one of the next three
    ("call_http", "policy/0/call_http/xml"),
    ("call_http", "policy/0/call_http/value"),
    ("call_http", "policy/0/call_http/file"),
    ("evaluate_json_path", "policy/0/evaluate_json_path/paths"),
    ("script", "policy/0/script/file"),
    ("generate_security_hash", "policy/0/generate_security_hash/separator"), // goes with a list
    ("verify_security_hash", "policy/0/verify_security_hash/separator"),
    ("service document", "tests"),
    ("assertion document", "inputs/word/default"), // has to be one of `one_of`
    ("assertion document", "tests"),
    ("assertion document", "policy"), // decides whether the outputs are right
];

fn is_apart(title: &str, way: &Way) -> bool {
    APART.iter().any(|(of, member)| *of == title && name(way).starts_with(member))
}

fn name(way: &Way) -> String {
    way.iter().skip(1).cloned().collect::<Vec<_>>().join("/")
}

fn parsed(yaml: &str) -> Vec<Value> {
    let (mut sources, mut diags) = (Sources::new(), Diagnostics::new());
    let file = sources.add("example", yaml);
    parse(&sources, file, &mut diags).iter().map(Node::to_json).collect()
}

/// The way to the parameters of the first step of this assertion.
fn find(value: &Value, word: &str, way: &Way) -> Option<Way> {
    let below = |key: String| way.iter().cloned().chain([key]).collect::<Way>();
    match value {
        Value::Array(items) => items.iter().enumerate().find_map(|(at, item)| find(item, word, &below(at.to_string()))),
        Value::Object(entries) => entries.iter().find_map(|(key, inner)| match key == word {
            true => Some(below(key.clone())),
            false if key == "tests" => None,
            false => find(inner, word, &below(key.clone())),
        }),
        _ => None,
    }
}

fn steps() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for kind in CATALOGUE {
        let mut documents = parsed(kind.examples[0].yaml);
        let ways: Vec<Way> = documents.iter().enumerate().map(|(at, _)| vec![at.to_string()]).collect();
        let root = documents.iter().zip(&ways).find_map(|(one, way)| find(one, kind.name, way));
        let Some(root) = root else { continue };
        let params = place(&mut documents, &root).unwrap();
        if let (false, Some(main)) = (params.is_object(), kind.main) {
            *params = match params.is_null() {
                true => json!({}),
                false => json!({ main: params.clone() }),
            };
        }
        let schema = (kind.schema)().to_value();
        subjects.push(Subject { title: kind.name.to_owned(), documents, root, schema, check: check_policies });
    }
    subjects
}

/// A right document of each kind of resource; what it refers to stands behind it.
const RESOURCES: [&str; 9] = [
    "secret: one\nfrom: { env: KEY }\nmin_bytes: 8",
    "list: one\nentries: [a, b]",
    "key: one\nkind: symmetric\nfrom: { secret: kept }\nalgorithms: [HS256]\n---\nsecret: kept\nfrom: { env: KEY }",
    "key: one\nkind: public\nfrom: { file: no.pem }\nalgorithms: [RS256]",
    "api_keys: one\nentries: [{ id: a, hash: \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\", client: c }]",
    "users: one\nentries: { ann: { password: \"$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe\" } }",
    "identity_provider: one\nkind: jwt\nissuer: https://idp.example.com\nkeys: { url: \"https://idp.example.com/jwks\" }",
    "upstream: one\ntargets: [{ url: \"https://a.example:1\", weight: 2 }]\nhealth: { path: /health }\n\
     eject: { failures: 2, for: 5s }\npool: { idle: 5s }\ntls: { min: \"1.2\" }",
    "upstream: one\ndns: { name: orders.local, port: 9000 }\nbalance: hash\nhash_by: \"${auth.subject}\"",
];

fn resources() -> Vec<Subject> {
    let subject = |yaml: &&str| {
        let word = yaml.split(':').next().unwrap_or_default();
        let kind = KINDS.iter().find(|kind| kind.word == word).unwrap();
        let (title, schema) = (format!("{word} document"), (kind.schema)().to_value());
        Subject { title, documents: parsed(yaml), root: vec!["0".into()], schema, check: check_resources }
    };
    RESOURCES.iter().map(subject).collect()
}

fn others() -> Vec<Subject> {
    let service = "service: one\nmatch: { path: \"/one/{id}\", methods: [GET], host: a.example }\nlisteners: [main]\n\
                   policy: [{ respond: { status: 204 } }]\nfinally: [{ log: done }]";
    let assertion = "assertion: one\nsummary: says a word\ninputs: { word: { type: string, default: a, one_of: [a] } }\n\
                     outputs: { said: string }\npolicy: [{ set: { said: \"${input.word}\" } }]";
    let defaults = "defaults: one\nservices: [two]\nbefore: [{ set: { a: b } }]\non_fault: [{ log: no }]\n\
                    finally: [{ log: \"${a ?? ''}\" }]\n---\n\
                    service: two\nmatch: { path: /two }\npolicy: [{ respond: { text: \"${a}\" } }]";
    let fragment = "fragment: one\npolicy: [{ set: { a: b } }]\n---\n\
                    service: two\nmatch: { path: /two }\npolicy: [{ include: one }, { respond: { text: \"${a}\" } }]";
    let gateway =
        "version: 1\nlisteners: [{ name: main, address: \"127.0.0.1:1\" }]\nadmin: { address: \"127.0.0.1:2\" }";
    let schemas = document::schemas();
    let of = |word: &str| schemas.iter().find(|(known, _)| *known == word).unwrap().1.clone().to_value();
    let subject = |title: &str, yaml: &str, schema: Value, check| Subject {
        title: title.into(),
        documents: parsed(yaml),
        root: vec!["0".into()],
        schema,
        check,
    };
    vec![
        subject("service document", service, of("service"), check_resources),
        subject("assertion document", assertion, of("assertion"), check_resources),
        subject("defaults document", defaults, of("defaults"), check_resources),
        subject("fragment document", fragment, of("fragment"), check_resources),
        subject("gateway.yaml", gateway, config::schema().to_value(), check_gateway),
    ]
}

fn demand(subjects: &[Subject], untried: &[&str]) {
    let mut wrong = Vec::new();
    let unbroken: Vec<String> = subjects.iter().flat_map(|subject| subject.try_all(&mut wrong)).collect();
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(unbroken, untried, "members that no poison breaks");
}

#[test]
fn no_parameter_of_a_step_hides_another() {
    // The example of `compare` has a `condition`, which stands alone.
    demand(&steps(), &["compare: policy/0/compare/left", "compare: policy/0/compare/right"]);
}

fn codes(text: &str) -> Vec<String> {
    errors(&check_resources(text).1).map(|(code, _)| code).collect()
}

#[test]
fn a_step_tells_its_own_mistakes_beside_those_of_the_steps_in_it() {
    let service = |steps: &str| format!("service: one\nmatch: {{ path: /one }}\npolicy:\n{steps}\n- respond: 204\n");
    let in_it = "[{ set: { a: \"${nope}\" } }, { compare: { bogus: 1, left: a, right: b } }]";
    let loops = format!("- for_each: {{ in: '[', item: No, limit: 0, collect: {{ b: ']' }} }}\n  do: {in_it}");
    let expected = [
        "expr.syntax",
        "policy.bad_value",
        "policy.bad_value",
        "expr.syntax",
        "expr.unknown_variable",
        "policy.unknown_key",
    ];
    assert_eq!(codes(&service(&loops)), expected);
    let at_once = format!("- parallel: {{ timeout: 0s, bogus: 1, steps: {in_it} }}");
    let expected = ["policy.bad_value", "policy.unknown_key", "expr.unknown_variable", "policy.unknown_key"];
    assert_eq!(codes(&service(&at_once)), expected);
    let caught = format!("- try: {{ bogus: 1, catches: [Nope], steps: {in_it} }}\n  catch: {in_it}");
    let expected = [
        "policy.unknown_key",
        "policy.bad_value",
        "expr.unknown_variable",
        "policy.unknown_key",
        "expr.unknown_variable",
        "policy.unknown_key",
    ];
    assert_eq!(codes(&service(&caught)), expected);
}

#[test]
fn uses_of_an_assertion_tell_all_mistakes_of_what_goes_in() {
    let text = "assertion: own\ninputs: { a: { type: map }, b: { type: int } }\npolicy: [{ log: x }]\n---\n\
                service: one\nmatch: { path: /one }\n\
                policy: [{ own: { a: { x: \"${nope}\", y: \"${nope}\" }, b: no, c: 1 } }, { respond: 204 }]";
    let expected = ["expr.unknown_variable", "expr.unknown_variable", "policy.wrong_type", "policy.unknown_key"];
    assert_eq!(codes(text), expected);
}

/// If those inside were judged twice for each level around them, this would not end.
#[test]
fn mistakes_on_many_levels_are_told_in_time() {
    const LEVELS: usize = 24;
    let within = |level| format!("{{ include: {{ fragment: f{level}, bogus: 1 }} }}");
    let service = format!("service: one\nmatch: {{ path: /one }}\npolicy: [{}, {{ respond: 204 }}]", within(1));
    let fragments = (1..LEVELS).map(|level| format!("\n---\nfragment: f{level}\npolicy: [{}]", within(level + 1)));
    let last = format!("\n---\nfragment: f{LEVELS}\npolicy: [{{ log: x }}]");
    let text = [service].into_iter().chain(fragments).chain([last]).collect::<String>();
    assert_eq!(codes(&text), vec!["policy.unknown_key"; LEVELS]);
}

#[test]
fn no_member_of_a_resource_hides_another() {
    demand(&resources(), &["identity_provider document: keys/inline", "upstream document: targets"]);
}

#[test]
fn no_member_of_other_documents_hides_another() {
    demand(&others(), &[]);
}
