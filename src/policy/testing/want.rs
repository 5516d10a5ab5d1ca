//! Matchers: what a test expects in the place of a value.

use std::ops::RangeInclusive;

use regex::Regex;
use serde_json::Value as Json;

use crate::policy::testing::text::{Bench, Names, TestText};
use crate::secret::keyed_hash;
use crate::source::{Diagnostic, Diagnostics, Node, NodeValue, Span};

/// How plain scalars are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As written: header fields, words, texts.
    Text,
    /// The same of what is always there.
    There,
    /// By the core schema: JSON bodies, variables.
    Json,
    /// A status code (RFC 9110 §15).
    Status,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Form {
    /// How a part of such a value is read.
    fn of_a_part(self) -> Form {
        match self {
            Form::Json | Form::Text => self,
            Form::There | Form::Status | Form::Word(_) => Form::Text,
        }
    }

    /// Whether there is a value whatever happens.
    fn is_always_there(self) -> bool {
        matches!(self, Form::There | Form::Status | Form::Word(_))
    }

    /// Why no value, or every one, meets a matcher.
    fn refusal_of(self, rule: &Rule) -> Option<&'static str> {
        let (low, high) = (*STATUSES.start() as f64, *STATUSES.end() as f64);
        Some(match rule {
            Rule::Present if self.is_always_there() => "it is always there, so that this could not fail",
            Rule::Absent if self.is_always_there() => "it is always there, so that this cannot be",
            Rule::OneOf(wants) if wants.is_empty() => "nothing is one of an empty list",
            Rule::Type(_) if self.is_always_there() => "its type is always the same",
            Rule::Contains(_) if self == Form::Status => "a status contains nothing: it is a number",
            Rule::Above(bound) if self == Form::Status && (*bound < low || *bound >= high) => {
                "a status is a number from 100 to 599: every one is above that, or none"
            }
            Rule::Below(bound) if self == Form::Status && (*bound <= low || *bound > high) => {
                "a status is a number from 100 to 599: every one is below that, or none"
            }
            Rule::Above(_) | Rule::Below(_) if matches!(self, Form::Word(_)) => "it is a word and no number",
            _ => return None,
        })
    }

    /// Why no value can ever be this scalar.
    fn refusal(self, node: &Node) -> Option<String> {
        match self {
            Form::Text | Form::There | Form::Json => None,
            Form::Status if node.to_json().as_u64().is_some_and(|status| STATUSES.contains(&status)) => None,
            Form::Status => Some("a status is a number from 100 to 599".to_owned()),
            Form::Word(words) if node.as_text().is_some_and(|word| words.contains(&word)) => None,
            Form::Word(words) => Some(format!("it is one of: {}", words.join(", "))),
        }
    }
}

/// How structures compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Exact,
    /// Further members may be there.
    Part,
}

/// What is expected in one place.
#[derive(Debug)]
pub(super) struct Want {
    pub span: Span,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Is(Json),
    Text(TestText),
    List(Vec<Want>),
    Map(Vec<(String, Want)>),
    Absent,
    Present,
    Matches(Regex),
    Contains(Box<Want>),
    OneOf(Vec<Want>),
    Above(f64),
    Below(f64),
    Not(Box<Want>),
    Type(&'static str),
}

/// Something that is not as it was expected.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Miss {
    pub span: Span,
    /// Where in what was seen: `json.items[0].id`.
    pub at: String,
    pub expected: String,
    pub got: String,
}

impl Miss {
    /// Shows what was seen as the short hash that records show.
    pub fn conceal(&mut self) {
        if self.got != ABSENT {
            self.got = keyed_hash(self.got.as_bytes());
        }
    }
}

/// What stands for no value.
pub(super) const ABSENT: &str = "absent";

/// Every status that can come over the wire (RFC 9110 §15).
const STATUSES: RangeInclusive<u64> = 100..=599;

const TYPES: [&str; 7] = ["string", "int", "float", "bool", "list", "map", "null"];

impl Want {
    /// Reads a value or matcher; everything wrong with it is reported.
    pub fn compile(node: &Node, form: Form, names: &mut Names, diags: &mut Diagnostics) -> Option<Want> {
        let rule = match node.value() {
            NodeValue::Scalar(scalar) if scalar.text.contains("${") => {
                Rule::Text(TestText::compile(node, names, diags)?)
            }
            NodeValue::Scalar(scalar) => {
                if let Some(why) = form.refusal(node) {
                    return refuse(node, &why, diags);
                }
                match form {
                    Form::Text | Form::There | Form::Word(_) => Rule::Is(Json::String(scalar.text.clone())),
                    Form::Json | Form::Status => Rule::Is(node.to_json()),
                }
            }
            NodeValue::Null => Rule::Is(Json::Null),
            NodeValue::List(_) if matches!(form, Form::Status | Form::Word(_)) => {
                return refuse(node, "expected one value; any of several is `{ one_of: [..] }`", diags);
            }
            NodeValue::List(items) => Rule::List(all(items, form, names, diags)?),
            NodeValue::Map(entries) => {
                if let [entry] = entries.as_slice()
                    && let Some(rule) = matcher(&entry.key, &entry.value, form, names, diags)
                {
                    let rule = rule?;
                    if let Some(why) = form.refusal_of(&rule) {
                        let help = "write what it must be, so that another value is noticed";
                        diags.push(Diagnostic::error("test.bad_matcher", node.span(), why).with_help(help));
                        return None;
                    }
                    rule
                } else if form != Form::Json {
                    let (what, such) =
                        if form == Form::Status { ("number", "one_of: [..]") } else { ("text", "contains: x") };
                    let message = format!("expected a {what} or a matcher such as `{{ {such} }}`, got a mapping");
                    return refuse(node, &message, diags);
                } else {
                    let entries: Vec<_> = entries
                        .iter()
                        .map(|entry| Some((entry.key.clone(), Want::compile(&entry.value, form, names, diags)?)))
                        .collect();
                    Rule::Map(entries.into_iter().collect::<Option<_>>()?)
                }
            }
        };
        Some(Want { span: node.span(), rule })
    }

    /// What any value is.
    pub fn anything(span: Span) -> Want {
        Want { span, rule: Rule::Present }
    }

    /// The plain text, where it is one without `${...}`.
    pub fn word(&self) -> Option<&str> {
        match &self.rule {
            Rule::Is(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The plain value, where it is one.
    pub fn plain(&self) -> Option<&Json> {
        match &self.rule {
            Rule::Is(json) => Some(json),
            _ => None,
        }
    }

    /// Compares; whatever differs is added to `misses`.
    pub fn check(&self, got: Option<&Json>, extent: Extent, at: &str, bench: &Bench<'_>, misses: &mut Vec<Miss>) {
        match (&self.rule, got) {
            (Rule::Map(wanted), Some(Json::Object(members))) => {
                for (key, want) in wanted {
                    want.check(members.get(key), extent, &format!("{at}.{key}"), bench, misses);
                }
                for (key, value) in members {
                    if extent == Extent::Exact && !wanted.iter().any(|(known, _)| known == key) {
                        misses.push(self.miss(&format!("{at}.{key}"), "nothing".into(), Some(value)));
                    }
                }
            }
            (Rule::List(wanted), Some(Json::Array(items))) if wanted.len() == items.len() => {
                for (index, (want, item)) in wanted.iter().zip(items).enumerate() {
                    want.check(Some(item), extent, &format!("{at}[{index}]"), bench, misses);
                }
            }
            _ => match self.holds(got, extent, bench) {
                Ok(true) => {}
                Ok(false) => misses.push(self.miss(at, self.describe(bench), got)),
                Err(why) => misses.push(self.miss(at, format!("a text that cannot be made: {why}"), got)),
            },
        }
    }

    fn miss(&self, at: &str, expected: String, got: Option<&Json>) -> Miss {
        Miss { span: self.span, at: at.to_owned(), expected, got: shown(got) }
    }

    fn holds(&self, got: Option<&Json>, extent: Extent, bench: &Bench<'_>) -> Result<bool, String> {
        let number = |got: Option<&Json>| match got {
            Some(Json::Number(number)) => number.as_f64(),
            Some(Json::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        Ok(match &self.rule {
            Rule::Absent => got.is_none(),
            Rule::Present => got.is_some(),
            Rule::Is(json) => got.is_some_and(|got| same(json, got)),
            Rule::Text(text) => match (text.value(bench)?.view().to_json(), got) {
                // A field is a text whatever the type of the expression is.
                (wanted, Some(Json::String(got))) if !wanted.is_string() => text.text(bench)? == *got,
                (wanted, Some(got)) => same(&wanted, got),
                (_, None) => false,
            },
            Rule::Matches(regex) => match got {
                Some(Json::String(text)) => regex.is_match(text),
                Some(Json::Number(number)) => regex.is_match(&number.to_string()),
                _ => false,
            },
            Rule::Contains(want) => match got {
                Some(Json::String(text)) => text.contains(&want.text(bench)?),
                Some(Json::Array(items)) => items.iter().any(|item| want.is(item, extent, bench)),
                Some(Json::Object(members)) => members.contains_key(&want.text(bench)?),
                _ => false,
            },
            Rule::OneOf(wants) => got.is_some_and(|got| wants.iter().any(|want| want.is(got, extent, bench))),
            Rule::Above(bound) => number(got).is_some_and(|number| number > *bound),
            Rule::Below(bound) => number(got).is_some_and(|number| number < *bound),
            Rule::Not(want) => {
                // What cannot be made is not different from what came.
                if let Some(why) = want.unmakeable(bench) {
                    return Err(why);
                }
                let mut misses = Vec::new();
                want.check(got, extent, "", bench, &mut misses);
                !misses.is_empty()
            }
            Rule::Type(word) => got.is_some_and(|got| type_word(got) == *word),
            Rule::List(_) | Rule::Map(_) => false,
        })
    }

    /// Why one of its texts cannot be made.
    fn unmakeable(&self, bench: &Bench<'_>) -> Option<String> {
        match &self.rule {
            Rule::Text(text) => text.value(bench).err(),
            Rule::Contains(want) if matches!(want.rule, Rule::Is(_) | Rule::Text(_)) => want.text(bench).err(),
            Rule::Contains(want) | Rule::Not(want) => want.unmakeable(bench),
            Rule::List(wants) | Rule::OneOf(wants) => wants.iter().find_map(|want| want.unmakeable(bench)),
            Rule::Map(wants) => wants.iter().find_map(|(_, want)| want.unmakeable(bench)),
            _ => None,
        }
    }

    fn is(&self, got: &Json, extent: Extent, bench: &Bench<'_>) -> bool {
        let mut misses = Vec::new();
        self.check(Some(got), extent, "", bench, &mut misses);
        misses.is_empty()
    }

    /// The value as a text; the error says why there is none.
    pub fn text(&self, bench: &Bench<'_>) -> Result<String, String> {
        match &self.rule {
            Rule::Is(Json::String(text)) => Ok(text.clone()),
            Rule::Is(json) => Ok(json.to_string()),
            Rule::Text(text) => text.text(bench),
            _ => Err("`contains` looks for a text".into()),
        }
    }

    /// What is expected, for people.
    pub fn describe(&self, bench: &Bench<'_>) -> String {
        let list = |wants: &[Want]| wants.iter().map(|want| want.describe(bench)).collect::<Vec<_>>().join(", ");
        match &self.rule {
            Rule::Is(json) => json.to_string(),
            Rule::Text(text) => match text.value(bench) {
                Ok(value) => value.view().to_json().to_string(),
                Err(why) => why,
            },
            Rule::List(wants) => format!("[{}]", list(wants)),
            Rule::Map(entries) => {
                let entries = entries.iter().map(|(key, want)| format!("\"{key}\": {}", want.describe(bench)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
            Rule::Absent => "absent".into(),
            Rule::Present => "anything".into(),
            Rule::Matches(regex) => format!("matches {regex}"),
            Rule::Contains(want) => format!("contains {}", want.describe(bench)),
            Rule::OneOf(wants) => format!("one of {}", list(wants)),
            Rule::Above(bound) => format!("above {bound}"),
            Rule::Below(bound) => format!("below {bound}"),
            Rule::Not(want) => format!("not {}", want.describe(bench)),
            Rule::Type(word) => format!("of type {word}"),
        }
    }
}

/// Equal values; `1` and `1.0` are.
fn same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            let equal = |(key, value): (&String, &Json)| other.get(key).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(equal)
        }
        _ => one == other,
    }
}

fn type_word(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float",
        Json::Number(_) => "int",
        Json::String(_) => "string",
        Json::Array(_) => "list",
        Json::Object(_) => "map",
    }
}

/// What was seen, for people.
pub(super) fn shown(got: Option<&Json>) -> String {
    got.map_or_else(|| ABSENT.to_owned(), Json::to_string)
}

/// The matcher that a key names. `None`: it is an ordinary mapping; `Some(None)`: it is wrong, which was reported.
fn matcher(key: &str, value: &Node, form: Form, names: &mut Names, diags: &mut Diagnostics) -> Option<Option<Rule>> {
    let truth = value.to_json() == Json::Bool(true);
    let number = || value.to_json().as_f64();
    Some(match key {
        "absent" if truth => Some(Rule::Absent),
        "present" if truth => Some(Rule::Present),
        "matches" if value.as_text().is_some() => regex(value, diags),
        "contains" => Want::compile(value, form.of_a_part(), names, diags).map(|want| Rule::Contains(Box::new(want))),
        "one_of" if value.as_list().is_some() => {
            all(value.as_list().unwrap_or_default(), form, names, diags).map(Rule::OneOf)
        }
        "above" if number().is_some() => number().map(Rule::Above),
        "below" if number().is_some() => number().map(Rule::Below),
        "not" => Want::compile(value, form, names, diags).map(|want| Rule::Not(Box::new(want))),
        "type" => match TYPES.iter().find(|word| value.as_text() == Some(**word)) {
            Some(word) => Some(Rule::Type(word)),
            None if form == Form::Json => return None, // a body such as `{ "type": "about:blank" }`
            None => refuse(value, &format!("`type` is one of: {}", TYPES.join(", ")), diags),
        },
        _ => return None,
    })
}

fn regex(node: &Node, diags: &mut Diagnostics) -> Option<Rule> {
    match regex::RegexBuilder::new(node.as_text().unwrap_or_default()).size_limit(crate::expr::REGEX_BYTES_MAX).build()
    {
        Ok(regex) => Some(Rule::Matches(regex)),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            refuse(node, &format!("this is no regular expression: {reason}"), diags)
        }
    }
}

fn all(items: &[Node], form: Form, names: &mut Names, diags: &mut Diagnostics) -> Option<Vec<Want>> {
    let wants: Vec<_> = items.iter().map(|item| Want::compile(item, form, names, diags)).collect();
    wants.into_iter().collect()
}

fn refuse<T>(node: &Node, message: &str, diags: &mut Diagnostics) -> Option<T> {
    let help = "a value stands for itself; matchers are `{ contains: x }`, `{ matches: '^x' }`, `{ absent: true }` and their like";
    diags.push(Diagnostic::error("test.bad_matcher", node.span(), message).with_help(help));
    None
}
